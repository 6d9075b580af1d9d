"""How far something is: bars on a terminal, a line every so often elsewhere. All of it goes to stderr."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from typing_extensions import Self

from vsync.report.console import console
from vsync.report.words import waiting_line

if TYPE_CHECKING:
    from types import TracebackType

    from vsync.applying.events import Waiting

WAITING_SECONDS = 5.0
"""How often at most it is said that the target is waited for: several requests wait at the same time."""


class Bars:
    """What reports are made of, between ``with``: ``every`` so many seconds a line; ``drawn`` if there may be bars."""

    def __init__(self, every: float, *, drawn: bool = True) -> None:
        out = console(stderr=True)
        self._bars = drawn and out.is_terminal
        self._every, self._said = every, time.monotonic()
        self._waited = -math.inf
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=32),
            TaskProgressColumn(),
            TextColumn("{task.fields[note]}"),
            console=out,
            transient=True,
            disable=not self._bars,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def _say(self, text: str) -> None:
        self._progress.console.print(text)

    def _say_waiting(self, event: Waiting) -> None:
        """Say that the target is waited for, where that was not said a moment ago."""
        if time.monotonic() - self._waited >= WAITING_SECONDS:
            self._waited = time.monotonic()
            self._say(f"  {waiting_line(event)}")

    def _say_sometimes(self, text: str) -> None:
        """Say it where there are no bars, and nothing was said for a while."""
        if not self._bars and time.monotonic() - self._said >= self._every:
            self._said = time.monotonic()
            self._say(text)
