"""A secret that a user's daemon and commands share, and the proofs by which each shows the other that it has it.

Any program of this machine can listen at the daemon's port, so a command checks the daemon before it sends a token. The secret
is a file in the state folder that only its user can read. On one connection:

    command -> daemon   GET /api/version   Ollamapy-Nonce: N
    daemon -> command                      Ollamapy-Proof: HMAC(secret, "daemon", N, address)
    command -> daemon   POST /api/pull     Ollamapy-Nonce: N, Ollamapy-Proof: HMAC(secret, "client", N, address)

``address`` is the daemon's end of this connection, as each side sees it: another program that forwards the nonce to the daemon
gets a proof for another port. The command sends its own proof, and its token, only after the daemon's proof, and only on the
same connection. This file reads and writes the secret and computes proofs; it opens no connection.
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import Literal

from .files import replace_file

NONCE = "Ollamapy-Nonce"
"""Header with 32 random bytes as 64 hex digits, new for every connection."""
PROOF = "Ollamapy-Proof"
"""Header with a proof, as 64 hex digits."""

Side = Literal["daemon", "client"]
Address = tuple[str, int]
"""Numeric host and port of the daemon's end of a connection."""

_HEX = re.compile(rb"[0-9a-f]{64}")


def ensure_secret(path: Path) -> None:
    """Write a new secret if there is none, or if others can read it. Raises OSError."""
    if read_secret(path) is not None:
        return
    content = secrets.token_hex(32).encode()
    # Two daemons may start at once: one of them makes the link, and both read it
    work = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    replace_file(work, content, mode=0o600)
    try:
        os.link(work, path)
    except OSError:  # there is one, or the file system has no hard links
        if read_secret(path) is None:
            replace_file(path, content, mode=0o600)
    finally:
        work.unlink()


def read_secret(path: Path) -> bytes | None:
    """The secret; None if there is none, or if others can read its file."""
    with suppress(OSError), open(path, "rb", opener=_open_without_waiting) as file:
        status = os.fstat(file.fileno())
        private = os.name == "nt" or (status.st_uid == os.geteuid() and not status.st_mode & 0o077)
        if not (private and stat.S_ISREG(status.st_mode)):
            return None
        content = file.read(65)
        if _HEX.fullmatch(content):
            return bytes.fromhex(content.decode())
    return None


def _open_without_waiting(path: str, flags: int) -> int:
    """A pipe in the file's place would otherwise wait for a writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def new_nonce() -> str:
    """A value for NONCE."""
    return secrets.token_hex(32)


def proof(secret: bytes, side: Side, nonce: str, address: Address) -> str:
    """The proof of one side. Raises ValueError for an invalid nonce."""
    if not _HEX.fullmatch(nonce.encode("latin-1", "replace")):
        raise ValueError("a nonce is 64 hex digits")
    host, port = address
    # A socket for both families writes IPv4 addresses in its own way
    text = f"ollamapy 1\n{side}\n{nonce}\n{host.removeprefix('::ffff:')}\n{port}"
    return hmac.digest(secret, text.encode(), "sha256").hex()


def is_proof(given: str, secret: bytes, side: Side, nonce: str, address: Address) -> bool:
    """Whether ``given`` is the proof of one side."""
    try:
        expected = proof(secret, side, nonce, address)
    except ValueError:
        return False
    return hmac.compare_digest(given.encode("latin-1", "replace"), expected.encode())
