"""States taken apart and put together: of real llama.cpp contexts with other slots and slot counts, and of every cut and flip."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamapy.engine import cells
from ollamapy.engine.cells import HEAD, MAGIC, Layout, Unfit
from ollamapy.engine.llama import Model
from tests.plans import plan
from tests.small_models import random_model, state_model

LAYOUT = Layout(2, ((1, 4, 1), (1, 4, 1), (8, 6, 1), (8, 6, 1)))
KEYS = ((1, 4, 1), (1, 4, 1))
VALUES = ((1, 2, 3), (1, 2, 3))
LAYOUTS = [
    LAYOUT,
    Layout(2, KEYS),
    Layout(2, (*KEYS, *VALUES), transposed=True),
    Layout(2, LAYOUT.rows, placed=True),
    Layout(2, (*KEYS, *VALUES), transposed=True, placed=True),
]


def blocks(n: int, *sizes: int, layout: Layout = LAYOUT) -> list[tuple[bytes, int, int]]:
    """Rows of tokens that are all different, in blocks of so many tokens."""
    found, at = [], 0
    rows = [size for _, size, times in layout.rows for _ in range(times)]
    for count in sizes:
        body = b"".join(
            bytes(
                (16 * row + token + at + each) % 251
                for token in range(count)
                for each in range(size)
            )
            for row, size in enumerate([12, *rows] if layout.placed else rows)
        )
        found.append((body, count, min(count, n - at)))
        at += count
    return found


@given(
    st.sampled_from(LAYOUTS),
    st.lists(st.integers(1, 5), min_size=1, max_size=4),
    st.integers(1, 5),
    st.data(),
)
def test_what_is_composed_is_cut_again(
    layout: Layout, sizes: list[int], n_streams: int, data: st.DataObject
) -> None:
    n = data.draw(st.integers(sum(sizes[:-1]) + 1, sum(sizes)))
    given_blocks = blocks(n, *sizes, layout=layout)
    made = cells.compose(layout, given_blocks, n_streams, after=3)
    found = cells.parse(made, HEAD, n_streams)
    assert found.layout == layout and found.end == len(made) - 3
    assert cells.n_held(found) == n
    at = 0
    for body, count, take in given_blocks:
        rows = cells.cut(made, found, at, at + take)
        one = cells.compose(layout, [(body, count, count)], 1)
        assert rows == cells.cut(one, cells.parse(one, HEAD, 1), 0, take)
        assert take < count or rows == body
        at += take


def test_cells_in_any_order() -> None:
    """llama.cpp fills the cells that are free: positions need not ascend."""
    made = cells.compose(LAYOUT, blocks(4, 4), 1)
    one = Layout(1, ((0, 1, 1),))
    state = bytearray(MAGIC + bytes(4) + struct.pack("<II", 1, 4))
    for position in (2, 3, 0, 1):
        state += struct.pack("<iIi", position, 1, 0)
    state += struct.pack("<IIiQ", 0, 1, 0, 1) + b"CDAB"
    found = cells.parse(state, HEAD, 1)
    assert (found.layout, found.runs) == (one, ((0, 2, 2), (2, 0, 2)))
    assert cells.cut(state, found, 0, 4) == b"ABCD" and cells.cut(state, found, 1, 3) == b"BC"
    assert len(made) == HEAD + cells.size_of(LAYOUT, 4, 1)


def test_cells_of_an_image_have_one_position() -> None:
    """With M-RoPE: what comes before it is there, and nothing else is taken for what it is not."""
    state = bytearray(MAGIC + bytes(4) + struct.pack("<II", 1, 6))
    for position, x, y in ((0, 0, 0), (1, 1, 1), (2, 2, 2), (2, 3, 2), (2, 2, 3), (4, 4, 4)):
        state += struct.pack("<iIiiii", position, 1, x, y, 7, 0)
    state += struct.pack("<IIiQ", 0, 1, 0, 1) + b"ABCDEF"
    found = cells.parse(state, HEAD, 1)
    assert found.layout == Layout(1, ((0, 1, 1),), placed=True)
    assert cells.n_held(found) == 2
    places = struct.pack("<6i", 0, 0, 7, 1, 1, 7)
    assert cells.cut(state, found, 0, 2) == places + b"AB"
    assert found.end == len(state)


@pytest.mark.parametrize(
    "spoiled",
    [
        struct.pack("<II", 2, 0),
        struct.pack("<II", 1, 0),
        struct.pack("<IIiIi", 1, 1, 0, 2, 0),
        struct.pack("<IIiIiIIiQ", 1, 1, 0, 1, 0, 2, 1, 0, 1) + b"A",
        struct.pack("<IIiIiIIiII", 1, 1, 0, 1, 0, 1, 1, 0, 1, 2**31) + b"A",
        struct.pack("<IIiIiIIiQ", 1, 1, 0, 1, 0, 0, 1, 0, 2**40) + b"A",
        struct.pack("<IIiIi", 1, 2**31, 0, 1, 0),
        b"",
    ],
    ids=[
        "streams",
        "none",
        "sequences",
        "transposed",
        "many rows",
        "long row",
        "many cells",
        "empty",
    ],
)
def test_states_of_another_form(spoiled: bytes) -> None:
    with pytest.raises(Unfit):
        cells.parse(MAGIC + bytes(4) + spoiled, HEAD, 1)


@given(st.data())
def test_a_spoiled_state_is_parsed_or_refused(data: st.DataObject) -> None:
    """Whatever is wrong in it, nothing but Unfit is raised, and nothing is read beyond its end."""
    layout = data.draw(st.sampled_from(LAYOUTS))
    state = cells.compose(layout, blocks(5, 3, 3, layout=layout), 2)
    at = data.draw(st.integers(0, len(state) - 1))
    state[at] ^= 1 << data.draw(st.integers(0, 7))
    del state[data.draw(st.integers(0, len(state))) :]
    try:
        found = cells.parse(state, HEAD, 2)
    except Unfit:
        return
    assert all(
        start + found.n * size * times <= len(state)
        for (_, size, times), start in zip(found.layout.rows, found.data, strict=True)
    )


@pytest.mark.llama
@pytest.mark.parametrize(
    ("kind", "kv_type"),
    [
        ("llama", "f16"),
        ("llama", "q8_0"),
        ("window", "q4_0"),
        ("mamba", "f16"),
        ("lfm2", "f16"),
        ("qwen2vl", "f16"),
        ("llama without flash attention", "f16"),
        ("window without flash attention", "f16"),
        ("lfm2 without flash attention", "f16"),
        ("qwen2vl without flash attention", "f16"),
    ],
)
def test_a_state_of_four_slots_goes_on_in_two(tmp_path: Path, kind: str, kv_type: str) -> None:
    """The rows in blocks, of which the last is used in part, and the partial state where there is one."""
    path = tmp_path / "m.gguf"
    kind, _, without = kind.partition(" without ")
    if kind in ("mamba", "lfm2"):
        state_model(path, kind)
    else:
        architecture = "llama" if kind == "window" else kind
        window = 32 if kind == "window" else 0
        random_model(path, window=window, n_embd=128, architecture=architecture)
    four, two = (load(path, n, kv_type, False if without else None) for n in (4, 2))
    tokens = four.tokenize("ba ke li mo ra zu ti vo se nu " * 12)
    n, n_caches = 70, int(kind == "window")
    assert four.decode([(1, 0, tokens[:n], 1)]) == 0
    partial = (
        b"" if four.rewinds else cells.portable(four.save(1, partial=True) or b"", 4, n_caches)
    )
    assert four.rewinds or partial
    more = n if partial else 90
    if not partial:
        assert four.decode([(1, n, tokens[n:more], 1)]) == 0
    if four.has_cells:
        state = four.save(1, partial=False)
        assert state is not None
        found = cells.parse(state, HEAD, 4)
        assert cells.n_held(found) == more
        assert found.layout.transposed == bool(without)
        assert found.layout.placed == (kind == "qwen2vl")
        parts = [
            (cells.cut(state, found, a, b), b - a, min(b, n) - a)
            for a, b in ((0, 32), (32, 64), (64, more))
        ]
        last = cells.with_streams(partial, 2, n_caches)[HEAD:] if partial else b""
        made = cells.compose(found.layout, parts, 2, after=len(last))
        made[len(made) - len(last) :] = last
    else:
        made = bytearray(cells.with_streams(partial, 2, n_caches))
    assert two.restore(1, made, partial=False) and two.trim(1, n)
    rest = tokens[n : n + 20]
    assert two.decode([(1, n, rest, 1)]) == 0
    restored = two.logits(0).copy()
    assert two.decode([(0, 0, tokens[:n], 0)]) == 0 and two.decode([(0, n, rest, 1)]) == 0
    assert (restored == two.logits(0)).all()
    four.close()
    two.close()


def load(path: Path, n_slots: int, kv_type: str, flash: bool | None) -> Any:
    made = plan(path, n_ctx=256, n_slots=n_slots, n_batch=128, threads=1, kv_type=kv_type)
    return Model(msgspec.structs.replace(made, flash_attention=flash))


def in_streams(body: bytes, n_streams: int, slot: int) -> bytes:
    """A cache whose cells, of any form, are in the stream of a slot."""
    before, after = bytes(4 * slot), bytes(4 * (n_streams - 1 - slot))
    return struct.pack("<I", n_streams) + before + body + after


BODIES = st.binary(max_size=40).map(lambda data: struct.pack("<I", 7) + data)


@given(BODIES, st.integers(1, 9), st.integers(1, 9), st.binary(max_size=8), st.data())
def test_a_state_fits_a_context_with_other_slots(
    body: bytes, before: int, after: int, rest: bytes, data: st.DataObject
) -> None:
    """Whatever is in the cells: values that are transposed, cells with more than a position."""
    slot = data.draw(st.integers(0, before - 1))
    cache = in_streams(body, before, slot)
    state = MAGIC + bytes(4) + cache + rest
    found = cells.fitted(state, len(cache), before, after, has_window=False, recurrent=True)
    assert found == MAGIC + bytes(4) + in_streams(body, after, 0) + rest


@given(BODIES, st.integers(1, 9), st.integers(1, 9))
def test_both_caches_of_a_windowed_model_fit(body: bytes, before: int, after: int) -> None:
    full, window = in_streams(body + b"full", before, 0), in_streams(body, before, before - 1)
    state = MAGIC + bytes(4) + full + window
    for n_full, start in ((len(full), HEAD), (0, HEAD + len(full))):
        given_state = state[:HEAD] + state[start:]
        found = cells.fitted(given_state, n_full, before, after, has_window=True, recurrent=False)
        wanted = in_streams(body + b"full", after, 0) if n_full else b""
        assert found == MAGIC + bytes(4) + wanted + in_streams(body, after, 0)


def test_an_empty_slot_fits() -> None:
    state = MAGIC + bytes(4) + struct.pack("<I", 3) + bytes(12)
    found = cells.fitted(state, 16, 3, 2, has_window=False, recurrent=False)
    assert found == MAGIC + bytes(4) + struct.pack("<I", 2) + bytes(8)


@pytest.mark.parametrize(
    "cache",
    [b"", struct.pack("<I", 2), struct.pack("<5I", 4, 0, 0, 0, 0), struct.pack("<5I", 3, 1, 9, 1, 9)],
    ids=["empty", "short", "other streams", "two slots"],
)  # fmt: skip
def test_what_does_not_fit(cache: bytes) -> None:
    with pytest.raises(Unfit):
        cells.fitted(
            MAGIC + bytes(4) + cache, len(cache) or 1, 3, 2, has_window=False, recurrent=False
        )
