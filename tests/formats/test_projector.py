"""What the header of a projector says, compared with what libmtmd makes of the file."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from ollamapy.engine.library import ctypes_layer
from ollamapy.errors import InvalidModel
from ollamapy.formats.gguf import Header, Tensor, read_header
from ollamapy.formats.projector import check_projector, kind_of, memory, senses, width
from tests import small_projectors
from tests.small_projectors import KINDS, Kind, projector, text_model


@pytest.mark.llama
@pytest.mark.parametrize("kind", KINDS)
def test_what_it_encodes_is_what_libmtmd_says(tmp_path: Path, kind: Kind) -> None:
    path = projector(tmp_path / "mmproj.gguf", kind, width=80)
    header = read_header(path)
    ctypes_layer()
    from llama_cpp import mtmd_cpp as mtmd

    found = mtmd.mtmd_get_cap_from_file(os.fsencode(path))
    known = [name for name in ("vision", "audio") if getattr(found, f"inp_{name}")]
    assert list(senses(header)) == known == (["audio"] if kind == "qwen2a" else ["vision"])
    assert (kind_of(header), width(header)) == (kind, 80)


def header(*tensors: tuple[str, tuple[int, ...]], **metadata: Any) -> Header:
    values = {f"clip.{key.replace('__', '.')}": value for key, value in metadata.items()}
    found = tuple(Tensor(name, "F32", shape, 0, 0) for name, shape in tensors)
    return Header(3, {"general.architecture": "clip", **values}, found, 0, 0)


@pytest.mark.parametrize(
    ("tensor", "metadata", "expected"),
    [
        (("mm.2.weight", (8, 5)), {"projector_type": "mlp"}, 5),
        (("mm.3.bias", (6,)), {"projector_type": "mlp"}, 6),  # of Yi
        (("mm.2.bias", (7,)), {"projector_type": "qwen3vl_merger"}, 7),
        (("mm.input_projection.weight", (9, 4)), {"projector_type": "gemma3"}, 9),
        (("resampler.proj.weight", (3, 4)), {"projector_type": "resampler"}, 3),
        (("mm.a.mlp.2.weight", (8, 5)), {"vision__projector_type": "pixtral", "audio__projector_type": "x"}, None),
        (("mm.a.mlp.2.weight", (8, 5)), {"audio__projector_type": "ultravox"}, 5),
        (("mm.2.weight", (8,)), {"projector_type": "mlp"}, None),
        (("mm.2.weight", (8, 5)), {"projector_type": 3}, None),
        (("mm.2.weight", (8, 5)), {"projector_type": "of tomorrow"}, None),
    ],
)  # fmt: skip
def test_the_width_of_its_embeddings(
    tensor: tuple[str, tuple[int, ...]], metadata: dict[str, Any], expected: int | None
) -> None:
    assert width(header(tensor, **metadata)) == expected


def test_which_model_it_fits() -> None:
    def model(n: Any) -> Header:
        return Header(3, {"general.architecture": "a", "a.embedding_length": n}, (), 0, 0)

    eyes = header(("mm.2.weight", (8, 5)), projector_type="mlp", has_vision_encoder=True)
    check_projector(eyes, model(5))
    check_projector(eyes, model("unknown"))
    check_projector(header(has_audio_encoder=True), model(5))
    with pytest.raises(
        InvalidModel, match="its embeddings have 5 numbers and the model takes 1,024"
    ):
        check_projector(eyes, model(1024))
    with pytest.raises(InvalidModel, match="neither images nor sound"):
        check_projector(header(has_vision_encoder="yes"), model(5))


SIZES = {"embedding_length": 8, "attention__head_count": 2, "patch_size": 7, "image_size": 28}
KERNEL, PLACES = ("v.patch_embd.weight", (7, 7, 3, 8)), ("v.position_embd.weight", (8, 16))


@pytest.mark.parametrize(
    ("sizes", "tensors", "why"),
    [
        ({}, (KERNEL, PLACES), ""),
        ({"image_size": 34}, (KERNEL, PLACES), ""),
        ({"attention__head_count": 3, "attention__head_dim": 4}, (KERNEL, PLACES), ""),
        ({"attention__head_count": 0}, (), "not divided by 0 heads"),
        ({"attention__head_count": 3}, (), "not divided by 3 heads"),
        ({"attention__head_count": 1000}, (), "not divided by 1000 heads"),
        ({"attention__head_count": "2"}, (), "not divided by 0 heads"),
        ({"embedding_length": 9}, (), "its 9 numbers"),
        ({"embedding_length": 10}, (KERNEL,), "patches are not of 7 pixels and 10 numbers"),
        ({"patch_size": 14}, (KERNEL,), "patches are not of 14 pixels"),
        ({"image_size": 0}, (KERNEL, PLACES), "no positions for images of 0 pixels"),
        ({"image_size": 35}, (KERNEL, PLACES), "no positions for images of 35 pixels"),
        ({}, (KERNEL, PLACES, ("v.class_embd", (8,))), "no positions for images of 28 pixels"),
    ],
)
def test_sizes_on_which_libmtmd_would_end_its_process(
    sizes: dict[str, Any], tensors: tuple[tuple[str, tuple[int, ...]], ...], why: str
) -> None:
    values = {f"vision__{key}": value for key, value in {**SIZES, **sizes}.items()}
    found = header(*tensors, projector_type="mlp", has_vision_encoder=True, **values)
    model = Header(3, {}, (), 0, 0)
    if not why:
        check_projector(found, model)
        return
    with pytest.raises(InvalidModel, match=f"the projector cannot be computed: .*{why}"):
        check_projector(found, model)


@pytest.mark.llama
@pytest.mark.parametrize("kind", KINDS)
def test_its_memory_is_a_little_above_the_truth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    """Of an encoder that is wide enough for the log to tell: libmtmd logs its compute buffer in hundredths of a MiB."""
    monkeypatch.setattr(small_projectors, "WIDTH", 256)
    monkeypatch.setattr(small_projectors, "IMAGE", 336)
    text = text_model(tmp_path / "text.gguf", kind)
    path = projector(tmp_path / "mmproj.gguf", kind, width=256)
    lib = ctypes_layer()
    from llama_cpp import mtmd_cpp as mtmd

    lines: list[str] = []
    listen = lib.llama_log_callback(lambda _level, line, _data: lines.append(line.decode()))
    mtmd.mtmd_log_set(listen, None)
    params = lib.llama_model_default_params()
    params.n_gpu_layers = 0
    model = lib.llama_model_load_from_file(os.fsencode(text), params)
    settings = mtmd.mtmd_context_params_default()
    settings.use_gpu, settings.n_threads = False, 1
    context = mtmd.mtmd_init_from_file(os.fsencode(path), model, settings)
    mtmd.mtmd_log_set(lib.llama_log_callback(0), None)
    assert context
    mtmd.mtmd_free(context)
    lib.llama_model_free(model)
    logged = re.search(r"compute buffer size = +([0-9.]+) MiB", "".join(lines))
    assert logged is not None
    found = read_header(path)
    compute = memory(found) - found.weights_size - 8_000_000
    assert 1.0 < compute / (float(logged[1]) * 2**20) < 1.6
