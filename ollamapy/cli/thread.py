"""A chat that the daemon keeps, as one terminal talks in it: it begins with its first message, and other terminals and the page may
go on with it meanwhile.

The daemon owns the conversation; `session.Session` says where in it this terminal stands, and `Thread` brings the two together:
settings that were changed here go to the daemon before the next question, what was changed elsewhere comes here. Prints nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import OllamapyError, reason
from . import tree
from .chats import Chats, is_same_model, short
from .client import AnsweredError, Client
from .pieces import Ask, Followed, Sent
from .session import Ending, Message, Session

_SETTINGS = ("model", "system", "options", "format", "think", "keep_alive")
"""The fields of a chat that are settings of its answers."""

_LONGEST_NAME = 200
_UPLOAD_PIECE = 256 * 1024


class Thread:
    """One chat of the daemon that ``ask`` reaches. ``temporary``: it is never written to a disk.

    ``id`` is "" before the first message, ``title`` what the user wants or the daemon has given; ``files`` go with the next message;
    ``running`` is the id of an answer at the head that another terminal asked for and that is being written, "" for none.
    """

    def __init__(self, ask: Ask, *, temporary: bool = False) -> None:
        self._ask = ask
        self._wants_temporary = temporary
        self.leave()

    @property
    def short(self) -> str:
        """The id as lists show it."""
        return short(self.id)

    def set_temporary(self, temporary: bool) -> None:
        """Whether the chats that begin from now on are temporary."""
        self._wants_temporary = temporary
        if not self.id:
            self.temporary = temporary

    def leave(self) -> None:
        """Stand before the first message of a new chat."""
        self.id = self.title = ""
        self.temporary = self._wants_temporary
        self.files: tuple[Mapping[str, Any], ...] = ()
        self.running = ""
        self._settings: Mapping[str, Any] = {}  # as the daemon has them
        self._head: str | None = None  # as the daemon has it
        self._is_new = False  # begun with the question that is being answered

    # ---- going on with a chat

    def enter(self, id: str) -> dict[str, Any]:
        """Go on with a chat of the daemon, which is returned."""
        chat: dict[str, Any] = self._ask(lambda client: Chats(client).get(id))
        self.leave()
        self._take(chat)
        return chat

    def news(self, session: Session) -> tuple[Session, Sequence[Message]]:
        """The session with what has been changed elsewhere, and the messages that have come there. Raises OllamapyError if the
        chat was deleted."""
        if not self.id:
            return session, ()
        try:
            chat = self._ask(lambda client: Chats(client).get(self.id))
        except AnsweredError as error:
            if error.status != 404:
                raise
            return self._lost(session), ()
        own = settings(session)
        changed = {
            name: chat.get(name)
            for name in _SETTINGS
            if _is_same(name, own[name], self._settings.get(name))
            and not _is_same(name, own[name], chat.get(name))
        }
        stood = session.messages[-1].id if session.messages else None
        moved = chat.get("head") != self._head and stood == self._head
        self._take(chat)
        session = adopted(session, changed)
        if not moved:
            return session, ()
        messages = shown_path(chat)
        ours = {each.id for each in session.messages}
        return replace(session, messages=messages), [m for m in messages if m.id not in ours]

    def _lost(self, session: Session) -> Session:
        """After the end of its daemon a temporary chat is only here: it is begun anew from that."""
        if not self.temporary:
            raise OllamapyError(
                f"the chat {self.short} was deleted, continue with a new one: /clear"
            )
        title, files = self.title, self.files
        self.leave()
        self.title, self.files = title, files
        messages = tuple(replace(each, id="") for each in session.messages)
        return replace(session, messages=messages)

    def _take(self, chat: Mapping[str, Any]) -> None:
        """Note the state of the chat at the daemon."""
        self.id, self.title = str(chat["id"]), str(chat.get("title") or "")
        self.temporary = bool(chat.get("temporary"))
        self._settings = {name: chat.get(name) for name in _SETTINGS}
        self._head = chat.get("head")
        if "messages" in chat:
            newest = tree.path(chat["messages"], self._head)[-1:]
            self.running = next((str(m["id"]) for m in newest if m["status"] == "streaming"), "")

    # ---- asking

    def answer(self, session: Session, model: str = "") -> Followed:
        """The answer to the last message of a session: to a new question, or once more to an old one; behind an answer that is only a
        part, its continuation. From another model than the chat's if one is given. Nothing is sent before it is iterated."""
        self._asked = session
        return Followed(self._ask, lambda: self._send(session, model))

    def _send(self, session: Session, model: str) -> Sent:
        self._asked = session = self._prepared(session)
        *before, last = session.messages
        if last.role == "assistant":
            body: dict[str, Any] = {"continue": last.id}
        elif last.id:
            body = {"parent": last.id}
        else:
            body = {"content": content(last), "parent": before[-1].id if before else None}
        if model:
            body["model"] = model
        id = self.id
        events = self._ask(lambda client: Chats(client).send(id, body))
        return Sent(id, model or session.model, events)

    def _prepared(self, session: Session) -> Session:
        """The session with all but its last message and all settings at the daemon, where the chat begins now if it has not yet."""
        self._is_new = not self.id and len(session.messages) == 1
        self._settle(settings(session))
        *before, last = session.messages
        kept: list[Message] = []
        for message in before:
            kept.append(message if message.id else self._store(message, kept))
        return replace(session, messages=(*kept, last))

    def _settle(self, wanted: Mapping[str, Any]) -> None:
        """Begin the chat, or tell the daemon the settings that have been changed here."""
        if self.id:
            changed = {
                name: value
                for name, value in wanted.items()
                if not _is_same(name, value, self._settings.get(name))
            }
            if changed:
                self._ask(lambda client: Chats(client).change(self.id, **changed))
        else:
            begun = {name: value for name, value in wanted.items() if value not in (None, "", {})}
            begun |= {"temporary": True} if self.temporary else {}
            begun |= {"title": self.title} if self.title else {}
            self._take(self._ask(lambda client: Chats(client).create(begun)))
        self._settings = wanted

    def _store(self, message: Message, before: Sequence[Message]) -> Message:
        """A message that only this terminal has, given to the daemon."""
        body = {
            "role": message.role,
            "content": content(message),
            "parent": before[-1].id if before else None,
        }
        stored = self._ask(lambda client: Chats(client).store(self.id, body))
        return replace(message, id=str(stored["id"]))

    def answered(self, answer: Followed) -> Session:
        """The session that was answered, with the ids that the daemon has given; the thread is then at the answer."""
        session = self._asked
        *before, last = session.messages
        if last.role == "user" and not last.id:
            session = replace(session, messages=(*before, replace(last, id=answer.user)))
        self._head, self.files = answer.id, ()
        self.title = answer.title or self.title
        return session

    def followed(self, session: Session) -> Followed:
        """The answer that is being written at the head of the chat, behind a session, from its beginning."""
        id, running = self.id, self.running
        self._asked, self.running = session, ""

        def send() -> Sent:
            events = self._ask(lambda client: Chats(client).follow(id, running))
            return Sent(id, session.model, events)

        return Followed(self._ask, send)

    def take_back(self, answer: Followed) -> None:
        """Delete a question that got no answer; a chat that has no other message goes with it."""
        if answer.id in [each.id for each in self._asked.messages]:
            return  # it was to be continued
        if self._is_new and self.id:
            self._ask(lambda client: Chats(client).delete(self.id))
            title, files = self.title, self.files
            self.leave()
            self.title, self.files = title, files
        elif message := answer.user or answer.id:
            self._ask(lambda client: Chats(client).delete_message(self.id, message))

    # ---- the chat itself

    def read(self) -> dict[str, Any]:
        """The chat with all its messages, as the daemon has it now."""
        return self._ask(lambda client: Chats(client).get(self.id))  # type: ignore[no-any-return]

    def rename(self, title: str) -> None:
        """Give the chat a title, now or when it begins."""
        if self.id:
            self._ask(lambda client: Chats(client).change(self.id, title=title))
        self.title = title

    def switch(self, message: str) -> tuple[Message, ...]:
        """Make the branch that ends with a message the one that is shown; its messages."""
        self._ask(lambda client: Chats(client).change(self.id, head=message))
        chat = self.read()
        self._take(chat)
        return shown_path(chat)

    def attach(self, path: Path) -> Mapping[str, Any]:
        """Upload a file, which goes with the next message; the daemon's description of it. Raises OllamapyError."""
        try:
            size = path.stat().st_size
            with path.open("rb") as file:
                found = self._ask(lambda client: self._attach(client, path, size, file))
        except OSError as error:
            raise OllamapyError(f"couldn't read '{path}': {reason(error)}") from error
        kind = "image" if str(found.get("media_type")).startswith("image/") else "file"
        part = {name: found.get(name) for name in ("digest", "name", "media_type")}
        self.files = (*self.files, {"type": kind, **part})
        return found  # type: ignore[no-any-return]

    def _attach(self, client: Client, path: Path, size: int, file: BinaryIO) -> dict[str, Any]:
        file.seek(0)  # a second time for a daemon that has been restarted
        pieces = iter(lambda: file.read(_UPLOAD_PIECE), b"")
        return Chats(client).attach(file_name(path), size, pieces, temporary=self.temporary)

    def forget(self) -> None:
        """At the end: a temporary chat is deleted, and one that has no message."""
        if self.id and (self.temporary or not self._head):
            self._ask(lambda client: Chats(client).delete(self.id))


# ---- between a chat's JSON and a session


def settings(session: Session) -> dict[str, Any]:
    """The settings of a session, as a chat has them."""
    return {
        "model": session.model,
        "system": session.system,
        "options": session.chat_options(),
        "format": session.format,
        "think": session.think,
        "keep_alive": session.keep_alive,
    }


def _is_same(name: str, one: Any, other: Any) -> bool:
    """Whether two values of a setting are the same."""
    if name == "model":
        return is_same_model(str(one), str(other))
    return bool(one == other) or (not one and not other and False not in (one, other))


def adopted(session: Session, chat: Mapping[str, Any]) -> Session:
    """The session with those settings that a chat names. ``show`` stays: it is the caller's to read another model's."""
    options = chat.get("options") if "options" in chat else session.parameters
    parameters = {
        str(name): tuple(value) if isinstance(value, list) else value
        for name, value in (options or {}).items()
    }
    return replace(
        session,
        model=str(chat.get("model") or session.model),
        system=str(chat.get("system", session.system) or ""),
        parameters=parameters,
        format=chat.get("format", session.format),
        think=chat.get("think", session.think),
        keep_alive=chat.get("keep_alive", session.keep_alive),
    )


def continued(session: Session, chat: Mapping[str, Any]) -> Session:
    """The session with the messages of a chat, and with its settings where it has none of its own. The model stays."""
    found = adopted(session, chat)
    names = ("model", "system", "format", "think", "keep_alive")
    own = {name: value for name in names if (value := getattr(session, name)) not in (None, "")}
    parameters = {**found.parameters, **session.parameters}
    return replace(found, messages=shown_path(chat), parameters=parameters, **own)


def shown_path(chat: Mapping[str, Any]) -> tuple[Message, ...]:
    """The messages of the branch that a chat shows."""
    return tuple(map(message_of, tree.path(chat.get("messages") or (), chat.get("head"))))


def message_of(stored: Mapping[str, Any]) -> Message:
    """A message of a chat as one of a session."""
    files = tuple(part for part in stored.get("parts") or () if part.get("type") != "text")
    role = stored.get("role")
    return Message(
        role if role in ("user", "assistant", "system", "tool") else "system",
        str(stored.get("content") or ""),
        _ending(stored),
        str(stored.get("thinking") or ""),
        files=files,
        id=str(stored["id"]),
    )


def _ending(stored: Mapping[str, Any]) -> Ending:
    endings: dict[Any, Ending] = {"stopped": "stopped", "failed": "broken off"}
    cut = stored.get("status") == "done" and stored.get("stop_reason") == "length"
    return "cut off" if cut else endings.get(stored.get("status"), "")


def file_name(path: Path) -> str:
    """The name of a file as messages can have it: printable, and not too long."""
    name = path.name.encode("utf-8", "replace").decode()
    return "".join(each for each in name if each.isprintable())[-_LONGEST_NAME:] or "file"


def content(message: Message) -> str | list[Mapping[str, Any]]:
    """What is sent for a message: its text, or parts where files go with it."""
    images = [{"type": "image", "data": data} for data in message.images]
    documents = [{"type": "file", **each} for each in message.documents]
    if not images and not documents and not message.files:
        return message.content
    text = [{"type": "text", "text": message.content}] if message.content else []
    return [*text, *message.files, *documents, *images]
