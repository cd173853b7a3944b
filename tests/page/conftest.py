"""The page in a real browser: Debian's chromium, driven by Playwright, over a real daemon with models that say what the tests know.

scripts/judges installs the browser; without it, or without Playwright, these tests are skipped.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.registry.fake_hub import FakeHub
from tests.served import Daemon, serve

from .chats import delete_chats
from .models import make_models
from .watch import Watch

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, ViewportSize

DESKTOP: ViewportSize = {"width": 1280, "height": 800}
PHONE: ViewportSize = {"width": 360, "height": 740}
WAIT = 60_000  # milliseconds that Playwright waits for what a test expects; a busy machine is slow


@pytest.fixture(scope="session")
def hub() -> Iterator[FakeHub]:
    """The hub of ``page_daemon``; empty."""
    running = FakeHub()
    yield running
    running.close()
    assert running.leaks == []


@pytest.fixture(scope="session")
def page_daemon(hub: FakeHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """The daemon of all pages, over the models of :func:`make_models`. No test may end it."""
    root = tmp_path_factory.mktemp("page-models")
    make_models(root, tmp_path_factory.mktemp("page-gguf"))
    with serve(tmp_path_factory.mktemp("page-home"), root, hub=hub.url) as running:
        yield running


@pytest.fixture
def served(page_daemon: Daemon) -> Iterator[Daemon]:
    """The daemon of all pages, without the chats of earlier tests."""
    yield page_daemon
    delete_chats(page_daemon)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for each module, not for the session: Playwright's event loop counts as running in this thread as long as it
    is open, and tests of other folders call asyncio.run."""
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="Playwright is not here, scripts/setup dev gets it"
    )
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not here, scripts/judges installs it on Debian")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium)
        yield running
        running.close()


@pytest.fixture
def watch(served: Daemon) -> Iterator[Watch]:
    """What the pages of this test must not do; fails the test at its end if one has done it."""
    watching = Watch(served.url)
    yield watching
    assert watching.faults == []


@pytest.fixture
def page(browser: Browser, served: Daemon, watch: Watch) -> Iterator[Page]:
    """A tab in a new browser profile, with nothing loaded. ``page.goto("/")`` opens the page."""
    context = browser.new_context(
        base_url=served.url, viewport=DESKTOP, locale="en-US", reduced_motion="reduce"
    )
    context.set_default_timeout(WAIT)
    watch.follow(context)
    yield context.new_page()
    context.close()
