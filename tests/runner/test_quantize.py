"""Quantizing in a child process: every type, its progress, and that nothing half-made stays."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path

import pytest

from ollamapy.config import child_command
from ollamapy.engine.llama import Model
from ollamapy.errors import InvalidRequest, RunnerCrashed, RunnerError
from ollamapy.formats.gguf import read_header
from ollamapy.formats.quantization import NEED_MATRIX, TYPES, type_name
from ollamapy.runner.frames import encode
from ollamapy.runner.protocol import Quantize
from ollamapy.runner.quantize import quantize
from tests.plans import plan
from tests.small_models import random_model


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wide enough for the types with blocks of 256."""
    path = tmp_path_factory.mktemp("models") / "random.gguf"
    return random_model(path, n_embd=256, n_ff=512, dtype="F16")


def fractions(source: Path, target: Path, type: str) -> list[float]:
    async def collect() -> list[float]:
        return [fraction async for fraction in quantize(source, target, TYPES[type_name(type)])]

    return asyncio.run(collect())


@pytest.mark.llama
@pytest.mark.parametrize("given", ["q4_K_M", "Q8_0", "q2_k", "iq4_nl", "f32", "bf16"])
def test_a_quantized_model_runs(source: Path, tmp_path: Path, given: str) -> None:
    target = tmp_path / "small.gguf"
    told = fractions(source, target, given)
    assert told[-1] == 1.0 and told == sorted(told) and len(told) > 10
    assert read_header(target).file_type_name == given.upper()
    model = Model(plan(target, n_ctx=64, n_slots=1, n_batch=32, threads=1))
    model.warm_up()
    assert model.tokenize("ba ke")
    model.close()


@pytest.mark.llama
def test_every_type_that_is_offered_can_be_written(source: Path, tmp_path: Path) -> None:
    """In one process, which is quicker: the call of llama.cpp alone."""
    code = (
        "import sys; from pathlib import Path; from ollamapy.engine.quantize import quantize\n"
        "for n in sys.argv[3:]:\n"
        "    told = []; quantize(Path(sys.argv[1]), Path(sys.argv[2] + n), int(n), told.append)\n"
        "    assert told[-1] == 1.0, n\n"
    )
    numbers = [str(number) for number in TYPES.values()]
    command = [sys.executable, "-c", code, str(source), str(tmp_path / "as"), *numbers]
    subprocess.run(command, check=True, capture_output=True, timeout=100)
    for name, number in TYPES.items():
        assert read_header(tmp_path / f"as{number}").file_type_name == name


@pytest.mark.parametrize(
    ("given", "meant"),
    [("q4_K_M", "Q4_K_M"), ("Q8_0", "Q8_0"), ("fp16", "F16"), (" q5_k ", "Q5_K_M"), ("f32", "F32")],
)
def test_names_are_ollamas_in_any_case(given: str, meant: str) -> None:
    assert type_name(given) == meant


@pytest.mark.parametrize("given", ["q9_9", "", "Q8_K", "general.file_type"])
def test_an_unknown_type_names_the_known_ones(given: str) -> None:
    with pytest.raises(InvalidRequest, match="Q4_K_M"):
        type_name(given)


@pytest.mark.parametrize("given", sorted(NEED_MATRIX))
def test_a_type_that_needs_a_matrix_says_so(given: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="importance matrix"):
        fractions(tmp_path / "any.gguf", tmp_path / "target.gguf", given)


@pytest.mark.llama
def test_what_llama_cpp_refuses_is_an_error_with_its_reason(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target.gguf"
    fractions(source, tmp_path / "q8.gguf", "Q8_0")
    with pytest.raises(RunnerError, match="requantizing from type q8_0"):
        fractions(tmp_path / "q8.gguf", target, "Q4_0")
    (tmp_path / "cut.gguf").write_bytes(source.read_bytes()[:5000])
    with pytest.raises(RunnerError, match="cannot be quantized"):
        fractions(tmp_path / "cut.gguf", target, "Q4_0")
    assert not target.exists()


@pytest.mark.llama
def test_a_file_that_cannot_be_written_is_told_from_a_model_that_cannot_be_quantized(
    source: Path, tmp_path: Path
) -> None:
    """The limit of a file's size stands for a full disk."""
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from ollamapy.engine.quantize import quantize\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "quantize(Path(sys.argv[1]), Path(sys.argv[2]), 7, lambda done: None)\n"
    )
    command = [sys.executable, "-c", code, str(source), str(tmp_path / "target.gguf")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert (
        "LoadFailed: the model cannot be quantized: the file cannot be written (file too large)"
        in run.stderr
    )


@pytest.mark.llama
def test_cancelling_kills_the_child_and_removes_the_file(tmp_path: Path) -> None:
    source = random_model(tmp_path / "big.gguf", n_embd=512, n_ff=2048, n_layers=6, dtype="F16")
    target = tmp_path / "target.gguf"

    async def cancel() -> set[int]:
        before = children()
        async with aclosing(quantize(source, target, TYPES["Q2_K"])) as progress:
            async for _ in progress:
                assert children() - before
                break
        return children() - before

    assert asyncio.run(cancel()) == set()
    assert not target.exists()


def children() -> set[int]:
    return {
        int(pid)
        for task in Path("/proc/self/task").iterdir()
        for pid in (task / "children").read_text().split()
    }


def test_a_child_that_dies_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    dying = "import sys; sys.stdin.buffer.read(9); print('no luck', file=sys.stderr); sys.exit(3)"

    async def run() -> None:
        command = [sys.executable, "-c", dying]
        async for _ in quantize(tmp_path / "a", tmp_path / "b", TYPES["Q8_0"], command=command):
            pass

    with pytest.raises(RunnerCrashed, match="status 3: no luck"):
        asyncio.run(run())


@pytest.mark.llama
def test_the_child_ends_with_the_daemon(tmp_path: Path) -> None:
    """Its stdin closes: that is how a dead daemon looks from there."""
    source = random_model(tmp_path / "big.gguf", n_embd=512, n_ff=2048, n_layers=8, dtype="F16")
    child = subprocess.Popen(
        child_command("ollamapy.runner"), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdin is not None and child.stdout is not None
    try:
        child.stdin.write(encode(Quantize(str(source), str(tmp_path / "target.gguf"), 10)))
        child.stdin.flush()
        assert child.stdout.read(8), "it is at work"
        child.stdin.close()
        assert child.wait(timeout=60) == 0
    finally:
        if child.poll() is None:
            os.kill(child.pid, signal.SIGKILL)
        child.stdout.close()
        child.wait()
