"""JSON Schemas as the grammar engine takes them, as a table of what each becomes."""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import Any

import pytest

from ollamapy import schemas
from ollamapy.errors import InvalidRequest

TEXT, FLAG = {"type": "string"}, {"type": "boolean"}


def of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = FLAG
    for _ in range(depth):
        schema = of(x=schema)
    return schema


@pytest.mark.parametrize(
    ("schema", "becomes"),
    [
        ({"$schema": "http://foo/bar", "$id": "http://foo", **TEXT}, TEXT),
        (of(a={"type": "any", "description": "A"}), of(a={"description": "A"})),
        (of(a={"type": ["string", "any"]}), of(a={})),
        ({**TEXT, "pattern": "^(?=a)a+$"}, TEXT),
        ({**TEXT, "pattern": "(?<!a)b"}, TEXT),
        ({**TEXT, "pattern": r"^(a)\1$"}, TEXT),
        ({**TEXT, "pattern": r"\bword\b"}, TEXT),
        ({**TEXT, "pattern": r"^\\1(?:a)$"}, {**TEXT, "pattern": r"^\\1(?:a)$"}),
        ({"anyOf": [{**TEXT, "pattern": "(?!a)"}, FLAG]}, {"anyOf": [TEXT, FLAG]}),
        ({"type": "array", "items": {"type": "any"}}, {"type": "array", "items": {}}),
        ({"type": "array", "items": [{"type": "any"}]}, {"type": "array", "items": [{}]}),
        # properties and values that are called like keywords
        (of(type=TEXT, pattern=TEXT, format=TEXT), of(type=TEXT, pattern=TEXT, format=TEXT)),
        (of(**{"$schema": TEXT, "$defs": TEXT}), of(**{"$schema": TEXT, "$defs": TEXT})),
        ({"enum": [{"type": "any", "$schema": "x"}]}, {"enum": [{"type": "any", "$schema": "x"}]}),
        ({**of(a={"type": None, "enum": None}), "required": None}, of(a={})),
        (of(a={"const": None, "default": None}), of(a={"const": None, "default": None})),
        (True, True),
    ],
)  # fmt: skip
def test_what_a_schema_becomes(schema: Any, becomes: Any) -> None:
    assert schemas.usable(schema) == becomes


@pytest.mark.parametrize("others", [{}, {"additionalProperties": False}])
def test_what_is_required_and_not_described_may_be_anything(others: dict[str, Any]) -> None:
    schema = of(a=FLAG) | {"required": ["a", "b"]} | others
    assert schemas.usable(schema)["properties"] == {"a": FLAG, "b": schemas.ANY_VALUE}
    inside = schemas.usable(of(x=schema))["properties"]["x"]
    assert inside["properties"] == {"a": FLAG, "b": schemas.ANY_VALUE}


def test_an_object_of_required_properties_only() -> None:
    schema = {"type": "object", "required": ["b"], "additionalProperties": False}
    assert schemas.usable(schema) == {**schema, "properties": {"b": schemas.ANY_VALUE}}
    open_one = {"type": "object", "required": ["b"]}
    assert schemas.usable(open_one) == open_one


@pytest.mark.parametrize(
    "more",
    [
        {"additionalProperties": TEXT},
        {"patternProperties": {"^b$": TEXT}},
        {"allOf": [of(b=TEXT)]},
    ],
)
def test_what_is_required_and_described_elsewhere_stays(more: dict[str, Any]) -> None:
    schema = of(a=FLAG) | {"required": ["a", "b"]} | more
    assert schemas.usable(schema) == schema


def test_a_schema_that_nests_too_deeply_is_refused() -> None:
    assert schemas.usable(nested(49)) == nested(49)
    for depth in (60, 130, 100_000):
        with pytest.raises(InvalidRequest, match="at most 100"):
            schemas.usable(nested(depth))


TIMES = [
    ("date-time", "2024-02-29T23:59:59Z", True),
    ("date-time", "2000-02-29T00:00:00.123+02:00", True),
    ("date-time", "2023-12-31T12:30:00.123456-05:30", True),
    ("date-time", "2023-12-31t12:30:00Z", False),
    ("date-time", "2023-12-31T12:30:00z", False),
    ("date-time", "2023-12-31 12:30:00Z", False),
    ("date-time", "2023-12-31T12:30:60Z", False),
    ("date-time", "2023-02-29T12:30:00Z", False),
    ("date-time", "1900-02-29T12:30:00Z", False),
    ("date-time", "2023-04-31T12:30:00Z", False),
    ("date-time", "0000-01-01T12:30:00Z", False),
    ("date-time", "2023-12-31T24:00:00Z", False),
    ("date", "2024-02-29", True),
    ("date", "2023-02-29", False),
    ("time", "23:59:59Z", True),
    ("time", "23:59:60Z", False),
]


@pytest.mark.parametrize(("form", "text", "fits"), TIMES)
def test_times_are_those_that_parsers_read(form: str, text: str, fits: bool) -> None:
    pattern = schemas.usable({**TEXT, "format": form})["pattern"]
    assert (re.fullmatch(pattern, text) is not None) == fits
    if fits and form == "date-time":
        datetime.fromisoformat(text)
    if fits and form == "date":
        date.fromisoformat(text)


@pytest.mark.parametrize(
    "properties",
    [
        {"a": {"$ref": "#/properties/a"}},
        {"a": {"$ref": "#/properties/b"}, "b": {"$ref": "#/properties/a"}},
        {"a": {"type": "array", "items": {"$ref": "#/properties/a/items"}}},
    ],
)
def test_a_reference_that_leads_back_to_itself_is_refused(properties: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="leads back to itself"):
        schemas.usable(of(**properties))


def test_a_reference_to_what_contains_it_is_kept() -> None:
    tree = of(a={"$ref": "#"}, b={"type": "array", "items": {"$ref": "#/properties/b"}})
    assert schemas.usable(tree) == tree
    many = {f"p{n}": {"$ref": f"#/properties/p{n + 1}"} for n in range(5000)}
    chain = of(**many, p5000=FLAG)
    assert schemas.usable(chain) == chain


def test_every_day_of_a_leap_year_and_of_another_one() -> None:
    for year in (2023, 2024):
        days = [f"{year}-{month:02}-{day:02}" for month in range(14) for day in range(33)]
        for day in days:
            fits = re.fullmatch(schemas.PATTERNS["date"], day) is not None
            try:
                date.fromisoformat(day)
            except ValueError:
                assert not fits, day
            else:
                assert fits, day


@pytest.mark.parametrize(
    ("schema", "embedded", "definitions"),
    [
        (of(a=FLAG), of(a=FLAG), {}),
        (
            of(a=FLAG, b={"$ref": "#/properties/a"}),
            of(a=FLAG, b={"$ref": "#/$defs/f0"}),
            {"f0": FLAG},
        ),
        (
            of(a={"$ref": "#/$defs/A"}) | {"$defs": {"A": of(b={"$ref": "#/$defs/A"}), "B": TEXT}},
            of(a={"$ref": "#/$defs/f0"}),
            {"f0": of(b={"$ref": "#/$defs/f0"})},
        ),
        (of(a={"$ref": "#"}), of(a={"$ref": "#/$defs/f0"}), {"f0": of(a={"$ref": "#/$defs/f0"})}),
        (
            of(**{"x/y": FLAG, "b": {"$ref": "#/properties/x~1y"}}),
            of(**{"x/y": FLAG, "b": {"$ref": "#/$defs/f0"}}),
            {"f0": FLAG},
        ),
        (
            {"anyOf": [TEXT, {"type": "array", "items": {"$ref": "#/anyOf/0"}}]},
            {"anyOf": [TEXT, {"type": "array", "items": {"$ref": "#/$defs/f0"}}]},
            {"f0": TEXT},
        ),
        (of(definitions=TEXT), of(definitions=TEXT), {}),
    ],
)
def test_a_schema_within_another(schema: Any, embedded: Any, definitions: Any) -> None:
    assert schemas.embedded(schema, "f") == (embedded, definitions)


@pytest.mark.parametrize("reference", ["#/properties/none", "#/a/b/c", "http://foo/bar", "#name"])
def test_a_reference_to_nothing_is_refused(reference: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(reference)):
        schemas.embedded(of(a={"$ref": reference}), "f")
