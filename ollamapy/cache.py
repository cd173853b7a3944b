"""A cache bounded by bytes, for functions of untrusted texts: a bound on the number of entries would not limit their size.

Imports no other module of the package.
"""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Cache(Generic[Key, Value]):
    """``compute`` with a cache of its latest results, of at most ``limit`` bytes together.

    ``weigh`` gives the bytes of a key with its result, from the key alone. The least recently used entries are dropped first; one
    of more than half of the limit is not cached, and neither is an exception. Safe for threads: two that need one key at the
    same time may both compute it.
    """

    def __init__(
        self, compute: Callable[[Key], Value], limit: int, weigh: Callable[[Key], int]
    ) -> None:
        self._compute = compute
        self._limit = limit
        self._weigh = weigh
        self._kept: OrderedDict[Key, Value] = OrderedDict()
        self._lock = threading.Lock()
        self.size = 0

    def __call__(self, key: Key) -> Value:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        value = self._compute(key)
        self._keep(key, value)
        return value

    def clear(self) -> None:
        """Forget all results."""
        with self._lock:
            self._kept.clear()
            self.size = 0

    def _keep(self, key: Key, value: Value) -> None:
        weight = self._weigh(key)
        with self._lock:
            if weight > self._limit // 2 or key in self._kept:
                return
            self._kept[key] = value
            self.size += weight
            while self.size > self._limit:
                dropped, _ = self._kept.popitem(last=False)
                self.size -= self._weigh(dropped)


def cached(
    limit: int, weigh: Callable[[Any], int] = sys.getsizeof
) -> Callable[[Callable[[Key], Value]], Cache[Key, Value]]:
    """Decorate a function of one argument with a :class:`Cache`."""
    return lambda compute: Cache(compute, limit, weigh)
