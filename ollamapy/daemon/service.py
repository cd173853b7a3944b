"""The daemon once its port is open: make the services, serve HTTP until a signal, shut everything down.

The first SIGTERM or SIGINT stops accepting and lets requests in flight finish; a second one, or a time limit, ends them with an
error. For answers that are stored as they come the limit is short. Runners end before this process does; if it is killed, each runner gets the end of its pipe and exits.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import Settings
from ..errors import OllamapyError, StoreError, reason
from ..fleet import fit
from ..fleet.request import LeaseRequest
from ..fleet.scheduler import Scheduler
from ..human import format_bytes
from ..loading import LoadPlan
from ..machine import free_memory
from ..models.models import Models
from ..registry.prune import sweep
from ..registry.store import Store, open_store
from ..request import Conversation, Request
from ..runner import adopted, early
from ..runner.cachefiles import cache_folder
from ..runner.kernels import Kernels
from ..runner.process import RunnerProcess
from ..runner.render import Renderer
from ..secret import ensure_secret, read_secret
from ..serving.answer import answer, check, lease_request
from ..serving.preread import preread
from ..serving.presets import Presets
from ..serving.reading import Files
from ..serving.recent import RecentRequests, log_in
from ..serving.services import Services
from ..serving.turn import template_of
from .log import OneLine, RotatedLog, is_stderr

if TYPE_CHECKING:
    from ..web.server import Server

log = logging.getLogger(__name__)

_MOST_CONNECTIONS = 50_000

DRAIN_SECONDS = 30.0
"""How long requests in flight may go on after a signal."""

CHATS_SECONDS = 2.0
"""How long answers for chats may: what there is of them is stored, and can be continued when the daemon runs again."""

SWITCH_SECONDS = 0.001
"""How long a thread that parses or encodes a long request may keep the event loop from going on. Python's default, 5 ms, is paid at
each call into the system."""

_ERROR_SECONDS = 5  # for error lines to reach their clients, after the drain


def run(
    settings: Settings,
    listener: socket.socket,
    preload: str | None,
    process: subprocess.Popen[bytes] | None,
) -> None:
    """Serve at a listener until a signal. ``process`` was started for the model to ``preload``. Raises OllamapyError."""
    sys.setswitchinterval(SWITCH_SECONDS)
    _configure_logging(settings.debug, settings.paths.log)
    for warning in (*settings.warnings, *_missing(settings.paths.more_models)):
        log.warning("%s", warning)
    _make_secret(settings.paths.secret)
    models = Models(open_store(settings.paths), settings.paths.listing)
    asyncio.run(_serve(settings, listener, models, preload, process))


def _configure_logging(debug: bool, file: Path) -> None:
    """Log to stderr; in the background, where stderr is the log file, limit its size."""
    handler = RotatedLog(file) if is_stderr(file) else logging.StreamHandler()
    handler.setFormatter(OneLine())
    logging.basicConfig(handlers=[handler], level=logging.DEBUG if debug else logging.INFO)
    for noisy in ("uvicorn", "asyncio"):  # the daemon logs the same itself
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _missing(folders: Iterable[Path]) -> Iterator[str]:
    for each in folders:
        if not each.is_dir():
            yield f"OLLAMAPY_MORE_MODELS names {each}, which is no folder: its models are not listed"


def _make_secret(path: Path) -> None:
    try:
        ensure_secret(path)
    except OSError as error:
        log.warning(
            "cannot write %s (%s): commands will not send tokens to this daemon",
            path,
            reason(error),
        )


def _allow_many_connections() -> int:
    """The number of connections that may be open at once. Each takes a file: raise the soft limit of open files, and keep some
    of them free for models, runners and the log."""
    try:
        import resource
    except ImportError:  # Windows
        return _MOST_CONNECTIONS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (ValueError, OSError) as error:
            log.debug("the limit of %d open files stays: %s", soft, error)
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return _MOST_CONNECTIONS
    return max(8, min(files - max(files // 8, 40), _MOST_CONNECTIONS))


# ---- serving ---------------------------------------------------------------------------------------------------------


async def _serve(
    settings: Settings,
    listener: socket.socket,
    models: Models,
    preload: str | None,
    process: subprocess.Popen[bytes] | None,
) -> None:
    renderer = Renderer()
    scheduler = await _scheduler(settings, models, renderer, preload, process)
    threading.Thread(target=_sweep, args=(models.store,), daemon=True, name="sweep").start()
    services = _services(settings, models, scheduler, renderer)
    try:
        await services.recent.restore()
        await _serve_http(services, listener)
    finally:
        await services.jobs.close()
        await services.responses.close()
        await services.chats.close()
        await scheduler.close()
        await renderer.close()
        await services.recent.close()
        log.info("stopped")


async def _scheduler(
    settings: Settings,
    models: Models,
    renderer: Renderer,
    preload: str | None,
    process: subprocess.Popen[bytes] | None,
) -> Scheduler:
    """The scheduler, with the runner of the model to preload on its way."""
    start = partial(_start_runner, settings, Kernels(settings.paths.kernels))
    ahead = None
    if preload:
        start_first = partial(start, process=process)
        ahead = await _load_ahead(models, renderer, settings, preload, start_first)
        if ahead is None and process is not None:
            await asyncio.to_thread(early.discard, process)
    scheduler = Scheduler(start_runner=start, free_memory=free_memory, settings=settings)
    if ahead is not None:
        scheduler.adopt(ahead.request, ahead.plan, ahead.runner)
    return scheduler


def _services(
    settings: Settings, models: Models, scheduler: Scheduler, renderer: Renderer
) -> Services:
    """The services of the web. Their modules are imported here, once the preloaded model's runner is on its way."""
    from ..models.jobs import Jobs
    from ..models.offers import Offers
    from ..registry.catalog import Catalog
    from ..registry.linked import fetch
    from ..serving.chats.chats import Answering, Chats
    from ..serving.responses.responses import Responses

    keeps = settings.keeps_history
    answering = Answering(
        lambda request, caller: answer(services, request, caller),
        lambda request: check(services, request),
        lambda request, caller: preread(services, request, caller),
    )
    chats = Chats(settings.paths.chats if keeps else None, settings.paths.attachments, answering)
    services = Services(
        settings,
        models,
        scheduler,
        renderer,
        jobs=Jobs(models.store, Catalog(settings.library), renderer, settings.hub),
        offers=Offers(settings),
        chats=chats,
        responses=Responses(
            chats.in_database,
            answering.answer,
            answering.check,
            days=settings.responses_days,
            is_kept=keeps,
        ),
        presets=Presets(settings.paths.presets),
        recent=RecentRequests(log_in(settings.paths.requests), keeps=keeps),
        files=Files(fetch=fetch if settings.fetches_urls else None),
    )
    return services


@dataclass(frozen=True, slots=True)
class _Ahead:
    """A runner that is started before there is a scheduler."""

    request: LeaseRequest
    plan: LoadPlan
    runner: RunnerProcess


async def _load_ahead(
    models: Models,
    renderer: Renderer,
    settings: Settings,
    name: str,
    start_runner: Callable[[LoadPlan], RunnerProcess],
) -> _Ahead | None:
    """Start loading a model, and return once its process has the Load. Errors of loading are raised by the first request."""
    try:
        spec = await models.load(name)
        request = lease_request(spec, spec.options)
        plan = fit.best(request, settings, free_memory())
    except OllamapyError as error:
        log.warning("cannot preload %s: %s", name, error)
        return None
    runner = start_runner(plan)
    if template_of(spec, Request(name, Conversation())).is_foreign:
        renderer.warm()
    await runner.started()  # before the imports that follow block the event loop
    return _Ahead(request, plan, runner)


def _start_runner(
    settings: Settings,
    kernels: Kernels,
    plan: LoadPlan,
    process: subprocess.Popen[bytes] | None = None,
) -> RunnerProcess:
    """A runner that loads the plan, in the given process if there is one."""
    size = settings.cache_size if settings.keeps_history else 0
    return RunnerProcess(
        plan,
        stall_timeout=settings.load_timeout,
        kernels=kernels,
        spawn=adopted.spawning(process) if process is not None else None,
        cache=cache_folder(settings.paths.cache, size, _salt(settings)),
    )


def _salt(settings: Settings) -> str:
    """The secret part of the names of saved prefixes, so that no other daemon's are used."""
    secret = read_secret(settings.paths.secret) or b""
    return hmac.digest(secret, b"saved prefixes", "sha256").hex()


def _sweep(store: Store) -> None:
    """Delete unfinished files that killed processes left in the store."""
    try:
        removed = sweep(store)
    except StoreError as error:
        log.warning("cannot delete unfinished files of ended processes: %s", error)
    else:
        if removed:
            log.info(
                "deleted unfinished files of ended processes: %s",
                format_bytes(sum(each.size for each in removed)),
            )


async def _serve_http(services: Services, listener: socket.socket) -> None:
    """Serve until a signal has come and the requests in flight have ended."""
    from ..web.app import create_app
    from ..web.call import is_loopback
    from ..web.server import Server

    drain_seconds = DRAIN_SECONDS + _ERROR_SECONDS
    server = Server(
        create_app(services),
        drain_seconds=drain_seconds,
        max_connections=_allow_many_connections(),
    )
    address = services.settings.address
    if not is_loopback(address.host):
        log.warning(
            "listening beyond this machine without authentication: every client that reaches the port can use the daemon"
        )
    async with _ended_by_signals(server, services):
        log.info("listening at %s", address.url)
        await server.serve([listener])


@asynccontextmanager
async def _ended_by_signals(server: Server, services: Services) -> AsyncIterator[None]:
    """A first signal: no new requests, those in flight go on for DRAIN_SECONDS, those of chats for CHATS_SECONDS, jobs are
    cancelled (they can be resumed). A second: everything ends at once."""
    loop = asyncio.get_running_loop()
    scheduler = services.scheduler
    hurry = asyncio.Event()
    endings: list[asyncio.Task[None]] = []

    async def end() -> None:
        await services.jobs.close()
        drained = asyncio.ensure_future(scheduler.drain(DRAIN_SECONDS))
        hurried = asyncio.ensure_future(hurry.wait())
        ends = (drained, hurried)
        await asyncio.wait(ends, timeout=CHATS_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        await services.chats.end_answers()
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        drained.cancel()
        hurried.cancel()
        await services.responses.end_running()
        await scheduler.close()  # requests that are still open end with an error

    def signalled() -> None:
        if server.should_exit:
            hurry.set()
            return
        log.info("stopping: requests in flight may go on for %.0f s", DRAIN_SECONDS)
        server.should_exit = True
        endings.append(loop.create_task(end()))

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(signalled))
    yield
    await asyncio.gather(*endings)
