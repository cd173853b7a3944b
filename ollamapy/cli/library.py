"""What the catalogue has, what a model elsewhere is, and which stored models have become old: search, library,
show --remote, outdated.

Runs in the command's own process, without the daemon. Imported by commands when one of these is asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from .. import human
from ..config import Settings, environment
from ..errors import InvalidCatalogue, ModelNotFound, OllamapyError, RemoteNotFound
from ..formats import footprint
from ..formats.gguf import Header
from ..formats.parameters import print_parameters, read_parameters
from ..machine import free_memory
from ..names import DEFAULT_HOST, Name
from ..registry import hub, remote, source
from ..registry.catalog import Catalog, Entry, Family, guessed_size
from ..registry.hub import HubSettings
from ..registry.manifest import Manifest
from ..registry.patience import Patience
from ..registry.source import Source
from ..registry.store import Store, open_store
from . import views
from .terminal import printable, table

CONTEXTS = (4096, 8192, 32768, 131072)
"""Tokens for which `show --remote` says what a model needs, as far as it was trained for them."""

_ABOUT_COLUMN = 60
_ASKING = 8  # names at a time


# The catalogue


def families(catalog: Catalog) -> list[Family]:
    """All families that can be read; what is wrong with the others is said on stderr."""
    found = []
    for name in catalog.families():
        try:
            family = catalog.family(name)
        except InvalidCatalogue as error:
            print(f"Warning: {error}", file=sys.stderr)
            continue
        if family is not None:
            found.append(family)
    return found


def matching(found: Iterable[Family], text: str) -> list[Family]:
    """The families that have every word of a text somewhere: in names, tags, what they are and are for; those whose name has it
    first."""
    words = text.lower().split()

    def told(family: Family) -> str:
        entries = (
            f"{' '.join(e.tags)} {e.use} {e.licence} {e.architecture} {e.repo} {e.quantization}"
            for e in family.entries
        )
        return f"{family.name} {family.about} {' '.join(entries)}".lower()

    hits = [family for family in found if all(word in told(family) for word in words)]
    return sorted(hits, key=lambda family: not any(word in family.name for word in words))


def listing(found: Sequence[Family], free: int) -> str:
    """The table of families; `free` are the bytes of memory that are free."""
    rows = []
    for family in found:
        sizes = [size for entry in family.entries if (size := guessed_size(entry))]
        contexts = [entry.context for entry in family.entries if entry.context]
        licences = dict.fromkeys(entry.licence for entry in family.entries if entry.licence)
        fitting = [_fits(entry, free) for entry in family.entries]
        fits = "yes" if all(fitting) else "some" if any(fitting) else "no"
        about = family.about
        about = about if len(about) <= _ABOUT_COLUMN else f"{about[: _ABOUT_COLUMN - 3]}..."
        rows.append(
            (
                family.name,
                str(len(family.entries)),
                _span(sizes),
                str(max(contexts, default="")),
                ", ".join(licences),
                fits,
                about,
            )
        )
    return table(("NAME", "TAGS", "SIZE", "CONTEXT", "LICENCE", "FITS", "ABOUT"), rows)


def _span(sizes: Sequence[int]) -> str:
    if not sizes:
        return ""
    least, most = human.format_bytes(min(sizes)), human.format_bytes(max(sizes))
    return least if least == most else f"{least} - {most}"


def card(family: Family, free: int) -> str:
    """A family with its tags; a size with ~ is not exact."""
    rows = [
        (
            entry.name.display,
            _size(entry),
            entry.parameter_size,
            entry.quantization,
            str(entry.context or ""),
            entry.licence,
            "yes" if _fits(entry, free) else "no",
            ", ".join(entry.also),
        )
        for entry in family.entries
    ]
    columns = ("NAME", "SIZE", "PARAMETERS", "QUANT", "CONTEXT", "LICENCE", "FITS", "ALSO")
    notes = [f"{e.name.display}: {e.note}\n" for e in family.entries if e.note]
    text = f"{family.about}\n\n{table(columns, rows)}"
    return f"{text}\n{''.join(notes)}" if notes else text


def _size(entry: Entry) -> str:
    if entry.size is not None:
        return human.format_bytes(entry.size)
    guess = guessed_size(entry)
    return f"~{human.format_bytes(guess)}" if guess else ""


def _fits(entry: Entry, free: int) -> bool:
    """Whether a model runs in the memory that is free: its weights, a twelfth more for cache and buffers, and the process. What
    is known of no size is taken to fit."""
    size = guessed_size(entry) or 0
    return size * 13 // 12 + 64 * 2**20 <= free


def family_json(family: Family, free: int) -> dict[str, Any]:
    """A family as `--json` prints it; what is unknown is left out. `size` is in bytes."""
    return {
        "name": family.name,
        "about": family.about,
        "models": [_entry_json(entry, free) for entry in family.entries],
    }


def _entry_json(entry: Entry, free: int) -> dict[str, Any]:
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
        "note": entry.note,
        "fits": _fits(entry, free),
    }
    return {key: value for key, value in facts.items() if value not in ("", None, [])}


def family(catalog: Catalog, text: str) -> Family:
    """The family of a name; with a tag, only what it stands for. Raises ModelNotFound."""
    name = Name.parse(text)
    found = catalog.family(name.model) if name.host == DEFAULT_HOST else None
    if found is None:
        raise ModelNotFound(f"the catalogue has no {ascii(text)}, see: ollamapy search TEXT")
    if ":" not in text:
        return found
    entry = found.find(name.tag)
    if entry is None:
        tags = ", ".join(each.tag for each in found.entries)
        raise ModelNotFound(f"{found.name} has no tag {name.tag}, one of: {tags}")
    return replace(found, entries=(entry,))


# A model elsewhere


@dataclass(frozen=True, slots=True)
class Fit:
    """What one quantisation of a model needs, in bytes, by its context in tokens."""

    quantization: str
    size: int
    needs: dict[int, int]


def show_remote(settings: Settings, text: str) -> dict[str, Any]:
    """What /api/show would say of a model if it were here, and `fits`: what each quantisation needs, and what is free.

    Raises TransferError and its children, InvalidModel, InvalidName.
    """
    catalog = Catalog(settings.library)
    access = HubSettings.from_env(environment())
    patience = Patience(notify=lambda line: print(line, file=sys.stderr))
    found = source.find(source.parse(text), catalog, access, patience)
    header = remote.header(found, patience)
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
            for fit in _fits_of(found, header, settings, access, patience)
        ],
    }


def remote_card(answer: dict[str, Any], *, verbose: bool = False) -> str:
    """What `show --remote` prints: the card of `show`, and what each quantisation needs."""
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
    where = table((), [("", name, value) for name, value in facts.items() if value])
    free = human.format_bytes(answer["free"])
    return (
        f"{views.card(answer, verbose=verbose)}  Elsewhere\n{where}\n"
        f"  Memory needed ({free} are free)\n{table((), [header, *rows])}\n"
    )


def _fits_of(
    found: Source, header: Header, settings: Settings, access: HubSettings, patience: Patience
) -> list[Fit]:
    """The model itself, then what else its repository has of it, the smallest first."""
    own = sum(file.size for file, _ in found.files)
    sizes = {header.file_type_name: own}
    if found.repo:
        listing = hub.list_files(hub.Repo(found.repo, found.revision), access.access(), patience)
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
    """Bytes for one conversation at a time."""
    found = footprint.estimate(
        header,
        n_ctx=n_ctx,
        n_slots=1,
        n_batch=min(footprint.DEFAULT_BATCH, n_ctx),
        kv_type=settings.kv_cache_type,
        flash=settings.flash_attention is not False,
    )
    return replace(found, weights=size).total


# What has become old


@dataclass(frozen=True, slots=True)
class Stale:
    """A stored model that is another one where it came from. `pull` is the name that gets that one.

    `is_pulled`: the model itself says that it came from there. One that says nothing may as well have been made here, under a
    name that somebody else uses, too.
    """

    name: Name
    pull: str
    here: str
    there: str
    is_pulled: bool


def outdated(settings: Settings, only: Sequence[str] = ()) -> tuple[list[Stale], list[str]]:
    """The stored models that have changed where they came from, and what could not be found out.

    All of them, or those that are named. Models that were made here and the built-in one are passed over.
    Raises ModelNotFound for a name that is not stored.
    """
    store = open_store(settings.paths)
    wanted = {_stored(store, text) for text in only}
    models = [(name, m) for name, m in store.models() if not wanted or name in wanted]
    catalog, access = Catalog(settings.library), HubSettings.from_env(environment())
    faults: list[str] = []

    def check(model: tuple[Name, Manifest]) -> Stale | None:
        try:
            return _stale(store, *model, catalog, access)
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
    store: Store, name: Name, manifest: Manifest, catalog: Catalog, access: HubSettings
) -> Stale | None:
    said = remote.said_source(store, manifest)
    entry = None if said else catalog.find(name)
    if entry is not None and entry.kind == "builtin":
        return None
    if said and name.host == DEFAULT_HOST and catalog.find(name) is None:
        return None  # a copy, under a name of the user's own
    # Who says nothing of a source was pulled from a registry, or made here: the registry does not know it then
    text = name.display if said else name.full
    try:
        found = source.find(source.parse(text), catalog, access)
    except RemoteNotFound:
        if said:
            raise
        return None
    if not found.files or remote.is_current(manifest, said, found):
        return None
    here = str(said.get("revision", "")) or manifest.digest
    there = found.revision or (found.published.manifest.digest if found.published else "")
    return Stale(name, text, here, there, bool(said))


def is_same_elsewhere(settings: Settings, store: Store, name: Name) -> bool:
    """Whether a pull of that name brings the model that is here, rather than another of its name.

    A model that says where it came from is taken at its word. Raises TransferError and its children.
    """
    try:
        manifest = store.manifest(name)
    except OllamapyError:
        return True  # there is nothing to lose
    with suppress(OllamapyError):
        if remote.said_source(store, manifest):
            return True
    access = HubSettings.from_env(environment())
    found = source.find(source.parse(name.display), Catalog(settings.library), access)
    if found.published is not None:
        return found.published.manifest.digest == manifest.digest
    weights = {f"sha256:{part.file.sha256}" for part in found.parts if part.kind == "model"}
    return weights <= {layer.digest for layer in manifest.layers}


def stale_table(found: Sequence[Stale]) -> str:
    """The table of `outdated`."""
    rows = [(each.name.display, each.here[:12], each.there[:12]) for each in found]
    return printable(table(("NAME", "HERE", "THERE"), rows))


def stale_json(stale: Stale) -> dict[str, str]:
    """One model of `outdated --json`."""
    return {"name": stale.name.display, "here": stale.here, "there": stale.there}
