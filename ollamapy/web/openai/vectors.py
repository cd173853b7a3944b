"""/v1/embeddings, and /v1/rerank as in other servers. Pure.

    /v1/embeddings  {model, input: texts or token ids, dimensions, encoding_format}  -> {data: [{embedding, index}], usage}
    /v1/rerank      {model, query, documents, top_n, return_documents}  -> {results: [{index, relevance_score, document}], usage}

A document is a text or an object with a text; ``return_documents`` is false by default.
"""

from __future__ import annotations

import base64
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from ...errors import InvalidRequest
from ...request import EmbedRequest, RerankRequest
from ...types import Embeddings, Scores
from .. import body
from ..ollama import wire as ollama
from ..ollama.vectors import MODEL_FIELDS, encode_vector
from . import wire

EMBED_FIELDS = MODEL_FIELDS | {"input": "any", "dimensions": "int", "encoding_format": "string"}
RERANK_FIELDS = MODEL_FIELDS | {
    "query": "string", "documents": "any", "texts": "any", "top_n": "int", "return_documents": "bool",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ParsedEmbeddings:
    """Embeddings for inputs; ``packed``: each as base64 of float32 numbers in little endian."""

    request: EmbedRequest
    packed: bool


@dataclass(frozen=True, slots=True)
class ParsedRerank:
    """A rerank: how many of the best documents to return, and whether with their texts."""

    request: RerankRequest
    top: int
    with_texts: bool


def parse_embeddings(data: bytes) -> ParsedEmbeddings:
    """The body of /v1/embeddings. Raises InvalidRequest; Misread where Ollama fails before it looks for the model."""
    with body.reading():
        given = wire.read_fields(data, EMBED_FIELDS, "EmbedRequest")
        form = given.get("encoding_format", "").lower() or "float"
        if form not in ("float", "base64"):
            raise InvalidRequest(
                f"Invalid value for 'encoding_format' = {given['encoding_format'][:80]}. "
                "Supported values: ['float', 'base64']."
            )
        if (dimensions := given.get("dimensions", 0)) < 0:
            raise InvalidRequest("dimensions must not be negative")
        if "input" not in given:
            raise InvalidRequest("invalid input")
        inputs = wire.inputs(given["input"], "input")
        if "" in inputs:
            where = f"input[{inputs.index('')}]" if isinstance(given["input"], list) else "input"
            raise InvalidRequest(f"{where} is empty, give it a text or leave it out")
    common = ollama.model_fields(given)
    request = EmbedRequest(inputs=inputs, dimensions=dimensions or None, **common)
    return ParsedEmbeddings(request, form == "base64")


def parse_rerank(data: bytes) -> ParsedRerank:
    """The body of /v1/rerank. Raises InvalidRequest."""
    with body.reading():
        given = wire.read_fields(data, RERANK_FIELDS, "RerankRequest")
        if not given.get("query"):
            raise InvalidRequest("query is required")
        found = given.get("documents", given.get("texts"))
        if not isinstance(found, list) or not found:
            raise InvalidRequest("documents must be a list of texts")
        body.check_count(found, "documents")
        documents = tuple(_document(each, i) for i, each in enumerate(found))
        if (top := given.get("top_n", len(documents))) < 1:
            raise InvalidRequest("top_n must be at least 1")
    request = RerankRequest(query=given["query"], documents=documents, **ollama.model_fields(given))
    return ParsedRerank(request, top, given.get("return_documents", False))


def _document(value: Any, index: int) -> str:
    text = value.get("text") if isinstance(value, dict) else value
    if not isinstance(text, str):
        raise InvalidRequest(f"documents[{index}] must be a text or an object with a text")
    return text


# ---- answers ---------------------------------------------------------------------------------------------------------


def encode_embeddings(parsed: ParsedEmbeddings, found: Embeddings) -> bytes:
    """The answer of /v1/embeddings. For thousands of vectors this takes a second: call it in a thread."""
    write = _packed if parsed.packed else encode_vector
    data = [
        {"object": "embedding", "embedding": msgspec.Raw(write(vector)), "index": index}
        for index, vector in enumerate(found.vectors)
    ]
    head = {"object": "list", "data": data, "model": parsed.request.model}
    return ollama.encode({**head, "usage": _usage(found.tokens)})


def _packed(vector: Sequence[float]) -> bytes:
    numbers = array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return b'"' + base64.b64encode(numbers.tobytes()) + b'"'


def encode_rerank(parsed: ParsedRerank, found: Scores) -> bytes:
    """The answer of /v1/rerank: the best first."""
    documents = parsed.request.documents
    results = [
        {
            "index": place,
            "relevance_score": found.scores[place],
            **({"document": {"text": documents[place]}} if parsed.with_texts else {}),
        }
        for place in found.best(parsed.top)
    ]
    head = {"object": "list", "model": parsed.request.model, "results": results}
    return ollama.encode({**head, "usage": _usage(found.tokens)})


def _usage(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": tokens, "total_tokens": tokens}
