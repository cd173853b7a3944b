"""`export` and `import`: models as files, and those of other tools. In this process, without the daemon."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from ...config import environment
from ...errors import InvalidRequest, OllamapyError
from ...human import format_bytes
from ...names import Name
from ...registry import archive, foreign
from ...registry.archive import Imported
from ...registry.store import Store, open_store
from .. import terminal
from ..drawing import Table, shown
from ..launch import Launcher
from .arguments import POSITIONAL, Json, at_most_one, exactly, group_app, launcher_of, print_json
from .local import agrees, reporting

app = group_app()


@app.command("export", options_metavar="MODEL FILE [--json]", context_settings=POSITIONAL)
def export(context: typer.Context, as_json: Json = False) -> None:
    """Write a model to one file, for a machine without network.

    The file is a tar archive; `import` reads it.
    """
    text, file = exactly(context, 2)
    name, target = Name.parse(text), Path(file)
    store = open_store(launcher_of(context).settings.paths)
    with reporting("exporting") as report:
        archive.export(store, name, target, report)
    size = target.stat().st_size
    if as_json:
        return print_json({"model": name.display, "file": str(target), "size": size})
    print(f"{name.display} is in {target} ({format_bytes(size)})")


@app.command(
    "import", options_metavar="FILE | --from TOOL [MODEL] [flags]", context_settings=POSITIONAL
)
def import_(
    context: typer.Context,
    from_: Annotated[
        str | None,
        Option("--from", metavar="TOOL", help="Import from: ollama, lmstudio, hf or llama.cpp."),
    ] = None,
    copy: Annotated[
        bool, Option("--copy", help="Copy files that cannot be linked, without asking.")
    ] = False,
    dry_run: Annotated[bool, Option("--dry-run", help="Only list the models of TOOL.")] = False,
    as_json: Json = False,
) -> None:
    """Install a model from a file of `export`, or from another tool.

    Another tool's models are linked, not copied, where the file system allows it.
    """
    launcher = launcher_of(context)
    if from_ is not None:
        name = at_most_one(context)
        _import_from(launcher, from_, name, copy=copy, dry_run=dry_run, as_json=as_json)
        return
    [file] = exactly(context, 1)
    if copy or dry_run:
        raise OllamapyError("--copy and --dry-run need --from")
    store = open_store(launcher.settings.paths)
    with reporting("importing") as report:
        found = archive.import_file(store, Path(file), report)
    _print_imported(found, as_json)


def _print_imported(found: list[Imported], as_json: bool) -> None:
    if as_json:
        return print_json(
            {"models": [{"name": each.name.display, "size": each.size} for each in found]}
        )
    for each in found:
        print(f"{each.name.display} ({format_bytes(each.size)})")


def _import_from(
    launcher: Launcher, tool: str, name: str | None, *, copy: bool, dry_run: bool, as_json: bool
) -> None:
    """Link another tool's models: the one named, or all."""
    if tool not in foreign.TOOLS:
        raise InvalidRequest(f"unknown tool {tool!r}, one of: {', '.join(foreign.TOOLS)}")
    store = open_store(launcher.settings.paths)
    folders = [
        each
        for each in foreign.places(tool, environment(), Path.home(), sys.platform)
        if each not in store.roots
    ]
    there = foreign.find(tool, folders)
    wanted = _named(there, name) if name else there
    if not wanted:
        looked = ", ".join(map(str, folders)) or "its folder does not exist, or is ollamapy's own"
        raise OllamapyError(f"{tool} has no model{f' {name!r}' if name else ''} here ({looked})")
    if dry_run:
        linked = [foreign.Linked(each.name, each.size, "found") for each in wanted]
    else:
        linked = _take(store, wanted, _copying(copy, wanted))
    if as_json:
        return print_json(
            {"models": [{"name": e.name.display, "size": e.size, "how": e.how} for e in linked]}
        )
    rows = [(each.name.display, format_bytes(each.size), each.how) for each in linked]
    print(shown(Table(("NAME", "SIZE", "HOW"), rows)), end="")


def _named(there: list[foreign.Found], name: str) -> list[foreign.Found]:
    """The models of that name; else those whose name contains it."""
    try:
        full = Name.parse(name).full.lower()
    except OllamapyError:
        full = ""
    exact = [each for each in there if each.name.full.lower() == full]
    return exact or [each for each in there if name.lower() in each.name.full.lower()]


def _copying(copy: bool, wanted: list[foreign.Found]) -> Callable[[int], bool]:
    """Asks once whether files may be copied that cannot be linked."""
    answer = [True] if copy else list[bool]()

    def may_copy(_: int) -> bool:
        if not answer:
            size = format_bytes(sum(each.size for each in wanted))
            answer.append(agrees(f"These files cannot be linked. Copy them (up to {size})?"))
        return answer[0]

    return may_copy


def _take(
    store: Store, wanted: list[foreign.Found], may_copy: Callable[[int], bool]
) -> list[foreign.Linked]:
    """Import all of them; if one of several fails, the others are still imported."""
    linked: list[foreign.Linked] = []
    for each in wanted:
        try:
            with reporting(f"linking {each.name.display}") as report:
                linked.append(foreign.take(store, each, may_copy, report))
        except OllamapyError as error:
            if len(wanted) == 1:
                raise
            terminal.remark(f"Warning: {each.name.display}: {error}")
    if not linked:
        raise OllamapyError("none of the models could be imported, see above")
    return linked
