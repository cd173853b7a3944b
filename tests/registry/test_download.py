"""The downloader against a real server with every fault we know of: the right file or a clear error."""

from __future__ import annotations

import errno
import json
import logging
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from io import FileIO
from pathlib import Path
from typing import Any

import pytest

from ollamapy.errors import (
    AccessDenied,
    DigestMismatch,
    DiskFull,
    OllamapyError,
    RateLimited,
    RemoteNotFound,
    StoreError,
    TransferError,
)
from ollamapy.registry import connections
from ollamapy.registry.attempt import Downloaded
from ollamapy.registry.download import Fetched, check_space, fetch
from ollamapy.registry.hub import Repo, list_files
from ollamapy.registry.limits import Limits
from ollamapy.registry.pieces import MIB
from ollamapy.registry.probe import probe, read_small
from ollamapy.registry.remote import RemoteFile
from ollamapy.registry.route import lifetime
from ollamapy.registry.store import Store
from tests.registry.conftest import Haste
from tests.registry.fake_hub import FakeHub, content, sha256

INF = float("inf")
DATA = content(3 * MIB, 1)
QUICK = Limits(piece=MIB // 4, ramp_after=0.02, journal_after=0.02)
ROOT = Path(__file__).parents[2]


def offer(served: FakeHub, data: bytes = DATA) -> RemoteFile:
    """A file on the hub, as a listing has it."""
    served.add_repo("user/m", {"m-Q4_0.gguf": data})
    (file,) = list_files(Repo("user/m"), served.access()).files
    served.requests.clear()
    return file


def get(
    served: FakeHub,
    store: Store,
    file: RemoteFile,
    haste: Haste | None = None,
    limits: Limits = QUICK,
    **access: Any,
) -> Fetched:
    patience = haste.patience if haste else None
    return fetch(file, served.access(**access), store, patience=patience, limits=limits)


def begin(store: Store, file: RemoteFile, data: bytes, segments: list[Any] | bytes) -> None:
    """Leave work behind: the data, and a journal of these segments or of these bytes."""
    partial = store.roots[0] / "partial"
    partial.mkdir(parents=True)
    (partial / file.key).write_bytes(data)
    value = {"v": 1, "size": file.size, "source": "", "done": segments}
    content_ = segments if isinstance(segments, bytes) else json.dumps(value).encode()
    (partial / f"{file.key}.json").write_bytes(content_)


def is_whole(store: Store, data: bytes) -> bool:
    """Whether the blob is there and nothing is left of the work."""
    left = [each.name for each in (store.roots[0] / "partial").iterdir()]
    return store.blob_path(f"sha256:{sha256(data)}").read_bytes() == data and left == []


# When all goes well


def test_a_file_arrives_over_several_connections(hub: FakeHub, store: Store) -> None:
    file = offer(hub)
    reports: list[Downloaded] = []
    found = fetch(file, hub.access(), store, progress=reports.append, limits=QUICK)
    assert found == Fetched(f"sha256:{sha256(DATA)}", len(DATA))
    assert is_whole(store, DATA)
    assert oct(store.blob_path(found.digest).stat().st_mode)[-3:] == "644"
    assert len(hub.asked("hub", "/resolve/")) == 1
    assert hub.sent("cdn") == len(DATA)
    assert reports[-1] == Downloaded(found.digest, len(DATA), len(DATA), len(DATA))
    done = [each.completed for each in reports]
    assert done == sorted(done)


def test_what_is_there_is_not_fetched_again(hub: FakeHub, store: Store) -> None:
    file = offer(hub)
    get(hub, store, file)
    hub.requests.clear()
    assert get(hub, store, file).received == 0
    assert get(hub, store, file, offline=True).received == 0
    assert hub.requests == []


@pytest.mark.parametrize("size", [0, 1, MIB // 4, MIB // 4 + 1])
def test_files_of_odd_sizes(hub: FakeHub, store: Store, size: int) -> None:
    data = content(size, 7)
    get(hub, store, offer(hub, data))
    assert is_whole(store, data)


def test_one_connection_when_one_is_allowed(hub: FakeHub, store: Store) -> None:
    get(hub, store, offer(hub), limits=replace(QUICK, connections=1))
    assert is_whole(store, DATA)
    assert len({each.connection for each in hub.asked("cdn")}) == 1


def test_a_damaged_blob_in_the_store_is_replaced(hub: FakeHub, store: Store) -> None:
    file = offer(hub)
    get(hub, store, file)
    store.blob_path(f"sha256:{file.sha256}").write_bytes(b"cut off")
    get(hub, store, file)
    assert is_whole(store, DATA)


# Each fault alone: the right file in the end


@pytest.mark.parametrize(
    "fault",
    [
        {"slow": 20 * MIB, "times": INF},
        {"cap": 20 * MIB, "times": INF},
        {"drip": 20_000, "times": 1},
        {"stall": 100_000, "times": 3},
        {"stall": 0, "times": 2},
        {"hang": True, "times": 2},
        {"truncate": 100_000, "times": 5},
        {"truncate": 1, "times": 5},
        {"truncate": 0, "times": 3},
        {"reset": 100_000, "times": 5},
        {"reset": 0, "times": 3},
        {"status": 429, "headers": {"RateLimit": '"resolvers";r=0;t=1'}, "times": 3},
        {"status": 429, "headers": {"Retry-After": "2"}, "times": 3},
        {"status": 429},
        {"status": 500, "times": 3},
        {"status": 502},
        {"status": 503, "headers": {"Retry-After": "1"}},
        {"status": 504},
        {"status": 403, "text": "once"},
        {"status": 404},
        {"status": 410},
        {"status": 416},
        {"ignore_range": True},
        {"ignore_range": True, "times": INF},
        {"ignore_range": True, "starts": MIB, "times": INF},
        {"shift": 1},
        {"shift": 1, "times": INF},
        {"wrong_total": True, "times": INF},
        {"corrupt": MIB},
        {"corrupt": 0},
        {"packed": True},
        {"html": True},
        {"no_length": True, "times": INF},
        {"extra": 1000, "times": INF},
        {"no_accept_ranges": True, "times": INF},
        {"concurrent": 1, "times": INF, "slow": 20 * MIB},
        {"server": "hub", "path": "resolve", "status": 503},
        {"server": "hub", "path": "resolve", "reset": 0},
        {"server": "hub", "path": "resolve", "hang": True},
    ],
    ids=lambda fault: " ".join(f"{key}={value}" for key, value in fault.items()),
)
def test_a_fault_that_is_overcome(
    hub: FakeHub, store: Store, haste: Haste, fault: dict[str, Any]
) -> None:
    file = offer(hub)
    hub.fault(**fault)
    get(hub, store, file, haste, read_timeout=0.3)
    assert is_whole(store, DATA)


@pytest.mark.parametrize(
    "options",
    [
        {"head_forbidden": True},
        {"no_head": True},
        {"signed_range": True},
        {"direct": True},
        {"url_life": 2},
        {"url_life": -100},  # a clock that is wrong
        {"no_head": True, "signed_range": True},
    ],
    ids=str,
)
def test_hubs_that_are_different(
    hub: FakeHub, store: Store, haste: Haste, options: dict[str, Any]
) -> None:
    file = offer(hub)
    for name, value in options.items():
        setattr(hub, name, value)
    get(hub, store, file, haste)
    assert is_whole(store, DATA)


def test_a_branch_that_moves_changes_nothing(hub: FakeHub, store: Store) -> None:
    file = offer(hub)
    hub.add_repo("user/m", {"m-Q4_0.gguf": content(5000, 99)})
    get(hub, store, file)
    assert is_whole(store, DATA)


# Each fault for ever: a clear error, and nothing in blobs/


@pytest.mark.parametrize(
    ("fault", "kind", "message"),
    [
        ({"corrupt": 5}, DigestMismatch, "is damaged, expected sha256:.* got sha256:.* proxy"),
        ({"packed": True}, TransferError, "it compresses the file"),
        ({"html": True}, TransferError, "a web page: is there a login page"),
        ({"truncate": 0}, TransferError, "the connection broke off"),
        ({"hang": True}, TransferError, "it stopped sending"),
        ({"status": 500}, TransferError, "it answers 500"),
        ({"status": 418}, TransferError, "it answers 418"),
        (
            {"status": 429, "headers": {"Retry-After": "5"}},
            RateLimited,
            "try again in 5 s: the sam",
        ),
        ({"status": 429, "headers": {"Retry-After": "9999"}}, RateLimited, "try again in 9999 s"),
        ({"redirect": "{cdn}/again"}, TransferError, "redirects in circles"),
        ({"redirect": "ftp://example.com/x"}, TransferError, "an address that is not valid"),
        ({"server": "hub", "status": 404}, RemoteNotFound, "does not exist"),
        ({"server": "hub", "status": 401}, RemoteNotFound, "is private"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_fault_that_stays(
    hub: FakeHub,
    store: Store,
    haste: Haste,
    fault: dict[str, Any],
    kind: type[OllamapyError],
    message: str,
) -> None:
    file = offer(hub)
    if "redirect" in fault:
        fault = {"redirect": fault["redirect"].format(cdn=hub.cdn_url)}
    hub.fault(times=INF, **fault)
    with pytest.raises(kind, match=message) as caught:
        get(hub, store, file, haste, read_timeout=0.05 if "hang" in fault else 5.0)
    assert type(caught.value) is kind
    assert "Signature" not in str(caught.value) and "\n" not in str(caught.value)
    assert not (store.roots[0] / "blobs").exists()


def test_a_server_that_has_something_shorter(hub: FakeHub, store: Store, haste: Haste) -> None:
    file = replace(offer(hub), size=len(DATA) + 10, sha256="0" * 64)
    hub.direct = True  # no second word on the size
    with pytest.raises(TransferError, match="bytes of it instead of 3145738"):
        get(hub, store, file, haste)


def test_a_file_that_has_changed(hub: FakeHub, store: Store, haste: Haste) -> None:
    file = replace(offer(hub), sha256="0" * 64)
    with pytest.raises(TransferError, match="has changed on .* since it was listed, pull again"):
        get(hub, store, file, haste)


def test_a_token_stays_out_of_everything(
    hub: FakeHub, store: Store, haste: Haste, caplog: pytest.LogCaptureFixture
) -> None:
    file = offer(hub)
    hub.fault(times=INF, cap=6 * MIB)
    said: list[str] = []

    def listen(report: Downloaded) -> None:
        said.append(repr(report))
        if report.completed and len(hub.faults) == 1:
            hub.fault(times=INF, status=403, text="no: hf_good")

    with caplog.at_level(logging.DEBUG), pytest.raises(AccessDenied) as caught:
        fetch(
            file,
            hub.access("hf_good"),
            store,
            progress=listen,
            patience=haste.patience,
            limits=QUICK,
        )
    written = b"".join(each.read_bytes() for each in (store.roots[0] / "partial").glob("*.json"))
    everything = caplog.text + str(said) + str(caught.value) + repr(file) + written.decode()
    assert written and "hf_good" not in everything and "Signature" not in everything
    assert {each.headers.get("authorization") for each in hub.asked("hub")} == {"Bearer hf_good"}


# Signed addresses and the ladder


@pytest.mark.parametrize("expiries", [1, 3])
def test_an_address_that_ends_is_renewed_once(
    hub: FakeHub, store: Store, haste: Haste, expiries: int
) -> None:
    file = offer(hub)
    hub.url_uses, hub.expiries = 3, expiries
    get(hub, store, file, haste)
    assert is_whole(store, DATA)
    assert len(hub.asked("hub", "/resolve/")) <= 1 + expiries


def test_a_refusal_that_stays_is_reported_in_the_servers_words(
    hub: FakeHub, store: Store, haste: Haste
) -> None:
    file = offer(hub)
    hub.fault(times=INF, status=403, text="<Error>Auth failed: invalid range</Error>")
    with pytest.raises(AccessDenied, match=r"localhost refuses .* 403 \(Auth failed: invalid ran"):
        get(hub, store, file, haste)
    assert len(hub.requests) <= 10


def test_where_a_second_connection_is_refused_one_is_enough(
    hub: FakeHub, store: Store, haste: Haste
) -> None:
    file = offer(hub)
    hub.fault(times=INF, concurrent=1, slow=10 * MIB)
    get(hub, store, file, haste)
    assert is_whole(store, DATA)
    assert hub.sent("cdn") <= len(DATA) + MIB
    assert len(hub.requests) <= 30


@pytest.mark.parametrize(
    ("query", "headers", "seconds"),
    [
        ("Expires=1000600", {"Date": "Mon, 12 Jan 1970 13:46:40 GMT"}, 600),
        (
            "X-Amz-Date=19700112T134640Z&X-Amz-Expires=1200",
            {"Date": "Mon, 12 Jan 1970 13:56:40 GMT"},
            600,
        ),
        (
            "Policy=eyJTdGF0ZW1lbnQiOlt7IkNvbmRpdGlvbiI6eyJEYXRlTGVzc1RoYW4iOnsiQVdTOkVwb2NoVGltZSI6"
            "MTAwMDYwMH19fV19",
            {"Date": "Mon, 12 Jan 1970 13:46:40 GMT"},
            600,
        ),
        ("Expires=1", {}, INF),  # past already: our idea of the time is not the server's
        ("Expires=soon", {}, INF),
        ("Policy=___", {}, INF),
        ("", {}, INF),
    ],
)
def test_how_long_an_address_lives(query: str, headers: dict[str, str], seconds: float) -> None:
    assert lifetime(f"https://cdn.example/x?{query}", headers) == seconds


def test_all_workers_heed_a_rate_limit(hub: FakeHub, store: Store) -> None:
    file = offer(hub)
    hub.fault(nth=4, status=429, headers={"RateLimit": '"resolvers";r=0;t=1'})
    get(hub, store, file)
    assert is_whole(store, DATA)
    refused = next(each.at for each in hub.asked("cdn") if each.status == 429)
    soon = [each for each in hub.asked("cdn") if refused + 0.1 < each.at < refused + 1.9]
    assert soon == []


# Speed


def test_where_each_connection_is_slow_eight_share_the_work(hub: FakeHub, store: Store) -> None:
    file = offer(hub, content(24 * MIB, 3))
    hub.fault(times=INF, slow=2 * MIB)
    get(hub, store, file, limits=replace(QUICK, piece=MIB))
    shares = Counter(each.connection for each in hub.asked("cdn"))
    assert len(shares) == 8 and max(shares.values()) < sum(shares.values()) / 4


def test_a_line_that_is_full_gets_no_more_connections(hub: FakeHub, store: Store) -> None:
    file = offer(hub, content(3 * MIB, 4))
    hub.fault(times=INF, cap=3 * MIB)
    get(hub, store, file, limits=replace(QUICK, piece=8 * MIB, ramp_after=0.15))
    at_once = len({each.connection for each in hub.asked("cdn")[:5]})
    assert at_once <= 4


def test_a_connection_that_stalls_is_replaced(hub: FakeHub, store: Store) -> None:
    file = offer(hub)
    hub.fault(times=INF, slow=MIB)
    hub.fault(stall=64 * 1024, starts=MIB // 2)
    started = time.monotonic()
    get(hub, store, file, limits=replace(QUICK, slow_after=0.3), read_timeout=100)
    assert is_whole(store, DATA) and time.monotonic() - started < 90


def test_a_limit_of_the_rate_is_kept(hub: FakeHub, store: Store, haste: Haste) -> None:
    get(hub, store, offer(hub), haste, replace(QUICK, rate=MIB))
    assert is_whole(store, DATA)
    assert 2 < max(haste._skipped, 0) + 1 < 8  # three seconds' worth of bytes


# The disk


class SmallDisk(FileIO):
    """A file on a disk with room for `room` bytes."""

    room = 0

    def write(self, data: Any, /) -> int:
        if self.tell() + len(data) > self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data) or 0


def test_a_disk_that_fills_up(hub: FakeHub, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    file = offer(hub)
    SmallDisk.room = 2 * MIB
    with monkeypatch.context() as patched:
        patched.setattr(connections, "FileIO", SmallDisk)
        with pytest.raises(
            DiskFull, match=r"the disk is full, .* missing: free some space in"
        ) as caught:
            get(hub, store, file)
    assert 0 < caught.value.missing < len(DATA) and caught.value.status == 507
    assert not (store.roots[0] / "blobs").exists()
    assert 0 < get(hub, store, file).received <= caught.value.missing
    assert is_whole(store, DATA)


def test_a_disk_that_is_too_small_is_found_out_before(
    hub: FakeHub, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = offer(hub)
    usage = shutil.disk_usage(store.roots[0].parent)._replace(free=5 * MIB)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DiskFull, match="6.3 MB are needed in .* and 5.2 MB are free") as caught:
        get(hub, store, file)
    assert hub.requests == [] and caught.value.missing == 6 * MIB - 5 * MIB
    get(hub, store, file, limits=replace(QUICK, force=True))
    check_space([file], store)  # it is there


def test_all_files_together_must_have_room(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=100 * MIB)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    parts = [RemoteFile(f"{n}", "", 30 * MIB, f"{n}" * 64) for n in range(3)]
    check_space(parts[:2] + parts[:1], store)  # one that is named twice is stored once
    with pytest.raises(DiskFull):
        check_space(parts, store)
    begin(store, parts[0], b"", [[0, 25 * MIB, 0]])
    check_space(parts, store)  # what is begun needs less


def test_a_store_that_cannot_be_written(hub: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StoreError, match="cannot write to .* make it writable"):
        get(hub, Store([tmp_path / "file"]), offer(hub))


# Files without a sha256


def test_a_file_that_git_keeps(hub: FakeHub, store: Store, haste: Haste) -> None:
    hub.add_repo("user/m", {"tokenizer.model": DATA, "params": b'{"stop":[]}'})
    listed = list_files(Repo("user/m"), hub.access()).files
    tokenizer, params = listed
    assert all(each.sha256 is None for each in listed)
    assert get(hub, store, tokenizer).digest == f"sha256:{sha256(DATA)}"
    assert read_small(params, hub.access()) == b'{"stop":[]}'
    wrong = replace(tokenizer, git_sha1="0" * 40)
    with pytest.raises(DigestMismatch, match="expected git:0000"):
        get(hub, store, wrong, haste)


def test_an_address_that_somebody_typed(hub: FakeHub, store: Store, haste: Haste) -> None:
    hub.plain["/models/my model.gguf"] = DATA
    url = f"{hub.url}/models/my%20model.gguf?download=1"
    file = probe(url, hub.access())
    assert (file.path, file.size, file.sha256) == ("my model.gguf", len(DATA), None)
    hub.fault("hub", truncate=100_000)
    assert get(hub, store, file, haste).digest == f"sha256:{sha256(DATA)}"
    assert is_whole(store, DATA)


def test_an_address_on_the_hub_has_a_sha256(hub: FakeHub) -> None:
    offer(hub)
    url = f"{hub.url}/user/m/resolve/main/m-Q4_0.gguf"
    assert probe(url, hub.access()).sha256 == sha256(DATA)
    assert len(hub.requests) == 1


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"status": 404}, "x.gguf does not exist"),
        ({"html": True, "times": 2}, "answers with a web page instead of x.gguf"),
        (
            {"no_length": True, "ignore_range": True, "times": 2},
            "does not send the size of x.gguf",
        ),
    ],
)
def test_an_address_that_is_no_use(hub: FakeHub, fault: dict[str, Any], message: str) -> None:
    hub.plain["/x.gguf"] = DATA
    hub.fault("hub", method="GET", **fault)
    with pytest.raises(TransferError, match=message):
        probe(f"{hub.url}/x.gguf", hub.access())


def test_a_pointer_is_no_model(hub: FakeHub, store: Store) -> None:
    hub.plain["/x.gguf"] = b"version https://git-lfs.github.com/spec/v1\noid sha256:..."
    file = probe(f"{hub.url}/x.gguf", hub.access())
    with pytest.raises(TransferError, match="only a pointer to the file"):
        get(hub, store, file)
    assert not (store.roots[0] / "blobs").exists()


# Everything at once

MISHAPS: list[Callable[[random.Random], dict[str, Any]]] = [
    lambda chance: {"truncate": chance.randrange(300_000)},
    lambda chance: {"reset": chance.randrange(300_000)},
    lambda chance: {"stall": chance.randrange(300_000)},
    lambda chance: {"drip": 30_000},
    lambda chance: {"slow": 3 * MIB},
    lambda chance: {"status": chance.choice([400, 401, 403, 404, 408, 410, 416, 500, 502, 504])},
    lambda chance: {"status": 429, "headers": {"Retry-After": "1"}},
    lambda chance: {"corrupt": chance.randrange(len(DATA))},
    lambda chance: {chance.choice(["ignore_range", "wrong_total", "packed", "html"]): True},
    lambda chance: {chance.choice(["hang", "no_length", "no_accept_ranges"]): True},
    lambda chance: {"shift": chance.choice([-1, 1])},
    lambda chance: {"extra": chance.randrange(1, 1000)},
    lambda chance: {"concurrent": chance.randrange(1, 4)},
    lambda chance: {"server": "hub", "path": "resolve", "status": 503},
    lambda chance: {"server": "hub", "path": "resolve", "reset": 0},
]


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_any_mix_of_faults(soak: int, tmp_path: Path) -> None:
    """The right file or a clear error, never a wrong blob; and once the faults are over, the file.

    Eight rounds of a file of 3 MiB; with `--soak N` eight times N, of 64 MiB.
    """
    data = DATA if soak == 1 else content(64 * MIB, 2)
    for seed in range(8 * soak):
        served = FakeHub()
        try:
            one_mix_of_faults(served, Store([tmp_path / str(seed)]), data, random.Random(seed))
            assert served.leaks == [], seed
        finally:
            served.close()
        shutil.rmtree(tmp_path / str(seed))


def one_mix_of_faults(hub: FakeHub, store: Store, data: bytes, chance: random.Random) -> None:
    haste, file = Haste(), offer(hub, data)
    limits = replace(QUICK, piece=0) if len(data) > len(DATA) else QUICK
    for _ in range(chance.randrange(1, 8)):
        mishap = chance.choice(MISHAPS)(chance)
        times = chance.choice([1, 2, 5, INF]) if "stall" not in mishap else 2
        hub.fault(nth=chance.choice([0, 0, 1, 3, 5]), times=times, **mishap)
    if chance.random() < 0.3:
        hub.url_uses, hub.expiries = chance.randrange(1, 6), chance.randrange(1, 5)
    try:
        get(hub, store, file, haste, limits, read_timeout=0.2)
    except TransferError as error:
        assert "\n" not in str(error) and "Signature" not in str(error)
        assert not (store.roots[0] / "blobs").exists()
    hub.faults.clear()
    hub.url_uses = 0
    get(hub, store, file, haste, limits)
    assert is_whole(store, data)
