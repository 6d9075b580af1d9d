"""The line of a plan that shows what is copied of one source, and what is to be known of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vsync.errors import many
from vsync.planning import known
from vsync.planning.steps import Change
from vsync.schema import DEFAULT_PARTITION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vsync.planning.facts import JournalFacts, UnitFacts
    from vsync.planning.steps import Destination


def copy_change(
    u: UnitFacts,
    destination: Destination,
    pending: Sequence[int],
    in_doubt: int,
    journal: JournalFacts,
    restarted: int,
) -> Change | None:
    """Show the copy of a source into a destination: the chunks ``pending``; ``None`` where there is none.

    ``in_doubt`` are chunks that are sent again, ``restarted`` those that were done and are copied all the same.
    """
    if not pending:
        return None
    rows = sum(u.bounds[n].rows - len(u.losers_within(u.bounds[n])) for n in pending)
    total, done = len(u.bounds), len(u.bounds) - len(pending)
    where = u.unit.options.get("where")
    details = [f"where {where}"] if where and not u.unit.path.endswith(where) else []
    if done:
        doubt = f", {in_doubt} in doubt: sent again" if in_doubt else ""
        details.append(f"resumes: {done:,} of {total:,} chunks done{doubt}")
    elif restarted:
        details.append(f"restarts: {restarted:,} of {total:,} chunks were done, and all are copied again")
    elif in_doubt:
        details.append(f"resumes: {many(in_doubt, 'chunk')} in doubt sent again")
    was = known.was(u, journal)
    if known.differs(u, was):
        same = u.unit.rows == was.rows
        details.append(
            f"changed: {u.unit.rows:,} rows" + (" as before, of other content" if same else f", were {was.rows:,}")
        )
    if u.moves:
        details.append("not as of one moment: what is written there meanwhile may come along")
    if u.surplus:
        what = f"{u.surplus:,} entities more are counted there than it has keys: one under each key is copied"
        details.append(f"{what} (old copies of rows that were just replaced count, too)")
    if destination.write == "overwrite" and destination.elsewhere:
        details.append("rows of other partitions that have its keys go from there")
    if destination.probe:
        details.append("keys are compared with those there when applied")
    if u.losers:
        details.append(f"{many(len(u.losers), 'row')} more lost a collision of keys: not copied")
    into = f" -> {destination.partition}" if destination.partition not in {None, DEFAULT_PARTITION} else ""
    nbytes = round(u.unit.nbytes * rows / u.unit.rows) if u.unit.rows else 0
    return Change("copy", u.unit.address, f"{u.unit.path}{into}", tuple(details), None, rows, nbytes, len(pending))
