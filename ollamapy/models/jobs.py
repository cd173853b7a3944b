"""The jobs under way: one for all requests that want the same model pulled, one for each push and each creation.

A request watches its job. A second pull of the same source joins the first. When the last watcher has left, the job is cancelled,
unless it is kept: a pull writes its journal, and the same request goes on there; a push or a creation leaves nothing behind. Nothing
waits for the thread of a cancelled job but the end of the daemon, for CLOSE_SECONDS. How the latest jobs ended is remembered until
the daemon ends, for each model the last time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from functools import partial

from ..config import HubSettings
from ..errors import CancelRequested, JobNotFound, RequestCancelled, ServerBusy
from ..registry import source
from ..registry.catalog import Catalog
from ..registry.store import Store
from ..runner.render import Renderer
from ..types import Progress
from .create.making import create
from .create.request import CreateRequest
from .job import Job
from .pull import PullRequest, pull
from .push import PushRequest, push

MOST_JOBS = 64
"""Jobs at a time; each has its threads, and a transfer its connections."""

MOST_ENDED = 50
"""Ended jobs that are remembered."""

CLOSE_SECONDS = 3.0
"""How long the end of the daemon waits for cancelled jobs, which write their journals and remove their work files."""

_STOPPING = {
    "pull": "the daemon is stopping: the same command goes on with the pull later",
    "push": "the daemon is stopping: start it, and push again",
    "create": "the daemon is stopping: start it, and create the model again",
}


class Jobs:
    """Starts, joins, lists and ends jobs on a store. Belongs to the event loop.

    ``hub`` is how the daemon reaches the hub, ``most`` how many jobs may run at a time.
    """

    def __init__(
        self,
        store: Store,
        catalog: Catalog,
        renderer: Renderer,
        hub: HubSettings,
        most: int = MOST_JOBS,
    ) -> None:
        self._store, self._catalog, self._renderer, self._hub = store, catalog, renderer, hub
        self._most = most
        self._jobs: dict[
            object, Job
        ] = {}  # those that can be joined, by what makes two requests one
        self._known: dict[str, Job] = {}  # these and ended ones by their ids, oldest first
        self._threads: set[asyncio.Task[None]] = set()  # of these, and of jobs that are winding up
        self._closing = False

    def list(self) -> tuple[Job, ...]:
        """The jobs that some request watches or that are kept, oldest first: their kind, name and progress."""
        return tuple(self._jobs.values())

    def known(self) -> tuple[Job, ...]:
        """The running jobs and those that ended lately, oldest first."""
        return tuple(self._known.values())

    def find(self, id: str) -> Job:
        """A known job. Raises JobNotFound."""
        try:
            return self._known[id]
        except KeyError:
            raise JobNotFound(f"there is no job {ascii(id[:40])}, see: GET /api/jobs") from None

    def end(self, id: str) -> None:
        """Cancel a running job, forget an ended one. Raises JobNotFound."""
        job = self.find(id)
        if job.ended:
            del self._known[id]
            return
        for key in [key for key, each in self._jobs.items() if each is job]:
            del self._jobs[key]
        job.cancel()

    async def pull(self, request: PullRequest) -> AsyncGenerator[Progress, None]:
        """Get a model, or join the job that gets it already; closing this leaves it.

        Raises InvalidName and InvalidRequest before the first step, then what :func:`source.find` and
        :func:`download.fetch` raise, InvalidModel if the files are not a model, StoreError, ServerBusy.
        """
        async with aclosing(self.watch(self._pull(request))) as steps:
            async for step in steps:
                yield step

    def keep_pull(self, request: PullRequest) -> Job:
        """Begin a pull, or join the one that runs, and let it go on without a watcher. Raises InvalidName, InvalidRequest,
        ServerBusy; what goes wrong later is the job's error."""
        job = self._pull(request)
        job.is_kept = True
        return job

    def _pull(self, request: PullRequest) -> Job:
        wanted = source.parse(
            request.model, via=request.via, insecure=request.insecure, is_local=request.is_local
        )
        hub = self._hub_for(request)
        story = partial(pull, self._store, self._catalog, wanted, hub, request.limits)
        return self._joined("pull", request.model, story, (wanted, hub))

    def push(self, request: PushRequest) -> AsyncGenerator[Progress, None]:
        """Upload a model to where its name points; closing the steps ends it.

        They raise InvalidName, ModelNotFound, InvalidRequest, TransferError, ServerBusy.
        """
        story = partial(push, self._store, self._hub_for(request), request)
        return self.follow("push", request.model, story)

    async def create(
        self, request: CreateRequest, *, is_local: bool = True
    ) -> AsyncGenerator[Progress, None]:
        """Make a model; closing the steps ends it. A model of that name is replaced. ``is_local``: as in `PullRequest`.

        They raise InvalidName and InvalidRequest for a request that cannot be fulfilled, StoreError, RunnerError (quantizing), ServerBusy, what a
        pull of the base raises; no part of the new model is left then.
        """
        async with aclosing(self.watch(self._create(request, is_local))) as steps:
            async for step in steps:
                yield step

    def keep_create(self, request: CreateRequest, *, is_local: bool = True) -> Job:
        """Begin a creation that goes on without a watcher. Raises ServerBusy; what goes wrong later is the job's error."""
        job = self._create(request, is_local)
        job.is_kept = True
        return job

    def _create(self, request: CreateRequest, is_local: bool) -> Job:
        def pull_base(model: str) -> AsyncGenerator[Progress, None]:
            return self.pull(PullRequest(model, is_local=is_local))

        story = partial(create, self._store, self._renderer, pull_base, request)
        return self._joined("create", request.model, story)

    async def close(self) -> None:
        """Cancel all jobs, and start no more. A thread that waits for another machine is left behind after CLOSE_SECONDS."""
        self._closing = True
        for job in self.list():
            job.cancel()
        if self._threads:
            _, late = await asyncio.wait(self._threads, timeout=CLOSE_SECONDS)
            for task in late:
                task.cancel()

    def _hub_for(self, request: PullRequest | PushRequest) -> HubSettings:
        """The hub as the caller reaches it. The daemon's own token goes to another endpoint for its owner alone."""
        hub, own = request.hub, self._hub
        if hub is None:
            return own
        may_have_token = request.is_owner or hub.endpoint == own.endpoint
        return replace(hub, token_path=own.token_path if may_have_token else None)

    async def follow(
        self, kind: str, name: str, story: Callable[[Job], None], key: object = None
    ) -> AsyncGenerator[Progress, None]:
        """The steps of the running job of that key, else of a new one; closing this leaves it.

        Raises what `watch` raises, ServerBusy where there are too many jobs.
        """
        async with aclosing(self.watch(self._joined(kind, name, story, key))) as steps:
            async for step in steps:
                yield step

    def _joined(
        self, kind: str, name: str, story: Callable[[Job], None], key: object = None
    ) -> Job:
        key = key or object()
        return self._jobs.get(key) or self._start(key, Job(kind, name), story)

    async def watch(self, job: Job) -> AsyncGenerator[Progress, None]:
        """The steps of a job from the first on; closing this leaves it.

        Raises what the story raises, CancelRequested when a request ends it, ServerBusy when the daemon stops.
        """
        job.watchers += 1
        try:
            async with aclosing(job.watch()) as steps:
                async for step in steps:
                    yield step
        except RequestCancelled:
            if self._closing:
                raise ServerBusy(_STOPPING[job.kind]) from None
            raise CancelRequested from None
        finally:
            job.watchers -= 1
            if not job.watchers and not job.ended and not job.is_kept:
                self.end(job.id)

    def _start(self, key: object, job: Job, story: Callable[[Job], None]) -> Job:
        if self._closing or len(self._threads) >= self._most:
            why = (
                "the daemon is stopping"
                if self._closing
                else f"too many {job.kind} jobs run already"
            )
            raise ServerBusy(f"{why}, try again later")
        for id, past in list(self._known.items()):
            if past.ended and (past.kind, past.name) == (job.kind, job.name):
                del self._known[id]  # what comes of this one is of interest now
        self._jobs[key] = self._known[job.id] = job
        thread = job.start(story)
        self._threads.add(thread)

        def ended(task: asyncio.Task[None]) -> None:
            self._threads.discard(task)
            if self._jobs.get(key) is job:
                del self._jobs[key]
            past = [each.id for each in self._known.values() if each.ended]
            for id in past[: max(len(past) - MOST_ENDED, 0)]:
                del self._known[id]

        thread.add_done_callback(ended)
        return job
