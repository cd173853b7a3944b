"""The secret of a user's daemon and commands: its file, and the proofs of it."""

from __future__ import annotations

import multiprocessing
import os
import stat
from pathlib import Path

import pytest

from ollamapy.secret import ensure_secret, is_proof, new_nonce, proof, read_secret

HERE = ("127.0.0.1", 11434)


def test_the_file_is_made_once_and_for_its_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "secret"
    assert read_secret(path) is None
    ensure_secret(path)
    made = read_secret(path)
    assert made is not None and len(made) == 32
    ensure_secret(path)
    assert read_secret(path) == made
    assert [each.name for each in path.parent.iterdir()] == ["secret"]
    assert os.name == "nt" or stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.skipif(os.name == "nt", reason="modes")
@pytest.mark.parametrize(("content", "mode"), [(None, 0o640), (b"short", 0o600), (b"", 0o600)])
def test_a_file_that_others_can_read_or_that_is_none_is_replaced(
    tmp_path: Path, content: bytes | None, mode: int
) -> None:
    path = tmp_path / "secret"
    ensure_secret(path)
    before = path.read_bytes()
    if content is not None:
        path.write_bytes(content)
    path.chmod(mode)
    assert read_secret(path) is None
    ensure_secret(path)
    assert read_secret(path) is not None and path.read_bytes() != before


def test_daemons_that_start_at_once_share_one(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        found = pool.map(_ensured, [path] * 8)
    assert len(set(found)) == 1 and found[0] is not None


def _ensured(path: Path) -> bytes | None:
    ensure_secret(path)
    return read_secret(path)


def test_a_proof_holds_for_one_side_one_nonce_and_one_address() -> None:
    secret, nonce = bytes(32), new_nonce()
    good = proof(secret, "daemon", nonce, HERE)
    assert is_proof(good, secret, "daemon", nonce, HERE)
    assert is_proof(good, secret, "daemon", nonce, ("::ffff:127.0.0.1", 11434))
    assert not is_proof(good, bytes(31) + b"x", "daemon", nonce, HERE)
    assert not is_proof(good, secret, "client", nonce, HERE)
    assert not is_proof(good, secret, "daemon", new_nonce(), HERE)
    assert not is_proof(good, secret, "daemon", nonce, ("127.0.0.1", 11435))
    assert not is_proof(good, secret, "daemon", nonce, ("::1", 11434))
    for given in ("", "é", good.upper(), good + "0"):
        assert not is_proof(given, secret, "daemon", nonce, HERE)


@pytest.mark.parametrize("nonce", ["", "ab", "g" * 64, "A" * 64, "a" * 64 + "\n", "é" * 64])
def test_what_is_no_nonce_gets_no_proof(nonce: str) -> None:
    assert not is_proof("0" * 64, bytes(32), "daemon", nonce, HERE)
    with pytest.raises(ValueError, match="64 hex digits"):
        proof(bytes(32), "daemon", nonce, HERE)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_pipe_in_its_place_is_no_secret(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "secret", 0o600)
    assert read_secret(tmp_path / "secret") is None
    ensure_secret(tmp_path / "secret")
    assert read_secret(tmp_path / "secret") is not None
