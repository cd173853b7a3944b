"""The commands on the local store: verify, prune, du, export, import. They work in this process, without a daemon.

Only `verify --repair` asks the daemon, which knows where each model comes from: the damaged blobs are made unfinished
downloads, and a pull of their model goes on with them, so of a large blob only the bad pieces are fetched.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from ..config import environment
from ..errors import InvalidRequest, OllamapyError
from ..human import format_bytes
from ..names import Name
from ..registry import archive, foreign
from ..registry import prune as pruning
from ..registry import usage as disk
from ..registry import verify as verifying
from ..registry.archive import Imported
from ..registry.store import Store, open_store
from ..registry.verify import Checked
from ..types import Progress
from . import terminal, transfer
from .launch import Launcher
from .progress import Steps

Found = TypeVar("Found")

_SILENT = 1.0
"""Seconds that work may take without a word about how far it is."""


def _watch(doing: str, steps: Iterator[Progress | Found]) -> Iterator[Found]:
    """What some work finds; how far it is goes to stderr, once it takes longer than a moment."""
    began = time.monotonic()
    with Steps() as shown:
        for step in steps:
            if not isinstance(step, Progress):
                yield step
            elif time.monotonic() - began >= _SILENT:
                told = {"status": doing, "total": step.total, "completed": step.completed}
                shown.show(told)


def _open(launcher: Launcher) -> Store:
    return open_store(launcher.settings.paths)


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def _agrees(question: str) -> bool:
    """Whether the user says yes; not asked where nobody can answer."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


# verify


def verify(launcher: Launcher, name: str | None, *, repair: bool, as_json: bool) -> int:
    """Read everything and compare it with its digest; the exit status is 1 if something is wrong in the end."""
    store = _open(launcher)
    wanted = Name.parse(name) if name else None
    found = list(_watch("verifying", verifying.verify(store, wanted)))
    wrong = [each for each in found if each.fault]
    repaired = _repair(launcher, store, wrong) if repair and wrong else set[str]()
    if as_json:
        _print_json(
            {"checked": [asdict(each) | {"repaired": each.what in repaired} for each in found]}
        )
    else:
        for each in wrong:
            _print_fault(each, each.what in repaired)
        size = format_bytes(sum(each.size for each in found))
        left = len(wrong) - len(repaired)
        print(
            f"{len(found)} blobs, {size}: {f'{left} of them bad' if left else 'all good'}",
            file=sys.stderr if left else sys.stdout,
        )
        if left and not repair:
            print("repair them with: ollamapy verify --repair", file=sys.stderr)
    return 1 if len(wrong) > len(repaired) else 0


def _print_fault(found: Checked, repaired: bool) -> None:
    models = ", ".join(found.models)
    bad = f", {format_bytes(found.bad)} to fetch" if found.bad and not repaired else ""
    state = ": repaired" if repaired else ""
    print(f"{found.what} of {models} {found.fault}{bad}{state}")


def _repair(launcher: Launcher, store: Store, wrong: list[Checked]) -> set[str]:
    """Pull the models that use what is wrong; what is right then."""
    from . import library

    client = launcher.connect()
    tried: list[Checked] = []
    try:
        for each in wrong:
            try:
                if each.is_blob and each.root is not None:
                    verifying.set_aside(store, each)
                tried.append(each)
            except OllamapyError as error:
                print(f"Warning: {error}", file=sys.stderr)
        for model in dict.fromkeys(model for each in tried for model in each.models):
            try:
                if not library.is_same_elsewhere(launcher.settings, store, Name.parse(model)):
                    raise OllamapyError("what has its name elsewhere is another model")
                transfer.pull(client, model)
            except OllamapyError as error:
                print(f"Warning: {model} cannot be pulled: {error}", file=sys.stderr)
    finally:  # also after Ctrl-C
        repaired = {each.what for each in tried if verifying.put_back(store, each)}
    return repaired


# prune


def prune(launcher: Launcher, *, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Remove what is of no use. In a store that an Ollama may use, too, only after a word."""
    store = _open(launcher)
    if launcher.settings.paths.models_shared and not (dry_run or yes):
        planned = pruning.prune(store, dry_run=True)
        if not planned:
            return print("nothing to remove")
        size = format_bytes(sum(each.size for each in planned))
        root = store.roots[0]
        question = (
            f"{root} was named by OLLAMA_MODELS, an Ollama may use it. Remove {size} from it?"
        )
        if not _agrees(question):
            raise OllamapyError(
                f"{size} in {root} would be removed, which an Ollama may use, too: allow it with --yes"
            )
    removed = pruning.prune(store, dry_run=dry_run)
    if as_json:
        return _print_json({"unused" if dry_run else "removed": _wastes(removed)})
    for each in removed:
        print(f"{each.kind:<10}{each.name[:26]:<28}{format_bytes(each.size)}")
    size = format_bytes(sum(each.size for each in removed))
    if not removed:
        print("nothing to remove")
    else:
        print(f"{size} would be removed" if dry_run else f"{size} removed")


def _wastes(wastes: list[pruning.Waste]) -> list[dict[str, Any]]:
    return [{"kind": each.kind, "name": each.name, "size": each.size} for each in wastes]


# du


def usage(launcher: Launcher, *, as_json: bool) -> None:
    """What the models take, the one first that frees most."""
    store = _open(launcher)
    found = disk.usage(store)
    if as_json:
        return _print_json(asdict(found) | {"total": found.total, "directory": store.roots[0]})
    rows = [
        (each.name, format_bytes(each.size), format_bytes(each.own), str(each.root))
        for each in found.models
    ]
    print(terminal.table(("NAME", "SIZE", "OWN", "DIRECTORY"), rows), end="")
    parts = [f"{format_bytes(found.total)} in all"]
    parts += [f"{format_bytes(found.unused)} of no model"] if found.unused else []
    parts += [f"{format_bytes(found.unfinished)} of unfinished pulls"] if found.unfinished else []
    print(f"\n{', '.join(parts)}")
    if len(parts) > 1:
        print("remove what is of no use with: ollamapy prune", file=sys.stderr)


# export and import


def export(launcher: Launcher, name: str, target: Path) -> None:
    """A model in one file."""
    for _ in _watch("exporting", archive.export(_open(launcher), Name.parse(name), target)):
        pass
    print(f"{Name.parse(name).display} is in {target} ({format_bytes(target.stat().st_size)})")


def import_file(launcher: Launcher, source: Path, *, as_json: bool) -> None:
    """The models of such a file."""
    found = list(_watch("importing", archive.import_file(_open(launcher), source)))
    _print_imported(found, as_json)


def _print_imported(found: list[Imported], as_json: bool) -> None:
    if as_json:
        return _print_json(
            {"models": [{"name": each.name.display, "size": each.size} for each in found]}
        )
    for each in found:
        print(f"{each.name.display} ({format_bytes(each.size)})")


def import_from(
    launcher: Launcher, tool: str, name: str | None, *, copy: bool, dry_run: bool, as_json: bool
) -> None:
    """Another tool's models, linked: the one named, or all."""
    if tool not in foreign.TOOLS:
        raise InvalidRequest(f"unknown tool {tool!r}, one of: {', '.join(foreign.TOOLS)}")
    store = _open(launcher)
    folders = [
        each
        for each in foreign.places(tool, environment(), Path.home(), sys.platform)
        if each not in store.roots
    ]
    there = foreign.find(tool, folders)
    wanted = _named(there, name) if name else there
    if not wanted:
        looked = ", ".join(map(str, folders)) or "its folder is not there, or is our own"
        raise OllamapyError(f"{tool} has no model{f' {name!r}' if name else ''} here ({looked})")
    if dry_run:
        linked = [foreign.Linked(each.name, each.size, "found") for each in wanted]
    else:
        linked = _take(store, wanted, _copying(copy, wanted))
    if as_json:
        return _print_json(
            {"models": [{"name": e.name.display, "size": e.size, "how": e.how} for e in linked]}
        )
    rows = [(each.name.display, format_bytes(each.size), each.how) for each in linked]
    print(terminal.table(("NAME", "SIZE", "HOW"), rows), end="")


def _named(there: list[foreign.Found], name: str) -> list[foreign.Found]:
    """Those of that name; else those whose name has it as a part."""
    try:
        full = Name.parse(name).full.lower()
    except OllamapyError:
        full = ""
    exact = [each for each in there if each.name.full.lower() == full]
    return exact or [each for each in there if name.lower() in each.name.full.lower()]


def _copying(copy: bool, wanted: list[foreign.Found]) -> Callable[[int], bool]:
    """Asks once whether files may be copied that cannot be linked."""
    answer = [True] if copy else list[bool]()

    def may_copy(_: int) -> bool:
        if not answer:
            size = format_bytes(sum(each.size for each in wanted))
            answer.append(_agrees(f"They cannot be linked from there. Copy them (up to {size})?"))
        return answer[0]

    return may_copy


def _take(
    store: Store, wanted: list[foreign.Found], may_copy: Callable[[int], bool]
) -> list[foreign.Linked]:
    """All of them; one that fails does not keep the others from coming, if there are others."""
    linked: list[foreign.Linked] = []
    for each in wanted:
        try:
            linked += _watch(f"linking {each.name.display}", foreign.take(store, each, may_copy))
        except OllamapyError as error:
            if len(wanted) == 1:
                raise
            print(f"Warning: {each.name.display}: {error}", file=sys.stderr)
    if not linked:
        raise OllamapyError("none of the models could be taken, see above")
    return linked
