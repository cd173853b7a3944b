"""A chat's messages as a tree."""

from __future__ import annotations

from typing import Any

import pytest

from ollamapy.cli import tree


def messages(**parents: str) -> list[dict[str, Any]]:
    """Messages by id, each with its parent; "" is none."""
    return [{"id": id, "parent": parent or None} for id, parent in parents.items()]


#   a - b - c - d
#        \- e - f - g      h is a second beginning
#            \- i
FOREST = messages(a="", b="a", c="b", d="c", e="b", f="e", g="f", h="", i="e")


@pytest.mark.parametrize(
    ("head", "path"), [("d", "abcd"), ("g", "abefg"), ("a", "a"), ("h", "h"), ("x", ""), (None, "")]
)
def test_the_path_to_a_message(head: str | None, path: str) -> None:
    assert "".join(each["id"] for each in tree.path(FOREST, head)) == path


def test_a_path_ends_where_a_parent_is_missing_or_comes_again() -> None:
    assert [m["id"] for m in tree.path(messages(b="a", c="b"), "c")] == ["b", "c"]
    assert [m["id"] for m in tree.path(messages(a="b", b="a"), "b")] == ["a", "b"]
    assert [m["id"] for m in tree.path(messages(a="a"), "a")] == ["a"]


def test_the_ends_of_the_branches() -> None:
    assert [each["id"] for each in tree.leaves(FOREST)] == ["d", "g", "h", "i"]
    assert tree.leaves([]) == []
