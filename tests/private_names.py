"""Private names of other packages: where a piece of our source uses one. (A release of theirs may rename them on any day.)

Looked at are imports, attributes, methods that override one, and texts: programs that a test gives to another process, and
the targets of `monkeypatch.setattr`. The standard library counts as another package. What is read of the source alone cannot
see everything: `x._name` passes where a class of ours has a `_name` too, unless x is an imported module or class of theirs.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

OURS = {"ollamapy", "tests", "benchmarks", "training"}
DOCUMENTED = {"_replace", "_asdict", "_fields", "_make", "_field_defaults", "_fields_", "_exit"}
"""Public, for all their underscore: namedtuples, structures of ctypes, os._exit."""


@cache
def nodes(source: str) -> list[ast.AST]:
    """All nodes of a source's syntax tree, the module first."""
    return list(ast.walk(ast.parse(source)))


def is_private(name: str) -> bool:
    return (
        name.startswith("_")
        and name.strip("_") != ""
        and not name.endswith("__")
        and name not in DOCUMENTED
    )


def defined(sources: Iterable[str]) -> set[str]:
    """The private names that these sources define: functions, classes, parameters, whatever is assigned."""
    names: set[str] = set()
    for source in sources:
        for node in nodes(source):
            match node:
                case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                    names.add(node.name)
                case ast.Name(ctx=ast.Store()):
                    names.add(node.id)
                case ast.Attribute(ctx=ast.Store()):
                    names.add(node.attr)
                case ast.arg():
                    names.add(node.arg)
    return {name for name in names if is_private(name)}


def foreign(source: str, own: set[str]) -> Iterator[str]:
    """The uses of private names that are not `own`, as they stand in the source."""
    imported = dict(_imported(source))
    for node in nodes(source):
        match node:
            case ast.Import() | ast.ImportFrom():
                yield from _of_import(node)
            case ast.Attribute() if is_private(node.attr):
                root = _root(node)
                theirs = root in imported and _top(imported[root]) not in OURS
                if theirs or node.attr not in own or ast.unparse(node.value) == "super()":
                    yield ast.unparse(node)
            case ast.ClassDef():
                yield from _overridden(node, imported)
            case ast.Constant(value=str() as text):
                yield from _of_text(text)
            case ast.Call(func=ast.Name(id="getattr" | "setattr") | ast.Attribute(attr="setattr")):
                yield from _of_setattr(node, imported, own)


def _imported(source: str) -> Iterator[tuple[str, str]]:
    """Name in the file -> what it is, with dots, for all absolute imports."""
    for node in nodes(source):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield (
                    alias.asname or _top(alias.name),
                    alias.name if alias.asname else _top(alias.name),
                )
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _of_import(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif node.level or _top(node.module or "") in OURS:
        return
    else:
        names = [f"{node.module}.{alias.name}" for alias in node.names]
    yield from (name for name in names if any(map(is_private, name.split("."))))


def _of_text(text: str) -> Iterator[str]:
    """`package._name` inside a text. Only of names that can be imported: prose has full stops too."""
    for found in re.finditer(r"\b([a-z]\w*)((?:\.\w+)*\.)(_\w+)", text):
        package, _, name = found.groups()
        if is_private(name) and package not in OURS and importlib.util.find_spec(package):
            yield found.group()


def _of_setattr(call: ast.Call, imported: dict[str, str], own: set[str]) -> Iterator[str]:
    match call.args:
        case [target, ast.Constant(value=str() as name), *_] if is_private(name):
            root = _root(target)
            if name not in own or (root in imported and _top(imported[root]) not in OURS):
                yield ast.unparse(call)


def _overridden(node: ast.ClassDef, imported: dict[str, str]) -> Iterator[str]:
    """Private methods of a class that a base of another package has too."""
    methods = {each.name for each in node.body if isinstance(each, ast.FunctionDef)}
    for base in node.bases:
        root, _, rest = ast.unparse(base).partition(".")
        name = ".".join(filter(None, [imported.get(root, ""), rest]))
        known = root in imported and importlib.util.find_spec(_top(name))  # torch is not here
        if known and _top(name) not in OURS:
            module, _, attribute = name.rpartition(".")
            theirs = getattr(importlib.import_module(module), attribute, None)
            yield from (
                f"{node.name}.{method}"
                for method in sorted(methods)
                if is_private(method) and hasattr(theirs, method)
            )


def _root(node: ast.expr) -> str:
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _top(name: str) -> str:
    return name.partition(".")[0]


def sources(root: Path) -> dict[str, str]:
    """Path from the root -> text, for all Python of the project."""
    return {
        str(file.relative_to(root)): file.read_text(encoding="utf-8")
        for folder in sorted(OURS)
        for file in sorted((root / folder).rglob("*.py"))
    }
