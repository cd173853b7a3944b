"""The README tells the truth: its variables are those that are read, its commands, paths and links exist, its examples run."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from ollamapy.cli.commands import SERVE_VARIABLES, group
from ollamapy.config import Settings
from ollamapy.registry import foreign
from ollamapy.registry.hub import HubSettings
from tests.served import ROOT, Daemon, serve

README = (ROOT / "README.md").read_text()

READ_ELSEWHERE = {
    *("XDG_DATA_HOME", "XDG_STATE_HOME"),  # platformdirs
    *("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE"),  # requests
    *("NO_COLOR", "TERM", "DOCKER_CONFIG"),  # the commands
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
    table = README.partition("| variable |")[2].partition("\n\n")[0]
    first_cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("|")]
    return set(VARIABLE.findall(" ".join(first_cells)))


def test_the_help_of_serve_names_variables_of_the_table() -> None:
    told = {each for each in VARIABLE.findall(SERVE_VARIABLES) if each.startswith("OLLAMAPY_")}
    both, _, ours = SERVE_VARIABLES.partition("Ours alone")
    assert told - {"OLLAMAPY_"} <= _variables()
    for name in told:
        has_two = name.replace("OLLAMAPY", "OLLAMA") in _variables()
        assert has_two == (name in both) and has_two != (name in ours), name


def test_the_table_of_variables_is_what_is_read(tmp_path: Path) -> None:
    asked = Recorded()
    Settings.from_env(asked)
    HubSettings.from_env(asked)
    for tool in foreign.TOOLS:
        for platform in ("linux", "darwin", "win32"):
            foreign.places(tool, asked, tmp_path, platform)
    assert _variables() == asked.names | READ_ELSEWHERE


def test_its_commands_and_their_flags_exist() -> None:
    commands = group().commands
    lines = re.findall(r"(?:^    (?:\$ )?|`|&& |\| )ollamapy ([^`#\n]+)", README, re.MULTILINE)
    assert len(lines) > 30
    for line in lines:
        name, *words = line.split()
        assert name in commands, line
        known = {flag for param in commands[name].params for flag in param.opts}
        flags = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert flags <= known, line


def test_its_links_lead_somewhere() -> None:
    headings = re.findall(r"^#+ (.+)$", README, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", each.lower()).replace(" ", "-") for each in headings}
    for target in re.findall(r"\]\(([^)]+)\)", README):
        if target.startswith("#"):
            assert target[1:] in anchors, target
        else:
            assert (ROOT / target).is_file(), target


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    home = tmp_path_factory.mktemp("home")
    with serve(home, home / "models") as running:
        yield running


PYTHON = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
CURL = re.findall(r"^    (curl (?:.*\\\n)*.*)$", README, re.MULTILINE)


@pytest.mark.llama
@pytest.mark.parametrize("code", PYTHON, ids=["ollama", "openai", "anthropic"])
def test_its_python_runs(daemon: Daemon, code: str) -> None:
    printed = _run([sys.executable, "-c", _here(code, daemon)])
    assert len(printed) > 20


@pytest.mark.llama
@pytest.mark.parametrize("line", CURL, ids=["ollama", "openai", "anthropic"])
def test_its_curl_lines_run(daemon: Daemon, line: str) -> None:
    answer = _run(["bash", "-c", _here(line, daemon).replace("curl ", "curl -sf ", 1)])
    assert '"tinystories"' in answer and '"error"' not in answer


@pytest.mark.llama
def test_its_paths_are_those_of_the_api(daemon: Daemon) -> None:
    paths = daemon.ask("GET", "/openapi.json").json()["paths"]
    described = {path.partition("{")[0].rstrip("/") for path in paths} - {""}
    told = re.findall(r"(?<![\w:])/(?:api|v1)/[a-z_/]+[a-z_]", README)
    assert set(told) <= described
    chapter = README.partition("## The APIs")[2].partition("## Coming")[0]
    for path in described:
        assert re.search(rf"\b{path.rpartition('/')[2]}\b", chapter), path


def _here(text: str, daemon: Daemon) -> str:
    assert "http://127.0.0.1:11434" in text
    return text.replace("http://127.0.0.1:11434", daemon.url)


def _run(arguments: list[str]) -> str:
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout
