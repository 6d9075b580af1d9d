"""Carrying out a repair: rows are deleted by key, or written again from their files, and the destination is counted.

Every step may be carried out again: keys that are not there are not deleted, and what is written replaces its key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from vsync.applying.events import Settled
from vsync.applying.worker import Task
from vsync.errors import StalePlanError
from vsync.planning.steps import CopyChunk, DeleteRows, Recount, RewriteRows
from vsync.rows import arrow_type

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vsync.applying.run import Run
    from vsync.planning.steps import Unit

WINDOW_BYTES = 16 << 20
"""How much of a file is read at once for the rows in it."""
DELETED_AT_ONCE = 8_000


def repair(run: Run, step: DeleteRows | RewriteRows | Recount) -> None:
    """Carry out one step."""
    match step:
        case DeleteRows():
            _delete(run, step)
        case RewriteRows():
            _rewrite(run, step)
        case Recount():
            _recount(run, step)


def _delete(run: Run, step: DeleteRows) -> None:
    to = run.plan.destination(step.destination)
    key = run.plan.collections[to.collection].primary
    for at in range(0, len(step.keys), DELETED_AT_ONCE):
        run.stop_here()
        _delete_keys(run, step.destination, pa.array(step.keys[at : at + DELETED_AT_ONCE], arrow_type(key)))


def _delete_keys(run: Run, destination: str, keys: pa.Array) -> None:
    """Delete those of the keys that are there: what a server deletes it may delete from other partitions too."""
    to = run.plan.destination(destination)
    collection = run.plan.collections[to.collection]
    reader = run.target.reader(collection, to.partition)
    there = run.retry.call(reader.fetch, keys, [collection.primary.name]).column(0)
    if len(there):
        run.retry.call(run.target.delete, to.collection, to.partition, there)


def _rewrite(run: Run, step: RewriteRows) -> None:
    unit = run.plan.units[step.unit]
    to = run.plan.destination(unit.destination)
    collection = run.plan.collections[to.collection]
    worker = run.copier.worker
    for chunk in _windows(step, unit):
        run.stop_here()
        task = Task(unit, chunk, to, collection)
        if step.anew:
            _delete_keys(run, to.address, worker.rows_of(task).column(collection.primary.name))
        worker.send(worker.prepare(task))


def _windows(step: RewriteRows, unit: Unit) -> Iterator[CopyChunk]:
    """Cut a file where the rows are; each window leaves out those between them."""
    most = max(1, WINDOW_BYTES * unit.rows // max(1, unit.nbytes))
    numbers = np.concatenate([np.arange(lo, hi) for lo, hi in step.rows])
    while len(numbers):
        lo = int(numbers[0])
        inside, numbers = np.split(numbers, [np.searchsorted(numbers, lo + most)])
        hi = int(inside[-1]) + 1
        left_out = np.setdiff1d(np.arange(lo, hi), inside).tolist()  # not a vector: numbers of rows
        yield CopyChunk(step.unit, 0, lo, hi, tuple(left_out))


def _recount(run: Run, step: Recount) -> None:
    to = run.plan.destination(step.destination)
    known = run.facts.sessions.get(to.address)
    if known is not None and known.session != to.session:
        raise StalePlanError(
            f"rows were brought to {to.address} since it was checked",
            hint="check again: vsync check --repair --out FILE",
        )
    left = run.retry.call(run.target.count, to.collection, to.partition)
    units = run.plan.units
    rows = sum(
        hi - lo
        for other in run.plan.steps
        if isinstance(other, RewriteRows) and units[other.unit].destination == to.address
        for lo, hi in other.rows
    )
    settled = Settled(
        destination=to.address,
        before=to.before,
        read=rows,
        written=rows,
        there=0,
        rejected=0,
        dropped=0,
        left=left,
        expected=step.rows,
        exclusive=to.exclusive,
    )
    if known is not None and settled.balanced:
        run.journal.end_session(run.key, to, left)
    run.settled.append(settled)
    run.report(settled)
