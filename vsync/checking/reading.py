"""The rows of both sides as digests: those that the data brings, and those that the target gives."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vsync.checking.findings import RowsRead
from vsync.connectors.base import Bounds, KeyRange
from vsync.errors import TargetError, TransientError
from vsync.planning.facts import losers_within
from vsync.planning.origins import mapping_of
from vsync.rows import arrow_type, bad_rows_error, columns_of, take_rows
from vsync.rows.digest import field_digests
from vsync.rows.losers import without

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from vsync.checking.findings import Report
    from vsync.checking.sides import Side
    from vsync.connectors.base import Key, Reader, Source, Target
    from vsync.planning.steps import Unit
    from vsync.schema import Field

Keep = Callable[[pa.Array, NDArray[np.int64]], NDArray[np.bool_]]
"""Tells by their keys and numbers which rows of the source are kept."""

SOURCE_THREADS = 2
ROW_BITS = 40
"""Of a place: the number of the row; above it that of the unit."""


def _as_counted(counted: int, *_how: object) -> int:
    """Take a count for what it is at once."""
    return counted


@dataclass(frozen=True, slots=True)
class Ways:
    """What a check reads with: ``use`` opens the source of a unit, ``call`` tries again what fails for a moment.

    ``settled(counted, count, surplus, address, seconds)`` counts again while there are too many rows.
    """

    target: Target
    use: Callable[[Unit], AbstractContextManager[Source]]
    call: Callable[..., Any]
    report: Report
    transfers: int
    settled: Callable[..., int] = _as_counted
    ended: threading.Event = field(default_factory=threading.Event)

    def at_once(self, *work: tuple[int, Sequence[Callable[[], None]]]) -> None:
        """Do several kinds of work at the same time, each in so many threads; the first error ends it."""
        executors = [ThreadPoolExecutor(threads, thread_name_prefix="vsync") for threads, _ in work]
        started = [e.submit(one) for e, (_, ones) in zip(executors, work, strict=True) for one in ones]
        try:
            for future in as_completed(started):
                future.result()
        except BaseException:
            self.ended.set()
            raise
        finally:
            for executor in executors:
                executor.shutdown(cancel_futures=True)


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one side: their keys, a digest of each value, and the places in the source (0 in the target)."""

    keys: pa.Array
    digests: NDArray[np.uint64]
    places: NDArray[np.int64]

    @staticmethod
    def none(key: pa.DataType, fields: int) -> Rows:
        """Give no rows of so many fields."""
        return Rows(pa.array([], key), np.empty((0, fields), np.uint64), np.empty(0, np.int64))

    @staticmethod
    def joined(parts: Sequence[Rows]) -> Rows:
        """Put parts together, one at least."""
        return Rows(
            pa.concat_arrays([p.keys for p in parts]),
            np.concatenate([p.digests for p in parts]),
            np.concatenate([p.places for p in parts]),
        )

    def only(self, mask: NDArray[np.bool_]) -> Rows:
        """Leave out rows."""
        return self if mask.all() else Rows(self.keys.filter(pa.array(mask)), self.digests[mask], self.places[mask])


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows ``lo`` (included) to ``hi`` (excluded) of a unit; ``keys`` are those of a collection's chunk."""

    unit: int
    lo: int
    hi: int
    keys: KeyRange | None = None

    def part(self, lo: int, hi: int) -> Chunk:
        """Give the smallest chunk that can be read and has these rows."""
        return self if self.keys is not None else Chunk(self.unit, lo, hi)


@dataclass(frozen=True, slots=True)
class Expected:
    """The rows that a destination should hold: those of its data that an apply sends."""

    side: Side
    ways: Ways

    def chunks(self) -> list[Chunk]:
        """List them all, as the sources are cut."""
        return [Chunk(unit, b.lo, b.hi, b.keys) for unit, bounds in enumerate(self.side.bounds) for b in bounds]

    def rows(self, chunk: Chunk, fields: Sequence[Field], keep: Keep | None = None) -> Rows:
        """Read the rows of a chunk that an apply sends, of them those to be kept; the digests are of ``fields``."""
        batch, numbers = self.read(chunk, fields)
        self.ways.report(RowsRead(self.side.address, chunk.hi - chunk.lo))
        if keep is not None:
            mask = keep(batch.column(self.side.collection.primary.name), numbers)
            batch, numbers = batch.filter(pa.array(mask)), numbers[mask]
        key = self.side.collection.primary
        keys = pa.nulls(len(numbers), arrow_type(key)) if key.auto_id else batch.column(key.name)
        return Rows(keys, field_digests(batch, fields), place(chunk.unit, numbers))

    def read(self, chunk: Chunk, fields: Sequence[Field]) -> tuple[pa.RecordBatch, NDArray[np.int64]]:
        """Give the key (where the data brings it) and these fields, and the rows' numbers."""
        side, unit = self.side, self.side.units[chunk.unit]
        wanted = {f.name for f in fields}
        # Rows that do not fit in any field were left out, and only the whole row tells.
        mapping = tuple(
            m for m in mapping_of(unit, side.collection) if side.skips or m.field.primary or m.field.name in wanted
        )
        columns = columns_of(mapping)
        with self.ways.use(unit) as source:
            given = source.read(Bounds(chunk.lo, chunk.hi, chunk.keys), columns) if columns else _no_columns(chunk)
        taken = take_rows(given, chunk.lo, mapping, self.ways.target.rules)
        if taken.bad and not side.skips:
            raise bad_rows_error(taken.bad, where=f"{unit.path} rows {chunk.lo}-{chunk.hi - 1}")
        key = None if chunk.keys is None else side.collection.primary.name
        losers = losers_within(side.losers[chunk.unit], Bounds(chunk.lo, chunk.hi, chunk.keys))
        rows, numbers = without(taken.rows, taken.numbers, losers, key)
        for f in fields:
            if f.name not in rows.schema.names:  # another unit brings it: here the server puts what it puts for null
                rows = rows.append_column(f.name, pa.nulls(rows.num_rows, arrow_type(f)))
        return rows, numbers


def place(unit: int, row: Any) -> Any:
    """Say where rows are in the source, in one number each."""
    return row | unit << ROW_BITS


def unit_and_row(at: int) -> tuple[int, int]:
    """Split a place into the unit's position and the row's number."""
    return at >> ROW_BITS, at & ((1 << ROW_BITS) - 1)


def _no_columns(chunk: Chunk) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.nulls(chunk.hi - chunk.lo)], names=[""])


@dataclass(frozen=True, slots=True)
class Held:
    """The rows that a destination holds. ``unreadable`` are keys whose rows the target could not give, and why.

    Until ``until`` old copies may be among those that are counted.
    """

    side: Side
    ways: Ways
    reader: Reader
    until: float = 0.0
    unreadable: dict[Key, str] = field(default_factory=dict)

    def blocks(self, within: KeyRange, fields: Sequence[Field]) -> Iterator[Rows]:
        """Read the rows of a range in blocks, ascending by key, the digests those of ``fields``."""
        key = self.side.collection.primary
        names = [key.name, *(f.name for f in fields)]
        last: Key | None = None
        try:
            for batch in self._scan(within, names):
                last = batch.column(0)[-1].as_py()
                yield self._rows(batch, fields)
        except TransientError:
            raise
        except TargetError:
            if not fields:
                raise
            # Somewhere behind the last key there are rows that the target cannot give: all others are asked for.
            for batch in self._scan(KeyRange(within.lo if last is None else last, within.hi), [key.name]):
                keys = batch.column(0)
                yield from self.readable(keys.filter(pa.array(_behind(keys, last))), fields)

    def fetch(self, keys: pa.Array, fields: Sequence[Field]) -> Rows:
        """Read the rows with these keys."""
        names = [self.side.collection.primary.name, *(f.name for f in fields)]
        return self._rows(self.ways.call(self.reader.fetch, keys, names), fields)

    def count(self, within: KeyRange) -> int:
        """Count the rows of a range, also those that no query gives."""
        counted: int = self.ways.call(self.reader.count, within)
        return counted

    def settled(self, counted: int, keys: int) -> int:
        """Count all rows again while they are more than the keys, as long as old copies may be among them."""
        seconds = self.until - time.monotonic()
        count = partial(self.count, KeyRange())
        return self.ways.settled(counted, count, lambda rows: rows - keys, self.side.address, seconds)

    def keys(self, within: KeyRange) -> list[Key]:
        """List the keys of a range that holds few."""
        name = self.side.collection.primary.name
        keys: list[Key] = self.ways.call(self.reader.read, within, [name]).column(0).to_pylist()  # not a vector: keys
        return keys

    def _scan(self, within: KeyRange, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        stream = self.reader.scan(within, names)
        while not self.ways.ended.is_set() and (batch := self.ways.call(next, stream, None)) is not None:
            yield batch

    def _rows(self, batch: pa.RecordBatch, fields: Sequence[Field]) -> Rows:
        self.ways.report(RowsRead(self.side.address, batch.num_rows))
        return Rows(batch.column(0), field_digests(batch, fields), np.zeros(batch.num_rows, np.int64))

    def readable(self, keys: pa.Array, fields: Sequence[Field]) -> Iterator[Rows]:
        """Read the rows with these keys, but for those that the target cannot give."""
        if not len(keys):
            return
        try:
            yield self.fetch(keys, fields)
        except TransientError:
            raise
        except TargetError as e:
            if len(keys) == 1:
                self.unreadable[keys[0].as_py()] = e.problems[0].what
                return
            for half in (keys[: len(keys) // 2], keys[len(keys) // 2 :]):
                yield from self.readable(half, fields)


def _behind(keys: pa.Array, last: Key | None) -> NDArray[np.bool_]:
    mask = np.ones(len(keys), np.bool_)
    if len(keys) and keys[0].as_py() == last:
        mask[0] = False
    return mask
