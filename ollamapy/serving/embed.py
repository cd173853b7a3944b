"""The other uses of a loaded model: vectors of texts, scores of documents, tokenizing and detokenizing.

Independent of dialects and HTTP. Cancelling the task cancels the work at any stage.
"""

from __future__ import annotations

import logging
import time
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from ..errors import RunnerCrashed
from ..fleet.lease import Runner
from ..models.spec import ModelSpec
from ..request import Caller, DetokenizeRequest, EmbedRequest, RerankRequest, TokenizeRequest
from ..runner.kernels import is_fault
from ..types import Embeddings, EmbedInputs, Scores
from .answer import lease_request
from .services import Services

log = logging.getLogger(__name__)

MOST_INPUTS, MOST_LENGTH = 256, 1_000_000
"""Inputs, and characters or token ids, sent to a runner at once: frames stay small, and other requests run in between."""

Result = TypeVar("Result")
Input = TypeVar("Input", bound=Sequence[object])


async def embed(services: Services, request: EmbedRequest, caller: Caller) -> Embeddings:
    """A vector for each input, by any model: with its own pooling, else the mean over the tokens. No inputs: load the model.

    Raises the errors of the model's files, the lease and the runner; InvalidRequest for an input that does not fit, and for
    one without tokens.
    """
    started = time.monotonic_ns()
    spec = await services.models.load(request.model)
    most = request.options.over(spec.options).num_ctx

    async def work() -> Embeddings:
        vectors: list[Sequence[float]] = []
        tokens = 0
        async with _leased(services, spec, request, caller) as runner:
            load_duration = time.monotonic_ns() - started
            for inputs in groups(request.inputs):
                task = EmbedInputs(
                    tuple(inputs),
                    truncate=request.truncate,
                    n_ctx=None if most is None else max(most, 0),
                    dimensions=request.dimensions or 0,
                    normalize=request.normalize,
                )
                found = await runner.embed(task)
                vectors += _rows(found.vectors, len(inputs))
                tokens += sum(found.n_tokens)
        return Embeddings(tuple(vectors), tokens, time.monotonic_ns() - started, load_duration)

    return await _again_after_a_fault(spec, work)


async def rerank(services: Services, request: RerankRequest, caller: Caller) -> Scores:
    """The score of each document for the query. Raises as :func:`embed`, and InvalidRequest if the model is no reranker."""
    started = time.monotonic_ns()
    spec = await services.models.load(request.model)

    async def work() -> Scores:
        scores: list[float] = []
        tokens = 0
        async with _leased(services, spec, request, caller) as runner:
            load_duration = time.monotonic_ns() - started
            for documents in groups(request.documents):
                found = await runner.rerank(request.query, tuple(documents))
                scores += [row[0] for row in _rows(found.vectors, len(documents))]
                tokens += sum(found.n_tokens)
        return Scores(tuple(scores), tokens, time.monotonic_ns() - started, load_duration)

    return await _again_after_a_fault(spec, work)


async def tokenize(services: Services, request: TokenizeRequest, caller: Caller) -> tuple[int, ...]:
    """The token ids of a text. Raises as :func:`embed`."""
    spec = await services.models.load(request.model)
    async with _leased(services, spec, request, caller, embeds=False) as runner:
        return await runner.tokenize(request.text, request.add_special)


async def detokenize(services: Services, request: DetokenizeRequest, caller: Caller) -> str:
    """The text of token ids. Raises as :func:`embed`, and InvalidRequest for ids outside the vocabulary."""
    spec = await services.models.load(request.model)
    async with _leased(services, spec, request, caller, embeds=False) as runner:
        return await runner.detokenize(request.tokens)


@asynccontextmanager
async def _leased(
    services: Services,
    spec: ModelSpec,
    request: EmbedRequest | RerankRequest | TokenizeRequest | DetokenizeRequest,
    caller: Caller,
    *,
    embeds: bool = True,
) -> AsyncIterator[Runner]:
    options = request.options.over(spec.options)
    wanted = lease_request(spec, options, request.keep_alive, caller, embeds=embeds)
    async with services.scheduler.lease(wanted) as lease:
        yield lease.runner


async def _again_after_a_fault(spec: ModelSpec, work: Callable[[], Awaitable[Result]]) -> Result:
    """A build that faults (runner/kernels.py): the next runner is warmed up first, and falls back if need be."""
    try:
        return await work()
    except RunnerCrashed as error:
        if not is_fault(error.exit_code):
            raise
        log.warning("%s crashed, trying once more: %s", spec.name.display, error)
    return await work()


def groups(inputs: Sequence[Input]) -> Iterator[list[Input]]:
    """The inputs in order, in groups that are sent to a runner at once; a long one is its own group."""
    group: list[Input] = []
    length = 0
    for each in inputs:
        if group and (len(group) == MOST_INPUTS or length + len(each) > MOST_LENGTH):
            yield group
            group, length = [], 0
        group.append(each)
        length += len(each)
    if group:
        yield group


def _rows(data: bytes, count: int) -> list[array[float]]:
    """Packed float32 vectors, one by one."""
    size = len(data) // count
    return [array("f", data[start : start + size]) for start in range(0, len(data), size)]
