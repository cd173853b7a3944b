"""Import models that other tools have downloaded: find their files and link them into the store.

    ollama      $OLLAMA_MODELS, ~/.ollama/models, /usr/share/ollama/.ollama/models    its names
    lmstudio    ~/.lmstudio/models and where its settings say: publisher/repo/file.gguf
    hf          $HF_HUB_CACHE, $HF_HOME/hub, ~/.cache/huggingface/hub: models--user--repo/snapshots/
    llama.cpp   $LLAMA_CACHE, its cache folder, and hf's: user_repo_file.gguf

A model from a repository of the hub gets the name that a pull would give it: hf.co/user/repo:Q4_K_M.

A file is shared, not copied: cloned where the file system supports it (later changes to one do not
affect the other), else hard-linked; only if neither works is it copied, and only if the caller allows
it. It is always hashed before it becomes a blob. The other tool's files are only read, and no
network is used. Nothing here prints or asks.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path
from typing import Any

from ..digests import Sha256, digest_of
from ..errors import InvalidModel, OllamapyError, StoreError, reason
from ..formats.configuration import describe, print_config
from ..formats.gguf import Header, joined, read_header
from ..formats.projector import check_projector
from ..names import DEFAULT_HOST, DEFAULT_NAMESPACE, Name
from ..types import Progress, Report, no_report
from . import hub
from .manifest import CONFIG_TYPE, LAYER_PREFIX, Layer, print_manifest
from .mmproj import is_mmproj
from .pieces import MIB
from .remote import RemoteFile
from .reservation import Reservation
from .store import Store

TOOLS = ("ollama", "lmstudio", "hf", "llama.cpp")

_FICLONE = 0x40049409  # linux/fs.h: _IOW(0x94, 9, int)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_MAX_SETTINGS = 1 * MIB
_MANY = 100_000  # files in one place


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file of a model: which kind of layer it is, and its sha256 if its path contains it."""

    kind: str
    path: Path
    size: int
    sha256: str = ""

    @property
    def digest(self) -> str:
        """The digest that its path contains, "" if there is none."""
        return f"sha256:{self.sha256}" if self.sha256 else ""


@dataclass(frozen=True, slots=True)
class Found:
    """A model in another tool's place. `manifest` is that tool's own, if it has such: kept as it is."""

    name: Name
    files: tuple[FoundFile, ...]
    manifest: bytes | None = None

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(each.size for each in self.files)


# Where the tools keep their models


def places(tool: str, environ: Mapping[str, str], home: Path, platform: str) -> list[Path]:
    """The folders of a tool that exist, on `platform` (as sys.platform). The tool's variables come first."""

    def given(name: str, *below: str) -> list[Path]:
        text = environ.get(name, "").strip()
        if not text:
            return []
        path = text.replace("~", str(home), 1) if text.startswith("~") else text
        return [Path(path, *below).absolute()]

    cache = (given("XDG_CACHE_HOME") or [home / ".cache"])[0]
    hugging = [
        *given("HF_HUB_CACHE"),
        *given("HUGGINGFACE_HUB_CACHE"),
        *(given("HF_HOME", "hub") or [cache / "huggingface" / "hub"]),
    ]
    if tool == "ollama":
        folders = [*given("OLLAMA_MODELS"), home / ".ollama" / "models"]
        if platform == "linux":
            folders.append(Path("/usr/share/ollama/.ollama/models"))
    elif tool == "lmstudio":
        folders = _lmstudio(home, cache)
    elif tool == "hf":
        folders = hugging
    else:
        own = {
            "darwin": home / "Library" / "Caches" / "llama.cpp",
            "win32": (given("LOCALAPPDATA") or [home / "AppData" / "Local"])[0] / "llama.cpp",
        }
        folders = [*given("LLAMA_CACHE"), own.get(platform, cache / "llama.cpp"), *hugging]
    return [each for each in dict.fromkeys(folders) if each.is_dir()]


def _lmstudio(home: Path, cache: Path) -> list[Path]:
    """LM Studio's folders: a pointer file names a moved home, its settings a moved folder of models."""
    homes = [home / ".lmstudio", cache / "lm-studio"]
    pointer = _read_text(home / ".lmstudio-home-pointer").strip()
    if pointer:
        homes.insert(0, Path(pointer))
    folders = []
    for each in homes:
        with suppress(ValueError, RecursionError):
            settings = json.loads(_read_text(each / "settings.json") or "{}")
            folder = settings.get("downloadsFolder") if isinstance(settings, dict) else None
            if isinstance(folder, str) and folder:
                folders.append(Path(folder))
        folders.append(each / "models")
    return folders


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_SETTINGS).decode("utf-8", "replace")
    except (OSError, ValueError):
        return ""


# What is there


def find(tool: str, folders: Sequence[Path]) -> list[Found]:
    """The models in a tool's folders, by name; of two with one name the first folder's."""
    look = {"ollama": _ollama, "lmstudio": _published, "hf": _hugging}.get(tool, _llama_cpp)
    found: dict[str, Found] = {}
    for folder in folders:
        for each in look(folder):
            found.setdefault(each.name.full.lower(), each)
    return [found[key] for key in sorted(found)]


def _ollama(folder: Path) -> Iterator[Found]:
    """Models whose blobs are all there; those that run elsewhere have no weights."""
    theirs = Store([folder])
    for name, _ in theirs.models():
        with suppress(OllamapyError, OSError):  # deleted or damaged: theirs to repair
            content, manifest = theirs.manifest_file(name)
            if not any(each.kind == "model" for each in manifest.layers):
                continue
            files = []
            for layer in (*manifest.layers, manifest.config):
                path = theirs.blob_path(layer.digest)
                if path.stat().st_size != layer.size:
                    raise InvalidModel("a blob was cut short")
                sha256 = layer.digest.removeprefix("sha256:")
                files.append(FoundFile(layer.kind, path, layer.size, sha256))
            yield Found(name, tuple(files), content)


def _published(folder: Path) -> Iterator[Found]:
    """publisher/repo/*.gguf, as on the hub."""
    for repo in sorted(folder.glob("*/*")):
        if repo.is_dir():
            yield from _listed(repo, f"{repo.parent.name}/{repo.name}")


def _hugging(folder: Path) -> Iterator[Found]:
    """models--user--repo: the files of the commit that its main branch was at, else of any."""
    for repo in sorted(folder.glob("models--*")):
        id = repo.name.removeprefix("models--").replace("--", "/")
        commit = _read_text(repo / "refs" / "main").strip()
        snapshots = [each for each in sorted(repo.glob("snapshots/*")) if each.is_dir()]
        current = [each for each in snapshots if each.name == commit] or snapshots[-1:]
        for snapshot in current:
            yield from _listed(snapshot, id)


def _llama_cpp(folder: Path) -> Iterator[Found]:
    """llama.cpp's old cache is flat, with a file beside each model that names its repository; the new one is the hub's."""
    yield from _hugging(folder)
    files = {each.name: each for each in _ggufs(folder, nested=False)}
    for manifest in sorted(folder.glob("manifest=*=*=*.json")):
        _, user, repo, _ = manifest.name.removesuffix(".json").split("=", 3)
        prefix = f"{user}_{repo}_"
        mine = [name for name in files if name.startswith(prefix)]
        yield from _choices(
            {name.removeprefix(prefix): files.pop(name) for name in mine}, f"{user}/{repo}"
        )
    for name, path in sorted(files.items()):
        with suppress(OllamapyError, OSError):
            model = _name(DEFAULT_HOST, DEFAULT_NAMESPACE, name.rpartition(".")[0], "latest")
            if not is_mmproj(name):
                yield Found(model, (_file("model", path),))


def _listed(folder: Path, repo: str) -> Iterator[Found]:
    files = {path.relative_to(folder).as_posix(): path for path in _ggufs(folder, nested=True)}
    yield from _choices(files, repo)


def _ggufs(folder: Path, *, nested: bool) -> list[Path]:
    paths = []
    for number, path in enumerate(folder.rglob("*") if nested else folder.glob("*")):
        if number >= _MANY:
            break
        if path.name.lower().endswith(".gguf") and path.is_file():
            paths.append(path)
    return paths


def _choices(files: Mapping[str, Path], repo: str) -> Iterator[Found]:
    """The models among the files of a repository, as its tags would choose them: shards, projectors."""
    listing = []
    for path, file in files.items():
        with suppress(OSError):
            listing.append(RemoteFile(path, "", file.stat().st_size, None))
    user, slash, model = repo.rpartition("/")
    for tag in hub.tags(listing):
        with suppress(OllamapyError, OSError):
            chosen = hub.choose(listing, tag)
            host = "hf.co" if slash else DEFAULT_HOST
            name = _name(host, user if slash else DEFAULT_NAMESPACE, model, tag)
            weights = [_file("model", files[each.path]) for each in chosen.weights]
            if chosen.mmproj is not None:
                weights.append(_file("projector", files[chosen.mmproj.path]))
            yield Found(name, tuple(weights))


def _file(kind: str, path: Path) -> FoundFile:
    """A file, by its own path: a link's target. Hugging Face's cache names it by its sha256."""
    real = path.resolve(strict=True)
    sha256 = real.name if _SHA256.fullmatch(real.name) and real.parent.name == "blobs" else ""
    return FoundFile(kind, real, real.stat().st_size, sha256)


def _name(host: str, namespace: str, model: str, tag: str) -> Name:
    """A name of these files; what may not stand in a name becomes a dash. Raises InvalidName."""

    def fitted(text: str, allowed: str) -> str:
        return re.sub(rf"[^{allowed}]", "-", text)[:80].lstrip("-.") or "model"

    model = fitted(model, "A-Za-z0-9_.-")
    return Name(host, fitted(namespace, "A-Za-z0-9_-"), model, fitted(tag, "A-Za-z0-9_.-"))


# Into the store


@dataclass(frozen=True, slots=True)
class Linked:
    """A model that is in the store now. `how`: "cloned", "linked", "copied", or "kept" if the store
    had a model of that name, which stays as it is; of several files the costliest."""

    name: Name
    size: int
    how: str


_COST = ("kept", "cloned", "linked", "copied")


def take(
    store: Store, found: Found, may_copy: Callable[[int], bool], report: Report = no_report
) -> Linked:
    """Bring a model into the store. `may_copy` is asked with the bytes, where a file cannot be shared.

    Raises InvalidModel for a file that is damaged or no GGUF, StoreError; also if it may not copy.
    """
    installed = store.find(found.name)
    if installed is not None:
        return Linked(installed, found.size, "kept")
    how, completed, digests = "cloned", 0, list[str]()

    def verified(n_bytes: int) -> None:
        report(Progress("verifying", "", found.size, completed + n_bytes))

    # before anything is linked: are they GGUF files?
    headers = [read_header(file.path) for file in found.files] if found.manifest is None else []
    if headers:
        found, headers = _fitting(found, headers)
    with store.reserve(file.digest for file in found.files if file.digest) as reservation:
        for file in found.files:
            digest, way = _take_file(store, reservation, file, may_copy, verified)
            digests.append(digest)
            how = max(how, way, key=_COST.index)
            completed += file.size
        content = found.manifest
        if content is None:
            content = _manifest(store, reservation, found, digests, headers)
        return Linked(store.write_manifest(found.name, content), found.size, how)


def _fitting(found: Found, headers: list[Header]) -> tuple[Found, list[Header]]:
    """A model without a projector that was made for another: it had the name of this one's."""
    pairs = list(zip(found.files, headers, strict=True))
    model = joined([header for file, header in pairs if file.kind == "model"])
    fits = [file.kind != "projector" or _fits(header, model) for file, header in pairs]
    kept = [pair for pair, is_fitting in zip(pairs, fits, strict=True) if is_fitting]
    return replace(found, files=tuple(file for file, _ in kept)), [header for _, header in kept]


def _fits(projector: Header, model: Header) -> bool:
    try:
        check_projector(projector, model)
    except InvalidModel:
        return False
    return True


def _take_file(
    store: Store,
    reservation: Reservation,
    file: FoundFile,
    may_copy: Callable[[int], bool],
    verified: Callable[[int], None],
) -> tuple[str, str]:
    """The digest of a file that is a blob now, and how it came; `verified` gets the bytes read so far."""
    if file.digest and store.has(file.digest):
        return file.digest, "cloned"
    work = reservation.work_path()
    try:
        how = _share(file.path, work)
        if how is None:
            if not may_copy(file.size):
                raise StoreError(
                    f"{file.path} can only be copied, it lies on another disk than {store.roots[0]}:"
                    " allow it with --copy"
                )
            how = "copied"
            shutil.copyfile(file.path, work)
        summed, position = Sha256(), 0
        buffer = memoryview(bytearray(MIB))
        with FileIO(work, "rb") as work_file:
            while n := work_file.readinto(buffer):
                summed.update(buffer[:n])
                position += n
                verified(position)
        if file.sha256 not in ("", summed.hex):
            raise InvalidModel(
                f"{file.path} is damaged: its content does not match the sha256 in its name"
            )
        reservation.add(summed.digest)
        store.adopt_file(work, summed.digest, linked=how == "linked")
        return summed.digest, how
    except OSError as error:
        raise StoreError(
            f"cannot take {file.path} into {store.roots[0]} ({reason(error)})"
        ) from None


def _share(source: Path, target: Path) -> str | None:
    """Share a file's content with `target` without copying: returns how, or None if that is impossible."""
    if _clone(source, target):
        return "cloned"
    try:
        os.link(source, target)
        return "linked"
    except OSError:  # another disk, another user, too many links, no support for links
        return None


def _clone(source: Path, target: Path) -> bool:
    """Clone a file: a new file that shares its blocks until one of them is written to."""
    if sys.platform == "win32":
        return False
    if sys.platform == "darwin":
        import ctypes

        library: Any = ctypes.CDLL(None)
        return bool(library.clonefile(os.fsencode(source), os.fsencode(target), 0) == 0)
    import fcntl

    try:
        with source.open("rb") as read, target.open("xb") as write:
            fcntl.ioctl(write.fileno(), _FICLONE, read.fileno())
        return True
    except OSError:
        target.unlink(missing_ok=True)
        return False


def _manifest(
    store: Store,
    reservation: Reservation,
    found: Found,
    digests: Sequence[str],
    headers: Sequence[Header],
) -> bytes:
    """The manifest of a model made of GGUF files, as Ollama's own are."""
    layers = [
        Layer(f"{LAYER_PREFIX}{file.kind}", digest, file.size)
        for file, digest in zip(found.files, digests, strict=True)
    ]
    of_kind: dict[str, list[Header]] = {"model": [], "projector": []}
    for file, header in zip(found.files, headers, strict=True):
        of_kind[file.kind].append(header)
    described = describe(joined(of_kind["model"]), of_kind["projector"])
    config = print_config(described)
    reservation.add(digest_of(config))
    return print_manifest(Layer(CONFIG_TYPE, store.add_blob(config), len(config)), layers)
