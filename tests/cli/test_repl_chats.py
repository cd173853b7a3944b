"""The chat in the terminal as a chat that the daemon keeps: in a pseudo-terminal, with the real daemon."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import HELLO
from tests.documents import docx, paragraph
from tests.served import Daemon, serve, until

from .chats import Chat, Start, llama

Run = Callable[..., Chat]


@pytest.fixture(scope="module")
def keeper(model_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon whose chats are those of this module's tests alone."""
    with serve(tmp_path_factory.mktemp("keeper"), model_store) as running:
        yield running


@pytest.fixture
def run(start: Start, keeper: Daemon) -> Iterator[Run]:
    """Starts `ollamapy run` against it; all chats are gone at the end of the test."""

    def begin(*arguments: str, columns: int = 80, **extra: str) -> Chat:
        command = (sys.executable, "-m", "ollamapy", "run", *arguments)
        return start(*command, columns=columns, OLLAMAPY_HOST=keeper.url, **extra)

    yield begin
    for chat in chats(keeper):
        keeper.ask("DELETE", f"/api/chats/{chat['id']}")


def chats(keeper: Daemon) -> list[Any]:
    return list(keeper.ask("GET", "/api/chats?archived=all").json()["chats"])


def texts(keeper: Daemon) -> list[str]:
    """The messages of the only chat, in the order in which they were made."""
    [chat] = chats(keeper)
    whole = keeper.ask("GET", f"/api/chats/{chat['id']}").json()
    return [message["content"] for message in whole["messages"]]


# ---- keeping


@llama
def test_a_chat_begins_with_its_first_message(run: Run, keeper: Daemon) -> None:
    it = run("hello", "--system", "Be brief.", "-o", "seed=7").prompted(1)
    assert chats(keeper) == []
    it.enter("Why is the sky blue?")
    it.prompted(2)
    assert it.lines[:3] == [">>> Why is the sky blue?", HELLO, ""]
    [chat] = chats(keeper)
    assert (chat["title"], chat["model"]) == ("Why is the sky blue?", "hello")
    assert (chat["system"], chat["options"]) == ("Be brief.", {"seed": 7})
    it.enter("/set parameter seed 8")
    it.prompted(3).enter("And at night?")
    it.prompted(4)
    assert it.leave() == 0
    [chat] = chats(keeper)
    assert chat["options"] == {"seed": 8}
    assert texts(keeper) == ["Why is the sky blue?", HELLO, "And at night?", HELLO]


@llama
def test_a_prompt_that_is_an_argument_begins_none(run: Run, keeper: Daemon) -> None:
    it = run("hello", "Hi")
    assert it.status() == 0 and HELLO in it.screen
    assert chats(keeper) == []


@llama
def test_it_is_gone_on_with(run: Run, keeper: Daemon) -> None:
    it = run("hello", "-o", "seed=3").prompted(1)
    it.enter("The first")
    it.prompted(2)
    assert it.leave() == 0
    [chat] = chats(keeper)
    again = run("hello", "--continue").prompted(2)
    assert again.lines[:3] == [">>> The first", HELLO, ""]
    again.enter("/show parameters")
    again.until("seed                           3").prompted(3)
    again.enter("The second")
    again.prompted(4)
    assert again.leave() == 0
    assert texts(keeper) == ["The first", HELLO, "The second", HELLO]
    short = chat["id"].removeprefix("chat_")[:6]
    once = run("hello", "--chat", f"chat_{short}", "The third")
    assert once.status() == 0 and once.lines[0] == HELLO
    whole = run("--chat", "-").prompted(4)
    assert [line for line in whole.lines if line.startswith(">>> The")] == [
        ">>> The first",
        ">>> The second",
        ">>> The third",
    ]


@llama
def test_temporary_chats_are_not_listed_and_go_with_the_terminal(run: Run, keeper: Daemon) -> None:
    for flags, variables in (
        (["--temporary"], {}),
        ([], {"OLLAMAPY_NOHISTORY": "1"}),
    ):
        it = run("hello", *flags, **variables).prompted(1)
        it.enter("secret")
        it.prompted(2).enter("/retry")
        it.prompted(3)
        assert chats(keeper) == []
        it.enter("/show info")
        it.until("chat_")
        id = next(line.split()[1] for line in it.lines if line.split()[:1] == ["chat"])
        assert keeper.ask("GET", f"/api/chats/{id}").status == 200
        it.prompted(4)
        assert it.leave() == 0
        assert keeper.ask("GET", f"/api/chats/{id}").status == 404


@llama
def test_each_story_is_a_chat(run: Run, keeper: Daemon) -> None:
    it = run("tinystories", "-o", "seed=1", "-o", "num_predict=5").prompted(1)
    it.enter("Once upon a time")
    it.prompted(2).enter("")
    it.until("goes on").prompted(3)
    [chat] = chats(keeper)
    assert chat["title"] == "Once upon a time" and chat["n_messages"] == 2
    assert chat["options"] == {"context_policy": "shift", "seed": 1, "num_predict": 5}
    told = texts(keeper)[1]
    shown = it.words.replace(" >>>", "")
    assert " ".join(told.split()) in shown, "an empty line goes on with it"
    it.enter("/retry")
    it.prompted(4).enter("The cat")
    it.prompted(5)
    assert [chat["title"] for chat in chats(keeper)] == ["The cat", "Once upon a time"]
    it.enter("/clear")
    it.prompted(6).enter("")
    it.prompted(7)
    assert len(chats(keeper)) == 3
    again = run("tinystories", "--continue").prompted(2)
    again.enter("")
    again.prompted(3)
    assert len(chats(keeper)) == 3


@llama
@pytest.mark.long
def test_a_daemon_that_keeps_nothing(
    start: Start, model_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = tmp_path_factory.mktemp("home")
    command = (sys.executable, "-m", "ollamapy", "run", "hello")
    with serve(home, model_store, NOHISTORY="1") as first:
        it = start(*command, OLLAMAPY_HOST=first.url).prompted(1)
        it.enter("one")
        it.prompted(2)
        [chat] = first.ask("GET", "/api/chats").json()["chats"]
        assert chat["temporary"]
        first.end(signal.SIGKILL)
        port = first.port
    with serve(home, model_store, NOHISTORY="1", HOST=f"127.0.0.1:{port}") as second:
        it.enter("two")  # the daemon does not know this chat any more, the terminal does
        it.prompted(3).enter("/show info")
        it.until("messages        4").prompted(4)
        id = next(line.split()[1] for line in it.lines if line.split()[:1] == ["chat"])
        messages = second.ask("GET", f"/api/chats/{id}").json()["messages"]
        assert [each["content"] for each in messages] == ["one", HELLO, "two", HELLO]
        assert it.leave() == 0


# ---- files


@llama
def test_a_file_goes_with_the_next_message(run: Run, keeper: Daemon, tmp_path: Path) -> None:
    notes = tmp_path / "my notes.txt"
    notes.write_text("The answer is 42.\n")
    (tmp_path / "cat.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(8))
    with (tmp_path / "large.txt").open("wb") as file:
        file.truncate(40 * 2**20)
    it = run("hello", columns=160).prompted(1)
    for number, (line, said) in enumerate(
        {
            "/file": "No file is attached.",
            f"/file {tmp_path}/nosuch": "Error: there is no file",
            f"/file {tmp_path}": f"Error: there is no file '{tmp_path}'",
            f"/file {tmp_path}/cat.png": "cannot see images",
            f"/file {tmp_path}/large.txt": "Error: a file has at most 32 MiB",
            f"/file '{notes}'": "Attached 'my notes.txt' (18 B) to the next message.",
            "/file ": "Attached: my notes.txt",
            "What is the answer?": HELLO,
        }.items(),
        2,
    ):
        it.enter(line)
        it.until(said).prompted(number)
    [chat] = chats(keeper)
    [asked, _] = keeper.ask("GET", f"/api/chats/{chat['id']}").json()["messages"]
    assert asked["content"] == "What is the answer?"
    assert [part.get("name") for part in asked["parts"]] == [None, "my notes.txt"]
    it.enter("/edit And why?")
    it.prompted(10)
    messages = keeper.ask("GET", f"/api/chats/{chat['id']}").json()["messages"]
    assert [part.get("name") for part in messages[2]["parts"]] == [None, "my notes.txt"]
    again = run("--continue").until(">>> And why? [my notes.txt]")
    again.send("\x04")


@llama
def test_a_path_in_a_message_attaches_its_document(
    run: Run, keeper: Daemon, tmp_path: Path
) -> None:
    """As a terminal pastes it when a file is dropped on it."""
    letter = tmp_path / "my letter.docx"
    letter.write_bytes(docx(paragraph("A secret. " * 30)))
    (tmp_path / "bad.docx").write_bytes(b"PK\x03\x04")
    it = run("hello", columns=160).prompted(1)
    it.enter(f"{str(letter).replace(' ', chr(92) + ' ')} what is in it?")
    it.until(f"Added document '{letter}'").prompted(2)
    [chat] = chats(keeper)
    [asked, answered] = keeper.ask("GET", f"/api/chats/{chat['id']}").json()["messages"]
    assert asked["content"] == "what is in it?" and answered["content"] == HELLO
    assert [part.get("name") for part in asked["parts"]] == [None, "my letter.docx"]
    assert answered["usage"]["prompt_tokens"] > 300
    it.enter(f"/file {tmp_path}/bad.docx")
    it.until('Error: the document "bad.docx" is a damaged zip archive').prompted(3)
    assert it.leave() == 0


# ---- branches


@llama
def test_the_last_messages_are_tried_again(run: Run, keeper: Daemon) -> None:
    it = run("hello").prompted(1)
    it.enter("one")
    it.prompted(2).enter("two")
    it.prompted(3).enter("/retry")
    it.prompted(4)
    assert texts(keeper) == ["one", HELLO, "two", HELLO, HELLO]
    it.enter("/edit zwei")
    it.prompted(5)
    assert texts(keeper)[5:] == ["zwei", HELLO]
    it.enter("/undo")
    it.until("Took back: zwei").prompted(6).enter("three")
    it.prompted(7)
    assert texts(keeper)[7:] == ["three", HELLO]
    it.enter("/branch")
    it.until(f"* 4  three > {HELLO}").prompted(8)
    assert f"  1  two > {HELLO}" in it.screen and f"  3  zwei > {HELLO}" in it.screen
    it.enter("/branch 3")
    it.until(f">>> zwei\n{HELLO}\n\n>>>").enter("four")
    it.until(f">>> four\n{HELLO}\n\n>>>")
    messages = keeper.ask("GET", f"/api/chats/{chats(keeper)[0]['id']}").json()["messages"]
    [four] = [each for each in messages if each["content"] == "four"]
    [zwei] = [each for each in messages if each["content"] == "zwei"]
    [answer] = [each for each in messages if each["parent"] == zwei["id"]]
    assert four["parent"] == answer["id"]
    it.until(lambda: it.lines[-1].startswith(">>>")).enter("/branch 9")
    it.until("There are 4 branches.")


@llama
def test_a_message_is_edited_where_it_stands(run: Run, keeper: Daemon) -> None:
    it = run("hello").prompted(1)
    it.enter("/edit")
    it.until("There is no message to edit yet.").prompted(2)
    it.enter("What is a bird")
    it.prompted(3).enter("/edit")
    it.until(lambda: it.lines[-1] == ">>> What is a bird").send(" of prey?\r")
    it.prompted(5)
    assert texts(keeper) == ["What is a bird", HELLO, "What is a bird of prey?", HELLO]


@llama
def test_another_model_answers_once(run: Run, keeper: Daemon) -> None:
    it = run("hello").prompted(1)
    it.enter("one")
    it.prompted(2).enter("/retry rules")
    it.until("\nHello! I am a\n").prompted(3)
    it.enter("/retry nosuch")
    it.until("Error: model 'nosuch:latest' not found").prompted(4)
    it.enter("/retry plain")
    it.until("has no chat template").prompted(5)
    [chat] = chats(keeper)
    messages = keeper.ask("GET", f"/api/chats/{chat['id']}").json()["messages"]
    assert [each.get("model") for each in messages] == [None, "hello", "rules"]
    assert chat["model"] == "hello"


# ---- stopping, losing, taking up


@llama
def test_ctrl_c_stops_the_answer_which_is_gone_on_with(run: Run, keeper: Daemon) -> None:
    it = run("long", "-o", "num_predict=2000").prompted(1)
    it.enter("go")
    it.until(lambda: len(it.lines) > 5).send("\x03")
    it.until("[stopped]").prompted(2)
    [question, part] = texts(keeper)
    assert question == "go" and part.split()[-1] in it.screen
    shown = it.screen.partition("[stopped]")[0].partition("go")[2].split()
    assert "".join(shown) == "".join(part.split()), "what is on the screen is what is kept"
    it.enter("/continue")
    it.until(lambda: it.screen.count("[stopped]") == 1 and len(it.lines) > 12).send("\x03")
    it.until(lambda: it.screen.count("[stopped]") == 2)
    [question, whole] = texts(keeper)
    assert whole.startswith(part) and len(whole) > len(part)


@llama
def test_a_question_without_an_answer_is_taken_back(run: Run, keeper: Daemon) -> None:
    it = run("hello").prompted(1)
    it.enter("/continue")
    it.until("There is nothing to go on with").prompted(2)
    it.enter('/set format {"type": "nosuch"}')
    it.prompted(3).enter("Hi")
    it.until("Error: ").prompted(4)
    assert chats(keeper) == [], "a chat whose only question failed is none"
    it.enter("/set noformat")
    it.prompted(5).enter("one")
    it.prompted(6)
    runners = keeper.runners()
    for runner in runners:
        runner.suspend()
    try:
        it.enter("two")
        until(lambda: len(texts(keeper)) == 4, "the question is kept")
        it.send("\x03")
        it.until("[stopped]").prompted(7)
    finally:
        for runner in runners:
            runner.resume()
    assert texts(keeper) == ["one", HELLO]


@llama
def test_an_answer_goes_on_without_its_terminal(run: Run, keeper: Daemon) -> None:
    it = run("long", "-o", "num_predict=300").prompted(1)
    it.enter("go")
    it.until(lambda: len(it.lines) > 3)
    it.kill()
    [chat] = chats(keeper)
    again = run("--continue").until(">>> go")
    again.prompted(2)

    def ended() -> bool:
        whole = keeper.ask("GET", f"/api/chats/{chat['id']}").json()
        return bool(whole["messages"][1]["status"] == "done")

    assert ended(), "the second terminal followed it to its end"
    answer = texts(keeper)[1]
    shown = again.screen.partition("go\n")[2].rpartition(">>>")[0]
    assert "".join(shown.split()) == "".join(answer.split())


@llama
@pytest.mark.long
def test_the_end_of_the_daemon_leaves_the_part(
    start: Start, model_store: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = tmp_path_factory.mktemp("home")
    with serve(home, model_store) as first:
        command = (sys.executable, "-m", "ollamapy", "run", "long")
        it = start(*command, OLLAMAPY_HOST=first.url).prompted(1)
        it.enter("go")
        it.until(lambda: len(it.lines) > 6)
        first.end(signal.SIGKILL)
        port = first.port
    with serve(home, model_store, HOST=f"127.0.0.1:{port}") as second:
        it.until("[broken off]").until("Error: ").prompted(2)
        it.enter("/set parameter num_predict 10")
        it.prompted(3).enter("/continue")
        it.prompted(4)
        [chat] = second.ask("GET", "/api/chats").json()["chats"]
        [_, answer] = second.ask("GET", f"/api/chats/{chat['id']}").json()["messages"]
        assert answer["stop_reason"] == "length"
        assert it.leave() == 0


@llama
def test_two_terminals_agree(run: Run, keeper: Daemon) -> None:
    it = run("hello").prompted(1)
    it.enter("one")
    it.prompted(2)
    other = run("hello", "--continue").prompted(2)
    other.enter("two")
    other.prompted(3)
    it.enter("three")
    it.until("This chat has gone on elsewhere:").until(f">>> two\n{HELLO}\n\n{HELLO}")
    assert texts(keeper) == ["one", HELLO, "two", HELLO, "three", HELLO]


@llama
def test_a_chat_that_was_deleted_elsewhere(run: Run, keeper: Daemon) -> None:
    it = run("hello").prompted(1)
    it.enter("one")
    it.prompted(2)
    [chat] = chats(keeper)
    assert keeper.ask("DELETE", f"/api/chats/{chat['id']}").status == 204
    it.enter("two")
    it.until("was deleted").until("/clear").prompted(3)
    it.enter("/clear")
    it.prompted(4).enter("three")
    it.prompted(5)
    assert texts(keeper) == ["three", HELLO]


# ---- several chats


@llama
def test_chats_are_listed_named_and_resumed(run: Run, keeper: Daemon) -> None:
    it = run("hello", columns=60).prompted(1)
    it.enter("/chats")
    it.until("No chat is kept yet.").prompted(2)
    it.enter("A first question that is rather long and goes on and on")
    it.prompted(3).enter("/clear")
    it.prompted(4).enter("/title My second")
    it.until("Set title to 'My second'").prompted(5).enter("Hi")
    it.prompted(6).enter("/chats")
    it.until("ID ").prompted(7)
    listed = [line for line in it.lines if line.endswith("second ago") or " ago" in line]
    assert len(listed) == 2 and "My second" in listed[0]
    assert "A first" in listed[1] and "…" in listed[1]
    it.enter("/resume")
    it.until("A first question that is rather long and goes on and on\n>>> A first")
    it.enter("/title")
    it.until(lambda: it.screen.count("goes on and on") >= 4 and it.lines[-1].startswith(">>>"))
    it.enter("/resume nosuch")
    it.until("there is no chat 'nosuch'")


@llama
def test_control_characters_of_others_do_not_reach_the_terminal(run: Run, keeper: Daemon) -> None:
    evil = "\x1b]0;owned\x07\x1b[31mred\u202e\x9b2J"
    body = {"model": "hello", "title": evil, "system": evil, "folder": "f"}
    chat = keeper.ask("POST", "/api/chats", body).json()
    for role in ("user", "assistant"):
        message = {"role": role, "content": evil, "answer": False}
        assert keeper.ask("POST", f"/api/chats/{chat['id']}/messages", message).status == 201
    it = run("hello", "--continue").prompted(2)
    for number, line in enumerate(["/chats", "/title", "/branch", "/show system", "/show info"], 3):
        it.enter(line)
        it.prompted(number)
    for sequence in (b"\x1b]0;", b"\x1b[31mred", b"\x9b2J".decode("latin-1").encode()):
        assert sequence not in it.written
    assert "\u202e" not in it.written.decode(errors="replace")


@pytest.mark.long
def test_an_ollama_keeps_no_chats(start: Start, standin: Callable[..., Any]) -> None:
    server = standin("--kind", "ollama")
    it = start(sys.executable, "-m", "ollamapy", "run", "sees", OLLAMAPY_HOST=server.host)
    it.prompted(1).enter("/chats")
    it.until("Error: the server keeps no chats").prompted(2)
    it.enter("/title x")
    it.until(lambda: it.screen.count("keeps no chats") == 2).prompted(3)
    it.enter("/undo")
    it.until("There is no message to take back.").prompted(4)
    assert it.leave() == 0
