"""`run`: one prompt and its answer, or a chat."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Option

from ... import human
from ...config import Settings
from ...errors import OllamapyError
from .. import ask, transfer, views
from ..client import AnsweredError, Client
from ..form import read_form
from ..launch import Launcher
from ..terminal import remark
from ..thoughts import Thoughts, parse_think
from .arguments import POSITIONAL, at_least, group_app, launcher_of, with_installed

if TYPE_CHECKING:
    from ..repl import Repl

app = group_app()

_RUN_EXAMPLES = """\b
Examples:
  ollamapy run llama3.2 "Why is the sky blue?"
  cat notes.txt | ollamapy run llama3.2 "Sum this up:"
  ollamapy run --format json llama3.2 "Three colours and their hex codes"
"""


@app.command(
    "run",
    options_metavar="MODEL [PROMPT]... [flags]",
    context_settings=POSITIONAL,
    epilog=_RUN_EXAMPLES,
)
def run_(
    context: typer.Context,
    keepalive: Annotated[
        str | None,
        Option(metavar="DURATION", help="How long the model stays loaded: 5m, 1h, -1s (for ever)."),
    ] = None,
    verbose: Annotated[bool, Option("--verbose", help="Show counts and times on stderr.")] = False,
    insecure: Annotated[
        bool, Option("--insecure", help="Allow http:// if the model is pulled.")
    ] = False,
    nowordwrap: Annotated[bool, Option("--nowordwrap", help="Do not wrap lines.")] = False,
    format: Annotated[
        str | None, Option(metavar="FORM", help="Answer in JSON: json, a JSON Schema or its file.")
    ] = None,
    think: Annotated[
        str | None,
        Option(
            metavar="[=HOW]",
            help="Thinking before the answer: true, false, high, medium, low or max.",
        ),
    ] = None,
    hidethinking: Annotated[
        bool, Option("--hidethinking", help="Do not show the model's thinking.")
    ] = False,
    truncate: Annotated[
        str | None,
        Option(
            metavar="[=BOOL]",
            help="Embedding models: false refuses a text that is too long; otherwise it is cut.",
        ),
    ] = None,
    dimensions: Annotated[
        int | None, Option(metavar="N", help="Embedding models: numbers in the vector.")
    ] = None,
) -> None:
    """Answer a prompt with a model; without a prompt, chat with it.

    The prompt is stdin, unless that is a terminal, followed by the arguments. An empty prompt only loads the model. A
    model that is not installed is pulled first. An embedding model prints its vector.
    """
    model, *words = at_least(context, 1)
    fields = _fields(keepalive, think, format)
    ready = launcher_of(context)
    if not words and sys.stdin.isatty() and sys.stdout.isatty():
        from ..repl import Repl

        repl = Repl(
            ready, verbose=verbose, wraps=not nowordwrap, hides_thinking=hidethinking, **fields
        )
        _chat(ready, model, repl, insecure)
        return
    model = _of_address(ready, model, insecure)
    client = ready.connect(preload=model)
    body: dict[str, Any] = {"model": model, "prompt": ask.prompt(words), **fields}
    try:
        thoughts = Thoughts(hidethinking)
        final = _answer(
            client, ready.settings, body, insecure, wrap=not nowordwrap, thoughts=thoughts
        )
    except AnsweredError as error:
        if not ask.only_embeds(error):
            raise with_installed(client, error) from error
        cuts = None if truncate is None else _boolean("truncate", truncate)
        ask.print_embedding(client, body, cuts, dimensions)
        return
    for note in views.notes(final):
        remark(note)
    if verbose:
        print(views.statistics(final), end="", file=sys.stderr)


def _fields(keepalive: str | None, think: str | None, format: str | None) -> dict[str, Any]:
    """The fields of every request that follow from the flags."""
    fields: dict[str, Any] = {}
    if keepalive is not None:
        _check_duration(keepalive)
        fields["keep_alive"] = keepalive
    if think is not None:
        fields["think"] = parse_think(think)
    if format:
        fields["format"] = read_form(format)
    return fields


def _answer(
    client: Client,
    settings: Settings,
    body: dict[str, Any],
    insecure: bool,
    *,
    wrap: bool,
    thoughts: Thoughts,
) -> dict[str, Any]:
    """Print the answer; returns its last chunk. A model that is not installed is pulled first, and its name is put into the body."""
    try:
        return ask.print_answer(client, body, wrap=wrap, thoughts=thoughts)
    except AnsweredError as error:
        body["model"] = transfer.pull_absent(client, settings, body["model"], error, insecure)
    return ask.print_answer(client, body, wrap=wrap, thoughts=thoughts)


def _of_address(launcher: Launcher, model: str, insecure: bool) -> str:
    """The model's name; where a file was named instead, it is made one first."""
    if not transfer.is_address(model):
        return model
    return transfer.pull(
        launcher.connect(), launcher.settings, model, transfer.PullOptions(insecure)
    )


def _chat(launcher: Launcher, model: str, repl: Repl, insecure: bool) -> None:
    """Talk with a model until the user leaves."""
    model = _of_address(launcher, model, insecure)
    try:
        try:
            repl.run(model)
        except AnsweredError as error:
            client, settings = launcher.connect(), launcher.settings
            repl.run(transfer.pull_absent(client, settings, model, error, insecure))
    except AnsweredError as error:
        if ask.only_embeds(error):
            raise OllamapyError(ask.NOTHING_TO_EMBED) from error
        raise with_installed(launcher.connect(), error) from error


def _boolean(flag: str, text: str) -> bool:
    if (value := human.parse_boolean(text)) is None:
        raise OllamapyError(f"invalid value for --{flag}: {text!r}, it is true or false")
    return value


def _check_duration(text: str) -> None:
    try:
        human.parse_duration(text)
    except ValueError as error:
        raise OllamapyError(f"{error}, write it like 30s, 5m, 1h30m or -1s (for ever)") from error
