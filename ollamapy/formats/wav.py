"""WAV files: the samples of a sound as one channel, and where a long one is cut. Pure.

    RIFF size WAVE | "fmt " chunk: kind, channels, rate, ..., bits | "data" chunk: samples, channel after channel

Integers of 8, 16, 24 and 32 bits and floats of 32; sizes are compared with the file before they are used. A long sound is cut
where it is quiet: models hear a piece of up to half a minute at a time. Format: RIFF, "Multimedia Programming Interface and Data
Specifications 1.0" (IBM, Microsoft, 1991), WAVEFORMATEXTENSIBLE.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..errors import InvalidRequest

_INTEGERS, _FLOATS, _EXTENSIBLE = 1, 3, 0xFFFE
_MOST_CHANNELS, _LOWEST_RATE, _HIGHEST_RATE = 32, 1000, 384_000

FRAME = 0.02
"""Seconds of which the loudness is one number."""

LONGEST = 28.0
"""Seconds of a piece, at most: encoders of Whisper's kind take 30."""

_AT_ONCE = 2**18
"""Samples of each channel, or frames, that are converted at a time: as floats they take four times their bytes, or more."""

_QUIET = 0.2
"""Seconds that a pause has, over which the loudness is averaged."""


@dataclass(frozen=True, slots=True)
class Sound:
    """One channel of samples, a numpy array of 16-bit integers, at ``rate`` samples a second."""

    samples: Any
    rate: int

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.samples) / self.rate


class Piece(NamedTuple):
    """A part of a sound, from ``start`` to ``end`` in seconds, as a WAV file of its own."""

    start: float
    end: float
    content: bytes


def read(data: bytes) -> Sound:
    """The sound of a WAV file. Raises InvalidRequest for a broken one, and for a coding that is not plain samples."""
    import numpy as np

    chunks = dict(_chunks(data))
    if not data.startswith(b"RIFF") or data[8:12] != b"WAVE" or len(chunks.get(b"fmt ", b"")) < 16:
        raise InvalidRequest("the WAV file is broken: it has no description of its samples")
    description = chunks[b"fmt "]
    kind, channels, rate, _, block, bits = struct.unpack_from("<HHIIHH", description)
    if kind == _EXTENSIBLE and len(description) >= 26:
        (kind,) = struct.unpack_from("<H", description, 24)
    known = (kind == _INTEGERS and bits in (8, 16, 24, 32)) or (kind, bits) == (_FLOATS, 32)
    if not known:
        raise InvalidRequest(
            f"a WAV file of kind {kind} with {bits} bits is not known, save it with 16"
        )
    fits = block == channels * bits // 8
    if not (0 < channels <= _MOST_CHANNELS and _LOWEST_RATE <= rate <= _HIGHEST_RATE and fits):
        raise InvalidRequest("the WAV file is broken: its channels or its rate are impossible")
    content = chunks.get(b"data", b"")
    usable = len(content) // block * block
    step = block * _AT_ONCE
    parts = [
        _mono(content[at : min(at + step, usable)], kind, bits, channels)
        for at in range(0, usable, step)
    ]
    return Sound(np.concatenate(parts) if parts else np.zeros(0, "<i2"), rate)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The chunks of a RIFF file, the first of each name; one that is cut off, or says 0 while it is streamed, is what is there."""
    at, seen = 12, set()
    while at + 8 <= len(data):
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if name == b"data" and size in (0, 0xFFFFFFFF):
            size = len(data)
        if name not in seen:
            seen.add(name)
            yield name, data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


def _mono(content: bytes, kind: int, bits: int, channels: int) -> Any:
    """The mean of the channels, in integers of 16 bits."""
    import numpy as np

    values = _values(content, kind, bits).reshape(-1, channels).mean(1)
    return np.clip(np.round(values * 32_767), -32_768, 32_767).astype("<i2")


def _values(content: bytes, kind: int, bits: int) -> Any:
    """Samples as floats from -1 to 1."""
    import numpy as np

    if kind == _FLOATS:
        return np.nan_to_num(np.frombuffer(content, "<f4").astype(np.float32))
    if bits == 8:
        return (np.frombuffer(content, np.uint8).astype(np.float32) - 128) / 128
    if bits == 24:  # the upper three bytes of 32 bits
        wide = np.zeros((len(content) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(content, np.uint8).reshape(-1, 3)
        return wide.view("<i4")[:, 0].astype(np.float32) / 2**31
    return np.frombuffer(content, f"<i{bits // 8}").astype(np.float32) / 2 ** (bits - 1)


def write(samples: Any, rate: int) -> bytes:
    """A WAV file of one channel of 16-bit integers."""
    content: bytes = samples.astype("<i2").tobytes()
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, _INTEGERS, 1, rate, 2 * rate, 2, 16)
    body = b"WAVE" + form + struct.pack("<4sI", b"data", len(content)) + content
    return struct.pack("<4sI", b"RIFF", len(body)) + body


def pieces(sound: Sound, longest: float = LONGEST) -> list[Piece]:
    """A sound in pieces of at most ``longest`` seconds, cut where it is quietest; at least one, unless it has no samples."""
    ends = [round(cut * FRAME * sound.rate) for cut in cuts(_loudness(sound), longest)]
    found, start = [], 0
    for end in [*ends, len(sound.samples)]:
        part = sound.samples[start:end]
        if len(part):
            content = write(part, sound.rate)
            found.append(Piece(start / sound.rate, end / sound.rate, content))
        start = end
    return found


def _loudness(sound: Sound) -> list[float]:
    """The mean square of each frame."""
    import numpy as np

    n = max(int(sound.rate * FRAME), 1)
    whole = len(sound.samples) // n
    frames = sound.samples[: whole * n].reshape(whole, n)
    step = max(_AT_ONCE // n, 1)
    found: list[float] = []
    for at in range(0, whole, step):
        found += (frames[at : at + step].astype(np.float32) ** 2).mean(1).tolist()
    return found


def cuts(loudness: Sequence[float], longest: float = LONGEST) -> list[int]:
    """The frames before which a sound is cut, given the loudness of all: each piece has at most ``longest`` seconds.

    Of the second half of what a piece may have, the middle of the quietest pause is taken, of equal ones the last.
    """
    most = max(int(longest / FRAME), 2)
    pause = min(int(_QUIET / FRAME), most // 2)
    found, start = [], 0
    while len(loudness) - start > most:
        window = range(start + most // 2, start + most - pause + 1)
        best = min(window, key=lambda at: (sum(loudness[at : at + pause]), -at))
        start = best + pause // 2
        found.append(start)
    return found
