"""The path of the OpenAPI document, which describes all paths."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from ..serving.services import Services
from . import openapi
from .call import Call, Dialect, Path, Reply, plain_json_answer
from .ollama.paths import encode_error


def openapi_dialect(dialects: Iterable[Dialect]) -> Dialect:
    """The dialect of the OpenAPI document, which describes these dialects and itself."""
    paths = [(path.method, path.path) for dialect in dialects for path in dialect.paths]

    @cache
    def document() -> bytes:
        return openapi.document([*paths, ("GET", "/openapi.json")])

    async def handle(services: Services, call: Call) -> Reply:
        return plain_json_answer(document())

    return Dialect((Path("/openapi.json", "GET", handle, "infer"),), encode_error)
