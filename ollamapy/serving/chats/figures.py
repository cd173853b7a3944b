"""The tokens and times of an answer, as far as they are known while it is written."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from ...types import CacheReport, Chunk, Usage
from .values import AnswerUsage


class Figures:
    """Takes note of each chunk of an answer; times count from its making. The last chunk has the model's own figures: until it
    comes, also where it never does, the figures are those of the prompt, and of what has come of the answer."""

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._started = clock()
        self._usage: Usage | None = None
        self._cache: CacheReport | None = None
        self._notes: tuple[str, ...] = ()
        self._first = 0  # ns until the first piece
        self._latest = 0  # ns until the latest piece
        self._thought_from = 0  # ns until the first piece of thinking
        self._thought_to = 0  # and until what came after the last one
        self._is_thinking = False

    def take(self, chunk: Chunk) -> None:
        """Take note of a chunk."""
        passed = self._clock() - self._started
        speaks = bool(chunk.text or chunk.tool_calls)
        if chunk.thinking or speaks:
            self._first = self._first or passed
            self._latest = passed
        if chunk.thinking or self._is_thinking:
            self._thought_from = self._thought_from or passed
            self._thought_to = passed
            self._is_thinking = not (speaks or chunk.finish_reason)
        if known := chunk.usage or chunk.prompt_usage:
            self._usage = known
        self._cache = chunk.cache or self._cache
        self._notes = chunk.notes or self._notes
        if chunk.completion_tokens and self._usage is not None:
            self._usage = msgspec.structs.replace(
                self._usage,
                completion_tokens=chunk.completion_tokens,
                total_duration=passed,
                completion_duration=self._latest - self._first,
            )

    def usage(self) -> AnswerUsage | None:
        """The usage so far; None before the prompt was read."""
        usage = self._usage
        if usage is None:
            return None
        common = {
            name: getattr(usage, name)
            for name in Usage.__struct_fields__
            if name in AnswerUsage.__struct_fields__
        }
        return AnswerUsage(
            **common,
            context_used=usage.prompt_tokens + usage.completion_tokens,
            first_token_duration=self._first,
            thinking_duration=self._thought_to - self._thought_from,
            cache_note=_note(self._cache),
            notes=self._notes,
        )


def _note(cache: CacheReport | None) -> str:
    return cache.summary if cache and cache.reason not in ("first", "whole") else ""
