"""Milvus's answers as Arrow: the way back of ``codec``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from vsync.connectors.milvus.codec import MESSAGES, SCALAR_SLOTS, VECTOR_SLOTS
from vsync.errors import TargetError
from vsync.rows import arrow_type
from vsync.schema import DYNAMIC_FIELD, DataType, Field

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_PACKED = {DataType.FLOAT: "<f4", DataType.DOUBLE: "<f8", DataType.BOOL: "?"}
_INTEGERS = {DataType.INT8: "i1", DataType.INT16: "i2", DataType.INT32: "i4", DataType.INT64: "i8"}


def decode(
    fields: Sequence[Field],
    answer: Iterable[Any],
    rows: int | None = None,
    *,
    runs: Mapping[str, memoryview] | None = None,
) -> pa.RecordBatch:
    """Turn the FieldData messages of an answer into a batch with these fields, in this order.

    ``runs`` are the values of those dense vectors that were cut out of the answer. ``rows`` is how many there are;
    without it, the primary key (which is never null) among the fields tells.
    """
    messages = {DYNAMIC_FIELD if message.is_dynamic else message.field_name: message for message in answer}
    if rows is None:
        key = next(f for f in fields if f.primary)
        found = messages.get(key.name)
        rows = 0 if found is None else len(getattr(found.scalars, SCALAR_SLOTS[key.type]).data)
    columns = [_decoded(field, messages.get(field.name), rows, (runs or {}).get(field.name)) for field in fields]
    return pa.RecordBatch.from_arrays(columns, names=[f.name for f in fields])


def _decoded(field: Field, message: Any, rows: int, run: memoryview | None) -> pa.Array:
    if message is None:
        if rows:
            raise TargetError(f"the server's answer lacks the field {field.name}")
        return pa.array([], arrow_type(field))
    values = _values(field, message, run)
    valid = np.fromiter(message.valid_data, "?", len(message.valid_data))
    if len(valid) == 0 or (valid.all() and len(valid) == rows):
        if len(values) != rows:
            raise TargetError(f"the server's answer has {len(values)} values of {field.name} for {rows} rows")
        return values
    # Some servers leave nulls out, others pad them: the length tells which.
    if len(values) == rows:
        places = np.arange(rows)
    elif len(values) == int(valid.sum()):
        places = np.maximum(np.cumsum(valid) - 1, 0)
    else:
        raise TargetError(f"the server's answer has {len(values)} values of {field.name} for {rows} rows")
    return values.take(pa.array(places, pa.int64(), mask=~valid))


def _values(field: Field, message: Any, run: memoryview | None = None) -> pa.Array:
    if field.type.is_vector:
        return _vectors(field, message.vectors, run)
    if field.type is DataType.ARRAY:
        return _arrays(field, message.scalars.array_data)
    if field.type is DataType.TIMESTAMPTZ:
        return _moments(field, message.scalars)
    return _leaf(field.type, getattr(message.scalars, SCALAR_SLOTS[field.type]))


def _leaf(kind: DataType, leaf: Any) -> pa.Array:
    if kind in _PACKED:
        return pa.array(np.frombuffer(_packed(leaf), _PACKED[kind]))
    if kind in _INTEGERS:
        return pa.array(np.fromiter(leaf.data, _INTEGERS[kind], len(leaf.data)))
    return pa.array(leaf.data, pa.binary() if kind is DataType.JSON else pa.string())


def _moments(field: Field, scalars: Any) -> pa.Array:
    """Read times as text, with whatever offset from UTC, or as microseconds; what is padded for a null is empty."""
    kind = arrow_type(field)
    if scalars.WhichOneof("data") == "timestamptz_data":
        return pa.array(np.fromiter(scalars.timestamptz_data.data, "i8")).view(kind)
    texts = pa.array([text or None for text in scalars.string_data.data], pa.string())
    try:
        return texts.cast(kind)
    except pa.ArrowInvalid as error:
        raise TargetError(f"the server's answer has a {field.name} that is no time: {error}") from error


def _packed(leaf: Any) -> memoryview:
    """Take the run out of a message with one packed field: behind its tag and its length."""
    raw = memoryview(leaf.SerializeToString())
    start = 1
    while start < len(raw) and raw[start] & 128:
        start += 1
    return raw[start + 1 :]


def _arrays(field: Field, message: Any) -> pa.Array:
    assert field.element is not None
    slot = SCALAR_SLOTS[field.element]
    merged = MESSAGES[slot]()
    data, merge, ends = merged.data, merged.MergeFrom, [0]
    for cell in message.data:  # protobuf appends them to each other faster than Python does
        merge(getattr(cell, slot))
        ends.append(len(data))
    offsets = pa.array(ends, pa.int32())
    return pa.ListArray.from_arrays(offsets, _leaf(field.element, merged), type=arrow_type(field))


def _vectors(field: Field, message: Any, run: memoryview | None) -> pa.Array:
    kind, leaf = arrow_type(field), getattr(message, VECTOR_SLOTS[field.type])
    if field.type is DataType.SPARSE_FLOAT_VECTOR:
        return pa.array(leaf.contents, kind)
    raw = run
    if raw is None:
        raw = _packed(leaf) if field.type is DataType.FLOAT_VECTOR else memoryview(leaf)
    if pa.types.is_fixed_size_binary(kind):
        buffers = [None, pa.py_buffer(raw)]
        return pa.FixedSizeBinaryArray.from_buffers(kind, len(raw) // kind.byte_width, buffers)
    values = pa.array(np.frombuffer(raw, kind.value_type.to_pandas_dtype()))
    return pa.FixedSizeListArray.from_arrays(values, type=kind)
