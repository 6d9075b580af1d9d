"""Rows between Arrow and Milvus's wire form, by whole buffers: a vector never becomes a Python list.

A request is put together from buffers by protobuf's own rule (a tag, a length, the bytes), so that a vector
column is copied once, from Arrow into the request. Only floats, doubles and bools are packed runs of their
bytes; integers are varints, which protobuf's own classes write and read. Nulls are left out of a column and
told by ``valid_data``. The way back is ``decode``.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vsync.connectors.milvus.wire import milvus_pb2, schema_pb2
from vsync.errors import TargetError, TooLargeError
from vsync.rows import arrow_type, default_of
from vsync.schema import DYNAMIC_FIELD, META, Collection, DataType, Field

if TYPE_CHECKING:
    from collections.abc import Iterator

_T = DataType
NUMBERS = {
    _T.BOOL: 1,
    _T.INT8: 2,
    _T.INT16: 3,
    _T.INT32: 4,
    _T.INT64: 5,
    _T.FLOAT: 10,
    _T.DOUBLE: 11,
    _T.VARCHAR: 21,
    _T.ARRAY: 22,
    _T.JSON: 23,
    _T.GEOMETRY: 24,
    _T.TIMESTAMPTZ: 26,
    _T.BINARY_VECTOR: 100,
    _T.FLOAT_VECTOR: 101,
    _T.FLOAT16_VECTOR: 102,
    _T.BFLOAT16_VECTOR: 103,
    _T.SPARSE_FLOAT_VECTOR: 104,
    _T.INT8_VECTOR: 105,
}
"""The numbers of Milvus's own enum of types."""

SCALAR_SLOTS = {
    _T.BOOL: "bool_data",
    _T.INT8: "int_data",
    _T.INT16: "int_data",
    _T.INT32: "int_data",
    _T.INT64: "long_data",
    _T.FLOAT: "float_data",
    _T.DOUBLE: "double_data",
    _T.VARCHAR: "string_data",
    _T.JSON: "json_data",
    _T.GEOMETRY: "geometry_wkt_data",
    _T.TIMESTAMPTZ: "string_data",  # its own slot, of numbers, is what servers keep it in
}
"""Where ``ScalarField`` keeps each type."""

VECTOR_SLOTS = {
    _T.FLOAT_VECTOR: "float_vector",
    _T.BINARY_VECTOR: "binary_vector",
    _T.FLOAT16_VECTOR: "float16_vector",
    _T.BFLOAT16_VECTOR: "bfloat16_vector",
    _T.SPARSE_FLOAT_VECTOR: "sparse_float_vector",
    _T.INT8_VECTOR: "int8_vector",
}
"""Where ``VectorField`` keeps each type."""

MESSAGES = {
    "bool_data": schema_pb2.BoolArray,
    "int_data": schema_pb2.IntArray,
    "long_data": schema_pb2.LongArray,
    "float_data": schema_pb2.FloatArray,
    "double_data": schema_pb2.DoubleArray,
    "string_data": schema_pb2.StringArray,
    "json_data": schema_pb2.JSONArray,
    "geometry_wkt_data": schema_pb2.GeometryWktArray,
}
"""What stands in each slot."""

_PACKED = {_T.BOOL, _T.FLOAT, _T.DOUBLE}
_VARINT, _BYTES, _SPARSE_CELL = 7, 8, 2


def _numbers_of(message: Any) -> dict[str, int]:
    return {f.name: f.number for f in message.DESCRIPTOR.fields}


_FIELD, _SCALAR, _VECTOR = map(_numbers_of, (schema_pb2.FieldData, schema_pb2.ScalarField, schema_pb2.VectorField))
_REQUEST_FIELDS = _numbers_of(milvus_pb2.InsertRequest)["fields_data"]
_ARRAY_DATA = _numbers_of(schema_pb2.ArrayArray)["data"]


@dataclass(frozen=True, slots=True)
class Request:
    """A serialized InsertRequest or UpsertRequest (their fields have the same numbers), and its rows."""

    rows: int
    payload: bytes


def encode(batch: pa.RecordBatch, collection: Collection, partition: str | None, limit: int) -> list[Request]:
    """Turn rows into requests of at most ``limit`` bytes, in the rows' order.

    Raises :class:`TooLargeError` for one row that is larger, :class:`TargetError` for a column that is
    missing, of another type than the field, or holds nulls where the field does not.
    """
    requests: list[Request] = []
    for rows in _slices(batch, limit):
        payload = _encode_one(rows, collection, partition)
        if len(payload) <= limit:
            requests.append(Request(rows.num_rows, payload))
        elif rows.num_rows == 1:
            raise TooLargeError(f"one row is {len(payload):,} bytes: a request takes {limit:,}")
        else:
            for half in halves(rows):
                requests += encode(half, collection, partition, limit)
    return requests


def halves(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """Cut a batch of two rows or more in two."""
    middle = batch.num_rows // 2
    return batch.slice(0, middle), batch.slice(middle)


def _slices(batch: pa.RecordBatch, limit: int) -> Iterator[pa.RecordBatch]:
    pieces = max(1, -(-batch.nbytes // limit))
    size = max(1, -(-batch.num_rows // pieces))
    for start in range(0, batch.num_rows, size):
        yield batch.slice(start, size)


def _encode_one(batch: pa.RecordBatch, collection: Collection, partition: str | None) -> bytes:
    head = milvus_pb2.InsertRequest(
        collection_name=collection.name, partition_name=partition or "", num_rows=batch.num_rows
    )
    parts: list[Any] = [head.SerializeToString()]
    for field in wire_fields(collection):
        parts += delimited(_REQUEST_FIELDS, encode_field(field, _column(batch, field)))
    return b"".join(parts)


def wire_fields(collection: Collection) -> list[Field]:
    """List the fields whose values we send: all but a key that the server makes, and the dynamic field."""
    return [f for f in collection.columns if not f.auto_id]


def _column(batch: pa.RecordBatch, field: Field) -> pa.Array:
    expected = arrow_type(field)
    index = batch.schema.get_field_index(field.name)
    if index < 0:
        if not field.nullable and field.default is None:
            raise TargetError(f"the rows have no column for the field {field.name}")
        column = pa.nulls(batch.num_rows, expected)
    else:
        column = batch.column(index)
        if column.type != expected:
            raise TargetError(f"the column {field.name} is {column.type}, and {field} needs {expected}")
    if field.default is not None and column.null_count:
        column = pc.fill_null(column, default_of(field))
    if column.null_count and not field.nullable:
        row = pc.index(column.is_null(), True).as_py()
        raise TargetError(f"the field {field.name} takes no nulls: row {row} of the chunk is null")
    return column


def encode_field(field: Field, column: pa.Array) -> list[Any]:
    """Make the buffers of one FieldData message."""
    head = schema_pb2.FieldData(type=NUMBERS[field.type], field_name=field.name, is_dynamic=field.name == DYNAMIC_FIELD)
    parts: list[Any] = [head.SerializeToString()]
    if field.nullable or (field.default is not None and field is not META):
        valid = column.is_valid().to_numpy(zero_copy_only=False)
        parts += delimited(_FIELD["valid_data"], [_bytes_of(valid)])
    if column.null_count:
        column = column.drop_null()
    if field.type.is_vector:
        return parts + delimited(_FIELD["vectors"], _vectors(field, column))
    return parts + delimited(_FIELD["scalars"], _scalars(field, column))


def _scalars(field: Field, column: pa.Array) -> list[Any]:
    if field.type is DataType.ARRAY:
        return delimited(_SCALAR["array_data"], _arrays(field, column))
    if field.type in _PACKED:
        leaf = delimited(1, [_bytes_of(column.to_numpy(zero_copy_only=False))])
    else:
        if field.type is DataType.TIMESTAMPTZ:
            column = pc.strftime(column.cast(pa.timestamp("us")), "%Y-%m-%dT%H:%M:%SZ")
        cells = column.to_pylist()  # not a vector: scalars, which protobuf takes one by one
        leaf = [MESSAGES[SCALAR_SLOTS[field.type]](data=cells).SerializeToString()]
    return delimited(_SCALAR[SCALAR_SLOTS[field.type]], leaf)


def _arrays(field: Field, column: pa.Array) -> list[Any]:
    """Make an ArrayArray. Also an empty cell sets its leaf: Milvus 2.3 dies of one that does not."""
    assert field.element is not None
    slot, message = SCALAR_SLOTS[field.element], MESSAGES[SCALAR_SLOTS[field.element]]
    parts: list[Any] = [schema_pb2.ArrayArray(element_type=NUMBERS[field.element]).SerializeToString()]
    offsets = column.offsets.to_numpy()
    values = column.values.slice(int(offsets[0]), int(offsets[-1] - offsets[0]))
    if values.null_count:
        raise TargetError(f"the array {field.name} holds nulls: Milvus's arrays do not")
    ends = (offsets - offsets[0]).tolist()  # not a vector: where each cell begins
    if field.element in _PACKED:
        numbers = values.to_numpy(zero_copy_only=False)
        raw, width = _bytes_of(numbers), numbers.itemsize
        leaves = (delimited(1, [raw[a * width : b * width]]) if b > a else [] for a, b in pairwise(ends))
    else:
        cells = values.to_pylist()  # not a vector: elements, which protobuf takes one by one
        leaves = ([message(data=cells[a:b]).SerializeToString()] for a, b in pairwise(ends))
    for leaf in leaves:
        parts += delimited(_ARRAY_DATA, delimited(_SCALAR[slot], leaf))
    return parts


def _vectors(field: Field, column: pa.Array) -> list[Any]:
    slot = _VECTOR[VECTOR_SLOTS[field.type]]
    if field.type is DataType.SPARSE_FLOAT_VECTOR:
        cells = column.to_pylist()  # not a vector: the cells' bytes
        sparse = schema_pb2.SparseFloatArray(contents=cells, dim=_sparse_dim(cells))
        head = schema_pb2.VectorField(dim=sparse.dim)
        return [head.SerializeToString(), *delimited(slot, [sparse.SerializeToString()])]
    head = schema_pb2.VectorField(dim=field.dim)
    raw = _raw_vectors(field, column)
    leaf = delimited(1, [raw]) if field.type is DataType.FLOAT_VECTOR else [raw]
    return [head.SerializeToString(), *delimited(slot, leaf)]


def _raw_vectors(field: Field, column: pa.Array) -> memoryview:
    if pa.types.is_fixed_size_binary(column.type):
        width = column.type.byte_width
        start = column.offset * width
        return memoryview(column.buffers()[1])[start : start + len(column) * width]
    values = column.flatten()
    if values.null_count:
        raise TargetError(f"a vector of {field.name} holds nulls")
    return _bytes_of(values.to_numpy(zero_copy_only=False))


def _sparse_dim(cells: list[bytes]) -> int:
    """Milvus's form of a sparse vector is pairs of an uint32 position and a float32."""
    pairs = np.frombuffer(b"".join(cells), "<u4").reshape(-1, _SPARSE_CELL)
    return int(pairs[:, 0].max()) + 1 if len(pairs) else 0


def _bytes_of(values: Any) -> memoryview:
    """View a NumPy array as its bytes."""
    return np.ascontiguousarray(values).data.cast("B") if len(values) else memoryview(b"")


def delimited(number: int, parts: list[Any]) -> list[Any]:
    """Put a tag and a length before the buffers of a nested message, a string or a packed run."""
    return [_varint(number << 3 | 2) + _varint(sum(map(len, parts))), *parts]


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:  # noqa: PLR2004  # seven bits to a byte
        out.append(value & 127 | 128)
        value >>= _VARINT
    out.append(value)
    return bytes(out)
