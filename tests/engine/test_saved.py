"""The tree of saved prefixes: what a prompt finds, and what is given up."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ollamapy.engine.cells import MAGIC
from ollamapy.engine.checkpoints import packed
from ollamapy.engine.saved import BLOCK, Block, Kind, Saved, name_of, root_of, salted
from ollamapy.engine.saving import Copy, Saving

ROOT = root_of(["a", "model"])


def save(
    saved: Saved, tokens: list[int], kind: Kind = "rows", salt: bytes = b"", size: int = 10
) -> list[Block]:
    """Add what is wanted of these tokens, the last blocks first; what was given up."""
    gone = []
    for parent, first, end in reversed(saved.wanted(tokens, salt, kind)):
        part = packed(tokens[first:end])
        made = Block(name_of(parent, part, kind), parent, first, part, kind, size, b"x" * size)
        gone += saved.add(made)
    return gone


def tokens(n: int, last: int = 7) -> list[int]:
    return [*range(1, n), last]


def test_a_prompt_finds_its_longest_prefix() -> None:
    saved = Saved(ROOT, 10_000)
    save(saved, tokens(600))
    assert saved.match(tokens(600)).n == 599, "the last token is computed"
    assert saved.match([*tokens(600), 5, 5]).n == 600
    assert saved.match(tokens(400)).n == 399, "a part of a block"
    assert saved.match([9, *tokens(400)]).n == 0
    found = saved.match(tokens(400))
    assert [take for _, take in found.rows] == [BLOCK, 399 - BLOCK] and found.missing == ()


def test_what_is_saved_is_not_wanted_again() -> None:
    saved = Saved(ROOT, 10_000)
    assert [(first, end) for _, first, end in saved.wanted(tokens(600), b"", "rows")] == [
        (0, 256), (256, 512), (512, 600),
    ]  # fmt: skip
    save(saved, tokens(600))
    assert saved.wanted(tokens(600), b"", "rows") == []
    assert saved.wanted([*tokens(600), 1], b"", "rows")[0][1:] == (512, 601)
    gone = save(saved, [*tokens(600), 1])
    assert len(saved) == 3 and [each.n for each in gone] == [88], "the longer one replaces it"


def test_a_model_that_cannot_rewind_needs_an_end() -> None:
    saved = Saved(ROOT, 10_000, needs_end=True)
    save(saved, tokens(600))
    assert saved.match(tokens(700)).n == 0
    for at in (40, 300, 512):
        save(saved, tokens(600)[:at], "end")
    found = saved.match(tokens(600))
    assert (found.n, sum(take for _, take in found.rows)) == (512, 512)
    found = saved.match(tokens(450))
    assert (found.n, [take for _, take in found.rows]) == (300, [256, 44])
    assert saved.match(tokens(300)).n == 40, "an end is of use at its very place"


def test_a_recurrent_state_needs_nothing_else() -> None:
    saved = Saved(ROOT, 10_000, needs_end=True, has_rows=False)
    save(saved, tokens(600), "end")
    assert saved.match([*tokens(600), 1]).n == 600 and saved.match(tokens(599)).n == 0


def test_prompts_of_another_salt_find_nothing() -> None:
    saved = Saved(ROOT, 10_000)
    save(saved, tokens(300), salt=b"mine")
    assert saved.match(tokens(300), b"mine").n == 299
    assert saved.match(tokens(300)).n == saved.match(tokens(300), b"yours").n == 0
    assert salted(ROOT, b"") == ROOT != root_of(["a", "mode", "l"])


def test_the_memory_holds_what_was_used_last() -> None:
    saved = Saved(ROOT, 60)
    save(saved, tokens(600))
    save(saved, [5] * 600)
    saved.use(saved.match(tokens(600)))
    assert saved.size <= 60
    gone = save(saved, [6] * 100)
    assert saved.size <= 60 and saved.match(tokens(600)).n == 599 and len(gone) == 1


def test_a_block_in_a_file_is_known_without_memory() -> None:
    saved = Saved(ROOT, 10)
    first = Block(
        name_of(ROOT, packed(tokens(50)), "rows"),
        ROOT,
        0,
        packed(tokens(50)),
        "rows",
        10,
        b"x" * 10,
    )
    saved.add(first)
    saved.add(first.filed())
    save(saved, [5] * 100)
    (missing,) = saved.match([*tokens(50), 1]).missing
    assert saved.match([*tokens(50), 1], in_memory=True).n == 0
    saved.hold(missing, b"y" * 10)
    assert saved.match([*tokens(50), 1], in_memory=True).n == 50
    saved.drop(missing)
    assert saved.match([*tokens(50), 1]).n == 0


@given(
    st.lists(st.lists(st.integers(1, 2), min_size=1, max_size=600), max_size=6),
    st.lists(st.integers(1, 2), min_size=2, max_size=600),
)
def test_a_match_is_a_prefix_and_the_longest(kept: list[list[int]], asked: list[int]) -> None:
    saved = Saved(ROOT, 10**6)
    for each in kept:
        save(saved, each)
    found = saved.match(asked)
    given_up = [
        token for block, take in found.rows for token in memoryview(block.tokens).cast("i")[:take]
    ]
    assert given_up == asked[: found.n] and found.n < len(asked)
    longest = max((_common(each, asked[:-1]) for each in kept), default=0)
    assert found.n == longest


def _common(a: list[int], b: list[int]) -> int:
    return next(
        (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )


def test_of_a_prompt_with_an_image_that_has_one_position_the_beginning_is_saved() -> None:
    """With M-RoPE, where cells are more than positions; and saving goes on."""
    prompt = [*range(300), -3, -4, -5, 7]
    positions = [*range(300), 300, 300, 300, 302]
    state = bytearray(MAGIC + bytes(4) + struct.pack("<II", 1, len(positions)))
    for position in positions:
        state += struct.pack("<iIiiii", position, 1, position, position, 7, 0)
    state += struct.pack("<IIiQ", 0, 1, 0, 1) + bytes(place % 251 for place in range(304))
    kept = Saved(b"r" * 32, 10**6)
    model: Any = SimpleNamespace(n_slots=1, n_swa=0)
    saving = Saving(model, kept, lambda copy: None)
    blocks, _ = saving.take_apart(Copy(prompt, b"", state, n_slots=1))
    assert [(block.before, block.n) for block, _ in blocks] == [(256, 44), (0, 256)]
    assert blocks[0][1][12 * 44 :] == bytes(place % 251 for place in range(256, 300))
    assert saving.is_worth(prompt, b"")
