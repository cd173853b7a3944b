"""An answer belongs to the chat, not to the tab: reloads, closed tabs, several chats at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.served import Daemon, until

from .chats import new_chat, read_chat, settled, stored_chat
from .hand import button, field, finished, messages, open_chat, say, written

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


def test_a_reload_goes_on_with_the_answer(page: Page, served: Daemon) -> None:
    chat = new_chat(served, "long")
    open_chat(page, chat)
    say(page, "Go")
    before = written(page)
    page.reload()
    written(page, before + 40)
    button(page, "Stop").click()
    shown = finished(page).locator(".text").inner_text()
    [question, answer] = settled(served, chat)["messages"]
    assert question["content"] == "Go"
    assert " ".join(shown.split()) == " ".join(answer["content"].split())


def test_a_closed_tab_loses_nothing(page: Page, served: Daemon) -> None:
    chat = new_chat(served, "long", options={"num_predict": 150})
    open_chat(page, chat)
    say(page, "Go")
    written(page)
    page.close()
    answer = settled(served, chat)["messages"][-1]
    assert (answer["status"], answer["usage"]["completion_tokens"]) == ("done", 150)


def test_a_draft_survives_a_reload_and_another_chat(page: Page, served: Daemon) -> None:
    other = stored_chat(served, "Other", "Yes")
    chat = stored_chat(served, "Mine", "Yes")
    open_chat(page, chat)
    field(page).fill("half a thou")
    page.reload()
    assert field(page).input_value() == "half a thou"
    page.get_by_role("link", name="Other").click()
    page.wait_for_function("id => location.hash === '#' + id", arg=other)
    messages(page).filter(has_text="Other").wait_for()
    assert field(page).input_value() == ""
    page.go_back()
    messages(page).filter(has_text="Mine").wait_for()
    assert field(page).input_value() == "half a thou"


def test_several_chats_are_answered_at_once(page: Page, served: Daemon) -> None:
    """The list shows which; coming back to one, its answer has gone on."""
    first, second = (
        new_chat(served, "long", title="First"),
        new_chat(served, "long", title="Second"),
    )
    open_chat(page, first)
    say(page, "Go")
    before = written(page)
    page.get_by_role("link", name="Second").click()
    page.wait_for_function("() => document.querySelectorAll('article').length === 0")
    say(page, "Go")
    written(page)
    assert page.get_by_label("An answer is being written").count() == 2
    page.get_by_role("link", name="First").click()
    written(page, before)
    for chat in (first, second):
        answer = read_chat(served, chat)["messages"][-1]
        assert served.ask("POST", f"/api/chats/{chat}/messages/{answer['id']}/stop").status == 200
    finished(page)
    until(lambda: page.get_by_label("An answer is being written").count() == 0, "both have ended")
