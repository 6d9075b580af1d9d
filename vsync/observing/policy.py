"""What becomes of rows of a collection's data that share a key: by the spec's policy an error, or some lose."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from vsync.errors import Problem
from vsync.observing.collisions import Collisions, find_collisions
from vsync.rows import Constant, Mapping, Origin, RowNumber, Rules, columns_of, take_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from vsync.observing.collisions import KeyBlocks
    from vsync.observing.sources import Known
    from vsync.opening import Sources
    from vsync.planning.facts import UnitFacts
    from vsync.planning.steps import Unit
    from vsync.planning.wanted import Wanted
    from vsync.spec import CollectionSpec, Spec


def settle_collisions(
    spec: Spec, name: str, wanted: Wanted, units: Sequence[UnitFacts], known: Known, sources: Sources
) -> tuple[list[UnitFacts], list[Problem]]:
    """Find rows of a collection's data that share a key; by the spec's policy they are an error, or some lose."""
    wish = spec.collections[name]
    primary = wanted.effective.primary
    if primary.auto_id or not units or _checked_before(wish, units, known):
        return list(units), []
    mappings = [_key_mapping(u.unit, wanted) for u in units]
    if len(units) == 1 and (units[0].unit.lives or isinstance(mappings[0][0].origin, RowNumber)):
        return list(units), []
    problems: list[Problem] = []
    where = spec.where("collections", name, "data")

    def blocks(position: int) -> Iterator[tuple[pa.Array, NDArray[np.int64]]]:
        unit, mapping = units[position].unit, mappings[position]
        with sources.look(unit.address, unit.path, unit.options) as source:
            for bounds in units[position].bounds:
                if not columns_of(mapping):
                    yield _made_keys(mapping[0].origin, bounds.lo, bounds.hi)
                    continue
                taken = take_rows(source.read(bounds, columns_of(mapping)), bounds.lo, mapping, Rules())
                if taken.bad and wish.on_bad_row == "error":
                    problems.append(Problem(f"{unit.path}: {taken.bad[0]}", where, "a key must fit its field"))
                yield taken.rows.column(0), taken.numbers

    rows = sum(u.unit.rows for u in units)
    found = find_collisions(len(units), rows, blocks, last_wins=wish.on_collision == "last")
    problems = list(dict.fromkeys(problems))[:10]
    if found.count and (wish.on_collision == "error" or not len(found.lost)):
        problems.append(_collision_problem(name, [u.unit for u in units], found, blocks, where))
        return list(units), problems
    losers = [found.keys(i, blocks) if u.unit.lives else found.rows(i) for i, u in enumerate(units)]
    return [replace(u, losers=lost) for u, lost in zip(units, losers, strict=True)], problems


def _checked_before(wish: CollectionSpec, units: Sequence[UnitFacts], known: Known) -> bool:
    """Tell whether an earlier apply of the same cut found its keys unique."""
    done = known.facts.acked.keys() | known.facts.in_doubt.keys()
    return wish.on_collision == "error" and all(u.unit.key in done for u in units)


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
    name: str, units: Sequence[Unit], found: Collisions, blocks: KeyBlocks, where: str | None
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
        "mend the data, or say which wins: on_collision: first, or last",
    )
