"""Read the grammar's files: plots, openings, morals and word lists. Not here: telling them (`teller.py`)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from training.lexicon import ANIMALS, PEOPLE, THINGS

GRAMMAR = Path(__file__).parent / "grammar"

Beat = tuple[bool, tuple[str, ...]]  # optional?, wordings


@dataclass(frozen=True, slots=True)
class Plot:
    """One plot: `why` is (mood, clause) for stories that begin with a feeling; `parts` are lists of beats."""

    name: str
    moral: str
    heroes: str
    indoors: bool
    why: tuple[str, str]
    parts: tuple[tuple[Beat, ...], ...]


def split(text: str, mark: str) -> list[str]:
    """Split at `mark` outside of any brackets."""
    parts, depth, start = [], 0, 0
    for at, char in enumerate(text):
        depth += (char in "[<{") - (char in "]>}")
        if char == mark and depth == 0:
            parts.append(text[start:at])
            start = at + 1
    return [*parts, text[start:]]


def lines(name: str) -> list[str]:
    """The lines of one grammar file, without blank ones."""
    text = (GRAMMAR / name).read_text(encoding="utf-8")
    return [line.strip() for line in text.splitlines() if line.strip()]


@cache
def words() -> dict[str, list[str]]:
    """words.txt: rule name -> entries."""
    rules = {}
    for line in lines("words.txt"):
        if not line.startswith("#"):
            name, _, entries = line.partition(" = ")
            rules[name.strip()] = [entry.strip() for entry in split(entries, "|")]
    return rules | {"person": PEOPLE, "animal": ANIMALS, "thing": list(THINGS)}


@cache
def openings() -> dict[str, list[str]]:
    """openings.txt: kind of hero -> ways to begin."""
    kinds: dict[str, list[str]] = {}
    current: list[str] = []
    for line in lines("openings.txt"):
        if line.startswith("#"):
            continue
        if re.fullmatch(r"\[\w+\]", line):
            current = kinds.setdefault(line[1:-1], [])
        else:
            current.extend(part.strip() for part in split(line, "|"))
    return kinds


@cache
def morals() -> dict[str, dict[str, list[str]]]:
    """morals.txt: theme -> {"that": clauses, "always": past-tense phrases}."""
    themes: dict[str, dict[str, list[str]]] = {}
    current: dict[str, list[str]] = {}
    for line in lines("morals.txt"):
        if line.startswith("["):
            current = themes.setdefault(line[1:-1], {})
        elif not line.startswith("#"):
            key, _, entries = line.partition(": ")
            current[key] = [entry.strip() for entry in split(entries, "|")]
    return themes


@cache
def plots() -> list[Plot]:
    """All plots, in the order of the files."""
    found = []
    for path in sorted(GRAMMAR.glob("plots_*.txt")):
        for block in re.split(r"(?m)^# (?=[\w-]+ \|)", path.read_text(encoding="utf-8"))[1:]:
            head, *body = [line.strip() for line in block.splitlines() if line.strip()]
            name, moral, heroes, setting = [field.strip() for field in head.split("|")]
            why = ("", "")
            parts: list[list[Beat]] = [[]]
            for line in body:
                if line.startswith("why "):
                    mood, _, clause = line[4:].partition(": ")
                    why = (mood, clause)
                elif line == "--":
                    parts.append([])
                elif not line.startswith("# "):
                    optional = line.startswith("?")
                    wordings = tuple(w.strip().lstrip("?") for w in line.lstrip("?").split(" // "))
                    parts[-1].append((optional, wordings))
            frozen = tuple(tuple(part) for part in parts)
            found.append(Plot(name, moral, heroes, setting == "in", why, frozen))
    return found
