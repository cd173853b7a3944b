"""The page's files as a browser gets them, and what every other client of ``GET /`` gets."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest
from starlette.datastructures import Headers

from ollamapy.web.page import paths
from ollamapy.web.page.paths import STATIC, accepts_html, file_answer, static_files
from tests.web.raw import Client, run

MOST_COMPRESSED = 150_000
"""Bytes of the whole page, as a browser fetches it."""

BROWSER = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n"


@pytest.mark.parametrize(
    ("accept", "is_page"),
    [
        ("text/html", True),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", True),
        ("application/json, TEXT/HTML;charset=utf-8", True),
        ("text/html;q=0.1", True),
        ("text/html;q=0", False),
        ("text/html; q=0.000", False),
        ("*/*", False),
        ("text/*", False),
        ("text/plain", False),
        ("", False),
        (",;,;q=", False),
    ],
)
def test_who_gets_the_page(accept: str, is_page: bool) -> None:
    assert accepts_html(accept) is is_page


def test_the_page_and_its_files(model_store: Path) -> None:
    async def test(client: Client) -> None:
        page = await client.ask("GET", "/", headers=BROWSER)
        assert page.status == 200 and page.headers["content-type"] == "text/html; charset=utf-8"
        assert page.body == (STATIC / "index.html").read_bytes()
        policy = page.headers["content-security-policy"]
        assert "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert "img-src 'self' data:" in policy and "connect-src 'self'" in policy
        assert page.headers["x-content-type-options"] == "nosniff"
        assert page.headers["referrer-policy"] == "no-referrer"
        head = await client.ask("HEAD", "/", headers=BROWSER)
        assert (head.status, head.body) == (200, b"")
        assert head.headers["etag"] == page.headers["etag"]

        for headers in ("", "Accept: */*\r\n"):
            plain = await client.ask("GET", "/", headers=headers)
            assert plain.body == b"Ollama is running" and "accept" in plain.headers["vary"].lower()

        for name in re.findall(r'(?:src|href)="/page/([^"]+)"', page.body.decode()):
            file = await client.ask("GET", f"/page/{name}")
            assert (file.status, file.body) == (200, (STATIC / name).read_bytes()), name
            again = await client.ask("GET", f"/page/{name}", headers=f"If-None-Match: {file.headers['etag']}\r\n")  # fmt: skip
            assert (again.status, again.body) == (304, b"")
        packed = await client.ask("GET", "/page/main.js", headers="Accept-Encoding: gzip\r\n")
        assert packed.headers["content-encoding"] == "gzip"
        assert gzip.decompress(packed.body) == (STATIC / "main.js").read_bytes()

    run(model_store, test)


@pytest.mark.parametrize(
    "name", ["nosuch.js", "..%2fpaths.py", "%2e%2e", "..", "../paths.py", "main.js/x", "%00", "a" * 999]
)  # fmt: skip
def test_a_name_is_never_a_path(model_store: Path, name: str) -> None:
    async def test(client: Client) -> None:
        assert (await client.ask("GET", f"/page/{name}")).status == 404

    run(model_store, test)


def test_the_page_has_another_etag_when_any_of_its_files_changes(tmp_path: Path) -> None:
    tags = []
    for text in ("1", "2"):
        folder = tmp_path / text
        folder.mkdir()
        (folder / "index.html").write_text("the same")
        (folder / "main.js").write_text(text)
        tags.append(static_files(folder)["index.html"].etag)
    assert tags[0] != tags[1]


def test_a_copy_with_a_weak_tag_is_current() -> None:
    file = static_files()["main.js"]
    headers = Headers({"if-none-match": f'"other", W/{file.etag}'})
    assert file_answer(file, headers).status_code == 304


def test_the_whole_page_is_small() -> None:
    assert sum(len(file.compressed) for file in static_files().values()) <= MOST_COMPRESSED


FILES = [path for path in sorted(STATIC.iterdir()) if path.suffix in (".html", ".css", ".js")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_page_names_no_other_host_and_makes_html_in_one_place(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"(?<!www\.w3\.org)//[a-z]+\.[a-z]{2,}/|https?://(?!www\.w3\.org/)", text)
    writes = re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)
    assert len(writes) == (1 if path.name == "blocks.js" else 0)
    assert not re.search(r"<[a-z]+[^>]* (style|on[a-z]+)=", text), "an inline style or script"
    assert len(text.splitlines()) <= 600


def test_every_static_file_has_a_type() -> None:
    assert {path.suffix for path in STATIC.iterdir()} <= set(paths.TYPES)
