"""A sorted run of rows: ascending by primary key, each key once. VARCHAR keys in UTF-8 byte order."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vsync.connectors.base import Key, KeyRange

STEP = 65_536
"""How many keys are looked at together."""


class Run(Protocol):
    """Rows that do not change any more. Used by several threads at once."""

    @property
    def rows(self) -> int:
        """How many rows, or keys, there are."""

    @property
    def removes(self) -> bool:
        """Whether its keys are those of rows that are gone: then it has keys and no other columns."""

    @property
    def first(self) -> Key:
        """The lowest key; of a run that has rows."""

    @property
    def last(self) -> Key:
        """The highest key; of a run that has rows."""

    def keys(self, lo: int, hi: int) -> pa.Array:
        """Give the keys of the rows from number ``lo`` to ``hi`` (excluded)."""

    def read(self, lo: int, hi: int, fields: Sequence[str]) -> pa.RecordBatch:
        """Read the rows from number ``lo`` to ``hi`` (excluded), the columns in the order asked for."""


@dataclass(frozen=True, slots=True)
class Memory:
    """A run in memory, or in a file that is mapped there; ``key`` names its column of keys."""

    batch: pa.RecordBatch
    key: str
    removes: bool = False

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return int(self.batch.num_rows)

    @property
    def first(self) -> Key:
        """The lowest key."""
        return key_at(self, 0)

    @property
    def last(self) -> Key:
        """The highest key."""
        return key_at(self, self.rows - 1)

    def keys(self, lo: int, hi: int) -> pa.Array:
        """Show keys."""
        return self.batch.column(self.key).slice(lo, hi - lo)

    def read(self, lo: int, hi: int, fields: Sequence[str]) -> pa.RecordBatch:
        """Show rows."""
        return self.batch.slice(lo, hi - lo).select(list(fields))


@dataclass(frozen=True, slots=True)
class Span:
    """The rows of a run from number ``lo`` to ``hi`` (excluded); ``age`` is the run's place, later ones are newer."""

    run: Run
    age: int
    lo: int
    hi: int

    @property
    def first(self) -> Key:
        """The first key."""
        return key_at(self.run, self.lo) if self.lo else self.run.first

    @property
    def last(self) -> Key:
        """The last key."""
        return key_at(self.run, self.hi - 1) if self.hi < self.run.rows else self.run.last

    def split(self, key: Key | None) -> tuple[Span, Span]:
        """Cut it before a key; ``None``: behind all."""
        at = self.hi if key is None else find(self.run, key, self.lo, self.hi)
        return Span(self.run, self.age, self.lo, at), Span(self.run, self.age, at, self.hi)

    def __len__(self) -> int:
        return self.hi - self.lo


def key_at(run: Run, number: int) -> Key:
    """Give the key of one row."""
    key: Key = run.keys(number, number + 1)[0].as_py()
    return key


def find(run: Run, key: Key, lo: int = 0, hi: int | None = None) -> int:
    """Give the number of the first row whose key is not below ``key``; of few keys at once the rest is looked at."""
    hi = run.rows if hi is None else hi
    while hi - lo > STEP:
        middle = (lo + hi) // 2
        if below(key_at(run, middle), key):
            lo = middle + 1
        else:
            hi = middle
    keys = run.keys(lo, hi)
    return lo + bisect_left(range(len(keys)), key, key=lambda at: keys[at].as_py())


def span_of(run: Run, age: int, within: KeyRange) -> Span:
    """Give the rows of a run that a range of keys holds."""
    if not run.rows:
        return Span(run, age, 0, 0)
    lo = 0 if within.lo is None else _find(run, within.lo)
    hi = run.rows if within.hi is None else _find(run, within.hi)
    return Span(run, age, lo, max(lo, hi))


def _find(run: Run, key: Key) -> int:
    """Find as :func:`find` does, without a look at rows where the ends of the run tell."""
    if below(run.last, key):
        return run.rows
    return find(run, key) if below(run.first, key) else 0


def below(one: Key, other: Key) -> bool:
    """Tell whether a key comes before another of the same collection, which is of the same type."""
    return one < other  # type: ignore[operator]


def locate(run: Run, keys: pa.Array) -> NDArray[np.int64]:
    """Give the number of the row of each key, -1 where the run does not have it. The keys may be in any order."""
    found = np.full(len(keys), -1, np.int64)
    if not len(keys) or not run.rows:
        return found
    ends = pc.min_max(keys)
    lo, end = _find(run, ends["min"].as_py()), ends["max"].as_py()
    if below(end, run.first):
        return found
    while lo < run.rows:
        block = run.keys(lo, min(lo + STEP, run.rows))
        at = pc.index_in(keys, value_set=block)
        held = pc.is_valid(at).to_numpy(zero_copy_only=False)
        found[held] = lo + at.drop_null().to_numpy().astype(np.int64)
        if block[-1].as_py() >= end:
            break
        lo += len(block)
    return found


def sorted_by_key(batch: pa.RecordBatch, key: str) -> pa.RecordBatch:
    """Put rows in the order of their keys, which are unique."""
    keys = batch.column(key)
    if pc.all(pc.less(keys[:-1], keys[1:]), min_count=0).as_py():
        return batch
    return batch.take(pc.sort_indices(keys))
