"""Tables, widths and word wrap, seen as a terminal shows them."""

from __future__ import annotations

import re
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamapy.cli.terminal import Interrupts, Wrap, printable, remark, table, width


def screen(written: str) -> list[str]:
    """The lines of a terminal, of endless width, after text with the sequences that `Wrap` writes."""
    lines, column = [""], 0
    for sequence, count, character in re.findall(r"(\x1b\[(\d*)[DK])|(.|\n)", written):
        if sequence.endswith("D"):
            cells = int(count)
            while cells > 0:
                column -= 1
                cells -= width(lines[-1][column])
        elif sequence.endswith("K"):
            lines[-1] = lines[-1][:column]
        elif character == "\n":
            lines.append("")
            column = 0
        else:
            lines[-1] = lines[-1][:column] + character
            column += 1
    return lines


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one two three", ["one two three"]),
        ("one two three four", ["one two three", "four"]),
        ("one two threefour", ["one two", "threefour"]),
        ("one two threes four", ["one two threes", "four"]),
        ("exactly fifteen", ["exactly fifteen"]),
        ("exactly fifteen more", ["exactly fifteen", "more"]),
        ("a\n\nb", ["a", "", "b"]),
        ("x" * 40, ["x" * 15, "x" * 15, "x" * 10]),
        ("日本語日本語日本語", ["日本語日本語日", "本語"]),
        ("ab 日本語日本語日本語", ["ab 日本語日本語", "日本語"]),
    ],
)
@pytest.mark.parametrize("step", [1, 3, 100])
def test_words_move_to_the_next_line(text: str, expected: list[str], step: int) -> None:
    wrap = Wrap(lambda: 20)
    written = "".join(wrap.feed(text[i : i + step]) for i in range(0, len(text), step))
    assert [line.rstrip() for line in screen(written)] == expected


@given(st.text(alphabet="ab é日\N{COMBINING ACUTE ACCENT}\n", max_size=200), st.integers(10, 40))
def test_no_line_is_too_long_and_no_letter_is_lost(text: str, columns: int) -> None:
    wrap = Wrap(lambda: columns)
    lines = screen("".join(map(wrap.feed, text)))
    assert all(width(line) <= columns - 5 for line in lines)
    assert re.sub(r"\s", "", "".join(lines)) == re.sub(r"\s", "", text)


def test_a_combining_mark_stays_with_the_letter_before_it() -> None:
    wrap = Wrap(lambda: 25)
    text = (
        "\u65e5" * 8 + "\u0301abcdef"
    )  # wide letters, the last with a mark, then a word too long for the line
    lines = screen("".join(map(wrap.feed, text)))
    assert "".join(lines) == text and len(lines) == 2


def test_a_narrow_window_is_left_to_the_terminal() -> None:
    assert Wrap(lambda: 9).feed("more than nine") == "more than nine"


def test_columns_are_as_wide_as_they_are_shown() -> None:
    assert table(("A", "B"), [("日本", "x"), ("abc", "xyz")]) == (
        "A       B   \n日本    x      \nabc     xyz    \n"
    )
    assert table((), []) == ""


def test_control_characters_do_not_reach_a_terminal() -> None:
    assert printable("a\x1b[31mb\x07\tc\nd\x9b\x7f\r\u202e") == "a[31mb\tc\nd"
    assert "\\x1b[2J\\n\\u202e" in table(("NAME",), [("\x1b[2J\n\u202e",)])


def test_a_remark_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    remark("Error: \x1b]0;title\x07\r\nforged")
    assert capsys.readouterr().err == "Error: \\x1b]0;title\\x07\\r\\nforged\n"


def test_ctrl_c_is_heard_once_and_only_where_it_is_listened_for() -> None:
    press = [signal.SIGINT] * 3
    with Interrupts() as interrupts:
        list(map(signal.raise_signal, press))
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                with interrupts.enabled():
                    try:
                        signal.raise_signal(signal.SIGINT)
                    finally:
                        list(map(signal.raise_signal, press))  # the clean-up is not disturbed
            list(map(signal.raise_signal, press))
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_ctrl_c_is_taken_back_from_who_did_not_return_it() -> None:
    with Interrupts() as interrupts:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        interrupts.reinstall()
        signal.raise_signal(signal.SIGINT)  # heard by nobody, and no KeyboardInterrupt
        with pytest.raises(KeyboardInterrupt), interrupts.enabled():
            signal.raise_signal(signal.SIGINT)
