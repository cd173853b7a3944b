"""Files of saved blocks: what is written is read again, and nothing that was changed in any way is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamapy.engine.cells import Layout
from ollamapy.engine.checkpoints import packed
from ollamapy.engine.saved import BLOCK, Block, Kind, name_of
from ollamapy.runner.blockfile import MOST_HEAD, Wrong, body_of, decode, encode
from ollamapy.runner.cachefiles import Found, cache_folder, clear, files_of, surplus
from ollamapy.runner.disk import Disk

LAYOUT = Layout(2, ((1, 64, 1), (1, 64, 1), (8, 2, 17), (8, 2, 17)), transposed=True, placed=True)
ROOT, OTHER = b"r" * 32, b"o" * 32


def block(n: int = 40, kind: Kind = "rows", parent: bytes = ROOT, first: int = 0) -> Block:
    tokens = packed(range(first, first + n))
    return Block(name_of(parent, tokens, kind), parent, first, tokens, kind, 196 * n)


def file_of(block: Block, body: bytes) -> bytes:
    return encode(block, body, LAYOUT, ROOT) + body


def body(block: Block) -> bytes:
    return bytes(i % 251 for i in range(block.size))


@pytest.mark.parametrize("made", [block(1), block(BLOCK), block(7, "end"), block(0, "end")])
def test_a_block_is_read_as_it_was_written(made: Block) -> None:
    content = file_of(made, body(made))
    found, layout, read = body_of(content, ROOT)
    assert (found.name, found.parent, found.tokens, found.kind) == (
        made.name, made.parent, made.tokens, made.kind,
    )  # fmt: skip
    assert layout == LAYOUT and read == body(made) and found.in_file
    head, _, at = decode(content[:MOST_HEAD], ROOT)
    assert (head.name, content[at:]) == (made.name, read)


@given(st.data())
def test_a_changed_file_is_refused(data: st.DataObject) -> None:
    """A flipped bit, an end that is missing, bytes too many, another cache's."""
    made = block(5)
    content = bytearray(file_of(made, body(made)))
    match data.draw(st.sampled_from(["flip", "cut", "more", "foreign"])):
        case "flip":
            content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(
                st.integers(0, 7)
            )
        case "cut":
            del content[data.draw(st.integers(0, len(content) - 1)) :]
        case "more":
            content += data.draw(st.binary(min_size=1, max_size=9))
    root = ROOT if bytes(content) != file_of(made, body(made)) else OTHER
    with pytest.raises(Wrong):
        body_of(bytes(content), root)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path / "cache", "abc", ROOT, 10**6, 0, free=lambda path: 10**9)


def test_blocks_on_the_disk(disk: Disk) -> None:
    first, end = block(BLOCK), block(3, "end", block(BLOCK).name, BLOCK)
    for each in (first, end):
        assert disk.write([(each, body(each))], LAYOUT)
    assert {found.name for found, _ in disk.scan()} == {first.name, end.name}
    assert disk.read(first) == body(first) and disk.read(end) == body(end)
    (one, *_) = disk.folder.iterdir()
    assert one.stat().st_mode & 0o777 == 0o600 and disk.folder.stat().st_mode & 0o77 == 0
    disk.remove(first)
    assert disk.read(first) is None and [found.name for found, _ in disk.scan()] == [end.name]


def test_wrong_files_are_deleted(disk: Disk) -> None:
    """Torn, spoiled, swapped, foreign, unfinished: none is used, none stays."""
    made = [block(9, first=at) for at in range(6)]
    for each in made:
        assert disk.write([(each, body(each))], LAYOUT)
    paths = {each.name: disk.folder / f"{each.name.hex()[:40]}.rows" for each in made}
    torn, spoiled, swapped, with_that, whole, foreign = (paths[each.name] for each in made)
    torn.write_bytes(torn.read_bytes()[:-1])
    content = bytearray(spoiled.read_bytes())
    content[-1] ^= 1
    spoiled.write_bytes(content)
    os.replace(swapped, with_that)
    foreign.write_bytes(encode(made[5], body(made[5]), LAYOUT, OTHER) + body(made[5]))
    (disk.folder / "x.rows.part").write_bytes(b"x")
    assert {found.name for found, _ in disk.scan()} == {made[1].name, made[4].name}
    assert [disk.read(each) for each in made] == [None] * 4 + [body(made[4]), None]
    assert list(disk.folder.iterdir()) == [whole]


def test_the_budget_is_kept_by_the_oldest_first(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "cache", "abc", ROOT, 40_000, 0, free=lambda path: 10**9)
    for at in range(60):
        made = block(20, first=at)
        assert disk.write([(made, body(made))], LAYOUT)
        assert sum(each.size for each in files_of(tmp_path / "cache")) <= 40_000
    assert disk.read(block(20, first=59)) and disk.read(block(20, first=0)) is None
    huge = block(256)
    assert not disk.write([(huge, bytes(50_000))], LAYOUT), "it would never fit"
    assert disk.read(block(20, first=59)), "and nothing is deleted for it"


def test_what_must_go() -> None:
    files = [Found(used, 10, Path(str(used))) for used in (3.0, 1.0, 2.0)]
    assert surplus(files, 10, 40, 100, 0) == []
    assert [each.used for each in surplus(files, 10, 30, 100, 0) or ()] == [1.0]
    assert [each.used for each in surplus(files, 10, 40, 25, 30) or ()] == [1.0, 2.0]
    assert surplus(files, 10, 5, 100, 0) is None and surplus([], 10, 99, 5, 5) is None


def test_the_folder_and_clearing_it(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert cache_folder(cache, 0, "salt") is None
    found = cache_folder(cache, 123, "salt")
    assert found is not None and found.budget == 123 and found.floor > 0
    for model in ("abc", "def"):
        made = block()
        Disk(cache, model, ROOT, 10**6, 0, free=lambda path: 10**9).write(
            [(made, body(made))], LAYOUT
        )
    assert {each.model.partition("-")[0] for each in files_of(cache)} == {"abc", "def"}
    assert clear(cache, "abc-727272727272")[0] == 1 and len(files_of(cache)) == 1
    assert clear(cache)[0] == 1 and files_of(cache) == []
