"""Writing with a model: an answer as it comes, what it is made of, and all that can be done with it afterwards."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.served import Daemon, until

from .chats import new_chat, read_chat, settled, shown_path, stored_chat
from .hand import answers, button, choose, field, finished, messages, open_chat, say, written
from .models import ANSWER, HELLO, THOUGHTS
from .watch import Watch

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


def test_a_message_is_answered_and_stored(page: Page, served: Daemon) -> None:
    chat = new_chat(served)
    open_chat(page, chat)
    say(page, "What are you?")
    assert HELLO in finished(page).inner_text()
    assert field(page).input_value() == ""
    stored = settled(served, chat)
    assert [message["content"] for message in shown_path(stored)] == ["What are you?", HELLO]
    assert stored["title"] == "What are you?" == page.locator("header h1").inner_text()


def test_the_first_message_creates_the_chat(page: Page, served: Daemon) -> None:
    page.goto("/")
    page.evaluate("localStorage.setItem('ollamapy.prefs', JSON.stringify({model: 'hello'}))")
    page.reload()
    assert served.ask("GET", "/api/chats").json()["chats"] == []
    say(page, "First words")
    finished(page)
    [chat] = served.ask("GET", "/api/chats").json()["chats"]
    assert chat["title"] == "First words" and page.url.endswith(f"#{chat['id']}")


def test_markdown_becomes_what_it_means(page: Page, served: Daemon) -> None:
    open_chat(page, new_chat(served, "markdown"))
    say(page, "Roots?")
    answer = finished(page)
    assert answer.get_by_role("heading", name="Two roots").is_visible()
    assert answer.locator("table tr").count() == 3
    assert answer.locator("math").count() == 2
    assert answer.locator("math mfrac").count() == 1
    code = answer.locator("pre")
    assert code.inner_text().startswith("def roots(a: float") and code.locator("span").count() > 10
    assert answer.locator("ol li").count() == 2 and answer.locator("blockquote").count() == 1
    link = answer.get_by_role("link", name="the article")
    assert "noopener" in (link.get_attribute("rel") or "")
    assert link.get_attribute("target") == "_blank"


def test_a_stored_answer_looks_as_the_streamed_one(page: Page, served: Daemon) -> None:
    open_chat(page, new_chat(served, "markdown"))
    say(page, "Roots?")
    streamed = finished(page).locator(".text").inner_html()
    page.reload()
    finished(page).locator("math").first.wait_for()
    assert answers(page).locator(".text").inner_html() == streamed


def test_code_is_copied_and_wrapped(page: Page, served: Daemon) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    open_chat(page, new_chat(served, "markdown"))
    say(page, "Roots?")
    code = finished(page).locator("figure", has=page.locator("pre"))
    button(code, "Copy code").click()
    copied = until(lambda: page.evaluate("navigator.clipboard.readText()"), "the code is copied")
    assert copied.startswith("def roots(a: float") and "    from math import sqrt" in copied
    wrap = button(code, "Wrap lines")
    before = code.locator("pre").evaluate("pre => pre.scrollWidth > pre.clientWidth")
    wrap.click()
    assert wrap.get_attribute("aria-pressed") == "true"
    page.set_viewport_size({"width": 360, "height": 740})
    assert not code.locator("pre").evaluate("pre => pre.scrollWidth > pre.clientWidth"), before


def test_thinking_is_folded_with_its_time(page: Page, served: Daemon) -> None:
    open_chat(page, new_chat(served, "think"))
    say(page, "Five and more?")
    answer = finished(page)
    assert ANSWER in answer.locator(".text").inner_text()
    thinking = answer.get_by_role("group").filter(has_text=THOUGHTS)
    assert not answer.get_by_text(THOUGHTS).is_visible()
    answer.get_by_text(re.compile(r"Thought for \d")).click()
    assert answer.get_by_text(THOUGHTS).is_visible() and thinking.count() == 1
    page.reload()
    finished(page).get_by_text(re.compile(r"Thought for \d")).wait_for()


def test_a_tool_call_is_shown(page: Page, served: Daemon) -> None:
    chat = new_chat(served, "tool")
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": {}}}
    body = {"content": "Weather?", "tools": [tool]}
    assert served.ask("POST", f"/api/chats/{chat}/messages", body).status == 200
    open_chat(page, chat)
    answer = finished(page)
    answer.get_by_text("get_weather").click()
    assert '"city": "Paris"' in answer.inner_text()


@pytest.mark.long
def test_figures_tell_what_an_answer_took(page: Page, served: Daemon) -> None:
    chat = new_chat(served)
    open_chat(page, chat)
    say(page, "Hi")
    figures = finished(page).locator("details.figures")
    assert "tokens/s" in figures.inner_text()
    figures.locator("summary").click()
    usage = shown_path(settled(served, chat))[-1]["usage"]
    text = figures.inner_text()
    assert f"{usage['prompt_tokens']} prompt tokens" in text and "First token after" in text
    assert f"of {usage['context_length']:,} tokens of context used" in text


@pytest.mark.long
def test_what_was_cut_is_told(page: Page, served: Daemon) -> None:
    chat = new_chat(served, options={"num_ctx": 512, "num_predict": 8})
    open_chat(page, chat)
    for number in range(3):
        say(page, f"{number} " + "far too many words " * 12)
        answer = finished(page, number + 1)
    assert shown_path(settled(served, chat))[-1]["usage"]["truncated_tokens"] > 0
    answer.locator("details.figures summary").click()
    assert "were left out" in answer.inner_text()


def test_stop_and_continue(page: Page, served: Daemon) -> None:
    chat = new_chat(served, "long")
    open_chat(page, chat)
    say(page, "Go")
    written(page)
    button(page, "Stop").click()
    answer = finished(page)
    assert "Stopped" in answer.inner_text()
    before = settled(served, chat)["messages"][-1]
    assert before["status"] == "stopped" and len(before["content"]) > 40
    button(answer, "Continue").click()
    written(page, len(before["content"]) + 40)
    field(page).press("Escape")
    finished(page)
    after = settled(served, chat)["messages"][-1]
    assert after["id"] == before["id"] and after["content"].startswith(before["content"])
    assert len(after["content"]) > len(before["content"])


def test_retry_makes_a_branch_and_arrows_lead_between_them(page: Page, served: Daemon) -> None:
    chat = new_chat(served, "endless", options={"num_predict": 12, "temperature": 1})
    open_chat(page, chat)
    say(page, "Go")
    first = finished(page).locator(".text").inner_text().split()
    button(answers(page), "Answer again").click()
    page.get_by_role("group", name="Version 2 of 2").wait_for()
    second = finished(page).locator(".text").inner_text().split()
    with page.expect_response(f"**/api/chats/{chat}"):
        button(page, "Previous version").click()
    page.get_by_role("group", name="Version 1 of 2").wait_for()
    assert finished(page).locator(".text").inner_text().split() == first
    page.reload()  # the daemon knows which branch is shown
    page.get_by_role("group", name="Version 1 of 2").wait_for()
    button(page, "Next version").click()
    page.get_by_role("group", name="Version 2 of 2").wait_for()
    assert finished(page).locator(".text").inner_text().split() == second
    assert len(read_chat(served, chat)["messages"]) == 3


@pytest.mark.long
def test_retry_with_another_model(page: Page, served: Daemon) -> None:
    open_chat(page, new_chat(served, "hello"))
    say(page, "Go")
    choose(page, button(finished(page), "More"), "Answer again with city")
    page.get_by_role("group", name="Version 2 of 2").wait_for()
    assert '"Rome"' in finished(page).inner_text()


def test_a_message_is_edited_into_a_branch(page: Page, served: Daemon) -> None:
    chat = new_chat(served)
    open_chat(page, chat)
    say(page, "First")
    finished(page)
    button(messages(page).first, "Edit").click()
    area = messages(page).first.get_by_role("textbox", name="Edit")
    assert area.input_value() == "First"
    area.fill("Second")
    area.press("Control+Enter")
    page.get_by_role("group", name="Version 2 of 2").wait_for()
    finished(page)
    assert [m["content"] for m in shown_path(settled(served, chat))] == ["Second", HELLO]


@pytest.mark.long
def test_an_answer_is_edited_without_a_model(page: Page, served: Daemon) -> None:
    chat = stored_chat(served, "Hi", "Wrong")
    open_chat(page, chat)
    button(answers(page), "Edit").click()
    answers(page).get_by_role("textbox", name="Edit").fill("Right")
    button(answers(page), "Save").click()
    page.get_by_role("group", name="Version 2 of 2").wait_for()
    assert "Right" in finished(page).inner_text()
    until(lambda: shown_path(read_chat(served, chat))[-1]["content"] == "Right", "it is stored")


def test_a_message_is_deleted_with_what_follows(page: Page, served: Daemon) -> None:
    chat = stored_chat(served, "One", "Two", "Three", "Four")
    open_chat(page, chat)
    choose(
        page, button(messages(page).nth(2), "More"), "Delete this message and all that follow it"
    )
    button(page.get_by_role("dialog"), "Delete").click()
    page.wait_for_function("() => document.querySelectorAll('article').length === 2")
    assert [m["content"] for m in read_chat(served, chat)["messages"]] == ["One", "Two"]


def test_the_next_message_waits_for_the_answer(page: Page, served: Daemon) -> None:
    chat = new_chat(served, "long", options={"num_predict": 60})
    open_chat(page, chat)
    say(page, "One")
    page.locator("article.live").wait_for()
    say(page, "Two")
    queued = page.get_by_role("list", name="Sent next")
    assert queued.inner_text() == "Two"
    finished(page, 2)
    assert queued.inner_text() == ""
    path = shown_path(settled(served, chat))
    assert [m["content"] for m in path if m["role"] == "user"] == ["One", "Two"]


@pytest.mark.long
def test_a_queued_message_is_taken_back(page: Page, served: Daemon) -> None:
    chat = new_chat(served, "long")
    open_chat(page, chat)
    say(page, "One")
    page.locator("article.live").wait_for()
    say(page, "Two")
    button(page, "Do not send").click()
    button(page, "Stop").click()
    finished(page)
    assert len(settled(served, chat)["messages"]) == 2


def test_a_model_that_is_gone_is_told_and_the_text_is_kept(
    page: Page, served: Daemon, watch: Watch
) -> None:
    watch.allow("404")
    chat = new_chat(served)
    assert served.ask("PATCH", f"/api/chats/{chat}", {"model": "gone"}).status == 200
    open_chat(page, chat)
    say(page, "Do not lose this")
    page.get_by_text("model 'gone' not found").first.wait_for()
    kept = field(page).input_value() == "Do not lose this"
    stored = read_chat(served, chat)["messages"]
    assert kept or [m["content"] for m in stored if m["role"] == "user"] == ["Do not lose this"]


@pytest.mark.long
def test_the_thread_does_not_jump_while_one_reads_above(page: Page, served: Daemon) -> None:
    texts = [f"Message {number}\n" + "line\n" * 15 for number in range(8)]
    chat = stored_chat(served, *texts, model="long")
    open_chat(page, chat)
    say(page, "Go")
    scroller = page.get_by_role("region", name="Messages").last
    written(page)
    scroller.hover()
    page.mouse.wheel(0, -600)
    jump = button(page, "Jump to the latest message")
    jump.wait_for()
    place = scroller.evaluate("each => each.scrollTop")
    written(page, written(page) + 200)
    assert scroller.evaluate("each => each.scrollTop") == place
    jump.click()
    page.wait_for_function(
        "() => (each => each.scrollHeight - each.scrollTop - each.clientHeight < 50)"
        "(document.querySelector('.scroller'))"
    )
    button(page, "Stop").click()
    finished(page, 5)
