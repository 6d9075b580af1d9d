"""A bad value planted anywhere is found by its number, and nothing else is."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsync.rows import BadRow, Rules, arrow_schema, arrow_type, bad_rows_error, find_bad_rows
from vsync.schema import DYNAMIC_FIELD, DataType, Field
from vsync.times import FIRST, LAST

D = DataType
SIZE = 4
STRICT = Rules(
    json_objects_only=True, no_json_scalars=True, sparse_non_negative=True, sparse_non_empty=True, simple_geometry=True
)


def sparse(*pairs: tuple[int, float]) -> bytes:
    return np.array(list(pairs), [("i", "<u4"), ("v", "<f4")]).tobytes()


FIELDS = {
    "id": Field("id", D.INT64, primary=True),
    "word": Field("word", D.VARCHAR, max_length=6),
    "doc": Field("doc", D.JSON),
    "meta": Field(DYNAMIC_FIELD, D.JSON),
    "tags": Field("tags", D.ARRAY, element=D.VARCHAR, max_capacity=3, max_length=2),
    "nums": Field("nums", D.ARRAY, element=D.INT8, max_capacity=2),
    "vec": Field("vec", D.FLOAT_VECTOR, dim=SIZE),
    "half": Field("half", D.FLOAT16_VECTOR, dim=SIZE),
    "brain": Field("brain", D.BFLOAT16_VECTOR, dim=SIZE),
    "words": Field("words", D.SPARSE_FLOAT_VECTOR),
    "place": Field("place", D.GEOMETRY),
    "at": Field("at", D.TIMESTAMPTZ),
    "maybe": Field("maybe", D.INT64, nullable=True),
    "filled": Field("filled", D.VARCHAR, max_length=6, default="x"),
}
GOOD: dict[str, list[Any]] = {
    "id": [1, -(2**63)],
    "word": ["", "ääü", "sixsix"],
    "doc": [b"{}", b'{"a": [1, 1e3, null]}'],
    "meta": [b'{"a": "NaN"}'],
    "tags": [[], ["", "ü", "ab"]],
    "nums": [[], [1, -128]],
    "vec": [[0.0, -0.0, 3.4e38, 3.4e38], [1e-45, 1.0, 2.0, 3.0]],
    "half": [[65504.0, -65504.0, 0.0, 1.0]],
    "brain": [b"\x7f\x7f" * SIZE, b"\0" * 2 * SIZE],
    "words": [sparse((0, 0.0), (2**32 - 2, 1.5)), sparse((7, 0.5))],
    "place": ["POINT (30.5 -1e3)", " polygon((0 0, 1 0, 1 1, 0 0)) "],
    "at": [FIRST, 0, LAST],
    "maybe": [None, 5],
    "filled": [None, "y"],
}
BAD: list[tuple[str, Any, str]] = [
    ("id", None, "is null"),
    ("word", None, "is null"),
    ("word", "ääüx", "is longer than 6 bytes"),
    ("word", "sixsixs", "is longer than 6 bytes"),
    ("doc", b"", "is not JSON"),
    ("doc", b"{", "is not JSON"),
    ("doc", b'{"a": NaN}', "is not JSON (NaN"),
    ("doc", b'{"a": -Infinity}', "is not JSON"),
    ("doc", b'"\xff"', "is not JSON (not UTF-8)"),
    ("doc", "{}".encode("utf-16"), "is not JSON"),
    ("doc", b"[" * 100_000, "is not JSON (nested too deep)"),
    ("doc", b"[]", "is no JSON object"),
    ("doc", b"1", "is no JSON object"),
    ("meta", b"[1]", "is no JSON object"),
    ("tags", [""] * 4, "has more than 3 elements"),
    ("tags", ["a", "abc"], "holds a string longer than 2 bytes"),
    ("tags", ["a", None], "holds a null"),
    ("nums", [1, 2, 3], "has more than 2 elements"),
    ("nums", [None], "holds a null"),
    ("vec", [0.0, math.nan, 0.0, 0.0], "holds NaN or infinity"),
    ("vec", [0.0, 0.0, 0.0, -math.inf], "holds NaN or infinity"),
    ("vec", None, "is null"),
    ("half", [math.inf, 0.0, 0.0, 0.0], "holds NaN or infinity"),
    ("half", [0.0, 0.0, math.nan, 0.0], "holds NaN or infinity"),
    ("brain", b"\x00\x7f" * 3 + b"\x80\xff", "holds NaN or infinity"),
    ("place", "", "is no POINT"),
    ("place", "LINESTRING (0 0, 1 1)", "is no POINT"),
    ("place", "POLYGON ((0 0, 9 0, 9 9, 0 0), (1 1, 2 1, 2 2, 1 1))", "is no POINT"),
    ("at", FIRST - 1, "is not within the years"),
    ("at", LAST + 1, "is not within the years"),
    ("words", b"", "is an empty sparse vector"),
    ("words", b"\0" * 9, "is not made of pairs of 8 bytes"),
    ("words", sparse((2, 1.0), (1, 1.0)), "has indices that do not ascend"),
    ("words", sparse((2, 1.0), (2, 1.0)), "has indices that do not ascend"),
    ("words", sparse((2**32 - 1, 1.0)), "holds an index above"),
    ("words", sparse((1, math.nan)), "holds NaN or infinity"),
    ("words", sparse((1, 1.0), (2, -0.5)), "holds a negative value"),
]


def column(name: str, values: list[Any]) -> pa.Array:
    kind = arrow_type(FIELDS[name])
    if name != "half":
        return pa.array(values, kind)
    flat = np.array([v or [0] * SIZE for v in values], np.float16).ravel()
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), SIZE)


def batch(rows: dict[str, list[Any]]) -> pa.RecordBatch:
    schema = arrow_schema([FIELDS[name] for name in rows])
    return pa.RecordBatch.from_arrays([column(n, v) for n, v in rows.items()], schema=schema)


def good_rows(count: int) -> dict[str, list[Any]]:
    return {name: [values[i % len(values)] for i in range(count)] for name, values in GOOD.items()}


@settings(max_examples=15)
@given(count=st.integers(1, 40), skip=st.integers(0, 39), first_row=st.integers(0, 2**40))
def test_nothing_is_found_in_good_rows(count: int, skip: int, first_row: int) -> None:
    rows = batch(good_rows(count)).slice(min(skip, count))
    assert find_bad_rows(rows, first_row, list(FIELDS.values()), STRICT) == []


@pytest.mark.parametrize(("name", "value", "why"), BAD, ids=lambda v: str(v)[:30])
@settings(max_examples=8)
@given(data=st.data())
def test_one_bad_value_is_found_by_its_number_and_nothing_else(
    data: st.DataObject, name: str, value: Any, why: str
) -> None:
    count = data.draw(st.integers(1, 30))
    at = data.draw(st.integers(0, count - 1))
    skip = data.draw(st.integers(0, at))
    first_row = data.draw(st.integers(0, 2**40))
    rows = good_rows(count)
    rows[name][at] = value
    found = find_bad_rows(batch(rows).slice(skip), first_row + skip, list(FIELDS.values()), STRICT)
    assert [(b.row, b.field) for b in found] == [(first_row + at, FIELDS[name].name)]
    assert found[0].why.startswith(why)
    assert len(found[0].value) < 200


LENIENT = Rules(finite_vectors=False)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("doc", b"[]"),
        ("doc", b'"text"'),
        ("doc", b"1"),
        ("vec", [math.nan, math.inf, 0.0, 0.0]),
        ("place", "LINESTRING (0 0, 1 1)"),
        ("words", b""),
        ("words", sparse((1, -0.5))),
    ],
)
def test_what_only_some_servers_refuse_is_a_rule(name: str, value: Any) -> None:
    assert find_bad_rows(batch({name: [value]}), 0, [FIELDS[name]], LENIENT) == []
    if name != "vec":
        assert len(find_bad_rows(batch({name: [value]}), 0, [FIELDS[name]], STRICT)) == 1


@pytest.mark.parametrize("text", ["", "30.5, 10", "CIRCLE (1 2 3)", "POINTS (1 2)"])
def test_what_is_no_geometry_is_found_on_every_server(text: str) -> None:
    (found,) = find_bad_rows(batch({"place": [text]}), 0, [FIELDS["place"]], LENIENT)
    assert found.why.startswith("is no well-known text")


def test_a_json_scalar_breaks_some_servers_and_is_refused_there() -> None:
    rules = Rules(no_json_scalars=True)
    rows = batch({"doc": [b'"text"', b"1", b"[]", b"{}", b"null", b"true", b"1.5"]})
    assert [b.row for b in find_bad_rows(rows, 10, [FIELDS["doc"]], rules)] == [10, 11, 14, 15, 16]


def test_what_stands_under_a_null_is_not_looked_at() -> None:
    vec = replace(FIELDS["vec"], nullable=True)
    values = pa.array([math.nan] * SIZE + [1.0] * SIZE, pa.float32())
    validity = pa.py_buffer(bytes([0b10]))
    array = pa.Array.from_buffers(arrow_type(vec), 2, [validity], children=[values])
    rows = pa.RecordBatch.from_arrays([array], schema=arrow_schema([vec]))
    assert find_bad_rows(rows, 0, [vec], Rules()) == []
    words = replace(FIELDS["words"], nullable=True)
    rows = pa.RecordBatch.from_arrays([pa.array([None, b"", None])], schema=arrow_schema([words]))
    assert [b.row for b in find_bad_rows(rows, 0, [words], STRICT)] == [1]


def test_vectors_whose_sum_overflows_are_finite() -> None:
    rows = batch({"vec": [[3.4e38] * SIZE] * 100})
    assert find_bad_rows(rows, 0, [FIELDS["vec"]], Rules()) == []


def test_findings_come_by_row_and_fields_without_a_column_are_left_out() -> None:
    rows = batch({"id": [1, None, None], "word": ["sevenup", "a", "sevenup"]})
    found = find_bad_rows(rows, 5, list(FIELDS.values()), Rules())
    assert [(b.row, b.field) for b in found] == [(5, "word"), (6, "id"), (7, "id"), (7, "word")]
    assert found[0].value == "'sevenup' (7 bytes)"


def test_the_error_says_where_and_what_to_do() -> None:
    error = bad_rows_error([BadRow(3, "vec", "nan", "holds NaN or infinity")], where="a.h5")
    assert str(error) == (
        "a.h5: row 3, field vec: holds NaN or infinity: nan; mend the source, or write on_bad_row: skip"
    )
