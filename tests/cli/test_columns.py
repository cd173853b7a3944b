"""Texts side by side that grow while they are shown."""

from __future__ import annotations

import io
import sys

import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamapy.cli import columns, terminal

TEXT = st.text(st.sampled_from("ab 日é-\n"), max_size=60)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", [""]),
        ("short", ["short"]),
        ("one two three", ["one two", "three"]),
        ("one  two  three", ["one  two", "three"]),
        ("abcdefghijk", ["abcdefgh", "ijk"]),
        ("a abcdefghijk", ["a", "abcdefgh", "ijk"]),
        ("日本語日本語", ["日本語日", "本語"]),
        ("a\n\nb", ["a", "", "b"]),
        ("  indented words", ["  indent", "ed words"]),
        ("exactly8 more", ["exactly8", "more"]),
    ],
)
def test_a_text_is_wrapped(text: str, lines: list[str]) -> None:
    assert columns.wrapped(text, 8) == lines


@given(TEXT, TEXT, st.integers(2, 12))
def test_what_is_appended_changes_the_last_line_alone(text: str, more: str, width: int) -> None:
    before, after = columns.wrapped(text, width), columns.wrapped(text + more, width)
    assert after[: len(before) - 1] == before[:-1]
    assert all(terminal.width(line) <= width for line in after)
    assert "".join("".join(after).split()) == "".join((text + more).split())


@given(TEXT, st.integers(1, 12))
def test_a_cell_has_its_width(text: str, width: int) -> None:
    assert terminal.width(columns.padded(text.replace("\n", ""), width)) == width


def test_which_rows_are_final() -> None:
    assert columns.final_rows([["a", "b"], ["c"]], [False, False]) == 0
    assert columns.final_rows([["a", "b"], ["c", "d", "e"]], [False, False]) == 1
    assert columns.final_rows([["a", "b"], ["c", "d", "e"]], [True, False]) == 2
    assert columns.final_rows([["a", "b"], ["c", "d", "e"]], [True, True]) == 3


@pytest.mark.parametrize("rows", [4, 6, 100])
def test_growing_columns_on_a_low_screen(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However the columns grow, the screen and what has scrolled away have each row once."""
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    screen = pyte.HistoryScreen(41, rows, history=1000)
    screen.set_mode(pyte.modes.LNM)
    stream = pyte.Stream(screen)
    board = columns.Board(41, 2)
    left, right = [f"left {n}" for n in range(30)], [f"right {n}" for n in range(12)]
    for step in range(31):
        # The right one is quick at first, and ends before the left one is at its end
        shown = [left[: step + 1], right[: step * 3 + 1]]
        board.draw(shown, [step == 30, step > 5], rows)
    stream.feed(out.getvalue())
    whole = ["".join(line[x].data for x in range(41)).rstrip() for line in screen.history.top] + [
        line.rstrip() for line in screen.display
    ]
    whole = [line.replace("│", "|") for line in whole if line]
    assert [line.split("|")[0].strip() for line in whole] == left
    assert [line.partition("|")[2].strip() for line in whole if "right" in line] == right
