"""How far something is: bars on a terminal, a line every so often elsewhere. All of it goes to stderr."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from typing_extensions import Self

from vsync.report.console import console

if TYPE_CHECKING:
    from types import TracebackType


class Bars:
    """What reports are made of, between ``with``: ``every`` so many seconds a line; ``drawn`` if there may be bars."""

    def __init__(self, every: float, *, drawn: bool = True) -> None:
        out = console(stderr=True)
        self._bars = drawn and out.is_terminal
        self._every, self._said = every, time.monotonic()
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

    def _say_sometimes(self, text: str) -> None:
        """Say it where there are no bars, and nothing was said for a while."""
        if not self._bars and time.monotonic() - self._said >= self._every:
            self._said = time.monotonic()
            self._say(text)
