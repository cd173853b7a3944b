"""Blobs that cross the wire: content that a client sends into the store, and models that the daemon serves to others.

Sending is on whenever the daemon runs; serving only where the settings say so. What is served is what Ollama's registry
protocol needs to be pulled from here: the manifest, byte for byte, and the blobs that it names. HTTP is the routes' affair.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from ..digests import parse_digest
from ..errors import InvalidName, ModelNotFound, RemoteNotFound
from ..names import Name
from ..registry.store import Store

_BATCH = 1024 * 1024  # bytes handed to the disk at a time


async def receive(store: Store, digest: str, parts: AsyncIterator[bytes], size: int | None) -> bool:
    """Store what comes under its digest; False if it was there. ``size`` is what was announced to come, in bytes.

    Raises InvalidRequest for what is no digest or not the content's, DiskFull, StoreError; nothing is kept then.
    """
    digest = parse_digest(digest)
    if await asyncio.to_thread(store.has, digest):
        store.touch(digest)
        return False
    if size is not None:
        store.check_room(size)
    with store.new_blob(digest) as blob:
        held: list[bytes] = []
        n_held = 0
        async for part in parts:
            held.append(part)
            n_held += len(part)
            if n_held >= _BATCH:
                await asyncio.to_thread(blob.write, b"".join(held))
                held, n_held = [], 0
        await asyncio.to_thread(blob.write, b"".join(held))
        await asyncio.to_thread(blob.put)
    return True


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
