"""`render`: the prompt that would be sent, exactly, and its number of tokens."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.served import Daemon

from .conftest import Command

USER = "<|im_start|>user\n"
OPEN = "<|im_start|>assistant\n"
END = "<|im_end|>\n"


@pytest.mark.parametrize(
    ("arguments", "stdin", "expected"),
    [
        (["Hi", "you"], None, f"{USER}Hi you{END}{OPEN}"),
        ([], "Hi", f"{USER}Hi{END}{OPEN}"),
        (["Hi", "--system", "S"], None, f"<|im_start|>system\nS{END}{USER}Hi{END}{OPEN}"),
        (["Hi", "--raw"], None, "Hi"),
    ],
)
def test_prompts(
    arguments: list[str], stdin: str | None, expected: str, daemon: Daemon, ollamapy: Command
) -> None:
    result = ollamapy("render", "hello", *arguments, host=daemon.url, stdin=stdin)
    assert (result.returncode, result.stdout) == (0, expected)
    number, word = result.stderr.split()
    assert int(number) > 0 and word == "tokens"


def test_a_chat_as_json(daemon: Daemon, ollamapy: Command, tmp_path: Path) -> None:
    file = tmp_path / "chat.json"
    file.write_text(json.dumps([{"role": "user", "content": "é"}]))
    arguments = ["--messages", str(file), "--system", "S", "--json"]
    result = ollamapy("render", "hello", *arguments, host=daemon.url)
    assert (result.returncode, result.stderr) == (0, "")
    answer = json.loads(result.stdout)
    assert answer["prompt"] == f"<|im_start|>system\nS{END}{USER}é{END}{OPEN}"
    assert answer["tokens"] > 0


@pytest.mark.parametrize(
    ("arguments", "content", "why"),
    [
        ([], "", "there is no prompt"),
        (["Hi", "--messages", "FILE"], "[]", "leave out the prompt"),
        (["--messages", "FILE"], "[", "is not JSON"),
        (["--messages", "FILE"], "{}", "no JSON list of messages"),
        (["--messages", "FILE"], "[5]", "cannot unmarshal number"),
        (["--messages", "FILE.none"], "", "no such file"),
    ],
)
def test_mistakes(
    arguments: list[str],
    content: str,
    why: str,
    daemon: Daemon,
    ollamapy: Command,
    tmp_path: Path,
) -> None:
    file = tmp_path / "chat.json"
    file.write_text(content)
    given = [each.replace("FILE", str(file)) for each in arguments]
    result = ollamapy("render", "hello", *given, host=daemon.url)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: ") and why in result.stderr
