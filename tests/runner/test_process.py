"""The parent's side of a runner against children that behave and children that do not."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Coroutine
from contextlib import aclosing
from pathlib import Path
from typing import Any

import psutil
import pytest

from ollamapy.errors import LoadFailed, OllamapyError, RunnerCrashed, RunnerError
from ollamapy.runner import child
from ollamapy.runner.kernels import Kernels
from ollamapy.runner.process import RunnerProcess
from ollamapy.runner.protocol import Done, Piece
from ollamapy.types import Generation, Prompt
from tests.plans import plan

FAKE = [sys.executable, str(Path(__file__).with_name("fake_child.py"))]


def start(
    how: str, stall_timeout: float | None = None, kernels: Kernels | None = None
) -> RunnerProcess:
    wanted = plan(how, n_ctx=64, tensor_types=("F32", "Q4_0"))
    return RunnerProcess(wanted, command=FAKE, stall_timeout=stall_timeout, kernels=kernels)


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a test's coroutine, with a limit far beyond what it needs."""

    async def limited() -> None:
        async with asyncio.timeout(60):
            await coroutine

    asyncio.run(limited())


async def answer(runner: RunnerProcess, prompt: str = "hello") -> tuple[str, Done | None]:
    text, done = "", None
    async for item in runner.generate(Generation(Prompt((prompt,)))):
        if isinstance(item, Piece):
            text += item.text
        elif isinstance(item, Done):
            done = item
    return text, done


async def says(runner: RunnerProcess, line: str) -> None:
    """Wait until the child has written a line on stderr."""
    while line not in runner.tail:  # noqa: ASYNC110 - what another process says has no event
        await asyncio.sleep(0.01)


def test_ready_generate_stop() -> None:
    async def scenario() -> None:
        runner = start("ready")
        assert (await runner.ready()).n_ctx == 64
        text, done = await answer(runner)
        assert text == "first hello" and done is not None and done.reason == "stop"
        assert (runner.in_flight, runner.held) == (0, 7)
        await runner.stop()
        assert await runner.wait() == 0
        with pytest.raises(RunnerCrashed):
            await answer(runner)

    run(scenario())


@pytest.mark.parametrize(
    ("how", "error", "words"),
    [
        ("load-refused", LoadFailed, "no such magic"),
        ("load-crash", RunnerCrashed, "SIGSEGV"),
        ("load-exit", RunnerCrashed, "exit status 3"),
    ],
)
def test_a_load_that_fails_says_why(how: str, error: type[OllamapyError], words: str) -> None:
    async def scenario() -> None:
        runner = start(how)
        with pytest.raises(error, match=words):
            await runner.ready()
        with pytest.raises(error):
            await runner.ready()
        await runner.wait()

    run(scenario())


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("crash", "SIGSEGV: fake: about to fault"),
        ("exit", "exit status 3"),
        ("garbage", "no frame"),
        ("close", "SIGKILL"),
    ],
)
def test_a_child_that_dies_ends_every_open_request(
    how: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "CLOSE_GRACE", 0.05)

    async def scenario() -> None:
        runner = start(how)
        await runner.ready()
        answers = [asyncio.ensure_future(answer(runner)) for _ in range(3)]
        for ending in await asyncio.gather(*answers, return_exceptions=True):
            assert isinstance(ending, RunnerCrashed)
            assert words in str(ending)
        assert runner.pid is not None and not psutil.pid_exists(runner.pid)

    run(scenario())


@pytest.mark.parametrize("how", ["load-silent", "silent"])
def test_a_child_that_falls_silent_is_killed(how: str) -> None:
    async def scenario() -> None:
        runner = start(how, stall_timeout=0.3)
        with pytest.raises(RunnerCrashed, match="no sign of life"):
            await runner.ready()
            await answer(runner)

    run(scenario())


def test_an_idle_child_may_be_silent() -> None:
    async def scenario() -> None:
        runner = start("ready", stall_timeout=1.0)
        await runner.ready()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.6):
                await runner.wait()
        assert (await answer(runner))[0] == "first hello"
        await runner.stop()

    run(scenario())


def test_leaving_an_answer_cancels_it() -> None:
    async def scenario() -> None:
        runner = start("slow")
        await runner.ready()
        async with aclosing(runner.generate(Generation(Prompt(("x",))))) as pieces:
            assert await anext(pieces) == Piece(1, "first ")
        assert runner.in_flight == 0
        await says(runner, "fake: cancelled 1")
        await runner.stop()

    run(scenario())


@pytest.mark.parametrize("how", ["flood", "flood-logprobs"])
def test_a_client_too_slow_is_cancelled_alone(how: str) -> None:
    async def scenario() -> None:
        runner = start(how)
        await runner.ready()
        async with aclosing(runner.generate(Generation(Prompt(("x",))))) as pieces:
            await anext(pieces)
            await says(runner, "fake: cancelled 1")
            with pytest.raises(RunnerError, match="too slowly"):
                async for _ in pieces:
                    pass
        text, done = await answer(runner, "y")
        assert text.endswith("y") and done is not None
        await runner.stop()

    run(scenario())


def test_a_deaf_child_is_killed() -> None:
    async def scenario() -> None:
        runner = start("deaf")
        await runner.ready()
        await runner.stop(grace=0.2)
        assert await runner.wait() == -signal.SIGKILL

    run(scenario())


def test_a_child_ends_when_its_parent_is_killed() -> None:
    code = (
        "import asyncio, sys\n"
        "from ollamapy.runner.process import RunnerProcess\n"
        "from tests.plans import plan\n"
        "async def main():\n"
        f"    runner = RunnerProcess(plan('ready', n_ctx=64), command={FAKE!r})\n"
        "    await runner.ready()\n"
        "    print(runner.pid, flush=True)\n"
        "    await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert child.wait(timeout=60) in (0, None)


def test_a_build_that_faults_in_its_warm_up_is_survived_and_remembered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kernels = Kernels(tmp_path / "state" / "kernels.json", lambda: "this machine")

    async def scenario() -> None:
        runner = start("repack-faults", kernels=kernels)
        await runner.started()
        first = runner.pid
        await runner.ready()
        assert runner.pid != first and not runner.plan.extra_bufts
        assert (await answer(runner))[0] == "first hello"
        await runner.stop()
        again = start(
            "repack-faults",
            kernels=Kernels(tmp_path / "state" / "kernels.json", lambda: "this machine"),
        )
        await again.started()
        pid = again.pid
        await again.ready()
        assert again.pid == pid and not again.plan.warm_up
        await again.stop()

    run(scenario())
    assert kernels.work(("Q4_0", "F32")) is False
    assert sum("rebuild it" in record.message for record in caplog.records) == 1


def test_a_build_that_works_is_warmed_up_once(tmp_path: Path) -> None:
    kernels = Kernels(tmp_path / "kernels.json", lambda: "this machine")

    async def scenario() -> None:
        for warm_up in (True, False):
            runner = start("ready", kernels=kernels)
            assert runner.plan.warm_up is warm_up and runner.plan.extra_bufts
            await runner.ready()
            await runner.stop()

    run(scenario())
    assert kernels.work(("F32", "Q4_0")) is True


@pytest.mark.parametrize("how", ["crash", "load-crash"])
def test_a_later_fault_makes_it_unknown_again(tmp_path: Path, how: str) -> None:
    kernels = Kernels(tmp_path / "kernels.json", lambda: "this machine")
    kernels.remember(("F32", "Q4_0"), works=True)

    async def scenario() -> None:
        runner = start(how, kernels=kernels)
        assert not runner.plan.warm_up
        with pytest.raises(RunnerCrashed):
            await runner.ready()
            await answer(runner)

    run(scenario())
    assert kernels.work(("F32", "Q4_0")) is None


def test_when_the_second_try_cannot_be_started_nobody_waits_for_ever(tmp_path: Path) -> None:
    once = tmp_path / "once"
    once.write_text(f'#!/bin/sh\nrm "$0"\nexec {FAKE[0]} {FAKE[1]}\n')
    once.chmod(0o700)

    async def scenario() -> None:
        wanted = plan("repack-faults", n_ctx=64)
        kernels = Kernels(tmp_path / "kernels.json", lambda: "here")
        runner = RunnerProcess(wanted, command=[str(once)], kernels=kernels)
        with pytest.raises(RunnerError, match="cannot be started"):
            await runner.ready()
        await runner.stop()

    run(scenario())


def test_a_fault_that_has_other_causes_proves_nothing(tmp_path: Path) -> None:
    kernels = Kernels(tmp_path / "kernels.json", lambda: "here")

    async def scenario() -> None:
        runner = start("load-crash", kernels=kernels)
        with pytest.raises(RunnerCrashed, match="SIGSEGV"):
            await runner.ready()

    run(scenario())
    assert kernels.work(("F32", "Q4_0")) is None


def test_a_command_that_does_not_exist_is_a_runner_error() -> None:
    async def scenario() -> None:
        runner = RunnerProcess(plan("x", n_ctx=1), command=["/no/such/program"])
        with pytest.raises(RunnerError, match="cannot be started: no such file or directory"):
            await runner.ready()
        with pytest.raises(RunnerError, match="cannot be started"):
            await answer(runner)
        await runner.stop()

    run(scenario())


def test_no_pipe_is_left_open() -> None:
    async def scenario() -> None:
        async def once() -> None:
            runner = start("ready")
            await runner.ready()
            await runner.stop()

        await once()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            await once()
        assert len(os.listdir("/proc/self/fd")) == before

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("no /proc on this system")
    run(scenario())


def test_a_defect_while_a_frame_is_handled_leaves_nobody_waiting() -> None:
    def fail(stage: str, fraction: float) -> None:
        raise LookupError("a defect")

    async def scenario() -> None:
        runner = start("load-silent")
        runner.on_progress = fail
        with pytest.raises(RunnerCrashed, match="a defect"):
            async with asyncio.timeout(60):
                await runner.ready()
        await runner.stop()

    run(scenario())


def test_a_second_child_that_cannot_be_spawned_signals_no_reaped_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of a reaped process may be another's by then."""
    signalled: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: signalled.append(pid))
    once = tmp_path / "once"
    once.write_text(f'#!/bin/sh\nrm "$0"\nexec {FAKE[0]} {FAKE[1]}\n')
    once.chmod(0o700)

    async def scenario() -> None:
        kernels = Kernels(tmp_path / "kernels.json", lambda: "here")
        wanted = plan("repack-faults", n_ctx=64)
        runner = RunnerProcess(wanted, command=[str(once)], kernels=kernels)
        with pytest.raises(RunnerError, match="cannot be started"):
            await runner.ready()
        assert signalled == []

    run(scenario())


@pytest.mark.parametrize("error", [OSError(28, "no space"), RuntimeError("odd")])
def test_pipes_that_fail_leave_no_one_waiting_and_no_watcher(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "SPAWN_SECONDS", 0.5)

    async def scenario() -> None:
        async def refuse(*_: Any) -> None:
            raise error

        monkeypatch.setattr(asyncio.get_running_loop(), "connect_read_pipe", refuse)
        runner = start("ready", stall_timeout=600)
        with pytest.raises(RunnerError):
            async with asyncio.timeout(60):
                await runner.ready()
        await runner.stop()
        await asyncio.sleep(0)
        assert not [task for task in asyncio.all_tasks() if "watch" in task.get_name()]

    run(scenario())


def test_the_end_of_the_loop_is_the_end_of_the_child() -> None:
    started: list[psutil.Process] = []

    async def scenario() -> None:
        runner = start("deaf")
        await runner.ready()
        started.append(psutil.Process(runner.pid))

    run(scenario())
    assert started[0].wait(timeout=60) in (None, -signal.SIGKILL)


@pytest.mark.parametrize("turns", [0, 1, 5])
def test_a_runner_whose_task_is_cancelled_leaves_no_one_waiting(turns: int) -> None:
    """As the loop does when it closes."""

    async def scenario() -> None:
        runner = start("load-silent")
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            if task.get_name() in ("runner", "spawn runner"):
                task.cancel()
        with pytest.raises(RunnerError):
            await runner.ready()
        with pytest.raises(RunnerError):
            await answer(runner)
        await runner.stop(grace=0.1)

    run(scenario())
