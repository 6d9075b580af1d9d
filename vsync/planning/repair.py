"""What a check found, as a plan that mends it: rows written again from their sources, others deleted where allowed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vsync.errors import Problem, many
from vsync.planning.build import observed_digest
from vsync.planning.mend import MOST_ROWS, rewrites, rewritten, unmendable
from vsync.planning.steps import Change, DeleteRows, Destination, Plan, Recount, content_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vsync.planning.choice import Choice
    from vsync.planning.facts import Facts, SessionFacts
    from vsync.planning.mend import Mend
    from vsync.planning.steps import Step, Unit
    from vsync.spec import Spec


def repair_plan(spec: Spec, facts: Facts, choice: Choice, mends: Sequence[Mend]) -> Plan:
    """Build the plan that mends what was found; what cannot be mended is a conflict in it."""
    mends = [m for m in mends if m.changes or m.lost or m.untold or m.taken]
    conflicts = [p for m in mends for p in _conflicts(m, mends, choice)]
    units: list[Unit] = []
    steps: list[Step] = []
    changes: list[Change] = []
    for m in mends:
        deleted = m.extra if choice.may_destroy(m.destination.address) else []
        gone = len(deleted) + m.copies if deleted else 0
        if deleted:
            steps.insert(0, DeleteRows(m.destination.address, tuple(deleted)))
        written = list(rewrites(m, len(units)))
        units += m.units
        steps += written
        if written or deleted:
            steps.append(Recount(m.destination.address, m.rows - gone))
        changes += _changes(m, deleted=bool(deleted))
    return Plan(
        spec=spec.long(),
        spec_name=spec.name or "vsync.yaml",
        folder=str(spec.folder),
        spec_digest=spec.digest,
        target=facts.target.identity,
        target_label=facts.target.label,
        observed={m.collection.name: observed_digest(facts.target.live.get(m.collection.name)) for m in mends},
        collections={m.collection.name: m.collection for m in mends},
        destinations=tuple(replace(m.destination, elsewhere=_elsewhere(m, facts)) for m in mends),
        units=tuple(units),
        steps=() if conflicts else tuple(steps),
        changes=tuple(changes),
        conflicts=tuple(conflicts),
        only=choice.only,
        leave_out=choice.leave_out,
        allow_destroy=choice.allow_destroy,
        repairs=bool(steps) and not conflicts,
    )


def _elsewhere(m: Mend, facts: Facts) -> bool:
    live = facts.target.live.get(m.collection.name)
    others = live.partition_rows if live is not None else {}
    return any(rows != 0 for name, rows in others.items() if name != m.destination.partition)


def repaired_destination(
    address: str,
    collection: str,
    partition: str | None,
    units: Sequence[Unit],
    session: SessionFacts | None,
    *,
    write: str,
    skips: bool,
    exclusive: bool,
    counted: int,
) -> Destination:
    """Say of a destination what carrying out a repair asks of it; its session is the one that the journal has."""
    return Destination(
        address=address,
        collection=collection,
        partition=partition,
        write=write,
        probe=False,
        strict=False,
        on_bad_row="skip" if skips else "error",
        content=session.content if session else content_key([u.key for u in units]),
        epoch=session.epoch if session else 0,
        session=session.session if session else 0,
        before=counted,
        exclusive=exclusive,
    )


def _conflicts(m: Mend, mends: Sequence[Mend], choice: Choice) -> Iterator[Problem]:
    address = m.destination.address
    all_of_it = f"say write: overwrite and apply with --allow-destroy {address} to bring all rows again"
    if m.session is not None and not m.session.done:
        yield Problem(f"{address}: an apply of it has not finished", None, "finish it first: vsync apply")
    if m.changes > MOST_ROWS:
        yield Problem(f"{address}: {many(m.changes, 'row')} are too many to be mended one by one", None, all_of_it)
    if m.lost:
        what = f"{address} lacks {many(m.lost, 'row')}, and the server makes the keys (auto_id)"
        yield Problem(f"{what}: an interrupted repair could not tell which of them it has inserted", None, all_of_it)
    yield from unmendable(m)
    for other in mends:
        to = other.destination
        moved = m.missing.intersection(other.extra) if to.collection == m.destination.collection else set()
        if moved and not choice.may_destroy(to.address):
            what = f"{address}: {many(len(moved), 'row')} of its data in {to.address} instead"
            yield Problem(what, None, f"let them be deleted there: --allow-destroy {to.address}")


def _changes(m: Mend, *, deleted: bool) -> Iterator[Change]:
    address = m.destination.address
    yield from rewritten(m)
    if m.extra and deleted:
        yield Change("destroy", address, f"{many(len(m.extra), 'row')} not in its data: deleted")
    elif m.extra:
        what = f"{many(len(m.extra), 'row')} not in its data: left alone"
        yield Change("warn", address, what, (f"let them be deleted: --allow-destroy {address}",))
