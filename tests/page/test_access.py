"""For everyone: axe finds nothing in any state, everything works by keyboard, nothing is cut off on a phone, text goes right to left."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.served import Daemon, until

from .chats import read_chat, shown_path, stored_chat
from .conftest import PHONE
from .hand import (
    answers,
    button,
    field,
    finished,
    fits_width,
    messages,
    open_chat,
    prefer,
    say,
    written,
)
from .states import STATES
from .watch import Watch

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

COLOURS = {"runOnly": ["color-contrast"]}
"""The options of axe for another colour scheme: only the colours differ."""


def violations(page: Page, **options: Any) -> list[str]:
    """What axe finds: the rule, and the first elements that break it."""
    found = page.evaluate("options => axe.run({resultTypes: ['violations'], ...options})", options)
    return [
        f"{each['id']}: {each['help']}: " + " | ".join(node["html"][:200] for node in each["nodes"][:3])
        for each in found["violations"]
    ]  # fmt: skip


EVERY_TIME = {"conversation", "settings", "models"}
"""The states with most of the page's elements; the others are looked at by the long tests."""


@pytest.mark.parametrize(
    "state",
    [
        pytest.param(state, marks=() if state in EVERY_TIME else pytest.mark.long)
        for state in STATES
    ],
)
def test_axe_finds_nothing(page: Page, served: Daemon, watch: Watch, state: str) -> None:
    """In any state, light and dark, on a desk and on a phone, where nothing reaches beyond the edge either."""
    axe = pytest.importorskip("axe_playwright_python.base")
    watch.allow("404|ERR_|400")  # states of errors
    STATES[state](page, served)
    page.evaluate(axe.AXE_SCRIPT)
    found = {"light": violations(page)}
    page.emulate_media(color_scheme="dark")
    found["dark"] = violations(page, **COLOURS)
    page.set_viewport_size(PHONE)
    found["phone"] = violations(page)
    assert {look: faults for look, faults in found.items() if faults} == {}
    assert fits_width(page), "something reaches beyond the right edge"


# ---- by keyboard -----------------------------------------------------------------------------------------------------

FOCUSED = "(each => each.getAttribute('aria-label') || each.innerText || each.tagName)(document.activeElement)"
"""The name of what has the focus, as a screen reader says it."""

SHOWN = """() => {
  const each = document.activeElement;
  if (each === document.body) return "";
  const outlined = [each, each.parentElement].some((one) => getComputedStyle(one).outlineStyle !== "none")
    || (each.closest(".box") && getComputedStyle(each.closest(".box")).boxShadow !== "none") || each.getAttribute("role") === "menuitem";
  const { width, height, top, bottom } = each.getBoundingClientRect();
  const isOnScreen = width > 0 && height > 0 && bottom > 0 && top < innerHeight;
  each.dataset.seen ??= String(Math.random());
  return JSON.stringify({ name: each.getAttribute("aria-label") || each.innerText.slice(0, 30) || each.tagName, seen: each.dataset.seen,
    good: each.matches(":focus-visible") && outlined && isOnScreen });
}"""

CONTROLS = """() => [...document.querySelectorAll("button, a[href], input, textarea, select, summary")]
  .filter((each) => each.checkVisibility({visibilityProperty: true}) && !each.disabled && each.tabIndex >= 0 && each.type !== "file").length"""


def focused(page: Page, name: str) -> None:
    """Wait until what has this name has the focus."""
    page.wait_for_function(f"name => {FOCUSED} === name", arg=name)


def tab_to(page: Page, name: str, key: str = "Tab") -> None:
    """Press a key until what has this name has the focus."""
    for _ in range(60):
        if page.evaluate(FOCUSED) == name:
            return
        page.keyboard.press(key)
    raise AssertionError(f"{key} does not lead to {name}")


def run_command(page: Page, words: str, title: str) -> None:
    """Run what the palette finds."""
    page.keyboard.press("Control+k")
    page.get_by_role("combobox", name="Search commands").wait_for()
    page.keyboard.type(words)
    page.get_by_role("option", name=title, selected=True).wait_for()
    page.keyboard.press("Enter")


def test_a_chat_is_begun_written_and_stopped_by_keyboard(page: Page, served: Daemon) -> None:
    prefer(page, model="long")
    focused(page, "Message")
    page.keyboard.type("Go")
    page.keyboard.press("Enter")
    written(page)
    page.keyboard.press("Escape")
    assert "Stopped" in finished(page).inner_text()
    focused(page, "Message")
    tab_to(page, "Continue", "Shift+Tab")
    page.keyboard.press("Enter")
    written(page)
    page.keyboard.press("Escape")
    finished(page)
    page.keyboard.press("Control+Shift+O")
    page.wait_for_function("() => document.querySelectorAll('article').length === 0")
    focused(page, "Message")


def test_a_chat_is_found_edited_and_branched_by_keyboard(page: Page, served: Daemon) -> None:
    chat = stored_chat(served, "An old question", "An old answer")
    page.goto("/")
    run_command(page, "old question", "An old question")
    messages(page).filter(has_text="An old answer").wait_for()
    focused(page, "Message")
    page.keyboard.press("ArrowUp")
    focused(page, "Edit")
    page.keyboard.press("Control+a")
    page.keyboard.type("A new question")
    page.keyboard.press("Control+Enter")
    finished(page)
    page.get_by_role("group", name="Version 2 of 2").wait_for()
    tab_to(page, "Previous version", "Shift+Tab")
    page.keyboard.press("Enter")
    messages(page).filter(has_text="An old answer").wait_for()
    until(lambda: len(shown_path(read_chat(served, chat))) == 2 and
          shown_path(read_chat(served, chat))[0]["content"] == "An old question", "the first branch")  # fmt: skip


def test_the_last_answer_is_copied_by_keyboard(page: Page, served: Daemon) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    open_chat(page, stored_chat(served, "Hi", "Copy me"))
    finished(page)
    page.keyboard.press("Control+Shift+C")
    until(lambda: page.evaluate("navigator.clipboard.readText()") == "Copy me", "it is copied")


def test_a_chat_is_renamed_deleted_and_brought_back_by_keyboard(page: Page, served: Daemon) -> None:
    chat = stored_chat(served, "Hi", "Hello")
    open_chat(page, chat)
    run_command(page, "rename", "Rename this chat…")
    page.get_by_role("dialog", name="Rename").wait_for()
    page.keyboard.type("By keyboard")
    page.keyboard.press("Enter")
    page.get_by_role("link", name="By keyboard").wait_for()
    focused(page, "Message")
    page.keyboard.press("Control+Shift+Backspace")
    page.get_by_role("link", name="By keyboard").wait_for(state="detached")
    page.keyboard.press("Control+z")
    page.get_by_role("link", name="By keyboard").wait_for()
    messages(page).filter(has_text="Hello").wait_for()
    assert read_chat(served, chat)["title"] == "By keyboard"


def test_a_menu_of_a_chat_by_keyboard(page: Page, served: Daemon) -> None:
    """Arrow keys move in it, Esc gives the focus back, and what an item opens does so too."""
    open_chat(page, stored_chat(served, "Hi", "Hello"))
    tab_to(page, "This chat", "Shift+Tab")
    page.keyboard.press("Enter")
    focused(page, "Rename…")
    page.keyboard.press("ArrowUp")
    focused(page, "Keyboard shortcuts")
    page.keyboard.press("Escape")
    focused(page, "This chat")
    page.keyboard.press("Enter")
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    page.get_by_role("dialog", name="Keyboard shortcuts").wait_for()
    page.keyboard.press("Escape")
    focused(page, "This chat")


@pytest.mark.long
def test_a_model_is_chosen_by_keyboard(page: Page, served: Daemon) -> None:
    chat = stored_chat(served, "Hi", "Hello", model="city")
    open_chat(page, chat)
    for opener in ("Control+.", "palette"):
        if opener == "palette":
            run_command(page, "choose a", "Choose a model")
        else:
            page.keyboard.press(opener)
        page.get_by_role("dialog", name="Choose a model").wait_for()
        focused(page, "Search models, or a name to pull")
        page.keyboard.press("Escape")
        page.get_by_role("dialog", name="Choose a model").wait_for(state="detached")
    page.keyboard.press("Control+.")
    page.keyboard.type("hel")
    page.get_by_role("option", name=re.compile("^hello")).wait_for()
    page.keyboard.press("Enter")
    until(lambda: read_chat(served, chat)["model"].startswith("hello"), "the model is changed")


DIALOGS = {
    "Control+k": "Commands", "Control+,": "Preferences", "Control+;": "Settings of this chat", "Control+/": "Keyboard shortcuts",
}  # fmt: skip


@pytest.mark.long
def test_esc_closes_each_dialog_and_gives_the_focus_back(page: Page, served: Daemon) -> None:
    open_chat(page, stored_chat(served, "Hi", "Hello"))
    focused(page, "Message")
    for keys, name in DIALOGS.items():
        page.keyboard.press(keys)
        page.get_by_role("dialog", name=name).wait_for()
        page.keyboard.press("Escape")
        page.get_by_role("dialog").wait_for(state="detached")
        focused(page, "Message")


def test_the_focus_is_not_lost_with_what_is_deleted(page: Page, served: Daemon) -> None:
    open_chat(page, stored_chat(served, "One", "Two", "Three", "Four"))
    button(answers(page).last, "More").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    button(page.get_by_role("dialog"), "Delete").press("Enter")
    page.wait_for_function("() => document.querySelectorAll('article').length === 3")
    focused(page, "Messages")


def test_everything_is_reached_by_tab_and_shows_it(page: Page, served: Daemon) -> None:
    """Each button, link and field gets the focus in a round, is on the screen then, and has a ring around it."""
    open_chat(page, stored_chat(served, "Hi", "Hello\n\n```\ncode\n```\n"))
    finished(page).locator("pre").wait_for()
    wanted = page.evaluate(CONTROLS)
    seen: dict[str, dict[str, Any]] = {}
    for _ in range(wanted + 20):
        page.keyboard.press("Tab")
        if found := page.evaluate(f"JSON.parse(({SHOWN})() || 'null')"):
            seen[found["seen"]] = found
    assert [each["name"] for each in seen.values() if not each["good"]] == []
    assert len(seen) >= wanted, [each["name"] for each in seen.values()]


# ---- directions, phones, themes --------------------------------------------------------------------------------------


def test_text_goes_its_own_way(page: Page, served: Daemon) -> None:
    """Each block has the direction of its text; code stays left to right."""
    STATES["right_to_left"](page, served)
    direction = "each => getComputedStyle(each).direction"
    answer = finished(page)
    assert answer.locator("p").first.evaluate(direction) == "rtl"
    assert answer.locator("li").first.evaluate(direction) == "rtl"
    assert answer.locator("pre").evaluate(direction) == "ltr"
    assert page.locator("article.user .plain").evaluate(direction) == "rtl"
    assert field(page).evaluate(direction) == "ltr"
    field(page).fill("مرحبا")
    assert field(page).evaluate(direction) == "rtl"


def test_on_a_phone(page: Page, served: Daemon) -> None:
    """The list covers the messages and closes by a choice or by Esc; a long answer does not widen the page; targets are large
    enough for a finger."""
    page.set_viewport_size(PHONE)
    stored_chat(served, "Another", "Yes")
    open_chat(page, stored_chat(served, "Hi", "x" * 500 + "\n\n```\n" + "y" * 500 + "\n```"))
    finished(page).locator("pre").wait_for()
    assert fits_width(page)
    another = page.get_by_role("link", name="Another")
    assert not another.is_visible()
    opener = button(page, "Show or hide the list of chats")
    opener.press("Enter")
    focused(page, "New chat")
    page.keyboard.press("Escape")
    focused(page, "Show or hide the list of chats")
    opener.click()
    another.click()
    messages(page).filter(has_text="Another").wait_for()
    assert not another.is_visible()
    finished(page)
    small = [
        each.get_attribute("aria-label")
        for each in page.get_by_role("button").all()
        if each.is_visible() and is_small(each)
    ]
    assert small == []
    say(page, "Again")
    finished(page, 2)


def is_small(each: Any) -> bool:
    box = each.bounding_box()
    return bool(box) and (box["width"] < 24 or box["height"] < 24)


@pytest.mark.long
def test_the_chosen_theme_is_kept(page: Page, served: Daemon) -> None:
    page.goto("/")
    colour = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(colour)
    page.keyboard.press("Control+,")
    page.get_by_role("radio", name="Dark").check()
    dark = page.evaluate(colour)
    assert dark != before
    page.reload()
    assert page.evaluate(colour) == dark
