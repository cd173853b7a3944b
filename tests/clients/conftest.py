"""One daemon for the client packages that judge us: models that say what the tests know, in a store that may be changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.registry.fake_hub import FakeHub
from tests.served import ROOT, Daemon, serve
from tests.small_models import CHATML, bert_model, install, random_model, scripted_model

HELLO = "Hello! I am a scripted model."
ANSWER = "The answer is forty-two."
THOUGHTS = "Let me see, five and more."
CITY = '{"city": "Rome", "size": 7}'
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'
TOOL_TEMPLATE = (ROOT / "tests" / "data" / "chat" / "tool.jinja").read_text()

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "Its name"}},
            "required": ["city"],
        },
    },
}
"""The tool that the model "tool" calls, whatever it is asked."""


def make_models(root: Path, gguf: Path) -> None:
    """Fill the store at ``root``.

    hello: says HELLO whatever it is asked. city: says CITY. tool: calls WEATHER. think: thinks THOUGHTS, then says ANSWER.
    rand: random words, for as long as it may. vectors: a BERT, no chat. rank: a reranker.
    """
    install(root, "hello", scripted_model(gguf / "hello.gguf", HELLO))
    install(root, "city", scripted_model(gguf / "city.gguf", CITY))
    for name, script in {"tool": CALL, "think": f"<think>{THOUGHTS}</think>{ANSWER}"}.items():
        install(root, name, scripted_model(gguf / name, script, chat_template=TOOL_TEMPLATE))
    install(root, "rand", random_model(gguf / "rand.gguf", chat_template=CHATML, n_ctx=2048))
    install(root, "vectors", bert_model(gguf / "vectors.gguf"))
    install(root, "rank", bert_model(gguf / "rank.gguf", pooling="RANK"))


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeHub]:
    """The hub that ``judged`` pulls from: me/repo holds a model that says HELLO."""
    running = FakeHub()
    path = scripted_model(tmp_path_factory.mktemp("hub") / "m.gguf", HELLO)
    running.add_repo("me/repo", {"m.gguf": path.read_bytes()})
    yield running
    running.close()
    assert running.leaks == []


@pytest.fixture(scope="session")
def judged(hub: FakeHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon over the models of :func:`make_models`. A test that adds models takes them away again; none may end it."""
    root = tmp_path_factory.mktemp("judged-models")
    make_models(root, tmp_path_factory.mktemp("gguf"))
    with serve(tmp_path_factory.mktemp("judged-home"), root, hub=hub.url) as running:
        yield running


@pytest.fixture(scope="module", autouse=True)
def models_as_they_were(judged: Daemon) -> Iterator[None]:
    """Fails a module that leaves other models behind than it found: the order of the modules must not matter."""
    before = names(judged)
    yield
    assert names(judged) == before


def names(daemon: Daemon) -> list[str]:
    """The names that a daemon lists, sorted."""
    return sorted(model["name"] for model in daemon.ask("GET", "/api/tags").json()["models"])


def newly_loaded(daemon: Daemon, model: str) -> psutil.Process:
    """The runner of a model that is loaded anew, for a test to kill."""
    daemon.generate(model, "", keep_alive=0)
    before = daemon.runners()
    daemon.generate(model, "")
    [runner] = set(daemon.runners()) - set(before)
    return runner
