"""The catalogue: which files a short name such as `llama2:13b` refers to, from one YAML file per family.

    <folder>/llama2.yaml            the family and its tags
    <folder>/formats/llama2.yaml    a prompt format that families name: template, system, stops

A `Catalog` searches several folders, the user's own first; the built-in folder's README.md describes the
schema. Only the file of the requested family is read. Nothing is downloaded here. Files are validated
key by key: an `InvalidCatalog` error names the file and the key.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NoReturn, cast, get_args

from ..errors import InvalidCatalog, InvalidRequest, reason
from ..names import DEFAULT_HOST, DEFAULT_NAMESPACE, Name
from ..types import parse_options
from .hub import is_safe_path

Kind = Literal["gguf", "llama2c", "builtin"]
"""What is downloaded: GGUF files, a llama2.c checkpoint with its tokenizer (which is converted), or
nothing, because the model is part of the program."""

MAX_FILE = 2**20
MAX_TAGS = 1000
MAX_SHARDS = 1000
MAX_TEXT = 64 * 1024

_FAMILY = re.compile(r"[a-z0-9_][a-z0-9_.-]{0,79}", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}", re.ASCII)
_REPO = re.compile(r"[A-Za-z0-9_.-]{1,96}/[A-Za-z0-9_.-]{1,96}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_REVISION = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_./-]{0,199}", re.ASCII)

# The keys of each kind of mapping
_FILE_KEYS = {"repo", "revision", "file", "url", "size", "about_size", "sha256"}
_ENTRY_KEYS = {
    "kind", "licence", "context", "architecture", "parameter_size", "quantization", "format", "template", "system",
    "stop", "parameters", "use", "dimensions", "document_prefix", "query_prefix",
}  # fmt: skip
_TAG_KEYS = (
    _FILE_KEYS | _ENTRY_KEYS | {"also", "shards", "mmproj", "tokenizer", "adapter", "alternatives"}
)
_TAG_KEYS |= {"note"}
_FAMILY_KEYS = _ENTRY_KEYS | {"about", "tags"}
_FORMAT_KEYS = {"about", "template", "system", "stop"}

USES = ("chat", "text", "code", "vision", "embedding", "rerank")
"""What a model is for; "text" completes a text and has no roles."""


@dataclass(frozen=True, slots=True)
class CatalogFile:
    """A remote file: in a repository of the hub, or at `url` if that is not empty.

    `revision` is a commit if the digest is pinned to one, else a branch. `sha256` (64 hex digits) and
    `size` (bytes, exact) are None if unknown; `about_size` is for display only.
    """

    path: str
    repo: str = ""
    revision: str = "main"
    sha256: str | None = None
    size: int | None = None
    about_size: int | None = None
    url: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One model of the catalogue; `tag` is its first name, `also` are the other tags of it.

    `files` are the weights: one file, or all its shards in order; none for the kind "builtin".
    `template` is a Go template if the GGUF has none, else ""; `parameters` are options by Ollama's
    names, including `stop`. `alternatives` are other publishers of the same model, best first.
    `context`, in tokens, is the context that the model was trained with.
    """

    family: str
    tag: str
    also: tuple[str, ...]
    kind: Kind
    use: str
    files: tuple[CatalogFile, ...]
    mmproj: CatalogFile | None = None
    tokenizer: CatalogFile | None = None
    adapter: CatalogFile | None = None
    alternatives: tuple[CatalogFile, ...] = ()
    template: str = ""
    system: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    licence: str = ""
    context: int | None = None
    architecture: str = ""
    parameter_size: str = ""
    quantization: str = ""
    dimensions: int | None = None
    document_prefix: str = ""
    query_prefix: str = ""
    note: str = ""

    @property
    def repo(self) -> str:
        """The repository of the weights; "" for the kind "builtin"."""
        return self.files[0].repo if self.files else ""

    @property
    def revision(self) -> str:
        """The commit or branch of the weights."""
        return self.files[0].revision if self.files else "main"

    @property
    def stop(self) -> tuple[str, ...]:
        """The stop strings."""
        return tuple(self.parameters.get("stop", ()))

    @property
    def size(self) -> int | None:
        """Bytes of all its files; None unless each is known exactly."""
        sizes = [file.size for file in (*self.files, self.mmproj, self.adapter) if file is not None]
        known = [size for size in sizes if size is not None]
        return sum(known) if sizes and len(known) == len(sizes) else None

    @property
    def tags(self) -> tuple[str, ...]:
        """All tags of this model."""
        return (self.tag, *self.also)

    @property
    def name(self) -> Name:
        """Its first name."""
        return Name(DEFAULT_HOST, DEFAULT_NAMESPACE, self.family, self.tag)


@dataclass(frozen=True, slots=True)
class Family:
    """A family of models, in the order of its file."""

    name: str
    about: str
    entries: tuple[Entry, ...]

    def find(self, tag: str) -> Entry | None:
        """The model with this tag, without regard to case."""
        wanted = tag.lower()
        for entry in self.entries:
            if wanted in (each.lower() for each in entry.tags):
                return entry
        return None


@dataclass(frozen=True, slots=True)
class Catalog:
    """The catalogue in several folders; earlier folders take precedence."""

    folders: tuple[Path, ...]

    def find(self, name: Name) -> Entry | None:
        """The model of a name; None for names that are not in the catalogue.

        Raises InvalidCatalog.
        """
        if name.host.lower() != DEFAULT_HOST or name.namespace.lower() != DEFAULT_NAMESPACE:
            return None
        for folder in self.folders:
            family = self._read(folder, name.model.lower())
            entry = family.find(name.tag) if family else None
            if entry is not None:
                return entry
        return None

    def similar(self, name: Name) -> str | None:
        """The family that was probably meant by a name that is not in the catalogue: one letter is wrong, too much or missing, or
        two are swapped. Other digits are another version, and not a mistake.

        Raises InvalidCatalog.
        """
        if name.host.lower() != DEFAULT_HOST or name.namespace.lower() != DEFAULT_NAMESPACE:
            return None
        wanted = name.model.lower()
        families = self.families()
        if wanted in families:
            return None
        near = difflib.get_close_matches(wanted, families, 8, cutoff=0.8)
        return next((each for each in near if is_misspelling(wanted, each)), None)

    def families(self) -> list[str]:
        """The names of all families, sorted. Does not read their files. Raises InvalidCatalog."""
        found: set[str] = set()
        for folder in self.folders:
            try:
                names = [path.stem for path in folder.iterdir() if path.suffix == ".yaml"]
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise InvalidCatalog(f"{folder}: {reason(error)}") from error
            found.update(name for name in names if _FAMILY.fullmatch(name))
        return sorted(found)

    def family(self, name: str) -> Family | None:
        """A family with the tags of all folders; None if there is none. Raises InvalidCatalog."""
        families = [found for each in self.folders if (found := self._read(each, name.lower()))]
        if not families:
            return None
        entries: list[Entry] = []
        taken: set[str] = set()
        for entry in (entry for family in families for entry in family.entries):
            tags = [tag for tag in entry.tags if tag.lower() not in taken]
            if tags:
                entries.append(_with_tags(entry, tags))
                taken.update(tag.lower() for tag in tags)
        about = next((family.about for family in families if family.about), "")
        return Family(families[0].name, about, tuple(entries))

    def _read(self, folder: Path, name: str) -> Family | None:
        if not _FAMILY.fullmatch(name):
            return None
        path = folder / f"{name}.yaml"
        content = _content(path)
        if content is None:
            return None
        formats = (folder, *(each for each in self.folders if each != folder))
        return _Reader(path, lambda format: _format(formats, format)).family(name, content)


def is_misspelling(text: str, of: str) -> bool:
    """Whether a name differs from another in one letter, or in marks, and has the same digits."""
    if re.sub(r"[^0-9]", "", text) != re.sub(r"[^0-9]", "", of):
        return False
    text, of = (re.sub(r"[^a-z0-9]", "", each.lower()) for each in (text, of))
    if text == of:
        return True
    begin = next((i for i, (a, b) in enumerate(zip(text, of, strict=False)) if a != b), len(of))
    one, other = text[begin:], of[begin:]
    swapped = one[:2] == other[1::-1] and one[2:] == other[2:]
    return swapped or one[1:] == other[1:] or one[1:] == other or one == other[1:]


_BITS = {
    "F32": 32, "F16": 16, "BF16": 16, "Q8_0": 8.5, "Q6_K": 6.6, "Q5_K_M": 5.7, "Q5_K_S": 5.5, "Q5_K": 5.7, "Q5_0": 5.5,
    "Q4_K_M": 4.85, "UD-Q4_K_M": 4.85, "Q4_K": 4.85, "Q4_K_S": 4.6, "Q4_0": 4.6, "INT4": 4.85, "MXFP4": 4.4,
    "Q3_K_M": 3.9, "Q2_K": 3.2,
}  # fmt: skip
"""Bits of a weight on average, with what stays in larger types."""


def guessed_size(entry: Entry) -> int | None:
    """Bytes of a model's files: exact, else rounded by the catalogue, else estimated from its parameters.

    For display and memory estimates; None if there is nothing to estimate from.
    """
    if entry.size is not None:
        return entry.size
    sizes = [
        file.size or file.about_size
        for file in (*entry.files, entry.mmproj, entry.adapter)
        if file is not None
    ]
    known = [size for size in sizes if size]
    if (
        entry.files
        and len(known) >= len(entry.files)
        and (entry.files[0].size or entry.files[0].about_size)
    ):
        return sum(known)
    count = re.match(r"([0-9.]+)([KMB])", entry.parameter_size)
    bits = _BITS.get(entry.quantization)
    if count is None or bits is None:
        return None
    unit = {"K": 10**3, "M": 10**6, "B": 10**9}[count[2]]
    return int(float(count[1]) * unit * bits / 8)


def _with_tags(entry: Entry, tags: Sequence[str]) -> Entry:
    return (
        entry if len(tags) == len(entry.tags) else replace(entry, tag=tags[0], also=tuple(tags[1:]))
    )


# Reading one file


def _content(path: Path) -> bytes | None:
    """The content of a file, None if it is missing."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InvalidCatalog(f"{path}: {reason(error)}") from error
    if len(content) > MAX_FILE:
        raise InvalidCatalog(f"{path} has more than {MAX_FILE} bytes")
    return content


def _parse(path: Path, content: bytes) -> Any:
    """Parse a YAML document with the safe loader; a duplicate key is an error."""
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C loader is ten times as fast

    class Loader(base):  # type: ignore[misc]
        def flatten_mapping(self, node: Any) -> None:
            """Refuse merge keys: with aliases, a page of `<<` expands without bounds."""
            seen: set[str] = set()
            for key, _ in node.value:
                if key.id == "scalar" and (key.value in seen or key.value == "<<"):
                    what = "is not allowed" if key.value == "<<" else "is there twice"
                    line = key.start_mark.line + 1
                    raise yaml.YAMLError(f"the key {ascii(key.value)[:80]} in line {line} {what}")
                seen.add(str(key.value))

    try:
        return yaml.load(content, Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split()) or "it is nested too deep"
        raise InvalidCatalog(f"{path} is not YAML: {reason[:300]}") from None


@dataclass(frozen=True, slots=True)
class Format:
    """A prompt format: its Go template, the system message it was trained with, its stop strings."""

    template: str
    system: str = ""
    stop: tuple[str, ...] = ()


def _format(folders: Sequence[Path], name: str) -> Format | None:
    for folder in folders:
        path = folder / "formats" / f"{name}.yaml"
        content = _content(path)
        if content is not None:
            node = _Node(path, "", _parse(path, content))
            node.only(_FORMAT_KEYS)
            stop = node.texts("stop")
            return Format(node.text("template", MAX_TEXT), node.text("system", MAX_TEXT), stop)
    return None


@dataclass(frozen=True, slots=True)
class _Node:
    """A mapping in a file with the keys that lead to it; every error names both."""

    path: Path
    where: str
    value: Any

    def __post_init__(self) -> None:
        if not isinstance(self.value, dict):
            self.wrong("", "is not a mapping of keys to values")

    def wrong(self, key: str, what: str) -> NoReturn:
        place = ".".join(each for each in (self.where, key) if each) or "it"
        raise InvalidCatalog(f"{self.path}: {place} {what}")

    def only(self, keys: set[str]) -> None:
        for key in self.value:
            if key not in keys:
                self.wrong(
                    "", f"has an unknown key {ascii(key)[:80]}, one of: {', '.join(sorted(keys))}"
                )

    def has(self, key: str) -> bool:
        return key in self.value

    def text(self, key: str, limit: int = 1000) -> str:
        value = self.value.get(key, "")
        if not isinstance(value, str) or (key in self.value and not value.strip()):
            self.wrong(key, "is not a text")
        if len(value) > limit:
            self.wrong(key, f"has more than {limit} characters")
        return value

    def matching(self, key: str, pattern: re.Pattern[str], what: str) -> str:
        value = self.text(key)
        if value and not pattern.fullmatch(value):
            self.wrong(key, f"is {ascii(value)[:80]}, which is {what}")
        return value

    def one_of(self, key: str, choices: Sequence[str], default: str) -> str:
        value = self.text(key) or default
        if value not in choices:
            self.wrong(key, f"is {ascii(value)[:80]}, one of: {', '.join(choices)}")
        return value

    def count(self, key: str) -> int | None:
        value: int | None = self.value.get(key)
        if key in self.value and (type(value) is not int or not 0 < value < 2**63):
            self.wrong(key, "is not a number above 0")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.value.get(key, [])
        if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
            self.wrong(key, "is not a list of texts")
        if len(value) > MAX_TAGS:
            self.wrong(key, f"has more than {MAX_TAGS} items")
        return tuple(value)

    def node(self, key: str) -> _Node:
        return _Node(
            self.path, ".".join(each for each in (self.where, key) if each), self.value[key]
        )

    def nodes(self, key: str, limit: int) -> list[_Node]:
        value = self.value.get(key, [])
        if not isinstance(value, list) or len(value) > limit:
            self.wrong(key, f"is not a list of at most {limit}")
        place = ".".join(each for each in (self.where, key) if each)
        return [_Node(self.path, f"{place}[{n}]", each) for n, each in enumerate(value)]


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads a family's file."""

    path: Path
    format: Callable[[str], Format | None]

    def family(self, name: str, content: bytes) -> Family:
        root = _Node(self.path, "", _parse(self.path, content))
        root.only(_FAMILY_KEYS)
        tags = root.node("tags") if root.has("tags") else root.wrong("tags", "is missing")
        if not 0 < len(tags.value) <= MAX_TAGS:
            root.wrong("tags", f"has {len(tags.value)} tags, 1 to {MAX_TAGS} are possible")
        common = {key: root.value[key] for key in root.value if key in _ENTRY_KEYS}
        entries = []
        taken: set[str] = set()
        for tag in tags.value:
            if not isinstance(tag, str) or not _TAG.fullmatch(tag):
                tags.wrong(
                    "",
                    f"has {ascii(tag)[:80]}, which is not a tag: write it in quotes if it is a number",
                )
            entry = self._entry(name, tag, tags.node(tag), common)
            for each in entry.tags:
                if each.lower() in taken:
                    tags.wrong(tag, f"names the tag {each} a second time")
                taken.add(each.lower())
            entries.append(entry)
        return Family(name, root.text("about"), tuple(entries))

    def _entry(self, family: str, tag: str, own: _Node, common: Mapping[str, Any]) -> Entry:
        own.only(_TAG_KEYS)
        # A tag with its own template does not inherit the family's format, and vice versa
        inherited = dict(common)
        if own.has("format"):
            for key in ("template", "system", "stop"):
                inherited.pop(key, None)
        node = _Node(self.path, own.where, {**inherited, **own.value})
        also = node.texts("also")
        for each in also:
            if not _TAG.fullmatch(each):
                node.wrong("also", f"has {ascii(each)[:80]}, which is not a tag")
        kind = node.one_of("kind", get_args(Kind), "gguf")
        format = self._format(node)
        return Entry(
            family=family,
            tag=tag,
            also=also,
            kind=cast(Kind, kind),
            use=node.one_of("use", USES, "chat"),
            files=self._files(node, kind),
            mmproj=self._beside(node, "mmproj"),
            tokenizer=self._beside(node, "tokenizer"),
            adapter=self._beside(node, "adapter"),
            alternatives=tuple(_file(each) for each in node.nodes("alternatives", 16)),
            template=node.text("template", MAX_TEXT) or format.template,
            system=node.text("system", MAX_TEXT) or format.system,
            parameters=_parameters(node, format),
            licence=node.text("licence"),
            context=node.count("context"),
            architecture=node.text("architecture"),
            parameter_size=node.text("parameter_size"),
            quantization=node.text("quantization"),
            dimensions=node.count("dimensions"),
            document_prefix=node.text("document_prefix"),
            query_prefix=node.text("query_prefix"),
            note=node.text("note", 4000),
        )

    def _format(self, node: _Node) -> Format:
        name = node.matching("format", _FAMILY, "no name of a format")
        if not name or name == "none":
            return Format("")
        found = self.format(name)
        if found is None:
            node.wrong("format", f"is {name}, and there is no formats/{name}.yaml")
        return found

    def _files(self, node: _Node, kind: str) -> tuple[CatalogFile, ...]:
        if kind == "builtin":
            if node.has("file") or node.has("shards"):
                node.wrong("kind", "is builtin, which has no file")
            return ()
        if not node.has("shards"):
            return (_file(node),)
        if node.has("file"):
            node.wrong("file", "is there beside shards, which name all files")
        shards = node.nodes("shards", MAX_SHARDS)
        if len(shards) < 2:
            node.wrong("shards", "has less than two files, use file")
        return tuple(_file(each, node) for each in shards)

    def _beside(self, node: _Node, key: str) -> CatalogFile | None:
        return _file(node.node(key), node) if node.has(key) else None


def _file(node: _Node, model: _Node | None = None) -> CatalogFile:
    """The mapping of a file; without a repo it is in the model's, at the model's revision."""
    if model is not None:
        node.only(_FILE_KEYS)
    url = node.text("url")
    if url and not url.startswith("https://"):
        node.wrong("url", "is not an https:// address")
    home = node if model is None or node.has("repo") else model
    path = node.text("file") or url.rpartition("/")[2]
    if not path or not is_safe_path(path):
        node.wrong(
            "file", "is missing" if not path else f"is {ascii(path)[:80]}, which leaves its folder"
        )
    repo = "" if url else home.matching("repo", _REPO, "no repository, write user/name")
    if not url and not repo:
        node.wrong("repo", "is missing")
    pinned = node if node.has("revision") else home
    return CatalogFile(
        path=path,
        repo=repo,
        revision=""
        if url
        else pinned.matching("revision", _REVISION, "no branch, tag or commit") or "main",
        sha256=node.matching("sha256", _SHA256, "no sha256, 64 hex digits in lower case") or None,
        size=node.count("size"),
        about_size=node.count("about_size"),
        url=url,
    )


def _parameters(node: _Node, format: Format) -> Mapping[str, Any]:
    """The options, validated like those of a request; a model's own stop strings replace its format's."""
    given = dict(node.node("parameters").value) if node.has("parameters") else {}
    stop = node.texts("stop") if node.has("stop") else format.stop
    if stop:
        given["stop"] = list(stop)
    try:
        _, unknown = parse_options(given)
    except InvalidRequest as error:
        node.wrong("parameters", f"has a wrong value: {error}")
    if unknown:
        node.wrong("parameters", f"has {unknown[0]}, which is not an option")
    return given
