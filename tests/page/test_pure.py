"""The page's pure modules, loaded in the browser: what is wrong with a JSON Schema, whether a model fits, sizes and times."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

SCHEMAS: list[tuple[str, str]] = [
    (
        '{"type": "object", "properties": {"a": {"type": ["string", "null"]}}, "required": ["a"]}',
        "",
    ),
    ('{"$defs": {"x": {"type": "string"}}, "properties": {"a": {"$ref": "#/$defs/x"}}}', ""),
    ('{"$ref": "#"}', ""),
    ('{"properties": {"a~b/c": true}, "items": {"$ref": "#/properties/a~0b~1c"}}', ""),
    ('{"anyOf": [{"const": 1}, false], "pattern": "^a+$"}', ""),
    ("", "it is not JSON"),
    ('{"type": "object"', "it is not JSON"),
    ("[]", "a schema is an object"),
    ("null", "a schema is an object"),
    ('{"type": "objekt"}', "the schema: “objekt” is no type"),
    ('{"properties": {"a": {"type": "str"}}}', "the schema/properties/a: “str” is no type"),
    ('{"properties": []}', "the schema/properties must be an object of schemas"),
    ('{"properties": {"a": 3}}', "the schema/properties/a must be a schema"),
    ('{"anyOf": {}}', "the schema/anyOf must be a list of schemas"),
    ('{"required": "a"}', "required must be a list of names"),
    ('{"enum": []}', "enum must be a list with at least one value"),
    ('{"pattern": "("}', "pattern is not a regular expression"),
    ('{"$ref": "#/$defs/none"}', "#/$defs/none refers to nothing"),
    ('{"$ref": "https://example.org/schema"}', "refers to nothing"),
    ('{"items": ' * 150 + "{}" + "}" * 150, "it nests more than 100"),
]

GB = 10**9
MODEL = {"name": "a", "digest": "d", "size": 3 * GB, "memory": 4 * GB}


def loaded(name: str, size: int, in_flight: int = 0, status: str = "ready") -> dict[str, Any]:
    return {"name": name, "digest": name, "size": size, "in_flight": in_flight, "status": status}


FITS: list[tuple[list[Any], dict[str, int] | None, str]] = [
    ([], {"free": 5 * GB, "total": 8 * GB}, "fits"),
    ([], {"free": 3 * GB, "total": 3 * GB}, "never"),
    ([loaded("b", 2 * GB)], {"free": 3 * GB, "total": 8 * GB}, "after"),
    ([loaded("b", 2 * GB, in_flight=1)], {"free": 3 * GB, "total": 8 * GB}, "after"),
    ([loaded("a", 4 * GB)], {"free": 0, "total": 8 * GB}, "ready"),
    ([loaded("d", 4 * GB, status="starting")], {"free": 0, "total": 8 * GB}, "starting"),
    ([], None, "unknown"),
]


@pytest.fixture
def call(page: Page) -> Any:
    """Calls a function of a module of the page."""
    page.goto("/")

    def run(module: str, function: str, *arguments: Any) -> Any:
        script = "([path, name, given]) => import(path).then(each => each[name](...given))"
        return page.evaluate(script, [f"/page/{module}.js", function, list(arguments)])

    return run


def test_what_is_wrong_with_a_schema(call: Any) -> None:
    for text, fault in SCHEMAS:
        found = call("jsonschema", "parseSchema", text)
        assert fault in found.get("fault", "") and bool(fault) == ("fault" in found), text[:80]
        if not fault:
            assert found["schema"] == json.loads(text)


def test_whether_a_model_fits(call: Any) -> None:
    for running, memory, fit in FITS:
        assert call("facts", "fitOf", MODEL, running, memory) == fit, (running, memory)


def test_sizes_and_times(call: Any) -> None:
    assert [call("facts", "tokens", count) for count in (512, 2048, 8192, 32000, 131072)] == [
        *("512", "2k", "8k", "32k", "128k"),
    ]  # fmt: skip
    until = [
        ("2026-01-01T00:00:30Z", "30 s"),
        ("2026-01-01T00:05:00Z", "5 min"),
        ("2026-01-01T03:00:00Z", "3 h"),
        ("2025-01-01T00:00:00Z", "now"),
        ("2226-01-01T00:00:00Z", "never"),
    ]
    for at, text in until:
        assert call("facts", "untilText", at, 1767225600000) == text
    times = {300: "0.3 s", 9_949: "9.9 s", 9_960: "10 s", 59_600: "1 min 0 s", 119_700: "2 min 0 s", 125_000: "2 min 5 s"}  # fmt: skip
    assert {ms: call("texts", "time", ms) for ms in times} == times
