"""`run`: one prompt and its answer, or a chat."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from typer import Option

from ... import human
from ...errors import OllamapyError
from .. import ask, transfer, views
from ..ask import Look
from ..client import AnsweredError, Client, Unreachable
from ..form import read_form
from ..inchat import Resumed, resumed, say
from ..launch import Launcher
from ..terminal import remark
from ..thoughts import parse_think
from .arguments import POSITIONAL, at_least, group_app, launcher_of, with_installed

app = group_app()

_RUN_EXAMPLES = """\b
Examples:
  ollamapy run llama3.2 "Why is the sky blue?"
  cat notes.txt | ollamapy run llama3.2 "Sum this up:"
  ollamapy run --format json llama3.2 "Three colours and their hex codes"
  ollamapy run llama3.2 --system "Answer in French." -o temperature=0 "Good morning"
"""


# The options of `run`

Keepalive = Annotated[
    str | None,
    Option(metavar="DURATION", help="How long the model stays loaded: 5m, 1h, -1s (for ever)."),
]
Verbose = Annotated[bool, Option("--verbose", help="Show counts and times on stderr.")]
Insecure = Annotated[bool, Option("--insecure", help="Allow http:// if the model is pulled.")]
NoWordWrap = Annotated[bool, Option("--nowordwrap", help="Do not wrap lines, nor draw markdown.")]
Plain = Annotated[bool, Option("--plain", help="Show markdown as it is written.")]
System = Annotated[str, Option(metavar="TEXT", help="The system message.")]
Pairs = Annotated[
    list[str] | None,
    Option(
        "--option", "-o", metavar="KEY=VALUE", help="A parameter, as in a Modelfile: -o top_k=7"
    ),
]
Seed = Annotated[
    int | None, Option(metavar="N", help="Random seed: the same seed gives the same answer.")
]
NumPredict = Annotated[
    int | None,
    Option(
        "--num-predict",
        metavar="N",
        help="Most tokens of an answer; -1: no limit, not even on repetitions.",
    ),
]
Format = Annotated[
    str | None, Option(metavar="FORM", help="Answer in JSON: json, a JSON Schema or its file.")
]
Think = Annotated[
    str | None,
    Option(
        metavar="[=HOW]",
        help="Let the model think first: true, false, high, medium, low or max.",
    ),
]
HideThinking = Annotated[bool, Option("--hidethinking", help="Do not show the model's thinking.")]
Truncate = Annotated[
    str | None,
    Option(
        metavar="[=BOOL]",
        help="Embedding models: false refuses a text that is too long; otherwise it is cut.",
    ),
]
Dimensions = Annotated[
    int | None, Option(metavar="N", help="Embedding models: numbers in the vector.")
]
Continue = Annotated[
    bool, Option("--continue", help="Continue the latest chat, of MODEL if one is given.")
]
ChatId = Annotated[
    str,
    Option(
        "--chat", metavar="ID", help="Continue this chat: the beginning of its id, or - (latest)."
    ),
]
Temporary = Annotated[bool, Option("--temporary", help="Chat without storing the conversation.")]


@app.command(
    "run",
    options_metavar="MODEL [PROMPT]... [flags]",
    context_settings=POSITIONAL,
    epilog=_RUN_EXAMPLES,
)
def run_(
    context: typer.Context,
    keepalive: Keepalive = None,
    verbose: Verbose = False,
    insecure: Insecure = False,
    nowordwrap: NoWordWrap = False,
    plain: Plain = False,
    system: System = "",
    option: Pairs = None,
    seed: Seed = None,
    num_predict: NumPredict = None,
    format: Format = None,
    think: Think = None,
    hidethinking: HideThinking = False,
    truncate: Truncate = None,
    dimensions: Dimensions = None,
    go_on: Continue = False,
    chat: ChatId = "",
    temporary: Temporary = False,
) -> None:
    """Answer a prompt with a model; without a prompt, chat with it.

    The prompt is stdin, unless that is a terminal, followed by the arguments. An empty prompt only loads the model. A
    model that is not installed is pulled first. An embedding model prints its vector. An answer that only repeats itself
    is ended, unless --num-predict is given.

    Chats are kept by the daemon: --continue and --chat continue one, `ollamapy chats` lists them. A prompt given as an
    argument or on stdin does not begin a chat.
    """
    launcher = launcher_of(context)
    resumes = resumed(launcher, context.args, go_on, chat, temporary)
    model, *words = at_least(context, 1) if not resumes else [resumes.model, *context.args[1:]]
    fields, options = fields_of(keepalive, think, format), options_of(option, seed, num_predict)
    look = Look(not nowordwrap, not plain, hidethinking)
    flags = Flags(launcher, fields, options, system, look, verbose, insecure)
    if not words and sys.stdin.isatty() and sys.stdout.isatty():
        return _chat(flags, model, resumes.id if resumes else "", temporary)
    if resumes:
        return _say(flags, resumes, words)
    _ask(flags, model, words, truncate, dimensions)


@dataclass(frozen=True, slots=True)
class Flags:
    """What every kind of `run` takes from the command line: ``fields`` of every request, and the ``options`` in them."""

    launcher: Launcher
    fields: dict[str, Any]
    options: dict[str, Any]
    system: str
    look: Look
    verbose: bool
    insecure: bool


def _ask(
    flags: Flags, model: str, words: Sequence[str], truncate: str | None, dimensions: int | None
) -> None:
    """Print the answer to a prompt, or its vector where the model only embeds."""
    model = _of_address(flags.launcher, model, flags.insecure)
    client = flags.launcher.connect(preload=model)
    body: dict[str, Any] = {"model": model, "prompt": ask.prompt(words), **flags.fields}
    body |= {"system": flags.system} if flags.system else {}
    body |= {"options": flags.options} if flags.options else {}
    try:
        final = _answer(client, flags, body)
    except AnsweredError as error:
        if not ask.cannot_write(client, body["model"], error):
            raise with_installed(client, error, model) from error
        cuts = None if truncate is None else _boolean("truncate", truncate)
        return ask.print_embedding(client, body, cuts, dimensions)
    _remark(final, flags.verbose)


def _say(flags: Flags, chat: Resumed, words: Sequence[str]) -> None:
    """Print the answer to a prompt in a chat."""
    fields = {**flags.fields, "parameters": flags.options, "system": flags.system}
    say(flags.launcher, chat, ask.prompt(words), flags.look, fields, verbose=flags.verbose)


def _remark(final: dict[str, Any], verbose: bool) -> None:
    """What is noteworthy about an answer, on stderr; with its counts and times if they are wanted."""
    for note in views.notes(final):
        remark(note)
    if final.get("repeats"):
        remark(views.repeating("--num-predict -1"))
    if verbose:
        print(views.statistics(final), end="", file=sys.stderr)


def fields_of(keepalive: str | None, think: str | None, format: str | None) -> dict[str, Any]:
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


def options_of(
    pairs: Sequence[str] | None, seed: int | None, num_predict: int | None
) -> dict[str, Any]:
    """The options of every request that follow from the flags; of a list each flag gives one more."""
    options: dict[str, Any] = {}
    if pairs:
        from .. import slash

        words: dict[str, list[str]] = {}
        for pair in pairs:
            name, separator, value = pair.partition("=")
            if not separator:
                raise OllamapyError(f"-o takes KEY=VALUE, not {pair!r}: write -o temperature=0")
            words.setdefault(name.strip(), []).append(value)
        try:
            options = {name: slash.typed(name, given) for name, given in words.items()}
        except ValueError as error:
            raise OllamapyError(f"-o: {error}") from error
    given = {"seed": seed, "num_predict": num_predict}
    return options | {name: value for name, value in given.items() if value is not None}


def _answer(client: Client, flags: Flags, body: dict[str, Any]) -> dict[str, Any]:
    """Print the answer; returns its last chunk. It waits for a daemon that is being restarted; a model that is not installed is
    pulled first, and its name is put into the body."""
    launcher = flags.launcher
    try:
        return ask.print_answer(client, body, flags.look)
    except Unreachable as error:
        if not error.refused or not launcher.awaits_restart():
            raise
    except AnsweredError as error:
        if error.status != 503 or not launcher.awaits_restart():
            body["model"] = transfer.pull_absent(
                client, launcher.settings, body["model"], error, flags.insecure
            )
    return ask.print_answer(client, body, flags.look)


def _of_address(launcher: Launcher, model: str, insecure: bool) -> str:
    """The model's name; where a file was named instead, it is made one first."""
    if not transfer.is_address(model):
        return model
    return transfer.pull(
        launcher.connect(), launcher.settings, model, transfer.PullOptions(insecure)
    )


def _chat(flags: Flags, model: str, resumes: str, temporary: bool) -> None:
    """Talk with a model until the user leaves; ``resumes`` is the id of a chat to go on with."""
    from ..repl import Repl

    launcher, insecure = flags.launcher, flags.insecure
    repl = Repl(
        launcher,
        verbose=flags.verbose,
        look=flags.look,
        parameters=flags.options,
        resumes=resumes,
        temporary=temporary,
        system=flags.system,
        **flags.fields,
    )
    model = _of_address(launcher, model, insecure)
    try:
        try:
            repl.run(model)
        except AnsweredError as error:
            client, settings = launcher.connect(), launcher.settings
            repl.run(transfer.pull_absent(client, settings, model, error, insecure))
    except AnsweredError as error:
        client = launcher.connect()
        if ask.cannot_write(client, model, error):
            raise OllamapyError(ask.NOTHING_TO_EMBED) from error
        raise with_installed(client, error, model) from error


def _boolean(flag: str, text: str) -> bool:
    if (value := human.parse_boolean(text)) is None:
        raise OllamapyError(f"invalid value for --{flag}: {text!r}, it is true or false")
    return value


def _check_duration(text: str) -> None:
    try:
        human.parse_duration(text)
    except ValueError as error:
        raise OllamapyError(f"{error}, write it like 30s, 5m, 1h30m or -1s (for ever)") from error
