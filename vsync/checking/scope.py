"""Rows that seem to be missing because a scope leaves them out: they are somebody else's, and are not to be lost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pyarrow as pa

from vsync.rows import arrow_type

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vsync.checking.findings import Finding
    from vsync.checking.reading import Ways
    from vsync.checking.sides import Side
    from vsync.connectors.base import Key, Reader

ASKED_AT_ONCE = 4_000


@dataclass(frozen=True, slots=True)
class Scope:
    """What a destination's scope leaves out: ``everything`` and ``within`` read all partitions of its collection."""

    side: Side
    ways: Ways
    everything: Reader
    within: Reader

    @staticmethod
    def of(side: Side, ways: Ways) -> Scope:
        """Open what the collection of a destination with a scope holds."""
        name, target = side.collection.name, ways.target
        within = target.source(name, None, where=side.scope).reader
        return Scope(side, ways, target.reader(side.collection, None), within)

    def mark(self, findings: Sequence[Finding]) -> list[Finding]:
        """Mark those as ``taken`` that are missing, and whose keys are there outside of the scope."""
        missing = [f.key for f in findings if f.symbol == "+" and f.key is not None]
        taken: set[Key] = set()
        for at in range(0, len(missing), ASKED_AT_ONCE):
            keys = pa.array(missing[at : at + ASKED_AT_ONCE], arrow_type(self.side.collection.primary))
            taken |= self._there(self.everything, keys) - self._there(self.within, keys)
        what = "its key is there, outside of scope"
        return [
            replace(f, detail=f"{f.detail}: {what}", taken=True) if f.symbol == "+" and f.key in taken else f
            for f in findings
        ]

    def _there(self, reader: Reader, keys: pa.Array) -> set[Key]:
        found = self.ways.call(reader.fetch, keys, [self.side.collection.primary.name])
        return set(found.column(0).to_pylist())  # not a vector: keys
