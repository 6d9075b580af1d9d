"""Finding keys that the data of a collection holds more than once, in bounded memory, spilling to disk.

Keys that ascend within each file, in files whose ranges do not overlap, are unique: that is seen in one pass without
remembering any. Otherwise every key becomes a record of 32 bytes, spread by hash over files in a temporary folder, each
of which is then sorted in memory on its own.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

RECORDS_IN_MEMORY = 2_000_000
MOST_LOSERS = 1_000_000
EXAMPLES = 3

Records = NDArray[Any]
RECORD = np.dtype([("high", np.uint64), ("low", np.uint64), ("unit", np.uint64), ("row", np.uint64)])
_MIX = np.uint64(0x9E3779B97F4A7C15)

KeyBlocks = Callable[[int], Iterable[tuple[pa.Array, NDArray[np.int64]]]]
"""Gives the keys of a unit (by its position) in blocks, each with the row numbers of its keys."""


@dataclass(frozen=True, slots=True)
class Collisions:
    """Rows that share a key with a row that wins: ``lost`` are their records, of more than can be named none.

    ``examples`` are pairs of (unit, row): the winner and a loser.
    """

    count: int
    lost: Records
    examples: tuple[tuple[tuple[int, int], tuple[int, int]], ...]

    def rows(self, unit: int) -> tuple[int, ...]:
        """Give the numbers of a unit's rows that lost, ascending."""
        return tuple(int(row) for row in np.sort(self.lost["row"][self.lost["unit"] == unit]))

    def keys(self, unit: int, blocks: KeyBlocks) -> tuple[int | str, ...]:
        """Give the keys of a unit's rows that lost, in the unit's order: looked up among all of them."""
        lost = self.lost[self.lost["unit"] == unit]
        found: list[int | str] = []
        if len(lost):
            for keys, numbers in blocks(unit):
                records = _records(unit, keys, numbers)
                those = np.isin(records["low"], lost["low"]) & np.isin(records["high"], lost["high"])
                found += keys.filter(pa.array(those)).to_pylist()  # not a vector: keys
        return tuple(found)


def find_collisions(units: int, rows: int, blocks: KeyBlocks, *, last_wins: bool = False) -> Collisions:
    """Find the rows that lose a collision; the first in the order of units and rows wins, or the last."""
    if _ascending(units, blocks):
        return Collisions(0, np.empty(0, RECORD), ())
    count = 0
    losers = [np.empty(0, RECORD)]
    examples: list[tuple[tuple[int, int], tuple[int, int]]] = []
    for records in _buckets(units, rows, blocks):
        won, lost = _collide(records, last_wins=last_wins)
        count += len(lost)
        for w, one in zip(won[:EXAMPLES], lost[:EXAMPLES], strict=True):
            if len(examples) < EXAMPLES:
                examples.append(((int(w["unit"]), int(w["row"])), (int(one["unit"]), int(one["row"]))))
        losers = [*losers, lost] if count <= MOST_LOSERS else [lost[:0]]
    return Collisions(count, np.concatenate(losers), tuple(examples))


def _ascending(units: int, blocks: KeyBlocks) -> bool:
    """Tell whether integer keys ascend strictly within each unit, and units do not overlap."""
    ranges = []
    for unit in range(units):
        first: int | None = None
        last: int | None = None
        for keys, _ in blocks(unit):
            if not pa.types.is_integer(keys.type):
                return False
            values = keys.to_numpy(zero_copy_only=False)
            if not len(values):
                continue
            if (last is not None and values[0] <= last) or not bool(np.all(values[1:] > values[:-1])):
                return False
            first, last = int(values[0]) if first is None else first, int(values[-1])
        if first is not None and last is not None:
            ranges.append((first, last))
    ranges.sort()
    return all(a[1] < b[0] for a, b in itertools.pairwise(ranges))


def _buckets(units: int, rows: int, blocks: KeyBlocks) -> Iterator[Records]:
    """Spread all records so that equal keys meet, each bucket small enough for memory."""
    buckets = max(1, -(-rows // RECORDS_IN_MEMORY))
    if buckets == 1:
        parts = [_records(unit, *block) for unit in range(units) for block in blocks(unit)]
        yield np.concatenate(parts) if parts else np.empty(0, RECORD)
        return
    with tempfile.TemporaryDirectory(prefix="vsync-keys-") as folder:
        paths = [Path(folder) / str(b) for b in range(buckets)]
        for unit in range(units):
            for block in blocks(unit):
                records = _records(unit, *block)
                place = ((records["low"] * _MIX) >> np.uint64(32)) % np.uint64(buckets)
                for b in np.unique(place):
                    with paths[int(b)].open("ab") as file:
                        records[place == b].tofile(file)
        for path in paths:
            if path.exists():
                yield np.fromfile(path, RECORD)


def _records(unit: int, keys: pa.Array, numbers: NDArray[np.int64]) -> Records:
    records = np.zeros(len(keys), RECORD)
    if pa.types.is_integer(keys.type):
        records["low"] = keys.to_numpy(zero_copy_only=False).astype(np.int64).view(np.uint64)
    else:
        digests = b"".join(xxhash.xxh3_128_digest(k) for k in keys.cast(pa.binary()).to_pylist())  # not a vector
        halves = np.frombuffer(digests, np.uint64).reshape(-1, 2)
        records["high"], records["low"] = halves[:, 0], halves[:, 1]
    records["unit"], records["row"] = unit, numbers.view(np.uint64)
    return records


def _collide(records: Records, *, last_wins: bool) -> tuple[Records, Records]:
    """Give the losers, and for each the winner of its key."""
    order = np.lexsort((records["row"], records["unit"], records["low"], records["high"]))
    if last_wins:
        order = order[::-1]
    ordered = records[order]
    same = (ordered["high"][1:] == ordered["high"][:-1]) & (ordered["low"][1:] == ordered["low"][:-1])
    if not same.any():
        return ordered[:0], ordered[:0]
    lost = np.flatnonzero(same) + 1
    heads = np.flatnonzero(np.concatenate([[True], ~same]))
    winners = heads[np.searchsorted(heads, lost, side="right") - 1]
    return ordered[winners], ordered[lost]
