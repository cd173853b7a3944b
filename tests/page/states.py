"""The page in each of its states, for what looks at all of them: the check of accessibility, and pictures for people.

python -m tests.page.states FOLDER        a picture of each state, light and dark, at 1280 and 360 pixels
"""

from __future__ import annotations

import json
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


def no_models(page: Page, daemon: Daemon) -> None:
    """Nothing is installed."""
    page.route("**/api/tags", lambda route: route.fulfill(json={"models": []}))
    page.goto("/")
    page.get_by_text("No model is installed yet").wait_for()


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


def tool_call(page: Page, daemon: Daemon) -> None:
    """A tool call, unfolded, and its result."""
    chat = new_chat(daemon, "tool")
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": {}}}
    body = {"content": "How is the weather in Paris?", "tools": [tool]}
    assert daemon.ask("POST", f"/api/chats/{chat}/messages", body).status == 200
    write(daemon, chat, "tool", '{"sky": "clear", "temperature": 21}', tool_name="get_weather")
    open_chat(page, chat)
    finished(page).locator("details.call summary").click()


def attachments(page: Page, daemon: Daemon) -> None:
    """A message with a file, and two files that are attached to the next."""
    open_chat(page, new_chat(daemon))
    attach(page, "notes.txt")
    say(page, "What is in it?")
    finished(page)
    attach(page, "a_file_with_quite_a_long_name_that_does_not_fit_into_a_line_of_a_phone.py")
    attach(page, "b.md")


def attach(page: Page, name: str) -> None:
    """Attach a small text file, and wait until the daemon has it."""
    content = b"Some text.\n" * 100
    page.locator("input[type=file]").set_input_files(
        {"name": name, "mimeType": "text/plain", "buffer": content}
    )
    page.locator(".attached li:not(.uploading)").filter(has_text=name).wait_for()


def temporary(page: Page, daemon: Daemon) -> None:
    page.goto("/")
    page.keyboard.press("Control+Shift+P")
    page.get_by_text("This chat is not stored").wait_for()


NO_EVENTS = "(real => window.fetch = (path, ...more) => `${path}`.includes('/events?') ? new Promise(() => 0) : real(path, ...more))(fetch)"
"""A script by which an answer does not go on."""


def loading(page: Page, daemon: Daemon) -> None:
    """An answer that waits for its model, which is being loaded."""
    chat = new_chat(daemon)
    first = {"chat": chat, "user": "msg_u", "assistant": "msg_a", "parent": "msg_u"}
    stage = {"stage": "weights", "fraction": 0.4}
    events = f"id: 1\nevent: message\ndata: {json.dumps(first)}\n\nevent: loading\ndata: {json.dumps(stage)}\n\n"
    page.route(
        "**/messages?html=true",
        lambda route: route.fulfill(body=events, content_type="text/event-stream"),
    )
    page.add_init_script(NO_EVENTS)
    open_chat(page, chat)
    say(page, "Hi")
    page.get_by_text("Loading the weights: 40 %").wait_for()


def offline(page: Page, daemon: Daemon) -> None:
    """The daemon does not answer any more."""
    open_chat(page, stored_chat(daemon, "Hi", "Hello"))
    page.context.set_offline(True)
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.get_by_text("The daemon cannot be reached").wait_for()
    page.context.set_offline(False)
    page.route("**/api/**", lambda route: route.abort())


def search(page: Page, daemon: Daemon) -> None:
    """Chats that a search has found, and a folder."""
    stored_chat(
        daemon, "Where do penguins live?", "In the south, on ice and on coasts.", folder="Animals"
    )
    stored_chat(
        daemon,
        "Ice cream",
        "Made of milk.",
        title="A title that is much too long for the list of chats",
    )
    page.goto("/")
    show_list(page)
    page.get_by_role("searchbox", name="Search chats").fill("ice")
    page.locator("nav mark").first.wait_for()


def show_list(page: Page) -> None:
    """Show the list of chats where it is hidden at first."""
    if not page.get_by_role("complementary").is_visible():
        button(page, "Show or hide the list of chats").click()


def folders(page: Page, daemon: Daemon) -> None:
    """The menu of folders."""
    stored_chat(daemon, "Where do penguins live?", "In the south.", folder="Animals")
    page.goto("/")
    show_list(page)
    button(page, "All chats").click()
    page.get_by_role("menuitemradio", name="Animals").wait_for()


def move(page: Page, daemon: Daemon) -> None:
    """The question for a folder."""
    stored_chat(daemon, "Where do penguins live?", "In the south.", folder="Animals")
    menu(page, daemon)
    page.get_by_role("menuitem", name="Move to folder…").click()
    page.get_by_role("dialog").wait_for()


def undo(page: Page, daemon: Daemon) -> None:
    """A chat that was just deleted."""
    menu(page, daemon)
    page.get_by_role("menuitem", name="Delete").click()
    button(page, "Undo").wait_for()


def message_menu(page: Page, daemon: Daemon) -> None:
    open_chat(page, stored_chat(daemon, "Hi", "Hello"))
    button(finished(page), "More").click()
    page.get_by_role("menu").wait_for()


def confirm(page: Page, daemon: Daemon) -> None:
    """The question before a message is deleted."""
    message_menu(page, daemon)
    page.get_by_role("menuitem", name="Delete this message").click()
    page.get_by_role("dialog").wait_for()


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


HUB = {"models": [
    {"name": "hf.co/someone/a-model-with-a-long-name-7b-instruct-v2.1-GGUF", "repo": "someone/a-model-with-a-long-name-7b-instruct-v2.1-GGUF",
     "downloads": 123456, "likes": 789, "updated_at": "2026-05-04T03:02:01Z", "use": "text-generation"},
    {"name": "hf.co/other/embedder-GGUF", "repo": "other/embedder-GGUF", "downloads": 12, "likes": 1, "gated": True, "use": "feature-extraction"},
]}  # fmt: skip
REMOTE = {"details": {"family": "llama", "parameter_size": "7.2B"}, "free": 8 * 10**9, "fits": [
    {"name": "hf.co/someone/x:Q4_K_M", "quantization": "Q4_K_M", "size": 4_100_000_000, "needs": [{"context": 8192, "bytes": 5_000_000_000, "fits": True}]},
    {"name": "hf.co/someone/x:F16", "quantization": "F16", "size": 14_000_000_000, "needs": [{"context": 4096, "bytes": 15_000_000_000, "fits": False}]},
]}  # fmt: skip


def hub(page: Page, daemon: Daemon) -> None:
    """What a search of the hub has found, one of it unfolded."""
    page.route("**/api/hub?*", lambda route: route.fulfill(json=HUB))
    page.route("**/api/remote?*", lambda route: route.fulfill(json=REMOTE))
    models(page, daemon)
    page.get_by_role("tab", name="Get").click()
    page.get_by_role("searchbox", name="A name to pull").fill("long-name")
    page.get_by_text("someone/a-model").click()
    page.get_by_text("Q4_K_M", exact=True).wait_for()


def job(status: str, **fields: Any) -> dict[str, Any]:
    empty = {
        "kind": "pull",
        "created_at": "2026-05-04T03:02:01Z",
        "background": True,
        "progress": None,
        "error": None,
    }
    return {
        "id": status,
        "model": f"hf.co/someone/{status}:Q4_K_M",
        "status": status,
        "completed": 1_230_000_000,
        "total": 4_100_000_000,
        **empty,
        **fields,
    }


JOBS = {"jobs": [
    job("running", progress={"status": "pulling 0123456789abcdef"}),
    job("cancelled"),
    job("failed", error={"message": "the disk is full: 3.1 GB are needed, 0.2 GB are free"}),
    job("done", completed=4_100_000_000, progress={"status": "success"}),
]}  # fmt: skip


def jobs(page: Page, daemon: Daemon) -> None:
    """Pulls in all their states."""
    page.route("**/api/jobs", lambda route: route.fulfill(json=JOBS))
    models(page, daemon)
    page.get_by_role("tab", name="Get").click()
    button(page, "Cancel hf.co/someone/running:Q4_K_M").wait_for()


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
    dialog.get_by_role("region", name="right side").locator(".picker-button").click()
    page.get_by_role("option", name="hello").click()
    dialog.get_by_role("textbox", name="Message").fill("Five and more?")
    page.keyboard.press("Enter")
    dialog.locator(".figures").nth(1).wait_for()


STATES: dict[str, State] = {
    each.__name__: each
    for each in (
        empty, no_models, temporary, conversation, figures, tool_call, branches, loading, writing, failed, offline, editing, attachments,
        search, folders, undo, menu, message_menu, rename, move, confirm, preferences, palette, help_sheet, right_to_left, settings,
        filled_settings, model_picker, models, catalogue, hub, jobs, running, modelfile, model_details, side_by_side,
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
        make_models(root / "models", root / "gguf", only=("hello", "think", "long", "city", "tool"))
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
