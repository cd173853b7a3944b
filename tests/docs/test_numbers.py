"""The README's measured numbers are those that the benchmarks recorded."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.served import ROOT

README = (ROOT / "README.md").read_text()
RESULTS: Any = json.loads((ROOT / "benchmarks" / "results.json").read_text())
PEERS: Any = json.loads((ROOT / "benchmarks" / "llama-server.json").read_text())
OURS, BARE = RESULTS["bench-1b"]["ollamapy"], RESULTS["bench-1b"]["bare"]


@pytest.mark.parametrize(
    ("row", "shown"),
    [
        ("decode, 1 client", f"{OURS['decode1']:.1f} tok/s: {OURS['decode1'] / BARE['decode1']:.2f}"),
        ("decode, 8 clients", f"{OURS['decode8']:.0f} tok/s: {OURS['decode8'] / BARE['decode8']:.2f}"),
        ("load", f"{OURS['load']:.2f} s: {OURS['load'] / BARE['load']:.2f}"),
        ("16 requests", f"{OURS['shared_wall']:.1f} s: {OURS['shared_wall'] / OURS['separate_wall']:.2f}"),
        ("nothing running", f"{RESULTS['start-up']['cold_first_text']:.2f} s"),
        ("memory of the idle daemon", f"{OURS['daemon_idle'] / 1e6:.0f} MB"),
    ],
)  # fmt: skip
def test_a_row_of_the_table(row: str, shown: str) -> None:
    [line] = [each for each in README.splitlines() if each.startswith(f"| {row}")]
    assert line.split("|")[2].strip().startswith(shown)


@pytest.mark.parametrize(
    ("row", "keys", "form"),
    [
        ("on a slower day (2): decode", ("decode1", "decode8"), "{:.1f} and {:.1f} tok/s"),
        ("8 requests by 8 clients", ("separate_8",), "{:.0f} s"),
        ("the same, 600 of the words", ("shared_8",), "{:.0f} s"),
        ("the longest wait", ("longest_wait",), "{:.2g} s"),
    ],
)
def test_a_row_of_both_servers(row: str, keys: tuple[str, ...], form: str) -> None:
    [line] = [each for each in README.splitlines() if each.startswith(f"| {row}")]
    _, _, ours, ollama, theirs, _ = (each.strip() for each in line.split("|"))
    for shown, who in ((ours, "ollamapy"), (theirs, "llama-server")):
        assert shown == form.format(*(PEERS[who][key] for key in keys))
    assert ollama == "no number"
