"""The HTML beside an answer's events: complete at the end, from any place, and at most ten times a second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import pytest

from ollamapy.serving.chats.events import Event
from ollamapy.web.page.html_events import PERIOD, after_place, with_html
from ollamapy.web.page.markdown import rendered
from tests.conftest import HELLO
from tests.served import Daemon
from tests.web.chats.talk import ask, events, new_chat, said, send

TEXT = "# A\n\nSome *text*.\n\n- a\n- b\n\n```python\nx = 1\n```\n"


async def told(pieces: list[str], pause: float = 0.0) -> AsyncGenerator[Event, None]:
    number = 1
    yield Event("message", {"assistant": "m"}, number)
    for piece in pieces:
        await asyncio.sleep(pause)
        number += len(piece)
        yield Event("text", {"text": piece}, number)
    yield Event("done", {}, number)


async def collected(found: AsyncGenerator[Event, None]) -> list[Event]:
    return [event async for event in found]


def blocks(found: list[Event]) -> list[str]:
    """The final blocks; checks that each is final once, in order, and the last word about its index."""
    html = [event.data for event in found if event.name == "html"]
    final = [data["index"] for data in html if data["final"]]
    assert final == list(range(len(final)))
    for at, data in enumerate(html):
        assert (
            not any(later["index"] <= data["index"] for later in html[at + 1 :])
            or not data["final"]
        )
    return [data["html"] for data in html if data["final"]]


def test_the_blocks_are_complete_before_the_answer_ends() -> None:
    found = asyncio.run(collected(with_html(told(list(TEXT)))))
    assert blocks(found) == rendered(TEXT)
    assert [event.name for event in found][-1] == "done"
    assert [e for e in found if e.name != "html"] == asyncio.run(collected(told(list(TEXT))))


@pytest.mark.parametrize("after", range(len(TEXT) + 2))
def test_from_any_place_the_blocks_are_those_of_the_whole_text(after: int) -> None:
    pieces = [TEXT[at : at + 7] for at in range(0, len(TEXT), 7)]
    found = asyncio.run(collected(with_html(told(pieces), after=after)))
    assert blocks(found) == rendered(TEXT)
    text = "".join(event.data["text"] for event in found if event.name == "text")
    assert text == TEXT[max(after - 1, 0) :]
    assert (found[0].name == "message") == (after == 0)


def test_a_continued_answer_has_the_html_of_what_it_had_before() -> None:
    found = asyncio.run(collected(with_html(told([TEXT[20:]]), before=TEXT[:20])))
    assert blocks(found) == rendered(TEXT)


def test_the_open_block_comes_at_most_ten_times_a_second() -> None:
    async def run() -> tuple[int, float]:
        clock = asyncio.get_running_loop().time
        started = clock()
        found = await collected(with_html(told(["word "] * 300, pause=0.001)))
        return sum(event.name == "html" for event in found), clock() - started

    count, seconds = asyncio.run(run())
    assert 2 <= count <= seconds / PERIOD + 2  # the first at once, and the last at the end


def test_the_last_text_is_shown_although_nothing_follows_it() -> None:
    async def run() -> str:
        async def stalled() -> AsyncGenerator[Event, None]:
            yield Event("text", {"text": "one "}, 5)
            yield Event("text", {"text": "two"}, 8)
            await asyncio.Event().wait()

        async with aclosing(with_html(stalled())) as found:
            async for event in found:
                if event.name == "html" and "two" in event.data["html"]:
                    return str(event.data["html"])
        raise AssertionError

    async def bounded() -> str:
        async with asyncio.timeout(20):
            return await run()

    assert asyncio.run(bounded()) == "<p>one two</p>"


def test_an_error_of_the_events_is_raised() -> None:
    async def failing() -> AsyncGenerator[Event, None]:
        raise ValueError("no such chat")
        yield

    with pytest.raises(ValueError, match="no such chat"):
        asyncio.run(collected(with_html(failing())))


@pytest.mark.parametrize(
    ("event", "place", "rest"),
    [
        (("text", {"text": "abc"}, 4), 1, "abc"),
        (("text", {"text": "abc"}, 4), 2, "bc"),
        (("text", {"text": "abc"}, 4), 4, None),
        (("tool_call", {"name": "f"}, 5), 4, ""),
        (("tool_call", {"name": "f"}, 5), 5, None),
        (("queued", {"position": 1}, None), 9, ""),
    ],
)
def test_what_of_an_event_comes_after_a_place(event: Any, place: int, rest: str | None) -> None:
    found = after_place(Event(*event), place)
    assert (found and found.data.get("text", "")) == rest


def test_a_chat_with_html(daemon: Daemon) -> None:
    id = new_chat(daemon)
    answer = daemon.open("POST", f"/api/chats/{id}/messages?html=true", {"content": "Hi"})
    found = list(events(answer))
    assert found[0][0] == "message" and found[-1][0] == "done" and said(found) == HELLO
    [html] = [data["html"] for name, data in found if name == "html" and data["final"]]
    message = found[0][1]["assistant"]
    stored = ask(daemon, "POST", f"/api/chats/{id}/html", {"messages": [message, "msg_unknown"]})
    assert stored == {message: [html]}
    again = list(
        events(daemon.open("GET", f"/api/chats/{id}/messages/{message}/events?html=true&after=3"))
    )
    assert said(again) == HELLO[2:] and again[-1][0] == "done"
    assert {data["html"] for name, data in again if name == "html"} == {html}
    too_many = ask(daemon, "POST", f"/api/chats/{id}/html", {"messages": ["m"] * 101}, 400)
    assert "at most 100" in too_many["error"]
    assert not [name for name, _ in send(daemon, id) if name == "html"]
