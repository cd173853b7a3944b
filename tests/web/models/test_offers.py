"""Models that can be pulled, over HTTP: the catalogue, the hub's search, a remote model's details."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from ollamapy.models.offers import MOST_ASKING
from tests.registry.fake_hub import FakeHub, content
from tests.served import Daemon, serve, until
from tests.small_models import random_model


@pytest.fixture
def near(hub: FakeHub, tmp_path: Path) -> Iterator[Daemon]:
    """A daemon that knows only the fake hub, and a catalogue with a family of the user's own."""
    library = tmp_path / "library"
    library.mkdir()
    (library / "mine.yaml").write_text("about: Mine\ntags: {latest: {repo: me/x, file: x.gguf}}\n")
    home = tmp_path / "home"
    home.mkdir()
    with serve(home, tmp_path / "models", hub=hub.url, LIBRARY=str(library)) as running:
        yield running


def test_the_catalogue_is_searched_by_words(near: Daemon, tmp_path: Path) -> None:
    found = near.ask("GET", "/api/catalogue?q=qwen2.5%20coder%207b").json()
    assert found["free"] > 0
    assert [family["name"] for family in found["families"]] == ["qwen2.5-coder"]
    model = found["families"][0]["models"][0]
    assert model["name"].startswith("qwen2.5-coder:") and model["size"] > 10**6
    assert model["fits"] in (True, False)
    everything = near.ask("GET", "/api/catalogue").json()["families"]
    assert len(everything) == 108 and "mine" in [family["name"] for family in everything]

    (tmp_path / "library" / "new.yaml").write_text(
        "about: New\ntags: {latest: {repo: me/y, file: y.gguf}}\n"
    )
    assert len(near.ask("GET", "/api/catalogue?q=").json()["families"]) == 109


def test_the_hub_is_searched(near: Daemon, hub: FakeHub) -> None:
    hub.add_repo("user/Model-GGUF", {"m.gguf": b"1"})
    answer = near.ask("GET", "/api/hub?q=%20MODEL%20&limit=3")
    assert [model["name"] for model in answer.json()["models"]] == ["hf.co/user/Model-GGUF"]
    assert hub.requests[-1].query["search"] == ["MODEL"]
    assert hub.requests[-1].query["limit"] == ["3"]
    hub.found = {}
    refused = near.ask("GET", "/api/hub?q=x")
    assert refused.status == 502 and "makes no sense" in refused.json()["error"]


def test_a_remote_model_is_described_without_a_download(
    near: Daemon, hub: FakeHub, tmp_path: Path
) -> None:
    head = random_model(tmp_path / "m.gguf").read_bytes()
    hub.add_repo("user/m", {"m-Q4_K_M.gguf": head, "m-Q8_0.gguf": head + content(30_000_000)})
    shown = near.ask("GET", f"/api/remote?model={quote('hf.co/user/m:Q4_K_M')}").json()
    assert shown["name"] == "hf.co/user/m:Q4_K_M" and shown["size"] == len(head)
    assert [(fit["name"], fit["size"]) for fit in shown["fits"]] == [
        ("hf.co/user/m:Q4_K_M", len(head)),
        ("hf.co/user/m:Q8_0", len(head) + 30_000_000),
    ]
    assert shown["fits"][0]["needs"][0]["fits"] is True
    assert hub.sent("cdn") < len(head) + 600_000
    missing = near.ask("GET", "/api/remote?model=hf.co/user/none")
    assert missing.status == 404 and "does not exist" in missing.json()["error"]


def test_few_requests_wait_for_other_machines_at_a_time(near: Daemon, hub: FakeHub) -> None:
    """And one whose client has left makes room for another."""
    hub.fault("hub", path="/api/models", stall=0, times=MOST_ASKING)
    waiting = [near.open("GET", "/api/hub?q=x") for _ in range(MOST_ASKING)]
    until(lambda: len(hub.asked("hub", "/api/models")) == MOST_ASKING, "all of them wait")
    refused = near.ask("GET", "/api/hub?q=x")
    assert (
        refused.status == 503 and "too many requests to other machines" in refused.json()["error"]
    )
    assert near.ask("GET", "/api/catalogue?q=llama").status == 200
    for each in waiting:
        each.leave()
    until(lambda: near.ask("GET", "/api/hub?q=x").status == 200, "there is room again")


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/api/hub?q=x&limit=0", 400, "limit must be a whole number from 1 to 50"),
        ("/api/hub?q=x&limit=51", 400, "limit must be a whole number from 1 to 50"),
        ("/api/hub?q=x&limit=x", 400, "limit must be a whole number from 1 to 50"),
        ("/api/catalogue?q=" + "x" * 1001, 400, "q has more than 1000 characters"),
        ("/api/remote", 400, "model is missing"),
        ("/api/remote?model=file:///etc/passwd", 400, "a local file cannot be pulled"),
        ("/api/remote?model=http://127.0.0.1:9/x.gguf", 400, "is not encrypted"),
        ("/api/remote?model=tinystories", 500, "is not a remote GGUF file"),
        ("/api/hub?q=x", 502, "HF_HUB_OFFLINE is set"),
    ],
)
def test_what_is_refused(daemon: Daemon, path: str, status: int, message: str) -> None:
    answer = daemon.ask("GET", path)
    assert (answer.status, message in answer.json()["error"]) == (status, True), answer.body
