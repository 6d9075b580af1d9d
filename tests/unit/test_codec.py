"""Rows through the codec and back, as a server sees them: requests parsed by protobuf's own classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsync.connectors.milvus import answers, codec
from vsync.connectors.milvus.decode import decode
from vsync.connectors.milvus.wire import common_pb2, milvus_pb2, schema_pb2
from vsync.errors import TargetError, TooLargeError
from vsync.rows import arrow_type
from vsync.schema import DYNAMIC_FIELD, INTEGER_BITS, Collection, DataType, Field
from vsync.times import FIRST, LAST

LIMIT = 1 << 20
KEY = Field("id", DataType.INT64, primary=True)
ELEMENTS = [*INTEGER_BITS, DataType.FLOAT, DataType.DOUBLE, DataType.BOOL, DataType.VARCHAR]
FLOATS = st.floats(width=32)  # NaN, infinities, -0.0 and denormals among them
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)  # every script; no lone surrogates
SPARSE = st.dictionaries(st.integers(0, 2**32 - 2), FLOATS, max_size=4).map(
    lambda cell: b"".join(np.uint32(at).tobytes() + np.float32(value).tobytes() for at, value in sorted(cell.items()))
)


def values_of(field: Field) -> st.SearchStrategy[Any]:
    """Draw one value of a field, as pyarrow takes it."""
    kind, dim = field.type, field.dim or 0
    if kind in INTEGER_BITS:
        half = 1 << (INTEGER_BITS[kind] - 1)
        return st.integers(-half, half - 1)
    if kind is DataType.ARRAY:
        assert field.element is not None
        return st.lists(values_of(Field("element", field.element)), max_size=4)
    if kind is DataType.FLOAT_VECTOR:
        return st.lists(FLOATS, min_size=dim, max_size=dim)
    if kind is DataType.FLOAT16_VECTOR:
        return st.lists(st.floats(width=16).map(np.float16), min_size=dim, max_size=dim)
    if kind is DataType.INT8_VECTOR:
        return st.lists(st.integers(-128, 127), min_size=dim, max_size=dim)
    size = dim // 8 if kind is DataType.BINARY_VECTOR else dim * 2
    return {
        DataType.FLOAT: FLOATS,
        DataType.DOUBLE: st.floats(),
        DataType.BOOL: st.booleans(),
        DataType.VARCHAR: TEXTS,
        DataType.JSON: st.sampled_from([b"{}", b'{"a": 1e3, "\xc3\xa9": [null]}', b"[1, 2]", b"-0.0"]),
        DataType.SPARSE_FLOAT_VECTOR: SPARSE,
        DataType.GEOMETRY: st.sampled_from(["POINT (30.5 -10)", "POLYGON((0 0,1 0,1 1,0 0))"]),
        DataType.TIMESTAMPTZ: st.integers(FIRST, LAST),
        DataType.BFLOAT16_VECTOR: st.binary(min_size=size, max_size=size),
        DataType.BINARY_VECTOR: st.binary(min_size=size, max_size=size),
    }[kind]


@st.composite
def fields(draw: st.DrawFn) -> Field:
    kind = draw(st.sampled_from(list(DataType)))
    element = draw(st.sampled_from(ELEMENTS)) if kind is DataType.ARRAY else None
    dim = draw(st.integers(1, 3)) * 8 if kind.is_vector else None
    return Field("value", kind, dim=dim, element=element, nullable=draw(st.booleans()))


@st.composite
def batches(draw: st.DrawFn) -> tuple[Field, pa.RecordBatch]:
    """Draw a batch of one field beside the key, cut out of a longer one."""
    field = draw(fields())
    value = values_of(field)
    cells = draw(st.lists(st.none() | value if field.nullable else value, min_size=1, max_size=12))
    ids = pa.array(draw(st.permutations(range(-2, len(cells) - 2))), pa.int64())
    batch = pa.RecordBatch.from_arrays([ids, pa.array(cells, arrow_type(field))], names=["id", "value"])
    start = draw(st.integers(0, len(cells) - 1))
    return field, batch.slice(start, draw(st.integers(1, len(cells) - start)))


def parsed(request: codec.Request) -> Any:
    return milvus_pb2.UpsertRequest.FromString(request.payload)


def same(left: pa.RecordBatch, right: pa.RecordBatch) -> bool:
    """Compare bit by bit: NaN is NaN and -0.0 is not 0.0, which Arrow's own comparison does not say."""
    return all(
        a.type == b.type and a.is_valid().equals(b.is_valid()) and repr(a.to_pylist()) == repr(b.to_pylist())
        for a, b in zip(left.columns, right.columns, strict=True)
    )


@given(batches())
@settings(max_examples=400)
def test_rows_come_back_bit_by_bit(drawn: tuple[Field, pa.RecordBatch]) -> None:
    field, batch = drawn
    collection = Collection("c", (KEY, field))
    (request,) = codec.encode(batch, collection, "p", LIMIT)
    message = parsed(request)
    assert (message.collection_name, message.partition_name) == ("c", "p")
    assert request.rows == message.num_rows == batch.num_rows
    assert same(decode(collection.fields, message.fields_data), batch)
    assert len(message.fields_data[1].valid_data) == (batch.num_rows if field.nullable else 0)


@given(batches())
@settings(max_examples=150)
def test_nulls_that_a_server_pads_come_back(drawn: tuple[Field, pa.RecordBatch]) -> None:
    field, batch = drawn
    column = batch.column(1)
    some = next((v for v in column.to_pylist() if v is not None), None)
    if some is None or not column.null_count:
        return
    padding = pa.array([some if v is None else v for v in column.to_pylist()], column.type)
    (request,) = codec.encode(batch.set_column(1, "value", padding), Collection("c", (KEY, field)), None, LIMIT)
    message = parsed(request)
    valid = column.is_valid().to_pylist()
    message.fields_data[1].valid_data[:] = valid
    assert same(decode((KEY, field), message.fields_data), batch)


@given(batches())
@settings(max_examples=400)
def test_dense_vectors_of_an_answer_stay_in_its_bytes(drawn: tuple[Field, pa.RecordBatch]) -> None:
    field, batch = drawn
    (request,) = codec.encode(batch, Collection("c", (KEY, field)), None, LIMIT)
    plain = milvus_pb2.QueryResults(collection_name="c", fields_data=parsed(request).fields_data, output_fields=["é"])
    plain.fields_data[1].field_id = 102
    payload = plain.SerializeToString()
    answer = answers.read(payload)
    assert same(decode((KEY, field), answer.fields_data, runs=answer.runs), batch)
    dense = field.type.is_vector and field.type is not DataType.SPARSE_FLOAT_VECTOR
    if batch.column(1).null_count == 0:
        assert list(answer.runs) == (["value"] if dense else [])
    assert all(run.obj is payload for run in answer.runs.values()), "nothing is copied"
    for name in answer.runs:
        assert name == "value"
        plain.fields_data[1].ClearField("vectors")
    assert answer.message == plain


def test_times_are_read_as_text_of_any_offset_and_as_numbers() -> None:
    field = Field("at", DataType.TIMESTAMPTZ, nullable=True)
    moment = pa.scalar(1_704_067_200_500_000, arrow_type(field)).as_py()
    ids = schema_pb2.FieldData(type=5, field_name="id")
    ids.scalars.long_data.data[:] = [1, 2, 3]
    texts = schema_pb2.FieldData(type=26, field_name="at", valid_data=[True, False, True])
    texts.scalars.string_data.data[:] = ["2024-01-01T00:00:00.5Z", "", "2024-01-01T08:00:00.500000+08:00"]
    assert decode((KEY, field), [ids, texts]).column(1).to_pylist() == [moment, None, moment]
    ids.scalars.long_data.data[:] = [1]
    numbers = schema_pb2.FieldData(type=26, field_name="at")
    numbers.scalars.timestamptz_data.data[:] = [1_704_067_200_500_000]
    assert decode((KEY, field), [ids, numbers]).column(1).to_pylist() == [moment]
    numbers.scalars.string_data.data[:] = ["noon"]
    with pytest.raises(TargetError, match="at that is no time"):
        decode((KEY, field), [ids, numbers])


def test_an_answer_that_is_none_says_so() -> None:
    refused = milvus_pb2.QueryResults(status=common_pb2.Status(code=101, reason="not loaded"))
    answer = answers.read(refused.SerializeToString())
    assert (answer.status.code, list(answer.fields_data), answer.runs) == (101, [], {})
    field = Field("value", DataType.FLOAT_VECTOR, dim=8)
    batch = pa.RecordBatch.from_arrays([pa.array([1]), pa.array([[0.5] * 8], arrow_type(field))], names=["id", "value"])
    (request,) = codec.encode(batch, Collection("c", (KEY, field)), None, LIMIT)
    payload = milvus_pb2.QueryResults(fields_data=parsed(request).fields_data).SerializeToString()
    with pytest.raises(ValueError, match="ends within a field"):
        answers.read(payload[:-3])
    with pytest.raises(ValueError, match="of kind 3"):
        answers.read(b"\x0b" + payload)


@pytest.mark.parametrize("element", ELEMENTS)
def test_an_empty_array_sets_its_leaf(element: DataType) -> None:
    field = Field("value", DataType.ARRAY, element=element)
    batch = pa.RecordBatch.from_arrays([pa.array([1, 2]), pa.array([[], []], arrow_type(field))], names=["id", "value"])
    (request,) = codec.encode(batch, Collection("c", (KEY, field)), None, LIMIT)
    cells = parsed(request).fields_data[1].scalars.array_data.data
    assert [cell.WhichOneof("data") for cell in cells] == [codec.SCALAR_SLOTS[element]] * 2


def test_a_null_becomes_the_default_and_a_column_that_is_missing_too() -> None:
    named = Field("name", DataType.VARCHAR, default="nobody")
    other = Field("n", DataType.INT8, default=-3)
    moment = Field("at", DataType.TIMESTAMPTZ, default="1970-01-01T00:00:00.000002Z")
    batch = pa.RecordBatch.from_arrays([pa.array([1, 2]), pa.array(["é", None])], names=["id", "name"])
    (request,) = codec.encode(batch, Collection("c", (KEY, named, other, moment)), None, LIMIT)
    message = parsed(request)
    rows = decode((KEY, named, other, moment), message.fields_data)
    assert rows.drop_columns(["at"]).to_pydict() == {"id": [1, 2], "name": ["é", "nobody"], "n": [-3, -3]}
    assert rows.column("at").view(pa.int64()).to_pylist() == [2, 2]
    assert [list(f.valid_data) for f in message.fields_data] == [[], *[[True, True]] * 3]


def test_the_dynamic_field_travels_as_its_own_bytes_and_is_never_null() -> None:
    collection = Collection("c", (KEY,), dynamic=True)
    meta = pa.array([b'{"b": 1e3, "a": 1}', None], pa.binary())
    batch = pa.RecordBatch.from_arrays([pa.array([1, 2]), meta], names=["id", DYNAMIC_FIELD])
    for rows, expected in ((batch, [b'{"b": 1e3, "a": 1}', b"{}"]), (batch.select(["id"]), [b"{}", b"{}"])):
        (request,) = codec.encode(rows, collection, None, LIMIT)
        message = parsed(request).fields_data[1]
        assert (message.field_name, message.is_dynamic, len(message.valid_data)) == (DYNAMIC_FIELD, True, 0)
        assert list(message.scalars.json_data.data) == expected


def test_a_key_that_the_server_makes_is_not_sent() -> None:
    collection = Collection("c", (Field("id", DataType.INT64, primary=True, auto_id=True), Field("n", DataType.INT8)))
    batch = pa.RecordBatch.from_arrays([pa.array([1, 2], pa.int8())], names=["n"])
    (request,) = codec.encode(batch, collection, None, LIMIT)
    assert [f.field_name for f in parsed(request).fields_data] == ["n"]


@given(st.lists(st.integers(0, 4_000), min_size=1, max_size=40), st.integers(4_200, 12_000))
@settings(max_examples=60)
def test_requests_stay_below_the_limit_and_keep_the_order(sizes: list[int], limit: int) -> None:
    text = Field("text", DataType.VARCHAR)
    collection = Collection("c", (KEY, text))
    batch = pa.RecordBatch.from_arrays(
        [pa.array(range(len(sizes)), pa.int64()), pa.array(["x" * size for size in sizes])],
        names=["id", "text"],
    )
    requests = codec.encode(batch, collection, None, limit)
    assert all(len(request.payload) <= limit for request in requests)
    parts = [decode(collection.fields, parsed(request).fields_data) for request in requests]
    assert [request.rows for request in requests] == [part.num_rows for part in parts]
    assert pa.Table.from_batches(parts).equals(pa.Table.from_batches([batch]))


def test_one_row_that_is_larger_than_a_request_is_named() -> None:
    collection = Collection("c", (KEY, Field("text", DataType.VARCHAR)))
    batch = pa.RecordBatch.from_arrays([pa.array([1]), pa.array(["x" * 5_000])], names=["id", "text"])
    with pytest.raises(TooLargeError, match="one row is 5,0"):
        codec.encode(batch, collection, None, 5_000)


@pytest.mark.parametrize(
    ("column", "what"),
    [
        (pa.array([1.5, None], pa.float32()), "takes no nulls: row 1"),
        (pa.array([1.5, 2.5], pa.float64()), "is double, and float needs float"),
        (None, "no column for the field value"),
    ],
)
def test_columns_that_do_not_fit_are_refused(column: pa.Array | None, what: str) -> None:
    columns = {"id": pa.array([1, 2])} | ({} if column is None else {"value": column})
    collection = Collection("c", (KEY, Field("value", DataType.FLOAT)))
    with pytest.raises(TargetError, match=what):
        codec.encode(pa.RecordBatch.from_pydict(columns), collection, None, LIMIT)


@pytest.mark.parametrize(
    ("field", "cells"),
    [
        (Field("value", DataType.ARRAY, element=DataType.INT32), [[1, None], [2]]),
        (Field("value", DataType.FLOAT_VECTOR, dim=2), [[1.0, None], [2.0, 3.0]]),
    ],
)
def test_nulls_inside_of_values_are_refused(field: Field, cells: list[Any]) -> None:
    batch = pa.RecordBatch.from_arrays([pa.array([1, 2]), pa.array(cells, arrow_type(field))], names=["id", "value"])
    with pytest.raises(TargetError, match="nulls"):
        codec.encode(batch, Collection("c", (KEY, field)), None, LIMIT)


def test_an_answer_that_lacks_values_is_refused() -> None:
    ids = schema_pb2.FieldData(field_name="id")
    ids.scalars.long_data.data.extend([1, 2, 3])
    short = schema_pb2.FieldData(field_name="value")
    short.scalars.float_data.data.extend([1.0, 2.0])
    fields_ = (KEY, Field("value", DataType.FLOAT))
    with pytest.raises(TargetError, match="2 values of value for 3 rows"):
        decode(fields_, [ids, short])
    with pytest.raises(TargetError, match="lacks the field value"):
        decode(fields_, [ids])


def test_an_empty_answer_is_an_empty_batch_of_the_right_types() -> None:
    rows = decode((KEY, Field("value", DataType.FLOAT_VECTOR, dim=4)), [])
    assert rows.num_rows == 0
    assert rows.schema.types == [pa.int64(), pa.list_(pa.float32(), 4)]
