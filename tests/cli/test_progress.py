"""What pulls show of themselves: lines as wide as the terminal, on a terminal that is read from its screen, and elsewhere."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ollamapy.cli.progress import line
from ollamapy.cli.terminal import width
from tests.cli.chats import Chat, Start
from tests.registry.fake_hub import FakeHub, content, sha256
from tests.served import Daemon, command, serve, until
from tests.small_models import random_model

HALF: dict[str, Any] = {
    "status": "pulling 2a0bfbe0d03a", "total": 4_400_000_000, "completed": 2_200_000_000,
}  # fmt: skip


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (0, "pulling 2a0bfbe0d03a: 50% 2.2 GB/4.4 GB 10 MB/s 3m40s"),
        (74, "pulling 2a0bfbe0d03a:  50% ▕█████      ▏   2.2 GB/4.4 GB  10 MB/s    3m40s"),
        (60, "pulling 2a0bfbe0d03a: 50% 2.2 GB/4.4 GB 10 MB/s 3m40s"),
        (48, "pulling 2a0bfbe0d03a: 50% 2.2 GB/4.4 GB 3m40s"),
        (41, "pulling 2a0bfbe0d03a: 50% 2.2 GB/4.4 GB"),
        (30, "pulling 2a0bfbe0d03a: 50%"),
        (9, "pulling 2"),
    ],
)
def test_a_line_is_as_wide_as_there_is_room(columns: int, expected: str) -> None:
    assert line(HALF, 10e6, columns) == expected


def test_a_line_never_breaks() -> None:
    steps = [HALF, HALF | {"note": "waiting 3 s for a hub: 漢字"}, {"status": "pulling manifest"}]
    for step in steps:
        for columns in range(1, 200):
            assert width(line(step, 12345.0, columns)) <= columns


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    model = random_model(tmp_path_factory.mktemp("gguf") / "m.gguf").read_bytes()
    return model + content(12 * 2**20)


@pytest.fixture
def hub(gguf: bytes) -> Iterator[FakeHub]:
    running = FakeHub()
    running.add_repo("me/repo", {"m.gguf": gguf})
    yield running
    running.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Daemon]:
    (tmp_path / "daemon").mkdir()
    with serve(tmp_path / "daemon", tmp_path / "daemon" / "models") as daemon:
        yield daemon


@pytest.fixture
def variables(variables: dict[str, str], hub: FakeHub, served: Daemon) -> dict[str, str]:
    known = {"HF_ENDPOINT": hub.url, "HF_TOKEN": "", "HF_HUB_OFFLINE": "", "TERM": "xterm"}
    return {**variables, **known, "OLLAMAPY_HOST": served.url, "NO_PROXY": "*"}


@pytest.fixture
def start(variables: dict[str, str]) -> Iterator[Start]:
    opened: list[Chat] = []

    def begin(*arguments: str, columns: int = 80, **extra: str) -> Chat:
        opened.append(Chat(command(*arguments), {**variables, **extra}, columns))
        return opened[-1]

    yield begin
    for chat in opened:
        chat.close()


def slowed(hub: FakeHub, gguf: bytes) -> Callable[[], None]:
    """The file comes slowly, until what is returned is called."""
    hub.fault(path=sha256(gguf), cap=2 * 2**20, times=float("inf"))
    return hub.hurry


@pytest.mark.parametrize("columns", [80, pytest.param(40, marks=pytest.mark.long)])
def test_on_a_terminal(start: Start, hub: FakeHub, gguf: bytes, columns: int) -> None:
    """A bar that is redrawn in its line; Ctrl-C leaves it there and says how to go on, and that does."""
    release = slowed(hub, gguf)
    it = start("pull", "hf.co/me/repo", columns=columns)
    it.until(lambda: re.search(r": +[2-9]\d?%.* \d+ MB/13 MB", it.screen) is not None)
    assert ("█" in it.screen) == (columns == 80)
    it.send("\x03")
    assert it.status() == 130
    assert it.lines[:2] == ["pulling manifest", "  m.gguf: the only one"]
    assert it.screen.count("pulling ") == 2 and "^C" not in it.screen
    assert it.words.endswith("continue with: ollamapy pull hf.co/me/repo") or columns == 40
    release()
    sent = hub.sent("cdn")
    again = start("pull", "hf.co/me/repo", columns=columns)
    assert again.status() == 0 and again.lines[-1] == "success"
    assert hub.sent("cdn") - sent < len(gguf)


def test_several_have_a_bar_each_at_once(start: Start, hub: FakeHub, gguf: bytes) -> None:
    other = gguf + b"other"
    hub.add_repo("me/other", {"m.gguf": other})
    release = slowed(hub, gguf)
    slowed(hub, other)
    it = start("pull", "hf.co/me/repo", "hf.co/me/other", "hf.co/me/none")
    bars = [re.compile(rf"hf.co/me/{name}: +[2-9]\d?% ▕█.*/s +\d+s") for name in ("repo", "other")]
    it.until(lambda: all(bar.search(it.screen) for bar in bars))
    release()
    assert it.status() == 1
    assert "hf.co/me/repo: success" in it.lines and "hf.co/me/other: success" in it.lines
    assert "Error: hf.co/me/none: me/none does not exist" in it.words


def test_where_nothing_can_be_redrawn(start: Start) -> None:
    it = start("pull", "hf.co/me/repo", TERM="dumb")
    assert it.status() == 0
    assert b"\x1b" not in it.written and it.screen.count("pulling ") == 2
    assert it.lines[-3:] == ["verifying sha256 digest", "writing manifest", "success"]


@pytest.mark.llama
def test_a_chat_gets_the_model_that_it_loads(start: Start, hub: FakeHub, served: Daemon) -> None:
    it = start("run", "tinystories", columns=100).prompted(1)
    it.enter("/load hf.co/me/none")
    it.until("Couldn't find model 'hf.co/me/none'").until("one does not exist on").prompted(2)
    it.enter("/load hf.co/me/repo")
    it.until("success").prompted(3)
    listed = served.ask("GET", "/api/tags").json()["models"]
    assert "hf.co/me/repo:latest" in [each["name"] for each in listed]
    assert it.leave() == 0
    until(lambda: served.busy() == 0, "nobody waits")
