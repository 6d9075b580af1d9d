"""The copy loop: chunks in flight, each ``pending -> sent -> acked`` in the journal.

Reading overlaps sending: while requests are in flight the next chunks are prepared. Only this loop, in the thread that
drives the apply, writes the journal; ``sent`` is committed before a chunk's first request goes out.
"""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vsync.applying.events import ChunkAcked, ChunkFailed, Report, Stopping
from vsync.errors import BadRowsError, LimitError, TransientError, VsyncError
from vsync.planning.known import left_out
from vsync.state.journal import Journal, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vsync.applying.settings import Settings, Stop
    from vsync.applying.worker import Prepared, Sent, Task, Worker
    from vsync.state.ids import IdMap


@dataclass(slots=True)
class Copier:
    """Drives chunks through prepare and send.

    ``failed`` keeps what could not be done, in the order it failed; ``in_doubt`` the chunks with keys of the server's
    making whose answer did not come: they are settled after the load, see :mod:`vsync.applying.settle`. ``doubted``
    are those that ever were in doubt: a request can land long after it was given up.
    """

    target: str
    journal: Journal
    worker: Worker
    executor: Executor
    settings: Settings
    stop: Stop
    report: Report
    deadline: float | None
    ids: IdMap
    failed: list[VsyncError] = field(default_factory=list)
    in_doubt: list[Task] = field(default_factory=list)
    doubted: list[Task] = field(default_factory=list)
    journal_seconds: float = 0.0
    copied: int = 0
    rows: int = 0

    def copy(self, tasks: Iterable[Task], in_flight: int) -> None:
        """Copy all of them, ``in_flight`` requests at a time; failures are kept in ``failed``."""
        waiting = iter(tasks)
        preparing: deque[tuple[Task, Future[Prepared]]] = deque()
        ready: deque[Prepared] = deque()
        sending: dict[Future[Sent], Task] = {}
        ended: list[tuple[Task, Future[Sent]]] = []
        told = False
        while True:
            self._turn(ended, ready, sending, in_flight)
            if self._may_start():  # after that, so that what is sent next is prepared while others are
                self._fill(waiting, preparing, len(ready), in_flight)
            if self.stop.is_set() and not told:
                told = True
                self.report(Stopping(len(sending)))
            running: set[Future[Any]] = set(sending)
            if preparing and self._may_start():
                running.add(preparing[0][1])  # the first alone: a later one that is done would end every wait at once
            if not running:
                break
            done, _ = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
            ended = [(sending.pop(future), future) for future in [f for f in sending if f in done]]
            while preparing and preparing[0][1].done():
                self._take(*preparing.popleft(), ready)
        for _, prepare in preparing:
            prepare.cancel()
        left = preparing or ready or next(waiting, None)
        if left and self._late() and not self.stop.is_set():
            raise LimitError("--max-duration is reached", hint="run the same command again to go on")

    def _late(self) -> bool:
        return self.deadline is not None and time.monotonic() > self.deadline

    def _may_start(self) -> bool:
        fatal = self.failed and (self.settings.fail_fast or any(not isinstance(e, BadRowsError) for e in self.failed))
        return not (self.stop.is_set() or self._late() or fatal)

    def _fill(
        self,
        waiting: Iterator[Task],
        preparing: deque[tuple[Task, Future[Prepared]]],
        ready: int,
        in_flight: int,
    ) -> None:
        """Keep as many chunks in preparation as can be sent next, and no more: memory is bounded by this."""
        while len(preparing) + ready < in_flight:
            task = next(waiting, None)
            if task is None:
                return
            preparing.append((task, self.executor.submit(self.worker.prepare, task)))

    def _turn(
        self,
        ended: list[tuple[Task, Future[Sent]]],
        ready: deque[Prepared],
        sending: dict[Future[Sent], Task],
        in_flight: int,
    ) -> None:
        """Journal what was answered and what goes out next in one commit, before that goes out."""
        answered = [sent for sent in (self._answer(*one) for one in ended) if sent is not None]
        starting: list[Prepared] = []
        while ready and len(sending) + len(starting) < in_flight and self._may_start():
            starting.append(ready.popleft())
        if not (answered or starting):
            return
        for sent in answered:
            self._keep_ids(sent)
        with self._journaling(), self.journal.together():
            for sent in answered:
                self._acked(sent)
            for prepared in starting:
                self._sent(prepared)
        for prepared in starting:
            sending[self.executor.submit(self.worker.send, prepared)] = prepared.task
        for sent in answered:
            self._tell(sent)

    def _keep_ids(self, sent: Sent) -> None:
        """Keep which key became which: before the journal counts the new ones."""
        old, task = sent.prepared.old, sent.prepared.task
        if old is not None and len(old):
            self.ids.put(task.to.collection, task.unit.path, old, sent.keys, sent.key_ranges)

    def _sent(self, prepared: Prepared) -> None:
        task = prepared.task
        self.journal.sent(
            self.target,
            task.unit.key,
            task.to.epoch,
            task.chunk.n,
            session=task.to.session,
            there_mask=prepared.there_mask,
            left_out=left_out(task.chunk.dropped),
        )

    def _take(self, task: Task, future: Future[Prepared], ready: deque[Prepared]) -> None:
        try:
            ready.append(future.result())
        except VsyncError as e:
            self._fail(task, e)

    def _answer(self, task: Task, future: Future[Sent]) -> Sent | None:
        """Take the answer; ``None`` where there is none, which is then a failure or a doubt."""
        try:
            return future.result()
        except VsyncError as e:
            if isinstance(e, TransientError) and e.in_doubt and task.collection.primary.auto_id:
                self.doubt(task)
            else:
                self._fail(task, e)
            return None

    def _acked(self, sent: Sent) -> None:
        prepared, task = sent.prepared, sent.prepared.task
        outcome = Outcome(
            read=prepared.read,
            written=sent.written,
            there=prepared.there,
            rejected=prepared.rejected,
            dropped=prepared.dropped,
            digest=prepared.digest,
            key_ranges=sent.key_ranges,
            kept=prepared.kept,
        )
        rejects = [(b.row, b.field, b.value, b.why, b.key) for b in prepared.rejects]
        self.journal.acked(self.target, task.unit.key, task.to.epoch, task.chunk.n, outcome, rejects)

    def _tell(self, sent: Sent) -> None:
        prepared, task = sent.prepared, sent.prepared.task
        self.copied += 1
        self.rows += sent.written
        self.report(
            ChunkAcked(
                address=task.unit.address,
                n=task.chunk.n,
                rows=task.chunk.rows,
                nbytes=prepared.nbytes,
                written=sent.written,
                there=prepared.there,
                rejected=prepared.rejected,
            )
        )

    def doubt(self, task: Task) -> None:
        """Keep a chunk whose rows may be there, in full, in part or not at all."""
        self.in_doubt.append(task)
        if task not in self.doubted:
            self.doubted.append(task)

    def _fail(self, task: Task, error: VsyncError) -> None:
        self.failed.append(error)
        self.journal.failed(self.target, task.unit.key, task.to.epoch, task.chunk.n, str(error))
        self.report(ChunkFailed(task.unit.address, task.chunk.n, str(error)))

    @contextmanager
    def _journaling(self) -> Iterator[None]:
        """Add up the seconds that are spent inside the journal's commits."""
        began = time.perf_counter()
        yield
        self.journal_seconds += time.perf_counter() - began

    def raise_failures(self) -> None:
        """Raise what could not be done: one error as it was, several of a kind as one that holds their problems."""
        if not self.failed:
            return
        worst = next((e for e in self.failed if not isinstance(e, BadRowsError)), self.failed[0])
        if isinstance(worst, BadRowsError) and len(self.failed) > 1:
            raise BadRowsError([p for e in self.failed for p in e.problems])
        raise worst
