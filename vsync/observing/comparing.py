"""Comparing destinations with their data for a plan: where rows are to be replaced or deleted, it must know which.

That is so for ``mirror``; and for ``upsert`` and ``overwrite`` from collections, which do not tell whether they have
changed since. A destination that holds nothing needs no comparison, nor does one that is being brought what its
sources still hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vsync.applying.settings import TRANSFERS
from vsync.checking import Checks, Ways, check_sides, mend_of, side_of
from vsync.checking.findings import Found
from vsync.opening import once
from vsync.planning.diff import forces_replacement
from vsync.planning.known import goes_on
from vsync.planning.mend import MOST_ROWS, Mend
from vsync.planning.steps import DeleteRows, Recount, RewriteRows, content_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vsync.checking import Side
    from vsync.checking.findings import Event, Finding
    from vsync.connectors.base import Target
    from vsync.observing.sources import Known
    from vsync.opening import Sources
    from vsync.planning.choice import Choice
    from vsync.planning.facts import Facts
    from vsync.planning.steps import Plan
    from vsync.planning.wanted import Wanted
    from vsync.spec import Spec


def compare(
    spec: Spec, facts: Facts, choice: Choice, known: Known, sources: Sources, report: Callable[[Event], None]
) -> dict[str, Mend]:
    """Compare all destinations that need it, and say what differs; what a saved plan has found is taken from it."""
    found: dict[str, Mend] = {}
    for name, wanted in facts.wanted.items():
        for side in () if wanted.problems else _sides(spec, name, wanted, facts, choice):
            frozen = _frozen(side, known.saved)
            found[side.address] = frozen or _compared(side, known.target, sources, report)
    return found


def _sides(spec: Spec, name: str, wanted: Wanted, facts: Facts, choice: Choice) -> Iterator[Side]:
    live = facts.target.live.get(name)
    if live is None or live.loaded is False or wanted.effective.primary.auto_id:
        return
    if any(forces_replacement(wanted.declared, live.schema)):
        return
    for destination in dict.fromkeys(d.destination for d in wanted.data):
        data = [d for d in wanted.data if d.destination == destination]
        side = side_of(spec, name, wanted, data, facts)
        session = facts.journal.sessions.get(destination)
        rows = live.rows if side.partition is None else live.partition_rows.get(side.partition)
        lives = any(u.lives for u in side.units)
        again = session is not None and session.done and lives and side.write in {"upsert", "overwrite"}
        units = [u for u in facts.units if u.unit.destination == destination]
        content = content_key([u.unit.key for u in units])
        mirrors = side.write == "mirror" and not goes_on(content, side.write, session, units, facts.journal)
        whole = all(choice.takes_data(d.address, destination) for d in data)
        # One that an apply left empty is like its data as long as that brings nothing.
        left_empty = session is not None and session.left == 0 and session.is_of(live, side.partition, auto_id=False)
        if (rows or left_empty) and whole and (mirrors or again):
            yield side


def _compared(side: Side, target: Target, sources: Sources, report: Callable[[Event], None]) -> Mend:
    noted: list[Finding] = []

    def hear(event: Event) -> None:
        if isinstance(event, Found) and len(noted) <= MOST_ROWS:
            noted.extend(event.findings)
        report(event)

    # What fails for a moment is not tried again: a plan says so, and is made again.
    ways = Ways(target, sources.use, once, hear, TRANSFERS)
    (compared,) = check_sides([side], ways, Checks("content"))
    return mend_of(side, compared, noted)


def _frozen(side: Side, saved: Plan | None) -> Mend | None:
    """Take what is to be mended from a saved plan; ``None`` where it does not say."""
    counts = [s for s in saved.steps if isinstance(s, Recount) and s.destination == side.address] if saved else []
    if saved is None or not counts:
        return None
    mend = Mend(saved.destination(side.address), side.collection, side.units, side.session, rows=counts[0].rows)
    places = {u.key: n for n, u in enumerate(side.units)}
    for step in saved.steps:
        if isinstance(step, DeleteRows) and step.destination == side.address:
            mend.extra.extend(step.keys)
        elif isinstance(step, RewriteRows) and saved.units[step.unit].key in places:
            rows = [*step.keys, *(n for lo, hi in step.rows for n in range(lo, hi))]
            unit = places[saved.units[step.unit].key]
            (mend.anew if step.anew else mend.again).setdefault(unit, []).extend(rows)
            mend.missing.update(step.keys if step.missing else ())
            mend.absent[unit] = mend.absent.get(unit, 0) + (len(rows) if step.missing else 0)
    mend.rows += len(mend.extra)
    return mend
