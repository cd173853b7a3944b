"""What no page may do, whatever it shows: throw, complain on the console, open a dialog or a window, ask another host."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, ConsoleMessage, Dialog, Page, Request


class Watch:
    """Collects the faults of all pages of a browser context. ``url`` is the daemon's, the only host that they may ask."""

    def __init__(self, url: str) -> None:
        self._host = urlsplit(url).netloc
        self._allowed: list[re.Pattern[str]] = []
        self.faults: list[str] = []
        self.requests: list[str] = []
        """The address of each request, in order."""

    def allow(self, pattern: str) -> None:
        """Let a message on the console pass from now on: a test that asks for what does not exist expects a 404 there."""
        self._allowed.append(re.compile(pattern))

    def follow(self, context: BrowserContext) -> None:
        """Watch all pages of a context that has none yet."""
        context.on("request", self._request)
        context.on("page", self._page)

    def _page(self, page: Page) -> None:
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.faults.append(f"thrown: {error}"))
        page.on("dialog", self._dialog)
        page.on("popup", lambda popup: self.faults.append(f"opened: {popup.url}"))

    def _request(self, request: Request) -> None:
        self.requests.append(request.url)
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob") and parts.netloc != self._host:
            self.faults.append(f"asked another host: {request.url}")

    def _console(self, message: ConsoleMessage) -> None:
        allowed = any(pattern.search(message.text) for pattern in self._allowed)
        if message.type in ("error", "warning") and not allowed:
            self.faults.append(f"console: {message.text} ({message.location.get('url')})")

    def _dialog(self, dialog: Dialog) -> None:
        """Playwright leaves closing a dialog to who listens. Leaving with an unsaved draft is no fault."""
        if dialog.type != "beforeunload":
            self.faults.append(f"{dialog.type}: {dialog.message}")
        dialog.dismiss()
