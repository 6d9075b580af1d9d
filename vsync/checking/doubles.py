"""What a target counts and does not give: second copies under one key, and rows that no query returns.

A query answers one row of those under a key, and only a count sees all. So where more rows are counted than keys were
read, ranges are counted: each is cut in a few, and cut again where the count of a part is too high.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import pyarrow as pa

from vsync.checking.tally import Odd
from vsync.connectors.base import KeyRange
from vsync.schema import HIGHEST, LOWEST

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from vsync.checking.findings import Symbol
    from vsync.checking.marks import Marks
    from vsync.checking.reading import Held
    from vsync.connectors.base import Key

PARTS = 4
"""Into how many parts a range is cut at a time; they are counted at once."""
MOST_COUNTS = 4_000
"""From so many counts on, what is counted too often is told by ranges."""


@dataclass(slots=True)
class Hunt:
    """Finds them. ``odd`` are the keys that were found; ``vague`` says how many rows of which range have none."""

    held: Held
    odd: dict[Key, Odd] = field(default_factory=dict)
    vague: list[tuple[Symbol, int, KeyRange]] = field(default_factory=list)
    counts: int = 0

    def run(self, marks: Marks, known: NDArray[np.int64], counted: int) -> None:
        """Look for what is counted beyond the keys that are known, piece by piece."""
        with ThreadPoolExecutor(PARTS, thread_name_prefix="vsync") as executor:
            pieces = [(marks.between((n, n + 1)), int(rows)) for n, rows in enumerate(known)]
            for within, surplus in self._narrowed(executor, pieces, counted):
                self._look_into(executor, within, surplus)

    def _narrowed(
        self, executor: ThreadPoolExecutor, pieces: Sequence[tuple[KeyRange, int]], counted: int
    ) -> Iterator[tuple[KeyRange, int]]:
        """Give the single pieces that are counted to hold more than is known of them, and the counts."""
        surplus = counted - sum(rows for _, rows in pieces)
        if surplus <= 0:
            return
        if len(pieces) == 1:
            yield pieces[0][0], counted
            return
        if self.counts > MOST_COUNTS:
            self.vague.append(("2", surplus, _over(pieces)))
            return
        step = -(-len(pieces) // PARTS)
        parts = [pieces[at : at + step] for at in range(0, len(pieces), step)]
        self.counts += len(parts) - 1
        numbers = list(executor.map(self.held.count, map(_over, parts[:-1])))
        for part, number in zip(parts, [*numbers, counted - sum(numbers)], strict=True):
            yield from self._narrowed(executor, part, number)

    def _look_into(self, executor: ThreadPoolExecutor, within: KeyRange, counted: int) -> None:
        """Find the keys of one piece that are there more than once, and the rows between them that are not given."""
        keys = self.held.keys(within)
        starts = keys if keys and keys[0] == within.lo else [within.lo, *keys]
        pieces = [
            (KeyRange(a, b), int(a in keys[:1] or n > 0)) for n, (a, b) in enumerate(pairwise([*starts, within.hi]))
        ]
        for piece, _ in self._narrowed(executor, pieces, counted):
            rows = self.held.count(piece)  # once more: others may have written since the last count
            if piece.lo is None or piece.lo not in keys:
                self._hidden(executor, piece, rows)
                continue
            first, rest = self._parted(piece)
            copies = rows if first == piece else self.held.count(first)
            if copies > 1:
                self.odd[piece.lo] = Odd("2", f"{copies} copies", copies)
            self._hidden(executor, rest, rows - copies)

    def _parted(self, piece: KeyRange) -> tuple[KeyRange, KeyRange]:
        """Part the first key of a piece from what is behind it; with texts all is taken for its copies."""
        if not isinstance(piece.lo, int) or piece.lo == HIGHEST:
            return piece, piece
        return KeyRange(piece.lo, piece.lo + 1), KeyRange(piece.lo + 1, piece.hi)

    def _hidden(self, executor: ThreadPoolExecutor, within: KeyRange, rows: int) -> None:
        """Narrow down rows that no query gives to their keys, where keys are numbers."""
        if rows <= 0:
            return
        key = self.held.side.collection.primary
        if not key.type.is_integer:
            self.vague.append(("!", rows, within))
            return
        lo = LOWEST if within.lo is None else int(within.lo)
        hi = HIGHEST + 1 if within.hi is None else int(within.hi)
        if hi - lo > 1:
            cuts = sorted({lo + (hi - lo) * n // PARTS for n in range(PARTS + 1)})
            pieces = [(KeyRange(a, b if b <= HIGHEST else None), 0) for a, b in pairwise(cuts)]
            for piece, number in self._narrowed(executor, pieces, rows):
                self._hidden(executor, piece, number)
        elif not len(self.held.fetch(pa.array([lo]), ()).keys):
            self.odd[lo] = Odd("!", "is counted, and no query gives it")


def _over(pieces: Sequence[tuple[KeyRange, int]]) -> KeyRange:
    return KeyRange(pieces[0][0].lo, pieces[-1][0].hi)
