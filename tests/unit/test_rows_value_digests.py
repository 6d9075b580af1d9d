"""Values are told apart by their digests exactly where a server would: by bits, JSON by its values, null as default."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsync.rows import arrow_type
from vsync.rows.digest import field_digests, mixed, row_digests
from vsync.schema import DYNAMIC_FIELD, DataType, Field
from vsync.times import FIRST, LAST

FLOATS = st.floats(width=32) | st.sampled_from([0.0, -0.0, 1e-45])
TEXTS = st.text("aé\0", max_size=3)
CASES: list[tuple[Field, st.SearchStrategy[Any]]] = [
    (Field("f", DataType.INT8), st.integers(-128, 127)),
    (Field("f", DataType.INT64), st.integers(-(2**63), 2**63 - 1)),
    (Field("f", DataType.FLOAT), FLOATS),
    (Field("f", DataType.DOUBLE), st.floats()),
    (Field("f", DataType.BOOL), st.booleans()),
    (Field("f", DataType.VARCHAR, max_length=9), TEXTS),
    (Field("f", DataType.TIMESTAMPTZ), st.integers(FIRST, LAST)),
    (Field("f", DataType.SPARSE_FLOAT_VECTOR), st.binary(max_size=3)),
    (Field("f", DataType.BINARY_VECTOR, dim=16), st.binary(min_size=2, max_size=2)),
    (Field("f", DataType.FLOAT_VECTOR, dim=2), st.lists(FLOATS.filter(np.isfinite), min_size=2, max_size=2)),
    (Field("f", DataType.INT8_VECTOR, dim=2), st.lists(st.integers(-1, 1), min_size=2, max_size=2)),
    (Field("f", DataType.ARRAY, element=DataType.INT16), st.lists(st.integers(-2, 2), max_size=3)),
    (Field("f", DataType.ARRAY, element=DataType.BOOL), st.lists(st.booleans(), max_size=3)),
    (Field("f", DataType.ARRAY, element=DataType.DOUBLE), st.lists(st.floats(), max_size=3)),
    (Field("f", DataType.ARRAY, element=DataType.VARCHAR, max_length=9), st.lists(TEXTS, max_size=3)),
]


def bits(value: Any) -> Any:
    if isinstance(value, float):
        return "nan" if np.isnan(value) else struct.pack("<d", value)
    return tuple(map(bits, value)) if isinstance(value, list) else value


def digests(field: Field, values: list[Any]) -> list[int]:
    batch = pa.RecordBatch.from_arrays([pa.array(values, arrow_type(field))], names=[field.name])
    return [int(d) for d in field_digests(batch, [field])[:, 0]]


@settings(max_examples=200)
@given(data=st.data(), case=st.sampled_from(CASES))
def test_digests_are_equal_where_values_are(data: st.DataObject, case: tuple[Field, st.SearchStrategy[Any]]) -> None:
    field, values = case
    given_values = data.draw(st.lists(st.none() | values, max_size=12))
    start = data.draw(st.integers(0, len(given_values)))
    column = pa.array(given_values, arrow_type(field))[start:]
    found = field_digests(pa.RecordBatch.from_arrays([column], names=["f"]), [field])[:, 0]
    by_value: dict[Any, int] = {}
    for value, digest in zip(given_values[start:], found, strict=True):
        assert by_value.setdefault(bits(value), int(digest)) == int(digest)
    assert len(set(by_value.values())) == len(by_value)


def test_one_nan_is_like_another_where_servers_make_them_so() -> None:
    for kind, width in ((DataType.FLOAT, "f4"), (DataType.DOUBLE, "f8")):
        one = np.array([np.nan, np.nan], width)
        one.view(f"u{width[1]}")[1] ^= 1
        batch = pa.RecordBatch.from_arrays([pa.array(one)], names=["f"])
        assert len(set(row_digests(batch, [Field("f", kind)]))) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b'{"a": 1e3, "b": [1]}', b'{"b":[1],"a":1000.0}'),
        (b'"\\u00e9"', '"é"'.encode()),
        (b"not JSON", b"not JSON"),
    ],
)
def test_json_counts_by_its_values(one: bytes, other: bytes) -> None:
    first, second = digests(Field("f", DataType.JSON), [one, other])
    assert first == second


def test_a_geometry_counts_by_what_it_says() -> None:
    field = Field("f", DataType.GEOMETRY)
    points = ["POINT (30.5 -10)", "point(30.50 -1e1)", " POINT ( 30.5  -10.0 ) "]
    rings = ["POLYGON ((0 0, 1 0, 1 1, 0 0))", "Polygon((0 0,1 0,1 1,0 -0))"]
    others = ["POINT (30.5 10)", "POINT (-10 30.5)", "MULTIPOINT (30.5 -10)", "POINT EMPTY", "", None]
    found = digests(field, points + rings + others)
    assert [len(set(found[:3])), len(set(found[3:5])), len(set(found))] == [1, 1, 8]


def test_json_of_other_values_differs() -> None:
    texts = [b'{"a":1}', b'{"a":2}', b'{"a":"1"}', b'{"b":1}', b"[1]", b"null", b"[" * 100_000, None]
    assert len(set(digests(Field("f", DataType.JSON), texts))) == len(texts)


def test_no_dynamic_values_are_an_empty_object() -> None:
    assert len(set(digests(Field(DYNAMIC_FIELD, DataType.JSON), [b"{}", b"", b"null", None, b" { } "]))) == 1


@pytest.mark.parametrize(
    ("field", "default"),
    [
        (Field("f", DataType.INT64, nullable=True, default=7), 7),
        (Field("f", DataType.VARCHAR, max_length=9, nullable=True, default="x"), "x"),
        (Field("f", DataType.BOOL, nullable=True, default=False), False),
        (Field("f", DataType.TIMESTAMPTZ, nullable=True, default="1970-01-01T00:00:01Z"), 1_000_000),
        (Field("f", DataType.GEOMETRY, nullable=True, default="POINT (1 2)"), "POINT (1.0 2)"),
        (Field("f", DataType.JSON, nullable=True, default={"a": 1}), json.dumps({"a": 1}).encode()),
    ],
)
def test_a_null_is_the_default(field: Field, default: Any) -> None:
    null, same = digests(field, [None, default])
    assert null == same
    plain, other = digests(Field("f", field.type, max_length=9, nullable=True), [None, default])
    assert plain != other


def test_rows_are_told_apart_by_each_field_and_its_place() -> None:
    one = np.array([[1, 2], [2, 1], [1, 3], [0, 0], [1, 2]], np.uint64)
    found = mixed(one)
    assert len(set(found)) == 4
    assert found[0] == found[4]
    assert len(mixed(np.empty((3, 0), np.uint64))) == 3
    assert len(row_digests(pa.RecordBatch.from_arrays([pa.array([], pa.int64())], names=["f"]), [CASES[1][0]])) == 0


@settings(max_examples=100)
@given(row=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=4), place=st.integers(0, 3), bit=st.integers(0, 63))
def test_one_bit_of_one_field_changes_the_row(row: list[int], place: int, bit: int) -> None:
    other = list(row)
    other[place % len(row)] ^= 1 << bit
    first, second = mixed(np.array([row, other], np.uint64))
    assert first != second
