"""Folders of safetensors -> GGUF: what llama.cpp computes from the one is what numpy computes from the other."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollamapy.engine.llama import Model as Loaded
from ollamapy.errors import InvalidModel, StoreError
from ollamapy.formats.architecture import Config
from ollamapy.formats.convert import convert
from ollamapy.formats.folder import folder_files
from ollamapy.formats.gguf import read_header
from tests.formats import folders
from tests.formats.folders import FAMILIES, Model, make
from tests.plans import plan
from tests.reference import llama_logits, transformer

TOKENS = [1, 270, 15, 299, 0, 270, 261, 44, 2, 288, 77, 5]


def assert_same(target: Path, model: Model, weights: dict[str, folders.Array]) -> None:
    expected = transformer(model.shape, weights, TOKENS)
    assert np.abs(expected).max() > 1
    # llama.cpp looks Gemma's gelu up in a table of 16-bit numbers
    tolerance = 2e-2 if model.shape.gelu else 1e-4
    np.testing.assert_allclose(llama_logits(target, TOKENS), expected, atol=tolerance)


@pytest.mark.llama
@pytest.mark.parametrize("name", FAMILIES)
def test_llama_cpp_computes_what_the_folder_says(tmp_path: Path, name: str) -> None:
    model = FAMILIES[name]
    weights = make(tmp_path / "folder", model)
    told: list[tuple[int, int]] = []
    convert(tmp_path / "folder", tmp_path / "model.gguf", progress=lambda *done: told.append(done))
    assert_same(tmp_path / "model.gguf", model, weights)
    header = read_header(tmp_path / "model.gguf")
    assert header.architecture == model.gguf and header.file_type_name == "F32"
    assert (header.context_length, header.vocab_size) == (512, folders.VOCAB)
    assert header.chat_template == "{{ messages }}"
    assert told[-1][0] == told[-1][1] and told == sorted(told)


@pytest.mark.llama
@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_weights_keep_their_type(tmp_path: Path, dtype: str) -> None:
    """Three shards and an index. Narrow matrices are compared in the file: llama.cpp rounds what they are multiplied with."""
    model = FAMILIES["llama"]
    weights = make(tmp_path / "folder", model, dtype=dtype, shards=3)
    convert(tmp_path / "folder", tmp_path / "model.gguf")
    header = read_header(tmp_path / "model.gguf")
    assert header.file_type_name == dtype
    types = {len(tensor.shape): tensor.type_name for tensor in header.tensors}
    assert types == {1: "F32", 2: dtype}
    expected = transformer(model.shape, weights, TOKENS)
    np.testing.assert_allclose(llama_logits(tmp_path / "model.gguf", TOKENS), expected, atol=0.15)


@pytest.mark.llama
def test_a_model_that_sees_gives_the_part_that_reads(tmp_path: Path) -> None:
    """Gemma 3's folders of more parts: settings below text_config, tensors below language_model."""
    model = FAMILIES["gemma3"]
    folder = tmp_path / "folder"
    weights = make(folder, model)
    config = folders.config_json(model)
    for key in ("head_dim", "rms_norm_eps", "rope_theta", "rope_local_base_freq"):
        del config[key]
    text = {key: value for key, value in config.items() if key != "architectures"}
    whole = {"architectures": ["Gemma3ForConditionalGeneration"], "text_config": text}
    text["head_dim"] = folders.HEAD
    (folder / "config.json").write_text(json.dumps(whole | {"eos_token_id": [2, 300]}))
    tensors = {f"language_model.{folders.full_name(n)}": array for n, array in weights.items()}
    tensors["vision_tower.encoder.weight"] = np.ones((3, 3), np.float32)
    tensors["multi_modal_projector.norm"] = np.ones(3, np.float32)
    folders.write_safetensors(folder / "model.safetensors", tensors)
    convert(folder, tmp_path / "model.gguf")
    assert_same(tmp_path / "model.gguf", model, weights)
    assert read_header(tmp_path / "model.gguf").metadata["tokenizer.ggml.eot_token_id"] == 300


def test_files_may_lie_anywhere(tmp_path: Path) -> None:
    """Uploaded ones are blobs, known by the names that they had."""
    make(tmp_path / "folder", FAMILIES["qwen2"], shards=2)
    (tmp_path / "blobs").mkdir()
    files = {}
    for number, (name, path) in enumerate(folder_files(tmp_path / "folder").items()):
        files[name] = path.rename(tmp_path / "blobs" / f"sha256-{number}")
    convert(files, tmp_path / "model.gguf")
    assert read_header(tmp_path / "model.gguf").architecture == "qwen2"


# ---- what is refused -----------------------------------------------------------------------------------------------------


def changed(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def removed(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def written(name: str, content: bytes) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return write


def tensors(change: Callable[[dict[str, folders.Array]], Any]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        made = folders.weights(FAMILIES["llama"])
        found = {folders.full_name(name): array for name, array in made.items()}
        change(found)
        folders.write_safetensors(folder / "model.safetensors", found)

    return write


DAMAGES: list[tuple[str, Callable[[Path], None], str]] = [
    ("no config", removed("config.json"), "no config.json"),
    ("no tokenizer", removed("tokenizer.json"), "no tokenizer"),
    ("no weights", removed("model.safetensors"), "no .safetensors file"),
    ("another architecture", changed(architectures=["MambaForCausalLM"]), "MambaForCausalLM"),
    ("no architecture", changed(architectures=[]), "none"),
    ("no JSON", written("config.json", b"<html>"), "config.json"),
    ("an LFS pointer", written("config.json", b"version https://git-lfs.github.com"), "LFS"),
    ("deep JSON", written("config.json", b"[" * 100_000), "config.json"),
    ("a mistyped size", changed(hidden_size="64"), "hidden_size"),
    ("an epsilon that no float holds", changed(rms_norm_eps=1e308), "rms_norm_eps is 1e.308"),
    ("an epsilon below 0", changed(rms_norm_eps=-1), "rms_norm_eps"),
    ("a base that no float holds", changed(rope_theta=1e308), "rope"),
    ("no size", changed(hidden_size=0), "missing or impossible"),
    ("a huge size", changed(num_hidden_layers=2**40), "missing or impossible"),
    ("many layers", changed(num_hidden_layers=513), "missing or impossible"),
    ("odd heads", changed(num_attention_heads=5), "heads"),
    ("quantised", changed(quantization_config={"quant_method": "gptq"}), "quantised already"),
    ("another scaling", changed(rope_scaling={"type": "dynamic", "factor": 2}), "dynamic"),
    ("a scaling of no kind", changed(rope_scaling={"type": ["x"]}), "rope scaling"),
    ("a mistyped factor", changed(rope_scaling={"type": "linear", "factor": "2"}), "factor"),
    ("another activation", changed(hidden_act="relu"), "relu"),
    ("more layers than tensors", changed(num_hidden_layers=3), "no tensor 'blk.2"),
    ("fewer layers than tensors", changed(num_hidden_layers=1), "none of a llama's"),
    ("another width", changed(intermediate_size=97), "shape"),
    ("untied without output", tensors(lambda t: t.pop("lm_head.weight")), ""),
    ("a strange tensor", tensors(lambda t: t.update(x=np.ones(3))), "'x' is none"),
    ("no embedding", tensors(lambda t: t.pop("model.embed_tokens.weight")), "embedding"),
    (
        "a tensor less",
        tensors(lambda t: t.pop("model.layers.1.mlp.up_proj.weight")),
        "no tensor 'blk.1.ffn_up.weight'",
    ),
    ("a config of 65 MB", written("config.json", b" " * (65 * 2**20)), "bytes"),
]


@pytest.mark.parametrize(
    ("damage", "message"), [row[1:] for row in DAMAGES], ids=[row[0] for row in DAMAGES]
)
def test_a_bad_folder_is_refused(
    tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    folder = tmp_path / "folder"
    make(folder, FAMILIES["llama"])
    if not message:
        changed(tie_word_embeddings=False)(folder)
    damage(folder)
    with pytest.raises(InvalidModel, match=message or "lm_head") as caught:
        convert(folder, tmp_path / "model.gguf")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "model.gguf").exists()


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("gemma2", {"query_pre_attn_scalar": 99}),
        ("gemma2", {"layer_types": ["full_attention", "full_attention"]}),
        ("gemma3", {"sliding_window_pattern": 3}),
        ("gemma3", {"attn_logit_softcapping": 50.0}),
        ("phi3 long", {"rope_scaling": {"type": "longrope", "long_factor": [1.0]}}),
        ("llama 3.1", {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}),
        ("llama yarn", {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "mscale": 0.7}}),
    ],
)
def test_what_llama_cpp_would_compute_otherwise_is_refused(
    tmp_path: Path, name: str, changes: dict[str, Any]
) -> None:
    make(tmp_path / "folder", FAMILIES[name])
    changed(**changes)(tmp_path / "folder")
    with pytest.raises(InvalidModel, match="cannot be converted"):
        convert(tmp_path / "folder", tmp_path / "model.gguf")


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    folder, secret = tmp_path / "folder", tmp_path / "secret"
    make(folder, FAMILIES["llama"])
    (folder / "README.md").symlink_to(secret)  # nothing that is read
    (folder / "kept").mkdir()
    (folder / "tokenizer.json").rename(folder / "kept" / "it")
    (folder / "tokenizer.json").symlink_to(folder / "kept" / "it")
    convert(folder, tmp_path / "inside.gguf")

    secret.write_bytes((folder / "config.json").read_bytes())
    for target in (secret, tmp_path / "folder/../secret", Path("/dev/zero")):
        (folder / "config.json").unlink()
        (folder / "config.json").symlink_to(target)
        with pytest.raises(InvalidModel, match="link out of its folder"):
            convert(folder, tmp_path / "model.gguf")
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to("config.json")
    with pytest.raises(InvalidModel, match="cannot read the folder"):
        convert(folder, tmp_path / "model.gguf")


@pytest.mark.parametrize("path", ["absent", "/dev/null"])
def test_what_is_no_folder_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(InvalidModel, match="cannot read the folder"):
        convert(tmp_path / path, tmp_path / "model.gguf")


def test_nothing_half_made_stays(tmp_path: Path) -> None:
    make(tmp_path / "folder", FAMILIES["llama"])

    def give_up(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(tmp_path / "folder", tmp_path / "model.gguf", progress=give_up)
    assert not (tmp_path / "model.gguf").exists()
    with pytest.raises(StoreError, match="cannot write"):
        convert(tmp_path / "folder", tmp_path / "absent" / "model.gguf")
    if Path("/dev/full").exists():
        (tmp_path / "full.gguf").symlink_to("/dev/full")
        with pytest.raises(StoreError, match="make room"):
            convert(tmp_path / "folder", tmp_path / "full.gguf")


# ---- tokenizers ----------------------------------------------------------------------------------------------------------


def tokenizer_of(folder: Path, target: Path, **files: bytes | dict[str, Any]) -> Loaded:
    """The converted model with other tokenizer files, loaded; what is named None is not there."""
    make(folder, FAMILIES["llama"])
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    for name, content in files.items():
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        (folder / name.replace("__", ".")).write_bytes(data)
    convert(folder, target)
    return Loaded(plan(target, n_ctx=64, n_slots=1, n_batch=8, threads=1))


@pytest.mark.llama
def test_byte_level_tokens_are_those_of_the_merges(tmp_path: Path) -> None:
    model = tokenizer_of(tmp_path / "f", tmp_path / "m.gguf", tokenizer__json=folders.byte_level())
    alphabet = folders.byte_alphabet()

    def byte(character: str) -> int:
        return 3 + alphabet.index(character)

    merged = {"".join(pair): 259 + index for index, pair in enumerate(folders.MERGES)}
    assert model.tokenize("abc ab de") == [1, merged["abc"], merged["Ġab"], merged["Ġde"]]
    assert model.tokenize("é", add_special=False) == [byte("Ã"), byte("©")]
    assert model.tokenize("a<|im_end|>d<tool>", False) == [byte("a"), 300, byte("d"), 301]
    assert model.adds_bos and (model.bos, model.eos) == (1, 2)
    assert model.ends(2) and model.ends(300), "a known ending"
    assert model.token_text(310) == "[PAD310]"
    model.close()


@pytest.mark.llama
def test_sentence_pieces_are_the_same_from_both_kinds_of_file(tmp_path: Path) -> None:
    texts = ["abc", "ab abc", "de é x", "", "a  b", "\n"]
    found = []
    for number, files in enumerate(
        (
            {"tokenizer__model": folders.tokenizer_model()},
            {"tokenizer__json": folders.character_level()},
        )
    ):
        target = tmp_path / f"{number}.gguf"
        model = tokenizer_of(tmp_path / f"f{number}", target, **files)  # type: ignore[arg-type]
        found.append([model.tokenize(text) for text in texts])
        model.close()
    assert found[0] == found[1]
    ids = {text: index for index, (text, _, _) in enumerate(folders.sentence_pieces())}
    assert found[0][0] == [1, ids["▁"], ids["abc"]] and found[0][5] == [1, ids["▁"], 3 + 10]


@pytest.mark.llama
def test_no_blank_is_put_in_front_where_the_tokenizer_says_so(tmp_path: Path) -> None:
    data = folders.tokenizer_model(dummy_prefix=False)
    model = tokenizer_of(tmp_path / "f", tmp_path / "m.gguf", tokenizer__model=data)
    ids = {text: index for index, (text, _, _) in enumerate(folders.sentence_pieces())}
    assert model.tokenize("abc") == [1, ids["abc"]]
    model.close()


def keys_of(tmp_path: Path, **files: bytes | dict[str, Any]) -> dict[str, Any]:
    """The metadata of a model converted with these tokenizer files."""
    folder = tmp_path / "keys"
    make(folder, FAMILIES["llama"])
    (folder / "tokenizer_config.json").unlink()
    for name, content in files.items():
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        (folder / name.replace("__", ".")).write_bytes(data)
    convert(folder, tmp_path / "keys.gguf")
    return read_header(tmp_path / "keys.gguf", arrays=True).metadata


def test_settings_beside_the_tokenizer_are_taken(tmp_path: Path) -> None:
    keys = keys_of(
        tmp_path,
        tokenizer_config__json={
            "add_bos_token": False,
            "eos_token": {"content": "<|im_end|>"},
            "pad_token": "<unk>",
            "added_tokens_decoder": {
                "305": {"content": "<|x|>", "special": True},
                "999": {"content": "y"},
            },
            "chat_template": [
                {"name": "tool_use", "template": "T"},
                {"name": "default", "template": "D"},
            ],
        },
        generation_config__json={"eos_token_id": [300, 2]},
    )
    found = {key.removeprefix("tokenizer.ggml."): value for key, value in keys.items()}
    assert found["add_bos_token"] is False
    ids = [found[f"{name}_token_id"] for name in ("bos", "eos", "eot", "padding")]
    assert ids == [1, 300, 2, 0]
    assert found["tokens"][305] == "<|x|>" and found["token_type"][305] == 3
    assert found["tokenizer.chat_template"] == "D"


def test_a_template_of_its_own_file_goes_first(tmp_path: Path) -> None:
    keys = keys_of(
        tmp_path,
        chat_template__jinja="{{ é }}".encode(),
        tokenizer_config__json={"chat_template": "D"},
    )
    assert keys["tokenizer.chat_template"] == "{{ é }}"


@pytest.mark.parametrize(
    ("regex", "ignore_merges", "name"),
    [
        (folders.LLAMA_3, True, "llama-bpe"),
        (folders.LLAMA_3, False, "dbrx"),
        (folders.LLAMA_3.replace("{1,3}", ""), False, "qwen2"),
    ],
)
def test_pre_tokenizers_are_known_by_their_expressions(
    tmp_path: Path, regex: str, ignore_merges: bool, name: str
) -> None:
    keys = keys_of(tmp_path, tokenizer__json=folders.byte_level(regex, ignore_merges))
    assert keys["tokenizer.ggml.pre"] == name


def without(number: int) -> dict[str, Any]:
    found = folders.character_level()
    found["model"]["vocab"] = {t: n for t, n in found["model"]["vocab"].items() if n != number}
    return found


def with_token(text: str, number: int) -> dict[str, Any]:
    found = folders.byte_level()
    found["model"]["vocab"][text] = number
    return found


GOOD = folders.tokenizer_model()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"tokenizer__json": folders.byte_level(r"\p{L}+")}, "pre-tokenizer is unknown"),
        ({"tokenizer__json": {"model": {"type": "Unigram", "vocab": []}}}, "vocab"),
        ({"tokenizer__json": {"model": {"vocab": {"a": 0}, "merges": []}}}, "neither"),
        ({"tokenizer__json": with_token("x", 320)}, "token 320 and the model 320 rows"),
        ({"tokenizer__json": with_token("x", -1)}, "below 0"),
        ({"tokenizer__json": with_token("x", 5)}, "twice"),
        ({"tokenizer__json": with_token("[PAD310]", 311)}, "twice"),
        ({"tokenizer__json": with_token("", 311)}, "empty"),
        ({"tokenizer__json": without(3 + 65)}, "<0x41>"),
        ({"tokenizer__model": b""}, "no pieces"),
        ({"tokenizer__model": GOOD[:-1]}, "ends in the middle"),
        ({"tokenizer__model": GOOD[: len(GOOD) // 2]}, "middle|not SentencePiece"),
        ({"tokenizer__model": folders.tokenizer_model(kind=1)}, "BPE"),
        ({"tokenizer__model": b"\xff" * 100}, "middle|not SentencePiece"),
        ({"tokenizer__model": b"\x0a\x02\x08\x01"}, "no text"),
        ({"tokenizer_config__json": b'{"added_tokens_decoder": 3}'}, "added_tokens_decoder"),
        ({"chat_template__jinja": b"\xff"}, "UTF-8"),
    ],
)
def test_a_bad_tokenizer_is_refused(
    tmp_path: Path, files: dict[str, bytes | dict[str, Any]], message: str
) -> None:
    with pytest.raises(InvalidModel, match=message) as caught:
        keys_of(tmp_path, **files)
    assert "\n" not in str(caught.value)


def test_an_output_that_is_the_embedding_once_more_is_dropped(tmp_path: Path) -> None:
    """config.json decides, as in transformers."""
    model = replace(FAMILIES["llama"], config={"tie_word_embeddings": True})
    make(tmp_path / "folder", model)
    convert(tmp_path / "folder", tmp_path / "model.gguf")
    names = {tensor.name for tensor in read_header(tmp_path / "model.gguf").tensors}
    assert "token_embd.weight" in names and "output.weight" not in names


# ---- anything at all -----------------------------------------------------------------------------------------------------

_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 2**70)
    | st.floats()
    | st.sampled_from(["default", "yarn", "longrope", "llama3", "linear", "full_attention", "é"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "rope_type", "factor", "full_attention", "rope_theta", "single"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)


def assert_refused_or_whole(folder: Path) -> None:
    target = folder.parent / "any.gguf"
    target.unlink(missing_ok=True)
    try:
        convert(folder, target)
    except InvalidModel as error:
        assert "\n" not in str(error) and not target.exists()
    else:
        assert read_header(target).vocab_size == folders.VOCAB


@pytest.fixture(scope="module")
def any_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("any") / "folder"
    make(folder, FAMILIES["llama"])
    return folder


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(list(FAMILIES)),
    changes=st.dictionaries(st.sampled_from(Config.__struct_fields__), _VALUES, max_size=4),
)
def test_any_config_is_refused_or_makes_a_whole_file(
    any_folder: Path, name: str, changes: dict[str, Any]
) -> None:
    config = folders.config_json(FAMILIES[name]) | changes
    (any_folder / "config.json").write_text(json.dumps(config))
    (any_folder / "tokenizer.model").unlink(missing_ok=True)
    assert_refused_or_whole(any_folder)


@settings(max_examples=150, deadline=None)
@given(
    cuts=st.lists(st.tuples(st.integers(0, len(GOOD)), st.binary(max_size=4)), max_size=3),
    end=st.integers(0, len(GOOD) * 2),
)
def test_any_tokenizer_model_is_refused_or_makes_a_whole_file(
    any_folder: Path, cuts: list[tuple[int, bytes]], end: int
) -> None:
    data = bytearray(GOOD)
    for at, new in cuts:
        data[at : at + len(new)] = new
    (any_folder / "config.json").write_text(json.dumps(folders.config_json(FAMILIES["llama"])))
    (any_folder / "tokenizer.model").write_bytes(bytes(data[:end]))
    assert_refused_or_whole(any_folder)


@settings(max_examples=100, deadline=None)
@given(
    path=st.sampled_from(
        ["added_tokens", "pre_tokenizer", "post_processor", "normalizer", "model"]
    ),
    data=st.data(),
)
def test_any_tokenizer_json_is_refused_or_makes_a_whole_file(
    any_folder: Path, path: str, data: st.DataObject
) -> None:
    full = data.draw(st.sampled_from([folders.byte_level(), folders.character_level()]))
    value = data.draw(_VALUES)
    if isinstance(full.get(path), dict) and data.draw(st.booleans()):
        key = data.draw(st.sampled_from(sorted(full[path])))
        full = full | {path: full[path] | {key: value}}
    else:
        full = full | {path: value}
    (any_folder / "config.json").write_text(json.dumps(folders.config_json(FAMILIES["llama"])))
    (any_folder / "tokenizer.model").unlink(missing_ok=True)
    (any_folder / "tokenizer.json").write_text(json.dumps(full))
    assert_refused_or_whole(any_folder)
