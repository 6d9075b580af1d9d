"""What a comparison of a destination with its data found, as changes of a plan: rows written again, others deleted.

Where much differs its chunks are copied whole instead: row by row would be slower, and the plan would be large.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vsync.errors import Problem, many
from vsync.planning.mend import MOST_ROWS, rewritten, unmendable
from vsync.planning.steps import Change

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vsync.planning.mend import Mend
    from vsync.planning.rows import Standing

ROW_BY_ROW = 0.3
"""The part of its data's rows up to which a destination is mended row by row."""


def is_large(found: Mend) -> bool:
    """Tell whether so much differs that chunks are copied whole."""
    rows = sum(u.rows for u in found.units)
    return found.writes > min(MOST_ROWS, ROW_BY_ROW * rows)


def to_be_done(at: Standing, found: Mend) -> Mend:
    """Leave out what this way of writing does not do: only mirror deletes rows that the data does not hold."""
    return found if at.base.write == "mirror" else replace(found, extra=[], copies=0)


def changes(at: Standing, found: Mend) -> Iterator[Change]:
    """Say what is to be done."""
    yield from () if is_large(found) else rewritten(found)
    if found.extra:
        what = f"{many(len(found.extra), 'row')} not in the data will be deleted"
        yield Change("destroy", at.base.address, what, (), at.where)


def conflicts(at: Standing, found: Mend) -> Iterator[Problem]:
    """Say what keeps it from being done."""
    address = at.base.address
    yield from unmendable(found, at.where)
    if not found.extra:
        return
    rows = many(len(found.extra), "row")
    if len(found.extra) > at.may_delete:
        what = f"{address}: {rows} to be deleted, and max_delete allows {at.may_delete:,}"
        hint = f"look at the source: is it whole? If so, write max_delete: {len(found.extra)}"
        yield Problem(what, at.where, hint, limit=True)
    elif not at.allowed:
        what = f"{address}: {rows} that the data does not hold are to be deleted"
        yield Problem(what, at.where, f"let them be destroyed: --allow-destroy {address}")
