"""The list of the stored models, as Ollama's /api/tags has it.

What a manifest does not contain (details, capabilities) is kept on the disk by the manifest's digest: a thousand headers take a
second or two to read. Runs in a thread.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from pathlib import Path

import msgspec

from ..context import DEFAULT_BATCH
from ..errors import OllamapyError
from ..formats.configuration import Config, parse_config
from ..formats.footprint import estimate
from ..formats.gguf import Header
from ..formats.projector import memory as projector_memory
from ..human import print_time
from ..names import Name
from ..registry.manifest import Manifest
from ..registry.store import Store
from .cache import DigestCache
from .spec import (
    Details,
    capabilities,
    details_of,
    last,
    model_layer,
    paths_of,
    read_headers,
    texts_of,
)

log = logging.getLogger(__name__)

_CONTEXT = 4096  # tokens

_ReadHeaders = Callable[[tuple[Path, ...]], Header]


class ListedModel(msgspec.Struct, frozen=True, omit_defaults=True):
    """One entry of /api/tags. `size` is bytes, `digest` bare hex, `modified_at` RFC 3339. `memory` is ours: the bytes that it
    needs for one conversation, see :func:`_memory`; so are `full_capabilities`, with those of the Jinja template, which Ollama's list
    leaves out."""

    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: Details
    capabilities: tuple[str, ...] = ()
    memory: int = 0
    full_capabilities: tuple[str, ...] = ()


class Summary(msgspec.Struct, frozen=True):
    """The part of a ListedModel that its manifest does not contain."""

    details: Details
    capabilities: tuple[str, ...]
    memory: int
    full_capabilities: tuple[str, ...]


class Listing:
    """The list of a store's models. ``cache`` is the file of its summaries, None to keep them in memory only."""

    def __init__(self, store: Store, cache: Path | None = None) -> None:
        self._store = store
        self._summaries = DigestCache(cache, Summary)
        self._warned: set[str] = set()  # digests of manifests that were logged as damaged

    def read(self) -> tuple[ListedModel, ...]:
        """All models, newest first. One whose files are damaged is listed with what can be read. Raises StoreError."""
        found = self._store.models()
        read = functools.lru_cache(maxsize=8)(read_headers)  # models often share their weights
        listed = tuple(self._listed(name, manifest, read) for name, manifest in found)
        self._summaries.keep(manifest.digest for _, manifest in found)
        return listed

    def _listed(self, name: Name, manifest: Manifest, read: _ReadHeaders) -> ListedModel:
        summary = self._summaries.get(manifest.digest) or self._summarize(name, manifest, read)
        return ListedModel(
            name=name.display,
            model=name.display,
            modified_at=print_time(manifest.modified_at),
            size=manifest.size,
            digest=manifest.digest,
            details=summary.details,
            capabilities=summary.capabilities,
            memory=summary.memory,
            full_capabilities=summary.full_capabilities,
        )

    def _summarize(self, name: Name, manifest: Manifest, read: _ReadHeaders) -> Summary:
        """The summary of a model, kept if its files are sound.

        Ollama's list leaves out what only the Jinja template can do; its clients see that in `show`.
        """
        config, model = Config(), model_layer(manifest)
        parent = model.from_ if model else ""
        try:
            config = parse_config(self._store.read_small(manifest.config))
            if model is None or config.model_format not in ("", "gguf"):
                return _summary(config, None, parent, config.capabilities)
            header = read(paths_of(self._store, manifest, "model"))
            paths = paths_of(self._store, manifest, "projector")
            projector = read(paths[:1]) if paths else None
            texts = [tuple(texts_of(self._store, manifest, k)) for k in ("template", "prompt")]
            can, can_all = (
                capabilities(
                    config,
                    header,
                    projector=projector,
                    go_template=last(texts[0] or texts[1]),
                    jinja_template=jinja,
                )
                for jinja in (None, header.chat_template or None)
            )
        except OllamapyError as error:
            if manifest.digest not in self._warned:
                self._warned.add(manifest.digest)
                log.warning("model '%s' is damaged: %s", name.display, error)
            return _summary(config, None, parent, config.capabilities)
        summary = _summary(config, header, parent, can, can_all, projector)
        self._summaries.put(manifest.digest, summary)
        return summary


def _summary(
    config: Config,
    header: Header | None,
    parent_model: str,
    can: tuple[str, ...],
    can_all: tuple[str, ...] = (),
    projector: Header | None = None,
) -> Summary:
    memory = _memory(header, projector) if header is not None else 0
    details = details_of(config, header, parent_model, lengths=True)
    return Summary(details, can, memory, can_all or can)


def _memory(header: Header, projector: Header | None) -> int:
    """Bytes for one conversation of up to _CONTEXT tokens, with the usual settings; adapters not counted."""
    n_ctx = min(_CONTEXT, header.context_length or _CONTEXT)
    n_batch = min(DEFAULT_BATCH, n_ctx)
    found = estimate(header, n_ctx=n_ctx, n_slots=1, n_batch=n_batch, kv_type="f16", flash=True)
    return found.total + (projector_memory(projector) if projector else 0)
