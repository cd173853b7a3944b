"""What is printed about chats: lists, the branches of one, the head of one. Pure functions of the API's answers.

Titles and messages may come from anywhere (an import, another program): everything passes through `one_line`, here or in
`terminal.table`, so that no control character reaches the terminal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..human import format_age, one_line
from . import terminal, tree, views
from .chats import Chat, short
from .drawing import Table

_COLUMNS = ("ID", "TITLE", "MODEL", "UPDATED")
_GAP = 4
_LEAST_TITLE = 12
_LONGEST_MODEL = 24


def title(chat: Chat) -> str:
    """A chat's title in one line, marked if the chat is pinned or archived."""
    marks = [name for name in ("pinned", "archived") if chat.get(name)]
    text = flat(str(chat.get("title") or "")) or "(no title)"
    folder = flat(str(chat.get("folder") or ""))
    return f"{f'{folder}/ ' if folder else ''}{text}{''.join(f' [{mark}]' for mark in marks)}"


def flat(text: str) -> str:
    """A text in one line without control characters; line breaks and runs of white space become one space."""
    return one_line(" ".join(text.split()))


def cut(text: str, room: int) -> str:
    """As much of a text as fits into so many cells, with a mark if that is not all."""
    if terminal.width(text) <= room:
        return text
    kept, used = "", 1
    for character in text:
        used += terminal.width(character)
        if used > room:
            break
        kept += character
    return kept.rstrip() + "…"


def listing(chats: Sequence[Chat], now: float, columns: int | None) -> Table:
    """The table of chats; ``now`` in seconds since the epoch. Titles are cut to ``columns`` cells (None: to none)."""
    rows: list[tuple[str, ...]] = [
        (short(str(chat["id"])), title(chat), flat(str(chat.get("model"))), age(chat, now))
        for chat in chats
    ]
    if columns is not None:
        rows = _fitted(rows, columns)
    return Table(_COLUMNS, rows)


def _fitted(table: Sequence[tuple[str, ...]], columns: int) -> list[tuple[str, ...]]:
    """The rows with models and titles cut, so that each is one line."""
    rows = [(id, title, cut(model, _LONGEST_MODEL), when) for id, title, model, when in table]
    others = [(id, model, when) for id, _, model, when in rows]
    header = (_COLUMNS[0], *_COLUMNS[2:])
    widths = [max(map(terminal.width, cells)) for cells in zip(header, *others, strict=True)]
    for gap in (_GAP, 2):
        room = columns - sum(widths) - gap * len(widths)
        if room >= max(terminal.width(title) for _, title, _, _ in rows):
            break
    return [(id, cut(t, max(room, _LEAST_TITLE)), model, when) for id, t, model, when in rows]


def age(chat: Chat, now: float) -> str:
    """When a chat was changed last, relative to now."""
    return format_age(views.age(chat.get("updated_at"), now))


def found(chats: Sequence[Chat], now: float, columns: int, mark: tuple[str, str]) -> Iterator[str]:
    """The lines of a search: of each chat one, and one with the place that was found, its words between the two of ``mark``."""
    for chat in chats:
        end = f"  {flat(str(chat.get('model')))}  {age(chat, now)}"
        begin = f"{short(str(chat['id']))}  "
        room = columns - terminal.width(begin) - terminal.width(end)
        yield f"{begin}{cut(title(chat), max(room, _LEAST_TITLE))}{end}"
        if snippet := _snippet(chat.get("snippet") or (), columns - 4, mark):
            yield f"    {snippet}"


def _snippet(pieces: Sequence[Any], room: int, mark: tuple[str, str]) -> str:
    """The text around what was found, in one line of at most ``room`` cells."""
    text = ""
    for piece in pieces:
        if not isinstance(piece, list) or len(piece) != 2:
            continue
        words = one_line(str(piece[0]).replace("\n", " ").replace("\t", " "))
        kept = cut(words, room) if room > 1 else ""
        room -= terminal.width(kept)
        text += f"{mark[0]}{kept}{mark[1]}" if piece[1] and kept else kept
        if kept != words:
            break
    return text.strip()


def branches(chat: Chat, current: str | None, now: float, columns: int) -> list[str]:
    """The lines that list the branches of a chat by their numbers, each with its last question and the answer to that; the one that
    the message ``current`` is part of, or ends, is marked."""
    messages = chat.get("messages") or ()
    lines = []
    for number, leaf in enumerate(tree.leaves(messages), 1):
        trail = tree.path(messages, leaf["id"])
        mark = "*" if current in [each["id"] for each in trail] else " "
        begin = f"{mark} {number}  "
        when = format_age(views.age(leaf.get("created_at"), now))
        room = max(columns - terminal.width(begin) - terminal.width(when) - 2, _LEAST_TITLE)
        lines.append(f"{begin}{_exchange(trail, room)}  {when}")
    return lines


def _exchange(trail: Sequence[tree.Message], room: int) -> str:
    """The last question of a branch and the beginning of the answer, in so many cells."""
    asked = [each for each in trail if each.get("role") == "user"]
    question = flat(str(asked[-1].get("content") or "")) if asked else ""
    last = trail[-1]
    if asked and last is asked[-1]:
        return cut(question, room)
    begun = cut(question, max(room // 2, room - terminal.width(_text(last)) - 3))
    return f"{begun} > {cut(_text(last), max(room - terminal.width(begun) - 3, 1))}"


def _text(message: tree.Message) -> str:
    return flat(str(message.get("content") or ""))


def head(chat: Chat, now: float) -> Iterator[str]:
    """The lines above the messages of a chat: its title, and what is known of it."""
    yield title(chat)
    facts: Mapping[str, Any] = {
        "id": chat["id"],
        "model": chat.get("model"),
        "changed": age(chat, now),
        "messages": chat.get("n_messages"),
        "system": chat.get("system"),
        "options": " ".join(
            f"{k}={views.plain(v)}" for k, v in (chat.get("options") or {}).items()
        ),
    }
    for name, value in facts.items():
        if value:
            yield f"  {name:<10}{flat(str(value))}"
