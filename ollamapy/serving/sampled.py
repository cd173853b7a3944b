"""The answers with tool calls as models wrote them, by their calls. In memory only, bounded; for the event loop.

It holds no more of a conversation than the cache of the model does, whose tokens it helps to find again.
"""

from __future__ import annotations

import json
import sys
from collections import OrderedDict
from collections.abc import Sequence

from ..chat.verbatim import Sampled
from ..digests import sha256_hex
from ..types import Message, ToolCall

MOST_ANSWERS = 100_000
MOST_BYTES = 16 * 2**20

_OVERHEAD, _TOKEN = 400, 36
"""Bytes of an answer beside its text, and of a token id, about."""


class SampledCalls:
    """The texts of answers with calls, of each model. An answer is found by the content of its calls. Where clients
    keep the ids of calls, the first one's id decides between answers that wrote the same call in different ways."""

    def __init__(self) -> None:
        self._answers: OrderedDict[str, Sampled] = OrderedDict()
        self.size = 0
        """Bytes in memory, about."""

    def add(self, model: str, content: str, calls: Sequence[ToolCall], sampled: Sampled) -> None:
        """Remember what a model wrote as ``content`` and ``calls``, and forget the oldest where there is no room."""
        if not calls or _size(sampled) > MOST_BYTES // 4:
            return
        for key in _keys(model, content, calls):
            self._forget(key)
            self._answers[key] = sampled
            self.size += _size(sampled)
        while self.size > MOST_BYTES or len(self._answers) > 2 * MOST_ANSWERS:
            self._forget(next(iter(self._answers)))

    def of(self, model: str, message: Message) -> Sampled | None:
        """What a model wrote as this message; None where that is not known."""
        if message.role != "assistant" or not message.tool_calls:
            return None
        for key in _keys(model, message.content, message.tool_calls):
            if (found := self._answers.get(key)) is not None:
                self._answers.move_to_end(key)
                return found
        return None

    def _forget(self, key: str) -> None:
        if (found := self._answers.pop(key, None)) is not None:
            self.size -= _size(found)


def _keys(model: str, content: str, calls: Sequence[ToolCall]) -> tuple[str, str]:
    """With the id of the first call, and without. Clients change the prefix of ids, and the white space around contents."""
    id = calls[0].id.removeprefix("call_").removeprefix("toolu_")
    named = [(each.name, each.arguments) for each in calls]
    digest = sha256_hex(json.dumps([model, content.strip(), named], sort_keys=True).encode())
    return f"{digest} {id}", digest


def _size(sampled: Sampled) -> int:
    return _OVERHEAD + sys.getsizeof(sampled.text) + _TOKEN * len(sampled.tokens)
