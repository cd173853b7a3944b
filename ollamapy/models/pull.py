"""Pull a model: find what its name stands for, fetch the files into the store, write the manifest last.

    source.find    what the name stands for
    fetch          each file, verified (registry/download.py)
    install        small layers, configuration, manifest

One synchronous story, run as a job (job.py). Nothing can be found under a name before all of it is in the store and was checked to be
a model. The steps are Ollama's, in its words and order.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace

from ..config import HubSettings
from ..digests import digest_of, file_digest
from ..errors import InvalidModel, Offline, OllamapyError
from ..formats.configuration import describe, print_config
from ..formats.gguf import Header, joined, read_checked
from ..formats.parameters import parse_json
from ..formats.projector import check_projector
from ..names import Name
from ..registry import download, preview, source
from ..registry.attempt import Downloaded
from ..registry.catalog import Catalog
from ..registry.download import Fetched
from ..registry.http import Access
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
from ..registry.remote import RemoteFile
from ..registry.reservation import Reservation
from ..registry.source import Source, Wanted
from ..registry.store import Store
from ..runner.convert import convert
from ..runner.protocol import Convert
from ..types import Progress, Report
from .job import Job

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PullRequest:
    """Get a model. ``via`` is the address of another ollamapy, or of a registry, to get it from.

    ``hub`` is how the caller reaches the hub, None as the daemon does; the file of the token is always the daemon's,
    and goes to another endpoint than the daemon's own only for its user (``is_owner``: the caller knows the secret, secret.py).
    ``insecure`` allows http. ``is_local``: the caller is on this machine, and may name servers that others cannot reach.
    """

    model: str
    insecure: bool = False
    via: str = ""
    hub: HubSettings | None = None
    limits: Limits = field(default_factory=Limits)
    is_local: bool = True
    is_owner: bool = False


def pull(
    store: Store, catalog: Catalog, wanted: Wanted, hub: HubSettings, limits: Limits, job: Job
) -> None:
    """The story of a pull. Its blobs are reserved until the manifest names them.

    Raises what :func:`source.find` and :func:`download.fetch` raise, InvalidModel if the files are not a model, StoreError.
    """
    # 1) what the name stands for
    job.report(Progress("pulling manifest"))
    patience = Patience(job.cancelled)
    name = wanted.name
    found = _find(store, catalog, wanted, hub, patience, job.report)
    if found is not None:
        name = found.name
        with store.reserve() as reservation:
            _Pull(store, found, limits, patience, reservation, job).install()
    job.report(Progress("success", model=name.display if wanted.address else ""))


def _find(
    store: Store,
    catalog: Catalog,
    wanted: Wanted,
    hub: HubSettings,
    patience: Patience,
    report: Report,
) -> Source | None:
    """The source of the name; None if the model is installed and the machine is set to be offline."""

    def note(text: str) -> None:
        report(Progress("pulling manifest", note=text))

    try:
        found = source.find(wanted, catalog, hub, replace(patience, notify=note))
    except Offline:
        if not hub.offline or _installed(store, wanted.name) is None:
            raise
        note("offline: the installed model stays as it is")
        return None
    if found.note:
        note(found.note)
    return found


def _installed(store: Store, name: Name) -> Manifest | None:
    """The manifest of that name in the root that is written, if all of its files are there, whole."""
    try:
        manifest = store.manifest(name)
        for layer in manifest.blobs:
            if store.blob_path(layer.digest).stat().st_size != layer.size:
                return None
    except (OllamapyError, OSError):
        return None
    return manifest


@dataclass(frozen=True, slots=True)
class _Pull:
    """One source on its way into the store."""

    store: Store
    found: Source
    limits: Limits
    patience: Patience
    reservation: Reservation
    job: Job

    def install(self) -> None:
        """Fetch what is missing, and write the manifest."""
        found = self.found
        if not found.files and found.published is None:  # the built-in model
            return self._check_builtin()
        replaced = _installed(self.store, found.name)
        if replaced is not None and self._is_current(replaced):
            return self._report_current(replaced)

        # 2) the missing files
        if not self.limits.force:
            download.check_space([file for file, _ in found.files], self.store)
        self.reservation.add(*(file.digest for file, _ in found.files if file.digest))
        fetched = [self._fetch(file, access) for file, access in found.files]

        # 3) check that it is a model, and only then write its name
        self.job.report(Progress("verifying sha256 digest"))
        try:
            content = self._manifest(fetched)
            self._check(content)
        except InvalidModel:
            self._drop(each.digest for each in fetched)
            raise
        self.job.report(Progress("writing manifest"))
        self.store.write_manifest(found.name, content)
        log.info("pulled %s", found.name.display)

        # 4) remove what only the previous model, or making this one, needed
        kept = {layer.digest for layer in parse_manifest(content).blobs}
        if replaced is not None and {layer.digest for layer in replaced.blobs} - kept:
            self.job.report(Progress("removing unused layers"))
            self.store.remove_unused(replaced.blobs)
        self._drop({each.digest for each in fetched} - kept)

    def _check_builtin(self) -> None:
        name = self.found.name
        if self.store.find(name) is None:
            raise InvalidModel(
                f"'{name.display}' comes with ollamapy and is missing: install ollamapy again"
            )

    def _is_current(self, installed: Manifest) -> bool:
        """Whether an installed model is what would be made of the source."""
        with suppress(OllamapyError):
            source_of = preview.recorded_source(self.store, installed)
            return preview.is_current(installed, source_of, self.found)
        return False

    def _report_current(self, installed: Manifest) -> None:
        for layer in (*installed.layers, installed.config):
            self.job.report(_moved(layer.digest, layer.size, layer.size))
        self.job.report(Progress("verifying sha256 digest"))
        self.job.report(Progress("writing manifest"))

    def _fetch(self, file: RemoteFile, access: Access) -> Fetched:
        digest = file.digest or file.key.replace("-", ":", 1)
        reported = -1  # bytes

        def progress(step: Downloaded) -> None:
            nonlocal reported
            reported = step.completed
            self.job.report(_moved(digest, step.total, step.completed, step.note))

        def note(text: str) -> None:
            self.job.report(_moved(digest, file.size, max(reported, 0), text))

        patience = replace(self.patience, notify=note)
        fetched = download.fetch(
            file,
            access,
            self.store,
            progress=progress,
            patience=patience,
            limits=self.limits,
            reservation=self.reservation,
        )
        if reported < file.size:
            self.job.report(_moved(digest, file.size, file.size))
        return fetched

    def _manifest(self, fetched: list[Fetched]) -> bytes:
        """The manifest of what was fetched: a registry's own, else a new one with its small layers."""
        found = self.found
        if found.published is not None:
            return found.published.content
        by_kind: dict[str, list[str]] = {}  # digests
        for part, each in zip(found.parts, fetched, strict=True):
            by_kind.setdefault(part.kind, []).append(each.digest)
        if checkpoints := by_kind.pop("checkpoint", None):
            tokenizers = by_kind.pop("tokenizer", [])
            by_kind["model"] = [self._converted(checkpoints[0], *tokenizers)]
        model = joined([self._header(each) for each in by_kind["model"]])
        if projectors := by_kind.get("projector"):
            by_kind["projector"] = [each for each in projectors if self._fits(each, model)]
        layers = [
            self._layer(kind, digest) for kind, digests in by_kind.items() for digest in digests
        ]
        taken = set(by_kind)
        layers += [
            self._layer(kind, self._stored(text)) for kind, text in found.texts if kind not in taken
        ]
        headers = [self._header(each) for each in by_kind.get("projector", ())]
        config = print_config({**describe(model, headers), "source": found.record})
        return print_manifest(Layer(CONFIG_TYPE, self._stored(config), len(config)), layers)

    def _fits(self, projector: str, model: Header) -> bool:
        """Whether a projector belongs to the model; one that does not is left out, with a note."""
        try:
            check_projector(self._header(projector), model)
        except InvalidModel as error:
            self.job.report(Progress("verifying sha256 digest", note=f"left out: {error}"))
            return False
        return True

    def _layer(self, kind: str, digest: str) -> Layer:
        return Layer(LAYER_PREFIX + kind, digest, self.store.blob_path(digest).stat().st_size)

    def _stored(self, content: bytes) -> str:
        """The digest of a small blob, which is in the store then."""
        self.reservation.add(digest_of(content))
        return self.store.add_blob(content)

    def _converted(self, checkpoint: str, tokenizer: str | None = None) -> str:
        """The digest of a llama2.c checkpoint as GGUF."""
        target = self.reservation.work_path()
        files = {"checkpoint": self.store.blob_path(checkpoint)}
        if tokenizer:
            files["tokenizer"] = self.store.blob_path(tokenizer)

        async def converted() -> None:
            async with aclosing(convert(Convert("llama2c", files, target))) as steps:
                async for _ in steps:
                    pass

        self.job.run(converted())
        digest = file_digest(target)
        self.reservation.add(digest)
        self.store.adopt_file(target, digest)
        return digest

    def _check(self, content: bytes) -> None:
        """Raise InvalidModel unless the files of a manifest are of the kinds that it names."""
        for layer in parse_manifest(content).layers:
            if layer.kind in ("model", "projector", "adapter"):
                self._header(layer.digest)
            elif layer.kind == "params":
                _check_params(self.store.read_small(layer), self.found.name)

    def _header(self, digest: str) -> Header:
        try:
            return read_checked(self.store.blob_path(digest))
        except InvalidModel as error:
            raise InvalidModel(f"'{self.found.name.display}' cannot be used: {error}") from None

    def _drop(self, digests: Iterable[str]) -> None:
        """Remove fetched blobs that the model does not need."""
        useless = [Layer("", each, 0) for each in digests]
        if useless:
            self.reservation.drop(*(each.digest for each in useless))
            self.store.remove_unused(useless)


def _moved(digest: str, total: int, completed: int, note: str = "") -> Progress:
    return Progress(f"pulling {digest.partition(':')[2][:12]}", digest, total, completed, note)


def _check_params(content: bytes, name: Name) -> None:
    if not isinstance(parse_json(content), dict):
        raise InvalidModel(
            f"the parameters of '{name.display}' are not a JSON object, choose another model"
        )
