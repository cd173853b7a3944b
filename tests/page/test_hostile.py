"""What a model writes is text to look at: it runs nothing, sends nothing anywhere, and does not freeze the page.

The daemon cleans it, the Content-Security-Policy stands behind that, and the fixture ``watch`` fails the test at any exception, console
message, dialog, window or request to another host.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import pytest

from tests.served import Daemon

from .chats import new_chat, read_chat, shown_path, stored_chat
from .hand import answers, field, finished, open_chat, say
from .models import HOSTILE
from .watch import Watch

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

LIVELY = """async () => {
  // the longest time between two frames of half a second
  let [longest, last] = [0, performance.now()];
  const end = last + 500;
  while (last < end) {
    await new Promise(requestAnimationFrame);
    const now = performance.now();
    [longest, last] = [Math.max(longest, now - last), now];
  }
  return longest;
}"""

ACTIVE = (
    "script, iframe, object, embed, form, style, link, base, meta, video, audio, source, svg:not(.icon),"
    " input:not([type=checkbox]), button:not(.icon-button), img, [style*=url], [srcset], [background],"
    " [onerror], [onload], [onclick], [ontoggle], [onmouseover], a[href^='javascript' i], a[href^='data' i], [id]"
)
"""What no answer may contain. (The page's own icons and buttons are around code.)"""


def check_harmless(page: Page, served: Daemon) -> None:
    text = answers(page).last.locator(".text")
    assert text.locator(ACTIVE).all_inner_texts() == []
    assert (
        page.evaluate(LIVELY) < 10_000
    )  # milliseconds; a busy machine is slow, a page that hangs is slower
    for link in text.get_by_role("link").all():
        assert (link.get_attribute("href") or "").startswith(("http", "mailto:"))
    assert page.url.startswith(served.url) and field(page).is_visible()


EVERY_TIME = {"scripts", "beacons", "long line of code", "many paragraphs", "marks"}
"""The long tests look at the others."""


def each_of(kinds: Collection[str]) -> list[Any]:
    """Parameters; those that are not looked at every time are long."""
    return [
        pytest.param(kind, marks=() if kind in EVERY_TIME else pytest.mark.long) for kind in kinds
    ]


@pytest.mark.parametrize("model", each_of(HOSTILE))
def test_a_hostile_answer_does_nothing(page: Page, served: Daemon, model: str) -> None:
    """While it is streamed, and when it is opened again."""
    open_chat(page, new_chat(served, model))
    say(page, "Go")
    assert "Before" in (finished(page).text_content() or "")
    check_harmless(page, served)
    page.reload()
    finished(page).locator(".blocks").wait_for()
    assert "Before" in (finished(page).text_content() or "")
    check_harmless(page, served)
    field(page).fill("still here")
    assert field(page).input_value() == "still here"


BIG = {
    "deep quotation": "> " * 20_000 + "x",
    "deep list": "".join(f"{' ' * 2 * depth}- x\n" for depth in range(1_000)),
    "wide table": "|a" * 5_000 + "|\n" + "|-" * 5_000 + "|\n" + "|b" * 5_000 + "|\n",
    "long code": "```python\n" + "x = [1, 2, 3]  # a comment\n" * 20_000 + "```",
    "long line of code": "```json\n" + "[" * 300_000 + "\n```",
    "many paragraphs": "word\n\n" * 20_000,
    "brackets": "[" * 100_000,
    "emphasis": "*a_ " * 50_000,
    "backticks": "".join("`" * n + "a" for n in range(1, 700)),
    "formula": "$" + "{" * 50_000 + "$ $$" + "\\frac{1}{" * 5_000 + "$$",
    "entities": "&amp;" * 100_000,
    "html": "<b>" * 100_000,
    "marks on one letter": "a" + "\u0301" * 100_000,
    "direction marks": "\u202e\u2066\u202d" * 20_000,
    "zero bytes and controls": "a\x01\x02\x1b[31m\x7f\u0000b" * 1_000,
    "half of a pair": "a\ud800b".encode("utf-16", "surrogatepass").decode("utf-16", "replace"),
}
"""Answers that are heavy for a parser or for a browser. 20,000 lines of code is what a model can write."""


@pytest.mark.parametrize("kind", each_of(BIG))
def test_a_heavy_answer_is_opened(page: Page, served: Daemon, kind: str) -> None:
    open_chat(page, stored_chat(served, "Go", BIG[kind]))
    finished(page).locator(".text > *").first.wait_for()
    check_harmless(page, served)


@pytest.mark.parametrize("kind", each_of(["marks on one letter", "many paragraphs"]))
def test_a_heavy_message_of_the_user_is_shown(page: Page, served: Daemon, kind: str) -> None:
    """It has no HTML: the page shows it as it is."""
    open_chat(page, stored_chat(served, BIG[kind], "Yes"))
    finished(page)
    assert page.evaluate(LIVELY) < 10_000


THOUGHTS = {
    "line": "a" * 1_000_000,
    "marks": "a" + "\u0301" * 100_000,
    "lines": "thought\n" * 100_000,
}


@pytest.mark.parametrize("kind", each_of(THOUGHTS))
def test_heavy_thinking_and_tool_calls_are_unfolded(page: Page, served: Daemon, kind: str) -> None:
    bad, heavy = "<script>alert(1)</script>", THOUGHTS[kind]
    call = {"id": "1", "name": bad, "arguments": {bad: heavy}}
    chat = stored_chat(served, "Go", "Yes")
    export = served.ask("GET", f"/api/chats/{chat}/export").json()
    export["chats"][0]["messages"][1] |= {"thinking": bad + heavy, "tool_calls": [call]}
    [chat] = served.ask("POST", "/api/chats/import", export).json()["chats"]
    open_chat(page, chat)
    answer = finished(page)
    for details in answer.locator("details.thinking, details.call").all():
        details.locator("summary").click()
        assert page.evaluate(LIVELY) < 2000
    assert bad in answer.locator(".thinking .plain").inner_text()
    assert bad in answer.locator(".call .plain").inner_text()


def test_a_hostile_message_of_the_user_title_and_tool_call(page: Page, served: Daemon) -> None:
    """From an import, say: all of it is text."""
    bad = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    chat = stored_chat(served, bad, bad, system=bad, title=bad, folder=bad)
    open_chat(page, chat)
    finished(page)
    assert bad in page.locator("article.user").inner_text()
    assert page.locator("h1").inner_text() == bad
    check_harmless(page, served)
    assert [m["content"] for m in shown_path(read_chat(served, chat))] == [bad, bad]


def test_the_policy_refuses_what_a_cleaner_would_miss(
    page: Page, served: Daemon, watch: Watch
) -> None:
    """Scripts, handlers, images and forms that are put into the page by force do nothing."""
    watch.allow("(?i)content.security.policy|trusted")
    refused: dict[str, str | None] = {}
    page.on("requestfailed", lambda request: refused.update({request.url: request.failure}))
    page.goto("/")
    page.evaluate("""() => {
        window.ran = [];
        const add = (tag, props) => document.body.append(Object.assign(document.createElement(tag), props));
        try { add("script", {textContent: "ran.push('script')"}); } catch {}
        try { add("div", {innerHTML: "<img src=x onerror=\\"ran.push('html')\\">"}); } catch {}
        add("img", {src: "https://evil.example/beacon.png"});
        add("iframe", {src: "https://evil.example/"});
        const button = document.createElement("button");
        try { button.setAttribute("onclick", "ran.push('handler')"); } catch {}
        document.body.append(button);
        button.click();
    }""")
    page.evaluate("fetch('https://evil.example/').catch(() => ran.push('refused'))")
    page.wait_for_function("() => ran.includes('refused')")
    assert page.evaluate("ran") == ["refused"]
    asked = {url for url in watch.requests if "evil" in url}
    assert {refused[url] for url in asked} <= {"csp"}, "a request left the browser"
    watch.faults = [fault for fault in watch.faults if not fault.startswith("asked")]
