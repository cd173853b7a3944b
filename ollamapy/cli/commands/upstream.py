"""`outdated` and `update`: stored models that have changed where they came from."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from .. import transfer, upstream
from ..drawing import Table, shown
from ..terminal import remark
from ..upstream import Stale
from .arguments import POSITIONAL, Json, group_app, launcher_of, print_json

app = group_app()


@app.command("outdated", options_metavar="[MODEL]... [--json]", context_settings=POSITIONAL)
def outdated(context: typer.Context, as_json: Json = False) -> None:
    """List the installed models that have changed at their source.

    Exit status 1 if the source of one cannot be reached.
    """
    found, faults = upstream.outdated(launcher_of(context).settings, context.args)
    if as_json:
        print_json({"models": [_json(each) for each in found]})
    elif found:
        print(shown(_table(found)), end="")
    _print_faults(faults, "nothing is outdated" if not found else "")


@app.command(options_metavar="[MODEL]... [--json]", context_settings=POSITIONAL)
def update(context: typer.Context, as_json: Json = False) -> None:
    """Pull again the models that `outdated` lists.

    A model that may have been created here is replaced only if it is named.
    """
    launcher = launcher_of(context)
    found, faults = upstream.outdated(launcher.settings, context.args)
    updated = list[str]()
    for each in found:
        if not each.is_pulled and not context.args:
            name = each.name.display
            print(
                f"Warning: '{name}' may have been created here and is kept: 'ollamapy update {name}' replaces it",
                file=sys.stderr,
            )
            continue
        transfer.pull(launcher.connect(), launcher.settings, each.pull)
        updated.append(each.name.display)
        if not as_json:
            print(f"updated '{each.name.display}'", flush=True)
    if as_json:
        print_json({"updated": updated})
    _print_faults(faults, "nothing is outdated" if not found else "")


def _print_faults(faults: Sequence[str], well: str) -> None:
    """Print the errors on stderr, and exit with status 1; without errors print ``well``."""
    for fault in faults:
        remark(f"Warning: {fault}")
    if faults:
        raise typer.Exit(1)
    if well:
        print(well, file=sys.stderr)


def _table(found: Sequence[Stale]) -> Table:
    rows = [(each.name.display, each.here[:12], each.there[:12]) for each in found]
    return Table(("NAME", "HERE", "THERE"), rows)


def _json(stale: Stale) -> dict[str, str]:
    return {"name": stale.name.display, "here": stale.here, "there": stale.there}
