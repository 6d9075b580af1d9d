"""Settling what is in doubt where the server makes the keys (auto_id).

An insert whose answer did not come cannot be repeated blindly: its rows would be there twice, under new keys. But every
key that was acknowledged is in the journal. So a row under any other key that equals a row in doubt, field by field, is
what such a request left there: it is removed, and the rows in doubt are sent again. Rows that others wrote stay.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from vsync.applying import there
from vsync.applying.worker import Task
from vsync.connectors.base import KeyRange
from vsync.planning.origins import mapping_of
from vsync.planning.steps import CopyChunk
from vsync.rows.digest import row_digests
from vsync.schema import HIGHEST, LOWEST

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from vsync.applying.run import Run
    from vsync.connectors.base import Reader
    from vsync.planning.steps import Destination
    from vsync.schema import Field

READ_AT_ONCE = 10_000
"""Rows: between our keys others may have written any number."""

Doubtful = dict[tuple["Field", ...], "NDArray[np.uint64]"]
"""The digests of rows in doubt, by the fields that they have."""


def remove_strays(run: Run, tasks: Sequence[Task]) -> int:
    """Remove what requests of these tasks, all of one collection, left unacknowledged; gives the number of rows."""
    if not tasks:
        return 0
    collection = tasks[0].collection
    name, key = collection.name, collection.primary.name
    reader, removed = run.target.reader(collection, None), 0
    doubtful: Doubtful = {}
    for gap in gaps(run.journal.key_ranges(run.key, name)):
        for piece in _pieces(run, reader, gap):
            doubtful = doubtful or _digests(run, tasks)
            for fields, digests in doubtful.items():
                rows = run.retry.call(reader.read, piece, [key, *(f.name for f in fields)])
                keys = rows.column(key).filter(pa.array(np.isin(row_digests(rows, fields), digests)))
                if len(keys):
                    run.retry.call(run.target.delete, name, None, keys)
                    removed += len(keys)
    return removed


def lost_tasks(run: Run, to: Destination) -> list[Task]:
    """Find the chunks of a destination that have fewer rows than were acknowledged, and put them in doubt again."""
    collection = run.plan.collections[to.collection]
    reader = run.target.reader(collection, None)
    lost = []
    for index, unit in enumerate(run.plan.units):
        if unit.destination != to.address:
            continue
        for n, at, ranges in run.journal.acked_ranges(run.key, unit.key, to.epoch):
            held = sum(run.retry.call(reader.count, KeyRange(first, last + 1)) for first, last in ranges)
            if held < sum(last + 1 - first for first, last in ranges):
                run.journal.reopen(run.key, unit.key, to.epoch, n)
                lost.append(Task(unit, CopyChunk(index, n, at.lo, at.hi, keys=at.keys), to, collection))
    return lost


def gaps(ranges: Sequence[tuple[int, int]]) -> list[KeyRange]:
    """Give the keys in none of these ranges (ends included)."""
    ends = [(LOWEST - 1, LOWEST - 1), *merged(ranges), (HIGHEST + 1, HIGHEST + 1)]
    open_ended = {LOWEST: None, HIGHEST + 1: None}
    return [
        KeyRange(open_ended.get(hi + 1, hi + 1), open_ended.get(lo, lo))
        for (_, hi), (lo, _) in pairwise(ends)
        if lo - hi > 1
    ]


def merged(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join ranges (ends included) that touch or overlap; ascending."""
    joined: list[tuple[int, int]] = []
    for lo, hi in sorted(ranges):
        if joined and lo <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], hi))
        else:
            joined.append((lo, hi))
    return joined


def _pieces(run: Run, reader: Reader, keys: KeyRange) -> Iterator[KeyRange]:
    """Cut a range so that each piece holds rows, and not too many."""
    rows = run.retry.call(reader.count, keys)
    lo = LOWEST if keys.lo is None else int(keys.lo)
    hi = HIGHEST + 1 if keys.hi is None else int(keys.hi)
    if not rows:
        return
    if rows <= READ_AT_ONCE or hi - lo == 1:
        yield keys
        return
    middle = (lo + hi) // 2
    yield from _pieces(run, reader, KeyRange(keys.lo, middle))
    yield from _pieces(run, reader, KeyRange(middle, keys.hi))


def _digests(run: Run, tasks: Sequence[Task]) -> Doubtful:
    """Digest the rows of chunks: those that they bring now, and of collections those that they were sent with."""
    parts: defaultdict[tuple[Field, ...], list[NDArray[np.uint64]]] = defaultdict(list)
    for task in tasks:
        fields = tuple(m.field for m in mapping_of(task.unit, task.collection))
        parts[fields].append(row_digests(run.copier.worker.rows_of(task), fields))
        sent = run.journal.there_mask(run.key, task.unit.key, task.to, task.chunk.n) if task.unit.lives else None
        if sent is not None:
            parts[fields].append(there.digests_of(sent))
    return {fields: np.concatenate(digests) for fields, digests in parts.items()}
