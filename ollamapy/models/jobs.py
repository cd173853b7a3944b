"""The jobs under way: one for all requests that want the same model pulled, one for each push and each creation.

A request watches its job. A second pull of the same source joins the first. When the last watcher has left, the job is cancelled: a
pull writes its journal, and the same request goes on there; a push or a creation leaves nothing behind. Nothing waits for the thread
of a cancelled job but the end of the daemon, for CLOSE_SECONDS.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from functools import partial

from ..config import HubSettings
from ..errors import RequestCancelled, ServerBusy
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
        self._jobs: dict[object, Job] = {}  # those that are watched, by what makes two requests one
        self._threads: set[asyncio.Task[None]] = set()  # of these, and of jobs that are winding up
        self._closing = False

    def list(self) -> tuple[Job, ...]:
        """The jobs that some request watches, oldest first: their kind, name and progress."""
        return tuple(self._jobs.values())

    async def pull(self, request: PullRequest) -> AsyncGenerator[Progress, None]:
        """Get a model, or join the job that gets it already; closing this leaves it.

        Raises InvalidName and InvalidRequest before the first step, then what :func:`source.find` and
        :func:`download.fetch` raise, InvalidModel if the files are not a model, StoreError, ServerBusy.
        """
        wanted = source.parse(
            request.model, via=request.via, insecure=request.insecure, is_local=request.is_local
        )
        hub = self._hub_for(request)
        story = partial(pull, self._store, self._catalog, wanted, hub, request.limits)
        async with aclosing(self.follow("pull", request.model, story, (wanted, hub))) as steps:
            async for step in steps:
                yield step

    def push(self, request: PushRequest) -> AsyncGenerator[Progress, None]:
        """Upload a model to where its name points; closing the steps ends it.

        They raise InvalidName, ModelNotFound, InvalidRequest, TransferError, ServerBusy.
        """
        story = partial(push, self._store, self._hub_for(request), request)
        return self.follow("push", request.model, story)

    def create(
        self, request: CreateRequest, *, is_local: bool = True
    ) -> AsyncGenerator[Progress, None]:
        """Make a model; closing the steps ends it. A model of that name is replaced. ``is_local``: as in `PullRequest`.

        They raise InvalidName and InvalidRequest for a request that cannot be fulfilled, StoreError, RunnerError (quantizing), ServerBusy, what a
        pull of the base raises; no part of the new model is left then.
        """

        def pull_base(model: str) -> AsyncGenerator[Progress, None]:
            return self.pull(PullRequest(model, is_local=is_local))

        story = partial(create, self._store, self._renderer, pull_base, request)
        return self.follow("create", request.model, story)

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

        Raises what the story raises, ServerBusy where there are too many jobs or the daemon stops.
        """
        key = key or object()
        job = self._jobs.get(key) or self._start(key, Job(kind, name), story)
        job.watchers += 1
        try:
            async with aclosing(job.watch()) as steps:
                async for step in steps:
                    yield step
        except RequestCancelled:
            raise ServerBusy(_STOPPING[kind]) from None
        finally:
            job.watchers -= 1
            if not job.watchers and not job.ended:
                self._forget(key, job)
                job.cancel()

    def _start(self, key: object, job: Job, story: Callable[[Job], None]) -> Job:
        if self._closing or len(self._threads) >= self._most:
            why = (
                "the daemon is stopping"
                if self._closing
                else f"too many {job.kind} jobs run already"
            )
            raise ServerBusy(f"{why}, try again later")
        self._jobs[key] = job
        thread = job.start(story)
        self._threads.add(thread)

        def ended(task: asyncio.Task[None]) -> None:
            self._threads.discard(task)
            self._forget(key, job)

        thread.add_done_callback(ended)
        return job

    def _forget(self, key: object, job: Job) -> None:
        if self._jobs.get(key) is job:
            del self._jobs[key]
