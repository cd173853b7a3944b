"""What files of images and sounds say of themselves, and what is refused before a decoder sees it."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamapy.errors import InvalidRequest
from ollamapy.formats.media import Size, check, check_png, format_of, image_size
from tests.pictures import gif, jpeg_head, png
from tests.small_projectors import bitmap, wave

FILES = {
    "png": png(30, 20),
    "jpeg": jpeg_head(30, 20),
    "gif": gif(30, 20),
    "bmp": bitmap(30, 20),
    "wav": wave(0.1),
    "flac": b"fLaC\x00\x00\x00\x22"
    + bytes(10)
    + struct.pack(">Q", 16_000 << 44 | 16_000)
    + bytes(20),
    "mp3": b"\xff\xfb\x90\x00" + bytes(413),
    "webp": b"RIFF\x00\x00\x00\x00WEBPVP8 ",
    "heic": b"\x00\x00\x00\x18ftypheic",
}


@pytest.mark.parametrize("format", FILES)
def test_formats_are_known_by_their_first_bytes(format: str) -> None:
    assert format_of(FILES[format]) == check(FILES[format]) == format


@pytest.mark.parametrize(
    "data", [b"", b"BM", b"%PDF-1.7", b"RIFF\x00\x00\x00\x00AVI LIST", b"hello there"]
)
def test_what_is_neither_image_nor_sound_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequest, match="no image"):
        check(data)


@pytest.mark.parametrize("format", ["png", "jpeg", "gif", "bmp"])
def test_the_size_is_in_the_header(format: str) -> None:
    found = format_of(FILES[format])
    assert found is not None and image_size(found, FILES[format]) == Size(30, 20)


def test_a_bitmap_from_the_top_has_a_negative_height() -> None:
    data = bytearray(bitmap(4, 6))
    data[22:26] = (-6).to_bytes(4, "little", signed=True)

    assert image_size("bmp", bytes(data)) == Size(4, 6)


def test_the_frame_header_of_a_jpeg_comes_after_other_segments() -> None:
    comment = b"\xff\xfe" + struct.pack(">H", 6) + b"\xff\xc0aa"
    data = FILES["jpeg"]

    assert image_size("jpeg", data[:2] + comment + b"\xff" + data[2:]) == Size(30, 20)


@pytest.mark.parametrize(
    "data", [png(10_000, 5_001, rows=0), gif(65_000, 65_000), jpeg_head(8_000, 8_000)]
)
def test_more_than_fifty_megapixels_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequest, match="at most 50 megapixels"):
        check(data)


def test_an_image_without_pixels_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="0 x 20 pixels"):
        check(png(0, 20))


def test_a_bomb_is_refused_by_its_first_bytes() -> None:
    bomb = png(8_000, 8_000)

    assert len(bomb) < 200_000
    with pytest.raises(InvalidRequest, match="8000 x 8000"):
        check(bomb[:33])


def test_a_png_with_more_pixels_than_its_header_says_is_refused() -> None:
    check_png(png(30, 20))
    with pytest.raises(InvalidRequest, match="more pixels"):
        check_png(png(30, 20, rows=4_000))


def test_a_png_whose_pixels_cannot_be_unpacked_is_refused() -> None:
    data = png(30, 20)
    at = data.index(b"IDAT") + 6

    with pytest.raises(InvalidRequest, match="cannot be unpacked"):
        check_png(data[:at] + bytes(byte ^ 255 for byte in data[at : at + 8]) + data[at + 8 :])


def test_deep_pixels_count_as_what_they_take() -> None:
    with pytest.raises(InvalidRequest, match="16 bits"):
        check_png(png(7_000, 7_000, rows=0, depth=16, colour=6))


@pytest.mark.parametrize(
    "data",
    [
        FILES["flac"][:18] + struct.pack(">Q", 16_000 << 44 | (1 << 36) - 1) + bytes(20),
        FILES["mp3"] * 70_000,
        b"\xff\xfb\x90\x00" + bytes(32) + b"Xing\x00\x00\x00\x01\xff\xff\xff\xff" + bytes(369),
    ],
    ids=["flac", "mp3", "claimed"],
)
def test_sounds_of_more_than_half_an_hour_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequest, match="at most 1,800"):
        check(data)


@pytest.mark.parametrize(
    "data",
    [
        b"RIFF\x00\x00\x00\x00WAVE",
        wave(0.1, rate=16_000)[:24] + (1).to_bytes(4, "little") + wave(0.1)[28:],
        b"fLaC\x04" + bytes(60),
        b"ID3\x04\x00\x00\x00\x00\x00\x05hello",
    ],
    ids=["no samples", "one sample a second", "no header", "no frames"],
)
def test_broken_sounds_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidRequest):
        check(data)


@given(st.sampled_from([*FILES.values()]), st.data())
def test_no_change_of_a_file_is_an_error_of_ours(file: bytes, data: st.DataObject) -> None:
    changed = bytearray(file)
    for at in data.draw(st.lists(st.integers(0, len(file) - 1), max_size=8)):
        changed[at] = data.draw(st.integers(0, 255))
    changed = changed[: data.draw(st.integers(0, len(file)))]
    try:
        if check(bytes(changed)) == "png":
            check_png(bytes(changed))
    except InvalidRequest:
        pass


def test_the_pixels_of_a_png_are_what_zlib_makes_of_them() -> None:
    data = png(3, 2)
    at = data.index(b"IDAT")
    (size,) = struct.unpack_from(">I", data, at - 4)

    assert len(zlib.decompress(data[at + 4 : at + 4 + size])) == 2 * (1 + 3 * 3)
