"""The options of a model as a form of settings shows them, and the memory that lists show."""

from __future__ import annotations

from typing import Any

from tests.served import Daemon


def test_defaults_are_the_models_own_else_the_usual_ones(own: Daemon) -> None:
    answer = own.ask("GET", "/api/options?model=HELLO").json()
    assert answer["model"] == "hello:latest" and answer["system"] == "Be kind."
    assert answer["think_levels"] == [] and "completion" in answer["capabilities"]
    found: dict[str, Any] = {each["name"]: each for each in answer["options"]}
    assert found["temperature"] == {
        "name": "temperature",
        "type": "number",
        "when": "request",
        "default": 0.5,
        "is_model_default": True,
        "minimum": 0,
        "maximum": 100,
    }
    assert found["top_k"]["default"] == 40 and "is_model_default" not in found["top_k"]
    assert found["stop"]["default"] == ["END"] and found["stop"]["type"] == "array"
    context = found["num_ctx"]
    assert context["maximum"] == answer["context_length"] and context["when"] == "load"
    assert 0 < context["default"] <= context["maximum"]
    assert found["context_policy"]["choices"] == ["error", "drop-oldest", "shift"]


def test_an_option_is_what_a_request_gets(own: Daemon) -> None:
    """The default context is the one that the model is loaded with."""
    before = own.ask("GET", "/api/options?model=hello").json()["options"]
    assert own.generate("hello").status == 200
    [loaded] = own.ask("GET", "/api/ps").json()["models"]
    [context] = [each for each in before if each["name"] == "num_ctx"]
    assert loaded["context_length"] == context["default"]


def test_refused(daemon: Daemon) -> None:
    assert daemon.ask("GET", "/api/options").status == 400
    assert daemon.ask("GET", "/api/options?model=none").status == 404


def test_lists_tell_the_memory(own: Daemon) -> None:
    [stored] = [
        each for each in own.ask("GET", "/api/tags").json()["models"] if "hello" in each["name"]
    ]
    assert stored["size"] < stored["memory"] < 10**8
    running = own.ask("GET", "/api/ps").json()
    assert 0 < running["memory"]["free"] <= running["memory"]["total"]
    assert own.generate("hello").status == 200
    [loaded] = own.ask("GET", "/api/ps").json()["models"]
    assert (loaded["status"], loaded["fraction"], loaded["in_flight"]) == ("ready", 1, 0)
