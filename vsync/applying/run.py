"""The steps of a plan in their order. Each looks before it acts, so that carrying one out again does no harm."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

from vsync.applying.balance import raise_mismatches, verify
from vsync.applying.copy import Copier
from vsync.applying.events import Report, RunBegan, RunEnded, Settled, StepBegan, StepEnded, StepProgress
from vsync.applying.growth import cut_on
from vsync.applying.identity import Identities, collection_of
from vsync.applying.repair import overtake, repair
from vsync.applying.retry import Limiter, Retry
from vsync.applying.worker import Task, Worker
from vsync.errors import StalePlanError, StoppedError, TargetError, TransientError
from vsync.planning import steps as s
from vsync.planning.facts import Owed
from vsync.planning.words import describe
from vsync.state.ids import IdMap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vsync.applying.settings import Settings, Stop
    from vsync.connectors.base import Target
    from vsync.opening import Sources
    from vsync.planning.facts import JournalFacts
    from vsync.state.journal import Journal


@dataclass(slots=True)
class Run:
    """One apply of one plan: what its steps share.

    ``unread`` counts, by destination, rows that were planned to be written again, and are gone from their source;
    ``ungiven`` of them those that were missing; ``spared`` those that were to be deleted, and are in a source again;
    ``deleted`` those that were.
    """

    plan: s.Plan
    target: Target
    journal: Journal
    settings: Settings
    stop: Stop
    report: Report
    retry: Retry
    copier: Copier
    identities: Identities
    facts: JournalFacts
    begun: set[str] = field(default_factory=set)
    settled: list[Settled] = field(default_factory=list)
    unread: dict[str, int] = field(default_factory=dict)
    ungiven: dict[str, int] = field(default_factory=dict)
    spared: dict[str, int] = field(default_factory=dict)
    deleted: dict[str, int] = field(default_factory=dict)
    copy_seconds: float = 0.0
    copy_cpu_seconds: float = 0.0

    @property
    def key(self) -> str:
        """The target's identity: what the journal files everything under."""
        return self.plan.target

    def stop_here(self) -> None:
        """Raise StoppedError where it was asked to stop."""
        if self.stop.is_set():
            total = sum(isinstance(step, s.CopyChunk) for step in self.plan.steps)
            what = f"Stopped with {self.copier.copied} of {total} chunks copied; what is done is kept"
            raise StoppedError(what, signal=self.stop.signal)


def carry_out(
    plan: s.Plan,
    target: Target,
    journal: Journal,
    sources: Sources,
    settings: Settings,
    stop: Stop,
    report: Report,
) -> list[Settled]:
    """Carry out a plan; gives the balance of each destination, raises where it could not be done whole."""
    began = time.monotonic()
    retry = Retry(report, settings.retries, settings.max_downtime, stop)
    limiter = Limiter(settings.bytes_per_second, settings.requests_per_second)
    deadline = began + settings.max_duration if settings.max_duration is not None else None
    identities = Identities(target, retry)
    worker = Worker(target, sources, retry, limiter, identities)
    with ThreadPoolExecutor(2 * settings.transfers, thread_name_prefix="vsync") as executor:
        ids = IdMap.beside(journal.path, plan.target)
        copier = Copier(plan.target, journal, worker, executor, settings, stop, report, deadline, ids)
        facts = journal.facts(plan.target)
        run = Run(plan, target, journal, settings, stop, report, retry, copier, identities, facts)
        try:
            _tell_beginning(run)
            identities.look(plan)
            _record_skipped(run)
            overtake(run)
            _steps(run)
        except TargetError as error:
            if not isinstance(error, TransientError):
                identities.check_all()  # what a server says of a collection that is gone has many words
            raise
    report(
        RunEnded(
            chunks=copier.copied,
            rows=copier.rows,
            seconds=time.monotonic() - began,
            copy_seconds=run.copy_seconds,
            copy_cpu_seconds=run.copy_cpu_seconds,
            journal_seconds=copier.journal_seconds,
        )
    )
    return run.settled


def _tell_beginning(run: Run) -> None:
    chunks = [c for c in run.plan.steps if isinstance(c, s.CopyChunk)]
    units = run.plan.units
    rows = sum(c.rows for c in chunks)
    nbytes = sum(units[c.unit].nbytes * c.rows // max(1, units[c.unit].rows) for c in chunks)
    at_work = {d.destination for d in run.plan.steps if isinstance(d, s.Verify)}
    done = sum(u.chunks for u in units if u.destination in at_work) - len(chunks)
    in_doubt = sum(c.n in run.facts.in_doubt.get(units[c.unit].key, ()) for c in chunks)
    run.report(RunBegan(len(chunks), rows, nbytes, done, in_doubt))


def _record_skipped(run: Run) -> None:
    """Record once and for all which destinations held rows when they were first planned."""
    for to in run.plan.destinations:
        if to.skipped and to.address not in run.facts.sessions:
            run.journal.begin_session(run.key, to, run.identities.learn(to.collection), to.before)
            run.journal.end_session(run.key, to, to.before)


def _steps(run: Run) -> None:
    for is_copy, group in groupby(run.plan.steps, lambda step: isinstance(step, s.CopyChunk)):
        if is_copy:
            _copy(run, [c for c in group if isinstance(c, s.CopyChunk)])
        else:
            for step in group:
                run.stop_here()
                _step(run, step)
    _mark_finished(run, None)
    raise_mismatches(run.settled)
    run.journal.paid(run.key, [debt for debt in run.facts.owed if debt.collection in run.plan.collections])


def _copy(run: Run, chunks: Sequence[s.CopyChunk]) -> None:
    """Copy chunks that follow each other, a destination at a time."""
    units = run.plan.units
    for address, group in groupby(chunks, lambda c: units[c.unit].destination):
        to = run.plan.destination(address)
        these = cut_on(run, list(group))
        _begin_session(run, to)
        for index in dict.fromkeys(c.unit for c in these):
            run.journal.enter_unit(run.key, units[index], to.epoch, [c for c in these if c.unit == index])
        in_flight = min(run.settings.transfers, run.target.writers)
        began, used = time.monotonic(), time.process_time()
        run.copier.copy(_tasks(run, to, these), in_flight)
        run.copy_seconds += time.monotonic() - began
        run.copy_cpu_seconds += time.process_time() - used
    run.stop_here()
    run.copier.raise_failures()


def _tasks(run: Run, to: s.Destination, chunks: Sequence[s.CopyChunk]) -> Iterator[Task]:
    """Make the tasks; chunks in doubt whose keys are the server's wait until the load, see settle."""
    collection = run.plan.collections[to.collection]
    in_doubt = run.facts.in_doubt
    for c in chunks:
        unit = run.plan.units[c.unit]
        task = Task(unit, c, to, collection, run.journal.there_mask(run.key, unit.key, to, c.n))
        if collection.primary.auto_id and c.n in in_doubt.get(unit.key, ()):
            run.copier.doubt(task)
        else:
            yield task


def _begin_session(run: Run, to: s.Destination) -> None:
    if to.address in run.begun:
        return
    run.begun.add(to.address)
    known = run.facts.sessions.get(to.address)
    if known is not None and known.session == to.session:
        before = known.before
    else:
        before = run.retry.call(run.target.count, to.collection, to.partition)
        if before is None:
            before = to.before
        elif before and to.before == 0 and not to.probe:
            raise StalePlanError(
                f"{to.address} was empty when the plan was made, and holds {before:,} rows now",
                hint="make a new plan: vsync plan",
            )
    run.journal.begin_session(run.key, to, run.identities.check(to.collection), before)


def _step(run: Run, step: s.Step) -> None:
    text = describe(step, run.plan)
    run.report(StepBegan(text))
    if (collection := collection_of(step, run.plan)) is not None:
        run.identities.check(collection)

    told = -1

    def progress(percent: int) -> None:
        nonlocal told
        run.stop_here()  # the server goes on building and loading by itself
        if percent != told:
            told = percent
            run.report(StepProgress(text, percent))

    match step:
        case s.CreateCollection(name):
            _create_collection(run, name)
        case s.Verify(address):
            to = run.plan.destination(address)
            _begin_session(run, to)
            verify(run, to)
        case s.DeleteRows() | s.RewriteRows() | s.Recount():
            repair(run, step)
        case s.SetAlias(_, name):
            _mark_finished(run, name)
            raise_mismatches(run.settled)
            _change(run, step, progress)
        case s.Finish():
            raise_mismatches(run.settled)
            run.target.note(run.plan.spec_digest, run.copier.worker.sources.labels)
            run.retry.call(run.target.finish, list(run.plan.collections))
        case s.DropCollection(name) | s.DropIndex(name, _) | s.Release(name):
            _owe(run, name)
            _change(run, step, progress)
        case _:
            _change(run, step, progress)
    given = _debt(step)
    if given is not None:
        run.journal.paid(run.key, [given])
    run.report(StepEnded(text))


def _owe(run: Run, collection: str) -> None:
    """Record what later steps give back of what this one takes away from a collection."""
    debts = [_debt(step) for step in run.plan.steps]
    run.journal.owe(run.key, [debt for debt in debts if debt is not None and debt.collection == collection])


def _debt(step: s.Step) -> Owed | None:
    match step:
        case s.Load(name):
            return Owed("load", name, name)
        case s.SetAlias(alias, name):
            return Owed("alias", alias, name)
        case _:
            return None


def _create_collection(run: Run, name: str) -> None:
    """Create a collection, recorded before and after: what a kill leaves in between is known to be ours."""
    run.journal.creating(run.key, f"collection.{name}")
    run.retry.call(run.target.create_collection, run.plan.collections[name])
    run.journal.created(run.key, f"collection.{name}", run.identities.learn(name))


def _change(run: Run, step: s.Step, progress: Callable[[int], None]) -> None:
    """Make one change to the target."""
    target, call = run.target, run.retry.call
    match step:
        case s.CreateDatabase():
            call(target.create_database)
        case s.DropCollection(name):
            call(target.drop_collection, name)
            run.identities.learn(name)
        case s.SetProperties(name, properties):
            call(target.set_properties, name, dict(properties))
        case s.CreatePartition(name, partition):
            call(target.create_partition, name, partition)
        case s.Clear(address):
            to = run.plan.destination(address)
            run.journal.clearing(run.key, address)
            call(target.clear, to.collection, to.partition)
        case s.Flush(name):
            call(target.flush, name)
        case s.DropIndex(name, field_name):
            call(target.drop_index, name, field_name)
        case s.CreateIndex(name, index):
            call(target.create_index, name, index, progress)
        case s.Load(name):
            call(target.load, name, progress)
        case s.Release(name):
            call(target.release, name)
        case s.SetAlias(alias, name):
            call(target.set_alias, alias, name)


def _mark_finished(run: Run, name: str | None) -> None:
    """Record that collections which this state created have all that their plan gave them."""
    for collection in [name] if name else run.plan.collections:
        run.journal.finished(run.key, f"collection.{collection}")
