"""The stored and the loaded models: list, ps, show, stop, rm, cp. All of them ask the server."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Any

import typer
from typer import Option

from ...errors import OllamapyError
from .. import terminal, views, watching
from ..client import AnsweredError, Client
from ..drawing import Card, complain, shown
from ..launch import Launcher
from .arguments import (
    POSITIONAL,
    Json,
    at_least,
    exactly,
    group_app,
    launcher_of,
    print_json,
    with_installed,
    with_meant,
)

app = group_app()


@app.command("list", options_metavar="[PREFIX] [--json]", context_settings=POSITIONAL)
def list_(context: typer.Context, as_json: Json = False) -> None:
    """List the installed models, newest first. (Also: ls)"""
    client = launcher_of(context).connect()
    models = views.with_prefix(client.tags(), "".join(context.args[:1]))
    if as_json:
        print_json({"models": models})
    else:
        print(shown(views.stored(models, time.time())), end="")


app.command("ls", hidden=True, options_metavar="[PREFIX] [--json]", context_settings=POSITIONAL)(
    list_
)


@app.command("ps", options_metavar="[PREFIX] [flags]", context_settings=POSITIONAL)
def ps(
    context: typer.Context,
    watch: Annotated[
        bool, Option("--watch", "-w", help="Update the list every second, until Ctrl-C.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the loaded models."""
    launcher, prefix = launcher_of(context), "".join(context.args[:1])
    if watch:
        if as_json:
            raise OllamapyError("--watch shows a table: leave out --json")
        return watching.watch(launcher, prefix)
    client = launcher.running()
    if client is None:
        launcher.say("the daemon is not running")
    models = views.with_prefix(client.ps() if client else (), prefix)
    if as_json:
        print_json({"models": models})
    else:
        print(shown(views.loaded(models, time.time())), end="")


Remote = Annotated[
    bool,
    Option(
        "--remote",
        help="Show details and memory needs of a remote model, without downloading it.",
    ),
]


@app.command("show", options_metavar="MODEL [flags]", context_settings=POSITIONAL)
def show(
    context: typer.Context,
    license: Annotated[bool, Option("--license", help="Print only the licence.")] = False,
    modelfile: Annotated[
        bool, Option("--modelfile", help="Print only a Modelfile that creates the model.")
    ] = False,
    parameters: Annotated[bool, Option("--parameters", help="Print only the parameters.")] = False,
    system: Annotated[bool, Option("--system", help="Print only the system message.")] = False,
    template: Annotated[bool, Option("--template", help="Print only the chat template.")] = False,
    verbose: Annotated[
        bool, Option("--verbose", "-v", help="Print metadata and tensors, too.")
    ] = False,
    remote: Remote = False,
    as_json: Json = False,
) -> None:
    """Show details of a model."""
    [model] = exactly(context, 1)
    flags = {
        "license": license, "modelfile": modelfile, "parameters": parameters, "system": system, "template": template,
    }  # fmt: skip
    only = [field for field, given in flags.items() if given]
    if len(only) > 1:
        raise OllamapyError(
            "only one of '--license', '--modelfile', '--parameters', '--system', or '--template' can be specified"
        )
    launcher = launcher_of(context)
    answer = _remote(launcher, model) if remote else _installed(launcher, model, verbose)
    if as_json:
        print_json({field: answer.get(field, "") for field in only} if only else answer)
    elif only:
        _print_field(only[0], str(answer.get(only[0]) or ""))
    else:
        print(shown(_card(answer, remote, verbose)), end="")


def _remote(launcher: Launcher, model: str) -> dict[str, Any]:
    from ..remote import show_remote

    return show_remote(launcher.settings, model)


def _installed(launcher: Launcher, model: str, verbose: bool) -> dict[str, Any]:
    client = launcher.connect()
    try:
        return client.show(model, verbose=verbose)
    except AnsweredError as error:
        raise with_installed(client, error, model) from error


def _card(answer: dict[str, Any], remote: bool, verbose: bool) -> Card:
    if not remote:
        return views.card(answer, verbose=verbose)
    from ..remote import remote_card

    return remote_card(answer, verbose=verbose)


def _print_field(field: str, text: str) -> None:
    """A template and a system message are printed as they are, for a file; the others as lines."""
    text = terminal.printable(text) if sys.stdout.isatty() else text
    print(text, end="\n" if field in ("license", "modelfile", "parameters") else "")


@app.command("stop", options_metavar="MODEL [--json]", context_settings=POSITIONAL)
def stop(context: typer.Context, as_json: Json = False) -> None:
    """Unload a model."""
    [model] = exactly(context, 1)
    launcher = launcher_of(context)
    client = launcher.running()
    if client is None:
        launcher.say("the daemon is not running")
    else:
        _stop(client, model)
    if as_json:
        print_json({"stopped": model if client else None})


def _stop(client: Client, model: str) -> None:
    try:
        _unload(client, model)
    except AnsweredError as error:
        if error.status != 404:
            raise
        raise OllamapyError(f'couldn\'t find model "{model}" to stop, see: ollamapy ps') from error


@app.command("rm", options_metavar="MODEL... [--json]", context_settings=POSITIONAL)
def rm(context: typer.Context, as_json: Json = False) -> None:
    """Delete models.

    If one of several cannot be deleted, the others still are; exit status 1 then.
    """
    models = at_least(context, 1)
    client = launcher_of(context).connect()
    deleted, failed = list[str](), list[dict[str, str]]()
    for model in models:
        try:
            _remove(client, model)
        except AnsweredError as error:
            if len(models) == 1:
                raise with_meant(client, model, error) from error
            meant = str(with_meant(client, model, error))
            failed.append({"model": model, "error": meant})
            complain(meant if model in meant else f"{model}: {meant}")
            continue
        deleted.append(model)
        if not as_json:
            print(f"deleted '{model}'", flush=True)
    if as_json:
        print_json({"deleted": deleted, "failed": failed})
    if failed:
        raise typer.Exit(1)


def _remove(client: Client, model: str) -> None:
    """Unload a model and delete it."""
    try:
        _unload(client, model)
    except OllamapyError as error:
        if not (isinstance(error, AnsweredError) and error.status == 404):
            terminal.remark(f"Warning: unable to stop model '{model}'")
    client.delete(model)


def _unload(client: Client, model: str) -> None:
    for _ in client.generate({"model": model, "keep_alive": 0}):
        pass


@app.command("cp", options_metavar="MODEL NEW_NAME [--json]", context_settings=POSITIONAL)
def cp(context: typer.Context, as_json: Json = False) -> None:
    """Give a model a second name."""
    source, destination = exactly(context, 2)
    client = launcher_of(context).connect()
    try:
        client.copy(source, destination)
    except AnsweredError as error:
        raise with_meant(client, source, error) from error
    if as_json:
        return print_json({"source": source, "destination": destination})
    print(f"copied '{source}' to '{destination}'")
