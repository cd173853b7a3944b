"""The Hugging Face hub: the files of a repository at one commit, and which of them a tag selects.

`list_files` gets every file with its size, its sha256 and an address pinned to the commit, in one
request; `choose` decides, without requests, which GGUF a tag selects. Nothing is downloaded here. The
hub's client library is not used, because only two JSON documents are needed.

    GET {endpoint}/api/models/{repo}/revision/{revision}?blobs=true     everything, in one response
    GET {endpoint}/api/models/{repo}/tree/{commit}?recursive=true       what a mirror without blobs=
                                                                        knows, in pages
    GET {endpoint}/{repo}/resolve/{commit}/{path}                       a file (see download.py)

A name in a listing never becomes a path on our disk; a name that leads outside of its folder makes the
listing invalid anyway.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..config import HubSettings
from ..errors import InvalidRequest, RemoteNotFound, TransferError, Unauthorized
from .addresses import origin
from .http import Access, Response, Session
from .labels import SHARD, label, stem
from .mmproj import is_mmproj, projector
from .patience import Patience, ask_json
from .refusal import odd_listing, refusal
from .remote import RemoteFile

_HOMES = ("https://huggingface.co", "https://hf.co")
_MAX_PAGES = 200  # of 1,000 files each
_MAX_TOKEN_FILE = 4096

_PART = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?"
_REPO = re.compile(rf"(?:{_PART}/)?{_PART}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_SHA1 = re.compile(r"[0-9a-f]{40}", re.ASCII)


# The client of a hub


def access_of(settings: HubSettings) -> Access:
    """How to ask now: the token file is read at every call, for it changes under a daemon.

    Raises InvalidRequest for an endpoint or a token that cannot be one.
    """
    token = settings.token.strip() or _read_token(settings.token_path)
    if not all("!" <= each <= "~" for each in token):
        raise InvalidRequest("the Hugging Face token is not one line of text, set HF_TOKEN")
    homes = tuple(each for each in _HOMES if origin(each) != origin(settings.endpoint))
    return Access(
        endpoint=settings.endpoint,
        authorization=f"Bearer {token}" if token else "",
        aliases=homes,
        offline=settings.offline,
    )


def _read_token(path: Path | None) -> str:
    try:
        if path is None or not path.is_file():
            return ""
        with path.open("rb") as file:
            return file.read(_MAX_TOKEN_FILE).decode("utf-8", "replace").strip()
    except OSError:
        return ""  # public models need no token


# The files of a repository


@dataclass(frozen=True, slots=True)
class Repo:
    """A repository ("user/name"; a few have no user) at a branch, tag, commit or refs/pr/N.

    Raises InvalidRequest for an id that the hub does not accept.
    """

    id: str
    revision: str = "main"

    def __post_init__(self) -> None:
        valid = _REPO.fullmatch(self.id) and len(self.id.rpartition("/")[2]) <= 96
        if not valid or "--" in self.id or ".." in self.id or self.id.endswith(".git"):
            raise InvalidRequest(f"{ascii(self.id[:200])} is not a repository, write user/name")
        if not self.revision or len(self.revision) > 200 or not self.revision.isprintable():
            raise InvalidRequest(f"{ascii(self.revision[:200])} is not a branch, tag or commit")


@dataclass(frozen=True, slots=True)
class Listing:
    """A repository's files at one commit (40 hex digits), under its canonical id.

    `access` is how to fetch them: without the token if the hub did not accept it.
    """

    repo: str
    commit: str
    files: tuple[RemoteFile, ...]
    access: Access


def list_files(repo: Repo, access: Access, patience: Patience | None = None) -> Listing:
    """Every file of a repository, with sizes and hashes, pinned to a commit: one request.

    Raises TransferError and its children, RequestCancelled.
    """
    patience = patience or Patience()
    with Session(access) as session:
        try:
            return _list(session, repo, patience)
        except Unauthorized:
            anonymous = replace(access, authorization="")
    # The hub rejects a wrong token even for public repositories: try without it.
    with Session(anonymous) as session:
        try:
            found = _list(session, repo, patience)
        except RemoteNotFound:
            raise Unauthorized(
                f"{repo.id} is private or does not exist, and {access.host} does not accept your"
                f" token: make a new one at {access.endpoint}/settings/tokens and set HF_TOKEN"
            ) from None
    patience.notify(f"{access.host} does not accept your token, going on without it")
    return found


def _list(session: Session, repo: Repo, patience: Patience) -> Listing:
    access = session.access
    what = repo.id if repo.revision == "main" else f"{repo.id} at {repo.revision}"
    page = f"{access.endpoint}/{repo.id}"
    revision = quote(repo.revision, safe="")
    url = f"{access.endpoint}/api/models/{repo.id}/revision/{revision}?blobs=true"
    response, value = ask_json(session, url, patience)
    if response.status != 200:
        raise refusal(response, access, what, page)
    id, commit, siblings = _fields(value, access)
    if any("size" not in each for each in siblings):  # a mirror without support for blobs=
        entries = _tree(session, id, commit, patience)
        files = [_tree_file(each, id, commit, access) for each in entries]
    else:
        files = [_sibling(each, id, commit, access) for each in siblings]
    return Listing(id, commit, tuple(files), access)


def _fields(value: Any, access: Access) -> tuple[str, str, list[dict[str, Any]]]:
    if isinstance(value, dict):
        id, commit, siblings = value.get("id"), value.get("sha"), value.get("siblings")
        if (
            isinstance(id, str)
            and _REPO.fullmatch(id)
            and isinstance(commit, str)
            and _SHA1.fullmatch(commit)
            and isinstance(siblings, list)
            and all(isinstance(each, dict) for each in siblings)
        ):
            return id, commit, siblings
    raise odd_listing(access)


def _sibling(value: dict[str, Any], id: str, commit: str, access: Access) -> RemoteFile:
    lfs = value.get("lfs")
    sha256 = lfs.get("sha256") if isinstance(lfs, dict) else None
    size = lfs.get("size", value.get("size")) if isinstance(lfs, dict) else value.get("size")
    return _file(value.get("rfilename"), size, sha256, value.get("blobId"), id, commit, access)


def _tree_file(value: dict[str, Any], id: str, commit: str, access: Access) -> RemoteFile:
    lfs = value.get("lfs")
    sha256 = lfs.get("oid") if isinstance(lfs, dict) else None
    size = lfs.get("size", value.get("size")) if isinstance(lfs, dict) else value.get("size")
    return _file(value.get("path"), size, sha256, value.get("oid"), id, commit, access)


def _file(
    path: Any, size: Any, sha256: Any, git: Any, id: str, commit: str, access: Access
) -> RemoteFile:
    if not isinstance(path, str) or type(size) is not int or not 0 <= size < 2**63:
        raise odd_listing(access)
    if not is_safe_path(path):
        raise TransferError(f"{id} lists a file named {ascii(path[:200])}, which is refused")
    if sha256 is not None and not (isinstance(sha256, str) and _SHA256.fullmatch(sha256)):
        raise odd_listing(access)
    sha1 = git if sha256 is None and isinstance(git, str) and _SHA1.fullmatch(git) else None
    url = f"{access.endpoint}/{id}/resolve/{commit}/{quote(path, safe='/')}"
    return RemoteFile(path, url, size, sha256, git_sha1=sha1, page=f"{access.endpoint}/{id}")


def _tree(session: Session, id: str, commit: str, patience: Patience) -> list[dict[str, Any]]:
    """The pages of a listing. Through a mirror, their links may point to the hub itself."""
    access = session.access
    url = f"{access.endpoint}/api/models/{id}/tree/{commit}?recursive=true&expand=false"
    entries: list[dict[str, Any]] = []
    for _ in range(_MAX_PAGES):
        response, value = ask_json(session, url, patience)
        if response.status != 200:
            raise refusal(response, access, id, f"{access.endpoint}/{id}")
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            raise odd_listing(access)
        entries += [each for each in value if each.get("type") == "file"]
        following = _next_page(response, access)
        if following is None:
            return entries
        url = following
    raise TransferError(f"{id} has more files than can be listed")


def _next_page(response: Response, access: Access) -> str | None:
    found = re.search(r'<([^>]*)>\s*;\s*rel="?next"?', response.headers.get("Link", ""))
    if not found:
        return None
    path = re.sub(r"^https?://[^/]*", "", found[1])  # the origin in the link does not matter
    if not path.startswith("/"):
        raise odd_listing(access)
    scheme, host, port = origin(access.endpoint)
    prefix = access.endpoint.split("//", 1)[1].partition("/")[2]  # a mirror below a path
    base = f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
    base = access.endpoint if prefix and not path.startswith(f"/{prefix}/") else base
    return base + path


_HARMLESS = "\u00a0\u3000\u200b\u200c\u200d\u00ad\ufeff"


def is_safe_path(path: str) -> bool:
    """Whether a name from a listing stays inside its folder, on any operating system."""
    parts = path.split("/")
    drive = len(parts[0]) > 1 and parts[0][1] == ":"
    # Spaces and joiners of other scripts are harmless; control and bidirectional characters are not
    odd = any(not each.isprintable() and each not in _HARMLESS for each in path)
    plain = not odd and "\\" not in path and not drive
    return plain and len(path) <= 1024 and all(part not in ("", ".", "..") for part in parts)


# Which file a tag selects

_DRAFTERS = re.compile(
    r"(?:^|[-._/])(?:draft(?:er|s|[-_]?model)?|eagle[0-9]?|dflash|dspark|medusa|speculat(?:or|ive)"
    r"|(?P<if_small>mtp|nextn|assistant|spec))(?=[-._/]|$)"
)
"""The words in a path by which small models that only help a larger one (speculative decoding) are known."""

# Near 4 bits first: a default must not need twice the memory that the user expects.
_PREFERRED = (
    "Q4_K_M Q4_K_XL Q4_K_L Q4_K_S IQ4_NL IQ4_XS Q4_0 Q4_1 MXFP4 MXFP4_MOE NVFP4 Q5_K_M Q5_K_S Q5_0"
    " Q5_1 Q6_K Q8_0 Q3_K_L Q3_K_M Q3_K_S IQ3_M IQ3_S IQ3_XS IQ3_XXS Q2_K_XL Q2_K_L Q2_K Q2_K_S"
    " Q2_0 IQ2_M IQ2_S IQ2_XS IQ2_XXS IQ1_M IQ1_S BF16 F16 F32"
).split()

_USUAL = {
    **{1: "IQ1_M", 2: "Q2_0", 3: "Q3_K_S", 4: "NVFP4", 5: "Q5_1", 6: "Q6_K", 7: "Q6_K"},
    **{8: "Q8_0", 16: "F16", 32: "F32"},
}
"""A quantisation of so many bits, which stands for all of them."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What a tag selects: one file or all its shards in order, the mmproj beside it, and why.

    `label` is the quantisation as the file's name has it, "" if it has none.
    """

    weights: tuple[RemoteFile, ...]
    mmproj: RemoteFile | None
    label: str
    reason: str


@dataclass(frozen=True, slots=True)
class _Candidate:
    files: tuple[RemoteFile, ...]
    label: str

    @property
    def path(self) -> str:
        return self.files[0].path

    @property
    def names(self) -> set[str]:
        """The names of its files, without folders and in lower case; for shards also the name of the whole."""
        names = {file.path.rpartition("/")[2].lower() for file in self.files}
        return names | {stem(self.path).lower()}

    @property
    def quant(self) -> str:
        return self.label.removeprefix("UD-")

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file.size for file in self.files)

    @property
    def preference(self) -> float:
        """The place of its quantisation among the preferred ones; an unusual one counts as the usual one of as many bits."""
        quant = re.sub(r"_[A-Z]+$", "", self.quant) if self.quant not in _PREFERRED else self.quant
        if quant in _PREFERRED:
            return _PREFERRED.index(quant) + (quant != self.quant) / 2
        return _usual(_nominal_bits(self.label))

    @property
    def rank(self) -> tuple[bool, bool, int, bool]:
        """How to order equal candidates: root before folder, one file before shards, short before long."""
        nested, plain = "/" in self.path, self.label == self.quant
        return nested, len(self.files) > 1, len(self.path), not plain


def choose(files: Sequence[RemoteFile], tag: str | None = None) -> Choice:
    """The GGUF that a tag selects; without a tag (or with "latest") a default, near 4 bits.

    A tag is a path, a file name, a quantisation, or a part of a name between separators: the first of
    these that matches, without regard to case; there is no other fallback. Raises RemoteNotFound, which
    lists the tags, and InvalidRequest if several files match.
    """
    candidates, incomplete = _candidates(files)
    if tag is not None and tag.lower() != "latest":
        chosen, reason = _by_tag(candidates, incomplete, tag), f"as asked for with {tag}"
    elif not candidates:
        raise _nothing(incomplete)
    else:
        chosen, reason = _by_default(candidates)
    mmproj = projector(files, chosen.path, [each.path for each in candidates])
    text = f"{chosen.path}: {reason}"
    if len(chosen.files) > 1:
        text += f", in {len(chosen.files)} parts"
    if mmproj is not None:
        text += f", with the projector {mmproj.path}"
    return Choice(chosen.files, mmproj, chosen.label, text)


def tags(files: Sequence[RemoteFile]) -> list[str]:
    """The labels that can be selected, the largest file first."""
    candidates, _ = _candidates(files)
    by_size = sorted(candidates, key=lambda each: -sum(file.size for file in each.files))
    return list(dict.fromkeys(each.label or stem(each.path) for each in by_size))


def _candidates(files: Sequence[RemoteFile]) -> tuple[list[_Candidate], list[str]]:
    """The candidates, in the order of their paths, and the names of missing shards."""
    single: list[_Candidate] = []
    shards: dict[tuple[str, int], dict[int, RemoteFile]] = {}
    for file in sorted(files, key=lambda each: each.path):
        base = file.path.rpartition("/")[2].lower()
        if not base.endswith(".gguf") or is_mmproj(base) or "imatrix" in base:
            continue
        if found := SHARD.fullmatch(file.path):
            shards.setdefault((found[1], int(found[3])), {})[int(found[2])] = file
        else:
            single.append(_Candidate((file,), label(file.path)))
    missing: list[str] = []
    for (prefix, count), parts in shards.items():
        absent = [n for n in range(1, min(count, 1000) + 1) if n not in parts]
        if absent or not 1 <= count <= 1000 or len(parts) > count:
            missing += [f"{prefix}-{n:05}-of-{count:05}.gguf" for n in absent]
        else:
            whole = tuple(parts[n] for n in range(1, count + 1))
            single.append(_Candidate(whole, label(f"{prefix}.gguf")))
    models = _without_drafters(single, alone=not missing)
    return sorted(models, key=lambda each: each.path), missing


def _without_drafters(candidates: list[_Candidate], *, alone: bool) -> list[_Candidate]:
    """The candidates but for the drafters beside them; a repository of drafters ``alone`` is one of models.

    A model that includes its MTP layers may be named by them, too, and a model may be an assistant: a drafter is small.
    """
    named = {
        each.path: _DRAFTERS.search(stem(each.path, whole=True).lower()) for each in candidates
    }
    largest = max((each.size for each in candidates if not named[each.path]), default=0)
    models = []
    for each in candidates:
        found = named[each.path]
        if found is None or (found["if_small"] and each.size * 2 >= largest):
            models.append(each)
    return models or (candidates if alone else [])


def _usual(bits: int) -> float:
    """The preference of a quantisation of so many bits."""
    return _PREFERRED.index(_USUAL[bits]) + 0.5 if bits in _USUAL else math.inf


def _nominal_bits(label: str) -> int:
    """The number in a label: 4 for Q4_K_M, 16 for BF16; 0 if there is none."""
    found = re.search(r"[0-9]+", label)
    return int(found[0]) if found else 0


def _by_tag(candidates: list[_Candidate], incomplete: list[str], tag: str) -> _Candidate:
    wanted = tag.lower()
    part = re.compile(rf"[-._/]{re.escape(wanted)}([-._]|$)")

    tests: tuple[Callable[[_Candidate], bool], ...] = (
        lambda each: wanted in {file.path.lower() for file in each.files},
        lambda each: bool({wanted, f"{wanted}.gguf"} & each.names),
        lambda each: wanted == each.label.lower(),
        lambda each: part.search(re.sub(r"\.gguf$", "", each.path.lower())) is not None,
    )
    for test in tests:
        hits = sorted((each for each in candidates if test(each)), key=lambda each: each.rank)
        if len(hits) > 1 and hits[0].rank == hits[1].rank:
            several = ", ".join(each.path for each in hits[:8])
            raise InvalidRequest(
                f"{tag} can mean {several}: give the whole name or the address of one of them"
            )
        if hits:
            return hits[0]
    if not candidates or any(wanted in each.lower() for each in incomplete):
        raise _nothing(incomplete)
    files = [file for each in candidates for file in each.files]
    shown = tags(files)
    more = f" and {len(shown) - 40} more" if len(shown) > 40 else ""
    raise RemoteNotFound(f"there is no {tag}, choose one of: {', '.join(shown[:40])}{more}")


def _by_default(candidates: list[_Candidate]) -> tuple[_Candidate, str]:
    if len(candidates) == 1:
        return candidates[0], "the only one"
    bits = _bits_by_size(candidates)

    def preference(each: _Candidate) -> float:
        return each.preference if each.label else _usual(bits.get(each.path, 0))

    first = min(
        candidates,
        key=lambda each: (preference(each), each.label != each.quant, each.rank, each.path),
    )
    if preference(first) == math.inf:
        first = candidates[0]
        return first, f"the first of {len(candidates)}, none has a usual quantisation"
    if not first.label:
        return first, f"of {len(candidates)} variants the one near 4 bits, by its size"
    return first, f"the first choice of {len(candidates)} variants is {first.label}"


def _bits_by_size(candidates: list[_Candidate]) -> dict[str, int]:
    """The bits of a weight of candidates whose names have none, by their paths: compared with the largest whose name has one, or
    where no name has with the largest, which then counts as F16 if it is twice as large as the smallest. Outside of 3 to 8 it
    is no model's: of a vocabulary, say."""
    known = [each for each in candidates if _nominal_bits(each.label)]
    largest = max(known or candidates, key=lambda each: each.size)
    if not known and largest.size < 2 * min(each.size for each in candidates):
        return {}
    scale = (_nominal_bits(largest.label) or 16) / max(largest.size, 1)
    found = {each.path: round(each.size * scale) for each in candidates if not each.label}
    return {path: bits for path, bits in found.items() if 3 <= bits <= 8}


def _nothing(incomplete: list[str]) -> RemoteNotFound:
    if incomplete:
        shown = ", ".join(incomplete[:8])
        return RemoteNotFound(f"the repository lacks parts of its model: {shown}")
    return RemoteNotFound(
        "the repository has no GGUF file, look for one of the same model whose name ends in -GGUF"
    )
