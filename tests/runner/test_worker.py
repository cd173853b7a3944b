"""In which order requests are prepared."""

from __future__ import annotations

from ollamapy.runner import protocol
from ollamapy.runner.worker import ShortestFirst
from ollamapy.types import Constraint, Generation, Prompt


def frame(id: int, text: str) -> protocol.Generate:
    return protocol.Generate(id, Generation(Prompt(("a",)), constraint=Constraint("gbnf", text)))


def test_the_shortest_constraint_is_next_and_of_equals_the_first() -> None:
    inbox = ShortestFirst()
    for each in (frame(1, "long" * 9), frame(2, "ab"), frame(3, "cd"), frame(4, "e")):
        inbox.put(each)
    assert [inbox.get().id for _ in range(4)] == [4, 2, 3, 1]
