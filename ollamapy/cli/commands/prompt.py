"""`render`: the prompt that a model would be given, without an answer."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Option

from ...errors import OllamapyError
from .. import ask, terminal
from ..client import AnsweredError
from .arguments import (
    POSITIONAL,
    Json,
    at_least,
    group_app,
    launcher_of,
    print_json,
    with_installed,
)

app = group_app()


@app.command("render", options_metavar="MODEL [PROMPT]... [flags]", context_settings=POSITIONAL)
def render(
    context: typer.Context,
    messages: Annotated[
        Path | None, Option(metavar="FILE", help="A chat: a JSON list of messages, as in the API.")
    ] = None,
    system: Annotated[str, Option(metavar="TEXT", help="The system message.")] = "",
    raw: Annotated[
        bool, Option("--raw", help="Use the prompt as it is, without a template.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print the prompt that a model would get.

    The prompt is made from stdin and the arguments, as for `run`, or from a chat in a file. The number of tokens is printed to stderr.
    """
    model, *words = at_least(context, 1)
    if messages and (words or raw):
        raise OllamapyError("--messages gives the whole chat: leave out the prompt and --raw")
    body: dict[str, Any] = {"model": model}
    if messages:
        chat = _messages(messages)
        body["messages"] = [{"role": "system", "content": system}, *chat] if system else chat
    else:
        body |= {"prompt": ask.prompt(words), "system": system, "raw": raw}
        if not body["prompt"]:
            raise OllamapyError("there is no prompt to render: give one, or --messages FILE")
    client = launcher_of(context).connect()
    try:
        found = client.render(body)
    except AnsweredError as error:
        raise with_installed(client, error, model) from error
    text, tokens = str(found.get("rendered_template", "")), found.get("prompt_tokens")
    if as_json:
        print_json({"prompt": text, "tokens": tokens})
        return
    on_terminal = sys.stdout.isatty()
    print(terminal.printable(text) if on_terminal else text, end="\n" if on_terminal else "")
    sys.stdout.flush()
    if tokens is not None:
        print(f"{tokens} tokens", file=sys.stderr)


def _messages(path: Path) -> list[Any]:
    """The messages in a file; the daemon checks their fields."""
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise OllamapyError(f"{path} is not JSON: {error}") from error
    if not isinstance(found, list) or not found:
        raise OllamapyError(f"{path} holds no JSON list of messages, see /api/chat")
    return found
