"""PEFT's adapters -> GGUF: llama.cpp's logits change as W + scale * B A says."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ollamapy.errors import InvalidModel
from ollamapy.formats.convert import convert
from ollamapy.formats.gguf import read_header
from ollamapy.formats.lora import convert_adapter
from tests.formats import folders
from tests.formats.folders import FAMILIES, make
from tests.reference import llama_logits, transformer
from tests.small_models import random_model

TOKENS = [1, 270, 15, 299, 0, 270, 261]
MODULES = {
    "llama": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.down_proj"),
    "qwen3": ("self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj"),
    "gemma2": ("self_attn.k_proj", "mlp.gate_proj"),
    "phi3": ("self_attn.qkv_proj", "mlp.gate_up_proj"),
}


def make_adapter(
    folder: Path,
    weights: dict[str, folders.Array],
    names: list[str],
    rank: int = 4,
    seed: int = 1,
    **config: Any,
) -> dict[str, tuple[folders.Array, folders.Array]]:
    """Write an adapter's folder; its A and B by the module's name."""
    rng = np.random.default_rng(seed)
    folder.mkdir(exist_ok=True)
    pairs, tensors = {}, {}
    for name in names:
        outputs, inputs = weights[name].shape
        a = rng.standard_normal((rank, inputs)).astype(np.float32) * np.float32(0.2)
        b = rng.standard_normal((outputs, rank)).astype(np.float32) * np.float32(0.2)
        pairs[name] = a, b
        tensors[f"base_model.model.model.{name}.lora_A.weight"] = a
        tensors[f"base_model.model.model.{name}.lora_B.weight"] = b
    folders.write_safetensors(folder / "adapter_model.safetensors", tensors)
    said = {"peft_type": "LORA", "r": rank, "lora_alpha": 8} | config
    (folder / "adapter_config.json").write_text(json.dumps(said))
    return pairs


def base_of(tmp_path: Path, name: str) -> tuple[Path, dict[str, folders.Array]]:
    weights = make(tmp_path / "folder", FAMILIES[name])
    convert(tmp_path / "folder", tmp_path / "base.gguf")
    return tmp_path / "base.gguf", weights


@pytest.mark.llama
@pytest.mark.parametrize("name", MODULES)
def test_the_output_changes_as_the_arithmetic_says(tmp_path: Path, name: str) -> None:
    base, weights = base_of(tmp_path, name)
    names = [f"layers.{layer}.{module}" for layer in range(2) for module in MODULES[name]]
    pairs = make_adapter(tmp_path / "adapter", weights, names)
    convert_adapter(tmp_path / "adapter", read_header(base), tmp_path / "adapter.gguf")
    adapted = weights | {n: weights[n] + 8 / 4 * b @ a for n, (a, b) in pairs.items()}

    shape = FAMILIES[name].shape
    expected = transformer(shape, adapted, TOKENS)
    assert np.abs(expected - transformer(shape, weights, TOKENS)).max() > 0.3
    found = llama_logits(base, TOKENS, adapter=tmp_path / "adapter.gguf")
    np.testing.assert_allclose(found, expected, atol=2e-2 if shape.gelu else 2e-4)


@pytest.mark.llama
@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({"use_rslora": True}, 8 / math.sqrt(4)),
        ({"alpha_pattern": {"q_proj": 2}}, 2 / 4),
        ({"r": 16, "rank_pattern": {"layers.0.self_attn.q_proj": 4}}, 8 / 4),
        ({"lora_alpha": 3}, 3 / 4),
    ],
)
def test_other_scales_go_into_b(tmp_path: Path, config: dict[str, Any], scale: float) -> None:
    base, weights = base_of(tmp_path, "llama")
    name = "layers.0.self_attn.q_proj"
    pairs = make_adapter(tmp_path / "adapter", weights, [name], **config)
    convert_adapter(tmp_path / "adapter", read_header(base), tmp_path / "adapter.gguf")
    a, b = pairs[name]
    expected = transformer(
        FAMILIES["llama"].shape, weights | {name: weights[name] + scale * b @ a}, TOKENS
    )
    found = llama_logits(base, TOKENS, adapter=tmp_path / "adapter.gguf")
    np.testing.assert_allclose(found, expected, atol=2e-4)


@pytest.mark.llama
def test_embedding_and_output_can_be_adapted(tmp_path: Path) -> None:
    base, weights = base_of(tmp_path, "llama")
    rng = np.random.default_rng(2)
    folder = tmp_path / "adapter"
    a = rng.standard_normal((4, folders.VOCAB)).astype(np.float32)
    b = rng.standard_normal((folders.WIDTH, 4)).astype(np.float32)
    pairs = make_adapter(folder, weights, [])
    assert not pairs
    c = rng.standard_normal((4, folders.WIDTH)).astype(np.float32)
    d = rng.standard_normal((folders.VOCAB, 4)).astype(np.float32)
    prefix = "base_model.model."
    tensors = {
        f"{prefix}model.embed_tokens.lora_embedding_A": a,
        f"{prefix}model.embed_tokens.lora_embedding_B": b,
        f"{prefix}lm_head.lora_A.weight": c,
        f"{prefix}lm_head.lora_B.weight": d,
    }
    folders.write_safetensors(folder / "adapter_model.safetensors", tensors)
    convert_adapter(folder, read_header(base), tmp_path / "adapter.gguf")
    adapted = dict(weights, embed_tokens=weights["embed_tokens"] + 2 * (b @ a).T)
    adapted["lm_head"] = weights["lm_head"] + 2 * d @ c
    expected = transformer(FAMILIES["llama"].shape, adapted, TOKENS)
    found = llama_logits(base, TOKENS, adapter=tmp_path / "adapter.gguf")
    np.testing.assert_allclose(found, expected, atol=1e-3)


def config(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def tensors(*shapes: tuple[str, tuple[int, ...]]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        found = {f"base_model.model.{name}": np.ones(shape) for name, shape in shapes}
        folders.write_safetensors(folder / "adapter_model.safetensors", found)

    return write


_Q = "model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "adapter_config.json").unlink(), "no adapter_config.json"),
        (lambda folder: (folder / "adapter_model.safetensors").unlink(), "no .safetensors"),
        (config(peft_type="IA3"), "plain LoRA"),
        (config(use_dora=True), "plain LoRA"),
        (config(lora_alpha=0), "lora_alpha"),
        (config(lora_alpha="8"), "lora_alpha"),
        (config(r=5), "rank 4 and its configuration says 5"),
        (config(alpha_pattern={"q_proj": -1}), "alpha"),
        (tensors(), "no matrices"),
        (tensors((f"{_Q}.lora_A.weight", (4, 64))), "only one half"),
        (tensors((f"{_Q}.weight", (64, 64))), "none of a LoRA's"),
        (tensors((f"{_Q}.lora_A.weight", (64,)), (f"{_Q}.lora_B.weight", (64, 4))), "no matrix"),
        (
            tensors((f"{_Q}.lora_A.weight", (4, 65)), (f"{_Q}.lora_B.weight", (64, 4))),
            "does not fit",
        ),
        (
            tensors((f"{_Q}.lora_A.weight", (0, 64)), (f"{_Q}.lora_B.weight", (64, 0))),
            "rank 0",
        ),
        (
            tensors(
                ("model.layers.9.x.lora_A.weight", (4, 64)), ("model.layers.9.x.lora_B", (64, 4))
            ),
            "its base has no",
        ),
        (
            lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"\xff" * 50),
            "header claims",
        ),
    ],
)
def test_a_bad_adapter_is_refused(
    tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    base, weights = base_of(tmp_path, "llama")
    make_adapter(tmp_path / "adapter", weights, ["layers.0.self_attn.q_proj"])
    damage(tmp_path / "adapter")
    with pytest.raises(InvalidModel, match=message) as caught:
        convert_adapter(tmp_path / "adapter", read_header(base), tmp_path / "adapter.gguf")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "adapter.gguf").exists()


def test_an_adapter_for_another_model_is_refused(tmp_path: Path) -> None:
    """Of another family, of another size, and for a base that no adapters are converted for."""
    base, weights = base_of(tmp_path, "llama")
    make_adapter(tmp_path / "adapter", weights, ["layers.0.self_attn.q_proj"])
    others = tmp_path / "others"
    others.mkdir()
    phi, _ = base_of(others, "phi3")
    wider = random_model(tmp_path / "wider.gguf", n_embd=128)
    odd = random_model(tmp_path / "odd.gguf", architecture="starcoder2")
    for path, message in ((phi, "base has no"), (wider, "does not fit"), (odd, "starcoder2")):
        with pytest.raises(InvalidModel, match=message):
            convert_adapter(tmp_path / "adapter", read_header(path), tmp_path / "adapter.gguf")
