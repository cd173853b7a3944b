"""The parameters in a query: typed, bounded, and named where they are wrong."""

from __future__ import annotations

import pytest

from ollamapy.errors import InvalidRequest
from ollamapy.web import query


@pytest.mark.parametrize(
    ("value", "found"), [("1", 1), ("007", 7), ("50", 50), ("", 20), (None, 20)]
)
def test_a_number(value: str | None, found: int) -> None:
    assert query.count({} if value is None else {"limit": value}, "limit", 20, 50) == found


@pytest.mark.parametrize("value", ["0", "51", "-1", "+1", "1.0", "1e1", " 1", "٣", "9" * 5000])
def test_what_is_no_number_in_the_range(value: str) -> None:
    with pytest.raises(InvalidRequest, match="^limit must be a whole number from 1 to 50$"):
        query.count({"limit": value}, "limit", 20, 50)


@pytest.mark.parametrize(
    ("value", "found"),
    [("true", True), ("1", True), ("false", False), ("0", False), ("", False), (None, False)],
)
def test_a_switch(value: str | None, found: bool) -> None:
    assert query.flag({} if value is None else {"html": value}, "html") is found


@pytest.mark.parametrize("value", ["yes", "2", "tru"])
def test_what_is_no_switch(value: str) -> None:
    with pytest.raises(InvalidRequest, match="^html must be true or false$"):
        query.flag({"html": value}, "html")


def test_a_text_is_bounded() -> None:
    assert query.text({"q": "a" * 1000}, "q") == "a" * 1000
    assert query.text({}, "q", "default") == "default"
    with pytest.raises(InvalidRequest, match="^q has more than 1000 characters$"):
        query.text({"q": "a" * 1001}, "q")


@pytest.mark.parametrize("given", [{}, {"model": ""}])
def test_a_text_that_is_required(given: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest, match=r"^model is missing: add \?model=... to the path$"):
        query.required(given, "model")
