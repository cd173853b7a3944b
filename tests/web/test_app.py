"""The application behind the real web server and real sockets, over runners whose steps the test releases."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Scope

from ollamapy.daemon.log import OneLine
from ollamapy.errors import LoadFailed, RunnerCrashed
from ollamapy.names import Name
from ollamapy.registry.store import Store
from ollamapy.request import RIGHTS, Caller
from ollamapy.web.anthropic import paths as anthropic
from ollamapy.web.app import everyone
from ollamapy.web.body import MAX_BODIES, MAX_BODY
from ollamapy.web.ollama import model_paths as stored
from ollamapy.web.ollama import paths as native
from ollamapy.web.openai import paths as openai
from ollamapy.web.openai import response_paths as responses
from tests.fakes import FakeRunner

from .raw import Client, run

# ---- answers -----------------------------------------------------------------------------------


def test_paths_that_need_no_model(model_store: Path) -> None:
    async def test(client: Client) -> None:
        root = await client.ask("GET", "/")
        assert (root.status, root.body) == (200, b"Ollama is running")
        assert root.headers["content-type"] == "text/plain; charset=utf-8"
        head = await client.ask("HEAD", "/")
        assert (head.status, head.body) == (200, b"")
        assert "server" not in head.headers
        missing = await client.ask("GET", "/nowhere")
        assert (missing.status, missing.body) == (404, b"404 page not found")
        status = await client.ask("GET", "/api/status")
        assert json.loads(status.body) == {"cloud": {"disabled": True, "source": "config"}}
        wrong = await client.ask("GET", "/api/generate")
        assert (wrong.status, wrong.body) == (405, b"405 method not allowed")
        assert wrong.headers["content-type"] == missing.headers["content-type"] == "text/plain"

        version = await client.ask("GET", "/api/version")
        assert version.headers["content-type"] == "application/json; charset=utf-8"
        assert {"version", "ollamapy", "pid", "busy", "models"} == set(version.lines[0])
        tags = (await client.ask("GET", "/api/tags")).lines[0]["models"]
        assert {each["name"] for each in tags} == {"hello:latest", "plain:latest", "long:latest", "rules:latest"}  # fmt: skip
        assert (await client.ask("HEAD", "/api/tags")).status == 200
        show = (await client.ask("POST", "/api/show", {"name": "RULES"})).lines[0]
        assert show["system"] == "Be kind." and show["capabilities"] == ["completion"]
        [running] = (await client.ask("GET", "/api/ps")).lines
        assert running["models"] == [] and running["memory"].keys() == {"free", "total"}

        evil = await client.ask("GET", "/api/tags", headers="Host: evil.com\r\n")
        assert (evil.status, evil.body) == (403, b"")
        page = await client.ask("GET", "/", headers="Origin: http://localhost:3000\r\n")
        assert page.headers["access-control-allow-origin"] == "http://localhost:3000"

    run(model_store, test)


def test_streamed_and_other_answers(model_store: Path) -> None:
    async def test(client: Client) -> None:
        stream = await client.generate()
        assert stream.headers["content-type"] == "application/x-ndjson"
        assert [line["response"] for line in stream.lines] == ["one", " two", " three", ""]
        assert [line["done"] for line in stream.lines] == [False, False, False, True]
        reply = await client.generate(stream=False, logprobs=True)
        assert reply.headers["content-type"] == "application/json; charset=utf-8"
        [answer] = reply.lines
        assert answer["response"] == "one two three" and answer["done_reason"] == "stop"
        assert [each["token"] for each in answer["logprobs"]] == ["one", " two", " three"]
        assert answer["prompt_eval_count"] == 4 and answer["eval_count"] == 3

        messages = [{"role": "user", "content": "Hi"}]
        chat = await client.ask("POST", "/api/chat", {"model": "plain", "messages": messages})
        assert "".join(line["message"]["content"] for line in chat.lines) == "one two three"
        load = await client.ask("POST", "/api/chat", {"model": "plain"})
        assert load.headers["content-type"] == "application/json; charset=utf-8"
        assert load.lines[0]["done_reason"] == "load"
        debug = await client.generate(_debug_render_only=True, model="hello")
        assert debug.lines[0]["_debug_info"]["rendered_template"].startswith("<|im_start|>user\nHi")

        [running, *_] = (await client.ask("GET", "/api/ps")).lines[0]["models"]
        assert running["name"] in ("plain:latest", "hello:latest")

    run(model_store, test)


@pytest.mark.parametrize(
    ("path", "body", "status", "error"),
    [
        ("/api/generate", b"", 400, "missing request body"),
        ("/api/generate", b"{bad", 400, "invalid character 'b' looking for beginning of object key string"),
        ("/api/generate", b"[]", 400, "json: cannot unmarshal array into Go value of type api.GenerateRequest"),
        ("/api/generate", {"model": "nosuch", "prompt": "x"}, 404, "model 'nosuch' not found"),
        ("/api/generate", {"model": "../x", "prompt": "x"}, 400, "invalid model name"),
        ("/api/chat", {"model": "nosuch:1b"}, 404, "model 'nosuch:1b' not found"),
        ("/api/show", {"model": "nosuch"}, 404, "model 'nosuch:latest' not found"),
        ("/api/chat", {"messages": []}, 400, "model is required"),
    ],
)  # fmt: skip
def test_errors(model_store: Path, path: str, body: Any, status: int, error: str) -> None:
    async def test(client: Client) -> None:
        reply = await client.ask("POST", path, body)
        assert reply.status == status and error in reply.error
        assert reply.headers["content-type"] == "application/json; charset=utf-8"

    run(model_store, test)


def test_delete(model_store: Path, tmp_path: Path) -> None:
    """A model of the first root is deleted; one of a read-only root, as the built-in one, is kept."""

    async def test(client: Client) -> None:
        store = client.made.services.models.store = Store([tmp_path, model_store])
        store.copy(Name.parse("plain"), Name.parse("mine"))
        mine = await client.ask("DELETE", "/api/delete", {"model": "mine"})
        assert (mine.status, mine.body) == (200, b"")
        for body, status, error in (
            ({"model": "mine"}, 404, "model 'mine' not found"),
            ({"model": "Plain"}, 403, "model 'plain:latest' cannot be deleted: it belongs to "),
            ({"model": "../x"}, 400, 'name "../x" is invalid'),
            ({}, 400, "model is required"),
        ):
            reply = await client.ask("DELETE", "/api/delete", body)
            assert reply.status == status and error in reply.error
        assert (await client.generate()).status == 200

    run(model_store, test)


def test_a_body_that_is_too_large(model_store: Path) -> None:
    async def test(client: Client) -> None:
        reply = await client.ask("POST", "/api/generate", bytes(64 * 2**20 + 1))
        assert reply.status == 413 and reply.error == "the request is longer than 64 MiB"

    run(model_store, test)


@pytest.mark.parametrize("length", [MAX_BODY + 1, int("9" * 19), 10**19, 10**24], ids=str)
@pytest.mark.parametrize("path", ["/api/chat", f"/api/blobs/sha256:{'0' * 64}"])
def test_a_body_that_is_announced_as_too_long_is_refused_at_once(
    model_store: Path, path: str, length: int
) -> None:
    async def test(client: Client) -> None:
        if "blobs" in path and length < 10**18:
            return  # a blob may be that long
        reader, writer = await client.send("POST", path, b"{", length=length)
        async with asyncio.timeout(60):
            line = await reader.readline()
        assert line.split()[1] in (b"413", b"507")
        writer.close()

    run(model_store, test)


def test_a_head_with_two_lengths_is_answered_and_its_connection_closed(model_store: Path) -> None:
    async def test(client: Client) -> None:
        body = b'11\r\n{"model":"plain"}\r\n0\r\n\r\n'
        headers = "Transfer-Encoding: chunked\r\n"
        reader, writer = await client.send("POST", "/api/show", body, headers=headers, length=5)
        async with asyncio.timeout(60):
            answer = await reader.read()  # to the end of the connection
        assert answer.startswith(b"HTTP/1.1 200 ") and b"connection: close" in answer.lower()
        writer.close()

    run(model_store, test)


@pytest.mark.parametrize("path", ["/api/tags/", "//api/tags", "/api//tags", "//api///tags//"])
def test_slashes_too_many_do_not_matter(model_store: Path, path: str) -> None:
    async def test(client: Client) -> None:
        assert (await client.ask("GET", path)).status == 200
        assert (await client.ask("GET", "//")).body == b"Ollama is running"

    run(model_store, test)


def test_an_unknown_path_is_logged_whatever_it_holds(
    model_store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(client: Client) -> None:
        assert (await client.ask("GET", "/nowhere%1b%5b31m%0a/x")).status == 404
        assert (await client.ask("PUT", "/api/tags")).status == 405

    with caplog.at_level("INFO"):
        run(model_store, test)
    lines = [OneLine().format(each) for each in caplog.records]
    assert any(" GET /nowhere" in line and line.endswith("/x 404") for line in lines)
    assert all(line.isprintable() for line in lines)
    assert any("PUT /api/tags 405" in line for line in lines)


@pytest.mark.parametrize("stream", [True, False])
def test_an_error_before_the_first_chunk_has_a_status(model_store: Path, stream: bool) -> None:
    def prepare(runner: FakeRunner) -> None:
        runner.breaks_after = 0
        runner.error = RunnerCrashed("the model runner ended by signal SIGSEGV")

    async def test(client: Client) -> None:
        reply = await client.generate(stream=stream)
        assert reply.status == 500 and reply.error == "the model runner ended by signal SIGSEGV"

    run(model_store, test, prepare)


def test_a_later_error_is_the_last_line(model_store: Path) -> None:
    def prepare(runner: FakeRunner) -> None:
        runner.breaks_after = 2
        runner.error = RunnerCrashed("the model runner ended by signal SIGKILL")

    async def test(client: Client) -> None:
        *words, last = (await client.generate()).lines
        assert [line["response"] for line in words] == ["one", " two"]
        assert last == {"error": "the model runner ended by signal SIGKILL"}
        reply = await client.generate(stream=False)
        assert reply.status == 500 and reply.error == last["error"]

    run(model_store, test, prepare)


def test_an_unexpected_error_is_only_logged(
    model_store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def prepare(runner: FakeRunner) -> None:
        runner.breaks_after = 0
        runner.error = RuntimeError("secret /home/me")

    async def test(client: Client) -> None:
        reply = await client.generate()
        assert reply.status == 500 and "secret" not in reply.error
        assert "the daemon's log" in reply.error
        assert "secret /home/me" in caplog.text and "Traceback" in caplog.text

    run(model_store, test, prepare)


def test_a_load_that_fails(model_store: Path) -> None:
    def prepare(runner: FakeRunner) -> None:
        async def ready() -> Any:
            raise LoadFailed("unknown model architecture: 'x'")

        runner.ready = ready  # type: ignore[method-assign]

    async def test(client: Client) -> None:
        reply = await client.generate()
        assert reply.status == 500
        assert reply.error.startswith("model 'plain:latest': unknown model architecture: 'x'; ")

    run(model_store, test, prepare)


def test_a_full_queue(model_store: Path) -> None:
    async def test(client: Client) -> None:
        waiting = await client.send("POST", "/api/generate", {"model": "plain", "prompt": "Hi"})
        await client.made.runner()
        reply = await client.generate()
        assert reply.status == 503 and "server busy, please try again" in reply.error
        assert int(reply.headers["retry-after"]) >= 1
        waiting[1].close()

    run(model_store, test, lambda runner: runner.loaded.clear(), MAX_QUEUE="1")


# ---- callers and their rights ------------------------------------------------------------------


def test_a_path_needs_its_right(model_store: Path) -> None:
    """The application's function for callers decides who sends a request, and with which rights."""

    def only_infers(scope: Scope, id: str) -> Caller:
        return Caller(id, is_local=False, rights=frozenset({"infer"}))

    async def test(client: Client) -> None:
        assert (await client.generate()).status == 200
        refused = await client.ask("DELETE", "/api/delete", {"model": "plain"})
        assert refused.status == 403 and b"needs the right to manage" in refused.body
        assert (await client.ask("GET", "/api/tags")).status == 200

    run(model_store, test, identify=only_infers)


def test_a_caller_on_this_machine_is_known_by_its_address() -> None:
    """A socket for both families (OLLAMAPY_HOST=[::]) writes IPv4 addresses in IPv6."""

    def is_local(host: str) -> bool:
        return everyone({"type": "http", "client": (host, 1)}, "id").is_local

    assert all(map(is_local, ("127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1")))
    assert not any(map(is_local, ("192.168.1.7", "::ffff:192.168.1.7", "fd00::1", "")))
    assert not everyone({"type": "http", "client": None}, "id").is_local


def test_a_caller_on_another_machine_names_public_servers_only(model_store: Path) -> None:
    def elsewhere(scope: Scope, id: str) -> Caller:
        return Caller(id, is_local=False)

    async def test(client: Client) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            place = f"127.0.0.1:{listener.getsockname()[1]}"
            asked: list[tuple[str, dict[str, Any]]] = [
                ("/api/pull", {"model": "a", "from": f"http://{place}"}),
                ("/api/pull", {"model": "a", "from": f"https://{place}"}),
                ("/api/pull", {"model": f"{place}/x/y", "insecure": True}),
                ("/api/pull", {"model": f"http://{place}/m.gguf", "insecure": True}),
                ("/api/push", {"model": f"{place}/x/y", "insecure": True}),
                ("/api/create", {"model": "new", "from": f"{place}/x/z"}),
            ]
            copied = {"source": "plain", "destination": f"{place}/x/y:latest"}
            assert (await client.ask("POST", "/api/copy", copied)).status == 200
            for path, body in asked:
                reply = await client.ask("POST", path, {**body, "stream": False})
                assert "a public address only" in reply.error, (path, body)
            name = {"model": f"{place}/x/y"}
            assert (await client.ask("DELETE", "/api/delete", name)).status == 200
            listener.setblocking(False)
            with pytest.raises(BlockingIOError):
                listener.accept()

    run(model_store, test, identify=elsewhere)


def test_every_path_declares_a_right() -> None:
    dialects = (openai.DIALECT, responses.DIALECT, anthropic.DIALECT)
    paths = [*native.PATHS, *stored.PATHS, *stored.SERVED_PATHS]
    paths += [path for dialect in dialects for path in dialect.paths]
    assert len(paths) > 25 and {path.right for path in paths} <= RIGHTS


def test_bodies_that_are_too_large_together(model_store: Path) -> None:
    """Of three bodies that are sent at the same time two are read; the third gets a 503."""
    size = 60 * 2**20
    assert size < MAX_BODY and 2 * size < MAX_BODIES < 3 * size - 1000

    async def test(client: Client) -> None:
        head, rest = b'{"model": "plain", "prompt": "', b"x" * (size - 100)
        streams = []
        for _ in range(2):
            reader, writer = await client.send("POST", "/api/generate", head + rest, length=size)
            streams.append((reader, writer))
        busy = await client.ask("POST", "/api/generate", head + rest + b'"}')
        assert busy.status == 503 and busy.headers["retry-after"] == "1"
        assert b"too many large requests at once" in busy.body
        for _, writer in streams:
            writer.close()
        async with asyncio.timeout(20):
            while (await client.ask("POST", "/api/show", b" " * size)).status == 503:
                pass

    run(model_store, test)
