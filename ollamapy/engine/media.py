"""Images and sounds for a model: a file becomes insets, and each inset rows of numbers that take the place of tokens.

    file --check, decode, resize (threads beside the engine)--> insets --encode (the engine's thread)--> rows

The only file that imports libmtmd's bindings; tokens of texts and the batch are not its business. What aborts the process is refused
here, before the library is called: a size that the header claims, a marker that the vocabulary lacks, an inset that needs a larger
batch. Programs in PATH (libmtmd would call ffmpeg for what it cannot decode) are never started.
"""

from __future__ import annotations

import ctypes
import os
import sys
from array import array
from collections.abc import Callable
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

from ..digests import sha256_hex
from ..errors import InvalidRequest, LoadFailed
from ..formats import media as formats
from ..loading import LoadPlan
from .cores import threads_for
from .encoded import Encoded
from .mediatokens import media_tokens

_MARKER = b"<__media__>"
_NO_PROGRAMS = os.devnull.encode()
"""A folder that has no ffmpeg."""

_LEAST_SAMPLES = 1600
"""Of a sound: libmtmd ends the process for one that has a single sample."""

_TEXT, _IMAGE = 0, 1
"""Kinds of a chunk in libmtmd; the others are sounds."""

_MOST_KNOWN = 1024
"""Files of which it is known what they become."""

_PROBE = formats.Size(4096, 4096)
"""An image of which no model makes a smaller inset than of others."""


@dataclass(frozen=True, slots=True, eq=False)
class Inset:
    """An image, a tile of one, or a part of a sound: ``n`` rows that take ``n_positions`` of the context's positions.

    ``digest`` identifies the rows, whatever the prompt. ``causal``: a row sees those before it only; else all rows of the inset see
    each other, and are computed in one batch. ``places`` and ``steps`` (M-RoPE): the four positions of each row where the inset is
    at position 0, section by section, and what each of them grows by with that position. ``chunk`` is libmtmd's,
    with the pixels; without it they are in the ``file``, or it is only counted.
    """

    digest: bytes
    n: int
    n_positions: int
    causal: bool = True
    places: array[int] | None = None
    steps: array[int] | None = None
    chunk: _Chunk | None = None
    file: bytes = b""

    @property
    def tokens(self) -> list[int]:
        """The ids that stand for its rows."""
        return media_tokens(self.digest, self.n, self.n_positions)


FileParts = tuple["list[int] | Inset", ...]
"""What stands for a file in a prompt: insets, and the tokens of marks before, between and after them."""


class _Chunk:
    """A chunk of libmtmd's with its pixels, freed with this."""

    def __init__(self, mtmd: Any, source: Any) -> None:
        self._free = mtmd.mtmd_input_chunk_free
        self.pointer = mtmd.mtmd_input_chunk_copy(source)

    def __del__(self) -> None:
        self._free(self.pointer)


class Projector:
    """The part of a model that encodes images or sounds. ``model`` is llama.cpp's, whose embeddings have ``width`` numbers.

    :meth:`read` and :meth:`count` are for any thread, :meth:`encode` and :meth:`close` for the engine's. Raises LoadFailed.
    """

    def __init__(
        self, plan: LoadPlan, model: Any, width: int, take_log: Callable[[Any], None]
    ) -> None:
        from llama_cpp import mtmd_cpp

        assert plan.files.projector is not None
        self._mtmd, self._width = mtmd_cpp, width
        take_log(mtmd_cpp.mtmd_helper_log_set)
        params = mtmd_cpp.mtmd_context_params_default()
        params.use_gpu = plan.gpu_layers != 0
        params.n_threads = threads_for(plan.threads)
        params.media_marker = _MARKER
        params.print_timings = params.warmup = False
        if plan.image_max_tokens:
            params.image_max_tokens = plan.image_max_tokens
        self._context = mtmd_cpp.mtmd_init_from_file(
            os.fsencode(plan.files.projector.path), model, params
        )
        if not self._context:
            raise LoadFailed("the projector of the model cannot be loaded")
        self.encoded = Encoded(plan.encoded_size)
        self._known: dict[bytes, FileParts] = {}
        self.sees = bool(mtmd_cpp.mtmd_support_vision(self._context))
        self.hears = bool(mtmd_cpp.mtmd_support_audio(self._context))
        self.is_mrope = bool(mtmd_cpp.mtmd_decode_use_mrope(self._context))
        self._seed = f"{plan.files.projector.digest} {plan.image_max_tokens} ".encode()

    def close(self) -> None:
        """Free it."""
        self._mtmd.mtmd_free(self._context)

    @property
    def least_batch(self) -> int:
        """Tokens that a batch must hold at least: those of an inset whose rows see each other."""
        if not self.sees or not self._mtmd.mtmd_decode_use_non_causal(self._context, None):
            return 0
        probe = self._placeholder(_PROBE)
        try:
            found = self._cut(probe, b"", keeps=False)
        finally:
            self._mtmd.mtmd_bitmap_free(probe)
        return max((part.n for part in found if isinstance(part, Inset)), default=0)

    # ---- from a file to insets -------------------------------------------------------------------------------------

    def read(self, data: bytes) -> FileParts:
        """What stands for a file in a prompt: insets, and the tokens of marks before, between and after them.

        Raises InvalidRequest for a file that cannot be read, or that is not for this model.
        """
        digest = self._seed + sha256_hex(data).encode()
        known = self._known.get(digest, ())
        if known and all(self.encoded.has(e.digest) for e in known if isinstance(e, Inset)):
            return tuple(replace(e, file=data) if isinstance(e, Inset) else e for e in known)
        found = self._decoded(data, digest)
        self._remember(digest, found)
        return found

    def _decoded(self, data: bytes, digest: bytes) -> FileParts:
        format = self._check(data)
        bitmap = self._bitmap(format, data)
        try:
            return self._cut(bitmap, digest, keeps=True)
        finally:
            self._mtmd.mtmd_bitmap_free(bitmap)

    def _remember(self, digest: bytes, parts: FileParts) -> None:
        """Keep what a file becomes, without its pixels: they are needed no more while its rows are kept."""
        bare = tuple(replace(e, chunk=None) if isinstance(e, Inset) else e for e in parts)
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[digest] = bare

    def count(self, data: bytes) -> int:
        """The tokens of a file, without decoding it. Raises InvalidRequest as :meth:`read`, but for what only decoding shows."""
        format = self._check(data)
        size = formats.image_size(format, data)
        if formats.is_sound(format):
            bitmap = self._bitmap(format, data)
        else:
            bitmap = self._placeholder(size or _pillow_size(data))
        try:
            found = self._cut(bitmap, b"", keeps=False)
        finally:
            self._mtmd.mtmd_bitmap_free(bitmap)
        return sum(part.n if isinstance(part, Inset) else len(part) for part in found)

    def _check(self, data: bytes) -> formats.Format:
        format = formats.check(data)
        if formats.is_sound(format) and not self.hears:
            raise InvalidRequest("the model cannot hear: leave the sound out")
        if not formats.is_sound(format) and not self.sees:
            raise InvalidRequest("the model cannot see: leave the image out")
        return format

    def _placeholder(self, size: formats.Size) -> Any:
        return self._mtmd.mtmd_bitmap_init(size.width, size.height, None)

    def _bitmap(self, format: formats.Format, data: bytes) -> Any:
        """A decoded file. Raises InvalidRequest."""
        if format in ("webp", "heic"):
            size, pixels = _pillow_pixels(data)
            buffer = (ctypes.c_uint8 * len(pixels)).from_buffer_copy(pixels)
            return self._mtmd.mtmd_bitmap_init(size.width, size.height, buffer)
        if format == "png":
            formats.check_png(data)
        options = self._mtmd.mtmd_helper_init_opt_default()
        options.video_params.ffmpeg_bin_dir = _NO_PROGRAMS
        buffer = (ctypes.c_uint8 * len(data)).from_buffer_copy(data)
        bitmap = self._mtmd.mtmd_helper_bitmap_init_from_buf(
            self._context, buffer, len(data), False, options
        )
        if not bitmap:
            kind = "a sound" if formats.is_sound(format) else "an image"
            raise InvalidRequest(f"{kind} is broken: a {format.upper()} that cannot be decoded")
        if formats.is_sound(format) and self._mtmd.mtmd_bitmap_get_nx(bitmap) < _LEAST_SAMPLES:
            self._mtmd.mtmd_bitmap_free(bitmap)
            raise InvalidRequest("a sound is shorter than a tenth of a second")
        return bitmap

    def _cut(self, bitmap: Any, digest: bytes, *, keeps: bool) -> FileParts:
        """The parts that the model's preprocessing makes of a bitmap. Raises InvalidRequest."""
        mtmd = self._mtmd
        part = mtmd.mtmd_input_part()
        part.bitmap = bitmap
        parts = (ctypes.POINTER(mtmd.mtmd_input_part) * 1)(ctypes.pointer(part))
        chunks = mtmd.mtmd_input_chunks_init()
        try:
            if mtmd.mtmd_tokenize_from_parts(self._context, chunks, parts, 1, False):
                raise InvalidRequest(
                    "a file cannot be read: its size or its form does not fit the model"
                )
            return tuple(
                self._part(mtmd.mtmd_input_chunks_get(chunks, i), digest + b" %d" % i, keeps)
                for i in range(mtmd.mtmd_input_chunks_size(chunks))
            )
        finally:
            mtmd.mtmd_input_chunks_free(chunks)

    def _part(self, chunk: Any, digest: bytes, keeps: bool) -> list[int] | Inset:
        mtmd = self._mtmd
        kind, n = mtmd.mtmd_input_chunk_get_type(chunk), mtmd.mtmd_input_chunk_get_n_tokens(chunk)
        if kind == _TEXT:
            size = ctypes.c_size_t()
            tokens = mtmd.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(size))
            found = list(tokens[: size.value])
            if min(found, default=0) < 0:
                raise InvalidRequest(
                    "the model's vocabulary lacks the marks that its projector puts around images:"
                    " the two do not belong together"
                )
            return found
        places, steps = self._places(chunk, kind, n) if self.is_mrope else (None, None)
        return Inset(
            digest=digest,
            n=n,
            n_positions=mtmd.mtmd_input_chunk_get_n_pos(chunk),
            causal=not mtmd.mtmd_decode_use_non_causal(self._context, chunk),
            places=places,
            steps=steps,
            chunk=_Chunk(mtmd, chunk) if keeps else None,
        )

    def _places(self, chunk: Any, kind: int, n: int) -> tuple[array[int], array[int]]:
        """The rows' positions at position 0, and what they grow by; in the order of llama.cpp: time, height, width, and one more."""
        mtmd = self._mtmd
        if kind != _IMAGE:
            return array("i", [*range(n)] * 4), array("i", [1] * 4 * n)
        tokens = mtmd.mtmd_input_chunk_get_tokens_image(chunk)
        at0, at1 = (
            [mtmd.mtmd_image_tokens_get_decoder_pos(tokens, first, i) for i in range(n)]
            for first in (0, 1)
        )
        places, ends = (
            array("i", (getattr(each, axis) for axis in "tyxz" for each in found))
            for found in (at0, at1)
        )
        return places, array("i", (end - place for place, end in zip(places, ends, strict=True)))

    # ---- from an inset to rows --------------------------------------------------------------------------------------

    def encode(self, inset: Inset) -> Any:
        """The rows of an inset, n times ``width`` floats; encoded now where they were not kept. Raises InvalidRequest."""
        if (rows := self.encoded.get(inset.digest)) is not None:
            return rows
        mtmd = self._mtmd
        if inset.chunk is None:  # its rows were kept when the file was read, and no more
            digest = inset.digest.rpartition(b" ")[0]
            again = self._decoded(inset.file, digest)
            inset = next(e for e in again if isinstance(e, Inset) and e.digest == inset.digest)
        if inset.chunk is None or mtmd.mtmd_encode_chunk(self._context, inset.chunk.pointer):
            raise InvalidRequest("an image or a sound cannot be encoded")
        rows = (ctypes.c_float * (inset.n * self._width))()
        ctypes.memmove(rows, mtmd.mtmd_get_output_embd(self._context), ctypes.sizeof(rows))
        self.encoded.add(inset.digest, rows, ctypes.sizeof(rows))
        return rows


# ---- WebP, HEIC ------------------------------------------------------------------------------------------------------


def _opened(data: bytes) -> Any:
    """An image that Pillow reads. Raises InvalidRequest, also where Pillow is not installed."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise InvalidRequest(
            "a WebP or HEIC image needs another package, try: pip install 'ollamapy[media]'"
        ) from None
    if "pillow_heif" not in sys.modules:
        _register_heic()
    try:
        opened = Image.open(BytesIO(data), formats=("WEBP", "HEIF", "AVIF"))
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
        raise InvalidRequest("an image is broken, or of a form that is not read here") from None
    formats.check_pixels(formats.Size(*opened.size))
    return opened


def _register_heic() -> None:
    try:
        import pillow_heif
    except ImportError:
        return
    pillow_heif.register_heif_opener()


def _pillow_size(data: bytes) -> formats.Size:
    return formats.Size(*_opened(data).size)


def _pillow_pixels(data: bytes) -> tuple[formats.Size, bytes]:
    """An image's size, and its red, green and blue bytes."""
    opened = _opened(data)
    try:
        return formats.Size(*opened.size), opened.convert("RGB").tobytes()
    except (OSError, ValueError, SyntaxError):
        raise InvalidRequest("an image is broken: it cannot be decoded") from None
