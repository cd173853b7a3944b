"""Ollama's API for vectors, and our additions in its style: rerank, tokenize, detokenize. Pure.

    /api/embed        {model, input: text or texts, truncate, dimensions}  -> {model, embeddings, ..., prompt_eval_count}
    /api/embeddings   {model, prompt}                                      -> {embedding}
    /api/rerank       {model, query, documents, top_n}                     -> {model, results: [{index, relevance_score, document}]}
    /api/tokenize     {model, text, add_special}                           -> {model, tokens}
    /api/detokenize   {model, tokens}                                      -> {model, text}

All of them also take keep_alive and options. An empty text in a list is an error here: Ollama returns no vector for it, so
that the vectors after it have the wrong index.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from ...errors import InvalidRequest
from ...request import DetokenizeRequest, EmbedRequest, RerankRequest, TokenizeRequest
from ...types import Embeddings, Scores
from .. import body
from .wire import encode, model_fields

MODEL_FIELDS = {"model": "string", "keep_alive": "any", "options": "map[string]interface {}"}
"""Fields of every request for vectors -> their Go types (body.py)."""
EMBED_FIELDS = MODEL_FIELDS | {"input": "any", "truncate": "bool", "dimensions": "int"}
EMBEDDINGS_FIELDS = MODEL_FIELDS | {"prompt": "string"}
RERANK_FIELDS = MODEL_FIELDS | {"query": "string", "documents": "[]string", "top_n": "int"}
TOKENIZE_FIELDS = MODEL_FIELDS | {"text": "string", "add_special": "bool"}
DETOKENIZE_FIELDS = MODEL_FIELDS | {"tokens": "[]int"}


@dataclass(frozen=True, slots=True)
class ParsedRerank:
    """A rerank, and how many of the best documents to return."""

    request: RerankRequest
    top: int


def parse_embed(data: bytes) -> EmbedRequest:
    """The body of /api/embed. Raises InvalidRequest."""
    given = body.fields(body.decode(data), EMBED_FIELDS, "EmbedRequest")
    return EmbedRequest(
        inputs=_inputs(given.get("input", [])),
        truncate=given.get("truncate", True),
        dimensions=given.get("dimensions") or None,
        **model_fields(given),
    )


def _inputs(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,) if value else ()
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise InvalidRequest("invalid input type")
    body.check_count(value, "input")
    if "" in value:
        raise InvalidRequest(f"input[{value.index('')}] is empty, give it a text or leave it out")
    return tuple(value)


def parse_embeddings(data: bytes) -> EmbedRequest:
    """The body of /api/embeddings, the older form. Raises InvalidRequest."""
    given = body.fields(body.decode(data), EMBEDDINGS_FIELDS, "EmbeddingRequest")
    prompt = given.get("prompt", "")
    inputs = (prompt,) if prompt else ()
    return EmbedRequest(inputs=inputs, truncate=False, **model_fields(given))


def parse_rerank(data: bytes) -> ParsedRerank:
    """The body of /api/rerank. Raises InvalidRequest."""
    given = body.fields(body.decode(data), RERANK_FIELDS, "RerankRequest")
    documents = tuple(given.get("documents", ()))
    body.check_count(documents, "documents")
    if not given.get("query"):
        raise InvalidRequest("query is required")
    if (top := given.get("top_n", len(documents))) < 0:
        raise InvalidRequest("top_n must not be negative")
    request = RerankRequest(query=given["query"], documents=documents, **model_fields(given))
    return ParsedRerank(request, top)


def parse_tokenize(data: bytes) -> TokenizeRequest:
    """The body of /api/tokenize. Raises InvalidRequest."""
    given = body.fields(body.decode(data), TOKENIZE_FIELDS, "TokenizeRequest")
    special = given.get("add_special", True)
    return TokenizeRequest(text=given.get("text", ""), add_special=special, **model_fields(given))


def parse_detokenize(data: bytes) -> DetokenizeRequest:
    """The body of /api/detokenize. Raises InvalidRequest."""
    given = body.fields(body.decode(data), DETOKENIZE_FIELDS, "DetokenizeRequest")
    tokens = tuple(given.get("tokens", ()))
    if not all(0 <= token < 2**31 for token in tokens):
        raise InvalidRequest("tokens holds a number that is no token id")
    return DetokenizeRequest(tokens=tokens, **model_fields(given))


# ---- answers ---------------------------------------------------------------------------------------------------------


class EmbedAnswer(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The object of /api/embed; durations in nanoseconds."""

    model: str
    embeddings: list[msgspec.Raw]
    total_duration: int = 0
    load_duration: int = 0
    prompt_eval_count: int = 0


class _Result(msgspec.Struct, frozen=True):
    index: int
    relevance_score: float
    document: str


class RerankAnswer(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The object of /api/rerank; durations in nanoseconds."""

    model: str
    results: list[_Result]
    total_duration: int = 0
    load_duration: int = 0
    prompt_eval_count: int = 0


def encode_embed(model: str, found: Embeddings) -> bytes:
    """The answer of /api/embed. For thousands of vectors this takes a second: call it in a thread."""
    vectors = [msgspec.Raw(encode_vector(vector)) for vector in found.vectors]
    return encode(
        EmbedAnswer(model=model, embeddings=vectors, **(_costs(found) if vectors else {}))
    )


def encode_embeddings(found: Embeddings) -> bytes:
    """The answer of /api/embeddings: the one vector, with all digits of a float64."""
    return encode({"embedding": list(found.vectors[0]) if found.vectors else []})


def encode_vector(vector: Sequence[float]) -> bytes:
    """float32 numbers as a JSON list, with nine digits: enough to tell any two apart."""
    return f"[{','.join(['%.9g'] * len(vector)) % tuple(vector)}]".encode()


def encode_rerank(parsed: ParsedRerank, found: Scores) -> bytes:
    """The answer of /api/rerank: the best first."""
    documents = parsed.request.documents
    results = [
        _Result(place, found.scores[place], documents[place]) for place in found.best(parsed.top)
    ]
    return encode(RerankAnswer(model=parsed.request.model, results=results, **_costs(found)))


def encode_tokens(model: str, tokens: tuple[int, ...]) -> bytes:
    """The answer of /api/tokenize."""
    return encode({"model": model, "tokens": tokens})


def encode_text(model: str, text: str) -> bytes:
    """The answer of /api/detokenize."""
    return encode({"model": model, "text": text})


def _costs(found: Embeddings | Scores) -> Mapping[str, int]:
    return {
        "total_duration": found.total_duration,
        "load_duration": found.load_duration,
        "prompt_eval_count": found.tokens,
    }
