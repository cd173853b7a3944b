"""WAV files: samples of every kind, cutting at pauses, and files that come from anyone."""

from __future__ import annotations

import io
import struct
import wave

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamapy.errors import InvalidRequest
from ollamapy.formats import wav

RAMP = np.array([0.0, 0.25, -0.25, 0.5, -0.5, 0.99], np.float32)


def encoded(kind: int, bits: int, content: bytes, *, channels: int = 1, rate: int = 8000) -> bytes:
    """A file with these samples."""
    block = channels * bits // 8
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, kind, channels, rate, rate * block, block, bits)
    body = b"WAVE" + form + b"LIST\x03\0\0\0abc\0" + struct.pack("<4sI", b"data", len(content))
    return struct.pack("<4sI", b"RIFF", len(body) + len(content)) + body + content


KINDS = {
    "8 bits": (1, 8, (RAMP * 128 + 128).astype(np.uint8).tobytes(), 300),
    "16 bits": (1, 16, (RAMP * 32_767).astype("<i2").tobytes(), 2),
    "24 bits": (1, 24, b"".join(int(x * 2**23).to_bytes(3, "little", signed=True) for x in RAMP), 2),
    "32 bits": (1, 32, (RAMP.astype(np.float64) * (2**31 - 1)).astype("<i4").tobytes(), 2),
    "floats": (3, 32, RAMP.astype("<f4").tobytes(), 2),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_samples_of_every_kind(name: str) -> None:
    kind, bits, content, tolerance = KINDS[name]
    sound = wav.read(encoded(kind, bits, content))
    assert (sound.rate, sound.seconds) == (8000, len(RAMP) / 8000)
    np.testing.assert_allclose(sound.samples, RAMP * 32_767, atol=tolerance)


def test_a_sound_longer_than_what_is_converted_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = np.random.default_rng(0).integers(-9000, 9000, 5000).astype("<i2")
    whole = wav.read(encoded(1, 16, samples.tobytes(), channels=2))
    loudness = wav.pieces(whole, 0.05)
    monkeypatch.setattr(wav, "_AT_ONCE", 170)
    assert (
        wav.read(encoded(1, 16, samples.tobytes(), channels=2)).samples.tolist()
        == whole.samples.tolist()
    )
    assert wav.pieces(whole, 0.05) == loudness


def test_channels_become_one() -> None:
    left, right = np.array([1000, -400], "<i2"), np.array([3000, 400], "<i2")
    content = np.stack([left, right], 1).tobytes()
    assert wav.read(encoded(1, 16, content, channels=2)).samples.tolist() == [2000, 0]


def test_what_it_writes_other_programs_read() -> None:
    samples = np.arange(-500, 500, dtype="<i2")
    with wave.open(io.BytesIO(wav.write(samples, 16_000))) as file:
        assert (file.getnchannels(), file.getframerate(), file.getsampwidth()) == (1, 16_000, 2)
        assert file.readframes(1000) == samples.tobytes()


BROKEN = {
    "no chunks": b"RIFF\0\0\0\0WAVE",
    "no WAVE": b"RIFF\0\0\0\0WEBP" + bytes(40),
    "a short description": b"RIFF\0\0\0\0WAVEfmt \x04\0\0\0\x01\0\x01\0",
    "a coding": encoded(2, 16, bytes(4)),
    "no channels": encoded(1, 16, bytes(4), channels=0),
    "a thousand channels": encoded(1, 16, bytes(4), channels=1000),
    "an impossible rate": encoded(1, 16, bytes(4), rate=1),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="WAV"):
        wav.read(BROKEN[name])


@given(st.binary(max_size=200), st.integers(0, 60))
def test_no_file_is_an_error_of_ours(noise: bytes, at: int) -> None:
    good = encoded(1, 16, bytes(40))
    for data in (noise, b"RIFF\0\0\0\0WAVE" + noise, good[:at] + noise + good[at:]):
        try:
            sound = wav.read(data)
        except InvalidRequest:
            continue
        assert sound.seconds >= 0


# ---- cutting -------------------------------------------------------------------------------------------------------------


def test_a_long_sound_is_cut_where_it_is_quiet() -> None:
    """Noise of 70 seconds with pauses at 20 and 45 seconds, and one too early to be of use."""
    rate = 1000
    samples = np.random.default_rng(0).integers(-9000, 9000, 70 * rate).astype("<i2")
    for second in (3, 20, 45):
        samples[second * rate : second * rate + 400] = 5
    found = wav.pieces(wav.Sound(samples, rate))
    assert [(round(each.start, 1), round(each.end, 1)) for each in found] == [
        (0.0, pytest.approx(20.2, abs=0.2)),
        (pytest.approx(20.2, abs=0.2), pytest.approx(45.2, abs=0.2)),
        (pytest.approx(45.2, abs=0.2), 70.0),
    ]
    joined = np.concatenate([wav.read(each.content).samples for each in found])
    np.testing.assert_array_equal(joined, samples)


@given(st.lists(st.floats(0, 1e9), max_size=300), st.sampled_from([0.1, 0.5, 1.0, 28.0]))
def test_no_piece_is_too_long_and_none_is_empty(loudness: list[float], longest: float) -> None:
    ends = [0, *wav.cuts(loudness, longest), len(loudness)]
    sizes = [end - start for start, end in zip(ends, ends[1:], strict=False)]
    assert max(sizes) <= max(longest / wav.FRAME, 2) and (min(sizes) > 0 or not loudness)


def test_a_sound_without_samples_has_no_pieces() -> None:
    assert wav.pieces(wav.Sound(np.zeros(0, "<i2"), 8000)) == []
