"""`run` as people use it: in pipes, in a terminal, interrupted, with strange encodings."""

from __future__ import annotations

import base64
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import HELLO as SCRIPTED
from tests.documents import docx, paragraph
from tests.served import Daemon

from .conftest import Command, Standin

HELLO = "Hello! I am a scripted model, here to help you test.\n\n"
RUN = [sys.executable, "-m", "ollamapy", "run"]


@pytest.fixture
def server(standin: Callable[..., Standin]) -> Standin:
    return standin()


@pytest.mark.parametrize(
    ("arguments", "stdin", "expected"),
    [
        (["Why", "is it"], None, {"prompt": "Why is it"}),
        (["explain"], "some file\n", {"prompt": "some file\n explain"}),
        ([], "from a pipe\n", {"prompt": "from a pipe\n"}),
        (["--", "--verbose"], None, {"prompt": "--verbose"}),
        (["Hi", "--keepalive", "1m"], None, {"prompt": "Hi", "keep_alive": "1m"}),
        (["Hi", "--keepalive", "-1s"], None, {"prompt": "Hi", "keep_alive": "-1s"}),
        (["\udcff"], None, {"prompt": "�"}),
        ([""], None, {"prompt": ""}),
        ([], None, {"prompt": ""}),
    ],
)
def test_what_is_asked(
    arguments: list[str],
    stdin: str | None,
    expected: dict[str, str],
    server: Standin,
    ollamapy: Command,
) -> None:
    result = ollamapy("run", "hello", *arguments, host=server.host, stdin=stdin)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == (HELLO if expected["prompt"] else ""), "an empty prompt only loads"
    assert server.body("/api/generate") == {"model": "hello", **expected}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--think", "high"], {"prompt": "high", "think": True}),  # a word is a prompt
        (["Hi", "--think=high"], {"prompt": "Hi", "think": "high"}),
        (["Hi", "--think=false", "--hidethinking"], {"prompt": "Hi", "think": False}),
        (["Hi", "--format", "json"], {"prompt": "Hi", "format": "json"}),
        (["Hi", "--format", '{"type":"array"}'], {"prompt": "Hi", "format": {"type": "array"}}),
        (["Hi", "--format", "a schema.json"], {"prompt": "Hi", "format": {"type": "object"}}),
    ],
)
def test_forms_and_thinking(
    arguments: list[str],
    expected: dict[str, Any],
    server: Standin,
    ollamapy: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "a schema.json").write_text('{"type": "object"}')
    monkeypatch.chdir(tmp_path)
    result = ollamapy("run", "hello", *arguments, host=server.host)
    assert (result.returncode, result.stderr) == (0, "")
    assert server.body("/api/generate") == {"model": "hello", **expected}


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--system", "Be brief."], {"system": "Be brief."}),
        (["-o", "top_k=7", "-o", "temperature=0"], {"options": {"top_k": 7, "temperature": 0.0}}),
        (["-o", "stop=a b", "-o", "stop=c"], {"options": {"stop": ["a b", "c"]}}),
        (["--seed", "5", "--num-predict", "6"], {"options": {"seed": 5, "num_predict": 6}}),
        (["-o", "seed=1", "--seed", "2"], {"options": {"seed": 2}}),
    ],
)
def test_options(
    flags: list[str], expected: dict[str, Any], server: Standin, ollamapy: Command
) -> None:
    result = ollamapy("run", "hello", "Hi", *flags, host=server.host)
    assert (result.returncode, result.stderr) == (0, "")
    assert server.body("/api/generate") == {"model": "hello", "prompt": "Hi", **expected}


@pytest.mark.parametrize(
    ("pair", "complaint"),
    [
        ("top_k", "-o takes KEY=VALUE, not 'top_k': write -o temperature=0"),
        ("top_q=1", "-o: unknown parameter 'top_q', did you mean 'top_p'?"),
        ("top_k=much", "-o: invalid int value [much]"),
    ],
)
def test_what_is_no_option(pair: str, complaint: str, ollamapy: Command) -> None:
    result = ollamapy("run", "hello", "Hi", "-o", pair)
    assert (result.returncode, result.stderr) == (1, f"Error: {complaint}\n")


def test_an_answer_that_only_repeats_itself_is_ended(server: Standin, ollamapy: Command) -> None:
    result = ollamapy("run", "endless", "Hi", host=server.host)
    assert result.returncode == 0 and 5000 <= len(result.stdout) < 50_000
    assert result.stderr == (
        "Note: the answer only repeated itself and was ended; --num-predict -1 lifts this bound\n"
    )
    while server.next() != "gone":
        pass


@pytest.mark.parametrize(
    ("flag", "complaint"),
    [
        ("--think=yes", 'invalid value for --think: "yes" (must be true, false, high, medium'),
        (
            "--format=nosuch.json",
            "the format must be json, a JSON Schema or a file with one, not 'nosuch.json'",
        ),
        ("--format={", "the format is not valid JSON: "),
    ],
)
def test_what_is_no_form_and_no_thinking(flag: str, complaint: str, ollamapy: Command) -> None:
    result = ollamapy("run", "hello", "Hi", flag, host="127.0.0.1:1")
    assert result.returncode == 1 and result.stderr.startswith(f"Error: {complaint}")


PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)


@pytest.mark.parametrize(("model", "attached"), [("sees", True), ("hello", False)])
def test_a_picture_is_attached_for_a_model_that_sees(
    model: str, attached: bool, server: Standin, ollamapy: Command, tmp_path: Path
) -> None:
    picture = tmp_path / "my cat.PNG"
    picture.write_bytes(PNG)
    result = ollamapy("run", model, f"What is {picture} doing?", host=server.host)
    if attached:
        assert result.stdout == HELLO
        body = server.body("/api/generate")
        assert body["prompt"] == "What is  doing?"
        assert base64.b64decode(body["images"][0]) == PNG
        assert result.stderr == f"Added image '{picture}'\n"
    else:
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr.startswith(f"Error: model '{model}' cannot see images or hear audio")
        assert f"names '{picture}'" in result.stderr


def test_a_document_is_attached_for_every_model(
    server: Standin, ollamapy: Command, tmp_path: Path
) -> None:
    letter = tmp_path / "my letter.docx"
    letter.write_bytes(docx(paragraph("Hi")))
    result = ollamapy("run", "hello", f"Sum up '{letter}' please", host=server.host)
    assert (result.stdout, result.stderr) == (HELLO, f"Added document '{letter}'\n")
    body = server.body("/api/generate")
    assert body["prompt"] == "Sum up  please" and "images" not in body
    data = base64.b64encode(letter.read_bytes()).decode()
    assert body["files"] == [{"name": "my letter.docx", "data": data}]


def test_a_document_is_not_sent_to_a_server_that_would_ignore_it(
    standin: Callable[..., Standin], ollamapy: Command, tmp_path: Path
) -> None:
    (tmp_path / "a.pdf").write_bytes(b"%PDF-")
    server = standin("--kind", "ollama")
    result = ollamapy("run", "hello", f"Sum up {tmp_path}/a.pdf", host=server.host)
    assert result.returncode == 1 and "reads no documents: leave 'a.pdf' out" in result.stderr


@pytest.mark.llama
def test_the_daemon_reads_a_document_and_says_what_it_cannot_read(
    daemon: Daemon, ollamapy: Command, tmp_path: Path
) -> None:
    (tmp_path / "a.docx").write_bytes(docx(paragraph("A secret. " * 1000)))
    result = ollamapy("run", "hello", f"Sum up {tmp_path}/a.docx", host=daemon.url)
    assert result.stdout == f"{SCRIPTED}\n\n", result.stderr
    assert "Note: a.docx: cut: the first " in result.stderr
    (tmp_path / "a.docx").write_bytes(b"PK\x03\x04")
    result = ollamapy("run", "hello", f"Sum up {tmp_path}/a.docx", host=daemon.url)
    assert result.returncode == 1
    assert 'Error: the document "a.docx" is a damaged zip archive' in result.stderr


def test_no_other_request_is_made_for_a_pipe(server: Standin, ollamapy: Command) -> None:
    ollamapy("run", "hello", "Hi", host=server.host)
    assert server.next()[1] == "/api/generate"


def test_a_reader_that_leaves_ends_it_quietly(server: Standin, variables: dict[str, str]) -> None:
    command = f"'{sys.executable}' -m ollamapy run endless go | head -1; echo ${{PIPESTATUS[0]}}"
    environment = {**variables, "OLLAMAPY_HOST": server.host}
    result = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, env=environment, timeout=60
    )
    assert (result.stdout, result.stderr) == ("on and on\n0\n", "")
    assert server.body("/api/generate")["model"] == "endless"
    assert server.next() == "gone", "the server sees the client leave"


def test_an_interrupt_leaves_with_130(server: Standin, variables: dict[str, str]) -> None:
    process = subprocess.Popen(
        [*RUN, "endless", "go"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**variables, "OLLAMAPY_HOST": server.host},
    )
    assert process.stdout is not None and process.stdout.readline() == b"on and on\n"
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=30)
    assert (process.returncode, complaint) == (130, b"")
    assert server.body("/api/generate") and server.next() == "gone"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_an_encoding_without_the_character(
    encoding: str, server: Standin, ollamapy: Command
) -> None:
    result = ollamapy("run", "wide", "Hi", host=server.host, PYTHONIOENCODING=encoding)
    assert (result.returncode, result.stdout, result.stderr) == (0, "?? ?\n\n", "")


def test_closed_streams_are_no_error(server: Standin, variables: dict[str, str]) -> None:
    command = f"'{sys.executable}' -m ollamapy run hello Hi <&- >&- 2>&-"
    environment = {**variables, "OLLAMAPY_HOST": server.host}
    assert subprocess.run(["bash", "-c", command], env=environment, timeout=60).returncode == 0


def test_a_full_disk_is_an_error(server: Standin, variables: dict[str, str]) -> None:
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [*RUN, "hello", "Hi"],
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env={**variables, "OLLAMAPY_HOST": server.host},
        )
    assert (result.returncode, result.stderr) == (1, "Error: no space left on device\n")


# In a terminal


class Terminal:
    """A command in a pseudo-terminal of 40 columns; `read` returns all that it writes until it ends."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(command[0], command, environment)
        import fcntl
        import struct
        import termios

        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))

    def until(self, text: str = "", timeout: float = 30.0) -> str:
        """What is written, up to a text, or up to the end."""
        written, deadline = b"", time.monotonic() + timeout
        while time.monotonic() < deadline and not (text and text.encode() in written):
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    data = os.read(self.fd, 65536)
                except OSError:  # Linux's way to say that the other side is closed
                    break
                if not data:
                    break
                written += data
        return written.decode().replace("\r\n", "\n")

    def status(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.fixture
def terminal(server: Standin, variables: dict[str, str]) -> Iterator[Callable[..., Terminal]]:
    opened = []

    def start(*arguments: str, **extra: str) -> Terminal:
        environment = {**variables, "OLLAMAPY_HOST": server.host, **extra}
        opened.append(Terminal([*RUN, *arguments], environment))
        return opened[-1]

    yield start
    for one in opened:
        os.close(one.fd)


def test_a_model_without_a_template_continues_its_dimmed_opening(
    terminal: Callable[..., Terminal],
) -> None:
    shell = terminal("story", "Once upon")
    assert shell.until() == "\x1b[2mOnce upon\x1b[0m upon, and so they went.\n\n"
    assert shell.status() == 0


@pytest.mark.parametrize("variable", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_without_colour_the_opening_is_plain(
    variable: dict[str, str], terminal: Callable[..., Terminal]
) -> None:
    assert terminal("story", "Once upon", **variable).until() == (
        "Once upon upon, and so they went.\n\n"
    )


def test_a_model_with_a_template_answers_without_the_prompt(
    terminal: Callable[..., Terminal],
) -> None:
    written = terminal("hello", "Hi").until()
    assert re.sub(r"\x1b\[\d*[DK]", "", written).startswith("Hello! I am")


def test_words_are_wrapped_to_the_window(terminal: Callable[..., Terminal]) -> None:
    written = terminal("long", "Hi").until()
    # "wor", then back, erased, and whole on the next line
    lines = re.sub(r"\w*\x1b\[\d+D\x1b\[K|\x1b\[\d*m", "", written).split("\n")
    assert max(map(len, lines)) <= 35 and len(lines) > 500 * 5 // 40
    # the model has no template of its own: it continues the prompt
    assert terminal("long", "Hi", TERM="dumb").until() == "Hi" + "word " * 500 + "\n\n"
    written = terminal("long", "Hi", "--nowordwrap").until()
    assert re.sub(r"\x1b\[\d*m", "", written) == "Hi" + "word " * 500 + "\n\n"


def test_control_characters_of_a_model_stay_out_of_the_terminal(
    terminal: Callable[..., Terminal], server: Standin, ollamapy: Command
) -> None:
    assert "\x1b[31m" not in terminal("escape", "Hi").until()
    assert "\x1b[31m" in ollamapy("run", "escape", "Hi", host=server.host).stdout, (
        "but not of a pipe"
    )


def test_the_figures_come_after_the_answer(terminal: Callable[..., Terminal]) -> None:
    written = terminal("hello", "Hi", "--verbose").until()
    assert "\n\ntotal duration:       11.162067ms\n" in written


def test_ctrl_c_in_a_terminal(terminal: Callable[..., Terminal]) -> None:
    shell = terminal("endless", "go")
    shell.until("on and on")
    os.write(shell.fd, b"\x03")
    shell.until()
    assert shell.status() == 130


def test_a_spinner_shows_what_takes_long(
    terminal: Callable[..., Terminal], tmp_path: Path, standin: Any
) -> None:
    silent = standin("--version", "1")
    shell = terminal("stalled", "", OLLAMAPY_HOST=silent.host)
    assert "loading stalled" in shell.until("loading stalled")
    os.write(shell.fd, b"\x03")
    assert shell.until().endswith("\r\x1b[K"), "it is erased"
    assert shell.status() == 130
    dumb = terminal("stalled", "", OLLAMAPY_HOST=silent.host, TERM="dumb")
    assert dumb.until("loading", timeout=1.5) == ""
    os.write(dumb.fd, b"\x03")
    dumb.until()
