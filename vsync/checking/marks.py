"""The order of keys, cut at marks into pieces; and sums of digests, which tell whether two bodies of rows are equal."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vsync.connectors.base import KeyRange

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from vsync.connectors.base import Key

Span = tuple[int, int]
"""Pieces that follow each other: the first, and the one behind the last."""


@dataclass(frozen=True, slots=True)
class Marks:
    """Keys, ascending and each once: piece ``n`` reaches from mark ``n - 1`` (included) to mark ``n`` (excluded)."""

    keys: pa.Array

    @staticmethod
    def of(samples: Sequence[pa.Array], kind: pa.DataType) -> Marks:
        """Make marks of any keys."""
        keys = pc.unique(pa.chunked_array(samples, kind)) if samples else pa.array([], kind)
        return Marks(keys.take(pc.sort_indices(keys)))

    @property
    def pieces(self) -> int:
        """How many pieces there are, the two open ones included."""
        return len(self.keys) + 1

    def pieces_of(self, keys: pa.Array) -> NDArray[np.int64]:
        """Tell for each key the piece that it is in."""
        if pa.types.is_integer(keys.type):
            of_numbers: NDArray[np.int64] = np.searchsorted(self.keys.to_numpy(), keys.to_numpy(), side="right")
            return of_numbers
        # Sorted together, the marks before their equals (the sort is stable): each key is behind its piece's mark.
        order = pc.sort_indices(pa.concat_arrays([self.keys, keys])).to_numpy()
        is_mark = order < len(self.keys)
        pieces = np.empty(len(keys), np.int64)
        pieces[order[~is_mark] - len(self.keys)] = np.cumsum(is_mark)[~is_mark]
        return pieces

    def between(self, span: Span) -> KeyRange:
        """Give the keys of some pieces."""
        return KeyRange(self._at(span[0] - 1), self._at(span[1] - 1))

    def _at(self, n: int) -> Key | None:
        if not 0 <= n < len(self.keys):
            return None
        key: Key = self.keys[n].as_py()
        return key


def spans(wanted: NDArray[np.bool_], most: int | None = None) -> list[Span]:
    """Join pieces that are wanted and follow each other, at most so many."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], wanted, [False]])))
    pairs = zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)  # not a vector: pieces
    step = most or len(wanted)
    return [(lo, min(lo + step, end)) for start, end in pairs for lo in range(start, end, step)]


def without(within: KeyRange, keys: Iterable[Key]) -> list[KeyRange]:
    """Cut a range so that none of these keys is in it."""
    lo, parts = within.lo, []
    for key in sorted(k for k in keys if _inside(within, k)):
        parts.append(KeyRange(lo, key))
        lo = key + 1 if isinstance(key, int) else f"{key}\0"
    return [*parts, KeyRange(lo, within.hi)]


def _inside(within: KeyRange, key: Any) -> bool:
    return (within.lo is None or key >= within.lo) and (within.hi is None or key < within.hi)


@dataclass(frozen=True, slots=True)
class Sums:
    """Digests added up by piece, in whatever order they come; equal sums over equal numbers are equal rows."""

    digests: NDArray[np.uint64]
    rows: NDArray[np.int64]
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @staticmethod
    def over(pieces: int) -> Sums:
        """Make sums of nothing."""
        return Sums(np.zeros(pieces, np.uint64), np.zeros(pieces, np.int64))

    def add(self, pieces: NDArray[np.int64], digests: NDArray[np.uint64]) -> None:
        """Add rows; from any thread."""
        with self._lock:
            np.add.at(self.digests, pieces, digests)
            np.add.at(self.rows, pieces, 1)

    def differ(self, other: Sums) -> NDArray[np.bool_]:
        """Tell which pieces differ."""
        differ: NDArray[np.bool_] = (self.digests != other.digests) | (self.rows != other.rows)
        return differ
