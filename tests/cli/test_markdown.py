"""Answers as markdown: the blocks, the screen as it stands at the end, and what hostile text cannot do."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ollamapy.cli import markdown
from tests.served import serve
from tests.small_models import install, scripted_model

from .chats import Chat

ROOT = Path(__file__).parents[2]

TEXT = """\
# Title

Some **bold** text with `code` and a [link](http://e.example/x), ![picture](http://e.example/p.png), which goes on over a line.

1. First *item*
2. Second
   - nested

```python
def one():
    return 1  # a long comment that goes on and on and on and on and on and on
```

| Name | Meaning |
|------|---------|
| a    | *first* |

> quoted

&#27;[31m <b>html</b> **x**
two __lines__"""

SHOWN = """\
Title

Some bold text with code and a link
(http://e.example/x), !picture
(http://e.example/p.png), which goes on over a line.

1. First item
2. Second
   • nested

```python
def one():
    return 1  # a long comment that goes on and on and on an
d on and on and on
```

 Name  Meaning
 ─────────────
 a     first

▌ quoted

&#27;[31m <b>html</b> x
two lines"""

_FEED = """
import sys
from ollamapy.cli.screen import open_screen
text, step = sys.argv[1], int(sys.argv[2])
screen = open_screen(draws=True, wraps=True)
for begin in range(0, len(text), step):
    screen.put(text[begin:begin + step])
screen.end()
print()
"""


@pytest.fixture
def opened() -> Iterator[list[Chat]]:
    chats: list[Chat] = []
    yield chats
    for chat in chats:
        chat.close()


def show(
    opened: list[Chat], variables: dict[str, str], text: str, step: int, columns: int = 60
) -> Chat:
    command = [sys.executable, "-c", _FEED, text, str(step)]
    opened.append(Chat(command, variables, columns))
    assert opened[-1].status() == 0
    return opened[-1]


@pytest.mark.parametrize("step", [1, pytest.param(3, marks=pytest.mark.long), 17, 10_000])
def test_an_answer_is_drawn_however_it_is_cut(
    step: int, opened: list[Chat], variables: dict[str, str]
) -> None:
    assert show(opened, variables, TEXT, step).screen == SHOWN


def test_a_block_is_drawn_once(opened: list[Chat], variables: dict[str, str]) -> None:
    """What is written grows with the answer, and not with its square."""
    few, many = (
        len(show(opened, variables, "- an **item** of a list\n" * n, 1).written) for n in (10, 80)
    )
    assert many < 9 * few


def test_prose_without_marks_is_never_drawn_again(
    opened: list[Chat], variables: dict[str, str]
) -> None:
    it = show(opened, variables, "A poem,\nof lines.\n\nAnd more.", 3)
    assert it.written.replace(b"\r\n", b"\n") == b"A poem,\nof lines.\n\nAnd more.\n"


@pytest.mark.parametrize(
    "evil",
    [
        "[x](http://e.example/\x1b]8;;y\x07) **b**",
        "\x1b]52;c;aGk=\x07 **b** \x1b[2J",
        pytest.param("**&#x1b;]0;title&#7;** &#x202e;", marks=pytest.mark.long),
        "```\x1b[31mpython\n\x1b]0;t\x07x = 1\n```",
        "| a\x9b31m | **b** |\n|---|---|\n| \x1b[5m | c |\n",
        pytest.param("[ref]: javascript:alert(1)\n[ref] **b**", marks=pytest.mark.long),
    ],
)
def test_hostile_text_is_harmless(evil: str, opened: list[Chat], variables: dict[str, str]) -> None:
    written = show(opened, variables, evil, 5).written.decode()
    assert not re.search(r"\x1b(?!\[[\d;]*[mAJDK])|\x07|\x9b|\u202e", written)
    assert "\x1b[2J" not in written and "\x1b[5m" not in written


def test_a_long_block_stays_as_it_is() -> None:
    assert markdown.block(["**x** " * 3000], 60) is None
    assert markdown.code("x" * 9000, [], "python") is None
    assert markdown.code("x = 1", [], "no-such-language") is not None


@pytest.mark.llama
def test_the_chat_draws_markdown_and_stops_it(
    opened: list[Chat], variables: dict[str, str], tmp_path: Path
) -> None:
    install(tmp_path, "marked", scripted_model(tmp_path / "m.gguf", "It is **bold** `x`."))
    with serve(tmp_path, tmp_path) as daemon:
        given = {**variables, "OLLAMAPY_HOST": f"127.0.0.1:{daemon.port}"}
        opened.append(Chat([sys.executable, "-m", "ollamapy", "run", "marked"], given, 80))
        it = opened[-1].prompted(1)
        it.enter("Hi")
        it.prompted(2)
        assert it.lines[1] == "It is bold x."
        it.enter("/set markdown off")
        it.until("Set 'nomarkdown' mode.").prompted(3)
        it.enter("Hi")
        it.until("It is **bold** `x`.").prompted(4)
        it.enter("/copy")
        it.until("Copied 19 characters")
        assert b"\x1b]52;c;SXQgaXMgKipib2xkKiogYHhgLg==\x07" in it.written, "raw"
        it.enter("/show info")
        it.until("markdown")
        opened.append(
            Chat([sys.executable, "-m", "ollamapy", "run", "--plain", "marked", "Hi"], given, 80)
        )
        assert opened[-1].status() == 0 and opened[-1].lines[0] == "It is **bold** `x`."
