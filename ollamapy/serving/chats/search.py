"""What is searched for in conversations, and what is shown of a message that has it. Pure.

A query is words, all of which must occur, each at the beginning of a word; words in quotation marks must follow each other.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from .schema import indexed
from .values import Snippet

MOST_WORDS = 20
AROUND = 60
"""Characters that are shown before the first match; three times as many after it."""

_LOOKED_AT = 200_000  # characters of a message in which the snippet is looked for
_TERM = re.compile(r'"([^"]*)"|([^\s"]+)')


def terms_of(query: str) -> list[tuple[str, bool]]:
    """The words of a query, and the phrases of its quotation marks (True); at most MOST_WORDS."""
    found = []
    for phrase, word in _TERM.findall(query.replace("\0", " ")):  # the index's strings end at a NUL
        text = phrase or word
        if any(character.isalnum() for character in text):
            found.append((" ".join(text.split()), bool(phrase)))
    return found[:MOST_WORDS]


def match_of(query: str) -> str:
    """The query in the language of the full-text index; "" where it has no word."""
    terms = []
    for text, is_phrase in terms_of(query):
        quoted = '"' + indexed(text).replace('"', '""') + '"'
        terms.append(quoted if is_phrase else f"{quoted} *")
    return " AND ".join(terms)


def snippet(text: str, query: str) -> Snippet:
    """The part of a text around the first word of a query, in one line; its beginning where no word is found."""
    text = text[:_LOOKED_AT]
    words = [_words(term) for term, _ in terms_of(query)]
    pattern = re.compile("|".join(word for word in words if word) or r"(?!)")
    found = pattern.search(folded := _folded(text))
    start = max(0, found.start() - AROUND) if found else 0
    end = (found.end() if found else 0) + 3 * AROUND
    pieces: list[tuple[str, bool]] = [("…", False)] if start else []
    at = start
    for match in pattern.finditer(folded, start, end):
        pieces += [(text[at : match.start()], False), (text[match.start() : match.end()], True)]
        at = match.end()
    pieces += [(text[at:end], False), ("…" if end < len(text) else "", False)]
    return _joined((re.sub(r"\s+", " ", piece), hit) for piece, hit in pieces)


def _words(term: str) -> str:
    """A pattern for the words of a term, whatever stands between them; a script without spaces has no beginnings of words."""
    parts = re.findall(r"\w+", _folded(indexed(term)))
    begins = r"(?<!\w)" if indexed(term) == term else ""
    return begins + r"\W*".join(map(re.escape, parts)) if parts else ""


def _folded(text: str) -> str:
    """A text as it is compared: lower case, without accents. As long as the given one."""
    if text.isascii():
        return text.lower()
    return "".join(map(_fold, text))


def _fold(character: str) -> str:
    plain = unicodedata.normalize("NFD", character.lower())
    return plain[0] if plain else character


def _joined(pieces: Iterable[tuple[str, bool]]) -> Snippet:
    """The pieces without empty ones; neighbours of one kind are one."""
    found: list[tuple[str, bool]] = []
    for text, hit in pieces:
        if not text:
            continue
        if found and found[-1][1] == hit:
            text = found.pop()[0] + text
        found.append((text, hit))
    return tuple(found)
