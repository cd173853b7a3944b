"""Saved prefixes whose files were changed, or belong to something else: no wrong token, no crash, no more disk than allowed."""

from __future__ import annotations

import random
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from ollamapy.engine.cells import Layout
from ollamapy.engine.checkpoints import packed
from ollamapy.engine.saved import BLOCK, Block, name_of, root_of
from ollamapy.loading import File, LoadPlan
from ollamapy.runner import disk as disk_module
from ollamapy.runner.cachefiles import files_of
from ollamapy.runner.disk import Disk
from ollamapy.runner.keeper import key_of
from tests.plans import plan

ROOT = b"r" * 32
LAYOUT = Layout(2, ((1, 64, 1), (1, 64, 1), (8, 34, 1), (8, 34, 1)))


def disk_of(cache: Path, model: str = "abc", root: bytes = ROOT, budget: int = 10**9) -> Disk:
    return Disk(cache, model, root, budget, 0, free=lambda path: 10**12)


def saved(disk: Disk, n_tokens: int, seed: int) -> list[tuple[Block, bytes]]:
    """Write the blocks of a prompt, and the state at its end."""
    noise, blocks, parent = random.Random(seed), [], ROOT
    tokens = [noise.randrange(30_000) for _ in range(n_tokens)]
    for first in range(0, n_tokens, BLOCK):
        part = packed(tokens[first : first + BLOCK])
        body = noise.randbytes(len(part) // 4 * LAYOUT.token_size)
        blocks.append(
            (Block(name_of(parent, part, "rows"), parent, first, part, "rows", len(body)), body)
        )
        parent = blocks[-1][0].name
    body = noise.randbytes(300)
    end = Block(name_of(parent, b"", "end"), parent, n_tokens, b"", "end", len(body))
    blocks.append((end, body))
    disk.write(blocks, LAYOUT)
    return blocks


# ---- damages ---------------------------------------------------------------------------------------------------------


def flip(noise: random.Random, files: list[Path]) -> None:
    """A bit of a file; the shorter a part of it, the likelier are its first bytes: its head."""
    file = noise.choice(files)
    content = bytearray(file.read_bytes())
    content[noise.randrange(noise.choice((len(content), 200)))] ^= 1 << noise.randrange(8)
    file.write_bytes(content)


def cut(noise: random.Random, files: list[Path]) -> None:
    file = noise.choice(files)
    file.write_bytes(file.read_bytes()[: noise.randrange(file.stat().st_size)])


def lengthen(noise: random.Random, files: list[Path]) -> None:
    file = noise.choice(files)
    file.write_bytes(file.read_bytes() + noise.randbytes(noise.randrange(1, 99)))


def swap(noise: random.Random, files: list[Path]) -> None:
    one, other = noise.sample(files, 2)
    first = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(first)


def replace(noise: random.Random, files: list[Path]) -> None:
    """A file by another one that is whole, of this cache."""
    one, other = noise.sample(files, 2)
    one.write_bytes(other.read_bytes())


def vanish(noise: random.Random, files: list[Path]) -> None:
    noise.choice(files).unlink()


Damage = Callable[[random.Random, list[Path]], None]
DAMAGES: list[Damage] = [flip, flip, flip, flip, flip, flip, cut, lengthen, swap, replace, vanish]


@pytest.mark.parametrize(
    "times",
    [pytest.param(300), pytest.param(10_000, marks=[pytest.mark.long, pytest.mark.timeout(900)])],
)
def test_what_was_changed_is_not_read(tmp_path: Path, times: int) -> None:
    """What is read is what was written, or nothing; a file that is wrong is gone then."""
    noise = random.Random(0)
    disk = disk_of(tmp_path / "cache")
    blocks = saved(disk, 300, 1) + saved(disk, 40, 2)
    whole = tmp_path / "whole"
    shutil.copytree(disk.folder, whole)
    n_lost = 0
    for _ in range(times):
        files = sorted(disk.folder.iterdir())
        noise.choice(DAMAGES)(noise, files)
        known = {block.name for block, _ in disk.scan()}
        for block, body in blocks:
            found = disk.read(block)
            assert found is None or found == body
            assert block.name in known or found is None
            n_lost += found is None
        for file in whole.iterdir():
            if not (disk.folder / file.name).exists():
                shutil.copyfile(file, disk.folder / file.name)
    assert n_lost >= times


# ---- another model, setting or build -----------------------------------------------------------------------------------


def loaded(**settings: object) -> LoadPlan:
    return msgspec.structs.replace(plan("m.gguf", 1024), **settings)


FILES = loaded().files


def loaded_with(**files: object) -> LoadPlan:
    return loaded(files=msgspec.structs.replace(FILES, **files))


def file(name: str) -> File:
    return File(Path(name), f"sha256:{name}", 1)


IDENTITY = ("3", "build", "")
KEYS = [
    key_of(loaded(), IDENTITY, "salt"),
    key_of(loaded(kv_type="q8_0"), IDENTITY, "salt"),
    key_of(loaded(kv_type="q4_0"), IDENTITY, "salt"),
    key_of(loaded(flash_attention=False), IDENTITY, "salt"),
    key_of(loaded(flash_attention=True), IDENTITY, "salt"),
    key_of(loaded_with(weights=file("another")), IDENTITY, "salt"),
    key_of(loaded_with(shards=(file("shard"),)), IDENTITY, "salt"),
    key_of(loaded_with(adapters=(file("adapter"),)), IDENTITY, "salt"),
    key_of(loaded_with(projector=file("projector")), IDENTITY, "salt"),
    key_of(loaded(), ("4", "build", ""), "salt"),
    key_of(loaded(), ("3", "another build", ""), "salt"),
    key_of(loaded(), ("3", "build", "yarn 1024"), "salt"),
    key_of(loaded(), IDENTITY, "another daemon"),
]


def test_each_has_a_tree_of_its_own(tmp_path: Path) -> None:
    """And none reads the files of another, even from its own folder under the same names."""
    roots = [root_of(key) for key in KEYS]
    assert len(set(roots)) == len(roots)
    first = disk_of(tmp_path / "cache", root=roots[0])
    blocks = saved(first, 300, 1)
    assert all(first.read(block) == body for block, body in blocks)
    for root in roots[1:]:
        disk = disk_of(tmp_path / "cache", root=root)
        shutil.copytree(first.folder, disk.folder)
        assert [disk.read(block) for block, _ in blocks] == [None] * len(blocks)
        assert list(disk.folder.iterdir()) == []


def test_slots_threads_and_context_share_one() -> None:
    """But for the context where positions depend on it: that is in the identity."""
    same = key_of(loaded(n_slots=4, threads=3, n_ctx=2048, n_batch=64), IDENTITY, "salt")
    assert same == KEYS[0]


# ---- the disk --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "n_prompts",
    [pytest.param(40), pytest.param(1000, marks=[pytest.mark.long, pytest.mark.timeout(900)])],
)
def test_the_disk_is_never_above_its_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_prompts: int
) -> None:
    """Under many different prompts of two models, whose runners write at the same time: looked at after every file."""
    cache, budget = tmp_path / "cache", 600_000
    disks = [disk_of(cache, model, budget=budget) for model in ("abc", "def")]
    sizes: list[int] = []
    write_whole = disk_module._write_whole

    def written(path: Path, head: bytes, body: bytes) -> None:
        write_whole(path, head, body)
        sizes.append(sum(each.size for each in files_of(cache)))

    def write(disk: Disk, seeds: range) -> None:
        for seed in seeds:
            saved(disk, 20 + seed * 7 % 500, seed)

    monkeypatch.setattr(disk_module, "_write_whole", written)
    writers = [
        threading.Thread(target=write, args=(disk, range(at, n_prompts, 2)))
        for at, disk in enumerate(disks)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(sizes) > n_prompts and budget // 2 < max(sizes) <= budget
