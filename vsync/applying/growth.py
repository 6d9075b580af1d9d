"""Collections that have grown since they were cut: their outer ranges are open, and must not outgrow a chunk.

What came behind the last key, or before the first, is cut on before the chunks are entered in the journal, so that an
apply that goes on later knows the same ones.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, cast

from vsync.applying.events import Grew
from vsync.connectors.base import Bounds, KeyRange
from vsync.planning.facts import losers_within

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vsync.applying.run import Run
    from vsync.connectors.base import CollectionSource, Key, Source
    from vsync.planning.steps import CopyChunk, Unit

SLACK = 2
"""By how much a range may have grown before it is cut again."""
FEW_ROWS = 1_000
"""So many rows are no trouble, however small chunks are."""


def cut_on(run: Run, chunks: Sequence[CopyChunk]) -> list[CopyChunk]:
    """Cut those of a destination's chunks again that have outgrown what they were; the others stay as they are."""
    grown: list[CopyChunk] = []
    counts = {index: unit.chunks for index, unit in enumerate(run.plan.units)}
    for c in chunks:
        unit = run.plan.units[c.unit]
        sent = c.n in run.facts.in_doubt.get(unit.key, ())
        pieces = [c] if sent or not _is_open(c) else list(_pieces(run, unit, c, counts[c.unit]))
        if len(pieces) > 1:
            counts[c.unit] += len(pieces) - 1
            rows = sum(p.rows for p in pieces) - c.rows
            run.report(Grew(unit.address, len(pieces) - 1, rows))
        grown += pieces
    return grown


def _is_open(c: CopyChunk) -> bool:
    return c.keys is not None and (c.keys.lo is None or c.keys.hi is None)


def _pieces(run: Run, unit: Unit, c: CopyChunk, free: int) -> Iterator[CopyChunk]:
    """Give the chunk, or what it is cut into: the first piece has its number, the others are counted from ``free``."""
    assert c.keys is not None
    step = max(FEW_ROWS, unit.rows // max(1, unit.chunks))
    with run.copier.worker.sources.use(unit, run.retry.call) as source:
        reader = cast("CollectionSource", source).reader
        rows = run.retry.call(reader.count, c.keys)
        firsts = _firsts(run, source, c.keys, step) if rows > SLACK * step else []
    edges = [c.keys.lo, *firsts[1:], c.keys.hi]
    for n, (first, last) in enumerate(pairwise(edges)):
        at = Bounds(c.lo + n * step, c.lo + (n + 1) * step, KeyRange(first, last)) if firsts else c.bounds
        number = c.n if n == 0 else free + n - 1
        yield replace(c, n=number, lo=at.lo, hi=at.hi, keys=at.keys, dropped=losers_within(c.dropped, at))


def _firsts(run: Run, source: Source, keys: KeyRange, step: int) -> list[Key]:
    """Give the first key of every so many rows of a range."""
    found = run.retry.call(source.describe).collection
    assert found is not None
    stream = cast("CollectionSource", source).reader.scan(keys, [found.schema.primary.name])
    firsts: list[Key] = []
    rows = 0
    while (block := run.retry.call(next, stream, None)) is not None:
        firsts += [block.column(0)[at].as_py() for at in range(-rows % step, block.num_rows, step)]
        rows += block.num_rows
    return firsts
