"""The OpenAPI document as schemathesis reads it: whatever is sent, every answer is one that the document tells."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from ollamapy.web.anthropic import paths as anthropic
from ollamapy.web.call import Path
from ollamapy.web.chats import paths as chats
from ollamapy.web.models import paths as models
from ollamapy.web.ollama import model_paths as stored
from ollamapy.web.ollama import paths as native
from ollamapy.web.openai import paths as openai
from ollamapy.web.openai import response_paths as responses
from ollamapy.web.openapi import document
from tests.served import Daemon, serve

from .conftest import make_models

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
MODELS = ("hello", "rand", "tool", "vectors", "rank")
"""What replaces most generated names, so that requests come further than to a 404."""

OFFLINE = {"hub": {"offline": True}, "from": ""}
NAMES: dict[str, dict[str, Any]] = {
    "/api/delete": {"model": "fuzz"},
    "/api/copy": {"source": "hello", "destination": "fuzz"},
    "/api/create": {"model": "fuzz", "from": "hello"},
    "/api/pull": {"model": "fuzz", **OFFLINE},
    "/api/push": {"model": "fuzz", **OFFLINE},
}
"""The same for the paths that change the store, which shall leave those models alone."""

ELSEWHERE = ("/api/pull", "/api/push", "/api/hub", "/api/remote")
"""Here a 502 is no fault of ours: they are to ask other machines, and may not."""


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that knows no hub and whose store may be spoilt."""
    root = tmp_path_factory.mktemp("described")
    make_models(root, tmp_path_factory.mktemp("gguf"))
    with serve(tmp_path_factory.mktemp("home"), root, SERVE_MODELS="1") as running:
        yield running


PATHS = [
    *native.PATHS,
    *stored.PATHS,
    *stored.SERVED_PATHS,
    *openai.DIALECT.paths,
    *responses.DIALECT.paths,
    *anthropic.DIALECT.paths,
    *chats.PATHS,
    *models.DIALECT.paths,
]
API = schemathesis.openapi.from_dict(
    json.loads(document((path.method, path.path) for path in PATHS))
)


@pytest.mark.parametrize("examples", [6, pytest.param(24, marks=pytest.mark.long)])
@pytest.mark.parametrize("path", PATHS, ids=lambda path: f"{path.method} {path.path}")
def test_no_answer_is_a_surprise(described: Daemon, path: Path, examples: int) -> None:
    @given(API[path.path.replace(":path}", "}")][path.method].as_strategy())
    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: schemathesis.Case[Any]) -> None:
        if isinstance(case.body, dict):
            case.body = _bounded(case.body, path.path)
        checks = CHECKS[path.path in ELSEWHERE :]
        answer = case.call_and_validate(base_url=described.url, checks=checks)
        assert answer.status_code != 500

    ask()


ALWAYS = ("model", "messages", "input", "prompt", "query", "documents", "max_tokens", "stream")


def _bounded(body: dict[str, Any], path: str) -> dict[str, Any]:
    """A request for a model that is there, most of the time, with few fields at once, whose answer is short."""
    number = zlib.crc32(repr(body).encode())
    found = {
        name: value
        for place, (name, value) in enumerate(body.items())
        if name in ALWAYS or (number >> place % 32) % 4 == 0
    }
    if path in ELSEWHERE or (number % 8 and path in NAMES):
        found |= NAMES[path]
    elif number % 8 and "model" in found:
        found["model"] = MODELS[number % len(MODELS)]
    if found.get("messages") == []:
        found["messages"] = [{"role": "user", "content": "Hi"}]
    for name in ("max_tokens", "max_completion_tokens", "max_output_tokens", "n"):
        if type(found.get(name)) is int:
            found[name] = max(1, min(found[name], 2))
    if isinstance(options := found.get("options") or {}, dict) and path not in NAMES:
        found["options"] = {**options, "num_predict": 2}
    return found


def test_every_path_is_described(described: Daemon) -> None:
    answer = described.ask("GET", "/openapi.json")
    assert answer.header("Content-Type") == "application/json"
    told = answer.json()["paths"]
    assert {"/api/chat", "/v1/chat/completions", "/v1/messages", "/v1/models/{name}"} <= set(told)
    assert all(path.path.replace(":path}", "}") in told for path in stored.PATHS)
    with pytest.raises(KeyError, match="/api/new"):
        document([("GET", "/api/new")])


def test_the_description_of_a_request(described: Daemon) -> None:
    told = described.ask("GET", "/openapi.json").json()
    chat = told["paths"]["/api/chat"]["post"]
    body = chat["requestBody"]["content"]["application/json"]["schema"]
    assert body["required"] == ["model"] and "tool_choice" in body["properties"]
    assert {"application/json", "application/x-ndjson"} == set(chat["responses"]["200"]["content"])
    assert {"400", "404", "413", "499", "500", "503", "507"} <= set(chat["responses"])
    options = told["components"]["schemas"]["Options"]["properties"]
    assert options["num_ctx"] == {"type": "number"} and options["stop"]["type"] == "array"
    assert json.dumps(told).count('"$ref": "#/components/schemas/GenerateAnswer"') == 2
