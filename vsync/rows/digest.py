"""Digests of rows: one for equal content, however it lies in memory."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import xxhash

from vsync.rows.buffers import byte_lengths, byte_offsets, list_parts, valid_mask


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
