"""The field that holds a column, where the spec does not say one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from vsync.rows.buffers import is_any_list, plain_type
from vsync.rows.scalars import integer_behind, is_number
from vsync.rows.text import is_jsonable, is_nested
from vsync.schema import KEY_TYPES, MAX_CAPACITY, MAX_LENGTH, DataType, Field

if TYPE_CHECKING:
    from vsync.connectors.base import Column

# The narrowest type that holds every value; uint64 has none, and is checked row by row.
NUMBERS = {
    pa.int8(): DataType.INT8,
    pa.int16(): DataType.INT16,
    pa.int32(): DataType.INT32,
    pa.int64(): DataType.INT64,
    pa.uint8(): DataType.INT16,
    pa.uint16(): DataType.INT32,
    pa.uint32(): DataType.INT64,
    pa.uint64(): DataType.INT64,
    pa.float16(): DataType.FLOAT,
    pa.float32(): DataType.FLOAT,
    pa.float64(): DataType.DOUBLE,
    pa.bool_(): DataType.BOOL,
}


def infer_field(column: Column, name: str, *, primary: bool = False) -> Field | None:
    """Give the field type that holds this column, ``None`` where none does.

    A primary key is int64 or varchar. Fixed-size lists of numbers are float vectors, fixed-size bytes and
    fixed-size lists of booleans binary vectors, lists arrays, structs, maps and lists of lists JSON, times
    integers in their unit; what holds nulls is nullable. A column that was a field of a Milvus is one again.
    """
    kind = plain_type(column.type)
    was = column.field
    if was is not None and (not primary or was.type in KEY_TYPES):
        texts = DataType.VARCHAR in {was.type, was.element}
        length = MAX_LENGTH if texts and was.max_length is None else was.max_length  # Milvus Lite forgets some
        return replace(was, name=name, primary=primary, max_length=length)
    if primary:
        return _primary(kind, name)
    made = _value(kind, name)
    return replace(made, nullable=True) if made and column.nulls and not made.type.is_vector else made


def _value(kind: pa.DataType, name: str) -> Field | None:
    if pa.types.is_fixed_size_list(kind):
        return _vector(kind, name)
    if pa.types.is_fixed_size_binary(kind):
        return Field(name, DataType.BINARY_VECTOR, dim=kind.byte_width * 8) if kind.byte_width else None
    scalar = _scalar(kind)
    if scalar is not None:
        return Field(name, scalar, max_length=MAX_LENGTH if scalar is DataType.VARCHAR else None)
    if is_any_list(kind):
        element = _scalar(plain_type(kind.value_type))
        if element is not None:
            length = MAX_LENGTH if element is DataType.VARCHAR else None
            return Field(name, DataType.ARRAY, element=element, max_capacity=MAX_CAPACITY, max_length=length)
    return Field(name, DataType.JSON) if is_nested(kind) and is_jsonable(kind) else None


def _primary(kind: pa.DataType, name: str) -> Field | None:
    if pa.types.is_integer(kind):
        return Field(name, DataType.INT64, primary=True)
    if pa.types.is_string(kind):
        return Field(name, DataType.VARCHAR, primary=True, max_length=MAX_LENGTH)
    return None


def _vector(kind: pa.DataType, name: str) -> Field | None:
    element = plain_type(kind.value_type)
    if is_number(element) and kind.list_size:
        return Field(name, DataType.FLOAT_VECTOR, dim=kind.list_size)
    if pa.types.is_boolean(element) and kind.list_size and kind.list_size % 8 == 0:
        return Field(name, DataType.BINARY_VECTOR, dim=kind.list_size)
    return None


def _scalar(kind: pa.DataType) -> DataType | None:
    if pa.types.is_string(kind):
        return DataType.VARCHAR
    if pa.types.is_decimal(kind):
        return DataType.DOUBLE
    behind = integer_behind(kind)
    return NUMBERS.get(behind if behind is not None else kind)
