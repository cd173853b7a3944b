"""The page opens: its modules load, nothing is asked of another host, and one can write at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.served import Daemon

from .hand import field
from .watch import Watch

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


def test_the_page_opens(page: Page, served: Daemon, watch: Watch) -> None:
    page.goto("/")
    page.wait_for_function("() => document.activeElement?.getAttribute('aria-label') === 'Message'")
    assert field(page).is_visible() and page.title() == "ollamapy"
    assert f"{served.url}/page/main.js" in watch.requests


def test_what_a_page_must_not_do_is_noticed(page: Page, watch: Watch) -> None:
    """The watch itself: without it, tests of hostile answers would prove nothing."""
    page.goto("/")
    page.evaluate("setTimeout(() => { alert('a'); console.error('b'); throw new Error('c'); })")
    page.wait_for_event("pageerror")
    page.evaluate("fetch('https://evil.example/').catch(() => 0)")
    found, watch.faults = watch.faults, []
    kinds = {fault.split(":")[0] for fault in found}
    assert {"alert", "console", "thrown"} <= kinds
    assert any("evil.example" in fault for fault in found)
