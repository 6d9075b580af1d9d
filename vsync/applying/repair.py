"""Carrying out a repair: rows are deleted by key, or written again from their sources, and the destination is counted.

Every step may be carried out again: keys that are not there are not deleted, and what is written replaces its key.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vsync.applying.balance import displaced
from vsync.applying.events import Settled
from vsync.applying.worker import Task
from vsync.errors import ConflictError, StalePlanError
from vsync.planning.approval import CHECK_AGAIN
from vsync.planning.origins import mapping_of
from vsync.planning.steps import Clear, CopyChunk, DeleteRows, Recount, RewriteRows
from vsync.rows import arrow_type, columns_of, keys_in_source, take_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vsync.applying.run import Run
    from vsync.connectors.base import CollectionSource
    from vsync.planning.steps import Destination, Unit
    from vsync.schema import Collection

WINDOW_BYTES = 16 << 20
"""How much of a source is read at once for the rows in it."""
DELETED_AT_ONCE = 8_000
NAMED = 5


def overtake(run: Run) -> None:
    """Have nothing count any more that was brought where rows of other data are written over it, or it is deleted.

    Else a copy would go on, or be taken for done, once its data is there again, and trust in rows that are others now.
    """
    units = run.plan.units
    written = [units[step.unit].destination for step in run.plan.steps if isinstance(step, RewriteRows)]
    deleted = [step.destination for step in run.plan.steps if isinstance(step, DeleteRows)]
    for address in dict.fromkeys([*written, *deleted]):
        known = run.facts.sessions.get(address)
        if known is not None and known.content != run.plan.destination(address).content:
            run.journal.overtaken(run.key, address)
    chunks = [step for step in run.plan.steps if isinstance(step, CopyChunk)]
    emptied = {*deleted, *(step.destination for step in run.plan.steps if isinstance(step, Clear))}
    for other in _disturbed(run, {*written, *(units[c.unit].destination for c in chunks)}, emptied):
        run.journal.overtaken(run.key, other)
    for address in dict.fromkeys([*written, *deleted, *(units[c.unit].destination for c in chunks)]):
        to = run.plan.destination(address)
        by_key = not run.plan.collections[to.collection].primary.auto_id
        unasked = to.before is None and not to.probe  # what is not loaded cannot be asked which keys are there
        if by_key and (address in deleted or to.replaces or unasked):
            again = [c for c in chunks if units[c.unit].destination == address and _is_done(run, c)]
            run.journal.written_over(run.key, to, units, again)


def _disturbed(run: Run, written: set[str], emptied: set[str]) -> Iterator[str]:
    """Name destinations of which what is done does not tell any more what they hold, for what is done to others.

    What is written may take rows away from them: from those whose copy has not ended, for others are counted. Keys that
    one spec brings to several are in one of them. And what goes from the ``emptied`` may have kept rows out of them.
    """
    keyed = {name for name, made in run.plan.collections.items() if not made.primary.auto_id}
    taking = {to.collection for to in map(run.plan.destination, written) if to.displaces} & keyed
    losing = {run.plan.destination(address).collection for address in emptied} & keyed
    now = {to.address: to.content for to in run.plan.destinations}
    for address, known in run.facts.sessions.items():
        collection = address.removeprefix("collection.").partition(".")[0]
        taken_from = collection in taking and not known.done and now.get(address) != known.content
        let_in = collection in losing and known.done and address in run.facts.left_alone - emptied
        if taken_from or let_in:
            yield address


def _is_done(run: Run, chunk: CopyChunk) -> bool:
    return chunk.n in run.facts.acked.get(run.plan.units[chunk.unit].key, ())


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
    living = [u for u in run.plan.units if u.destination == to.address and u.lives and not key.auto_id]
    for at in range(0, len(step.keys), DELETED_AT_ONCE):
        run.stop_here()
        keys = pa.array(step.keys[at : at + DELETED_AT_ONCE], arrow_type(key))
        gone = keys
        for unit in living:
            gone = gone.filter(pc.invert(pc.is_in(gone, value_set=_in_source(run, unit, gone))))
        run.spared[to.address] = run.spared.get(to.address, 0) + len(keys) - len(gone)
        run.deleted[to.address] = run.deleted.get(to.address, 0) + len(gone)
        _delete_keys(run, step.destination, gone)


def _in_source(run: Run, unit: Unit, keys: pa.Array) -> pa.Array:
    """Ask a collection that rows come from which of these keys it has now: it may have got them since it was compared.

    Rows that do not fit are none of the data's.
    """
    collection = run.plan.collections[run.plan.destination(unit.destination).collection]
    mapping = mapping_of(unit, collection)
    with run.copier.worker.sources.use(unit, run.retry.call) as source:
        found = run.retry.call(source.describe).collection
        assert found is not None
        theirs = keys_in_source(keys, mapping, arrow_type(found.schema.primary))
        rows = run.retry.call(cast("CollectionSource", source).reader.fetch, theirs, columns_of(mapping))
    return take_rows(rows, 0, mapping, run.target.rules).rows.column(collection.primary.name)


def _delete_keys(run: Run, destination: str, keys: pa.Array) -> None:
    """Delete keys. Where other partitions hold rows, those that are there: a server may delete from these too."""
    to = run.plan.destination(destination)
    if to.elsewhere:
        collection = run.plan.collections[to.collection]
        reader = run.target.reader(collection, to.partition)
        keys = run.retry.call(reader.fetch, keys, [collection.primary.name]).column(0)
    if len(keys):
        run.retry.call(run.target.delete, to.collection, to.partition, keys)


def _rewrite(run: Run, step: RewriteRows) -> None:
    unit = run.plan.units[step.unit]
    to = run.plan.destination(unit.destination)
    collection = run.plan.collections[to.collection]
    worker = run.copier.worker
    windows = _of_keys if unit.lives else _windows
    for task in windows(step, unit, to, collection):
        run.stop_here()
        _refuse_elsewhere(run, task)
        if step.anew:
            _delete_keys(run, to.address, worker.rows_of(task).column(collection.primary.name))
        prepared = worker.prepare(task)
        worker.send(prepared)
        if task.only is not None:  # the source lives: some may be gone there
            gone = len(task.only) - prepared.read
            run.unread[to.address] = run.unread.get(to.address, 0) + gone
            run.ungiven[to.address] = run.ungiven.get(to.address, 0) + (gone if step.missing else 0)


def _refuse_elsewhere(run: Run, task: Task) -> None:
    """Raise where other partitions hold keys of rows that take nobody's place: they would be there twice."""
    to, worker = task.to, run.copier.worker
    if to.replaces or to.write == "overwrite" or not to.elsewhere:
        return
    keys = worker.rows_of(task).column(task.collection.primary.name)
    probe = worker.writer(to, task.collection).probe
    keys = keys.filter(run.retry.call(probe, keys))
    here = run.retry.call(partial(probe, everywhere=False), keys)
    elsewhere = keys.filter(pc.invert(here))
    if len(elsewhere):
        some = ", ".join(repr(key) for key in elsewhere[:NAMED].to_pylist())  # not a vector: keys
        raise ConflictError(
            f"{to.address}: {len(elsewhere):,} rows of {task.unit.path} have keys that other partitions hold ({some})",
            hint="delete those there, or say write: upsert, which moves rows; then check again",
        )


def _at_once(unit: Unit) -> int:
    """Tell how many rows of a unit to hold at once."""
    return max(1, WINDOW_BYTES * unit.rows // max(1, unit.nbytes))


def _of_keys(step: RewriteRows, unit: Unit, to: Destination, collection: Collection) -> Iterator[Task]:
    """Ask a collection for the rows with these keys, some at a time."""
    keys, most = pa.array(step.keys, arrow_type(collection.primary)), _at_once(unit)
    for at in range(0, len(keys), most):
        some = keys[at : at + most]
        yield Task(unit, CopyChunk(step.unit, 0, at, at + len(some)), to, collection, only=some)


def _windows(step: RewriteRows, unit: Unit, to: Destination, collection: Collection) -> Iterator[Task]:
    """Cut a file where the rows are; each window leaves out those between them."""
    most = _at_once(unit)
    numbers = np.concatenate([np.arange(lo, hi) for lo, hi in step.rows])
    while len(numbers):
        lo = int(numbers[0])
        inside, numbers = np.split(numbers, [np.searchsorted(numbers, lo + most)])
        hi = int(inside[-1]) + 1
        left_out = np.setdiff1d(np.arange(lo, hi), inside).tolist()  # not a vector: numbers of rows
        yield Task(unit, CopyChunk(step.unit, 0, lo, hi, tuple(left_out)), to, collection)


def _recount(run: Run, step: Recount) -> None:
    to = run.plan.destination(step.destination)
    known = run.facts.sessions.get(to.address)
    if known is not None and known.session != to.session:
        raise StalePlanError(
            f"rows were brought to {to.address} since it was checked",
            hint=f"check again: {CHECK_AGAIN}",
        )
    left = run.retry.call(run.target.count, to.collection, to.partition)
    units = run.plan.units
    rewrites = [s for s in run.plan.steps if isinstance(s, RewriteRows) and units[s.unit].destination == to.address]
    expected = step.rows - run.ungiven.get(to.address, 0) + run.spared.get(to.address, 0)
    rows = sum(hi - lo for s in rewrites for lo, hi in s.rows) + sum(len(s.keys) for s in rewrites)
    rows -= run.unread.get(to.address, 0)
    settled = Settled(
        destination=to.address,
        before=to.before,
        read=rows,
        written=rows,
        there=0,
        rejected=0,
        dropped=0,
        left=left,
        expected=None if to.write == "upsert" and displaced(run, to) else expected,
        exclusive=to.exclusive,
        deleted=run.deleted.get(to.address, 0),
    )
    if known is not None and settled.balanced:
        run.journal.end_session(run.key, to, left)
    run.settled.append(settled)
    run.report(settled)
