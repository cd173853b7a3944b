"""The body of /api/create: Ollama's fields, and fields that are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ollamapy.errors import InvalidName, InvalidRequest
from ollamapy.models.create.request import CreateRequest
from ollamapy.types import Message
from ollamapy.web.ollama.create import parse_create

DIGEST = f"sha256:{'0' * 64}"


def parse(**body: Any) -> CreateRequest:
    return parse_create(json.dumps(body).encode()).request


def test_all_fields() -> None:
    parsed = parse(
        name="m",
        adapters={"a.gguf": DIGEST},
        files={"d/x.gguf": DIGEST},
        template="t",
        system="s",
        license=["a", "b"],
        parameters={"seed": 1},
        messages=[{"role": "USER", "content": "u"}, {"role": "assistant"}],
        quantization="q8_0",
        renderer="r",
        parser="p",
        requires="1.0.0",
        unknown=1,
    )
    assert parsed == CreateRequest(
        model="m",
        files={"d/x.gguf": DIGEST},
        adapters={"a.gguf": DIGEST},
        template="t",
        system="s",
        licenses=("a", "b"),
        parameters={"seed": 1},
        messages=(Message("user", "u"), Message("assistant", "")),
        quantize="q8_0",
        renderer="r",
        parser="p",
        requires="1.0.0",
    )


def test_one_licence_and_no_stream() -> None:
    parsed = parse_create(b'{"model":"m","from":"b","license":"MIT","stream":false}')
    assert parsed.request.licenses == ("MIT",) and parsed.request.from_ == "b"
    assert not parsed.stream and parse_create(b'{"model":"m"}').stream


@pytest.mark.parametrize(
    ("body", "error", "why"),
    [
        ({}, InvalidName, "invalid model name"),
        ({"model": "a b"}, InvalidName, "invalid model name"),
        ({"model": "m", "files": {"../x": DIGEST}}, InvalidRequest, "file path must be relative"),
        ({"model": "m", "files": {"/x": DIGEST}}, InvalidRequest, "file path must be relative"),
        ({"model": "m", "files": {"a\\..\\x": DIGEST}}, InvalidRequest, "must be relative"),
        ({"model": "m", "files": {"C:/x": DIGEST}}, InvalidRequest, "must be relative"),
        ({"model": "m", "files": {"": DIGEST}}, InvalidRequest, "must be relative"),
        ({"model": "m", "files": {"x": 1}}, InvalidRequest, "cannot unmarshal number"),
        ({"model": "m", "files": [1]}, InvalidRequest, "cannot unmarshal array"),
        ({"model": "m", "license": 1}, InvalidRequest, "a text or a list of texts"),
        ({"model": "m", "license": [1]}, InvalidRequest, "a text or a list of texts"),
        ({"model": "m", "messages": [{"role": "tool"}]}, InvalidRequest, "message role must be"),
        ({"model": "m", "from": "x:cloud"}, InvalidRequest, "runs elsewhere"),
        ({"model": "m", "draft_files": {"d": DIGEST}}, InvalidRequest, "leave DRAFT out"),
        ({"model": "m", "draft_quantize": "Q8_0"}, InvalidRequest, "leave DRAFT out"),
    ],
)
def test_refused(body: dict[str, Any], error: type[Exception], why: str) -> None:
    with pytest.raises(error, match=why):
        parse(**body)
