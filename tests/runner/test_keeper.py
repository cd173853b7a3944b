"""Saved prefixes with real llama.cpp: what one runner has computed, another with other slots goes on from, with the same tokens."""

from __future__ import annotations

import math
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ollamapy.engine.checkpoints import stops
from ollamapy.engine.engine import Engine
from ollamapy.engine.events import Event, Finished, TextOut
from ollamapy.engine.llama import Model
from ollamapy.engine.saved import Saved, root_of
from ollamapy.engine.sequence import Sequence
from ollamapy.runner import keeper
from ollamapy.runner.disk import Disk
from ollamapy.runner.keeper import Keeper, key_of
from ollamapy.types import Generation, Prompt, Sampling
from tests.plans import plan
from tests.runner.test_hostile_cache import DAMAGES
from tests.served import until
from tests.small_models import random_model, state_model

pytestmark = pytest.mark.llama


class Runner:
    """A model with an engine whose prefixes are saved; the clock stands still, so that batches do not depend on the time."""

    def __init__(
        self,
        path: Path,
        cache: Path | None,
        n_slots: int,
        salt: str = "s",
        memory: int = 10**8,
        rest: float = math.inf,
        **planned: Any,
    ) -> None:
        made = plan(
            path, 1024, n_slots, n_batch=512, threads=1, checkpoint_size=10**7, saved_size=memory
        )
        made = msgspec.structs.replace(made, **planned)
        self.model = Model(made)
        root = root_of(key_of(made, self.model.identity, salt))
        self.saved = Saved(
            root, memory, needs_end=not self.model.rewinds, has_rows=self.model.has_cells
        )
        disk = Disk(cache, "m", root, 10**8, 0, free=lambda path: 10**9) if cache else None
        self.reported: list[int] = []
        self.keeper = Keeper(self.model, self.saved, disk, self.reported.append)
        self.keeper._scan()  # at once, so that the test need not wait for it
        self.keeper.start(lambda: rest)
        self.events: list[Event] = []
        self.engine = Engine(
            self.model, self.events.extend, clock=lambda: 0, saving=self.keeper.saving
        )
        self.ids = 0

    def ask(self, prompt: str, n: int = 12, **settings: Any) -> tuple[str, Finished]:
        """An answer, and its counts."""
        self.ids += 1
        tokens = self.model.tokenize(prompt)
        generation = Generation(
            Prompt((prompt,)), Sampling(temperature=0), num_predict=n, **settings
        )
        sequence = Sequence(self.ids, tokens, generation, stops=stops(len(tokens)))
        read = threading.Event()
        if not self.keeper.fetch(sequence, 0, 1.0, read.set):
            read.set()
        assert read.wait(30)
        self.engine.submit(sequence)
        while self.engine.step(wait=False):
            pass
        texts = [
            each.text for each in self.events if isinstance(each, TextOut) and each.id == self.ids
        ]
        (end,) = [
            each for each in self.events if isinstance(each, Finished) and each.id == self.ids
        ]
        return "".join(texts), end

    def end(self) -> None:
        """As with Stop: while another thread waits for it, the engine's own saves what the slots hold."""
        stopping = threading.Thread(target=self.engine.finish, args=(10,))
        stopping.start()
        while stopping.is_alive():
            self.engine.step(wait=False)
        self.keeper.drain(10)


@pytest.fixture(
    params=["llama", "window", "mamba", "lfm2", "qwen2vl", "llama-", "window-", "lfm2-", "qwen2vl-"]
)
def kind(request: pytest.FixtureRequest) -> str:
    """A kind of model; with a minus it is loaded without flash attention, so that its values are transposed."""
    return str(request.param)


@pytest.fixture
def path(kind: str, tmp_path: Path) -> Path:
    kind, path = kind.rstrip("-"), tmp_path / "m.gguf"
    if kind in ("mamba", "lfm2"):
        return state_model(path, kind)
    if kind == "window":
        return random_model(path, window=32, n_ctx=2048)
    return random_model(path, architecture=kind, n_ctx=2048)


@pytest.fixture
def start(path: Path, kind: str, tmp_path: Path) -> Iterator[Callable[..., Runner]]:
    """Starts runners with one cache."""
    started: list[Runner] = []
    flash = {"flash_attention": False} if kind.endswith("-") else {}

    def begin(
        n_slots: int = 2, cache: Path | None = tmp_path / "cache", **settings: object
    ) -> Runner:
        started.append(Runner(path, cache, n_slots, **flash, **settings))  # type: ignore[arg-type]
        return started[-1]

    yield begin
    for each in started:
        each.model.close()


FIRST = "ba ke li mo ra zu ti vo se nu " * 40


def test_another_runner_goes_on_from_files(start: Callable[..., Runner]) -> None:
    """With other slots, and after the answer of the first."""
    one = start(8)
    text, _ = one.ask(FIRST)
    one.end()
    more = FIRST + text + " is or"
    wanted, fresh = start(4, cache=None).ask(more)
    found, end = start(4).ask(more)
    assert fresh.n_cached == 0 and end.n_restored == end.n_cached == end.n_read
    assert end.n_cached >= len(one.model.tokenize(FIRST)) - 5
    assert found == wanted != ""


@pytest.mark.parametrize("kind", ["llama"], indirect=True)
def test_files_are_written_while_the_engine_rests_or_at_the_end(
    start: Callable[..., Runner], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "MOST_UNREST", math.inf)
    runner = start(2, rest=0.0)
    runner.ask(FIRST)
    until(lambda: len(runner.saved) > 0, "its blocks are in memory")
    assert not list((tmp_path / "cache").rglob("*.rows"))
    runner.keeper.drain(10)
    assert list((tmp_path / "cache").rglob("*.rows"))


def test_what_slots_have_lost_is_in_memory(start: Callable[..., Runner]) -> None:
    """One slot, and another prompt between."""
    runner = start(1, cache=None)
    text, _ = runner.ask(FIRST)
    runner.keeper.drain(10)
    runner.ask("el an or is " * 40)
    found, end = runner.ask(FIRST + text + " is or")
    wanted, _ = start(1, cache=None).ask(FIRST + text + " is or")
    assert (end.n_read, found) == (0, wanted) and end.n_cached > 300
    assert end.n_restored == end.n_cached or not runner.model.has_cells, "or it is a checkpoint"


@pytest.mark.parametrize("kind", ["llama"], indirect=True)
def test_files_that_are_spoiled_are_computed_again(
    start: Callable[..., Runner], tmp_path: Path
) -> None:
    one = start()
    wanted, _ = one.ask(FIRST)
    one.end()
    for at, file in enumerate(sorted((tmp_path / "cache").rglob("*.rows"))):
        content = bytearray(file.read_bytes())
        content[(at + 1) * len(content) // 7] ^= 1
        file.write_bytes(content)
    found, end = start().ask(FIRST)
    assert (found, end.n_restored) == (wanted, 0)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["llama", "window", "lfm2"], indirect=True)
def test_whatever_happens_to_files_the_tokens_are_the_same(
    start: Callable[..., Runner], tmp_path: Path
) -> None:
    noise = random.Random(0)
    cache, whole = tmp_path / "cache", tmp_path / "whole"
    one = start()
    text, _ = one.ask(FIRST)
    one.end()
    wanted, _ = start(cache=None).ask(FIRST + text)
    cache.rename(whole)
    n_restored = []
    for _ in range(100):
        shutil.rmtree(cache, ignore_errors=True)
        shutil.copytree(whole, cache)
        files = sorted(cache.glob("*/*.*"))
        for damage in noise.sample(DAMAGES, noise.choice((1, 1, 3))):
            if len(files) > 1:
                damage(noise, files)
                files = [file for file in files if file.exists()]
        two = start()
        found, end = two.ask(FIRST + text)
        two.keeper.drain(10)
        assert found == wanted
        n_restored.append(end.n_restored)
    assert 0 in n_restored and any(n_restored), "some damages were seen, some did no harm"


@pytest.mark.parametrize("kind", ["llama"], indirect=True)
def test_a_cache_of_another_type_has_states_of_its_own(start: Callable[..., Runner]) -> None:
    one = start()
    one.ask(FIRST)
    one.end()
    wanted, _ = start(cache=None, kv_type="f32").ask(FIRST)
    other = start(kv_type="f32")
    found, end = other.ask(FIRST)
    assert (found, end.n_restored) == (wanted, 0)
    other.end()
    assert start(kv_type="f32").ask(FIRST)[1].n_restored > 300
    assert start().ask(FIRST)[1].n_restored > 300


@pytest.mark.parametrize("kind", ["llama"], indirect=True)
def test_what_is_private_and_what_is_another_s(
    start: Callable[..., Runner], tmp_path: Path
) -> None:
    one = start()
    one.ask(FIRST, private=True)
    one.end()
    assert not list((tmp_path / "cache").rglob("*.rows")) and len(one.saved) == 0
    two = start()
    two.ask(FIRST, salt="a")
    two.end()
    assert start().ask(FIRST, salt="b")[1].n_cached == 0
    assert start(salt="another daemon").ask(FIRST, salt="a")[1].n_cached == 0
    assert start().ask(FIRST, salt="a")[1].n_read > 300


@pytest.mark.parametrize("kind", ["llama"], indirect=True)
def test_how_much_memory_is_taken_is_reported(start: Callable[..., Runner]) -> None:
    """When blocks come, and when all are forgotten; not at every small change."""
    one = start(memory=10**6)
    one.ask(FIRST)
    one.keeper.drain(10)
    assert one.reported == [one.saved.size] and one.saved.size > 10**5
    one.ask(FIRST + "ba ke li mo ra zu ti vo " * 4)
    one.keeper.drain(10)
    assert len(one.reported) == 1
    one.keeper.forget(10)
    assert one.reported[1:] == [0]
    two = start(memory=10**6)
    two.ask(FIRST)
    assert two.reported == [two.saved.size], "also when they are read from files"
