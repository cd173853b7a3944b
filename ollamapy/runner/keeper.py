"""Saved prefixes in the runner: the threads that take copies of slots apart, write them to files, and read these for requests.

    engine --Copy--> queue --writer: blocks--> tree in memory --> files
    worker --request--> queue --reader: files--> tree in memory --> engine

The engine waits for none of this, and of the requests only the one whose file is read. The writer is behind by at most MOST_COPIES
copies; more are not saved.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

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

LEAST_READ = 128
"""Tokens that a file must spare: fewer are computed in about the time of reading it."""

ASSUMED_RATE = 500.0
"""Prompt tokens a second, until the engine has measured."""

FORMAT = "1"
"""Raised when what is saved changes its form."""


def key_of(plan: LoadPlan, identity: tuple[str, ...], salt: str) -> tuple[str, ...]:
    """Everything that changes a state: the files and the settings of a plan, llama.cpp and the model as it loaded it
    (``identity``), and the daemon's salt. Not the number of slots, and not the threads."""
    projector = plan.files.projector.digest if plan.files.projector else ""
    return (
        FORMAT,
        salt,
        *identity,
        plan.files.key,
        projector,
        plan.kv_type,
        str(plan.flash_attention),
    )


def disk_of(folder: CacheFolder, plan: LoadPlan, root: bytes) -> Disk:
    """The files of a tree."""
    model = model_of(plan.files.weights.digest)
    return Disk(folder.path, model, root, folder.budget, folder.floor)


class Keeper:
    """The threads of one tree. ``disk`` None: nothing is written."""

    def __init__(self, model: Model, saved: Saved, disk: Disk | None) -> None:
        self.saved, self._disk = saved, disk
        self.saving = Saving(model, saved, self.keep)
        self._copies: queue.Queue[Copy] = queue.Queue(MOST_COPIES)
        self._reads: queue.SimpleQueue[tuple[Match, Callable[[], None]]] = queue.SimpleQueue()

    def start(self) -> None:
        """Start the threads."""
        for name, work in (("saved prefixes", self._write), ("saved files", self._read)):
            threading.Thread(target=work, name=name, daemon=True).start()

    def keep(self, copy: Copy) -> None:
        """Take a copy, unless too many wait; for the engine's thread."""
        try:
            self._copies.put_nowait(copy)
        except queue.Full:
            pass  # it is saved another time, or computed again

    def drain(self, seconds: float) -> None:
        """Wait until what was copied is written, for at most so long."""
        waiting = threading.Thread(target=self._copies.join, daemon=True)
        waiting.start()
        waiting.join(seconds)

    def forget(self, seconds: float) -> None:
        """Forget all blocks, once what was copied before is written, after at most so long. The files are the daemon's to delete."""
        self.drain(seconds)
        self.saved.clear()

    # ---- to files --------------------------------------------------------------------------------------------------

    def _write(self) -> None:
        while True:
            copy = self._copies.get()
            try:
                self._save(copy)
            finally:
                self._copies.task_done()

    def _save(self, copy: Copy) -> None:
        """Keep the blocks of a copy in memory, then in files."""
        found, layout = self.saving.take_apart(copy)
        for block, body in found:
            self._forget(self.saved.add(block.holding(body)))
        for block, body in found:
            if self._disk is not None and self._disk.write(block, body, layout):
                self.saved.add(block.filed())

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
