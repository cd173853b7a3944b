"""Read tool calls that are written with tags: a name, then each argument between tags of its own.

    <tool_call><function=NAME><parameter=KEY>VALUE</parameter></function></tool_call>

Values are text; the tool's schema gives their types.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .jsoncalls import parsed_object
from .segments import Segment, Text
from .tags import held
from .tools import Call, Tools

MAX_TAG = 512
"""Characters between what begins a tag and what ends it."""


@dataclass(frozen=True)
class XmlForm:
    """``name`` and ``key`` are what is before it, the characters one of which ends it, and what is
    looked for after it (between may be other attributes). ``padded``: a value has a line break of
    its own before and after it. ``texts``: the attributes in a key's tag for a value that is text, and for
    one that is JSON. ``skipped`` may be between the
    arguments; ``quoted`` may be around a value.
    """

    name: tuple[str, str, str]
    key: tuple[str, str, str]
    value_end: str
    call_end: str
    opens: tuple[str, ...]
    closes: tuple[str, ...] = ()
    padded: bool = False
    texts: tuple[str, str] = ("", "")
    skipped: tuple[str, ...] = ()
    quoted: tuple[str, str] = ("", "")
    starts: tuple[str, ...] = ()

    def takes(self, character: str) -> bool:
        first = self.name[0][:1]
        return character == first if first else character not in ("{", "[", "")

    def body(self, tools: Tools) -> XmlBody:
        return XmlBody(self, tools)

    @cached_property
    def wrappers(self) -> tuple[str, ...]:
        """The tags that may come before a call."""
        return tuple(tag for tag in self.opens if tag != self.name[0])


class XmlBody:
    """Reads one section in an :class:`XmlForm`."""

    def __init__(self, form: XmlForm, tools: Tools) -> None:
        self._form, self._tools = form, tools
        self._buffer = ""  # not yet understood
        self._kept: list[str] = []  # understood, since the last call
        self._called = False
        self._call: Call | None = None
        self._name = ""
        self._arguments: dict[str, Any] = {}
        self._key: str | None = None  # whose value is being read
        self._is_text: bool | None = None  # as its tag says
        self._value: list[str] = []
        self._streams = False  # the value is text whatever comes
        self._is_padded = False  # the value has begun with a line break of its own
        self.cut_call = False

    def feed(self, text: str) -> tuple[list[Segment], str | None]:
        segments: list[Segment] = []
        self._buffer += text
        while True:
            if self._call is None:
                go_on = self._read_name()
            elif self._key is None:
                go_on = self._read_key(segments)
            else:
                go_on = self._read_value(segments)
            if go_on is None:
                return segments, None
            if not go_on:
                rest, self._buffer = self._buffer, ""
                if self._kept:
                    segments.append(Text("".join(self._kept)))
                return segments, rest

    def flush(self, cut: bool = False) -> tuple[list[Segment], str | None]:
        rest = self._buffer.strip()
        ends = self._form.call_end.startswith(rest)
        if cut and self._form.key[0].startswith(rest):
            ends = False  # another argument may have been cut off
        if self._call is not None and self._key is None and ends:
            return self._done(), None  # only the end is missing
        if (
            self._call is None
            and self._called
            and any(tag.startswith(rest) for tag in ("", *self._form.closes))
        ):
            return [], None
        if cut:
            self.cut_call = True
            return [], None
        return [Text("".join(self._kept) + self._buffer)], None

    # Each of these takes what it understands off the buffer: True: go on; None: more text is needed;
    # False: the section is over, what is kept is text, what is in the buffer is read again.

    def _read_name(self) -> bool | None:
        form = self._form
        if not self._skip_space():
            return None
        for tag in form.wrappers:
            if self._buffer.startswith(tag):
                self._keep(len(tag))
                return True
        for tag in form.closes:
            if self._called and self._buffer.startswith(tag):
                self._buffer = self._buffer[len(tag) :]
                self._kept.clear()
                return False
        before, ends, after = form.name
        if held(self._buffer, (before, *form.wrappers, *form.closes)) == len(self._buffer):
            return None
        if self._buffer.startswith(before):
            found = self._tag(before, ends, after)
            if found is not None:
                name, size = found
                if name in self._tools.parameters:
                    self._keep(size)
                    self._call, self._name = self._tools.call(name), name
                    self._arguments = {}
                    return True
            elif self._could_be_named(self._buffer[len(before) :], ends):
                return None
        if self._kept or self._called:
            return False
        self._keep(max(1, len(before)))
        return False

    def _could_be_named(self, begun: str, ends: str) -> bool:
        """Whether a known name may begin so, or is complete, and the tag continues."""
        size = next((at for at, character in enumerate(begun) if character in ends), -1)
        if size < 0:
            return any(name.startswith(begun.strip()) for name in self._tools.parameters)
        return begun[:size].strip() in self._tools.parameters and len(begun) < MAX_TAG

    def _read_key(self, segments: list[Segment]) -> bool | None:
        form = self._form
        if not self._skip_space():
            return None
        if self._buffer.startswith(form.call_end):
            self._keep(len(form.call_end))
            segments += self._done()
            # Where the call's end is the section's end too, it is over.
            return False if form.call_end in form.closes else True
        for mark in form.skipped:
            if self._buffer.startswith(mark):
                self._keep(len(mark))
                return True
        before, ends, after = form.key
        found = self._tag(before, ends, after)
        if found is not None:
            key, size = found
            self._is_text = self._said(self._buffer[:size])
            self._keep(size)
            self._begin_value(key)
            return True
        if self._buffer.startswith(before) and len(self._buffer) < MAX_TAG:
            return None
        if held(self._buffer, (before, form.call_end, *form.skipped)) == len(self._buffer):
            return None
        return False

    def _said(self, tag: str) -> bool | None:
        is_text, is_json = self._form.texts
        if is_text and is_text in tag:
            return True
        return False if is_json and is_json in tag else None

    def _begin_value(self, key: str) -> None:
        self._key, self._value = key, []
        schema = self._tools.properties(self._name).get(key)
        kinds = kinds_of(schema)
        is_text = self._is_text is True or (self._is_text is None and kinds == {"string"})
        self._streams = is_text and not self._form.quoted[0]

    def _read_value(self, segments: list[Segment]) -> bool | None:
        assert self._call is not None and self._key is not None
        quote = self._open_quote()
        if quote is None:
            return None
        end = self._buffer.find(self._form.value_end, quote)
        if end < 0:
            tags = [self._form.value_end]
            if self._form.padded:
                tags.append("\n" + self._form.value_end)
            size = len(self._buffer) - held(self._buffer, tags)
            self._take(size, segments, final=False)
            return None
        self._take(end, segments, final=True)
        self._keep(len(self._form.value_end))
        text = "".join(self._value)
        key, self._key = self._key, None
        if self._streams:
            self._arguments[key] = text
            segments += self._call.piece('"')
        else:
            text = self._unquoted(text)
            schema = self._tools.properties(self._name).get(key)
            member = self._member(key)
            self._arguments[key] = value = coerced(text, schema, self._is_text)
            segments += self._call.piece(member + json.dumps(value, ensure_ascii=False))
        return True

    def _open_quote(self) -> int | None:
        """Where in the buffer the value's end is to be looked for: after its quotes, if it has them;
        None while they are open."""
        before, after = self._form.quoted
        begun = self._buffer.lstrip()
        if not before or self._value or not begun.startswith(before[: len(begun)]):
            return 0
        return self._buffer.find(after) if after in self._buffer else None

    def _take(self, size: int, segments: list[Segment], final: bool) -> None:
        """The next ``size`` characters belong to the value."""
        assert self._call is not None and self._key is not None
        piece = self._buffer[:size]
        self._keep(size)
        begins = not self._value
        if self._form.padded:
            if begins:
                self._is_padded = piece.startswith("\n")
                piece = piece.removeprefix("\n")
            if final and self._is_padded:
                piece = piece.removesuffix("\n")
        if not (size or final):
            return
        self._value.append(piece)
        if self._streams:
            text = json.dumps(piece, ensure_ascii=False)[1:-1]
            segments += self._call.piece((self._member(self._key) + '"' if begins else "") + text)

    def _unquoted(self, text: str) -> str:
        before, after = self._form.quoted
        is_quoted = before and text.startswith(before) and text.endswith(after)
        return text[len(before) : len(text) - len(after)] if is_quoted else text

    def _member(self, key: str) -> str:
        start = ", " if self._arguments else "{"
        return f"{start}{json.dumps(key, ensure_ascii=False)}: "

    def _done(self) -> list[Segment]:
        assert self._call is not None
        segments = self._call.piece("}" if self._arguments else "{}")
        segments += self._call.done(self._arguments)
        self._call, self._called = None, True
        self._kept.clear()
        return segments

    # ---- the buffer ----

    def _skip_space(self) -> bool:
        """Whether anything but white space is there."""
        size = len(self._buffer) - len(self._buffer.lstrip())
        self._keep(size)
        return bool(self._buffer)

    def _keep(self, size: int) -> None:
        if size:
            self._kept.append(self._buffer[:size])
            self._buffer = self._buffer[size:]

    def _tag(self, before: str, ends: str, after: str) -> tuple[str, int] | None:
        """The name in the tag at the beginning of the buffer, and the tag's length."""
        if not self._buffer.startswith(before):
            return None
        start = len(before)
        places = (self._buffer.find(end, start, MAX_TAG) for end in ends)
        stop = min((place for place in places if place >= 0), default=-1)
        if stop < 0:
            return None
        size = self._buffer.find(after, stop, MAX_TAG) + len(after) if after else stop
        return (self._buffer[start:stop].strip(), size) if size >= stop + len(after) else None


# ---- the value of a text ----------------------------------------------------------------------


def kinds_of(schema: Any) -> set[str]:
    """The JSON types that a schema allows; empty where it leaves that open."""
    if not isinstance(schema, Mapping):
        return set()
    kind = schema.get("type")
    if isinstance(kind, str):
        return {kind}
    if isinstance(kind, list):
        return {item for item in kind if isinstance(item, str)}
    for key in ("anyOf", "oneOf", "allOf"):
        if isinstance(schema.get(key), list):
            return set().union(*map(kinds_of, schema[key]))
    values = schema.get("enum")
    if isinstance(values, list) and values:
        return {"string"} if all(isinstance(item, str) for item in values) else set()
    return set()


def coerced(text: str, schema: Any, is_text: bool | None = None) -> Any:
    """The value of ``text`` by a parameter's schema: JSON (or a Python literal) of an
    allowed type, else the text itself. ``is_text`` is the model's own mark of it, None if there is none.
    """
    if is_text:
        return text
    kinds = kinds_of(schema)
    stripped = text.strip()
    if is_text is None and kinds == {"string"}:
        return text
    value = _literal(stripped)
    if value is _NOT_ONE or (kinds and not _is_of(value, kinds)):
        return text
    if kinds & {"integer"} and "number" not in kinds and isinstance(value, float):
        return int(value)
    return value


_NOT_ONE = object()


def _literal(text: str) -> Any:
    if text.startswith("{"):
        value = parsed_object(text)
        if value is not None:
            return value
    wrapped = parsed_object(f'{{"value": {text}}}') if text else None
    if wrapped is not None and len(wrapped) == 1 and "value" in wrapped:
        return wrapped["value"]
    if text in ("True", "False", "None"):
        return {"True": True, "False": False, "None": None}[text]
    if len(text) > 65536 or not text.startswith(("[", "{", "(", "'")):
        return _NOT_ONE
    try:
        value = ast.literal_eval(text)
        return json.loads(json.dumps(value))
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return _NOT_ONE


def _is_of(value: Any, kinds: set[str]) -> bool:
    if value is None:
        return "null" in kinds
    if isinstance(value, bool):
        return "boolean" in kinds
    if isinstance(value, int):
        return bool(kinds & {"integer", "number"})
    if isinstance(value, float):
        return "number" in kinds or ("integer" in kinds and value.is_integer())
    kind = "string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"
    return kind in kinds
