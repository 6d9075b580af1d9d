"""Fault points: the places where the chaos suite ends this process, and where it looks whether it came by.

They stand around each commit of the journal and each request, and are inert until :func:`arm` is called. Each has a
name such as ``journal.sent.before`` or ``request.Upsert.after``.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vsync.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_told: Callable[[str], None] | None = None


@contextmanager
def around(name: str) -> Iterator[None]:
    """Pass ``NAME.before``, and ``NAME.after`` where what it surrounds did not fail."""
    passing(f"{name}.before")
    yield
    passing(f"{name}.after")


def passing(name: str) -> None:
    """Pass a fault point."""
    if _told is not None:
        _told(name)


def arm(kill_at: str | None, log: str | None) -> None:
    """End this process by SIGKILL at a point, ``NAME:N``, when it is passed for the N-th time.

    ``log`` names a file that gets a line with the name of each point when it is passed, also of the one that kills.
    """
    global _told  # noqa: PLW0603 - one process, one fault: passing a point must cost nothing where there is none
    point, _, times = (kill_at or "").rpartition(":")
    if kill_at and not (point and times.isdecimal()):
        raise UsageError(f"{kill_at!r} is no fault: write NAME:N")
    passed: Counter[str] = Counter()
    file = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600) if log else None

    def told(name: str) -> None:
        passed[name] += 1
        if file is not None:
            os.write(file, f"{name}\n".encode())
        if name == point and passed[name] == int(times):
            os.kill(os.getpid(), signal.SIGKILL)

    _told = told
