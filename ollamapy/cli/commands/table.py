"""Every command with its line in the help, and the way from arguments to a command that runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from ... import __version__
from ...errors import OllamapyError
from ...human import one_line
from .. import completion
from ..closest import closest
from ..launch import Launcher
from .arguments import Commands


@dataclass(frozen=True, slots=True)
class Row:
    """A command: the module of its group, and the first sentence of its help. A second name of one is ``hidden``."""

    module: str
    about: str
    hidden: bool = False


TABLE = {
    "serve": Row("daemon", "Run the server in the foreground. (Also: start)"),
    "start": Row("daemon", "Run the server in the foreground. (Also: start)", hidden=True),
    "run": Row("run", "Answer a prompt with a model; without a prompt, chat with it."),
    "chats": Row("chats", "List, read, search, export and delete the chats that are kept."),
    "compare": Row(
        "compare", "Ask two models the same, and print both answers with their figures."
    ),
    "pull": Row("transfer", "Download models from the catalogue, the hub or a registry."),
    "push": Row("transfer", "Upload a model to the registry or the hub that its name points to."),
    "rm": Row("models", "Delete models."),
    "cp": Row("models", "Give a model a second name."),
    "create": Row("create", "Create a model from a Modelfile, or from weights in this folder."),
    "list": Row("models", "List the installed models, newest first. (Also: ls)"),
    "ls": Row("models", "List the installed models, newest first. (Also: ls)", hidden=True),
    "ps": Row("models", "List the loaded models."),
    "show": Row("models", "Show details of a model."),
    "search": Row("library", "Search the catalogue."),
    "library": Row("library", "List the catalogue, or the models of one family."),
    "outdated": Row("upstream", "List the installed models that have changed at their source."),
    "update": Row("upstream", "Pull again the models that `outdated` lists."),
    "render": Row("prompt", "Print the prompt that a model would get."),
    "embed": Row("embed", "Print the vectors of texts."),
    "why-cold": Row("requests", "Explain why a prompt was computed again instead of reused."),
    "replay": Row("requests", "Answer a request again, and compare the answers token by token."),
    "stop": Row("models", "Unload a model."),
    "lint": Row("create", "Check a Modelfile (./Modelfile)."),
    "verify": Row("store", "Compare the files of a model, or of all models, with their digests."),
    "prune": Row("store", "Delete unreferenced blobs and unfinished pulls."),
    "du": Row("store", "Show disk usage."),
    "cache": Row("cache", "Show or delete the computed prompts that are kept on the disk."),
    "export": Row("archive", "Write a model to one file, for a machine without network."),
    "import": Row("archive", "Install a model from a file of `export`, or from another tool."),
    "completion": Row("shell", "Print a completion script for a shell."),
    "help": Row("shell", "Show the help of a command, as its --help."),
    "daemon": Row("daemon", "Start, stop and inspect the daemon."),
}
"""The commands in the order of the help. Their own first sentences are the same (tests/cli/test_commands.py)."""

GROUPS = {
    "Talk": ("run", "chats", "compare", "embed", "render"),
    "Models": ("list", "show", "pull", "push", "create", "lint", "cp", "rm", "outdated", "update"),
    "Catalogue": ("search", "library"),
    "Daemon": ("serve", "daemon", "ps", "stop", "why-cold", "replay"),
    "Disk": ("du", "cache", "verify", "prune", "export", "import"),
    "Shell": ("completion", "help"),
}
"""The visible commands as the help lists them."""

_EXAMPLES = """\
Examples:
  ollamapy run llama3.2
  ollamapy run llama3.2 "Why is the sky blue?"
  ollamapy pull llama2:13b mistral
  ollamapy create mario -f Modelfile
  ollamapy list
"""

_EPILOG = (
    "Help on a command: ollamapy help COMMAND. The daemon's address is OLLAMAPY_HOST, OLLAMA_HOST or"
    " 127.0.0.1:11434; a daemon there is started when needed."
)


def run(arguments: Sequence[str], launcher: Launcher) -> int:
    """Run the command that the arguments name; returns the exit status. Wrong usage raises OllamapyError."""
    arguments = _with_values(arguments)
    command = group(arguments)
    # Not command.main(): that turns a closed pipe into status 1
    try:
        with command.make_context("ollamapy", arguments, obj=launcher) as context:
            command.invoke(context)
    except typer.Exit as exit:
        return exit.exit_code
    except typer.TyperException as error:
        raise OllamapyError(_explain(error, arguments)) from error
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
        group(words),
        words,
        lambda: completion.stored_names(launcher),
        lambda: completion.loaded_names(launcher),
        lambda: completion.chat_ids(launcher),
        lambda: completion.chat_folders(launcher),
    )
    for name, meaning in found:
        print(one_line(f"{name}\t{meaning}" if meaning else name))
    return 0


def group(arguments: Sequence[str] | None = None) -> TyperGroup:
    """The commands in the order of the table: those that the arguments name, and others of their groups, as they are; the
    rest with a name and a line only, for nothing is imported for them. Without arguments: all as they are."""
    app = typer.Typer(
        cls=_Commands,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        options_metavar="",
        epilog=_EPILOG,
    )
    app.callback(invoke_without_command=True)(_root)
    needed = TABLE if arguments is None else _named(arguments)
    modules = {TABLE[name].module for name in needed}
    for module in sorted(modules):
        app.add_typer(import_module(f".{module}", __package__).app)
    for name, row in TABLE.items():
        if row.module not in modules:
            app.command(name, help=row.about, hidden=row.hidden)(_not_named)
    command = typer.main.get_command(app)
    assert isinstance(command, TyperGroup)
    command.commands = {name: command.commands[name] for name in TABLE}
    return command


def _named(arguments: Sequence[str]) -> list[str]:
    """The commands that the arguments name: the first word, and the one whose help is asked for."""
    words = [each for each in arguments if not each.startswith("-")]
    return [each for each in words[: 2 if words[:1] == ["help"] else 1] if each in TABLE]


class _Commands(Commands):
    """The commands, whose help lists them in groups, with examples."""

    def format_commands(self, context: Any, formatter: Any) -> None:
        """The lists of the help."""
        width = max(map(len, (name for names in GROUPS.values() for name in names)))
        for title, names in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl(
                    [(f"{name:<{width}}", about) for name, about in self.rows(names)]
                )
        formatter.write_paragraph()
        formatter.write(_EXAMPLES)


def _not_named() -> None:
    """Stands for a command that the arguments do not name."""
    raise AssertionError("the arguments name this command")


def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", "-v", help="Show the version and exit.")
    ] = False,
) -> None:
    """Run language models on this machine."""
    if version:
        print(f"ollamapy version is {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


def _flags(params: Sequence[Any]) -> list[str]:
    return [flag for each in params for flag in each.opts if flag.startswith("--")]


def _explain(error: typer.TyperException, arguments: Sequence[str]) -> str:
    """A usage error as cobra words it, and where to find the help. Typer's classes for these errors are private, so their
    fields tell them apart."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "ollamapy"
    command = context.command if context else None
    params = command.params if isinstance(command, TyperCommand) else ()
    message, option = error.format_message(), getattr(error, "option_name", "")
    if hasattr(error, "possibilities"):  # no such option
        message = f"unknown {'flag' if option.startswith('--') else 'shorthand flag'}: {option}"
        if option.startswith("--") and (like := closest(option, _flags(params))):
            message += f" (did you mean '{like}'?)"
    elif option and not any(each.startswith(f"{option}=") for each in arguments):
        message = f"flag needs an argument: {option}"
    elif option:
        message = f"flag takes no value: {option}"
    elif isinstance(error, typer.BadParameter):
        message = f"{message[0].lower()}{message[1:].rstrip('.')}"
    return f"{message}, see: {path} --help"
