"""The body of /api/create: from JSON to a CreateRequest. Pure; ``models/create/request.py`` checks the values.

Besides Ollama's fields it has `modelfile`, the text of a Modelfile that names no files and whose instructions count where a field is
not given (Ollama's API once had it), and `background`. A remote model (``remote_host``, a name that ends in ``:cloud``) and a draft model are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from ...errors import InvalidRequest
from ...models.create import text as modelfile
from ...models.create.request import CreateRequest
from ...names import Name
from ...types import Message
from .. import body
from .model_wire import ParsedJob

CREATE_FIELDS = {
    "model": "string", "name": "string", "stream": "bool", "from": "string", "remote_host": "string",
    "files": "map[string]interface {}", "adapters": "map[string]interface {}", "template": "string", "system": "string",
    "license": "any", "parameters": "map[string]interface {}", "messages": "[]api.Message", "quantize": "string",
    "quantization": "string", "renderer": "string", "parser": "string", "requires": "string",
    "draft_files": "map[string]interface {}", "draft_quantize": "string", "modelfile": "string", "background": "bool",
}  # fmt: skip
MESSAGE_FIELDS = {"role": "string", "content": "string"}
ROLES = ("system", "user", "assistant")


def parse_create(data: bytes) -> ParsedJob[CreateRequest]:
    """The body of /api/create. Raises InvalidRequest, InvalidName, InvalidModelfile."""
    given = body.fields(body.decode(data), CREATE_FIELDS, "CreateRequest")
    if text := given.get("modelfile", ""):
        given = {**modelfile.fields(text), **given}
    name = given.get("model") or given.get("name") or ""
    Name.parse(name)
    if given.get("draft_files") or given.get("draft_quantize"):
        raise InvalidRequest("draft models are not supported, leave DRAFT out")
    source = given.get("from", "")
    if given.get("remote_host") or source.endswith((":cloud", "-cloud")):
        raise InvalidRequest(
            "a model that runs elsewhere cannot be made from, choose one with weights"
        )
    request = CreateRequest(
        model=name,
        from_=source,
        files=_texts(given, "files"),
        adapters=_texts(given, "adapters"),
        template=given.get("template", ""),
        system=given.get("system", ""),
        licenses=_licenses(given.get("license")),
        parameters=given.get("parameters", {}),
        messages=tuple(_message(each) for each in given.get("messages", ())),
        quantize=given.get("quantize") or given.get("quantization") or "",
        renderer=given.get("renderer", ""),
        parser=given.get("parser", ""),
        requires=given.get("requires", ""),
    )
    return ParsedJob(request, given.get("stream", True), given.get("background", False))


def _texts(given: Mapping[str, Any], field: str) -> dict[str, str]:
    found = given.get(field, {})
    for path, value in found.items():
        if not isinstance(value, str):
            raise body.wrong_type(value, f"CreateRequest.{field}", "string")
        parts = PurePosixPath(path.replace("\\", "/"))
        if not path or parts.is_absolute() or ".." in parts.parts or ":" in parts.parts[0]:
            raise InvalidRequest("file path must be relative")
    return dict(found)


def _licenses(value: Any) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value or ()
    if not isinstance(texts, (list, tuple)) or not all(isinstance(text, str) for text in texts):
        raise InvalidRequest("license must be a text or a list of texts")
    return tuple(texts)


def _message(value: Any) -> Message:
    given = body.fields(value, MESSAGE_FIELDS, "CreateRequest", "messages")
    role = given.get("role", "").lower()
    if role not in ROLES:
        raise InvalidRequest('message role must be one of "system", "user", or "assistant"')
    return Message(role, given.get("content", ""))
