"""The commands of the chat, by what they change on the screen and in the next answer."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from tests.conftest import HELLO
from tests.served import Daemon, serve
from tests.small_models import install, scripted_model

from .chats import Start, llama
from .conftest import Standin


@llama
def test_settings(chat: Start) -> None:
    it = chat("rules").until("\n\n>>>")
    assert it.screen.startswith(">>> a\nb\n\n>>>"), "the model's messages are shown first"
    for number, (line, said) in enumerate(
        {
            "/set parameter seed 7": "Set parameter 'seed' to '7'",
            "/set parameter stop x y": "Set parameter 'stop' to 'x, y'",
            "/set parameter seed x": 'Couldn\'t set parameter: "invalid int value [x]"',
            "/show parameters": 'User defined parameters:\n  seed                           7\n  stop                           "x" "y"',
            "/show system": "Be kind.",
            "/set system Be rude.": "Set system message.",
            "/show system ": "Be rude.",
            "/show license": "No license was specified for this model.",
            "/show template": "{% for m in messages %}",
            "/show modelfile": "PARAMETER stop scripted",
            "/set nowordwrap": "Set 'nowordwrap' mode.",
            "/set verbose": "Set 'verbose' mode.",
            "/set nope": "Unknown command '/set nope'. Type /? for help",
            "/list rul": "rules:latest",
        }.items(),
        3,
    ):
        it.enter(line)
        it.until(said).prompted(number)
    it.enter("Hi")
    it.until("eval rate:")
    assert HELLO in it.screen, "the user's stop replaces the model's"


@llama
def test_form_and_thinking_are_set(chat: Start, tmp_path: Path) -> None:
    schema = tmp_path / "my schema.json"
    schema.write_text('{"enum": ["oneword"]}')
    it = chat("hello").prompted(1)
    for number, (line, said) in enumerate(
        {
            "/set format nosuch.json": "Error: the format must be json, a JSON Schema or a file with one",
            f"/set format {schema}": "Set format to 'schema' mode.",
            "Hi": '"oneword"',
            "/set noformat": "Disabled format.",
            "Hi again": HELLO,
            "/set think high": 'warning: model "hello" does not support thinking output',
            "Think!": 'Error: "hello" does not support thinking',
            "/set nothink": "Set 'nothink' mode.",
            "/clear": "Cleared",
            "And now?": HELLO,
        }.items(),
        2,
    ):
        it.enter(line)
        it.until(said).prompted(number)
    assert it.screen.count(HELLO) == 2


@llama
def test_thinking_is_shown_or_hidden(start: Start, tmp_path: Path) -> None:
    template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        "{% if enable_thinking %}{{ '<think>' }}{% else %}{{ '<think></think>' }}{% endif %}"
    )
    script = ["well", ", hm", "</think>", "Yes."]
    install(
        tmp_path,
        "thinker",
        scripted_model(tmp_path / "thinker.gguf", script, chat_template=template),
    )
    with serve(tmp_path, tmp_path) as daemon:
        command = (sys.executable, "-m", "ollamapy", "run", "thinker")
        host = f"127.0.0.1:{daemon.port}"
        it = start(*command, OLLAMAPY_HOST=host).prompted(1)
        it.enter("Is it?")
        it.prompted(2)
        assert it.lines[1:6] == ["Thinking...", "well, hm", "...done thinking.", "", "Yes."]
        it.enter("/set nothink")
        it.prompted(3).enter("And now?")
        it.prompted(4)
        assert it.screen.count("Thinking...") == 1
        hidden = start(*command, "--hidethinking", "--think=high", OLLAMAPY_HOST=host).prompted(1)
        hidden.enter("Is it?")
        hidden.prompted(2)
        assert hidden.lines[1] == "Yes."


def test_pictures_are_sent_to_a_model_that_sees(
    start: Start, standin: Callable[..., Standin], tmp_path: Path
) -> None:
    picture = tmp_path / "cat.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(8))
    (tmp_path / "text.png").write_text("no picture")
    server = standin()
    command = (sys.executable, "-m", "ollamapy", "run", "sees")
    it = start(*command, columns=200, OLLAMAPY_HOST=server.host).prompted(1)
    it.enter(f"{tmp_path}/text.png, what is it?")
    it.until("Error: invalid file type: ").prompted(2)
    it.enter(f"{picture} what is it?")  # a line that begins with "/" and is no command
    it.until(f"Added image '{picture}'").prompted(3)
    it.enter("/nosuch.png what is it?")
    it.until("Unknown command '/nosuch.png'").prompted(4)
    [message] = server.body("/api/chat")["messages"]
    assert message["content"] == "what is it?" and len(message["images"]) == 1
    assert it.leave() == 0


@llama
def test_show_info_has_the_session(chat: Start) -> None:
    it = chat("hello").until("hello 0/2048")
    it.enter("/show info")
    it.until("Session").until("context         2048").until("context used    0").prompted(2)
    it.enter("Hi")
    it.prompted(3)
    used = it.lines[-1].split()[-1].split("/")
    assert 0 < int(used[0]) < 2048 == int(used[1])


@llama
def test_help(chat: Start) -> None:
    it = chat("hello").prompted(1)
    it.enter("/?")
    it.until('Use """ to begin a multi-line message.').prompted(2)
    for line, text in (
        ("/? shortcuts", "Ctrl-R"),
        ("/set parameter", "num_ctx"),
        ("/show", "modelfile"),
    ):
        it.enter(line)
        it.until(text)


@llama
def test_another_model(chat: Start) -> None:
    it = chat("hello").prompted(1)
    it.enter("/load nosuch")
    it.until("Couldn't find model 'nosuch'").until("Installed: ").until("rules:latest").prompted(2)
    it.enter("/load")
    it.until("Usage:\n  /load <modelname>\nInstalled: ").prompted(3)
    it.enter("Hi")
    it.until(HELLO).prompted(4)
    it.enter("/load rules")
    it.until("Loading model 'rules'").until("\n>>> a\nb\n\n").prompted(6)
    it.enter("Hi")
    it.until("Hello! I am a\n")


@llama
def test_a_session_is_saved_as_a_model(chat: Start, daemon: Daemon) -> None:
    it = chat("hello").prompted(1)
    it.enter("/save a:b:c")
    it.until("error: The model name 'a:b:c' is invalid").prompted(2)
    it.enter("/set parameter seed 7")
    it.until("Set parameter").prompted(3)
    it.enter("Hi")
    it.until(HELLO).prompted(4)
    it.enter("/save kept")
    it.until("Created new model 'kept'").prompted(5)
    it.enter("/load kept")
    it.until("Loading model 'kept'").until(f"\n>>> Hi\n{HELLO}\n\n").prompted(7)
    it.enter("/show parameters")
    it.until("seed                           7")
    assert daemon.ask("DELETE", "/api/delete", {"model": "kept"}).status == 200
