"""What is to be mended at a destination: rows that are written again, and others that are deleted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vsync.errors import Problem, many
from vsync.planning.steps import Change, RewriteRows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vsync.connectors.base import Key
    from vsync.planning.facts import SessionFacts
    from vsync.planning.steps import Destination, Unit
    from vsync.schema import Collection

MOST_ROWS = 1_000_000
"""More are not mended one by one."""
SHOWN = 5
"""Keys that are given as examples."""


@dataclass(slots=True)
class Mend:
    """What is to be mended at one destination.

    ``again`` and ``anew`` map a unit's position to the rows that are written again, and to those that are deleted
    before: their numbers in a file, their keys in a collection. ``missing`` and ``extra`` are keys that only the
    source, or only the target has, these with so many ``copies`` more; ``absent`` counts the missing ones by unit,
    ``lost`` those that have no key, ``untold`` rows that are counted and cannot be told by a key, ``taken`` missing
    ones whose keys rows outside of the scope have (``examples``). ``rows`` is what the destination holds in the end, if
    ``extra`` stay.
    """

    destination: Destination
    collection: Collection
    units: tuple[Unit, ...]
    session: SessionFacts | None
    rows: int = 0
    again: dict[int, list[Key]] = field(default_factory=dict)
    anew: dict[int, list[Key]] = field(default_factory=dict)
    missing: set[Key] = field(default_factory=set)
    absent: dict[int, int] = field(default_factory=dict)
    extra: list[Key] = field(default_factory=list)
    copies: int = 0
    lost: int = 0
    untold: int = 0
    taken: int = 0
    examples: list[Key] = field(default_factory=list)

    @property
    def writes(self) -> int:
        """How many rows are to be written."""
        return sum(len(rows) for way in (self.again, self.anew) for rows in way.values())

    @property
    def changes(self) -> int:
        """How many rows are to be written or deleted."""
        return len(self.extra) + self.writes


def unmendable(m: Mend, where: str | None = None) -> Iterator[Problem]:
    """Say what cannot be mended, in whatever way."""
    address = m.destination.address
    if m.untold:
        what = f"{address}: {many(m.untold, 'row')} counted that no key tells"
        yield Problem(what, where, f"say write: overwrite and apply with --allow-destroy {address}")
    if m.taken:
        some = ", ".join(map(repr, m.examples[:SHOWN]))
        what = f"{address}: {many(m.taken, 'row')} of the data have keys that rows outside of its scope have ({some})"
        hint = "write over none of them: let where: of the data leave the same out, or scope: take them in"
        yield Problem(what, where, hint)


def rewrites(m: Mend, first: int) -> Iterator[RewriteRows]:
    """Give the steps that write rows again; ``first`` is the place of the first of its units in the plan."""
    for anew, of_units in ((True, m.anew), (False, m.again)):
        for unit, rows in sorted(of_units.items()):
            if not m.units[unit].lives:
                yield RewriteRows(first + unit, ranges(int(n) for n in rows), anew)
                continue
            for missing in (False, True):
                keys = tuple(key for key in rows if (key in m.missing) is missing)
                if keys:
                    yield RewriteRows(first + unit, (), anew, keys, missing)


def ranges(numbers: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Join numbers that follow each other, the last of each range excluded."""
    joined: list[tuple[int, int]] = []
    for number in sorted(set(numbers)):
        if joined and joined[-1][1] == number:
            joined[-1] = (joined[-1][0], number + 1)
        else:
            joined.append((number, number + 1))
    return tuple(joined)


def rewritten(m: Mend) -> Iterator[Change]:
    """Say what is written again."""
    for n, unit in enumerate(m.units):
        again, anew = len(m.again.get(n, ())), len(m.anew.get(n, ()))
        if again + anew:
            missing = m.absent.get(n, 0)
            details = [f"{missing:,} are not there, {again - missing:,} are different"] if again else []
            details += [f"{anew:,} are there more than once: their keys are deleted before"] if anew else []
            nbytes = round(unit.nbytes * (again + anew) / max(1, unit.rows))
            text = f"{unit.path}: rows again"
            yield Change("copy", unit.address, text, tuple(details), None, again + anew, nbytes, 1)
