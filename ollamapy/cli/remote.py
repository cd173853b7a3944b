"""Details and memory needs of a remote model, for `show --remote`: read from its source, without the daemon."""

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
from ..machine import free_memory
from ..registry import hub, preview, source
from ..registry.catalog import Catalog
from ..registry.patience import Patience
from ..registry.source import Source
from . import views
from .drawing import Card
from .terminal import remark

CONTEXTS = (4096, 8192, 32768, 131072)
"""Tokens for which `show --remote` shows the memory that a model needs, up to the context that it was trained for."""


@dataclass(frozen=True, slots=True)
class Fit:
    """Memory that one quantisation of a model needs, in bytes, by its context in tokens."""

    quantization: str
    size: int
    needs: dict[int, int]


def show_remote(settings: Settings, text: str) -> dict[str, Any]:
    """The answer of /api/show for a remote model, and `fits`: the memory that each quantisation needs, and the free memory.

    Raises TransferError and its children, InvalidModel, InvalidName.
    """
    catalog = Catalog(settings.library)
    patience = Patience(notify=remark)
    found = source.find(source.parse(text), catalog, settings.hub, patience)
    header = preview.header(found, patience)
    free = free_memory()
    texts = {kind: content.decode("utf-8", "replace") for kind, content in found.texts}
    files = [file for file, _ in found.files]
    return {
        "name": found.name.display,
        "license": texts.get("license", ""),
        "parameters": print_parameters(read_parameters([texts.get("params") or "{}"])),
        "template": texts.get("template") or header.chat_template or "",
        "system": texts.get("system", ""),
        "details": {
            "format": "gguf",
            "family": header.architecture,
            "parameter_size": human.format_number(header.parameter_count),
            "quantization_level": header.file_type_name,
        },
        "model_info": header.model_info(),
        "size": sum(file.size for file in files),
        "files": [{"path": f.path, "size": f.size, "sha256": f.sha256} for f in files],
        "repo": found.repo,
        "revision": found.revision,
        "note": found.note,
        "free": free,
        "fits": [
            {
                "quantization": fit.quantization,
                "size": fit.size,
                "needs": [
                    {"context": n, "bytes": need, "fits": need <= free}
                    for n, need in fit.needs.items()
                ],
            }
            for fit in _fits_of(found, header, settings, patience)
        ],
    }


def remote_card(answer: dict[str, Any], *, verbose: bool = False) -> Card:
    """The text of `show --remote`: the card of `show`, and the memory that each quantisation needs."""
    contexts = [each["context"] for each in answer["fits"][0]["needs"]]
    rows = []
    for fit in answer["fits"]:
        needs = [
            human.format_bytes(n["bytes"]) + ("" if n["fits"] else " no") for n in fit["needs"]
        ]
        rows.append(("", fit["quantization"], human.format_bytes(fit["size"]), *needs))
    header = ("", "quantization", "size", *(f"context {n}" for n in contexts))
    facts = {
        "size": human.format_bytes(answer["size"]),
        "repository": answer["repo"],
        "revision": answer["revision"][:12],
        "template": "yes" if answer["template"] else "none",
        "file": answer["note"],
    }
    where = [("", name, value) for name, value in facts.items() if value]
    free = human.format_bytes(answer["free"])
    own = views.card(answer, verbose=verbose).sections
    memory = (f"Memory needed ({free} are free)", [header, *rows])
    return Card([*own, ("Source", where), memory])


def _fits_of(found: Source, header: Header, settings: Settings, patience: Patience) -> list[Fit]:
    """The model itself and its other quantisations in the repository, the smallest first."""
    own = sum(file.size for file, _ in found.files)
    sizes = {header.file_type_name: own}
    if found.repo:
        listing = hub.list_files(
            hub.Repo(found.repo, found.revision), hub.access_of(settings.hub), patience
        )
        labels = hub.tags(listing.files)
        for label in labels if len(labels) > 1 else ():
            try:
                choice = hub.choose(listing.files, label)
            except OllamapyError:
                continue  # a label of several files
            files = (*choice.weights, *([choice.mmproj] if choice.mmproj else []))
            sizes.setdefault(label, sum(file.size for file in files))
    trained = header.context_length or CONTEXTS[0]
    contexts = [n for n in CONTEXTS if n < trained] or [trained]
    contexts += [trained] if trained <= CONTEXTS[-1] and trained not in contexts else []
    return [
        Fit(label, size, {n: _need(header, size, n, settings) for n in contexts})
        for label, size in sorted(sizes.items(), key=lambda each: each[1])
    ]


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
