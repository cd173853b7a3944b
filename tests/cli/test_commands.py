"""The table of commands: it says of each what the command itself says, and gives all of them or only those that are named."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from ollamapy.cli.commands.arguments import print_json
from ollamapy.cli.commands.table import TABLE, group


def test_the_table_says_of_each_command_what_it_says_itself() -> None:
    listed, whole = group([]).commands, group().commands
    assert list(listed) == list(whole) == list(TABLE)
    for name, command in whole.items():
        assert command.get_short_help_str(100) == listed[name].get_short_help_str(100), name
        assert command.hidden == listed[name].hidden == TABLE[name].hidden, name


@pytest.mark.parametrize(
    ("arguments", "modules"),
    [
        ([], set()),
        (["nosuch", "--help"], set()),
        (["list"], {"models"}),
        (["run", "m", "--verbose"], {"run"}),
        (["help", "lint"], {"shell", "create"}),
        (["daemon", "logs"], {"daemon"}),
    ],
)
def test_only_the_groups_that_are_named_are_imported(
    arguments: list[str], modules: set[str]
) -> None:
    code = (
        f"import sys; from ollamapy.cli.commands.table import TABLE, group; group({arguments!r})\n"
        "print(*({row.module for row in TABLE.values()}"
        " & {name.rpartition('.')[2] for name in sys.modules if '.commands.' in name}))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(found.stdout.split()) == modules


def test_the_version_is_printed_without_typer() -> None:
    code = (
        "import sys; sys.argv[1:] = ['--version']; from ollamapy.__main__ import main; main()\n"
        "print(*(name for name in sys.modules if name.split('.')[0] in ('typer', 'ollamapy')))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1].split() == ["ollamapy", "ollamapy.__main__"]


def test_json_has_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"name": "\x1b\x9b\x7f\u202eé"})
    out = capsys.readouterr().out
    assert out == '{\n  "name": "\\u001b\\u009b\\u007f\\u202eé"\n}\n'
    assert json.loads(out) == {"name": "\x1b\x9b\x7f\u202eé"}
