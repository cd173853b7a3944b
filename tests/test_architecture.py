"""The import rules of the house, checked on the source: who may import whom, and what only one file may do.

    cli ==HTTP==> daemon -> web -> serving -> models -> registry -> formats
     |                               |  |        |
     |                               |  |        +--> runner (quantizing, rendering)
     |                               |  +-> fleet -> runner -> engine (in the child only)
     |                               +----> chat
     +--> registry, formats, chat (commands on local files); daemon.serve alone in `serve`

Every room may import the vocabulary: the modules of the package itself.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from tests import private_names

ROOT = Path(__file__).parent.parent / "ollamapy"
FILES = sorted(ROOT.rglob("*.py"))
VOCABULARY = {
    "cache",
    "errors",
    "names",
    "types",
    "config",
    "context",
    "human",
    "digests",
    "files",
    "loading",
    "machine",
    "secret",
    "schemas",
    "request",
    "prefix",
    "",
}

MAY_IMPORT = {
    "": {"cli"},  # ollamapy/__main__.py
    "formats": set(),
    "chat": set(),
    "registry": {"formats"},
    "engine": {"formats"},
    "runner": {"engine", "chat", "formats"},
    "fleet": {"runner", "formats"},
    "models": {"runner", "registry", "chat", "formats"},
    "serving": {"models", "fleet", "runner", "chat", "formats"},
    "web": {"serving", "models", "fleet", "registry"},
    "daemon": {"web", "serving", "models", "fleet", "runner", "registry"},
    "cli": {"daemon", "registry", "formats", "chat"},
}


class Import(NamedTuple):
    file: Path
    module: str
    inside_function: bool

    @property
    def room(self) -> str:
        """The room of the importing file; empty for the vocabulary."""
        parts = self.file.relative_to(ROOT).parts
        return parts[0] if len(parts) > 1 else ""


@pytest.fixture(scope="module", autouse=True)
def trees() -> Iterator[None]:
    """The syntax trees are many objects: without them the tests of other files are quicker."""
    yield
    private_names.nodes.cache_clear()


def nodes(file: Path) -> list[ast.AST]:
    """All nodes of a file's syntax tree, the module first."""
    return private_names.nodes(file.read_text())


def imports(file: Path) -> Iterator[Import]:
    """Every import of a file, relative ones made absolute; typing-only ones too."""
    package = ["ollamapy", *file.relative_to(ROOT).parts[:-1]]
    inside = {
        id(node)
        for function in nodes(file)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    for node in nodes(file):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(file, alias.name, id(node) in inside)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield Import(file, f"{module}.{alias.name}", id(node) in inside)


@cache
def every() -> list[Import]:
    """All imports of all files."""
    return [found for file in FILES for found in imports(file)]


@cache
def ours() -> list[Import]:
    """Those of modules of ours."""
    return [found for found in every() if found.module.startswith("ollamapy.")]


def target_room(found: Import) -> str:
    """The room that an import of ours reaches into; empty for the vocabulary."""
    first = found.module.split(".")[1]
    return first if (ROOT / first).is_dir() else ""


def named(files: set[Path]) -> set[str]:
    return {str(file.relative_to(ROOT)) for file in files}


def test_there_is_something_to_check() -> None:
    assert len(FILES) > 20 and len(ours()) > 50


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_run_down_only(file: Path) -> None:
    for found in ours():
        if found.file is not file:
            continue
        target = target_room(found)
        if target == "":
            assert found.module.split(".")[1] in VOCABULARY | {"__version__"}
        elif target != found.room:
            assert target in MAY_IMPORT[found.room], found


def test_the_cli_imports_of_the_daemon_what_serves_alone() -> None:
    found = [f for f in ours() if f.room == "cli" and target_room(f) == "daemon"]
    assert {f.module for f in found} == {"ollamapy.daemon.serve.serve"}
    assert all(f.inside_function for f in found)


def test_no_room_is_a_fifth_of_the_house() -> None:
    sizes: dict[str, int] = {}
    for file in FILES:
        parts = file.relative_to(ROOT).parts
        room = parts[0] if len(parts) > 1 else ""
        sizes[room] = sizes.get(room, 0) + len(file.read_text().splitlines())
    assert max(sizes.values()) < sum(sizes.values()) / 5, sizes


def test_the_vocabulary_imports_only_vocabulary() -> None:
    for found in ours():
        if found.file.parent == ROOT and found.file.name != "__main__.py":
            assert target_room(found) == "", found


def test_no_cycles() -> None:
    graph: dict[str, set[str]] = {}
    for found in ours():
        relative = found.file.relative_to(ROOT).with_suffix("")
        name = ".".join(["ollamapy", *relative.parts]).removesuffix(".__init__")
        target = found.module
        while (
            not (ROOT.parent / Path(*target.split("."))).with_suffix(".py").exists()
            and "." in target
        ):
            target = target.rsplit(".", 1)[0]
        if target != name:
            graph.setdefault(name, set()).add(target)

    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path, module))
        if module not in done:
            for target in graph.get(module, ()):
                visit(target, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_our_modules_are_imported_at_the_top() -> None:
    """But for what costs a command its start: the daemon in `serve`, the store in completion, typer after `--version`, the
    interpreter of Go templates where no model has one."""
    late = [found for found in ours() if found.inside_function]
    for found in late:
        assert found.room == "cli" or found.file.name in (
            "serve.py",
            "service.py",
            "__main__.py",
            "template.py",
            "recognize.py",
        ), found


def test_llama_cpp_is_imported_by_two_files() -> None:
    assert named({f.file for f in every() if f.module.split(".")[0] == "llama_cpp"}) == {
        "engine/library.py",
        "engine/media.py",
    }


def test_the_engine_is_imported_by_the_child_alone() -> None:
    users = {f.file for f in ours() if target_room(f) == "engine" and f.room != "engine"}
    files = ("__main__", "worker", "outbox", "blockfile", "disk", "keeper")
    assert named(users) == {f"runner/{file}.py" for file in files}


def test_conversions_run_in_their_child_alone() -> None:
    makers = {
        "ollamapy.formats.convert",
        "ollamapy.formats.lora",
        "ollamapy.formats.llama2c.convert",
    }
    users = {f.file for f in ours() if f.room != "formats" and f.module.startswith(tuple(makers))}
    assert named(users) == {"runner/convert_child.py"}


def test_the_cli_never_imports_runner_or_engine() -> None:
    assert not [f for f in ours() if f.room == "cli" and target_room(f) in ("runner", "engine")]


def importers(*tops: str) -> set[str]:
    """The files that import one of these packages."""
    return named({found.file for found in every() if found.module.split(".")[0] in tops})


def test_only_the_web_knows_http() -> None:
    serving = importers("starlette", "uvicorn", "h11")
    assert serving and {file.split("/")[0] for file in serving} == {"web"}
    assert importers("uvicorn", "h11") == {"web/server.py"}


def test_digests_have_one_owner() -> None:
    """But for the sha1 of git, by which the hub names small files."""
    assert importers("hashlib") == {"digests.py", "registry/probe.py"}


def test_only_the_client_and_the_registry_ask() -> None:
    registry = {f"registry/{file.name}" for file in FILES if file.parent.name == "registry"}
    askers = importers("http", "requests", "urllib3", "httpx", "aiohttp")
    askers |= named({found.file for found in every() if found.module.startswith("urllib.request")})
    assert askers - registry == {"cli/client.py"}


SOURCES = private_names.sources(ROOT.parent)


@cache
def own_names() -> set[str]:
    """The private names that this repository defines."""
    return private_names.defined(SOURCES.values())


PRIVATE_NAMES_OF_OTHERS: dict[str, set[str]] = {}
"""File -> what it may use; here stand the reason and, where it is a package's, the bound in pyproject.toml."""


@pytest.mark.parametrize("file", sorted(SOURCES.keys() - {"tests/test_architecture.py"}))
def test_private_names_of_other_packages_are_left_alone(file: str) -> None:
    found = set(private_names.foreign(SOURCES[file], own_names()))
    assert found == PRIVATE_NAMES_OF_OTHERS.get(file, set())


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from typer._click import exceptions", ["typer._click.exceptions"]),
        ("import filelock._unix", ["filelock._unix"]),
        ("from urllib3 import _version as v", ["urllib3._version"]),
        ("import urllib3\nurllib3.util._x()", ["urllib3.util._x"]),
        ("import urllib3 as u\nu._own", ["u._own"]),
        ("answer._fp", ["answer._fp"]),
        ("super()._own()", ["super()._own"]),
        ("run('import filelock; filelock._unix.fcntl = 0')", ["filelock._unix"]),
        ("import typer\nmonkeypatch.setattr(typer, '_own', 0)", None),
        ("from threading import Thread\nclass Mine(Thread):\n    def _bootstrap(self): ...", None),
        ("from ollamapy.registry import http\nhttp._own()", []),
        ("from ..registry.http import _own", []),
        ("self._own, pair._replace(a=1), os._exit(1), module.__file__, _", []),
        ("'Ends here._And goes on', 'ollamapy.registry._own'", []),
    ],
)
def test_private_names_are_noticed(source: str, found: list[str] | None) -> None:
    uses = list(private_names.foreign(source, {"_own"}))
    assert uses == found if found is not None else len(uses) == 1


ENVIRONMENT = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}


def touches_environment(tree: Iterable[ast.AST]) -> bool:
    """Whether a module has `os.environ` and the like, or imports it under whatever name."""
    return any(
        (isinstance(node, ast.Attribute) and node.attr in ENVIRONMENT)
        or (
            isinstance(node, ast.ImportFrom)
            and node.module in ("os", "posix", "nt")
            and bool(ENVIRONMENT & {alias.name for alias in node.names})
        )
        for node in tree
    )


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import os; os.environ['X']", True),
        ("import os as system; system.getenv('X')", True),
        ("from os import environ", True),
        ("from os import path, getenv as ask", True),
        ("from os import path; environ = {}", False),
    ],
)
def test_reading_the_environment_is_noticed(source: str, found: bool) -> None:
    assert touches_environment(ast.walk(ast.parse(source))) is found


def test_only_config_reads_the_environment() -> None:
    assert named({file for file in FILES if touches_environment(nodes(file))}) == {"config.py"}


def test_the_settings_are_read_once_a_process() -> None:
    """At the entry of the command; everything else is given them."""
    calls = [
        file
        for file in FILES
        for node in nodes(file)
        if isinstance(node, ast.Attribute) and node.attr == "from_env"
    ]
    assert named(set(calls)) == {"cli/main.py"} and len(calls) == 1


def test_only_the_cli_prints() -> None:
    """And the runner's child, whose stderr is its log."""
    printers = {
        file
        for file in FILES
        for node in nodes(file)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    }
    assert {file for file in printers if file.relative_to(ROOT).parts[0] != "cli"} <= {
        ROOT / "runner" / "__main__.py",
        ROOT / "runner" / "worker.py",
        ROOT / "__main__.py",
    }


def test_every_module_has_a_docstring() -> None:
    described = [
        file
        for file in FILES
        if isinstance(module := nodes(file)[0], ast.Module) and ast.get_docstring(module)
    ]
    assert described == FILES


def modules_after(code: str, **environment: str) -> set[str]:
    """What is in sys.modules after a piece of code ran in a process of its own."""
    run = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint('modules', *sys.modules, sep='\\n')"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment},
    )
    return set(run.stdout.rpartition("modules\n")[2].split())


def test_the_daemon_is_imported_without_llama_cpp_and_numpy() -> None:
    assert not {"llama_cpp", "numpy"} & modules_after("import ollamapy.web.app")


def test_the_child_starts_without_numpy_and_the_web() -> None:
    loaded = modules_after("import ollamapy.runner.__main__")
    assert not {"numpy", "starlette", "jinja2", "llama_cpp"} & loaded


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["list"],
        ["ps"],
        ["show", "m"],
        ["stop", "m"],
        ["run", "m", "Hi"],
        ["run", "--help"],
    ],
    ids=" ".join,
)
def test_thin_commands_start_without_anything_heavy(arguments: list[str], tmp_path: Path) -> None:
    """They get as far as asking a server that is not there. (tests/cli/test_main.py: with one that answers.)"""
    heavy = {
        "starlette",
        "uvicorn",
        "asyncio",
        "numpy",
        "jinja2",
        "yaml",
        "requests",
        "msgspec",
        "rich",
    }
    nowhere = {"OLLAMAPY_HOST": "127.0.0.1:1", "OLLAMAPY_HOME": str(tmp_path)}
    code = f"from ollamapy.cli.main import main; status = main({arguments!r})\n"
    loaded = modules_after(f"{code}assert status == {int('--help' not in arguments)}", **nowhere)
    assert {"ollamapy.cli.commands.table", "typer"} <= loaded
    assert not heavy & loaded
