"""Keys that the data holds twice: found as a plain dictionary finds them, in memory and spilled to disk."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsync.connectors.base import Bounds, KeyRange
from vsync.observing import collisions, policy
from vsync.observing.collisions import find_collisions
from vsync.observing.policy import joined

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UNITS = st.lists(st.lists(st.integers(-6, 12) | st.sampled_from([-(2**63), 2**63 - 1]), max_size=20), max_size=4)
Keys = list[list[Any]]


def blocks_of(units: Keys, kind: pa.DataType) -> Any:
    """Give each unit's keys in blocks of three, with their row numbers."""

    def blocks(unit: int) -> Iterator[tuple[pa.Array, Any]]:
        for at in range(0, len(units[unit]), 3):
            keys = units[unit][at : at + 3]
            yield pa.array(keys, kind), np.arange(at, at + len(keys), dtype=np.int64)

    return blocks


def losers_of(units: Keys, *, last_wins: bool) -> dict[int, tuple[int, ...]]:
    places = [(u, row) for u, keys in enumerate(units) for row in range(len(keys))]
    winner: dict[Any, tuple[int, int]] = {}
    for unit, row in places if last_wins else reversed(places):
        winner[units[unit][row]] = (unit, row)
    lost = [(u, row) for u, row in places if winner[units[u][row]] != (u, row)]
    return {unit: tuple(row for u, row in lost if u == unit) for unit in {u for u, _ in lost}}


@pytest.mark.parametrize("in_memory", [2_000_000, 3])
@pytest.mark.parametrize("kind", [pa.int64(), pa.string()], ids=str)
@settings(max_examples=60)
@given(units=UNITS, last_wins=st.booleans())
def test_losers_are_those_that_a_dictionary_finds(
    in_memory: int, kind: pa.DataType, units: Keys, *, last_wins: bool
) -> None:
    keys = [[str(k) for k in unit] if kind == pa.string() else unit for unit in units]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collisions, "RECORDS_IN_MEMORY", in_memory)
        found = find_collisions(len(keys), sum(map(len, keys)), blocks_of(keys, kind), last_wins=last_wins)
    expected = losers_of(keys, last_wins=last_wins)
    assert {n: found.rows(n) for n in range(len(keys)) if found.rows(n)} == expected
    for n, those in enumerate(keys):
        losing = {those[row] for row in expected.get(n, ())}
        assert found.keys(n, blocks_of(keys, kind)) == tuple(k for k in those if k in losing)
    assert found.count == sum(map(len, expected.values()))
    for (unit, row), (other, lost) in found.examples:
        assert keys[unit][row] == keys[other][lost], "a winner and a loser share their key"
        assert lost in expected[other]
        assert row not in expected.get(unit, ())
    assert len(found.examples) == min(found.count, 3) or in_memory == 3


def test_what_is_spilled_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(collisions, "RECORDS_IN_MEMORY", 10)
    keys = [[*range(100), 5], [3]]
    seen: list[str] = []
    real = collisions._collide

    def collide(records: Any, *, last_wins: bool) -> Any:
        seen.extend(p.name for p in tmp_path.iterdir())
        return real(records, last_wins=last_wins)

    monkeypatch.setattr(collisions, "_collide", collide)
    found = find_collisions(2, 102, blocks_of(keys, pa.int64()))
    assert (found.rows(0), found.rows(1)) == ((100,), (0,))
    assert seen
    assert not list(tmp_path.iterdir())


def test_keys_that_ascend_are_told_without_remembering_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collisions, "_buckets", lambda *_: pytest.fail("nothing needs to be remembered"))
    ascending = [list(range(50, 90)), [], list(range(-5, 50)), [99]]
    assert find_collisions(4, 96, blocks_of(ascending, pa.int64())).count == 0


def test_more_losers_than_are_worth_keeping_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collisions, "MOST_LOSERS", 10)
    found = find_collisions(1, 50, blocks_of([[7] * 50], pa.int64()))
    assert (found.count, len(found.lost)) == (49, 0)


def test_chunks_that_follow_each_other_are_read_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "KEYS_AT_ONCE", 10)
    files = [Bounds(0, 4), Bounds(4, 8), Bounds(8, 12), Bounds(12, 30)]
    assert list(joined(files)) == [Bounds(0, 8), Bounds(8, 12), Bounds(12, 30)]
    of_keys = [(0, 5, None, "b"), (5, 9, "b", "d"), (9, 12, "f", "k"), (12, 40, "k", None)]
    living = [Bounds(lo, hi, KeyRange(first, last)) for lo, hi, first, last in of_keys]
    assert list(joined(living)) == [Bounds(0, 9, KeyRange(None, "d")), Bounds(9, 40, KeyRange("f", None))]
    assert list(joined([])) == []
