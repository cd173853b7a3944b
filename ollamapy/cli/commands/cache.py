"""`cache`: what computed prompts take on the disk, and deleting them."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import typer

from ...errors import InvalidRequest
from ...human import format_bytes
from ..terminal import printable
from .arguments import POSITIONAL, Json, group_app, launcher_of, print_json

app = group_app()


@app.command("cache", options_metavar="[ls|du|clear] [MODEL] [--json]", context_settings=POSITIONAL)
def cache(context: typer.Context, as_json: Json = False) -> None:
    """Show or delete the computed prompts that are kept on the disk.

    `ls` lists them by model, `du` prints what they take together, `clear` deletes those of a model, or all, also what
    loaded models have of them in memory. OLLAMAPY_CACHE bounds the disk space.
    """
    verb, model, *more = [*context.args, "", ""][: max(2, len(context.args))]
    if verb not in ("", "ls", "du", "clear") or any(more) or (model and verb != "clear"):
        raise InvalidRequest("cache takes ls, du, or clear with a model: ollamapy cache --help")
    client = launcher_of(context).connect()
    if verb == "clear":
        where = f"?model={quote(model, safe='')}" if model else ""
        found = client.object("DELETE", f"/api/cache{where}")
        line = f"deleted {found['files']} files, {format_bytes(found['size'])}"
        lines = [line]
    else:
        found = client.object("GET", "/api/cache")
        lines = _lines(found) if verb != "du" else [_total(found)]
    if as_json:
        print_json(found)
    else:
        print(printable("\n".join(lines)))


def _lines(found: dict[str, Any]) -> list[str]:
    rows = [
        f"{', '.join(each['names']) or each['digest']}  {format_bytes(each['size'])}  last used {each['used']}"
        for each in found["models"]
    ]
    return [*rows, _total(found)]


def _total(found: dict[str, Any]) -> str:
    budget = f"of {format_bytes(found['budget'])}" if found["budget"] else "; nothing is written"
    return f"{format_bytes(found['size'])} {budget}"
