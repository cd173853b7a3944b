"""Folders of models that see -> a projector in GGUF: what libmtmd makes of an image with it is what numpy makes with the folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from ollamapy.errors import InvalidModel
from ollamapy.formats.convert import convert
from ollamapy.formats.folder import folder_files
from ollamapy.formats.gguf import read_header
from ollamapy.formats.projector import check_projector, kind_of, senses, width
from ollamapy.formats.seeing import convert_projector, sees
from tests.formats import folders, seers
from tests.formats.seers import KINDS
from tests.reference import llama_logits, transformer

NAMES = {
    "mlp": [
        *("v.class_embd", "v.patch_embd.weight", "v.position_embd.weight", "v.pre_ln.weight", "v.pre_ln.bias"),
        *("mm.0.weight", "mm.0.bias", "mm.2.weight", "mm.2.bias"),
    ],
    "gemma3": [
        *("v.patch_embd.weight", "v.patch_embd.bias", "v.position_embd.weight", "v.post_ln.weight", "v.post_ln.bias"),
        *("mm.input_projection.weight", "mm.soft_emb_norm.weight"),
    ],
    "qwen2vl_merger": [
        *("v.patch_embd.weight", "v.patch_embd.weight.1", "v.post_ln.weight", "v.post_ln.bias"),
        *("mm.0.weight", "mm.0.bias", "mm.2.weight", "mm.2.bias"),
    ],
    "qwen2.5vl_merger": [
        *("v.patch_embd.weight", "v.patch_embd.weight.1", "v.post_ln.weight"),
        *("mm.0.weight", "mm.0.bias", "mm.2.weight", "mm.2.bias"),
    ],
}  # fmt: skip
"""The tensors beside those of the layers, as llama.cpp's scripts name them."""


def converted(folder: Path) -> tuple[Path, Path]:
    """The two files that a folder becomes."""
    text, projector = folder.with_suffix(".gguf"), folder.with_suffix(".mmproj.gguf")
    convert(folder, text)
    convert_projector(folder_files(folder), projector)
    return text, projector


@pytest.mark.llama
@pytest.mark.parametrize("name", KINDS)
def test_libmtmd_computes_what_the_folder_says(tmp_path: Path, name: str) -> None:
    made = seers.make(tmp_path / "folder", name)
    assert sees(folder_files(tmp_path / "folder"))
    text, projector = converted(tmp_path / "folder")
    pixels = seers.image(name)
    expected = seers.reference(name, made, pixels)
    assert np.abs(expected).max() > 1
    # llama.cpp looks gelu up in a table of 16-bit numbers, and convolves in them; Gemma's projection is in F16
    np.testing.assert_allclose(seers.encoded(text, projector, pixels), expected, atol=2e-2)


@pytest.mark.llama
@pytest.mark.parametrize("name", KINDS)
def test_llama_cpp_computes_the_part_that_reads(tmp_path: Path, name: str) -> None:
    """Positions of a text turn as they do without M-RoPE."""
    seers.make(tmp_path / "folder", name)
    convert(tmp_path / "folder", tmp_path / "text.gguf")
    model, tokens = folders.FAMILIES[KINDS[name].text], [1, 270, 15, 299, 0, 270, 261, 44]
    expected = transformer(model.shape, folders.weights(model), tokens)
    tolerance = 2e-2 if model.shape.gelu else 1e-4
    np.testing.assert_allclose(
        llama_logits(tmp_path / "text.gguf", tokens), expected, atol=tolerance
    )


@pytest.mark.parametrize("name", KINDS)
def test_the_header_of_a_projector(tmp_path: Path, name: str) -> None:
    seers.make(tmp_path / "folder", name)
    text, projector = converted(tmp_path / "folder")
    header, model = read_header(projector), read_header(text)
    assert (header.architecture, header.file_type_name) == ("clip", "F32")
    assert (kind_of(header), senses(header), width(header)) == (name, ("vision",), folders.WIDTH)
    check_projector(header, model)
    layers = seers.LAYERS - (name == "mlp")
    sizes = {"image_size": 560 if name.startswith("qwen") else 28, "patch_size": KINDS[name].patch}
    sizes |= {"embedding_length": seers.WIDTH, "block_count": layers, "attention.head_count": 2}
    sizes |= {"projection_dim": folders.WIDTH}
    assert {key: header.value(f"vision.{key}") for key in sizes} == sizes
    assert header.value("vision.image_mean") == pytest.approx(seers.MEAN)
    found = {tensor.name for tensor in header.tensors if not tensor.name.startswith("v.blk.")}
    assert found == set(NAMES[name])
    assert {tensor.name.split(".")[2] for tensor in header.tensors if ".blk." in tensor.name} == {
        str(layer) for layer in range(layers)
    }


def test_numbers_of_each_kind(tmp_path: Path) -> None:
    """What differs between the kinds, as libmtmd reads it."""
    found = {}
    for name in KINDS:
        seers.make(tmp_path / name, name)
        found[name] = read_header(converted(tmp_path / name)[1])
    assert found["mlp"].value("vision.feature_layer") == (2,)
    assert found["gemma3"].value("vision.projector.scale_factor") == 2
    assert found["qwen2.5vl_merger"].value("vision.n_wa_pattern") == 2
    activations = {name: (h.value("use_gelu"), h.value("use_silu")) for name, h in found.items()}
    assert activations == {
        "mlp": (False, False),
        "gemma3": (True, False),
        "qwen2vl_merger": (False, False),
        "qwen2.5vl_merger": (False, True),
    }
    text = read_header((tmp_path / "qwen2vl_merger").with_suffix(".gguf"))
    assert text.architecture == "qwen2vl"
    assert text.value("rope.dimension_sections") == (4, 2, 2, 0)


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
@pytest.mark.parametrize("name", KINDS)
def test_weights_keep_their_type(tmp_path: Path, name: str, dtype: str) -> None:
    """But for convolutions, which libmtmd has in F16 or F32, positions and Gemma's projection."""
    seers.make(tmp_path / "folder", name, dtype=dtype, new_names=True)
    _, projector = converted(tmp_path / "folder")
    types = {tensor.name: tensor.type_name for tensor in read_header(projector).tensors}
    assert types["v.blk.0.attn_q.weight"] == types["v.blk.1.ffn_up.weight"] == dtype
    assert types["v.patch_embd.weight"] == ("F16" if dtype == "F16" else "F32")
    assert types.get("v.position_embd.weight", "F32") == types["v.blk.0.attn_q.bias"] == "F32"
    assert types.get("mm.input_projection.weight", "F16") == "F16"


def test_queries_keys_values_and_frames_are_cut_apart(tmp_path: Path) -> None:
    made = seers.make(tmp_path / "folder", "qwen2vl_merger")
    _, projector = converted(tmp_path / "folder")
    found = {each.name: np.array(each.data) for each in gguf.GGUFReader(projector).tensors}
    for number, part in enumerate("qkv"):
        rows = slice(number * seers.WIDTH, (number + 1) * seers.WIDTH)
        for end in ("weight", "bias"):
            expected = made[f"visual.blocks.1.attn.qkv.{end}"][rows]
            np.testing.assert_array_equal(found[f"v.blk.1.attn_{part}.{end}"], expected)
    frames = made["visual.patch_embed.proj.weight"]
    for frame, name in enumerate(("v.patch_embd.weight", "v.patch_embd.weight.1")):
        np.testing.assert_array_equal(found[name], frames[:, :, frame])


# ---- what is refused -----------------------------------------------------------------------------------------------------


def config(**changes: Any) -> Callable[[Path], None]:
    """Change config.json; keys of its vision_config begin with "vision__"."""

    def change(folder: Path) -> None:
        path = folder / "config.json"
        found = json.loads(path.read_text())
        for key, value in changes.items():
            part = found["vision_config"] if key.startswith("vision__") else found
            part[key.removeprefix("vision__")] = value
        path.write_text(json.dumps(found))

    return change


def weights(name: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        found = seers.weights(name)
        change(found)
        folders.write_safetensors(folder / "model.safetensors", found)

    return write


PATCH = "vision_tower.vision_model.embeddings.patch_embedding.weight"
DAMAGES: list[tuple[str, str, Callable[[Path], object], str]] = [
    ("no part that sees", "mlp", config(vision_config=None), "no part that sees"),
    ("another architecture", "mlp", config(architectures=["LlamaForCausalLM"]), "no part that sees"),
    ("another encoder", "mlp", config(vision__model_type="pixtral"), "pixtral"),
    ("another selection", "mlp", config(vision_feature_select_strategy="full"), "LLaVA 1.5"),
    ("several layers", "mlp", config(vision_feature_layer=[-2, -3]), "several layers"),
    ("a layer that is none", "mlp", config(vision_feature_layer=-9), "vision_feature_layer"),
    ("a huge size", "mlp", config(vision__hidden_size=2**40), "missing or impossible"),
    ("no size", "gemma3", config(vision__hidden_size=-1), "missing or impossible"),
    ("a mistyped size", "gemma3", config(vision__hidden_size="32"), "hidden_size"),
    ("many layers", "gemma3", config(vision__num_hidden_layers=2000), "do not fit each other"),
    ("odd heads", "gemma3", config(vision__num_attention_heads=5), "do not fit each other"),
    ("a patch larger than the image", "gemma3", config(vision__patch_size=99), "do not fit"),
    ("tokens that divide nothing", "gemma3", config(mm_tokens_per_image=9), "mm_tokens_per_image"),
    ("no tokens", "gemma3", config(mm_tokens_per_image=0), "mm_tokens_per_image"),
    ("three by three", "qwen2vl_merger", config(vision__spatial_merge_size=3), "two patches by two"),
    ("another window", "qwen2.5vl_merger", config(vision__window_size=56), "windows of 112"),
    ("an odd pattern", "qwen2.5vl_merger", config(vision__fullatt_block_indexes=[1, 2]), "window"),
    ("no pattern", "qwen2.5vl_merger", config(vision__fullatt_block_indexes=[]), "window"),
    ("a missing tensor", "mlp", weights("mlp", lambda w: w.pop(PATCH)), "no tensor 'v.patch_embd"),
    ("another shape", "mlp", weights("mlp", lambda w: w.update({PATCH: np.ones((2, 3), np.float32)})), "has the shape"),
    ("a tensor too many", "mlp", weights("mlp", lambda w: w.update({"visual.x": np.ones(3, np.float32)})), "'visual.x'"),
    ("colours that are four", "gemma3", lambda f: (f / "preprocessor_config.json").write_text('{"image_mean": [1, 2, 3, 4]}'), "three colours"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "damage", "why"), [each[1:] for each in DAMAGES], ids=[each[0] for each in DAMAGES]
)
def test_what_is_refused(
    tmp_path: Path, name: str, damage: Callable[[Path], object], why: str
) -> None:
    folder = tmp_path / "folder"
    seers.make(folder, name)
    damage(folder)
    with pytest.raises(InvalidModel, match=why):
        convert_projector(folder_files(folder), tmp_path / "mmproj.gguf")
    assert not (tmp_path / "mmproj.gguf").exists()


def test_llava_may_leave_out_its_sizes(tmp_path: Path) -> None:
    """As llava-hf/llava-1.5-7b-hf does: a llama's usual ones count."""
    folder = tmp_path / "folder"
    seers.make(folder, "mlp")
    config(text_config={"model_type": "llama"})(folder)
    with pytest.raises(InvalidModel, match=r"shape \(64, 32\) and not \(4096, 32\)"):
        convert_projector(folder_files(folder), tmp_path / "mmproj.gguf")
    with pytest.raises(InvalidModel, match="4096"):
        convert(folder, tmp_path / "model.gguf")


def test_a_text_of_another_family_is_no_llava(tmp_path: Path) -> None:
    seers.make(tmp_path / "folder", "mlp")
    config(text_config={"model_type": "qwen2"})(tmp_path / "folder")
    with pytest.raises(InvalidModel, match="part that reads is a 'qwen2'"):
        convert(tmp_path / "folder", tmp_path / "model.gguf")
