"""Models in the page: choosing one, pulling, what is installed and loaded, details, creating."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.registry.fake_hub import FakeHub
from tests.served import Daemon, until
from tests.small_models import CHATML, random_model

from .chats import new_chat, read_chat, stored_chat
from .hand import button, choose, field, finished, open_chat, say
from .models import HELLO

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.browser


def picker(page: Page) -> Locator:
    return page.locator("header").get_by_role("button", name=re.compile("^(Model:|Choose a model)"))


def open_models(page: Page, tab: str = "Installed") -> Locator:
    """Open the dialog about models by the picker, at a tab; the dialog."""
    picker(page).click()
    button(page.get_by_role("dialog", name="Choose a model"), "Models").click()
    dialog = page.get_by_role("dialog", name="Models")
    dialog.get_by_role("tab", name=tab, exact=True).click()
    return dialog


def names(daemon: Daemon) -> set[str]:
    return {model["name"] for model in daemon.ask("GET", "/api/tags").json()["models"]}


def loaded(daemon: Daemon) -> set[str]:
    return {model["name"] for model in daemon.ask("GET", "/api/ps").json()["models"]}


def delete(daemon: Daemon, name: str) -> None:
    daemon.ask("DELETE", "/api/delete", {"model": name})


@pytest.fixture
def repository(hub: FakeHub, served: Daemon, tmp_path: Path) -> Iterator[str]:
    """The name of a model that can be pulled, 2.9 MB; not installed afterwards."""
    path = random_model(tmp_path / "m.gguf", n_embd=128, n_ff=320, n_layers=4, chat_template=CHATML)
    hub.add_repo("page/small", {"small-F32.gguf": path.read_bytes()})
    yield "hf.co/page/small"
    hub.faults.clear()
    for name in names(served):
        if "page/small" in name:
            delete(served, name)


def test_another_model_is_chosen_by_keyboard(page: Page, served: Daemon) -> None:
    chat = stored_chat(served, "Hi", "Hello", model="city")
    open_chat(page, chat)
    assert "city" in picker(page).inner_text()
    page.keyboard.press("Control+.")
    search = page.get_by_role("combobox")
    search.fill("hel")
    option = page.get_by_role("option", name=re.compile("^hello"))
    option.wait_for()
    assert re.search(r"F32.*kB|F32.*MB", option.inner_text().replace("\n", " "))
    search.press("Enter")
    until(lambda: read_chat(served, chat)["model"].startswith("hello"), "the model is changed")
    say(page, "And you?")
    assert HELLO in finished(page, 2).inner_text()


def test_the_picker_tells_what_is_loaded(page: Page, served: Daemon) -> None:
    served.generate("hello", "", keep_alive="5m")
    open_chat(page, new_chat(served, "hello"))
    until(
        lambda: "Loaded" in (picker(page).get_attribute("aria-label") or ""), "the picker shows it"
    )
    picker(page).click()
    assert "Loaded" in page.get_by_role("option", name=re.compile("^hello")).inner_text()


def test_a_model_is_pulled_by_name(page: Page, served: Daemon, repository: str) -> None:
    page.goto("/")
    dialog = open_models(page, "Get")
    dialog.get_by_role("searchbox").fill(repository)
    button(dialog, "Pull").first.click()
    dialog.get_by_text("Done", exact=True).wait_for()
    assert any("page/small" in name for name in names(served))
    dialog.get_by_role("tab", name="Installed").click()
    dialog.get_by_role("button", name="page/small", exact=False).first.wait_for()


@pytest.mark.long
def test_what_is_not_installed_is_pulled_from_the_picker(page: Page, served: Daemon, repository: str) -> None:  # fmt: skip
    page.goto("/")
    page.keyboard.press("Control+.")
    page.get_by_role("combobox", name="Search models").fill(repository)
    page.get_by_role("option", name=f"Pull {repository}").click()
    page.get_by_role("dialog", name="Models").get_by_text("Done", exact=True).wait_for()
    assert any("page/small" in name for name in names(served))


@pytest.mark.long
def test_a_pull_is_cancelled_and_resumed(
    page: Page, served: Daemon, hub: FakeHub, repository: str
) -> None:
    hub.fault("cdn", cap=150_000, times=99)
    page.goto("/")
    dialog = open_models(page, "Get")
    dialog.get_by_role("searchbox").fill(repository)
    button(dialog, "Pull").first.click()
    jobs = dialog.get_by_role("list", name="Pulls and creations").get_by_role("listitem")
    until(lambda: re.search(r"[1-9]\d* kB of \d", jobs.first.inner_text()), "some of it has come")
    page.reload()  # the pull does not belong to the page
    dialog = open_models(page, "Get")
    jobs = dialog.get_by_role("list", name="Pulls and creations").get_by_role("listitem")
    jobs.first.get_by_role("button", name=re.compile("^Cancel")).click()
    jobs.first.get_by_text(re.compile("it can go on from there")).wait_for()
    assert not any("page/small" in name for name in names(served))
    hub.faults.clear()
    jobs.first.get_by_role("button", name=re.compile("^Resume")).click()
    until(lambda: any("page/small" in name for name in names(served)), "it is pulled")


@pytest.mark.long
def test_the_hub_is_searched(page: Page, served: Daemon, repository: str) -> None:
    page.goto("/")
    dialog = open_models(page, "Get")
    dialog.get_by_role("searchbox").fill("small")
    found = dialog.get_by_role("group").filter(has_text="page/small")
    found.locator("summary").click()
    found.get_by_role("button", name=re.compile("^Pull")).wait_for()


@pytest.mark.long
def test_the_reason_is_shown_where_a_name_is_not_there(page: Page, served: Daemon) -> None:
    page.goto("/")
    dialog = open_models(page, "Get")
    dialog.get_by_role("searchbox").fill("hf.co/no/such")
    button(dialog, "Pull").first.click()
    dialog.get_by_text(re.compile("not found|no such|does not exist")).first.wait_for()


def test_the_catalogue_is_searched(page: Page, served: Daemon) -> None:
    page.goto("/")
    dialog = open_models(page, "Get")
    dialog.get_by_role("searchbox").fill("qwen3")
    dialog.get_by_role("group").filter(has_text="qwen3").first.wait_for()


@pytest.mark.long
def test_a_model_is_copied_and_deleted(page: Page, served: Daemon) -> None:
    page.goto("/")
    dialog = open_models(page)
    choose(page, button(dialog, "Actions for hello"), "Copy…")
    name = page.get_by_role("dialog").last.get_by_role("textbox", name="Name")
    name.fill("hello-two")
    name.press("Enter")
    until(lambda: "hello-two:latest" in names(served), "it is copied")
    choose(page, button(dialog, "Actions for hello-two"), "Delete…")
    button(page.get_by_role("dialog").last, "Delete").click()
    until(lambda: "hello-two:latest" not in names(served), "it is deleted")
    button(dialog, "Actions for hello-two").wait_for(state="detached")


def test_a_model_is_loaded_and_unloaded(page: Page, served: Daemon) -> None:
    served.generate("city", "", keep_alive=0)
    page.goto("/")
    dialog = open_models(page)
    choose(page, button(dialog, "Actions for city"), "Load")
    dialog.get_by_role("tab", name="Running").click()
    button(dialog, "Unload city").wait_for()
    assert "city:latest" in loaded(served)
    row = dialog.get_by_role("listitem").filter(has_text="city")
    assert re.search(r"takes about [\d.]+ [kMG]B", row.inner_text())
    until(lambda: re.search(r"unloads in \d+ (s|min)", row.inner_text()), "it is loaded")
    button(dialog, "Unload city").click()
    until(lambda: "city:latest" not in loaded(served), "it is unloaded")


def test_details_show_all_of_a_model(page: Page, served: Daemon) -> None:
    page.goto("/")
    button(open_models(page), "hello").click()
    details = page.get_by_role("dialog", name="hello")
    text = until(
        lambda: details.get_by_text("general.architecture").count() and details.text_content(),
        "its details are shown",
    )
    for part in ("llama", "F32", "FROM", "<|im_start|>", "token_embd.weight", "sha256"):
        assert part in text, part


def test_a_model_is_created_from_a_modelfile(page: Page, served: Daemon) -> None:
    page.goto("/")
    dialog = open_models(page, "Create")
    dialog.get_by_role("textbox", name="Name").fill("made-here")
    editor = dialog.get_by_role("textbox", name="Modelfile")
    editor.fill("FROM hello\nPARAMETER temprature 2\n")
    finding = dialog.get_by_role("button", name=re.compile("Line 2"))
    finding.wait_for()
    finding.click()
    assert editor.evaluate("each => each.value.slice(each.selectionStart, each.selectionEnd)")
    editor.fill("FROM hello\nSYSTEM Be brief.\n")
    finding.wait_for(state="detached")
    button(dialog, "Create a model").click()
    until(lambda: "made-here:latest" in names(served), "it is created")
    assert served.ask("POST", "/api/show", {"model": "made-here"}).json()["system"] == "Be brief."
    delete(served, "made-here")


def test_the_model_of_a_chat_is_not_installed(page: Page, served: Daemon) -> None:
    """The button says so, and its pull is offered first."""
    chat = stored_chat(served, "Hi", "Hello")
    assert served.ask("PATCH", f"/api/chats/{chat}", {"model": "gone"}).status == 200
    open_chat(page, chat)
    until(
        lambda: "Not installed" in (picker(page).get_attribute("aria-label") or ""),
        "the picker shows it",
    )
    picker(page).click()
    assert page.get_by_role("option").first.inner_text() == "Pull gone"


def test_without_any_model_the_page_offers_to_get_one(page: Page, served: Daemon) -> None:
    page.route("**/api/tags", lambda route: route.fulfill(json={"models": []}))
    page.goto("/")
    page.get_by_text("No model is installed yet").wait_for()
    search = page.get_by_role("dialog", name="Models").get_by_role("searchbox")
    for place in ("header", "#composer"):
        button(page.locator(place), "Get a model").click()
        search.wait_for()
        page.keyboard.press("Escape")
    field(page).fill("Hi")
    field(page).press("Enter")
    search.wait_for()
    assert field(page).input_value() == "Hi"
