"""Which files make a model together: GGUF files by their headers, a folder, a llama2.c checkpoint with its tokenizer.

What creating a model would refuse is refused here, by who has the files before they are sent, and by who makes the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import InvalidModel
from ..human import quote
from . import llama2c
from .folder import POOLING
from .gguf import Header, joined
from .projector import check_projector, is_projector

Kind = Literal["model", "projector", "adapter"]


@dataclass(frozen=True, slots=True)
class Part:
    """A GGUF file of a model: its name, what it is, and the name that numbers it among its shards ("" for a whole model)."""

    name: str
    kind: Kind
    shard: str = ""


def parts(headers: Mapping[str, Header], *, only: Kind | None = None) -> list[Part]:
    """The parts that GGUF files are, by their names: one model, in one file or in shards, and a projector and adapters beside it.

    ``only``: parts of this kind, without a model. Raises InvalidModel for anything else.
    """
    kinds = {name: _kind(header) for name, header in headers.items()}
    models = [name for name, kind in kinds.items() if kind == "model"]
    others = [Part(name, kind) for name, kind in kinds.items() if kind != "model"]
    wrong = [(name, kind) for name, kind in kinds.items() if only and kind != only]
    if wrong:
        name, kind = wrong[0]
        raise InvalidModel(_NOT_ONLY[kind].format(name=quote(name)))
    if not models and not only:
        raise InvalidModel("no file is a model: the weights are missing")
    if list(kinds.values()).count("projector") > 1:
        raise InvalidModel(
            "several files are projectors, and a model has one: leave the others out"
        )
    shards = _in_shards({name: headers[name] for name in models})
    for part in others:
        if shards and part.kind == "projector":
            check_projector(headers[part.name], joined([headers[each.name] for each in shards]))
    return [*shards, *others]


_NOT_ONLY: Mapping[Kind, str] = {
    "model": "{name} is a model and neither adapter nor projector, name it with FROM alone",
    "projector": "an adapter must be a LoRA, and {name} is a projector: name it with FROM",
    "adapter": "{name} is an adapter, name it with ADAPTER",
}


def _kind(header: Header) -> Kind:
    if header.metadata.get("general.type") == "adapter":
        return "adapter"
    return "projector" if is_projector(header) else "model"


def _in_shards(models: Mapping[str, Header]) -> list[Part]:
    """One model's files in the order of its shards; a single file needs no number."""
    numbers = {name: shard_of(header) for name, header in models.items()}
    if len(models) == 1 and all(count <= 1 for _, count in numbers.values()):
        return [Part(name, "model") for name in models]
    counts = {count for _, count in numbers.values()}
    if not models:
        return []
    if len(counts) > 1 or max(counts) <= 1:
        raise InvalidModel(
            f"{len(models)} files are models, and they are no shards of one: name one of them"
        )
    (count,) = counts
    if sorted(number for number, _ in numbers.values()) != list(range(count)):
        raise InvalidModel(
            f"invalid split GGUF: {len(models)} of {count} shards are there, send each of them once"
        )
    ordered = sorted(models, key=lambda name: numbers[name])
    return [
        Part(name, "model", f"model-{number:05}-of-{count:05}.gguf")
        for number, name in enumerate(ordered, 1)
    ]


def shard_of(header: Header) -> tuple[int, int]:
    """Which shard a file is, from 0, and of how many: (0, 1) for a whole model."""
    number, count = (header.metadata.get(f"split.{key}") for key in ("no", "count"))
    if isinstance(number, int) and isinstance(count, int) and count > 1:
        return number, count
    return 0, 1


def check_adapter(adapter: Header, model: Header) -> None:
    """Raises InvalidModel unless a LoRA fits the model: the same architecture, and each matrix of the size of the model's."""
    if adapter.architecture != model.architecture:
        raise InvalidModel(
            f"the adapter is for {adapter.architecture} models and this one is {model.architecture},"
            " choose the model that it was made from"
        )
    shapes = {tensor.name: tensor.shape for tensor in model.tensors}
    pairs = {tensor.name: tensor.shape for tensor in adapter.tensors}
    for name, shape in pairs.items():
        base, _, half = name.rpartition(".")
        if half not in ("lora_a", "lora_b") or base == "token_embd.weight":
            continue
        theirs = shapes.get(base)
        # W is (in, out); A is (in, rank) and B is (rank, out)
        fits = theirs is not None and (
            shape[0] == theirs[0] if half == "lora_a" else shape[-1] == theirs[-1]
        )
        if not fits:
            raise InvalidModel(
                f"the adapter does not fit the model (its {base[:80]} is of another size),"
                " choose the model that it was made from"
            )


def in_folder(files: Mapping[str, Path]) -> dict[str, Path]:
    """The files of a model's folder by their names in it."""
    found = {}
    for name, path in files.items():
        nested = POOLING.search(name)
        found[nested[0] if nested else name.rpartition("/")[2]] = path
    return found


def checkpoint_of(files: Mapping[str, Path]) -> dict[str, Path] | None:
    """A llama2.c "checkpoint" and the "tokenizer" beside it; None if the files are something else.

    Raises InvalidModel for a checkpoint without a tokenizer.
    """
    if not all(name.endswith(".bin") for name in files):
        return None
    names = in_folder(files)
    tokenizers = {name: path for name, path in names.items() if name.startswith("tok")}
    checkpoints = [path for name, path in names.items() if name not in tokenizers]
    if len(checkpoints) != 1:
        return None
    vocabulary = llama2c.read_checkpoint(checkpoints[0]).vocab_size
    for name in (f"tok{vocabulary}.bin", "tokenizer.bin", *tokenizers):
        if name in tokenizers:
            return {"checkpoint": checkpoints[0], "tokenizer": tokenizers[name]}
    raise InvalidModel(
        f"the llama2.c checkpoint comes without its tokenizer, send the tokenizer.bin with {vocabulary} pieces, too"
    )
