"""Ollama's JavaScript client: every method, streamed and whole, asked by one run of node."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.registry.fake_hub import FakeHub
from tests.registry.test_upload import Elsewhere, there
from tests.served import Daemon, until

from .conftest import ANSWER, CITY, HELLO, THOUGHTS, WEATHER

__all__ = ["there"]

FOLDER = Path(sys.prefix) / "judges" / "node"

pytestmark = pytest.mark.skipif(
    not (FOLDER / "node_modules" / "ollama").is_dir() or not shutil.which("node"),
    reason="node or Ollama's JavaScript client is not here, scripts/judges gets both",
)


def test_every_method(judged: Daemon, hub: FakeHub, there: Elsewhere) -> None:
    script = Path(__file__).with_name("judge.cjs")
    registry = f"{there.url.removeprefix('http://')}/me/model:1"
    done = subprocess.run(
        ["node", script, FOLDER, judged.url, json.dumps(WEATHER), registry],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert not {name: each for name, each in found.items() if "thrown" in (each or ())}

    assert found["generate"]["response"] == HELLO and found["generate"]["done"]
    assert "".join(chunk["response"] for chunk in found["generate_stream"]) == HELLO
    assert len(found["generate_logprobs"]["logprobs"]) == 8
    assert found["chat"]["message"] == {"role": "assistant", "content": HELLO}
    assert "".join(chunk["message"]["content"] for chunk in found["chat_stream"]) == HELLO
    [call] = found["tools"]["message"]["tool_calls"]
    assert call["function"]["arguments"] == {"city": "Paris"}
    said = found["thinking"]["message"]
    assert (said["thinking"], said["content"]) == (THOUGHTS, ANSWER)
    assert found["form"]["message"]["content"] == CITY

    assert [len(vector) for vector in found["embed"]["embeddings"]] == [4, 4]
    assert len(found["embeddings"]["embedding"]) == 64

    assert {"hello:latest", "rand:latest"} <= {each["name"] for each in found["list"]["models"]}
    assert any(each["name"] == "vectors:latest" for each in found["ps"]["models"])
    assert "tools" in found["show"]["capabilities"] and found["version"]["version"]
    assert found["copy"]["status"] == "success"
    for stream in ("create", "pull", "push"):
        assert found[stream][-1]["status"] == "success"
    assert found["created"]["system"] == "Be kind." and there.manifests
    assert not {"js:latest", "hf.co/me/repo:latest", registry} & set(found["delete"])

    for name, status, text in (
        ("absent", 404, "not found"),
        ("absent_stream", 404, "not found"),
        ("blind", 400, "does not support"),
        ("option", 400, "num_ctx"),
    ):
        error = found[name]
        assert (error["name"], error["status"]) == ("ResponseError", status)
        assert text in error["error"]
    assert found["aborted"]["name"] == "AbortError"
    until(lambda: judged.busy() == 0, "what was aborted has ended")
