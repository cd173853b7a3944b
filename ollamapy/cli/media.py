"""Images, sounds and documents that a prompt names by their paths: found, read, and taken out of the text.

A path begins with "/", "./", "../", "~/", a drive letter or a backslash, where a word may begin, and ends with one of ENDINGS; it
may hold spaces, plain or with the shell's backslash before them, and stand in quotes. What names no file is text like any other. A
model that can neither see nor hear must not be sent the path in its place: the caller asks :func:`check` first. Documents are for
every model: the daemon makes text of them. Text files are not attached: a prompt may well be about a path. Prints nothing.
"""

from __future__ import annotations

import base64
import re
from bisect import bisect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import InvalidRequest, reason
from ..formats.documents.kinds import media_type

SEEN = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".wav", ".mp3", ".flac")
"""Of files that a model must see or hear."""

DOCUMENTS = (".pdf", ".docx")
"""Of files whose text the daemon reads."""

ENDINGS = (*SEEN, *DOCUMENTS)

LARGEST = 100 * 1024 * 1024
"""Bytes of one file (Ollama's limit)."""


_LONGEST, _MOST_TRIES = 4096, 1000
"""Characters of a path, and how many possible paths of a text are looked for: a program's text may be full of slashes."""


class Attached(NamedTuple):
    """A prompt without the paths, and their files: ``images`` (also sounds) as base64, ``documents`` with a name and data, as the
    API has them, ``notes`` a line about each."""

    text: str
    images: tuple[str, ...]
    documents: tuple[Mapping[str, str], ...]
    notes: tuple[str, ...]


class _Found(NamedTuple):
    begin: int
    end: int
    path: Path


def perceives(show: Mapping[str, Any]) -> bool:
    """Whether a model, from its /api/show, takes images or audio."""
    able = {"vision", "audio"} & set(show.get("capabilities") or ())
    return bool(able or show.get("projector_info"))


def check(show: Mapping[str, Any], model: str, text: str) -> None:
    """Raises InvalidRequest if a text names images or sounds and the model, of that /api/show, takes none."""
    found = next((each for each in _found(text) if is_seen(each.path)), None)
    if found and not perceives(show):
        raise InvalidRequest(
            f"model {model!r} cannot see images or hear audio, and the prompt names '{found.path}': leave the file out, or use "
            "a model with the capability vision or audio (ollamapy show MODEL lists them)"
        )


def is_seen(path: Path) -> bool:
    """Whether a file is one that a model must see or hear."""
    return path.suffix.lower() in SEEN


def check_reader(version: Mapping[str, Any], found: Attached) -> None:
    """Raises InvalidRequest if there are documents, and the server, of that /api/version, is another one than ours."""
    if found.documents and "ollamapy" not in version:
        raise InvalidRequest(
            f"the server is not ollamapy and reads no documents: leave '{found.documents[0]['name']}' out, or copy its text"
        )


def names_files(text: str) -> bool:
    """Whether there is something to attach."""
    return next(_found(text), None) is not None


def begins_with_file(text: str) -> bool:
    """Whether the text's first words are such a path, so that its "/" begins no command."""
    first = next(_found(text), None)
    return first is not None and not text[: first.begin].strip()


def attach(text: str) -> Attached:
    """Read the files that a prompt names. Raises InvalidRequest for a file that is too large, of another kind or cannot be read."""
    kept, images, documents, notes = [], [], [], []
    at = 0
    for begin, end, path in _found(text):
        data = _read(path)
        kind = _kind(data) if is_seen(path) else "document"
        if not kind:
            raise InvalidRequest(
                f"invalid file type: '{path}' is not a JPEG, PNG, WebP, GIF, BMP, WAV, MP3 or FLAC file"
            )
        kept.append(text[at:begin])
        at = end
        content = base64.b64encode(data).decode()
        if kind == "document":
            documents.append({"name": path.name, "data": content})
        else:
            images.append(content)
        notes.append(f"Added {kind} '{path}'")
    whole = "".join([*kept, text[at:]]).strip()
    return Attached(whole, tuple(images), tuple(documents), tuple(notes))


_BEGIN = re.compile(r"""(?<![^\s"'(\[])(["']?)((?:[A-Za-z]:)?(?:\.{0,2}/|~/|\.{0,2}\\))(?=\S)""")
_END = re.compile(rf"(?:{'|'.join(map(re.escape, ENDINGS))})(?!\w)", re.IGNORECASE)
_ESCAPED = re.compile(r"\\([ ()\[\]{}$&;'\"\\*?~!#<>|`])")


def _found(text: str) -> Iterator[_Found]:
    """The paths of files that there are, from left to right, quotes included."""
    ends = [ending.end() for ending in _END.finditer(text)]
    at, tried = 0, 0
    while ends and (begun := _BEGIN.search(text, at)):
        begin, at = begun.start(2), begun.end()
        line_end = text.find("\n", at, at + _LONGEST)
        furthest = line_end if line_end >= 0 else at + _LONGEST
        for end in ends[bisect(ends, at) : bisect(ends, furthest)]:
            if (tried := tried + 1) > _MOST_TRIES:
                return
            path = named_file(text[begin:end])
            if path is not None:
                quoted = bool(begun[1]) and text.startswith(begun[1], end)
                at = end + quoted
                yield _Found(begin - quoted, at, path)
                break


def named_file(written: str) -> Path | None:
    """The file of that name, as it stands or with the shell's backslashes undone."""
    written = written.strip()
    if len(written) > 2 and written[0] == written[-1] and written[0] in "'\"":
        written = written[1:-1]
    for name in dict.fromkeys((written, _ESCAPED.sub(r"\1", written))):
        try:
            path = Path(name).expanduser()
            if path.is_file():
                return path
        except (OSError, RuntimeError, ValueError):  # too long a name, no such user, a NUL
            pass
    return None


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > LARGEST:
            raise InvalidRequest(f"file size exceeds maximum limit (100MB): '{path}'")
        return path.read_bytes()
    except OSError as error:
        raise InvalidRequest(f"couldn't read '{path}': {reason(error)}") from None


def _kind(data: bytes) -> str:
    """Whether a file is an "image" or "audio", by its content; "" for another one."""
    return media_type(data).partition("/")[0]
