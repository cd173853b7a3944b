"""Files with a message: chosen, dropped or pasted; what is refused, and what the page does while one types."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import documents
from tests.served import Daemon, serve, until
from tests.small_models import install
from tests.small_projectors import seeing_model

from .chats import delete_chats, new_chat, settled, shown_path, stored_chat
from .conftest import PHONE
from .hand import button, field, finished, messages, open_chat, prefer, say
from .states import attach
from .watch import Watch

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

GIVE = """([kind, name, text]) => {
  // Give the page a file as a drop or a paste does it.
  const data = new DataTransfer();
  data.items.add(new File([text], name, {type: "text/plain"}));
  const options = {bubbles: true, cancelable: true};
  document.querySelector("textarea").dispatchEvent(kind === "paste" ? new ClipboardEvent("paste", {clipboardData: data, ...options})
    : new DragEvent("drop", {dataTransfer: data, ...options}));
}"""


PASTE_IMAGE = """(bytes) => {
  const data = new DataTransfer();
  data.items.add(new File([new Uint8Array(bytes)], "image.png", {type: "image/png"}));
  document.querySelector("textarea").dispatchEvent(new ClipboardEvent("paste", {clipboardData: data, bubbles: true, cancelable: true}));
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


@pytest.mark.parametrize("kind", ["paste", pytest.param("drop", marks=pytest.mark.long)])
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


def test_an_image_is_seen_and_shown_after_a_reload_on_a_phone_too(
    browser: Browser, tmp_path: Path
) -> None:
    weights, sight = seeing_model(tmp_path, "mlp")
    install(tmp_path / "models", "sees", weights, projector=sight)
    with serve(tmp_path, tmp_path / "models") as seeing:
        context = browser.new_context(base_url=seeing.url, viewport=PHONE, locale="en-US")
        page = context.new_page()
        open_chat(page, new_chat(seeing, model="sees", options={"num_predict": 5}))
        give(page, "wide.png", documents.png(2000, 500))
        page.locator(".attached li:not(.uploading):has-text('wide.png') img").wait_for()
        assert not page.get_by_text("cannot see images").is_visible()
        say(page, "What is this?")
        finished(page)
        page.reload()
        finished(page)
        image = messages(page).first.get_by_role("img", name="wide.png")
        until(lambda: image.evaluate("image => image.naturalWidth") == 2000, "it is loaded")
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        context.close()


def test_an_image_is_pasted_and_shown(page: Page, served: Daemon) -> None:
    open_chat(page, new_chat(served))
    page.evaluate(PASTE_IMAGE, list(documents.png(40, 30)))
    page.locator(".attached li:not(.uploading):has-text('image.png') img").wait_for()
    until(lambda: page.evaluate("document.querySelector('.attached img').naturalWidth") == 40, "")


def test_a_sound_for_a_model_that_does_not_hear_is_pointed_out(page: Page, served: Daemon) -> None:
    open_chat(page, new_chat(served))
    give(page, "a.wav", b"RIFF\x24\0\0\0WAVEfmt " + bytes(40))
    page.locator(".attached li:not(.uploading):has-text('a.wav')").wait_for()
    page.get_by_text("hello cannot hear sounds").wait_for()


def test_a_file_that_is_too_large_is_not_even_sent(
    page: Page, served: Daemon, watch: Watch, tmp_path: Path
) -> None:
    open_chat(page, new_chat(served))
    with (tmp_path / "large.txt").open("wb") as file:
        file.truncate(40 * 2**20)
    field(page).fill("Look at this")
    choose_file(page, tmp_path / "large.txt")
    page.get_by_role("alert").filter(has_text="“large.txt” could not be attached").filter(has_text="32 MiB").wait_for()  # fmt: skip
    assert attached(page) == [] and field(page).input_value() == "Look at this"
    assert not [url for url in watch.requests if "/api/attachments" in url]


def give(page: Page, name: str, content: bytes) -> None:
    page.locator("input[type=file]").set_input_files(
        {"name": name, "mimeType": "application/octet-stream", "buffer": content}
    )


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("x.bin", bytes(range(256)) * 10, "is of type application/octet-stream"),
        ("x.zip", documents.archive([("a", b"a")]), "no Word document"),
        ("x.docx", documents.docx("")[:-30], "is a damaged zip archive"),
    ],
)
def test_what_no_model_can_read_is_not_attached(
    page: Page, served: Daemon, watch: Watch, name: str, content: bytes, why: str
) -> None:
    watch.allow("400")
    open_chat(page, new_chat(served))
    field(page).fill("Look at this")
    give(page, name, content)
    page.get_by_role("alert").filter(has_text=f"“{name}” could not be attached").filter(
        has_text=why
    ).wait_for()
    assert attached(page) == [] and field(page).input_value() == "Look at this"


def test_an_image_for_a_model_that_does_not_see_is_refused_and_nothing_is_lost(
    page: Page, served: Daemon, watch: Watch
) -> None:
    watch.allow("400")
    chat = new_chat(served)
    open_chat(page, chat)
    give(page, "x.png", documents.png(40, 30))
    page.locator(".attached li:not(.uploading):has-text('x.png') img").wait_for()
    page.get_by_text("hello cannot see images").wait_for()
    say(page, "What is this?")
    page.get_by_role("alert").filter(has_text="image").wait_for()
    assert field(page).input_value() == "What is this?" and "x.png" in attached(page)[0]
    assert settled(served, chat)["messages"] == []
    button(page, "Remove x.png").click()
    page.get_by_text("hello cannot see images").wait_for(state="hidden")


def test_the_text_of_a_document_goes_with_a_message_and_is_there_after_a_reload(
    page: Page, served: Daemon
) -> None:
    chat = new_chat(served)
    open_chat(page, chat)
    give(page, "letter.docx", documents.docx(documents.paragraph("It is a secret. " * 30)))
    page.locator(".attached li:not(.uploading):has-text('letter.docx')").wait_for()
    say(page, "What is in it?")
    finished(page)
    page.reload()
    finished(page)
    assert messages(page).first.get_by_role("link", name="letter.docx").is_visible()
    [_, answer] = shown_path(settled(served, chat))
    assert answer["usage"]["prompt_tokens"] > 400, "its text is part of the prompt"


def test_what_was_left_out_of_a_document_is_said(page: Page, served: Daemon) -> None:
    open_chat(page, new_chat(served))
    give(page, "long.txt", b"A sentence. " * 100_000)
    page.locator(".attached li:not(.uploading):has-text('long.txt')").wait_for()
    say(page, "What is in it?")
    finished(page)
    page.locator("details.figures summary").click()
    page.get_by_text("long.txt: cut: the first").wait_for()


def test_a_photo_can_be_taken_where_there_is_a_camera(browser: Browser, served: Daemon) -> None:
    """The button is for touch screens; the browser then offers the camera."""
    context = browser.new_context(
        base_url=served.url, viewport=PHONE, has_touch=True, is_mobile=True, locale="en-US"
    )
    phone = context.new_page()
    open_chat(phone, new_chat(served))
    with phone.expect_file_chooser() as chooser:
        button(phone, "Take a photo").click()
    assert phone.locator("input[type=file][capture][accept='image/*']").count() == 1
    chooser.value.set_files(
        {"name": "photo.png", "mimeType": "image/png", "buffer": documents.png(400, 300)}
    )
    phone.locator(".attached li:not(.uploading):has-text('photo.png') img").wait_for()
    assert phone.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    with phone.expect_file_chooser():
        button(phone, "Attach files").click()
    assert phone.locator("input[type=file][capture]").count() == 0
    context.close()


@pytest.mark.long
def test_a_chat_whose_first_message_is_refused_does_not_stay(
    page: Page, served: Daemon, watch: Watch
) -> None:
    watch.allow("400")
    delete_chats(served)
    prefer(page, model="hello")
    give(page, "x.png", documents.png())
    page.locator(".attached li:not(.uploading)").wait_for()
    say(page, "What is this?")
    page.get_by_role("alert").wait_for()
    until(lambda: served.ask("GET", "/api/chats").json()["chats"] == [], "it is deleted")
    page.get_by_text("No chats yet").wait_for()
    assert field(page).input_value() == "What is this?" and "x.png" in attached(page)[0]
    button(page, "Remove x.png").click()
    field(page).press("Enter")
    finished(page)


@pytest.mark.long
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


@pytest.mark.long
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


@pytest.mark.long
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
