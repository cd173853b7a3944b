"""Files with a message: chosen, dropped or pasted; what is refused, and what the page does while one types."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.served import Daemon, until

from .chats import delete_chats, new_chat, settled, shown_path, stored_chat
from .hand import button, field, finished, messages, open_chat, prefer, say
from .states import attach
from .watch import Watch

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

GIVE = """([kind, name, text]) => {
  // Give the page a file as a drop or a paste does it.
  const data = new DataTransfer();
  data.items.add(new File([text], name, {type: "text/plain"}));
  const options = {bubbles: true, cancelable: true};
  document.querySelector("textarea").dispatchEvent(kind === "paste" ? new ClipboardEvent("paste", {clipboardData: data, ...options})
    : new DragEvent("drop", {dataTransfer: data, ...options}));
}"""


def attached(page: Page) -> list[str]:
    return page.get_by_role("list", name="Attachments").get_by_role("listitem").all_inner_texts()


def choose_file(page: Page, path: Path) -> None:
    with page.expect_file_chooser() as chooser:
        button(page, "Attach files").click()
    chooser.value.set_files(path)


def test_a_text_file_goes_with_a_message(page: Page, served: Daemon, tmp_path: Path) -> None:
    chat = new_chat(served)
    open_chat(page, chat)
    (tmp_path / "notes.txt").write_text("The secret is 42. " * 20)
    choose_file(page, tmp_path / "notes.txt")
    until(lambda: re.match(r"notes.txt\s*360 B", "".join(attached(page))), "it is attached")
    say(page, "What is the secret?")
    finished(page)
    assert attached(page) == []
    with page.expect_download() as download:
        messages(page).first.get_by_role("link", name="notes.txt").click()
    assert Path(download.value.path()).read_text() == "The secret is 42. " * 20
    [question, answer] = shown_path(settled(served, chat))
    assert question["parts"][-1]["name"] == "notes.txt"
    assert answer["usage"]["prompt_tokens"] > 100, "the file is part of the prompt"


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_files_are_dropped_and_pasted(page: Page, served: Daemon, kind: str) -> None:
    open_chat(page, new_chat(served))
    page.evaluate(GIVE, [kind, "a.py", "print(1)"])
    page.evaluate(GIVE, [kind, "b.md", "# B"])
    until(lambda: len(attached(page)) == 2, "both are attached")
    button(page, "Remove a.py").click()
    assert len(attached(page)) == 1 and "b.md" in attached(page)[0]
    until(button(page, "Send").is_enabled, "it is uploaded")
    field(page).press("Enter")
    finished(page)
    assert messages(page).first.get_by_role("link", name="b.md").is_visible()


def test_a_file_that_is_too_large_is_refused(
    page: Page, served: Daemon, watch: Watch, tmp_path: Path
) -> None:
    watch.allow("413")
    open_chat(page, new_chat(served))
    with (tmp_path / "large.txt").open("wb") as file:
        file.truncate(40 * 2**20)
    field(page).fill("Look at this")
    choose_file(page, tmp_path / "large.txt")
    page.get_by_role("alert").filter(has_text="“large.txt” could not be attached").filter(has_text="32 MiB").wait_for()  # fmt: skip
    assert attached(page) == [] and field(page).input_value() == "Look at this"


FILES = {
    "x.bin": (bytes(range(256)) * 10, "application/octet-stream"),
    "x.png": (b"\x89PNG\r\n\x1a\n" + bytes(100), "image/png"),
    "x.pdf": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + bytes(100), "application/pdf"),
}


@pytest.mark.parametrize("name", FILES)
def test_what_the_model_cannot_read_is_refused_and_nothing_is_lost(
    page: Page, served: Daemon, watch: Watch, name: str
) -> None:
    watch.allow("400")
    chat = new_chat(served)
    open_chat(page, chat)
    content, media_type = FILES[name]
    page.locator("input[type=file]").set_input_files(
        {"name": name, "mimeType": media_type, "buffer": content}
    )
    page.locator(f".attached li:not(.uploading):has-text('{name}')").wait_for()
    say(page, "What is this?")
    alert = page.get_by_role("alert")
    alert.wait_for()
    assert name in alert.inner_text() or "image" in alert.inner_text()
    assert field(page).input_value() == "What is this?" and name in attached(page)[0]
    assert settled(served, chat)["messages"] == []


def test_a_chat_whose_first_message_is_refused_does_not_stay(
    page: Page, served: Daemon, watch: Watch
) -> None:
    watch.allow("400")
    delete_chats(served)
    prefer(page, model="hello")
    content, media_type = FILES["x.bin"]
    page.locator("input[type=file]").set_input_files(
        {"name": "x.bin", "mimeType": media_type, "buffer": content}
    )
    page.locator(".attached li:not(.uploading)").wait_for()
    say(page, "What is this?")
    page.get_by_role("alert").wait_for()
    until(lambda: served.ask("GET", "/api/chats").json()["chats"] == [], "it is deleted")
    page.get_by_text("No chats yet").wait_for()
    assert field(page).input_value() == "What is this?" and "x.bin" in attached(page)[0]
    button(page, "Remove x.bin").click()
    field(page).press("Enter")
    finished(page)


def test_files_of_a_temporary_chat_are_not_stored(page: Page, served: Daemon) -> None:
    stored = served.home / "state" / "attachments"
    before = len(list(stored.rglob("*")))
    prefer(page, model="hello")
    page.keyboard.press("Control+Shift+P")
    attach(page, "secret.txt")
    say(page, "What is in it?")
    finished(page)
    assert messages(page).first.get_by_role("link", name="secret.txt").is_visible()
    assert len(list(stored.rglob("*"))) == before


def test_a_file_is_kept_with_the_draft(page: Page, served: Daemon) -> None:
    open_chat(page, stored_chat(served, "Hi", "Hello"))
    attach(page, "notes.txt")
    page.reload()
    until(lambda: "notes.txt" in "".join(attached(page)), "it is attached still")
    say(page, "And this?")
    finished(page, 2)
    page.reload()
    finished(page, 2)
    assert attached(page) == [] and field(page).input_value() == ""


def test_the_conversation_is_read_while_one_types(page: Page, served: Daemon, watch: Watch) -> None:
    """Unless that is switched off."""
    chat = stored_chat(served, "Hi", "Hello")
    open_chat(page, chat)
    with page.expect_response(f"**/api/chats/{chat}/prefill") as answer:
        field(page).press_sequentially("And")
    assert answer.value.status == 202
    page.keyboard.press("Control+,")
    page.get_by_role("checkbox", name="Read the conversation while I type").uncheck()
    page.keyboard.press("Escape")
    watch.requests.clear()
    with page.expect_response("**/api/chats?*"):  # the page's own look after some seconds
        field(page).press_sequentially(" then")
    assert not [url for url in watch.requests if url.endswith("prefill")]
