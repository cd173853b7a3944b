"""Which paths in a prompt are attached."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from ollamapy.cli import media
from ollamapy.errors import InvalidRequest

JPEG = b"\xff\xd8\xff\xe0 a jpeg"
WAVE = b"RIFF\x10\x00\x00\x00WAVEfmt "


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder and the home, with some pictures."""
    (tmp_path / "sub").mkdir()
    for name in ("cat.jpg", "my cat.jpeg", "cat.jpg.webp", "a (1).png", "sub/dog.JPG"):
        (tmp_path / name).write_bytes(JPEG)
    for name in ("my report.pdf", "b.DOCX"):
        (tmp_path / name).write_bytes(b"a document")
    (tmp_path / "sound.wav").write_bytes(WAVE)
    (tmp_path / "text.png").write_text("no picture")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("prompt", "text", "names"),
    [
        ("What is ./cat.jpg?", "What is ?", ["image 'cat.jpg'"]),
        ("./cat.jpg ./sub/dog.JPG compare", "compare", ["image 'cat.jpg'", "image 'sub/dog.JPG'"]),
        ("see './my cat.jpeg' there", "see  there", ["image 'my cat.jpeg'"]),
        ("see ./my cat.jpeg there", "see  there", ["image 'my cat.jpeg'"]),
        (r"see ./my\ cat.jpeg there", "see  there", ["image 'my cat.jpeg'"]),
        (r"see ./a\ \(1\).png", "see", ["image 'a (1).png'"]),
        ("hear ./sound.wav", "hear", ["audio 'sound.wav'"]),
        (
            "sum up './my report.pdf' and ./b.DOCX",
            "sum up  and",
            ["document 'my report.pdf'", "document 'b.DOCX'"],
        ),
        ("either/or ./cat.jpg", "either/or", ["image 'cat.jpg'"]),
        ("and / or /nosuch.png or ./cat.jpg", "and / or /nosuch.png or", ["image 'cat.jpg'"]),
        ("two\nlines /nosuch\n./cat.jpg", "two\nlines /nosuch", ["image 'cat.jpg'"]),
        ("cat.jpg", "cat.jpg", []),  # a bare name is a word
        ("./cat.jpgs and ./nosuch.png", "./cat.jpgs and ./nosuch.png", []),
        ("http://host/sub/dog.JPG", "http://host/sub/dog.JPG", []),
        ("./sub", "./sub", []),
        ("/\0.png", "/\0.png", []),
        ("", "", []),
    ],
)
def test_paths(prompt: str, text: str, names: list[str], folder: Path) -> None:
    found = media.attach(prompt)
    assert found.text == text
    assert list(found.notes) == [f"Added {name}" for name in names]
    assert media.names_files(prompt) == bool(names)
    kinds = [name.split()[0] for name in names]
    assert [base64.b64decode(file) for file in found.images] == [
        WAVE if kind == "audio" else JPEG for kind in kinds if kind != "document"
    ]
    assert [base64.b64decode(each["data"]) for each in found.documents] == [
        b"a document" for kind in kinds if kind == "document"
    ]


def test_absolute_paths_and_the_home(folder: Path) -> None:
    for written in (folder / "cat.jpg", "~/cat.jpg", "../" + folder.name + "/cat.jpg"):
        assert media.attach(f"see {written}").text == "see"


@pytest.mark.parametrize(
    ("text", "begins"), [("./cat.jpg", True), (" ./cat.jpg x", True), ("x ./cat.jpg", False)]
)
def test_a_text_that_begins_with_a_file(text: str, begins: bool, folder: Path) -> None:
    assert media.begins_with_file(text) == begins


def test_what_cannot_be_attached(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidRequest, match=r"^invalid file type: 'text.png' is not a JPEG"):
        media.attach("./text.png")
    monkeypatch.setattr(media, "LARGEST", 4)
    with pytest.raises(InvalidRequest, match=r"file size exceeds maximum limit"):
        media.attach("./cat.jpg")


def test_many_slashes_take_no_time(folder: Path) -> None:
    assert not media.names_files("/x " * 50_000 + ".png " * 10)


def test_documents_are_for_every_model_but_not_for_every_server(folder: Path) -> None:
    media.check({}, "blind", "./b.DOCX")
    with pytest.raises(InvalidRequest, match="cannot see images or hear audio"):
        media.check({}, "blind", "./b.DOCX ./cat.jpg")
    media.check_reader({"version": "0.30", "ollamapy": "1"}, media.attach("./b.DOCX"))
    media.check_reader({"version": "0.30"}, media.attach("./cat.jpg"))
    with pytest.raises(InvalidRequest, match="reads no documents: leave 'b.DOCX' out"):
        media.check_reader({"version": "0.30"}, media.attach("./b.DOCX"))


@pytest.mark.parametrize(
    ("show", "able"),
    [
        ({}, False),
        ({"capabilities": ["completion"]}, False),
        ({"capabilities": ["completion", "vision"]}, True),
        ({"capabilities": ["audio"]}, True),
        ({"projector_info": {"general.architecture": "clip"}}, True),
    ],
)
def test_who_can_see_or_hear(show: dict[str, Any], able: bool) -> None:
    assert media.perceives(show) == able
