"""Sparse vectors from every form they come in, into Milvus's own."""

from __future__ import annotations

import json
import struct
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsync.rows import FromColumn, Mapped, Rules, Taken, take_rows
from vsync.schema import DataType, Field

Row = dict[int, float]
FIELD = Field("s", DataType.SPARSE_FLOAT_VECTOR, nullable=True)
rows_of_pairs = st.lists(
    st.none() | st.dictionaries(st.integers(0, 2**32 - 2), st.floats(-(2.0**99), 2.0**99, width=32), max_size=5)
)


def milvus(row: Row | None) -> bytes | None:
    if row is None:
        return None
    return b"".join(struct.pack("<If", index, row[index]) for index in sorted(row))


def as_map(rows: list[Row | None]) -> pa.Array:
    return pa.array([r if r is None else list(r.items()) for r in rows], pa.map_(pa.int64(), pa.float32()))


def as_structs(rows: list[Row | None]) -> pa.Array:
    kind = pa.list_(pa.struct([("index", pa.uint32()), ("value", pa.float64())]))
    return pa.array([r if r is None else [{"index": i, "value": v} for i, v in r.items()] for r in rows], kind)


def as_lists(rows: list[Row | None]) -> pa.Array:
    kind = pa.struct([("values", pa.large_list(pa.float32())), ("indices", pa.list_(pa.int64()))])
    return pa.array([r if r is None else {"indices": list(r), "values": list(r.values())} for r in rows], kind)


def as_text(rows: list[Row | None]) -> pa.Array:
    return pa.array([r if r is None else json.dumps(r) for r in rows], pa.string())


def as_text_of_lists(rows: list[Row | None]) -> pa.Array:
    made = [r if r is None else json.dumps({"values": list(r.values()), "indices": list(r)}) for r in rows]
    return pa.array(made, pa.string())


def as_milvus(rows: list[Row | None]) -> pa.Array:
    return pa.array([milvus(r) for r in rows], pa.binary())


def taken(array: pa.Array, first_row: int = 0) -> Taken:
    batch = pa.RecordBatch.from_arrays([array], names=["c"])
    return take_rows(batch, first_row, (Mapped(FIELD, FromColumn("c")),), Rules())


@pytest.mark.parametrize("form", [as_map, as_structs, as_lists, as_text, as_text_of_lists, as_milvus])
@settings(max_examples=25)
@given(rows=rows_of_pairs, skip=st.integers(0, 4))
def test_pairs_arrive_sorted_and_exact(form: Any, rows: list[Row | None], skip: int) -> None:
    got = taken(form(rows).slice(min(skip, len(rows))))
    assert got.bad == ()
    assert got.rows.column(0).to_pylist() == [milvus(r) for r in rows[skip:]]


PAIRS = pa.map_(pa.int64(), pa.float64())
LISTS = pa.struct([("indices", pa.list_(pa.int64())), ("values", pa.list_(pa.float64()))])


@pytest.mark.parametrize(
    ("value", "kind", "why"),
    [
        ([(-1, 0.5)], PAIRS, "holds an index that is not from 0 to 4294967294"),
        ([(2**32 - 1, 0.5)], PAIRS, "holds an index that is not from 0 to 4294967294"),
        ([(1, 1e39)], PAIRS, "holds a value that float32 cannot"),
        ([(1, float("nan"))], PAIRS, "holds NaN or infinity"),
        ([(1, None)], PAIRS, "holds a null"),
        ([(2, 0.5), (1, 0.5), (2, 0.7)], PAIRS, "holds an index twice"),
        ({"indices": [1], "values": [0.5, 0.6]}, LISTS, "has not as many values as indices"),
        ({"indices": None, "values": [0.5]}, LISTS, "holds a null"),
        ({"indices": [1, None], "values": [0.5, 1]}, LISTS, "holds a null"),
        ('{"a": 0.5}', pa.string(), "is no sparse vector ('a' is no index)"),
        ('{"-1": 0.5}', pa.string(), "is no sparse vector ('-1' is no index)"),
        ('{"1": "x"}', pa.string(), "is no sparse vector ('x' is no number)"),
        ('{"1": true}', pa.string(), "is no sparse vector (True is no number)"),
        ('{"1": NaN}', pa.string(), "is no sparse vector (NaN is not JSON)"),
        ('{"1": 0.5, "1": 0.6}', pa.string(), "holds an index twice"),
        ('{"indices": [1], "values": []}', pa.string(), "is no sparse vector (zip"),
        ('{"indices": 1, "values": []}', pa.string(), "is no sparse vector (indices and values are lists)"),
        ("[]", pa.string(), "is no sparse vector (a JSON object is expected)"),
        ("{", pa.string(), "is no sparse vector"),
        (b"\0" * 12, pa.binary(), "is not made of pairs of 8 bytes"),
    ],
    ids=str,
)
@pytest.mark.parametrize("at", [0, 2, 4])
def test_what_is_no_sparse_vector_is_named(value: Any, kind: pa.DataType, why: str, at: int) -> None:
    rows: list[Row | None] = [{1: 0.5}, None, {}, {3: 1.0, 2: 2.0}]
    forms = {PAIRS: as_map, LISTS: as_lists, pa.string(): as_text, pa.binary(): as_milvus}
    good = forms[kind](rows).cast(kind) if kind != LISTS else pa.array(as_lists(rows).to_pylist(), kind)
    array = pa.concat_arrays([good.slice(0, at), pa.array([value], kind), good.slice(at)])
    got = taken(array, 100)
    assert [(b.row, b.field) for b in got.bad] == [(100 + at, "s")]
    assert got.bad[0].why.startswith(why)
    assert got.rows.column(0).to_pylist() == [milvus(r) for r in rows]
    assert got.numbers.tolist() == [100 + i for i in range(5) if i != at]
