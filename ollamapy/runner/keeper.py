"""Saved prefixes in the runner: the threads that take copies of slots apart, write them to files, and read these for requests.

    engine --Copy--> queue --cutter: blocks--> tree in memory --> queue --writer--> files
    worker --request--> queue --reader: files--> tree in memory --> engine

The engine waits for none of this, and of the requests only the one whose file is read. The cutter is behind by at most MOST_COPIES
copies; more are not saved. Files are written while the engine rests, because these threads and its own need the same processors.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable

from ..engine.cells import Layout
from ..engine.model import Model
from ..engine.saved import Block, Match, Saved
from ..engine.saving import Copy, Saving
from ..engine.sequence import Sequence
from ..loading import LoadPlan
from .cachefiles import model_of
from .disk import Disk
from .protocol import CacheFolder

MOST_COPIES = 4
"""Copies that wait to be taken apart; each takes the memory of a slot's tokens."""

MOST_UNFILED = 2
"""Copies whose blocks wait to be written to files; the cutter waits then."""

REST_SECONDS, MOST_UNREST = 0.2, 1.0
"""How long the engine must have had nothing to compute before a file is written, and how long that is waited for."""

LEAST_READ = 128
"""Tokens that a file must spare: fewer are computed in about the time of reading it."""

ASSUMED_RATE = 500.0
"""Prompt tokens a second, until the engine has measured."""

FORMAT = "2"
"""Raised when what is saved changes its form."""


def key_of(plan: LoadPlan, identity: tuple[str, ...], salt: str) -> tuple[str, ...]:
    """Everything that changes a state: the files and the settings of a plan, llama.cpp and the model as it loaded it
    (``identity``), and the daemon's salt. Not the number of slots, and not the threads."""
    return (FORMAT, salt, *identity, plan.files.key, plan.kv_type, str(plan.flash_attention))


def disk_of(folder: CacheFolder, plan: LoadPlan, root: bytes) -> Disk:
    """The files of a tree."""
    model = model_of(plan.files.weights.digest)
    return Disk(folder.path, model, root, folder.budget, folder.floor)


class Keeper:
    """The threads of one tree. ``disk`` None: nothing is written. ``report`` gets the bytes of the blocks in memory, when they have
    changed by a sixteenth of the budget; any of the threads calls it."""

    def __init__(
        self,
        model: Model,
        saved: Saved,
        disk: Disk | None,
        report: Callable[[int], None] = lambda size: None,
    ) -> None:
        self.saved, self._disk, self._report, self._reported = saved, disk, report, 0
        self.saving = Saving(model, saved, self.keep)
        self._copies: queue.Queue[Copy] = queue.Queue(MOST_COPIES)
        self._unfiled: queue.Queue[tuple[list[tuple[Block, bytes]], Layout]] = queue.Queue(
            MOST_UNFILED
        )
        self._hurry = threading.Event()
        self._rest: Callable[[], float] = lambda: math.inf
        self._reads: queue.SimpleQueue[tuple[Match, Callable[[], None]]] = queue.SimpleQueue()

    def start(self, rest: Callable[[], float] = lambda: math.inf) -> None:
        """Start the threads. ``rest``: for how many seconds the engine has had nothing to compute."""
        self._rest = rest
        for name, work in (
            ("saved prefixes", self._cut),
            ("files written", self._write),
            ("files read", self._read),
        ):
            threading.Thread(target=work, name=name, daemon=True).start()

    def keep(self, copy: Copy) -> None:
        """Take a copy, unless too many wait; for the engine's thread."""
        try:
            self._copies.put_nowait(copy)
        except queue.Full:
            pass  # it is saved another time, or computed again

    def drain(self, seconds: float) -> None:
        """Wait until what was copied is written, for at most so long."""

        def written() -> None:
            self._copies.join()
            self._unfiled.join()

        self._hurry.set()
        waiting = threading.Thread(target=written, daemon=True)
        waiting.start()
        waiting.join(seconds)
        self._hurry.clear()

    def forget(self, seconds: float) -> None:
        """Forget all blocks, once what was copied before is written, after at most so long. The files are the daemon's to delete."""
        self.drain(seconds)
        self.saved.clear()
        self._note_size()

    def _note_size(self) -> None:
        """Report how much memory is taken, if that is news."""
        size = self.saved.size
        if abs(size - self._reported) * 16 >= max(self.saved.budget, 1):
            self._reported = size
            self._report(size)

    # ---- to files --------------------------------------------------------------------------------------------------

    def _cut(self) -> None:
        """Keep the blocks of copies in memory."""
        while True:
            copy = self._copies.get()
            try:
                found, layout = self.saving.take_apart(copy)
                for block, body in found:
                    self._forget(self.saved.add(block.holding(body)))
                self._note_size()
                if self._disk is not None and found:
                    self._unfiled.put((found, layout))
            finally:
                self._copies.task_done()

    def _write(self) -> None:
        """Write the blocks of copies to files."""
        while True:
            found, layout = self._unfiled.get()
            try:
                self._wait_for_rest()
                assert self._disk is not None
                for block in self._disk.write(found, layout):
                    self.saved.add(block.filed())
            finally:
                self._unfiled.task_done()

    def _wait_for_rest(self) -> None:
        began = time.monotonic()
        while self._rest() < REST_SECONDS and time.monotonic() - began < MOST_UNREST:
            if self._hurry.wait(REST_SECONDS / 4):
                return

    def _forget(self, gone: list[Block]) -> None:
        for block in gone:
            if block.in_file and self._disk is not None:
                self._disk.remove(block)

    # ---- from files ------------------------------------------------------------------------------------------------

    def fetch(
        self, sequence: Sequence, n_held: int, rate: float, submit: Callable[[], None]
    ) -> bool:
        """Read what files have of a prompt, then ``submit`` it; False, and nothing is done, where that spares no time.

        ``n_held``: so many of its tokens the slots have; ``rate``: prompt tokens that are computed in a second.
        """
        if self._disk is None or sequence.scores:
            return False
        match = self.saved.match(sequence.tokens, sequence.salt)
        if not match.missing:
            return False
        n_memory = self.saved.match(sequence.tokens, sequence.salt, in_memory=True).n
        spared = match.n - max(n_held, n_memory)
        size = sum(block.size for block in match.missing)
        computing = spared / (rate or ASSUMED_RATE)
        if spared < LEAST_READ or size / self._disk.rate > computing:
            return False
        if sum(block.size for block in match.blocks) > self.saved.budget:
            return False
        sequence.n_read = spared
        self.saved.use(match)
        self._reads.put((match, submit))
        return True

    def _read(self) -> None:
        """Learn what the files have, then read them for requests."""
        self._scan()
        while True:
            match, submit = self._reads.get()
            try:
                self._load(match)
            finally:
                submit()

    def _scan(self) -> None:
        if self._disk is None:
            return
        for block, layout in self._disk.scan():
            self.saving.know(layout)
            self._forget(self.saved.add(block))

    def _load(self, match: Match) -> None:
        """Read the blocks of a match that are not in memory, until one is gone or wrong."""
        assert self._disk is not None
        for block in match.missing:
            body = self._disk.read(block)
            if body is None:
                self.saved.drop(block)
                return
            self.saved.hold(block, body)
        self._note_size()
