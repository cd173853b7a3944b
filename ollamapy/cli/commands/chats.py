"""`chats`: the conversations that the daemon keeps: list, read, search, export, import and delete them."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Annotated, BinaryIO, cast

import typer
from typer import Option

from ...errors import OllamapyError, reason
from ...human import format_bytes, one_line
from .. import chatviews, terminal
from ..chats import Chats, short
from ..client import AnsweredError
from ..drawing import complain, shown
from .arguments import (
    POSITIONAL,
    Commands,
    Json,
    at_least,
    at_most_one,
    exactly,
    group_app,
    launcher_of,
    print_json,
)

_FORMS = ("json", "markdown")
_PIECE = 256 * 1024
_IN_MEMORY = 16 * 1024 * 1024
"""Bytes of stdin that are not put into a file."""

app = group_app()
chats = typer.Typer(
    cls=Commands,
    rich_markup_mode=None,
    options_metavar="",
    help="List, read, search, export and delete the chats that are kept.",
)
app.add_typer(chats, name="chats")


@chats.callback(invoke_without_command=True)
def chats_root(context: typer.Context) -> None:
    """List, read, search, export and delete the chats that are kept."""
    if context.invoked_subcommand is None:
        print(context.get_help())


def _chats(context: typer.Context) -> Chats:
    """The chats of the daemon, which is started if need be. Raises OllamapyError for a server that keeps none."""
    found = Chats(launcher_of(context).connect())
    found.check()
    if found.notice:
        terminal.remark(f"Note: {found.notice}")
    return found


Limit = Annotated[int, Option("--limit", "-n", metavar="N", min=1, help="List at most N chats.")]


@chats.command("ls", options_metavar="[flags]", context_settings=POSITIONAL)
def ls(
    context: typer.Context,
    folder: Annotated[str, Option(metavar="NAME", help="Only the chats in this folder.")] = "",
    archived: Annotated[bool, Option("--archived", help="Only archived chats.")] = False,
    all: Annotated[bool, Option("--all", "-a", help="Archived chats, too.")] = False,
    limit: Limit = 1000,
    as_json: Json = False,
) -> None:
    """List the chats, pinned ones first, then those changed last. (Also: list)"""
    exactly(context, 0)
    which = "all" if all else str(archived).lower()
    found = list(islice(_chats(context).every(folder=folder, archived=which), limit))
    if as_json:
        return print_json({"chats": found})
    columns = terminal.columns() if sys.stdout.isatty() else None
    print(shown(chatviews.listing(found, time.time(), columns)), end="")


chats.command("list", hidden=True, options_metavar="[flags]", context_settings=POSITIONAL)(ls)


@chats.command("search", options_metavar="TEXT [flags]", context_settings=POSITIONAL)
def search(context: typer.Context, limit: Limit = 20, as_json: Json = False) -> None:
    """Search the titles and messages of all chats; the best matches come first."""
    words = " ".join(at_least(context, 1))
    found = list(islice(_chats(context).every(query=words, archived="all"), limit))
    if as_json:
        return print_json({"chats": found})
    if not found:
        raise OllamapyError(f"no chat has {words!r} in it, see: ollamapy chats ls")
    mark = ("\x1b[1m", "\x1b[0m") if terminal.has_colour(sys.stdout) else ("", "")
    for line in chatviews.found(found, time.time(), terminal.columns(), mark):
        print(line)


@chats.command("show", options_metavar="ID [flags]", context_settings=POSITIONAL)
def show(
    context: typer.Context,
    plain: Annotated[bool, Option("--plain", help="Show markdown as it is written.")] = False,
    as_json: Json = False,
) -> None:
    """Print the current branch of a chat; with --json all branches.

    ID is the beginning of its id, or - for the chat that was changed last.
    """
    [name] = exactly(context, 1)
    kept = _chats(context)
    chat = kept.get(kept.find(name))
    if as_json:
        return print_json(chat)
    from ..printer import put
    from ..screen import open_screen
    from ..thread import shown_path

    for line in chatviews.head(chat, time.time()):
        print(line)
    for message in shown_path(chat):
        print()
        put(message, open_screen(draws=not plain, wraps=not plain))


@chats.command("export", options_metavar="[ID] [flags]", context_settings=POSITIONAL)
def export(
    context: typer.Context,
    output: Annotated[
        Path | None, Option("--output", "-o", metavar="FILE", help="Write to FILE, not to stdout.")
    ] = None,
    format: Annotated[
        str, Option(metavar="FORM", help="json, for `import`, or markdown, for reading.")
    ] = "json",
    as_json: Annotated[
        bool, Option("--json", help="Print as JSON what was written; needs --output.")
    ] = False,
) -> None:
    """Write a chat, or without ID all chats, to stdout or a file.

    ID is the beginning of its id, or - for the chat that was changed last.
    """
    name = at_most_one(context)
    if as_json and output is None:
        raise OllamapyError("--json tells of a file: add --output FILE, or leave --json out")
    if format not in _FORMS:
        raise OllamapyError(f"unknown format {format!r}, one of: {', '.join(_FORMS)}")
    if format == "markdown" and name is None:
        raise OllamapyError("only one chat can be written as markdown, name it: chats export ID")
    kept = _chats(context)
    pieces = kept.export(kept.find(name) if name else "", format)
    if output is None:
        for piece in pieces:
            sys.stdout.buffer.write(piece)
        sys.stdout.flush()
        return
    size = _write(output, pieces)
    if as_json:
        return print_json({"file": str(output), "size": size})
    what = "all chats are" if name is None else "the chat is"
    print(one_line(f"{what} in {output} ({format_bytes(size)})"))


def _write(target: Path, pieces: Iterator[bytes]) -> int:
    """Write a file for this user alone, which is there as a whole or not at all; its size."""
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    size = 0
    try:
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            for piece in pieces:
                file.write(piece)
                size += len(piece)
        os.replace(partial, target)
    except OSError as error:
        raise OllamapyError(f"cannot write {target}: {reason(error)}") from error
    finally:
        with suppress(OSError):
            partial.unlink()
    return size


@chats.command("import", options_metavar="FILE [--json]", context_settings=POSITIONAL)
def import_(context: typer.Context, as_json: Json = False) -> None:
    """Add the chats of a file: an export of ollamapy, Open WebUI or ChatGPT (conversations.json).

    FILE may be - for stdin.
    """
    [name] = exactly(context, 1)
    kept = _chats(context)
    try:
        with _opened(name) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            answer = kept.import_(size, iter(lambda: file.read(_PIECE), b""))
    except OSError as error:
        raise OllamapyError(f"cannot read {name}: {reason(error)}") from error
    added = len(answer.get("chats") or ())
    if as_json:
        print_json(answer)
    elif added:
        print(f"added {added} chat{'' if added == 1 else 's'}")
    for each in () if as_json else answer.get("skipped") or ():
        what = chatviews.cut(chatviews.flat(str(each.get("title"))) or "(no title)", 60)
        terminal.remark(f"skipped {what}: {each.get('reason')}")
    if not added:
        raise OllamapyError(f"{name} has no chat that could be added")


def _opened(name: str) -> BinaryIO:
    """A file of a known size: stdin and pipes are read to their end first."""
    if name != "-" and Path(name).is_file():
        return open(name, "rb")
    copy = SpooledTemporaryFile(_IN_MEMORY)
    with sys.stdin.buffer if name == "-" else open(name, "rb") as source:
        shutil.copyfileobj(source, copy)
    return cast(BinaryIO, copy)


@chats.command("rm", options_metavar="ID... [flags]", context_settings=POSITIONAL)
def rm(
    context: typer.Context,
    all: Annotated[bool, Option("--all", help="Delete every chat.")] = False,
    yes: Annotated[bool, Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Delete chats, after asking; their text is erased from every file.

    If one of several cannot be deleted, the others still are; exit status 1 then. ID is the beginning of an id, or - for the chat that was changed last.
    """
    if all and context.args:
        raise OllamapyError("--all deletes every chat: leave out the ids")
    names = [] if all else at_least(context, 1)
    kept = _chats(context)
    failed: dict[str, str] = {}
    if all:
        ids = [str(chat["id"]) for chat in kept.every(archived="all")]
        question = f"Delete all {len(ids)} chats?"
    else:
        ids, failed = _named(kept, names)
        question = _question(kept, ids) if ids else ""
    for error in failed.values():
        complain(error)
    if ids and not yes and not _confirmed(question):
        raise OllamapyError("nothing was deleted")
    deleted = _delete(kept, ids, all)
    if as_json:
        print_json(
            {"deleted": deleted, "failed": [{"id": id, "error": failed[id]} for id in failed]}
        )
    elif all:
        print(f"deleted {len(deleted)} chats")
    else:
        for id in deleted:
            print(f"deleted {short(id)}")
    if failed:
        raise typer.Exit(1)


def _named(kept: Chats, names: list[str]) -> tuple[list[str], dict[str, str]]:
    """The ids of the chats that are named, and of each name of no chat what is wrong with it. Raises OllamapyError for the only
    name."""
    ids: dict[str, None] = {}
    failed: dict[str, str] = {}
    for name in names:
        try:
            ids[kept.find(name)] = None
        except OllamapyError as error:
            if len(names) == 1:
                raise
            failed[name] = str(error)
    return list(ids), failed


def _delete(kept: Chats, ids: list[str], all: bool) -> list[str]:
    """Delete these chats, or all; the ids of the deleted ones. One that is gone already counts as deleted."""
    if all:
        kept.delete_all()
        return ids
    for id in ids:
        try:
            kept.delete(id)
        except AnsweredError as error:
            if error.status != 404:
                raise
    return ids


def _question(kept: Chats, ids: list[str]) -> str:
    if len(ids) > 1:
        return f"Delete {len(ids)} chats?"
    chat = kept.get(ids[0])
    return f"Delete the chat {short(ids[0])}, {chatviews.cut(chatviews.title(chat), 60)!r}?"


def _confirmed(question: str) -> bool:
    """Ask on the terminal; without one nothing is deleted unasked."""
    if not sys.stdin.isatty():
        raise OllamapyError("deleting asks first, and there is no terminal: use --yes")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
