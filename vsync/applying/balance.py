"""The balance of a destination: every row read is accounted for, and the target's own count says the same."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from vsync.applying import there
from vsync.applying.events import Settled
from vsync.applying.settle import lost_tasks, remove_strays
from vsync.applying.worker import Task
from vsync.errors import MismatchError, Problem, StalePlanError, TransientError
from vsync.opening import check_unchanged
from vsync.planning.steps import CopyChunk, RewriteRows, Verify
from vsync.schema import DataType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vsync.applying.run import Run
    from vsync.planning.steps import Destination

RELEASED_HINT = "load it again where the spec does not say so, and run the same command again"
SETTLED_AGAIN = 3
"""How often a count that does not come out even is looked into: a late request can land after any look."""


def verify(run: Run, to: Destination) -> None:
    """Count a destination and compare; the files and the collection must still be what they were."""
    _send_again(run, to, [t for t in run.copier.in_doubt if t.to.address == to.address])
    for unit in (u for u in run.plan.units if u.destination == to.address):
        with run.copier.worker.sources.use(unit, run.retry.call) as source:
            run.retry.call(check_unchanged, unit, source)
    settled = _settled(run, to)
    if run.plan.collections[to.collection].primary.auto_id:
        for _ in range(SETTLED_AGAIN):
            if not _mended(run, to, settled):
                break
            settled = _count(run, to)
    run.identities.check(to.collection)
    if settled.left is None and run.identities.is_to_be_loaded(to.collection, run.plan):
        raise StalePlanError(f"{to.address} cannot be counted: somebody released it meanwhile", hint=RELEASED_HINT)
    settled = _with_ids(run, to, settled)
    # Where counts differ the journal keeps what should be there: the next plan then sees that rows are gone, or more.
    left = settled.left if settled.expected is None else settled.expected
    run.journal.end_session(run.key, to, left, uneven=not settled.balanced)
    run.settled.append(settled)
    run.report(settled)


def _settled(run: Run, to: Destination) -> Settled:
    """Count, and again while there are too many, as long as old copies may be among them."""
    upserts = to.exclusive and not run.plan.collections[to.collection].primary.auto_id
    seconds = run.target.settling if upserts else 0.0
    settled = run.retry.settled(
        _count(run, to), lambda: _count(run, to), lambda counted: counted.surplus, to.address, seconds
    )
    run.stop_here()
    return settled


def _count(run: Run, to: Destination) -> Settled:
    left = run.retry.call(run.target.count, to.collection, to.partition)
    if left is not None:
        _count_gone(run, to)
    sums = run.journal.balance(run.key, to)
    held, replaced = (0, sums.there) if to.replaces else (sums.there, 0)
    expected = None if sums.before is None or _others_displace(run, to) else sums.before + sums.written - replaced
    known = run.facts.sessions.get(to.address)
    return Settled(
        destination=to.address,
        before=sums.before,
        read=sums.read,
        written=sums.written,
        there=sums.there,
        rejected=sums.rejected,
        dropped=sums.dropped,
        left=left,
        expected=expected,
        lost=sums.read - sums.written - held - sums.rejected - sums.dropped,
        exclusive=to.exclusive,
        moved=0 if sums.there else sums.read - sums.planned,
        deleted=run.deleted.get(to.address, 0),
        unproved=left is None and known is not None and known.session == to.session and known.uneven,
    )


def _count_gone(run: Run, to: Destination) -> None:
    """Count rows that an attempt wrote whose answer did not come, and that their source did not give any more then."""
    collection = run.plan.collections[to.collection]
    if collection.primary.auto_id:
        return
    for unit, n, kept in run.journal.kept(run.key, to):
        keys = there.gone_keys(kept)
        probe = run.copier.worker.writer(to, collection).probe
        found = keys.filter(run.retry.call(partial(probe, everywhere=False), keys))
        if len(found):
            run.journal.acked_late(run.key, unit, to.epoch, n, len(found), there.gone(kept, found))


def _with_ids(run: Run, to: Destination, settled: Settled) -> Settled:
    """Gather which key became which, when the last destination of a collection is counted: before that has ended."""
    collection = run.plan.collections[to.collection]
    units = [u for u in run.plan.units if run.plan.destination(u.destination).collection == collection.name]
    counted = [run.plan.destination(step.destination) for step in run.plan.steps if isinstance(step, Verify)]
    last = [d for d in counted if d.collection == collection.name][-1]
    if not collection.primary.auto_id or last.address != to.address or not any(u.old_key for u in units):
        return settled
    acked = run.journal.key_ranges(run.key, collection.name)
    found = run.copier.ids.gather(collection.name, acked, text=collection.primary.type is DataType.VARCHAR)
    return settled if found is None else replace(settled, ids=str(found[0]), renumbered=found[1])


def _others_displace(run: Run, to: Destination) -> bool:
    """Whether what was written to another partition may have taken rows away that this one held before.

    Where this goes on with an earlier run, that may have written to partitions that are in the plan no more.
    """
    if not to.before:
        return False
    known = run.facts.sessions
    resumes = to.address in known and known[to.address].session == to.session
    before = {address for address, one in known.items() if one.write not in {"", "append", "skip"}} if resumes else ()
    within = [a for a in before if a.removeprefix("collection.").partition(".")[0] == to.collection]
    return any(address != to.address for address in within) or displaced(run, to)


def displaced(run: Run, to: Destination) -> bool:
    """Whether rows that this plan brings to other partitions may take rows away from this one."""
    bring = [
        run.plan.destination(run.plan.units[step.unit].destination)
        for step in run.plan.steps
        if isinstance(step, CopyChunk) or (isinstance(step, RewriteRows) and step.missing)
    ]
    return any(d.collection == to.collection and d.address != to.address and d.displaces for d in bring)


def _mended(run: Run, to: Destination, settled: Settled) -> bool:
    """Look into a count that is not even: remove what landed late, send again what the server lost."""
    if settled.surplus < 0:
        lost = lost_tasks(run, to)
        for task in lost:
            run.copier.doubt(task)
        _send_again(run, to, lost)
        return bool(lost)
    return settled.surplus > 0 and remove_strays(run, _doubted(run, to)) > 0


def _doubted(run: Run, to: Destination) -> list[Task]:
    """List the chunks of a collection that ever were in doubt, in this run or before it."""
    tasks = [t for t in run.copier.doubted if t.to.collection == to.collection]
    known = {(t.unit.key, t.chunk.n) for t in tasks}
    for index, unit in enumerate(run.plan.units):
        into = run.plan.destination(unit.destination)
        if into.collection != to.collection:
            continue
        for n, at in run.journal.sent_again(run.key, unit.key, into.epoch):
            if (unit.key, n) not in known:
                chunk = CopyChunk(index, n, at.lo, at.hi, keys=at.keys)
                tasks.append(Task(unit, chunk, into, run.plan.collections[to.collection]))
    return tasks


def _send_again(run: Run, to: Destination, tasks: Sequence[Task]) -> None:
    """Remove what requests in doubt left under keys that no acknowledgement recorded, and send their rows again."""
    if not tasks:
        return
    remove_strays(run, _doubted(run, to))
    run.copier.in_doubt = [t for t in run.copier.in_doubt if t.to.address != to.address]
    again = [replace(t, there=run.journal.there_mask(run.key, t.unit.key, to, t.chunk.n)) for t in tasks]
    run.copier.copy(iter(again), 1)
    run.stop_here()
    run.copier.raise_failures()
    if any(t.to.address == to.address for t in run.copier.in_doubt):
        raise TransientError(
            f"{to.address}: rows that were sent again were not acknowledged, and are in doubt once more",
            hint="when the target is well, run the same command again: what is done is kept",
        )
    run.retry.call(run.target.flush, to.collection)


def raise_mismatches(settled: Sequence[Settled]) -> None:
    """Raise where counts differ: aliases do not move before all is right."""
    problems = [_problem(one) for one in settled if not one.balanced]
    if problems:
        raise MismatchError(problems)


def _problem(one: Settled) -> Problem:
    if one.lost:
        return Problem(
            f"{one.destination}: of {one.read:,} rows read {one.lost:,} are accounted for nowhere",
            hint="this is a fault of vsync; vsync check says which rows they are",
        )
    if one.unproved:
        return Problem(
            f"{one.destination} cannot be counted, for it is not loaded, and its last count was not what it should be",
            hint="load it, and run the same command again",
        )
    less = one.surplus < 0
    amount = f"{-one.surplus:,} fewer" if less else f"{one.surplus:,} more"
    return Problem(
        f"{one.destination} holds {one.left:,} rows, {amount} than the {one.expected:,} that it should",
        hint="run the same command again: keys are compared and what is missing is sent"
        if less
        else "does another program write there? Say so with exclusive: false; vsync check says which rows they are",
    )
