"""NumPy's ``.npy`` as a source: one column named ``array``; of a structured array one per field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from vsync.connectors import columns as cols
from vsync.connectors import files
from vsync.connectors.base import Bounds, Column, Description
from vsync.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ARRAY = "array"


def open_source(path: Path) -> NumpySource:
    """Map one array into memory; raises :class:`SourceError` where it is not one that can be read."""
    files.check_file(path)
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except (ValueError, OSError, EOFError) as error:
        raise SourceError(f"is not a whole .npy file: {error}", where=str(path), hint=_hint(path)) from error
    return NumpySource(path, array)


def _hint(path: Path) -> str:
    with path.open("rb") as file:
        magic = file.read(6)
    if magic.startswith(b"PK"):
        return "it is an .npz archive: save each array with numpy.save"
    if magic == b"\x93NUMPY":
        return "copy it again; arrays of Python objects are never read: save them as plain numbers or bytes"
    return "write it with numpy.save"


class NumpySource:
    """One mapped array; satisfies :class:`vsync.connectors.base.Source`."""

    def __init__(self, path: Path, array: np.ndarray[Any, Any]) -> None:
        self._path = path
        self._where = str(path)
        self._rows = len(array) if array.ndim else 0
        self._arrays: dict[str, np.ndarray[Any, Any]] | None = _fields(array)
        self._columns = tuple(_column(name, a) for name, a in self._arrays.items() if _type(a) is not None)
        if not self._columns:
            hint = "an array of shape (n,), (n, dim), or a structured one of shape (n,) is read"
            if array.ndim > 1 and array.dtype.kind == "b":
                hint += "; of bools, dim is a multiple of 8"
            raise SourceError(f"{cols.shape(array)} is not a column", where=self._where, hint=hint)

    def describe(self) -> Description:
        """Say what is there, from the header."""
        names = {c.name for c in self._columns}
        matrix = names == {ARRAY} and self._open()[ARRAY].ndim > 1
        return Description(
            locator=self._where,
            fingerprint=files.fingerprint(self._path, [f"{c.name} {c.native}" for c in self._columns]),
            rows=self._rows,
            nbytes=self._path.stat().st_size,
            columns=self._columns,
            layout="NumPy" if matrix else None,
            suggested={"vector": ARRAY} if matrix else {},
        )

    def cut(self, columns: Sequence[str], chunk_bytes: int) -> list[Bounds]:
        """Cut into equal ranges of rows."""
        chosen = cols.pick(self._columns, columns, self._where)
        return files.cut(self._rows, sum(c.row_bytes for c in chosen), chunk_bytes)

    def read(self, bounds: Bounds, columns: Sequence[str]) -> pa.RecordBatch:
        """Copy rows out of the mapping."""
        arrays = self._open()
        cols.pick(self._columns, columns, self._where)
        cols.check_bounds(bounds, self._rows, self._where)
        lo, hi = bounds.lo, bounds.hi
        rows = [cols.from_numpy(np.array(arrays[name][lo:hi], order="C")) for name in columns]
        return pa.RecordBatch.from_arrays(rows, names=list(columns))

    def close(self) -> None:
        """Let go of the mapping."""
        self._arrays = None

    def _open(self) -> dict[str, np.ndarray[Any, Any]]:
        if self._arrays is None:
            raise SourceError("is closed", where=self._where)
        return self._arrays


def _fields(array: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    if array.dtype.names is None:
        return {ARRAY: array}
    return {name: array[name] for name in array.dtype.names} if array.ndim == 1 else {}


def _type(array: np.ndarray[Any, Any]) -> pa.DataType | None:
    if array.ndim not in {1, 2}:
        return None
    return cols.arrow_type(array.dtype, array.shape[1] if array.ndim > 1 else None)


def _column(name: str, array: np.ndarray[Any, Any]) -> Column:
    kind = _type(array)
    return Column(name, kind, cols.shape(array), cols.row_bytes(kind, array.dtype.itemsize / 4))
