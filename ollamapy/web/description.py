"""The path of the OpenAPI document, which tells all the others."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from ..serving.services import Services
from . import openapi
from .call import Call, Dialect, Path, Reply, plain_json_answer
from .ollama.paths import encode_error


def describing(dialects: Iterable[Dialect]) -> Dialect:
    """The dialect that describes the others, and itself."""
    paths = [(path.method, path.path) for dialect in dialects for path in dialect.paths]

    @cache
    def written() -> bytes:
        return openapi.document([*paths, ("GET", "/openapi.json")])

    async def _document(services: Services, call: Call) -> Reply:
        return plain_json_answer(written())

    return Dialect((Path("/openapi.json", "GET", _document, "infer"),), encode_error)
