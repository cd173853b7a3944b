"""Documents read in a child: what a hostile one can do, and what is kept."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from ollamapy.errors import InvalidRequest, RunnerError, ServerBusy
from ollamapy.formats.documents.extract import Extract, Page
from ollamapy.runner import documents as readers
from ollamapy.runner.documents import Documents
from tests import documents

DOCX = documents.docx(documents.paragraph("One"))
READ = Extract((Page("One"),))


def child(code: str) -> list[str]:
    """A command that does something else than read a document."""
    return [sys.executable, "-c", f"import os, sys, time\n{code}"]


def read(reader: Documents, content: bytes = DOCX) -> Extract:
    return asyncio.run(reader.read(content))


def test_a_document_is_read_in_a_child_once() -> None:
    async def twice() -> None:
        reader = Documents()
        assert await reader.read(DOCX) == READ
        reader._command = child("sys.exit(1)")
        assert await reader.read(DOCX) is not None, "it was kept"
        assert await reader.read(b"a text") == Extract((Page("a text"),)), "it needs no child"

    asyncio.run(twice())


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("sys.exit(3)", "its reader ended with exit status 3"),
        ("os.kill(os.getpid(), 9)", "its reader ended by signal SIGKILL"),
        ("os.write(1, b'no frame at all')", "its reader ended"),
    ],
)
def test_a_child_that_ends_fails_its_document_alone(code: str, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        read(Documents(child(code)))


def test_a_child_that_takes_too_long_is_killed() -> None:
    with pytest.raises(InvalidRequest, match="takes too long"):
        read(Documents(child("time.sleep(60)"), timeout=0.2))


def test_a_child_that_cannot_be_started_is_our_fault() -> None:
    with pytest.raises(RunnerError, match="cannot be started"):
        read(Documents(["/nonexistent/python"]))


def test_what_was_read_is_forgotten_when_it_is_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "MOST_KEPT", 10)

    async def some() -> dict[Any, Extract]:
        reader = Documents()
        for content in (b"12345", b"abcde", b"12345", b"third"):
            await reader.read(content)
        return reader._kept

    kept = asyncio.run(some())
    assert [each.pages[0].text for each in kept.values()] == ["12345", "third"]


def test_documents_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "MOST_WAITING", 2)

    async def three() -> None:
        reader = Documents(child("time.sleep(60)"), timeout=60)
        begun = [asyncio.create_task(reader.read(DOCX)) for _ in range(2)]
        while reader._waiting < 2:  # noqa: ASYNC110 - it has no event to wait for
            await asyncio.sleep(0.01)
        with pytest.raises(ServerBusy):
            await reader.read(documents.docx(documents.paragraph("another")))
        for each in begun:
            each.cancel()
        await asyncio.gather(*begun, return_exceptions=True)
        assert reader._waiting == 0

    asyncio.run(three())


def test_a_document_that_is_too_large_is_not_even_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(readers, "MOST_CONTENT", 4)
    with pytest.raises(InvalidRequest, match="is larger than"):
        read(Documents(), b"12345")
