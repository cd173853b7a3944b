"""What pulls, pushes and creations show of themselves on stderr: a line a step, with a bar where bytes are counted.

Where there is no cursor each step is one line, when it begins, and one every five seconds; nothing is redrawn. Knows the API's steps, not what they mean.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from .. import human
from . import terminal

_REDRAW_SECONDS = 0.1
_PRINT_SECONDS = 5.0
"""How often, where nothing is redrawn, a line tells how far it is."""

_RATE_SECONDS = 1.0
"""How long a rate is measured before it is shown."""


class Steps:
    """``with Steps() as steps: steps.show(step)`` for each step as the API gives it: status, total, completed, note."""

    def __init__(self) -> None:
        self._draws = terminal.has_cursor(sys.stderr)
        self._status = ""
        self._drawn_at = 0.0
        self._begun = (0.0, 0)  # when the bar began, and with how many bytes
        self._last: Mapping[str, Any] = {}

    def __enter__(self) -> Steps:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end()

    def show(self, step: Mapping[str, Any]) -> None:
        """Take note of a step; a new status ends the line of the one before."""
        status = str(step.get("status") or "")
        now = time.monotonic()
        if status != self._status:
            self.end()
            self._status = status
            self._begun = (now, int(step.get("completed") or 0))
            self._drawn_at = 0.0 if self._draws else now
            if not self._draws and status:
                self._print(terminal.printable(status))
        if not self._draws and step.get("note") and step.get("note") != self._last.get("note"):
            self._print(f"  {terminal.printable(str(step['note']))}")
        self._last = step
        if not self._draws and step.get("total") and now - self._drawn_at >= _PRINT_SECONDS:
            self._drawn_at = now
            self._print(line(step, self._rate(now), 0))
        if self._draws and now - self._drawn_at >= _REDRAW_SECONDS:
            self._drawn_at = now
            self._draw(now)

    def end(self) -> None:
        """End the line of the last step, as it stands."""
        if self._draws and self._status:
            self._draw(time.monotonic())
            sys.stderr.write("\n")
            sys.stderr.flush()
        self._status, self._last = "", {}

    def _print(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    def _draw(self, now: float) -> None:
        text = line(self._last, self._rate(now), terminal.columns() - 1)
        sys.stderr.write(f"\r{text}\x1b[K")
        sys.stderr.flush()

    def _rate(self, now: float) -> float:
        """Bytes a second since the bar began; 0 before that can be told."""
        began, first = self._begun
        seconds = now - began
        done = int(self._last.get("completed") or 0) - first
        return done / seconds if seconds >= _RATE_SECONDS and done > 0 else 0.0


def line(step: Mapping[str, Any], rate: float, columns: int) -> str:
    """A step in one line of at most so many cells, 0 for any number and no bar; ``rate`` is in bytes a second, 0 for unknown."""
    status = terminal.printable(str(step.get("status") or ""))
    total, completed = int(step.get("total") or 0), int(step.get("completed") or 0)
    note = terminal.printable(str(step.get("note") or ""))
    if not total:
        return _cut(f"{status}  ({note})" if note else status, columns)
    share = min(completed / total, 1.0)
    if share >= 1:
        size = human.format_bytes(total)
    else:
        size = f"{human.format_bytes(completed)}/{human.format_bytes(total)}"
    left = f"{status}: {int(share * 100):3d}% "
    right = f" {size:>15}"
    if rate and share < 1:
        seconds = (total - completed) / rate
        right += f"  {human.format_bytes(int(rate))}/s  {_span(seconds):>7}"
    if note:
        right += f"  {note}"
    if not columns:
        return " ".join(f"{left}{right}".split())
    room = columns - terminal.width(left) - terminal.width(right) - 2
    if room < 5:
        return _cut(left.rstrip() + right, columns)
    full = int(share * room)
    return f"{left}▕{'█' * full}{' ' * (room - full)}▏{right}"


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
