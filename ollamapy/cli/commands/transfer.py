"""`pull` and `push`: models from and to the hub and registries."""

from __future__ import annotations

from typing import Annotated

import typer
from typer import Option

from ...human import one_line
from .. import push as pushing
from .. import transfer
from ..client import AnsweredError
from ..terminal import remark
from .arguments import POSITIONAL, at_least, exactly, group_app, launcher_of

app = group_app()

_PULL_EXAMPLES = """\b
Examples:
  ollamapy pull llama2:13b
  ollamapy pull hf.co/bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M
  ollamapy pull --from http://otherhost:11434 llama2
"""


@app.command(
    "pull", options_metavar="MODEL... [flags]", context_settings=POSITIONAL, epilog=_PULL_EXAMPLES
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
    models = at_least(context, 1)
    rate = transfer.parse_rate(limit_rate) if limit_rate else 0
    via = from_ if "://" in from_ or not from_ else f"http://{from_}"
    wishes = transfer.Wishes(insecure, via, rate, connections, force)
    client = launcher_of(context).connect()
    failed = False
    for model in models:
        try:
            name = transfer.pull(client, model, wishes)
        except AnsweredError as error:
            if len(models) == 1:
                raise
            remark(f"Error: {model}: {error}")
            failed = True
            continue
        if name != model:
            print(one_line(f"{model} is the model {name} now"))
    if failed:
        raise typer.Exit(1)


@app.command("push", options_metavar="MODEL [flags]", context_settings=POSITIONAL)
def push(
    context: typer.Context,
    insecure: Annotated[bool, Option("--insecure", help="Allow http://.")] = False,
) -> None:
    """Give a model to the registry or the hub that its name says.

    MODEL is HOST/USER/MODEL[:TAG], or hf.co/USER/REPO; `cp` gives it such a name. The keys are those of `docker login`,
    or HF_TOKEN.
    """
    [model] = exactly(context, 1)
    pushing.push(launcher_of(context).connect(), model, insecure)
