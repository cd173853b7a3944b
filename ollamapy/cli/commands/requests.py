"""`why-cold` and `replay`: why an answer was slow to begin, and whether it is the same again."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import typer

from ...errors import OllamapyError
from ..client import Client
from ..terminal import printable
from .arguments import POSITIONAL, Json, group_app, launcher_of, print_json

app = group_app()


@app.command("why-cold", options_metavar="[ID] [--json]", context_settings=POSITIONAL)
def why_cold(context: typer.Context, as_json: Json = False) -> None:
    """Explain why a prompt was computed again instead of reused.

    ID is the X-Request-Id of the answer; without one, the latest request is meant. The daemon remembers the last requests for an
    hour, in memory; none of temporary chats.
    """
    client = launcher_of(context).connect()
    found = client.object("GET", f"/api/requests/{quote(_id(client, context.args), safe='')}")
    if as_json:
        print_json(found)
    else:
        print(printable("\n".join(_lines(found))))


@app.command("replay", options_metavar="[ID] [--json]", context_settings=POSITIONAL)
def replay(context: typer.Context, as_json: Json = False) -> None:
    """Answer a request again, and compare the answers token by token.

    ID is the X-Request-Id of the answer; without one, the latest request is meant. Exit status 1 if the answers differ. They are the
    same only for a model that is loaded with the option deterministic.
    """
    client = launcher_of(context).connect()
    found = client.replay(_id(client, context.args))
    if as_json:
        print_json(found)
    else:
        print(printable("\n".join(_compared(found))))
    if not found["equal"]:
        raise typer.Exit(1)


def _compared(found: dict[str, Any]) -> list[str]:
    """A comparison for a person: equal, or the first difference and what has changed."""
    if found["equal"]:
        lines = [f"equal: {found['tokens']} tokens"]
    else:
        then, now = found.get("then", ""), found.get("now", "")
        at = found["first_difference"]
        lines = [f"differs at token {at} of {found['tokens']}: {then!r} then, {now!r} now"]
        lines.append(found["note"])
    changes = found.get("changes", ())
    return [
        *lines,
        *(f"  {each['name']}: {each['then']} then, {each['now']} now" for each in changes),
    ]


def _id(client: Client, arguments: list[str]) -> str:
    """The id that is given, or the latest request's. Raises OllamapyError."""
    if len(arguments) > 1:
        raise OllamapyError(f"accepts at most 1 arg(s), received {len(arguments)}")
    if arguments:
        return arguments[0]
    latest = client.object("GET", "/api/requests")["requests"][:1]
    if not latest:
        raise OllamapyError("the daemon remembers no request")
    return str(latest[0]["id"])


def _lines(found: dict[str, Any]) -> list[str]:
    """The report for a person: the counts, the reason and, where the prompt changed, both texts."""
    report = found["cache_report"]
    lines = [
        f"{found['id']}  {found['model']}  {found['ended_at']}",
        f"{report['reused_tokens']} of {report['prompt_tokens']} prompt tokens were reused",
    ]
    if earlier := report.get("earlier_id"):
        lines[-1] += f"; the last turn ({earlier}) had {report['earlier_tokens']}"
    lines.append(report["summary"])
    if difference := report.get("difference"):
        lines += [
            f"  then: {difference['earlier']!r}",
            f"  now:  {difference['now']!r}",
        ]
    return lines
