"""The chat as people use it: in a pseudo-terminal, with the real daemon, read from the screen."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import psutil
import pyte
import pytest

from ollamapy.cli.line import HISTORY_LIMIT, HISTORY_SIZE, edited, read_history, write_history
from tests.conftest import HELLO
from tests.served import Daemon, serve, until
from tests.small_models import install, scripted_model

from .conftest import Place, Standin

llama = pytest.mark.llama
PATIENCE = 30.0
HINT = "Use Ctrl + d or /bye to exit."
ROWS = 100


class Chat:
    """A command in a pseudo-terminal, and what is on its screen."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], columns: int
    ) -> None:
        import fcntl
        import struct
        import termios

        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            # The width must be there before the command looks
            fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
            # At Ctrl-C a terminal drops what it was given and has not shown, half an escape sequence too: ours must not
            modes = termios.tcgetattr(0)
            modes[3] |= termios.NOFLSH
            termios.tcsetattr(0, termios.TCSANOW, modes)
            os.execve(command[0], [*command], {**environment})
        self._screen = pyte.Screen(columns, ROWS)
        self._stream = pyte.ByteStream(self._screen)
        self.written = b""

    @property
    def lines(self) -> list[str]:
        """The screen's lines, without those below the last one that is not empty."""
        return "\n".join(line.rstrip() for line in self._screen.display).rstrip().split("\n")

    @property
    def screen(self) -> str:
        return "\n".join(self.lines)

    @property
    def words(self) -> str:
        """The screen's text, however it is broken into lines."""
        return " ".join(self.screen.split())

    def send(self, keys: str) -> None:
        os.write(self.fd, keys.encode())

    def enter(self, line: str) -> None:
        self.send(line + "\r")

    def until(self, condition: Callable[[], bool] | str) -> Chat:
        """Read until a condition holds, or a text is on the screen."""

        def holds() -> bool:
            return condition in self.screen if isinstance(condition, str) else condition()

        deadline = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < deadline, f"{condition} was not in:\n{self.screen}"
            assert self._read() or holds(), f"it ended without {condition}:\n{self.screen}"
        return self

    def prompted(self, times: int) -> Chat:
        """Read until the prompt is there for the n-th time, and the last line."""
        return self.until(
            lambda: (
                self.screen.count("\n>>>") + self.screen.startswith(">>>") == times
                and self.lines[-1].startswith(">>>")
            )
        )

    def leave(self) -> int:
        """Ctrl-D; the exit status."""
        self.send("\x04")
        return self.status()

    def status(self) -> int:
        """Read to the end; the exit status."""
        while self._read():
            pass
        pid, self.pid = self.pid, 0
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def _read(self) -> bool:
        """Take in what is written next; False at the end."""
        if not select.select([self.fd], [], [], PATIENCE)[0]:
            return False
        try:
            data = os.read(self.fd, 65536)
        except OSError:  # Linux's way to say that the other side is closed
            return False
        self.written += data
        self._stream.feed(data)
        return bool(data)

    def close(self) -> None:
        os.close(self.fd)
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


Start = Callable[..., Chat]


@pytest.fixture
def start(variables: dict[str, str]) -> Iterator[Start]:
    """Starts chats; they end with the test."""
    opened: list[Chat] = []

    def begin(*command: str, columns: int = 80, **extra: str) -> Chat:
        variables["VISUAL"] = variables["EDITOR"] = ""
        opened.append(Chat(command, {**variables, **extra}, columns))
        return opened[-1]

    yield begin
    for chat in opened:
        chat.close()


@pytest.fixture
def chat(start: Start, daemon: Daemon) -> Start:
    """Starts chats with a model of the shared daemon."""

    def begin(model: str, *flags: str, columns: int = 80, **extra: str) -> Chat:
        command = (sys.executable, "-m", "ollamapy", "run", model, *flags)
        return start(*command, columns=columns, OLLAMAPY_HOST=f"127.0.0.1:{daemon.port}", **extra)

    return begin


# ---- talking -----------------------------------------------------------------------------------


@llama
def test_it_answers_and_leaves(chat: Start) -> None:
    it = chat("hello").until("Send a message (/? for help)")
    it.enter("Hi")
    it.prompted(2)
    assert it.lines[:3] == [">>> Hi", HELLO, ""], "the placeholder does not stay"
    assert it.leave() == 0
    assert it.lines[-1] == ">>>"


@llama
@pytest.mark.parametrize("line", ["/bye", "/exit"])
def test_commands_that_leave(chat: Start, line: str) -> None:
    it = chat("hello").prompted(1)
    it.enter(line)
    assert it.status() == 0


@llama
def test_the_conversation_grows_and_is_cleared(chat: Start) -> None:
    it = chat("hello", "--verbose")
    counts = []
    for number, line in enumerate(["Hi", "Hi", "/clear", "Hi"], 1):
        it.prompted(number).enter(line)
    it.prompted(5)
    for line in it.lines:
        if line.startswith("prompt eval count:"):
            counts.append(int(line.split()[3]))
    assert counts[1] > counts[0] == counts[2]
    assert "Cleared session context" in it.screen


@llama
def test_what_is_typed_meanwhile_is_the_next_line(chat: Start) -> None:
    it = chat("long").prompted(1)
    it.enter("/set parameter num_predict 200")
    it.prompted(2).enter("go")
    it.until(lambda: len(it.lines) > 5)
    it.enter("/list hello")
    it.until(">>> /list hello").until("hello:latest").prompted(4)
    assert it.screen.count("/list") == 1, "it is not shown amid the answer"


@llama
def test_an_empty_line_asks_a_chat_model_nothing(chat: Start) -> None:
    it = chat("hello").prompted(1)
    it.enter("")
    it.prompted(2).enter("  ")
    it.prompted(3)
    assert HELLO not in it.screen


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
def test_ctrl_c_pressed_many_times_stops_the_answer_and_not_the_chat(chat: Start) -> None:
    it = chat("long").prompted(1)
    for _ in range(5):
        it.enter("go on")
        it.until(lambda: it.lines[-1] != "" and not it.lines[-1].startswith(">>>"))
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


# ---- commands ----------------------------------------------------------------------------------


@llama
def test_settings(chat: Start) -> None:
    it = chat("rules").until("\n\n>>>")
    assert it.screen.startswith(">>> a\nb\n\n>>>"), "the model's messages are shown first"
    for number, (line, said) in enumerate(
        {
            "/set parameter seed 7": "Set parameter 'seed' to '7'",
            "/set parameter stop x y": "Set parameter 'stop' to 'x, y'",
            "/set parameter seed x": 'Couldn\'t set parameter: "invalid int value [x]"',
            "/show parameters": 'User defined parameters:\n  seed                           7\n  stop                           "x" "y"',
            "/show system": "Be kind.",
            "/set system Be rude.": "Set system message.",
            "/show system ": "Be rude.",
            "/show license": "No license was specified for this model.",
            "/show template": "{% for m in messages %}",
            "/show modelfile": "PARAMETER stop scripted",
            "/set nowordwrap": "Set 'nowordwrap' mode.",
            "/set verbose": "Set 'verbose' mode.",
            "/set nope": "Unknown command '/set nope'. Type /? for help",
            "/list rul": "rules:latest",
        }.items(),
        3,
    ):
        it.enter(line)
        it.until(said).prompted(number)
    it.enter("Hi")
    it.until("eval rate:")
    assert HELLO in it.screen, "the user's stop replaces the model's"


@llama
def test_form_and_thinking_are_set(chat: Start, tmp_path: Path) -> None:
    schema = tmp_path / "my schema.json"
    schema.write_text('{"enum": ["oneword"]}')
    it = chat("hello").prompted(1)
    for number, (line, said) in enumerate(
        {
            "/set format nosuch.json": "Error: the format must be json, a JSON Schema or a file with one",
            f"/set format {schema}": "Set format to 'schema' mode.",
            "Hi": '"oneword"',
            "/set noformat": "Disabled format.",
            "Hi again": HELLO,
            "/set think high": 'warning: model "hello" does not support thinking output',
            "Think!": 'Error: "hello" does not support thinking',
            "/set nothink": "Set 'nothink' mode.",
            "/clear": "Cleared",
            "And now?": HELLO,
        }.items(),
        2,
    ):
        it.enter(line)
        it.until(said).prompted(number)
    assert it.screen.count(HELLO) == 2


@llama
def test_thinking_is_shown_or_hidden(start: Start, tmp_path: Path) -> None:
    template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        "{% if enable_thinking %}{{ '<think>' }}{% else %}{{ '<think></think>' }}{% endif %}"
    )
    script = ["well", ", hm", "</think>", "Yes."]
    install(
        tmp_path,
        "thinker",
        scripted_model(tmp_path / "thinker.gguf", script, chat_template=template),
    )
    with serve(tmp_path, tmp_path) as daemon:
        command = (sys.executable, "-m", "ollamapy", "run", "thinker")
        host = f"127.0.0.1:{daemon.port}"
        it = start(*command, OLLAMAPY_HOST=host).prompted(1)
        it.enter("Is it?")
        it.prompted(2)
        assert it.lines[1:6] == ["Thinking...", "well, hm", "...done thinking.", "", "Yes."]
        it.enter("/set nothink")
        it.prompted(3).enter("And now?")
        it.prompted(4)
        assert it.screen.count("Thinking...") == 1
        hidden = start(*command, "--hidethinking", "--think=high", OLLAMAPY_HOST=host).prompted(1)
        hidden.enter("Is it?")
        hidden.prompted(2)
        assert hidden.lines[1] == "Yes."


def test_pictures_are_sent_to_a_model_that_sees(
    start: Start, standin: Callable[..., Standin], tmp_path: Path
) -> None:
    picture = tmp_path / "cat.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(8))
    (tmp_path / "text.png").write_text("no picture")
    server = standin()
    command = (sys.executable, "-m", "ollamapy", "run", "sees")
    it = start(*command, columns=200, OLLAMAPY_HOST=server.host).prompted(1)
    it.enter(f"{tmp_path}/text.png, what is it?")
    it.until("Error: invalid file type: ").prompted(2)
    it.enter(f"{picture} what is it?")  # a line that begins with "/" and is no command
    it.until(f"Added image '{picture}'").prompted(3)
    it.enter("/nosuch.png what is it?")
    it.until("Unknown command '/nosuch.png'").prompted(4)
    [message] = server.body("/api/chat")["messages"]
    assert message["content"] == "what is it?" and len(message["images"]) == 1
    assert it.leave() == 0


@llama
def test_show_info_has_the_session(chat: Start) -> None:
    it = chat("hello").until("hello 0/2048")
    it.enter("/show info")
    it.until("Session").until("context         2048").until("context used    0").prompted(2)
    it.enter("Hi")
    it.prompted(3)
    used = it.lines[-1].split()[-1].split("/")
    assert 0 < int(used[0]) < 2048 == int(used[1])


@llama
def test_help(chat: Start) -> None:
    it = chat("hello").prompted(1)
    it.enter("/?")
    it.until('Use """ to begin a multi-line message.').prompted(2)
    for line, text in (
        ("/? shortcuts", "Ctrl-R"),
        ("/set parameter", "num_ctx"),
        ("/show", "modelfile"),
    ):
        it.enter(line)
        it.until(text)


@llama
def test_another_model(chat: Start) -> None:
    it = chat("hello").prompted(1)
    it.enter("/load nosuch")
    it.until("Couldn't find model 'nosuch'").until("Installed: ").until("rules:latest").prompted(2)
    it.enter("/load")
    it.until("Usage:\n  /load <modelname>\nInstalled: ").prompted(3)
    it.enter("Hi")
    it.until(HELLO).prompted(4)
    it.enter("/load rules")
    it.until("Loading model 'rules'").until("\n>>> a\nb\n\n").prompted(6)
    it.enter("Hi")
    it.until("Hello! I am a\n")


@llama
def test_a_session_is_saved_as_a_model(chat: Start, daemon: Daemon) -> None:
    it = chat("hello").prompted(1)
    it.enter("/save a:b:c")
    it.until("error: The model name 'a:b:c' is invalid").prompted(2)
    it.enter("/set parameter seed 7")
    it.until("Set parameter").prompted(3)
    it.enter("Hi")
    it.until(HELLO).prompted(4)
    it.enter("/save kept")
    it.until("Created new model 'kept'").prompted(5)
    it.enter("/load kept")
    it.until("Loading model 'kept'").until(f"\n>>> Hi\n{HELLO}\n\n").prompted(7)
    it.enter("/show parameters")
    it.until("seed                           7")
    assert daemon.ask("DELETE", "/api/delete", {"model": "kept"}).status == 200


# ---- base models -------------------------------------------------------------------------------


@llama
def test_a_base_model_continues(chat: Start) -> None:
    it = chat("plain").until("Enter for a story")
    assert it.words.count("plain has no chat template: it continues text.") == 1
    it.enter("/set parameter num_predict 8")
    it.prompted(2).enter("")
    it.until("Enter goes on").prompted(3)
    told = it.lines[it.lines.index(">>>") + 1]
    assert told and "<|im_start|>" not in it.screen
    it.enter("")
    it.prompted(4).enter("ba ke")
    it.prompted(5)
    assert it.words.count("continues text") == 1


@llama
def test_a_story_from_nothing(start: Start, place: Place) -> None:
    """With the built-in model, and a daemon that the chat starts, and starts again when it is gone."""
    place.daemon = (sys.executable, "-m", "ollamapy", "serve")
    it = start(*place.command("run", "tinystories"))
    try:
        it.until("Enter for a story").enter("")
        it.prompted(2)
        assert len(it.words.split()) > 50, it.screen
        [pid] = _daemons(place)
        _kill(pid)
        it.enter("Once upon a time")
        it.prompted(3)
        assert it.lines.index(">>> Once upon a time") < len(it.lines) - 3, it.screen
        assert "Error" not in it.screen and _daemons(place) != [pid]
        assert it.leave() == 0
    finally:
        for pid in _daemons(place):
            _kill(pid)


def _daemons(place: Place) -> list[int]:
    status = json.loads(place.run("daemon", "status", "--json").stdout)
    return [status["pid"]] if status["running"] else []


def _kill(pid: int) -> None:
    """And wait until it is gone, or waits to be buried by the chat that started it."""
    process = psutil.Process(pid)
    process.kill()
    until(
        lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE,
        "the daemon ends",
    )


# ---- what goes wrong ---------------------------------------------------------------------------


@llama
def test_an_unknown_model_is_an_error(chat: Start) -> None:
    it = chat("nosuch")
    assert it.status() == 1
    assert "Error: model 'nosuch:latest' not found, and could not be pulled: " in it.words
    assert "installed: " in it.words


@llama
def test_a_dead_runner_breaks_one_answer_off(
    start: Start, model_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with serve(tmp_path_factory.mktemp("home"), model_store) as daemon:
        command = (sys.executable, "-m", "ollamapy", "run", "long")
        it = start(*command, OLLAMAPY_HOST=f"127.0.0.1:{daemon.port}").prompted(1)
        it.enter("one")
        it.until(lambda: len(it.lines) > 5)
        daemon.runners()[0].kill()
        it.until("[broken off]").until("Error: ").until(lambda: it.lines[-1].startswith(">>>"))
        it.until("long ?/")
        it.enter("/load hello")
        it.until("hello 0/2048").enter("Hi")
        it.until(HELLO)
        daemon.end(signal.SIGKILL)
        it.enter("Hi again")
        it.until("Error: no server at").until(lambda: it.lines[-1].startswith(">>>"))
        it.enter("/bye")
        assert it.status() == 0


# ---- terminals ---------------------------------------------------------------------------------


@llama
def test_forty_columns(chat: Start) -> None:
    it = chat("plain", columns=40).until("Enter for a story")
    for number, line in enumerate(
        ["/?", "/show parameters", "a 日本語 line that is longer than the window"], 2
    ):
        it.enter(line)
        it.prompted(number) if number < 4 else it.send("\x03")
    it.until(lambda: it.lines[-1].startswith(">>> "))
    answer = chat("hello", columns=32).prompted(1)
    answer.enter("Hi")
    answer.prompted(2)
    assert answer.lines[1:4] == ["Hello! I am a scripted", "model.", ""]


@llama
def test_wide_characters_are_wrapped_where_they_end(start: Start, tmp_path: Path) -> None:
    script = [
        "日本語",
        "の文章は",
        "空白なしで",
        "どこでも",
        "折り返される。",
        " Words",
        " do",
        " not: ☃",
        " 🎈🎈",
    ]
    install(tmp_path, "wide", scripted_model(tmp_path / "wide.gguf", script))
    with serve(tmp_path, tmp_path) as daemon:
        command = (sys.executable, "-m", "ollamapy", "run", "wide")
        it = start(*command, columns=40, OLLAMAPY_HOST=f"127.0.0.1:{daemon.port}").prompted(1)
        it.enter("Hi")
        it.prompted(2)
        # 35 of 40 columns: 17 wide characters
        assert it.lines[1:4] == [
            "日本語の文章は空白なしでどこでも折",
            "り返される。 Words do not: ☃ 🎈🎈",
            "",
        ]


@llama
def test_stdout_that_is_no_terminal_is_no_chat(start: Start, daemon: Daemon) -> None:
    command = f"'{sys.executable}' -m ollamapy run hello | wc -c; echo status ${{PIPESTATUS[0]}}"
    it = start("/bin/bash", "-c", command, OLLAMAPY_HOST=f"127.0.0.1:{daemon.port}")
    it.until("status 0")
    assert it.lines == ["0", "status 0"]


@llama
def test_a_dumb_terminal(chat: Start) -> None:
    it = chat("hello", TERM="dumb").until(">>>")
    it.enter('"""one')
    it.until("...").enter('two"""')
    it.until(HELLO).until(lambda: it.lines[-1] == ">>>").send("\x03")
    it.until(HINT).enter("/bye")
    assert it.status() == 0
    assert b"\x1b" not in it.written


@llama
@pytest.mark.parametrize("terminal", ["dumb", "xterm"])
def test_bytes_that_are_no_text_do_not_end_the_chat(chat: Start, terminal: str) -> None:
    it = chat("hello", TERM=terminal, PYTHONIOENCODING="utf-8:strict").until(">>>")
    os.write(it.fd, b"caf\xe9 is Latin-1\r")
    it.until(HELLO).until(lambda: it.lines[-1].startswith(">>>"))
    it.enter("/bye")
    assert it.status() == 0


@llama
def test_no_colour(chat: Start) -> None:
    it = chat("plain", NO_COLOR="1").until("Enter for a story")
    it.enter("/bye")
    it.status()
    assert b"\x1b[2m" not in it.written and b"\x1b[0;90m" not in it.written
