"""The tree of errors as it is drawn at the top of errors.py."""

from __future__ import annotations

import inspect
import re

from ollamapy import errors
from ollamapy.errors import OllamapyError

_ROW = re.compile(
    r"^ {4}(?P<lines>[ |]*(?:\+- )?)(?P<name>[A-Z]\w+)(?: +(?P<status>\d{3}))?(?: |$)", re.M
)


def test_the_tree_has_every_class_under_its_base_with_its_status() -> None:
    above: list[str] = []
    drawn = {}
    for row in _ROW.finditer(errors.__doc__ or ""):
        depth = len(row["lines"]) // 3
        above[depth:] = [row["name"]]
        drawn[row["name"]] = above[depth - 1] if depth else "Exception"
        if row["status"]:
            assert getattr(errors, row["name"]).status == int(row["status"]), row["name"]
    classes = inspect.getmembers(errors, inspect.isclass)
    defined = {
        name: each.__mro__[1].__name__ for name, each in classes if issubclass(each, OllamapyError)
    }
    assert drawn == defined
