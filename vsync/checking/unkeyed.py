"""A destination whose keys the server makes: its rows are compared without them, as often as each is there.

What fits in memory is compared at once. Of more, the rows are dealt out by their digests; buckets whose sums differ
are compared, as many at a time as fit, for which everything is read again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from vsync.checking.exact import by_content
from vsync.checking.findings import CheckBegan
from vsync.checking.keyed import MEMORY, ROW_BYTES, parts
from vsync.checking.marks import Sums
from vsync.checking.reading import SOURCE_THREADS, Expected, Held, Rows
from vsync.connectors.base import KeyRange
from vsync.rows import arrow_type
from vsync.rows.digest import mixed

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from vsync.checking.reading import Chunk
    from vsync.checking.tally import Tally
    from vsync.schema import Field

BUCKET_BITS = 16


@dataclass(frozen=True, slots=True)
class UnkeyedCheck:
    """Compares one destination by the values of ``fields``."""

    expected: Expected
    held: Held
    fields: tuple[Field, ...]
    tally: Tally

    def run(self, counted: int) -> None:
        """Compare all rows; ``counted`` are those that the target counts."""
        rows = self.expected.side.rows + counted
        self.expected.ways.report(CheckBegan(self.expected.side.address, rows))
        most = MEMORY // (ROW_BYTES + 8 + 8 * len(self.fields))
        if rows <= most:
            source, target = self._read(lambda rows: rows)
            self._ended(len(source.places), len(target.keys), counted)
            self.tally.tell(by_content(self.expected, source, target))
            return
        ours, theirs = self._sums()
        self._ended(int(ours.rows.sum()), int(theirs.rows.sum()), counted)
        for part in parts(ours.differ(theirs), ours.rows + theirs.rows, most):
            source, target = self._read(_within(part))
            self.tally.tell(by_content(self.expected, source, target))

    def _ended(self, source: int, given: int, counted: int) -> None:
        self.tally.source = source
        if counted > given:
            self.tally.vague([("!", counted - given, KeyRange())])

    def _read(self, keep: Callable[[Rows], Rows]) -> tuple[Rows, Rows]:
        """Read both sides at once, the rows that are to be kept."""
        source: list[Rows] = []
        target: list[Rows] = []
        self._both(lambda rows: source.append(keep(rows)), lambda rows: target.append(keep(rows)))
        none = Rows.none(arrow_type(self.expected.side.collection.primary), len(self.fields))
        return Rows.joined([none, *source]), Rows.joined([none, *target])

    def _sums(self) -> tuple[Sums, Sums]:
        """Add up both sides at once."""
        ours, theirs = Sums.over(1 << BUCKET_BITS), Sums.over(1 << BUCKET_BITS)
        self._both(
            lambda rows: ours.add(_buckets(rows), mixed(rows.digests)),
            lambda rows: theirs.add(_buckets(rows), mixed(rows.digests)),
        )
        return ours, theirs

    def _both(self, take_ours: Callable[[Rows], None], take_theirs: Callable[[Rows], None]) -> None:
        def read_source(chunk: Chunk) -> None:
            take_ours(self.expected.rows(chunk, self.fields))

        def read_target(within: KeyRange) -> None:
            for rows in self.held.blocks(within, self.fields):
                take_theirs(rows)

        # Nothing is known of the keys: they are asked for one after the other.
        chunks = [partial(read_source, chunk) for chunk in self.expected.chunks()]
        self.held.ways.at_once((SOURCE_THREADS, chunks), (1, [partial(read_target, KeyRange())]))


def _within(part: NDArray[np.bool_]) -> Callable[[Rows], Rows]:
    return lambda rows: rows.only(part[_buckets(rows)])


def _buckets(rows: Rows) -> NDArray[np.int64]:
    buckets: NDArray[np.int64] = (mixed(rows.digests) >> np.uint64(64 - BUCKET_BITS)).astype(np.int64)
    return buckets
