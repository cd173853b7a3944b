"""What a request waits for, with a real daemon and a real runner: the load, a long prompt, the queue of one slot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.served import Answer, Daemon, serve, until

pytestmark = pytest.mark.llama

WORDS = "The quick brown fox jumps over the lazy dog. " * 30  # a token or so for each byte


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, model_store: Path) -> Iterator[Daemon]:
    with serve(tmp_path_factory.mktemp("home"), model_store, NUM_PARALLEL="1") as running:
        yield running


def body(prompt: str = "Hi", **more: Any) -> dict[str, Any]:
    options = {"num_predict": 3, "num_ctx": 8192, **more.pop("options", {})}
    return {"model": "long", "prompt": prompt, "raw": True, "progress": True, "options": options, **more}  # fmt: skip


@contextmanager
def asked(daemon: Daemon, **request: Any) -> Iterator[Answer]:
    """A request whose answer is read line by line; the client leaves at the end of the block."""
    answer = daemon.open("POST", "/api/generate", body(**request))
    try:
        yield answer
    finally:
        answer.leave()


def reports(lines: list[Any]) -> list[dict[str, Any]]:
    """The reports, which come before everything else."""
    found = [line["progress"] for line in lines if "progress" in line]
    assert all("progress" in line for line in lines[: len(found)])
    return found


def test_a_load_and_a_long_prompt(daemon: Daemon) -> None:
    daemon.ask("POST", "/api/generate", {"model": "long", "keep_alive": 0})
    with asked(daemon, prompt=WORDS) as answer:
        lines = answer.lines()
    found = reports(lines)
    kinds = [each["type"] for each in found]
    loads = [each for each in found if each["type"] == "loading"]
    parts = [each for each in found if each["type"] == "prefill"]
    assert kinds == ["loading"] * len(loads) + ["prefill"] * len(parts) and loads and parts
    assert loads[0] == {"type": "loading", "stage": "starting", "fraction": 0.0}
    assert {each["tokens"] for each in parts} == {lines[-1]["prompt_eval_count"]}
    fractions = [each["fraction"] for each in parts]
    assert fractions == sorted(fractions) and 0 < fractions[0] and fractions[-1] < 1
    assert lines[-1]["done"]


def test_the_part_that_is_cached_counts_as_computed(daemon: Daemon) -> None:
    with asked(daemon, prompt=WORDS) as answer:
        n_tokens = answer.lines()[-1]["prompt_eval_count"]
    with asked(daemon, prompt=WORDS + WORDS[:900]) as answer:
        found = reports(answer.lines())
    assert found and all(each["type"] == "prefill" for each in found)
    assert all(n_tokens - 2 <= each["cached"] <= n_tokens for each in found)
    assert all(each["fraction"] > each["cached"] / each["tokens"] for each in found)


def test_a_short_prompt_for_a_loaded_model_has_no_report(daemon: Daemon) -> None:
    daemon.generate("long", raw=True, options={"num_predict": 1, "num_ctx": 8192})
    with asked(daemon) as answer:
        assert reports(answer.lines()) == []


def answering(answer: Answer) -> None:
    """Read until there is text."""
    while "progress" in answer.line():
        pass


ENDLESS = {"num_predict": 8000}


def test_the_queue_of_one_slot(daemon: Daemon) -> None:
    """The first is computed, the second waits in the engine, the third in the scheduler; places move up."""
    with asked(daemon, options=ENDLESS) as first:
        answering(first)
        with asked(daemon, options=ENDLESS) as second:
            assert second.line()["progress"] == {"type": "queued", "position": 1}
            with asked(daemon) as third:
                assert third.line()["progress"] == {"type": "queued", "position": 2}
                first.leave()
                assert "progress" not in second.line()
                assert third.line()["progress"] == {"type": "queued", "position": 1}
                second.leave()
                lines = third.lines()
                assert reports(lines) == [] and lines[-1]["done"]
    until(lambda: daemon.busy() == 0, "all have left")


def test_who_leaves_the_queue_makes_room_for_those_behind(daemon: Daemon) -> None:
    with ExitStack() as stack:
        answering(stack.enter_context(asked(daemon, options=ENDLESS)))
        waiting = list[Answer]()
        for position in (1, 2, 3):
            waiting.append(stack.enter_context(asked(daemon)))
            assert waiting[-1].line()["progress"] == {"type": "queued", "position": position}
        waiting[1].leave()
        assert waiting[2].line()["progress"] == {"type": "queued", "position": 2}
    until(lambda: daemon.busy() == 0, "all have left")
