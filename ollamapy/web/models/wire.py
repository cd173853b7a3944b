"""The JSON of our own paths about models. Pure."""

from __future__ import annotations

import msgspec

from ...human import print_time
from ...models.job import Job, JobStatus
from ...types import Progress
from ..call import describe


class Fault(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a job failed: the message and, for the errors that programs handle, the code."""

    message: str
    code: str = ""


class JobState(msgspec.Struct, frozen=True):
    """One job. ``created_at`` is RFC 3339; ``completed`` and ``total`` are bytes of all blobs whose transfer has begun;
    ``progress`` is the latest step, null before the first; ``background``: it goes on when nothing follows it."""

    id: str
    kind: str
    model: str
    status: JobStatus
    created_at: str
    background: bool
    completed: int
    total: int
    progress: Progress | None
    error: Fault | None


def job(job: Job) -> JobState:
    """A job as it is now."""
    completed, total = job.transferred
    return JobState(
        id=job.id,
        kind=job.kind,
        model=job.name,
        status=job.status,
        created_at=print_time(job.started_at),
        background=job.is_kept,
        completed=completed,
        total=total,
        progress=job.progress,
        error=_fault(job) if job.status == "failed" else None,
    )


def _fault(job: Job) -> Fault | None:
    if not isinstance(job.error, Exception):
        return None
    _, message, code = describe(job.error)
    return Fault(message, code)
