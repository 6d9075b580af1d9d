"""Digests of rows: one for equal content, however it lies in memory."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from vsync.rows.buffers import Numbers, byte_lengths, byte_offsets, byte_rows, list_parts, numbers, valid_mask
from vsync.rows.forms import default_of
from vsync.rows.places import canonical_wkt
from vsync.schema import DYNAMIC_FIELD, DataType

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vsync.schema import Field

Digests = NDArray[np.uint64]

_NULL = np.uint64(0xA0761D6478BD642F)


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


def row_digests(batch: pa.RecordBatch, fields: Sequence[Field]) -> Digests:
    """Give 64 bits for each row over these fields: equal for rows that a server takes for the same."""
    return mixed(field_digests(batch, fields))


def field_digests(batch: pa.RecordBatch, fields: Sequence[Field]) -> Digests:
    """Give 64 bits for each value of these fields, a row each: equal for values that a server takes for the same.

    Values count by their bits, but for NaN in scalars, of which servers keep no more. A null in a field with a default
    is that default, JSON and geometry count by what they say (a server may write them anew), and no dynamic values are
    an empty object.
    """
    digests = np.empty((batch.num_rows, len(fields)), np.uint64)
    for place, field in enumerate(fields):
        digests[:, place] = _field_digests(batch.column(field.name), field)
    return digests


def mixed(digests: Digests) -> Digests:
    """Make one digest of each row of them; what differs in one field alone never gives the same."""
    made = np.zeros(len(digests), np.uint64)
    for column in digests.T:
        # The finalizer of splitmix64: every bit of what goes in changes half of those that come out.
        made = (made + np.uint64(0x9E3779B97F4A7C15)) ^ column
        made = (made ^ (made >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        made = (made ^ (made >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        made ^= made >> np.uint64(31)
    return made


def _field_digests(column: pa.Array, field: Field) -> Digests:
    if field.name == DYNAMIC_FIELD:
        column = column.fill_null(b"{}")
    elif field.default is not None and column.null_count:
        column = column.fill_null(default_of(field))
    if field.type is DataType.JSON:
        texts = column.fill_null(b"null").to_pylist()  # not a vector: JSON
        if field.name == DYNAMIC_FIELD:
            texts = [b"{}" if text in {b"", b"null"} else text for text in texts]
        digests = _hashed(map(_canonical, texts), len(column))
    elif field.type is DataType.GEOMETRY:
        texts = column.fill_null("").to_pylist()  # not a vector: well-known text
        digests = _hashed((canonical_wkt(text) for text in texts), len(column))
    else:
        digests = _value_digests(column)
    if column.null_count:
        digests[~valid_mask(column)] = _NULL
    return digests


def _value_digests(column: pa.Array) -> Digests:
    """Digest each value; what stands in a null's place is arbitrary."""
    kind, rows = column.type, len(column)
    if pa.types.is_fixed_size_list(kind):
        return _hashed(numbers(list_parts(column)[1]).reshape(rows, kind.list_size), rows)
    if pa.types.is_fixed_size_binary(kind):
        return _hashed(byte_rows(column), rows)
    if pa.types.is_boolean(kind):
        column = column.cast(pa.uint8())
    if pa.types.is_timestamp(kind):
        column = column.view(pa.int64())
    if pa.types.is_primitive(kind):
        return _one_nan(numbers(column)).view(f"u{column.type.bit_width // 8}").astype(np.uint64)
    if pa.types.is_list(kind):
        return _list_digests(*list_parts(column))
    texts = column.cast(pa.binary()).fill_null(b"")
    return _hashed(texts.to_pylist(), rows)  # not a vector: text, or a sparse vector's bytes


def _list_digests(offsets: NDArray[np.int64], child: pa.Array) -> Digests:
    if pa.types.is_string(child.type):
        ends = byte_offsets(child)
        lengths, data = byte_lengths(child), memoryview(child.buffers()[2] or b"")
        cells = (
            xxhash.xxh3_64_intdigest(data[ends[lo] : ends[hi]], seed=xxhash.xxh3_64_intdigest(lengths[lo:hi].tobytes()))
            for lo, hi in pairwise(offsets)
        )
        return np.fromiter(cells, np.uint64, len(offsets) - 1)
    flat = numbers(child.cast(pa.uint8())) if pa.types.is_boolean(child.type) else _one_nan(numbers(child))
    return _hashed((flat[lo:hi] for lo, hi in pairwise(offsets)), len(offsets) - 1)


def _one_nan(values: Numbers) -> Numbers:
    """Make all NaNs the same: Milvus 2.3.5 gives another one than it was given."""
    return np.where(np.isnan(values), values.dtype.type(np.nan), values) if values.dtype.kind == "f" else values


def _hashed(values: Iterable[Any], rows: int) -> Digests:
    return np.fromiter(map(xxhash.xxh3_64_intdigest, values), np.uint64, rows)


def _canonical(text: bytes) -> bytes:
    """Write JSON so that equal values are equal bytes; what is none stays as it is."""
    try:
        return json.dumps(json.loads(text), sort_keys=True).encode()
    except (ValueError, RecursionError):
        return text
