"""What is drawn on a terminal: tables at every width, errors with their way out, and nothing that drives the terminal."""

from __future__ import annotations

import io
import re
from types import SimpleNamespace

import pytest

from ollamapy.cli import drawing, terminal
from ollamapy.cli.closest import closest
from ollamapy.cli.drawing import Card, Table, fitted, parts
from ollamapy.cli.repeats import SPAN, Repeats, period

LONG = "a-rather-long-namespace/an-even-longer-model-name-of-a-fine-tune:q4_k_m-imatrix"
MODELS = Table(
    ("NAME", "ID", "SIZE", "MODIFIED"),
    [
        (LONG, "07ec5185ab5d", "1.8 MB", "9 minutes ago"),
        ("a:latest", "d9b901e8c4cc", "13 GB", "9 minutes ago"),
    ],
)


class Screen(io.StringIO):
    """A stdout that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(params=[60, 80, 200])
def columns(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    width: int = request.param
    monkeypatch.setattr(drawing, "sys", SimpleNamespace(stdout=Screen(), stderr=Screen()))
    monkeypatch.setattr(terminal, "columns", lambda: width)
    return width


def plain(text: str) -> list[str]:
    return re.sub(r"\x1b\[[\d;]*m", "", text).splitlines()


def test_a_table_fits_and_loses_nothing(columns: int) -> None:
    lines = plain(drawing.shown(MODELS))
    assert max(map(len, lines)) <= columns
    assert "07ec5185ab5d" in lines[1], "short columns stay whole"
    names = "".join(line[: lines[0].index("ID")].strip() for line in lines[1:])
    assert names == f"{LONG}a:latest"
    assert (len(lines) == 3) == (columns == 200)


def test_prose_stands_below_its_row_where_it_does_not_fit(columns: int) -> None:
    table = Table(("NAME", "TAGS", "ABOUT"), [("llama", "12", "a model " * 10)], True)
    lines = plain(drawing.shown(table))
    assert max(map(len, lines)) <= columns
    assert lines[1].startswith("llama") and lines[1].endswith("12") == (columns < 200)


def test_a_card_fits(columns: int) -> None:
    card = Card([("Model", [("", "architecture", "llama"), ("", "licence", "words " * 30)])])
    lines = plain(drawing.shown(card))
    assert lines[0] == "  Model" and lines[1].startswith("    architecture")
    assert max(map(len, lines)) <= columns


def test_the_names_of_others_are_harmless(columns: int) -> None:
    evil = "\x1b]8;;http://evil.example\x07x\x1b]0;title\x07[link=http://e]y[/link]\x9b2J"
    written = drawing.shown(Table(("NAME",), [(evil,)]))
    assert not re.search(r"\x1b(?!\[[\d;]*m)|\x07|\x9b", written)
    assert "[link=http://e]y[/link]" in "".join(plain(written)).replace(" ", "")


@pytest.mark.parametrize(
    ("message", "what", "way_out"),
    [
        ("model 'x' not found, see: ollamapy list", "model 'x' not found", "see: ollamapy list"),
        (
            'unknown command "lsit" for "ollamapy" (did you mean \'list\'?), see: ollamapy --help',
            'unknown command "lsit" for "ollamapy"',
            "did you mean 'list'?, see: ollamapy --help",
        ),
        ("no space left on device", "no space left on device", ""),
    ],
)
def test_the_way_out_stands_apart(message: str, what: str, way_out: str) -> None:
    assert parts(message) == (what, way_out)


def test_an_error_fits(columns: int) -> None:
    lines = plain(drawing.error(f"model '{LONG}' not found, see: ollamapy list"))
    assert max(map(len, lines)) <= columns
    assert lines[0].startswith("Error: ") and lines[-1] == "  see: ollamapy list"


def test_columns_break_words_last() -> None:
    assert fitted([79, 12, 6, 13], [79, 12, 6, 8], 54) == [28, 12, 6, 8]
    assert fitted([5, 5], [5, 5], 20) == [5, 5]
    assert fitted([5, 5], [5, 5], 1) == [1, 1]


@pytest.mark.parametrize(
    ("word", "known", "meant"),
    [
        ("lsit", ["list", "show"], "list"),
        ("tinystorie", ["tinystories", "llama3.2"], "tinystories"),
        ("nothing", ["list", "show"], ""),
        ("/", ["/?"], ""),
        ("x" * 100_000, ["y" * 100] * 10_000, ""),
    ],
)
def test_the_word_that_was_meant(word: str, known: list[str], meant: str) -> None:
    assert closest(word, known) == meant


@pytest.mark.parametrize(
    ("text", "length"), [("aaaa", 1), ("abcabcab", 3), ("abcd", 4), ("", 0), ("abab!", 5)]
)
def test_the_period_of_a_text(text: str, length: int) -> None:
    assert period(text) == length


@pytest.mark.parametrize("piece", [1, 7, 4000])
def test_a_text_that_only_repeats_itself(piece: int) -> None:
    def found(text: str) -> bool:
        repeats = Repeats()
        for begin in range(0, len(text), piece):
            repeats.feed(text[begin : begin + piece])
        return repeats.found

    assert found("Once. " + "la di da dum " * 900)
    assert not found("la di da dum " * 300), "short enough to be meant"
    assert not found(" ".join(map(str, range(SPAN))))
