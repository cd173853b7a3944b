"""`verify`, `prune` and `du`: the local store. In this process, without the daemon.

Only `verify --repair` asks the daemon, which knows where each model comes from: the damaged blobs are made unfinished
downloads, and a pull of their model goes on with them, so of a large blob only the bad pieces are fetched.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated, Any

import typer
from typer import Option

from ...errors import OllamapyError
from ...human import format_bytes, one_line
from ...names import Name
from ...registry import prune as pruning
from ...registry import usage as disk
from ...registry import verify as verifying
from ...registry.store import Store, open_store
from ...registry.verify import Checked
from .. import terminal, transfer, upstream
from ..drawing import Table, shown
from ..launch import Launcher
from .arguments import POSITIONAL, Json, at_most_one, exactly, group_app, launcher_of, print_json
from .local import agrees, reporting

app = group_app()


# verify


@app.command("verify", options_metavar="[MODEL] [--repair] [--json]", context_settings=POSITIONAL)
def verify(
    context: typer.Context,
    repair: Annotated[bool, Option("--repair", help="Download the damaged parts again.")] = False,
    as_json: Json = False,
) -> None:
    """Compare the files of a model, or of all models, with their digests.

    Exit status 1 if a file is damaged.
    """
    name, launcher = at_most_one(context), launcher_of(context)
    store = open_store(launcher.settings.paths)
    wanted = Name.parse(name) if name else None
    with reporting("verifying") as report:
        found = verifying.verify(store, wanted, report)
    wrong = [each for each in found if each.fault]
    repaired = _repair(launcher, store, wrong) if repair and wrong else set[str]()
    if as_json:
        print_json(
            {"checked": [asdict(each) | {"repaired": each.what in repaired} for each in found]}
        )
    else:
        _print_checked(found, wrong, repaired, repair)
    raise typer.Exit(1 if len(wrong) > len(repaired) else 0)


def _print_checked(
    found: list[Checked], wrong: list[Checked], repaired: set[str], repair: bool
) -> None:
    for each in wrong:
        _print_fault(each, each.what in repaired)
    size = format_bytes(sum(each.size for each in found))
    left = len(wrong) - len(repaired)
    print(
        f"{len(found)} blobs, {size}: {f'{left} of them damaged' if left else 'all intact'}",
        file=sys.stderr if left else sys.stdout,
    )
    if left and not repair:
        print("repair them with: ollamapy verify --repair", file=sys.stderr)


def _print_fault(found: Checked, repaired: bool) -> None:
    models = ", ".join(found.models)
    bad = f", {format_bytes(found.bad)} to fetch" if found.bad and not repaired else ""
    state = ": repaired" if repaired else ""
    print(one_line(f"{found.what} of {models} {found.fault}{bad}{state}"))


def _repair(launcher: Launcher, store: Store, wrong: list[Checked]) -> set[str]:
    """Pull the models of the damaged files again; returns the files that are intact then."""
    client = launcher.connect()
    tried: list[Checked] = []
    created = {name.display for name, m in store.models() if store.is_created(m)}
    for model in sorted(created & {model for each in wrong for model in each.models}):
        terminal.remark(f"Warning: {model} was created here: create it again from its files")
    try:
        for each in wrong:
            if created.issuperset(each.models):
                continue
            try:
                if each.is_blob and each.root is not None:
                    verifying.set_aside(store, each)
                tried.append(each)
            except OllamapyError as error:
                terminal.remark(f"Warning: {error}")
        for model in dict.fromkeys(model for each in tried for model in each.models):
            if model in created:
                continue
            try:
                if not upstream.is_same_at_source(launcher.settings, store, Name.parse(model)):
                    raise OllamapyError("its source now has another model of that name")
                transfer.pull(client, launcher.settings, model)
            except OllamapyError as error:
                terminal.remark(f"Warning: {model} cannot be pulled: {error}")
    finally:  # also after Ctrl-C
        repaired = {each.what for each in tried if verifying.put_back(store, each)}
    return repaired


# prune


@app.command("prune", options_metavar="[--dry-run] [--yes] [--json]", context_settings=POSITIONAL)
def prune(
    context: typer.Context,
    dry_run: Annotated[bool, Option("--dry-run", help="Only list what would be deleted.")] = False,
    yes: Annotated[
        bool,
        Option(
            "--yes", "-y", help="Do not ask before deleting from a store that OLLAMA_MODELS names."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Delete unreferenced blobs and unfinished pulls.

    Files that were changed within the last hour are kept.
    """
    exactly(context, 0)
    paths = launcher_of(context).settings.paths
    store = open_store(paths)
    if paths.models_shared and not (dry_run or yes):
        if not (planned := pruning.prune(store, dry_run=True)):
            return print("nothing to delete")
        _ask(store, sum(each.size for each in planned))
    removed = pruning.prune(store, dry_run=dry_run)
    if as_json:
        return print_json({"unused" if dry_run else "removed": _wastes(removed)})
    for each in removed:
        print(one_line(f"{each.kind:<10}{each.name[:26]:<28}{format_bytes(each.size)}"))
    size = format_bytes(sum(each.size for each in removed))
    if not removed:
        print("nothing to delete")
    else:
        print(f"{size} would be deleted" if dry_run else f"{size} deleted")


def _ask(store: Store, removed: int) -> None:
    """Raises OllamapyError unless the user agrees to lose so many bytes of a store that an Ollama may use, too."""
    size, root = format_bytes(removed), store.roots[0]
    if not agrees(
        f"OLLAMA_MODELS names {root}, which an Ollama may use, too. Delete {size} from it?"
    ):
        raise OllamapyError(
            f"{size} would be deleted from {root}, which an Ollama may use, too: allow it with --yes"
        )


def _wastes(wastes: list[pruning.Waste]) -> list[dict[str, Any]]:
    return [{"kind": each.kind, "name": each.name, "size": each.size} for each in wastes]


# du


@app.command("du", options_metavar="[--json]", context_settings=POSITIONAL)
def du(context: typer.Context, as_json: Json = False) -> None:
    """Show disk usage.

    OWN is what deleting the model would free: models share blobs.
    """
    exactly(context, 0)
    store = open_store(launcher_of(context).settings.paths)
    found = disk.usage(store)
    if as_json:
        return print_json(asdict(found) | {"total": found.total, "directory": store.roots[0]})
    rows = [
        (each.name, format_bytes(each.size), format_bytes(each.own), str(each.root))
        for each in found.models
    ]
    print(shown(Table(("NAME", "SIZE", "OWN", "DIRECTORY"), rows)), end="")
    parts = [f"{format_bytes(found.total)} in all"]
    parts += [f"{format_bytes(found.unused)} unreferenced"] if found.unused else []
    parts += [f"{format_bytes(found.unfinished)} of unfinished pulls"] if found.unfinished else []
    print(f"\n{', '.join(parts)}")
    if len(parts) > 1:
        print("delete unreferenced blobs with: ollamapy prune", file=sys.stderr)
