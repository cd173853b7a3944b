"""What the fake hub does wrong with a request, and what it records of each."""

from __future__ import annotations

from dataclasses import dataclass, field, fields


@dataclass
class Fault:
    """What goes wrong with some requests. Offsets count in the body, but `corrupt`'s in the file."""

    server: str = "cdn"
    path: str = ""  # part of the path
    method: str = ""
    nth: int = 0  # the one request among those that match; 0: each
    times: float = 1
    starts: int | None = None  # only ranges that begin at this offset

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    text: str = ""
    slow: int = 0  # bytes a second of this connection
    cap: int = 0  # bytes a second of all together
    drip: int = 0  # bytes a hundredth of a second
    stall: int | None = None  # silence after so many bytes
    truncate: int | None = None
    reset: int | None = None
    corrupt: int | None = None
    extra: int = 0
    shift: int = 0
    wrong_total: bool = False
    no_length: bool = False
    ignore_range: bool = False
    packed: bool = False
    html: bool = False
    redirect: str = ""
    hang: bool = False
    no_accept_ranges: bool = False
    concurrent: int = 0  # above so many at once: 403

    seen: int = 0
    used: int = 0


ACTIONS = [each.name for each in fields(Fault)][6:-2]


@dataclass
class Record:
    """One request as it was served. `sent` counts bytes of the body."""

    server: str
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    connection: int
    at: float
    status: int = 0
    sent: int = 0

    @property
    def range(self) -> str:
        return self.headers.get("range", "")
