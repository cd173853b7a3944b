"""`compare`: the same prompt to two models, or to one with two settings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer
from typer import Option

from ...errors import InvalidRequest, OllamapyError
from .. import ask, transfer
from ..ask import Look
from ..client import AnsweredError, Client
from ..launch import Launcher
from ..session import Post, Session, only_embeds
from .arguments import POSITIONAL, Json, at_least, group_app, launcher_of, print_json
from .run import (
    Format,
    HideThinking,
    Keepalive,
    NoWordWrap,
    NumPredict,
    Pairs,
    Plain,
    Seed,
    System,
    Think,
    fields_of,
    options_of,
)

app = group_app()

_EXAMPLES = """\b
Examples:
  ollamapy compare llama3.2 mistral "Why is the sky blue?"
  ollamapy compare llama3.2 llama3.2 -a temperature=0 -b temperature=1 "Write a haiku"
"""

OfFirst = Annotated[
    list[str] | None,
    Option("--first", "-a", metavar="KEY=VALUE", help="A parameter of the first answer alone."),
]
OfSecond = Annotated[
    list[str] | None,
    Option("--second", "-b", metavar="KEY=VALUE", help="A parameter of the second answer alone."),
]


@app.command(
    "compare",
    options_metavar="MODEL MODEL [PROMPT]... [flags]",
    context_settings=POSITIONAL,
    epilog=_EXAMPLES,
)
def compare_(
    context: typer.Context,
    option: Pairs = None,
    first: OfFirst = None,
    second: OfSecond = None,
    system: System = "",
    seed: Seed = None,
    num_predict: NumPredict = None,
    format: Format = None,
    think: Think = None,
    hidethinking: HideThinking = False,
    keepalive: Keepalive = None,
    nowordwrap: NoWordWrap = False,
    plain: Plain = False,
    as_json: Json = False,
) -> None:
    """Ask two models the same, and print both answers with their figures.

    The prompt is made from stdin and the arguments, as for `run`. In a terminal of 100 columns or more both answers are written side by
    side, and computed at once; elsewhere one after the other, so that their figures can be compared. Models that are not installed
    are pulled first. Nothing is kept as a chat.
    """
    left, right, *words = at_least(context, 2)
    prompt = ask.prompt(words)
    if not prompt:
        raise OllamapyError("there is no prompt: give one, or pipe it to stdin")
    common = {"system": system, **fields_of(keepalive, think, format)}
    launcher = launcher_of(context)
    client = launcher.connect(preload=left)
    sessions = []
    for model, own in ((left, first), (right, second)):
        options = options_of([*(option or ()), *(own or ())], seed, num_predict)
        sessions.append(_session(launcher, client, model, parameters=options, **common))
    look = None if as_json else Look(not nowordwrap, not plain, hidethinking)
    _compare(client, prompt, sessions, look)


def _compare(client: Client, prompt: str, sessions: Iterable[Session], look: Look | None) -> None:
    """Print the answers of the sessions to a prompt; as JSON without a ``look``. Exits with 1 if one failed."""
    from .. import compare

    def opened(request: Post) -> Any:
        return client.chat(request.body) if request.chat else client.generate(request.body)

    asked = [session.with_message(prompt) for session in sessions]
    if look is None:
        found = compare.collect(opened, asked)
        print_json({"prompt": prompt, "answers": [compare.as_json(each) for each in found]})
    else:
        found = compare.compare(opened, asked, look)
    if any(each.received.ending == "stopped" for each in found):
        raise KeyboardInterrupt
    if any(each.received.failure for each in found):
        raise typer.Exit(1)


def _session(launcher: Launcher, client: Client, model: str, **settings: Any) -> Session:
    """A session with a model, which is pulled if it is not installed. Raises InvalidRequest for one that writes no text."""
    try:
        show = client.show(model)
    except AnsweredError as error:
        model = transfer.pull_absent(client, launcher.settings, model, error)
        show = client.show(model)
    if only_embeds(show):
        raise InvalidRequest(f"{model} makes vectors and writes no text, choose another model")
    return Session(model, show, **settings)
