"""The places in an answer: whatever has come, a reader gets exactly the rest."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from ollamapy.serving.chats.events import FIRST, Event, Transcript, replay
from ollamapy.serving.chats.values import ChatMessage, Kind
from ollamapy.types import ToolCall

EMPTY = ChatMessage(id="m", parent=None, role="assistant", content="", status="done", created_at="")

texts = st.text("aé😀\n", max_size=5000)
pieces = st.lists(
    st.tuples(st.sampled_from(["thinking", "text"]), texts)
    | st.tuples(st.just("tool_call"), st.builds(ToolCall, st.text(max_size=3), st.just({}))),
    max_size=8,
)


def filled(given: list[tuple[Kind, Any]]) -> Transcript:
    transcript = Transcript(EMPTY)
    for kind, value in given:
        transcript.add(kind, value)
    return transcript


def letters(events: list[Event]) -> list[tuple[str, Any]]:
    """Each character and each call by itself, with its kind."""
    return [
        (event.name, each)
        for event in events
        for each in (event.data["text"] if "text" in event.data else [event.data["name"]])
    ]


@given(pieces, st.integers(0, 50))
def test_the_rest_after_any_place(given: list[tuple[Kind, Any]], skipped: int) -> None:
    transcript = filled(given)
    everything = letters(transcript.since(FIRST))
    assert len(everything) == transcript.end - FIRST
    rest = transcript.since(FIRST + skipped)
    assert letters(rest) == everything[skipped:]
    numbers = [event.number or 0 for event in rest]
    assert numbers == sorted(set(numbers)) and numbers[-1:] in ([], [transcript.end])


@given(pieces)
def test_a_stored_answer_has_the_same_events(given: list[tuple[Kind, Any]]) -> None:
    transcript = filled(given)
    stored = msgspec.structs.replace(
        EMPTY,
        content=transcript.text("text"),
        thinking=transcript.text("thinking"),
        tool_calls=transcript.tool_calls,
        order=transcript.order,
    )
    for place in (0, FIRST, transcript.end // 2, transcript.end):
        *found, last = replay("c", "T", stored, place)
        if place == 0:
            assert (found[0].name, found[0].number) == ("message", FIRST)
            del found[0]
        assert letters(found) == letters(transcript.since(max(place, FIRST)))
        assert (last.name, last.number) == ("done", transcript.end)
