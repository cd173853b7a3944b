"""Details and memory needs of a remote model, read from its source without downloading it: `show --remote`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from .. import human
from ..config import Settings
from ..context import DEFAULT_BATCH
from ..errors import OllamapyError
from ..formats import footprint
from ..formats.gguf import Header
from ..formats.parameters import print_parameters, read_parameters
from . import hub, preview, source
from .catalog import Catalog
from .patience import Patience
from .source import Source, Wanted

CONTEXTS = (4096, 8192, 32768, 131072)
"""Tokens for which `show --remote` shows the memory that a model needs, up to the context that it was trained for."""


@dataclass(frozen=True, slots=True)
class Fit:
    """Memory that one quantisation of a model needs, in bytes, by its context in tokens; ``name`` pulls it."""

    name: str
    quantization: str
    size: int
    needs: dict[int, int]


def show_remote(
    settings: Settings, wanted: Wanted, free: int, patience: Patience
) -> dict[str, Any]:
    """The answer of /api/show for a remote model, and `fits`: the memory that each quantisation needs, and the ``free`` memory.

    Raises TransferError and its children, InvalidModel, InvalidSetting.
    """
    found = source.find(wanted, Catalog(settings.library), settings.hub, patience)
    header = preview.header(found, patience)
    texts = {kind: content.decode("utf-8", "replace") for kind, content in found.texts}
    files = [file for file, _ in found.files]
    return {
        "name": found.name.display,
        "license": texts.get("license", ""),
        "parameters": print_parameters(read_parameters([texts.get("params") or "{}"])),
        "template": texts.get("template") or header.chat_template or "",
        "system": texts.get("system", ""),
        "details": _details(header),
        "model_info": header.model_info(),
        "size": sum(file.size for file in files),
        "files": [{"path": f.path, "size": f.size, "sha256": f.sha256} for f in files],
        "repo": found.repo,
        "revision": found.revision,
        "note": found.note,
        "free": free,
        "fits": [_as_json(fit, free) for fit in _fits_of(found, header, settings, patience)],
    }


def _details(header: Header) -> dict[str, str]:
    return {
        "format": "gguf",
        "family": header.architecture,
        "parameter_size": human.format_number(header.parameter_count),
        "quantization_level": header.file_type_name,
    }


def _as_json(fit: Fit, free: int) -> dict[str, Any]:
    return {
        "name": fit.name,
        "quantization": fit.quantization,
        "size": fit.size,
        "needs": [
            {"context": n, "bytes": need, "fits": need <= free} for n, need in fit.needs.items()
        ],
    }


def _fits_of(found: Source, header: Header, settings: Settings, patience: Patience) -> list[Fit]:
    """The model itself and its other quantisations in the repository, the smallest first."""
    own = sum(file.size for file, _ in found.files)
    kinds = _others(found, settings, patience)
    if all(name != found.name.display for name, _, _ in kinds):
        kinds.append((found.name.display, header.file_type_name, own))
    trained = header.context_length or CONTEXTS[0]
    contexts = [n for n in CONTEXTS if n < trained] or [trained]
    contexts += [trained] if trained <= CONTEXTS[-1] and trained not in contexts else []
    return [
        Fit(name, label, size, {n: _need(header, size, n, settings) for n in contexts})
        for name, label, size in sorted(kinds, key=lambda each: each[2])
    ]


def _others(found: Source, settings: Settings, patience: Patience) -> list[tuple[str, str, int]]:
    """Name, label and bytes of each quantisation in the repository; the chosen one has the name of the source."""
    if not found.repo:
        return []
    listing = hub.list_files(
        hub.Repo(found.repo, found.revision), hub.access_of(settings.hub), patience
    )
    labels = hub.tags(listing.files)
    own = {part.file.path for part in found.parts if part.kind == "model"}
    kinds = []
    for label in labels if len(labels) > 1 else ():
        try:
            choice = hub.choose(listing.files, label)
        except OllamapyError:
            continue  # a label of several files
        files = (*choice.weights, *([choice.mmproj] if choice.mmproj else []))
        is_own = own == {file.path for file in choice.weights}
        name = found.name.display if is_own else f"hf.co/{found.repo}:{label}"
        kinds.append((name, label, sum(file.size for file in files)))
    return kinds


def _need(header: Header, size: int, n_ctx: int, settings: Settings) -> int:
    """Bytes for one conversation at a time. Raises InvalidSetting."""
    settings.check()
    found = footprint.estimate(
        header,
        n_ctx=n_ctx,
        n_slots=1,
        n_batch=min(DEFAULT_BATCH, n_ctx),
        kv_type=settings.kv_cache_type,
        flash=settings.flash_attention is not False,
    )
    return replace(found, weights=size).total
