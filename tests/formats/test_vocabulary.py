"""Tokenizers of Hugging Face's folders as GGUF's metadata: both kinds of files, what they add, and files that come from anyone."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamapy.errors import InvalidModel
from ollamapy.formats.vocabulary import (
    BYTE,
    CONTROL,
    NORMAL,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    Ids,
    metadata,
)
from tests.formats import folders

ROWS = 320  # more than any tokenizer here has tokens


def keys(folder: Path, ids: Ids = Ids(), *, rows: int = ROWS, **files: Any) -> dict[str, Any]:  # noqa: B008
    """The keys below tokenizer.ggml of a folder: bytes are files as they are, the rest JSON; "_" stands for "."."""
    paths = {}
    for name, content in files.items():
        stem, _, kind = name.rpartition("_")
        path = folder / f"{stem}.{kind}"
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        paths[path.name] = path
    return {
        name.removeprefix("tokenizer.ggml."): value
        for name, value in metadata(paths, rows, ids).items()
    }


def changed(value: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A tokenizer.json with other fields in its model, or beside it for those with a capital letter."""
    beside = {name.lower(): change for name, change in changes.items() if name[0].isupper()}
    inner = {name: change for name, change in changes.items() if not name[0].isupper()}
    return {**value, **beside, "model": {**value["model"], **inner}}


def test_a_sentence_piece_model(tmp_path: Path) -> None:
    found = keys(tmp_path, tokenizer_model=folders.tokenizer_model())
    pieces = folders.sentence_pieces()
    n = len(pieces)
    assert found["model"] == "llama" and found["pre"] == "default"
    assert found["tokens"][:n] == [text for text, _, _ in pieces]
    assert found["tokens"][n:] == [f"[PAD{row}]" for row in range(n, ROWS)]
    assert found["scores"][:n] == [score for _, score, _ in pieces]
    assert found["token_type"][:4] == [UNKNOWN, CONTROL, CONTROL, BYTE]
    assert found["token_type"][n - 1 :] == [NORMAL] + [UNUSED] * (ROWS - n)
    assert (found["bos_token_id"], found["eos_token_id"], found["unknown_token_id"]) == (1, 2, 0)
    assert "padding_token_id" not in found, "it is -1"
    assert found["add_space_prefix"] is True and "merges" not in found


def test_the_same_vocabulary_in_both_files_gives_the_same_tokens(tmp_path: Path) -> None:
    one = keys(tmp_path, tokenizer_model=folders.tokenizer_model())
    other = keys(tmp_path, tokenizer_json=folders.character_level())
    assert one["tokens"] == other["tokens"] and other["model"] == "llama"
    normal = [row for row, kind in enumerate(one["token_type"]) if kind == NORMAL]
    for found in (one, other):
        order = sorted(normal, key=lambda row: -found["scores"][row])
        assert [found["tokens"][row] for row in order if len(found["tokens"][row]) > 1][0] == "ab"


def test_byte_pairs(tmp_path: Path) -> None:
    found = keys(tmp_path, tokenizer_json=folders.byte_level())
    assert (found["model"], found["pre"]) == ("gpt2", "llama-bpe")
    assert found["merges"] == [" ".join(pair) for pair in folders.MERGES]
    assert found["tokens"][300] == "<|im_end|>" and found["token_type"][300] == CONTROL
    assert found["tokens"][301] == "<tool>" and found["token_type"][301] == USER_DEFINED
    assert found["add_bos_token"] is True and "scores" not in found


@pytest.mark.parametrize(
    ("pre_tokenizer", "ignores", "name"),
    [
        ({"type": "ByteLevel"}, False, "gpt-2"),
        ([{"type": "Digits", "individual_digits": True}, {"type": "ByteLevel"}], False, "smollm"),
        ([{"type": "Split", "pattern": {"Regex": folders.LLAMA_3}}, {"type": "ByteLevel"}], True, "llama-bpe"),
        ([{"type": "Split", "pattern": {"Regex": folders.LLAMA_3}}, {"type": "ByteLevel"}], False, "dbrx"),
        ([{"type": "Split", "pattern": {"Regex": "x+"}}, {"type": "ByteLevel"}], True, None),
    ],
)  # fmt: skip
def test_llama_cpp_s_name_for_the_way_texts_are_cut(
    pre_tokenizer: Any, ignores: bool, name: str | None, tmp_path: Path
) -> None:
    if isinstance(pre_tokenizer, list):
        pre_tokenizer = {"type": "Sequence", "pretokenizers": pre_tokenizer}
    tokenizer = changed(folders.byte_level(), Pre_tokenizer=pre_tokenizer, ignore_merges=ignores)
    if name is not None:
        assert keys(tmp_path, tokenizer_json=tokenizer)["pre"] == name
        return
    with pytest.raises(InvalidModel, match="pre-tokenizer is unknown"):
        keys(tmp_path, tokenizer_json=tokenizer)


@pytest.mark.parametrize(
    ("files", "ids", "wanted"),
    [
        ({}, Ids(), {}),
        ({}, Ids(bos_token_id=1, eos_token_id=[2, 300]), {"bos": 1, "eos": 2, "eot": 300}),
        ({"tokenizer_config": {"eos_token": "<|im_end|>"}}, Ids(eos_token_id=2), {"eos": 300, "eot": 2}),
        ({"tokenizer_config": {"bos_token": {"content": "<s>"}}}, Ids(bos_token_id=9), {"bos": 1}),
        ({"tokenizer_config": {"bos_token": "no such"}}, Ids(bos_token_id=1), {"bos": 1}),
        ({"generation_config": {"eos_token_id": [2, 300]}}, Ids(eos_token_id=2), {"eos": 2, "eot": 300}),
        ({}, Ids(pad_token_id=ROWS + 5, bos_token_id=-1), {}),
    ],
    ids=["none", "config", "tokenizer", "added", "unknown", "generation", "outside"],
)  # fmt: skip
def test_special_tokens(
    files: dict[str, Any], ids: Ids, wanted: dict[str, int], tmp_path: Path
) -> None:
    given: dict[str, Any] = {f"{name}_json": value for name, value in files.items()}
    found = keys(tmp_path, ids, tokenizer_json=folders.byte_level(), **given)
    names = {n.removesuffix("_token_id"): v for n, v in found.items() if n.endswith("_token_id")}
    assert names == wanted


@pytest.mark.parametrize(
    ("settings", "template"),
    [
        ({"chat_template": "{{ a }}"}, "{{ a }}"),
        ({"chat_template": [{"name": "rag", "template": "r"}, {"name": "default", "template": "d"}]}, "d"),
        ({}, None),
    ],
)  # fmt: skip
def test_the_chat_template(settings: dict[str, Any], template: str | None, tmp_path: Path) -> None:
    files: dict[str, Any] = {
        "tokenizer_json": folders.byte_level(),
        "tokenizer_config_json": settings,
    }
    assert keys(tmp_path, **files).get("tokenizer.chat_template") == template


def test_a_template_in_a_file_of_its_own_counts_first(tmp_path: Path) -> None:
    files: dict[str, Any] = {
        "tokenizer_json": folders.byte_level(),
        "tokenizer_config_json": {"chat_template": "old"},
        "chat_template_jinja": "{# é #}".encode(),
    }
    assert keys(tmp_path, **files)["tokenizer.chat_template"] == "{# é #}"


def piece(text: bytes, rest: bytes = b"") -> bytes:
    """A tokenizer.model of one piece."""
    inner = b"\x0a" + bytes([len(text)]) + text + rest
    return b"\x0a" + bytes([len(inner)]) + inner


NAN = struct.pack("<f", float("nan"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "has no pieces"),
        (folders.tokenizer_model(kind=1), "not of the kind BPE"),
        (folders.tokenizer_model()[:-1], "ends in the middle"),
        (piece(b"a") + b"\x0a", "ends in the middle"),
        (piece(b"a") + b"\xff" * 12, "ends in the middle"),
        (piece(b"a") + b"\x0b", "not SentencePiece's"),
        (piece(b"a", b"\x15" + NAN), "impossible score or type"),
        (piece(b"a", b"\x18\x09"), "impossible score or type"),
        (b"\x0a\x02\x12\x00", "no text or no score"),
        (piece(b"a") + b"\x12\x02\x18\x02", "no piece for the byte"),
    ],
)  # fmt: skip
def test_a_damaged_sentence_piece_model_is_refused(
    content: bytes, words: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidModel, match=words):
        keys(tmp_path, tokenizer_model=content)


@given(st.binary(max_size=60))
def test_random_bytes_are_no_vocabulary(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    with pytest.raises(InvalidModel):
        keys(tmp_path_factory.getbasetemp(), tokenizer_model=content)


@pytest.mark.parametrize(
    ("tokenizer", "words"),
    [
        (changed(folders.byte_level(), vocab={}), "below 0, twice or not at all"),
        (changed(folders.byte_level(), vocab={"a": -1}), "below 0, twice or not at all"),
        (changed(folders.byte_level(), vocab={"a": 1, "b": 1}), "below 0, twice or not at all"),
        (changed(folders.byte_level(), vocab={"a": ROWS}), f"token {ROWS} and the model {ROWS} rows"),
        (changed(folders.byte_level(), merges=["ab"]), "a merge that is no pair"),
        (changed(folders.byte_level(), Pre_tokenizer=None), "neither byte-level BPE nor"),
        (changed(folders.byte_level(), Added_tokens=[{"id": 300, "content": ""}]), "is empty or too long"),
        (changed(folders.byte_level(), Added_tokens=[{"id": 300, "content": "a"}]), "a token twice"),
        (changed(folders.character_level(), vocab={"<unk>": 0}), "no piece for the byte"),
        ({"model": {"vocab": []}}, "tokenizer.json"),
        ([], "tokenizer.json"),
    ],
)  # fmt: skip
def test_a_tokenizer_json_that_makes_no_sense_is_refused(
    tokenizer: Any, words: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidModel, match=words):
        keys(tmp_path, tokenizer_json=tokenizer)


def test_a_folder_without_a_tokenizer_says_which_files_are_missing(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="put its tokenizer.json or tokenizer.model beside"):
        keys(tmp_path, config_json={})


def test_added_tokens_for_which_there_is_no_row_are_left_out(tmp_path: Path) -> None:
    """Gemma's tokenizers have some for images, beyond the rows of the models that only read."""
    added: dict[str, Any] = {"added_tokens_json": {"<image>": ROWS + 7, "<mine>": 310}}
    found = keys(tmp_path, tokenizer_json=folders.byte_level(), **added)
    assert found["tokens"][310] == "<mine>" and len(found["tokens"]) == ROWS
