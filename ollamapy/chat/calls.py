"""Tool calls and their results as a certain Jinja template takes them.

Templates disagree: some require arguments as a text of JSON, some no content at all beside a call, Mistral's ids of nine letters and
digits, some take one call a message, and some ignore calls, so that they must be in the content, as the model writes
them. No template is recognized by name: each is tried with a small conversation, as llama.cpp does. Pure, but for the
template that it is given as a function.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from ..digests import sha256_hex
from .output.families import GENERIC, family_of

TemplateMessage = Mapping[str, Any]
Attempt = Callable[[Sequence[TemplateMessage], Sequence[Mapping[str, Any]]], str | None]
"""What a template makes of messages and tools; None where it fails."""

DEEPSEEK = "<｜tool▁sep｜>"
"""In the templates that :func:`with_tools_described` is for."""

_KEY, _VALUE, _OTHER = "needle_key", "needle value", "needle other"
_RESULT = "needle result"
_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "needle_tool",
        "description": "A tool",
        "parameters": {
            "type": "object",
            "properties": {_KEY: {"type": "string", "description": "A text"}},
            "required": [_KEY],
        },
    },
}


@dataclass(frozen=True, slots=True)
class CallStyle:
    """How a template takes calls: arguments as text, no content where there is none beside them, ids of nine characters, one
    call a message (``single``), or none at all (``written``: they are put into the content); and results, where it has none, as
    messages of the user (``spoken``), or as ``tool_responses`` of the message with their calls (``nested``)."""

    as_text: bool = False
    no_content: bool = False
    short_ids: bool = False
    single: bool = False
    written: bool = False
    spoken: bool = False
    nested: bool = False


def has_calls(turns: Sequence[TemplateMessage]) -> bool:
    """Whether the conversation has calls or results."""
    return any(turn.get("tool_calls") or turn["role"] == "tool" for turn in turns)


def call_style(attempt: Attempt) -> CallStyle:
    """The first form, beginning with the plain one, in which a call's arguments arrive as they should."""

    def worth(tried: CallStyle, values: Sequence[str] = (_VALUE,), content: str = "") -> int:
        """3: the last of these calls arrives; 2: as Python's or twice quoted; 1: it does not; 0: the template fails."""
        prompt = attempt(adapted(_conversation(values, content), tried, ""), [_TOOL])
        if prompt is None:
            return 0
        if values[-1] not in prompt:
            return 1
        return 2 if f"'{_KEY}'" in prompt or f'\\"{_KEY}' in prompt else 3

    if _nests(attempt):
        return CallStyle(nested=True)
    best, most = CallStyle(), -1
    for short_ids, as_text, no_content in product((False, True), repeat=3):
        tried = CallStyle(as_text, no_content, short_ids)
        if (found := worth(tried)) > most:
            best, most = tried, found
        if most == 3:
            break
    if most <= 1:
        for tried in (replace(best, written=True), replace(best, written=True, spoken=True)):
            prompt = attempt(adapted(_conversation((_VALUE,), ""), tried, ""), [_TOOL]) or ""
            if _VALUE in prompt and _RESULT in prompt:
                return tried
        return best
    apart = replace(best, no_content=True)
    if worth(best, content="Wait.") < most == worth(apart, content="Wait."):
        best = apart
    single = replace(best, single=True)
    both = (_VALUE, _OTHER)
    return single if most > 1 and worth(single, both) > worth(best, both) else best


def _nests(attempt: Attempt) -> bool:
    """Whether the template writes results within their calls' message, and a tool's message like that of any role."""
    plain = _conversation((_VALUE,), "")
    inside = attempt(adapted(plain, CallStyle(nested=True), ""), [_TOOL]) or ""
    if _RESULT not in inside or _VALUE not in inside:
        return False
    role = "needle_role"
    as_any = [{**turn, "role": role} if turn["role"] == "tool" else turn for turn in plain]
    return (attempt(as_any, [_TOOL]) or role).replace(role, "tool") == attempt(plain, [_TOOL])


def _conversation(values: Sequence[str], content: str) -> list[TemplateMessage]:
    ids = [f"call_{n}ab12cd3" for n in range(len(values))]
    calls = [
        {"id": id, "type": "function", "function": {"name": "needle_tool", "arguments": {_KEY: value}}}
        for id, value in zip(ids, values, strict=True)
    ]  # fmt: skip
    results = [
        {"role": "tool", "content": _RESULT, "tool_name": "needle_tool", "name": "needle_tool", "tool_call_id": id}
        for id in ids
    ]  # fmt: skip
    return [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": content, "tool_calls": calls},
        *results,
    ]


def with_tools_described(
    turns: Sequence[TemplateMessage], tools: Sequence[Mapping[str, Any]], attempt: Attempt
) -> list[TemplateMessage]:
    """The conversation of a DeepSeek model; its template writes calls, but not the tools. They are described in the system message, with
    the text of DeepSeek-V3.1's model card."""
    shown = attempt([{"role": "user", "content": "Hi"}], [_TOOL])
    if shown is None or _TOOL["function"]["name"] in shown:
        return list(turns)
    described = "## Tools\nYou have access to the following tools:\n\n"
    for tool in tools:
        function = tool.get("function", tool)
        described += (
            f"### {function.get('name', '')}\nDescription: {function.get('description', '')}\n\n"
        )
        described += f"Parameters: {_json(function.get('parameters', {}))}\n\n"
    described += (
        "IMPORTANT: ALWAYS adhere to this exact format for tool use:\n"
        f"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>tool_call_name{DEEPSEEK}tool_call_arguments<｜tool▁call▁end｜>"
        "{additional_tool_calls}<｜tool▁calls▁end｜>\n\n"
        "Where:\n- `tool_call_name` must be an exact match to one of the available tools\n"
        "- `tool_call_arguments` must be valid JSON that strictly follows the tool's Parameters Schema\n"
        "- For multiple tool calls, chain them directly without separators or spaces"
    )
    if turns and turns[0]["role"] == "system":
        first = {**turns[0], "content": f"{turns[0]['content']}\n\n{described}"}
        return [first, *turns[1:]]
    return [{"role": "system", "content": described}, *turns]


def adapted(
    turns: Sequence[TemplateMessage], style: CallStyle, source: str
) -> list[TemplateMessage]:
    """The conversation in the form that a template takes; ``source`` is the template, whose family's marks enclose written calls."""
    if style.single:
        turns = list(_one_a_message(turns))
    if style.short_ids:
        turns = list(_with_short_ids(turns))
    if style.nested:
        turns = list(_with_results_inside(turns))
    adapted_turns: list[TemplateMessage] = []
    for turn in _as_spoken(turns) if style.spoken else turns:
        adapted_turns += _adapted_turn(turn, style, source) if turn.get("tool_calls") else [turn]
    return adapted_turns


def _as_spoken(turns: Sequence[TemplateMessage]) -> Iterator[TemplateMessage]:
    """Results as a message of the user: all that follow one another, and the user's own text, in one."""
    at = 0
    while at < len(turns):
        turn = turns[at]
        at += 1
        if turn["role"] == "tool":
            contents = [turn["content"]]
            while at < len(turns) and turns[at]["role"] in ("tool", "user"):
                contents.append(turns[at]["content"])
                at += 1
                if turns[at - 1]["role"] == "user":
                    break
            turn = {"role": "user", "content": "\n\n".join(contents)}
        yield turn


def _with_results_inside(turns: Sequence[TemplateMessage]) -> Iterator[TemplateMessage]:
    """Calls, their results and the answer that follows as one message; the text beside the calls is one before it."""
    at = 0
    while at < len(turns):
        turn = turns[at]
        at += 1
        if not turn.get("tool_calls"):
            yield turn
            continue
        results: list[TemplateMessage] = []
        while at < len(turns) and turns[at]["role"] == "tool":
            results.append(turns[at])
            at += 1
        if turn["content"]:
            yield {"role": turn["role"], "content": turn["content"]}
        content = ""
        follows = turns[at] if at < len(turns) else {"role": ""}
        if results and follows["role"] == "assistant" and not follows.get("tool_calls"):
            content = follows["content"]
            at += 1
        names = _names_of_results(turn["tool_calls"], results)
        inside = [
            {"name": name, "response": _read(result["content"])}
            for name, result in zip(names, results, strict=True)
        ]
        yield {**turn, "content": content, **({"tool_responses": inside} if inside else {})}


def _names_of_results(
    calls: Sequence[Mapping[str, Any]], results: Sequence[TemplateMessage]
) -> Iterator[str]:
    """The tool of each result: as it says, else by the id of its call, else by its place."""
    by_id = {call["id"]: call["function"]["name"] for call in calls if call.get("id")}
    for place, result in enumerate(results):
        at_place = calls[min(place, len(calls) - 1)]["function"]["name"]
        yield result.get("name") or by_id.get(result.get("tool_call_id"), at_place)


def _read(content: str) -> Any:
    """A result as the value that its JSON is, else as a text."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return content


def _adapted_turn(turn: TemplateMessage, style: CallStyle, source: str) -> list[TemplateMessage]:
    """A message with calls. The text beside them is a message before it, where there may be no content."""
    rest = {key: value for key, value in turn.items() if key != "tool_calls"}
    if style.written:
        return [{**rest, "content": turn["content"] + _written(turn["tool_calls"], source)}]
    before: list[TemplateMessage] = []
    if style.no_content:
        before = [rest] if turn["content"] else []
        turn = {**turn, "content": None}
    if not style.as_text:
        return [*before, turn]
    calls = [
        {**call, "function": {**call["function"], "arguments": _json(call["function"]["arguments"])}}
        for call in turn["tool_calls"]
    ]  # fmt: skip
    return [*before, {**turn, "tool_calls": calls}]


def _written(calls: Sequence[Mapping[str, Any]], source: str) -> str:
    writing = (family_of(source) or GENERIC).writing
    objects = [
        {writing.name: call["function"]["name"], writing.arguments: call["function"]["arguments"]}
        for call in calls
    ]
    if writing.shape == "list":
        return f"{writing.before}{_json(objects)}{writing.after}"
    return "\n".join(f"{writing.before}{_json(each)}{writing.after}" for each in objects)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _one_a_message(turns: Sequence[TemplateMessage]) -> Iterator[TemplateMessage]:
    """Each call in a message of its own, its result right behind it. Their ids, or else their order, tell which call
    is theirs."""
    at = 0
    while at < len(turns):
        turn = turns[at]
        at += 1
        calls = list(turn.get("tool_calls") or ())
        if len(calls) < 2:
            yield turn
            continue
        results = []
        while at < len(turns) and turns[at]["role"] == "tool":
            results.append(turns[at])
            at += 1
        for number, call in enumerate(calls):
            content = turn["content"] if number == 0 else ""
            yield {**turn, "content": content, "tool_calls": [call]}
            own = next((r for r in results if "id" in call and r.get("tool_call_id") == call["id"]), None)  # fmt: skip
            if own is None:
                own = next((r for r in results if not r.get("tool_call_id")), None)
            if own is not None:
                results.remove(own)
                yield own
        yield from results


def _with_short_ids(turns: Sequence[TemplateMessage]) -> Iterator[TemplateMessage]:
    """Ids of nine letters and digits, the same for a call and its result; generated where there are none."""
    waiting: list[str] = []  # calls without a result so far
    for at, turn in enumerate(turns):
        if turn.get("tool_calls"):
            calls = [
                {**call, "id": _short(call.get("id") or f"{at}:{number}")}
                for number, call in enumerate(turn["tool_calls"])
            ]
            waiting = [call["id"] for call in calls]
            turn = {**turn, "tool_calls": calls}
        elif turn["role"] == "tool":
            id = _short(turn["tool_call_id"]) if turn.get("tool_call_id") else ""
            id = id or (waiting[0] if waiting else _short(str(at)))
            waiting = [other for other in waiting if other != id]
            turn = {**turn, "tool_call_id": id}
        yield turn


def _short(id: str) -> str:
    if len(id) == 9 and id.isascii() and id.isalnum():
        return id
    return sha256_hex(id.encode("utf-8", "surrogatepass"))[:9]
