"""Requests of pull, copy and delete: Ollama's fields and ours."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ollamapy.config import HubSettings
from ollamapy.errors import InvalidRequest
from ollamapy.models.pull import PullRequest
from ollamapy.names import Name
from ollamapy.registry.limits import Limits
from ollamapy.web.ollama import model_wire


def pull(*, is_local: bool = True, **fields: Any) -> model_wire.ParsedJob[PullRequest]:
    return model_wire.parse_pull(json.dumps(fields).encode(), is_local=is_local)


def test_a_pull() -> None:
    assert pull(name="a") == model_wire.ParsedJob(PullRequest("a"), True)
    fields: dict[str, Any] = {
        "Model": "a", "stream": False, "insecure": True, "username": "u", "limit_rate": 5, "connections": 2,
        "from": "http://b", "hub": {"endpoint": "http://h/", "token": "hf_x", "offline": True},
    }  # fmt: skip
    parsed = pull(**fields)
    hub = HubSettings("http://h", "hf_x", offline=True)
    request = PullRequest("a", True, "http://b", hub, Limits(connections=2, rate=5))
    assert parsed == model_wire.ParsedJob(request, False)
    assert "hf_x" not in repr(parsed)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "model is required"),
        ({"model": ""}, "model is required"),
        ({"model": 1}, "cannot unmarshal number"),
        ({"model": "a", "connections": 17}, "between 1 and 16"),
        ({"model": "a", "limit_rate": -1}, "bytes a second"),
        ({"model": "a", "hub": {"token": 1}}, "cannot unmarshal number"),
    ],
)
def test_an_invalid_pull(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        pull(**fields)


def test_hub_is_accepted_from_this_machine_only() -> None:
    with pytest.raises(InvalidRequest, match="from this machine only"):
        pull(is_local=False, model="a", hub={"endpoint": "http://127.0.0.1:1"})
    assert pull(is_local=False, model="a").request.hub is None


def test_copy_and_delete() -> None:
    body = b'{"source": "A", "destination": "b:c"}'
    assert model_wire.parse_copy(body) == ("A", Name.parse("A"), Name.parse("b:c"))
    assert model_wire.parse_delete(b'{"name": "a"}') == ("a", Name.parse("a"))
    for data, message in (
        (b'{"source": "a b"}', 'source "a b" is invalid'),
        (b'{"source": "a", "destination": "\\u001b"}', r'destination "\\x1b" is invalid'),
    ):
        with pytest.raises(InvalidRequest, match=message):
            model_wire.parse_copy(data)
    with pytest.raises(InvalidRequest, match='name "../a" is invalid'):
        model_wire.parse_delete(b'{"model": "../a"}')
