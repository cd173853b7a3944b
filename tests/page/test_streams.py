"""An answer belongs to the chat, not to the tab: reloads, closed tabs, several tabs, other programs, a daemon that ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.chats import Chat
from tests.served import Daemon, command, environment, serve, until

from .chats import new_chat, read_chat, settled, shown_path, stored_chat
from .hand import answers, button, field, finished, messages, open_chat, say, written
from .models import HELLO, make_models
from .watch import Watch

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

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


@pytest.mark.long
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


@pytest.mark.long
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


@pytest.mark.long
def test_a_message_waits_also_while_another_chat_is_open(page: Page, served: Daemon) -> None:
    """And through a reload."""
    other = stored_chat(served, "Other", "Yes")
    chat = new_chat(served, "long", options={"num_predict": 80})
    open_chat(page, chat)
    say(page, "One")
    page.locator("article.live").wait_for()
    say(page, "Two")
    page.reload()
    page.get_by_role("list", name="Sent next").get_by_text("Two").wait_for()
    page.locator("article.live").wait_for()
    page.get_by_role("link", name="Other").click()
    page.wait_for_function("id => location.hash === '#' + id", arg=other)
    until(lambda: len(read_chat(served, chat)["messages"]) == 4, "it is sent")
    path = shown_path(settled(served, chat))
    assert [each["content"] for each in path if each["role"] == "user"] == ["One", "Two"]
    assert read_chat(served, other)["n_messages"] == 2


@pytest.mark.long
def test_a_waiting_message_that_cannot_be_sent_is_not_lost(
    page: Page, served: Daemon, watch: Watch
) -> None:
    watch.allow("ERR_FAILED")
    chat = new_chat(served, "long", options={"num_predict": 60})
    open_chat(page, chat)
    say(page, "One")
    page.locator("article.live").wait_for()
    say(page, "Two")
    page.route("**/messages?html=true", lambda route: route.abort())
    again = button(page, "Try to send it again")
    again.wait_for()
    page.unroute("**/messages?html=true")
    again.click()
    finished(page, 2)
    path = shown_path(settled(served, chat))
    assert [each["content"] for each in path if each["role"] == "user"] == ["One", "Two"]


@pytest.mark.long
def test_a_lost_network_loses_nothing(page: Page, served: Daemon, watch: Watch) -> None:
    watch.allow("ERR_")
    chat = new_chat(served, "long")
    open_chat(page, chat)
    say(page, "Go")
    before = written(page)
    page.context.set_offline(True)
    page.get_by_text("The daemon cannot be reached").wait_for()
    page.context.set_offline(False)
    written(page, before + 100)
    page.get_by_text("The daemon cannot be reached").wait_for(state="detached")
    button(page, "Stop").click()
    shown = finished(page).locator(".text").inner_text()
    answer = settled(served, chat)["messages"][-1]
    assert " ".join(shown.split()) == " ".join(answer["content"].split())


# ---- other tabs, programs and terminals ------------------------------------------------------------------------------


def texts(page: Page) -> list[str]:
    """What the messages of the shown path say."""
    return page.locator("article .text").all_text_contents()


@pytest.fixture
def terminal(served: Daemon, tmp_path: Path) -> Iterator[Callable[..., Chat]]:
    """Starts commands in a pseudo-terminal that ask the daemon of all pages; they end with the test."""
    started: list[Chat] = []

    def start(*arguments: str) -> Chat:
        variables = environment(tmp_path, HOST=served.url)
        started.append(
            Chat(command(*arguments), variables | {"TERM": "xterm", "LC_ALL": "C.UTF-8"}, 80)
        )
        return started[-1]

    yield start
    for each in started:
        each.close()


def test_two_tabs_and_a_terminal_agree(
    page: Page, served: Daemon, terminal: Callable[..., Chat]
) -> None:
    """What one of them sends, the others show; a branch that one of them makes, too."""
    chat = stored_chat(served, "Hi", "Hello")
    other = page.context.new_page()
    open_chat(page, chat)
    open_chat(other, chat)
    repl = terminal("run", "--chat", chat).prompted(2)
    say(page, "From the first tab")
    finished(page, 2)
    finished(other, 2)
    say(other, "From the second tab")
    finished(other, 3)
    finished(page, 3)
    repl.enter("From the terminal")
    finished(page, 4)
    finished(other, 4)
    stored = [message["content"] for message in shown_path(settled(served, chat))]
    assert stored[2::2] == ["From the first tab", "From the second tab", "From the terminal"]
    assert texts(page) == texts(other) == stored
    button(answers(other).last, "Answer again").click()
    for tab in (other, page):
        tab.get_by_role("group", name="Version 2 of 2").wait_for()
        finished(tab, 4)
    repl.until(lambda: repl.screen.count(HELLO) == 3 and repl.lines[-1].startswith(">>> Send"))
    repl.enter("/branch")
    repl.until(lambda: any(line.startswith("* 2  From the terminal >") for line in repl.lines))
    repl.leave()


def test_an_answer_that_a_program_began_is_followed(page: Page, served: Daemon) -> None:
    chat = new_chat(served, "long")
    open_chat(page, chat)
    stream = served.open("POST", f"/api/chats/{chat}/messages", {"content": "From a program"})
    assert stream.status == 200
    messages(page).filter(has_text="From a program").wait_for()
    written(page)
    button(page, "Stop").click()
    finished(page)
    assert b'"cancelled"' in stream.read()


def test_an_answer_that_a_program_stops_ends_in_the_page(page: Page, served: Daemon) -> None:
    chat = new_chat(served, "long")
    open_chat(page, chat)
    say(page, "Go")
    written(page)
    answer = read_chat(served, chat)["messages"][-1]
    assert served.ask("POST", f"/api/chats/{chat}/messages/{answer['id']}/stop").status == 200
    assert "Stopped" in finished(page).inner_text()


@pytest.mark.long
def test_an_answer_that_another_tab_goes_on_with_is_shown_anew(page: Page, served: Daemon) -> None:
    chat = new_chat(served, "long", options={"num_predict": 20})
    open_chat(page, chat)
    say(page, "Go")
    before = finished(page).locator(".text").text_content() or ""
    answer = shown_path(settled(served, chat))[-1]
    assert served.ask("POST", f"/api/chats/{chat}/messages", {"continue": answer["id"]}).status == 200  # fmt: skip
    until(lambda: len(finished(page).locator(".text").inner_text()) > len(before), "it is longer")
    shown = finished(page).locator(".text").inner_text()
    content = shown_path(settled(served, chat))[-1]["content"]
    until(lambda: " ".join(texts(page)[-1].split()) == " ".join(content.split()), f"not {shown}")


def test_a_chat_that_a_program_deletes_is_gone_from_the_list(page: Page, served: Daemon) -> None:
    chat = stored_chat(served, "Gone soon", "Yes")
    page.goto("/")
    page.get_by_role("link", name="Gone soon").wait_for()
    assert served.ask("DELETE", f"/api/chats/{chat}").status == 204
    page.get_by_role("link", name="Gone soon").wait_for(state="detached")


def test_an_unknown_chat_is_told(page: Page, served: Daemon, watch: Watch) -> None:
    watch.allow("404")
    page.goto("/#chat_AAAAAAAAAAAAAAAAAAAAAA")
    page.get_by_role("alert").wait_for()
    assert field(page).is_visible()


# ---- a daemon that ends, changes, or had to begin anew ----------------------------------------------------------------

LOOK = "document.dispatchEvent(new Event('visibilitychange'))"
"""The page looks at the daemon as if its window were shown again."""


def test_an_old_page_reloads_itself(page: Page, served: Daemon) -> None:
    """Not while a dialog is open; what was written stays."""
    chat = stored_chat(served, "Hi", "Hello")
    with page.expect_response(lambda response: response.request.method == "HEAD"):
        open_chat(page, chat)
    page.route("**/", lambda route: route.fulfill(headers={"ETag": '"of another version"'}) if route.request.method == "HEAD" else route.continue_())  # fmt: skip
    page.evaluate("window.isOld = true")
    field(page).fill("half a thou")
    page.keyboard.press("Control+,")
    with page.expect_response(lambda response: response.request.method == "HEAD"):
        page.evaluate(LOOK)
    assert page.evaluate("window.isOld")
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="detached")
    with page.expect_navigation():
        page.evaluate(LOOK)
    page.wait_for_function("() => !window.isOld")
    messages(page).filter(has_text="Hello").wait_for()
    assert field(page).input_value() == "half a thou"


def test_a_daemon_that_ends_and_comes_back(browser: Browser, tmp_path: Path) -> None:
    """The page says that it cannot be reached, keeps what is shown, and goes on by itself when the daemon is back."""
    page = browser.new_page()
    models, home, gguf = tmp_path / "models", tmp_path / "home", tmp_path / "gguf"
    for each in (home, gguf):
        each.mkdir()
    make_models(models, gguf, only=("hello", "long"))
    with serve(home, models) as daemon:
        chat = new_chat(daemon, "long")
        page.goto(f"{daemon.url}/#{chat}")
        say(page, "Go")
        written(page)
        daemon.process.kill()
        daemon.process.wait()
    away = page.get_by_text("The daemon cannot be reached")
    away.wait_for()
    assert messages(page).first.get_by_text("Go", exact=True).is_visible()
    with serve(home, models, HOST=f"127.0.0.1:{daemon.port}") as daemon:
        answer = finished(page)
        assert "The answer failed" in answer.inner_text()
        away.wait_for(state="detached")
        assert read_chat(daemon, chat)["messages"][-1]["status"] == "failed"
        assert daemon.ask("PATCH", f"/api/chats/{chat}", {"model": "hello"}).status == 200
        button(answer, "Answer again").click()
        page.get_by_role("group", name="Version 2 of 2").wait_for()
        assert HELLO in finished(page).inner_text()
        page.close()


@pytest.mark.long
def test_a_damaged_database_is_told_once(browser: Browser, tmp_path: Path) -> None:
    page = browser.new_page()
    models, home = tmp_path / "models", tmp_path / "home"
    models.mkdir()
    home.mkdir()
    with serve(home, models) as daemon:
        pass
    [database] = home.rglob("chats.db")
    database.write_bytes(b"no database at all" * 1000)
    with serve(home, models) as daemon:
        page.goto(daemon.url)
        page.get_by_role("alert").filter(has_text="chats.db").wait_for()
        button(page, "Dismiss").click()
        with page.expect_response("**/api/chats?*"):
            page.reload()
        page.get_by_text("No chats yet").wait_for(state="attached")
        assert page.get_by_role("alert").count() == 0
        page.close()
