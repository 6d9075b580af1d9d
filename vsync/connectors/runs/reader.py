"""Several runs read as what they come to: where two have a key, the later one says what its row is."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vsync.connectors.base import Bounds, KeyRange
from vsync.connectors.columns import is_loose, mean_bytes
from vsync.connectors.columns import row_bytes as row_bytes_of
from vsync.connectors.runs.run import STEP, Span, below, key_at, locate, span_of
from vsync.rows import arrow_schema
from vsync.rows.filter import parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from vsync.connectors.base import Key
    from vsync.connectors.runs.run import Run
    from vsync.schema import Collection

AnyRun = TypeVar("AnyRun", bound="Run")

BLOCK_BYTES = 16 << 20
"""About how much is read at once."""
LARGER = 1.5
"""So many times what was asked for a piece may be: how large a row is was guessed, here and when a run was written."""
SAMPLE_ROWS = 64
"""So many rows tell how large texts, JSON and arrays are, at each of three places."""


class RunsReader:
    """See :class:`vsync.connectors.base.Reader`. ``runs`` are in the order they were written, and do not change.

    ``where``: only the rows that it is true of are there; see :mod:`vsync.rows.filter` for the language.
    """

    def __init__(self, runs: Sequence[Run], collection: Collection, *, where: str | None = None) -> None:
        self._runs, self._key = tuple(run for run in runs if run.rows), collection.primary.name
        self._schema = arrow_schema(collection.columns)
        self._sizes: dict[str, float] = {}
        self._where = None if where is None else parse(where, collection)

    def keys(self) -> Iterator[pa.Array]:
        """Scan all primary keys in blocks, ascending."""
        return (rows.column(0) for rows in self.scan(KeyRange(), [self._key]))

    def read(self, keys: KeyRange, fields: Sequence[str]) -> pa.RecordBatch:
        """Read the rows of a range, ascending by key."""
        spans = [span for span in self._spans(keys) if len(span)]
        if len(spans) == 1 and self._where is None:  # as of a first copy: nothing has to be put together
            return self._merged(spans, fields)
        return self._joined(self.scan(keys, fields), fields)

    def _spans(self, keys: KeyRange) -> list[Span]:
        return [span_of(run, age, keys) for age, run in enumerate(self._runs)]

    def scan(self, keys: KeyRange, fields: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Read the rows of a range in blocks of about ``BLOCK_BYTES``."""
        wanted = list(dict.fromkeys([*fields, *(self._where.fields if self._where else ())]))
        row_bytes = self._row_bytes(wanted)
        for block in in_blocks(self._spans(keys), max(1, min(STEP, int(BLOCK_BYTES / row_bytes)))):
            rows = self._filtered(self._merged(block, wanted)).select(list(fields))
            if rows.num_rows:
                yield rows

    def fetch(self, keys: pa.Array, fields: Sequence[str]) -> pa.RecordBatch:
        """Read the rows with these keys."""
        wanted = list(dict.fromkeys([*fields, *(self._where.fields if self._where else ())]))
        parts: list[pa.RecordBatch] = []
        for run in reversed(self._runs):
            numbers = locate(run, keys)
            if not run.removes:
                parts += _rows_at(run, np.sort(numbers[numbers >= 0]), wanted)
            keys = keys.filter(pa.array(numbers < 0))
        return self._filtered(self._joined(parts, wanted)).select(list(fields))

    def holds(self, keys: pa.Array) -> NDArray[np.bool_]:
        """Tell for each key whether there is a row of it, whatever ``where`` says."""
        held, unknown = np.zeros(len(keys), np.bool_), np.ones(len(keys), np.bool_)
        for run in reversed(self._runs):
            found = unknown & (locate(run, keys) >= 0)
            held |= found & (not run.removes)
            unknown &= ~found
        return held

    def count(self, keys: KeyRange) -> int:
        """Count the rows of a range."""
        if self._where is not None:
            return sum(rows.num_rows for rows in self.scan(keys, [self._key]))
        return sum(_count(block) for block in in_blocks(self._spans(keys), STEP))

    def pieces(self, step: int) -> list[Bounds]:
        """Cut where runs begin, without a look at keys; nothing where they overlap or are much larger than ``step``.

        Small neighbours are put together.
        """
        runs = one_behind_the_other(self._runs)
        if self._where is not None or runs is None or any(run.rows > LARGER * step for run in runs):
            return []
        cuts: list[tuple[int, Key | None]] = []
        rows = 0
        for run, end in zip(runs, accumulate(run.rows for run in runs), strict=True):
            if not cuts or end - cuts[-1][0] > step:
                cuts.append((rows, run.first if cuts else None))
            rows = end
        return [Bounds(lo, hi, KeyRange(key, end)) for (lo, key), (hi, end) in pairwise([*cuts, (rows, None)])]

    def _row_bytes(self, fields: Sequence[str]) -> float:
        """Tell how large a row is, about."""
        unknown = [f for f in fields if f not in self._sizes]
        self._sizes |= {f: row_bytes_of(self._schema.field(f).type) for f in unknown}
        loose = [f for f in unknown if is_loose(self._schema.field(f).type)]
        for rows in self._sampled(loose) if loose else ():
            self._sizes |= {f: max(self._sizes[f], mean_bytes(rows.column(f))) for f in loose}
        return sum(self._sizes[f] for f in fields)

    def _sampled(self, fields: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Read some rows of the largest run: its first, its last, and some between."""
        largest = max((run for run in self._runs if not run.removes), key=lambda run: run.rows, default=None)
        if largest is not None:
            for lo in sorted({0, largest.rows // 2, max(0, largest.rows - SAMPLE_ROWS)}):
                yield largest.read(lo, min(lo + SAMPLE_ROWS, largest.rows), fields)

    def _filtered(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        return rows if self._where is None else rows.filter(self._where.mask(rows))

    def _merged(self, block: Sequence[Span], fields: Sequence[str]) -> pa.RecordBatch:
        """Read a block of spans as what they come to."""
        if len(block) == 1:
            (span,) = block
            return self._empty(fields) if span.run.removes else span.run.read(span.lo, span.hi, fields)
        winners = _winners(block)
        kept = [span for span in block if not span.run.removes]
        return self._joined((s.run.read(s.lo, s.hi, fields) for s in kept), fields).take(winners)

    def _joined(self, parts: Iterable[pa.RecordBatch], fields: Sequence[str]) -> pa.RecordBatch:
        found = [rows for rows in parts if rows.num_rows]
        if len(found) == 1:
            return found[0]
        return pa.Table.from_batches(found).combine_chunks().to_batches()[0] if found else self._empty(fields)

    def _empty(self, fields: Sequence[str]) -> pa.RecordBatch:
        return pa.RecordBatch.from_arrays(
            [pa.array([], self._schema.field(f).type) for f in fields], names=list(fields)
        )


def one_behind_the_other(runs: Sequence[AnyRun]) -> list[AnyRun] | None:
    """Put runs in the order of their keys; ``None`` where two overlap, or one is of rows that are gone."""
    ascending = sorted((run for run in runs if run.rows), key=lambda run: _order(run.first))
    apart = all(below(one.last, other.first) for one, other in pairwise(ascending))
    return ascending if apart and not any(run.removes for run in ascending) else None


def in_blocks(spans: Iterable[Span], step: int) -> Iterator[list[Span]]:
    """Cut runs into blocks, ascending, so that what two runs say of one key is in one block.

    Runs that do not overlap, as those of a first copy, come one after the other, each looked at while its turn is.
    """
    waiting = sorted((s for s in spans if len(s)), key=lambda s: _order(s.first), reverse=True)
    active: list[Span] = []
    while waiting or active:
        active = active or [waiting.pop()]
        end = _end(active, step)
        while waiting and not below(_limit(active, end), waiting[-1].first):
            active.append(waiting.pop())
            end = _end(active, step)
        halves = [span.split(end) for span in active]
        yield [now for now, _ in halves if len(now)]
        active = [later for _, later in halves if len(later)]


def _end(spans: Sequence[Span], step: int) -> Key | None:
    """Tell where a block ends so that none of its spans has more than ``step`` rows; ``None``: behind all of them."""
    return min((key_at(s.run, s.lo + step) for s in spans if len(s) > step), default=None, key=_order)


def _limit(spans: Sequence[Span], end: Key | None) -> Key:
    """Tell up to which key a block goes."""
    return max((s.last for s in spans), key=_order) if end is None else end


def _order(key: Key) -> Any:
    return key


def _winners(block: Sequence[Span]) -> pa.Array:
    """Give the places of the rows that stand, ascending by key, among all rows of the spans that bring some."""
    columns = [span.run.keys(span.lo, span.hi) for span in block]
    ages = np.concatenate([np.full(len(span), span.age) for span in block])
    brings = np.concatenate([np.full(len(span), not span.run.removes) for span in block])
    keys = pa.concat_arrays(columns)
    order = pc.sort_indices(
        pa.table({"key": keys, "age": pa.array(ages)}), [("key", "ascending"), ("age", "ascending")]
    )
    ascending = keys.take(order)
    last = np.ones(len(keys), np.bool_)
    last[:-1] = pc.not_equal(ascending[:-1], ascending[1:]).to_numpy(zero_copy_only=False)
    standing = order.to_numpy()[last]
    places = np.cumsum(brings) - 1
    return pa.array(places[standing[brings[standing]]])


def _count(block: Sequence[Span]) -> int:
    if len(block) == 1:
        return 0 if block[0].run.removes else len(block[0])
    return len(_winners(block))


def _rows_at(run: Run, numbers: NDArray[np.int64], fields: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Read single rows of a run, ascending numbers: near ones together."""
    at = 0
    while at < len(numbers):
        end = int(np.searchsorted(numbers, numbers[at] + STEP))
        lo, hi = int(numbers[at]), int(numbers[end - 1]) + 1
        yield run.read(lo, hi, fields).take(pa.array(numbers[at:end] - lo))
        at = end
