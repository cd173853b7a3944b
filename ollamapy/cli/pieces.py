"""The pieces of an answer as they come: from a request whose client holds the conversation, or from a chat that the daemon keeps.

`asked` reads the lines of /api/chat and /api/generate; whoever closes it cancels the request. `Followed` reads the events of an
answer that the daemon writes for a chat. A lost connection does not end such an answer: it is taken up again where it was lost, also
from a daemon that has been restarted. Closed before its end it is stopped, and the daemon keeps the part that there is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, suppress
from typing import Any, NamedTuple

from ..errors import OllamapyError
from . import waiting
from .chats import Chats
from .client import AnsweredError, Client, EventStream, Unreachable
from .events import Event
from .session import Post

Ask = Callable[[Callable[[Client], Any]], Any]
"""Puts a question to the server, which is started again if it is gone."""

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


class Followed:
    """An answer of ``model`` that the daemon writes for the chat ``chat``.

    ``user`` and ``id`` are the ids of the question's and of the answer's message, "" until the daemon has told them; ``title`` is
    the chat's, once the answer is complete; ``rest`` is what had come between the last piece and the stop. Iterating raises
    AnsweredError when the answer fails, Unreachable when the server is gone for good.
    """

    def __init__(self, ask: Ask, chat: str, model: str, stream: EventStream) -> None:
        self._ask = ask
        self._chat = chat
        self._model = model
        self._stream = stream
        self._number = 0  # of the last event: the next stream goes on behind it
        self._heard = time.monotonic()
        self._ended = False  # nothing is left to stop
        self.user = self.id = self.title = ""
        self.rest: Sequence[Piece] = ()

    def __iter__(self) -> Generator[Piece]:
        while not self._ended:
            try:
                yield from self._pieces()
            except AnsweredError:
                self._ended = True
                raise
            except Unreachable:
                if not self.id:
                    self._ended = True
                    raise
            if not self._ended:
                self._take_up()

    def close(self) -> None:
        """Stop the answer, unless it has ended."""
        self._stream.close()
        if not self._ended:
            self._ended = True
            with suppress(OllamapyError):  # the daemon is gone, and the answer with it
                self.rest = self._stopped()

    def _pieces(self) -> Generator[Piece]:
        """The pieces from the stream, as far as it goes."""
        for event in self._stream:
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
                return Piece(waiting=waiting.described(report, self._model))
        return None

    # ---- when the connection is lost, or the user stops

    def _take_up(self) -> None:
        """Go on behind what has come, also with the answer of a daemon that has been restarted. Raises Unreachable when no server
        has had anything to say for PATIENCE seconds."""
        if not self.id:
            self._ended = True
            raise Unreachable("the server broke off before its answer, see: ollamapy daemon logs")
        pause = 0.1
        while True:
            time.sleep(pause)  # a server that accepts and says nothing is not asked without rest
            try:
                self._stream = self._ask(self._rest_of)
                return
            except Unreachable:
                if time.monotonic() > self._heard + PATIENCE:
                    self._ended = True  # it may go on there: whoever comes back sees it
                    raise
            pause = min(pause * 2, 3.0)

    def _rest_of(self, client: Client) -> EventStream:
        return Chats(client).follow(self._chat, self.id, self._number)

    def _stopped(self) -> list[Piece]:
        """Stop the answer; what had come meanwhile."""
        if not self.id:
            self._find()
        if not self.id:
            return []
        self._ask(lambda client: Chats(client).stop(self._chat, self.id))
        self._stream = self._ask(self._rest_of)
        return [piece for piece in self._pieces() if not piece.final]

    def _find(self) -> None:
        """The message of an answer that was stopped before its first event: the newest, if it is being written."""
        chat = self._ask(lambda client: Chats(client).get(self._chat))
        newest = (chat.get("messages") or [_NOTHING])[-1]
        if newest.get("status") == "streaming":
            self.id, self.user = str(newest["id"]), str(newest.get("parent") or "")


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
}
"""Ollama's names of figures -> those of a chat's usage."""


def figures(done: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of an answer that is complete (its ``done`` event or its message), as the last chunk of /api/chat has them."""
    usage = done.get("usage") or {}
    final = {name: usage[own] for name, own in _FIGURES.items() if usage.get(own)}
    if cut := usage.get("truncated_tokens"):
        final["prompt_truncated"] = {"tokens": cut, "messages": usage.get("dropped_messages")}
    return {"done": True, "done_reason": done.get("stop_reason") or "stop", **final}
