"""The line that is typed into the chat: its keys, the editor, the history."""

from __future__ import annotations

import stat
import sys
import time
from pathlib import Path

import pytest

from ollamapy.cli.line import HISTORY_LIMIT, HISTORY_SIZE, edited, read_history, write_history
from tests.conftest import HELLO
from tests.served import Daemon

from .chats import Chat, Start, llama

HINT = "Use Ctrl + d or /bye to exit."


# ---- keys --------------------------------------------------------------------------------------


@llama
def test_ctrl_c_stops_the_answer_and_keeps_its_part(chat: Start) -> None:
    it = chat("long", "--verbose").prompted(1)
    it.enter("/set parameter num_predict 4")
    it.prompted(2).enter("one")
    it.prompted(3)
    alone = _prompt_counts(it)[-1]
    it.enter("/clear")
    it.prompted(4).enter("/set parameter num_predict 2000")
    it.prompted(5).enter("one")
    it.until(lambda: len(it.lines) > 30).send("\x03")
    it.until("[stopped]").prompted(6)
    it.enter("/set parameter num_predict 4")
    it.prompted(7).enter("two")
    it.prompted(8)
    assert _prompt_counts(it)[-1] > alone + 100, "the part is in the conversation"
    assert it.leave() == 0


def _prompt_counts(it: Chat) -> list[int]:
    return [int(line.split()[3]) for line in it.lines if line.startswith("prompt eval count:")]


@llama
@pytest.mark.long
def test_ctrl_c_pressed_many_times_stops_the_answer_and_not_the_chat(chat: Start) -> None:
    it = chat("long").prompted(1)
    for _ in range(5):
        it.enter("go on")
        it.until(lambda: it.lines[-1] not in ("", HINT) and not it.lines[-1].startswith(">>>"))
        for _ in range(50):
            it.send("\x03")
            time.sleep(0.002)  # as from a key that is held down
        it.until(lambda: it.lines[-1].startswith(">>> Send a message"))
    it.enter("/bye")
    assert it.status() == 0


@llama
def test_ctrl_c_at_the_prompt(chat: Start) -> None:
    it = chat("hello").prompted(1)
    it.send("some words")
    it.until("some words").send("\x03")
    it.until("Send a message")
    assert "some words" not in it.screen and HINT not in it.screen, "it clears the line"
    it.send("\x03")
    it.until(HINT).prompted(2)
    assert it.leave() == 0


@llama
@pytest.mark.parametrize("key", ["\x1b\r", "\n"])
def test_keys_for_a_new_line(chat: Start, key: str) -> None:
    it = chat("hello").prompted(1)
    it.send(f"one{key}two")
    it.until(">>> one\n... two")
    it.enter("")
    it.until(HELLO)


@llama
def test_triple_quotes_take_several_lines(chat: Start) -> None:
    it = chat("hello").prompted(1)
    for line, shown in (('"""one', "... "), ("/bye", "... /bye"), ('three"""', HELLO)):
        it.enter(line)
        it.until(shown.rstrip())
    assert it.screen.startswith('>>> """one\n... /bye\n... three"""\n' + HELLO)


@llama
def test_a_pasted_block_waits_for_enter(chat: Start) -> None:
    it = chat("hello").prompted(1)
    assert b"\x1b[?2004h" in it.written
    it.send("\x1b[200~one\n\ttwo\n\x1b[201~")
    it.until(">>> one\n...         two")
    assert HELLO not in it.screen
    it.enter("three")
    it.until("... three\n" + HELLO)
    it.leave()
    assert it.written.rstrip().endswith(b"\x1b[?2004l") or b"\x1b[?2004l" in it.written[-200:]


@llama
def test_completion(chat: Start) -> None:
    it = chat("hello").prompted(1)
    it.send("/sh\t")
    it.until(">>> /show").send("tem\t")
    it.until(">>> /show template").send("\x03/set parameter temp\t")
    it.until(">>> /set parameter temperature").send("\x03/load ru\t")
    it.until(">>> /load rules:latest").send("\x03/l\t")
    it.until(lambda: "/list" in it.screen and "/load" in it.screen).send("\x03")
    it.send("a\tb")
    it.until("a        b")


@llama
@pytest.mark.long
def test_ctrl_l_clears_the_screen(chat: Start) -> None:
    it = chat("hello").prompted(1)
    it.enter("/nope")
    it.until("Unknown command '/nope'. Type /? for help").prompted(2)
    it.send("\x0c")
    it.until(lambda: it.screen.startswith(">>>"))


@llama
def test_ctrl_z_suspends(start: Start, daemon: Daemon) -> None:
    it = start("/bin/bash", "--norc", "-i", PS1="$ ", OLLAMAPY_HOST=f"127.0.0.1:{daemon.port}")
    it.until("$").enter(f"'{sys.executable}' -m ollamapy run hello")
    it.until("Send a message").send("\x1a")
    it.until("Stopped").enter("fg")
    it.until(lambda: it.screen.count("Send a message") >= 1 and it.lines[-1].startswith(">>>"))
    it.enter("Hi")
    it.until(HELLO)
    it.until(lambda: it.lines[-1].startswith(">>>")).send("\x04")
    it.until(lambda: it.lines[-1] == "$").enter("exit")
    it.status()


# ---- the editor --------------------------------------------------------------------------------


@llama
def test_the_editor(chat: Start, tmp_path: Path) -> None:
    editor = tmp_path / "my editor"
    editor.write_text('#!/bin/sh\nprintf "%s\\nand more\\n" "$(cat "$2")" > "$2"\n')
    editor.chmod(0o755)
    it = chat("hello", OLLAMA_EDITOR=f"'{editor}' --wait", EDITOR="false").prompted(1)
    it.send("begun\x07")
    it.until(">>> begun\n... and more")
    assert HELLO not in it.screen, "the text is not sent yet"
    it.enter("")
    it.until(HELLO)


@llama
def test_an_editor_that_is_missing(chat: Start) -> None:
    it = chat("hello", EDITOR="no-such-editor", columns=120).prompted(1)
    it.send("begun\x07")
    complaint = (
        'editor "no-such-editor" not found, set OLLAMA_EDITOR to the path of your preferred editor'
    )
    it.until(f"error: {complaint}").until(lambda: it.lines[-1] == ">>> begun")


def test_an_editor_that_fails_leaves_the_text() -> None:
    text, complaint = edited("text", "false")
    assert text == "text" and "status 1" in complaint
    assert edited("text\n", "true") == ("text", "")


# ---- history -----------------------------------------------------------------------------------


@llama
def test_history_across_sessions(chat: Start, home: Path) -> None:
    first = chat("hello").prompted(1)
    first.enter("the first words")
    first.prompted(2).enter('"""two\nlines"""')
    first.prompted(3)
    assert first.leave() == 0
    path = home / "history"
    assert read_history(path) == ["the first words", '"""two\nlines"""']
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in home.iterdir() if file.name.startswith(".history")] == []

    second = chat("hello").prompted(1)
    second.send("\x1b[A")
    second.until('>>> """two\n... lines"""').send("\x1b[A\x1b[A")
    second.until(">>> the first words").send("\x03")
    second.until(lambda: "first" not in second.lines[-1]).send("\x12rst wo")
    second.until(lambda: "rst wo" in second.lines[-1] and "first" not in second.lines[-1])
    second.until(">>> the first words")
    second.enter("")
    second.enter("")
    second.until(HELLO)


@llama
def test_without_history(chat: Start, home: Path) -> None:
    it = chat("hello", OLLAMA_NOHISTORY="1").prompted(1)
    it.enter("secret")
    it.prompted(2).enter("/set history")
    it.prompted(3).enter("kept")
    it.prompted(4).enter("/set nohistory")
    it.prompted(5).enter("secret, too")
    it.prompted(6).send("\x1b[A")
    it.until(lambda: it.lines[-1] == ">>> /set nohistory")
    assert read_history(home / "history") == ["kept", "/set nohistory"]


@llama
def test_a_history_that_cannot_be_written_is_no_reason_to_stop(chat: Start, home: Path) -> None:
    (home / "history").mkdir(parents=True)
    it = chat("hello").prompted(1)
    it.enter("Hi")
    it.until(HELLO).prompted(2).send("\x1b[A")
    it.until(lambda: it.lines[-1] == ">>> Hi")


def test_a_history_file(tmp_path: Path) -> None:
    path = tmp_path / "state" / "history"
    assert read_history(path) == []
    write_history(path, [f"line {n}" for n in range(HISTORY_LIMIT + 5)])
    assert len(read_history(path)) == HISTORY_LIMIT
    assert read_history(path)[-1] == f"line {HISTORY_LIMIT + 4}"
    write_history(path, ["early", "b" * (HISTORY_SIZE // 2), "c" * HISTORY_SIZE, "late"])
    assert [len(line) for line in read_history(path)] == [5, HISTORY_SIZE // 2, 4], "no pasted book"
    path.write_bytes(b'"a\\nb"\nno json\n[1]\n\xff\n"\xc3\xa9"\n')
    assert read_history(path) == ["a\nb", "é"]
