"""`embed`: the vectors of texts."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer
from typer import Option

from ...errors import OllamapyError
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

_EXAMPLES = """\b
Examples:
  ollamapy embed nomic-embed-text "A cat" "A dog"
  ollamapy embed nomic-embed-text < sentences.txt     # a vector a line
"""


@app.command(
    "embed",
    options_metavar="MODEL [TEXT]... [flags]",
    context_settings=POSITIONAL,
    epilog=_EXAMPLES,
)
def embed(
    context: typer.Context,
    dimensions: Annotated[
        int | None, Option(metavar="N", min=1, help="Numbers in each vector.")
    ] = None,
    no_truncate: Annotated[
        bool, Option("--no-truncate", help="Refuse a text that is too long; otherwise it is cut.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print the vectors of texts.

    Each argument is a text; without any, each line of stdin is one. A vector is a JSON list in a line.
    """
    model, *texts = at_least(context, 1)
    texts = texts or _lines()
    if not texts:
        raise OllamapyError("there is no text to embed, see: ollamapy embed --help")
    body: dict[str, Any] = {"model": model, "input": texts, "truncate": not no_truncate}
    if dimensions is not None:
        body["dimensions"] = dimensions
    client = launcher_of(context).connect()
    try:
        answer = client.embed(body)
    except AnsweredError as error:
        raise with_installed(client, error, model) from error
    if as_json:
        return print_json(answer)
    for vector in answer["embeddings"]:
        print(json.dumps(vector, separators=(",", ":")))


def _lines() -> list[str]:
    """The lines of stdin that are not empty; none are waited for on a terminal."""
    if sys.stdin.isatty():
        return []
    text = sys.stdin.buffer.read().decode(errors="replace")
    return [line.strip() for line in text.split("\n") if line.strip()]
