"""Blobs that cross the wire: content that a client sends into the store, and models that the daemon serves to others.

Clients can send whenever the daemon runs; models are served only where the settings allow it: the manifest, byte for byte, and the
blobs that it names, which is what Ollama's registry protocol pulls. HTTP is in web/ollama/.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from ..digests import parse_digest
from ..errors import InvalidName, ModelNotFound, RemoteNotFound
from ..names import Name
from ..registry.store import Store
from .threads import Bridge, in_own_thread

_BATCH = 1024 * 1024  # bytes written at a time


async def receive(store: Store, digest: str, parts: AsyncIterator[bytes], size: int | None) -> bool:
    """Store the content of a request's body under its digest; False if the blob was there. ``size`` is the announced number of
    bytes.

    Everything that waits for the disk runs in a thread of its own, which asks the event loop for one batch after the other. Raises
    InvalidRequest for a malformed digest or one that the content does not match, DiskFull, StoreError; nothing is kept then.
    """
    digest = parse_digest(digest)
    bridge = Bridge()

    def batches() -> Iterator[bytes]:
        while batch := bridge.run(_batch(parts)):
            yield batch

    def work() -> bool:
        if store.has(digest):
            store.touch(digest)
            return False
        if size is not None:
            store.check_room(size)
        store.add_blob(batches(), digest)
        return True

    try:
        return await in_own_thread(work, "blob")
    finally:
        bridge.cancel()


async def _batch(parts: AsyncIterator[bytes]) -> bytes:
    """The next parts, of a batch's size together; less at the end, and then b""."""
    kept: list[bytes] = []
    size = 0
    async for part in parts:
        kept.append(part)
        size += len(part)
        if size >= _BATCH:
            break
    return b"".join(kept)


def served_manifest(store: Store, repository: str, tag: str) -> tuple[bytes, str]:
    """A model's manifest and its digest. Raises RemoteNotFound, StoreError, InvalidModel."""
    name = _served_name(repository, tag)
    try:
        content, manifest = store.manifest_file(name)
        return content, manifest.digest
    except ModelNotFound:
        raise RemoteNotFound(f"model '{name.display}' is not here, see: ollamapy list") from None


def served_blob(store: Store, repository: str, digest: str) -> Path:
    """Where a blob lies, if some tag of the repository names it. Raises RemoteNotFound, InvalidRequest, StoreError."""
    digest = parse_digest(digest)
    wanted = _served_name(repository, "latest")
    for name, manifest in store.models():
        same = name.full.rpartition(":")[0].lower() == wanted.full.rpartition(":")[0].lower()
        if same and digest in {each.digest for each in manifest.blobs}:
            return store.blob_path(digest)
    raise RemoteNotFound(f"no model {repository} has the blob {digest[:19]}")


def _served_name(repository: str, tag: str) -> Name:
    """`namespace/model` or, for a model of another registry, `host/namespace/model`."""
    try:
        return Name.parse(f"{repository}:{tag}")
    except InvalidName:
        raise RemoteNotFound("there is no such model here") from None
