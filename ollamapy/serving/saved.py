"""What saved prefixes take on the disk, by model, and deleting them. The files are the runners' (``runner/cachefiles.py``)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ..errors import OllamapyError, RunnerError
from ..models.models import Models
from ..runner.cachefiles import Found, cache_folder, clear, files_of, model_of
from .services import Services

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Taken:
    """The files of one model's weights: the names that are installed with them, how many, their bytes, the last use."""

    digest: str
    names: tuple[str, ...]
    files: int
    size: int
    used: float

    @property
    def wire(self) -> dict[str, Any]:
        """As JSON has it."""
        used = datetime.fromtimestamp(self.used, UTC).isoformat(timespec="seconds")
        return {
            "digest": self.digest,
            "names": self.names,
            "files": self.files,
            "size": self.size,
            "used": used,
        }


def by_model(files: Iterable[Found], names: Iterable[tuple[str, str]]) -> list[Taken]:
    """Files grouped by their model, the last used first; ``names`` are pairs of a name and the model in folders' names."""
    named: dict[str, list[str]] = {}
    for name, model in names:
        named.setdefault(model, []).append(name)
    groups: dict[str, list[Found]] = {}
    for each in files:
        groups.setdefault(each.model, []).append(each)
    found = [
        Taken(
            model,
            tuple(named.get(model, ())),
            len(group),
            sum(each.size for each in group),
            max(each.used for each in group),
        )
        for model, group in groups.items()
    ]
    return sorted(found, key=lambda each: -each.used)


async def listing(services: Services) -> dict[str, Any]:
    """The answer of GET /api/cache. Raises StoreError."""
    paths, size = services.settings.paths, services.settings.cache_size
    files = await asyncio.to_thread(files_of, paths.cache)
    folder = await asyncio.to_thread(cache_folder, paths.cache, size, "")
    names = await _names(services.models) if files else []
    return {
        "size": sum(each.size for each in files),
        "budget": folder.budget if folder is not None else 0,
        "models": [each.wire for each in by_model(files, names)],
    }


async def _names(models: Models) -> list[tuple[str, str]]:
    """The installed names, each with its model in folders' names; without those whose files are damaged."""
    found = []
    for each in await models.list():
        try:
            spec = await models.load(each.name)
        except OllamapyError:
            continue
        found.append((spec.name.display, model_of(spec.files.weights.digest)))
    return found


async def cleared(services: Services, model: str) -> dict[str, int]:
    """Delete the files of a model, or all where it is empty, and what loaded models have in memory of requests that have ended.

    Raises as ``Models.load``.
    """
    digest = (await services.models.load(model)).files.weights.digest if model else ""
    digits = model_of(digest) if digest else ""
    for runner in services.scheduler.runners(digest):
        try:
            await runner.forget()
        except RunnerError as error:  # what it had in memory is gone with it
            log.info("a runner ended while its cache was cleared: %s", error)
    count, size = await asyncio.to_thread(clear, services.settings.paths.cache, digits)
    return {"files": count, "size": size}
