"""Sorted runs read as one: whatever was written and removed in whatever order, they come to what a mapping comes to."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vsync.connectors.base import Bounds, KeyRange
from vsync.connectors.files import cut_keys
from vsync.connectors.runs import reader as reading
from vsync.connectors.runs import run as running
from vsync.connectors.runs.reader import RunsReader
from vsync.connectors.runs.run import Memory
from vsync.schema import Collection, DataType, Field

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vsync.connectors.base import Key

KEYS: dict[DataType, Any] = {
    DataType.INT64: st.integers(-20, 20),
    DataType.VARCHAR: st.text(st.sampled_from("aé\0z\U0001f600"), max_size=3),
}


@pytest.fixture(autouse=True, params=[2, 65_536], ids=["two at a time", "all at once"])
def _step(request: pytest.FixtureRequest) -> Iterator[None]:
    """Few keys at once show the same as many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "STEP", request.param)
        patch.setattr(reading, "STEP", request.param)
        yield


def collection(kind: DataType) -> Collection:
    key = Field("key", kind, primary=True, max_length=16 if kind is DataType.VARCHAR else None)
    return Collection("c", (key, Field("value", DataType.INT64)))


def in_order(key: Any) -> Any:
    return key


def run_of(kind: DataType, keys: set[Key], value: int, *, removes: bool) -> Memory:
    ordered: list[Any] = sorted(keys, key=in_order)
    arrow = pa.int64() if kind is DataType.INT64 else pa.string()
    columns = [pa.array(ordered, arrow)] + ([] if removes else [pa.array([value] * len(ordered), pa.int64())])
    return Memory(pa.RecordBatch.from_arrays(columns, names=["key", "value"][: len(columns)]), "key", removes)


@pytest.mark.parametrize("kind", KEYS, ids=str)
@settings(suppress_health_check=[HealthCheck.too_slow])  # on a busy machine
@given(data=st.data())
def test_runs_come_to_what_a_mapping_comes_to(kind: DataType, data: st.DataObject) -> None:
    keys = KEYS[kind]
    written = data.draw(st.lists(st.tuples(st.sets(keys, max_size=8), st.booleans()), max_size=5))
    lo, hi = data.draw(st.none() | keys), data.draw(st.none() | keys)
    asked = data.draw(st.lists(keys, max_size=6, unique=True))
    held: dict[Any, int] = {}
    for number, (those, removes) in enumerate(written):
        for key in those:
            held.pop(key, None)
            if not removes:
                held[key] = number
    reader = RunsReader([run_of(kind, k, n, removes=r) for n, (k, r) in enumerate(written)], collection(kind))

    within = KeyRange(lo, hi)
    expected = {k: v for k, v in held.items() if (lo is None or k >= lo) and (hi is None or k < hi)}
    rows = reader.read(within, ["value", "key"])
    assert rows.schema.names == ["value", "key"]
    assert list(zip(rows.column(1).to_pylist(), rows.column(0).to_pylist(), strict=True)) == sorted(expected.items())
    assert reader.count(within) == len(expected)
    array = pa.array(asked, pa.int64() if kind is DataType.INT64 else pa.string())
    assert pa.concat_arrays([array[:0], *reader.keys()]).to_pylist() == sorted(held)
    fetched = reader.fetch(array, ["key", "value"]).to_pylist()
    assert {r["key"]: r["value"] for r in fetched} == {k: held[k] for k in asked if k in held}
    assert len(fetched) == len({r["key"] for r in fetched})
    assert reader.holds(array).tolist() == [k in held for k in asked]


@given(
    keys=st.lists(st.integers(0, 60), unique=True).map(sorted),
    at=st.lists(st.integers(0, 60), max_size=4).map(sorted),
    step=st.integers(1, 12),
    seams=st.lists(st.integers(-5, 70), unique=True).map(sorted),
)
def test_a_cut_covers_every_key_once_in_ranges_that_are_small_enough(
    keys: list[int], at: list[int], step: int, seams: list[int]
) -> None:
    ends = [0, *(min(a, len(keys)) for a in at), len(keys)]
    blocks = [pa.array(keys[lo:hi], pa.int64()) for lo, hi in pairwise(ends)]
    bounds = cut_keys(blocks, step, seams)
    ranges: list[Any] = [b.keys for b in bounds if b.keys is not None]
    assert len(ranges) == len(bounds)
    assert [b.lo for b in bounds] == [0, *(b.hi for b in bounds[:-1])][: len(bounds)]
    for b, r in zip(bounds, ranges, strict=True):
        held = [k for k in keys if (r.lo is None or k >= r.lo) and (r.hi is None or k < r.hi)]
        assert held == keys[b.lo : b.hi]
        assert 0 < len(held) <= step
        within = [s for s in seams if held[0] < s <= held[-1]]
        assert not within or len(held) <= step // 2
    assert sum(b.rows for b in bounds) == len(keys)
    if ranges:
        assert (ranges[0].lo, ranges[-1].hi) == (None, None)


def test_what_was_appended_is_a_range_of_its_own() -> None:
    first = cut_keys([pa.array(range(100))], 10)
    seams = [0, *(b.keys.lo for b in first[1:] if b.keys and b.keys.lo is not None), 100]
    again = cut_keys([pa.array(range(106))], 10, seams)
    assert [(b.lo, b.hi) for b in again] == [*((b.lo, b.hi) for b in first), (100, 106)]


def test_runs_that_do_not_overlap_are_cut_where_they_begin() -> None:
    runs = [
        run_of(DataType.INT64, set(range(lo, hi)), 0, removes=False) for lo, hi in ((6, 9), (0, 3), (3, 6), (20, 24))
    ]
    reader = RunsReader(runs, collection(DataType.INT64))
    assert reader.pieces(6) == [
        Bounds(0, 6, KeyRange(None, 6)),
        Bounds(6, 9, KeyRange(6, 20)),
        Bounds(9, 13, KeyRange(20, None)),
    ]
    assert reader.pieces(3) == [
        Bounds(0, 3, KeyRange(None, 3)),
        Bounds(3, 6, KeyRange(3, 6)),
        Bounds(6, 9, KeyRange(6, 20)),
        Bounds(9, 13, KeyRange(20, None)),
    ], "one row more is no reason to cut elsewhere"
    assert reader.pieces(2) == [], "a run is much larger than that"
    assert RunsReader([*runs, runs[0]], collection(DataType.INT64)).pieces(6) == [], "two say of one key"
    assert RunsReader([], collection(DataType.INT64)).pieces(6) == []
