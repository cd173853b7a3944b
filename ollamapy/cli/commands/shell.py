"""`completion` and `help`."""

from __future__ import annotations

import typer

from ...errors import OllamapyError
from .. import completion
from .arguments import POSITIONAL, exactly, group_app, launcher_of
from .table import run

app = group_app()


@app.command("completion", options_metavar="bash|zsh|fish", context_settings=POSITIONAL)
def completion_(context: typer.Context) -> None:
    """Print a completion script for a shell.

    bash: eval "$(ollamapy completion bash)", zsh: eval "$(ollamapy completion zsh)", fish: ollamapy completion fish | source
    """
    [shell] = exactly(context, 1)
    if shell not in completion.SCRIPTS:
        raise OllamapyError(f'unknown shell "{shell}", one of: {", ".join(completion.SCRIPTS)}')
    print(completion.SCRIPTS[shell], end="")


@app.command("help", options_metavar="[COMMAND]...", context_settings=POSITIONAL)
def help_(context: typer.Context) -> None:
    """Show the help of a command, as its --help."""
    run([*context.args, "--help"], launcher_of(context))
