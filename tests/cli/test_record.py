"""The commands print what Ollama's print, to the byte: each line of the record, against a server that answers as it did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .conftest import Command

LINES = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "data/cli/commands.jsonl").read_text().splitlines()
]


@pytest.mark.parametrize("line", LINES, ids=lambda line: " ".join(line["command"]))
def test_a_command_exits_and_prints_as_recorded(
    line: dict[str, Any], standin: Any, ollamapy: Command
) -> None:
    result = ollamapy(*line["command"], host=standin().host, stdin=line["stdin"])
    assert (result.returncode, result.stdout) == (line["exit"], line["stdout"])
    if line["exit"] == 0:
        assert result.stderr == line["stderr"]
    else:
        # Ours say the same first, and then the way out
        assert result.stderr.startswith(line["stderr"].rstrip("\n"))
        assert result.stderr.count("\n") == 1
