"""The form of answers as users write it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ollamapy.cli.form import read_form
from ollamapy.errors import InvalidRequest


@pytest.mark.parametrize(
    ("written", "form"),
    [
        ("json", "json"),
        ('{"type": "object"}', {"type": "object"}),
        ('  {"type": "array"}', {"type": "array"}),
        ("schema.json", {"type": "string"}),
        ("./schema.json", {"type": "string"}),
        ("~/schema.json", {"type": "string"}),
        ("with a mark.json", {}),
    ],
)
def test_forms(written: str, form: Any, folder: Path) -> None:
    assert read_form(written) == form


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        (
            "JSON",
            "must be json, a JSON Schema or a file with one, not 'JSON': no such file",
        ),
        (".", "not '.': is a directory"),
        ("{", "the format is not valid JSON: "),
        ("[" * 9, "not '[[[[[[[[[': no such file"),
        ("text.json", "the format's file 'text.json' is not valid JSON: "),
        ("list.json", "the format's file 'list.json' is not a JSON Schema: it must be an object"),
        ("binary.json", "the format's file 'binary.json' is not UTF-8 text"),
        ("/dev/zero", "the format's file '/dev/zero' is too long for a JSON Schema"),
    ],
)
def test_what_is_none(written: str, complaint: str, folder: Path) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_form(written)
    assert complaint in str(caught.value) and "\n" not in str(caught.value)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder and the home, with schemas and what is none."""
    (tmp_path / "schema.json").write_text('{"type": "string"}\n')
    (tmp_path / "with a mark.json").write_bytes(b"\xef\xbb\xbf{}")
    (tmp_path / "text.json").write_text("type: object")
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe{")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path
