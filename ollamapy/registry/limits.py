"""How hard a download tries: connections, rate, patience."""

from __future__ import annotations

from dataclasses import dataclass

MAX_CONNECTIONS = 16


@dataclass(frozen=True, slots=True)
class Limits:
    """How hard to try. Rates in bytes a second (0: none), times in seconds."""

    connections: int = 8
    rate: int = 0
    force: bool = False
    """Start though the disk seems too small."""
    network_patience: float = 600.0
    """How long to wait for a network that went away."""
    slow_after: float = 5.0
    ramp_after: float = 0.5
    journal_after: float = 2.0
    piece: int = 0
    """Bytes asked for at a time; 0 chooses by the file's size."""
