"""One job: a synchronous story in a thread of its own, its progress, and the requests that watch it.

    request --watch--> Job <--report-- story(job)                  in the job's thread
                        |  <---run---- coroutines, awaited on the event loop: children, other jobs
                        +--cancel----> RequestCancelled at the story's next report or coroutine

The stories are in pull.py, push.py and create/; jobs.py owns the running jobs and lets requests join them.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, Literal, TypeVar

from ..errors import RequestCancelled
from ..types import Progress
from .threads import Bridge, in_own_thread

STEP_SECONDS = 0.1
"""Seconds between two looks at the progress."""

JobStatus = Literal["running", "done", "failed", "cancelled"]

Result = TypeVar("Result")


class Job:
    """A story that runs or has ended. ``kind`` is "pull", "push" or "create", ``name`` the model's as the request gives it,
    ``started_at`` seconds since 1970. ``is_kept``: it goes on when nothing watches it.

    Made on the event loop, which its methods belong to, except ``report`` and ``run``: those are the story's.
    """

    def __init__(self, kind: str, name: str) -> None:
        self.kind = kind
        self.name = name
        self.id = f"job_{secrets.token_urlsafe(16)}"
        self.started_at = time.time()
        self.is_kept = False
        self.watchers = 0
        self.progress: Progress | None = None
        """The latest step, None before the first."""
        self._bridge = Bridge()
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._lock = threading.Lock()
        # The last step of each blob and status, with its number: a slow or late watcher misses only outdated steps
        self._steps: dict[tuple[str, str, str], tuple[int, Progress]] = {}
        self._number = 0
        self._ended: asyncio.Task[None]

    def start(self, story: Callable[[Job], None]) -> asyncio.Task[None]:
        """Run the story, in a task that ends with it."""
        self._ended = asyncio.ensure_future(in_own_thread(lambda: story(self), self.kind))
        self._ended.add_done_callback(self._finish)
        return self._ended

    @property
    def ended(self) -> bool:
        return self._ended.done()

    @property
    def status(self) -> JobStatus:
        if not self.ended:
            return "running"
        error = self.error
        if error is None:
            return "done"
        return "cancelled" if isinstance(error, RequestCancelled) else "failed"

    @property
    def error(self) -> BaseException | None:
        """What the story raised; None while it runs and where it succeeded."""
        if not self.ended:
            return None
        if self._ended.cancelled():
            return RequestCancelled("cancelled")
        return self._ended.exception()

    @property
    def transferred(self) -> tuple[int, int]:
        """Bytes that have come or gone, and bytes of all blobs whose transfer has begun."""
        with self._lock:
            steps = [step for _, step in self._steps.values() if step.digest]
        return sum(step.completed for step in steps), sum(step.total for step in steps)

    @property
    def cancelled(self) -> threading.Event:
        """Set once the job is cancelled."""
        return self._bridge.cancelled

    def cancel(self) -> None:
        """End the story at its next report, coroutine or look at ``cancelled``."""
        self._bridge.cancel()

    # For the story, in its thread

    def report(self, step: Progress) -> None:
        """Show a step to the watchers. Raises RequestCancelled once the job is cancelled."""
        if self.cancelled.is_set():
            raise RequestCancelled("cancelled")
        with self._lock:
            self._number += 1
            key = (step.status, step.digest, "" if step.digest else step.note)
            self._steps.pop(key, None)
            self._steps[key] = self._number, step
            self.progress = step
        try:
            self._loop.call_soon_threadsafe(self._wake)
        except RuntimeError:
            raise RequestCancelled("the daemon has ended") from None

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """The result of a coroutine that is awaited on the event loop. Raises what it raises, RequestCancelled."""
        return self._bridge.run(work)

    # For watchers

    async def watch(self) -> AsyncGenerator[Progress, None]:
        """The steps from the first on, and those to come until the end. Raises what the story raised."""
        seen = 0
        while True:
            changed, ended = self._changed, self.ended
            for number, step in self._since(seen):
                seen = number
                yield step
            if ended:
                break
            await asyncio.wait((self._ended,), timeout=STEP_SECONDS)
            await changed.wait()
        if (error := self.error) is not None:
            raise error

    def _since(self, number: int) -> list[tuple[int, Progress]]:
        with self._lock:
            return [each for each in self._steps.values() if each[0] > number]

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _finish(self, ended: asyncio.Task[None]) -> None:
        self._wake()
        if not ended.cancelled():
            ended.exception()  # raised in the watchers; without any, it is not reported as lost
