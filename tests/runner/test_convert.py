"""Conversion in a child process: the same files as without one, its errors, its limit of memory, and that nothing half-made stays."""

from __future__ import annotations

import asyncio
import sys
from contextlib import aclosing
from pathlib import Path

import pytest

from ollamapy.errors import InvalidModel, RunnerCrashed, RunnerError, StoreError
from ollamapy.formats import convert as folders_converted
from ollamapy.formats import llama2c
from ollamapy.formats.gguf import read_header
from ollamapy.formats.lora import convert_adapter
from ollamapy.runner.convert import convert
from ollamapy.runner.protocol import Convert
from tests.formats.folders import FAMILIES, make
from tests.formats.test_llama2c import made, tokenizer_bytes
from tests.formats.test_lora import make_adapter


def converted(order: Convert, code: str = "") -> list[tuple[int, int]]:
    """The progress of a conversion; ``code`` stands for the child's program."""

    async def collect() -> list[tuple[int, int]]:
        command = [sys.executable, "-c", code] if code else None
        async with asyncio.timeout(60):
            return [step async for step in convert(order, command=command)]

    return asyncio.run(collect())


def files_of(folder: Path) -> dict[str, Path]:
    return {path.name: path for path in folder.iterdir()}


def test_a_folder_an_adapter_and_a_checkpoint(tmp_path: Path) -> None:
    weights = make(tmp_path / "folder", FAMILIES["llama"])
    make_adapter(tmp_path / "lora", weights, ["layers.0.self_attn.q_proj"])
    base, adapter = tmp_path / "model.gguf", tmp_path / "adapter.gguf"
    steps = converted(Convert("model", files_of(tmp_path / "folder"), base))
    assert steps == sorted(steps) and steps[-1][0] == steps[-1][1] > 0
    converted(Convert("adapter", files_of(tmp_path / "lora"), adapter, (base,)))

    folders_converted.convert(tmp_path / "folder", tmp_path / "expected")
    assert base.read_bytes() == (tmp_path / "expected").read_bytes()
    convert_adapter(tmp_path / "lora", read_header(base), tmp_path / "expected")
    assert adapter.read_bytes() == (tmp_path / "expected").read_bytes()


def test_a_file_that_is_none_of_it_says_why(tmp_path: Path) -> None:
    make(tmp_path / "folder", FAMILIES["llama"])
    (tmp_path / "folder" / "config.json").write_text("{}")
    with pytest.raises(InvalidModel) as here:
        folders_converted.convert(tmp_path / "folder", tmp_path / "x")
    with pytest.raises(InvalidModel) as there:
        converted(Convert("model", files_of(tmp_path / "folder"), tmp_path / "target"))
    assert str(there.value) == str(here.value)
    assert not (tmp_path / "target").exists()


def test_a_target_that_cannot_be_written(tmp_path: Path) -> None:
    make(tmp_path / "folder", FAMILIES["llama"])
    with pytest.raises(StoreError):
        converted(Convert("model", files_of(tmp_path / "folder"), tmp_path / "no" / "target"))


@pytest.mark.skipif(sys.platform != "linux", reason="needs an enforced limit of address space")
def test_files_that_take_too_much_memory_are_refused(tmp_path: Path) -> None:
    make(tmp_path / "folder", FAMILIES["llama"])
    code = (
        "from ollamapy.runner import convert_child as child\n"
        "def hungry(*_, **__): bytearray(child.MAX_MEMORY)\n"
        "child.convert = hungry\n"
        "child.main()\n"
    )
    with pytest.raises(InvalidModel, match="too much memory"):
        converted(Convert("model", files_of(tmp_path / "folder"), tmp_path / "target"), code)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os; os.read(0, 9); os.write(2, b'no luck'); os._exit(3)", "status 3: no luck"),
        ("import os; os.read(0, 9); os.write(1, b'garbage!'); input()", "SIGKILL.*no frame"),
        ("raise SystemExit(0)", "status 0"),
    ],
)
def test_a_child_that_dies_is_an_error(tmp_path: Path, code: str, words: str) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"half")
    with pytest.raises(RunnerCrashed, match=words):
        converted(Convert("llama2c", {"checkpoint": tmp_path}, target), code)
    assert not target.exists()


def test_a_child_that_cannot_be_started(tmp_path: Path) -> None:
    async def run() -> None:
        order = Convert("llama2c", {}, tmp_path / "target")
        async for _ in convert(order, command=["/no/such/program"]):
            pass

    with pytest.raises(RunnerError, match="cannot be started: no such file"):
        asyncio.run(run())


def test_leaving_kills_the_child_and_removes_the_file(tmp_path: Path) -> None:
    code = (
        "import sys, time; from ollamapy.runner.frames import encode\n"
        "from ollamapy.runner.protocol import Converting\n"
        "sys.stdout.buffer.write(encode(Converting(1, 2))); sys.stdout.flush(); time.sleep(600)\n"
    )
    target = tmp_path / "target"
    target.write_bytes(b"half")

    async def leave() -> None:
        order = Convert("llama2c", {}, target)
        async with aclosing(convert(order, command=[sys.executable, "-c", code])) as steps:
            assert await anext(steps) == (1, 2)
        assert not target.exists()

    asyncio.run(leave())


def test_a_checkpoint_of_llama2c(tmp_path: Path) -> None:
    checkpoint, tokenizer = tmp_path / "model.bin", tmp_path / "tokenizer.bin"
    checkpoint.write_bytes(made(0, True).data)
    tokenizer.write_bytes(tokenizer_bytes())
    files = {"checkpoint": checkpoint, "tokenizer": tokenizer}
    converted(Convert("llama2c", files, tmp_path / "target"))
    llama2c.convert(checkpoint, tokenizer, tmp_path / "expected")
    assert (tmp_path / "target").read_bytes() == (tmp_path / "expected").read_bytes()


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="name of a file"):
        converted(Convert("model", {"\ud800": tmp_path}, tmp_path / "target"))
