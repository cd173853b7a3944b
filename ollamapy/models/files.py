"""The files of a stored model: its manifest's blobs, resolved against the store by digest."""

from __future__ import annotations

from ..errors import InvalidModel
from ..formats.gguf import read_header
from ..formats.projector import memory
from ..loading import File, Files
from ..registry.manifest import Manifest
from ..registry.store import Store


def resolve(manifest: Manifest, store: Store) -> Files:
    """What a runner is loaded with for this model.

    Raises InvalidModel where it has no weights, or an adapter or the projector is no GGUF.
    """
    weights = _of_kind(manifest, store, "model")
    if not weights:
        raise InvalidModel("it has no weights, get it again")
    adapters = _of_kind(manifest, store, "adapter")
    projector = next(iter(_of_kind(manifest, store, "projector")), None)
    return Files(
        weights=weights[0],
        shards=weights[1:],
        adapters=adapters,
        projector=projector,
        adapter_size=sum(read_header(file.path).weights_size for file in adapters),
        projector_size=memory(read_header(projector.path)) if projector else 0,
    )


def _of_kind(manifest: Manifest, store: Store, kind: str) -> tuple[File, ...]:
    layers = [layer for layer in manifest.layers if layer.kind == kind]
    return tuple([File(store.blob_path(each.digest), each.digest, each.size) for each in layers])
