"""Push a model: to the registry that its name points to, or to the hub (hf.co/user/repo).

A registry gets the manifest and the blobs as they are. The hub gets files that other programs can use, and that a pull from there
makes the same model of: the GGUF, and beside it `template`, `system`, `params` and `LICENSE` where the model has such. One synchronous
story, run as a job (job.py), with Ollama's statuses; the requests are in registry/upload.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..config import HubSettings
from ..errors import InvalidRequest, ModelNotFound
from ..formats.configuration import parse_config
from ..formats.gguf import read_header
from ..names import DEFAULT_NAMESPACE, DEFAULT_TAG, Name
from ..registry.manifest import Layer, Manifest
from ..registry.oci import HUB_HOSTS, basic, registry_access
from ..registry.patience import Patience
from ..registry.store import Store
from ..registry.upload import Blob, push_to_hub, push_to_registry
from ..types import Progress
from .job import Job

_HUB_TEXTS = {"template": "template", "system": "system", "params": "params", "license": "LICENSE"}
"""Kind of layer -> the file on the hub that a pull takes it from."""


@dataclass(frozen=True, slots=True)
class PushRequest:
    """Upload a model to where its name points. ``user`` and ``password`` are for a registry, ``hub`` is how the caller reaches the
    hub (None: as the daemon does). ``insecure`` allows http, ``is_local`` servers with a private address.
    """

    model: str
    insecure: bool = False
    user: str = ""
    password: str = ""
    hub: HubSettings | None = None
    is_local: bool = True
    is_owner: bool = False


def push(store: Store, hub: HubSettings, request: PushRequest, job: Job) -> None:
    """The story of a push; the model's blobs are reserved meanwhile. Raises InvalidName, ModelNotFound, InvalidRequest,
    TransferError, StoreError."""
    name = Name.parse(request.model)
    job.report(Progress("retrieving manifest"))
    installed = store.find(name)
    if installed is None:
        raise ModelNotFound(f"model '{request.model}' not found")
    content, manifest = store.manifest_file(installed)
    with store.reading(layer.digest for layer in manifest.blobs):
        _upload(store, installed, content, manifest, hub, request, job)
    job.report(Progress("pushing manifest"))
    job.report(Progress("success"))


def _upload(
    store: Store,
    name: Name,
    content: bytes,
    manifest: Manifest,
    hub: HubSettings,
    request: PushRequest,
    job: Job,
) -> None:
    """Upload a model with this manifest to the hub, else to its registry."""
    authorization = basic(request.user, request.password) if request.user else ""
    access = registry_access(
        name, hub, authorization=authorization, insecure=request.insecure, is_local=request.is_local
    )
    patience = Patience(job.cancelled)

    def report(blob: Blob, done: int) -> None:
        job.report(Progress(f"pushing {blob.digest[7:19]}", blob.digest, blob.size, done))

    if name.host.lower() in HUB_HOSTS:
        repo = f"{name.namespace}/{name.model}"
        files, texts = hub_files(store, name, manifest)
        summary = f"Upload {files[0].name} with ollamapy"
        push_to_hub(repo, files, texts, access, report, summary=summary, patience=patience)
        return
    if name.namespace == DEFAULT_NAMESPACE and not request.user:
        raise InvalidRequest(
            f"'{name.display}' has no namespace of yours: ollamapy cp {name.display}"
            " HOST/USER/MODEL, and push that"
        )
    blobs = [_blob(store, layer) for layer in (*manifest.layers, manifest.config)]
    push_to_registry(name, content, blobs, access, report, patience)


def hub_files(
    store: Store, name: Name, manifest: Manifest
) -> tuple[list[Blob], Mapping[str, bytes]]:
    """The large files of a model with their names on the hub, and its texts with theirs. Raises InvalidRequest for a model that
    cannot be stored as such files."""
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
        precision = read_header(store.blob_path(layer.digest)).file_type_name
        end = f"-{precision}" if precision != "unknown" else ""
        files.append(_blob(store, layer, f"mmproj-{name.model}{end}.gguf"))
    texts = {
        path: b"\n".join(store.read_small(layer) for layer in layers[kind])
        for kind, path in _HUB_TEXTS.items()
        if kind in layers
    }
    return files, texts


def _blob(store: Store, layer: Layer, name: str = "") -> Blob:
    path = store.blob_path(layer.digest)
    return Blob(path, layer.digest, path.stat().st_size, name)
