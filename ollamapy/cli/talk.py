"""A conversation in the terminal: ask, print the answer as it comes, and stand anywhere in the conversation.

`Talk` owns the conversation (a `session.Session`, replaced at every step), and asks the server. Where the server keeps chats, the
conversation is one of them (`thread.Thread`), from its first message on. An older daemon or an Ollama keeps none; a base model's
conversation is one running text. Those are held here, and go with every request.

An error leaves the conversation as it was before the question, or with the part of the answer that had come. When the daemon is gone
it is started again, where `run` would have started it. Ctrl-C while an answer comes stops it: its part is kept in the conversation,
and marked "[stopped]" on the screen; a question that was stopped before the first word is taken back.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from typing import Any, TypeVar

from ..errors import InvalidRequest, OllamapyError
from ..names import Name
from . import media, terminal, views, waiting
from .ask import Look
from .chats import NO_CHATS
from .client import CONNECT_TIMEOUT, AnsweredError, Client, Stream, Unreachable
from .drawing import complain
from .launch import Launcher
from .pieces import Followed, asked
from .printer import Printer, Received, Source, end, put
from .screen import Screen, open_screen
from .session import Message, Post, Session
from .thread import Thread

T = TypeVar("T")

_SHOWN = 10
"""Messages of a chat that are shown when it is gone on with."""


class Talk:
    """One conversation at a time, over ``client``.

    ``look`` is how answers are shown, ``verbose`` whether their figures are; ``used`` are the tokens of the conversation (None after
    a part of an answer), ``context`` the room that the loaded model has for it, 0 = not known. ``is_kept``: the server keeps chats,
    unwritten ones if ``temporary``.
    """

    def __init__(
        self,
        launcher: Launcher,
        client: Client,
        session: Session,
        look: Look,
        *,
        verbose: bool,
        is_kept: bool,
        temporary: bool = False,
    ) -> None:
        self._launcher = launcher
        self.client = client
        self._is_kept = is_kept
        self.thread = Thread(self.ask, temporary=temporary)
        self.session = session
        self.look = look
        self.verbose = verbose
        self.used: int | None = 0
        self.context = 0
        self._room = 0  # as the model is loaded

    @property
    def is_kept(self) -> bool:
        """Whether the daemon keeps this conversation."""
        return self._is_kept and (self.session.joins or not self.session.is_base)

    def check_kept(self) -> None:
        """Raises OllamapyError if the daemon keeps no chats with this model."""
        if not self._is_kept:
            raise OllamapyError(NO_CHATS)
        if not self.is_kept:
            raise OllamapyError(
                f"{self.session.model} has no chat template, so that its texts are not kept as chats"
            )

    # ---- the server

    def ask(self, question: Callable[[Client], T]) -> T:
        """Ask the server; when nothing listens there any more, wait for a restart, else start the daemon again, and ask that."""
        try:
            return question(self.client)
        except Unreachable as error:
            if not error.refused:
                raise
            restarted, given = (
                self._launcher.awaits_restart(),
                self._launcher.settings.address_given,
            )
            if given and not restarted:
                raise
        self.client = self._launcher.connect(preload=self.session.model)
        return question(self.client)

    def open(self, request: Post) -> Stream:
        """Send a request that carries the conversation itself."""
        body = waiting.asking(request.body)
        return self.ask(lambda client: (client.chat if request.chat else client.generate)(body))

    def _chunks(self, request: Post) -> Generator[dict[str, Any]]:
        """The answer. A daemon that is being restarted refuses new questions: they wait for the next one."""
        begun = False
        try:
            with closing(self.open(request)) as stream:
                for chunk in stream:
                    begun = begun or "progress" not in chunk
                    yield chunk
            return
        except AnsweredError as error:
            if begun or error.status != 503 or not self._launcher.awaits_restart():
                raise
        with closing(self.open(request)) as stream:
            yield from stream

    # ---- asking

    def say(self, line: str) -> None:
        """Send a message, and print the answer as it comes. A base model's next story is a chat of its own; an empty line goes on
        with one that is only begun."""
        self.follow()
        session = self._with_message(line)
        if self.is_kept and session.is_base and (line or not session.messages):
            self.clear()
            session = replace(session, messages=session.messages or (Message("user", ""),))
        self.answer(session)

    def _with_message(self, line: str) -> Session:
        """The conversation with a line, and with the files that it names. Raises InvalidRequest for a model or a server that takes
        none."""
        files = self.thread.files
        if self.session.is_base or not media.names_files(line):
            return self.session.with_message(line, files=files)
        media.check(self.session.show, self.session.model, line)
        found = media.attach(line)
        if found.documents:
            media.check_reader(self.ask(lambda client: client.version()), found)
        for note in found.notes:
            terminal.remark(note)
        return self.session.with_message(found.text, found.images, files, found.documents)

    def answer(self, session: Session, other: Session | None = None) -> None:
        """Get an answer to the end of a conversation, from the model of ``other`` if that is given; both join the conversation."""
        screen = self.screen(session)
        received, followed = self._receive(session, other or session, screen)
        self._take(session, received, followed)
        if received.text or not received.failure:
            end(screen, received.ending, bool(received.text))
        if received.failure:
            raise received.failure
        if received.repeats:
            terminal.remark(views.repeating("/set parameter num_predict -1"))
        if received.final:
            report_context(
                received.final if other or not followed else self._with_growth(received.final)
            )
            self._account(received.final)

    def _receive(
        self, session: Session, answering: Session, screen: Screen
    ) -> tuple[Received, Followed | None]:
        """Print an answer; what has come, and from where if the daemon keeps it."""
        if not self.is_kept:
            request = answering.request()
            return self._print(asked(request, self._chunks(request)), session, screen), None
        if session.think and not thinks(answering.show):
            raise InvalidRequest(f'"{answering.model}" does not support thinking')
        model = "" if answering is session else answering.model
        followed = self.thread.answer(session, model)
        received = self._print(followed, session, screen)
        refused = isinstance(received.failure, AnsweredError) and received.failure.status == 503
        if refused and not followed.id and self._launcher.awaits_restart():
            followed = self.thread.answer(session, model)
            received = self._print(followed, session, screen)
        return received, followed

    def _print(self, source: Source, session: Session, screen: Screen) -> Received:
        printer = Printer(
            screen,
            hides_thinking=self.look.hides_thinking,
            bounded="num_predict" not in session.parameters,
            strips=session.is_base,
        )
        received = printer.print(source, f"waiting for {session.model}")
        if isinstance(source, Followed):
            printer.add(source.rest)
        return received

    def _take(self, session: Session, received: Received, followed: Followed | None) -> None:
        """Add what has come of an answer to the conversation; a question that got nothing is taken back."""
        if received.is_kept:
            if followed:
                session = self.thread.answered(followed)
            id = followed.id if followed else ""
            self.session = session.with_answer(
                received.text, received.ending, received.thinking, id
            )
            self.used = None
        elif followed and not isinstance(received.failure, Unreachable):
            with suppress(OllamapyError):
                self.thread.take_back(followed)

    def _with_growth(self, final: Mapping[str, Any]) -> Mapping[str, Any]:
        """The figures of a chat's answer, and whether the context has grown."""
        before, now = self._room, int(final.get("context_length") or 0)
        return (
            {**final, "context_grown": {"from": before, "to": now}} if 0 < before < now else final
        )

    def _account(self, final: Mapping[str, Any]) -> None:
        """Record the tokens of an answer."""
        self.used = (final.get("prompt_eval_count") or 0) + (final.get("eval_count") or 0)
        self._look_up_context()
        if self.verbose:
            print(views.statistics(final), file=sys.stderr)

    def _look_up_context(self) -> None:
        """The room that the conversation has: what is loaded, or what of it a parameter asks for."""
        try:
            name = Name.parse(self.session.model).display
            loaded = {
                str(model.get("name")): model for model in self.client.ps(timeout=CONNECT_TIMEOUT)
            }
        except OllamapyError:
            return
        self._room = int(loaded.get(name, {}).get("context_length") or 0)
        self.context = min(self._room, self.session.wanted_context or self._room)

    # ---- where the conversation stands

    def begin(self, session: Session) -> None:
        """Take a loaded model's session; show what its conversations begin with, and that it is a base model."""
        self.clear()
        self.session, self.context, self._room = session, 0, 0
        self._look_up_context()
        self.show(
            [
                Message(each["role"], str(each.get("content") or ""))
                for each in session.show.get("messages") or ()
                if each.get("role") in ("user", "assistant")
            ]
        )
        if session.is_base:
            note = self.screen(session)
            note.remark(
                f"{session.model} has no chat template: it continues text. "
                "Write how it begins, or press Enter for a story."
            )
            end(note, "", True)

    def enter(self, session: Session) -> None:
        """Go on with a chat, which ``thread`` has entered: show its last messages, and an answer that is being written."""
        self.session, self.context, self.used, self._room = session, 0, None, 0
        self._look_up_context()
        before = len(session.messages) - _SHOWN
        if before > 0:
            terminal.remark(f"({before} earlier messages: ollamapy chats show {self.thread.short})")
        self._show_news(session.messages[-_SHOWN:])

    def follow(self) -> None:
        """Take in, and show, what has come to the chat elsewhere."""
        if not self.is_kept:
            return
        before = self.session
        session, news = self.thread.news(before)
        if session.model != before.model:
            show = self.ask(lambda client: client.show(session.model))
            session = replace(session, show=show)
        self.session = session
        if news:
            terminal.remark("This chat has gone on elsewhere:")
            self._show_news(news)

    def _show_news(self, messages: Sequence[Message]) -> None:
        """Print messages; an answer that is being written is followed to its end."""
        running = self.thread.running
        self.show([each for each in messages if each.id != running])
        if not running:
            return
        kept = tuple(each for each in self.session.messages if each.id != running)
        session, screen = replace(self.session, messages=kept), self.screen(self.session)
        followed = self.thread.followed(session)
        received = self._print(followed, session, screen)
        if received.is_kept:
            self._take(session, received, followed)
        end(screen, received.ending, bool(received.text))
        if received.failure:
            complain(str(received.failure))

    def switch(self, leaf: str) -> None:
        """Stand at the end of another branch, whose own messages are shown."""
        before = {each.id for each in self.session.messages}
        self.session = replace(self.session, messages=self.thread.switch(leaf))
        self.used = None
        self._show_news([each for each in self.session.messages if each.id not in before])

    def undo(self) -> Message | None:
        """Go back to before the user's last message, which is returned; the daemon keeps it as a branch."""
        self.follow()
        asked = self.session.at_question()
        if not asked.messages:
            return None
        self.session = replace(asked, messages=asked.messages[:-1])
        self.used = None if self.session.messages else 0
        return asked.messages[-1]

    def clear(self) -> None:
        """Forget the conversation; the next message begins a new chat."""
        with suppress(OllamapyError):
            self.thread.forget()
        self.thread.leave()
        self.session, self.used = replace(self.session, messages=()), 0

    def leave(self) -> None:
        """At the end of the program: a chat that is not to be kept goes."""
        with suppress(OllamapyError):
            self.thread.forget()

    # ---- on the screen

    def screen(self, session: Session) -> Screen:
        """Where an answer is shown: a base model writes text, and a format is JSON, both no markdown."""
        draws = self.look.draws and not session.is_base and session.format is None
        return open_screen(draws=draws, wraps=self.look.wraps)

    def show(self, messages: Sequence[Message]) -> None:
        """Print messages as they stood on the screen when they came."""
        for message in messages:
            put(message, self.screen(self.session))


def thinks(show: Mapping[str, Any]) -> bool:
    """Whether a model, from its /api/show, can think before it answers."""
    return "thinking" in (show.get("capabilities") or ())


def report_context(final: Mapping[str, Any]) -> None:
    """Print what an answer reports of the context on stderr."""
    for note in views.notes(final):
        terminal.remark(note)
