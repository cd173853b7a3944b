"""The settings of a chat, presets of them, and two answers side by side."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.served import Daemon, until

from .chats import new_chat, read_chat, settled, shown_path, stored_chat
from .hand import button, finished, messages, open_chat, say
from .models import CITY, HELLO

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.browser


def open_settings(page: Page) -> Locator:
    """Open the settings of the open chat by keyboard; the dialog, once its fields are there."""
    page.keyboard.press("Control+;")
    dialog = page.get_by_role("dialog", name="Settings of this chat")
    button(dialog, "Save").wait_for()
    return dialog


def test_settings_are_kept_and_used(page: Page, served: Daemon) -> None:
    chat = new_chat(served, "endless")
    open_chat(page, chat)
    dialog = open_settings(page)
    dialog.get_by_role("textbox", name="System message").fill("Be kind.")
    dialog.get_by_role("spinbutton", name="Temperature").fill("0")
    dialog.get_by_role("spinbutton", name="Context (tokens)").fill("1024")
    dialog.get_by_role("spinbutton", name="Longest answer (tokens)").fill("9")
    dialog.get_by_role("combobox", name="Keep the model loaded").select_option("1 hour")
    button(dialog, "Save").click()
    kept = until(lambda: (found := read_chat(served, chat))["system"] and found, "it is kept")
    assert kept["options"] == {"temperature": 0, "num_ctx": 1024, "num_predict": 9}
    assert kept["keep_alive"] == "1h"
    say(page, "Go")
    finished(page)
    usage = shown_path(settled(served, chat))[-1]["usage"]
    assert (usage["completion_tokens"], usage["context_length"]) == (9, 1024)
    page.reload()
    dialog = open_settings(page)
    field = dialog.get_by_role("textbox", name="System message")
    assert until(field.input_value, "the settings are shown") == "Be kind."


@pytest.mark.long
def test_a_value_out_of_range_is_not_taken(page: Page, served: Daemon) -> None:
    chat = new_chat(served)
    open_chat(page, chat)
    dialog = open_settings(page)
    field = dialog.get_by_role("spinbutton", name="Top-p")
    field.fill("7")
    button(dialog, "Save").click()
    assert dialog.is_visible() and not field.evaluate("each => each.validity.valid")
    assert read_chat(served, chat)["options"] == {}


@pytest.mark.long
def test_a_schema_is_checked_and_used(page: Page, served: Daemon) -> None:
    chat = new_chat(served, "city")
    open_chat(page, chat)
    dialog = open_settings(page)
    dialog.get_by_role("combobox", name="Form of answers").select_option("JSON by a schema")
    area = dialog.get_by_role("textbox", name="JSON by a schema")
    area.fill('{"type": "objekt"}')
    dialog.get_by_text("is no type").wait_for()
    button(dialog, "Save").click()
    assert dialog.is_visible()
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}, "size": {"type": "integer"}},
    }
    area.fill(json.dumps(schema))
    dialog.get_by_text("The answer will follow this schema.").wait_for()
    button(dialog, "Save").click()
    until(lambda: read_chat(served, chat)["format"] == schema, "it is kept")
    say(page, "Go")
    finished(page)
    assert json.loads(shown_path(settled(served, chat))[-1]["content"]) == json.loads(CITY)


def test_presets(page: Page, served: Daemon) -> None:
    first = stored_chat(served, "First", "Yes")
    second = stored_chat(served, "Second", "Yes")
    open_chat(page, first)
    dialog = open_settings(page)
    dialog.get_by_role("textbox", name="System message").fill("Speak like a pirate.")
    dialog.get_by_role("spinbutton", name="Temperature").fill("1.5")
    button(dialog, "Save as preset…").click()
    name = page.get_by_role("dialog").last.get_by_role("combobox", name="Name of the preset")
    name.or_(
        page.get_by_role("dialog").last.get_by_role("textbox", name="Name of the preset")
    ).fill("Pirate")
    page.keyboard.press("Enter")
    page.get_by_text("Saved the preset “Pirate”").wait_for()
    button(dialog, "Cancel").click()
    open_chat(page, second)
    messages(page).filter(has_text="Second").wait_for()
    dialog = open_settings(page)
    dialog.get_by_role("combobox", name="Preset").select_option("Pirate")
    button(dialog, "Save").click()
    kept = until(lambda: (found := read_chat(served, second))["system"] and found, "it is used")
    assert (kept["system"], kept["options"]["temperature"]) == ("Speak like a pirate.", 1.5)
    dialog = open_settings(page)
    dialog.get_by_role("combobox", name="Preset").select_option("Pirate")
    button(dialog, "Delete").click()
    button(page.get_by_role("dialog").last, "Delete").click()
    until(lambda: served.ask("GET", "/api/presets").json()["presets"] == [], "it is deleted")


def open_compare(page: Page) -> Locator:
    page.keyboard.press("Control+k")
    page.get_by_role("dialog").get_by_role("combobox").fill("side by side")
    page.get_by_role("option", name="Side by side").wait_for()
    page.keyboard.press("Enter")
    return page.get_by_role("dialog", name="Side by side")


def test_one_prompt_to_two_models(page: Page, served: Daemon) -> None:
    """And nothing of it is in the list, until one side is kept."""
    open_chat(page, stored_chat(served, "Hi", "Hello", model="hello"))
    dialog = open_compare(page)
    left = dialog.get_by_role("region", name="left side")
    right = dialog.get_by_role("region", name="right side")
    button(right, right.locator(".picker-button").get_attribute("aria-label") or "").click()
    page.get_by_role("combobox", name="Search models").fill("city")
    page.get_by_role("option", name="city").wait_for()
    page.keyboard.press("Enter")
    dialog.get_by_role("textbox", name="Message").fill("Who?")
    page.keyboard.press("Enter")
    left.get_by_text(HELLO).wait_for()
    right.get_by_text("Rome").wait_for()
    assert len(served.ask("GET", "/api/chats").json()["chats"]) == 1
    button(right, "Keep as chat").click()
    dialog.wait_for(state="detached")
    messages(page).filter(has_text="Rome").wait_for()
    kept = served.ask("GET", "/api/chats").json()["chats"]
    assert len(kept) == 2 and any(chat["model"].startswith("city") for chat in kept)


@pytest.mark.long
def test_both_sides_are_stopped(page: Page, served: Daemon) -> None:
    open_chat(page, stored_chat(served, "Hi", "Hello", model="long"))
    dialog = open_compare(page)
    dialog.get_by_role("textbox", name="Message").fill("Go")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('.sides .text')?.innerText.length > 20")
    button(dialog, "Stop both").click()
    button(dialog, "Send to both").wait_for()
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    until(lambda: served.busy() == 0, "nothing is left running")
