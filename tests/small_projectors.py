"""Small models that see or hear, made on the spot: a projector with random weights for each kind, and the text model that it fits.

    "mlp"                one image is 16 tokens (LLaVA)
    "gemma3"             its 16 tokens see each other: attention is not causal
    "qwen2vl_merger"     as many tokens as the image has pixels for, whose positions are of two dimensions (M-RoPE)
    "idefics3"           an overview and tiles, with tokens of the vocabulary between them
    "qwen2a"             sound: 750 tokens for 30 seconds

llama.cpp and its libmtmd load all of them, a projector of 0.1 to 1 MB in some 20 ms. What they answer depends on every pixel, and
has no meaning.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import gguf
import numpy as np
import numpy.typing as npt

from .small_models import CHATML, N_FIXED, made_up_words, write_model

Array = npt.NDArray[np.float32]
Kind = Literal["mlp", "gemma3", "qwen2vl_merger", "idefics3", "qwen2a"]
KINDS: tuple[Kind, ...] = get_args(Kind)

WIDTH = 64
"""Numbers of an embedding, in the text models and in the encoders."""
PATCH, IMAGE = 14, 56
"""Pixels of a patch's side and of an image's, where its size is fixed: 16 patches."""
LONGEST = 3 * IMAGE
"""Pixels of the longer side of an image in tiles: nine of them for a square one."""
FRAMES, MELS = 3000, 128
"""A sound's frames in 30 seconds, and the numbers of each."""

_ARCHITECTURES = {"gemma3": "gemma3", "qwen2vl_merger": "qwen2vl"}
_TILES = [f"<row_{row}_col_{column}>" for row in range(1, 4) for column in range(1, 4)]
MARKERS: dict[Kind, tuple[str, ...]] = {
    "mlp": (),
    "gemma3": ("<start_of_image>", "<end_of_image>"),
    "qwen2vl_merger": ("<|vision_start|>", "<|vision_end|>"),
    "idefics3": ("\n\n", "<fake_token_around_image>", "<global-img>", *_TILES),
    "qwen2a": ("<|audio_bos|>", "<|audio_eos|>"),
}
"""The tokens that a kind puts around its images, which the vocabulary of its text model has."""


class _Weights:
    """Random tensors, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def matrix(self, *shape: int, scale: float = 1.5) -> Array:
        """Numbers that leave the length of what they are multiplied with about as it is."""
        values = self._rng.standard_normal(shape, np.float32)
        return values * np.float32(scale / np.prod(shape[1:]) ** 0.5)

    def small(self, n: int) -> Array:
        """A bias."""
        return self._rng.standard_normal(n, np.float32) * np.float32(0.1)


def _ones(n: int) -> Array:
    return np.ones(n, np.float32)


# ---- the text models -------------------------------------------------------------------------------------------------


def seeing_model(
    folder: Path, kind: Kind = "mlp", *, n_ctx: int = 2048, markers: bool = True, seed: int = 0
) -> tuple[Path, Path]:
    """Write a text model and a projector of a kind into a folder; their paths. ``markers``: does its vocabulary have MARKERS?"""
    name = f"{kind}-{n_ctx}-{seed}-{markers}"
    return (
        text_model(folder / f"{name}.gguf", kind, n_ctx=n_ctx, markers=markers, seed=seed),
        projector(folder / f"mmproj-{name}.gguf", kind, seed=seed),
    )


def text_model(
    path: Path,
    kind: Kind,
    *,
    n_ctx: int = 2048,
    vocab: int = 660,
    markers: bool = True,
    seed: int = 0,
    chat_template: str | None = CHATML,
) -> Path:
    """Write a text model with random weights (700 kB) that projectors of this kind fit."""
    weights = _Weights(seed)
    architecture = _ARCHITECTURES.get(kind, "llama")
    controls = MARKERS[kind] if markers else ()
    n_vocab = vocab + len(controls)
    tensors = {"token_embd.weight": weights.matrix(n_vocab, WIDTH, scale=1.0)}
    if architecture != "gemma3":  # which multiplies them itself
        tensors["token_embd.weight"] *= np.float32(WIDTH**0.5)
    for layer in range(2):
        tensors |= _text_layer(f"blk.{layer}", architecture, weights)
    output = weights.matrix(n_vocab, WIDTH, scale=3.0)
    output[:N_FIXED] = output[vocab:] = 0
    words = made_up_words(vocab - N_FIXED, np.random.default_rng(seed))

    def also(writer: gguf.GGUFWriter) -> None:
        if architecture == "gemma3":
            writer.add_key_length(WIDTH // 4)
            writer.add_value_length(WIDTH // 4)
        elif architecture == "qwen2vl":
            writer.add_rope_dimension_sections([4, 2, 2, 0])

    return write_model(
        path,
        architecture=architecture,
        name=f"text of {kind}",
        words=words,
        scores=[-float(index) for index in range(len(words))],
        tensors={**tensors, "output_norm.weight": _ones(WIDTH), "output.weight": output},
        sizes={"layers": 2, "heads": 4, "heads_kv": 2, "context": n_ctx},
        dtype="F32",
        chat_template=chat_template,
        also=also,
        controls=controls,
    )


def _text_layer(block: str, architecture: str, weights: _Weights) -> dict[str, Array]:
    n_kv, n_ff = WIDTH // 2, 160
    shapes = {
        "attn_q": (WIDTH, WIDTH), "attn_k": (n_kv, WIDTH), "attn_v": (n_kv, WIDTH), "attn_output": (WIDTH, WIDTH),
        "ffn_gate": (n_ff, WIDTH), "ffn_up": (n_ff, WIDTH), "ffn_down": (WIDTH, n_ff),
    }  # fmt: skip
    norms = {"attn_norm": WIDTH, "ffn_norm": WIDTH}
    if architecture == "gemma3":
        norms |= {"post_attention_norm": WIDTH, "post_ffw_norm": WIDTH}
        norms |= {"attn_q_norm": WIDTH // 4, "attn_k_norm": WIDTH // 4}
    found = {f"{block}.{name}.weight": weights.matrix(*shape) for name, shape in shapes.items()}
    found |= {f"{block}.{name}.weight": _ones(n) for name, n in norms.items()}
    if architecture == "qwen2vl":
        found |= {
            f"{block}.{name}.bias": weights.small(shapes[name][0])
            for name in ("attn_q", "attn_k", "attn_v")
        }
    return found


# ---- the projectors --------------------------------------------------------------------------------------------------


def projector(path: Path, kind: Kind, *, width: int = WIDTH, seed: int = 0) -> Path:
    """Write a projector with random weights for text models whose embeddings have ``width`` numbers."""
    weights = _Weights(seed + 1)
    hears = kind == "qwen2a"
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_type("mmproj")
    writer.add_name(f"projector of {kind}")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_string("clip.projector_type", kind)
    writer.add_bool("clip.use_gelu", True)
    (_hearing if hears else _seeing)(writer, width)
    if kind == "idefics3":
        writer.add_uint32("clip.vision.projector.scale_factor", 2)
        writer.add_uint32("clip.vision.preproc_image_size", LONGEST)
    elif kind == "gemma3":
        writer.add_uint32("clip.vision.projector.scale_factor", 1)
    layers = [
        tensor
        for layer in range(2)
        for tensor in _encoder_layer(layer, weights, prefix="a" if hears else "v").items()
    ]
    for name, values in [*_ends(kind, width, weights).items(), *layers]:
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _seeing(writer: gguf.GGUFWriter, width: int) -> None:
    writer.add_clip_has_vision_encoder(True)
    writer.add_vision_image_size(IMAGE)
    writer.add_vision_patch_size(PATCH)
    writer.add_vision_image_mean([0.5] * 3)
    writer.add_vision_image_std([0.5] * 3)
    _sizes(writer, "vision", width)


def _hearing(writer: gguf.GGUFWriter, width: int) -> None:
    writer.add_clip_has_audio_encoder(True)
    writer.add_audio_num_mel_bins(MELS)
    _sizes(writer, "audio", width)


def _sizes(writer: gguf.GGUFWriter, part: str, width: int) -> None:
    writer.add_uint32(f"clip.{part}.embedding_length", WIDTH)
    writer.add_uint32(f"clip.{part}.feed_forward_length", 2 * WIDTH)
    writer.add_uint32(f"clip.{part}.block_count", 2)
    writer.add_uint32(f"clip.{part}.projection_dim", width)
    writer.add_uint32(f"clip.{part}.attention.head_count", 4)
    writer.add_float32(f"clip.{part}.attention.layer_norm_epsilon", 1e-5)


def _encoder_layer(layer: int, weights: _Weights, prefix: str) -> dict[str, Array]:
    block = f"{prefix}.blk.{layer}"
    shapes = {name: (WIDTH, WIDTH) for name in ("attn_q", "attn_k", "attn_v", "attn_out")}
    shapes |= {"ffn_up": (2 * WIDTH, WIDTH), "ffn_down": (WIDTH, 2 * WIDTH)}
    found: dict[str, Array] = {}
    for name, shape in shapes.items():
        found[f"{block}.{name}.weight"] = weights.matrix(*shape)
        if not (prefix == "a" and name == "attn_k"):  # as Whisper has it
            found[f"{block}.{name}.bias"] = weights.small(shape[0])
    for name in ("ln1", "ln2"):
        found[f"{block}.{name}.weight"] = _ones(WIDTH)
        found[f"{block}.{name}.bias"] = weights.small(WIDTH)
    return found


def _ends(kind: Kind, width: int, weights: _Weights) -> dict[str, Array]:
    """What comes before the layers of an encoder and after them."""
    prefix = "a" if kind == "qwen2a" else "v"
    found = {
        f"{prefix}.post_ln.weight": _ones(WIDTH),
        f"{prefix}.post_ln.bias": weights.small(WIDTH),
    }
    if kind == "qwen2a":
        return found | {
            "a.position_embd.weight": weights.matrix(FRAMES // 2, WIDTH, scale=1.0),
            "a.conv1d.1.weight": weights.matrix(WIDTH, MELS, 3),
            "a.conv1d.1.bias": weights.small(WIDTH)[:, None],
            "a.conv1d.2.weight": weights.matrix(WIDTH, WIDTH, 3),
            "a.conv1d.2.bias": weights.small(WIDTH)[:, None],
            "mm.a.fc.weight": weights.matrix(width, WIDTH),
            "mm.a.fc.bias": weights.small(width),
        }
    found["v.patch_embd.weight"] = weights.matrix(WIDTH, 3, PATCH, PATCH)
    if kind == "qwen2vl_merger":
        found["v.patch_embd.weight.1"] = weights.matrix(WIDTH, 3, PATCH, PATCH)
    else:
        n_patches = (IMAGE // PATCH) ** 2
        found["v.position_embd.weight"] = weights.matrix(n_patches, WIDTH, scale=1.0)
    return found | _projection(kind, width, weights)


def _projection(kind: Kind, width: int, weights: _Weights) -> dict[str, Array]:
    """From an encoder's numbers to the text model's."""
    if kind == "gemma3":
        return {
            "mm.soft_emb_norm.weight": _ones(WIDTH),
            "mm.input_projection.weight": weights.matrix(WIDTH, width),
        }
    if kind == "idefics3":
        return {"mm.model.fc.weight": weights.matrix(width, 4 * WIDTH)}
    merged = 4 * WIDTH if kind == "qwen2vl_merger" else WIDTH
    return {
        "mm.0.weight": weights.matrix(merged, merged),
        "mm.0.bias": weights.small(merged),
        "mm.2.weight": weights.matrix(width, merged),
        "mm.2.bias": weights.small(width),
    }


# ---- what they see ---------------------------------------------------------------------------------------------------


def bitmap(width: int, height: int, seed: int = 0) -> bytes:
    """A BMP of coloured noise in squares of eight pixels."""
    squares = np.random.default_rng(seed).integers(
        0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8
    )
    pixels = squares.repeat(8, 0).repeat(8, 1)[:height, :width]
    rows = np.zeros((height, (width * 3 + 3) // 4 * 4), np.uint8)
    rows[:, : width * 3] = pixels.reshape(height, -1)
    header = b"BM" + (54 + rows.size).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little")
    sizes = [(40, 4), (width, 4), (height, 4), (1, 2), (24, 2), (0, 4), (rows.size, 4)]
    info = b"".join(value.to_bytes(n, "little") for value, n in sizes)
    return header + info + bytes(16) + rows.tobytes()


def wave(seconds: float = 1.0, frequency: float = 440.0, rate: int = 16_000) -> bytes:
    """A WAV of one tone, 16 bits, one channel."""
    times = np.arange(int(seconds * rate)) / rate
    samples = (np.sin(2 * np.pi * frequency * times) * 20_000).astype("<i2").tobytes()
    fields = [(16, 4), (1, 2), (1, 2), (rate, 4), (2 * rate, 4), (2, 2), (16, 2)]
    form = b"fmt " + b"".join(value.to_bytes(n, "little") for value, n in fields)
    body = b"WAVE" + form + b"data" + len(samples).to_bytes(4, "little") + samples
    return b"RIFF" + len(body).to_bytes(4, "little") + body
