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
from vsync.connectors.hdf5.layout import DAMAGE, PLUGIN_HINT, VALID, can_unpack, open_file
from vsync.errors import SourceError
from vsync.rows import arrow_type
from vsync.rows.sparse import PAIR
from vsync.schema import Collection, DataType

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from vsync.connectors.base import Key
    from vsync.schema import Field

FORMAT = "vsync_format_version"
FORMAT_VERSION = 1
MILVUSDM = "milvusdm"

_DAMAGE = (*DAMAGE, TypeError)


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
            self._file = open_file(path)
            self._read_attributes()
            self._file.visititems(self._unpackable)
            self._check_lengths()
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
        self.rows, self.partition = int(attributes["rows"]), str(attributes["partition"])
        self._paths = names_of(self.collection, str(attributes["layout"]))
        self.fields: dict[str, Field] = {f.name: f for f in self.collection.columns if f.name in self._paths}

    def _check_lengths(self) -> None:
        """Raise ValueError where a field does not have as many rows as the file says."""
        for path in self._paths.values():
            node = self._file[path]
            one_more = isinstance(node, h5py.Group)
            rows = node.get("offsets", node.get("indptr")) if one_more else node
            valid = self._file.get(f"{VALID}/{path}")
            found = {len(rows) - one_more, self.rows if valid is None else len(valid)}
            if found != {self.rows}:
                raise ValueError(f"the attribute rows is {self.rows}, and {path} has {(found - {self.rows}).pop()}")

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
        if field.type is DataType.ARRAY:
            ends = self._offsets(f"{path}/offsets", lo, hi)
            values = self._plain(f"{path}/values", kind.value_type, int(ends[0]), int(ends[-1]))
            array = pa.ListArray.from_buffers(kind, hi - lo, [None, _from_zero(ends)], children=[values])
        elif field.type is DataType.SPARSE_FLOAT_VECTOR:
            array = self._sparse(path, lo, hi)
        else:
            array = self._plain(path, kind, lo, hi)
        nulls = f"{VALID}/{path}"
        return _masked(array, self._rows(nulls, lo, hi)) if field.nullable and nulls in self._file else array

    def _plain(self, path: str, kind: pa.DataType, lo: int, hi: int) -> pa.Array:
        if pa.types.is_string(kind) or pa.types.is_binary(kind):
            return self._text(path, lo, hi).cast(kind)
        array = cols.from_numpy(self._rows(path, lo, hi))
        if pa.types.is_timestamp(kind) and pa.types.is_int64(array.type):
            return array.view(kind)
        if array.type != kind:
            raise ValueError(f"{path} is {cols.shape(self._file[path])}, and its field is {kind}")
        return array

    def _text(self, path: str, lo: int, hi: int) -> pa.Array:
        if isinstance(self._file[path], h5py.Dataset):
            return pa.array(list(self._rows(path, lo, hi)), pa.binary())
        ends = self._offsets(f"{path}/offsets", lo, hi)
        data = np.ascontiguousarray(self._rows(f"{path}/bytes", int(ends[0]), int(ends[-1])), np.uint8)
        return pa.Array.from_buffers(pa.binary(), hi - lo, [None, _from_zero(ends), pa.py_buffer(data)])

    def _sparse(self, path: str, lo: int, hi: int) -> pa.Array:
        ends = self._offsets(f"{path}/indptr", lo, hi)
        first, last = int(ends[0]), int(ends[-1])
        pairs = np.empty(last - first, PAIR)
        pairs["index"] = self._rows(f"{path}/indices", first, last)
        pairs["value"] = self._rows(f"{path}/data", first, last)
        buffers = [None, _from_zero(ends * pairs.itemsize), pa.py_buffer(pairs.view(np.uint8))]
        return pa.Array.from_buffers(pa.binary(), hi - lo, buffers)

    def _rows(self, path: str, lo: int, hi: int) -> np.ndarray[Any, Any]:
        rows: np.ndarray[Any, Any] = self._file[path][lo:hi]
        if len(rows) != hi - lo:
            raise ValueError(f"{path} holds {len(self._file[path])} values, and {hi} are asked for")
        return rows

    def _offsets(self, path: str, lo: int, hi: int) -> np.ndarray[Any, Any]:
        ends = self._rows(path, lo, hi + 1).astype(np.int64)
        if ends[0] < 0 or (np.diff(ends) < 0).any():
            raise ValueError(f"{path} does not ascend")
        return ends

    def _damaged(self, error: Exception) -> SourceError:
        hint = "the file is damaged: copy it again, or export it anew"
        return SourceError(f"cannot be read: {error}", where=str(self._path), hint=hint)


def _from_zero(ends: np.ndarray[Any, Any]) -> pa.Buffer:
    """Give offsets as Arrow has them, from zero on."""
    return pa.py_buffer((ends - ends[0]).astype(np.int32))


def _masked(array: pa.Array, valid: np.ndarray[Any, Any]) -> pa.Array:
    """Say which rows are null."""
    mask = pa.py_buffer(np.packbits(valid, bitorder="little"))
    children = [array.values] if pa.types.is_list(array.type) or pa.types.is_fixed_size_list(array.type) else []
    buffers = [mask, *array.buffers()[1 : array.type.num_buffers]]
    return pa.Array.from_buffers(array.type, len(array), buffers, children=children)
