"""The hub's search: what is asked, what its answer becomes, and what comes of answers that are wrong."""

from __future__ import annotations

from typing import Any

import pytest

from ollamapy.errors import Offline, RateLimited, TransferError
from ollamapy.registry.hub_search import HubModel, search
from ollamapy.registry.patience import Patience
from tests.registry.fake_hub import FakeHub


def test_one_request_finds_repositories_with_gguf_files(hub: FakeHub) -> None:
    hub.add_repo("user/Model-GGUF", {"m.gguf": b"1"})
    hub.add_repo("user/closed", {"m.gguf": b"1"}, gated=True)
    hub.add_repo("other/thing", {"m.gguf": b"1"})
    found = search("user/", hub.access(), limit=9)
    assert found[0] == HubModel(
        name="hf.co/user/Model-GGUF",
        repo="user/Model-GGUF",
        downloads=7,
        likes=1,
        updated_at="2026-01-02T03:04:05.000Z",
        use="text-generation",
    )
    assert [(each.repo, each.gated) for each in found[1:]] == [("user/closed", True)]
    [record] = hub.requests
    assert record.query == {
        "search": ["user/"],
        "filter": ["gguf"],
        "sort": ["downloads"],
        "direction": ["-1"],
        "limit": ["9"],
    }


def test_private_repositories_come_with_the_token_and_a_wrong_token_is_left_out(
    hub: FakeHub,
) -> None:
    hub.add_repo("me/secret", {"m.gguf": b"1"}, private=True)
    assert [each.private for each in search("me", hub.access("hf_good"))] == [True]
    assert search("me", hub.access("hf_wrong")) == ()
    assert len(hub.requests) == 3


@pytest.mark.parametrize(
    ("answer", "names"),
    [
        ([], []),
        ([{"id": "a/b"}], ["a/b"]),
        ([{"id": "a/b", "downloads": -1, "likes": "x", "lastModified": 5, "gated": "auto"}], ["a/b"]),
        ([{"id": "../x"}, {"id": "a/../b"}, {"id": 3}, "x", None, {}, {"id": "gpt2"}], []),
        ([{"id": "a/b\u202e"}, {"id": "https://x/y"}, {"id": "a/" + "b" * 300}], []),
        ([{"id": "a/b"}] * 100, ["a/b"] * 20),
    ],
)  # fmt: skip
def test_entries_that_make_no_sense_are_passed_over(
    hub: FakeHub, answer: Any, names: list[str]
) -> None:
    hub.found = answer
    found = search("x", hub.access())
    assert [each.repo for each in found] == names
    assert all(each.downloads is None and each.likes is None for each in found)


def test_an_answer_that_is_no_list_is_an_error(hub: FakeHub) -> None:
    hub.found = {"error": "no"}
    with pytest.raises(TransferError, match="a listing that makes no sense"):
        search("x", hub.access())


def test_a_search_does_not_wait_long_for_a_busy_hub(hub: FakeHub) -> None:
    hub.fault("hub", status=429, headers={"Retry-After": "60"})
    with pytest.raises(RateLimited, match="60 s"):
        search("x", hub.access(), Patience(longest=3.0))
    assert len(hub.requests) == 1


def test_offline_asks_nobody(hub: FakeHub) -> None:
    with pytest.raises(Offline):
        search("x", hub.access(offline=True))
    assert hub.requests == []
