"""Read tool calls whose arguments are a JSON object: ``{"name": .., "arguments": {..}}``, alone or
in a list, or a name and after it the object of its arguments.

Also :class:`JsonScanner`, which finds the end of a JSON object while it is written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .segments import Segment, Text
from .tags import held
from .tools import Call, Tools

MAX_DEPTH = 64
"""Of objects and lists in each other. Deeper text is no call."""

MAX_LEAD = 1024
"""Characters between a section's tag and its object, and of the object's beginning in which name
and arguments are looked for while the object is written."""

_SPECIAL_INSIDE = re.compile(r'["\\\x00-\x1f]')
_SPECIAL_OUTSIDE = re.compile(r'["{}\[\]]')


class JsonScanner:
    """Follows one JSON object or list, piece by piece."""

    def __init__(self) -> None:
        self.depth = 0
        self._in_string = self._escaped = False

    def feed(self, text: str, start: int = 0) -> tuple[int, str]:
        """Where in ``text`` the object ends (-1: not yet) and the JSON text up to there, in which
        control characters in strings are escaped: models write them as they are. It ends too where
        ``depth`` becomes more than MAX_DEPTH."""
        pieces: list[str] = []
        done = at = start
        while at < len(text):
            if self._escaped:
                self._escaped = False
                at += 1
                continue
            pattern = _SPECIAL_INSIDE if self._in_string else _SPECIAL_OUTSIDE
            found = pattern.search(text, at)
            if found is None:
                break
            at = found.end()
            character = found[0]
            if character == '"':
                self._in_string = not self._in_string
            elif character == "\\":
                self._escaped = True
            elif character < " ":
                pieces += (text[done : found.start()], json.dumps(character)[1:-1])
                done = at
            elif character in "{[":
                self.depth += 1
                if self.depth > MAX_DEPTH:
                    pieces.append(text[done:at])
                    return at, "".join(pieces)
            else:
                self.depth -= 1
                if self.depth == 0:
                    pieces.append(text[done:at])
                    return at, "".join(pieces)
        pieces.append(text[done:])
        return -1, "".join(pieces)


def parsed_object(text: str) -> dict[str, Any] | None:
    """The JSON object in ``text``, None if it is none. Control characters in strings are allowed,
    lone surrogates become U+FFFD, as no answer could carry them."""
    try:
        value = json.loads(text, strict=False, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    return _without_surrogates(value) if "\\ud" in text.lower() else value


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    return value


# ---- an object with its tool's name ----------------------------------------------------------------

_NAMES = ("name", "tool_name")
_ARGUMENTS = ("arguments", "parameters")
_OTHERS = ("id", "type", "index", "call_id", "tool_call_id", "function", "tool_calls")

_PLAIN = r'\s*"(?:id|type|index|call_id|tool_call_id)"\s*:\s*(?:"[^"\\]*"|\d+)\s*,'
_NAMED = rf'\{{(?:{_PLAIN})*\s*"(?:name|tool_name)"\s*:\s*"(?P<name>[^"\\]*)"'
_HEAD_KEYS = re.compile(rf"\{{(?:{_PLAIN})*\s*")
_NEXT_KEY = re.compile(r'"(?P<key>[^"\\]*)(?:(?P<closed>")(?:\s*:\s*"(?P<value>[^"\\]*))?)?')
_PLAIN_BEGUN = re.compile(
    r'"(?:id|type|index|call_id|tool_call_id)"\s*(?::\s*(?:"[^"\\]*"?|\d*)\s*)?'
)
_FIRST_KEY = re.compile(r'\{\s*(?:"(?P<key>[^"\\]*)"|(?P<bad>[^\s"}]|"[^"\\]*\\))')
_NAME = re.compile(_NAMED)
_HEAD = re.compile(rf'{_NAMED}\s*,(?:{_PLAIN})*\s*"(?:arguments|parameters)"\s*:\s*(?=\{{)')
_ID = re.compile(r'"(?:id|call_id|tool_call_id)"\s*:\s*"([^"\\]+)"')


@dataclass(frozen=True, slots=True)
class FoundCall:
    """A call as an object describes it."""

    name: str
    arguments: dict[str, Any]
    id: str = ""


def calls_in(value: Mapping[str, Any], tools: Tools) -> list[FoundCall]:
    """The calls of known tools in an object: ``{"name", "arguments"}`` (or
    ``parameters``; JSON in a string too), ``{"function": {..}}``, ``{"tool_calls": [..]}``,
    ``{TOOL: {..}}``. Empty if it is anything else."""
    name = next((value[key] for key in _NAMES if key in value), None)
    if name is not None:
        if not isinstance(name, str) or name not in tools.parameters:
            return []
        id = next((value[key] for key in ("id", "call_id") if isinstance(value.get(key), str)), "")
        for key in _ARGUMENTS:
            arguments = _as_object(value.get(key))
            if arguments is not None:
                return [FoundCall(name, arguments, id)]
        absent = all(value.get(key) is None for key in _ARGUMENTS)
        return [FoundCall(name, {}, id)] if absent and not tools.needs_arguments(name) else []
    if isinstance(value.get("function"), dict):
        return calls_in(value["function"], tools)
    if isinstance(value.get("tool_calls"), list):
        items = [item for item in value["tool_calls"] if isinstance(item, dict)]
        return [call for item in items for call in calls_in(item, tools)]
    found = [(key, _as_object(item)) for key, item in value.items() if key in tools.parameters]
    return [FoundCall(key, arguments) for key, arguments in found if arguments is not None]


def may_be_call(begun: str, tools: Tools) -> bool:
    """Whether an object that begins so may be a call of a known tool: all of its keys and values may be those of one."""
    head = _HEAD_KEYS.match(begun)
    rest = begun[head.end() :] if head is not None else ""
    key = _NEXT_KEY.match(rest)
    if key is None or _PLAIN_BEGUN.fullmatch(rest):
        return True
    known = (*_NAMES, *_ARGUMENTS, "function", "tool_calls", *tools.parameters)
    if not key["closed"]:
        return any(each.startswith(key["key"]) for each in (*known, *_OTHERS))
    if key["key"] in _NAMES and key["value"] is not None:
        return any(name.startswith(key["value"]) for name in tools.parameters)
    return key["key"] in known


def _as_object(value: Any) -> dict[str, Any] | None:
    if isinstance(value, str):
        return parsed_object(value)
    return value if isinstance(value, dict) else None


# ---- the body ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class JsonForm:
    """``closes`` end a section. ``words`` are marks that may come before, after or between name
    and object, ``patterns`` (a regular expression) what else may; ``id`` finds the call's id in
    the text before the object (its first group). ``mute``: a section without a call is no text.
    """

    opens: tuple[str, ...] = ()
    starts: tuple[str, ...] = ()
    closes: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    patterns: str = ""
    id: str = ""
    mute: bool = False

    def takes(self, character: str) -> bool:
        return character in ("{", "[")

    def body(self, tools: Tools) -> JsonBody:
        return JsonBody(self, tools)

    @cached_property
    def tags(self) -> tuple[str, ...]:
        return (*self.opens, *self.starts, *self.closes, *self.words)

    def lead(self, tools: Tools, called: bool) -> re.Pattern[str]:
        """What may come before an object: separators, marks and at most one known name. After a
        call (``called``) what ends the section does so even where a longer mark has the same beginning."""
        marks = sorted({*self.opens, *self.starts, *self.words} - {"{"}, key=len, reverse=True)
        closes = "|".join(map(re.escape, self.closes)) or "(?!)"
        separators = rf"(?!{closes})[\s,\[\]\"'`:=(;]"
        ends = f"(?!{closes})" if called else ""
        patterns = [self.patterns] if self.patterns else []
        separator = f"{ends}(?:{'|'.join([*patterns, *map(re.escape, marks), separators])})"
        names = "|".join(map(re.escape, tools.names)) or "(?!)"
        between = f"(?:{separator})*"
        return re.compile(rf"{between}(?:(?P<name>{names})(?![\w-]){between})?")


class JsonBody:
    """Reads one section in a :class:`JsonForm`."""

    def __init__(self, form: JsonForm, tools: Tools) -> None:
        self._form, self._tools = form, tools
        self._lead = form.lead(tools, called=False)
        self._waits_for = (*form.tags, *tools.names)
        self._text = ""  # the lead so far; in an object, its first MAX_LEAD characters
        self._kept: list[str] = []  # the text since the last call
        self._called = False
        self._scanner: JsonScanner | None = None
        self._named: Call | None = None  # the object is this one's arguments
        self._streamed: Call | None = None  # the object's arguments are given while written
        self._arguments = JsonScanner()
        self._pieces: list[str] = []  # of the arguments of either
        self._settled = False  # nothing more can be known before the object's end
        self.cut_call = False

    def feed(self, text: str) -> tuple[list[Segment], str | None]:
        segments: list[Segment] = []
        rest: str | None = text
        while rest:
            read = self._read_lead if self._scanner is None else self._read_object
            read_segments, rest, over = read(rest)
            segments += read_segments
            if over:
                return segments, rest or ""
        return segments, None

    def flush(self, cut: bool = False) -> tuple[list[Segment], str | None]:
        if self._scanner is None and self._called and self._is_closing(self._text):
            return [], None
        if cut and self._may_call():
            self.cut_call = True
            return [], None
        if self._scanner is None:
            return self._leave(self._text)[:2]
        return [Text("".join(self._kept))], None

    def _may_call(self) -> bool:
        """Whether what has been read is a call without its end, or the beginning of one."""
        if self._scanner is None or self._named or self._streamed:
            return True
        return self._kept[0].startswith(self._form.opens or "\0") or may_be_call(
            self._text, self._tools
        )

    def _is_closing(self, text: str) -> bool:
        """Whether ``text`` is the text after a call, as far as the model has written it."""
        for word in sorted(self._form.words, key=len, reverse=True):
            text = text.replace(word, "")
        rest = text.strip(" \t\r\n,]")
        return any(tag.startswith(rest) for tag in ("", *self._form.closes))

    # ---- before an object ----

    def _read_lead(self, text: str) -> tuple[list[Segment], str | None, bool]:
        """Events, the rest of the text, and whether the section is over."""
        self._text += text
        lead = self._lead.match(self._text)
        assert lead is not None  # it may match nothing
        end = lead.end()
        if end == len(self._text) < MAX_LEAD:
            return [], None, False
        if self._text.startswith("{", end) and end < MAX_LEAD:
            return self._begin_object(lead)
        close = next((tag for tag in self._form.closes if self._text.startswith(tag, end)), None)
        if close is not None and (self._called or self._form.mute) and lead["name"] is None:
            return [], self._text[end + len(close) :], True
        waiting = held(self._text, self._waits_for)
        if end + waiting >= len(self._text) < MAX_LEAD:
            return [], None, False
        return *self._leave(self._text), True

    def _begin_object(self, lead: re.Match[str]) -> tuple[list[Segment], str | None, bool]:
        before, rest = self._text[: lead.end()], self._text[lead.end() :]
        self._kept = [before]
        self._text = ""
        self._scanner = JsonScanner()
        self._named = self._streamed = None
        self._pieces = []
        self._settled = False
        if lead["name"] is not None:
            id = re.search(self._form.id, before) if self._form.id else None
            self._named = self._tools.call(lead["name"], id[1] if id else "")
        return [], rest, False

    def _leave(self, text: str) -> tuple[list[Segment], str]:
        """The section is over here: its tag is text, what follows is read again. After a call, what
        ends a list is no text."""
        if self._called:
            return [], re.sub(r"\A\s*[\],;]+", "", text)
        tags = [tag for tag in (*self._form.opens, *self._form.starts) if text.startswith(tag)]
        end = max(map(len, tags), default=1)
        return [Text(text[:end])], text[end:]

    # ---- in an object ----

    def _read_object(self, text: str) -> tuple[list[Segment], str | None, bool]:
        assert self._scanner is not None
        segments: list[Segment] = []
        if not self._settled and self._named is None:
            self._text += text[: max(0, MAX_LEAD - len(self._text))]
            if self._is_something_else():
                return *self._leave("".join(self._kept) + text), True
        end, piece = self._scanner.feed(text)
        upto = text if end < 0 else text[:end]
        segments += self._stream(upto, piece)
        self._kept.append(upto)
        if end < 0:
            return segments, None, False
        called = None if self._scanner.depth else self._end_object()
        if called is None:
            return [*segments, Text("".join(self._kept))], text[end:], True
        if not self._called:
            self._called = True
            self._lead = self._form.lead(self._tools, called=True)
        self._kept = []
        self._text = ""
        self._scanner = None
        return segments + called, text[end:], False

    def _is_something_else(self) -> bool:
        """Whether the object's beginning already shows that it is no call of a known tool."""
        key = _FIRST_KEY.match(self._text)
        if key is None:
            return False
        known = {*_NAMES, *_ARGUMENTS, *_OTHERS, *self._tools.parameters}
        if key["bad"] or key["key"] not in known:
            return True
        name = _NAME.match(self._text)
        return name is not None and name["name"] not in self._tools.parameters

    def _stream(self, text: str, piece: str) -> list[Segment]:
        """The arguments' next piece: all of the object, or what comes after its head."""
        if self._named is not None:
            self._pieces.append(piece)
            return self._named.piece(piece)
        if self._streamed is None and not self._settled:
            head = _HEAD.match(self._text)
            if head is None or not self._text.startswith("{", head.end()):
                self._settled = len(self._text) >= MAX_LEAD
                return []
            id = _ID.search(head[0])
            self._streamed = self._tools.call(head["name"], id[1] if id else "")
            self._settled = True
            text = ("".join(self._kept)[self._before() :] + text)[head.end() :]
        elif self._streamed is None:
            return []
        if self._arguments.depth == 0 and self._pieces:
            return []  # they have ended, the object around them not yet
        _, piece = self._arguments.feed(text)
        self._pieces.append(piece)
        return self._streamed.piece(piece)

    def _before(self) -> int:
        return len(self._kept[0])

    def _end_object(self) -> list[Segment] | None:
        """The segments of the calls that the object is; None if it is none."""
        call = self._named or self._streamed
        text = "".join(self._kept)[self._before() :]
        value = parsed_object(text)
        if value is None:
            return None
        if call is not None:
            arguments = parsed_object("".join(self._pieces))
            return None if arguments is None else call.done(arguments)
        segments: list[Segment] = []
        for found in calls_in(value, self._tools):
            call = self._tools.call(found.name, found.id)
            segments += call.piece(json.dumps(found.arguments, ensure_ascii=False))
            segments += call.done(found.arguments)
        return segments or None
