"""The commands: one function each, at most a screen. Their options are parsed here, by typer; what they find out goes to
stdout, what they have to remark to stderr.

Positional arguments are counted here and not by typer, whose messages for them are not those that Ollama's users know.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer
from typer import Option
from typer.core import TyperGroup

from .. import __version__, human
from ..errors import OllamapyError, reason
from . import ask, completion, launch, terminal, views
from .client import AnsweredError, Client, Unreachable
from .form import read_form
from .launch import Launcher, Stranger
from .thoughts import Thoughts, parse_think

if TYPE_CHECKING:
    from ..registry.catalog import Catalog, Family
    from .repl import Repl

_HELP = {"help_option_names": ["-h", "--help"]}
SERVE_VARIABLES = """\b
Environment variables (each of them also as OLLAMA_...):
  OLLAMAPY_HOST               where to listen: 127.0.0.1:11434
  OLLAMAPY_MODELS             the directory of the models
  OLLAMAPY_ORIGINS            web pages that may use the API
  OLLAMAPY_KEEP_ALIVE         how long a model stays loaded: 5m
  OLLAMAPY_LOAD_TIMEOUT       how long a load may take without progress: 5m
  OLLAMAPY_CONTEXT_LENGTH     tokens of context, else chosen by memory
  OLLAMAPY_NUM_PARALLEL       requests of a model at once, else by memory
  OLLAMAPY_MAX_LOADED_MODELS  models loaded at once: 3
  OLLAMAPY_MAX_QUEUE          requests that may wait: 512
  OLLAMAPY_FLASH_ATTENTION    0: off
  OLLAMAPY_KV_CACHE_TYPE      f16, q8_0 ...
  OLLAMAPY_DEBUG              1: a more talkative log
\b
Ours alone:
  OLLAMAPY_HOME               one folder for everything
  OLLAMAPY_MORE_MODELS        directories with more models, only read
  OLLAMAPY_LIBRARY            your own catalogue
  OLLAMAPY_SERVE_MODELS       1: others may pull the models from here
"""
"""What a daemon reads of its environment; all of it, with what the commands read, is in the README."""
_RUN_EXAMPLES = """\b
Examples:
  ollamapy run llama3.2 "Why is the sky blue?"
  cat notes.txt | ollamapy run llama3.2 "Sum this up:"
  ollamapy run --format json llama3.2 "Three colours and their hex codes"
"""
_PULL_EXAMPLES = """\b
Examples:
  ollamapy pull llama2:13b
  ollamapy pull hf.co/bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M
  ollamapy pull --from http://otherhost:11434 llama2
"""
_CREATE_EXAMPLES = """\b
Examples:
  ollamapy create mario -f Modelfile
  ollamapy create small --quantize Q4_K_M     # in a folder with weights
"""
_POSITIONAL = {"allow_extra_args": True}

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=_HELP,
    options_metavar="",
    epilog="Help on one of them: ollamapy help COMMAND. Where the daemon is: OLLAMAPY_HOST, then OLLAMA_HOST; else"
    " 127.0.0.1:11434, started when needed.",
)
daemon = typer.Typer(
    rich_markup_mode=None, options_metavar="", help="Start, stop and look after the daemon."
)
app.add_typer(daemon, name="daemon")


def run(arguments: Sequence[str], launcher: Launcher) -> int:
    """Run the command that the arguments name; returns the exit status. Wrong usage raises OllamapyError."""
    command = group()
    # Not command.main(): that turns a closed pipe into status 1
    try:
        with command.make_context("ollamapy", _with_values(arguments), obj=launcher) as context:
            command.invoke(context)
    except typer.Exit as exit:
        return exit.exit_code
    except typer.TyperException as error:
        raise OllamapyError(_explain(error)) from error
    return 0


_ALONE = {"--truncate": "true", "--think": "true"}
"""Flags whose value stands after "=" or nowhere -> what they mean without one (pflag's NoOptDefVal)."""


def _with_values(arguments: Sequence[str]) -> list[str]:
    """The arguments, with the values that flags have when none is given."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    flags = [f"{each}={_ALONE[each]}" if each in _ALONE else each for each in arguments[:end]]
    return [*flags, *arguments[end:]]


def complete(words: Sequence[str], launcher: Launcher) -> int:
    """Print the candidates for the last of the words, as the completion scripts ask for them."""
    found = completion.candidates(
        group(),
        words,
        lambda: completion.stored_names(launcher),
        lambda: completion.loaded_names(launcher),
    )
    for name, meaning in found:
        print(f"{name}\t{meaning}" if meaning else name)
    return 0


def group() -> TyperGroup:
    """All commands, parsed from the functions below."""
    command = typer.main.get_command(app)
    assert isinstance(command, TyperGroup)
    return command


def _explain(error: typer.TyperException) -> str:
    """A usage error in cobra's words, and where the help is.

    typer exports one class of its usage errors, BadParameter: the others are told apart by what they carry. A flag that is
    unknown has `option_name` and `possibilities`, one that is used badly only the first.
    """
    carried = vars(error)
    path = carried["ctx"].command_path if carried.get("ctx") else "ollamapy"
    message = error.format_message()
    if "possibilities" in carried:
        name = carried["option_name"]
        message = (
            f"unknown flag: {name}" if name.startswith("--") else f"unknown shorthand flag: {name}"
        )
        if carried["possibilities"]:
            message += f" (like {', '.join(sorted(carried['possibilities']))})"
    elif "option_name" in carried and "requires" in message:
        message = f"flag needs an argument: {carried['option_name']}"
    elif message.startswith("No such command"):
        name, _, like = message.removeprefix("No such command ").partition(". ")
        name = name.rstrip(".").strip("'\"")
        message = f'unknown command "{name}" for "{path}"' + (
            f" ({like[0].lower()}{like[1:]})" if like else ""
        )
    elif isinstance(error, typer.BadParameter):
        message = f"{message[0].lower()}{message[1:].rstrip('.')}"
    return f"{message}, see: {path} --help"


def _exactly(context: typer.Context, number: int) -> list[str]:
    if len(context.args) != number:
        raise _wrong_number(context, f"accepts {number} arg(s), received {len(context.args)}")
    return context.args


def _at_most_one(context: typer.Context) -> str | None:
    if len(context.args) > 1:
        raise _wrong_number(context, f"accepts at most 1 arg(s), received {len(context.args)}")
    return context.args[0] if context.args else None


def _at_least(context: typer.Context, number: int) -> list[str]:
    if len(context.args) < number:
        raise _wrong_number(
            context, f"requires at least {number} arg(s), only received {len(context.args)}"
        )
    return context.args


def _wrong_number(context: typer.Context, message: str) -> OllamapyError:
    return OllamapyError(f"{message}, see: {context.command_path} --help")


def _launcher(context: typer.Context) -> Launcher:
    assert isinstance(context.obj, Launcher)
    return context.obj


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


Json = Annotated[bool, Option("--json", help="Print JSON.")]


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, Option("--version", "-v", help="Show the version and exit.")] = False,
) -> None:
    """Run language models on this machine."""
    if version:
        print(f"ollamapy version is {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command(
    options_metavar="[--preload MODEL]", context_settings=_POSITIONAL, epilog=SERVE_VARIABLES
)
def serve(
    context: typer.Context,
    preload: Annotated[str | None, Option(metavar="MODEL", help="Load this model at once.")] = None,
) -> None:
    """Be the daemon, in the foreground. (Also: start)"""
    _exactly(context, 0)
    raise typer.Exit(launch.serve(_launcher(context), preload))


app.command(
    "start",
    hidden=True,
    options_metavar="[--preload MODEL]",
    context_settings=_POSITIONAL,
    epilog=SERVE_VARIABLES,
)(serve)


@app.command(
    "run",
    options_metavar="MODEL [PROMPT]... [flags]",
    context_settings=_POSITIONAL,
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
    nowordwrap: Annotated[
        bool, Option("--nowordwrap", help="Leave breaking lines to the terminal.")
    ] = False,
    format: Annotated[
        str | None, Option(metavar="FORM", help="Answer in JSON: json, a JSON Schema or its file.")
    ] = None,
    think: Annotated[
        str | None,
        Option(
            metavar="[=HOW]",
            help="Think before the answer or not: true, false, high, medium, low or max.",
        ),
    ] = None,
    hidethinking: Annotated[
        bool, Option("--hidethinking", help="Do not show what the model thinks.")
    ] = False,
    truncate: Annotated[
        str | None,
        Option(
            metavar="[=BOOL]",
            help="Embedding models: false to refuse a text that is too long, not cut it.",
        ),
    ] = None,
    dimensions: Annotated[
        int | None, Option(metavar="N", help="Embedding models: only so many numbers.")
    ] = None,
) -> None:
    """Answer a prompt with a model; without a prompt, chat with it.

    The prompt is what stdin holds, if it is no terminal, and then the arguments. An empty prompt only loads the model. A
    model that is not there is pulled first. An embedding model's answer is its vector.
    """
    model, *words = _at_least(context, 1)
    wishes: dict[str, Any] = {}
    if keepalive is not None:
        _check_duration(keepalive)
        wishes["keep_alive"] = keepalive
    if think is not None:
        wishes["think"] = parse_think(think)
    if format:
        wishes["format"] = read_form(format)
    if not words and sys.stdin.isatty() and sys.stdout.isatty():
        from .repl import Repl

        repl = Repl(
            _launcher(context),
            verbose=verbose,
            wraps=not nowordwrap,
            hides_thinking=hidethinking,
            **wishes,
        )
        _chat(_launcher(context), model, repl, insecure)
        return
    model = _of_address(_launcher(context), model, insecure)
    client = _launcher(context).connect(preload=model)
    body: dict[str, Any] = {"model": model, "prompt": ask.prompt(words), **wishes}

    def answered() -> dict[str, Any]:
        return ask.print_answer(client, body, wrap=not nowordwrap, thoughts=Thoughts(hidethinking))

    try:
        try:
            final = answered()
        except AnsweredError as error:
            from . import transfer

            body["model"] = transfer.pull_absent(client, model, error, insecure)
            final = answered()
    except AnsweredError as error:
        if not ask.only_embeds(error):
            raise _with_installed(client, error) from error
        cuts = None if truncate is None else _boolean("truncate", truncate)
        ask.print_embedding(client, body, cuts, dimensions)
        return
    for note in views.notes(final):
        print(note, file=sys.stderr)
    if verbose:
        print(views.statistics(final), end="", file=sys.stderr)


def _of_address(launcher: Launcher, model: str, insecure: bool) -> str:
    """The model's name; where a file was named instead, it is made one first."""
    if ":" not in model:
        return model
    from . import transfer

    if not transfer.is_address(model):
        return model
    return transfer.pull(launcher.connect(), model, transfer.Wishes(insecure))


def _chat(launcher: Launcher, model: str, repl: Repl, insecure: bool) -> None:
    """Talk with a model until the user leaves."""
    model = _of_address(launcher, model, insecure)
    try:
        try:
            repl.run(model)
        except AnsweredError as error:
            from . import transfer

            repl.run(transfer.pull_absent(launcher.connect(), model, error, insecure))
    except AnsweredError as error:
        if ask.only_embeds(error):
            raise OllamapyError(ask.NOTHING_TO_EMBED) from error
        raise _with_installed(launcher.connect(), error) from error


def _boolean(flag: str, text: str) -> bool:
    if (value := human.parse_boolean(text)) is None:
        raise OllamapyError(f"invalid value for --{flag}: {text!r}, it is true or false")
    return value


def _check_duration(text: str) -> None:
    try:
        human.parse_duration(text)
    except ValueError as error:
        raise OllamapyError(f"{error}, write it like 30s, 5m, 1h30m or -1s (for ever)") from error


def _with_installed(client: Client, error: AnsweredError) -> OllamapyError:
    """An unknown model's error says which there are."""
    if error.status != 404:
        return error
    try:
        names = [str(model.get("name")) for model in client.tags()]
    except (AnsweredError, Unreachable):
        return error
    if not names:
        return OllamapyError(f"{error}, no model is installed")
    more = f" and {len(names) - 8} more (ollamapy list)" if len(names) > 8 else ""
    return OllamapyError(f"{error}, installed: {', '.join(names[:8])}{more}")


@app.command(
    options_metavar="MODEL... [flags]", context_settings=_POSITIONAL, epilog=_PULL_EXAMPLES
)
def pull(
    context: typer.Context,
    insecure: Annotated[bool, Option("--insecure", help="Allow http://.")] = False,
    from_: Annotated[
        str, Option("--from", metavar="URL", help="Get it from another ollamapy: http://host:11434")
    ] = "",
    limit_rate: Annotated[
        str, Option(metavar="RATE", help="Bytes a second at most: 500k, 5MB.")
    ] = "",
    connections: Annotated[
        int, Option(metavar="N", min=1, max=16, help="Connections at a time.")
    ] = 8,
    force: Annotated[bool, Option("--force", help="Also if the disk seems too small.")] = False,
) -> None:
    """Get models: from the catalogue, the hub or a registry.

    MODEL is a name of the catalogue (see: ollamapy library), hf.co/USER/REPO[:QUANT], HOST/USER/MODEL[:TAG] of a registry, or
    the https address of a .gguf file. What was broken off goes on where it stopped.
    Of several, one that cannot be had does not keep the others from coming.
    """
    models = _at_least(context, 1)
    from . import transfer

    rate = transfer.parse_rate(limit_rate) if limit_rate else 0
    via = from_ if "://" in from_ or not from_ else f"http://{from_}"
    wishes = transfer.Wishes(insecure, via, rate, connections, force)
    client = _launcher(context).connect()
    failed = False
    for model in models:
        try:
            name = transfer.pull(client, model, wishes)
        except AnsweredError as error:
            if len(models) == 1:
                raise
            print(f"Error: {model}: {error}", file=sys.stderr)
            failed = True
            continue
        if name != model:
            print(f"{model} is the model {name} now")
    if failed:
        raise typer.Exit(1)


@app.command(options_metavar="MODEL [flags]", context_settings=_POSITIONAL)
def push(
    context: typer.Context,
    insecure: Annotated[bool, Option("--insecure", help="Allow http://.")] = False,
) -> None:
    """Give a model to the registry or the hub that its name says.

    MODEL is HOST/USER/MODEL[:TAG], or hf.co/USER/REPO; `cp` gives it such a name. The keys are those of `docker login`,
    or HF_TOKEN.
    """
    [model] = _exactly(context, 1)
    from . import push as pushing

    pushing.push(_launcher(context).connect(), model, insecure)


@app.command(options_metavar="MODEL...", context_settings=_POSITIONAL)
def rm(context: typer.Context) -> None:
    """Delete models."""
    models = _at_least(context, 1)
    from . import transfer

    client = _launcher(context).connect()
    for model in models:
        transfer.remove(client, model)


@app.command(options_metavar="MODEL NEW_NAME", context_settings=_POSITIONAL)
def cp(context: typer.Context) -> None:
    """Give a model a second name."""
    source, destination = _exactly(context, 2)
    from . import transfer

    transfer.copy(_launcher(context).connect(), source, destination)


@app.command(options_metavar="MODEL [flags]", context_settings=_POSITIONAL, epilog=_CREATE_EXAMPLES)
def create(
    context: typer.Context,
    file: Annotated[
        Path | None,
        Option("--file", "-f", metavar="FILE", help="The Modelfile (./Modelfile); - for stdin."),
    ] = None,
    quantize: Annotated[
        str,
        Option(
            "--quantize",
            "-q",
            metavar="TYPE",
            help="Make F32, F16 or BF16 weights smaller: Q4_K_M, Q8_0...",
        ),
    ] = "",
) -> None:
    """Make a model from a Modelfile, or from weights in this folder."""
    [name] = _exactly(context, 1)
    from . import create as creation

    creation.run(_launcher(context).connect(), name, file, quantize)


@app.command("list", options_metavar="[PREFIX] [--json]", context_settings=_POSITIONAL)
def list_(context: typer.Context, as_json: Json = False) -> None:
    """List the stored models, the newest first. (Also: ls)"""
    client = _launcher(context).connect()
    models = views.with_prefix(client.tags(), "".join(context.args[:1]))
    if as_json:
        _print_json({"models": models})
    else:
        print(views.stored(models, time.time()), end="")


app.command("ls", hidden=True, options_metavar="[PREFIX] [--json]", context_settings=_POSITIONAL)(
    list_
)


@app.command(options_metavar="[PREFIX] [--json]", context_settings=_POSITIONAL)
def ps(context: typer.Context, as_json: Json = False) -> None:
    """List the loaded models."""
    launcher = _launcher(context)
    client = launcher.running()
    if client is None:
        launcher.say("the daemon is not running")
    models = views.with_prefix(client.ps() if client else (), "".join(context.args[:1]))
    if as_json:
        _print_json({"models": models})
    else:
        print(views.loaded(models, time.time()), end="")


@app.command(options_metavar="MODEL [flags]", context_settings=_POSITIONAL)
def show(
    context: typer.Context,
    license: Annotated[bool, Option("--license", help="Only the licence.")] = False,
    modelfile: Annotated[
        bool, Option("--modelfile", help="Only a Modelfile that makes it.")
    ] = False,
    parameters: Annotated[bool, Option("--parameters", help="Only the parameters.")] = False,
    system: Annotated[bool, Option("--system", help="Only the system message.")] = False,
    template: Annotated[bool, Option("--template", help="Only the chat template.")] = False,
    verbose: Annotated[bool, Option("--verbose", "-v", help="Metadata and tensors, too.")] = False,
    remote: Annotated[
        bool,
        Option("--remote", help="A model elsewhere: what it is and needs, without getting it."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Show what a model is made of."""
    [model] = _exactly(context, 1)
    flags = {
        "license": license, "modelfile": modelfile, "parameters": parameters, "system": system, "template": template,
    }  # fmt: skip
    only = [field for field, given in flags.items() if given]
    if len(only) > 1:
        raise OllamapyError(
            "only one of '--license', '--modelfile', '--parameters', '--system', or '--template' can be specified"
        )
    if remote:
        from . import library

        answer = library.show_remote(_launcher(context).settings, model)
    else:
        client = _launcher(context).connect()
        try:
            answer = client.show(model, verbose=verbose)
        except AnsweredError as error:
            raise _with_installed(client, error) from error
    if as_json:
        _print_json({field: answer.get(field, "") for field in only} if only else answer)
        return
    if only:
        text = str(answer.get(only[0]) or "")
    elif remote:
        text = library.remote_card(answer, verbose=verbose)
    else:
        text = views.card(answer, verbose=verbose)
    text = terminal.printable(text) if sys.stdout.isatty() else text
    # A template and a system message are printed as they are, for a file; the others as lines
    print(text, end="\n" if only and only[0] in ("license", "modelfile", "parameters") else "")


@app.command(options_metavar="TEXT [--json]", context_settings=_POSITIONAL)
def search(context: typer.Context, as_json: Json = False) -> None:
    """Search the catalogue of models that have a short name."""
    words = _at_least(context, 1)
    from . import library

    found = library.matching(library.families(_catalog(context)), " ".join(words))
    if not found and not as_json:
        raise OllamapyError(
            f"the catalogue has nothing like {ascii(' '.join(words))}, see: ollamapy library"
        )
    _print_families(found, as_json)


@app.command("library", options_metavar="[NAME] [--json]", context_settings=_POSITIONAL)
def library_(context: typer.Context, as_json: Json = False) -> None:
    """List the catalogue, or what it has of one family."""
    if len(context.args) > 1:
        raise _wrong_number(context, f"accepts at most 1 arg(s), received {len(context.args)}")
    from .. import machine
    from . import library

    if not context.args:
        _print_families(library.families(_catalog(context)), as_json)
        return
    family, free = library.family(_catalog(context), context.args[0]), machine.free_memory()
    if as_json:
        _print_json(library.family_json(family, free))
    else:
        print(terminal.printable(library.card(family, free)), end="")


def _catalog(context: typer.Context) -> Catalog:
    from ..registry.catalog import Catalog

    return Catalog(_launcher(context).settings.library)


def _print_families(found: Sequence[Family], as_json: bool) -> None:
    from .. import machine
    from . import library

    free = machine.free_memory()
    if as_json:
        _print_json({"families": [library.family_json(each, free) for each in found]})
    else:
        print(terminal.printable(library.listing(found, free)), end="")


@app.command(options_metavar="[MODEL]... [--json]", context_settings=_POSITIONAL)
def outdated(context: typer.Context, as_json: Json = False) -> None:
    """List the stored models that have changed where they came from.

    Exit status 1 if one cannot be asked for.
    """
    from . import library

    found, faults = library.outdated(_launcher(context).settings, context.args)
    if as_json:
        _print_json({"models": [library.stale_json(each) for each in found]})
    elif found:
        print(library.stale_table(found), end="")
    _say_faults(faults, "nothing is outdated" if not found else "")


@app.command(options_metavar="[MODEL]...", context_settings=_POSITIONAL)
def update(context: typer.Context) -> None:
    """Pull again the models that `outdated` lists.

    A model that may have been made here is replaced only if it is named.
    """
    from . import library, transfer

    launcher = _launcher(context)
    found, faults = library.outdated(launcher.settings, context.args)
    for each in found:
        if not each.is_pulled and not context.args:
            name = each.name.display
            print(
                f"Warning: '{name}' may have been made here and stays, replace it with: ollamapy update {name}",
                file=sys.stderr,
            )
            continue
        transfer.pull(launcher.connect(), each.pull)
        print(f"updated '{each.name.display}'", flush=True)
    _say_faults(faults, "nothing is outdated" if not found else "")


def _say_faults(faults: Sequence[str], well: str) -> None:
    """What could not be found out, on stderr, and exit status 1; or that all is well."""
    for fault in faults:
        print(f"Warning: {fault}", file=sys.stderr)
    if faults:
        raise typer.Exit(1)
    if well:
        print(well, file=sys.stderr)


@app.command(options_metavar="MODEL [PROMPT]... [flags]", context_settings=_POSITIONAL)
def render(
    context: typer.Context,
    messages: Annotated[
        Path | None, Option(metavar="FILE", help="A chat: a JSON list of messages, as in the API.")
    ] = None,
    system: Annotated[str, Option(metavar="TEXT", help="The system message.")] = "",
    raw: Annotated[bool, Option("--raw", help="The prompt as it is.")] = False,
    as_json: Json = False,
) -> None:
    """Print the prompt that a model would be given.

    It is made of stdin and the arguments, as for `run`, or of a chat in a file. Its number of tokens goes to stderr.
    """
    model, *words = _at_least(context, 1)
    if messages and (words or raw):
        raise OllamapyError("--messages is the whole chat: leave out the prompt and --raw")
    body: dict[str, Any] = {"model": model}
    if messages:
        chat = _messages(messages)
        body["messages"] = [{"role": "system", "content": system}, *chat] if system else chat
    else:
        body |= {"prompt": ask.prompt(words), "system": system, "raw": raw}
        if not body["prompt"]:
            raise OllamapyError("there is no prompt to render, give one or --messages FILE")
    client = _launcher(context).connect()
    try:
        found = client.render(body)
    except AnsweredError as error:
        raise _with_installed(client, error) from error
    text, tokens = str(found.get("rendered_template", "")), found.get("prompt_tokens")
    if as_json:
        _print_json({"prompt": text, "tokens": tokens})
        return
    on_terminal = sys.stdout.isatty()
    print(terminal.printable(text) if on_terminal else text, end="\n" if on_terminal else "")
    sys.stdout.flush()
    if tokens is not None:
        print(f"{tokens} tokens", file=sys.stderr)


def _messages(path: Path) -> list[Any]:
    """The messages in a file; what each of them may hold, the daemon says."""
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise OllamapyError(f"{path} is not JSON: {error}") from error
    if not isinstance(found, list) or not found:
        raise OllamapyError(f"{path} holds no JSON list of messages, see /api/chat")
    return found


@app.command(options_metavar="MODEL", context_settings=_POSITIONAL)
def stop(context: typer.Context) -> None:
    """Unload a model."""
    [model] = _exactly(context, 1)
    launcher = _launcher(context)
    client = launcher.running()
    if client is None:
        launcher.say("the daemon is not running")
        return
    try:
        for _ in client.generate({"model": model, "keep_alive": 0}):
            pass
    except AnsweredError as error:
        if error.status != 404:
            raise
        raise OllamapyError(f'couldn\'t find model "{model}" to stop, see: ollamapy ps') from error


@app.command(options_metavar="[MODELFILE] [--json]", context_settings=_POSITIONAL)
def lint(context: typer.Context, as_json: Json = False) -> None:
    """Check a Modelfile (./Modelfile).

    Exit status 1 if it has errors, 0 if only warnings.
    """
    if len(context.args) > 1:
        raise _wrong_number(context, f"accepts at most 1 arg(s), received {len(context.args)}")
    from ..formats import lint as advice
    from ..formats.modelfile import LIMIT, local_path

    path = Path(*context.args or ["Modelfile"])
    try:
        with path.open("rb") as file:
            source = file.read(LIMIT + 1)
    except OSError as error:
        raise OllamapyError(
            f"cannot read {path} ({reason(error)}), say: ollamapy lint MODELFILE"
        ) from error
    # Not Path.exists(), which fails for names that are too long
    findings = advice.lint(source, lambda value: os.path.exists(local_path(value, path.parent)))
    if as_json:
        names = ("line", "column", "severity", "message")
        found = [{name: getattr(each, name) for name in names} for each in findings]
        _print_json({"file": str(path), "findings": found})
    else:
        for each in findings:
            print(f"{path}:{each.line}:{each.column}: {each.severity}: {each.message}")
    raise typer.Exit(1 if any(each.severity == "error" for each in findings) else 0)


@app.command(options_metavar="[MODEL] [--repair] [--json]", context_settings=_POSITIONAL)
def verify(
    context: typer.Context,
    repair: Annotated[
        bool, Option("--repair", help="Fetch again what is bad, and only that.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Read a model, or all, and compare every byte with its digest.

    Exit status 1 if something is bad.
    """
    name = _at_most_one(context)
    from . import store

    raise typer.Exit(
        store.verify(_launcher(context), name, repair=repair, as_json=as_json),
    )


@app.command(options_metavar="[--dry-run] [--yes] [--json]", context_settings=_POSITIONAL)
def prune(
    context: typer.Context,
    dry_run: Annotated[bool, Option("--dry-run", help="Only say what would be removed.")] = False,
    yes: Annotated[
        bool, Option("--yes", "-y", help="Do not ask, where OLLAMA_MODELS names the store.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Remove blobs of no model and unfinished pulls.

    What somebody has worked on within the last hour stays.
    """
    _exactly(context, 0)
    from . import store

    store.prune(_launcher(context), dry_run=dry_run, yes=yes, as_json=as_json)


@app.command(options_metavar="[--json]", context_settings=_POSITIONAL)
def du(context: typer.Context, as_json: Json = False) -> None:
    """Show what each model takes on the disk.

    OWN is what would be free without it: models share their blobs.
    """
    _exactly(context, 0)
    from . import store

    store.usage(_launcher(context), as_json=as_json)


@app.command(options_metavar="MODEL FILE", context_settings=_POSITIONAL)
def export(context: typer.Context) -> None:
    """Write a model into one file, for a machine without network.

    The file is a tar; `import` reads it.
    """
    name, file = _exactly(context, 2)
    from . import store

    store.export(_launcher(context), name, Path(file))


@app.command(
    "import", options_metavar="FILE | --from TOOL [MODEL] [flags]", context_settings=_POSITIONAL
)
def import_(
    context: typer.Context,
    from_: Annotated[
        str | None,
        Option("--from", metavar="TOOL", help="Models of: ollama, lmstudio, hf or llama.cpp."),
    ] = None,
    copy: Annotated[
        bool, Option("--copy", help="Copy what cannot be linked, without asking.")
    ] = False,
    dry_run: Annotated[bool, Option("--dry-run", help="Only list what TOOL has.")] = False,
    as_json: Json = False,
) -> None:
    """Install the model in a file of `export`, or another tool's.

    Another tool's models are linked, not copied, where the disk can.
    """
    from . import store

    if from_ is not None:
        name = _at_most_one(context)
        store.import_from(
            _launcher(context), from_, name, copy=copy, dry_run=dry_run, as_json=as_json
        )
        return
    [file] = _exactly(context, 1)
    if copy or dry_run:
        raise OllamapyError("--copy and --dry-run go with --from")
    store.import_file(_launcher(context), Path(file), as_json=as_json)


@daemon.callback(invoke_without_command=True)
def daemon_root(context: typer.Context) -> None:
    """Start, stop and look after the daemon."""
    if context.invoked_subcommand is None:
        print(context.get_help())


@daemon.command(options_metavar="[flags]", context_settings=_POSITIONAL)
def start(context: typer.Context) -> None:
    """Start the daemon, unless it runs already."""
    _exactly(context, 0)
    _start(_launcher(context))


def _start(launcher: Launcher) -> None:
    place, started = launcher.start()
    assert place.daemon is not None
    launcher.remark(place)
    state = "started" if started else "runs already"
    print(
        f"ollamapy {place.daemon.version} {state} at {place.address.url} (pid {place.daemon.pid})"
    )


@daemon.command("stop", options_metavar="[flags]", context_settings=_POSITIONAL)
def stop_daemon(context: typer.Context) -> None:
    """End the daemon, after the requests in flight."""
    _exactly(context, 0)
    print("stopped" if _launcher(context).stop() else "the daemon is not running")


@daemon.command(options_metavar="[flags]", context_settings=_POSITIONAL)
def restart(context: typer.Context) -> None:
    """End the daemon, if it runs, and start it."""
    _exactly(context, 0)
    _launcher(context).stop()
    _start(_launcher(context))


@daemon.command(options_metavar="[--json]", context_settings=_POSITIONAL)
def status(context: typer.Context, as_json: Json = False) -> None:
    """Say whether the daemon runs, and where.

    Exit status 1 if it does not run.
    """
    _exactly(context, 0)
    launcher = _launcher(context)
    place = launcher.find()
    facts: dict[str, Any] = {
        "running": place.daemon is not None,
        "address": place.address.url,
        "log": str(launcher.settings.paths.log),
    }
    if place.daemon is not None:
        names = [str(model.get("name")) for model in Client(place.address).ps()]
        told = {"version": place.daemon.version, "pid": place.daemon.pid}
        facts |= {**told, "requests": place.daemon.busy, "loaded": names}
    if as_json:
        _print_json(facts)
    elif place.daemon is not None:
        facts["loaded"] = ", ".join(facts["loaded"]) or "no model"
        print("".join(f"{name:<12}{views.plain(value)}\n" for name, value in facts.items()), end="")
    elif isinstance(place.holder, Stranger):
        print(f"not running: {place.address.url} is held by {place.holder.name}")
    else:
        print("not running")
    raise typer.Exit(0 if place.daemon is not None else 1)


@daemon.command(options_metavar="[flags]", context_settings=_POSITIONAL)
def logs(
    context: typer.Context,
    lines: Annotated[
        int, Option("--lines", "-n", metavar="N", min=0, help="How many of the last lines.")
    ] = 100,
    follow: Annotated[bool, Option("--follow", "-f", help="Go on as lines are written.")] = False,
) -> None:
    """Show the log of a daemon that runs in the background.

    One that `serve` runs writes to its terminal instead.
    """
    _exactly(context, 0)
    path = _launcher(context).settings.paths.log
    if not path.exists():
        raise OllamapyError(f"there is no log at {path}, it begins with: ollamapy daemon start")
    _print_log(path, lines, follow)


def _print_log(path: Path, lines: int, follow: bool) -> None:
    """The last lines of a log; then, for ever, what is added to it, also after it was rotated."""
    log: TextIO = path.open(encoding="utf-8", errors="replace")
    try:
        sys.stdout.writelines(deque(log, maxlen=lines))
        while follow:
            newer = _newer(path, log)  # before the old one is read: then that is its end
            sys.stdout.write(log.read())
            sys.stdout.flush()
            if newer:
                log.close()
                log = newer
            else:
                time.sleep(0.2)
    finally:
        log.close()


def _newer(path: Path, log: TextIO) -> TextIO | None:
    """The file that has taken the place of a log, if one has."""
    try:
        if os.path.samestat(path.stat(), os.fstat(log.fileno())):
            return None
        return path.open(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None  # in the middle of a rotation


@app.command(name="completion", options_metavar="bash|zsh|fish", context_settings=_POSITIONAL)
def completion_(context: typer.Context) -> None:
    """Print a script that makes the shell complete what is typed.

    bash: eval "$(ollamapy completion bash)", zsh: eval "$(ollamapy completion zsh)", fish: ollamapy completion fish | source
    """
    [shell] = _exactly(context, 1)
    if shell not in completion.SCRIPTS:
        raise OllamapyError(f'unknown shell "{shell}", one of: {", ".join(completion.SCRIPTS)}')
    print(completion.SCRIPTS[shell], end="")


@app.command("help", options_metavar="[COMMAND]...", context_settings=_POSITIONAL)
def help_(context: typer.Context) -> None:
    """Show what a command does and takes, as its --help."""
    run([*context.args, "--help"], _launcher(context))
