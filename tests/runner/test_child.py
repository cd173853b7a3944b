"""A child process: every way in which it can end settles every waiter, once. Most of it with a fake platform.

The fake stands for ``loop.subprocess_exec`` and its transports, on POSIX and on Windows: nothing was run on Windows itself.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollamapy.config import child_environment
from ollamapy.runner import child as children
from ollamapy.runner.child import (
    TRANSITIONS,
    Child,
    Ending,
    Event,
    Rung,
    State,
    signal_name,
    spawn_options,
)
from ollamapy.runner.frames import Frame, encode
from ollamapy.runner.protocol import FromRunner, Loading, Stop, Tokenize, Working

from .fake_platform import Platform, start


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(30):
            await coroutine

    asyncio.run(limited())


# ---- the table -----------------------------------------------------------------------------------


def test_every_state_leads_to_the_end() -> None:
    reaching = {State.ENDED}
    for _ in State:
        reaching |= {s for s, t in TRANSITIONS.items() if reaching & set(t.values())}
    assert reaching == set(State)


def test_every_state_takes_a_stop() -> None:
    assert all(Event.STOP in events for events in TRANSITIONS.values())


def test_nothing_leaves_the_end() -> None:
    assert set(TRANSITIONS[State.ENDED].values()) == {State.ENDED}


def test_what_cannot_happen_raises() -> None:
    async def scenario() -> None:
        child = start(Platform())
        with pytest.raises(RuntimeError, match="exit while starting"):
            child._becomes(Event.EXIT)
        child.kill()
        await child.wait()

    run(scenario())


# ---- spawning ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "failure", [FileNotFoundError(2, "No such file"), RuntimeError("odd"), NotImplementedError()]
)
def test_a_process_that_cannot_be_spawned_settles_who_waits(failure: Exception) -> None:
    async def scenario() -> None:
        child = start(Platform(failure))
        waiting = [asyncio.ensure_future(child.wait()) for _ in range(3)]
        assert await asyncio.gather(*waiting) == [Ending(None, (), failure, spawned=False)] * 3
        await child.started()
        child.send(Stop())
        child.kill()
        assert await child.stop() == Ending(None, (), failure, spawned=False)

    run(scenario())


@pytest.mark.parametrize("turns", [0, 1, 2, 5])
def test_a_spawn_that_is_cancelled_settles_who_waits(turns: int) -> None:
    """As the loop does when it closes: also before the task's first step."""

    async def scenario() -> None:
        child = start(Platform())
        for _ in range(turns):
            await asyncio.sleep(0)
        child._spawning.cancel()
        if child.state is not State.STARTING:
            child.kill()
        ending = await child.wait()
        assert ending.code == (-9 if ending.spawned else None)

    run(scenario())


def test_a_spawn_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """asyncio waits for ever when one of the pipes cannot be connected (3.11)."""
    monkeypatch.setattr(children, "SPAWN_SECONDS", 0.05)

    async def scenario() -> None:
        async def hang(*_: Any, **__: Any) -> None:
            await asyncio.Event().wait()

        ending = await Child(["x"], FromRunner, print, name="fake", spawn=hang).wait()
        assert not ending.spawned and "not connected within" in str(ending.error)

    run(scenario())


@pytest.mark.parametrize("error", [OSError(28, "no space"), RuntimeError("odd")])
def test_pipes_that_cannot_be_connected(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """With real processes: none of them lives on."""
    monkeypatch.setattr(children, "SPAWN_SECONDS", 0.5)

    async def scenario() -> None:
        async def refuse(*_: Any) -> None:
            raise error

        monkeypatch.setattr(asyncio.get_running_loop(), "connect_read_pipe", refuse)
        command = [sys.executable, "-c", "import time; time.sleep(600)"]
        ending = await Child(command, FromRunner, print, name="fake").wait()
        assert not ending.spawned and ending.error is not None

    run(scenario())


def test_what_is_sent_early_waits_for_the_process() -> None:
    async def scenario() -> None:
        platform = Platform()
        child = start(platform)
        child.send(Working())
        child.send(Stop())
        await child.started()
        assert platform.process.stdin.written == encode(Working()) + encode(Stop())
        child.kill()
        await child.wait()

    run(scenario())


# ---- stopping ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dies_of", "calls"),
    [
        ({"terminate": -15}, ["terminate", "close"]),
        ({"kill": -9}, ["terminate", "kill", "close"]),
        ({}, ["terminate", "kill", "close"]),
    ],
)
def test_the_ladder_of_stopping(
    dies_of: dict[str, int], calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "KILL_GRACE", 0.01)

    async def scenario() -> None:
        platform = Platform()
        child = start(platform, farewell=Stop())
        await child.started()
        process = platform.process
        process.dies_of = dies_of
        ending = await child.stop(grace=0.01)
        assert process.stdin.written == encode(Stop()) and process.stdin.closed
        assert process.calls == calls
        assert ending == Ending(next(iter(dies_of.values()), None))
        if not dies_of:
            process.exits(-9)  # after all
        assert child.state is State.ENDED

    run(scenario())


def test_a_stop_goes_on_when_its_caller_is_cancelled() -> None:
    async def scenario() -> None:
        platform = Platform()
        child = start(platform)
        await child.started()
        stopping = asyncio.create_task(child.stop(grace=0.02))
        await asyncio.sleep(0)
        stopping.cancel()
        assert (await child.wait()).code == -9
        assert stopping.cancelled()

    run(scenario())


def test_a_kill_hurries_a_patient_stop() -> None:
    async def scenario() -> None:
        platform = Platform()
        child = start(platform, farewell=Stop())
        await child.started()
        patient = asyncio.create_task(child.stop(grace=600))
        await asyncio.sleep(0)
        child.kill()
        assert (await patient).code == -9
        assert platform.process.calls == ["kill", "close"]

    run(scenario())


@pytest.mark.parametrize("kill", [True, False])
def test_a_child_stopped_before_it_is_spawned(kill: bool) -> None:
    async def scenario() -> None:
        platform = Platform()
        child = start(platform, farewell=Stop())
        if kill:
            child.kill()
        assert child.state is (State.DOOMED if kill else State.STARTING)
        assert (await child.stop(grace=0.01)).code == -9

    run(scenario())


@pytest.mark.parametrize("failure", [ProcessLookupError(), PermissionError(1, "no")])
def test_a_signal_that_fails_is_not_the_end_of_it(
    failure: OSError, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "KILL_GRACE", 0.01)

    async def scenario() -> None:
        platform = Platform()
        child = start(platform)
        await child.started()
        platform.process.failure = failure
        assert (await child.stop(grace=0.01)).code is None
        assert platform.process.calls == ["terminate", "kill", "close"]

    run(scenario())


def test_nothing_is_signalled_after_the_exit() -> None:
    async def scenario() -> None:
        platform = Platform()
        child = start(platform)
        await child.started()
        platform.process.code = 0
        child.process_exited()
        child.kill()  # the fake fails for a process that was reaped
        child.pipe_connection_lost(1, None)
        child.pipe_connection_lost(2, None)
        child.kill()
        assert await child.stop() == Ending(0)
        assert platform.process.calls == ["close"]

    run(scenario())


# ---- pipes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fd", "data", "words"),
    [
        (1, b"\xff\xff\xff\xff", "no frame"),
        (1, b"\3\0\0\0abc", "no frame"),
        (1, encode(Stop()), "no frame"),  # not one of those that it may send
        (1, encode(Loading(0.5)), "a defect"),
    ],
)
def test_what_cannot_be_handled_ends_the_child(fd: int, data: bytes, words: str) -> None:
    async def scenario() -> None:
        got: list[Frame] = []

        def receive(frame: Frame) -> None:
            got.append(frame)
            if isinstance(frame, Loading):
                raise LookupError("a defect")

        platform = Platform()
        child = start(platform, receive)
        await child.started()
        process = platform.process
        process.dies_of = {}
        child.pipe_data_received(1, encode(Working()))
        child.pipe_data_received(fd, data)
        child.pipe_data_received(1, encode(Working()))
        child.pipe_data_received(1, encode(Working()))
        assert got.count(Working()) == 1, "what comes after is not trusted"
        process.exits(-9)
        ending = await child.wait()
        assert words in str(ending.error) and words in ending.last_line

    run(scenario())


@pytest.mark.parametrize("fd", [0, 1])
@pytest.mark.parametrize("error", [None, BrokenPipeError(), RuntimeError("odd")])
def test_a_child_that_loses_a_pipe_must_exit(
    fd: int, error: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "CLOSE_GRACE", 0.01)

    async def scenario() -> None:
        platform = Platform()
        child = start(platform)
        await child.started()
        child.pipe_connection_lost(fd, error)
        assert (await child.wait()).code == -9
        assert platform.process.calls == ["kill", "close"]

    run(scenario())


def test_the_last_frame_arrives_after_the_exit() -> None:
    async def scenario() -> None:
        got: list[Frame] = []
        platform = Platform()
        child = start(platform, got.append)
        await child.started()
        platform.process.code = 1
        child.process_exited()
        child.pipe_data_received(1, encode(Loading(0.5)))
        child.pipe_data_received(2, b"last words")
        child.pipe_connection_lost(1, None)
        child.pipe_connection_lost(2, None)
        assert await child.wait() == Ending(1, ("last words",))
        assert got == [Loading(0.5)]

    run(scenario())


def test_a_pipe_that_someone_keeps_open_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "DRAIN_GRACE", 0.01)

    async def scenario() -> None:
        platform = Platform()
        child = start(platform)
        await child.started()
        platform.process.code = 0
        child.process_exited()
        assert (await child.wait()).code == 0

    run(scenario())


def test_long_frames_wait_while_the_pipe_is_full() -> None:
    async def scenario() -> None:
        platform = Platform()
        child = start(platform)
        await child.started()
        stdin = platform.process.stdin
        child.pause_writing()
        child.send(Tokenize(1, "m" * 1_000_000, 10))
        assert stdin.written == b""
        child.resume_writing()
        assert stdin.written == encode(Tokenize(1, "m" * 1_000_000, 10))
        child.kill()
        await child.wait()

    run(scenario())


def test_a_write_that_fails_ends_the_child() -> None:
    async def scenario() -> None:
        platform = Platform()
        child = start(platform, farewell=Stop())
        await child.started()
        platform.process.stdin.failure = RuntimeError("odd")
        ending = await child.stop(grace=600)
        assert ending.code == -9 and "odd" in str(ending.error)

    run(scenario())


def test_the_tail_is_bounded() -> None:
    async def scenario() -> None:
        platform = Platform()
        child = start(platform)
        await child.started()
        for number in range(100):
            child.pipe_data_received(2, f"{number}\n".encode())
        for _ in range(100):
            child.pipe_data_received(2, b"\xff" * 10_000)
        assert len(child._line) <= children._LONGEST_PART
        platform.process.exits(0)
        tail = (await child.wait()).tail
        assert len(tail) == children.TAIL_LINES and tail[-2] == "99" and len(tail[-1]) == 500

    run(scenario())


# ---- any order ----


ACTIONS = ("stop", "kill", "good", "bad", "line", "lose 0", "lose 1", "lose 2", "exit", "pause", "send", "full", "wait")  # fmt: skip


@settings(deadline=None, max_examples=150)
@given(st.lists(st.sampled_from(ACTIONS), max_size=8), st.booleans(), st.booleans())
def test_whatever_the_order_each_waiter_is_settled_once(
    actions: list[str], early: bool, obeys: bool
) -> None:
    """Everything that asyncio may call, in any order that it may."""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        defects: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: defects.append(context))
        platform = Platform()
        child = start(platform, farewell=Stop())
        waiting = [asyncio.ensure_future(child.wait()) for _ in range(3)]
        if not early:
            await child.started()
        for action in actions:
            await act(child, platform, action, obeys)
        await child.started()
        if not obeys:
            platform.process.dies_of = {}
        child.kill()
        endings = await asyncio.gather(*waiting)
        assert len(set(map(id, endings))) == 1 and child.state is State.ENDED
        assert not defects

    with pytest.MonkeyPatch.context() as patch:
        for grace in ("CLOSE_GRACE", "EOF_GRACE", "KILL_GRACE", "DRAIN_GRACE"):
            patch.setattr(children, grace, 0.001)
        run(scenario())


async def act(child: Child, platform: Platform, action: str, obeys: bool) -> None:
    """One action of the process, or of the daemon; nothing for a process that is not there, or has done it before."""
    process = getattr(platform, "process", None)
    match action.split():
        case ["stop"]:
            stopping = asyncio.create_task(child.stop(grace=0.001))
            await asyncio.sleep(0)
            stopping.cancel()
        case ["kill"]:
            child.kill()
        case ["send"]:
            child.send(Stop())
        case ["wait"]:
            await asyncio.sleep(0.002)
        case _ if process is None:
            pass
        case ["exit"] if process.code is None:
            process.code = 0
            child.process_exited()
        case ["lose", fd] if int(fd) not in process.lost:
            process.lost.add(int(fd))
            child.pipe_connection_lost(int(fd), None if obeys else BrokenPipeError())
        case ["good"] if 1 not in process.lost:
            child.pipe_data_received(1, encode(Working()))
        case ["bad"] if 1 not in process.lost:
            child.pipe_data_received(1, b"\xff" * 8)
        case ["line"] if 2 not in process.lost:
            child.pipe_data_received(2, b"a\nb")
        case ["full"]:
            process.stdin.failure = RuntimeError("odd")
        case ["pause"]:
            child.pause_writing()


# ---- platforms -----------------------------------------------------------------------------------


def test_windows_has_no_sessions_and_no_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    """terminate and kill are the same there, and a fault is an exit code."""
    for name in ("SIGKILL", "SIGTERM", "SIGSEGV"):
        monkeypatch.delattr(signal, name)

    async def scenario() -> None:
        platform = Platform()
        child = start(platform, system="win32")
        await child.started()
        assert platform.options["creationflags"] == 0x08000200
        assert "start_new_session" not in platform.options
        platform.process.dies_of = {"terminate": 1, "kill": 1}
        assert await child.stop(grace=0.01) == Ending(1)
        assert platform.process.calls == ["terminate", "close"]

    run(scenario())


def test_how_it_ended_in_words() -> None:
    assert Ending(-11).how == "by signal SIGSEGV"
    assert Ending(3).how == "with exit status 3"
    assert Ending(0xC0000005).how == "with exit status 0xc0000005"
    assert Ending(None).how == "without an exit code"
    assert signal_name(99) == "99"
    assert spawn_options("linux") == spawn_options("darwin") == {"start_new_session": True}
    assert list(Rung) == sorted(Rung)


def test_a_child_gets_what_it_needs_and_no_secrets() -> None:
    kept = {
        "PATH": "/bin",
        "SystemRoot": r"C:\Windows",
        "LC_ALL": "C",
        "OMP_NUM_THREADS": "2",
        "CUDA_VISIBLE_DEVICES": "0",
        "LD_LIBRARY_PATH": "/x",
        "TMPDIR": "/y",
    }
    dropped = {
        "HF_TOKEN": "secret",
        "HUGGING_FACE_HUB_TOKEN": "secret",
        "https_proxy": "http://user:password@proxy",
        "HTTP_PROXY": "http://proxy",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "LLAMA_ARG_HF_TOKEN": "secret",
        "OLLAMAPY_HOST": "0.0.0.0",
        "OPENAI_API_KEY": "secret",
        "SSH_AUTH_SOCK": "/agent",
    }
    assert child_environment(kept | dropped) == kept | {"GGML_NO_BACKTRACE": "1"}


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads /proc")
def test_the_environment_of_a_real_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")

    async def scenario() -> None:
        code = "import os, sys; print(sorted(os.environ), file=sys.stderr)"
        child = Child([sys.executable, "-c", code], FromRunner, print, name="child")
        ending = await child.wait()
        assert ending.code == 0 and "PATH" in ending.tail[0] and "HF_TOKEN" not in ending.tail[0]

    run(scenario())


def test_a_real_child_is_reaped_and_leaves_no_pipe() -> None:
    async def scenario() -> None:
        code = "import time; time.sleep(600)"

        async def once() -> int | None:
            child = Child([sys.executable, "-c", code], FromRunner, print, name="child")
            await child.started()
            child.kill()
            ending = await child.wait()
            assert child.pid is not None
            assert not psutil.pid_exists(child.pid)
            return ending.code

        assert await once() == -signal.SIGKILL
        await asyncio.sleep(0)
        before = len(os.listdir("/dev/fd"))
        assert await once() == -signal.SIGKILL
        await asyncio.sleep(0)
        assert len(os.listdir("/dev/fd")) <= before

    run(scenario())
