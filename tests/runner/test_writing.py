"""A child that writes one file: its progress, its result, and that no part of a file stays."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

import pytest

from ollamapy.errors import RunnerCrashed, RunnerError
from ollamapy.runner import writing
from ollamapy.runner.frames import Frame
from ollamapy.runner.protocol import Converting, FromConverter, Quantize
from ollamapy.runner.writing import Refusal, write_file

SCRIPT = """
import os, sys, time
from ollamapy.runner.frames import encode
from ollamapy.runner.protocol import Converted, Converting, Failed
target, how = sys.argv[1:]
sys.stdin.buffer.read(8)
with open(target, "wb") as file:
    file.write(b"part")
def send(frame): os.write(1, encode(frame))
for done in range(1, 4):
    send(Converting(done, 3))
if how == "whole":
    send(Converted())
elif how == "refused":
    send(Failed(0, "load", "no such type"))
elif how == "full":
    send(Failed(0, "disk", "the disk is full"))
elif how == "twice":
    send(Converted()); send(Failed(0, "load", "too late"))
elif how == "dies":
    print("out of luck", file=sys.stderr); sys.exit(3)
elif how == "waits":
    time.sleep(600)
"""


def command(target: Path, how: str) -> list[str]:
    return [sys.executable, "-c", SCRIPT, str(target), how]


async def frames(target: Path, command: Sequence[str]) -> list[Frame]:
    """What a child reports."""
    order = Quantize("a", str(target), 1)
    reports = write_file(order, target, command=command, messages=FromConverter, work="writes")
    return [frame async for frame in reports]


def run(target: Path, how: str) -> list[Frame]:
    async def limited() -> list[Frame]:
        async with asyncio.timeout(60):
            return await frames(target, command(target, how))

    return asyncio.run(limited())


@pytest.mark.parametrize("how", ["whole", "twice"])
def test_progress_comes_before_the_result_which_is_the_first(how: str, tmp_path: Path) -> None:
    target = tmp_path / "target"
    assert run(target, how) == [Converting(done, 3) for done in (1, 2, 3)]
    assert target.read_bytes() == b"part", "the child says that it is whole"


@pytest.mark.parametrize(
    ("how", "kind", "words"),
    [("refused", "load", "no such type"), ("full", "disk", "the disk is full")],
)
def test_a_refusal_has_its_kind_and_leaves_nothing(
    how: str, kind: str, words: str, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    with pytest.raises(Refusal, match=words) as raised:
        run(target, how)
    assert raised.value.kind == kind and not target.exists()


def test_a_child_that_dies_is_named_with_its_last_words(tmp_path: Path) -> None:
    target = tmp_path / "target"
    with pytest.raises(
        RunnerCrashed, match="process that writes ended with exit status 3: out of luck"
    ):
        run(target, "dies")
    assert not target.exists()


def test_a_program_that_is_not_there_is_no_crash(tmp_path: Path) -> None:
    missing = [str(tmp_path / "no such program")]
    with pytest.raises(RunnerError, match="a process that writes cannot be started") as raised:
        asyncio.run(frames(tmp_path / "target", missing))
    assert not isinstance(raised.value, RunnerCrashed)


def test_leaving_kills_the_child_and_removes_its_file(tmp_path: Path) -> None:
    target = tmp_path / "target"

    async def leave() -> None:
        async with asyncio.timeout(60):
            order = Quantize("a", str(target), 1)
            reports = write_file(
                order,
                target,
                command=command(target, "waits"),
                messages=FromConverter,
                work="writes",
            )
            async with aclosing(reports):
                async for _ in reports:
                    assert target.exists()
                    break

    asyncio.run(leave())
    assert not target.exists()


def test_a_slow_reader_loses_old_progress_and_not_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "MAX_WAITING", 1)

    async def read() -> list[Frame]:
        order = Quantize("a", str(tmp_path / "target"), 1)
        reports = write_file(
            order,
            tmp_path / "target",
            command=command(tmp_path / "target", "whole"),
            messages=FromConverter,
            work="writes",
        )
        found = []
        async with asyncio.timeout(60):
            async for frame in reports:
                found.append(frame)
        return found

    found = asyncio.run(read())
    assert found[-1] == Converting(3, 3) and len(found) <= 3
