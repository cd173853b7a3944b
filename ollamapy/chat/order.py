"""Messages in an order that a certain Jinja template takes.

Programs send system messages in the middle of a conversation, begin with several of them, and send two messages of one role in a
row. Many templates refuse that, or ignore what they do not expect. As in calls.py the template itself is tried, and what it does
not take is rewritten into a form that it takes: nothing is lost. Pure, but for the template that it is given as a function.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from .calls import Attempt, TemplateMessage

SYSTEM_ROLES = ("system", "developer")


@dataclass(frozen=True, slots=True)
class Order:
    """``one_system``: a system message counts only as the first one. ``alternates``: no role has two messages in a row."""

    one_system: bool = False
    alternates: bool = False


def is_unusual(turns: Sequence[TemplateMessage]) -> bool:
    """Whether a template's order matters: there is a later system message, or a role twice in a row."""
    return any(turn["role"] in SYSTEM_ROLES for turn in turns[1:]) or any(
        one["role"] == other["role"] or (one["role"], other["role"]) == ("tool", "user")
        for one, other in pairwise(turns)
    )


def order(attempt: Attempt) -> Order:
    """What the template requires. One that cannot even render a question requires nothing: its own error is the better answer."""

    def takes(*turns: tuple[str, str]) -> bool:
        prompt = attempt([{"role": role, "content": content} for role, content in turns], []) or ""
        return all(content in prompt for _, content in turns)

    first, question, later = ("system", "needle 1"), ("user", "needle 2"), ("system", "needle 3")
    answer, more = ("assistant", "needle 4"), ("user", "needle 5")
    if not takes(question):
        return Order()
    at_the_end, within = (first, question, later), (first, question, answer, later, more)
    return Order(
        one_system=not (takes(*at_the_end) and takes(*within)),
        alternates=not takes(question, more),
    )


def first_system(turns: Sequence[TemplateMessage]) -> list[TemplateMessage]:
    """One system message at most, as the first: those at the beginning are joined, later ones become the user's."""
    leading = 0
    while leading < len(turns) and turns[leading]["role"] in SYSTEM_ROLES:
        leading += 1
    first = [_joined(turns[:leading])] if leading else []
    return first + [
        {**turn, "role": "user"} if turn["role"] in SYSTEM_ROLES else turn
        for turn in turns[leading:]
    ]


def alternating(turns: Sequence[TemplateMessage]) -> list[TemplateMessage]:
    """Messages of one role in a row as one. Text that the user adds to a tool's result comes after the result."""
    found: list[TemplateMessage] = []
    for turn in turns:
        last = found[-1] if found else None
        if last is not None and _continues(last, turn):
            found[-1] = _joined((last, turn))
        else:
            found.append(turn)
    return found


NO_RESULT = "No result."
"""The result of a call that no message answers."""


def completed(turns: Sequence[TemplateMessage]) -> list[TemplateMessage]:
    """A conversation as strict templates want it: it begins with the user, and each call has its result. What is missing
    is added: an empty message of the user, and results that say so. A call at the end needs none: it is being made."""
    leading = 0
    while leading < len(turns) and turns[leading]["role"] in SYSTEM_ROLES:
        leading += 1
    found = list(turns[:leading])
    if leading == len(turns) or turns[leading]["role"] == "assistant":
        found.append({"role": "user", "content": ""})
    waiting: list[Mapping[str, Any]] = []  # calls without a result so far
    for turn in turns[leading:]:
        if turn["role"] == "tool":
            waiting = _still_waiting(waiting, turn.get("tool_call_id"))
        else:
            found += map(_unanswered, waiting)
            waiting = list(turn.get("tool_calls") or ())
        found.append(turn)
    return found


def _still_waiting(calls: Sequence[Mapping[str, Any]], id: str | None) -> list[Mapping[str, Any]]:
    """The calls without the one that a result answers, by its id or else by its order."""
    place = next((at for at, call in enumerate(calls) if id and call.get("id") == id), 0)
    return [call for at, call in enumerate(calls) if at != place]


def _unanswered(call: Mapping[str, Any]) -> TemplateMessage:
    name = call["function"]["name"]
    result = {"role": "tool", "content": NO_RESULT, "tool_name": name, "name": name}
    return {**result, "tool_call_id": call["id"]} if call.get("id") else result


def _continues(last: TemplateMessage, turn: TemplateMessage) -> bool:
    if last.get("tool_calls") or turn.get("tool_calls"):
        return False
    if (last["role"], turn["role"]) == ("tool", "user"):
        return True
    return last["role"] == turn["role"] and turn["role"] in ("user", "assistant")


def _joined(turns: Sequence[TemplateMessage]) -> dict[str, Any]:
    """The first of some messages with the contents of all."""
    content = "\n\n".join(filter(None, (turn["content"] for turn in turns)))
    merged: Mapping[str, Any] = turns[0]
    return {**merged, "content": content}
