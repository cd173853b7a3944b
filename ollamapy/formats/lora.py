"""A LoRA adapter as PEFT saves it (adapter_config.json, adapter_model.safetensors) -> a GGUF adapter for llama.cpp.

LoRA adds scale * B A to a matrix W of its base model. GGUF has one `alpha` for all matrices and llama.cpp takes alpha / rank as
the scale; where PEFT has another one (rank-stabilised, or patterns of ranks and alphas) the difference is put into B. Matrices
whose rows a conversion has put in another order get B's rows in that order. Every pair is compared with the base's tensor.
Formats: https://huggingface.co/docs/peft/developer_guides/checkpoint, llama.cpp's convert_lora_to_gguf.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import msgspec

from ollamapy.errors import InvalidModel

from . import gguf
from .architecture import FAMILIES
from .convert import open_all, plain_name
from .folder import Folder, folder_files, read_json
from .safetensors import Tensor, read_model
from .writer import OnProgress, Value, Weight, float32, read_at, tensor_names, write

_PREFIX = "base_model.model."
_HALF = re.compile(r"(.+)\.lora_(embedding_)?([AB])(\.default)?(\.weight)?")


class _Config(msgspec.Struct, frozen=True):
    """adapter_config.json, as far as it matters here."""

    peft_type: str = "LORA"
    r: int = 8
    lora_alpha: float = 8.0
    use_rslora: bool = False
    use_dora: bool = False
    fan_in_fan_out: bool = False
    rank_pattern: dict[str, int] = {}
    alpha_pattern: dict[str, float] = {}


@dataclass(frozen=True, slots=True)
class _Pair:
    """One matrix's A (rank x in) and B (out x rank), its name in the file and in the GGUF."""

    module: str
    name: str
    a: Tensor
    b: Tensor
    embedding: bool

    @property
    def rank(self) -> int:
        return self.a.shape[0]


def convert_adapter(
    source: Path | Folder,
    base: gguf.Header,
    target: Path,
    *,
    progress: OnProgress | None = None,
) -> None:
    """Write the GGUF of an adapter's folder (or of its files by name) at `target`; `base` is the header of its model's GGUF.

    Raises InvalidModel when the folder is not what it should be, of another kind than LoRA or for another model; StoreError
    when `target` cannot be written; `target` is then removed.
    """
    files = folder_files(source) if isinstance(source, Path) else source
    if "adapter_config.json" not in files:
        raise InvalidModel("the folder has no adapter_config.json, put the adapter's beside it")
    config = read_json(files, "adapter_config.json", _Config)
    if config.peft_type != "LORA" or config.use_dora or config.fan_in_fan_out:
        _refuse("it is not a plain LoRA, the only kind that llama.cpp supports")
    if not 0 < config.lora_alpha < 1e9:
        _refuse(f"its lora_alpha is {config.lora_alpha:g}")
    if base.architecture not in {family.name for family in FAMILIES.values()}:
        _refuse(f"its base is a {base.architecture}, for which adapters are not converted")
    pairs = _pairs(_adapter_tensors(files), base)
    metadata: dict[str, Value] = {
        "general.type": "adapter",
        "adapter.type": "lora",
        "adapter.lora.alpha": config.lora_alpha,
    }
    with ExitStack() as stack:
        opened = open_all(stack, (tensor for pair in pairs for tensor in (pair.a, pair.b)))
        weights = [weight for pair in pairs for weight in _weights(pair, opened, config, base)]
        write(target, base.architecture, metadata, weights, progress)


def _adapter_tensors(files: Folder) -> dict[str, Tensor]:
    """Of adapter_model.safetensors; a folder may hold a whole model beside it."""
    own = {name: path for name, path in files.items() if name == "adapter_model.safetensors"}
    return read_model(own or files)


def _pairs(tensors: Mapping[str, Tensor], base: gguf.Header) -> list[_Pair]:
    names = tensor_names(base.architecture, base.block_count)
    halves: dict[tuple[str, bool], dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        match = _HALF.fullmatch(name)
        if match is None:
            _refuse(f"tensor {name[:100]!r} is none of a LoRA's")
        module = plain_name(match[1].removeprefix(_PREFIX))
        halves.setdefault((module, match[2] is not None), {})[match[3]] = tensor
        if tensor.dtype not in ("F32", "F16", "BF16") or len(tensor.shape) != 2:
            _refuse(f"tensor {name[:100]!r} is no matrix of F32, F16 or BF16")
    shapes = {tensor.name: tensor.shape for tensor in base.tensors}
    pairs = []
    for (module, embedding), found in halves.items():
        name = names(f"{module}.weight")
        if len(found) < 2:
            _refuse(f"{module[:100]!r} has only one half")
        if name not in shapes:
            _refuse(f"its base has no {module[:100]!r}")
        pair = _Pair(module, name, found["A"], found["B"], embedding)
        inputs, outputs = shapes[name] if len(shapes[name]) == 2 else (0, 0)
        if embedding:
            inputs, outputs = outputs, inputs
        if pair.a.shape != (pair.rank, inputs) or pair.b.shape != (outputs, pair.rank):
            _refuse(f"its {module[:100]!r} does not fit that of its base")
        if not 0 < pair.rank <= min(inputs, outputs):
            _refuse(f"its {module[:100]!r} has rank {pair.rank}")
        pairs.append(pair)
    if not pairs:
        _refuse("it has no matrices")
    return pairs


def _weights(
    pair: _Pair, opened: Mapping[Path, BinaryIO], config: _Config, base: gguf.Header
) -> Iterator[Weight]:
    """A and B of one pair in F32. Of an embedding's A llama.cpp takes rows: it is turned."""
    factor = _scale(pair, config) / (config.lora_alpha / pair.rank)
    rows = _order(pair, base)

    def a() -> Iterator[bytes]:
        values = _read(opened, pair.a)
        yield (values.T if pair.embedding else values).astype("<f4").tobytes()

    def b() -> Iterator[bytes]:
        values = _read(opened, pair.b) * factor
        if rows:
            heads = values.reshape(rows, 2, -1, pair.rank)
            values = heads.swapaxes(1, 2)
        yield values.astype("<f4").tobytes()

    shape = pair.a.shape[::-1] if pair.embedding else pair.a.shape
    yield Weight(f"{pair.name}.lora_a", shape, "F32", a)
    yield Weight(f"{pair.name}.lora_b", pair.b.shape, "F32", b)


def _read(opened: Mapping[Path, BinaryIO], tensor: Tensor) -> Any:
    raw = read_at(opened[tensor.path], tensor.offset, tensor.n_bytes)
    return float32(raw, tensor.dtype).reshape(tensor.shape)


def _order(pair: _Pair, base: gguf.Header) -> int:
    """How many heads the rows belong to, if they are to be put in the order of neighbouring pairs; else 0."""
    if base.architecture != "llama":
        return 0
    if pair.name.endswith(".attn_q.weight"):
        heads = base.head_count
    elif pair.name.endswith(".attn_k.weight"):
        heads = max(base.head_count_kv, default=0)
    else:
        return 0
    if not heads or pair.b.shape[0] % (2 * heads):
        _refuse(f"the heads of its base do not divide {pair.module[:100]!r}")
    return heads


def _scale(pair: _Pair, config: _Config) -> float:
    """What B A is multiplied with. A pattern's key is a module's name or the end of one, as PEFT matches them."""
    alpha: float = _matched(config.alpha_pattern, pair.module, config.lora_alpha)
    rank = _matched(config.rank_pattern, pair.module, config.r)
    if rank != pair.rank:
        _refuse(f"{pair.module[:100]!r} has rank {pair.rank} and its configuration says {rank}")
    if not 0 < alpha < 1e9:
        _refuse(f"its alpha for {pair.module[:100]!r} is {alpha:g}")
    return alpha / math.sqrt(pair.rank) if config.use_rslora else alpha / pair.rank


def _matched(patterns: Mapping[str, Any], module: str, default: Any) -> Any:
    return next(
        (v for key, v in patterns.items() if module == key or module.endswith(f".{key}")), default
    )


def _refuse(why: str) -> NoReturn:
    raise InvalidModel(
        f"the adapter cannot be used: {why}; get it again, or the one for this model"
    )
