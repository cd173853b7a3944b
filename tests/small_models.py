"""Small real models for tests, made on the spot, and a way to put them into a store.

    random_model     random weights: nothing it says has a meaning, but all of it is reproducible
    state_model      random weights, and a recurrent state: mamba, or a hybrid with attention
    scripted_model   says a text that the test chose, whatever it is asked
    bert_model       random weights that make vectors, or score documents
    install          a model, its template, parameters and so on as Ollama's store has them

Real llama.cpp loads all of them. The store is written without the code under test, except for names
and the GGUF header reader.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

from ollamapy.formats.gguf import read_header
from ollamapy.human import format_number
from ollamapy.names import Name

Array = npt.NDArray[np.float32]

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""The ChatML template in Jinja, as models carry it."""
GO_CHATML = (
    "{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n"
    "{{ end }}<|im_start|>assistant\n"
)
"""The same as a Go template, as Ollama's models have it."""

_SPECIALS = ["<unk>", "<s>", "</s>"]
_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
_MARKS = ["<|im_start|>", "<|im_end|>"]
N_FIXED = len(_SPECIALS + _BYTES + _MARKS)
"""Tokens that every vocabulary here begins with."""
_BOS, _EOS = 1, 2
_PRINTED = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_BYTE_LETTERS = {byte: chr(byte) for byte in _PRINTED} | {
    byte: chr(256 + n) for n, byte in enumerate(b for b in range(256) if b not in _PRINTED)
}
"""How byte-level BPE writes each byte, as GPT-2 has it."""


def random_model(
    path: Path,
    *,
    seed: int = 0,
    n_layers: int = 2,
    n_embd: int = 64,
    n_heads: int = 4,
    n_heads_kv: int = 2,
    n_ff: int = 160,
    n_ctx: int = 512,
    vocab: int = 660,
    dtype: str = "F32",
    chat_template: str | None = None,
    architecture: str = "llama",
    name: str = "random",
    window: int = 0,
) -> Path:
    """Write a GGUF with random weights at `path` (700 kB as it is) and return the path.

    `vocab` counts tokens: specials, bytes, the two ChatML marks, and the syllables and made-up
    words that it speaks. `dtype` is a GGML type for the matrices, "F32", "F16", "Q8_0"...: F32
    where tests compare tokens between batches of different shape. `architecture` may be any that
    has Llama's tensors; "qwen2vl" has positions of three dimensions (M-RoPE). With `window` it is granite_swa, whose first layer sees so many tokens.
    """
    architecture = "granite_swa" if window else architecture

    def also(writer: gguf.GGUFWriter) -> None:
        if window:
            writer.add_logit_scale(1.0)
            writer.add_sliding_window(window)
            writer.add_sliding_window_pattern([True] + [False] * (n_layers - 1))
        if architecture == "qwen2vl":
            writer.add_rope_dimension_sections([n_embd // n_heads // 8] * 4)

    rng = np.random.default_rng(seed)
    n_kv = n_embd // n_heads * n_heads_kv

    def matrix(rows: int, columns: int, scale: float = 1.5) -> Array:
        values = rng.standard_normal((rows, columns), np.float32)
        return values * np.float32(scale / columns**0.5)

    tensors = {"token_embd.weight": matrix(vocab, n_embd, n_embd**0.5)}
    for layer in range(n_layers):
        block = f"blk.{layer}"
        tensors |= {
            f"{block}.attn_norm.weight": np.ones(n_embd, np.float32),
            f"{block}.attn_q.weight": matrix(n_embd, n_embd),
            f"{block}.attn_k.weight": matrix(n_kv, n_embd),
            f"{block}.attn_v.weight": matrix(n_kv, n_embd),
            f"{block}.attn_output.weight": matrix(n_embd, n_embd),
            f"{block}.ffn_norm.weight": np.ones(n_embd, np.float32),
            f"{block}.ffn_gate.weight": matrix(n_ff, n_embd),
            f"{block}.ffn_up.weight": matrix(n_ff, n_embd),
            f"{block}.ffn_down.weight": matrix(n_embd, n_ff),
        }
        if window:
            tensors[f"{block}.attn_sinks.weight"] = np.zeros(n_heads, np.float32)
    tensors["output_norm.weight"] = np.ones(n_embd, np.float32)
    output = matrix(vocab, n_embd, 3.0)
    output[:N_FIXED] = 0  # logit 0: specials and single bytes come hardly ever, the text is UTF-8
    tensors["output.weight"] = output

    words = made_up_words(vocab - N_FIXED, rng)
    return write_model(
        path,
        architecture=architecture,
        name=name,
        words=words,
        scores=[-float(index) for index in range(len(words))],
        tensors=tensors,
        sizes={"layers": n_layers, "heads": n_heads, "heads_kv": n_heads_kv, "context": n_ctx},
        dtype=dtype,
        chat_template=chat_template,
        also=also,
    )


def state_model(path: Path, architecture: str, *, n_ctx: int = 2048, vocab: int = 400) -> Path:
    """Write a GGUF with random weights and a recurrent state, 400 kB: "mamba", or "lfm2", whose second layer has attention."""
    rng, n_embd, n_ff, n_inner, n_state, n_rank = np.random.default_rng(0), 64, 128, 128, 8, 4

    def matrix(rows: int, columns: int, scale: float = 1.5) -> Array:
        values = rng.standard_normal((rows, columns), np.float32)
        return values * np.float32(scale / columns**0.5)

    def ones(n: int) -> Array:
        return np.ones(n, np.float32)

    mamba: dict[str, Array] = {}
    for layer in range(2):
        mamba |= {
            f"blk.{layer}.attn_norm.weight": ones(n_embd),
            f"blk.{layer}.ssm_in.weight": matrix(2 * n_inner, n_embd),
            f"blk.{layer}.ssm_conv1d.weight": matrix(n_inner, 4),
            f"blk.{layer}.ssm_conv1d.bias": ones(n_inner),
            f"blk.{layer}.ssm_x.weight": matrix(n_rank + 2 * n_state, n_inner),
            f"blk.{layer}.ssm_dt.weight": matrix(n_inner, n_rank),
            f"blk.{layer}.ssm_dt.bias": ones(n_inner) * np.float32(-3),  # so that it forgets slowly
            f"blk.{layer}.ssm_a": -np.abs(matrix(n_inner, n_state)),
            f"blk.{layer}.ssm_d": ones(n_inner),
            f"blk.{layer}.ssm_out.weight": matrix(n_embd, n_inner),
        }
    lfm2: dict[str, Array] = {
        "blk.0.shortconv.conv.weight": matrix(n_embd, 3),
        "blk.0.shortconv.in_proj.weight": matrix(3 * n_embd, n_embd),
        "blk.0.shortconv.out_proj.weight": matrix(n_embd, n_embd),
        **{f"blk.1.attn_{part}_norm.weight": ones(16) for part in "qk"},
    }
    for layer in range(2):
        lfm2 |= {
            f"blk.{layer}.ffn_norm.weight": ones(n_embd),
            f"blk.{layer}.attn_norm.weight": ones(n_embd),
            f"blk.{layer}.ffn_gate.weight": matrix(n_ff, n_embd),
            f"blk.{layer}.ffn_up.weight": matrix(n_ff, n_embd),
            f"blk.{layer}.ffn_down.weight": matrix(n_embd, n_ff),
        }
    for part, rows in {"q": 64, "k": 32, "v": 32, "output": 64}.items():
        lfm2[f"blk.1.attn_{part}.weight"] = matrix(rows, n_embd)

    def also(writer: gguf.GGUFWriter) -> None:
        if architecture == "lfm2":
            writer.add_shortconv_l_cache(3)
            writer.add_head_count_kv([0, 2])
        else:
            writer.add_ssm_conv_kernel(4)
            writer.add_ssm_inner_size(n_inner)
            writer.add_ssm_state_size(n_state)
            writer.add_ssm_time_step_rank(n_rank)

    output = matrix(vocab, n_embd, 3.0)
    output[:N_FIXED] = 0
    norm = "token_embd_norm" if architecture == "lfm2" else "output_norm"
    return write_model(
        path,
        architecture=architecture,
        name=architecture,
        words=made_up_words(vocab - N_FIXED, rng),
        scores=[-float(index) for index in range(vocab - N_FIXED)],
        tensors={
            "token_embd.weight": matrix(vocab, n_embd, n_embd**0.5),
            "output.weight": output,
            f"{norm}.weight": ones(n_embd),
            **(lfm2 if architecture == "lfm2" else mamba),
        },
        sizes={"layers": 2, "heads": 4, "context": n_ctx},
        dtype="F32",
        chat_template=CHATML,
        also=also,
    )


def scripted_model(
    path: Path,
    script: str | Sequence[str | bytes],
    *,
    chat_template: str | None = CHATML,
    seed: int = 0,
    n_ctx: int = 2048,
    name: str = "scripted",
) -> Path:
    """Write a GGUF (1.8 MB) that answers any prompt with `script`, then end of sequence.

    A text is cut into pieces of about four characters. A sequence gives the tokens themselves: a
    str is one piece (or one of the ChatML marks), bytes are a byte token each, so that a character
    can come in parts. No token can occur twice; ValueError if one has to. A prompt that ends in a
    token of the script is continued from there: end prompts with something else.

    How: attention and feed-forward are zero, so a token's logits depend on that token alone. Each
    has a random direction of 256 numbers; the output row of the token that shall follow points
    along the direction of the token before. All tokens outside of the script share one direction,
    which leads to the script's first token; the last one leads to end of sequence. The right token
    is ahead by a logit of 50: temperature 1 changes nothing.
    """
    pieces = _cut(script) if isinstance(script, str) else _spread(script)
    fixed = _SPECIALS + _BYTES + _MARKS
    words = [piece for piece in pieces if piece not in fixed]
    token_ids = {token: index for index, token in enumerate(fixed + words)}
    steps = [token_ids[piece] for piece in pieces]
    if len(set(steps)) != len(pieces):
        raise ValueError("a token can occur only once in a script")

    n_embd, n_ff = 256, 64
    rng = np.random.default_rng(seed)
    directions = rng.standard_normal((len(token_ids), n_embd)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    outside = [index for index in token_ids.values() if index not in steps]
    directions[outside] = directions[outside[0]]
    output = np.zeros_like(directions)
    for before, after in zip([outside[0], *steps], [*steps, _EOS], strict=True):
        output[after] = directions[before] * 3.75  # times 16 from the normalisation: logit 60

    square = np.zeros((n_embd, n_embd), np.float32)
    tensors: dict[str, Array] = {
        "token_embd.weight": directions,
        "blk.0.attn_norm.weight": np.ones(n_embd, np.float32),
        "blk.0.attn_q.weight": square,
        "blk.0.attn_k.weight": square,
        "blk.0.attn_v.weight": square,
        "blk.0.attn_output.weight": square,
        "blk.0.ffn_norm.weight": np.ones(n_embd, np.float32),
        "blk.0.ffn_gate.weight": np.zeros((n_ff, n_embd), np.float32),
        "blk.0.ffn_up.weight": np.zeros((n_ff, n_embd), np.float32),
        "blk.0.ffn_down.weight": np.zeros((n_embd, n_ff), np.float32),
        "output_norm.weight": np.ones(n_embd, np.float32),
        "output.weight": output,
    }
    return write_model(
        path,
        architecture="llama",
        name=name,
        words=words,
        scores=[-1e6] * len(words),
        tensors=tensors,
        sizes={"layers": 1, "heads": 4, "heads_kv": 4, "context": n_ctx},
        dtype="F32",
        chat_template=chat_template,
    )


def bpe_model(path: Path, texts: Sequence[str], *, pre: str = "gpt-2") -> Path:
    """Write a GGUF with random weights whose vocabulary is byte-level BPE, its merges learned from ``texts``; return the path.

    ``pre`` names llama.cpp's regular expression for words.
    """
    words = [_BYTE_LETTERS[byte] for byte in range(256)]
    merges: list[str] = []
    for text in texts:
        letters = [_BYTE_LETTERS[byte] for byte in text.encode()]
        for end in range(2, len(letters) + 1):
            if (word := "".join(letters[:end])) not in words:
                merges.append("".join(letters[: end - 1]) + " " + letters[end - 1])
                words.append(word)
    n_embd, n_ff, n_layers = 32, 32, 1
    n_vocab = len(_SPECIALS + _BYTES + _MARKS) + len(words)
    shapes = {
        "token_embd": (n_vocab, n_embd), "output": (n_vocab, n_embd), "blk.0.ffn_down": (n_embd, n_ff),
        **{f"blk.0.{part}": (n_embd, n_embd) for part in ("attn_q", "attn_k", "attn_v", "attn_output")},
        **{f"blk.0.{part}": (n_ff, n_embd) for part in ("ffn_gate", "ffn_up")},
    }  # fmt: skip
    rng = np.random.default_rng(0)
    tensors: dict[str, Array] = {
        f"{part}.weight": rng.standard_normal(shape, np.float32) for part, shape in shapes.items()
    }
    norms = ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm")
    tensors |= {f"{part}.weight": np.ones(n_embd, np.float32) for part in norms}
    return write_model(
        path,
        architecture="llama",
        name="bpe",
        words=words,
        scores=[0.0] * len(words),
        tensors=tensors,
        sizes={"layers": n_layers, "heads": 2, "heads_kv": 2, "context": 512},
        dtype="F32",
        chat_template=None,
        bpe=(pre, merges),
    )


BERT_SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def bert_model(
    path: Path,
    *,
    pooling: str | None = "MEAN",
    seed: int = 0,
    n_layers: int = 2,
    n_embd: int = 64,
    n_heads: int = 4,
    n_ff: int = 128,
    n_ctx: int = 128,
    name: str = "bert",
) -> Path:
    """Write a BERT with random weights at `path` (350 kB) and return the path.

    `pooling` is a name of gguf.PoolingType; with "RANK" it has a head that scores, with None it says
    nothing of pooling. Its tokens are those of BERT: one for each letter, digit and mark, at the
    beginning of a word and inside of one, between [CLS] and [SEP].
    """
    characters = "abcdefghijklmnopqrstuvwxyz0123456789.,;:!?'-"
    tokens = BERT_SPECIALS + ["▁" + c for c in characters] + list(characters)
    rng = np.random.default_rng(seed)

    def matrix(rows: int, columns: int, scale: float = 1.5) -> Array:
        values = rng.standard_normal((rows, columns), np.float32)
        return values * np.float32(scale / columns**0.5)

    def small(n: int) -> Array:
        values: Array = matrix(1, n)[0] * np.float32(0.1)
        return values

    tensors = {
        "token_embd.weight": matrix(len(tokens), n_embd, n_embd**0.5),
        "position_embd.weight": matrix(n_ctx, n_embd, 0.3 * n_embd**0.5),
        "token_types.weight": matrix(2, n_embd),
        "token_embd_norm.weight": np.ones(n_embd, np.float32),
        "token_embd_norm.bias": small(n_embd),
    }
    for layer in range(n_layers):
        block = f"blk.{layer}"
        shapes = {name: (n_embd, n_embd) for name in ("attn_q", "attn_k", "attn_v", "attn_output")}
        for tensor, (rows, columns) in {
            **shapes,
            "ffn_up": (n_ff, n_embd),
            "ffn_down": (n_embd, n_ff),
        }.items():
            tensors[f"{block}.{tensor}.weight"] = matrix(rows, columns)
            tensors[f"{block}.{tensor}.bias"] = small(rows)
        for norm in ("attn_output_norm", "layer_output_norm"):
            tensors[f"{block}.{norm}.weight"] = np.ones(n_embd, np.float32)
            tensors[f"{block}.{norm}.bias"] = small(n_embd)
    if pooling == "RANK":
        tensors |= {
            "cls.weight": matrix(n_embd, n_embd),
            "cls.bias": small(n_embd),
            "cls.output.weight": matrix(1, n_embd, 3.0),
            "cls.output.bias": small(1),
        }

    writer = gguf.GGUFWriter(path, "bert")
    writer.add_name(name)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_context_length(n_ctx)
    writer.add_embedding_length(n_embd)
    writer.add_block_count(n_layers)
    writer.add_feed_forward_length(n_ff)
    writer.add_head_count(n_heads)
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(False)
    if pooling is not None:
        writer.add_pooling_type(gguf.PoolingType[pooling])
    writer.add_vocab_size(len(tokens))
    writer.add_token_type_count(2)
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    kinds = [gguf.TokenType.CONTROL] * 5 + [gguf.TokenType.NORMAL] * (len(tokens) - 5)
    writer.add_token_types(kinds)
    for add, token in (
        (writer.add_pad_token_id, "[PAD]"),
        (writer.add_unk_token_id, "[UNK]"),
        (writer.add_bos_token_id, "[CLS]"),
        (writer.add_eos_token_id, "[SEP]"),
        (writer.add_sep_token_id, "[SEP]"),
        (writer.add_mask_token_id, "[MASK]"),
    ):
        add(tokens.index(token))
    for key, values in tensors.items():
        writer.add_tensor(key, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def install(
    store_root: Path,
    name: str,
    model: Path,
    *,
    template: str | None = None,
    system: str | None = None,
    params: Mapping[str, Any] | None = None,
    messages: Sequence[Mapping[str, str]] | None = None,
    license: str | None = None,
    projector: Path | None = None,
) -> Name:
    """Put a GGUF into the store at `store_root` under `name`, with the layers that are given.

    Blobs by digest, a config, a manifest: byte for byte what `ollama create` leaves behind.
    """
    header = read_header(model)
    config = {
        "model_format": "gguf",
        "model_family": header.architecture,
        "model_families": [header.architecture],
        "model_type": format_number(header.parameter_count),
        "file_type": header.file_type_name,
        "architecture": "amd64",
        "os": "linux",
    }
    contents: list[tuple[str, bytes | None]] = [
        ("model", model.read_bytes()),
        ("template", template.encode() if template is not None else None),
        ("system", system.encode() if system is not None else None),
        ("params", _json(params) if params is not None else None),
        ("messages", _json(messages) if messages is not None else None),
        ("license", license.encode() if license is not None else None),
        ("projector", projector.read_bytes() if projector is not None else None),
    ]
    layers = [
        _blob(store_root, f"application/vnd.ollama.image.{kind}", content)
        for kind, content in contents
        if content is not None
    ]
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": _blob(
            store_root, "application/vnd.docker.container.image.v1+json", _json(config)
        ),
        "layers": layers,
    }
    parsed = Name.parse(name)
    path = store_root / "manifests" / parsed.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_json(manifest) + b"\n")
    return parsed


def _blob(store_root: Path, media_type: str, content: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    path = store_root / "blobs" / f"sha256-{digest}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}


def _json(value: Any) -> bytes:
    """Compact, as Go writes it: with <, > and & escaped."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode()


def _cut(text: str) -> list[str]:
    """Cut a text into different pieces of four characters, or as near to four as can be.

    None has less than three: a tokenizer would build those from a prompt's single characters.
    """
    pieces: list[str] = []
    used = {*_SPECIALS, *_BYTES, *_MARKS}
    rest = text.replace(" ", "▁")
    while rest:
        for length in (4, 5, 3, *range(6, len(rest) + 1), len(rest)):
            left = len(rest) - length
            if rest[:length] not in used and (left >= 3 or left == 0):
                break
        else:
            raise ValueError(f"cannot cut the end of the script into new pieces: {rest!r}")
        pieces.append(rest[:length])
        used.add(rest[:length])
        rest = rest[length:]
    return pieces


def _spread(pieces: Iterable[str | bytes]) -> list[str]:
    tokens: list[str] = []
    for piece in pieces:
        if isinstance(piece, bytes):
            tokens += [_BYTES[byte] for byte in piece]
        else:
            tokens.append(piece.replace(" ", "▁"))
    return tokens


def made_up_words(count: int, rng: np.random.Generator) -> list[str]:
    """Made-up words and all the pieces that lead to them, shorter ones first."""
    syllables = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
    words = ["▁", *"abcdefghijklmnopqrstuvwxyz", *syllables, *("▁" + s for s in syllables)]
    seen = set(words)
    while len(words) < count:
        stem = words[rng.integers(27, len(words))]
        word = stem + syllables[rng.integers(len(syllables))]
        if word not in seen and len(word) <= 9:
            seen.add(word)
            words.append(word)
    return words[:count]


def write_model(
    path: Path,
    *,
    architecture: str,
    name: str,
    words: list[str],
    scores: list[float],
    tensors: Mapping[str, Array],
    sizes: Mapping[str, int],
    dtype: str,
    chat_template: str | None,
    bpe: tuple[str, list[str]] | None = None,
    also: Callable[[gguf.GGUFWriter], None] = lambda writer: None,
    controls: Sequence[str] = (),
) -> Path:
    """Write a GGUF of these tensors, whose tokens are the fixed ones, ``words`` and at the end ``controls``."""
    fixed = _SPECIALS + _BYTES + _MARKS
    unknown, control = [gguf.TokenType.UNKNOWN], [gguf.TokenType.CONTROL]
    n_embd = tensors["token_embd.weight"].shape[1]
    quantized = gguf.GGMLQuantizationType[dtype]

    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name(name)
    writer.add_file_type(gguf.LlamaFileType[f"{'ALL' if dtype == 'F32' else 'MOSTLY'}_{dtype}"])
    writer.add_context_length(sizes["context"])
    writer.add_embedding_length(n_embd)
    writer.add_block_count(sizes["layers"])
    ffn = tensors.get("blk.0.ffn_up.weight")
    writer.add_feed_forward_length(0 if ffn is None else ffn.shape[0])
    writer.add_head_count(sizes["heads"])
    if "heads_kv" in sizes:
        writer.add_head_count_kv(sizes["heads_kv"])
    also(writer)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(n_embd // sizes["heads"])
    writer.add_vocab_size(len(fixed) + len(words) + len(controls))
    writer.add_tokenizer_model("gpt2" if bpe else "llama")
    writer.add_tokenizer_pre(bpe[0] if bpe else "default")
    if bpe:
        writer.add_token_merges(bpe[1])
    writer.add_token_list([*fixed, *words, *controls])
    writer.add_token_scores([0.0] * len(fixed) + scores + [0.0] * len(controls))
    writer.add_token_types(
        unknown
        + control * 2
        + [gguf.TokenType.BYTE] * 256
        + control * len(_MARKS)
        + [gguf.TokenType.NORMAL] * len(words)
        + control * len(controls)
    )
    writer.add_bos_token_id(_BOS)
    writer.add_eos_token_id(_EOS)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    if chat_template is not None:
        writer.add_chat_template(chat_template)
    for key, values in tensors.items():
        if values.ndim == 1 or dtype == "F32":
            writer.add_tensor(key, values)
        else:
            writer.add_tensor(key, gguf.quantize(values, quantized), raw_dtype=quantized)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
