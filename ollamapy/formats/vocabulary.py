"""The tokenizer of a Hugging Face folder as GGUF's metadata.

    tokenizer.model     SentencePiece's, preferred where it is there: pieces and scores, as llama.cpp's SPM takes them
    tokenizer.json      byte-level BPE (GPT-2's way): pieces, merges, and the name that llama.cpp has for its pre-tokenizer;
                        or BPE over characters with a fallback to bytes, which is SentencePiece's in another dress

What both add: added tokens, the numbers of special ones, whether BOS is put in front, the chat template. Nothing is
tokenized here. What llama.cpp would abort on (a piece twice, no piece for a byte) and what it cannot do is refused.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import msgspec

from ollamapy.errors import InvalidModel

from ..digests import sha256_hex
from .folder import Folder, read_bytes, read_json
from .writer import Value

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
"""Kinds of tokens: GGUF took SentencePiece's numbers."""

MAX_PIECE_BYTES = 4_096

# llama.cpp's name of a pre-tokenizer, by the sha256 of its regular expressions one after the other.
_PRE_TOKENIZERS = {
    "d98f9631be1e9607a9848c26c1f9eac1aa9fc21ac6ba82a2fc0741af9780a48f": "llama-bpe",
    "1ff7f41064896984db5d1bb6ff64fa4bc29007d08c1b439e505b7392777a319e": "qwen2",
    "03df5c5863ad70781dcfdef491ead25140f895fe8010964be0daefe27be32b02": "deepseek-llm",
    "21cde974d587f0d54dc8d56b183cc1e6239600172035c68fbd6d4b9f8da0576e": "deepseek-coder",
    "1d64a9a8eaf9f1bd80331984d81fdd514e7feafe8df83a525dd31472f275699a": "tekken",
    "2d1b8dc11e89af71459b36004f698ab3693f59fd84f63e8ec2b49564ab857420": "gpt-4o",
}


@dataclass(slots=True)
class Vocabulary:
    """Tokens by number, while they are collected. A number without a token is a row of the model that nothing leads to."""

    model: str
    pre: str
    texts: dict[int, str] = field(default_factory=dict)
    scores: dict[int, float] = field(default_factory=dict)
    kinds: dict[int, int] = field(default_factory=dict)
    merges: list[str] = field(default_factory=list)
    space_prefix: bool | None = None
    special_ids: dict[str, int] = field(default_factory=dict)
    """The tokenizer's own: "bos", "eos", "unk", "pad"."""
    adds_bos: bool | None = None
    adds_eos: bool | None = None

    def put(self, number: int, text: str, kind: int, score: float) -> None:
        """Set or replace a token."""
        self.texts[number], self.kinds[number], self.scores[number] = text, kind, score


class _Added(msgspec.Struct, frozen=True):
    content: str
    special: bool = False
    id: int = -1


class _Model(msgspec.Struct, frozen=True):
    vocab: dict[str, int]
    merges: list[str | tuple[str, str]]
    byte_fallback: bool | None = False
    ignore_merges: bool | None = False


class _TokenizerJson(msgspec.Struct, frozen=True):
    model: _Model
    added_tokens: list[_Added] = []
    normalizer: Any = None
    pre_tokenizer: Any = None
    post_processor: Any = None


class _Template(msgspec.Struct, frozen=True):
    name: str
    template: str


class _TokenizerConfig(msgspec.Struct, frozen=True):
    added_tokens_decoder: dict[int, _Added] = {}
    chat_template: str | list[_Template] | None = None
    add_bos_token: bool | None = None
    add_eos_token: bool | None = None
    bos_token: str | _Added | None = None
    eos_token: str | _Added | None = None
    unk_token: str | _Added | None = None
    pad_token: str | _Added | None = None


class Ids(msgspec.Struct, frozen=True):
    """Special tokens' numbers as config.json and generation_config.json have them."""

    bos_token_id: int | list[int] | None = None
    eos_token_id: int | list[int] | None = None
    pad_token_id: int | list[int] | None = None


class _ChatTemplate(msgspec.Struct, frozen=True):
    chat_template: str | list[_Template]


def metadata(files: Folder, vocab_size: int, ids: Ids) -> dict[str, Value]:
    """The `tokenizer.*` keys of a model with `vocab_size` rows; `ids` are config.json's. Raises InvalidModel."""
    settings = (
        read_json(files, "tokenizer_config.json", _TokenizerConfig)
        if "tokenizer_config.json" in files
        else _TokenizerConfig()
    )
    full = read_json(files, "tokenizer.json", _TokenizerJson) if "tokenizer.json" in files else None
    vocabulary = _vocabulary(files, full)
    if vocabulary.texts and max(vocabulary.texts) >= vocab_size:
        _refuse(f"it has token {max(vocabulary.texts)} and the model {vocab_size} rows")
    _add(vocabulary, _added(files, settings, full), vocab_size)
    _check(vocabulary)
    values = {
        **_rows(vocabulary, vocab_size),
        **{
            f"{name}_token_id": number
            for name, number in _special_ids(files, vocabulary, settings, ids).items()
            if 0 <= number < vocab_size
        },
        **_additions(vocabulary, settings),
    }
    keys: dict[str, Value] = {f"tokenizer.ggml.{name}": value for name, value in values.items()}
    if template := _chat_template(files, settings):
        keys["tokenizer.chat_template"] = template
    return keys


def _vocabulary(files: Folder, full: _TokenizerJson | None) -> Vocabulary:
    """The tokens of tokenizer.model, else of tokenizer.json."""
    if "tokenizer.model" in files:
        return _sentence_piece(read_bytes(files, "tokenizer.model"))
    if full is not None:
        return _from_json(full)
    raise InvalidModel(
        "the folder has no tokenizer, put its tokenizer.json or tokenizer.model beside the weights"
    )


def _rows(vocabulary: Vocabulary, vocab_size: int) -> dict[str, Value]:
    """The keys that say what each row of the model stands for."""
    everyone = range(vocab_size)
    texts = [vocabulary.texts.get(number, f"[PAD{number}]") for number in everyone]
    if len(set(texts)) < vocab_size:
        _refuse("it has a token twice")
    values: dict[str, Value] = {"model": vocabulary.model, "pre": vocabulary.pre, "tokens": texts}
    values["token_type"] = [vocabulary.kinds.get(number, UNUSED) for number in everyone]
    if vocabulary.model == "llama":
        values["scores"] = [vocabulary.scores.get(number, -10000.0) for number in everyone]
    if vocabulary.merges:
        values["merges"] = vocabulary.merges
    return values


def _additions(vocabulary: Vocabulary, settings: _TokenizerConfig) -> dict[str, Value]:
    """The keys that say what is put around a text, where the tokenizer says it."""
    wanted = {
        "add_bos_token": _first(settings.add_bos_token, vocabulary.adds_bos),
        "add_eos_token": _first(settings.add_eos_token, vocabulary.adds_eos),
        "add_space_prefix": vocabulary.space_prefix,
    }
    return {name: value for name, value in wanted.items() if value is not None}


# ---- SentencePiece -------------------------------------------------------------------------------------------------------


def _sentence_piece(data: bytes) -> Vocabulary:
    """A tokenizer.model: protobuf's ModelProto (sentencepiece_model.proto), of which a few fields matter.

    pieces = 1 {piece = 1, score = 2, type = 3}; trainer_spec = 2 {model_type = 3, unk, bos, eos, pad id = 40..43};
    normalizer_spec = 3 {add_dummy_prefix = 3}. Numbers that are not there have their defaults.
    """
    vocabulary = Vocabulary("llama", "default", space_prefix=True)
    special = {"unk": 0, "bos": 1, "eos": 2, "pad": -1}
    model_type = 1
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            piece = dict(_fields(value))
            text, score, kind = piece.get(1), piece.get(2, 0.0), piece.get(3, NORMAL)
            if not isinstance(text, bytes) or not isinstance(score, float):
                _refuse("a piece of its tokenizer.model has no text or no score")
            if not math.isfinite(score) or kind not in range(NORMAL, BYTE + 1):
                _refuse("a piece of its tokenizer.model has an impossible score or type")
            if len(text) > MAX_PIECE_BYTES:
                _refuse(f"a piece of its tokenizer.model has {len(text)} bytes")
            assert isinstance(kind, int)
            vocabulary.put(len(vocabulary.texts), _utf8(text), kind, score)
        elif number == 2 and isinstance(value, bytes):
            trainer = dict(_fields(value))
            model_type = _number(trainer.get(3, 1))
            for name, at in (("unk", 40), ("bos", 41), ("eos", 42), ("pad", 43)):
                special[name] = _number(trainer.get(at, special[name]))
        elif number == 3 and isinstance(value, bytes):
            vocabulary.space_prefix = dict(_fields(value)).get(3, 1) != 0
    if not vocabulary.texts:
        _refuse("its tokenizer.model has no pieces")
    if model_type != 2:
        _refuse("its tokenizer.model is not of the kind BPE")
    vocabulary.special_ids = special
    return vocabulary


def _number(value: int | float | bytes) -> int:
    """A protobuf int32: a varint of 64 bits, negative ones with all high bits set."""
    if not isinstance(value, int):
        _refuse("its tokenizer.model is damaged")
    return value - 2**64 if value >= 2**63 else value


def _fields(data: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """The fields of a protobuf message: (number, value). A 32-bit value is a float, the only such kind here."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        match tag & 7:
            case 0:
                value, at = _varint(data, at)
                yield tag >> 3, value
                continue
            case 1:
                length = 8
            case 5:
                length = 4
            case 2:
                length, at = _varint(data, at)
            case _:
                _refuse("its tokenizer.model is not SentencePiece's")
        if length > len(data) - at:
            _refuse("its tokenizer.model ends in the middle")
        raw = data[at : at + length]
        at += length
        yield tag >> 3, struct.unpack("<f", raw)[0] if tag & 7 == 5 else raw


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    _refuse("its tokenizer.model ends in the middle")


# ---- tokenizer.json ------------------------------------------------------------------------------------------------------


def _from_json(full: _TokenizerJson) -> Vocabulary:
    numbers = full.model.vocab.values()
    if not numbers or min(numbers) < 0 or len(set(numbers)) < len(numbers):
        _refuse("its tokenizer.json numbers tokens below 0, twice or not at all")
    pairs = [tuple(m) if not isinstance(m, str) else m.split(" ", 1) for m in full.model.merges]
    if any(len(pair) != 2 for pair in pairs):
        _refuse("its tokenizer.json has a merge that is no pair")
    steps = list(_steps(full.pre_tokenizer))
    if any(step.get("type") == "ByteLevel" for step in steps):
        vocabulary = Vocabulary("gpt2", _pre_tokenizer(steps, bool(full.model.ignore_merges)))
        for text, number in full.model.vocab.items():
            vocabulary.put(number, text, NORMAL, 0.0)
        # a blank in a piece is written as the byte-level alphabet has it: a merge is two pieces with a blank between
        vocabulary.merges = [" ".join(part.replace(" ", "Ġ") for part in pair) for pair in pairs]
        vocabulary.adds_bos = False
    elif full.model.byte_fallback:
        vocabulary = Vocabulary("llama", "default", space_prefix=_prepends(full, steps))
        rank: dict[str, int] = {}
        for index, (left, right) in enumerate(pairs):
            rank.setdefault(left + right, index)
        for text, number in full.model.vocab.items():
            if len(text) == 6 and text.startswith("<0x"):
                vocabulary.put(number, text, BYTE, 0.0)
            else:  # the earlier a piece is merged, the higher its score: SentencePiece's rule
                vocabulary.put(number, text, NORMAL, -float(rank.get(text, len(pairs))))
    else:
        _refuse("its tokenizer.json is neither byte-level BPE nor BPE that falls back to bytes")
    for step in _steps(full.post_processor):
        template = step.get("single")
        if step.get("type") == "TemplateProcessing" and isinstance(template, list):
            first, last = (template[0], template[-1]) if template else ({}, {})
            vocabulary.adds_bos = isinstance(first, dict) and "SpecialToken" in first
            if vocabulary.model == "llama" or last != first:
                vocabulary.adds_eos = isinstance(last, dict) and "SpecialToken" in last
    return vocabulary


def _steps(given: Any) -> Iterator[dict[str, Any]]:
    """The steps of a normalizer, pre-tokenizer or post-processor: itself, or those of a Sequence."""
    if not isinstance(given, dict):
        return
    if given.get("type") != "Sequence":
        yield given
    for key in ("normalizers", "pretokenizers", "processors"):
        inner = given.get(key)
        for step in inner if isinstance(inner, list) else ():
            if isinstance(step, dict):
                yield step


def _pre_tokenizer(steps: list[dict[str, Any]], ignores_merges: bool) -> str:
    """llama.cpp's name for it. Raises InvalidModel where it has none: another one cuts texts in other places."""
    patterns = ""
    for step in steps:
        pattern = step.get("pattern")
        if step.get("type") == "Split" and isinstance(pattern, dict):
            patterns += str(pattern.get("Regex", ""))
    if not patterns:
        digits = any(s.get("type") == "Digits" and s.get("individual_digits") for s in steps)
        return "smollm" if digits else "gpt-2"
    found = _PRE_TOKENIZERS.get(sha256_hex(patterns.encode("utf-8", "replace")))
    if found is None:
        _refuse("its pre-tokenizer is unknown, get a GGUF of the model")
    # the expressions of Llama 3 are those of cl100k, whose models do apply their merges to whole words
    return "dbrx" if found == "llama-bpe" and not ignores_merges else found


def _prepends(full: _TokenizerJson, steps: list[dict[str, Any]]) -> bool:
    """Is a blank put before a text? By a normalizer, in newer files by the pre-tokenizer Metaspace."""
    prepend = any(step.get("type") == "Prepend" for step in _steps(full.normalizer))
    metaspace = [step for step in steps if step.get("type") == "Metaspace"]
    return prepend or any(
        step.get("prepend_scheme", "always") != "never" and step.get("add_prefix_space", True)
        for step in metaspace
    )


# ---- what both have ------------------------------------------------------------------------------------------------------


def _added(
    files: Folder, settings: _TokenizerConfig, full: _TokenizerJson | None
) -> Iterator[tuple[int, _Added]]:
    if "added_tokens.json" in files:
        for text, number in read_json(files, "added_tokens.json", dict[str, int]).items():
            yield number, _Added(text)
    yield from settings.added_tokens_decoder.items()
    if full is not None:
        yield from ((token.id, token) for token in full.added_tokens)


def _add(vocabulary: Vocabulary, added: Iterator[tuple[int, _Added]], vocab_size: int) -> None:
    """Put the added tokens in. One that the model has no row for (Gemma's for images) is left out."""
    for number, token in added:
        if not 0 <= number < vocab_size or vocabulary.kinds.get(number) in (UNKNOWN, BYTE):
            continue
        if not token.content or len(token.content.encode("utf-8", "replace")) > MAX_PIECE_BYTES:
            _refuse(f"its added token {number} is empty or too long")
        text = token.content
        if not token.special and vocabulary.model == "llama":
            text = text.replace("▁", " ")  # these are looked for before blanks become "▁"
        vocabulary.put(number, text, CONTROL if token.special else USER_DEFINED, -1000.0)


def _check(vocabulary: Vocabulary) -> None:
    if vocabulary.model == "llama":
        missing = {f"<0x{byte:02X}>" for byte in range(256)}.difference(vocabulary.texts.values())
        if missing:
            _refuse(f"it has no piece for the byte {min(missing)}")
    if any(not text or len(text) > MAX_PIECE_BYTES for text in vocabulary.texts.values()):
        _refuse("a token of it is empty or too long")


def _special_ids(
    files: Folder, vocabulary: Vocabulary, settings: _TokenizerConfig, ids: Ids
) -> dict[str, int]:
    """The special tokens' numbers under GGUF's names: the tokenizer's configuration first, the model's, the tokenizer's.

    An ending that only the model's configuration names beside the first one becomes "eot"; llama.cpp ends there too.
    """
    generation = (
        read_json(files, "generation_config.json", Ids)
        if "generation_config.json" in files
        else Ids()
    )
    by_text = {text: number for number, text in vocabulary.texts.items()}

    def named(token: str | _Added | None) -> int | None:
        text = token.content if isinstance(token, _Added) else token
        return by_text.get(text) if text is not None else None

    endings = [*_listed(generation.eos_token_id), *_listed(ids.eos_token_id)]
    own = vocabulary.special_ids
    found = {
        "bos": _first(named(settings.bos_token), *_listed(ids.bos_token_id)[:1], own.get("bos")),
        "eos": _first(named(settings.eos_token), *_listed(ids.eos_token_id)[:1], own.get("eos")),
        "unknown": _first(named(settings.unk_token), own.get("unk")),
        "padding": _first(
            named(settings.pad_token), *_listed(ids.pad_token_id)[:1], own.get("pad")
        ),
    }
    found["eot"] = next((number for number in endings if number != found["eos"]), None)
    return {name: number for name, number in found.items() if number is not None}


def _listed(value: int | list[int] | None) -> list[int]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _chat_template(files: Folder, settings: _TokenizerConfig) -> str | None:
    if "chat_template.jinja" in files:
        return _utf8(read_bytes(files, "chat_template.jinja", 2**20))
    template = settings.chat_template
    if template is None and "chat_template.json" in files:
        template = read_json(files, "chat_template.json", _ChatTemplate).chat_template
    if isinstance(template, list):
        named: Mapping[str, str] = {each.name: each.template for each in template}
        return named.get("default")
    return template


def _utf8(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        _refuse("it has a text that is not UTF-8")


def _refuse(why: str) -> NoReturn:
    raise InvalidModel(f"the model's tokenizer cannot be used: {why}; get the folder again")
