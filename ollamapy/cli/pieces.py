"""The pieces of an answer as they come: from a request whose client holds the conversation, or from a chat that the daemon keeps.

`asked` reads the lines of /api/chat and /api/generate; whoever closes it cancels the request. `Followed` reads the events of an
answer that the daemon writes for a chat. A lost connection does not end such an answer: it is taken up again where it was lost, also
from a daemon that has been restarted. Closed before its end it is stopped, and the daemon keeps the part that there is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from itertools import chain
from typing import Any, NamedTuple

from ..errors import OllamapyError
from . import waiting
from .chats import Chats
from .client import AnsweredError, Client, EventStream, Unreachable
from .events import Event
from .session import Post

Ask = Callable[[Callable[[Client], Any]], Any]
"""Puts a question to the server, which is started again if it is gone."""

SEND_PATIENCE = 10.0
"""Seconds for which an interrupt waits until it is known whether a question was sent."""

PATIENCE = 30.0
"""Seconds for which a server that does not answer any more is asked for the rest of an answer."""

_NOTHING: Mapping[str, Any] = {}


class Piece(NamedTuple):
    """A piece of an answer: text, thinking, a remark, or what the answer waits for, in words, the longest text first. The last has
    the figures, named as Ollama names them, with ``done``."""

    text: str = ""
    thinking: str = ""
    remark: str = ""
    waiting: tuple[str, ...] = ()
    final: Mapping[str, Any] = _NOTHING


def asked(request: Post, chunks: Generator[Mapping[str, Any]]) -> Generator[Piece]:
    """The pieces of an answer from the lines of /api/chat or /api/generate."""
    with closing(chunks):
        for chunk in chunks:
            final = chunk if chunk.get("done") else _NOTHING
            waits = waiting.described(chunk.get("progress"), str(request.body.get("model")))
            yield Piece(request.text(chunk), request.thinking(chunk), "", waits, final)


class Sent(NamedTuple):
    """A question that was sent to a chat: who answers, and the events of the answer."""

    chat: str
    model: str
    events: EventStream


class _Sending(threading.Thread):
    """Sends a question and waits for the first event of its answer, which names both messages. An interrupt of the user, which comes
    to the main thread, so never leaves open whether there is an answer that must be stopped."""

    def __init__(self, send: Callable[[], Sent]) -> None:
        super().__init__(daemon=True)
        self._send = send
        self.sent: Sent | None = None
        self.events: Iterator[Event] = iter(())
        self.error: BaseException | None = None
        self.is_begun = False
        self._done = threading.Event()

    def begin(self) -> None:
        """Send it, and wait until the first event is here, or an error."""
        self.is_begun = True  # also where the interrupt comes amid the next line
        self.start()
        self._done.wait()

    def wait(self) -> None:
        """After an interrupt: until it is known whether the question was sent."""
        self._done.wait(SEND_PATIENCE)

    def run(self) -> None:
        """In a thread of its own."""
        try:
            self.sent = self._send()
            events = iter(self.sent.events)
            self.events = chain([event for event in [next(events, None)] if event], events)
        except BaseException as error:  # it is raised where the answer is read
            self.error = error
        finally:
            self._done.set()


class Followed:
    """An answer that the daemon writes for a chat; ``send`` asks for it, once its pieces are iterated.

    ``user`` and ``id`` are the ids of the question's and of the answer's message, "" until the daemon has sent them; ``title`` is
    the chat's, once the answer is complete; ``rest`` is what had come between the last piece and the stop. Iterating raises
    AnsweredError when the answer fails, Unreachable when the server is gone for good.
    """

    def __init__(self, ask: Ask, send: Callable[[], Sent]) -> None:
        self._ask = ask
        self._sending = _Sending(send)
        self._events: Iterator[Event] = iter(())
        self._number = 0  # of the last event: the next stream goes on behind it
        self._heard = time.monotonic()
        self._ended = False  # nothing is left to stop
        self.user = self.id = self.title = ""
        self.rest: Sequence[Piece] = ()

    def __iter__(self) -> Generator[Piece]:
        self._sending.begin()
        while not self._ended:
            try:
                if self._sending.error and not self.id:
                    raise self._sending.error
                yield from self._pieces()
            except Unreachable:
                if not self.id:
                    self._ended = True
                    raise
            except Exception:
                self._ended = True
                raise
            if not self._ended:
                self._take_up()

    def close(self) -> None:
        """Stop the answer, unless it has ended."""
        if not self._sending.is_begun:
            return
        self._sending.wait()
        if not self._ended:
            with suppress(OllamapyError):  # the daemon is gone, and the answer with it
                self.rest = self._stopped()
        self._ended = True

    @property
    def _sent(self) -> Sent:
        assert self._sending.sent is not None
        return self._sending.sent

    def _pieces(self) -> Generator[Piece]:
        """The pieces from the stream, as far as it goes."""
        for event in chain(self._sending.events, self._events):
            self._heard = time.monotonic()
            self._number = event.number or self._number
            if piece := self._read(event):
                yield piece
            if self._ended:
                return

    def _read(self, event: Event) -> Piece | None:
        data = event.data
        match event.name:
            case "message":
                self.user = str(data.get("user") or self.user)
                self.id = str(data.get("assistant") or "")
            case "text":
                return Piece(str(data.get("text") or ""))
            case "thinking":
                return Piece(thinking=str(data.get("text") or ""))
            case "tool_call":
                return Piece(remark=_call(data))
            case "done":
                self._ended = True
                self.title = str(data.get("title") or "")
                return Piece(final=figures(data))
            case "error":
                raise _failure(data)
            case "queued" | "loading" | "prefill":
                report = {"type": event.name, **data}
                return Piece(waiting=waiting.described(report, self._sent.model))
        return None

    # ---- when the connection is lost, or the user stops

    def _take_up(self) -> None:
        """Go on behind what has come, also with the answer of a daemon that has been restarted.

        Raises Unreachable when no server has answered for PATIENCE seconds.
        """
        if not self.id:
            self._ended = True
            raise Unreachable("the server broke off before its answer, see: ollamapy daemon logs")
        pause = 0.1
        while True:
            time.sleep(pause)  # a server that accepts and says nothing is not asked without rest
            try:
                self._events = iter(self._ask(self._rest_of))
                return
            except Unreachable:
                if time.monotonic() > self._heard + PATIENCE:
                    self._ended = (
                        True  # it may go on there: the next client to open the chat sees it
                    )
                    raise
            pause = min(pause * 2, 3.0)

    def _rest_of(self, client: Client) -> EventStream:
        return Chats(client).follow(self._sent.chat, self.id, self._number)

    def _stopped(self) -> list[Piece]:
        """Stop the answer; what had come meanwhile."""
        if not self.id and (first := next(self._sending.events, None)):
            self._read(first)
        if not self.id:
            return []
        self._ask(lambda client: Chats(client).stop(self._sent.chat, self.id))
        self._sending.events, self._events = iter(()), iter(self._ask(self._rest_of))
        return [piece for piece in self._pieces() if not piece.final]


def _failure(error: Mapping[str, Any]) -> AnsweredError:
    message = str(error.get("message") or "the answer failed")
    return AnsweredError(message, 500, str(error.get("code") or ""))


def _call(call: Mapping[str, Any]) -> str:
    """A tool call in a line."""
    import json

    arguments = call.get("arguments")
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return f"[calls {call.get('name')} {text}]\n"


_FIGURES = {
    "prompt_eval_count": "prompt_tokens",
    "prompt_eval_duration": "prompt_duration",
    "eval_count": "completion_tokens",
    "eval_duration": "completion_duration",
    "total_duration": "total_duration",
    "load_duration": "load_duration",
    "context_length": "context_length",
}
"""Ollama's names of figures -> those of a chat's usage."""


def figures(done: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of an answer that is complete (its ``done`` event or its message), as the last chunk of /api/chat has them."""
    usage = done.get("usage") or {}
    final = {name: usage[own] for name, own in _FIGURES.items() if usage.get(own)}
    if notes := usage.get("notes"):
        final["notes"] = notes
    if cut := usage.get("truncated_tokens"):
        final["prompt_truncated"] = {"tokens": cut, "messages": usage.get("dropped_messages")}
    return {"done": True, "done_reason": done.get("stop_reason") or "stop", **final}
