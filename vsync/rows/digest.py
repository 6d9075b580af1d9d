"""Digests of rows: one for equal content, however it lies in memory."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import xxhash

from vsync.rows.buffers import byte_lengths, byte_offsets, byte_rows, list_parts, numbers, valid_mask
from vsync.rows.forms import arrow_type
from vsync.schema import DYNAMIC_FIELD, DataType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vsync.schema import Field


def digest(rows: pa.RecordBatch) -> str:
    """Give 128 bits of xxh3, as 32 hex digits, over each column's name, type, nulls and values, in order.

    Values count by their bits (-0.0 is not 0.0, a NaN's payload counts); what lies under a null does not.
    Slicing, offsets and capacity of buffers do not matter. Raises TypeError for types that rows never have.
    """
    state = xxhash.xxh3_128()
    for name, column in zip(rows.schema.names, rows.columns, strict=True):
        state.update(f"{name}\0{_type_name(column.type)}\0{len(column)}\0".encode())
        _update(state, column)
    return state.hexdigest()


def _type_name(kind: pa.DataType) -> str:
    """Name a type without the names of its children, which differ from writer to writer."""
    if pa.types.is_fixed_size_list(kind):
        return f"[{kind.list_size}]{_type_name(kind.value_type)}"
    if pa.types.is_list(kind):
        return f"[]{_type_name(kind.value_type)}"
    return str(kind)


def _update(state: xxhash.xxh3_128, array: pa.Array) -> None:
    kind = array.type
    state.update(b"\1" if array.null_count else b"\0")
    if array.null_count:
        state.update(np.packbits(valid_mask(array)).data)
        array = array.drop_null()
    if pa.types.is_fixed_size_list(kind):
        _update(state, list_parts(array)[1])
    elif pa.types.is_list(kind):
        offsets, child = list_parts(array)
        state.update(np.diff(offsets).data)
        _update(state, child)
    elif pa.types.is_string(kind) or pa.types.is_binary(kind):
        state.update(byte_lengths(array).data)
        offsets = byte_offsets(array)
        data = array.buffers()[2]
        if data is not None:
            state.update(data.slice(offsets[0], offsets[-1] - offsets[0]))
    elif pa.types.is_boolean(kind):
        state.update(np.packbits(array.to_numpy(zero_copy_only=False)).data)
    elif pa.types.is_primitive(kind) or pa.types.is_fixed_size_binary(kind):
        width = kind.bit_width // 8
        data = array.buffers()[1]
        if data is not None:
            state.update(data.slice(array.offset * width, len(array) * width))
    else:
        raise TypeError(f"rows hold no {kind}")


def row_digests(batch: pa.RecordBatch, fields: Sequence[Field]) -> NDArray[np.uint64]:
    """Give 64 bits of xxh3 for each row over these fields: equal for rows that a server takes for the same.

    Values count by their bits. A null in a field with a default is that default, JSON counts by its values (a server
    may write it anew), and no dynamic values are an empty object.
    """
    if not fields or not batch.num_rows:
        return np.zeros(batch.num_rows, np.uint64)
    cells = [_cells(batch.column(field.name), field) for field in fields]
    return _hashes(np.concatenate(cells, axis=1) if len(cells) > 1 else cells[0])


def _hashes(matrix: NDArray[np.uint8]) -> NDArray[np.uint64]:
    rows, width = matrix.shape
    view = memoryview(np.ascontiguousarray(matrix)).cast("B")
    starts = range(0, rows * width, width)
    digests = (xxhash.xxh3_64_intdigest(view[start : start + width]) for start in starts)
    return np.fromiter(digests, np.uint64, rows)


def _cells(column: pa.Array, field: Field) -> NDArray[np.uint8]:
    """Lay the values side by side in memory, a row each: those of fixed size as they are, others by a hash."""
    is_json = field.type is DataType.JSON
    if field.name == DYNAMIC_FIELD:
        column = column.fill_null(b"{}")
    elif field.default is not None and column.null_count and not is_json:
        column = column.fill_null(pa.scalar(field.default, arrow_type(field)))
    cells = _values(column.cast(pa.binary()) if pa.types.is_string(column.type) else column, is_json=is_json)
    if not field.nullable and not column.null_count:
        return cells
    valid = valid_mask(column)
    return np.concatenate([np.where(valid[:, None], cells, 0), valid[:, None].view(np.uint8)], axis=1)


def _values(column: pa.Array, *, is_json: bool) -> NDArray[np.uint8]:
    kind, rows = column.type, len(column)
    if pa.types.is_fixed_size_list(kind):
        return numbers(list_parts(column)[1]).reshape(rows, kind.list_size).view(np.uint8)
    if pa.types.is_fixed_size_binary(kind):
        return byte_rows(column)
    if pa.types.is_boolean(kind):
        return column.fill_null(value=False).to_numpy(zero_copy_only=False).astype(np.uint8)[:, None]
    if pa.types.is_primitive(kind):
        return np.ascontiguousarray(numbers(column)).view(np.uint8).reshape(rows, kind.bit_width // 8)
    if pa.types.is_list(kind):
        texts = (repr(value).encode() for value in _bits(column).to_pylist())  # not a vector: an ARRAY's scalars
    else:
        given = column.fill_null(b"").to_pylist()  # not a vector: text, JSON, or a sparse vector's bytes
        texts = (_canonical(text) for text in given) if is_json else iter(given)
    hashes = np.fromiter((xxhash.xxh3_64_intdigest(text) for text in texts), np.uint64, rows)
    return hashes.view(np.uint8).reshape(rows, 8)


def _bits(column: pa.Array) -> pa.Array:
    """View lists of floats as lists of integers: a NaN has no text that tells its bits."""
    wide = {pa.float32(): pa.int32(), pa.float64(): pa.int64()}.get(column.type.value_type)
    if wide is None:
        return column
    offsets, child = list_parts(column)
    ends = pa.array(offsets, pa.int32(), mask=np.append(~valid_mask(column), False))
    return pa.ListArray.from_arrays(ends, child.view(wide))


def _canonical(text: bytes) -> bytes:
    """Write JSON so that equal values are equal bytes; what is none stays as it is."""
    try:
        return json.dumps(json.loads(text), sort_keys=True).encode()
    except ValueError:
        return text
