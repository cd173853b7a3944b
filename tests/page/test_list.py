"""The list of chats: search, folders, pins, the archive, titles, deleting with a way back, export and import, temporary chats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.served import Daemon, until

from .chats import new_chat, read_chat, stored_chat, write
from .hand import button, choose, finished, messages, open_chat, say
from .watch import Watch

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.browser


def rows(page: Page) -> Locator:
    return page.get_by_role("navigation", name="Chats").get_by_role("listitem")


def titles(page: Page) -> list[str]:
    return [text.splitlines()[0] for text in rows(page).all_inner_texts()]


def actions(page: Page, title: str) -> Locator:
    return button(page, f"Actions for {title}")


def three_chats(served: Daemon) -> list[str]:
    """Newest last."""
    return [
        stored_chat(served, f"{name} question", f"About {name}") for name in ("Ant", "Bee", "Cow")
    ]


def opened(page: Page, *expected: str) -> None:
    """Open the page and wait until its list is this."""
    page.goto("/")
    listed(page, *expected)


def listed(page: Page, *expected: str) -> None:
    until(lambda: titles(page) == list(expected), f"the list is {expected}, not {titles(page)}")


def test_the_newest_chat_is_first(page: Page, served: Daemon) -> None:
    three_chats(served)
    opened(page, "Cow question", "Bee question", "Ant question")
    page.get_by_role("link", name="Bee question").click()
    messages(page).filter(has_text="About Bee").wait_for()
    assert page.get_by_role("link", name="Bee question").get_attribute("aria-current") == "page"
    assert page.title().startswith("Bee question")


@pytest.mark.long
def test_search_finds_words_in_messages(page: Page, served: Daemon) -> None:
    ant, *_ = three_chats(served)
    opened(page, "Cow question", "Bee question", "Ant question")
    search = page.get_by_role("searchbox", name="Search chats")
    search.fill("about ant")
    listed(page, "Ant question")
    assert rows(page).locator("mark").count() >= 1
    rows(page).get_by_role("link").click()
    page.wait_for_function("id => location.hash === '#' + id", arg=ant)
    search.fill("dinosaur")
    page.get_by_text("Nothing found").wait_for()
    search.fill("")
    listed(page, "Cow question", "Bee question", "Ant question")


def test_a_chat_is_renamed(page: Page, served: Daemon) -> None:
    [ant, *_] = three_chats(served)
    opened(page, "Cow question", "Bee question", "Ant question")
    choose(page, actions(page, "Ant question"), "Rename…")
    title = page.get_by_role("dialog").get_by_role("textbox", name="Title")
    assert title.input_value() == "Ant question"
    title.fill("Insects")
    title.press("Enter")
    page.get_by_role("link", name="Insects").wait_for()
    assert read_chat(served, ant)["title"] == "Insects"


@pytest.mark.long
def test_a_pinned_chat_stays_on_top(page: Page, served: Daemon) -> None:
    three_chats(served)
    opened(page, "Cow question", "Bee question", "Ant question")
    choose(page, actions(page, "Ant question"), "Pin")
    listed(page, "Ant question", "Cow question", "Bee question")
    page.reload()
    listed(page, "Ant question", "Cow question", "Bee question")
    choose(page, actions(page, "Ant question"), "Unpin")
    until(
        lambda: titles(page)[0] == "Cow question" or titles(page)[0] == "Ant question", "unpinned"
    )
    assert not any(chat["pinned"] for chat in served.ask("GET", "/api/chats").json()["chats"])


@pytest.mark.long
def test_the_archive_hides_chats(page: Page, served: Daemon) -> None:
    three_chats(served)
    opened(page, "Cow question", "Bee question", "Ant question")
    choose(page, actions(page, "Bee question"), "Archive")
    listed(page, "Cow question", "Ant question")
    button(page, "All chats").click()
    page.get_by_role("menuitemradio", name="Archived").click()
    listed(page, "Bee question")
    choose(page, actions(page, "Bee question"), "Move out of the archive")
    page.get_by_text("No chats here").wait_for()


def test_folders_group_chats(page: Page, served: Daemon) -> None:
    three_chats(served)
    opened(page, "Cow question", "Bee question", "Ant question")
    choose(page, actions(page, "Ant question"), "Move to folder…")
    folder = page.get_by_role("dialog").get_by_label("Folder")
    folder.fill("Animals")
    folder.press("Enter")
    until(lambda: served.ask("GET", "/api/chats").json()["folders"] == ["Animals"], "it is moved")
    button(page, "All chats").click()
    page.get_by_role("menuitemradio", name="Animals").click()
    listed(page, "Ant question")


def test_a_deleted_chat_comes_back_by_undo(page: Page, served: Daemon) -> None:
    [ant, *_] = three_chats(served)
    opened(page, "Cow question", "Bee question", "Ant question")
    choose(page, actions(page, "Ant question"), "Delete")
    listed(page, "Cow question", "Bee question")
    button(page, "Undo").click()
    listed(page, "Cow question", "Bee question", "Ant question")
    assert read_chat(served, ant)["n_messages"] == 2


def test_a_deleted_chat_is_gone_when_the_notice_is_dismissed(page: Page, served: Daemon) -> None:
    [ant, *_] = three_chats(served)
    open_chat(page, ant)
    choose(page, actions(page, "Ant question"), "Delete")
    button(page, "Dismiss").click()
    until(lambda: served.ask("GET", f"/api/chats/{ant}").status == 404, "it is deleted")
    assert messages(page).count() == 0


@pytest.mark.long
def test_a_deleted_chat_is_gone_when_the_tab_is_closed(page: Page, served: Daemon) -> None:
    [ant, *_] = three_chats(served)
    opened(page, "Cow question", "Bee question", "Ant question")
    choose(page, actions(page, "Ant question"), "Delete")
    listed(page, "Cow question", "Bee question")
    page.close()
    until(lambda: served.ask("GET", f"/api/chats/{ant}").status == 404, "it is deleted")


@pytest.mark.long
def test_export_as_markdown_and_json(page: Page, served: Daemon, tmp_path: Path) -> None:
    three_chats(served)
    opened(page, "Cow question", "Bee question", "Ant question")
    for item, ending in (("Export as Markdown", ".md"), ("Export as JSON", ".json")):
        with page.expect_download() as download:
            choose(page, actions(page, "Ant question"), item)
        download.value.save_as(tmp_path / "saved")
        text = (tmp_path / "saved").read_text(encoding="utf-8")
        assert "About Ant" in text and (ending == ".md" or json.loads(text))
        assert download.value.suggested_filename.endswith(ending)


def test_what_was_exported_is_imported(page: Page, served: Daemon, tmp_path: Path) -> None:
    three_chats(served)
    opened(page, "Cow question", "Bee question", "Ant question")
    with page.expect_download() as download:
        choose(page, button(page.get_by_role("complementary"), "More"), "Export all chats")
    download.value.save_as(tmp_path / "chats.json")
    assert served.ask("DELETE", "/api/chats?confirm=all").status == 204
    page.reload()
    page.get_by_text("No chats yet").wait_for()
    with page.expect_file_chooser() as chooser:
        choose(page, button(page.get_by_role("complementary"), "More"), "Import chats")
    chooser.value.set_files(tmp_path / "chats.json")
    page.get_by_text("Imported 3 chats").wait_for()
    assert sorted(titles(page)) == ["Ant question", "Bee question", "Cow question"]


def test_a_file_that_is_no_export_is_refused(
    page: Page, served: Daemon, watch: Watch, tmp_path: Path
) -> None:
    watch.allow("400")
    page.goto("/")
    (tmp_path / "x.json").write_text('{"no": "chats"}')
    with page.expect_response("**/import") as response, page.expect_file_chooser() as chooser:
        choose(page, button(page.get_by_role("complementary"), "More"), "Import chats")
        chooser.value.set_files(tmp_path / "x.json")
    assert response.value.status == 400
    page.get_by_role("alert").filter(has_text="the file has no chats").wait_for()


def test_a_temporary_chat_is_not_in_the_list(page: Page, served: Daemon) -> None:
    page.goto("/")
    page.evaluate("localStorage.setItem('ollamapy.prefs', JSON.stringify({model: 'hello'}))")
    page.reload()
    button(page.get_by_role("complementary"), "Temporary chat").click()
    say(page, "Forget this")
    finished(page)
    assert page.get_by_text("Temporary chat").filter(visible=True).count() >= 1
    assert served.ask("GET", "/api/chats").json()["chats"] == []


@pytest.mark.long
def test_many_chats_come_in_parts(page: Page, served: Daemon) -> None:
    for number in range(70):
        new_chat(served, title=f"Chat {number}")
    page.goto("/")
    until(lambda: rows(page).count() == 60, "the first 60 are listed")
    button(page, "Show more").click()
    until(lambda: rows(page).count() == 70, "all are listed")


@pytest.mark.long
def test_a_chat_that_another_device_has_answered_is_marked(page: Page, served: Daemon) -> None:
    chat = new_chat(served, model="long", title="Elsewhere")
    answer = served.open("POST", f"/api/chats/{chat}/messages", {"content": "Hi"})
    assert answer.status == 200
    opened(page, "Elsewhere")
    mark = rows(page).get_by_role("img", name="An answer is being written")
    mark.wait_for()
    answer.leave()
    [message] = [m for m in read_chat(served, chat)["messages"] if m["role"] == "assistant"]
    served.ask("POST", f"/api/chats/{chat}/messages/{message['id']}/stop")
    mark.wait_for(state="detached")


def test_all_chats_are_deleted(page: Page, served: Daemon) -> None:
    """Only once it was asked for twice."""
    three_chats(served)
    opened(page, "Cow question", "Bee question", "Ant question")
    menu = button(page.get_by_role("complementary"), "More")
    choose(page, menu, "Delete all chats")
    button(page.get_by_role("dialog"), "Cancel").click()
    assert len(served.ask("GET", "/api/chats").json()["chats"]) == 3
    choose(page, menu, "Delete all chats")
    button(page.get_by_role("dialog"), "Delete all").click()
    page.get_by_text("No chats yet").wait_for()
    assert served.ask("GET", "/api/chats?archived=all").json()["chats"] == []


@pytest.mark.long
def test_a_row_keeps_the_focus_while_the_list_is_fetched_again(page: Page, served: Daemon) -> None:
    three_chats(served)
    opened(page, "Cow question", "Bee question", "Ant question")
    actions(page, "Bee question").press("Enter")
    page.get_by_role("menu").wait_for()
    with page.expect_response("**/api/chats?*"):
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.keyboard.press("Escape")
    page.wait_for_function("() => document.activeElement?.getAttribute('aria-label') === 'Actions for Bee question'")  # fmt: skip


@pytest.mark.long
def test_an_import_that_is_too_large_is_refused(
    page: Page, served: Daemon, watch: Watch, tmp_path: Path
) -> None:
    watch.allow("413")
    with (tmp_path / "chats.json").open("wb") as file:
        file.truncate(500 * 2**20)
    page.goto("/")
    with page.expect_file_chooser() as chooser:
        choose(page, button(page.get_by_role("complementary"), "More"), "Import chats")
    chooser.value.set_files(tmp_path / "chats.json")
    page.get_by_role("alert").filter(has_text="128 MiB").wait_for()


def test_a_search_leads_to_the_message(page: Page, served: Daemon) -> None:
    """Also one of another branch; an open chat too."""
    texts = [f"{name} number {at}\n" + "line\n" * 12 for at in range(8) for name in ("Question", "Answer")]  # fmt: skip
    chat = stored_chat(served, *texts[:3], "A pangolin\n" + "line\n" * 12, *texts[4:])
    first = read_chat(served, chat)["messages"][0]
    write(served, chat, "assistant", "An armadillo", parent=first["id"])
    page.goto("/")
    for word, count in (("pangolin", 16), ("armadillo", 2), ("pangolin", 16)):
        page.get_by_role("searchbox", name="Search chats").fill(word)
        rows(page).locator("mark", has_text=word).wait_for()
        rows(page).get_by_role("link").click()
        found = messages(page).filter(has_text=word)
        found.wait_for()
        page.wait_for_function("count => document.querySelectorAll('article').length === count", arg=count)  # fmt: skip
        if count > 2:
            page.wait_for_function(IS_AT_TOP, arg=word)


IS_AT_TOP = """word => {
  // Is the message with this word at the top of the thread?
  const scroller = document.querySelector(".scroller");
  const message = [...scroller.querySelectorAll("article")].find((each) => each.textContent.includes(word));
  return Math.abs(message.getBoundingClientRect().top - scroller.getBoundingClientRect().top) < 60;
}"""


def test_a_menu_is_closed_by_its_button(page: Page, served: Daemon) -> None:
    page.goto("/")
    more = button(page.get_by_role("complementary"), "More")
    for _ in range(2):
        more.click()
        page.get_by_role("menu").wait_for()
        more.click()
        page.get_by_role("menu").wait_for(state="detached")
