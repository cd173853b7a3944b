"""Models that can be pulled, for requests: the catalogue, the hub's search, and a remote model's details. Downloads nothing.

What waits for another machine runs in threads of its own, at most MOST_ASKING at a time and for a limited time.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from ..config import Settings
from ..errors import Offline, ServerBusy
from ..registry import hub, hub_search, remote_show, source
from ..registry.catalog import Catalog, Family
from ..registry.hub_search import HubModel
from ..registry.offers import Shelf, matching
from ..registry.patience import Patience
from .threads import in_own_thread

MOST_ASKING = 8
"""Requests to other machines at a time."""

_LONGEST_PAUSE = 3.0  # seconds that a busy server is waited for
_SEARCH_SECONDS, _SHOW_SECONDS = 20.0, 90.0

Result = TypeVar("Result")


class Offers:
    """What the catalogue and other machines have. Belongs to the event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._shelf = Shelf(Catalog(settings.library))
        self._asking = 0

    async def catalogue(self, text: str) -> list[Family]:
        """The families of the catalogue that have every word of a text; all of them for "". Raises InvalidCatalog."""
        return await asyncio.to_thread(lambda: matching(self._shelf.families(), text))

    async def search_hub(self, text: str, limit: int) -> tuple[HubModel, ...]:
        """What the hub's search finds. Raises TransferError and its children, ServerBusy."""
        access = await asyncio.to_thread(hub.access_of, self._settings.hub)
        search = partial(hub_search.search, text, access, limit=limit)
        return await self._ask(lambda patience: search(patience=patience), _SEARCH_SECONDS)

    async def show(self, text: str, free: int, *, is_local: bool) -> dict[str, Any]:
        """Details of a remote model, see :func:`.remote_show.show_remote`; ``is_local``: as in PullRequest.

        Raises InvalidName, InvalidRequest, InvalidModel, TransferError and its children, ServerBusy.
        """
        wanted = source.parse(text, is_local=is_local)
        show = partial(remote_show.show_remote, self._settings, wanted, free)
        return await self._ask(show, _SHOW_SECONDS)

    async def _ask(self, work: Callable[[Patience], Result], seconds: float) -> Result:
        """The result of work that waits for another machine; it is cancelled when the request ends or times out."""
        if self._asking >= MOST_ASKING:
            raise ServerBusy("too many requests to other machines at once, try again in a moment")
        cancelled = threading.Event()
        patience = Patience(cancelled, longest=_LONGEST_PAUSE)
        self._asking += 1
        try:
            async with asyncio.timeout(seconds):
                return await in_own_thread(partial(work, patience), "ask")
        except TimeoutError:
            raise Offline(
                f"no answer within {seconds:.0f} s: check the network and try again"
            ) from None
        finally:
            self._asking -= 1
            cancelled.set()
