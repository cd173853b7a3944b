"""A projector (`mmproj`): the GGUF that turns images or sound into embeddings of a model. What its header says. Pure.

Its encoder and the layer that maps to the model's width are computed by libmtmd (llama.cpp, tools/mtmd/clip.cpp), from whose loader
the keys and the tensors come.
"""

from __future__ import annotations

from typing import NoReturn

from ..errors import InvalidModel
from .gguf import Header

_ENCODERS = ("vision", "audio")

_WIDTHS = {
    **dict.fromkeys(("mlp", "pixtral", "phi4", "lightonocr", "kimivl", "lfm2"), ("mm.2.weight", 1)),
    **dict.fromkeys(("qwen2vl_merger", "qwen2.5vl_merger", "qwen3vl_merger"), ("mm.2.bias", 0)),
    **dict.fromkeys(("qwen2.5o", "janus_pro", "youtuvl"), ("mm.2.bias", 0)),
    **dict.fromkeys(("gemma3", "gemma3nv"), ("mm.input_projection.weight", 0)),
    **dict.fromkeys(("gemma4v", "gemma4uv"), ("mm.input_projection.weight", 1)),
    **dict.fromkeys(("idefics3", "llama4"), ("mm.model.fc.weight", 1)),
    **dict.fromkeys(("ultravox", "voxtral"), ("mm.a.mlp.2.weight", 1)),
    "qwen2a": ("mm.a.fc.weight", 1),
    "internvl": ("mm.model.mlp.3.weight", 1),
    "resampler": ("resampler.proj.weight", 0),
    "ldp": ("mm.model.mb_block.1.block.2.1.bias", 0),
    "ldpv2": ("mm.model.peg.0.bias", 0),
}
"""By the type of projector: the tensor whose shape has the model's width, and in which dimension (``clip_n_mmproj_embd``). Files of
older converters have something else in `projection_dim`."""


def is_projector(header: Header) -> bool:
    """Whether a GGUF file is a projector, and no model."""
    return header.architecture == "clip" or header.metadata.get("general.type") == "mmproj"


def senses(header: Header) -> tuple[str, ...]:
    """What a projector encodes: "vision", "audio" or both, as libmtmd reads it (``mtmd_get_cap_from_file``)."""
    return tuple(
        kind for kind in _ENCODERS if header.metadata.get(f"clip.has_{kind}_encoder") is True
    )


def kind_of(header: Header) -> str:
    """The type of projector ("mlp", "gemma3", ...), "" if the file has none."""
    found = (
        header.value(key) for key in ("projector_type", *(f"{e}.projector_type" for e in _ENCODERS))
    )
    return next((each for each in found if isinstance(each, str) and each), "")


def width(header: Header) -> int | None:
    """The length of the embeddings that a projector makes; None where it is not known for its type."""
    name, dimension = _WIDTHS.get(kind_of(header), ("", 0))
    shapes = {tensor.name: tensor.shape for tensor in header.tensors}
    if kind_of(header) == "mlp" and "mm.3.bias" in shapes:  # of Yi, with norms between
        name, dimension = "mm.3.bias", 0
    shape = shapes.get(name, ())
    return shape[dimension] if dimension < len(shape) else None


def check_projector(projector: Header, model: Header) -> None:
    """Raises InvalidModel unless a projector encodes something that libmtmd can compute, and makes embeddings of the model's width."""
    if not senses(projector):
        raise InvalidModel(
            "the projector encodes neither images nor sound, get the mmproj file that belongs to the model"
        )
    for kind in senses(projector):
        _check_encoder(projector, kind)
    made, taken = width(projector), model.embedding_length
    if made and taken and made != taken:
        raise InvalidModel(
            f"the projector does not fit the model: its embeddings have {made:,} numbers and the model takes"
            f" {taken:,}, get the mmproj file that belongs to the model"
        )


def _check_encoder(header: Header, kind: str) -> None:
    """Raise InvalidModel for sizes on which libmtmd ends its process: it checks the others itself."""

    def number(key: str) -> int:
        found = header.metadata.get(f"clip.{kind}.{key}")
        return found if type(found) is int else 0

    width, heads, patch = (
        number("embedding_length"),
        number("attention.head_count"),
        number("patch_size"),
    )
    if f"clip.{kind}.attention.head_count" in header.metadata:
        divides = heads > 0 and (width % heads == 0 or number("attention.head_dim") > 0)
        if not divides or heads > width:
            _refuse(f"its {width} numbers are not divided by {heads} heads")
    shapes = {tensor.name: tensor.shape for tensor in header.tensors}
    kernel = shapes.get("v.patch_embd.weight", ())
    if kind != "vision" or len(kernel) != 4 or kind_of(header) not in _SQUARE:
        return
    if kernel != (patch, patch, 3, width):
        _refuse(f"its patches are not of {patch} pixels and {width} numbers")
    places = shapes.get("v.position_embd.weight")
    rows = (number("image_size") // patch) ** 2 + ("v.class_embd" in shapes)
    if places is not None and (len(places) != 2 or not 0 < rows <= places[1]):
        _refuse(f"it has no positions for images of {number('image_size')} pixels")


_SQUARE = ("mlp", "gemma3", "idefics3", "qwen2vl_merger", "qwen2.5vl_merger")
"""Types whose patches and positions are known to be of the sizes that the header has."""


def _refuse(why: str) -> NoReturn:
    raise InvalidModel(f"the projector cannot be computed: {why}, get the file again")


# ---- memory ------------------------------------------------------------------------------------------------------------

_MERGED_PATCHES = 46 * 46 * 4
"""Patches for which libmtmd makes room where images keep their shape (Qwen's projectors)."""

_AUDIO_FRAMES = 1500
"""Rows of 30 seconds of sound in Whisper's encoder, after its convolutions."""

_LIBRARY = 8_000_000
"""Bytes of libmtmd's own (measured: 4 MB) and of one small image."""


def memory(header: Header) -> int:
    """Bytes that a loaded projector takes: its tensors and its compute buffer.

    The buffer holds, for each row, the largest of the stages of a layer with flash attention: two feed-forward rows (three with a
    gate) or six of the encoder's width, or what a convolution unfolds; in 4-byte floats. Against libmtmd's own buffers this was 20 to
    40 % above the truth, never below. A larger image than libmtmd makes room for at first takes more.
    """
    compute = max((_compute(header, kind) for kind in senses(header)), default=0)
    return header.weights_size + compute + _LIBRARY


def _compute(header: Header, kind: str) -> int:
    def number(key: str) -> int:
        return header.number(f"{kind}.{key}") or 0

    width = number("embedding_length")
    if kind == "vision":
        patch = max(number("patch_size"), 1)
        rows, unfolded = (number("image_size") // patch) ** 2 + 1, 3 * patch * patch
        if kind_of(header).endswith("vl_merger"):
            rows = _MERGED_PATCHES
    else:
        rows, unfolded = _AUDIO_FRAMES, 3 * number("num_mel_bins")
    fed = _fed(header, kind[0], number("feed_forward_length"))
    return 4 * rows * (2 * width + max(fed, 4 * width, 2 * unfolded))


def _fed(header: Header, prefix: str, declared: int) -> int:
    """Numbers of a row in the feed-forward part of a layer: by its tensors, for files of Qwen2-VL declare another width."""
    shapes = {tensor.name: tensor.shape for tensor in header.tensors}
    width = max(declared, *shapes.get(f"{prefix}.blk.0.ffn_up.weight", (0,)))
    return width * (3 if f"{prefix}.blk.0.ffn_gate.weight" in shapes else 2)
