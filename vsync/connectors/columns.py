"""Columns of sources: from numpy arrays and other Arrow types to the Arrow form that ``read`` promises."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vsync.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vsync.connectors.base import Bounds, Column

BITS = 8
FLOATS = {2, 4, 8}
_MANY = 20


def pick(columns: Sequence[Column], names: Sequence[str], where: str) -> list[Column]:
    """Find columns by their names, in the order asked for; a :class:`SourceError` names what is near."""
    known = {c.name: c for c in columns}
    for name in names:
        if name not in known:
            raise SourceError(f"there is no column {name!r}", where=where, hint=near(name, known))
    return [known[name] for name in names]


def near(name: str, known: Iterable[str]) -> str:
    """Make the hint for a name that is not there: the nearest one that is, or those that there are."""
    names = list(known)
    if found := get_close_matches(name, names, n=1):
        return f"did you mean {found[0]!r}?"
    return f"there are {', '.join(names[:_MANY])}{', ...' if len(names) > _MANY else ''}" if names else "there are none"


def check_bounds(bounds: Bounds, rows: int, where: str) -> None:
    """Raise :class:`SourceError` where bounds reach beyond the rows."""
    if not 0 <= bounds.lo <= bounds.hi <= rows:
        raise SourceError(f"rows {bounds.lo} to {bounds.hi} were asked for, there are {rows}", where=where)


def arrow_type(dtype: np.dtype[Any], width: int | None = None) -> pa.DataType | None:
    """Give the Arrow type of an array's rows: of shape (n,), or of shape (n, width).

    A row of numbers is a fixed-size list; a row of uint8 is fixed-size binary of ``width`` bytes, and one of
    bools of ``width / 8`` bytes, packed with the first in the highest bit; ``S<n>`` is fixed-size binary.
    ``None``: such an array is not a column.
    """
    if width is not None:
        return _vector_type(dtype, width)
    kind: pa.DataType | None = None
    if dtype.kind == "S" and dtype.itemsize:
        kind = pa.binary(dtype.itemsize)
    elif dtype.kind == "U":
        kind = pa.utf8()
    elif dtype.kind == "M" and np.datetime_data(dtype)[0] in {"s", "ms", "us", "ns"}:
        kind = pa.timestamp(np.datetime_data(dtype)[0])
    elif dtype.kind in "biu" or (dtype.kind == "f" and dtype.itemsize in FLOATS):
        kind = pa.from_numpy_dtype(dtype.newbyteorder("="))
    return kind


def _vector_type(dtype: np.dtype[Any], width: int) -> pa.DataType | None:
    if dtype.kind == "b" and width and width % BITS == 0:
        return pa.binary(width // BITS)
    if dtype == np.uint8 and width:
        return pa.binary(width)
    value = arrow_type(dtype) if dtype.kind in "iuf" and width else None
    return None if value is None else pa.list_(value, width)


def from_numpy(array: np.ndarray[Any, Any], valid: np.ndarray[Any, Any] | None = None) -> pa.Array:
    """Turn an array of shape (n,) or (n, width) into what :func:`arrow_type` says, without a copy if it can.

    ``valid`` (bool, n) tells for rows of numbers which are not null.
    """
    kind = arrow_type(array.dtype, array.shape[1] if array.ndim > 1 else None)
    if kind is None:
        raise TypeError(f"{shape(array)} is not a column")
    rows = len(array)
    array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
    mask = None if valid is None else pa.py_buffer(np.packbits(valid, bitorder="little"))
    if pa.types.is_fixed_size_binary(kind):
        if array.dtype.kind == "b":
            array = np.packbits(array, axis=1)
        return pa.Array.from_buffers(kind, rows, [mask, pa.py_buffer(array)])
    if pa.types.is_fixed_size_list(kind):
        return pa.Array.from_buffers(kind, rows, [mask], children=[_numbers(kind.value_type, array)])
    if array.dtype.kind == "U":
        coded = [value.encode() for value in array.tolist()]  # not a vector: text
        return strings([len(value) for value in coded], b"".join(coded))
    return _numbers(kind, array)


def _numbers(kind: pa.DataType, array: np.ndarray[Any, Any]) -> pa.Array:
    """Wrap numbers in the array's order; ``pyarrow.array`` would import pandas for it, for half a second."""
    data = np.packbits(array, bitorder="little") if array.dtype.kind == "b" else array.view(np.uint8)
    return pa.Array.from_buffers(kind, array.size, [None, pa.py_buffer(data)])


def to_numpy(array: pa.Array) -> np.ndarray[Any, Any]:
    """Show the values of an array of numbers or bools, under nulls too; without pandas, likewise."""
    end = array.offset + len(array)
    data = array.buffers()[1]
    if pa.types.is_boolean(array.type):
        bits = np.frombuffer(data, np.uint8)
        return np.unpackbits(bits, bitorder="little")[array.offset : end].astype(bool)
    dtype = np.dtype(array.type.to_pandas_dtype())
    return np.frombuffer(data, dtype)[array.offset : end] if len(array) else np.empty(0, dtype)


def text(raw: np.ndarray[Any, Any]) -> pa.Array:
    """Turn fixed strings, as uint8 of shape (n, width), into UTF-8 without the zero bytes at their ends.

    Raises ``pyarrow.ArrowInvalid`` where they are not UTF-8.
    """
    width = raw.shape[1]
    used = raw != 0
    lengths = np.where(used.any(axis=1), width - used[:, ::-1].argmax(axis=1), 0)
    return strings(lengths, raw[np.arange(width) < lengths[:, None]])


def strings(lengths: Any, data: Any) -> pa.Array:
    """Cut UTF-8, one string after the other in a buffer, by the strings' lengths in bytes.

    Raises ``pyarrow.ArrowInvalid`` where one of them is not UTF-8.
    """
    offsets = np.zeros(len(lengths) + 1, dtype=np.int32)
    np.cumsum(lengths, out=offsets[1:])
    array = pa.StringArray.from_buffers(len(lengths), pa.py_buffer(offsets), pa.py_buffer(data))
    array.validate(full=True)
    return array


def shape(array: Any) -> str:
    """Render type and shape in numpy's words: ``float32 (400000, 50)``."""
    dtype = array.dtype.str.lstrip("<>|=") if array.dtype.kind in "SU" else array.dtype.newbyteorder("=")
    return f"{dtype} {tuple(array.shape)}"


def row_bytes(kind: pa.DataType, width: float = 32) -> float:
    """Give the size of one row in bytes as Arrow; ``width`` is the mean of what is not of a fixed size."""
    if pa.types.is_fixed_size_list(kind):
        return float(kind.list_size * row_bytes(kind.value_type, width))
    try:
        return float(kind.bit_width / BITS)
    except ValueError:
        return width + 4


def is_loose(kind: pa.DataType) -> bool:
    """Tell whether a row is of no fixed size."""
    return bool(pa.types.is_string(kind) or pa.types.is_binary(kind) or pa.types.is_list(kind))


def mean_bytes(array: pa.Array) -> float:
    """Give the size of one row of this array in bytes, from its values, not from how they lie in memory."""
    kind = array.type
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        return 4 + float((pc.sum(pc.binary_length(array)).as_py() or 0) / max(1, len(array)))
    if pa.types.is_list(kind):
        values = array.flatten()
        return 4 + len(values) / max(1, len(array)) * mean_bytes(values)
    return row_bytes(kind)


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Give the one type for all encodings of a type: large, view and dictionary ones become plain."""
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if pa.types.is_large_string(kind) or str(kind) == "string_view":
        return pa.utf8()
    if pa.types.is_large_binary(kind) or str(kind) == "binary_view":
        return pa.binary()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(plain_type(kind.value_type))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(plain_type(kind.value_type), kind.list_size)
    return kind


def plain(array: pa.Array) -> pa.Array:
    """Cast to :func:`plain_type`, values unchanged."""
    kind = plain_type(array.type)
    return array if array.type.equals(kind) else array.cast(kind)
