"""A file that vsync wrote: one partition of a collection, its rows in the order of their keys, read as they were."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pyarrow as pa

from vsync import schema_json
from vsync.connectors import columns as cols
from vsync.connectors.hdf5.layout import PLUGIN_HINT, VALID, can_unpack
from vsync.errors import SourceError
from vsync.rows import arrow_type
from vsync.schema import Collection, DataType

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from vsync.connectors.base import Key
    from vsync.schema import Field

FORMAT = "vsync_format_version"
FORMAT_VERSION = 1
MILVUSDM = "milvusdm"
CACHE_BYTES = 16 << 20

_DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError)


def names_of(collection: Collection, layout: str) -> dict[str, str]:
    """Give for each field that a layout has the path of its datasets."""
    if layout != MILVUSDM:
        return {f.name: f.name for f in collection.columns}
    vectors = [f.name for f in collection.fields if f.type.is_vector]
    return {collection.primary.name: "ids", **dict.fromkeys(vectors[:1], "embeddings")}


class KeptFile:
    """One file, opened; a :class:`vsync.connectors.runs.run.Run`. Raises SourceError where it is not whole."""

    removes = False

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        try:
            self._file = h5py.File(path, "r", locking="best-effort", rdcc_nbytes=CACHE_BYTES)
            self._read_attributes()
            self._file.visititems(self._unpackable)
        except _DAMAGE as error:
            raise self._damaged(error) from error
        self._ends: tuple[Key, Key] | None = None

    def _read_attributes(self) -> None:
        attributes = self._file.attrs
        if FORMAT not in attributes:
            hint = "move it away, or export into another folder"
            raise SourceError("is no file that vsync exported", where=str(self._path), hint=hint)
        version = int(attributes[FORMAT])
        if version != FORMAT_VERSION:
            what = f"is of format {version}, this vsync reads format {FORMAT_VERSION}"
            raise SourceError(what, where=str(self._path), hint="a newer vsync wrote it: use that")
        self.collection = schema_json.from_json(Collection, json.loads(attributes["collection"]))
        self.rows = int(attributes["rows"])
        self.fields: dict[str, Field] = {}
        self._paths = names_of(self.collection, str(attributes["layout"]))
        self.fields = {f.name: f for f in self.collection.columns if f.name in self._paths}

    def _unpackable(self, name: str, node: h5py.HLObject) -> None:
        """Have the filters of a dataset ready; raises SourceError where they are not installed."""
        if isinstance(node, h5py.Dataset) and not can_unpack(node):
            what = f"{name} is compressed by a filter that is not here"
            raise SourceError(what, where=str(self._path), hint=PLUGIN_HINT)

    @property
    def first(self) -> Key:
        """The lowest key."""
        return self._first_and_last()[0]

    @property
    def last(self) -> Key:
        """The highest key."""
        return self._first_and_last()[1]

    def _first_and_last(self) -> tuple[Key, Key]:
        if self._ends is None:
            self._ends = self.keys(0, 1)[0].as_py(), self.keys(self.rows - 1, self.rows)[0].as_py()
        return self._ends

    def keys(self, lo: int, hi: int) -> pa.Array:
        """Read keys."""
        return self.read(lo, hi, [self.collection.primary.name]).column(0)

    def read(self, lo: int, hi: int, fields: Sequence[str]) -> pa.RecordBatch:
        """Read rows."""
        if not self._file:
            raise SourceError("is closed", where=str(self._path))
        try:
            with self._lock:
                arrays = [self._column(self.fields[name], lo, hi) for name in fields]
        except _DAMAGE as error:
            raise self._damaged(error) from error
        return pa.RecordBatch.from_arrays(arrays, names=list(fields))

    def is_cut(self, field: str) -> bool:
        """Tell whether a text is laid down as offsets and bytes."""
        return isinstance(self._file[self._paths[field]], h5py.Group)

    def block_rows(self, field: str) -> int:
        """Tell how many rows of a field lie in one block of the file."""
        node = self._file[self._paths[field]]
        return int(node.chunks[0]) if isinstance(node, h5py.Dataset) and node.dtype.kind != "O" else 1

    def native(self, field: str) -> str:
        """Say in a word how a field is laid down."""
        node = self._file[self._paths[field]]
        plain = isinstance(node, h5py.Dataset) and node.dtype.kind != "O"
        return cols.shape(node) if plain else str(self.fields[field])

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _column(self, field: Field, lo: int, hi: int) -> pa.Array:
        path, kind = self._paths[field.name], arrow_type(field)
        valid = self._file[f"{VALID}/{path}"][lo:hi] if field.nullable and f"{VALID}/{path}" in self._file else None
        if field.type is DataType.ARRAY:
            ends = self._file[f"{path}/offsets"][lo : hi + 1]
            values = self._plain(f"{path}/values", kind.value_type, int(ends[0]), int(ends[-1]))
            offsets = pa.py_buffer((ends - ends[0]).astype(np.int32))
            array = pa.ListArray.from_buffers(kind, hi - lo, [None, offsets], children=[values])
        elif field.type is DataType.SPARSE_FLOAT_VECTOR:
            array = self._sparse(path, lo, hi)
        else:
            array = self._plain(path, kind, lo, hi)
        return array if valid is None else _masked(array, valid)

    def _plain(self, path: str, kind: pa.DataType, lo: int, hi: int) -> pa.Array:
        node = self._file[path]
        if pa.types.is_string(kind) or pa.types.is_binary(kind):
            return self._text(node, lo, hi).cast(kind)
        rows = np.ascontiguousarray(node[lo:hi])
        if pa.types.is_fixed_size_binary(kind):
            return pa.Array.from_buffers(kind, hi - lo, [None, pa.py_buffer(rows)])
        if pa.types.is_timestamp(kind):
            return cols.from_numpy(rows).view(kind)
        return cols.from_numpy(rows)

    @staticmethod
    def _text(node: h5py.Dataset | h5py.Group, lo: int, hi: int) -> pa.Array:
        if isinstance(node, h5py.Dataset):
            return pa.array(list(node[lo:hi]), pa.binary())
        ends = node["offsets"][lo : hi + 1]
        data = node["bytes"][int(ends[0]) : int(ends[-1])]
        offsets = pa.py_buffer((ends - ends[0]).astype(np.int32))
        return pa.Array.from_buffers(pa.binary(), hi - lo, [None, offsets, pa.py_buffer(np.ascontiguousarray(data))])

    def _sparse(self, path: str, lo: int, hi: int) -> pa.Array:
        ends = self._file[f"{path}/indptr"][lo : hi + 1]
        first, last = int(ends[0]), int(ends[-1])
        pairs = np.empty(last - first, np.dtype([("index", "<u4"), ("value", "<f4")]))
        pairs["index"] = self._file[f"{path}/indices"][first:last]
        pairs["value"] = self._file[f"{path}/data"][first:last]
        offsets = pa.py_buffer(((ends - first) * pairs.itemsize).astype(np.int32))
        return pa.Array.from_buffers(pa.binary(), hi - lo, [None, offsets, pa.py_buffer(pairs.view(np.uint8))])

    def _damaged(self, error: Exception) -> SourceError:
        hint = "the file is damaged: copy it again, or export it anew"
        return SourceError(f"cannot be read: {error}", where=str(self._path), hint=hint)


def _masked(array: pa.Array, valid: np.ndarray[Any, Any]) -> pa.Array:
    """Say which rows are null."""
    mask = pa.py_buffer(np.packbits(valid, bitorder="little"))
    children = [array.values] if pa.types.is_list(array.type) or pa.types.is_fixed_size_list(array.type) else []
    buffers = [mask, *array.buffers()[1 : array.type.num_buffers]]
    return pa.Array.from_buffers(array.type, len(array), buffers, children=children)
