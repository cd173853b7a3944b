"""A model's size changes with its requests, in a real daemon: its process stays, and every answer is what it is alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.served import Answer, Daemon, serve
from tests.small_models import install, random_model

pytestmark = pytest.mark.llama
PROMPTS = ("ba ke li mo", "ra zu ti vo", "se nu ba ti")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose slots take a large part of its memory."""
    home = tmp_path_factory.mktemp("home")
    model = random_model(home / "m.gguf", n_layers=8, n_ctx=16384)
    install(home / "models", "m", model)
    return home


@pytest.fixture
def daemon(home: Path) -> Iterator[Daemon]:
    with serve(home, home / "models", NUM_PARALLEL="4", CONTEXT_LENGTH="8192") as running:
        yield running


def stream(daemon: Daemon, prompt: str, n: int, **options: Any) -> Answer:
    """An answer that has begun."""
    options = {"num_predict": n, "temperature": 0, **options}
    body = {"model": "m", "prompt": prompt, "raw": True, "options": options}
    answer = daemon.open("POST", "/api/generate", body)
    assert answer.status == 200 and answer.line()["response"] is not None
    return answer


def ask(daemon: Daemon, prompt: str, n: int, **options: Any) -> Any:
    options = {"num_predict": n, "temperature": 0, **options}
    return daemon.generate("m", prompt, raw=True, options=options).json()


def text(answer: Answer) -> str:
    return "".join(line["response"] for line in answer.lines())


def size(daemon: Daemon) -> int:
    (model,) = daemon.ask("GET", "/api/ps").json()["models"]
    return int(model["size"])


def resizes(daemon: Daemon) -> list[str]:
    lines = daemon.log.read_text().splitlines()
    return [line.partition("m:latest: ")[2] for line in lines if "resizing m:latest" in line]


def test_more_clients_than_slots(daemon: Daemon) -> None:
    alone = [ask(daemon, prompt, 80)["response"] for prompt in PROMPTS]
    at_rest = size(daemon)
    (runner,) = daemon.runners()
    assert resizes(daemon) == []
    first, *others = [stream(daemon, prompt, 80) for prompt in PROMPTS]
    found = [text(answer) for answer in (first, *others)]
    assert [whole[-len(rest) :] for whole, rest in zip(alone, found, strict=True)] == found
    assert resizes(daemon) and all("x 4096 of 8192 tokens" in line for line in resizes(daemon))
    assert daemon.runners() == [runner] and size(daemon) > at_rest


def test_a_longer_context_while_another_answer_is_written(daemon: Daemon) -> None:
    alone = ask(daemon, PROMPTS[0], 120)["response"]
    (runner,) = daemon.runners()
    first = stream(daemon, PROMPTS[0], 120)
    longer = ask(daemon, PROMPTS[1], 8, num_ctx=16384)
    assert longer["context_grown"] == {"from": 8192, "to": 16384}
    assert alone.endswith(text(first))
    assert "context_grown" not in ask(daemon, PROMPTS[2], 8, num_ctx=16384)
    long = ask(daemon, "ba ke li mo " * 2100, 8, num_ctx=16384)
    assert long["prompt_eval_count"] > 8192 and "prompt_truncated" not in long
    assert daemon.runners() == [runner]


def test_a_long_context_takes_memory_when_it_is_used(daemon: Daemon) -> None:
    """A prompt that is longer than what there is at first, then an answer that becomes so."""
    ask(daemon, PROMPTS[0], 4)
    at_rest = size(daemon)
    (runner,) = daemon.runners()
    long = ask(daemon, "ba ke li mo " * 1500, 8)
    assert long["prompt_eval_count"] > 4096 and long["eval_count"] == 8
    assert "prompt_truncated" not in long and "context_grown" not in long
    assert size(daemon) > at_rest and daemon.runners() == [runner]
    assert [line.split(", ")[0] for line in resizes(daemon)] == [
        "1 x 8192 tokens instead of 1 x 4096 of 8192 tokens"
    ]


def test_a_model_of_one_slot_stays_so(home: Path) -> None:
    with serve(home, home / "models", NUM_PARALLEL="1", CONTEXT_LENGTH="8192") as daemon:
        answers = [stream(daemon, prompt, 60) for prompt in PROMPTS[:1]]
        answers += [
            daemon.open(
                "POST",
                "/api/generate",
                {"model": "m", "prompt": prompt, "options": {"num_predict": 40}},
            )
            for prompt in PROMPTS[1:]
        ]
        assert all(answer.lines()[-1]["done"] for answer in answers)
        assert resizes(daemon) == []
