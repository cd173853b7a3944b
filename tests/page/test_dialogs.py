"""Dialogs, menus and panels as such: when they close, and that all of them is on the screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.served import Daemon

from .chats import new_chat, stored_chat
from .hand import button, finished, open_chat, prefer

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


def test_a_selection_that_ends_outside_closes_no_dialog(page: Page, served: Daemon) -> None:
    """Text is selected by a drag that often ends beside the dialog; what is written in it must not be lost."""
    open_chat(page, stored_chat(served, "Hi", "Hello"))
    button(page, "Settings of this chat").click()
    system = page.get_by_role("dialog").get_by_role("textbox", name="System message")
    system.fill("Speak like a pirate.")
    box = system.bounding_box()
    assert box
    page.mouse.move(box["x"] + 100, box["y"] + 15)
    page.mouse.down()
    page.mouse.move(5, box["y"] + 15)
    page.mouse.up()
    assert system.input_value() == "Speak like a pirate."
    page.mouse.click(5, 5)
    page.get_by_role("dialog").wait_for(state="detached")


def test_the_panel_of_models_fits_on_a_phone(page: Page, served: Daemon) -> None:
    """Side by side, the lower picker has room neither below nor above it."""
    page.set_viewport_size({"width": 360, "height": 740})
    open_chat(page, new_chat(served))
    page.keyboard.press("Control+.")
    button(page.get_by_role("dialog"), "Side by side").click()
    right = page.get_by_role("dialog", name="Side by side").get_by_role("region", name="right side")
    right.locator(".picker-button").click()
    page.get_by_role("option").first.wait_for()
    box = page.locator(".picker-panel").bounding_box()
    assert box and box["y"] >= 0 and box["y"] + box["height"] <= 740
    page.get_by_role("option").last.click()


def test_a_menu_of_many_models_shows_all_of_its_items(page: Page, served: Daemon) -> None:
    """What deletes is the last one, and nothing says that a menu scrolls."""
    open_chat(page, stored_chat(served, "Hi", "Hello"))
    button(finished(page), "More").click()
    menu = page.get_by_role("menu")
    assert menu.get_by_role("menuitem").count() > 10
    assert menu.evaluate("menu => menu.scrollHeight <= menu.clientHeight")


def test_the_shortcuts_are_those_that_are_preferred(page: Page, served: Daemon) -> None:
    prefer(page, enterSends=False)
    page.keyboard.press("Control+/")
    sheet = page.get_by_role("dialog", name="Keyboard shortcuts")
    assert "Ctrl" in sheet.get_by_role("listitem").filter(has_text="Send the message").inner_text()
    assert "Shift" not in sheet.get_by_role("listitem").filter(has_text="New line").inner_text()
