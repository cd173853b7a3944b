"""The documentation tells the truth: its variables are those that are read, its commands and flags exist, its paths are served."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from ollamapy.cli.commands.daemon import SERVE_VARIABLES
from ollamapy.cli.commands.table import group
from ollamapy.config import Paths, Settings
from ollamapy.registry import foreign
from ollamapy.web.anthropic import wire as anthropic
from ollamapy.web.ollama import vectors
from ollamapy.web.ollama import wire as ollama
from ollamapy.web.openai import chat, completions, responses
from ollamapy.web.openai import vectors as openai_vectors
from tests.docs import cli_reference
from tests.docs.blocks import PAGES, blocks, prose
from tests.served import ROOT, Daemon
from tests.test_architecture import FILES, MAY_IMPORT, VOCABULARY

CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text()
API = (ROOT / "docs" / "api.md").read_text()

READ_ELSEWHERE = {
    *("XDG_DATA_HOME", "XDG_STATE_HOME"),  # platformdirs
    *("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE"),  # requests
    *("NO_COLOR", "TERM"),  # the commands
    "VENV",  # scripts/
}


class Recorded(Mapping[str, str]):
    """An empty environment that remembers what it was asked for."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.names.add(name)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


VARIABLE = re.compile(r"\b[A-Z][A-Z_]{3,}\b")


def _variables() -> set[str]:
    """Those in the first column of the tables of variables."""
    tables = CONFIGURATION.split("| variable |")[1:]
    rows = [row for table in tables for row in table.partition("\n\n")[0].splitlines()]
    return set(VARIABLE.findall(" ".join(row.split("|")[1] for row in rows if row.startswith("|"))))


def test_the_help_of_serve_names_variables_of_the_table() -> None:
    named = {each for each in VARIABLE.findall(SERVE_VARIABLES) if each.startswith("OLLAMAPY_")}
    both, _, ours = SERVE_VARIABLES.partition("Only in ollamapy")
    assert named - {"OLLAMAPY_"} <= _variables()
    for name in named:
        has_two = name.replace("OLLAMAPY", "OLLAMA") in _variables()
        assert has_two == (name in both) and has_two != (name in ours), name


def test_the_table_of_variables_is_what_is_read(tmp_path: Path) -> None:
    asked = Recorded()
    Settings.from_env(asked)
    for tool in foreign.TOOLS:
        for platform in ("linux", "darwin", "win32"):
            foreign.places(tool, asked, tmp_path, platform)
    assert _variables() == asked.names | READ_ELSEWHERE


def _lines() -> list[str]:
    """Every use of the command: in shell blocks, sessions and inline code."""
    found = []
    for page in PAGES:
        codes = [block.code for block in blocks(page) if block.kind in ("sh", "console")]
        codes += re.findall(r"`([^`]+)`", prose(page))
        for code in codes:
            found += re.findall(r"(?:^|\$ |&& |\| |= )ollamapy ([^#\n|&)]+)", code, re.MULTILINE)
    return found


def test_the_commands_and_their_flags_exist() -> None:
    commands = group().commands
    lines = _lines()
    assert len(lines) > 60
    for line in lines:
        name, *words = line.split()
        if name in ("COMMAND", "--version", "--help"):
            continue
        assert name in commands, line
        command = commands[name]
        if name in ("daemon", "chats") and words:
            command = getattr(command, "commands")[words[0]]  # noqa: B009
        known = {flag for param in command.params for flag in param.opts}
        flags = {word.partition("=")[0] for word in words if re.match(r"--[a-z]", word)}
        assert flags <= known, line


def test_the_page_of_commands_is_made_from_their_help() -> None:
    assert cli_reference.PAGE.read_text() == cli_reference.page(), "run scripts/docs"


@pytest.mark.llama
def test_the_paths_are_those_of_the_api(daemon: Daemon) -> None:
    paths = daemon.ask("GET", "/openapi.json").json()["paths"]
    described = {path.partition("{")[0].rstrip("/") for path in paths} - {""}
    for page in PAGES:
        told = re.findall(r"(?<![\w:.~/])/(?:api|v1)/[a-z_/]+[a-z_]", page.read_text())
        assert set(told) <= described, page
    for path in described:
        assert path in API, path


def test_the_architecture_names_every_room_and_what_it_may_import() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    house = text.partition("## The house")[2].partition("## The processes")[0]
    rows = [line.split("|") for line in house.splitlines() if line.startswith("| `")]
    told = {row[1].strip(" `/"): row[3] for row in rows}
    folders = {path.parent.name for path in (ROOT / "ollamapy").glob("*/__init__.py")}
    assert set(told) == folders
    for room, below in MAY_IMPORT.items():
        if room not in ("", "daemon", "cli"):
            assert set(re.findall(r"[a-z]+", re.sub(r"\(.*?\)", "", told[room]))) == below, room
    for module in VOCABULARY - {""}:
        assert f"`{module}`" in house, module


def test_every_field_that_is_read_is_described() -> None:
    """Each in the chapter of its API."""
    parts = (each.partition("\n") for each in API.split("\n## "))
    chapters = {title: text for title, _, text in parts}
    read = {
        "Ollama's API": {
            *ollama.GENERATE_FIELDS, *ollama.CHAT_FIELDS, *ollama.MESSAGE_FIELDS,
            *vectors.EMBED_FIELDS, *vectors.EMBEDDINGS_FIELDS,
        },
        "OpenAI's API": {
            *chat.FIELDS, *completions.FIELDS, *responses.FIELDS, *openai_vectors.EMBED_FIELDS,
        },
        "Anthropic's API": set(anthropic.FIELDS),
        "Beyond Ollama": {*vectors.RERANK_FIELDS} - {"model", "options", "keep_alive"},
    }  # fmt: skip
    for title, fields in read.items():
        described = set(re.findall(r"`\"?([a-z_]+)\"?`", chapters[title]))
        assert fields <= described, f"{title}: {fields - described}"


def test_the_nouns_of_the_glossary_are_sorted_and_have_a_room() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text().partition("## Glossary")[2]
    rows = re.findall(r"^\| (\w[^|]*?) \|.*\| (\w+) \|$", text, re.MULTILINE)[1:]
    nouns = [noun for noun, _ in rows]
    assert len(nouns) > 20 and nouns == sorted(set(nouns))
    assert {room for _, room in rows} <= set(MAY_IMPORT) | VOCABULARY


def test_the_messages_of_the_troubleshooting_are_those_of_the_program() -> None:
    table = (ROOT / "docs" / "troubleshooting.md").read_text().partition("|---|---|")[2]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("|")]
    shown = [each for row in rows for each in re.findall(r"`([^`]+)`", row) if " " in each]
    source = "".join(file.read_text() for file in FILES)
    assert len(shown) >= 5
    for message in shown:
        parts = re.split(r"\.\.\.|[\d.]+ ?(?:GB)?|\bSIG\w+", message)
        for part in (each.strip() for each in parts):
            assert part in source, message


def test_every_file_in_the_state_folder_is_described(tmp_path: Path) -> None:
    paths = Settings.from_env({"OLLAMAPY_HOME": str(tmp_path)}).paths
    properties = [name for name, value in vars(Paths).items() if isinstance(value, property)]
    files = {getattr(paths, name).name for name in properties} | {"error.log"}
    assert len(files) > 5
    table = CONFIGURATION.partition("| path | where | what |")[2].partition("\n\n")[0]
    assert [file for file in files if f"`{file}`" not in table] == []
