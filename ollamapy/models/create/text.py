"""A Modelfile that comes as a text: the fields of the request that it makes, and advice on it. It names no files, and none is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...errors import InvalidModelfile, InvalidRequest
from ...formats import recipe
from ...formats.lint import Finding, lint
from ...formats.modelfile import parse
from ...names import Name
from .request import check_template

MOST = 2**20
"""Characters of a Modelfile without weights: its texts, licences included, are far shorter."""


def fields(text: str) -> dict[str, Any]:
    """The fields of a request to create, by the names of the API. Raises InvalidModelfile."""
    _check_length(text)
    return recipe.fields(parse(text))


def findings(text: str, is_installed: Callable[[Name], bool]) -> list[Finding]:
    """What creating would refuse, what is likely a mistake, and a base that is not installed; in the order of places."""
    try:
        _check_length(text)
    except InvalidModelfile as error:
        return [Finding(1, 1, "error", error.reason)]
    found = lint(text, lambda value: False, _template_error, takes_files=False)
    if any(each.severity == "error" for each in found):
        return found
    base = [each for each in parse(text).instructions if each.word == "FROM"][-1]
    if not is_installed(Name.parse(base.value)):
        message = f"{base.value} is not installed, it is pulled first"
        found.append(Finding(base.line, base.column, "warning", message))
    return sorted(found)


def _check_length(text: str) -> None:
    if len(text) > MOST:
        raise InvalidModelfile(f"a Modelfile that is sent has at most {MOST} characters")


def _template_error(template: str) -> str:
    try:
        check_template(template)
    except InvalidRequest as error:
        return str(error).removeprefix("template error: ")
    return ""
