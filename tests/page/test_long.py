"""A long chat is there from its end on, in its order; what grows while it is written stays what it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.served import Daemon

from .chats import read_chat, shown_path, stored_chat
from .hand import answers, finished, messages, open_chat, say
from .models import HELLO, MARKDOWN

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

COUNT = 150
FIRST = 24  # messages that thread.js makes at once


@pytest.fixture
def long_chat(served: Daemon) -> str:
    """Its answers have a table, code and formulas."""
    texts = [f"Question {n // 2}" if n % 2 == 0 else MARKDOWN for n in range(COUNT)]
    return stored_chat(served, *texts, title="Long")


def shown(page: Page) -> list[str]:
    """The ids of the messages in their order on the page."""
    found = page.evaluate("[...document.querySelectorAll('article')].map(each => each.dataset.id)")
    return list(found)


def path(served: Daemon, chat: str) -> list[str]:
    return [message["id"] for message in shown_path(read_chat(served, chat))]


def whole(page: Page, count: int = COUNT) -> None:
    page.wait_for_function(
        "count => document.querySelectorAll('article').length === count", arg=count
    )


def test_a_long_chat_is_there_in_its_order(page: Page, served: Daemon, long_chat: str) -> None:
    open_chat(page, long_chat)
    answers(page).last.locator("table").wait_for()
    last = messages(page).last.bounding_box()
    assert last and last["y"] < 800 < last["y"] + last["height"] + 300, "it is opened at its end"
    whole(page)
    assert shown(page) == path(served, long_chat)


@pytest.mark.long
def test_a_long_chat_can_be_read_from_its_beginning(
    page: Page, served: Daemon, long_chat: str
) -> None:
    """What is not on the screen yet gets its HTML when it comes there, and nothing moves under the reader."""
    open_chat(page, long_chat)
    whole(page)
    page.evaluate("document.querySelector('.scroller').scrollTop = 0")
    first = answers(page).first
    first.locator("table").wait_for()
    assert first.locator("math").count() == 2
    assert page.evaluate("document.querySelector('.scroller').scrollTop") < 50


@pytest.mark.long
def test_a_message_is_sent_before_all_of_a_chat_is_made(
    page: Page, served: Daemon, long_chat: str
) -> None:
    page.add_init_script("window.requestIdleCallback = run => { window.idle = run; return 1; }")
    open_chat(page, long_chat)
    whole(page, FIRST)
    say(page, "Now?")
    finished(page, FIRST // 2 + 1)
    assert answers(page).last.locator(".text").inner_text() == HELLO
    assert shown(page) == path(served, long_chat)[-FIRST - 2 :]
    for _ in range(3):
        page.evaluate("window.idle()")
    whole(page, COUNT + 2)
    assert shown(page) == path(served, long_chat)


GROWING = """async () => {
  const { showBlocks } = await import("/page/blocks.js");
  const place = document.createElement("div");
  document.body.append(place);
  const code = (lines) => `<pre data-language="py"><code>${'<span class="n">x</span>\\n'.repeat(lines)}</code></pre>`;
  showBlocks(place, [{ html: code(2), final: false }]);
  const [pre, wrap] = [place.querySelector("pre"), place.querySelector("button")];
  wrap.click();
  showBlocks(place, [{ html: code(5), final: false }]);
  return [pre === place.querySelector("pre"), wrap === place.querySelector("button"),
          place.querySelector("figure").classList.contains("wrapped"), pre.querySelectorAll("span").length];
}"""


def test_code_that_grows_keeps_its_elements_and_its_buttons(page: Page) -> None:
    page.goto("/")
    assert page.evaluate(GROWING) == [True, True, True, 5]


MANY = """async () => {
  const { showBlocks } = await import("/page/blocks.js");
  const place = document.createElement("div");
  document.body.append(place);
  const blocks = (count) => Array.from({ length: count }, (_, n) => ({ html: `<p>${n} ${"word ".repeat(200)}</p>`, final: true }));
  showBlocks(place, blocks(90));
  const atOnce = place.children.length;
  showBlocks(place, blocks(100));
  while (place.children.length < 100) await new Promise(requestAnimationFrame);
  return [atOnce, [...place.children].every((child, n) => child.textContent.startsWith(`${n} `))];
}"""


def test_many_blocks_at_once_are_drawn_over_several_frames(page: Page) -> None:
    page.goto("/")
    at_once, is_in_order = page.evaluate(MANY)
    assert 10 < at_once < 50 and is_in_order
