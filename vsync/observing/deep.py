"""``plan --deep``: every value that would be sent is checked, and every key is compared with those that are there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vsync.errors import Problem
from vsync.planning.origins import mapping_of
from vsync.planning.steps import Change, CopyChunk, Plan
from vsync.rows import columns_of, hint_for, take_rows
from vsync.rows.losers import without

if TYPE_CHECKING:
    from vsync.connectors.base import Source, Target
    from vsync.opening import Sources

NAMED_BAD_ROWS = 10


@dataclass(slots=True)
class _Seen:
    """What was found of one data item."""

    read: int = 0
    there: int = 0
    bad: int = 0
    lost: int = 0


def look_deep(plan: Plan, target: Target, sources: Sources) -> tuple[tuple[Change, ...], tuple[Problem, ...]]:
    """Read all that is to be copied; gives the plan's changes with what was found, and rows that do not fit."""
    seen: dict[str, _Seen] = {}
    problems: list[Problem] = []
    for index, unit in enumerate(plan.units):
        chunks = [c for c in plan.steps if isinstance(c, CopyChunk) and c.unit == index]
        if not chunks:
            continue
        with sources.use(unit) as source:
            for chunk in chunks:
                _look(
                    plan,
                    chunk,
                    source,
                    target,
                    seen.setdefault(f"{unit.address} {unit.path}", _Seen()),
                    problems,
                )
    changes = tuple(_told(c, seen) for c in plan.changes)
    return changes, tuple(problems[:NAMED_BAD_ROWS])


def _look(plan: Plan, chunk: CopyChunk, source: Source, target: Target, seen: _Seen, problems: list[Problem]) -> None:
    unit = plan.units[chunk.unit]
    to = plan.destination(unit.destination)
    collection = plan.collections[to.collection]
    mapping = mapping_of(unit, collection)
    batch = source.read(chunk.bounds, columns_of(mapping))
    taken = take_rows(batch, chunk.lo, mapping, target.rules)
    key = None if chunk.keys is None else collection.primary.name
    rows, _ = without(taken.rows, taken.numbers, chunk.dropped, key)
    seen.read += batch.num_rows
    seen.lost += taken.rows.num_rows - rows.num_rows
    seen.bad += len({b.row for b in taken.bad})
    if to.on_bad_row == "error":
        problems += [Problem(str(b), unit.path, hint_for([b])) for b in taken.bad]
    if to.probe and rows.num_rows and not collection.primary.auto_id:
        keys = rows.column(collection.primary.name)
        seen.there += target.writer(collection, to.partition).probe(keys).true_count


def _told(change: Change, seen: dict[str, _Seen]) -> Change:
    path = change.summary.split(" -> ")[0]
    found = seen.get(f"{change.address} {path}")
    if change.action != "copy" or found is None:
        return change
    new = found.read - found.there - found.bad - found.lost
    text = f"looked at all: {new:,} rows new, {found.there:,} there already, "
    return replace(change, details=(*change.details, f"{text}{found.bad:,} that do not fit"))
