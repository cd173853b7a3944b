"""What config.json and the tokenizer of a model of BERT's family say, and what of it is refused before anything is converted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ollamapy.errors import InvalidModel
from ollamapy.formats import bert, wordpiece
from ollamapy.formats.encoder import Encoder, is_encoder, read_encoder
from tests.formats import encoders
from tests.formats.folders import write_safetensors

BERT = encoders.CONFIG
DISTIL = {
    "architectures": ["DistilBertModel"],
    "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 64,
}  # fmt: skip
NOMIC = {
    "architectures": ["NomicBertModel"],
    "n_embd": 32, "n_layer": 2, "n_head": 4, "n_inner": 64, "n_positions": 8192, "type_vocab_size": 2,
    "activation_function": "swiglu",
}  # fmt: skip
MODERN = BERT | {"architectures": ["ModernBertModel"], "hidden_activation": "gelu"}


def folder(path: Path, config: dict[str, Any], **files: Any) -> dict[str, Path]:
    """A folder with a config.json and other JSON files, given without ".json"."""
    found = {}
    for name, value in {"config": config, **files}.items():
        found[f"{name}.json"] = path / f"{name}.json"
        found[f"{name}.json"].write_text(json.dumps(value))
    return found


def read(path: Path, config: dict[str, Any], **files: Any) -> Encoder:
    return read_encoder(folder(path, config, **files))


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        (BERT, Encoder("bert", 2, 32, 64, 4, 64, 2, 1e-12)),
        (
            BERT | {"architectures": ["XLMRobertaModel"], "pad_token_id": 1},
            Encoder("bert", 2, 32, 64, 4, 62, 2, 1e-12, skipped=2),
        ),
        (
            BERT | {"architectures": ["RobertaModel"], "pad_token_id": 1, "layer_norm_eps": 1e-5},
            Encoder("bert", 2, 32, 64, 4, 62, 2, 1e-5, skipped=2, byte_pairs="roberta-bpe"),
        ),
        (DISTIL, Encoder("bert", 2, 32, 64, 4, 64, 0, 1e-12)),
        (NOMIC, Encoder("nomic-bert", 2, 32, 64, 4, 2048, 2, 1e-12, rope_base=10_000.0)),
        (
            MODERN | {"local_rope_theta": None},
            Encoder(
                "modern-bert", 2, 32, 64, 4, 64, 0, 1e-5,
                rope_base=160_000.0, window_rope_base=160_000.0, window=128, dense_every=3,
                byte_pairs="modern-bert",
            ),
        ),
    ],
    ids=["bert", "xlm", "roberta", "distil", "nomic", "modern"],
)  # fmt: skip
def test_a_configuration(config: dict[str, Any], wanted: Encoder, tmp_path: Path) -> None:
    assert read(tmp_path, config) == wanted


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (BERT | {"hidden_size": 0}, "missing or impossible"),
        (BERT | {"num_hidden_layers": 10**6}, "missing or impossible"),
        (BERT | {"num_attention_heads": 5}, "heads do not fit"),
        (BERT | {"type_vocab_size": 0}, "token types do not fit"),
        (BERT | {"hidden_act": "relu"}, "activation 'relu'"),
        (BERT | {"position_embedding_type": "relative_key"}, "absolute positions"),
        (BERT | {"quantization_config": {}}, "quantised already"),
        (BERT | {"layer_norm_eps": -1.0}, "layer_norm_eps"),
        (DISTIL | {"activation": "relu"}, "no DistilBERT with the activation"),
        (DISTIL | {"dim": 33}, "heads do not fit"),
        (NOMIC | {"activation_function": "gelu"}, "no nomic-bert with the activation"),
        (NOMIC | {"moe_every_n_layers": 2}, "adapters or experts"),
        (NOMIC | {"lora_adaptations": ["a"]}, "adapters or experts"),
        (NOMIC | {"rotary_emb_fraction": 0.5}, "no nomic-bert of this kind"),
        (NOMIC | {"prenorm": True}, "no nomic-bert of this kind"),
        (MODERN | {"hidden_activation": "silu"}, "no modern-bert with the activation"),
        (MODERN | {"mlp_bias": True}, "with biases"),
        (MODERN | {"norm_bias": True}, "with biases"),
        (MODERN | {"local_attention": 0}, "window of attention"),
        (MODERN | {"global_attn_every_n_layers": -1}, "window of attention"),
    ],
)
def test_what_would_be_computed_otherwise_is_refused(
    config: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidModel, match=words):
        read(tmp_path, config)


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        (["Transformer", "Pooling", "Normalize"], ""),
        (["Transformer", "Pooling", "Dense"], "a layer 'Dense'"),
    ],
)
def test_layers_after_the_model(kinds: list[str], words: str, tmp_path: Path) -> None:
    modules = [{"type": f"sentence_transformers.models.{kind}"} for kind in kinds]
    if not words:
        assert read(tmp_path, BERT, modules=modules).name == "bert"
        return
    with pytest.raises(InvalidModel, match=words):
        read(tmp_path, BERT, modules=modules)


def test_which_architectures_are_encoders() -> None:
    assert is_encoder(["Odd", "ModernBertForMaskedLM"])
    assert not is_encoder(["LlamaForCausalLM"]) and not is_encoder([])


def byte_pairs(path: Path, **changes: Any) -> dict[str, Path]:
    """A tokenizer of the kind BPE; `changes` are those of its pre-tokenizer."""
    encoders.write_byte_pairs(path, ["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    tokenizer = json.loads((path / "tokenizer.json").read_text())
    tokenizer["pre_tokenizer"] |= changes
    return folder(path, BERT, tokenizer=tokenizer)


def test_the_keys_of_byte_pairs(tmp_path: Path) -> None:
    keys = wordpiece.metadata(byte_pairs(tmp_path), encoders.N_BYTE_PAIRS, "roberta-bpe")
    ids = {name: keys[f"tokenizer.ggml.{name}_token_id"] for name in ("bos", "eos", "padding")}
    assert ids == {"bos": 0, "eos": 2, "padding": 1}
    assert keys["tokenizer.ggml.pre"] == "roberta-bpe" and keys["tokenizer.ggml.model"] == "gpt2"
    assert keys["tokenizer.ggml.add_bos_token"] is keys["tokenizer.ggml.add_eos_token"] is True


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("", {}, "kind 'BPE'"),
        ("roberta-bpe", {"add_prefix_space": True}, "puts a blank before a text"),
        ("roberta-bpe", {"type": "Whitespace"}, "is not GPT-2's"),
    ],
)
def test_other_tokenizers_are_refused(
    name: str, changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(InvalidModel, match=words):
        wordpiece.metadata(byte_pairs(tmp_path, **changes), encoders.N_BYTE_PAIRS, name)


def test_byte_pairs_without_an_end_are_refused(tmp_path: Path) -> None:
    encoders.write_byte_pairs(tmp_path, ["<s>", "<pad>", "<eos>", "<unk>", "<mask>"])
    files = folder(tmp_path, BERT) | {"tokenizer.json": tmp_path / "tokenizer.json"}
    with pytest.raises(InvalidModel, match="no .CLS. or .SEP., <s> or </s>"):
        wordpiece.metadata(files, encoders.N_BYTE_PAIRS, "roberta-bpe")


@pytest.mark.parametrize(
    ("drop", "words"),
    [
        ("model.final_norm.weight", "no tensor 'output_norm.weight'"),
        ("model.layers.1.attn_norm.weight", "no tensor 'blk.1.attn_norm.weight'"),
        ("model.embeddings.tok_embeddings.weight", "no embedding"),
    ],
)
def test_a_tensor_that_is_missing_is_named(drop: str, words: str, tmp_path: Path) -> None:
    encoders.make_modern(tmp_path)
    kept = {n: t for n, t in encoders.tensors_of(tmp_path).items() if n != drop}
    write_safetensors(tmp_path / "model.safetensors", kept)
    files = {path.name: path for path in tmp_path.iterdir() if path.is_file()}
    with pytest.raises(InvalidModel, match=words):
        bert.planned(files)
