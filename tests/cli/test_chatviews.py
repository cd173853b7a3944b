"""What is printed about chats: one line each, cut to the terminal, and nothing that drives it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamapy.cli import chatviews, terminal

NOW = 1_750_000_000.0
UPDATED = "2025-06-15T13:06:40Z"  # two hours before


def chat(**fields: Any) -> dict[str, Any]:
    return {
        "id": "chat_x7Gk2Lm9QpRsTuVw",
        "title": "Sky",
        "model": "llama3.2:latest",
        "updated_at": UPDATED,
        **fields,
    }


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({}, "Sky"),
        ({"title": ""}, "(no title)"),
        ({"title": "two\n lines"}, "two lines"),
        ({"title": "\x1b[31mred"}, r"\x1b[31mred"),
        ({"pinned": True, "archived": True}, "Sky [pinned] [archived]"),
        ({"folder": "work"}, "work/ Sky"),
        ({"folder": "a\x07"}, r"a\x07/ Sky"),
    ],
)
def test_a_title(fields: dict[str, Any], shown: str) -> None:
    assert chatviews.title(chat(**fields)) == shown


@pytest.mark.parametrize(
    ("text", "room", "shown"),
    [
        ("short", 5, "short"),
        ("longer", 5, "long…"),
        ("a bc", 3, "a…"),
        ("天空很蓝", 8, "天空很蓝"),
        ("天空很蓝", 7, "天空很…"),
        ("天空很蓝", 6, "天空…"),
        ("", 0, ""),
    ],
)
def test_a_text_is_cut_to_cells(text: str, room: int, shown: str) -> None:
    assert chatviews.cut(text, room) == shown


@given(text=st.text(max_size=40), room=st.integers(1, 30))
def test_what_is_cut_fits(text: str, room: int) -> None:
    flat = chatviews.flat(text)
    assert terminal.width(chatviews.cut(flat, room)) <= room
    assert "\n" not in flat and "\x1b" not in flat


def test_the_list_for_a_terminal_has_one_line_a_chat() -> None:
    chats = [chat(title="word " * 50, model="m" * 60), chat(title="Short", model="small")]
    table = chatviews.listing(chats, NOW, 80)
    assert table.header == ("ID", "TITLE", "MODEL", "UPDATED")
    for row in table.rows:
        assert sum(map(terminal.width, row)) <= 80
    [long, short] = table.rows
    assert long[1].endswith("…") and long[2] == "m" * 23 + "…"
    assert short[1:] == ("Short", "small", "2 hours ago")


def test_the_list_for_a_pipe_is_not_cut() -> None:
    [row] = chatviews.listing([chat(title="word " * 50)], NOW, None).rows
    assert row[1] == ("word " * 50).strip()


def test_a_narrow_terminal_still_shows_a_piece_of_the_title() -> None:
    [row] = chatviews.listing([chat(title="a title of some length")], NOW, 20).rows
    assert row[1] == "a title of…"


def test_the_lines_of_a_search() -> None:
    snippet = [["Why is the ", False], ["sky", True], [" blue?\nSo", False]]
    lines = list(chatviews.found([chat(snippet=snippet), chat()], NOW, 60, ("<", ">")))
    assert lines[0].endswith("Sky  llama3.2:latest  2 hours ago")
    assert lines[1] == "    Why is the <sky> blue? So"
    assert len(lines) == 3, "a chat whose title was found has no second line"


@pytest.mark.parametrize(
    ("pieces", "shown"),
    [
        ([["a" * 40, False], ["hit", True]], "    " + "a" * 15 + "…"),
        ([["a" * 12, False], ["needle", True], ["b", False]], "    " + "a" * 12 + "<nee…>"),
        ([["\x1b[2J", False], ["x", True]], r"    \x1b[2J<x>"),
        ([1, ["alone"], ["ok", True]], "    <ok>"),
    ],
)
def test_a_snippet_is_cut_and_harmless(pieces: list[Any], shown: str) -> None:
    lines = list(chatviews.found([chat(snippet=pieces)], NOW, 20, ("<", ">")))
    assert lines[1] == shown


def message(id: str, parent: str | None, role: str, content: str) -> dict[str, Any]:
    return {
        "id": id,
        "parent": parent,
        "role": role,
        "content": content,
        "created_at": UPDATED,
    }


MESSAGES = [
    message("q", None, "user", "Why is the sky blue?"),
    message("a", "q", "assistant", "Because of scattering."),
    message("b", "q", "assistant", "It only looks so."),
    message("c", "b", "user", "And at night?"),
]


def test_the_branches_of_a_chat() -> None:
    lines = chatviews.branches(chat(messages=MESSAGES), "b", NOW, 80)
    assert lines == [
        "  1  Why is the sky blue? > Because of scattering.  2 hours ago",
        "* 2  And at night?  2 hours ago",
    ]


def test_a_long_exchange_shows_some_of_the_question_and_some_of_the_answer() -> None:
    messages = [
        message("q", None, "user", "q " * 60),
        message("a", "q", "assistant", "a " * 60),
    ]
    [line] = chatviews.branches(chat(messages=messages), "a", NOW, 60)
    assert terminal.width(line) <= 60 and "q… > a" in line and "a…  2 hours ago" in line


def test_the_head_of_a_chat_leaves_out_what_it_does_not_have() -> None:
    fields = {"n_messages": 4, "options": {"seed": 7, "stop": ["a"]}, "system": "Be\nkind"}
    assert list(chatviews.head(chat(**fields), NOW)) == [
        "Sky",
        "  id        chat_x7Gk2Lm9QpRsTuVw",
        "  model     llama3.2:latest",
        "  changed   2 hours ago",
        "  messages  4",
        "  system    Be kind",
        "  options   seed=7 stop=[a]",
    ]
    assert list(chatviews.head(chat(), NOW))[-1] == "  changed   2 hours ago"
