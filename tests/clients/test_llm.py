"""The `llm` command with its plugin for Ollama: what is there, prompts, conversations, tools, forms, vectors."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from click.testing import CliRunner, Result

from tests.served import Daemon, until

from .conftest import ANSWER, HELLO

Command = Callable[..., Result]


@pytest.fixture(scope="module")
def llm(judged: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """Runs the command, in this process, as a user whose Ollama is our daemon."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OLLAMA_HOST", judged.url)
        patch.setenv("LLM_USER_PATH", str(tmp_path_factory.mktemp("llm")))
        from llm.cli import cli  # its plugins look at the variables when they are imported

        yield lambda *arguments: CliRunner().invoke(cli, arguments)


def test_models(llm: Command) -> None:
    wanted = [f"Ollama: ollama/{name}:latest" for name in ("hello", "think", "rand")]

    def all_listed() -> str:
        """Without those to which connecting took more than a second."""
        listed = llm("models", "list").stdout
        return listed if all(each in listed for each in wanted) else ""

    listed = until(all_listed, "the models are listed")
    assert "vectors:latest" not in listed and "vectors:latest" in llm("embed-models", "list").stdout
    assert "hello:latest" in llm("ollama", "models").stdout


def test_prompts(llm: Command) -> None:
    assert llm("-m", "ollama/hello", "-s", "Be kind.", "Hi").stdout == f"{HELLO}\n"
    whole = llm(
        "-m", "ollama/hello", "--no-stream", "-o", "temperature", "0", "-o", "num_ctx", "512", "Hi"
    )
    assert whole.stdout == f"{HELLO}\n"
    assert llm("-c", "And now?").stdout == f"{HELLO}\n"
    logged = json.loads(llm("logs", "--json").stdout)
    assert [each["response"] for each in logged] == [HELLO] * 3


def test_a_form(llm: Command) -> None:
    schema = json.dumps(
        {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    )
    said = llm(
        "-m",
        "ollama/rand",
        "--schema",
        schema,
        "-o",
        "temperature",
        "0",
        "-o",
        "num_predict",
        "60",
        "Hi",
    )
    assert isinstance(json.loads(said.stdout)["ok"], bool)


def test_tools(llm: Command) -> None:
    code = "def get_weather(city: str) -> str:\n    return city + ' is sunny.'\n"
    said = llm(
        "-m", "ollama/tool", "--functions", code, "--td", "--chain-limit", "2", "How is Paris?"
    )
    assert "get_weather" in said.stderr and "Paris is sunny." in said.stderr


def test_thinking_is_no_answer(llm: Command) -> None:
    assert ANSWER in llm("-m", "ollama/think", "-o", "think", "true", "Why?").stdout


def test_vectors(llm: Command) -> None:
    found = json.loads(llm("embed", "-m", "ollama/vectors", "-c", "some text").stdout)
    assert len(found) == 64


def test_errors(llm: Command) -> None:
    refused = llm(
        "-m", "ollama/hello", "-o", "num_ctx", "-5", "--schema", '{"type": "nothing"}', "Hi"
    )
    assert refused.exit_code == 1 and refused.stderr.startswith("Error: ")
