"""Which columns may feed which fields, as the plan says it and as the cast does it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from vsync.connectors.base import Column
from vsync.errors import ConflictError
from vsync.rows import (
    Cast,
    Constant,
    FromColumn,
    Mapped,
    Rules,
    arrow_schema,
    arrow_type,
    cast_of,
    constant,
    infer_field,
    map_rows,
    take_rows,
)
from vsync.schema import DYNAMIC_FIELD, DataType, Field

D = DataType
F32 = pa.float32()
PAIRS = pa.struct([("index", pa.uint32()), ("value", F32)])
LISTS = pa.struct([("indices", pa.list_(pa.int64())), ("values", pa.list_(pa.float64()))])

FIELDS = [
    Field("f", D.INT8),
    Field("f", D.INT16),
    Field("f", D.INT32),
    Field("f", D.INT64),
    Field("f", D.FLOAT),
    Field("f", D.DOUBLE),
    Field("f", D.BOOL),
    Field("f", D.VARCHAR, max_length=20),
    Field("f", D.JSON),
    Field("f", D.GEOMETRY),
    Field("f", D.TIMESTAMPTZ),
    Field(DYNAMIC_FIELD, D.JSON),
    Field("f", D.ARRAY, element=D.INT64, max_capacity=9),
    Field("f", D.ARRAY, element=D.VARCHAR, max_capacity=9, max_length=9),
    Field("f", D.FLOAT_VECTOR, dim=16),
    Field("f", D.FLOAT16_VECTOR, dim=16),
    Field("f", D.BFLOAT16_VECTOR, dim=16),
    Field("f", D.INT8_VECTOR, dim=16),
    Field("f", D.BINARY_VECTOR, dim=16),
    Field("f", D.SPARSE_FLOAT_VECTOR),
]

COLUMNS: list[tuple[pa.DataType, Any]] = [
    *((t, [1, None, 3]) for t in (pa.int8(), pa.int16(), pa.int32(), pa.int64())),
    *((t, [1, None, 3]) for t in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())),
    *((t, [1.0, None, 3.0]) for t in (F32, pa.float64())),
    (pa.float16(), np.array([1, 2, 3], np.float16)),
    (pa.bool_(), [True, None, False]),
    *((t, ["a", None, "ü"]) for t in (pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string()))),
    (pa.string(), ["2024-01-01T00:00:00Z", None, "2024-01-01T00:00:00.5+01:00"]),
    (pa.string(), ["POINT (1 2)", None, "LINESTRING (1 2, 3 4)"]),
    *((pa.timestamp(unit), [1, None, 3_000]) for unit in ("s", "ms", "us", "ns")),
    *((t, [b"a", None, b"bc"]) for t in (pa.binary(), pa.large_binary())),
    (pa.binary(2), [b"ab", None, b"c\0"]),
    (pa.binary(32), [b"a" * 32, None, b"b" * 32]),
    *((t, [1, None, 3]) for t in (pa.timestamp("us", "UTC"), pa.date32(), pa.time32("s"), pa.duration("ns"))),
    (pa.decimal128(5, 2), [None, None, None]),
    *((pa.list_(t), [[1] * 16, None, [2] * 16]) for t in (pa.uint8(), pa.int64(), F32)),
    *((pa.list_(t, 16), [[1] * 16, None, [2] * 16]) for t in (pa.int8(), pa.uint8(), F32, pa.float64())),
    (pa.list_(pa.bool_(), 16), [[True] * 16, None, [False] * 16]),
    (pa.list_(F32, 4), [[1] * 4, None, [2] * 4]),
    (pa.large_list(pa.string()), [["a"], None, []]),
    (pa.list_(pa.list_(pa.int8())), [[[1]], None, []]),
    (pa.struct([("a", pa.int8())]), [{"a": 1}, None, {"a": None}]),
    (pa.map_(pa.int32(), pa.float64()), [[(1, 0.5)], None, []]),
    (pa.list_(PAIRS), [[{"index": 1, "value": 0.5}], None, []]),
    (LISTS, [{"indices": [1], "values": [0.5]}, None, {"indices": [], "values": []}]),
    (pa.struct([("t", pa.timestamp("s"))]), [{"t": None}, None, None]),
]


def column(kind: pa.DataType, native: str = "") -> Column:
    return Column("emb", kind, native or str(kind), 0)


def conflict_of(kind: pa.DataType, field: Field) -> ConflictError | None:
    try:
        cast_of(column(kind), field)
    except ConflictError as error:
        return error
    return None


@pytest.mark.parametrize("field", FIELDS, ids=str)
@pytest.mark.parametrize(("kind", "values"), COLUMNS, ids=[str(k) for k, _ in COLUMNS])
def test_plan_and_cast_agree(field: Field, kind: pa.DataType, values: Any) -> None:
    batch = pa.RecordBatch.from_arrays([pa.array(values, kind)], names=["emb"])
    mapping = (Mapped(field, FromColumn("emb")),)
    conflict = conflict_of(kind, field)
    if conflict:
        assert "column emb" in str(conflict)
        assert conflict.problems[0].hint
        with pytest.raises(ConflictError):
            map_rows(batch, 0, mapping)
        return
    note = str(cast_of(column(kind), field).note)
    taken = take_rows(batch, 0, mapping, None)
    if taken.bad:  # only where the plan said that values decide
        assert "checked at apply" in note or "JSON ->" in note
        return
    rows = taken.rows
    assert rows.schema.equals(arrow_schema([field]))
    rows.validate(full=True)
    assert rows.column(0).is_null().to_pylist() == batch.column(0).is_null().to_pylist()
    tail = map_rows(batch.slice(1, 2), 1, mapping)
    assert tail.column(0).to_pylist() == rows.column(0).to_pylist()[1:]


VEC = Field("vec", D.FLOAT_VECTOR, dim=768)


def flat(element: pa.DataType, size: int = 768) -> pa.DataType:
    return pa.list_(element, size)


@pytest.mark.parametrize(
    ("kind", "field", "cast"),
    [
        (flat(F32), VEC, Cast(exact=True, note=None)),
        (flat(pa.float64()), VEC, Cast(exact=False, note="float64 -> float32: rounded")),
        (flat(pa.float16()), VEC, Cast(exact=True, note="float16 -> float32")),
        (flat(pa.int8()), VEC, Cast(exact=True, note="int8 -> float32")),
        (flat(pa.int64()), VEC, Cast(exact=False, note="int64 -> float32: rounded")),
        (pa.list_(F32), VEC, Cast(exact=True, note="lists: lengths checked at apply")),
        (
            pa.list_(pa.float64()),
            VEC,
            Cast(exact=False, note="float64 -> float32: rounded; lengths checked at apply"),
        ),
        (
            flat(F32),
            Field("v", D.FLOAT16_VECTOR, dim=768),
            Cast(exact=False, note="float32 -> float16: rounded"),
        ),
        (
            flat(F32),
            Field("v", D.BFLOAT16_VECTOR, dim=768),
            Cast(exact=False, note="float32 -> bfloat16: rounded"),
        ),
        (pa.binary(1536), Field("v", D.BFLOAT16_VECTOR, dim=768), Cast(exact=True, note=None)),
        (
            flat(pa.int16()),
            Field("v", D.INT8_VECTOR, dim=768),
            Cast(exact=True, note="int16 -> int8: checked at apply"),
        ),
        (
            flat(F32),
            Field("v", D.INT8_VECTOR, dim=768),
            Cast(exact=True, note="float32 -> int8: checked at apply"),
        ),
        (pa.binary(96), Field("v", D.BINARY_VECTOR, dim=768), Cast(exact=True, note=None)),
        (flat(pa.uint8(), 96), Field("v", D.BINARY_VECTOR, dim=768), Cast(exact=True, note=None)),
        (
            flat(pa.bool_()),
            Field("v", D.BINARY_VECTOR, dim=768),
            Cast(exact=True, note="bool -> binary_vector: packed"),
        ),
        (pa.int32(), Field("n", D.INT64), Cast(exact=True, note="int32 -> int64")),
        (pa.int64(), Field("n", D.INT32), Cast(exact=True, note="int64 -> int32: checked at apply")),
        (pa.uint64(), Field("n", D.INT64), Cast(exact=True, note="uint64 -> int64: checked at apply")),
        (pa.float64(), Field("n", D.INT64), Cast(exact=True, note="float64 -> int64: checked at apply")),
        (pa.float64(), Field("n", D.FLOAT), Cast(exact=False, note="float64 -> float32: rounded")),
        (
            pa.timestamp("us", "UTC"),
            Field("n", D.INT64),
            Cast(exact=True, note="timestamp[us, tz=UTC] -> int64: in us since 1970-01-01 UTC"),
        ),
        (
            pa.date32(),
            Field("n", D.INT32),
            Cast(exact=True, note="date32[day] -> int32: days since 1970-01-01"),
        ),
        (pa.large_string(), Field("s", D.VARCHAR, max_length=9), Cast(exact=True, note=None)),
        (
            pa.int64(),
            Field("s", D.VARCHAR, max_length=9),
            Cast(exact=True, note="int64 -> varchar: as decimal digits"),
        ),
        (pa.string(), Field("j", D.JSON), Cast(exact=True, note=None)),
        (pa.timestamp("us", "UTC"), Field("t", D.TIMESTAMPTZ), Cast(exact=True, note=None)),
        (
            pa.timestamp("ms"),
            Field("t", D.TIMESTAMPTZ),
            Cast(exact=True, note="timestamp[ms] -> timestamptz, taken as UTC"),
        ),
        (
            pa.struct([("a", F32)]),
            Field("j", D.JSON),
            Cast(exact=True, note="struct -> json: written as JSON text"),
        ),
    ],
)
def test_what_a_cast_does_is_named(kind: pa.DataType, field: Field, cast: Cast) -> None:
    assert cast_of(column(kind), field) == cast


@pytest.mark.parametrize(
    ("kind", "field", "words", "hint"),
    [
        (flat(F32, 1024), VEC, "vector dimension mismatch", "write dim: 1024"),
        (pa.binary(128), Field("v", D.BINARY_VECTOR, dim=768), "holds 1024 bits a row", "write dim: 1024"),
        (
            flat(pa.uint8(), 128),
            Field("v", D.BINARY_VECTOR, dim=768),
            "holds 1024 bits a row",
            "write dim: 1024",
        ),
        (
            pa.binary(2048),
            Field("v", D.BFLOAT16_VECTOR, dim=768),
            "holds 2048 bytes a row",
            "write dim: 1024",
        ),
        (pa.string(), VEC, "cannot feed field vec, which is float_vector(768)", "lists of numbers"),
        (pa.timestamp("s"), Field("s", D.VARCHAR, max_length=9), "cannot feed", "strings"),
        (pa.timestamp("s"), Field("n", D.INT32), "cannot feed", "int64"),
        (pa.int8(), Field("b", D.BOOL), "cannot feed", "booleans"),
        (pa.int64(), Field("t", D.TIMESTAMPTZ), "cannot feed", "timestamps"),
        (pa.binary(), Field("g", D.GEOMETRY), "cannot feed", "well-known text"),
        (pa.list_(pa.string()), Field("a", D.ARRAY, element=D.INT64), "cannot feed", "numbers"),
        (pa.null(), Field("n", D.INT64), "only nulls", "nullable"),
        (pa.list_(pa.int8()), Field(DYNAMIC_FIELD, D.JSON), "cannot feed", "structs or maps of plain values"),
    ],
)
def test_what_cannot_be_is_a_conflict_in_the_columns_own_words(
    kind: pa.DataType, field: Field, words: str, hint: str
) -> None:
    with pytest.raises(ConflictError) as caught:
        cast_of(column(kind, "float32 (1204881, 1024)"), field)
    problem = caught.value.problems[0]
    assert words in f"{problem.what} {problem.hint}"
    assert hint in str(problem.hint)
    assert "column emb, float32 (1204881, 1024)" in problem.what


@pytest.mark.parametrize(
    ("kind", "values", "micros"),
    [
        (pa.timestamp("s"), [1, None, -1, 2**62], [1_000_000, None, -1_000_000, "years"]),
        (pa.timestamp("ms", "Asia/Tokyo"), [1, None, 2**61], [1_000, None, "years"]),
        (pa.timestamp("us"), [1, 253_402_300_800_000_000], [1, "years"]),
        (pa.timestamp("ns", "UTC"), [1_000, -1_000, 1_001], [1, -1, "finer"]),
        (pa.string(), ["1970-01-01T01:00:00+01:00", "1970-01-01T00:00Z", "noon", None], [0, 0, "no time", None]),
        (pa.string(), ["1970-01-01t00:00:00.000001z", "0001-01-01T00:00:00+01:00"], [1, "years"]),
    ],
    ids=str,
)
def test_times_become_microseconds_or_are_refused(kind: pa.DataType, values: list[Any], micros: list[Any]) -> None:
    field = Field("t", D.TIMESTAMPTZ, nullable=True)
    batch = pa.RecordBatch.from_arrays([pa.array(values, kind)], names=["emb"])
    taken = take_rows(batch, 0, (Mapped(field, FromColumn("emb")),), Rules())
    bad = {b.row: b.why for b in taken.bad}
    assert [at for at, m in enumerate(micros) if isinstance(m, str)] == list(bad)
    assert all(micros[at] in why for at, why in bad.items())
    good = [m for m in micros if not isinstance(m, str)]
    assert taken.rows.column(0).view(pa.int64()).to_pylist() == good


def test_nulls_feed_a_field_that_takes_them() -> None:
    batch = pa.RecordBatch.from_arrays([pa.nulls(2)], names=["emb"])
    field = Field("v", D.FLOAT_VECTOR, dim=3, nullable=True)
    rows = map_rows(batch, 0, (Mapped(field, FromColumn("emb")),))
    assert rows.schema.equals(arrow_schema([field]))
    assert rows.column(0).null_count == 2


LONG = 65535


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        (pa.int8(), Field("f", D.INT8)),
        (pa.uint8(), Field("f", D.INT16)),
        (pa.uint16(), Field("f", D.INT32)),
        (pa.uint32(), Field("f", D.INT64)),
        (pa.uint64(), Field("f", D.INT64)),
        (pa.float16(), Field("f", D.FLOAT)),
        (pa.float64(), Field("f", D.DOUBLE)),
        (pa.decimal128(9, 2), Field("f", D.DOUBLE)),
        (pa.bool_(), Field("f", D.BOOL)),
        (pa.dictionary(pa.int32(), pa.string()), Field("f", D.VARCHAR, max_length=LONG)),
        (pa.timestamp("ns"), Field("f", D.INT64)),
        (pa.date32(), Field("f", D.INT32)),
        (pa.list_(pa.float16(), 50), Field("f", D.FLOAT_VECTOR, dim=50)),
        (pa.list_(pa.int8(), 50), Field("f", D.FLOAT_VECTOR, dim=50)),
        (pa.list_(pa.bool_(), 48), Field("f", D.BINARY_VECTOR, dim=48)),
        (pa.binary(6), Field("f", D.BINARY_VECTOR, dim=48)),
        (pa.list_(pa.uint8()), Field("f", D.ARRAY, element=D.INT16, max_capacity=4096)),
        (pa.list_(pa.string()), Field("f", D.ARRAY, element=D.VARCHAR, max_capacity=4096, max_length=LONG)),
        (pa.list_(pa.list_(pa.int8())), Field("f", D.JSON)),
        (pa.struct([("a", pa.map_(pa.string(), pa.int8()))]), Field("f", D.JSON)),
    ],
    ids=str,
)
def test_inferred_fields_hold_their_column(kind: pa.DataType, field: Field) -> None:
    assert infer_field(column(kind), "f") == field
    assert cast_of(column(kind), field).exact or pa.types.is_decimal(kind)


@pytest.mark.parametrize(
    "kind",
    [
        pa.null(),
        pa.binary(),
        pa.list_(pa.bool_(), 50),
        pa.list_(pa.string(), 5),
        pa.struct([("t", pa.timestamp("s"))]),
        pa.list_(pa.binary()),
        pa.map_(pa.float64(), pa.string()),
    ],
    ids=str,
)
def test_nothing_is_inferred_where_nothing_fits(kind: pa.DataType) -> None:
    assert infer_field(column(kind), "f") is None


def test_a_primary_key_is_int64_or_varchar() -> None:
    assert infer_field(column(pa.uint8()), "id", primary=True) == Field("id", D.INT64, primary=True)
    text = Field("id", D.VARCHAR, primary=True, max_length=LONG)
    assert infer_field(column(pa.string()), "id", primary=True) == text
    assert infer_field(column(pa.float64()), "id", primary=True) is None


@pytest.mark.parametrize(
    ("value", "field", "held"),
    [
        (7, Field("n", D.INT8), 7),
        (True, Field("b", D.BOOL), True),
        (0.5, Field("x", D.FLOAT), 0.5),
        (3, Field("x", D.DOUBLE), 3.0),
        ("2024", Field("s", D.VARCHAR, max_length=4), "2024"),
        ({"a": [1, None]}, Field("j", D.JSON), b'{"a":[1,null]}'),
        ([1, 2], Field("a", D.ARRAY, element=D.INT8, max_capacity=2), [1, 2]),
        ([], Field("a", D.ARRAY, element=D.VARCHAR, max_capacity=2), []),
        ([0.5, 1], Field("v", D.FLOAT_VECTOR, dim=2), [0.5, 1.0]),
        ([0.5, 1], Field("v", D.FLOAT16_VECTOR, dim=2), [0.5, 1.0]),
        ([1, 2], Field("v", D.BFLOAT16_VECTOR, dim=2), b"\x80\x3f\x00\x40"),
        ([1, -2], Field("v", D.INT8_VECTOR, dim=2), [1, -2]),
        ([1, 255], Field("v", D.BINARY_VECTOR, dim=16), b"\x01\xff"),
        ({"7": 0.5}, Field("v", D.SPARSE_FLOAT_VECTOR), b"\x07\0\0\0\0\0\0\x3f"),
        (None, Field("n", D.INT64, nullable=True), None),
    ],
    ids=str,
)
def test_constants_fill_every_row(value: Any, field: Field, held: Any) -> None:
    batch = pa.RecordBatch.from_arrays([pa.array(range(3))], names=["x"])
    rows = map_rows(batch, 0, (Mapped(field, Constant(value)),))
    assert rows.schema.field(0).type == arrow_type(field)
    assert rows.column(0).to_pylist() == [held] * 3


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (300, Field("n", D.INT8)),
        (2**70, Field("n", D.INT64)),
        (1.5, Field("n", D.INT64)),
        ("x", Field("n", D.INT64)),
        (1, Field("b", D.BOOL)),
        ("12345", Field("s", D.VARCHAR, max_length=4)),
        (float("nan"), Field("j", D.JSON)),
        ([1, 2, 3], Field("a", D.ARRAY, element=D.INT8, max_capacity=2)),
        ([1, "x"], Field("a", D.ARRAY, element=D.INT8, max_capacity=2)),
        ([1], Field("v", D.FLOAT_VECTOR, dim=2)),
        ([1, "x"], Field("v", D.FLOAT_VECTOR, dim=2)),
        ("ab", Field("v", D.FLOAT_VECTOR, dim=2)),
        ([[1], [2]], Field("v", D.FLOAT_VECTOR, dim=2)),
        ([float("nan"), 0], Field("v", D.FLOAT_VECTOR, dim=2)),
        ([256, 0], Field("v", D.BINARY_VECTOR, dim=16)),
        (2, Field("v", D.BINARY_VECTOR, dim=16)),
        (5, Field("v", D.FLOAT_VECTOR, dim=1)),
        ({"x": 0.5}, Field("v", D.SPARSE_FLOAT_VECTOR)),
        (None, Field("n", D.INT64)),
        ("0.5", Field("x", D.FLOAT)),
    ],
    ids=str,
)
def test_a_constant_that_does_not_fit_is_a_conflict(value: Any, field: Field) -> None:
    with pytest.raises(ConflictError, match="does not fit field"):
        constant(value, field)


def test_decimals_become_the_nearest_doubles() -> None:
    cents = pa.array([Decimal(n) / 100 for n in range(-500, 20_000)] + [None], pa.decimal128(12, 2))
    batch = pa.record_batch({"f": cents})
    mapped = (Mapped(Field("f", D.DOUBLE, nullable=True), FromColumn("f")),)
    values = map_rows(batch, 0, mapped).column("f").to_pylist()
    assert values == [n / 100 for n in range(-500, 20_000)] + [None], "as if they were written so"
