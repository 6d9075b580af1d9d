"""The Arrow form of each field type: what a column of rows looks like between a source and a target."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pyarrow as pa

from vsync import times
from vsync.schema import DataType, Field

if TYPE_CHECKING:
    from collections.abc import Sequence

SCALARS = {
    DataType.INT8: pa.int8(),
    DataType.INT16: pa.int16(),
    DataType.INT32: pa.int32(),
    DataType.INT64: pa.int64(),
    DataType.FLOAT: pa.float32(),
    DataType.DOUBLE: pa.float64(),
    DataType.BOOL: pa.bool_(),
    DataType.VARCHAR: pa.string(),
    DataType.JSON: pa.binary(),
    DataType.GEOMETRY: pa.string(),
    DataType.TIMESTAMPTZ: pa.timestamp("us", "UTC"),
    DataType.SPARSE_FLOAT_VECTOR: pa.binary(),
}

LISTED_VECTORS = {
    DataType.FLOAT_VECTOR: pa.float32(),
    DataType.FLOAT16_VECTOR: pa.float16(),
    DataType.INT8_VECTOR: pa.int8(),
}
"""Dense vectors that Arrow has an element type for."""

BYTE_VECTORS = (DataType.BFLOAT16_VECTOR, DataType.BINARY_VECTOR)
"""Dense vectors that are rows of bytes."""


def byte_width(field: Field) -> int:
    """Give the bytes of a bfloat16 or binary vector; raises ValueError where ``dim`` is not said."""
    if field.dim is None:
        raise ValueError(f"field {field.name} has no dim")
    return field.dim // 8 if field.type is DataType.BINARY_VECTOR else 2 * field.dim


def arrow_type(field: Field) -> pa.DataType:
    """Give the Arrow type that carries this field's rows.

    ``float_vector(d)``, ``float16_vector(d)``, ``int8_vector(d)``: fixed-size lists of ``d`` values.
    ``bfloat16_vector(d)``: ``2 * d`` bytes. ``binary_vector(d)``: ``d // 8`` bytes. JSON, the dynamic field
    and sparse vectors: binary, the server's bytes. Arrays: lists. Geometry: well-known text. Timestamptz:
    microseconds in UTC. The rest: their plain types. Raises
    ValueError where a vector has no ``dim`` or an array no ``element``.
    """
    if field.type in SCALARS:
        return SCALARS[field.type]
    if field.type in BYTE_VECTORS:
        return pa.binary(byte_width(field))
    if field.type is DataType.ARRAY:
        return pa.list_(arrow_type(element_of(field)))
    if field.dim is None:
        raise ValueError(f"field {field.name} has no dim")
    return pa.list_(LISTED_VECTORS[field.type], field.dim)


def default_of(field: Field) -> pa.Scalar:
    """Give a field's default in its Arrow form; that of a timestamptz is written as text."""
    value = field.default
    if field.type is DataType.TIMESTAMPTZ:
        value = times.micros_of(value)
    elif field.type is DataType.JSON and not isinstance(value, bytes):
        value = json.dumps(value).encode()
    return pa.scalar(value, arrow_type(field))


def element_of(field: Field) -> Field:
    """Give an array's element as a field of its own; raises ValueError where ``element`` is not said."""
    if field.element is None:
        raise ValueError(f"array field {field.name} has no element type")
    return Field(field.name, field.element, max_length=field.max_length)


def arrow_schema(fields: Sequence[Field]) -> pa.Schema:
    """Give the schema of a batch of these fields, in their order; nullability is the field's, not Arrow's."""
    return pa.schema([(f.name, arrow_type(f)) for f in fields])
