"""The turn of a request, as tables: which template and messages, what is refused, which constraint, and how a prompt is cut."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from ollamapy.errors import InvalidRequest
from ollamapy.models.models import Models
from ollamapy.models.spec import ModelSpec
from ollamapy.registry.store import Store
from ollamapy.request import Request
from ollamapy.serving.turn import Turn
from ollamapy.types import Constraint, Message, Options
from tests.requests_made import chat_request, generate_request
from tests.small_models import install, scripted_model

THINKER = "{% for m in messages %}{{ m.content }}{% endfor %}{{ tools }}<think></think><tool_call>"
GO = "{{ if .Suffix }}<PRE>{{ .Prompt }}<SUF>{{ .Suffix }}{{ else }}{{ .Prompt }}{{ end }}"
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
HI = Message("user", "Hi")


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelSpec]:
    """plain: ChatML. thinker: a Jinja template with tools and thinking. filler: a Go template that fills gaps, over the Jinja one
    of ChatML; with a system message, messages and options of its own."""
    root = tmp_path_factory.mktemp("store")
    plain = scripted_model(root / "m.gguf", "Yes.")
    install(root, "plain", plain)
    install(root, "thinker", scripted_model(root / "t.gguf", "Yes.", chat_template=THINKER))
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    params = {"temperature": 0.5, "stop": ["x"], "context_policy": "shift"}
    install(root, "filler", plain, template=GO, system="Be kind.", messages=messages, params=params)
    models = Models(Store([root]))
    return {n: asyncio.run(models.load(n)) for n in ("plain", "thinker", "filler")}


@pytest.mark.parametrize(
    ("model", "request_", "kind"),
    [
        ("plain", chat_request("plain", [HI]), "jinja"),
        ("filler", generate_request("filler", "a"), "go"),
        ("filler", generate_request("filler", "a", suffix="b"), "go"),
        ("plain", generate_request("plain", "a", template="{{ .Prompt }}!"), "go"),
        ("thinker", chat_request("thinker", [HI]), "jinja"),
    ],
)
def test_the_template(
    specs: dict[str, ModelSpec], model: str, request_: Request, kind: str
) -> None:
    turn = Turn.of(specs[model], request_)
    assert turn.template.kind == kind
    if request_.own_template:
        assert turn.template.source == "{{ .Prompt }}!"


@pytest.mark.parametrize(
    ("request_", "roles"),
    [
        (chat_request("m", [HI]), ["system", "user", "assistant", "user"]),
        (chat_request("m", [Message("system", "s"), HI]), ["user", "assistant", "system", "user"]),
        (generate_request("m", "a"), ["system", "user", "assistant", "user"]),
        (generate_request("m", "a", context=()), ["system", "user"]),
        (generate_request("m", "a", suffix="b"), []),
        (generate_request("m", "a", raw=True), []),
    ],
    ids=["chat", "own system", "question", "goes on", "gap", "raw"],
)
def test_the_messages_with_the_models_own(
    specs: dict[str, ModelSpec], request_: Request, roles: list[str]
) -> None:
    assert [message.role for message in Turn.of(specs["filler"], request_).messages] == roles


@pytest.mark.parametrize(
    ("model", "request_", "words"),
    [
        ("plain", generate_request("plain", "a", suffix="b"), "does not support insert"),
        ("plain", generate_request("plain", "a", raw=True, suffix="b"), "does not support insert"),
        ("plain", chat_request("plain", [HI], tools=(TOOL,)), "does not support tools"),
        ("plain", chat_request("plain", [HI], tools=(TOOL,), tool_choice="none"), "does not support tools"),
        ("plain", chat_request("plain", [HI], think=True), "does not support thinking"),
        ("plain", chat_request("plain", [HI], think="high"), "does not support thinking"),
        ("plain", chat_request("plain", [Message("user", "a", images=(b"x",))]), "images were given"),
        ("plain", generate_request("plain", "a", template="x" * 300_000), "template: "),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_the_model_cannot_do_is_refused(
    specs: dict[str, ModelSpec], model: str, request_: Request, words: str
) -> None:
    with pytest.raises(InvalidRequest, match=words):
        Turn.of(specs[model], request_)


def test_a_model_that_only_embeds_answers_nothing(specs: dict[str, ModelSpec]) -> None:
    spec = replace(specs["plain"], capabilities=("embedding",))
    for request, verb in (
        (chat_request("m", [HI]), "chat"),
        (generate_request("m", "a"), "generate"),
    ):
        with pytest.raises(InvalidRequest, match=f'"m" does not support {verb}'):
            Turn.of(spec, request)


@pytest.mark.parametrize(
    ("model", "fields", "think"),
    [
        ("thinker", {}, True),
        ("thinker", {"think": False}, False),
        ("thinker", {"think": "low"}, "low"),
        ("thinker", {"tools": (TOOL,), "tool_choice": "required"}, False),
        ("plain", {}, None),
        ("plain", {"think": True, "think_is_optional": True}, None),
        ("plain", {"think": False}, False),
    ],
)
def test_thinking_is_on_where_the_model_can(
    specs: dict[str, ModelSpec], model: str, fields: dict[str, Any], think: Any
) -> None:
    assert Turn.of(specs[model], chat_request(model, [HI], **fields)).request.think == think


JSON = Constraint("json")


@pytest.mark.parametrize(
    ("fields", "kind", "unless", "is_forced"),
    [
        ({}, None, False, False),
        ({"constraint": JSON}, "json", False, False),
        ({"constraint": JSON, "tools": (TOOL,)}, "json", True, False),
        ({"constraint": JSON, "tools": (TOOL,), "tool_choice": "none"}, "json", False, False),
        ({"constraint": JSON, "tools": (TOOL,), "tool_choice": "required"}, "lark", False, True),
        ({"tools": (TOOL,), "tool_choice": "f"}, "lark", False, True),
        ({"tools": (TOOL,)}, None, False, False),
    ],
)
def test_the_form_of_the_answer(
    specs: dict[str, ModelSpec],
    fields: dict[str, Any],
    kind: str | None,
    unless: bool,
    is_forced: bool,
) -> None:
    """A form that was asked for is for answers without a call; a call that must be made has a grammar of its own."""
    turn = Turn.of(specs["thinker"], chat_request("thinker", [HI], **fields))
    found = turn.constraint
    assert (found.kind if found else None) == kind and turn.is_forced == is_forced
    assert bool(found and found.unless) == unless


@pytest.mark.parametrize(
    ("request_", "model", "policy", "drops", "cuts"),
    [
        (chat_request("m", [HI]), "plain", "drop-oldest", True, False),
        (chat_request("m", [HI], truncate=False), "plain", "error", False, False),
        (chat_request("m", [HI], Options(context_policy="shift")), "plain", "shift", False, True),
        (chat_request("m", [HI]), "filler", "shift", False, True),
        (chat_request("m", [HI], Options(context_policy="error")), "filler", "error", False, False),
        (generate_request("m", "a"), "plain", "drop-oldest", False, True),
        (generate_request("m", "a", truncate=False), "plain", "error", False, False),
    ],
)
def test_how_a_prompt_that_does_not_fit_is_cut(
    specs: dict[str, ModelSpec],
    request_: Request,
    model: str,
    policy: str,
    drops: bool,
    cuts: bool,
) -> None:
    turn = Turn.of(specs[model], request_)
    assert (turn.policy, turn.drops_messages, turn.truncates) == (policy, drops, cuts)


def test_the_requests_options_are_put_over_the_models(specs: dict[str, ModelSpec]) -> None:
    own = Turn.of(specs["filler"], chat_request("m", [HI], Options(temperature=0.1))).options
    assert (own.temperature, own.stop, own.context_policy) == (0.1, ("x",), "shift")


@pytest.mark.parametrize(
    ("architecture", "shift", "shifts"),
    [("llama", None, True), ("deepseek2", None, False), ("deepseek2", True, True), ("llama", False, False)],
)  # fmt: skip
def test_a_full_context_is_shifted_where_the_architecture_can(
    specs: dict[str, ModelSpec], architecture: str, shift: bool | None, shifts: bool
) -> None:
    spec = specs["plain"]
    metadata = {**spec.header.metadata, "general.architecture": architecture}
    spec = replace(spec, header=replace(spec.header, metadata=metadata))
    assert Turn.of(spec, chat_request("m", [HI], shift=shift)).shifts == shifts


def test_what_a_turn_says_of_its_request(specs: dict[str, ModelSpec]) -> None:
    chat = Turn.of(specs["filler"], chat_request("m", [HI]))
    gap = Turn.of(specs["filler"], generate_request("m", "a", suffix="b"))
    raw = Turn.of(specs["filler"], generate_request("m", "a", raw=True))
    assert [turn.is_chat for turn in (chat, gap, raw)] == [True, False, False]
    assert [turn.returns_context for turn in (chat, gap, raw)] == [False, True, False]
    assert raw.parser("<think>").opens == "", "all of a raw answer is text"


@pytest.mark.parametrize(
    ("fields", "beginning"),
    [
        ({}, ""),
        ({"think_budget": 5}, "<think>\n"),
        ({"constraint": JSON}, "<think>\n"),
        ({"constraint": JSON, "think": False}, ""),
    ],
)
def test_thinking_must_begin_where_something_waits_for_its_end(
    specs: dict[str, ModelSpec], fields: dict[str, Any], beginning: str
) -> None:
    turn = Turn.of(specs["thinker"], chat_request("thinker", [HI], **fields))
    assert turn.beginning(turn.parser("Hi")) == beginning


def test_a_request_is_not_changed(specs: dict[str, ModelSpec]) -> None:
    request = chat_request("thinker", [HI])
    before = msgspec.json.encode(request)
    Turn.of(specs["thinker"], request)
    assert msgspec.json.encode(request) == before
