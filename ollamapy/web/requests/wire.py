"""The JSON of recent requests. Pure."""

from __future__ import annotations

import msgspec

from ...human import print_time
from ...serving.recent import Recent
from ...types import CacheReport


class RecentRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request that was answered lately. ``ended_at`` is RFC 3339; ``cache_report``, of one that is asked for by its id,
    explains what was reused of its prompt."""

    id: str
    model: str
    ended_at: str
    messages: int
    prompt_tokens: int
    cached_tokens: int
    cache_report: CacheReport | None = None


def described(request: Recent, cache: CacheReport | None = None) -> RecentRequest:
    """A recent request as the API shows it."""
    return RecentRequest(
        id=request.id,
        model=request.model,
        ended_at=print_time(request.at),
        messages=len(request.messages),
        prompt_tokens=request.prompt_tokens,
        cached_tokens=request.cached_tokens,
        cache_report=cache,
    )
