"""What a query means, and the piece of a message that a search shows."""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamapy.serving.chats.schema import MEMORY, open_database
from ollamapy.serving.chats.search import AROUND, MOST_WORDS, match_of, snippet, terms_of


@pytest.mark.parametrize(
    ("query", "terms"),
    [
        ("sky blue", [("sky", False), ("blue", False)]),
        ('"blue sky" why', [("blue sky", True), ("why", False)]),
        ('"blue   sky"', [("blue sky", True)]),
        ('an "open end', [("an", False), ("open", False), ("end", False)]),
        ("... -- ?", []),
        ('""', []),
        ("", []),
        ("C++ is", [("C++", False), ("is", False)]),
        ("a\0b", [("a", False), ("b", False)]),
    ],
)
def test_the_words_of_a_query(query: str, terms: list[tuple[str, bool]]) -> None:
    assert terms_of(query) == terms


def test_a_query_has_a_bounded_number_of_words() -> None:
    assert len(terms_of("word " * 1000)) == MOST_WORDS


@pytest.mark.parametrize(
    ("query", "match"),
    [
        ("sky", '"sky" *'),
        ("blue sky", '"blue" * AND "sky" *'),
        ('"blue sky"', '"blue sky"'),
        ("天空", '" 天  空 " *'),
        ("NEAR(a)", '"NEAR(a)" *'),
        ("?", ""),
    ],
)
def test_a_query_in_the_language_of_the_index(query: str, match: str) -> None:
    assert match_of(query) == match


@pytest.fixture(scope="module")
def connection() -> sqlite3.Connection:
    opened, _ = open_database(MEMORY)
    return opened


@given(query=st.text(max_size=40))
def test_no_query_is_wrong_to_the_index(connection: sqlite3.Connection, query: str) -> None:
    """Operators, quotes and column filters of FTS5 are words like any other."""
    if match := match_of(query):
        sql = "SELECT count(*) FROM message_words WHERE message_words MATCH ?"
        connection.execute(sql, (match,)).fetchone()


@pytest.mark.parametrize(
    ("text", "query", "pieces"),
    [
        ("Why is the sky blue?", "sky", (("Why is the ", False), ("sky", True), (" blue?", False))),
        ("Ein Café", "cafe", (("Ein ", False), ("Café", True))),
        ("Skyline, sky", "SKY", (("Sky", True), ("line, ", False), ("sky", True))),
        ("a risky thing", "sky", (("a risky thing", False),)),
        ("one\n\n  two", "two", (("one ", False), ("two", True))),
        ("蓝色的天空很美", "天空", (("蓝色的", False), ("天空", True), ("很美", False))),
        ("blue, sky", '"blue sky"', (("blue, sky", True),)),
        ("nothing here", "else", (("nothing here", False),)),
        ("", "word", ()),
    ],
)
def test_the_snippet_of_a_text(text: str, query: str, pieces: tuple[tuple[str, bool], ...]) -> None:
    assert snippet(text, query) == pieces


def test_a_snippet_is_what_is_around_the_first_match() -> None:
    found = snippet("x" * 500 + " needle " + "y" * 500, "needle")
    assert found[0] == ("…" + "x" * (AROUND - 1) + " ", False)
    assert found[1] == ("needle", True)
    assert found[2] == (" " + "y" * (3 * AROUND - 1) + "…", False)


@given(text=st.text(max_size=300), query=st.text(max_size=20))
def test_a_snippet_is_a_part_of_its_text(text: str, query: str) -> None:
    shown = "".join(piece for piece, _ in snippet(text, query)).strip("…")
    assert "".join(shown.split()) in "".join(text.split())
    assert len(shown) <= len(query) * 3 + 4 * AROUND + len(text)
