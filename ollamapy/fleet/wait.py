"""What requests wait for until they have their lease, and how they learn of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from ..types import Loading, Queued, Waiting
from .lease import Lease
from .state import Resident, State, Status, Ticket

PACE = 0.25
"""Seconds between two reports to one request."""


class Wait:
    """A request's wait for its ``lease``. For use on the event loop only."""

    def __init__(self, lease: asyncio.Future[Lease]) -> None:
        self.lease = lease
        self._waiting: Waiting | None = None
        self._reported: Waiting | None = None
        self._changed = asyncio.Event()
        lease.add_done_callback(lambda _: self._changed.set())

    def report(self, waiting: Waiting) -> None:
        """Take note of what it waits for now."""
        self._waiting = waiting
        if waiting != self._reported:
            self._changed.set()

    async def next_report(self) -> Waiting | None:
        """What it waits for, as soon as that is new, and PACE seconds after the report before; None once the lease is granted or
        refused."""
        if self._reported is not None:
            await asyncio.wait([self.lease], timeout=PACE)
        await self._changed.wait()
        if self.lease.done():
            return None
        self._changed.clear()
        self._reported = self._waiting
        return self._waiting


def waits(state: State) -> Iterator[tuple[int, Waiting]]:
    """What each waiting request that wants to know waits for, with the number of its ticket. Pure."""
    for key, queue in state.waiting.items():
        resident = state.residents.get(key)
        for ahead, ticket in enumerate(queue.values()):
            if ticket.request.progress:
                yield ticket.number, _waits_for(ticket, ahead, resident)


def _waits_for(ticket: Ticket, ahead: int, resident: Resident | None) -> Waiting:
    """What a ticket waits for that has so many ``ahead`` of it in the queue of its model.

    Of the leases of a loaded model those beyond its slots wait too, in the engine, and come first.
    """
    if resident is None:
        return Queued(ahead + 1)
    if resident.status is Status.STARTING and resident.serves(ticket.request):
        return Loading(resident.stage, resident.fraction)
    return Queued(ahead + 1 + max(resident.in_flight - resident.n_slots, 0))
