"""Printing and reading values: every recorded line of Ollama's own printers, and Go's rules."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ollamapy import human

LINES = (Path(__file__).parent / "data" / "human.jsonl").read_text().splitlines()
RECORDED = [json.loads(line) for line in LINES]
MAX_INT64 = 2**63 - 1


def recorded(kind: str) -> pytest.MarkDecorator:
    rows = [row for row in RECORDED if row["kind"] == kind]
    assert rows
    return pytest.mark.parametrize("row", rows, ids=lambda row: repr(row["in"]))


@recorded("bytes")
def test_bytes(row: dict[str, Any]) -> None:
    assert human.format_bytes(row["in"]) == row["out"]


@recorded("number")
def test_number(row: dict[str, Any]) -> None:
    assert human.format_number(row["in"]) == row["out"]


@recorded("age")
def test_age(row: dict[str, Any]) -> None:
    assert human.format_age(row["in"]) == row["out"]


def test_a_time_never_set() -> None:
    assert human.format_age(None) == "Never"
    assert human.format_age(None, "n/a") == "n/a"


@pytest.mark.parametrize(
    "years, text", [(-20.9, "20 years from now"), (-21, "Forever"), (-300, "Forever")]
)
def test_far_ahead_is_forever(years: float, text: str) -> None:
    assert human.format_age(years * 365 * 86400) == text


@recorded("keep_alive")
def test_keep_alive(row: dict[str, Any]) -> None:
    if row["in"] in (
        "300",
        "-1",
    ):  # Ollama wants a unit in texts; ours reads the number, as its settings do
        row = {**row, "out": {"ns": MAX_INT64 if row["in"] == "-1" else 300 * 10**9}}
    if "error" in row["out"]:
        with pytest.raises(ValueError) as caught:
            human.parse_keep_alive(row["in"])
        assert str(caught.value) == row["out"]["error"]
        return
    nanoseconds = row["out"]["ns"]
    if isinstance(row["in"], str) and row["in"] != "300" and nanoseconds != MAX_INT64:
        assert human.parse_duration(row["in"]) == nanoseconds
    expected = human.FOREVER if nanoseconds == MAX_INT64 else nanoseconds / 1e9
    assert human.parse_keep_alive(row["in"]) == expected


@pytest.mark.parametrize(
    "value, seconds",
    [(0, 0), (0.5, 0.5), ("0", 0), ("-1s", math.inf), (-0.1, math.inf), (1e300, math.inf)]
    + [(10**400, math.inf)],
)
def test_keep_alive_edges(value: object, seconds: float) -> None:
    assert human.parse_keep_alive(value) == seconds


@pytest.mark.parametrize(
    "value, type_name", [([], "[]interface {}"), ({}, "map[string]interface {}"), (False, "bool")]
)
def test_keep_alive_of_another_type(value: object, type_name: str) -> None:
    with pytest.raises(ValueError, match="Unsupported type") as caught:
        human.parse_keep_alive(value)
    assert str(caught.value) == f"Unsupported type: '{type_name}'"


@pytest.mark.parametrize(
    "text, nanoseconds",
    [
        ("0", 0),
        ("-0", 0),
        ("+5s", 5_000_000_000),
        ("1.5h", 5_400_000_000_000),
        (".5s", 500_000_000),
        ("1h15m30.918273645s", 4_530_918_273_645),
        ("0.3333333333333333333h", 1_200_000_000_000),
        ("1µs", 1_000),
        ("1μs", 1_000),
        ("-2562047h47m16.854775808s", -(2**63)),
    ],
)
def test_durations(text: str, nanoseconds: int) -> None:
    assert human.parse_duration(text) == nanoseconds


@pytest.mark.parametrize(
    "text, error",
    [
        ("", 'time: invalid duration ""'),
        ("soon", 'time: invalid duration "soon"'),
        ("300", 'time: missing unit in duration "300"'),
        (".", 'time: invalid duration "."'),
        ("1d", 'time: unknown unit "d" in duration "1d"'),
        ("3é", 'time: unknown unit "\\xc3\\xa9" in duration "3\\xc3\\xa9"'),
        ('a"\\\n', 'time: invalid duration "a\\"\\\\\\x0a"'),
        ("9223372036854775808ns", 'time: invalid duration "9223372036854775808ns"'),
        ("٣s", 'time: invalid duration "\\xd9\\xa3s"'),
    ],
)
def test_bad_durations(text: str, error: str) -> None:
    with pytest.raises(ValueError) as caught:
        human.parse_duration(text)
    assert str(caught.value) == error


@pytest.mark.parametrize("text", ["9" * 10_000_000 + "s", "1s" * 5_000_000, "x" * 10_000_000])
def test_a_huge_duration_is_refused_at_once(text: str) -> None:
    start = time.thread_time()
    with pytest.raises(ValueError) as caught:
        human.parse_duration(text)
    assert time.thread_time() - start < 2
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "nanoseconds, text",
    [
        (0, "0s"),
        (1, "1ns"),
        (999, "999ns"),
        (1_100, "1.1µs"),
        (526_000, "526µs"),
        (6_420_000, "6.42ms"),
        (11_162_067, "11.162067ms"),
        (1_234_567_000, "1.234567s"),
        (60_000_000_000, "1m0s"),
        (300_000_000_000, "5m0s"),
        (3_605_000_000_000, "1h0m5s"),
        (-1_500_000_000, "-1.5s"),
        (MAX_INT64, "2562047h47m16.854775807s"),
    ],
)
def test_durations_are_printed_as_go_does(nanoseconds: int, text: str) -> None:
    assert human.format_duration(nanoseconds) == text


@given(st.integers(-(2**52), 2**52))
def test_a_printed_duration_parses_back(nanoseconds: int) -> None:
    assert human.parse_duration(human.format_duration(nanoseconds)) == nanoseconds


@given(st.text(st.sampled_from("0123456789.hmsnuµ+- e")))
def test_a_duration_parses_or_is_a_value_error(text: str) -> None:
    try:
        assert -(2**63) <= human.parse_duration(text) <= MAX_INT64
    except ValueError as error:
        assert str(error).startswith("time: ")


@pytest.mark.parametrize(
    "value, text",
    [
        ("<|im_end|>", '"<|im_end|>"'),
        ('say "hi"\n\t\\', '"say \\"hi\\"\\n\\t\\\\"'),
        ("é世\x00\x7f\u200b\U000e0001", '"é世\\x00\\x7f\\u200b\\U000e0001"'),
        (0, "0"),
        (0.7, "0.7"),
        (-1, "-1"),
        (4096, "4096"),
        (131072, "131072"),
        (1_000_000, "1e+06"),
        (1_048_576, "1.048576e+06"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
        (1e100, "1e+100"),
        (1.1, "1.1"),
        (True, "true"),
        (["a"], '["a"]'),
    ],
)
def test_values_in_go_syntax(value: object, text: str) -> None:
    assert human.format_value(value) == text


@example(5.960464477539063e-08)  # its shortest digits are not the nearest of that length
@example(-0.0)
@given(st.floats())
def test_a_printed_float_reads_back(number: float) -> None:
    printed = human.format_float(number)
    assert float(printed) == number or math.isnan(number)


@pytest.mark.parametrize(
    ("zone", "seconds", "printed"),
    [
        ("UTC", 1795249039.0, "2026-11-21T08:17:19Z"),
        ("UTC", 1795249039.5, "2026-11-21T08:17:19.5Z"),
        ("UTC", 1e15, "9999-01-01T00:00:00Z"),
        ("UTC", -5.0, "1970-01-01T00:00:00Z"),
        ("Europe/Berlin", 1795249039.25, "2026-11-21T09:17:19.25+01:00"),
    ],
)
def test_times_are_printed_as_go_does(
    monkeypatch: pytest.MonkeyPatch, zone: str, seconds: float, printed: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        assert human.print_time(seconds) == printed
    time.tzset()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain, Büro\t日本", "plain, Büro\t日本"),
        ("a\nb\r\nc", "a\\nb\\r\\nc"),
        ("\x1b[2J\x00\x07\x7f", "\\x1b[2J\\x00\\x07\\x7f"),
        ("\x9b31m\x85", "\\x9b31m\\x85"),
        ("gpj\u202eexe\u2066\u2069\u2028", "gpj\\u202eexe\\u2066\\u2069\\u2028"),
    ],
)
def test_a_text_on_one_line_drives_no_terminal(text: str, line: str) -> None:
    assert human.one_line(text) == line
    assert human.one_line(line) == line
