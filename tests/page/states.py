"""The page in each of its states, for what looks at all of them: the check of accessibility, and pictures for people.

python -m tests.page.states FOLDER        a picture of each state, light and dark, at 1280 and 360 pixels
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.served import Daemon, serve

from .chats import delete_chats, new_chat, stored_chat, write
from .hand import button, finished, messages, open_chat, say, written
from .models import MARKDOWN, make_models

if TYPE_CHECKING:
    from playwright.sync_api import Page

State = Callable[["Page", Daemon], None]


def empty(page: Page, daemon: Daemon) -> None:
    """A new chat, and no other."""
    page.goto("/")
    page.get_by_text("No chats yet").wait_for(state="attached")


def conversation(page: Page, daemon: Daemon) -> None:
    """Some chats, and one with an answer of many parts."""
    stored_chat(daemon, "An older one", "Yes", title="Groceries", pinned=True)
    stored_chat(
        daemon, "A third", "Yes", title="A title that is much too long for the list of chats"
    )
    chat = stored_chat(daemon, "How do I find the roots?", MARKDOWN, "And with numbers?")
    open_chat(page, chat)
    answer = daemon.ask("POST", f"/api/chats/{chat}/messages", {"model": "hello"})
    assert answer.status == 200, answer.body
    page.reload()
    finished(page, 2)
    page.locator("article math").first.wait_for(state="attached")


def figures(page: Page, daemon: Daemon) -> None:
    """An answer's figures, thinking and tool call unfolded."""
    chat = new_chat(daemon, "think")
    open_chat(page, chat)
    say(page, "Five and more?")
    for details in finished(page).locator("details").all():
        details.locator("summary").click()


def branches(page: Page, daemon: Daemon) -> None:
    chat = stored_chat(daemon, "Hi", "One")
    [question] = [m for m in daemon.ask("GET", f"/api/chats/{chat}").json()["messages"]][:1]
    write(daemon, chat, "assistant", "Two", parent=question["id"])
    open_chat(page, chat)
    page.get_by_role("group", name="Version 2 of 2").wait_for()


def writing(page: Page, daemon: Daemon) -> None:
    """An answer that is being written, and a message that waits for it."""
    open_chat(page, new_chat(daemon, "long", title="Being written"))
    say(page, "Go")
    written(page)
    say(page, "And then this")


def failed(page: Page, daemon: Daemon) -> None:
    """An answer that failed, and a notice of an error."""
    chat = stored_chat(daemon, "Hi", "Hello")
    assert daemon.ask("PATCH", f"/api/chats/{chat}", {"model": "gone"}).status == 200
    open_chat(page, chat)
    say(page, "Again")
    page.get_by_text("not found").first.wait_for()


def editing(page: Page, daemon: Daemon) -> None:
    open_chat(page, stored_chat(daemon, "A question with a mistake", "Yes"))
    button(messages(page).first, "Edit").click()


def menu(page: Page, daemon: Daemon) -> None:
    open_chat(page, stored_chat(daemon, "Hi", "Hello"))
    button(page.locator("header"), "This chat").click()
    page.get_by_role("menu").wait_for()


def rename(page: Page, daemon: Daemon) -> None:
    menu(page, daemon)
    page.get_by_role("menuitem", name="Rename…").click()
    page.get_by_role("dialog").wait_for()


def preferences(page: Page, daemon: Daemon) -> None:
    page.goto("/")
    page.keyboard.press("Control+,")
    page.get_by_role("dialog").wait_for()


def palette(page: Page, daemon: Daemon) -> None:
    stored_chat(daemon, "Hi", "Hello")
    page.goto("/")
    page.keyboard.press("Control+k")
    page.get_by_role("dialog").wait_for()


def help_sheet(page: Page, daemon: Daemon) -> None:
    page.goto("/")
    button(page.locator("header"), "This chat").click()
    page.get_by_role("menuitem", name="Keyboard shortcuts").click()
    page.get_by_role("dialog").wait_for()


def right_to_left(page: Page, daemon: Daemon) -> None:
    arabic = "ما هي عاصمة فرنسا؟"
    answer = "عاصمة فرنسا هي **باريس**.\n\n- نهر السين\n- برج إيفل\n\n```python\nprint(1)\n```\n"
    open_chat(page, stored_chat(daemon, arabic, answer, title=arabic))
    finished(page)


def settings(page: Page, daemon: Daemon) -> None:
    open_chat(page, stored_chat(daemon, "Hi", "Hello"))
    button(page, "Settings of this chat").click()
    page.get_by_role("dialog").wait_for()


def filled_settings(page: Page, daemon: Daemon) -> None:
    """All fields, a preset, and a schema with a mistake."""
    assert daemon.ask("PUT", "/api/presets/Terse", {"system": "Be terse."}).status == 200
    settings(page, daemon)
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Form of answers").select_option("schema")
    dialog.get_by_role("textbox", name="JSON by a schema").fill('{"type": "objekt"}')
    dialog.get_by_text("is no type").wait_for()
    dialog.get_by_text("More options").click()


def model_picker(page: Page, daemon: Daemon) -> None:
    page.goto("/")
    page.keyboard.press("Control+.")
    page.get_by_role("option").first.wait_for()


def models(page: Page, daemon: Daemon) -> None:
    """The installed models."""
    model_picker(page, daemon)
    button(page.get_by_role("dialog"), "Models").click()
    page.get_by_role("dialog", name="Models").get_by_role("listitem").first.wait_for()


def catalogue(page: Page, daemon: Daemon) -> None:
    """A family of the catalogue, unfolded, and a pull that failed."""
    models(page, daemon)
    page.get_by_role("tab", name="Get").click()
    page.get_by_role("searchbox", name="A name to pull").fill("gpt-oss")
    page.get_by_role("button", name="Pull gpt-oss:20b").wait_for()
    button(page.get_by_role("dialog"), "Pull").first.click()
    page.get_by_role("button", name="Try gpt-oss again").wait_for()


def running(page: Page, daemon: Daemon) -> None:
    """A loaded model."""
    daemon.generate("hello", keep_alive="5m")
    models(page, daemon)
    page.get_by_role("tab", name="Running").click()
    page.get_by_role("button", name="Unload hello").wait_for()


def modelfile(page: Page, daemon: Daemon) -> None:
    """A Modelfile with a mistake and a warning."""
    models(page, daemon)
    page.get_by_role("tab", name="Create").click()
    text = "FROM hello\nPARAMETER top_p 7\nPARAMETER tempratur 1\n"
    page.get_by_role("textbox", name="Modelfile").fill(text)
    page.get_by_role("button", name="Line 3").wait_for()


def model_details(page: Page, daemon: Daemon) -> None:
    """All details of a model, unfolded."""
    models(page, daemon)
    button(page.get_by_role("dialog"), "think").click()
    page.get_by_role("dialog", name="think").get_by_text("Architecture", exact=True).wait_for()
    page.evaluate(
        "document.querySelectorAll('.details > details').forEach(each => each.open = true)"
    )


def side_by_side(page: Page, daemon: Daemon) -> None:
    """An answer on each side."""
    open_chat(page, new_chat(daemon, "think"))
    page.keyboard.press("Control+.")
    button(page.get_by_role("dialog"), "Side by side").click()
    dialog = page.get_by_role("dialog", name="Side by side")
    dialog.get_by_role("textbox", name="Message").fill("Five and more?")
    page.keyboard.press("Enter")
    dialog.locator(".figures").nth(1).wait_for()


STATES: dict[str, State] = {
    each.__name__: each
    for each in (
        empty, conversation, figures, branches, writing, failed, editing, menu, rename, preferences, palette, help_sheet,
        right_to_left, settings, filled_settings, model_picker, models, catalogue, running, modelfile, model_details, side_by_side,
    )
}  # fmt: skip

LOOKS: dict[str, dict[str, Any]] = {
    f"{scheme}-{width}": {"color_scheme": scheme, "viewport": {"width": width, "height": height}}
    for scheme in ("light", "dark")
    for width, height in ((1280, 800), (360, 740))
}
"""The options of a browser context for each look."""


def main(folder: Path, *names: str) -> None:
    """Write a picture of each state (or of those named) in each look to a folder."""
    from playwright.sync_api import sync_playwright

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        root = Path(temporary)
        for name in ("models", "gguf", "home"):
            (root / name).mkdir()
        make_models(root / "models", root / "gguf", only=("hello", "think", "long", "city"))
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium")
        with serve(root / "home", root / "models") as daemon:
            for name in names or STATES:
                for look, options in LOOKS.items():
                    delete_chats(daemon)
                    context = browser.new_context(
                        base_url=daemon.url, reduced_motion="reduce", **options
                    )
                    page = context.new_page()
                    page.set_default_timeout(10_000)
                    try:
                        STATES[name](page, daemon)
                    except Exception as error:
                        print(f"{name} {look}: {str(error).splitlines()[0]}")
                    page.screenshot(path=folder / f"{name}-{look}.png")
                    context.close()
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
