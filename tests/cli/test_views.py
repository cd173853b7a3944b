"""The texts that commands print of API answers, where the record has no example."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from ollamapy.cli import views

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("size", "vram", "expected"),
    [
        (100, 0, "100% CPU"),
        (100, 100, "100% GPU"),
        (200, 51, "75%/25% CPU/GPU"),
        (100, 101, "Unknown"),
        (0, 0, "Unknown"),
    ],
)
def test_ps_tells_the_processor(size: int, vram: int, expected: str) -> None:
    model = {
        "name": "m:latest",
        "digest": "ab" * 32,
        "size": size,
        "size_vram": vram,
        "context_length": 4096,
    }
    row = re.split(" {4,}", views.loaded([model], NOW).plain.splitlines()[1])
    assert (row[1], row[3]) == ("abababababab", expected)


@pytest.mark.parametrize(
    ("expires", "expected"),
    [
        ("2026-11-21T09:00:00.123456789Z", "Stopping..."),
        ("2318-03-01T00:00:00Z", "Forever"),
        ("0001-01-01T00:00:00Z", "Never"),
        ("no time", "Never"),
    ],
)
def test_ps_tells_until_when(expires: str, expected: str) -> None:
    table = views.loaded([{"name": "m", "expires_at": expires, "size": 1}], NOW).plain
    assert table.splitlines()[1].rstrip().endswith(expected)


def test_a_prefix_matches_in_either_case() -> None:
    models = [{"name": "Hello:latest"}, {"name": "other:latest"}]
    assert views.with_prefix(models, "hE") == [{"name": "Hello:latest"}]
    assert views.with_prefix(models, "") == models


def test_system_and_licence_show_their_first_two_lines() -> None:
    answer = {
        "details": {"family": "llama", "parameter_size": "1B"},
        "system": "\n  One.  \n\nTwo.\nThree.\n",
        "license": "MIT " + "word " * 30,
    }
    assert views.card(answer).plain == (
        "  Model\n    architecture    llama    \n    parameters      1B       \n\n"
        "  System\n    One.    \n    Two.    \n    ...     \n\n"
        "  License\n"
        f"    MIT {'word ' * 18}word    \n"
        f"    {('word ' * 11).strip():<98}    \n\n"
    )


def test_metadata_fits_a_line() -> None:
    info = {
        "a.template": "{% for x in y %}\n{{ x }}\x1b[2J",
        "b.long": "x" * 100,
        "c.large": 8_030_261_248,
        "d.float": 500000.0,
        "e.list": [1, 2],
        "f.null": None,
        "g.flag": False,
        "h.empty": [],
        "i.texts": ["a\nb\x1b"],
    }
    rows = views.card({"details": {}, "model_info": info}, verbose=True).plain.splitlines()[1:]
    assert [row.split(None, 1)[1].rstrip() for row in rows if row] == [
        "{% for x in y %}...",
        "x" * 60 + "...",
        "8030261248",
        "500000",
        "[1 2]",
        "false",
        "[]",
        "[a\\nb\\x1b]",
    ]


def test_figures_of_zero_are_left_out() -> None:
    figures = {
        "total_duration": 2_500_000_000,
        "eval_count": 0,
        "eval_duration": 7,
        "prompt_eval_count": 3,
    }
    assert views.statistics(figures) == (
        "total duration:       2.5s\nprompt eval count:    3 token(s)\neval duration:        7ns\n"
    )
    assert views.statistics({}) == ""
