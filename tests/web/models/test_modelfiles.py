"""A Modelfile as a text: checked by the daemon, and a model created of it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.served import Daemon, until

MODELFILE = '''# mine
FROM hello
SYSTEM """You are a cat.
Say so."""
PARAMETER temperature 0.2
PARAMETER stop "a"
PARAMETER stop b
MESSAGE user Hi
MESSAGE assistant Meow
'''


def create(daemon: Daemon, text: str, **more: Any) -> Any:
    return daemon.ask("POST", "/api/create", {"model": "mine", "modelfile": text, **more})


def test_a_model_is_created_of_a_text(own: Daemon) -> None:
    answer = create(own, MODELFILE, stream=False)
    assert (answer.status, answer.json()["status"]) == (200, "success")
    shown = own.ask("POST", "/api/show", {"model": "mine"}).json()
    assert shown["system"] == "You are a cat.\nSay so."
    assert shown["parameters"].split() == [
        *("stop", '"a"', "stop", '"b"', "temperature", "0.2"),
    ]
    assert [each["content"] for each in shown["messages"]] == ["Hi", "Meow"]


def test_a_creation_in_the_background_is_a_job(own: Daemon) -> None:
    job = create(own, MODELFILE, background=True)
    assert job.status == 202 and job.json()["kind"] == "create"
    path = f"/api/jobs/{job.json()['id']}"
    until(lambda: own.ask("GET", path).json()["status"] == "done", "the creation is done")
    assert own.ask("POST", "/api/show", {"model": "mine"}).status == 200


@pytest.mark.long
def test_fields_beside_the_text_take_precedence(own: Daemon) -> None:
    assert create(own, MODELFILE, system="You are a dog.", stream=False).status == 200
    assert own.ask("POST", "/api/show", {"model": "mine"}).json()["system"] == "You are a dog."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("FROM /etc/passwd", "(line 1): a Modelfile that is sent to the daemon cannot name files"),
        ("FROM ./x.gguf", "cannot name files"),
        ("FROM ~/x", "cannot name files"),
        ("FROM hello\nADAPTER hello", "(line 2): a Modelfile that is sent"),
        ("FROM hello\nDRAFT x", "draft models are not supported"),
        ("FROM hello\nPARAMETER tempratur 1", "did you mean 'temperature'"),
        ("SYSTEM x", "no FROM line"),
        ("FROM hello\nTEMPLATE {{ .Nope", "template error"),
        ("FROM hello\nSYSTEM " + "x" * 2**20, "at most 1048576 characters"),
    ],
)
def test_what_cannot_be_created(daemon: Daemon, text: str, message: str) -> None:
    answer = create(daemon, text, stream=False)
    assert answer.status == 400 and message in answer.json()["error"]


@pytest.mark.parametrize(
    ("text", "findings"),
    [
        ("FROM hello", []),
        ("FROM hello\nPARAMETER top_p 7", [(2, 1, "warning", "top_p 7 makes no sense, write 0 to 1")]),
        ("\n FROM nothere", [(2, 2, "warning", "nothere is not installed, it is pulled first")]),
        ("FROM /etc/passwd", [(1, 1, "error", "a Modelfile that is sent to the daemon cannot name files: write a model's "
                                              "name, or use the command ollamapy create")]),
        ("FROM hello\nTEMPLATE {{ end }}", [(2, 1, "error", "the template is wrong: the model's chat template is wrong in line 1: unexpected {{end}}")]),
        ("", [(1, 1, "error", "no FROM line, add one that names a model or a file: FROM llama3.2 or FROM ./model.gguf")]),
        ("FROM a:b:c", [(1, 1, "error", "FROM names no file and no model: ")]),
    ],
)  # fmt: skip
def test_findings(daemon: Daemon, text: str, findings: list[tuple[int, int, str, str]]) -> None:
    found = daemon.ask("POST", "/api/lint", {"modelfile": text}).json()["findings"]
    places = [(each["line"], each["column"], each["severity"]) for each in found]
    assert places == [each[:3] for each in findings]
    for each, (*_, message) in zip(found, findings, strict=True):
        assert each["message"].startswith(message)
