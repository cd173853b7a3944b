"""A file that a request links to: where it may lie, and what it may be."""

from __future__ import annotations

import pytest

from ollamapy.errors import InvalidRequest
from ollamapy.registry import linked
from ollamapy.registry.http import Access
from ollamapy.registry.linked import fetch
from tests.documents import png
from tests.registry.fake_hub import FakeHub

PNG = png()


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/a.png",
        "https://127.0.0.1/a.png",
        "https://localhost/a.png",
        "https://10.0.0.1/a.png",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/a.png",
        "https://[::ffff:10.0.0.1]/a.png",
        "https://user@example.org/a.png",
        "https:///a.png",
        "file:///etc/passwd",
        "https://exa mple.org/",
    ],
)
def test_only_public_https_addresses_are_asked(url: str) -> None:
    with pytest.raises(InvalidRequest, match="is refused: files are fetched from public https"):
        fetch(url)


def test_a_file_is_fetched(hub: FakeHub) -> None:
    hub.plain["/a.png"] = PNG
    assert fetch(f"{hub.url}/a.png", access=lambda url: Access(hub.url)) == PNG


def test_a_redirect_to_a_private_address_is_refused(hub: FakeHub) -> None:
    """Every hop is judged: the access is the one for public addresses, and the fake hub is none."""
    with pytest.raises(InvalidRequest, match="cannot be fetched: .*refused"):
        fetch(f"{hub.url}/a.png", access=lambda url: Access(hub.url, guarded=True))


def test_what_is_no_file_is_refused(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusal(path: str) -> str:
        with pytest.raises(InvalidRequest) as refused:
            fetch(f"{hub.url}{path}", access=lambda url: Access(hub.url))
        return str(refused.value)

    assert "its server answers 404" in refusal("/nothing")
    hub.plain["/large"] = bytes(100)
    monkeypatch.setattr(linked, "MOST_FETCHED", 50)
    assert "it is larger than" in refusal("/large")


@pytest.mark.parametrize(
    ("kind", "taken"),
    [("image/png", True), ("text/html; charset=utf-8", True), ("application/json", False), ("video/mp4", False)],
)  # fmt: skip
def test_the_type_of_a_file_is_judged(kind: str, taken: bool) -> None:
    assert (linked.refusal(200, {"Content-Type": kind}) == "") is taken
