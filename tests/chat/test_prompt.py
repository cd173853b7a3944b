"""The messages of a request, and the prompts that need no template program."""

from __future__ import annotations

import json
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamapy.chat import prompt
from ollamapy.chat.prompt import chat_messages, generate_messages
from ollamapy.chat.template import Kind, Template
from ollamapy.errors import InvalidRequest
from ollamapy.human import joined
from ollamapy.types import Message, ToolCall

S, U, A, V = (
    Message("system", "S"),
    Message("user", "U"),
    Message("assistant", "A"),
    Message("user", "V"),
)
MODEL_SYSTEM = Message("system", "M")


@pytest.mark.parametrize(
    "given_messages, model_system, model_messages, expected",
    [
        ((U,), None, (), (U,)),
        ((U,), "M", (), (MODEL_SYSTEM, U)),
        ((U,), "", (), (U,)),
        ((S, U), "M", (), (S, U)),
        ((U, S), "M", (), (MODEL_SYSTEM, U, S)),
        ((V,), "M", (U, A), (MODEL_SYSTEM, U, A, V)),
        ((S, V), "M", (U, A), (U, A, S, V)),
        ((), "M", (), (MODEL_SYSTEM,)),
    ],
)
def test_messages_of_a_chat(
    given_messages: tuple[Message, ...],
    model_system: str | None,
    model_messages: tuple[Message, ...],
    expected: tuple[Message, ...],
) -> None:
    found = chat_messages(given_messages, model_system=model_system, model_messages=model_messages)
    assert found == expected


def test_messages_of_a_single_prompt() -> None:
    assert generate_messages("V") == (V,)
    assert generate_messages("V", system="S") == (S, V)
    assert generate_messages("V", system="S", model_system="M") == (S, V)
    assert generate_messages("V", system="", model_system="M") == (MODEL_SYSTEM, V)
    few_shot = generate_messages("V", system="S", model_messages=(U, A))
    assert few_shot == (S, U, A, V)
    continued = generate_messages("V", system="S", model_messages=(U, A), has_context=True)
    assert continued == (S, V)
    assert prompt.after_context("<s>U A", "V") == "<s>U AV"


@pytest.mark.parametrize(
    "kind, messages, expected",
    [
        ("chatml", [U], "<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n"),
        ("none", [U], "<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n"),
        (
            "chatml",
            [S, U],
            "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n",
        ),
        ("chatml", [], "<|im_start|>assistant\n"),
        ("bare", [U], "U"),
        ("bare", [S, U], "U"),
        ("bare", [U, A, V], "UAV"),
        ("bare", [U, V, A], "U\n\nVA"),
        ("plain", [S, U, A], "S U A"),
        ("plain", [], ""),
    ],
)
def test_compose(kind: Kind, messages: list[Message], expected: str) -> None:
    assert prompt.compose(Template(kind), messages) == expected


@pytest.mark.parametrize("kind", ["go", "jinja"])
def test_a_models_own_program_is_not_run_here(kind: Kind) -> None:
    with pytest.raises(ValueError, match="render child"):
        prompt.compose(Template(kind, "x"), [U])


@pytest.mark.parametrize(
    "contents, expected",
    [
        (["Once", "upon"], "Once upon"),
        (["Once ", "upon"], "Once upon"),
        (["Once", " upon"], "Once upon"),
        (["Once\n", "upon"], "Once\nupon"),
        (["Tom ran", ". He fell"], "Tom ran. He fell"),
        (["Tom", ", a boy", "!"], "Tom, a boy!"),
        (["He said", '"Hi"'], 'He said "Hi"'),
        (["(", "a", ")"], "( a)"),
        (["", "a", "", "b", ""], "a b"),
        (["a"], "a"),
        ([" a "], " a "),
        ([], ""),
    ],
)
def test_join(contents: list[str], expected: str) -> None:
    assert prompt.join(contents) == expected


ANY = st.text(st.characters(categories=None))  # lone surrogates too


@given(st.lists(st.builds(Message, ANY, ANY)))
def test_any_messages_can_be_composed(messages: list[Message]) -> None:
    for message in messages:
        assert message.content in prompt.compose(Template("chatml"), messages)
        assert message.content in prompt.compose(Template("plain"), messages)
        if message.role != "system":
            assert message.content in prompt.compose(Template("bare"), messages)


@given(st.lists(ANY))
def test_join_adds_nothing_but_spaces(contents: list[str]) -> None:
    joined = prompt.join(contents)
    assert "".join(joined.split()) == "".join("".join(contents).split())
    assert len(joined) <= sum(map(len, contents)) + max(len(contents) - 1, 0)


CALL = Message("assistant", tool_calls=(ToolCall("f", {}),))
RESULT = Message("tool", "R")


@pytest.mark.parametrize(
    "messages, left",
    [
        ((U,), ["U"]),
        ((U, A, V), ["UAV", "V"]),  # no answer without its question
        ((U, A, V, A), ["UAVA", "VA", "A"]),  # unless that is too long itself
        ((S, U, A, V), ["SUAV", "SV"]),
        ((U, S, V), ["USV", "SV"]),  # what the system says stays where it is
        ((U, CALL, RESULT, V), ["UcRV", "V"]),
        ((U, CALL, RESULT), ["UcR", "cR"]),  # no result without its call
        ((U, CALL, RESULT, RESULT, A), ["UcRRA", "cRRA", "A"]),
        ((A, A), ["AA", "A"]),
    ],
)
def test_what_is_left_of_a_conversation_that_does_not_fit(
    messages: tuple[Message, ...], left: list[str]
) -> None:
    kept = [prompt.without_oldest(messages, cut) for cut in prompt.cuts(messages)]
    texts = ["".join(m.content or "c" for m in each) for each in kept]
    assert list(dict.fromkeys(texts)) == left


def test_a_turn_speaks_both_template_languages() -> None:
    call = Message("assistant", "", "hm", (ToolCall("f", {"a": 1}, "1"),))
    assert prompt.template_message(call) == {
        "role": "assistant",
        "content": "",
        "thinking": "hm",
        "reasoning_content": "hm",
        "tool_calls": [
            {
                "id": "1",
                "type": "function",
                "function": {"name": "f", "arguments": {"a": 1}},
            }
        ],
    }
    result = prompt.template_message(Message("tool", "x", tool_name="f", tool_call_id="1"))
    assert result == {
        "role": "tool", "content": "x", "tool_name": "f", "name": "f", "tool_call_id": "1",
    }  # fmt: skip


def test_a_tool_is_written_in_ollamas_order() -> None:
    tool = {
        "x": 1,
        "function": {
            "parameters": {"properties": {}, "required": [], "type": "object"},
            "name": "f",
        },
        "type": "function",
    }
    ordered = prompt.tool_for_template(tool)
    assert json.dumps(ordered) == (
        '{"type": "function", "function": {"name": "f", "description": "", "parameters":'
        ' {"type": "object", "required": [], "properties": {}}}, "x": 1}'
    )


def test_what_is_null_in_a_function_is_absent() -> None:
    tool = {"function": {"name": "f", "description": None, "parameters": None, "strict": None}}
    assert prompt.tool_for_template(tool) == {"function": {"name": "f", "description": ""}}


@pytest.mark.parametrize(
    ("template", "role"),
    [
        (Template("chatml"), "system"),
        (Template("none"), "system"),
        (Template("jinja", "{{ messages[0]['role'] }}"), "system"),
        (Template("jinja", "{% if message.role in ['developer', 'system'] %}"), "developer"),
        (Template("go", '{{ if eq .Role "system" }}{{ .Content }}{{ end }}'), "system"),
        (Template("go", "<|im_start|>{{ .Role }}"), "developer"),
        (Template("go", "{{- $m.Role -}}"), "developer"),
    ],
)
def test_the_developer_is_the_system_where_the_template_has_no_word_for_it(
    template: Template, role: str
) -> None:
    messages = [Message("developer", "S"), Message("user", "Hi")]
    found = prompt.with_known_roles(messages, template)
    assert found == (Message(role, "S"), Message("user", "Hi"))


def test_a_prompt_up_to_its_last_message() -> None:
    text = prompt.chatml([Message("user", "a"), Message("assistant", "Hel ")])
    assert prompt.up_to_last(text, "Hel ").endswith("<|im_start|>assistant\nHel ")
    assert prompt.up_to_last(text.replace("Hel ", "Hel"), "Hel ").endswith("assistant\nHel")
    with pytest.raises(InvalidRequest, match="does not print the last message"):
        prompt.up_to_last("x", "Hel")


@given(st.lists(st.sampled_from(["system", "user", "assistant", "tool"])))
def test_cuts_go_through_the_messages_once(roles: list[str]) -> None:
    """As the rule has it, which looks ahead from every message."""
    messages = [Message(role) for role in roles]
    last_user = max((at for at, role in enumerate(roles) if role == "user"), default=0)
    expected = [0]
    for at in range(1, len(roles)):
        following = next((role for role in roles[at:] if role != "system"), "")
        if roles[at - 1] != "system":
            if following == "user" or (at > last_user and following != "tool"):
                expected.append(at)
    assert prompt.cuts(messages) == expected


@given(st.lists(st.text(alphabet="a .,\n", max_size=3)))
def test_joining_many_texts_is_joining_them_one_by_one(texts: list[str]) -> None:
    assert prompt.join(texts) == reduce(joined, texts, "")


@pytest.mark.parametrize(
    ("text", "messages", "marked"),
    [
        ("<S>\n<U>\n>", (S, U), ["<S>\n<", "<S>\n<U"]),
        ("<S>\n<U><A><V>\n>", (S, U, A, V), ["<S>\n<", "<S>\n<U><A><", "<S>\n<U><A><V"]),
        ("<U U>U", (Message("system", "U U"), U), ["<U U>", "<U U>U"]),
        ("\u00e9<U>", (Message("user", " U\n"),), ["\u00e9<", "\u00e9<U"]),
        ("U", (U,), ["U"]),
        ("<other>", (S, U), []),
        ("<U>", (U, Message("tool", "")), ["<"]),
        ("raw", (), []),
    ],
)
def test_where_another_prompt_may_go_on_in_another_way(
    text: str, messages: tuple[Message, ...], marked: list[str]
) -> None:
    """The first message after the system's, the last question, and the end of the last message."""
    found = prompt.marks(text, messages)
    assert found == tuple(len(before.encode()) for before in marked)


def test_a_prompt_that_fits_into_no_context_has_no_marks() -> None:
    assert prompt.marks("U" * (prompt.MOST_MARKED + 1), (U,)) == ()
