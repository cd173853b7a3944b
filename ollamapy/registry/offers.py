"""Models that can be pulled: the catalogue searched by words, and the facts about its models that lists show.

Reads the catalogue's files, and keeps what it read until a file changes. The hub's own search is in hub_search.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from ..errors import InvalidCatalog
from .catalog import Catalog, Entry, Family, guessed_size

_Signature = tuple[tuple[str, int, int], ...]


@dataclass(slots=True)
class Shelf:
    """All families of a catalogue. Two threads that read at once read the same.

    ``faults`` says of each file that cannot be read what is wrong with it.
    """

    catalog: Catalog
    faults: tuple[str, ...] = ()
    _families: tuple[Family, ...] = ()
    _signature: _Signature | None = field(default=None)

    def families(self) -> tuple[Family, ...]:
        """The families that can be read, by name. Raises InvalidCatalog where a folder cannot be."""
        signature = self._read_signature()
        if signature != self._signature:
            faults: list[str] = []
            self._families = tuple(families(self.catalog, faults.append))
            self.faults, self._signature = tuple(faults), signature
        return self._families

    def _read_signature(self) -> _Signature:
        """Name, time and size of every file: another one means that something changed."""
        found = []
        for folder in self.catalog.folders:
            for path in (*folder.glob("*.yaml"), *folder.glob("formats/*.yaml")):
                status = path.stat()
                found.append((str(path), status.st_mtime_ns, status.st_size))
        return tuple(sorted(found))


def families(catalog: Catalog, on_fault: Callable[[str], None]) -> list[Family]:
    """All families that can be read; ``on_fault`` gets the error of each of the others. Raises InvalidCatalog for a folder."""
    found = []
    for name in catalog.families():
        try:
            family = catalog.family(name)
        except InvalidCatalog as error:
            on_fault(str(error))
            continue
        if family is not None:
            found.append(family)
    return found


def matching(found: Iterable[Family], text: str) -> list[Family]:
    """The families that have every word of a text somewhere: in names, tags and descriptions; matches by name
    first."""
    words = text.lower().split()

    def words_of(family: Family) -> str:
        entries = (
            f"{' '.join(e.tags)} {e.use} {e.licence} {e.architecture} {e.repo} {e.quantization}"
            for e in family.entries
        )
        return f"{family.name} {family.about} {' '.join(entries)}".lower()

    hits = [family for family in found if all(word in words_of(family) for word in words)]
    return sorted(hits, key=lambda family: not any(word in family.name for word in words))


def fits(entry: Entry, free: int) -> bool:
    """Whether a model fits into the free memory: its weights, a twelfth more for cache and buffers, and the process. A model of
    unknown size is taken to fit."""
    size = guessed_size(entry) or 0
    return size * 13 // 12 + 64 * 2**20 <= free


def family_facts(family: Family, free: int) -> dict[str, Any]:
    """A family in JSON's types, without unknown fields. `size` is in bytes; ``free`` are the bytes of memory that are free."""
    return {
        "name": family.name,
        "about": family.about,
        "models": [_entry_facts(entry, free) for entry in family.entries],
    }


def _entry_facts(entry: Entry, free: int) -> dict[str, Any]:
    facts = {
        "name": entry.name.display,
        "also": list(entry.also),
        "use": entry.use,
        "kind": entry.kind,
        "size": guessed_size(entry),
        "size_is_exact": entry.size is not None,
        "parameter_size": entry.parameter_size,
        "quantization": entry.quantization,
        "context": entry.context,
        "licence": entry.licence,
        "repo": entry.repo,
        "revision": entry.revision if entry.repo else "",
        "files": [{"path": each.path, "sha256": each.sha256} for each in entry.files],
        "document_prefix": entry.document_prefix,
        "query_prefix": entry.query_prefix,
        "note": entry.note,
        "fits": fits(entry, free),
    }
    return {key: value for key, value in facts.items() if value not in ("", None, [])}
