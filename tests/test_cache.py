"""A cache is bounded by the bytes of its keys, and forgets what was used least recently."""

from __future__ import annotations

import threading

import pytest

from ollamapy.cache import Cache, cached


class Counted:
    """A function that remembers its calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __call__(self, text: str) -> str:
        self.calls.append(text)
        return text.upper()


def test_a_result_is_computed_once() -> None:
    compute = Counted()
    upper = Cache(compute, 100, len)
    assert [upper("a"), upper("a")] == ["A", "A"]
    assert compute.calls == ["a"]


def test_the_least_recently_used_are_dropped_when_the_bytes_are_used_up() -> None:
    compute = Counted()
    upper = Cache(compute, 10, len)
    for text in ("aaaa", "bbbb", "aaaa", "cccc"):
        upper(text)
    assert upper.size == 8
    compute.calls.clear()
    for text in ("aaaa", "cccc", "bbbb"):
        upper(text)
    assert compute.calls == ["bbbb"]


def test_many_large_keys_stay_below_the_limit() -> None:
    upper = Cache(Counted(), 1000, len)
    for number in range(200):
        upper(f"{number:03}" * 30)
        assert upper.size <= 1000


def test_what_is_larger_than_half_of_the_limit_is_not_kept() -> None:
    compute = Counted()
    upper = Cache(compute, 10, len)
    upper("a")
    assert [upper("b" * 6), upper("b" * 6), upper("a")] == ["B" * 6, "B" * 6, "A"]
    assert compute.calls == ["a", "b" * 6, "b" * 6]


def test_an_error_is_not_kept() -> None:
    calls = []

    @cached(100)
    def fails(text: str) -> str:
        calls.append(text)
        raise ValueError(text)

    for _ in range(2):
        with pytest.raises(ValueError, match="a"):
            fails("a")
    assert calls == ["a", "a"]


def test_it_can_be_emptied() -> None:
    compute = Counted()
    upper = Cache(compute, 100, len)
    upper("a")
    upper.clear()
    assert upper.size == 0
    upper("a")
    assert compute.calls == ["a", "a"]


def test_threads_share_it() -> None:
    upper = Cache(Counted(), 64, len)
    start = threading.Barrier(4)
    wrong: list[str] = []

    def work(seed: int) -> None:
        start.wait()
        for number in range(300):
            text = f"{(number * seed) % 20:02}"
            if upper(text) != text.upper():
                wrong.append(text)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 3, 7, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and 0 < upper.size <= 64
