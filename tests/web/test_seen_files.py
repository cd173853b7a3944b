"""Files that a model sees, as the dialects and chats bring them: they are the same to the model as an image in /api/chat."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest

from tests import documents
from tests.served import Daemon, serve
from tests.small_models import install
from tests.small_projectors import bitmap, seeing_model

from .chats.talk import new_chat, said, send

pytestmark = pytest.mark.llama

CAT, DOG = bitmap(64, 48, seed=1), bitmap(64, 48, seed=2)
COLD = {"temperature": 0, "num_predict": 12}
ROWS = 16
"""Tokens of an image."""


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with a model that sees."""
    home = tmp_path_factory.mktemp("seeing")
    weights, sight = seeing_model(home, "mlp")
    install(home / "models", "sees", weights, projector=sight)
    with serve(home, home / "models") as running:
        yield running


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def asked(daemon: Daemon, path: str, **body: Any) -> Any:
    answer = daemon.ask("POST", path, {"model": "sees", "stream": False, "options": COLD, **body})
    assert answer.status == 200, answer.body
    return answer.json()


def plain(daemon: Daemon, *messages: tuple[str, list[bytes]]) -> str:
    """The answer of /api/chat to messages with images."""
    sent = [
        {"role": "user", "content": text, "images": [encoded(image) for image in images]}
        for text, images in messages
    ]
    return str(asked(daemon, "/api/chat", messages=sent)["message"]["content"])


def test_an_image_in_the_place_of_a_document_is_an_image(seeing: Daemon) -> None:
    expected = plain(seeing, ("ba ke?", [CAT]))
    assert expected != plain(seeing, ("ba ke?", [DOG]))
    files = [{"name": "cat.bmp", "data": encoded(CAT)}]
    message = {"role": "user", "content": "ba ke?", "files": files}
    assert asked(seeing, "/api/chat", messages=[message])["message"]["content"] == expected
    assert asked(seeing, "/api/generate", prompt="ba ke?", files=files)["response"] == expected
    source = {"type": "base64", "media_type": "application/pdf", "data": encoded(CAT)}
    blocks = [{"type": "document", "source": source}, {"type": "text", "text": "ba ke?"}]
    body = {"model": "sees", "messages": [{"role": "user", "content": blocks}], "max_tokens": 12}
    answer = seeing.ask("POST", "/v1/messages", {**body, "temperature": 0}).json()
    assert answer["content"][0]["text"] == expected


def test_a_page_without_text_is_seen(seeing: Daemon) -> None:
    pytest.importorskip("pypdf")
    pytest.importorskip("pypdfium2")
    files = [{"name": "scan.pdf", "data": encoded(documents.pdf("", "Two"))}]
    found = asked(seeing, "/api/chat", messages=[{"role": "user", "content": "?", "files": files}])
    text = "scan.pdf:\n```\n[page 1]\n(an image)\n[page 2]\nTwo\n```\n\n?"
    without = asked(seeing, "/api/chat", messages=[{"role": "user", "content": text}])
    assert found["prompt_eval_count"] >= without["prompt_eval_count"] + ROWS
    only = [{"name": "scan.pdf", "data": encoded(documents.pdf(""))}]
    assert asked(seeing, "/api/chat", messages=[{"role": "user", "content": "?", "files": only}])


def test_an_image_of_a_chat_is_seen_in_every_turn(seeing: Daemon) -> None:
    stored = seeing.ask("POST", "/api/attachments?name=cat.bmp", CAT).json()
    assert stored["media_type"] == "image/bmp"
    id = new_chat(seeing, model="sees", options=COLD)
    parts: Any = [{"type": "image", "digest": stored["digest"]}, {"type": "text", "text": "ba ke?"}]
    first = send(seeing, id, parts)
    assert said(first) == plain(seeing, ("ba ke?", [CAT]))
    second = send(seeing, id, "be?")
    usages = [found[-1][1]["usage"] for found in (first, second)]
    assert usages[1]["prompt_tokens"] > usages[0]["prompt_tokens"]
    assert usages[1]["cached_tokens"] > ROWS, "the image is not computed again"
