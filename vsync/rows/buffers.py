"""Arrow's buffers as NumPy arrays and back, without a copy: what casts, checks and digests stand on.

Everything here minds slices: an array that starts in the middle of its buffers is read from there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Numbers = NDArray[Any]
Mask = NDArray[np.bool_]


def dtype_of(kind: pa.DataType) -> np.dtype[Any]:
    """Give the NumPy type of a fixed-width number."""
    dtype: np.dtype[Any] = np.dtype(kind.to_pandas_dtype())
    return dtype


def numbers(array: pa.Array) -> Numbers:
    """View the values of integers or floats; what stands in a null's place is arbitrary."""
    return _view(array, dtype_of(array.type))


def byte_rows(array: pa.Array) -> NDArray[np.uint8]:
    """View fixed-size binary as a matrix of bytes, one row each."""
    width = array.type.byte_width
    return _view(array, np.dtype((np.void, width))).view(np.uint8).reshape(len(array), width)


def _view(array: pa.Array, dtype: np.dtype[Any]) -> Numbers:
    buffer = array.buffers()[1]
    if len(array) == 0 or buffer is None:
        return np.zeros(len(array), dtype)
    view: Numbers = np.frombuffer(buffer, dtype, count=len(array), offset=array.offset * dtype.itemsize)
    return view


def valid_mask(array: pa.Array) -> Mask:
    """Give a mask of the values that are not null."""
    if array.null_count == 0:
        return np.ones(len(array), np.bool_)
    mask: Mask = array.is_valid().to_numpy(zero_copy_only=False)
    return mask


def validity(array: pa.Array) -> pa.Buffer | None:
    """Give the bitmap of the values that are not null, from bit 0 on; ``None`` where none is null."""
    if array.null_count == 0:
        return None
    return pa.py_buffer(np.packbits(valid_mask(array), bitorder="little"))


def from_numbers(kind: pa.DataType, values: Numbers, like: pa.Array) -> pa.Array:
    """Make an array of a fixed-width type over these values, null where ``like`` is."""
    buffers = [validity(like), pa.py_buffer(np.ascontiguousarray(values))]
    return pa.Array.from_buffers(kind, len(like), buffers)


def from_rows(kind: pa.DataType, values: Numbers, like: pa.Array) -> pa.Array:
    """Make fixed-size lists over ``len(like) * size`` values, null where ``like`` is."""
    child = pa.Array.from_buffers(kind.value_type, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))])
    return pa.Array.from_buffers(kind, len(like), [validity(like)], children=[child])


def from_lists(kind: pa.DataType, offsets: NDArray[np.int64], data: pa.Array, like: pa.Array) -> pa.Array:
    """Make lists over ``data`` (offsets from 0 on), null where ``like`` is."""
    small = pa.py_buffer(offsets.astype(np.int32))
    return pa.Array.from_buffers(kind, len(like), [validity(like), small], children=[data])


def from_bytes(kind: pa.DataType, offsets: NDArray[np.int64], data: Numbers | bytes, like: pa.Array) -> pa.Array:
    """Make binary or string over ``data`` (offsets from 0 on), null where ``like`` is."""
    small = pa.py_buffer(offsets.astype(np.int32))
    return pa.Array.from_buffers(kind, len(like), [validity(like), small, pa.py_buffer(data)])


def is_any_list(kind: pa.DataType) -> bool:
    """Tell whether it is one of Arrow's lists (maps are none)."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def list_parts(array: pa.Array) -> tuple[NDArray[np.int64], pa.Array]:
    """Split lists of any kind into offsets from 0 on (one more than rows) and the elements they point into.

    The range of a null row may hold elements.
    """
    if pa.types.is_fixed_size_list(array.type):
        size = array.type.list_size
        child = array.values.slice(array.offset * size, len(array) * size)
        return np.arange(len(array) + 1, dtype=np.int64) * size, child
    offsets = array.offsets.to_numpy().astype(np.int64)
    return offsets - offsets[0], array.values.slice(offsets[0], offsets[-1] - offsets[0])


def byte_lengths(array: pa.Array) -> NDArray[np.int64]:
    """Give the length in bytes of each string or binary value; a null's is arbitrary."""
    return np.diff(byte_offsets(array))


def byte_offsets(array: pa.Array) -> NDArray[np.int64]:
    """Give where each string or binary value starts in the data buffer, and where the last one ends."""
    if len(array) == 0:
        return np.zeros(1, np.int64)
    wide = pa.types.is_large_string(array.type) or pa.types.is_large_binary(array.type)
    dtype = np.dtype(np.int64 if wide else np.int32)
    start = array.offset * dtype.itemsize
    offsets = np.frombuffer(array.buffers()[1], dtype, count=len(array) + 1, offset=start)
    return offsets.astype(np.int64)


def rows_holding(mask: Mask, offsets: NDArray[np.int64]) -> Mask:
    """Turn a mask of elements into one of the rows (``offsets`` from 0 on) that hold a true one."""
    rows = np.zeros(len(offsets) - 1, np.bool_)
    rows[np.searchsorted(offsets, np.flatnonzero(mask), side="right") - 1] = True
    return rows


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Give the plain type behind a dictionary, an extension, or a large or viewed string."""
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    return kind


def plain(array: pa.Array) -> pa.Array:
    """Give the array with its plain type; raises pyarrow.ArrowInvalid for a string that is not UTF-8."""
    if isinstance(array, pa.ExtensionArray):
        return plain(array.storage)
    if isinstance(array, pa.DictionaryArray):
        return plain(array.dictionary_decode())
    target = plain_type(array.type)
    if target == array.type:
        return array
    unchecked = pa.binary() if pa.types.is_large_string(array.type) else target
    source = array.view(pa.large_binary()) if pa.types.is_large_string(array.type) else array
    return source.cast(unchecked).view(target)
