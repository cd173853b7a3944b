"""Frames: what is written is read back, however the stream is cut."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamapy.loading import File, Files, LoadPlan
from ollamapy.runner.frames import MAX_FRAME, Frame, FrameReader, FrameTooLong, encode
from ollamapy.runner.protocol import (
    Cancel,
    Count,
    Done,
    Failed,
    FromRunner,
    Generate,
    Held,
    Load,
    Loading,
    Piece,
    Ready,
    Resize,
    Resized,
    Stop,
    Texts,
    Tokenize,
    ToRunner,
)
from ollamapy.types import Constraint, Generation, Media, Prompt, Sampling, TokenLogprob
from tests.plans import plan

TO_RUNNER = [
    Load(plan("/a b/ü.gguf", n_ctx=4096, kv_type="q8_0", flash_attention=True)),
    Load(
        LoadPlan(
            Files(
                File(Path(os.fsdecode(b"/not UTF-8/\xff.gguf")), "sha256:0a", 7),
                shards=(File(Path("2"), "sha256:0b", 8),),
                adapters=(File(Path("lora")),),
                projector=File(Path("sees")),
                adapter_size=5,
            ),
            n_ctx=1,
        )
    ),
    Generate(
        1,
        Generation(
            Prompt(("héllo\x00",)), Sampling(seed=2**63 - 1, top_k=0), stop=("a", "b"), logprobs=0
        ),
    ),
    Generate(
        2,
        Generation(
            Prompt(((1, 2, 3), "a")),
            constraint=Constraint("choice", '["a"]'),
            logit_bias=((1, -1.5),),
        ),
    ),
    Tokenize(3, "", 10, add_special=False),
    Count(3, Prompt(("a", Media(b"\x89PNG"), (1, 2)))),
    Resize(4, plan("/m.gguf", n_ctx=512, n_slots=3)),
    Cancel(1),
    Stop(),
]
FROM_RUNNER = [
    Loading(0.5),
    Ready(n_ctx=256, n_slots=8),
    Texts((Piece(1, "x"), Piece(2, "y", (TokenLogprob("t", -0.5, (116,)),)))),
    Done(1, "length", n_prompt=3, predict_ns=5),
    Held(5),
    Resized(4, 512, 3),
    Failed(2, "too_long", "no"),
]


@pytest.mark.parametrize(("messages", "frames"), [(ToRunner, TO_RUNNER), (FromRunner, FROM_RUNNER)])
def test_every_split_point(messages: Any, frames: list[Frame]) -> None:
    data = b"".join(map(encode, frames))
    for cut in range(len(data) + 1):
        reader = FrameReader(messages)
        assert [*reader.feed(data[:cut]), *reader.feed(data[cut:])] == frames


@pytest.mark.parametrize(
    "data",
    [struct.pack("<I", MAX_FRAME + 1), struct.pack("<I", 3) + b"abc", b"\1\0\0\0\x80"],
)
def test_what_is_no_frame_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        list(FrameReader(FromRunner).feed(data))


@given(st.binary(max_size=200))
def test_no_bytes_do_worse_than_a_value_error(data: bytes) -> None:
    try:
        list(FrameReader(ToRunner).feed(data))
    except ValueError:
        pass


def test_both_ends_keep_to_their_limit() -> None:
    text = Failed(1, "invalid", "x" * 100)
    with pytest.raises(FrameTooLong):
        encode(text, limit=100)
    reader = FrameReader(FromRunner, limit=100)
    with pytest.raises(FrameTooLong):
        reader.feed(encode(text)[:4])
