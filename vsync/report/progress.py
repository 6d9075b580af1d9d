"""An apply as it goes."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from vsync.applying import events as e
from vsync.errors import many
from vsync.report.bars import Bars
from vsync.report.words import duration, settled_line, size

if TYPE_CHECKING:
    from rich.progress import TaskID

RATE_SECONDS = 30.0
"""The window that the rate and so the ETA are taken over: long enough to be steady."""


class _Rate:
    """Rows and bytes per second over a window of time."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int, int]] = deque([(time.monotonic(), 0, 0)])

    def add(self, rows: int, nbytes: int) -> None:
        now = time.monotonic()
        self._marks.append((now, rows, nbytes))
        while len(self._marks) > 1 and now - self._marks[0][0] > RATE_SECONDS:
            self._marks.popleft()

    def now(self) -> tuple[float, float]:
        first, last = self._marks[0], self._marks[-1]
        seconds = max(last[0] - first[0], 1e-3)
        return (last[1] - first[1]) / seconds, (last[2] - first[2]) / seconds


class ProgressReport(Bars):
    """A report for :func:`vsync.apply`: call it with events, between ``with``."""

    def __init__(self, every: float) -> None:
        super().__init__(every)
        self._lock = threading.Lock()
        self._rate = _Rate()
        self._total = e.RunBegan(0, 0, 0, 0, 0)
        self._rows = self._written = self._bytes = self._chunks = 0
        self._task: TaskID | None = None
        self._step: TaskID | None = None

    def pause(self) -> None:
        """Take the bars away, for a question."""
        self._progress.stop()

    def go_on(self) -> None:
        """Bring the bars back."""
        self._progress.start()

    def __call__(self, event: e.Event) -> None:
        """Show one event; called from any thread."""
        with self._lock:
            self._show(event)

    def _show(self, event: e.Event) -> None:
        match event:
            case e.RunBegan():
                self._begin(event)
            case e.ChunkAcked():
                self._advance(event)
            case e.Grew(address, chunks, rows):
                self._grow(address, chunks, rows)
            case e.StepBegan() | e.StepProgress() | e.StepEnded():
                self._follow(event)
            case e.ChunkFailed(address, n):
                self._say(f"  {address} chunk {n} failed")
            case e.Waiting():
                self._say_waiting(event)
            case e.Stopping(in_flight):
                self._say(
                    f"  finishing {many(in_flight, 'chunk')}, starting none "
                    "(a second signal stops at once; what is done is kept)"
                )
            case e.Settled():
                self._say(f"  {settled_line(event)}")

    def _follow(self, event: e.StepBegan | e.StepProgress | e.StepEnded) -> None:
        """Show a step that is no copy: a bar while it lasts, a line when it is done."""
        if isinstance(event, e.StepBegan):
            self._step = self._progress.add_task(event.text, total=100, note="") if self._bars else None
        elif isinstance(event, e.StepProgress):
            if self._step is not None:
                self._progress.update(self._step, completed=event.percent)
            self._say_sometimes(f"  {event.text}: {event.percent}%")
        else:
            if self._step is not None:
                self._progress.remove_task(self._step)
            self._step = None
            if not event.text.startswith(("verify", "recount")):  # the balance is said
                self._say(f"  {event.text}")

    def _begin(self, event: e.RunBegan) -> None:
        self._total = event
        if event.done or event.in_doubt:
            total = event.done + event.chunks
            doubt = f", {event.in_doubt} in doubt, being reconciled" if event.in_doubt else ""
            self._say(f"Resuming: {event.done} of {many(total, 'chunk')} done{doubt}")
        if event.chunks and self._bars:
            self._task = self._progress.add_task("copy", total=event.rows, note="")

    def _grow(self, address: str, chunks: int, rows: int) -> None:
        self._total = replace(self._total, chunks=self._total.chunks + chunks, rows=self._total.rows + rows)
        self._say(f"  {address} grew since the plan: about {rows:,} rows more in {many(chunks, 'chunk')}")
        if self._task is not None:
            self._progress.update(self._task, total=self._total.rows)

    def _advance(self, event: e.ChunkAcked) -> None:
        self._chunks += 1
        self._rows += event.rows
        self._written += event.written
        self._bytes += event.nbytes
        self._rate.add(self._rows, self._bytes)
        rows, nbytes = self._rate.now()
        eta = duration((self._total.rows - self._rows) / rows) if rows else "?"
        note = f"{self._rows:,} / {self._total.rows:,} rows   {rows:,.0f} rows/s   {size(nbytes)}/s   ETA {eta}"
        if self._task is not None:
            self._progress.update(self._task, completed=self._rows, note=note, description=event.address)
            if self._rows >= self._total.rows:
                self._progress.remove_task(self._task)
                self._task = None
        if self._chunks == self._total.chunks:
            self._say(f"  copied {many(self._written, 'row')} in {many(self._chunks, 'chunk')}")
        else:
            self._say_sometimes(f"  {event.address}   {note}")
