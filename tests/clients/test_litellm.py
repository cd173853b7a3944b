"""litellm, as a client of each of the APIs that it knows us by, asked by one run in its own environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.served import Daemon

from .conftest import CITY, HELLO, THOUGHTS, WEATHER

PYTHON = Path(sys.prefix) / "judges" / "litellm" / "bin" / "python"

pytestmark = pytest.mark.skipif(
    not PYTHON.exists(), reason="litellm is not here, scripts/judges gets it"
)


@pytest.fixture(scope="module")
def found(judged: Daemon) -> dict[str, Any]:
    """What it made of every request."""
    script = Path(__file__).with_name("judge_litellm.py")
    offline = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "OLLAMA_API_BASE": judged.url}
    done = subprocess.run(
        [PYTHON, script, judged.url, json.dumps(WEATHER)],
        env=os.environ | offline,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    answers: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answers


def test_nothing_fails(found: dict[str, Any]) -> None:
    assert not {name: each for name, each in found.items() if "thrown" in (each or ())}


@pytest.mark.parametrize("kind", ["ollama", "ollama_chat", "openai", "anthropic"])
def test_answers(found: dict[str, Any], kind: str) -> None:
    assert found[f"whole {kind}"] == found[f"stream {kind}"] == HELLO
    assert found[f"async {kind}"] == [HELLO, HELLO]
    prompt, said, total = found[f"usage {kind}"]
    assert prompt > 0 and said > 0 and total == prompt + said
    error, text = found[f"absent {kind}"]
    assert error in ("NotFoundError", "APIConnectionError") and "not found" in text


@pytest.mark.parametrize("kind", ["ollama_chat", "openai", "anthropic"])
def test_tools(found: dict[str, Any], kind: str) -> None:
    assert found[f"tools {kind}"] == ["get_weather", {"city": "Paris"}]


def test_forms_thoughts_and_vectors(found: dict[str, Any]) -> None:
    assert json.loads(found["form ollama"]) == json.loads(found["form openai"]) == json.loads(CITY)
    assert found["thinking"] == THOUGHTS
    assert found["vectors ollama"] == found["vectors openai"] == [64, 64]
