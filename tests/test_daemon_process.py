"""The daemon as a process with real runners: how it starts and ends, and what is left when something is killed."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import HELLO
from tests.served import Answer, Daemon, command, environment, serve, until

pytestmark = pytest.mark.llama

LONG = {"model": "long", "prompt": "Hi", "options": {"temperature": 0}}


@pytest.fixture
def own(tmp_path: Path, model_store: Path) -> Any:
    """A daemon of the test's own, which it may ill-treat."""
    with serve(tmp_path, model_store) as running:
        yield running


def first_line(daemon: Daemon, **body: Any) -> Answer:
    """A long answer whose first line has come."""
    answer = daemon.open("POST", "/api/generate", {**LONG, **body})
    assert answer.status == 200 and not answer.line()["done"]
    return answer


# ---- it answers --------------------------------------------------------------------------------


def test_it_answers(daemon: Daemon) -> None:
    answer = daemon.generate("hello").json()
    assert answer["response"] == HELLO and answer["done_reason"] == "stop"
    stream = daemon.open(
        "POST", "/api/chat", {"model": "hello", "messages": [{"role": "user", "content": "Hi"}]}
    )
    *lines, last = stream.lines()
    assert "".join(line["message"]["content"] for line in lines) == HELLO and last["done"]
    assert daemon.generate("rules").json()["response"] == "Hello! I am a "  # its stop holds
    assert daemon.generate("hello", options={"stop": ["!"]}).json()["response"] == "Hello"


def test_an_answer_can_be_continued_by_its_context(daemon: Daemon) -> None:
    greedy = {"temperature": 0, "num_predict": 12}
    first = daemon.generate("plain", "ba ke", options=greedy).json()
    assert first["eval_count"] == 12
    second = daemon.generate("plain", "mo", options=greedy, context=first["context"]).json()
    assert second["context"][: len(first["context"])] == first["context"]
    assert second["prompt_eval_count"] > first["prompt_eval_count"] + 5


def test_a_prompt_longer_than_the_context(daemon: Daemon) -> None:
    long = "ba ke " * 2000
    answer = daemon.generate("plain", long, truncate=False)
    assert answer.status == 400 and "longer than the context" in answer.json()["error"]
    answer = daemon.generate("plain", long, options={"num_predict": 3})
    assert answer.status == 200 and answer.json()["prompt_truncated"]["tokens"] > 1000


def test_a_conversation_that_is_too_long_in_each_api(daemon: Daemon) -> None:
    body = {"model": "plain", "messages": [{"role": "user", "content": "ba ke " * 2000}]}
    reply = daemon.ask("POST", "/v1/chat/completions", body).json()["error"]
    assert reply["code"] == "context_length_exceeded"
    reply = daemon.ask(
        "POST", "/v1/responses", {"model": "plain", "input": body["messages"]}
    ).json()
    assert reply["error"]["code"] == "context_length_exceeded"
    reply = daemon.ask("POST", "/v1/messages", {**body, "max_tokens": 5}).json()["error"]
    # The text of Anthropic's server, which Claude Code matches
    assert re.match(r"prompt is too long[^0-9]*\d+ tokens > \d+", reply["message"])


def test_ps_tells_what_is_loaded(daemon: Daemon) -> None:
    daemon.generate("plain", keep_alive="1h", options={"num_predict": 3})
    [running] = [
        each
        for each in daemon.ask("GET", "/api/ps").json()["models"]
        if each["name"] == "plain:latest"
    ]
    assert running["context_length"] == 512 and running["size"] > 700_000


def test_ps_tells_the_context_that_there_is(own: Daemon) -> None:
    long, options = "ba ke " * 1000, {"num_ctx": 300, "num_predict": 1}
    refused = own.generate("plain", long, truncate=False, options=options)
    assert refused.status == 400 and "> 512;" in refused.json()["error"]
    [running] = own.ask("GET", "/api/ps").json()["models"]
    assert running["context_length"] == 512


# ---- clients that leave ------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
def test_the_work_ends_with_its_client(daemon: Daemon, stream: bool) -> None:
    before = daemon.busy()
    if stream:
        answer = first_line(daemon)
    else:
        answer = daemon.open("POST", "/api/generate", {**LONG, "stream": False})
        until(lambda: daemon.busy() == before + 1, "the request is being served")
    answer.leave()
    until(lambda: daemon.busy() == before, "the work was cancelled")
    assert daemon.process.poll() is None


def test_a_client_that_does_not_read_delays_no_other(daemon: Daemon) -> None:
    answer = first_line(daemon, options={"num_predict": 4000})
    assert daemon.generate("hello").json()["response"] == HELLO
    assert daemon.generate("long", options={"num_predict": 3}).json()["done"]
    answer.leave()


# ---- it ends -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGTERM, marks=pytest.mark.long), signal.SIGINT]
)
def test_a_signal_lets_requests_finish(own: Daemon, number: int) -> None:
    answer = first_line(own, options={"num_predict": 150})
    own.process.send_signal(number)
    lines = answer.lines()
    assert lines[-1]["done"] and lines[-1]["eval_count"] > 100
    assert own.process.wait(20) == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", own.port))


def test_no_new_request_is_served_during_the_shutdown(own: Daemon) -> None:
    answer = first_line(own, options={"num_predict": 300})
    own.process.send_signal(signal.SIGTERM)
    until(lambda: b"stopping" in own.log.read_bytes(), "it has understood")
    until(lambda: _refused(own), "it accepts nobody")
    assert answer.lines()[-1]["done"]
    assert own.process.wait(20) == 0


def _refused(daemon: Daemon) -> bool:
    try:
        return daemon.ask("GET", "/").status == 503
    except (ConnectionError, http.client.HTTPException):
        return True


def test_a_second_signal_ends_requests_at_once_with_an_error(own: Daemon) -> None:
    answer = first_line(own)
    own.process.send_signal(signal.SIGTERM)
    until(lambda: b"stopping" in own.log.read_bytes(), "it has understood")
    own.process.send_signal(signal.SIGTERM)
    assert "stopped while it answered" in answer.lines()[-1]["error"]
    assert own.process.wait(20) == 0


def test_a_request_that_is_not_complete_does_not_hold_up_the_end(own: Daemon) -> None:
    with socket.create_connection(("127.0.0.1", own.port)) as half:
        head = b"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"
        half.sendall(head)
        own.generate("plain", options={"num_predict": 1})
        own.process.send_signal(signal.SIGTERM)
        assert own.process.wait(10) == 0
    assert "Traceback" not in own.log.read_text()


def test_a_daemon_that_is_killed_leaves_no_orphans(own: Daemon) -> None:
    answer = first_line(own)
    own.generate("hello")  # which has a render child
    children = own.children()
    assert len(children) >= 3
    own.process.kill()
    own.process.wait()
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        answer.response.read()
    _, left = psutil.wait_procs(children, timeout=60)
    assert not left


# ---- children that are killed ------------------------------------------------------------------

KILLS = [signal.SIGKILL, signal.SIGSEGV, pytest.param(signal.SIGTERM, marks=pytest.mark.long)]


@pytest.mark.parametrize("number", KILLS)
def test_a_runner_killed_while_it_speaks(own: Daemon, number: int) -> None:
    answers = [first_line(own) for _ in range(2)]
    [runner] = own.runners()
    runner.send_signal(number)
    for answer in answers:
        error = answer.lines()[-1]["error"]
        assert "runner ended" in error
    assert own.generate("hello").json()["response"] == HELLO
    assert own.generate("long", options={"num_predict": 3}).json()["done"]  # a new runner


@pytest.mark.parametrize("number", KILLS)
def test_a_runner_killed_while_it_loads(own: Daemon, number: int) -> None:
    answer = own.open("POST", "/api/generate", {"model": "hello", "prompt": "Hi"})
    [runner] = until(own.runners, "it starts")
    runner.send_signal(number)
    answer.read()
    if number == signal.SIGSEGV:  # taken for a build that faults: it is started once more
        assert answer.status == 200
    else:
        assert answer.status == 500 and "runner ended" in answer.json()["error"]
    assert own.generate("hello").json()["response"] == HELLO


@pytest.mark.parametrize("number", KILLS)
def test_a_runner_killed_in_prefill(own: Daemon, number: int) -> None:
    own.generate("long", options={"num_predict": 1})
    [runner] = own.runners()
    body = {**LONG, "prompt": "ba ke li " * 1500, "stream": False, "options": {"num_predict": 3}}
    answer = own.open("POST", "/api/generate", body)
    until(lambda: own.busy() == 1, "the request is in flight")
    runner.send_signal(number)
    answer.read()
    if number == signal.SIGSEGV:  # before its first token: tried once more
        assert answer.status == 200 and answer.json()["eval_count"] == 3
    else:
        name = signal.Signals(number).name
        assert answer.status == 500 and f"runner ended by signal {name}" in answer.json()["error"]


def test_an_idle_runner_killed(own: Daemon) -> None:
    own.generate("hello")
    [runner] = own.runners()
    runner.kill()
    until(lambda: own.ask("GET", "/api/ps").json()["models"] == [], "its end is noticed")
    assert own.generate("hello").json()["response"] == HELLO


def test_a_runner_that_hangs(tmp_path: Path, model_store: Path) -> None:
    with serve(tmp_path, model_store, LOAD_TIMEOUT="1s") as daemon:
        answer = first_line(daemon)
        [runner] = daemon.runners()
        runner.suspend()
        assert "no sign of life" in answer.lines()[-1]["error"]
        assert not runner.is_running()
        assert daemon.generate("hello").json()["response"] == HELLO


def test_the_renderer_killed(own: Daemon) -> None:
    own.generate("hello")
    [renderer] = [each for each in own.children() if each not in own.runners()]
    renderer.kill()
    assert own.generate("hello").json()["response"] == HELLO


def test_a_model_file_that_is_no_model(tmp_path: Path, model_store: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(model_store, store)
    for blob in (store / "blobs").iterdir():
        if blob.stat().st_size > 100_000:
            blob.write_bytes(blob.read_bytes()[:50_000])
    with serve(tmp_path, store) as daemon:
        answer = daemon.generate("hello")
        assert answer.status == 500 and "cut off" in answer.json()["error"]
        assert len(daemon.ask("GET", "/api/tags").json()["models"]) == 4


# ---- it starts ---------------------------------------------------------------------------------


def failed_start(home: Path, **extra: str) -> str:
    """The last line of a daemon that cannot start."""
    run = subprocess.run(
        command("serve"),
        env=environment(home, None, **extra),
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert run.returncode == 1, run.stderr
    lines: list[str] = run.stderr.splitlines()
    return lines[-1]


def test_a_port_in_use(daemon: Daemon, tmp_path: Path) -> None:
    line = failed_start(tmp_path, HOST=f"127.0.0.1:{daemon.port}")
    assert line.startswith(f"Error: http://127.0.0.1:{daemon.port} is in use")
    assert daemon.ask("GET", "/").status == 200


@pytest.mark.parametrize(
    ("host", "says"),
    [
        ("203.0.113.7:1234", "is not an address of this machine"),
        ("no.such.host.invalid:1234", "is not known"),
    ],
)
def test_an_address_that_is_not_ours(tmp_path: Path, host: str, says: str) -> None:
    assert says in failed_start(tmp_path, HOST=host)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may use any port")
def test_a_port_that_needs_rights(tmp_path: Path) -> None:
    assert "no permission" in failed_start(tmp_path, HOST="127.0.0.1:1")


def test_a_model_loaded_ahead_is_used(tmp_path: Path, model_store: Path) -> None:
    with serve(tmp_path, model_store, "--preload", "hello") as daemon:
        [runner] = daemon.runners()
        assert daemon.generate("hello").json()["response"] == HELLO
        assert daemon.runners() == [runner]


def test_a_model_to_load_ahead_that_is_unknown(tmp_path: Path, model_store: Path) -> None:
    with serve(tmp_path, model_store, "--preload", "nosuch") as daemon:
        assert "model 'nosuch' not found" in daemon.log.read_text()
        assert daemon.generate("hello").json()["response"] == HELLO


@pytest.mark.parametrize(
    ("host", "warns"), [("127.0.0.1:0", False), ("0.0.0.0:0", True), (":0", True)]
)
def test_listening_beyond_this_machine(
    tmp_path: Path, model_store: Path, host: str, warns: bool
) -> None:
    with serve(tmp_path, model_store, HOST=host) as daemon:
        assert ("without authentication" in daemon.log.read_text()) is warns
        version = daemon.ask("GET", "/api/version").json()
        assert version.get("models") == (None if warns else str(model_store))
        assert daemon.ask("GET", "/api/version", Host="evil.example.com").status == 403
        assert daemon.ask("GET", "/api/version", Host="8.8.8.8").status == (200 if warns else 403)


def test_the_log_has_no_prompts(own: Daemon) -> None:
    assert own.generate("hello", "a secret question").status == 200
    own.generate("hello", options={"temperature": "another secret"})
    text = own.log.read_text()
    assert "POST /api/generate 200" in text and "secret" not in text


def test_a_read_only_store(tmp_path: Path, model_store: Path) -> None:
    store = tmp_path / "read only"
    shutil.copytree(model_store, store)
    change(store, lambda path: path.chmod(0o555 if path.is_dir() else 0o444))
    try:
        with serve(tmp_path, store) as daemon:
            assert daemon.generate("hello").json()["response"] == HELLO
    finally:
        change(store, lambda path: path.chmod(0o755))


def change(root: Path, what: Callable[[Path], None]) -> None:
    for path in (root, *root.rglob("*")):
        what(path)
