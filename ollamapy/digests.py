"""Digests, which identify content. The one place that computes sha256.

A digest is written "sha256:" and 64 lower-case hex digits; in file names the colon is a dash.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

from .errors import InvalidRequest

_DIGEST = re.compile(r"sha256[:-]([0-9a-fA-F]{64})", re.ASCII)
_BUFFER = 2**20  # bytes read at a time


class Sha256:
    """The digest of content that arrives in pieces."""

    def __init__(self) -> None:
        self._sum = hashlib.sha256()

    def update(self, piece: bytes | bytearray | memoryview) -> None:
        self._sum.update(piece)

    def copy(self) -> Sha256:
        """A second sum of the content so far."""
        other = Sha256()
        other._sum = self._sum.copy()
        return other

    @property
    def hex(self) -> str:
        """64 lower-case hex digits."""
        return self._sum.hexdigest()

    @property
    def digest(self) -> str:
        """ "sha256:" and the hex digits."""
        return f"sha256:{self.hex}"


def sha256_hex(content: bytes) -> str:
    """The sha256 of some bytes, as 64 lower-case hex digits."""
    return hashlib.sha256(content).hexdigest()


def keyed_sum(content: bytes, key: bytes = b"") -> bytes:
    """A checksum of 32 bytes (BLAKE2b) that only who has the key can make, in half the time of sha256."""
    return hashlib.blake2b(content, digest_size=32, key=key).digest()


def stretched(content: bytes, size: int) -> bytes:
    """As many bytes as wanted that follow from the content and look like chance (SHAKE-128)."""
    return hashlib.shake_128(content).digest(size)


def digest_of(content: bytes) -> str:
    """The digest of some bytes."""
    return f"sha256:{sha256_hex(content)}"


def file_digest(path: Path, read: Callable[[int], None] = lambda _: None) -> str:
    """The digest of a file's content; `read` gets the bytes read so far. Raises OSError."""
    total, completed = Sha256(), 0
    buffer = memoryview(bytearray(_BUFFER))
    with path.open("rb", buffering=0) as file:
        while n := file.readinto(buffer):
            total.update(buffer[:n])
            completed += n
            read(completed)
    return total.digest


def is_digest(text: str) -> bool:
    """Whether a text is a digest, in either spelling and either case."""
    return _DIGEST.fullmatch(text) is not None


def parse_digest(text: str) -> str:
    """A digest as "sha256:<64 lower-case hex>", from either spelling. Raises InvalidRequest."""
    found = _DIGEST.fullmatch(text)
    if not found:
        raise InvalidRequest("invalid digest format, expected sha256: and 64 hexadecimal digits")
    return f"sha256:{found[1].lower()}"
