"""Jobs: who joins whom, what is listed, how they end; and one job between its thread and the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import Future
from contextlib import aclosing, suppress
from pathlib import Path
from typing import TypeVar

import pytest

from ollamapy.config import HubSettings
from ollamapy.errors import (
    CancelRequested,
    InvalidRequest,
    JobNotFound,
    RequestCancelled,
    ServerBusy,
)
from ollamapy.models.create.request import CreateRequest
from ollamapy.models.job import Job
from ollamapy.models.jobs import MOST_ENDED, MOST_JOBS, Jobs
from ollamapy.models.threads import Bridge, in_own_thread
from ollamapy.registry.catalog import Catalog
from ollamapy.registry.store import Store
from ollamapy.runner.render import Renderer
from ollamapy.types import Progress
from tests.small_models import install

Result = TypeVar("Result")


def run(work: Callable[[], Awaitable[Result]]) -> Result:
    """Run something on a loop, for at most half a minute."""

    async def bounded() -> Result:
        async with asyncio.timeout(30):
            return await work()

    return asyncio.run(bounded())


def jobs(root: Path, most: int = MOST_JOBS) -> Jobs:
    return Jobs(Store([root]), Catalog(()), Renderer(), HubSettings(offline=True), most)


class Story:
    """Reports "one", and "two" once it is released."""

    def __init__(self) -> None:
        self.started, self.released = threading.Event(), threading.Event()
        self.error: Exception | None = None

    def __call__(self, job: Job) -> None:
        job.report(Progress("one"))
        self.started.set()
        while not self.released.wait(0.01):
            job.report(Progress("waiting"))
        if self.error:
            raise self.error
        job.report(Progress("two"))


# One job


def test_every_watcher_sees_all_steps() -> None:
    async def watched() -> list[list[str]]:
        story, job = Story(), Job("pull", "m")
        job.start(story)
        early = asyncio.ensure_future(_statuses(job))
        await in_own_thread(story.started.wait)
        late = asyncio.ensure_future(_statuses(job))
        story.released.set()
        seen = [await early, await late, await _statuses(job)]
        assert job.ended and job.progress == Progress("two")
        return seen

    for statuses in run(watched):
        assert [each for each in statuses if each != "waiting"] == ["one", "two"]


async def _statuses(job: Job) -> list[str]:
    return [step.status async for step in job.watch()]


def test_a_step_that_is_out_of_date_is_not_shown() -> None:
    def story(job: Job) -> None:
        for done in range(1000):
            job.report(Progress("pulling", "sha256:1", 999, done))
        job.report(Progress("success"))

    async def watched() -> list[Progress]:
        job = Job("pull", "m")
        await job.start(story)
        return [step async for step in job.watch()]

    assert run(watched) == [Progress("pulling", "sha256:1", 999, 999), Progress("success")]


def test_an_error_reaches_every_watcher() -> None:
    async def watched() -> None:
        story, job = Story(), Job("pull", "m")
        story.error = InvalidRequest("no")
        story.released.set()
        job.start(story)
        for _ in range(2):
            with pytest.raises(InvalidRequest, match="no"):
                await _statuses(job)

    run(watched)


def test_a_cancelled_job_ends_at_its_next_report() -> None:
    async def cancelled() -> None:
        story, job = Story(), Job("pull", "m")
        job.start(story)
        await in_own_thread(story.started.wait)
        job.cancel()
        with pytest.raises(RequestCancelled):
            await _statuses(job)

    run(cancelled)


# Between a thread and the event loop


def test_a_coroutine_is_awaited_on_the_loop() -> None:
    async def work() -> threading.Thread:
        await asyncio.sleep(0)
        return threading.current_thread()

    async def bridged() -> threading.Thread:
        bridge = Bridge()
        return await in_own_thread(lambda: bridge.run(work()))

    assert run(bridged) is threading.current_thread()


def test_an_error_of_a_coroutine_is_raised_in_the_thread() -> None:
    async def work() -> None:
        raise InvalidRequest("no")

    async def bridged() -> None:
        bridge = Bridge()
        with pytest.raises(InvalidRequest):
            await in_own_thread(lambda: bridge.run(work()))

    run(bridged)


def test_cancelling_waits_for_the_end_of_the_coroutine() -> None:
    cleaned = []

    async def cancelled() -> None:
        bridge, begun = Bridge(), asyncio.Event()

        async def work() -> None:
            try:
                begun.set()
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0.01)
                cleaned.append("on the loop")

        def story() -> None:
            try:
                bridge.run(work())
            finally:
                cleaned.append("in the thread")

        thread = asyncio.ensure_future(in_own_thread(story))
        await begun.wait()
        bridge.cancel()
        with pytest.raises(RequestCancelled):
            await thread
        with pytest.raises(RequestCancelled):
            await in_own_thread(lambda: bridge.run(work()))

    run(cancelled)
    assert cleaned == ["on the loop", "in the thread"]


def test_the_end_of_the_loop_waits_for_no_thread() -> None:
    released = threading.Event()
    ended = []

    def story(job: Job) -> None:
        released.wait(20)
        ended.append(job)

    async def started() -> None:
        Job("create", "m").start(story)

    asyncio.run(started())
    assert not ended
    released.set()


# All of them


def test_jobs_are_listed_while_somebody_watches(tmp_path: Path) -> None:
    async def listed() -> None:
        owned, story = jobs(tmp_path), Story()
        first, second = (owned.follow("pull", "m", story, "the same") for _ in range(2))
        assert (await anext(first)).status == (await anext(second)).status == "one"
        [job] = owned.list()
        assert (job.kind, job.name, job.watchers) == ("pull", "m", 2)
        assert job.progress is not None
        await first.aclose()
        assert owned.list() == (job,) and not job.cancelled.is_set()
        await second.aclose()
        assert owned.list() == () and job.cancelled.is_set()
        await owned.close()
        assert job.ended

    run(listed)


def test_a_request_after_the_last_watcher_left_starts_anew(tmp_path: Path) -> None:
    async def again() -> None:
        owned, story = jobs(tmp_path), Story()
        first = owned.follow("pull", "m", story, "the same")
        await anext(first)
        [job] = owned.list()
        await first.aclose()
        second = owned.follow("pull", "m", story, "the same")
        await anext(second)
        [other] = owned.list()
        assert other is not job
        story.released.set()
        async with aclosing(second) as steps:
            *_, last = [step async for step in steps]
        assert last.status == "two" and owned.list() == ()

    run(again)


def test_the_end_of_the_daemon_ends_all_jobs(tmp_path: Path) -> None:
    async def closed() -> None:
        owned, story = jobs(tmp_path), Story()
        watching = owned.follow("pull", "m", story)
        await anext(watching)
        await owned.close()
        with pytest.raises(ServerBusy, match="the daemon is stopping: .* goes on"):
            [step async for step in watching]
        with pytest.raises(ServerBusy, match="the daemon is stopping"):
            await anext(owned.follow("pull", "m", story))

    run(closed)


def test_there_are_not_too_many(tmp_path: Path) -> None:
    async def many() -> None:
        owned, story = jobs(tmp_path, most=1), Story()
        await anext(owned.follow("pull", "m", story))
        with pytest.raises(ServerBusy, match="too many pull jobs"):
            await anext(owned.follow("pull", "m", story))
        story.released.set()
        await owned.close()

    run(many)


def test_a_kept_job_goes_on_when_nothing_watches_it(tmp_path: Path) -> None:
    async def kept() -> None:
        owned, story = jobs(tmp_path), Story()
        watching = owned.follow("pull", "m", story, "the same")
        await anext(watching)
        [job] = owned.list()
        job.is_kept = True
        await watching.aclose()
        assert (job.status, owned.list()) == ("running", (job,))
        story.released.set()
        assert (await _collected(owned.watch(job)))[-1].status == "two"
        assert (job.status, job.error) == ("done", None)
        assert owned.list() == () and owned.known() == (job,) and owned.find(job.id) is job

    run(kept)


def test_ending_a_job_tells_its_watchers_and_a_new_request_starts_anew(tmp_path: Path) -> None:
    async def ended() -> None:
        owned, story = jobs(tmp_path), Story()
        watching = owned.follow("pull", "m", story, "the same")
        await anext(watching)
        [job] = owned.list()
        owned.end(job.id)
        assert owned.list() == ()
        with pytest.raises(CancelRequested):
            await _collected(watching)
        assert job.status == "cancelled"
        assert owned.known() == (job,)
        owned.end(job.id)
        assert owned.known() == ()
        with pytest.raises(JobNotFound):
            owned.end(job.id)
        await anext(again := owned.follow("pull", "m", story, "the same"))
        [other] = owned.known()
        assert other is not job and other.status == "running"
        await again.aclose()
        await owned.close()

    run(ended)


def test_a_failed_job_keeps_its_error_and_only_the_latest_are_known(tmp_path: Path) -> None:
    async def failed() -> None:
        owned = jobs(tmp_path)
        for number in range(MOST_ENDED + 2):
            story = Story()
            story.released.set()
            story.error = InvalidRequest(f"no {number}")
            with pytest.raises(InvalidRequest):
                await _collected(owned.follow("pull", str(number), story))
        known = owned.known()
        assert [job.name for job in known] == [str(n + 2) for n in range(MOST_ENDED)]
        assert known[-1].status == "failed" and str(known[-1].error) == f"no {MOST_ENDED + 1}"

    run(failed)


def test_a_model_is_known_by_its_last_job(tmp_path: Path) -> None:
    async def again() -> None:
        owned = jobs(tmp_path)
        for error in (InvalidRequest("no"), None):
            story = Story()
            story.error = error
            story.released.set()
            with suppress(InvalidRequest):
                await _collected(owned.follow("pull", "m", story))
        assert [job.status for job in owned.known()] == ["done"]

    run(again)


def test_the_bytes_of_a_job_are_those_of_its_blobs() -> None:
    def story(job: Job) -> None:
        job.report(Progress("pulling a", "sha256:a", 10, 4))
        job.report(Progress("pulling b", "sha256:b", 5, 5))
        job.report(Progress("pulling a", "sha256:a", 10, 10))
        job.report(Progress("success"))

    async def counted() -> tuple[int, int]:
        job = Job("pull", "m")
        await job.start(story)
        return job.transferred

    assert run(counted) == (15, 15)


def test_a_creation_is_a_job(tmp_path: Path, plain: Path) -> None:
    install(tmp_path, "base", plain)

    async def created() -> None:
        owned = jobs(tmp_path)
        with Store([tmp_path]).locked():
            request = CreateRequest("new", from_="base", parameters={"no_such": 1})
            making = asyncio.ensure_future(_collected(owned.create(request)))
            await asyncio.sleep(0)
            [job] = owned.list()
            assert (job.kind, job.name) == ("create", "new")
        last = (await making)[-1]
        assert last.status == "success" and "no_such" in last.note
        assert owned.list() == ()

    run(created)


async def _collected(steps: AsyncGenerator[Progress, None]) -> list[Progress]:
    return [step async for step in steps]


def test_a_coroutine_that_is_cancelled_before_its_first_step_ends_the_wait() -> None:
    async def scenario() -> bool:
        bridge = Bridge()
        ended: Future[None] = Future()
        bridge._start(asyncio.sleep(600), ended)
        bridge.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        return ended.done() and isinstance(ended.exception(), asyncio.CancelledError)

    assert run(scenario)
