"""How an apply is to be carried out, as the user chose, and the word to stop."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

TRANSFERS = 3
"""Requests in flight where the target bears it: two to four were fastest on Milvus 2.3.5, see docs/speed.md."""

MAX_DOWNTIME = 600.0
"""For how many seconds a server may be away."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Durations in seconds, rates per second; ``None`` where there is no limit."""

    transfers: int = TRANSFERS
    retries: int | None = None
    max_downtime: float = MAX_DOWNTIME
    max_duration: float | None = None
    bytes_per_second: float | None = None
    requests_per_second: float | None = None
    fail_fast: bool = False


@dataclass(slots=True)
class Stop:
    """Set by whoever hears a signal: what is in flight is finished, nothing is started."""

    event: threading.Event = field(default_factory=threading.Event)
    signal: int = 2

    def set(self, signal: int) -> None:
        """Ask to stop, because of this signal."""
        self.signal = signal
        self.event.set()

    def is_set(self) -> bool:
        """Whether it was asked to stop."""
        return self.event.is_set()
