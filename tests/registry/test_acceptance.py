"""What a downloader that people trust must pass: seventeen promises, and which tests keep each.

 1 one file, parts, a projector; the manifest last;    here: test_every_shape_of_model_arrives; a second pull: test_pull.py's
   a second pull asks once and gets no byte            test_a_repository
 2 kill -9 at 30, 60, 95 %; a damaged piece            test_download_resume.py: test_a_download_goes_on_after_kill_9,
                                                       test_a_damaged_piece_is_fetched_again_and_only_that
 3 each fault alone; a random mix                      test_download.py: test_a_fault_that_is_overcome, ..._that_stays,
                                                       test_hubs_that_are_different, test_a_network_that_comes_back,
                                                       test_any_mix_of_faults (--soak 25: 200 rounds of 64 MiB);
                                                       here: test_faults_of_redirects
 4 the token stays at home                             test_http.py: test_the_token_is_for_the_endpoint_alone,
                                                       test_netrc_has_no_say, test_another_port_of_the_same_host_...;
                                                       test_download.py: test_a_token_stays_out_of_everything; and no test
                                                       of the fake hub ends well after a leak (conftest.py)
 5 addresses that expire                               test_download.py: test_an_address_that_ends_is_renewed_once
 6 a refusal that stays: the ladder, the words,        test_download.py: test_a_refusal_that_stays_is_reported_...,
   no storm                                            test_where_a_second_connection_is_refused_one_is_enough
 7 a rate limit holds for all workers                  test_download.py: test_all_workers_heed_a_rate_limit
 8 two processes, one blob; no lock; a dead holder     here: test_two_processes_want_the_same,
                                                       test_a_holder_of_the_lock_that_dies
 9 a full disk, found out before and while             here: test_a_disk_that_is_really_full; test_download.py:
                                                       test_a_disk_that_fills_up, test_a_disk_that_is_too_small_...
10 eight connections, a full line, the processor       test_download.py: test_eight_connections_are_six_times_as_fast,
                                                       test_a_line_that_is_full_gets_no_more_connections;
                                                       benchmarks/download.py
11 stalls, a slow tail                                 test_download.py: test_a_connection_that_stalls_is_replaced;
                                                       here: test_a_slow_tail_is_replaced
12 offline                                             here: test_offline_with_and_without_the_model
13 every error is one of its own, with a way out       here: test_every_refusal_says_something_else
14 pages, names in odd characters, paths that lead     test_hub.py: test_a_mirror_without_sizes_..., test_names_with_odd_
   outside                                             characters_..., test_a_name_that_leads_outside_is_refused, ...
15 which file is chosen                                test_hub.py: test_what_a_tag_means, test_what_cannot_be_chosen, ...
16 Ollama's registry                                   test_oci.py
17 Windows                                             not run: no machine
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ollamapy.config import HubSettings
from ollamapy.errors import (
    AccessDenied,
    DiskFull,
    GatedModel,
    InvalidModel,
    Offline,
    OllamapyError,
    RateLimited,
    RemoteNotFound,
    TransferError,
    Unauthorized,
)
from ollamapy.models.jobs import Jobs
from ollamapy.models.pull import PullRequest
from ollamapy.names import Name
from ollamapy.registry import hub as hubs
from ollamapy.registry import journal, oci
from ollamapy.registry.catalog import Catalog
from ollamapy.registry.http import Access, Session
from ollamapy.registry.pieces import MIB
from ollamapy.registry.remote import RemoteFile
from ollamapy.registry.store import Store
from ollamapy.runner.render import Renderer
from tests.registry.conftest import Haste
from tests.registry.fake_hub import FakeHub, content, sha256
from tests.registry.stores import faults
from tests.registry.test_download import DATA, INF, QUICK, ROOT, get, is_whole, offer
from tests.small_models import random_model
from tests.small_projectors import projector

# 1 and 12: whole pulls


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return random_model(tmp_path_factory.mktemp("gguf") / "m.gguf").read_bytes()


@pytest.fixture(scope="module")
def mmproj(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return projector(tmp_path_factory.mktemp("gguf") / "mmproj.gguf", "mlp").read_bytes()


def pull(served: FakeHub, store: Store, model: str, **environ: str) -> list[str]:
    """Pull a model as the daemon does; the statuses without repetitions."""
    settings = HubSettings.from_variables({"HF_ENDPOINT": served.url, **environ})

    async def steps() -> list[str]:
        jobs = Jobs(store, Catalog(()), Renderer(), settings)
        return [step.status async for step in jobs.pull(PullRequest(model))]

    return list(dict.fromkeys(asyncio.run(steps())))


@pytest.mark.parametrize(
    ("files", "layers"),
    [
        (["m-Q4_0.gguf"], 1),
        (["Q4_0/m-Q4_0-00001-of-00002.gguf", "Q4_0/m-Q4_0-00002-of-00002.gguf"], 2),
        (["m-Q4_0.gguf", "mmproj-m-F16.gguf"], 2),
    ],
    ids=["one file", "parts", "projector"],
)
def test_every_shape_of_model_arrives(
    hub: FakeHub, store: Store, gguf: bytes, mmproj: bytes, files: list[str], layers: int
) -> None:
    contents = {
        path: (mmproj if "mmproj" in path else gguf) + bytes(n) for n, path in enumerate(files)
    }
    hub.add_repo("user/m", contents)
    statuses = pull(hub, store, "hf.co/user/m")
    assert statuses[0] == "pulling manifest" and statuses[-2:] == ["writing manifest", "success"]
    [name] = store.names()
    kinds = [layer.kind for layer in store.manifest(name).layers]
    assert len([kind for kind in kinds if kind in ("model", "projector")]) == layers
    assert faults(store) == []
    requests, sent = len(hub.requests), hub.sent("cdn")
    assert sent == sum(map(len, contents.values()))
    pull(hub, store, "hf.co/user/m")
    assert (len(hub.requests), hub.sent("cdn")) == (requests + 1, sent)


def test_the_manifest_comes_last(hub: FakeHub, store: Store, gguf: bytes) -> None:
    projector = gguf + b"\0"
    hub.add_repo("user/m", {"m-Q4_0.gguf": gguf, "mmproj-m-F16.gguf": projector})
    hub.fault(path=sha256(projector), times=INF, status=404)
    with pytest.raises(TransferError):
        pull(hub, store, "hf.co/user/m")
    assert store.names() == [] and store.has(f"sha256:{sha256(gguf)}")
    assert not (store.roots[0] / "manifests").exists()


def test_offline_with_and_without_the_model(
    hub: FakeHub, store: Store, gguf: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add_repo("user/m", {"m-Q4_0.gguf": gguf})
    pull(hub, store, "hf.co/user/m")
    hub.requests.clear()

    def refuse(*_: Any) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert pull(hub, store, "hf.co/user/m", HF_HUB_OFFLINE="1")[-1] == "success"
    with pytest.raises(Offline, match="HF_HUB_OFFLINE is set, unset it to download"):
        pull(hub, store, "hf.co/user/other", HF_HUB_OFFLINE="1")
    assert hub.requests == [] and len(store.names()) == 1


# 3


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("{cdn}/xet-bridge/x", "refuses to send"),  # unsigned
        ("{alias}/user/m/resolve/main/x", "redirects in circles"),
        ("ftp://example.com/x", "an address that is not valid"),
        ("http://x:y@example.com/x", "an address that is not valid"),
        ("http://[", "the address is broken"),
    ],
)
def test_faults_of_redirects(
    hub: FakeHub, store: Store, haste: Haste, target: str, message: str
) -> None:
    file = offer(hub)
    target = target.format(cdn=hub.cdn_url, alias=hub.alias_url)
    hub.fault("hub", times=INF, path="resolve", redirect=target)
    with pytest.raises(TransferError, match=message) as caught:
        get(hub, store, file, haste, read_timeout=0.3)
    assert "\n" not in str(caught.value)
    assert not (store.roots[0] / "blobs").exists() and len(hub.requests) < 60


def test_http_is_refused_where_it_began_with_https(hub: FakeHub) -> None:
    """Rule 2, without a certificate of our own: what is checked is the next hop's address."""
    session = Session(Access("https://hub.example"))
    with pytest.raises(TransferError, match="redirects to .* without encryption, which is refused"):
        session._check("http://cdn.example/x", "https://hub.example/x")


# 8


def puller(
    served: FakeHub, store: Store, file: RemoteFile, prelude: str = ""
) -> subprocess.Popen[str]:
    """A process that fetches a file, and prints how many bytes it received."""
    program = (
        "import sys, json; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from ollamapy.registry.download import *\n"
        "from ollamapy.registry.http import Access\n"
        "from ollamapy.registry.route import RemoteFile\n"
        "from ollamapy.registry.store import Store\n"
        f"{prelude}\n"
        "file = RemoteFile(**json.loads(sys.argv[3]))\n"
        "found = fetch(file, Access(sys.argv[4]), Store([Path(sys.argv[2])]),"
        f" limits={QUICK!r})\n"
        "print(found.received)\n"
    )
    fields = {name: getattr(file, name) for name in ("path", "url", "size", "sha256")}
    command = [sys.executable, "-c", program, str(ROOT), str(store.roots[0]), json.dumps(fields)]
    return subprocess.Popen([*command, served.url], stdout=subprocess.PIPE, text=True)


def received(child: subprocess.Popen[str]) -> int:
    said, _ = child.communicate(timeout=60)
    assert child.returncode == 0
    return int(said)


NO_LOCK = "import fcntl; fcntl.flock = lambda *_: None"


@pytest.mark.skipif(sys.platform == "win32", reason="flock")
@pytest.mark.parametrize(
    "prelude",
    ["", pytest.param(NO_LOCK, marks=pytest.mark.long)],
    ids=["locks", "a flock that does nothing"],
)
def test_two_processes_want_the_same(hub: FakeHub, store: Store, prelude: str) -> None:
    file = offer(hub)
    hub.fault(times=INF, cap=3 * MIB)
    both = [puller(hub, store, file, prelude) for _ in range(2)]
    counts = sorted(received(each) for each in both)
    assert is_whole(store, DATA)
    if prelude:
        assert counts[0] > 0
    else:
        assert counts == [0, len(DATA)] and hub.sent("cdn") <= len(DATA) + MIB


def test_a_holder_of_the_lock_that_dies(hub: FakeHub, store: Store) -> None:
    file = offer(hub)
    slow = hub.fault(times=INF, cap=3 * MIB)
    holder = puller(hub, store, file)
    state = store.roots[0] / "partial" / f"{file.key}.json"
    while journal.kept(state, file.size) < len(DATA) / 4:
        assert holder.poll() is None
        time.sleep(0.005)
    heir = puller(hub, store, file)
    while journal.kept(state, file.size) < len(DATA) / 2:
        assert holder.poll() is None
        time.sleep(0.005)
    holder.kill()
    holder.communicate()
    slow.times = 0
    assert 0 < received(heir) <= len(DATA) / 2
    assert is_whole(store, DATA)


# 9


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB; only root can make one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("cannot mount a file system")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_disk_that_is_really_full(hub: FakeHub, small_disk: Path) -> None:
    file = offer(hub, data := content(6 * MIB, 9))
    store = Store([small_disk / "store"])
    with pytest.raises(DiskFull, match="are needed in .* free some space"):
        get(hub, store, file)
    assert hub.requests == []
    with pytest.raises(DiskFull, match="the disk is full, .* goes on from [3-9]. %") as caught:
        get(hub, store, file, limits=replace(QUICK, force=True))
    assert caught.value.missing >= 2 * MIB
    assert not (small_disk / "store" / "blobs").exists()
    remount = ["mount", "-o", "remount,size=20m", str(small_disk)]
    subprocess.run(remount, check=True)
    assert get(hub, store, file).received <= caught.value.missing + 8 * 256 * 1024
    assert is_whole(store, data)


# 11


def test_a_slow_tail_is_replaced(hub: FakeHub, store: Store) -> None:
    """One connection drips at the end of the file, where no other work is left."""
    file = offer(hub)
    hub.fault(times=INF, slow=2 * MIB)
    hub.fault(starts=len(DATA) - MIB // 4, times=1, drip=30)
    began = time.monotonic()
    get(hub, store, file, limits=replace(QUICK, slow_after=0.3), read_timeout=20)
    assert is_whole(store, DATA) and time.monotonic() - began < 60  # a minute and a half otherwise


# 13

Ask = Callable[[FakeHub, Haste], Any]


def repository(token: str = "", name: str = "user/m", **state: Any) -> Ask:
    def ask(hub: FakeHub, haste: Haste) -> Any:
        hub.add_repo("user/m", {"m-Q4_0.gguf": DATA}, **state)
        return hubs.list_files(hubs.Repo(name), hub.access(token), haste.patience)

    return ask


def revision(hub: FakeHub, haste: Haste) -> Any:
    hub.add_repo("user/m", {"m.gguf": DATA})
    return hubs.list_files(hubs.Repo("user/m", "v9"), hub.access(), haste.patience)


def trouble(ask: Ask, **fault: Any) -> Ask:
    def troubled(hub: FakeHub, haste: Haste) -> Any:
        hub.fault("hub", times=99, **fault)
        return ask(hub, haste)

    return troubled


def registry(name: str) -> Ask:
    def ask(hub: FakeHub, haste: Haste) -> Any:
        hub.add_ollama("library/gemma", "2b", [("model", b"GGUF")])
        hub.add_ollama("library/far", "cloud", [], b'{"remote_host":"https://ollama.com"}')
        return oci.list_files(Name.parse(name), hub.access(), haste.patience)

    return ask


REFUSALS: list[tuple[str, Ask, type[OllamapyError], str]] = [
    ("missing", repository(name="user/none"), RemoteNotFound, "check the name, or set HF_TOKEN"),
    ("missing, with a token", repository("hf_good", "user/none"), RemoteNotFound, "your token may not"),
    ("a bad token", repository("hf_bad", private=True), Unauthorized, "settings/tokens and set HF_TOKEN"),
    ("gated", repository(gated=True), GatedModel, "accept its licence at .*, then set HF_TOKEN"),
    ("gated, with a token", repository("hf_good", gated=True), GatedModel, "with the account of your"),
    ("a missing branch", revision, RemoteNotFound, "no such branch, tag or commit, see http"),
    ("disabled", repository(disabled=True), AccessDenied, r"denies access to user/.* disabled\.\), see http"),
    ("a limit", trouble(repository(), status=429), RateLimited, "try again in 300 s, or set HF_TOKEN"),
    ("a long limit", trouble(repository(), status=429, headers={"RateLimit": '"api";r=0;t=4000'}),
     RateLimited, "try again in 4001 s"),
    ("an outage", trouble(repository(), status=503), TransferError, "answers 503: try again later"),
    ("a proxy", trouble(repository(), html=True), TransferError, "a login page or a proxy between"),
    ("no such tag", registry("gemma:7b"), RemoteNotFound, "'gemma' with tag '7b' not found .*/tags"),
    ("no such variant", trouble(registry("gemma:2b"), status=400, text='{"error":"not available"}'),
     RemoteNotFound, r"has no 'gemma' with tag '2b' \(not available\), see http"),
    ("a private name", trouble(registry("gemma:2b"), status=401), RemoteNotFound, "'gemma:2b' does not"),
    ("no manifest", trouble(registry("gemma:2b"), status=200, text="{}"), InvalidModel, "no list of lay"),
    ("a cloud model", registry("far:cloud"), InvalidModel, "a cloud model, .* choose a tag"),
]  # fmt: skip


def test_every_refusal_says_something_else(hub: FakeHub) -> None:
    """The errors of the hub and of registries: their own class and status, one line, a way out, no two alike."""
    said: dict[str, str] = {}
    for what, ask, kind, way_out in REFUSALS:
        hub.faults.clear()
        hub._repos.clear()
        with pytest.raises(kind, match=way_out) as caught:
            ask(hub, Haste())
        message = str(caught.value)
        assert type(caught.value) is kind and "\n" not in message and "hf_" not in message, what
        assert message not in said.values(), what
        said[what] = message
    statuses = {kind.status for _, _, kind, _ in REFUSALS}
    assert statuses == {401, 403, 404, 429, 500, 502}
