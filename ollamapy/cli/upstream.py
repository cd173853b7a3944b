"""Installed models that have changed at their source. Asks the sources, without the daemon; prints nothing."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from ..config import HubSettings, Settings
from ..errors import ModelNotFound, OllamapyError, RemoteNotFound
from ..names import DEFAULT_HOST, Name
from ..registry import preview, source
from ..registry.catalog import Catalog
from ..registry.manifest import Manifest
from ..registry.store import Store, open_store

_ASKING = 8  # names at a time


@dataclass(frozen=True, slots=True)
class Stale:
    """A stored model that is another one where it came from. `pull` is the name that gets that one.

    `is_pulled`: the model records its source. A model without a record may have been created by an Ollama, under a name that exists at
    a registry, too.
    """

    name: Name
    pull: str
    here: str
    there: str
    is_pulled: bool


def outdated(settings: Settings, only: Sequence[str] = ()) -> tuple[list[Stale], list[str]]:
    """The installed models that have changed at their source, and the errors of those that could not be checked.

    All of them, or those that are named. Models that were made here and the built-in one are passed over.
    Raises ModelNotFound for a name that is not stored.
    """
    store = open_store(settings.paths)
    wanted = {_stored(store, text) for text in only}
    models = [(name, m) for name, m in store.models() if not wanted or name in wanted]
    catalog = Catalog(settings.library)
    faults: list[str] = []

    def check(model: tuple[Name, Manifest]) -> Stale | None:
        try:
            return _stale(store, *model, catalog, settings.hub)
        except OllamapyError as error:
            faults.append(f"{model[0].display}: {error}")
            return None

    with ThreadPoolExecutor(_ASKING) as pool:
        found = [each for each in pool.map(check, models) if each is not None]
    return found, sorted(faults)


def _stored(store: Store, text: str) -> Name:
    name = store.find(Name.parse(text))
    if name is None:
        raise ModelNotFound(f"model '{text}' not found, see: ollamapy list")
    return name


def _stale(
    store: Store, name: Name, manifest: Manifest, catalog: Catalog, hub: HubSettings
) -> Stale | None:
    if store.is_created(manifest):
        return None
    recorded = preview.recorded_source(store, manifest)
    entry = None if recorded else catalog.find(name)
    if entry is not None and entry.kind == "builtin":
        return None
    if recorded and name.host == DEFAULT_HOST and catalog.find(name) is None:
        return None  # a copy, under a name of the user's own
    # A model without a recorded source was pulled from a registry, or created by an Ollama: then the registry has none
    text = name.display if recorded else name.full
    try:
        found = source.find(source.parse(text), catalog, hub)
    except RemoteNotFound:
        if recorded:
            raise
        return None
    if not found.files or preview.is_current(manifest, recorded, found):
        return None
    here = str(recorded.get("revision", "")) or manifest.digest
    there = found.revision or (found.published.manifest.digest if found.published else "")
    return Stale(name, text, here, there, bool(recorded))


def is_same_at_source(settings: Settings, store: Store, name: Name) -> bool:
    """Whether a pull of that name brings the model that is here, rather than another of its name.

    A recorded source is trusted. Raises TransferError and its children.
    """
    try:
        manifest = store.manifest(name)
    except OllamapyError:
        return True  # there is nothing to lose
    with suppress(OllamapyError):
        if preview.recorded_source(store, manifest):
            return True
    found = source.find(source.parse(name.display), Catalog(settings.library), settings.hub)
    if found.published is not None:
        return found.published.manifest.digest == manifest.digest
    weights = {part.file.digest for part in found.parts if part.kind == "model"}
    return weights <= {layer.digest for layer in manifest.layers}
