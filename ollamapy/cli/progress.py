"""The progress of pulls, pushes, creations and checks on stderr: a line a step, with a bar where bytes are counted.

On a terminal rich redraws the steps that go on, several at once, each with its rate and the time that is left; a step that has
ended is a line above them, which stays. Elsewhere each step is one line, when it begins, and one every five seconds; nothing is
redrawn. Knows the API's steps, not what they mean.
"""

from __future__ import annotations

import re
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .. import human
from . import drawing, terminal

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

_REDRAWS = 10
"""Times a second that the board is redrawn."""

_PRINT_SECONDS = 5.0
"""Seconds between lines of progress where nothing is redrawn."""

_RATE_SECONDS = 1.0
"""How long a rate is measured before it is shown."""

_RATE_WINDOW = 5.0
"""Seconds that a rate is the average of."""

_DONE = "success"
"""The last step of every job."""

_MARGIN = 3
"""Cells left free behind a bar: the cursor, and the ^C that a terminal writes there."""


def is_drawn() -> bool:
    """Whether progress is redrawn: on a terminal that can."""
    return terminal.has_cursor(sys.stderr) and sys.stdout.isatty()


class Rate:
    """How fast bytes come: ``count`` what is there, ``now`` bytes a second."""

    def __init__(self) -> None:
        self._counted = deque[tuple[float, int]]()  # times and the bytes that were there

    def count(self, completed: int) -> None:
        """Take note of the bytes that are there now."""
        now = time.monotonic()
        self._counted.append((now, completed))
        while now - self._counted[0][0] > _RATE_WINDOW and len(self._counted) > 2:
            self._counted.popleft()

    def now(self) -> float:
        """Bytes a second lately, without those that were there when the step began; 0 before it can be measured."""
        if not self._counted:
            return 0.0
        (began, first), (_, last) = self._counted[0], self._counted[-1]
        # Not to the last count: there is none while nothing comes
        seconds = time.monotonic() - began
        return (last - first) / seconds if seconds >= _RATE_SECONDS and last > first else 0.0


class Steps:
    """``with Steps() as steps: steps.show(step)`` for each step as the API gives it: status, total, completed, note.

    With a ``board`` several show their steps there at once, each under its ``label``.
    """

    def __init__(self, board: Board | None = None, label: str = "") -> None:
        self._draws = is_drawn()
        self._board = board or (Board() if self._draws else None)
        self._is_own = board is None
        self._label = label
        self._status = ""
        self._is_kept = False  # the step's line is above the board already
        self._printed_at = 0.0
        self._rate = Rate()
        self._last: Mapping[str, Any] = {}

    def __enter__(self) -> Steps:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def show(self, step: Mapping[str, Any]) -> None:
        """Take note of a step; a new status ends the line of the one before. A remark on a step without bytes is a line of its
        own, which stays."""
        status, note, now = str(step.get("status") or ""), step.get("note"), time.monotonic()
        if status != self._status:
            self._end_line()
            self._status, self._rate, self._printed_at = status, Rate(), now
            self._is_kept = False
            if not self._board and status:
                terminal.remark(status)
        note_before, self._last = self._last.get("note"), step
        self._rate.count(int(step.get("completed") or 0))
        if note and note != note_before and not (self._board and step.get("total")):
            self._note(f"  {note}")
        if self._board:
            if self._status and not self._is_kept:
                self._board.put(self, self._now())
        elif step.get("total") and now - self._printed_at >= _PRINT_SECONDS:
            self._printed_at = now
            terminal.remark(line(step, self._rate.now(), 0))

    def end(self) -> None:
        """End the line of the last step, as it stands."""
        self._end_line()
        self._status, self._last = "", {}
        if self._board and self._is_own:
            self._board.close()

    def _now(self) -> Bar:
        step = self._last if self._last.get("total") else {"status": self._status}
        return Bar(self._label, step, self._rate)

    def _note(self, text: str) -> None:
        if not self._board:
            return terminal.remark(text)
        self._end_line()
        self._board.say(f"{self._label}{text}" if self._label else text)

    def _end_line(self) -> None:
        """Leave the step's line above the board; of several models only what they got and that they are done."""
        if not self._board or not self._status or self._is_kept:
            return
        self._is_kept = True
        if self._label and not self._last.get("total") and self._status != _DONE:
            return self._board.drop(self)
        self._board.keep(self, self._now())


class Bar:
    """One step on the board: what is drawn of it now."""

    def __init__(self, label: str, step: Mapping[str, Any], rate: Rate) -> None:
        self._label, self._step, self._rate = label, step, rate

    def text(self, columns: int) -> Text:
        """Its line, in colour."""
        from rich.text import Text

        status = _DIGEST.sub(r"\1", str(self._step.get("status") or ""))
        if self._label:
            label = terminal.cut(human.one_line(self._label), max(columns // 3, 12))
            status = label if self._step.get("total") else f"{label}: {status}"
        text = Text(line({**self._step, "status": status}, self._rate.now(), columns - _MARGIN))
        text.no_wrap = True
        text.highlight_regex("█+", "green")
        text.highlight_regex(r"(?<=\d/)?\d[\d.]* [KMGT]?B/s", "cyan")
        return text


_DIGEST = re.compile(r"\bsha256:([0-9a-f]{12})[0-9a-f]{52}\b")


class Board:
    """The lines on stderr that go on, redrawn in their place, below those that have ended. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bars: dict[Steps, Bar] = {}
        self._live: Live | None = None

    def put(self, owner: Steps, bar: Bar) -> None:
        """Show a step in the line of its owner."""
        with self._lock:
            self._bars = {**self._bars, owner: bar}
            if self._live is None:
                self._live = self._started()

    def keep(self, owner: Steps, bar: Bar) -> None:
        """Print a step's line for good."""
        with self._lock:
            self._bars = {each: other for each, other in self._bars.items() if each is not owner}
            self._print(bar.text(terminal.columns()))

    def drop(self, owner: Steps) -> None:
        """Take away the line of an owner."""
        with self._lock:
            self._bars = {each: bar for each, bar in self._bars.items() if each is not owner}

    def say(self, text: str) -> None:
        """Print a remark above the lines that go on."""
        from rich.text import Text

        with self._lock:
            self._print(Text(human.one_line(text)))

    def close(self) -> None:
        """Take the lines away that go on."""
        with self._lock:
            if self._live is not None:
                self._live.stop()
            self._live, self._bars = None, {}

    def _started(self) -> Live:
        from rich.live import Live

        live = Live(
            get_renderable=self._drawn,
            console=drawing.console_for(sys.stderr, None),
            refresh_per_second=_REDRAWS,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        live.start()
        return live

    def _print(self, text: Text) -> None:
        if self._live is None:
            self._live = self._started()
        self._live.console.print(text, soft_wrap=False)

    def _drawn(self) -> Text:
        from rich.text import Text

        columns = terminal.columns()
        return Text("\n").join(bar.text(columns) for bar in self._bars.values())


def line(step: Mapping[str, Any], rate: float, columns: int) -> str:
    """A step in one line of at most so many cells, 0 for any number and no bar; ``rate`` is in bytes a second, 0 for unknown.

    Where the terminal is narrow the bar goes first, then the remark, the rate, the time.
    """
    status = human.one_line(str(step.get("status") or ""))
    total, completed = int(step.get("total") or 0), int(step.get("completed") or 0)
    note = human.one_line(str(step.get("note") or ""))
    if not total:
        return terminal.cut(f"{status}  ({note})" if note else status, columns)
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
    return terminal.cut(text, columns) if columns else text


def _span(seconds: float) -> str:
    if seconds >= 100 * 3600:
        return "99h+"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
