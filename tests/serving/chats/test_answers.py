"""Answers that are being written: followers, flushes and endings, with a database whose steps the test releases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any

import pytest

from ollamapy.errors import ChatsFull, LoadFailed, OllamapyError
from ollamapy.serving import background
from ollamapy.serving.chats.answers import Answers, Writing
from ollamapy.serving.chats.events import Event
from ollamapy.serving.chats.store import ENDED, ChatStore
from ollamapy.serving.chats.values import Chat, ChatMessage
from ollamapy.types import Chunk, Prefill, Queued, ToolCall, Usage


class Database:
    """What is saved and finished, in order; ``released`` lets a finish go on, ``errors`` are raised first."""

    def __init__(self) -> None:
        self.saved: list[ChatMessage] = []
        self.finished: list[ChatMessage] = []
        self.saving = asyncio.Event()
        self.finishing = asyncio.Event()
        self.released = asyncio.Event()
        self.released.set()
        self.errors: list[OllamapyError] = []

    async def save(self, store: ChatStore, messages: Sequence[ChatMessage]) -> None:
        if self.errors:
            raise self.errors.pop()
        assert all(message.status == "streaming" for message in messages)
        self.saved += messages
        self.saving.set()

    async def finish(self, store: ChatStore, chat: Chat, message: ChatMessage) -> str:
        if self.errors:
            raise self.errors.pop()
        self.finishing.set()
        await self.released.wait()
        self.finished.append(message)
        return "Title"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "FLUSH_SECONDS", 0.001)
    monkeypatch.setattr(background, "RETRY_SECONDS", 0.001)


def run(test: Callable[[Answers, Database], Awaitable[None]]) -> None:
    async def inside() -> None:
        async with asyncio.timeout(20):
            database = Database()
            answers = Answers(database.save, database.finish)
            await test(answers, database)
            await answers.close()

    asyncio.run(inside())


def writing(*, temporary: bool = False, **fields: Any) -> Writing:
    chat = Chat(id="chat_1", model="m", created_at="", updated_at="", temporary=temporary)
    given = {"id": "msg_1", "parent": "msg_0", "content": "", "status": "streaming", **fields}
    message = ChatMessage(role="assistant", created_at="", **given)
    return Writing(None, chat, message, "msg_0")  # type: ignore[arg-type]


class Model:
    """Chunks that the test sends; an exception ends them."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Chunk | Exception | None] = asyncio.Queue()
        self.closed = False

    def say(self, *chunks: Chunk | Exception | None) -> None:
        for chunk in chunks:
            self.queue.put_nowait(chunk)

    async def chunks(self) -> AsyncGenerator[Chunk, None]:
        try:
            while (chunk := await self.queue.get()) is not None:
                if isinstance(chunk, Exception):
                    raise chunk
                yield chunk
        finally:
            self.closed = True


LAST = Chunk(finish_reason="stop", usage=Usage(prompt_tokens=3, completion_tokens=2))


async def read(answer: Writing, after: int = 0) -> list[tuple[str, Any, int | None]]:
    def shown(event: Event) -> Any:
        return event.data.get("text", event.data.get("status", event.data.get("position")))

    return [(event.name, shown(event), event.number) async for event in answer.follow(after)]


def test_an_answer_from_its_queue_to_its_end() -> None:
    async def test(answers: Answers, database: Database) -> None:
        model, answer = Model(), writing()
        answers.start(answer, model.chunks())
        reader = asyncio.create_task(read(answer))
        model.say(Chunk(waiting=Queued(2)))
        await asyncio.sleep(0.01)  # so that the news is read before it is old
        model.say(
            Chunk(waiting=Prefill(0.5, 10, 0)),
            Chunk(thinking="hm"),
            Chunk("one "),
            Chunk("two"),
            Chunk(tool_calls=(ToolCall("t", {}),)),
            LAST,
            None,
        )
        found = await reader
        assert found[:2] == [("message", None, 1), ("queued", 2, None)]
        texts = [each for each in found if each[0] in ("thinking", "text")]
        assert "".join(text for name, text, _ in texts if name == "text") == "one two"
        assert found[-1] == ("done", "done", 11) and found[-2][0] == "tool_call"
        [stored] = database.finished
        assert (stored.content, stored.thinking, stored.stop_reason, stored.usage and stored.usage.context_used) == (
            "one two", "hm", "tool_calls", 5,
        )  # fmt: skip
        assert stored.tool_calls[0].id.startswith("call_")
        assert answers.get("msg_1") is None

    run(test)


def test_an_answer_of_a_temporary_chat_ends_when_nobody_follows_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ollamapy.serving.chats.answers.ABANDONED_SECONDS", 0.05)

    async def test(answers: Answers, database: Database) -> None:
        kept, left, followed = Model(), Model(), Model()
        answers.start(writing(id="msg_kept"), kept.chunks())
        gone, here = writing(id="msg_left", temporary=True), writing(id="msg_2", temporary=True)
        answers.start(gone, left.chunks())
        answers.start(here, followed.chunks())
        left.say(Chunk("half"))
        reader = asyncio.create_task(read(here))
        async with aclosing(gone.follow()) as events:
            assert [(await anext(events)).name for _ in range(2)] == ["message", "text"]
            await asyncio.sleep(0.1)
            assert not left.closed, "it is followed"
        await gone.ended.wait()
        [stored] = database.finished
        assert (stored.id, stored.status, stored.content) == ("msg_left", "stopped", "half")
        assert left.closed and not kept.closed and not followed.closed
        followed.say(LAST, None)
        assert (await reader)[-1][0] == "done"

    run(test)


def test_followers_come_and_go_at_their_own_pace() -> None:
    async def test(answers: Answers, database: Database) -> None:
        model, answer = Model(), writing()
        answers.start(answer, model.chunks())
        slow = answer.follow()
        assert (await anext(slow)).name == "message"
        model.say(*(Chunk(character) for character in "abcdef"))
        await asyncio.sleep(0.01)
        leaver = answer.follow(1)
        assert (await anext(leaver)).data == {"text": "abcdef"}
        await leaver.aclose()
        late = asyncio.create_task(read(answer, 4))
        model.say(Chunk("g"), LAST, None)
        rest = await late
        assert "".join(text for name, text, _ in rest if name == "text") == "defg"
        assert [event.data.get("text") async for event in slow] == ["abcdefg", None], "one event"

    run(test)


def test_no_flush_comes_after_the_ending() -> None:
    async def test(answers: Answers, database: Database) -> None:
        model, answer = Model(), writing()
        answers.start(answer, model.chunks())
        database.released.clear()
        model.say(Chunk("one"), LAST, None)
        await database.finishing.wait()
        saved = len(database.saved)
        await asyncio.sleep(0.02)  # many flushes
        assert len(database.saved) == saved
        database.released.set()
        await answer.ended.wait()

    run(test)


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (LoadFailed("no room"), "load_failed", "no room"),
        (RuntimeError("bug"), "internal_error", "internal error"),
    ],
)
def test_an_answer_that_fails(error: Exception, code: str, text: str) -> None:
    async def test(answers: Answers, database: Database) -> None:
        model, answer = Model(), writing()
        answers.start(answer, model.chunks())
        model.say(Chunk("half"), error)
        found = await read(answer)
        assert found[-1] == ("error", "failed", 5)
        [stored] = database.finished
        assert (stored.content, stored.status) == ("half", "failed")
        assert stored.error and stored.error.code == code and text in stored.error.message

    run(test)


def test_stop_before_anything_has_begun() -> None:
    async def test(answers: Answers, database: Database) -> None:
        model, answer = Model(), writing(content="before")
        answers.start(answer, model.chunks())
        await asyncio.gather(answers.stop([answer]), answers.stop([answer]))
        [stored] = database.finished
        assert (stored.content, stored.status, stored.stop_reason) == (
            "before",
            "stopped",
            "cancelled",
        )
        assert (await read(answer, 7))[-1] == ("done", "stopped", 7)

    run(test)


def test_an_answer_that_is_stopped_has_its_figures_so_far() -> None:
    async def test(answers: Answers, database: Database) -> None:
        model, answer = Model(), writing()
        answers.start(answer, model.chunks())
        read = Usage(prompt_tokens=3, context_length=100)
        model.say(Chunk("one", prompt_usage=read, completion_tokens=1))
        model.say(Chunk(" two", completion_tokens=2))
        await database.saving.wait()
        assert database.saved[-1].usage, "also where the daemon is killed now"
        await answers.stop([answer])
        [stored] = database.finished
        usage = stored.usage
        assert usage and (usage.prompt_tokens, usage.completion_tokens, usage.context_used) == (
            3,
            2,
            5,
        )

    run(test)


def test_the_end_of_the_daemon() -> None:
    async def test(answers: Answers, database: Database) -> None:
        model, answer = Model(), writing()
        answers.start(answer, model.chunks())
        model.say(Chunk("half"))
        reader = asyncio.create_task(read(answer))
        await asyncio.sleep(0.01)
        await answers.close()
        assert (await reader)[-1][:2] == ("error", "failed")
        [stored] = database.finished
        assert (stored.content, stored.error) == ("half", ENDED) and model.closed

    run(test)


def test_a_database_that_fails_for_a_while() -> None:
    async def test(answers: Answers, database: Database) -> None:
        model, answer = Model(), writing()
        answers.start(answer, model.chunks())
        database.errors = [ChatsFull("full") for _ in range(5)]
        model.say(Chunk("one"))
        await database.saving.wait()
        database.errors = [ChatsFull("full") for _ in range(3)]
        model.say(LAST, None)
        assert (await read(answer))[-1][0] == "done"
        assert database.finished[0].content == "one"

    run(test)
