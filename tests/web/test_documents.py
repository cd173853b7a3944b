"""Documents and links in the requests of every dialect, over a real daemon: each character of the model's prompts is a token."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from tests import documents
from tests.served import Daemon, serve

TEXT = "The meeting is on Monday. " * 10
FILE = documents.docx(documents.paragraph(TEXT))
READ = f"m.docx:\n```\n{TEXT.rstrip()}\n```\n\n"


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def bodies(content: bytes, name: str = "m.docx") -> dict[str, Any]:
    """A request with a document and a question of each dialect, by its path."""
    data = encoded(content)
    uri = f"data:application/octet-stream;base64,{data}"
    question = {"type": "text", "text": "When?"}
    file = {"type": "file", "file": {"filename": name, "file_data": uri}}
    source = {"type": "base64", "media_type": "application/pdf", "data": data}
    document = {"type": "document", "title": name, "source": source}
    item = [{"type": "input_file", "filename": name, "file_data": uri}]
    item += [{"type": "input_text", "text": "When?"}]
    files = [{"name": name, "data": data}]
    return {
        "/api/chat": {"messages": [{"role": "user", "content": "When?", "files": files}], "stream": False},
        "/api/generate": {"prompt": "When?", "files": files, "stream": False},
        "/v1/chat/completions": {"messages": [{"role": "user", "content": [file]}, {"role": "user", "content": "When?"}]},
        "/v1/responses": {"input": [{"role": "user", "content": item}]},
        "/v1/messages": {"messages": [{"role": "user", "content": [document, question]}], "max_tokens": 50},
    }  # fmt: skip


PATHS = tuple(bodies(b""))


def prompt_tokens(answer: dict[str, Any]) -> int:
    """The tokens of the prompt, in the words of any dialect."""
    usage = answer.get("usage", answer)
    found = [usage.get(name) for name in ("prompt_eval_count", "prompt_tokens", "input_tokens")]
    cached = usage.get("cache_read_input_tokens") or 0
    return int(next(each for each in found if each is not None)) + int(cached)


@pytest.mark.llama
@pytest.mark.parametrize("path", PATHS)
def test_the_text_of_a_document_is_part_of_the_prompt(daemon: Daemon, path: str) -> None:
    answer = daemon.ask("POST", path, {"model": "hello", **bodies(FILE)[path]})
    assert answer.status == 200, answer.body
    apart = path == "/v1/chat/completions"
    plain = [READ, "When?"] if apart else [READ + "When?"]
    written = [{"role": "user", "content": each} for each in plain]
    same = daemon.ask("POST", "/api/chat", {"model": "hello", "messages": written, "stream": False})
    assert prompt_tokens(answer.json()) == prompt_tokens(same.json()) > 200


@pytest.mark.llama
def test_a_document_counts_where_tokens_are_counted(daemon: Daemon) -> None:
    body = {"model": "hello", **bodies(FILE)["/v1/messages"]}
    counted = daemon.ask("POST", "/v1/messages/count_tokens", body).json()["input_tokens"]
    assert counted == prompt_tokens(daemon.ask("POST", "/v1/messages", body).json())


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (documents.archive([("a", b"")]), "is a zip archive and no Word document"),
        (bytes(range(256)), "is of type application/octet-stream: PDF, Word (docx), HTML and text"),
        (documents.png(), "does not support multimodal"),
        (b" \n", "has no text"),
    ],
    ids=("zip", "bytes", "png", "blank"),
)
@pytest.mark.parametrize("path", PATHS)
def test_what_cannot_be_read_is_the_senders_fault(
    daemon: Daemon, path: str, content: bytes, why: str
) -> None:
    answer = daemon.ask("POST", path, {"model": "hello", **bodies(content)[path]})
    error = answer.json()["error"]
    message = error if isinstance(error, str) else error["message"]
    assert answer.status == 400 and why in message
    if path == "/v1/messages":
        assert error["type"] == "invalid_request_error"


@pytest.mark.llama
@pytest.mark.parametrize("path", PATHS)
def test_a_document_that_is_too_long_is_cut_and_that_is_said(daemon: Daemon, path: str) -> None:
    body = {"model": "hello", **bodies(b"A sentence. " * 10_000, "long.txt")[path]}
    answer = daemon.ask("POST", path, body)
    assert answer.status == 200, answer.body
    [note] = answer.json()["notes"]
    assert note.startswith("long.txt: cut: the first ")
    assert 1000 < prompt_tokens(answer.json()) < 2048, "most of the context is used"


LINKS: dict[str, Any] = {
    "/v1/chat/completions": {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
    "/v1/messages": {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
    "/v1/responses": {"type": "input_image", "image_url": "https://example.org/a.png"},
}  # fmt: skip


@pytest.mark.parametrize("path", LINKS)
def test_nothing_is_fetched_unless_the_daemon_is_set_to(daemon: Daemon, path: str) -> None:
    message = {"role": "user", "content": [LINKS[path]]}
    name = "input" if path == "/v1/responses" else "messages"
    body = {"model": "hello", name: [message], "max_tokens": 9}
    answer = daemon.ask("POST", path, body)
    assert answer.status == 400
    assert "image URLs are not currently supported" in answer.json()["error"]["message"]


def test_a_daemon_that_fetches_asks_public_addresses_only(
    model_store: Path, tmp_path: Path
) -> None:
    url = "https://127.0.0.1/a.png"
    image = {"type": "image", "source": {"type": "url", "url": url}}
    document = {"type": "document", "source": {"type": "url", "url": url}}
    with serve(tmp_path, model_store, FETCH_URLS="1") as fetching:
        for block in (image, document):
            message = {"role": "user", "content": [block]}
            body = {"model": "hello", "messages": [message], "max_tokens": 9}
            answer = fetching.ask("POST", "/v1/messages", body)
            assert answer.status == 400
            assert "127.0.0.1 is refused" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"files": {}}, "files must be a list"),
        ({"files": [{}] * 101}, "at most 100 files"),
        ({"files": ["x"]}, "files[0] must have a name and data"),
        ({"files": [{"name": "x"}]}, "files[0] must have a text as data"),
        ({"files": [{"data": "%"}]}, "base64"),
        ({"files": [{"data": "aGk="}], "raw": True}, "without raw and suffix"),
        ({"files": [{"data": "aGk="}], "suffix": "x"}, "without raw and suffix"),
    ],
)
def test_files_of_another_form_are_refused(daemon: Daemon, fields: Any, why: str) -> None:
    answer = daemon.ask("POST", "/api/generate", {"model": "hello", "prompt": "a", **fields})
    assert answer.status == 400 and why in answer.json()["error"]
