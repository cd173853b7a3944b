"""`search` and `library`: the catalogue of models that have a short name. In this process, without the daemon."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace

import typer

from ... import human
from ...errors import ModelNotFound, OllamapyError
from ...machine import free_memory
from ...names import DEFAULT_HOST, Name
from ...registry.catalog import Catalog, Entry, Family, guessed_size
from ...registry.offers import families, family_facts, fits, matching
from ..drawing import Table, shown
from ..terminal import remark
from .arguments import POSITIONAL, Json, at_least, at_most_one, group_app, launcher_of, print_json

app = group_app()

_ABOUT_COLUMN = 60


@app.command("search", options_metavar="TEXT [--json]", context_settings=POSITIONAL)
def search(context: typer.Context, as_json: Json = False) -> None:
    """Search the catalogue."""
    words = at_least(context, 1)
    found = matching(_families(_catalog(context)), " ".join(words))
    if not found and not as_json:
        raise OllamapyError(
            f"no model of the catalogue matches {ascii(' '.join(words))}, see: ollamapy library"
        )
    _print_families(found, as_json)


@app.command("library", options_metavar="[NAME] [--json]", context_settings=POSITIONAL)
def library(context: typer.Context, as_json: Json = False) -> None:
    """List the catalogue, or the models of one family."""
    name = at_most_one(context)
    if name is None:
        _print_families(_families(_catalog(context)), as_json)
        return
    found, free = family(_catalog(context), name), free_memory()
    if as_json:
        print_json(family_facts(found, free))
    else:
        print(card(found, free), end="")


def _catalog(context: typer.Context) -> Catalog:
    return Catalog(launcher_of(context).settings.library)


def _families(catalog: Catalog) -> list[Family]:
    """All families that can be read, with a warning on stderr for each of the others."""
    return families(catalog, lambda fault: remark(f"Warning: {fault}"))


def _print_families(found: Sequence[Family], as_json: bool) -> None:
    free = free_memory()
    if as_json:
        print_json({"families": [family_facts(each, free) for each in found]})
    else:
        print(shown(listing(found, free, cut=not sys.stdout.isatty())), end="")


def listing(found: Sequence[Family], free: int, *, cut: bool) -> Table:
    """The table of families; `free` are the bytes of memory that are free, ``cut`` shortens what they are about."""
    rows = []
    for family in found:
        sizes = [size for entry in family.entries if (size := guessed_size(entry))]
        contexts = [entry.context for entry in family.entries if entry.context]
        licences = dict.fromkeys(entry.licence for entry in family.entries if entry.licence)
        fitting = [fits(entry, free) for entry in family.entries]
        verdict = "yes" if all(fitting) else "some" if any(fitting) else "no"
        about = family.about
        if cut and len(about) > _ABOUT_COLUMN:
            about = f"{about[: _ABOUT_COLUMN - 3]}..."
        rows.append(
            (
                family.name,
                str(len(family.entries)),
                _span(sizes),
                str(max(contexts, default="")),
                ", ".join(licences),
                verdict,
                about,
            )
        )
    return Table(("NAME", "TAGS", "SIZE", "CONTEXT", "LICENCE", "FITS", "ABOUT"), rows, True)


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
            "yes" if fits(entry, free) else "no",
            ", ".join(entry.also),
        )
        for entry in family.entries
    ]
    columns = ("NAME", "SIZE", "PARAMETERS", "QUANT", "CONTEXT", "LICENCE", "FITS", "ALSO")
    notes = [f"{e.name.display}: {human.one_line(e.note)}\n" for e in family.entries if e.note]
    notes += dict.fromkeys(line for entry in family.entries for line in _prefixes(entry))
    text = f"{human.one_line(family.about)}\n\n{shown(Table(columns, rows))}"
    return f"{text}\n{''.join(notes)}" if notes else text


def _prefixes(entry: Entry) -> list[str]:
    """What an embedding model expects before a text: it is shown for people, who know what their texts are."""
    prefixes = {"document": entry.document_prefix, "query": entry.query_prefix}
    return [
        f"write before a {kind}: {json.dumps(text, ensure_ascii=False)}\n"
        for kind, text in prefixes.items()
        if text
    ]


def _size(entry: Entry) -> str:
    if entry.size is not None:
        return human.format_bytes(entry.size)
    guess = guessed_size(entry)
    return f"~{human.format_bytes(guess)}" if guess else ""


def family(catalog: Catalog, text: str) -> Family:
    """The family of a name; with a tag, only that tag's model. Raises ModelNotFound."""
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
