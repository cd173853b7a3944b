"""One sha256 for bytes, pieces and files; both spellings of a digest."""

from __future__ import annotations

from pathlib import Path

import pytest

from ollamapy.digests import Sha256, digest_of, file_digest, is_digest, parse_digest
from ollamapy.errors import InvalidRequest

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_bytes_pieces_and_files_have_one_digest(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    pieces = Sha256()
    pieces.update(b"a")
    other = pieces.copy()
    pieces.update(b"bc")
    other.update(b"x")
    read: list[int] = []
    assert digest_of(b"abc") == pieces.digest == file_digest(tmp_path / "abc", read.append)
    assert pieces.digest == f"sha256:{ABC}" and other.digest == digest_of(b"ax") and read == [3]


@pytest.mark.parametrize("text", [f"sha256:{ABC}", f"sha256-{ABC}", f"sha256-{ABC.upper()}"])
def test_both_spellings_are_a_digest(text: str) -> None:
    assert is_digest(text) and parse_digest(text) == f"sha256:{ABC}"


@pytest.mark.parametrize("text", ["", ABC, f"sha256:{ABC[1:]}", f"sha256:{ABC}\n", "sha256:../x"])
def test_what_is_no_digest(text: str) -> None:
    assert not is_digest(text)
    with pytest.raises(InvalidRequest, match="invalid digest format"):
        parse_digest(text)
