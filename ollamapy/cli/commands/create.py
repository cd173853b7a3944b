"""`create` and `lint`: Modelfiles."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Option

from ...errors import OllamapyError, reason
from ...formats.modelfile import LIMIT
from ...registry.catalog import Catalog
from .. import create as creation
from .. import lint as linting
from .arguments import POSITIONAL, Json, at_most_one, exactly, group_app, launcher_of, print_json

app = group_app()

_CREATE_EXAMPLES = """\b
Examples:
  ollamapy create mario -f Modelfile
  ollamapy create small --quantize Q4_K_M     # in a folder with weights
"""


@app.command(
    "create", options_metavar="MODEL [flags]", context_settings=POSITIONAL, epilog=_CREATE_EXAMPLES
)
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
            help="Quantize F32, F16 or BF16 weights: Q4_K_M, Q8_0...",
        ),
    ] = "",
    as_json: Json = False,
) -> None:
    """Create a model from a Modelfile, or from weights in this folder."""
    [name] = exactly(context, 1)
    launcher = launcher_of(context)
    families = Catalog(launcher.settings.library).families()
    creation.run(launcher.connect(), name, file, quantize, families)
    if as_json:
        print_json({"created": name})


@app.command("lint", options_metavar="[MODELFILE] [--json]", context_settings=POSITIONAL)
def lint(context: typer.Context, as_json: Json = False) -> None:
    """Check a Modelfile (./Modelfile).

    Exit status 1 if it has errors, 0 if only warnings.
    """
    path = Path(at_most_one(context) or "Modelfile")
    try:
        with path.open("rb") as file:
            source = file.read(LIMIT + 1)
    except OSError as error:
        raise OllamapyError(
            f"cannot read {path} ({reason(error)}): name the file, as in 'ollamapy lint MODELFILE'"
        ) from error
    findings = linting.findings(
        source, path.parent, Catalog(launcher_of(context).settings.library).families()
    )
    if as_json:
        names = ("line", "column", "severity", "message")
        found = [{name: getattr(each, name) for name in names} for each in findings]
        print_json({"file": str(path), "findings": found})
    else:
        for each in findings:
            print(f"{path}:{each.line}:{each.column}: {each.severity}: {each.message}")
    raise typer.Exit(1 if any(each.severity == "error" for each in findings) else 0)
