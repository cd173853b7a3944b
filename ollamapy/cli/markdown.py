"""A model's markdown as lines for a terminal, a block at a time: what begins a block (pure), and how one is drawn (by rich).

Hostile text is harmless: HTML, images, references and entities stay as they are written, a link shows its address, and what is
drawn has passed `drawing.drawn`. A block that is too long to be worth it stays as it is: drawing is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from . import drawing, terminal

if TYPE_CHECKING:
    from rich.markdown import Markdown

LONGEST = 8000
"""Characters of a block, or of a line of code, that are drawn; a longer one stays as it came."""

_CODE_BEFORE = 40
"""Lines of code before one that colours are found with."""

_INDENT = 24
"""The furthest indentation that is kept."""

_FENCE = re.compile(r" *(`{3,}|~{3,})([^`]*)$")
_ITEM = re.compile(r"( *)([-*+]|\d{1,9}[.)])( +)(?=\S)")
_HEADING = re.compile(r" {0,3}#{1,6}( |$)")
_RULE = re.compile(r" {0,3}([-*_])( *\1){2,} *$")


def load() -> None:
    """Import what draws, which takes 100 ms: while something else is waited for, and where Ctrl-C does not come in between."""
    import markdown_it
    import rich.markdown
    import rich.syntax

    assert markdown_it and rich.markdown and rich.syntax


def fence(line: str) -> tuple[str, str] | None:
    """The marks and the language of a line that opens a block of code."""
    found = _FENCE.match(line)
    return (found[1], found[2].strip().split(" ")[0]) if found else None


def closes(line: str, marks: str) -> bool:
    """Whether a line ends the block of code that those marks opened."""
    bare = line.strip()
    return bare.startswith(marks) and not bare.strip(marks[0])


def begins_block(line: str, before: Sequence[str]) -> bool:
    """Whether a line belongs to no block that the lines before it are."""
    if not before:
        return True
    quoted, piped = line.startswith(">"), line.lstrip().startswith("|")
    return bool(
        _HEADING.match(line)
        or _ITEM.match(line)
        or fence(line)
        or (_RULE.match(line) and "-" not in line)
        or quoted != before[-1].startswith(">")
        and quoted
        or piped != before[-1].lstrip().startswith("|")
    )


def ends_block(line: str) -> bool:
    """Whether the next line begins a new block, whatever it is."""
    return not line.strip() or bool(_HEADING.match(line) or _RULE.match(line))


def block(lines: Sequence[str], columns: int) -> list[str] | None:
    """The lines that show a block, or None if it looks best as it is."""
    text = "\n".join(lines)
    if len(text) > LONGEST:
        return None
    if item := _ITEM.match(text):
        return _item(item, text[item.end() :], columns)
    indent = len(text) - len(text.lstrip(" "))
    if indent >= 4:  # code without fences, or a picture made of letters
        return None
    return _indented(text[indent:].replace(f"\n{' ' * indent}", "\n"), indent, columns)


def _item(item: re.Match[str], body: str, columns: int) -> list[str]:
    """An item of a list: its mark, and the text beside it."""
    bullet = item[2] if item[2][0].isdigit() else "•"
    indent = min(len(item[1]), _INDENT)
    hang = indent + len(bullet) + 1
    body = re.sub(r"\n +", "\n", body)
    room = max(columns - hang, 10)
    lines = drawing.drawn(_markdown(body), room) or [""]
    first = f"{' ' * indent}{bullet} {lines[0]}"
    return [first, *(" " * hang + line if line else line for line in lines[1:])]


def _indented(text: str, indent: int, columns: int) -> list[str] | None:
    parsed = _markdown(text)
    if _is_plain(parsed):
        return None
    lines = drawing.drawn(parsed, max(columns - indent, 10))
    return [" " * indent + line if line else line for line in lines]


def _markdown(text: str) -> Markdown:
    """A block, parsed: rich's markdown with our parser, in which nothing of the text gets lost."""
    from markdown_it import MarkdownIt
    from rich.markdown import Heading, Markdown

    class Title(Heading):
        """A heading at the left edge."""

        def __rich_console__(self, console: Any, options: Any) -> Any:
            self.text.justify = "left"
            yield self.text

    class Block(Markdown):
        elements = {**Markdown.elements, "heading_open": Title}

    parser = MarkdownIt("commonmark", {"html": False, "maxNesting": 10})
    parser.enable(["strikethrough", "table"])
    parser.disable(["image", "reference", "entity", "code", "autolink"])
    made = Block("", code_theme="ansi_dark", hyperlinks=False)
    made.parsed = parser.parse(text)
    for token in made.parsed:
        for child in token.children or ():
            if child.type == "softbreak":  # a line of the model's stays a line
                child.type = "hardbreak"
    return made


def _is_plain(parsed: Markdown) -> bool:
    """Whether a block is one paragraph without any markup."""
    kinds = [token.type for token in parsed.parsed]
    if kinds != ["paragraph_open", "inline", "paragraph_close"]:
        return False
    inline = parsed.parsed[1]
    bare = {"text", "hardbreak"}
    written = "".join("\n" if c.type == "hardbreak" else c.content for c in inline.children or ())
    return all(c.type in bare for c in inline.children or ()) and written == inline.content


def code(line: str, before: Sequence[str], language: str) -> str | None:
    """A line of code with its colours; None if it stays as it is."""
    if not language or not line.strip() or len(line) > LONGEST:
        return None
    from rich.syntax import Syntax

    context = [each for each in before[-_CODE_BEFORE:] if len(each) <= 500]
    syntax = Syntax("", language, theme="ansi_dark", background_color="default")
    text = syntax.highlight("\n".join([*context, line]))
    last = text.split("\n", allow_blank=True)[len(context)]
    lines = drawing.drawn(last, terminal.width(line) + 1)
    return lines[0] if len(lines) == 1 else None
