"""The projectors that tests make: libmtmd loads each, and knows what it is for."""

from __future__ import annotations

from pathlib import Path

import pytest

from ollamapy.engine.library import ctypes_layer

from .small_projectors import KINDS, Kind, bitmap, projector, wave


@pytest.mark.parametrize("kind", KINDS)
def test_each_projector_sees_or_hears(kind: Kind, tmp_path: Path) -> None:
    ctypes_layer()
    from llama_cpp import mtmd_cpp

    caps = mtmd_cpp.mtmd_get_cap_from_file(str(projector(tmp_path / "mmproj.gguf", kind)).encode())

    assert (caps.inp_vision, caps.inp_audio) == (kind != "qwen2a", kind == "qwen2a")


def test_the_same_seed_makes_the_same_file(tmp_path: Path) -> None:
    first, again, other = (
        projector(tmp_path / name, "mlp", seed=seed).read_bytes()
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )

    assert first == again != other


def test_a_bitmap_and_a_wave_say_their_sizes() -> None:
    picture, sound = bitmap(9, 5), wave(0.5)

    assert len(picture) == int.from_bytes(picture[2:6], "little") == 54 + 5 * 28
    assert len(sound) == 8 + int.from_bytes(sound[4:8], "little") == 44 + 2 * 8000
