"""The picture of a first session is what the real program does."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.docs.record import PICTURE, SESSION, Row, session, svg

_TEXT = "{http://www.w3.org/2000/svg}text"


def lines(picture: str) -> list[str]:
    """What can be read in a picture, row by row."""
    rows: dict[str, str] = {}
    for text in ElementTree.fromstring(picture).iter(_TEXT):
        row = text.attrib["y"]
        rows[row] = rows.get(row, "") + "".join(text.itertext()).replace("\N{NO-BREAK SPACE}", " ")
    return list(rows.values())


def test_rows_become_text() -> None:
    picture = [Row((("$ ", "green", False), ("a <b> & c", "white", True)), True), Row((), False)]
    assert lines(svg(picture)) == ["$ a <b> & c"]


def test_a_row_appears_after_the_one_above() -> None:
    picture = [Row((("$ a", "green", False),), True), Row((("b", "white", False),), False)]
    assert svg(picture).index("1.20s") < svg(picture).index("1.32s")


@pytest.mark.llama
@pytest.mark.long
def test_the_picture_is_of_this_program(tmp_path: Path) -> None:
    """The story may differ on another kind of processor; all that surrounds it may not."""
    shown, now = lines(PICTURE.read_text()), lines(svg(session(tmp_path)))
    typed = [f"{prompt} {line}" for prompt, line in SESSION]
    assert [line for line in shown if line in typed] == typed
    story = slice(shown.index(typed[2]) + 1, shown.index(typed[3]))
    story_now = slice(now.index(typed[2]) + 1, now.index(typed[3]))
    assert shown[: story.start] == now[: story_now.start], "run scripts/record"
    assert shown[story.stop : -1] == now[story_now.stop : -1], "run scripts/record"
    assert shown[-1].split()[0] == now[-1].split()[0]
