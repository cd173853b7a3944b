"""Find the tool calls in an answer: text is looked through for the tags that begin a section, and a
section is read by a body (``jsoncalls.py``, ``xmlcalls.py``, ``pycalls.py``) until that reports its
end. Nothing here depends on a model; the tags of each family are in ``families.py``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from .segments import Segment, Text
from .tags import held, is_mark
from .tools import Tools


class Body(Protocol):
    """Reads one section, beginning with the tag that opened it."""

    def feed(self, text: str) -> tuple[list[Segment], str | None]:
        """The segments that are complete after ``text``; and when the section is over, what is to be read again as
        text after it (else None). Where the section ends does not depend on how text is cut."""

    def flush(self, cut: bool = False) -> tuple[list[Segment], str | None]:
        """The segments at the end of the answer, and what is to be read again as text. Where the answer was ``cut``, a call
        that has begun (or may have) is no text."""

    @property
    def cut_call(self) -> bool:
        """Whether the section, flushed, ended within a call."""


class Form(Protocol):
    """How one kind of section is written."""

    @property
    def opens(self) -> tuple[str, ...]:
        """The tags that begin it, anywhere in the text."""

    @property
    def starts(self) -> tuple[str, ...]:
        """The tags that begin it only where no text (but white space) is before them."""

    def takes(self, character: str) -> bool:
        """Whether a section may continue so after its tag; called where forms share a tag."""

    def body(self, tools: Tools) -> Body:
        """A reader of one section."""


class SectionParser:
    """``forms`` in the order in which they are tried where they share a tag; ``drops`` are marks
    that are no part of the text."""

    def __init__(self, forms: Sequence[Form], drops: Sequence[str], tools: Tools) -> None:
        self._forms, self._tools = forms, tools
        self._drops = tuple(drops)
        opens = {tag for form in forms for tag in form.opens}
        starts = {tag for form in forms for tag in form.starts}
        self._tags = tuple(opens | set(drops))
        self._first_tags = tuple(opens | starts | set(drops))
        self._found = _any_of(self._tags)
        self._found_first = _any_of(self._first_tags)
        self._buffer = ""
        self._blank = True  # no text but white space so far
        self._tag = ""  # one that several forms share
        self._body: Body | None = None
        self._after_call = False  # nothing but white space since a section with a call
        self._space: list[str] = []  # white space that came last: no text beside a call
        self.cut_call = False
        self._left_out = ""  # is to be left out of the first text, if that begins with it

    def feed(self, text: str) -> list[Segment]:
        """The segments that are complete after ``text``."""
        segments: list[Segment] = []
        self._buffer += text
        while self._buffer:
            if self._body is not None:
                found, rest = self._body.feed(self._buffer)
                self._add(segments, found)
                if rest is None:
                    self._buffer = ""
                    break
                self._body, self._buffer = None, rest
            elif self._tag:
                if not self._chose():
                    break
            elif not self._found_section(segments):
                break
        return segments

    def begin(self, tag: str) -> None:
        """Read on after ``tag``, which the prompt ends with: it begins a section, and is no text."""
        self.feed(tag)
        self._left_out = tag

    def flush(self, cut: bool = False) -> list[Segment]:
        """What was held back until the end. Where that was ``cut``, the beginning of a call or of a mark is no text."""
        segments: list[Segment] = []
        while self._body is not None:
            found, rest = self._body.flush(cut)
            self.cut_call |= self._body.cut_call
            self._add(segments, found)
            self._body = None
            if rest:
                segments += self.feed(rest)
        begun = self._tag + self._buffer
        if cut and begun and (self._blank or is_mark(begun)):
            self.cut_call = True
        else:
            self._add(segments, [Text(begun)])
        if not self._after_call and not self.cut_call:
            segments.append(Text("".join(self._space)))
        self._buffer = self._tag = ""
        self._space.clear()
        return segments

    def _found_section(self, segments: list[Segment]) -> bool:
        """Give out the text up to the next tag; whether there is one in the buffer."""
        found = (self._found_first if self._blank else self._found).search(self._buffer)
        if found is not None and self._blank and found[0] not in self._tags:
            # A tag that counts only at the beginning: no text may be before it.
            if self._buffer[: found.start()].strip():
                found = self._found.search(self._buffer)
        tags = self._first_tags if self._may_start() else self._tags
        if found is not None and self._may_be_longer(found.start()):
            self._add(segments, [Text(self._buffer[: found.start()])])
            self._buffer = self._buffer[found.start() :]
            return False
        if found is None:
            keep = held(self._buffer, tags)
            end = len(self._buffer) - keep
            self._add(segments, [Text(self._buffer[:end])])
            self._buffer = self._buffer[end:]
            return False
        self._add(segments, [Text(self._buffer[: found.start()])])
        self._buffer = self._buffer[found.end() :]
        tag = found[0]
        if tag in self._drops:
            return True
        self._tag = tag
        return self._chose()

    def _may_be_longer(self, start: int) -> bool:
        """Whether all from there on is the beginning of a tag: "[" is one, and begins [TOOL_CALLS]."""
        begun = self._buffer[start:]
        return any(len(tag) > len(begun) and tag.startswith(begun) for tag in self._first_tags)

    def _may_start(self) -> bool:
        return self._blank and not self._buffer.strip()

    def _chose(self) -> bool:
        """Take the form of the tag and the character after it; False while the latter
        is needed and unknown."""
        forms = [form for form in self._forms if self._tag in (*form.opens, *form.starts)]
        if len(forms) > 1:
            following = self._buffer.lstrip()[:1]
            if not following and len(self._buffer) < 64:
                return False
            forms = [form for form in forms if form.takes(following)] or forms
        self._body = forms[0].body(self._tools)
        self._buffer = self._tag + self._buffer
        self._tag = ""
        return True

    def _add(self, segments: list[Segment], found: Sequence[Segment]) -> None:
        for segment in found:
            if isinstance(segment, Text) and self._left_out:
                segment = Text(segment.text.removeprefix(self._left_out))
            self._left_out = ""
            if not isinstance(segment, Text):
                self._after_call = True
                self._space.clear()
                segments.append(segment)
            elif text := segment.text.rstrip():
                self._blank = self._after_call = False
                segments.append(Text("".join((*self._space, text))))
                self._space = [segment.text[len(text) :]]
            else:
                self._space.append(segment.text)


def _any_of(tags: Sequence[str]) -> re.Pattern[str]:
    longest_first = sorted(tags, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
