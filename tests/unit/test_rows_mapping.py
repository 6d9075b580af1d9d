"""Casting batches: exactness against NumPy, bad values by number, buffers that are shared."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vsync.errors import BadRowsError
from vsync.rows import (
    BadRow,
    Constant,
    FromColumn,
    Mapped,
    RowNumber,
    Rules,
    columns_of,
    keys_in_source,
    map_rows,
    take_rows,
)
from vsync.schema import DYNAMIC_FIELD, DataType, Field

if TYPE_CHECKING:
    from numpy.typing import NDArray

D = DataType
quick = settings(max_examples=60)

SCALARS = {
    D.INT8: np.int8,
    D.INT16: np.int16,
    D.INT32: np.int32,
    D.INT64: np.int64,
    D.FLOAT: np.float32,
    D.DOUBLE: np.float64,
}
SOURCES = [np.dtype(c) for c in "bhilBHILefd"]


def one(array: pa.Array, field: Field, first_row: int = 0, name: str = "c") -> pa.Array:
    batch = pa.RecordBatch.from_arrays([array], names=[name])
    return map_rows(batch, first_row, (Mapped(field, FromColumn(name)),)).column(0)


def bad_of(array: pa.Array, field: Field, first_row: int = 0) -> tuple[BadRow, ...]:
    batch = pa.RecordBatch.from_arrays([array], names=["c"])
    return take_rows(batch, first_row, (Mapped(field, FromColumn("c")),), None).bad


def lists(matrix: NDArray[Any]) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), matrix.shape[1])


def fits(value: Any, target: np.dtype[Any]) -> bool:
    """Whether ``target`` holds a value, decided by Python's own exact numbers."""
    if target.kind == "f":
        with np.errstate(all="ignore"):
            return not (np.isinf(np.array(value).astype(target)) and np.isfinite(value))
    if not math.isfinite(value) or value != int(value):
        return False
    return np.iinfo(target).min <= int(value) <= np.iinfo(target).max


def bits(values: NDArray[Any]) -> bytes:
    """The bits of values, those of a NaN's payload left out: casts of NumPy need not keep them."""
    if values.dtype.kind != "f":
        return values.tobytes()
    return np.where(np.isnan(values), np.array(np.nan, values.dtype), values).tobytes()


@quick
@given(data=st.data(), source=st.sampled_from(SOURCES), target=st.sampled_from(list(SCALARS)))
def test_numbers_arrive_as_numpy_casts_them_or_are_named(
    data: st.DataObject, source: np.dtype[Any], target: DataType
) -> None:
    values = data.draw(hnp.arrays(source, st.integers(1, 20)))
    nulls = data.draw(hnp.arrays(np.bool_, len(values)))
    skip = data.draw(st.integers(0, len(values) - 1))
    array = pa.array(values, mask=nulls).slice(skip)
    values, nulls, dtype = values[skip:], nulls[skip:], np.dtype(SCALARS[target])
    batch = pa.RecordBatch.from_arrays([array], names=["c"])
    taken = take_rows(batch, 1000, (Mapped(Field("f", target), FromColumn("c")),), None)
    good = np.array([bool(null) or fits(v, dtype) for v, null in zip(values, nulls, strict=True)])
    assert [b.row for b in taken.bad] == (1000 + np.flatnonzero(~good)).tolist()
    assert taken.numbers.tolist() == (1000 + np.flatnonzero(good)).tolist()
    column = taken.rows.column(0)
    assert column.is_null().to_pylist() == nulls[good].tolist()
    with np.errstate(all="ignore"):
        wanted = values[good & ~nulls].astype(dtype)
    assert bits(column.drop_null().to_numpy(zero_copy_only=False)) == bits(wanted)


@quick
@given(
    matrix=st.sampled_from(SOURCES).flatmap(lambda d: hnp.arrays(d, st.tuples(st.integers(1, 6), st.just(3)))),
    target=st.sampled_from([(D.FLOAT_VECTOR, np.float32), (D.FLOAT16_VECTOR, np.float16), (D.INT8_VECTOR, np.int8)]),
    ragged=st.booleans(),
    skip=st.integers(0, 5),
)
def test_vectors_arrive_as_numpy_casts_them_or_are_named(
    *, matrix: NDArray[Any], target: tuple[DataType, Any], ragged: bool, skip: int
) -> None:
    skip = min(skip, len(matrix) - 1)
    kind, dtype = target[0], np.dtype(target[1])
    array = lists(matrix)
    if ragged:
        array = array.cast(pa.list_(array.type.value_type))
    matrix, batch = matrix[skip:], pa.RecordBatch.from_arrays([array.slice(skip)], names=["c"])
    taken = take_rows(batch, skip, (Mapped(Field("v", kind, dim=3), FromColumn("c")),), None)
    good = np.array([all(fits(v, dtype) for v in row) for row in matrix])
    assert [b.row for b in taken.bad] == (skip + np.flatnonzero(~good)).tolist()
    with np.errstate(all="ignore"):
        wanted = matrix[good].astype(dtype)
    got = taken.rows.column(0).flatten().to_numpy(zero_copy_only=False)
    assert bits(got) == bits(wanted.ravel())


def to_bfloat16_by_hand(value: np.float32) -> int:
    """The nearest of the two bfloat16 neighbours, on a tie the even one."""
    low = int(value.view(np.uint32)) >> 16
    around = [(abs(float(np.uint32(b << 16).view(np.float32)) - float(value)), b & 1, b) for b in (low, low + 1)]
    return min(around)[2]


@quick
@given(
    st.lists(
        st.tuples(st.integers(0, 0x7F00), st.sampled_from([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF]), st.booleans()),
        min_size=1,
    )
)
def test_bfloat16_is_rounded_to_the_nearest_even(parts: list[tuple[int, int, bool]]) -> None:
    single = np.array([negative << 31 | high << 16 | low for high, low, negative in parts], np.uint32)
    single = single.view(np.float32)
    raw = one(lists(single[:, None]), Field("v", D.BFLOAT16_VECTOR, dim=1))
    assert [int.from_bytes(v, "little") for v in raw.to_pylist()] == [to_bfloat16_by_hand(v) for v in single]


def test_bfloat16_keeps_nan_and_infinity_and_refuses_what_overflows() -> None:
    largest = np.finfo(np.float32).max
    values = np.array([np.nan, np.inf, -np.inf, largest, 1e39], np.float64)
    field = Field("v", D.BFLOAT16_VECTOR, dim=1)
    assert [b.row for b in bad_of(lists(values[:, None]), field)] == [3, 4]
    single = np.array([0x7FC00000, 0xFF800001, 0x7F800000, 0xFF800000], np.uint32).view(np.float32)
    got = np.frombuffer(b"".join(one(lists(single[:, None]), field).to_pylist()), np.uint16)
    assert got[2:].tolist() == [0x7F80, 0xFF80]
    assert ((got[:2] & 0x7F80 == 0x7F80) & (got[:2] & 0x7F != 0)).all()


@pytest.mark.parametrize("skip", [0, 3])
def test_a_matrix_of_the_fields_type_is_not_copied(skip: int) -> None:
    for kind, dtype in (
        (D.FLOAT_VECTOR, np.float32),
        (D.FLOAT16_VECTOR, np.float16),
        (D.INT8_VECTOR, np.int8),
    ):
        array = lists(np.arange(80).reshape(10, 8).astype(dtype))
        mapped = one(array.slice(skip), Field("v", kind, dim=8))
        start = mapped.values.buffers()[1].address + mapped.offset * 8 * np.dtype(dtype).itemsize
        assert start == array.values.buffers()[1].address + skip * 8 * np.dtype(dtype).itemsize
        assert mapped.to_pylist() == array.slice(skip).to_pylist()


@pytest.mark.parametrize(
    ("array", "field", "buffer"),
    [
        (pa.array([1, 2, 3]), Field("f", D.INT64), 1),
        (pa.array(["a", "b"]), Field("f", D.VARCHAR, max_length=9), 2),
        (pa.array([b"a", b"b"]), Field("f", D.VARCHAR, max_length=9), 2),
        (pa.array(["{}", "[]"]), Field("f", D.JSON), 2),
        (pa.array([b"ab", b"cd"], pa.binary(2)), Field("f", D.BINARY_VECTOR, dim=16), 1),
        (pa.array([b"ab", b"cd"], pa.binary(2)), Field("f", D.BFLOAT16_VECTOR, dim=1), 1),
    ],
    ids=str,
)
def test_columns_of_the_fields_type_are_not_copied(array: pa.Array, field: Field, buffer: int) -> None:
    assert one(array, field).buffers()[buffer].address == array.buffers()[buffer].address


def test_bytes_become_binary_vectors_as_they_are() -> None:
    field = Field("v", D.BINARY_VECTOR, dim=16)
    rows = np.array([[255, 0], [1, 0], [0, 2]], np.uint8)  # trailing zero bytes are bits like others
    raw = [r.tobytes() for r in rows]
    packed = np.unpackbits(rows, axis=1).astype(np.bool_)
    for array in (
        pa.array(raw, pa.binary(2)),
        pa.array(raw, pa.binary()),
        lists(rows),
        pa.array(rows.tolist(), pa.list_(pa.uint8())),
        lists(packed),
        pa.array(packed.tolist(), pa.list_(pa.bool_())),
    ):
        assert one(array.slice(1), field).to_pylist() == raw[1:]
    assert [b.row for b in bad_of(pa.array([b"ab", b"a", None, b"abc"]), field, 10)] == [11, 13]


def test_ragged_vectors_and_nulls_inside_are_named() -> None:
    array = pa.array([[1.0, 2.0], [1.0], None, [], [3.0, None], [5.0, 6.0], [1.0] * 9], pa.list_(pa.float32()))
    field = Field("v", D.FLOAT_VECTOR, dim=2, nullable=True)
    assert [(b.row, b.why) for b in bad_of(array, field, 7)] == [
        (8, "has not 2 values"),
        (10, "has not 2 values"),
        (11, "holds a null"),
        (13, "has not 2 values"),
    ]
    taken = take_rows(pa.RecordBatch.from_arrays([array], names=["c"]), 7, (Mapped(field, FromColumn("c")),), None)
    assert taken.rows.column(0).to_pylist() == [[1.0, 2.0], None, [5.0, 6.0]]
    assert taken.numbers.tolist() == [7, 9, 12]
    only_nulls = pa.array([None, []], pa.list_(pa.float32()))
    assert [b.row for b in bad_of(only_nulls, field)] == [1]


def test_a_fixed_size_list_with_a_null_inside_is_named() -> None:
    array = pa.array([[1.0, 2.0], None, [None, 3.0], [4.0, 5.0]], pa.list_(pa.float32(), 2))
    bad = bad_of(array.slice(1), Field("v", D.FLOAT_VECTOR, dim=2, nullable=True), 1)
    assert [(b.row, b.why) for b in bad] == [(2, "holds a null")]
    both = pa.array([[None, 1e39], [1e39, 0.0]], pa.list_(pa.float64(), 2))
    assert [(b.row, b.why) for b in bad_of(both, Field("v", D.FLOAT_VECTOR, dim=2))] == [
        (0, "holds a null"),
        (1, "holds a value that float_vector cannot"),
    ]


def test_text_is_utf8_or_named() -> None:
    field = Field("s", D.VARCHAR, max_length=99)
    good = ["", "ü", None, "x" * 40]
    assert one(pa.array([g.encode() if g is not None else None for g in good]), field).to_pylist() == good
    fixed = pa.array([b"ab\0\0", b"\0\0\0\0", None, b"a\0b\0"], pa.binary(4))
    assert one(fixed.slice(1), field).to_pylist() == ["", None, "a\0b"]
    assert one(fixed, field).to_pylist() == ["ab", "", None, "a\0b"]
    broken = pa.array([b"ok", b"\xff\xfe", None, b"\xc3"])
    for array in (broken, broken.view(pa.string()), broken.cast(pa.large_binary()).view(pa.large_string())):
        assert [(b.row, b.value, b.why) for b in bad_of(array, field, 5)] == [
            (6, r"b'\xff\xfe'", "is not UTF-8"),
            (8, r"b'\xc3'", "is not UTF-8"),
        ]


def test_nested_columns_are_written_as_json() -> None:
    kind = pa.struct([("a", pa.int64()), ("m", pa.map_(pa.string(), pa.list_(pa.float32())))])
    rows = [{"a": 1, "m": [("ü", [0.5, None])]}, None, {"a": None, "m": None}]
    field = Field("j", D.JSON, nullable=True)
    got = one(pa.array(rows, kind), field).to_pylist()
    assert [g if g is None else json.loads(g) for g in got] == [
        {"a": 1, "m": {"ü": [0.5, None]}},
        None,
        {"a": None, "m": None},
    ]
    bad = bad_of(pa.array([{"a": math.nan}, {"a": 1.0}], pa.struct([("a", pa.float64())])), field, 3)
    assert [b.row for b in bad] == [3]
    twice = pa.array([[("a", 1)], [("a", 1), ("a", 2)]], pa.map_(pa.string(), pa.int8()))
    assert [b.row for b in bad_of(twice, field)] == [1]


def test_arrays_are_cast_by_element() -> None:
    field = Field("a", D.ARRAY, element=D.INT8, max_capacity=9)
    array = pa.array([[1], [2, 300], None, [], [-129], [4, None]], pa.list_(pa.int64()))
    assert [(b.row, b.why) for b in bad_of(array, field, 4)] == [
        (5, "an element is no int8"),
        (8, "an element is no int8"),
    ]
    assert one(array.take([0, 2, 3, 5]).slice(1), field).to_pylist() == [None, [], [4, None]]
    texts = pa.array([["a"], None, ["ü", "b"]], pa.large_list(pa.large_string()))
    field = Field("a", D.ARRAY, element=D.VARCHAR, max_capacity=9, max_length=9)
    assert one(texts.slice(1), field).to_pylist() == [None, ["ü", "b"]]


def test_elements_under_a_null_row_are_nobodys() -> None:
    child = pa.array([1, 300, 2])
    offsets = pa.py_buffer(np.array([0, 1, 2, 3], np.int32))
    validity = pa.py_buffer(bytes([0b101]))
    array = pa.Array.from_buffers(pa.list_(pa.int64()), 3, [validity, offsets], children=[child])
    field = Field("a", D.ARRAY, element=D.INT8, max_capacity=9)
    assert one(array, field).to_pylist() == [[1], None, [2]]


def test_times_go_into_integers_in_their_unit() -> None:
    array = pa.array([0, None, 1_700_000_000_000_001], pa.timestamp("us", "UTC"))
    assert one(array.slice(1), Field("t", D.INT64)).to_pylist() == [None, 1_700_000_000_000_001]
    assert one(pa.array([19_000], pa.date32()), Field("t", D.INT64)).to_pylist() == [19_000]


def test_rows_are_mapped_in_the_fields_order() -> None:
    batch = pa.RecordBatch.from_arrays([pa.array(["a", "b"]), pa.array([1.5, 2.5])], names=["w", "x"])
    mapping = (
        Mapped(Field("id", D.INT64, primary=True), RowNumber()),
        Mapped(Field("x", D.DOUBLE), FromColumn("x")),
        Mapped(Field("word", D.VARCHAR, max_length=9), FromColumn("w")),
        Mapped(Field("again", D.FLOAT), FromColumn("x")),
        Mapped(Field(DYNAMIC_FIELD, D.JSON), Constant({"from": "a file"})),
        Mapped(Field("key", D.VARCHAR, max_length=9), RowNumber()),
    )
    assert columns_of(mapping) == ["x", "w"]
    assert map_rows(batch, 70, mapping).to_pylist() == [
        {"id": 70, "x": 1.5, "word": "a", "again": 1.5, DYNAMIC_FIELD: b'{"from":"a file"}', "key": "70"},
        {"id": 71, "x": 2.5, "word": "b", "again": 2.5, DYNAMIC_FIELD: b'{"from":"a file"}', "key": "71"},
    ]


def test_the_error_names_ten_values_and_counts_the_rows() -> None:
    with pytest.raises(BadRowsError) as caught:
        one(pa.array(range(120, 170)), Field("n", D.INT8), first_row=1_000_000)
    problems = caught.value.problems
    assert len(problems) == 11
    assert str(problems[0]) == "row 1000008, field n: is no int8: 128"
    assert problems[9].what.startswith("row 1000017, field n")
    assert problems[10].what.startswith("42 rows do not fit in all")
    assert problems[10].hint
    assert "1000018" not in str(caught.value)


def test_a_value_that_a_vector_cannot_hold_is_shown_with_its_place() -> None:
    matrix = np.ones((4, 50))
    matrix[2, 17] = 1e39
    (bad,) = bad_of(lists(matrix), Field("v", D.FLOAT_VECTOR, dim=50), 100)
    assert str(bad) == (
        "row 102, field v: holds a value that float_vector cannot: "
        "1e+39 at 17 of [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, ...] (50 values)"
    )


def test_rows_that_fit_are_parted_from_those_that_do_not() -> None:
    vectors = np.ones((6, 2), np.float32)
    vectors[4, 1] = np.nan
    batch = pa.RecordBatch.from_arrays([pa.array([1, 2, 2**40, 4, 5, 6]), lists(vectors)], names=["n", "v"])
    mapping = (
        Mapped(Field("n", D.INT32), FromColumn("n")),
        Mapped(Field("v", D.FLOAT_VECTOR, dim=2), FromColumn("v")),
    )
    taken = take_rows(batch, 50, mapping, Rules())
    assert taken.numbers.tolist() == [50, 51, 53, 55]
    assert taken.rows.column("n").to_pylist() == [1, 2, 4, 6]
    assert [(b.row, b.field, b.why) for b in taken.bad] == [
        (52, "n", "is no int32"),
        (54, "v", "holds NaN or infinity"),
    ]
    lenient = take_rows(batch, 50, mapping, Rules(finite_vectors=False))
    assert lenient.numbers.tolist() == [50, 51, 53, 54, 55]


def test_an_empty_batch_is_mapped() -> None:
    field = Field("v", D.FLOAT_VECTOR, dim=2)
    for kind in (pa.list_(pa.float64(), 2), pa.list_(pa.float32())):
        assert len(one(pa.array([], kind), field)) == 0


def test_keys_that_a_source_may_have_are_given_as_they_are_there() -> None:
    texts = ["a:7", "b:7", "a:x", "a:", "a:-9223372036854775808", "a:9223372036854775807", "a:9223372036854775808"]
    mapping = (Mapped(Field("id", DataType.VARCHAR, primary=True, max_length=99), FromColumn("n", "a:")),)
    found = keys_in_source(pa.array(texts), mapping, pa.int64())
    assert found.to_pylist() == [7, -(2**63), 2**63 - 1]
    plain = (Mapped(Field("id", DataType.INT64, primary=True), FromColumn("n")),)
    assert keys_in_source(pa.array([7, -1]), plain, pa.string()).to_pylist() == ["7", "-1"]
