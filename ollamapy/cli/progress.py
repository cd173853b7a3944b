"""The progress of pulls, pushes and creations on stderr: a line a step, with a bar where bytes are counted.

Where there is no cursor each step is one line, when it begins, and one every five seconds; nothing is redrawn. Knows the API's steps, not what they mean.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from .. import human
from . import terminal

_REDRAW_SECONDS = 0.1
_PRINT_SECONDS = 5.0
"""Seconds between lines of progress where nothing is redrawn."""

_RATE_SECONDS = 1.0
"""How long a rate is measured before it is shown."""

_RATE_WINDOW = 5.0
"""Seconds that a rate is the average of."""

_MARGIN = 3
"""Cells left free behind a bar: the cursor, and the ^C that a terminal writes there."""


class Steps:
    """``with Steps() as steps: steps.show(step)`` for each step as the API gives it: status, total, completed, note."""

    def __init__(self) -> None:
        self._draws = terminal.has_cursor(sys.stderr)
        self._status = ""
        self._is_open = False  # a line is drawn and not ended
        self._drawn_at = 0.0
        self._counted = deque[tuple[float, int]]()  # times and the bytes that were there
        self._last: Mapping[str, Any] = {}

    def __enter__(self) -> Steps:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def show(self, step: Mapping[str, Any]) -> None:
        """Take note of a step; a new status ends the line of the one before. A remark on a step without bytes is a line of its
        own, which stays."""
        status, note = str(step.get("status") or ""), step.get("note")
        now = time.monotonic()
        if status != self._status:
            self.end()
            self._status = status
            self._counted.clear()
            self._drawn_at = 0.0 if self._draws else now
            self._is_open = self._draws
            if not self._draws and status:
                terminal.remark(status)
        note_before = self._last.get("note")
        self._last = step
        self._count(now)
        if note and note != note_before and not (self._draws and step.get("total")):
            self._end_line()
            terminal.remark(f"  {note}")
        if not self._draws and step.get("total") and now - self._drawn_at >= _PRINT_SECONDS:
            self._drawn_at = now
            terminal.remark(line(step, self._rate(), 0))
        if self._is_open and now - self._drawn_at >= _REDRAW_SECONDS:
            self._drawn_at = now
            self._draw()

    def end(self) -> None:
        """End the line of the last step, as it stands."""
        self._end_line()
        self._status, self._last = "", {}

    def _end_line(self) -> None:
        if self._is_open and self._status:
            self._draw()
            sys.stderr.write("\n")
            sys.stderr.flush()
        self._is_open = False

    def _draw(self) -> None:
        step = self._last if self._last.get("total") else {"status": self._status}
        text = line(step, self._rate(), terminal.columns() - _MARGIN)
        sys.stderr.write(f"\r{text}\x1b[K")
        sys.stderr.flush()

    def _count(self, now: float) -> None:
        self._counted.append((now, int(self._last.get("completed") or 0)))
        while now - self._counted[0][0] > _RATE_WINDOW and len(self._counted) > 2:
            self._counted.popleft()

    def _rate(self) -> float:
        """Bytes a second lately, without those that were there when the step began; 0 before it can be measured."""
        if not self._counted:
            return 0.0
        (began, first), (_, last) = self._counted[0], self._counted[-1]
        seconds = (
            time.monotonic() - began
        )  # not to the last step: there is none while nothing comes
        return (last - first) / seconds if seconds >= _RATE_SECONDS and last > first else 0.0


def line(step: Mapping[str, Any], rate: float, columns: int) -> str:
    """A step in one line of at most so many cells, 0 for any number and no bar; ``rate`` is in bytes a second, 0 for unknown.

    Where the terminal is narrow the bar goes first, then the remark, the rate, the time.
    """
    status = human.one_line(str(step.get("status") or ""))
    total, completed = int(step.get("total") or 0), int(step.get("completed") or 0)
    note = human.one_line(str(step.get("note") or ""))
    if not total:
        return _cut(f"{status}  ({note})" if note else status, columns)
    share = min(completed / total, 1.0)
    if share >= 1:
        size = human.format_bytes(total)
    else:
        size = f"{human.format_bytes(completed)}/{human.format_bytes(total)}"
    left = f"{status}: {int(share * 100):3d}% "
    speed = span = ""
    if rate and share < 1:
        speed, span = f"{human.format_bytes(int(rate))}/s", _span((total - completed) / rate)
    if columns:
        right = f" {size:>15}" + (f"  {speed}  {span:>7}" if speed else "")
        right += f"  {note}" if note else ""
        room = columns - terminal.width(left) - terminal.width(right) - 2
        if room >= 5:
            full = int(share * room)
            return f"{left}▕{'█' * full}{' ' * (room - full)}▏{right}"
    left = f"{status}: {int(share * 100)}%"
    for facts in ((size, speed, span, note), (size, speed, span), (size, span), (size,), ()):
        text = " ".join([left, *(fact for fact in facts if fact)])
        if not columns or terminal.width(text) <= columns:
            break
    return _cut(text, columns) if columns else text


def _span(seconds: float) -> str:
    if seconds >= 100 * 3600:
        return "99h+"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def _cut(text: str, columns: int) -> str:
    while terminal.width(text) > max(columns, 1):
        text = text[:-1]
    return text
