"""The chats that a daemon keeps: its /api/chats, and how a user names one of them. Prints nothing.

An Ollama and older daemons have no chats: `are_kept` tells. A chat's id is long and meant for programs; people write its
beginning, without "chat_", or "-" for the chat that was changed last.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from ..errors import InvalidName, OllamapyError
from ..names import Name
from .client import AnsweredError, Client, EventStream
from .closest import closest

Chat = Mapping[str, Any]
"""A chat as /api/chats describes it."""

LATEST = "-"
"""What a user writes for the chat that was changed last."""

PREFIX = "chat_"
SHORT = 8
"""Characters of an id, without its prefix, that are shown."""

NO_CHATS = "the server keeps no chats, see: ollamapy daemon status"
"""The error where an Ollama or an older daemon answers."""

_WHOLE = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{22}}")
_PAGE = 100


def short(id: str) -> str:
    """An id as lists show it; with its prefix where it would look like an option."""
    bare = id.removeprefix(PREFIX)[:SHORT]
    return PREFIX + bare if bare.startswith("-") else bare


class Chats:
    """/api/chats of one server. Raises as `Client` does."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.notice = ""

    def are_kept(self) -> bool:
        """Whether this server keeps chats at all; ``notice`` is then its message about them, of a damaged database for example."""
        try:
            found = self._client.object("GET", "/api/chats?limit=1")
            self.notice = str(found.get("notice") or "")
            return "chats" in found
        except AnsweredError as error:
            if error.status in (404, 405):
                return False
            raise

    def check(self) -> None:
        """Raises OllamapyError if this server keeps no chats."""
        if not self.are_kept():
            raise OllamapyError(NO_CHATS)

    def every(self, query: str = "", folder: str = "", archived: str = "false") -> Iterator[Chat]:
        """The chats, pinned ones first, then those changed last; those that match ``query``, the best first. ``archived``: "false",
        "true" or "all"."""
        wanted = {"q": query, "folder": folder, "archived": archived, "limit": str(_PAGE)}
        # What is no UTF-8 in an argument is a lone surrogate here
        wanted = {n: v.encode("utf-8", "replace").decode() for n, v in wanted.items() if v}
        before = ""
        while True:
            page = {**wanted, "before": before} if before else wanted
            found = self._client.object("GET", f"/api/chats?{urlencode(page)}")
            yield from found.get("chats") or ()
            before, last = str(found.get("next") or ""), before
            if not before or before == last:
                return

    def folders(self) -> list[str]:
        """The folders in which chats are."""
        found = self._client.object("GET", "/api/chats?limit=1&archived=all")
        return [str(each) for each in found.get("folders") or ()]

    def create(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Begin a chat."""
        return self._client.object("POST", "/api/chats", settings)

    def get(self, id: str) -> dict[str, Any]:
        """A chat with its ``messages``, all branches of them."""
        return self._client.object("GET", _path(id))

    def change(self, id: str, **fields: Any) -> dict[str, Any]:
        """Change some fields of a chat."""
        return self._client.object("PATCH", _path(id), fields)

    def delete(self, id: str) -> None:
        """Delete a chat."""
        self._client.object("DELETE", _path(id))

    def delete_all(self) -> None:
        """Delete every chat."""
        self._client.object("DELETE", "/api/chats?confirm=all")

    def delete_message(self, id: str, message: str) -> None:
        """Delete a message, and those that follow it."""
        self._client.object("DELETE", _path(id, "messages", message))

    def send(self, id: str, message: Mapping[str, Any]) -> EventStream:
        """Add a message and follow the answer that it gets."""
        return self._client.events("POST", _path(id, "messages"), message)

    def store(self, id: str, message: Mapping[str, Any]) -> dict[str, Any]:
        """Add a message that gets no answer."""
        return self._client.object("POST", _path(id, "messages"), {**message, "answer": False})

    def follow(self, id: str, message: str, after: int = 0) -> EventStream:
        """The events of an answer after the number ``after``, those to come included."""
        return self._client.events("GET", _path(id, "messages", message, "events"), after=after)

    def stop(self, id: str, message: str) -> dict[str, Any]:
        """End an answer that is being written; the message as it then is."""
        return self._client.object("POST", _path(id, "messages", message, "stop"), {})

    def attach(
        self, name: str, size: int, pieces: Iterable[bytes], *, temporary: bool
    ) -> dict[str, Any]:
        """Upload a file that messages can name by its digest; a ``temporary`` one is not written to a disk."""
        query = {"name": name, "temporary": str(temporary).lower()}
        path = f"/api/attachments?{urlencode(query)}"
        return self._client.upload(path, size, pieces, "application/octet-stream")

    def export(self, id: str = "", form: str = "json") -> Iterator[bytes]:
        """A chat as a file, in pieces: "json" or "markdown"; without an id all of them, as JSON."""
        if not id:
            return self._client.content("/api/chats/export")
        return self._client.content(f"{_path(id, 'export')}?{urlencode({'format': form})}")

    def import_(self, size: int, pieces: Iterable[bytes]) -> dict[str, Any]:
        """Add the chats of an export: ``chats`` are their ids, ``skipped`` those that could not be read."""
        return self._client.upload("/api/chats/import", size, pieces, "application/json")

    # ---- names

    def find(self, text: str, *, besides: str = "") -> str:
        """The id of the chat that a user names; the latest is another one than ``besides``. Raises OllamapyError for none and for
        several."""
        if text == LATEST:
            return self.latest(besides=besides)
        if _WHOLE.fullmatch(text) and self._has(text):
            return text
        return chosen(text, self.every(archived="all"))

    def _has(self, id: str) -> bool:
        try:
            return bool(self.get(id))
        except AnsweredError as error:
            if error.status == 404:
                return False
            raise

    def latest(self, model: str = "", *, besides: str = "") -> str:
        """The id of the chat that was changed last, of a model if one is given. Raises OllamapyError if there is none."""
        newest: Chat | None = None
        for chat in self.every():
            if chat["id"] == besides or (
                model and not is_same_model(str(chat.get("model")), model)
            ):
                continue
            if newest is None or str(chat.get("updated_at")) > str(newest.get("updated_at")):
                newest = chat
            if not chat.get("pinned"):
                break  # the others are older
        if newest is None:
            of = f" with {model}" if model else ""
            raise OllamapyError(f"there is no chat{of} yet, see: ollamapy chats ls")
        return str(newest["id"])


def chosen(text: str, known: Iterable[Chat]) -> str:
    """The id of the one chat whose id begins with a text. Raises OllamapyError for none and for several."""
    bare = text.removeprefix(PREFIX)
    every = list(known)
    found = [chat for chat in every if bare and _bare(chat).startswith(bare)]
    if len(found) == 1:
        return str(found[0]["id"])
    if found:
        like = ", ".join(short(str(chat["id"])) for chat in found[:5])
        raise OllamapyError(f"{text!r} names {len(found)} chats ({like}), write more of the id")
    meant = closest(bare[:SHORT], {_bare(chat)[:SHORT].lower(): 0 for chat in every})
    near = next((chat for chat in every if meant and _bare(chat).lower().startswith(meant)), None)
    guess = f" (did you mean '{short(str(near['id']))}', {str(near['title'])!r}?)" if near else ""
    raise OllamapyError(f"there is no chat {text!r}{guess}, see: ollamapy chats ls")


def _bare(chat: Chat) -> str:
    return str(chat["id"]).removeprefix(PREFIX)


def is_same_model(one: str, other: str) -> bool:
    """Whether two texts name the same model: a tag may be left out."""
    try:
        return Name.parse(one).display == Name.parse(other).display
    except InvalidName:
        return one == other


def _path(id: str, *more: str) -> str:
    return "/".join(["/api/chats", *(quote(part, safe="") for part in (id, *more))])
