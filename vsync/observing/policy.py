"""What becomes of rows of a collection's data that share a key: by the spec's policy an error, or some lose."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import numpy as np
import pyarrow as pa

from vsync.connectors.base import Bounds, KeyRange
from vsync.errors import Problem
from vsync.observing.collisions import Collisions, find_collisions
from vsync.rows import Constant, Mapping, Origin, RowNumber, Rules, columns_of, take_rows
from vsync.schema import DataType
from vsync.spec import StoreTarget

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from vsync.connectors.base import CollectionSource, Source
    from vsync.observing.collisions import KeyBlocks
    from vsync.observing.sources import Known
    from vsync.opening import Sources
    from vsync.planning.facts import UnitFacts
    from vsync.planning.steps import Unit
    from vsync.planning.wanted import Wanted
    from vsync.schema import Field
    from vsync.spec import CollectionSpec, Spec


ALL = Bounds(0, 0, KeyRange())
KEYS_AT_ONCE = 250_000
_WHICH = "mend the data, or say which wins: on_collision: first, or last"
_HINTS = {
    "error": _WHICH,
    "prefix": "items of data get a prefix each: give rows that share keys items of their own",
}
"""What helps where a policy lets no row lose."""


def settle_collisions(
    spec: Spec, name: str, wanted: Wanted, units: Sequence[UnitFacts], known: Known, sources: Sources
) -> tuple[list[UnitFacts], list[Problem]]:
    """Find rows of a collection's data that share a key; by the spec's policy they are an error, or some lose."""
    wish = spec.collections[name]
    primary = wanted.effective.primary
    if primary.auto_id or not units or _checked_before(wish, units, known):
        return list(units), []
    looked = _may_collide(wish, units)
    mappings = [_key_mapping(u.unit, wanted) for u in looked]
    if not looked or (len(looked) == 1 and isinstance(mappings[0][0].origin, RowNumber)):
        return list(units), []
    problems: list[Problem] = []
    where = spec.where("collections", name, "data")

    def blocks(position: int) -> Iterator[tuple[pa.Array, NDArray[np.int64]]]:
        unit, mapping = looked[position].unit, mappings[position]
        with sources.look(unit.address, unit.path, unit.options) as source:
            # The cut of a collection may leave out rows that are there already: they win and lose like the others.
            for bounds in [ALL] if unit.lives else joined(looked[position].bounds):
                if not columns_of(mapping):
                    yield _made_keys(mapping[0].origin, bounds.lo, bounds.hi)
                    continue
                for batch, first in _batches(source, bounds, columns_of(mapping)):
                    taken = take_rows(batch, first, mapping, Rules())
                    if taken.bad and wish.on_bad_row == "error":
                        problems.append(
                            Problem(f"{unit.path}: {taken.bad[0]}", where, "mend the source, or write on_bad_row: skip")
                        )
                    yield taken.rows.column(0), taken.numbers

    rows = sum(_rows(u.unit, sources) for u in looked)
    found = find_collisions(len(looked), rows, blocks, last_wins=wish.on_collision == "last")
    problems = list(dict.fromkeys(problems))[:10]
    if found.count and (wish.on_collision in _HINTS or not len(found.lost)):
        hint = _HINTS.get(wish.on_collision, _WHICH)
        hint += _keep_all(spec, primary) if hint == _WHICH else ""
        problems.append(_collision_problem(name, [u.unit for u in looked], found, blocks, where, hint))
        return list(units), problems
    losers = [found.keys(i, blocks) if u.unit.lives else found.rows(i) for i, u in enumerate(looked)]
    lost = {u.unit.key: those for u, those in zip(looked, losers, strict=True)}
    return [replace(u, losers=lost.get(u.unit.key, ())) for u in units], problems


def _keep_all(spec: Spec, key: Field) -> str:
    """Say how all rows may be kept, where they can."""
    ways = ["on_collision: prefix"] if key.type is DataType.VARCHAR else []
    if not isinstance(spec.target, StoreTarget):
        ways.append("on_collision: renumber, with a key of auto_id: true")
    return f"; or keep all: {', or '.join(ways)}" if ways else ""


def _rows(unit: Unit, sources: Sources) -> int:
    if not unit.lives:
        return unit.rows
    with sources.look(unit.address, unit.path, unit.options) as source:
        return source.describe().rows


def _may_collide(wish: CollectionSpec, units: Sequence[UnitFacts]) -> list[UnitFacts]:
    """Leave out what has a key once, and shares none with others: a collection alone, or alone with its prefix."""
    with_prefix = wish.on_collision == "prefix"
    alone = Counter(u.unit.address if with_prefix else "" for u in units)
    return [u for u in units if not (u.unit.lives and alone[u.unit.address if with_prefix else ""] == 1)]


def _batches(source: Source, bounds: Bounds, columns: Sequence[str]) -> Iterator[tuple[pa.RecordBatch, int]]:
    """Read columns, each batch with the number of its first row."""
    if bounds.keys is None:
        yield source.read(bounds, columns), bounds.lo
        return
    number = bounds.lo
    for batch in cast("CollectionSource", source).reader.scan(bounds.keys, columns):
        yield batch, number
        number += batch.num_rows


def joined(bounds: Sequence[Bounds]) -> Iterator[Bounds]:
    """Put chunks that follow each other together: they were cut for whole rows, and keys alone are small.

    Of files not more than ``KEYS_AT_ONCE``: a collection gives its rows in blocks anyhow.
    """
    at: Bounds | None = None
    for b in bounds:
        if at is None:
            at = b
        elif at.keys is not None and b.keys is not None and at.keys.hi is not None and at.keys.hi == b.keys.lo:
            at = Bounds(at.lo, b.hi, KeyRange(at.keys.lo, b.keys.hi))
        elif at.keys is None and b.keys is None and at.hi == b.lo and b.hi - at.lo <= KEYS_AT_ONCE:
            at = Bounds(at.lo, b.hi)
        else:
            yield at
            at = b
    if at is not None:
        yield at


def _checked_before(wish: CollectionSpec, units: Sequence[UnitFacts], known: Known) -> bool:
    """Tell whether an earlier apply of the same cut found its keys unique, and no policy had rows left out."""
    done = (known.facts.acked.keys() | known.facts.in_doubt.keys()) - known.facts.left_out.keys()
    return wish.on_collision in _HINTS and all(u.unit.key in done for u in units)


def _key_mapping(unit: Unit, wanted: Wanted) -> Mapping:
    data = next(d for d in wanted.data if d.address == unit.address)
    return tuple(m for m in data.mapping if m.field.primary)


def _made_keys(origin: Origin, lo: int, hi: int) -> tuple[pa.Array, NDArray[np.int64]]:
    numbers = np.arange(lo, hi, dtype=np.int64)
    if isinstance(origin, RowNumber):
        return pa.array(numbers), numbers
    assert isinstance(origin, Constant)
    return pa.array([origin.value] * (hi - lo)), numbers


def _collision_problem(
    name: str, units: Sequence[Unit], found: Collisions, blocks: KeyBlocks, where: str | None, hint: str
) -> Problem:
    def row(unit: int, number: int) -> str:
        if not units[unit].lives:
            return f"{units[unit].path} row {number}"
        those = (keys.filter(pa.array(numbers == number)) for keys, numbers in blocks(unit))
        key = next((keys[0].as_py() for keys in those if len(keys)), None)
        return f"{units[unit].path} key {json.dumps(key, ensure_ascii=False)}"

    pairs = ", ".join(f"{row(*won)} and {row(*lost)}" for won, lost in found.examples)
    return Problem(
        f"the data of collection {name} holds {found.count:,} row{'s' * (found.count > 1)} whose key another row has: "
        f"{pairs}",
        where,
        hint,
    )
