"""What tests of several rooms share: a store with small real models, and a daemon over it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.registry.fake_hub import FakeHub
from tests.served import Daemon, serve
from tests.small_models import CHATML, install, random_model, scripted_model

HELLO = "Hello! I am a scripted model."

# A busy machine makes an example slow, not wrong.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--soak N``: how long the tests marked so go on, in units of some seconds."""
    parser.addoption("--soak", type=int, default=1, metavar="N", help="soak tests: N times as long")


def pytest_configure() -> None:
    """What a developer has set for an ollamapy or a hub of theirs is nothing to the tests'."""
    # A shell ignores Ctrl-C in what it runs in the background, and children inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in list(os.environ):
        if name.startswith(("OLLAMA", "HF_", "HUGGING")):
            del os.environ[name]
    # OpenMP's threads spin for 200 ms after each batch: time that other tests' processes need
    os.environ.setdefault("KMP_BLOCKTIME", "0")


@pytest.fixture
def soak(request: pytest.FixtureRequest) -> int:
    """The number given with ``--soak``."""
    return int(request.config.getoption("--soak"))


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    """A hub of the test's own, which sees at its end that no token went to a stranger."""
    running = FakeHub()
    yield running
    running.close()
    assert running.leaks == []


@pytest.fixture(scope="session")
def model_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that tests only read.

    hello: says HELLO whatever it is asked, ChatML. plain: random, no template. long: random and slow, 8,192 tokens of context,
    hardly ever stops by itself. rules: hello with a system text, an opening exchange, a stop and a temperature of 0.
    """
    root = tmp_path_factory.mktemp("store with späces")
    gguf = tmp_path_factory.mktemp("gguf")
    hello = scripted_model(gguf / "hello.gguf", HELLO)
    install(root, "hello", hello)
    install(root, "plain", random_model(gguf / "plain.gguf"))
    install(
        root,
        "long",
        random_model(
            gguf / "long.gguf", n_embd=256, n_ff=640, n_layers=4, n_ctx=8192, chat_template=CHATML
        ),
    )
    install(
        root,
        "rules",
        hello,
        system="Be kind.",
        messages=[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
        params={"temperature": 0, "stop": ["scripted"]},
    )
    return root


@pytest.fixture(autouse=True)
def shared_store_kept(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test that leaves another list of models in ``model_store`` than it found, not one that comes later."""
    if "model_store" not in request.fixturenames:
        yield
        return
    manifests = request.getfixturevalue("model_store") / "manifests"
    before = sorted(manifests.rglob("*"))
    yield
    assert sorted(manifests.rglob("*")) == before, "a test that adds models has a store of its own"


@pytest.fixture(scope="session")
def daemon(model_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon over ``model_store`` that many tests use: none of them may end it or its runners."""
    with serve(tmp_path_factory.mktemp("home"), model_store) as running:
        yield running
