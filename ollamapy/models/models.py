"""The models of a store, as the daemon reads them: one by its name, the list of all, and everything about one.

Everything that touches the disk runs in a worker thread and is cached: a stored model cannot change without its manifest changing.
Nothing here runs a model, renders a template or writes to the store.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InvalidModel, ModelNotFound
from ..names import Name
from ..registry.manifest import Manifest
from ..registry.store import Store
from .listing import ListedModel, Listing
from .show import show
from .spec import ModelSpec, read_spec

_SPECS_KEPT = 64  # headers of models; one weighs about 0.5 MB


class Models:
    """The models in a store. ``cache`` is the file of the list's summaries, None to keep them in memory only."""

    def __init__(self, store: Store, cache: Path | None = None) -> None:
        self.store = store
        self._spec = functools.lru_cache(maxsize=_SPECS_KEPT)(self._read)
        self._listing = Listing(store, cache)

    async def load(self, name_text: str) -> ModelSpec:
        """The model of that name, in any case.

        Raises InvalidName, ModelNotFound, InvalidModel, StoreError.
        """
        return await asyncio.to_thread(self._load, name_text)

    async def list(self) -> tuple[ListedModel, ...]:
        """All models, newest first. One whose files are damaged is listed with what can be read. Raises StoreError."""
        return await asyncio.to_thread(self._listing.read)

    async def show(
        self,
        name_text: str,
        *,
        verbose: bool = False,
        system: str | None = None,
        options: Mapping[str, Any] | None = None,
        user_agent: str = "",
    ) -> tuple[ModelSpec, dict[str, Any]]:
        """The model, and the answer of /api/show, see :func:`.show.show`. Raises as `load`; ModelNotFound names the tag here."""
        # Copilot shows the base name and sends it back as the model's name
        basename = name_text if user_agent.startswith("GitHubCopilotChat/") else ""

        def work() -> tuple[ModelSpec, dict[str, Any]]:
            try:
                spec = self._load(name_text)
            except ModelNotFound:
                shown = Name.parse(name_text).display if name_text else ""
                raise ModelNotFound(f"model '{shown}' not found") from None
            return spec, show(
                spec, verbose=verbose, system=system, options=options, basename=basename
            )

        return await asyncio.to_thread(work)

    # In a worker thread

    def _load(self, name_text: str) -> ModelSpec:
        if not name_text:
            raise ModelNotFound("model '' not found")
        name = self.store.find(Name.parse(name_text))
        if name is None:
            raise ModelNotFound(f"model '{name_text}' not found")
        manifest = self.store.manifest(name)
        spec = self._spec(name, manifest)
        if not spec.files.weights.path.is_file():  # deleted by someone else
            self._spec.cache_clear()
            spec = self._spec(name, manifest)
        return spec

    def _read(self, name: Name, manifest: Manifest) -> ModelSpec:
        try:
            return read_spec(self.store, name, manifest)
        except InvalidModel as error:
            raise InvalidModel(f"model '{name.display}': {error}") from error
