"""`ollamapy chats`, with a real daemon."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ollamapy.cli.chats import chosen, short
from ollamapy.errors import OllamapyError
from tests.served import Daemon, serve

from .chats import Start
from .conftest import Command, Standin

EVIL = "\x1b]0;owned\x07red\u202e\x9b2J"


@pytest.fixture(scope="module")
def daemon(model_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with serve(tmp_path_factory.mktemp("home"), model_store) as running:
        yield running


@pytest.fixture
def keeper(daemon: Daemon) -> Iterator[Daemon]:
    """The daemon, whose chats go at the end of each test."""
    yield daemon
    for chat in listed(daemon):
        daemon.ask("DELETE", f"/api/chats/{chat['id']}")


def listed(daemon: Daemon) -> list[Any]:
    return list(daemon.ask("GET", "/api/chats?archived=all").json()["chats"])


def make(daemon: Daemon, *texts: str, **fields: Any) -> str:
    """A chat with messages by turns of the user and of the model; its id."""
    chat = daemon.ask("POST", "/api/chats", {"model": "hello", **fields}).json()
    for number, text in enumerate(texts):
        role = "assistant" if number % 2 else "user"
        message = {"role": role, "content": text, "answer": False}
        assert daemon.ask("POST", f"/api/chats/{chat['id']}/messages", message).status == 201
    return str(chat["id"])


def test_they_are_listed(keeper: Daemon, ollamapy: Command) -> None:
    nothing = ollamapy("chats", "ls", host=keeper.url)
    assert (nothing.returncode, nothing.stdout.split()) == (0, ["ID", "TITLE", "MODEL", "UPDATED"])
    first = make(keeper, "Why is the sky blue?", "Because.")
    second = make(keeper, "A second one", folder="work")
    third = make(keeper, "Old", "old")
    keeper.ask("PATCH", f"/api/chats/{first}", {"pinned": True})
    keeper.ask("PATCH", f"/api/chats/{third}", {"archived": True})
    rows = ollamapy("chats", "ls", host=keeper.url).stdout.splitlines()
    assert [row.split()[0] for row in rows[1:]] == [short(first), short(second)]
    assert "Why is the sky blue? [pinned]" in rows[1] and "work/ A second one" in rows[2]
    assert "ago" in rows[1] and "hello" in rows[1]
    found = json.loads(ollamapy("chats", "list", "--json", "--all", host=keeper.url).stdout)
    assert {chat["id"] for chat in found["chats"]} == {first, second, third}
    for flags, ids in (
        (["--archived"], [third]),
        (["--folder", "work"], [second]),
        (["-n", "1"], [first]),
    ):
        answer = ollamapy("chats", "ls", "--json", *flags, host=keeper.url)
        assert [chat["id"] for chat in json.loads(answer.stdout)["chats"]] == ids


def test_one_is_shown(keeper: Daemon, ollamapy: Command) -> None:
    id = make(keeper, "two\nlines", "**An answer**", system="Be kind.", options={"seed": 7})
    for name in (id, short(id), id[:12], "-"):
        shown = ollamapy("chats", "show", name, host=keeper.url)
        assert shown.stdout.startswith(f"two lines\n  id        {id}\n  model     hello\n")
        assert shown.stdout.endswith("\n>>> two\n... lines\n\n**An answer**\n\n")
        assert "  system    Be kind.\n  options   seed=7\n" in shown.stdout
    whole = json.loads(ollamapy("chats", "show", id, "--json", host=keeper.url).stdout)
    assert [each["content"] for each in whole["messages"]] == ["two\nlines", "**An answer**"]


@pytest.mark.parametrize("command", ["show", "export", "rm"])
def test_an_unknown_one_is_an_error_with_a_way_out(
    keeper: Daemon, ollamapy: Command, command: str
) -> None:
    id = make(keeper, "The one", "that is meant")
    wrong = f"{short(id)[:-1]}."
    failed = ollamapy("chats", command, wrong, host=keeper.url)
    assert failed.returncode == 1
    assert failed.stderr == (
        f"Error: there is no chat '{wrong}' (did you mean '{short(id)}', 'The one'?), "
        "see: ollamapy chats ls\n"
    )
    gone = ollamapy("chats", command, "chat_" + "A" * 22, host=keeper.url)
    assert gone.returncode == 1 and "there is no chat 'chat_AAAA" in gone.stderr


def test_the_beginning_of_an_id_must_be_of_one_alone() -> None:
    chats = [
        {"id": f"chat_{name}", "title": name}
        for name in ("abcdef" + "0" * 16, "abcxyz" + "0" * 16, "-bc" + "0" * 19)
    ]
    assert chosen("abcd", chats) == chosen("chat_abcd", chats) == chats[0]["id"]
    assert chosen(short(chats[2]["id"]), chats) == chats[2]["id"], "it looks like no option"
    with pytest.raises(OllamapyError, match=r"'abc' names 2 chats \(abcdef00, abcxyz00\)"):
        chosen("abc", chats)
    for name in ("", "chat_", "zzz"):
        with pytest.raises(OllamapyError, match="there is no chat"):
            chosen(name, chats)


@pytest.mark.parametrize("command", ["show", "export", "rm", "search"])
def test_bytes_that_are_no_text(keeper: Daemon, variables: dict[str, str], command: str) -> None:
    for name in (b"\xff\xfe", b"chat_\xff" + b"a" * 21):
        arguments: list[str | bytes] = [sys.executable, "-m", "ollamapy", "chats", command, name]
        environment = {**variables, "OLLAMAPY_HOST": keeper.url}
        failed = subprocess.run(arguments, capture_output=True, env=environment)
        assert failed.returncode == 1 and b"bug" not in failed.stderr, failed.stderr


def test_they_are_searched(keeper: Daemon, ollamapy: Command) -> None:
    first = make(keeper, "Why is the sky blue?", "Light is scattered by the air's molecules.")
    make(keeper, "Something else", "entirely")
    found = ollamapy("chats", "search", "scattered", host=keeper.url)
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith(f"{short(first)}  Why is the sky blue?  hello  ")
    assert "Light is scattered by the" in found.stdout and "else" not in found.stdout
    answer = json.loads(ollamapy("chats", "search", "scattered", "--json", host=keeper.url).stdout)
    assert [chat["id"] for chat in answer["chats"]] == [first]
    none = ollamapy("chats", "search", "no such words", host=keeper.url)
    assert none.returncode == 1 and "no chat has 'no such words' in it" in none.stderr
    for odd in ('"', "AND", "a*(", "-x"):
        assert "bug" not in ollamapy("chats", "search", "--", odd, host=keeper.url).stderr


def test_what_is_exported_is_imported(keeper: Daemon, ollamapy: Command, tmp_path: Path) -> None:
    id = make(keeper, "A question", "An answer", title="Mine", folder="f")
    file = tmp_path / "my chats.json"
    written = ollamapy("chats", "export", id, "-o", str(file), host=keeper.url)
    assert written.stdout.startswith(f"the chat is in {file} ("), written.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".")] == []
    assert ollamapy("chats", "export", short(id), host=keeper.url).stdout == file.read_text()
    text = ollamapy("chats", "export", id, "--format", "markdown", host=keeper.url).stdout
    assert "# Mine" in text and "An answer" in text
    every = tmp_path / "all.json"
    written = ollamapy("chats", "export", "-o", str(every), "--json", host=keeper.url)
    assert json.loads(written.stdout) == {"file": str(every), "size": every.stat().st_size}
    assert keeper.ask("DELETE", f"/api/chats/{id}").status == 204
    for source in (file, every):
        added = ollamapy("chats", "import", str(source), host=keeper.url)
        assert (added.returncode, added.stdout) == (0, "added 1 chat\n"), added.stderr
    assert [chat["title"] for chat in listed(keeper)] == ["Mine", "Mine"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export", "--format", "pdf", "-"], "unknown format 'pdf', one of: json, markdown"),
        (["export", "--format", "markdown"], "only one chat can be written as markdown"),
        (["export", "--json"], "--json tells of a file"),
        (["export", "-o", "/nowhere/x.json"], "cannot write /nowhere/x.json"),
        (["import", "/nowhere/x.json"], "cannot read /nowhere/x.json"),
        (["rm"], "requires at least 1 arg(s)"),
        (["rm", "--all", "x"], "--all deletes every chat"),
        (["show", "-"], "there is no chat yet"),
        (["shwo"], "did you mean 'show'?"),
    ],
)
def test_what_goes_wrong(
    arguments: list[str], message: str, keeper: Daemon, ollamapy: Command
) -> None:
    failed = ollamapy("chats", *arguments, host=keeper.url)
    assert failed.returncode == 1 and message in failed.stderr


def test_an_import_says_what_it_left_out(keeper: Daemon, ollamapy: Command, tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text('{"not": "chats"}')
    failed = ollamapy("chats", "import", str(file), host=keeper.url)
    assert failed.returncode == 1 and failed.stdout == ""
    assert failed.stderr.startswith("Error: the file has no chats: choose an export of ollamapy")
    file.write_text(
        json.dumps(
            [
                {"title": EVIL, "mapping": {}},
                {
                    "title": "Good",
                    "mapping": {
                        "a": {
                            "id": "a",
                            "parent": None,
                            "children": [],
                            "message": {
                                "author": {"role": "user"},
                                "content": {"content_type": "text", "parts": ["Hi"]},
                            },
                        }
                    },
                    "current_node": "a",
                },
            ]
        )
    )
    added = ollamapy("chats", "import", str(file), host=keeper.url)
    assert added.stdout == "added 1 chat\n"
    assert added.stderr.startswith("skipped ") and "\x1b" not in added.stderr


def test_an_import_that_is_too_large_is_refused(
    keeper: Daemon, ollamapy: Command, tmp_path: Path
) -> None:
    file = tmp_path / "large.json"
    with file.open("wb") as made:
        made.truncate(500 * 2**20)
    failed = ollamapy("chats", "import", str(file), host=keeper.url)
    assert failed.returncode == 1 and "is larger than 128 MiB: split it" in failed.stderr
    assert listed(keeper) == []


def test_an_import_from_a_pipe(keeper: Daemon, ollamapy: Command) -> None:
    id = make(keeper, "A question", title="Mine")
    whole = ollamapy("chats", "export", id, host=keeper.url).stdout
    added = ollamapy("chats", "import", "-", host=keeper.url, stdin=whole)
    assert added.stdout == "added 1 chat\n", added.stderr
    assert [chat["title"] for chat in listed(keeper)] == ["Mine", "Mine"]


def test_they_are_deleted_after_asking(keeper: Daemon, ollamapy: Command, start: Start) -> None:
    ids = [make(keeper, f"number {n}") for n in range(4)]
    refused = ollamapy("chats", "rm", ids[0], host=keeper.url)
    assert refused.returncode == 1 and "there is no terminal: use --yes" in refused.stderr
    command = (sys.executable, "-m", "ollamapy", "chats", "rm", short(ids[0]))
    it = start(*command, OLLAMAPY_HOST=keeper.url)
    it.until(f"Delete the chat {short(ids[0])}, 'number 0'? [y/N]").enter("")
    assert it.status() == 1 and "nothing was deleted" in it.screen
    it = start(*command, OLLAMAPY_HOST=keeper.url).until("[y/N]")
    it.enter("y")
    assert it.status() == 0 and f"deleted {short(ids[0])}" in it.screen
    done = ollamapy("chats", "rm", "-y", ids[1], "--json", host=keeper.url)
    assert json.loads(done.stdout) == {"deleted": [ids[1]], "failed": []}
    assert {chat["id"] for chat in listed(keeper)} == set(ids[2:])
    some = ollamapy("chats", "rm", "-y", "zzz", "no", host=keeper.url)
    assert some.returncode == 1 and some.stderr.count("there is no chat") == 2
    every = ollamapy("chats", "rm", "--all", "--yes", host=keeper.url)
    assert every.stdout == "deleted 2 chats\n" and listed(keeper) == []


def test_of_several_the_others_are_deleted(keeper: Daemon, ollamapy: Command) -> None:
    ids = [make(keeper, f"number {n}") for n in range(3)]
    done = ollamapy("chats", "rm", "-y", ids[0], "zzz", ids[2], host=keeper.url)
    assert done.returncode == 1 and "Error: there is no chat 'zzz'" in done.stderr
    assert done.stdout == f"deleted {short(ids[0])}\ndeleted {short(ids[2])}\n"
    done = ollamapy("chats", "rm", "-y", "zzz", ids[1], "--json", host=keeper.url)
    answer = json.loads(done.stdout)
    assert answer["deleted"] == [ids[1]] and [each["id"] for each in answer["failed"]] == ["zzz"]
    assert done.returncode == 1 and listed(keeper) == []


@pytest.mark.parametrize("columns", [40, 60, 100])
def test_a_list_fits_the_terminal(keeper: Daemon, start: Start, columns: int) -> None:
    make(keeper, "x", title="A title that is so long that it has to be cut " * 2)
    make(keeper, "y", title="日本語の題名はとても長いので切らなければならない" * 2)
    make(keeper, "z", title=EVIL)
    command = (sys.executable, "-m", "ollamapy", "chats", "ls")
    it = start(*command, columns=columns, OLLAMAPY_HOST=keeper.url)
    assert it.status() == 0
    if columns >= 60:
        assert len(it.lines) == 4, it.screen
        assert "…" in it.lines[2] and "…" in it.lines[3]
    assert b"\x1b]0" not in it.written and "\u202e" not in it.written.decode()


@pytest.mark.parametrize("command", [["rm"], ["chats", "rm", "-y"]])
def test_the_errors_of_several_fit_the_terminal(
    keeper: Daemon, start: Start, command: list[str]
) -> None:
    names = [f"a-name-that-is-rather-long-and-nowhere-to-be-found-{n}" for n in ("one", "two")]
    words = (sys.executable, "-m", "ollamapy", *command, *names)
    it = start(*words, columns=60, OLLAMAPY_HOST=keeper.url)
    assert it.status() == 1
    text = re.sub(r"\x1b\[[0-9;]*m", "", it.written.decode())
    assert max(map(len, text.splitlines())) <= 60, text
    assert all(name in re.sub(r"\s", "", text) for name in names)


def test_ids_and_folders_are_completed(keeper: Daemon, ollamapy: Command) -> None:
    id = make(keeper, "x", title="Mine", folder="work")
    for words in (["chats", "show"], ["chats", "rm", "zzz"], ["run", "--chat"]):
        found = ollamapy("__complete", *words, "", host=keeper.url)
        assert found.stdout == f"{short(id)}\tMine\n"
    assert ollamapy("__complete", "chats", "ls", "--folder", "", host=keeper.url).stdout == "work\n"
    assert "search" in ollamapy("__complete", "chats", "", host=keeper.url).stdout


def test_an_ollama_keeps_none(standin: Any, ollamapy: Command) -> None:
    server: Standin = standin("--kind", "ollama")
    for arguments in (["chats", "ls"], ["run", "--chat", "-"], ["run", "hello", "--continue"]):
        failed = ollamapy(*arguments, host=server.host)
        assert failed.returncode == 1
        assert failed.stderr.startswith("Error: the server keeps no chats, see: ")
