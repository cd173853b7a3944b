"""Checkpoints: copies of the state that a model cannot go back to by itself, and where it is worth taking one.

A sliding window has forgotten what lies before it, and a recurrent state is the sum of all tokens before it. Such a slot can
only be continued where it ends; a checkpoint is another such place:

    prompt        [ system ..... | question | answer | question ........ | opening of the answer ]
    checkpoints                  ^                   ^                   ^

llama.cpp calls the copied part the partial state: the cells of the window, or the recurrent state. It is valid at exactly the
position where it was taken, after exactly the tokens before it. The cells of layers that see everything are not in it: a slot
must hold them. Nothing here calls llama.cpp; ``slots.py`` does.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

GAP = 32
"""Tokens between two checkpoints of a prompt: fewer are computed again in about the time that a batch for them would take."""

EVERY = 4096
"""Tokens after which there is a checkpoint in a long prompt or answer whatever it contains."""

TAIL = 4
"""Tokens at a prompt's end that the next turn may write in another way, where its messages are not known."""

STRIDE = 128
"""Tokens of an answer after which a recurrent state is copied; a window reaches back by itself."""


def stops(n_prompt: int, marks: Iterable[int] = ()) -> tuple[int, ...]:
    """Where a prompt's computing pauses for a checkpoint: numbers of tokens, ascending.

    ``marks``: how many tokens come before each place where another prompt may go on in another way, such as the beginning of
    the last question and the end of the last message. The later of two near ones is taken; at least one token comes after.
    """
    marks = [mark for mark in marks if 0 < mark < n_prompt]
    wanted = {*marks, *range(EVERY, n_prompt, EVERY)}
    if not marks or n_prompt - max(marks) > GAP:
        wanted.add(n_prompt - TAIL)
    found: list[int] = []
    for place in sorted(wanted, reverse=True):
        if place >= GAP and (not found or found[-1] - place >= GAP):
            found.append(place)
    return tuple(reversed(found))


def until_stop(stops: Sequence[int], n_past: int, n_tokens: int) -> int:
    """Tokens from ``n_past`` on to the next stop, or to the end."""
    at = bisect_right(stops, n_past)
    end = stops[at] if at < len(stops) else n_tokens
    return min(end, n_tokens) - n_past


def is_due(stops: Sequence[int], n_past: int, n_prompt: int, *, recurrent: bool) -> bool:
    """Is a checkpoint taken after ``n_past`` tokens? At the prompt's stops, and now and then in an answer."""
    if n_past <= n_prompt:
        return n_past in stops
    return n_past % (STRIDE if recurrent else EVERY) == 0


def places(lengths: Iterable[int], marks: Iterable[int]) -> tuple[int, ...]:
    """How many tokens end at or before each of the ``marks``, which count bytes; ``lengths`` are the tokens' bytes in order. Tokens
    without bytes (of images) come after a mark."""
    ends, total = [], 0
    for length in lengths:
        total += length
        ends.append(total)
    found = []
    for mark in marks:
        at = bisect_left(ends, mark)
        found.append(at + (at < len(ends) and ends[at] == mark))
    return tuple(found)


def packed(tokens: Sequence[int]) -> bytes:
    """Tokens as bytes, four each, so that prefixes are compared in C."""
    return array("i", tokens).tobytes()


@dataclass(slots=True, eq=False)
class Checkpoint:
    """The partial ``state`` after ``n`` tokens, which are ``prefix`` (:func:`packed`); ``salt`` names whose they are. ``used``: when
    it was last of use."""

    prefix: bytes
    state: bytearray
    used: int = 0
    salt: bytes = b""

    @property
    def n(self) -> int:
        """Tokens before it."""
        return len(self.prefix) // 4

    @property
    def size(self) -> int:
        """Bytes that it takes."""
        return len(self.prefix) + len(self.state)


class Checkpoints:
    """The checkpoints of one model, of at most ``budget`` bytes together."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.size = 0
        self._all: list[Checkpoint] = []
        self._now = 0

    def __len__(self) -> int:
        return len(self._all)

    def find(self, tokens: Sequence[int], most: int, salt: bytes = b"") -> Checkpoint | None:
        """The longest one of a prefix of ``tokens``, of at most ``most`` tokens, and of the same ``salt``."""
        if not self._all or most <= 0:
            return None
        return max(self.along(tokens[:most], salt), key=lambda each: each.n, default=None)

    def along(self, tokens: Sequence[int], salt: bytes = b"") -> list[Checkpoint]:
        """All of prefixes of these tokens."""
        given = packed(tokens) if self._all else b""
        return [e for e in self._all if e.salt == salt and given.startswith(e.prefix)]

    def use(self, checkpoint: Checkpoint) -> None:
        """Note that one was of use."""
        self._now += 1
        checkpoint.used = self._now

    def has(self, prefix: bytes, salt: bytes = b"") -> bool:
        """Is there one after exactly these tokens?"""
        return any(each.salt == salt and each.prefix == prefix for each in self._all)

    def make_room(self, size: int, held: Sequence[bytes] | None = None) -> bool:
        """Give up the least useful ones until there is room for ``size`` bytes; False where there never is.

        ``held``: what the slots hold, where a checkpoint is of no use without; None where it is.
        """
        if size > self.budget:
            return False
        while self.size + size > self.budget:
            self.drop(least_useful(self._all, self._now, held))
        return True

    def add(self, checkpoint: Checkpoint) -> None:
        """Keep one for which there is room."""
        self.use(checkpoint)
        self._all.append(checkpoint)
        self.size += checkpoint.size

    def clear(self) -> None:
        """Give all up."""
        self._all.clear()
        self.size = 0

    def fit(self, budget: int, change: Callable[[bytearray], bytearray | None]) -> None:
        """Change all states for another context, which allows so many bytes; those that cannot be changed are given up."""
        if not self.budget:
            return
        for each in tuple(self._all):
            state = change(each.state)
            self.drop(each)
            if state is not None:
                each.state = state
                self.size += each.size
                self._all.append(each)
        self.budget = budget
        while self.size > budget:
            self.drop(least_useful(self._all, self._now))

    def drop(self, checkpoint: Checkpoint) -> None:
        """Give one up."""
        self._all.remove(checkpoint)
        self.size -= checkpoint.size


def least_useful(
    checkpoints: Sequence[Checkpoint], now: int, held: Sequence[bytes] | None = None
) -> Checkpoint:
    """The one to give up first: one whose tokens no slot holds any more, else the one that spares the fewest tokens for its age.

    It spares those since the checkpoint before it; so the early ones, which many prompts share, stay.
    """

    def worth(checkpoint: Checkpoint) -> tuple[bool, float]:
        before = (
            other.n
            for other in checkpoints
            if other is not checkpoint and checkpoint.prefix.startswith(other.prefix)
        )
        spared = checkpoint.n - max(before, default=0)
        reachable = held is None or any(each.startswith(checkpoint.prefix) for each in held)
        return reachable, spared / (1 + now - checkpoint.used)

    return min(checkpoints, key=worth)
