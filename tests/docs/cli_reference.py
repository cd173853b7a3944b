"""docs/cli.md, made from the commands themselves: ``scripts/docs`` writes it, a test compares it.

The page is not the output of --help: that is wrapped for terminals and would depend on typer's version.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from typer.core import TyperGroup

from ollamapy.cli.commands.table import group
from tests.served import ROOT

PAGE = ROOT / "docs" / "cli.md"

HEAD = """\
# The commands

<!-- Made by scripts/docs from the help texts in ollamapy/cli: change those. -->

`ollamapy help COMMAND` prints the same. Results go to stdout; remarks, progress and errors go to stderr. The exit status is 0 for
success, 1 for any error (wrong usage included) and 130 after Ctrl-C. Listings take `--json`.
"""


def page() -> str:
    """The whole page."""
    found = list(_commands(group(), "ollamapy"))
    contents = " · ".join(f"[{_short(path)}](#{path.replace(' ', '-')})" for path, _ in found)
    return "\n".join([HEAD, contents, "", *(_section(path, each) for path, each in found)])


def _commands(parent: TyperGroup, path: str) -> Iterator[tuple[str, Any]]:
    """Every command that help lists, with the words that name it; those of a group in place of the group."""
    for name, command in parent.commands.items():
        if isinstance(command, TyperGroup):
            yield from _commands(command, f"{path} {name}")
        elif not command.hidden:
            yield f"{path} {name}", command


def _short(path: str) -> str:
    return path.partition(" ")[2]


def _section(path: str, command: Any) -> str:
    summary, _, more = inspect.cleandoc(command.help or "").partition("\n\n")
    usage = f"{path} {command.options_metavar}".rstrip()
    parts = [f"## {path}", summary, f"```text\n{usage}\n```", _flowing(more)]
    flags = [each for each in command.params if not each.hidden]
    if flags:
        rows = [f"| {_flag(each)} | {_cell(each.help)}{_default(each)} |" for each in flags]
        parts.append("\n".join(["| flag | meaning |", "|---|---|", *rows]))
    if command.epilog:
        lines = inspect.cleandoc(command.epilog).replace("\b", "").strip("\n")
        parts.append(f"```text\n{lines}\n```")
    return "\n\n".join(part for part in parts if part) + "\n"


def _flowing(text: str) -> str:
    """Paragraphs of one line each."""
    return "\n\n".join(" ".join(each.split()) for each in text.split("\n\n"))


def _flag(parameter: Any) -> str:
    names = ", ".join(f"`{name}`" for name in sorted(parameter.opts, key=len))
    return f"{names} `{parameter.metavar}`" if parameter.metavar else names


def _default(parameter: Any) -> str:
    shown = not parameter.is_flag and parameter.default not in (None, "")
    return f" Default: {parameter.default}." if shown else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    """Write the page."""
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
