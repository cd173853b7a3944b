"""Giving models away: to the registry that a model's name says, or to the hub (hf.co/user/repo); streamed in Ollama's statuses.

A registry gets the manifest and the blobs as they are. The hub gets files that can be used without us, and that a pull from
there makes the same model of: the GGUF, and beside it `template`, `system`, `params` and `LICENSE` where the model has such.
How it is done on the wire is ``registry/upload.py``'s affair.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass

from ..config import environment
from ..errors import InvalidRequest, ModelNotFound, StoreError
from ..formats.configuration import parse_config
from ..names import DEFAULT_NAMESPACE, DEFAULT_TAG, Name
from ..registry.hub import HubSettings
from ..registry.manifest import Layer, Manifest
from ..registry.oci import HUB_HOSTS, basic, registry_access
from ..registry.patience import Patience
from ..registry.store import Store
from ..registry.upload import Blob, push_to_hub, push_to_registry
from ..types import Progress
from .threads import Report, followed

_HUB_TEXTS = {"template": "template", "system": "system", "params": "params", "license": "LICENSE"}
"""Kind of layer -> the file on the hub that a pull takes it from."""


@dataclass(frozen=True, slots=True)
class PushRequest:
    """Give a model to where its name says. ``user`` and ``password`` are for a registry, ``hub`` is how the user who asks
    reaches the hub (None: as the daemon does). ``insecure`` allows http.
    """

    model: str
    insecure: bool = False
    user: str = ""
    password: str = ""
    hub: HubSettings | None = None


async def push(store: Store, request: PushRequest) -> AsyncGenerator[Progress, None]:
    """Do it, step by step; closing this ends it. Raises InvalidName, ModelNotFound, InvalidRequest, TransferError."""
    name = Name.parse(request.model)
    yield Progress("retrieving manifest")
    installed = await asyncio.to_thread(store.find, name)
    if installed is None:
        raise ModelNotFound(f"model '{request.model}' not found")
    content, manifest = await asyncio.to_thread(store.manifest_file, installed)
    hub = request.hub or HubSettings.from_env(environment())
    authorization = basic(request.user, request.password) if request.user else ""
    access = registry_access(installed, hub, authorization=authorization, insecure=request.insecure)
    patience = Patience(threading.Event())

    def work(tell: Report) -> None:
        def report(blob: Blob, done: int) -> None:
            tell(Progress(f"pushing {blob.digest[7:19]}", blob.digest, blob.size, done))

        if installed.host.lower() in HUB_HOSTS:
            repo = f"{installed.namespace}/{installed.model}"
            files, texts = hub_files(store, installed, manifest)
            push_to_hub(
                repo,
                files,
                texts,
                access,
                report,
                summary=f"Upload {files[0].name} with ollamapy",
                patience=patience,
            )
            return
        if installed.namespace == DEFAULT_NAMESPACE and not request.user:
            raise InvalidRequest(
                f"'{installed.display}' has no namespace of yours: ollamapy cp {installed.display}"
                " HOST/USER/MODEL, and push that"
            )
        blobs = [_blob(store, layer) for layer in (*manifest.layers, manifest.config)]
        push_to_registry(installed, content, blobs, access, report, patience)

    def reserving(tell: Report) -> None:
        lease = store.reserve(layer.digest for layer in manifest.blobs)
        with suppress(StoreError):  # a store that is only read: nothing of ours deletes there
            lease.open()
        try:
            work(tell)
        finally:
            lease.close()

    async with aclosing(followed(reserving, patience.cancelled)) as steps:
        async for step in steps:
            yield step
    yield Progress("pushing manifest")
    yield Progress("success")


def hub_files(
    store: Store, name: Name, manifest: Manifest
) -> tuple[list[Blob], Mapping[str, bytes]]:
    """The large files of a model with their names on the hub, and its texts with theirs. Raises InvalidRequest for a model that
    the hub's files cannot say."""
    layers: dict[str, list[Layer]] = {}
    for layer in manifest.layers:
        layers.setdefault(layer.kind, []).append(layer)
    if "model" not in layers:
        raise InvalidRequest(f"'{name.display}' has no weights to push")
    if "adapter" in layers:
        raise InvalidRequest(
            f"'{name.display}' has an adapter, which a pull from the hub would not take: push it to a registry"
        )
    kind = parse_config(store.read_small(manifest.config)).file_type or "unknown"
    tag = name.tag if name.tag != DEFAULT_TAG else kind
    shards = layers["model"]
    stem = f"{name.model}-{tag}" if tag != "unknown" else name.model
    files = []
    for number, layer in enumerate(shards, 1):
        end = f"-{number:05}-of-{len(shards):05}" if len(shards) > 1 else ""
        files.append(_blob(store, layer, f"{stem}{end}.gguf"))
    for layer in layers.get("projector", ()):
        files.append(_blob(store, layer, f"mmproj-{name.model}.gguf"))
    texts = {
        path: b"\n".join(store.read_small(layer) for layer in layers[kind])
        for kind, path in _HUB_TEXTS.items()
        if kind in layers
    }
    return files, texts


def _blob(store: Store, layer: Layer, name: str = "") -> Blob:
    path = store.blob_path(layer.digest)
    return Blob(path, layer.digest, path.stat().st_size, name)
