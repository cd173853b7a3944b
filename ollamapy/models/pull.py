"""Getting models from elsewhere: one download for all who ask, the files into the store, the manifest last.

    client ──┐ watch                       ┌─ source.find   what the name stands for
    client ──┼──────> Flight <── report ── ┼─ fetch         each file, verified (registry/download.py)
    client ──┘        (event loop)         └─ install       small layers, configuration, manifest
                                              (a thread of its own)

Whoever asks for what is being pulled joins it. When the last one has left, the download is told to stop; it writes its
journal, and the same request goes on there. Nothing can be found under a name before all of it is in the store and was seen
to be a model. The steps are Ollama's, in its words and order.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace

from ..config import environment
from ..digests import digest_of, file_digest
from ..errors import InvalidModel, Offline, OllamapyError, RequestCancelled, ServerBusy
from ..formats import llama2c
from ..formats.configuration import describe
from ..formats.gguf import Header, joined, read_header
from ..names import Name
from ..registry import download, remote, source
from ..registry.attempt import Downloaded
from ..registry.catalog import Catalog
from ..registry.download import Fetched
from ..registry.http import Access
from ..registry.hub import HubSettings
from ..registry.lease import Lease
from ..registry.limits import Limits
from ..registry.manifest import (
    CONFIG_TYPE,
    LAYER_PREFIX,
    Layer,
    Manifest,
    parse_manifest,
    print_manifest,
)
from ..registry.patience import Patience
from ..registry.route import RemoteFile
from ..registry.source import Source, Wanted
from ..registry.store import Store
from ..types import Progress
from .threads import in_own_thread

log = logging.getLogger(__name__)

MOST_PULLS = 32
"""Pulls at a time; each has its threads and connections."""

CLOSE_SECONDS = 3.0
"""How long the end of the daemon waits for journals to be written."""


@dataclass(frozen=True, slots=True)
class PullRequest:
    """Get a model. ``via`` is the address of another ollamapy, or of a registry, to get it from.

    ``hub`` is how the user who asks reaches the hub, None as the daemon does; the file of the token is always the daemon's.
    ``insecure`` allows http.
    """

    model: str
    insecure: bool = False
    via: str = ""
    hub: HubSettings | None = None
    limits: Limits = field(default_factory=Limits)


class Pulls:
    """The pulls under way."""

    def __init__(
        self,
        store: Store,
        catalog: Catalog,
        environ: Callable[[], Mapping[str, str]] = environment,
    ) -> None:
        self._store, self._catalog, self._environ = store, catalog, environ
        self._flights: dict[tuple[Wanted, HubSettings], _Flight] = {}
        self._working: set[asyncio.Task[None]] = set()
        self._closing = False

    @property
    def busy(self) -> int:
        """How many pulls somebody waits for."""
        return len(self._flights)

    async def pull(self, request: PullRequest) -> AsyncGenerator[Progress, None]:
        """Get a model, or join who gets it already; closing this leaves it.

        Raises InvalidName and InvalidRequest before the first step, then what :func:`source.find` and
        :func:`download.fetch` raise, InvalidModel for what proves to be none, StoreError, ServerBusy.
        """
        wanted = source.parse(request.model, via=request.via, insecure=request.insecure)
        mine = HubSettings.from_env(self._environ())
        hub = replace(request.hub, token_path=mine.token_path) if request.hub else mine
        key = (wanted, hub)
        flight = self._flights.get(key) or self._start(key, request.limits)
        flight.watchers += 1
        try:
            async with aclosing(flight.watch()) as steps:
                async for step in steps:
                    yield step
        except RequestCancelled:
            raise ServerBusy(
                "the daemon is stopping: the same command goes on with the pull later"
            ) from None
        finally:
            flight.watchers -= 1
            if not flight.watchers and not flight.task.done():
                self._forget(key, flight)
                flight.cancelled.set()

    async def close(self) -> None:
        """End all pulls. A thread that waits for another machine is left behind after CLOSE_SECONDS; it writes nothing."""
        self._closing = True
        for flight in list(self._flights.values()):
            flight.cancelled.set()
        if self._working:
            _, late = await asyncio.wait(self._working, timeout=CLOSE_SECONDS)
            for task in late:
                task.cancel()

    def _start(self, key: tuple[Wanted, HubSettings], limits: Limits) -> _Flight:
        if self._closing or len(self._working) >= MOST_PULLS:
            why = "the daemon is stopping" if self._closing else "too many pulls at a time"
            raise ServerBusy(f"{why}, try again later")
        flight = self._flights[key] = _Flight()
        patience = Patience(flight.cancelled)
        work = _Work(self._store, self._catalog, *key, limits, patience, flight.report)
        flight.task = asyncio.ensure_future(in_own_thread(work.do))
        self._working.add(flight.task)

        def ended(task: asyncio.Task[None]) -> None:
            self._working.discard(task)
            self._forget(key, flight)
            flight.wake()
            if not task.cancelled():
                task.exception()  # told to those who watch; nobody may

        flight.task.add_done_callback(ended)
        return flight

    def _forget(self, key: tuple[Wanted, HubSettings], flight: _Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]


class _Flight:
    """One pull and those who watch it. Belongs to the event loop, but for ``report`` and ``cancelled``."""

    def __init__(self) -> None:
        self.watchers = 0
        self.cancelled = threading.Event()
        self.task: asyncio.Task[None]
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        # The last of each blob and every remark, with its number: who is slow or late misses only what is out of date
        self._steps: dict[tuple[str, str, str], tuple[int, Progress]] = {}
        self._number = 0

    def report(self, step: Progress) -> None:
        """Tell those who watch; from any thread."""
        self._loop.call_soon_threadsafe(self._put, step)

    def _put(self, step: Progress) -> None:
        self._number += 1
        key = (step.status, step.digest, "" if step.digest else step.note)
        self._steps.pop(key, None)
        self._steps[key] = self._number, step
        self.wake()

    def wake(self) -> None:
        """Let those who watch look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def watch(self) -> AsyncGenerator[Progress, None]:
        """The steps from the first on, and those to come. Raises what the work raised."""
        seen = 0
        while True:
            changed, ended = self._changed, self.task.done()
            for number, step in list(self._steps.values()):
                if number > seen:
                    seen = number
                    yield step
            if ended:
                if self.task.cancelled():
                    raise RequestCancelled("cancelled")
                self.task.result()
                return
            await changed.wait()


# ---- in the thread ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Work:
    """One pull from beginning to end, in its own thread."""

    store: Store
    catalog: Catalog
    wanted: Wanted
    hub: HubSettings
    limits: Limits
    patience: Patience
    report: Callable[[Progress], None]

    def do(self) -> None:
        # 1) what the name stands for
        self.report(Progress("pulling manifest"))
        found = self._find()
        name = found.name if found else self.wanted.name
        if found is not None:
            self._get(found)
        shown = name.display if self.wanted.address else ""
        self.report(Progress("success", model=shown))

    def _find(self) -> Source | None:
        """What is to be got; None if it is there and nobody may be asked."""
        noting = replace(self.patience, notify=self._noter("pulling manifest"))
        try:
            found = source.find(self.wanted, self.catalog, self.hub, noting)
        except Offline:
            if not self.hub.offline or self._installed(self.wanted.name) is None:
                raise
            noting.notify("offline, and it is there: it stays as it is")
            return None
        if found.note:
            noting.notify(found.note)
        return found

    def _get(self, found: Source) -> None:
        # 2) what of it is missing
        replaced = self._installed(found.name)
        if not found.files and found.published is None:  # it came with the program
            if self.store.find(found.name) is None:
                raise InvalidModel(
                    f"'{found.name.display}' comes with ollamapy and is missing: install ollamapy again"
                )
            return
        if replaced is not None and self._is_current(replaced, found):
            for layer in (*replaced.layers, replaced.config):
                self.report(_moved(layer.digest, layer.size, layer.size))
            self.report(Progress("verifying sha256 digest"))
            self.report(Progress("writing manifest"))
            return
        if not self.limits.force:
            download.check_space([file for file, _ in found.files], self.store)
        fetched: list[Fetched] = []
        digests = [f"sha256:{file.sha256}" for file, _ in found.files if file.sha256]
        try:
            with self.store.reserve(digests) as lease:
                content = self._install(found, lease, fetched)
        except InvalidModel:
            self._drop(fetched)
            raise
        log.info("pulled %s", found.name.display)

        # 4) what only the model before it, or making this one, needed
        kept = {layer.digest for layer in parse_manifest(content).blobs}
        if replaced is not None and {layer.digest for layer in replaced.blobs} - kept:
            self.report(Progress("removing unused layers"))
            self.store.remove_unused(replaced.blobs)
        if {each.digest for each in fetched} - kept:
            self._drop(fetched)

    def _install(self, found: Source, lease: Lease, fetched: list[Fetched]) -> bytes:
        """Fetch the files, which are added to `fetched`, and write the manifest, which is returned."""
        for file, access in found.files:
            fetched.append(self._fetch(file, access, lease))

        # 3) is it a model? Only then it gets its name
        self.report(Progress("verifying sha256 digest"))
        content = self._manifest(found, lease, fetched)
        self._check(content, found.name)
        self.report(Progress("writing manifest"))
        self.store.write_manifest(found.name, content)
        return content

    def _installed(self, name: Name) -> Manifest | None:
        """The manifest of that name in the root that is written, if all of its files are there, whole."""
        try:
            manifest = self.store.manifest(name)
            for layer in manifest.blobs:
                if self.store.blob_path(layer.digest).stat().st_size != layer.size:
                    return None
        except (OllamapyError, OSError):
            return None
        return manifest

    def _is_current(self, installed: Manifest, found: Source) -> bool:
        """Whether an installed model is what would be made of the source."""
        with suppress(OllamapyError):
            return remote.is_current(installed, remote.said_source(self.store, installed), found)
        return False

    def _fetch(self, file: RemoteFile, access: Access, lease: Lease) -> Fetched:
        digest = f"sha256:{file.sha256}" if file.sha256 else file.key.replace("-", ":", 1)
        last = -1  # bytes, as told

        def progress(step: Downloaded) -> None:
            nonlocal last
            last = step.completed
            self.report(_moved(digest, step.total, step.completed, step.note))

        def note(text: str) -> None:
            self.report(_moved(digest, file.size, max(last, 0), text))

        patience = replace(self.patience, notify=note)
        fetched = download.fetch(
            file,
            access,
            self.store,
            progress=progress,
            patience=patience,
            limits=self.limits,
            lease=lease,
        )
        if last < file.size:
            self.report(_moved(digest, file.size, file.size))
        return fetched

    def _manifest(self, found: Source, lease: Lease, fetched: list[Fetched]) -> bytes:
        """The manifest of what was fetched: a registry's own, else a new one with its small layers."""
        if found.published is not None:
            return found.published.content
        by_kind: dict[str, list[str]] = {}
        for part, each in zip(found.parts, fetched, strict=True):
            by_kind.setdefault(part.kind, []).append(each.digest)
        if checkpoints := by_kind.pop("checkpoint", None):
            tokenizers = by_kind.pop("tokenizer", [])
            by_kind["model"] = [self._converted(lease, checkpoints[0], *tokenizers)]
        layers = [
            self._layer(kind, digest) for kind, digests in by_kind.items() for digest in digests
        ]
        taken = set(by_kind)
        layers += [
            self._layer(kind, self._put(lease, text))
            for kind, text in found.texts
            if kind not in taken
        ]
        model = joined([self._header(each, found) for each in by_kind["model"]])
        projectors = [self._header(each, found) for each in by_kind.get("projector", ())]
        described = {**describe(model, projectors), "source": found.said}
        config = json.dumps(described, ensure_ascii=False, separators=(",", ":")).encode()
        blob = self._put(lease, config)
        return print_manifest(Layer(CONFIG_TYPE, blob, len(config)), layers)

    def _layer(self, kind: str, digest: str) -> Layer:
        return Layer(LAYER_PREFIX + kind, digest, self.store.blob_path(digest).stat().st_size)

    def _put(self, lease: Lease, content: bytes) -> str:
        """The digest of a small blob, which is stored."""
        lease.add(digest_of(content))
        return self.store.add_blob(content)

    def _converted(self, lease: Lease, checkpoint: str, tokenizer: str | None = None) -> str:
        """The digest of a llama2.c checkpoint as GGUF."""
        target = lease.work_path()
        llama2c.convert(
            self.store.blob_path(checkpoint),
            self.store.blob_path(tokenizer) if tokenizer else None,
            target,
        )
        digest = file_digest(target)
        lease.add(digest)
        self.store.adopt_file(target, digest)
        return digest

    def _check(self, content: bytes, name: Name) -> None:
        """Raise InvalidModel unless the files of a manifest are what they should be."""
        for layer in parse_manifest(content).layers:
            if layer.kind in ("model", "projector", "adapter"):
                self._header(layer.digest, name)
            elif layer.kind == "params":
                _check_params(self.store.read_small(layer), name)

    def _header(self, digest: str, found: Source | Name) -> Header:
        name = found.name if isinstance(found, Source) else found
        try:
            return read_header(self.store.blob_path(digest))
        except InvalidModel as error:
            raise InvalidModel(
                f"what '{name.display}' stands for cannot be used: {error}"
            ) from None

    def _drop(self, fetched: list[Fetched]) -> None:
        """Remove what was fetched and proved useless, or of use only once."""
        self.store.remove_unused(Layer("", each.digest, 0) for each in fetched)

    def _noter(self, status: str) -> Callable[[str], None]:
        return lambda text: self.report(Progress(status, note=text))


def _moved(digest: str, total: int, completed: int, note: str = "") -> Progress:
    return Progress(f"pulling {digest.partition(':')[2][:12]}", digest, total, completed, note)


def _check_params(content: bytes, name: Name) -> None:
    try:
        if isinstance(json.loads(content), dict):
            return
    except (ValueError, RecursionError):
        pass
    raise InvalidModel(
        f"the parameters of '{name.display}' are not a JSON object, choose another model"
    )
