"""`pull` and `push`: models from and to the hub and registries."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Option

from ...config import Settings
from ...errors import OllamapyError
from ...human import one_line
from ...names import Name
from ...registry.hub import access_of
from ...registry.oci import HUB_HOSTS
from .. import transfer, trust
from ..client import Client, Unreachable
from ..drawing import complain
from ..progress import Steps, is_drawn
from .arguments import POSITIONAL, Json, at_least, exactly, group_app, launcher_of, print_json

app = group_app()

_PULL_EXAMPLES = """\b
Examples:
  ollamapy pull llama2:13b
  ollamapy pull hf.co/bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M
  ollamapy pull --from http://otherhost:11434 llama2
"""


@app.command(
    "pull", options_metavar="MODEL... [flags]", context_settings=POSITIONAL, epilog=_PULL_EXAMPLES
)
def pull(
    context: typer.Context,
    insecure: Annotated[bool, Option("--insecure", help="Allow http://.")] = False,
    from_: Annotated[
        str, Option("--from", metavar="URL", help="Pull from another ollamapy: http://host:11434")
    ] = "",
    limit_rate: Annotated[
        str, Option(metavar="RATE", help="Largest rate in bytes a second: 500k, 5MB.")
    ] = "",
    connections: Annotated[
        int, Option(metavar="N", min=1, max=16, help="Parallel connections.")
    ] = 8,
    force: Annotated[
        bool, Option("--force", help="Pull even if the disk seems too small.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Download models from the catalogue, the hub or a registry.

    MODEL is a name in the catalogue (see: ollamapy library), hf.co/USER/REPO[:QUANT], HOST/USER/MODEL[:TAG] of a registry, or
    the https address of a .gguf file. An interrupted pull continues where it stopped.
    If one of several models fails, the others are still pulled. On a terminal several are pulled at once, unless
    --limit-rate is given.
    """
    models = at_least(context, 1)
    rate = transfer.parse_rate(limit_rate) if limit_rate else 0
    via = from_ if "://" in from_ or not from_ else f"http://{from_}"
    options = transfer.PullOptions(insecure, via, rate, connections, force)
    launcher = launcher_of(context)
    found = _pulled(launcher.connect(), launcher.settings, models, options)
    if _report(found, as_json):
        raise typer.Exit(1)


def _report(results: Iterator[tuple[str, str | OllamapyError]], as_json: bool) -> bool:
    """Print how each pull ended; returns whether any failed."""
    pulled, failed = list[dict[str, str]](), list[dict[str, str]]()
    for model, found in results:
        if isinstance(found, str):
            pulled.append({"model": model, "name": found})
            if found != model and not as_json:
                print(one_line(f"{model} is installed as {found}"))
        else:
            failed.append({"model": model, "error": str(found)})
            complain(f"{model}: {found}")
    if as_json:
        print_json({"pulled": pulled, "failed": failed})
    return bool(failed)


def _pulled(
    client: Client, settings: Settings, models: Sequence[str], options: transfer.PullOptions
) -> Iterator[tuple[str, str | OllamapyError]]:
    """Each model with its name, or with its error if there are several: at once where bars can show it, else one by one."""
    if len(models) > 1 and is_drawn() and not options.rate:
        yield from transfer.pull_together(client, settings, models, options)
        return
    for model in models:
        try:
            yield model, transfer.pull(client, settings, model, options)
        except OllamapyError as error:
            if len(models) == 1 or isinstance(error, Unreachable):
                raise
            yield model, error


@app.command("push", options_metavar="MODEL [flags]", context_settings=POSITIONAL)
def push(
    context: typer.Context,
    insecure: Annotated[bool, Option("--insecure", help="Allow http://.")] = False,
    as_json: Json = False,
) -> None:
    """Upload a model to the registry or the hub that its name points to.

    MODEL is HOST/USER/MODEL[:TAG], or hf.co/USER/REPO; `cp` gives a model such a name. The login is that of
    `docker login`, or HF_TOKEN.
    """
    [model] = exactly(context, 1)
    launcher = launcher_of(context)
    _push(launcher.connect(), launcher.settings, model, insecure)
    if as_json:
        print_json({"pushed": model})


def _push(client: Client, settings: Settings, model: str, insecure: bool) -> None:
    """Let the server upload a model to where its name points; the user's login goes along to the user's own daemon."""
    name = Name.parse(model)
    secrets, fields = _private(name, settings)
    server = trust.look(client, settings, secrets)
    body = {"model": model, "insecure": insecure, **(fields if server.is_ours else {})}
    with closing(client.push(body, server.proven)) as stream, Steps() as steps:
        for step in stream:
            steps.show(step)


def _private(name: Name, settings: Settings) -> tuple[str, dict[str, Any]]:
    """How this user reaches the registry or hub of that name: the secret in words (""), and the fields of the request."""
    if name.host.lower() not in HUB_HOSTS:
        found = credentials(settings.docker, name.host)
        if found is None:
            return "", {}
        return f"your login at {name.host}", {"username": found[0], "password": found[1]}
    hub = settings.hub
    token = access_of(hub).authorization.removeprefix("Bearer ")
    fields = {"endpoint": hub.endpoint, "token": token, "offline": hub.offline}
    return "your token for the hub" if token else "", {"hub": fields}


def credentials(folder: Path | None, host: str) -> tuple[str, str] | None:
    """User and password that `docker login` stored for a registry in config.json of its folder, if it did."""
    try:
        entry = json.loads(((folder or Path()) / "config.json").read_bytes())["auths"]
        found = next(
            entry[key]["auth"]
            for key in (host, f"https://{host}", f"https://{host}/v2/")
            if key in entry
        )
        user, _, password = b64decode(found).decode().partition(":")
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return None
    return (user, password) if user else None
