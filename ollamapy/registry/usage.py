"""How much disk space each model takes, and how much would be free without it. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..digests import is_digest, parse_digest
from .manifest import Manifest
from .prune import files_in, taken
from .store import Installed, Store


@dataclass(frozen=True, slots=True)
class ModelUsage:
    """A model: the bytes of all its blobs, and of those that no other model shares."""

    name: str
    size: int
    own: int
    root: Path


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes in the roots: of models (each blob once), of unused blobs, of unfinished downloads."""

    models: tuple[ModelUsage, ...]
    used: int
    unused: int
    unfinished: int

    @property
    def total(self) -> int:
        """The sum."""
        return self.used + self.unused + self.unfinished


def usage(store: Store) -> Usage:
    """Measure disk usage; the model whose removal frees most comes first. Damaged manifests are ignored."""
    readable = [each for each in store.survey() if each.manifest is not None]
    users: dict[str, int] = {}
    for each in readable:
        for layer in _of(each).distinct:
            users[layer.digest] = users.get(layer.digest, 0) + 1
    there: dict[str, int] = {}
    for root in store.roots:
        for path, status in files_in(root / "blobs"):
            if is_digest(path.name):
                size = path.stat().st_size if path.is_file() else status.st_size
                there[parse_digest(path.name)] = size
    models = []
    for each in readable:
        sizes = {layer.digest: there.get(layer.digest, 0) for layer in _of(each).distinct}
        own = sum(size for digest, size in sizes.items() if users[digest] == 1)
        models.append(ModelUsage(each.name.display, sum(sizes.values()), own, each.root))
    return Usage(
        models=tuple(sorted(models, key=lambda each: (-each.own, -each.size, each.name))),
        used=sum(size for digest, size in there.items() if digest in users),
        unused=sum(size for digest, size in there.items() if digest not in users),
        unfinished=sum(taken(status) for _, status in files_in(store.roots[0] / "partial")),
    )


def _of(each: Installed) -> Manifest:
    assert each.manifest is not None
    return each.manifest
