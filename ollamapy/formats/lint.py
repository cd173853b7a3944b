"""Advice on a Modelfile: what would be refused (errors), and what is likely a mistake (warnings), each with its place.

Pure: the caller answers whether a file exists and what is wrong with a template. Whether a model of a given name exists is not
checked.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from ..errors import InvalidModelfile, InvalidName
from ..names import Name
from ..types import OPTION_RANGES
from .modelfile import (
    Instruction,
    Modelfile,
    line_breaks,
    parse,
    read_parameter,
    read_version,
    stray_mark,
)
from .recipe import NO_FILES, names_file


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One piece of advice; line and column begin at 1. An error is what creating a model would refuse."""

    line: int
    column: int
    severity: Literal["error", "warning"]
    message: str


def lint(
    source: bytes | str,
    exists: Callable[[str], bool],
    template_error: Callable[[str], str] = lambda template: "",
    *,
    takes_files: bool = True,
) -> list[Finding]:
    """All findings, in the order of their places; one only if the text cannot be parsed.

    ``exists`` returns whether the value of FROM, ADAPTER or DRAFT is there as a file or folder, ``template_error`` what is wrong
    with a template, "" if nothing is. ``takes_files``: FROM and ADAPTER may name files.
    """
    try:
        modelfile = parse(source)
    except InvalidModelfile as error:
        return [_refused(error)]
    findings = [
        *_paths(modelfile, exists, takes_files),
        *_overridden(modelfile, exists),
        *_missing_stops(modelfile),
    ]
    for each in modelfile.instructions:
        if each.word not in ("FROM", "ADAPTER") or not exists(each.value):
            findings += _writing(each)
        if each.word == "TEMPLATE" and (wrong := template_error(each.value)):
            findings.append(_refused(each.error(f"the template is wrong: {wrong}")))
        if each.word == "PARAMETER":
            findings += _parameter(each)
        elif each.word == "REQUIRES":
            findings += _version(each)
    return sorted(findings)


def _refused(error: InvalidModelfile) -> Finding:
    return Finding(max(error.line, 1), max(error.column, 1), "error", error.reason)


def _warning(instruction: Instruction, message: str) -> Finding:
    return Finding(instruction.line, instruction.column, "warning", message)


def _within(instruction: Instruction, index: int, message: str) -> Finding:
    """A warning at a character of the value."""
    value = instruction.value
    below = line_breaks(value, 0, index)
    column = instruction.value_column + len(instruction.quote) + index
    if below:
        column = index - max(value.rfind("\n", 0, index), value.rfind("\r", 0, index))
    return Finding(instruction.line + below, column, "warning", message)


# Files and names


def _paths(
    modelfile: Modelfile, exists: Callable[[str], bool], takes_files: bool
) -> Iterator[Finding]:
    bases = modelfile.values("FROM")
    for each in modelfile.instructions:
        if each.word not in ("FROM", "ADAPTER", "DRAFT"):
            continue
        if each.word == "DRAFT" and each.value in bases:
            yield _refused(
                each.error(f"DRAFT must not reference the same local path as FROM: {_line(each)}")
            )
        elif not takes_files and names_file(each):
            yield _refused(each.error(NO_FILES))
        elif exists(each.value):
            continue
        elif each.word != "FROM" or names_file(each):
            missing = f"there is no {_line(each)}, paths begin at the folder of the Modelfile"
            yield _refused(each.error(missing))
        else:
            try:
                Name.parse(each.value)
            except InvalidName as error:
                yield _refused(each.error(f"FROM names no file and no model: {error}"))


def _line(instruction: Instruction) -> str:
    value = instruction.value
    return ascii(value if len(value) <= 80 else value[:77] + "...")


# Repetitions

_LAST_COUNTS = ("TEMPLATE", "SYSTEM", "RENDERER", "PARSER", "REQUIRES")


def _overridden(modelfile: Modelfile, exists: Callable[[str], bool]) -> Iterator[Finding]:
    """Each instruction that a later one puts out of force. FROM adds up where it names files."""
    last: dict[str, Instruction] = {}
    for each in reversed(modelfile.instructions):
        if each.word in _LAST_COUNTS or (each.word == "FROM" and not exists(each.value)):
            subject = each.word
        elif each.word == "PARAMETER" and each.name not in ("", "stop"):
            subject = f"PARAMETER {each.name}"
        else:
            continue
        if subject in last:
            later = last[subject].line
            yield _warning(
                each, f"{subject} is given again on line {later}, only the last one counts"
            )
        else:
            last[subject] = each


# Templates and their stops

_TURN_END = re.compile(
    r"<\|im_end\|>|<\|eot(?:_id)?\|>|<\|eom_id\|>|<\|end\|>|<\|return\|>|<end_of_turn>|<turn\|>"
    r"|<\|end_?of_?turn\|>|<\|END_OF_TURN_TOKEN\|>|<\|(?:user|assistant|system)_end\|>"
)
_ROLE_MARK = re.compile(r"<\|[A-Za-z_]{1,40}\|>|\[/?INST\]|^### ?[A-Z][a-z]+:", re.MULTILINE)
# Not written by a model in the midst of an answer, or end it by themselves
_NO_ROLE = {"<|endoftext|>", "<|end_of_text|>", "<|begin_of_text|>", "<|startoftext|>"}


def _missing_stops(modelfile: Modelfile) -> Iterator[Finding]:
    """Marks of the template that counts at which an answer would not end."""
    templates = [each for each in modelfile.instructions if each.word == "TEMPLATE"]
    if not templates:
        return
    template = templates[-1]
    stops = [
        each.value
        for each in modelfile.instructions
        if each.word == "PARAMETER" and each.name == "stop" and each.value
    ]
    ends = {match[0]: match.start() for match in reversed([*_TURN_END.finditer(template.value)])}
    for mark, index in ends.items():
        if not any(stop in mark for stop in stops):
            yield _within(template, index, f'"{mark}" of the template is no stop, {_way_out(mark)}')
    if ends or stops:
        return
    for match in _ROLE_MARK.finditer(template.value):
        if match[0] not in _NO_ROLE:
            message = f'the template has marks like "{match[0]}" and there is no stop, {_way_out(match[0])}'
            yield _within(template, match.start(), message)
            return


def _way_out(mark: str) -> str:
    return f'add: PARAMETER stop "{mark}"'


# How values are written


def _writing(each: Instruction) -> Iterator[Finding]:
    """Marks and characters that do not do what they seem to do."""
    stray = stray_mark(each.quote, each.value) if each.quote else None
    if stray is not None:
        yield _within(
            each,
            stray,
            f"text follows this {each.quote}, so it does not end the value: it is part of it",
        )
    if not each.quote and len(each.value) > 1 and each.value[0] == each.value[-1] == "'":
        yield _within(each, 0, "apostrophes do not quote and are part of the value, write \" for '")
    if each.dropped:
        are = "s that do not print are" if each.dropped > 1 else " that does not print is"
        yield _warning(each, f"{each.dropped} character{are} left out of the value")


def _parameter(each: Instruction) -> Iterator[Finding]:
    try:
        name, value = read_parameter(each)
    except InvalidModelfile as error:
        yield _refused(error)
        return
    if (
        isinstance(value, int | float)
        and (sense := OPTION_RANGES.get(name))
        and not sense[0] <= value <= sense[1]
    ):
        yield _warning(each, f"{name} {value:g} makes no sense, {_shown_range(*sense)}")
    if not each.name:
        yield _warning(each, "more than one space after PARAMETER, Ollama refuses that")
    if value is None:
        yield _warning(each, f"parameter {name} is deprecated and does nothing, leave it out")
    elif value == ("",):
        yield _warning(each, "an empty stop does nothing, leave it out")
    elif name == "stop" and (escape := re.search(r"\\[nrt]", each.value)):
        yield _within(
            each,
            escape.start(),
            f"there are no escapes, {escape[0]} is a backslash and a letter: write a value of several lines",
        )


def _shown_range(least: float, most: float) -> str:
    return f"write {least:g} or more" if most == math.inf else f"write {least:g} to {most:g}"


def _version(each: Instruction) -> Iterator[Finding]:
    try:
        read_version(each)
    except InvalidModelfile as error:
        yield _refused(error)
