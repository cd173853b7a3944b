"""`lint`: advice on a Modelfile, and what `create` would refuse of the files that it names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..chat.template import check_go
from ..errors import InvalidModelfile, OllamapyError, TemplateError
from ..formats.lint import Finding, lint
from ..formats.modelfile import local_path, parse
from ..types import parse_options
from . import create
from .inspection import check_files


def findings(source: bytes, folder: Path, families: Sequence[str] = ()) -> list[Finding]:
    """The findings in a Modelfile whose paths begin at a folder; its files are looked at where there are no errors else.
    ``families`` are the catalogue's."""
    # Not Path.exists(), which fails for names that are too long
    found = lint(source, lambda value: os.path.exists(local_path(value, folder)), template_error)
    if any(each.severity == "error" for each in found):
        return found
    modelfile = parse(source)
    try:
        body = create.request(modelfile, folder)
        parse_options(body.get("parameters", {}))
        check_files(body, families)
    except InvalidModelfile as error:
        place = max(error.line, 1), max(error.column, 1)
        found.append(Finding(*place, "error", error.reason))
    except OllamapyError as error:
        first = next(each for each in modelfile.instructions if each.word == "FROM")
        found.append(Finding(first.line, first.column, "error", str(error)))
    return sorted(found)


def template_error(template: str) -> str:
    """What is wrong with a template, "" if nothing is."""
    try:
        check_go(template)
    except TemplateError as error:
        return str(error)
    return ""
