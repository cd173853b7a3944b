"""Resolve a name to its source: which files to fetch, from where, and which layer each becomes.

    llama2:13b                       the catalogue, else registry.ollama.ai
    registry.ollama.ai/library/x     that registry, without the catalogue
    hf.co/user/repo:Q4_K_M           a repository of the hub (huggingface.co/... is the same)
    https://host/path/model.gguf     that file
    host/namespace/model:tag         any registry that speaks Ollama's protocol
    any name, with `via`             another ollamapy, or registry, at that address

`find` requests listings and manifests only, and downloads nothing. models/pull.py writes a manifest for
the files of the hub, the catalogue or an address; a registry's manifest is kept as it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from ..config import HubSettings
from ..errors import (
    AccessDenied,
    InvalidName,
    InvalidRequest,
    RemoteNotFound,
    TransferError,
)
from ..names import DEFAULT_HOST, DEFAULT_TAG, Name, part_of
from . import hub, oci
from .addresses import origin
from .catalog import Catalog, CatalogFile, Entry
from .http import Access
from .hub import access_of
from .oci import PublishedModel
from .patience import Patience
from .probe import probe
from .remote import RemoteFile

OVERRIDES = {"template": "template", "system": "system", "params": "params"}
"""Files of a hub's repository that complement its GGUF -> the kind of layer they become."""

_MAX_OVERRIDE = 256 * 1024
_COMMIT = re.compile(r"[0-9a-f]{40}", re.ASCII)
_HUB_FILE = re.compile(r"/([^/]+/[^/]+)/(?:resolve|blob|raw)/([^/]+)/(.+)")


@dataclass(frozen=True, slots=True)
class SourcePart:
    """A file to fetch, and the kind of layer that it becomes: "model", "projector", "adapter",
    "template", "system", "params"; or "checkpoint" and "tokenizer", which are converted to a model."""

    kind: str
    file: RemoteFile
    access: Access


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model comes from. `name` is its name in the store, `note` explains what was chosen and why.

    Either `published`, a model of a registry that is kept as it is, or `parts`: the files; those of the
    kind "model" are the shards of one model, in order. `texts` are layers to add, by kind. `record` is
    written into the configuration, to compare it with a later source.
    """

    name: Name
    parts: tuple[SourcePart, ...] = ()
    texts: tuple[tuple[str, bytes], ...] = ()
    published: PublishedModel | None = None
    note: str = ""
    repo: str = ""
    revision: str = ""

    @property
    def files(self) -> tuple[tuple[RemoteFile, Access], ...]:
        """Every file to fetch, in order."""
        if self.published is not None:
            config = self.published.manifest.config.digest  # last, as Ollama does
            files = sorted(self.published.files, key=lambda each: each.path == config)
            return tuple((each, self.published.access) for each in files)
        return tuple((each.file, each.access) for each in self.parts)

    @property
    def record(self) -> dict[str, Any]:
        """What the model's configuration records of its source, under "source"."""
        record: dict[str, Any] = {"repo": self.repo, "revision": self.revision} if self.repo else {}
        record["files"] = [
            {
                "kind": each.kind,
                "path": each.file.path,
                "size": each.file.size,
                "key": each.file.key,
            }
            for each in self.parts
        ]
        record["texts"] = [{"kind": kind, "text": text.decode()} for kind, text in self.texts]
        return record


@dataclass(frozen=True, slots=True)
class Wanted:
    """A parsed name. `address` is the address of a file, `via` that of a server to pull from instead of the
    usual one; "" if there is none."""

    text: str
    name: Name
    address: str = ""
    via: str = ""
    insecure: bool = False
    is_local: bool = True


def parse(text: str, *, via: str = "", insecure: bool = False, is_local: bool = True) -> Wanted:
    """Parse a name or an address. `is_local`: the caller is on this machine.

    Raises InvalidName, InvalidRequest.
    """
    scheme = text.partition("://")[0].lower() if "://" in text else ""
    if scheme == "file" or text.lower().startswith("file:"):
        raise InvalidRequest(
            "a local file cannot be pulled, make a model of it with: ollamapy create"
        )
    if scheme == "http" and not insecure:
        raise InvalidRequest(
            f"{ascii(text)[1:-1][:100]} is not encrypted, allow it with --insecure"
        )
    if scheme in ("https", "http") and urlsplit(text).path.lower().endswith(".gguf"):
        name = _name_of_address(text)
        return Wanted(text, name, address=text, insecure=insecure, is_local=is_local)
    name = Name.parse(text)
    return Wanted(text, name, via=via.rstrip("/"), insecure=insecure, is_local=is_local)


def find(
    wanted: Wanted, catalog: Catalog, settings: HubSettings, patience: Patience | None = None
) -> Source:
    """Resolve a name to its source, usually with one request.

    Raises TransferError and its children, InvalidModel for a registry's manifest that cannot be
    used, InvalidCatalog, InvalidRequest for a tag that fits several files.
    """
    patience = patience or Patience()
    name = wanted.name
    if wanted.address:
        return _by_address(wanted, settings, patience)
    if wanted.via:
        access = Access(wanted.via, offline=settings.offline, guarded=not wanted.is_local)
        try:
            return _by_registry(name, access, patience)
        except RemoteNotFound:
            raise RemoteNotFound(
                f"'{name.display}' not found on {access.host}: is that its name there, and does that server"
                " share its models (OLLAMAPY_SERVE_MODELS=1)?"
            ) from None
    if name.host.lower() in oci.HUB_HOSTS:
        return _by_repository(wanted, settings, patience)
    plain = wanted.text.lower().removeprefix("https://")
    if name.host.lower() == DEFAULT_HOST and not plain.startswith(f"{DEFAULT_HOST}/"):
        entry = catalog.find(name)
        if entry is not None:
            return _by_catalog(name, entry, settings, patience)
        if meant := catalog.similar(name):
            raise RemoteNotFound(
                f"'{name.display}' is not in the catalogue, did you mean {meant}?"
                f" Pull another model of that name as {DEFAULT_HOST}/{name.namespace}/{name.model}:{name.tag}"
            )
    access = oci.registry_access(name, settings, insecure=wanted.insecure, is_local=wanted.is_local)
    return _by_registry(name, access, patience)


# Registries


def _by_registry(name: Name, access: Access, patience: Patience) -> Source:
    return Source(name, published=oci.list_files(name, access, patience))


# The hub


def _by_repository(wanted: Wanted, settings: HubSettings, patience: Patience) -> Source:
    name = wanted.name
    tag = None if name.tag == DEFAULT_TAG else name.tag
    listing = hub.list_files(
        hub.Repo(f"{name.namespace}/{name.model}"), access_of(settings), patience
    )
    return _of_listing(name, listing, tag)


def _of_listing(name: Name, listing: hub.Listing, tag: str | None) -> Source:
    choice = hub.choose(listing.files, tag)
    parts = [SourcePart("model", each, listing.access) for each in choice.weights]
    if choice.mmproj is not None:
        parts.append(SourcePart("projector", choice.mmproj, listing.access))
    parts += [
        SourcePart(OVERRIDES[each.path], each, listing.access)
        for each in listing.files
        if each.path in OVERRIDES and 0 < each.size <= _MAX_OVERRIDE
    ]
    return Source(
        name, tuple(parts), note=choice.reason, repo=listing.repo, revision=listing.commit
    )


# The catalogue


def _by_catalog(name: Name, entry: Entry, settings: HubSettings, patience: Patience) -> Source:
    """The model of an entry of the catalogue, from the first publisher that has it."""
    if not entry.files:
        return Source(name, note=entry.note)
    listings = _Listings(settings, patience)
    choices = [entry.files, *((each,) for each in entry.alternatives)]
    failure: TransferError | None = None
    for files in choices:
        try:
            return _of_entry(name, entry, files, listings)
        except (RemoteNotFound, AccessDenied) as error:
            failure = failure or error
            if files is not choices[-1]:
                patience.notify(f"{error}; trying another publisher")
    assert failure is not None
    raise failure


def _of_entry(
    name: Name, entry: Entry, files: Sequence[CatalogFile], listings: _Listings
) -> Source:
    weights = "checkpoint" if entry.kind == "llama2c" else "model"
    wanted = [(weights, each) for each in files]
    beside = {"projector": entry.mmproj, "adapter": entry.adapter, "tokenizer": entry.tokenizer}
    wanted += [(kind, each) for kind, each in beside.items() if each is not None]
    parts = tuple(listings.part(kind, each) for kind, each in wanted)
    texts = {
        "template": entry.template.encode(),
        "system": entry.system.encode(),
        "params": msgspec.json.encode(dict(entry.parameters)) if entry.parameters else b"",
        "license": entry.licence.encode(),
    }
    first = files[0]
    note = f"{first.repo}/{first.path}" if first.repo else first.path
    if listings.changed:
        note += f"; changed on the hub since the catalogue was written: {listings.changed}"
    return Source(
        name,
        parts,
        texts=tuple((kind, text) for kind, text in texts.items() if text),
        note=note,
        repo=first.repo,
        revision=listings.commit(first),
    )


class _Listings:
    """The repositories with an entry's files, each listed once.

    At a commit or an address, a file must match the catalogue's size and digest. A branch may have moved
    since the catalogue was written: there the hub's digest counts, and `changed` lists the files that no
    longer match.
    """

    def __init__(self, settings: HubSettings, patience: Patience) -> None:
        self._settings, self._patience = settings, patience
        self._by_revision: dict[tuple[str, str], hub.Listing] = {}
        self._changed: list[str] = []

    @property
    def changed(self) -> str:
        return ", ".join(self._changed)

    def part(self, kind: str, file: CatalogFile) -> SourcePart:
        if file.url:
            access = _access_to(file.url, self._settings)
            found = probe(file.url, access, self._patience)
            if _is_other(found, file):
                raise _not_the_same(file, access)
            return SourcePart(kind, _pinned(found, file), access)
        listing = self._listing(file)
        for each in listing.files:
            if each.path == file.path:
                return SourcePart(kind, self._current(each, file, listing), listing.access)
        page = f"{listing.access.endpoint}/{listing.repo}/tree/main"
        raise RemoteNotFound(f"{listing.repo} has no {file.path} any more, see {page}")

    def commit(self, file: CatalogFile) -> str:
        return self._listing(file).commit if file.repo else ""

    def _current(self, found: RemoteFile, file: CatalogFile, listing: hub.Listing) -> RemoteFile:
        if not _is_other(found, file):
            return _pinned(found, file)
        if listing.commit == file.revision:  # the content of a commit never changes
            raise _not_the_same(file, listing.access)
        self._changed.append(file.path)
        return found

    def _listing(self, file: CatalogFile) -> hub.Listing:
        key = (file.repo, file.revision)
        if key not in self._by_revision:
            self._by_revision[key] = self._listed(*key)
        return self._by_revision[key]

    def _listed(self, repo: str, revision: str) -> hub.Listing:
        """The listing at a revision; at the main branch if the revision is a commit that no longer exists."""
        access = access_of(self._settings)
        try:
            return hub.list_files(hub.Repo(repo, revision), access, self._patience)
        except RemoteNotFound as error:
            if not _COMMIT.fullmatch(revision):
                raise
            try:
                return hub.list_files(hub.Repo(repo), access, self._patience)
            except RemoteNotFound:
                raise error from None


def _is_other(found: RemoteFile, file: CatalogFile) -> bool:
    """Whether a file differs from the catalogue's."""
    other_sum = file.sha256 and found.sha256 and file.sha256 != found.sha256
    return bool(other_sum) or (file.size is not None and file.size != found.size)


def _pinned(found: RemoteFile, file: CatalogFile) -> RemoteFile:
    """The file, with the catalogue's digest if the server sends none."""
    return replace(found, sha256=found.sha256 or file.sha256)


def _not_the_same(file: CatalogFile, access: Access) -> TransferError:
    way = f"hf.co/{file.repo}" if file.repo else file.url
    return TransferError(
        f"{file.path} on {access.host} differs from the file in the catalogue, pull it as"
        f" {way} if you want it anyway"
    )


# Addresses


def _by_address(wanted: Wanted, settings: HubSettings, patience: Patience) -> Source:
    """The file at an address. A file of the hub is found by its repository, which has the sha256."""
    at_hub = access_of(settings)
    found = _HUB_FILE.fullmatch(urlsplit(wanted.address).path)
    if found and at_hub.is_home(wanted.address):
        repo, revision, path = (unquote(each) for each in found.groups())
        listing = hub.list_files(hub.Repo(repo, revision), at_hub, patience)
        return _of_listing(wanted.name, listing, path)
    access = _access_to(wanted.address, settings, is_local=wanted.is_local)
    file = probe(wanted.address, access, patience)
    return Source(wanted.name, (SourcePart("model", file, access),))


def _access_to(address: str, settings: HubSettings, *, is_local: bool = True) -> Access:
    """How to reach an address: the hub with the user's token, any other server without."""
    at_hub = access_of(settings)
    if at_hub.is_home(address):
        return at_hub
    scheme, _, rest = address.partition("://")
    endpoint = f"{scheme.lower()}://{rest.partition('/')[0]}"
    return Access(endpoint, offline=settings.offline, guarded=not is_local)


def _name_of_address(address: str) -> Name:
    """The name for the model at an address: host/folder/file, for the hub hf.co/user/repo:file."""
    parts = urlsplit(address)
    path = unquote(parts.path)
    found = _HUB_FILE.fullmatch(path)
    if found and origin(address)[1] in oci.HUB_HOSTS:
        user, _, repo = found[1].partition("/")
        return Name("hf.co", user, repo, part_of(found[3].rpartition("/")[2]))
    folder, _, file = path.rpartition("/")
    namespace = part_of(folder.rpartition("/")[2] or "files").replace(".", "-")
    model = part_of(re.sub(r"\.gguf$", "", file, flags=re.IGNORECASE))
    try:
        return Name(parts.netloc.lower(), namespace, model, DEFAULT_TAG)
    except InvalidName:
        raise InvalidRequest(
            f"{ascii(address)[1:-1][:100]} is not an address that can be pulled"
        ) from None
