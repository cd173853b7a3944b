"""The tokenizers of BERT's family as GGUF's metadata: WordPiece (BERT, Nomic), Unigram (XLM-RoBERTa), BPE (RoBERTa, ModernBERT).

    WordPiece   `##ing` goes on with a word and `the` begins one; GGUF has `ing` and `▁the`
    Unigram     pieces with scores, as SentencePiece has them, and the table that normalizes characters
    BPE         of bytes, as GPT-2 has it

Files: tokenizer.json, for WordPiece also vocab.txt. Nothing is tokenized here.
"""

from __future__ import annotations

import binascii
from typing import Any

import msgspec

from ..errors import InvalidModel
from . import vocabulary
from .architecture import refuse
from .folder import Folder, read_bytes, read_json
from .vocabulary import CONTROL, MAX_PIECE_BYTES, NORMAL, UNKNOWN, UNUSED
from .writer import Value


class _Added(msgspec.Struct, frozen=True):
    content: str
    special: bool = False
    id: int = -1


class _Model(msgspec.Struct, frozen=True):
    type: str = "WordPiece"
    vocab: dict[str, int] | list[tuple[str, float]] = {}
    unk_id: int | None = None
    continuing_subword_prefix: str = "##"


class _Tokenizer(msgspec.Struct, frozen=True):
    model: _Model
    added_tokens: list[_Added] = []
    normalizer: Any = None
    pre_tokenizer: Any = None


class _Settings(msgspec.Struct, frozen=True):
    do_lower_case: bool | None = None
    strip_accents: bool | None = None
    bos_token: str | _Added | None = None
    eos_token: str | _Added | None = None
    unk_token: str | _Added | None = None
    sep_token: str | _Added | None = None
    pad_token: str | _Added | None = None
    cls_token: str | _Added | None = None
    mask_token: str | _Added | None = None


def metadata(files: Folder, rows: int, byte_pairs: str = "") -> dict[str, Value]:
    """The `tokenizer.*` keys of a model with so many rows; ``byte_pairs`` is llama.cpp's name for a tokenizer of the kind BPE, ""
    where the model cannot have one. Raises InvalidModel."""
    found = _read(files)
    settings = (
        read_json(files, "tokenizer_config.json", _Settings)
        if "tokenizer_config.json" in files
        else _Settings()
    )
    if found.model.type == "Unigram":
        values = _unigram(found, settings, rows)
    elif found.model.type == "WordPiece":
        values = _word_pieces(found, settings, rows)
    elif found.model.type == "BPE" and byte_pairs:
        return _byte_pairs(files, found, settings, rows) | {"tokenizer.ggml.pre": byte_pairs}
    else:
        refuse(f"its tokenizer is of the kind {found.model.type[:40]!r}, not WordPiece or Unigram")
    tokens = values["tokens"]
    assert isinstance(tokens, list)
    if len(set(tokens)) < len(tokens):
        refuse("its tokenizer has a token twice")
    if any(not text or len(text.encode("utf-8", "replace")) > MAX_PIECE_BYTES for text in tokens):
        refuse("a token of its tokenizer is empty or too long")
    return {f"tokenizer.ggml.{name}": value for name, value in values.items()}


def _read(files: Folder) -> _Tokenizer:
    if "tokenizer.json" in files:
        return read_json(files, "tokenizer.json", _Tokenizer)
    if "vocab.txt" not in files:
        raise InvalidModel(
            "the folder has no tokenizer, put its tokenizer.json or vocab.txt beside the weights"
        )
    lines = read_bytes(files, "vocab.txt").decode("utf-8", "replace").splitlines()
    return _Tokenizer(_Model(vocab={text: number for number, text in enumerate(lines)}))


_SPECIAL = {"unk": "[UNK]", "sep": "[SEP]", "pad": "[PAD]", "cls": "[CLS]", "mask": "[MASK]"}
_KEYS = {
    **{"unk": "unknown", "sep": "seperator", "pad": "padding", "cls": "cls", "mask": "mask"},
    **{"bos": "bos", "eos": "eos"},
}  # "seperator" is GGUF's spelling


def _special(settings: _Settings, defaults: dict[str, str], ids: dict[str, int]) -> dict[str, int]:
    """The special tokens' numbers by their names in the settings."""
    found = {}
    for name in _KEYS:
        given = getattr(settings, f"{name}_token")
        text = given.content if isinstance(given, _Added) else given or defaults.get(name)
        if text is not None and text in ids:
            found[name] = ids[text]
    return found


def _word_pieces(found: _Tokenizer, settings: _Settings, rows: int) -> dict[str, Value]:
    if not isinstance(found.model.vocab, dict):
        refuse("its tokenizer.json has no numbers for its tokens")
    ids = dict(found.model.vocab) | {each.content: each.id for each in found.added_tokens}
    texts = _by_number(ids, rows)
    special = _special(settings, _SPECIAL, ids)
    controls = {*special.values(), *(each.id for each in found.added_tokens if each.special)}
    prefix = found.model.continuing_subword_prefix
    tokens, kinds = [], []
    for number in range(rows):
        text = texts.get(number)
        kinds.append(UNUSED if text is None else CONTROL if number in controls else NORMAL)
        if text is None or number in controls:
            tokens.append(text or f"[PAD{number}]")
        elif text.startswith(prefix) and len(text) > len(prefix):
            tokens.append(text[len(prefix) :])
        else:
            tokens.append(f"▁{text}")
    if not {"cls", "sep", "unk"} <= special.keys():
        refuse("its tokenizer has no [CLS], [SEP] or [UNK]")
    normalizer = found.normalizer if isinstance(found.normalizer, dict) else {}
    lowercase = normalizer.get("lowercase", settings.do_lower_case)
    lowercase = True if lowercase is None else bool(lowercase)
    accents = normalizer.get("strip_accents", settings.strip_accents)
    special |= {"bos": special["cls"], "eos": special["sep"]}
    return {
        "model": "bert",
        "pre": "default",
        "tokens": tokens,
        "token_type": kinds,
        "normalizer.lowercase": lowercase,
        "normalizer.strip_accents": lowercase if accents is None else bool(accents),
        **{f"{_KEYS[name]}_token_id": number for name, number in special.items()},
    }


def _unigram(found: _Tokenizer, settings: _Settings, rows: int) -> dict[str, Value]:
    if not isinstance(found.model.vocab, list):
        refuse("its tokenizer.json has no scores for its tokens")
    ids = {text: number for number, (text, _) in enumerate(found.model.vocab)}
    ids |= {each.content: each.id for each in found.added_tokens}
    texts = _by_number(ids, rows)
    special = _special(settings, {"bos": "<s>", "eos": "</s>", "unk": "<unk>"}, ids)
    if found.model.unk_id is not None:
        special["unk"] = found.model.unk_id
    controls = {*special.values(), *(each.id for each in found.added_tokens if each.special)}
    if not {"bos", "eos", "unk"} <= special.keys():
        refuse("its tokenizer has no <s>, </s> or <unk>")
    scores = [score for _, score in found.model.vocab[:rows]]
    kinds = [
        UNKNOWN
        if number == special["unk"]
        else CONTROL
        if number in controls
        else NORMAL
        if number in texts
        else UNUSED
        for number in range(rows)
    ]
    values: dict[str, Value] = {
        "model": "t5",
        "pre": "default",
        "tokens": [texts.get(number, f"[PAD{number}]") for number in range(rows)],
        "scores": scores + [-10000.0] * (rows - len(scores)),
        "token_type": kinds,
        "add_space_prefix": True,
        "remove_extra_whitespaces": True,
        "add_bos_token": True,
        "add_eos_token": True,
        **{f"{_KEYS[name]}_token_id": number for name, number in special.items()},
    }
    if table := _characters(found.normalizer):
        values["precompiled_charsmap"] = table
    return values


_ROBERTA = {"unk": "<unk>", "sep": "</s>", "pad": "<pad>", "cls": "<s>", "mask": "<mask>"}


def _byte_pairs(
    files: Folder, found: _Tokenizer, settings: _Settings, rows: int
) -> dict[str, Value]:
    """Texts are put between [CLS] and [SEP], or <s> and </s>, which GGUF knows as BOS and EOS."""
    steps = found.pre_tokenizer if isinstance(found.pre_tokenizer, dict) else {}
    if steps.get("type") != "ByteLevel" or steps.get("add_prefix_space"):
        refuse("its pre-tokenizer is not GPT-2's, or puts a blank before a text")
    assert isinstance(found.model.vocab, dict)
    ids = dict(found.model.vocab) | {each.content: each.id for each in found.added_tokens}
    special = _special(settings, _ROBERTA if "<s>" in ids else _SPECIAL, ids)
    if not {"cls", "sep"} <= special.keys():
        refuse("its tokenizer has no [CLS] or [SEP], <s> or </s>")
    special |= {"bos": special["cls"], "eos": special["sep"]}
    keys = vocabulary.metadata(files, rows, vocabulary.Ids())
    keys |= {"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.add_eos_token": True}
    return keys | {f"tokenizer.ggml.{_KEYS[name]}_token_id": n for name, n in special.items()}


def _by_number(ids: dict[str, int], rows: int) -> dict[int, str]:
    if not ids or min(ids.values()) < 0 or max(ids.values()) >= rows:
        refuse(f"its tokenizer numbers tokens outside of the model's {rows} rows")
    texts = {number: text for text, number in ids.items()}
    if len(texts) < len(ids):
        refuse("its tokenizer has a number twice")
    return texts


def _characters(normalizer: Any) -> bytes:
    """SentencePiece's table for characters, of a normalizer or a step of one; empty if there is none."""
    steps = normalizer.get("normalizers", [normalizer]) if isinstance(normalizer, dict) else []
    for step in steps if isinstance(steps, list) else ():
        table = step.get("precompiled_charsmap") if isinstance(step, dict) else None
        if isinstance(table, str):
            try:
                return binascii.a2b_base64(table)
            except binascii.Error:
                refuse("the precompiled_charsmap of its tokenizer.json is no base64")
    return b""
