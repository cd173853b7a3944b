"""Requests for models are checked before any file is looked at."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from ollamapy.chat import template as templates
from ollamapy.errors import InvalidRequest
from ollamapy.models.create.request import CreateRequest, check_template, checked
from ollamapy.types import Message


def test_templates_are_parsed_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight at once would keep the event loop from the interpreter's lock."""
    entered, go_on, order = threading.Event(), threading.Event(), list[str]()

    def parse(source: str) -> None:
        order.append(f"{source} begins")
        entered.set()
        go_on.wait()
        order.append(f"{source} ends")

    monkeypatch.setattr(templates, "check_go", parse)
    threads = [threading.Thread(target=check_template, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    entered.wait()
    go_on.set()
    for thread in threads:
        thread.join()
    assert [line.split()[1] for line in order] == ["begins", "ends"] * 3


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"licenses": ("x",) * 1025}, "1,025 licenses are too many, at most 1,024"),
        ({"messages": (Message("user", "a"),) * 10_001}, "10,001 messages are too many"),
    ],
)
def test_lists_are_counted(given: dict[str, Any], error: str) -> None:
    with pytest.raises(InvalidRequest, match=error):
        checked(CreateRequest("m", from_="base", **given))
