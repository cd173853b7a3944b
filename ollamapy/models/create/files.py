"""The files that a model is made from: which are shards of one model, projectors, adapters, checkpoints. Reads headers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import InvalidModel, InvalidRequest
from ...formats import llama2c
from ...formats.folder import POOLING
from ...formats.gguf import Header, read_checked
from ...human import quote
from ...registry.manifest import LAYER_PREFIX, Layer
from .layers import NewLayer


@dataclass(frozen=True, slots=True)
class Upload:
    """An uploaded file: the name it was sent under, and the blob."""

    name: str
    path: Path
    digest: str
    size: int

    @property
    def is_safetensors(self) -> bool:
        return self.name.endswith(".safetensors")


def by_name(files: Sequence[Upload]) -> dict[str, Path]:
    """The files of a model's folder by their names in it."""
    found = {}
    for file in files:
        nested = POOLING.search(file.name)
        found[nested[0] if nested else file.name.rpartition("/")[2]] = file.path
    return found


def llama2c_of(files: Sequence[Upload]) -> dict[str, Path] | None:
    """A llama2.c "checkpoint" and the "tokenizer" that was sent with it; None if the files are something else.

    Raises InvalidRequest for a checkpoint without a tokenizer.
    """
    if not all(file.name.endswith(".bin") for file in files):
        return None
    names = by_name(files)
    tokenizers = {name: path for name, path in names.items() if name.startswith("tok")}
    checkpoints = [path for name, path in names.items() if name not in tokenizers]
    if len(checkpoints) != 1:
        return None
    try:
        vocabulary = llama2c.read_checkpoint(checkpoints[0]).vocab_size
    except InvalidModel as error:
        raise InvalidRequest(str(error)) from None
    for name in (f"tok{vocabulary}.bin", "tokenizer.bin", *tokenizers):
        if name in tokenizers:
            return {"checkpoint": checkpoints[0], "tokenizer": tokenizers[name]}
    raise InvalidRequest(
        f"the llama2.c checkpoint comes without its tokenizer, send the tokenizer.bin with {vocabulary} pieces, too"
    )


def gguf_layers(files: Sequence[Upload], *, adapters: bool = False) -> list[NewLayer]:
    """The layers that GGUF files make: one model, in one file or in shards, and projectors and adapters beside it.

    With ``adapters`` only adapters. Raises InvalidRequest for anything else.
    """
    headers = [(file, _header(file)) for file in files]
    models = [(file, header) for file, header in headers if _kind(header) == "model"]
    if adapters:
        if models:
            raise InvalidRequest(
                f"{quote(models[0][0].name)} is a model and no adapter, name it with FROM"
            )
        if any(_kind(header) != "adapter" for _, header in headers):
            raise InvalidRequest("an adapter must be a LoRA, and one of the files is a projector")
    elif not models:
        raise InvalidRequest("no file is a model: the weights are missing")
    others = [(file, header) for file, header in headers if _kind(header) != "model"]
    return [
        NewLayer(Layer(LAYER_PREFIX + _kind(header), file.digest, file.size, name=name))
        for file, header, name in (
            *((file, header, name) for file, header, name in _in_shards(models)),
            *((file, header, "") for file, header in others),
        )
    ]


def _header(file: Upload) -> Header:
    try:
        with file.path.open("rb") as opened:
            magic = opened.read(4)
        if magic != b"GGUF":
            raise InvalidRequest(
                f"supplied file was not in GGUF format: {quote(file.name)}, convert it or get it again"
            )
        return read_checked(file.path)
    except InvalidModel as error:
        raise InvalidRequest(f"{quote(file.name)}: {error}") from None


def _kind(header: Header) -> str:
    """What a GGUF file is: "model", "projector" or "adapter"."""
    if header.metadata.get("general.type") == "adapter":
        return "adapter"
    is_projector = header.architecture == "clip" or header.metadata.get("general.type") == "mmproj"
    return "projector" if is_projector else "model"


def _in_shards(models: Sequence[tuple[Upload, Header]]) -> list[tuple[Upload, Header, str]]:
    """One model's files in the order of its shards, with names that number them; a single file needs none."""
    if not models:
        return []
    if len(models) == 1 and shard_of(models[0][1])[1] <= 1:
        return [(*models[0], "")]
    numbers = [shard_of(header) for _, header in models]
    count = numbers[0][1]
    if {total for _, total in numbers} != {count} or count <= 1:
        raise InvalidRequest(
            f"{len(models)} files are models, and they are no shards of one: name one of them"
        )
    if sorted(number for number, _ in numbers) != list(range(count)):
        raise InvalidRequest(
            f"invalid split GGUF: {len(models)} of {count} shards are there, send each of them once"
        )
    ordered = sorted(models, key=lambda each: shard_of(each[1])[0])
    return [
        (file, header, f"model-{number:05}-of-{count:05}.gguf")
        for number, (file, header) in enumerate(ordered, 1)
    ]


def shard_of(header: Header) -> tuple[int, int]:
    """Which shard a file is, from 0, and of how many: (0, 1) for a whole model."""
    number, count = (header.metadata.get(f"split.{key}") for key in ("no", "count"))
    if isinstance(number, int) and isinstance(count, int) and count > 1:
        return number, count
    return 0, 1


def check_adapter(adapter: Header, model: Header) -> None:
    """Raises InvalidRequest unless a LoRA fits the model: the same architecture, and each matrix of the size of the model's."""
    if adapter.architecture != model.architecture:
        raise InvalidRequest(
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
            raise InvalidRequest(
                f"the adapter does not fit the model (its {base[:80]} is of another size),"
                " choose the model that it was made from"
            )
