"""A runner's process that was started before the event loop: adopted, used, ended and reaped like any other."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest

from ollamapy.config import child_environment
from ollamapy.errors import RunnerCrashed, RunnerError
from ollamapy.runner import adopted, early
from ollamapy.runner.kernels import Kernels
from ollamapy.runner.process import RunnerProcess
from tests.plans import plan
from tests.runner.test_process import FAKE, answer, run

pytestmark = pytest.mark.skipif(
    not hasattr(os, "pidfd_open"), reason="processes are adopted on Linux only"
)


@pytest.fixture
def process() -> subprocess.Popen[bytes]:
    """A fake runner that was started before any loop, as early.start() does it."""
    return subprocess.Popen(
        FAKE,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=child_environment(),
        bufsize=0,
    )


def adopt(process: subprocess.Popen[bytes], how: str) -> RunnerProcess:
    return RunnerProcess(plan(how, n_ctx=64), command=FAKE, spawn=adopted.spawning(process))


def test_it_is_the_runner(process: subprocess.Popen[bytes]) -> None:
    async def scenario() -> None:
        runner = adopt(process, "ready")
        assert (await runner.ready()).n_ctx == 64
        assert runner.pid == process.pid
        text, done = await answer(runner)
        assert text == "first hello" and done is not None
        await runner.stop()
        assert await runner.wait() == 0 and process.returncode == 0

    run(scenario())
    assert not psutil.pid_exists(process.pid)


@pytest.mark.parametrize(("how", "words"), [("crash", "SIGSEGV"), ("exit", "status 3")])
def test_its_death_ends_its_requests(
    process: subprocess.Popen[bytes], how: str, words: str
) -> None:
    async def scenario() -> None:
        runner = adopt(process, how)
        await runner.ready()
        with pytest.raises(RunnerCrashed, match=words):
            await answer(runner)

    run(scenario())
    assert not psutil.pid_exists(process.pid)


def test_one_that_ignores_every_request_is_killed_by_its_handle(
    process: subprocess.Popen[bytes],
) -> None:
    async def scenario() -> None:
        runner = adopt(process, "deaf")
        await runner.ready()
        await runner.stop(grace=0.1)
        assert process.returncode == -signal.SIGKILL

    run(scenario())


def test_a_second_process_is_a_new_one(process: subprocess.Popen[bytes], tmp_path: Path) -> None:
    """The first one faults in its warm-up, and the runner is started once more."""

    async def scenario() -> None:
        wanted = plan("repack-faults", n_ctx=64, tensor_types=("Q4_0",))
        runner = RunnerProcess(
            wanted,
            command=FAKE,
            kernels=Kernels(tmp_path / "kernels.json", lambda: "this machine"),
            spawn=adopted.spawning(process),
        )
        await runner.ready()
        assert runner.pid != process.pid and process.returncode == -signal.SIGSEGV
        await runner.stop()

    run(scenario())


@pytest.mark.parametrize("pipe", ["connect_write_pipe", "connect_read_pipe"])
def test_pipes_that_cannot_be_connected_end_it(
    process: subprocess.Popen[bytes], pipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async def refuse(*_: Any) -> None:
            raise OSError(28, "no space")

        monkeypatch.setattr(asyncio.get_running_loop(), pipe, refuse)
        runner = adopt(process, "ready")
        with pytest.raises(RunnerError):
            await runner.ready()
        await runner.stop(grace=0.1)

    run(scenario())
    assert process.returncode == -signal.SIGKILL and not psutil.pid_exists(process.pid)


def test_one_that_is_not_needed_is_gone() -> None:
    process = early.start()
    assert process is not None
    early.discard(process)
    assert process.returncode is not None and not psutil.pid_exists(process.pid)
