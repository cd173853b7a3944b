"""The uploaded files that a model is made from, and the layers that they make. Reads headers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import InvalidModel, InvalidRequest
from ...formats.gguf import Header, read_checked
from ...formats.parts import Kind, parts
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
    """The blobs by the names under which they were sent."""
    return {file.name: file.path for file in files}


def gguf_layers(files: Sequence[Upload], *, only: Kind | None = None) -> list[NewLayer]:
    """The layers that GGUF files make: one model, in one file or in shards, and a projector and adapters beside it.

    ``only``: layers of this kind, without a model. Raises InvalidRequest for anything else, InvalidModel for files that do not belong together.
    """
    headers = {file.name: _header(file) for file in files}
    uploads = {file.name: file for file in files}
    return [
        NewLayer(
            Layer(
                LAYER_PREFIX + part.kind,
                uploads[part.name].digest,
                uploads[part.name].size,
                name=part.shard,
            )
        )
        for part in parts(headers, only=only)
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
