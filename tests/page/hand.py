"""What a user does with the page and sees of it. Things are found by their role and name, as a screen reader finds them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

LONG = 90_000  # milliseconds for a whole answer; a busy machine is slow


def open_chat(page: Page, chat: str) -> None:
    """Open a chat by its address, and wait until it is shown."""
    page.goto(f"/#{chat}")
    page.locator(f'nav [data-key="{chat}"][aria-current=page]').wait_for(state="attached")


def field(page: Page) -> Locator:
    """Where a message is written."""
    return page.get_by_role("textbox", name="Message", exact=True)


def say(page: Page, text: str) -> None:
    """Write a message and send it by Enter."""
    field(page).fill(text)
    field(page).press("Enter")


def messages(page: Page) -> Locator:
    return page.get_by_role("article")


def answers(page: Page) -> Locator:
    return page.locator("article.assistant")


def finished(page: Page, count: int = 1) -> Locator:
    """The last of ``count`` answers on the shown path, once none is being written and the page is drawn.

    What the browser has not drawn yet (``content-visibility: auto``) has no ``innerText``.
    """
    answers(page).nth(count - 1).wait_for()
    page.wait_for_function("count => document.querySelectorAll('article.assistant').length === count"
                           " && !document.querySelector('article.live')", arg=count, timeout=LONG)  # fmt: skip
    page.evaluate(
        "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
    )
    return answers(page).nth(count - 1)


def written(page: Page, beyond: int = 40) -> int:
    """Wait until more characters than this of an answer are shown while it is written; how many there are."""
    shown = "document.querySelector('.live .text')?.innerText.length ?? 0"
    page.wait_for_function(f"beyond => ({shown}) > beyond", arg=beyond)
    return int(page.evaluate(shown))


def button(scope: Page | Locator, name: str) -> Locator:
    return scope.get_by_role("button", name=name, exact=True)


def choose(page: Page, opener: Locator, item: str) -> None:
    """Open a menu and choose from it."""
    opener.click()
    page.get_by_role("menu").get_by_role("menuitem", name=item, exact=True).click()


def fits_width(page: Page) -> bool:
    """Does nothing reach beyond the right edge of the window?"""
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


def prefer(page: Page, **values: Any) -> None:
    """Open the page with preferences of this browser: ``model`` is that of a new chat."""
    page.goto("/")
    page.evaluate("values => localStorage.setItem('ollamapy.prefs', JSON.stringify(values))", values)  # fmt: skip
    page.reload()
