"""Shared by the commands: positional arguments, the launcher, JSON on stdout, the error for an unknown model.

Positional arguments are counted here and not by typer, whose messages for them are not those that Ollama's users know.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ...errors import OllamapyError
from ...human import CONTROLS
from ..client import AnsweredError, Client, Unreachable
from ..closest import closest
from ..launch import Launcher

POSITIONAL = {"allow_extra_args": True}
"""The context settings of every command: positional arguments are left in ``context.args``."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


_WHOLE_SENTENCE = 1000
"""Characters of a command's help in a list, which wraps it."""

_JSON_ESCAPES = {code: f"\\u{code:04x}" for code in CONTROLS if code >= 0x7F}
"""For the control characters that JSON leaves as they are."""


class Commands(TyperGroup):
    """A group that answers an unknown command as cobra words it, with the one that was probably meant. Its help wraps what its
    commands do, and cuts nothing off."""

    def format_commands(self, context: Any, formatter: Any) -> None:
        """The list of the help."""
        with formatter.section("Commands"):
            formatter.write_dl(
                self.rows([n for n, each in self.commands.items() if not each.hidden])
            )

    def rows(self, names: Sequence[str]) -> list[tuple[str, str]]:
        """Commands with the first sentence of the help of each."""
        return [(name, self.commands[name].get_short_help_str(_WHOLE_SENTENCE)) for name in names]

    def resolve_command(self, context: Any, arguments: list[str]) -> Any:
        """The command that the arguments name. Raises OllamapyError."""
        name = arguments[0]
        if name not in self.commands and not name.startswith("-") and not context.resilient_parsing:
            like = closest(name, self.commands)
            meant = f" (did you mean '{like}'?)" if like else ""
            path = context.command_path
            raise OllamapyError(f'unknown command "{name}" for "{path}"{meant}, see: {path} --help')
        return super().resolve_command(context, arguments)


def group_app() -> typer.Typer:
    """An app for the commands of one group."""
    return typer.Typer(rich_markup_mode=None, options_metavar="")


def exactly(context: typer.Context, number: int) -> list[str]:
    """The positional arguments, which must be so many."""
    if len(context.args) != number:
        raise _wrong_number(context, f"accepts {number} arg(s), received {len(context.args)}")
    return context.args


def at_most_one(context: typer.Context) -> str | None:
    """The positional argument, if there is one."""
    if len(context.args) > 1:
        raise _wrong_number(context, f"accepts at most 1 arg(s), received {len(context.args)}")
    return context.args[0] if context.args else None


def at_least(context: typer.Context, number: int) -> list[str]:
    """The positional arguments, which must be so many or more."""
    if len(context.args) < number:
        raise _wrong_number(
            context, f"requires at least {number} arg(s), only received {len(context.args)}"
        )
    return context.args


def _wrong_number(context: typer.Context, message: str) -> OllamapyError:
    return OllamapyError(f"{message}, see: {context.command_path} --help")


def launcher_of(context: typer.Context) -> Launcher:
    """The way to the daemon, which `table.run` was given."""
    assert isinstance(context.obj, Launcher)
    return context.obj


def print_json(value: object) -> None:
    """Print a value as JSON; values that JSON has no type for as strings, control characters escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    print(text.translate(_JSON_ESCAPES))


def with_installed(client: Client, error: AnsweredError, model: str = "") -> OllamapyError:
    """The error for an unknown model, with the names of the installed ones, and the one that was probably meant."""
    names = _installed(client) if error.status == 404 else None
    if names is None:
        return error
    if not names:
        return OllamapyError(f"{error}, no model is installed")
    meant = f" (did you mean '{like}'?)" if (like := _closest(model, names)) else ""
    more = f" and {len(names) - 8} more (ollamapy list)" if len(names) > 8 else ""
    return OllamapyError(f"{error}{meant}, installed: {', '.join(names[:8])}{more}")


def with_meant(client: Client, model: str, error: AnsweredError) -> OllamapyError:
    """The error for an unknown model, with the one that was probably meant."""
    names = _installed(client) if error.status == 404 else None
    like = _closest(model, names or ())
    return OllamapyError(f"{error} (did you mean '{like}'?)") if like else error


def _installed(client: Client) -> list[str] | None:
    """The names of the installed models; None if the server does not tell."""
    try:
        return [str(model.get("name")) for model in client.tags()]
    except (AnsweredError, Unreachable):
        return None


def _closest(model: str, names: Sequence[str]) -> str:
    """The installed model that a name was probably meant to be, without the usual tag."""
    return closest(model, [name.removesuffix(":latest") for name in names]) if model else ""
