"""What the scheduler's inbox takes: requests for leases and their ends, and what becomes of runners."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from ..loading import LoadPlan
from ..runner.protocol import Ready
from ..types import LoadStage
from .lease import Runner
from .request import LeaseRequest
from .state import Resident, ResizeRunner, Ticket


@dataclass(frozen=True, slots=True)
class LeaseRequested:
    """A request wants a lease."""

    ticket: Ticket


@dataclass(frozen=True, slots=True)
class LeaseEnded:
    """The holder of a ticket has gone, whether it waited, had its lease or was rejected."""

    number: int
    key: str


@dataclass(frozen=True, slots=True)
class RunnerAdopted:
    """A runner that was started before is taken over."""

    request: LeaseRequest
    plan: LoadPlan
    runner: Runner


@dataclass(frozen=True, slots=True)
class LoadProgressed:
    """How far a load is."""

    resident: Resident
    stage: LoadStage
    fraction: float


@dataclass(frozen=True, slots=True)
class LoadFinished:
    """A model is loaded."""

    resident: Resident
    ready: Ready


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """A model could not be loaded."""

    resident: Resident
    error: Exception


@dataclass(frozen=True, slots=True)
class Resized:
    """``ready``: how the model is loaded now; None: as before."""

    resident: Resident
    resize: ResizeRunner
    ready: Ready | None


@dataclass(frozen=True, slots=True)
class Outgrown:
    """A request needs so many cells in its slot, which has fewer."""

    resident: Resident
    n_cells: int


@dataclass(frozen=True, slots=True)
class RunnerExited:
    """May come twice: from what watches the runner and from what stops it."""

    resident: Resident


@dataclass(frozen=True, slots=True)
class UnloadRequested:
    """A model shall be unloaded; ``done`` is resolved once it is."""

    key: str
    done: asyncio.Future[None]


@dataclass(frozen=True, slots=True)
class DrainRequested:
    """No new requests are taken; ``done`` is resolved when the last lease has ended."""

    done: asyncio.Future[None]


@dataclass(frozen=True, slots=True)
class TimerFired:
    """It is time to decide again."""


Event = (
    LeaseRequested | LeaseEnded | RunnerAdopted | LoadProgressed | LoadFinished
    | LoadFailed | Resized | Outgrown | RunnerExited | UnloadRequested | DrainRequested | TimerFired
)  # fmt: skip
"""Any of them."""
