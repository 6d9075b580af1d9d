"""How vsync lays the rows of a collection down in HDF5, so that others can read and write such files: docs/export.md.

A field is a dataset of its name: numbers and bools of shape (n,), vectors of shape (n, dim), bfloat16 and binary ones
of shape (n, bytes) as uint8. Text and JSON are strings of variable length; where the file is compressed, or a text
holds a zero byte, a group of ``offsets`` (n + 1) and ``bytes``. An array is a group of ``offsets`` and ``values``, a
sparse vector one of ``indptr``, ``indices`` and ``data``. ``$valid/FIELD`` says which rows are not null.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pyarrow as pa

from vsync.connectors import columns as cols
from vsync.errors import ConflictError
from vsync.rows.sparse import PAIR
from vsync.schema import DataType

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from vsync.schema import Field

PLUGIN_HINT = "pip install 'vsync[hdf5plugin]'"
VALID = "$valid"
BLOCK_BYTES = 1 << 20
"""How large HDF5's own blocks are, about: what is read, unpacked and checked at once. No larger than what there is."""
LEAST_BYTES = 1 << 16
"""How large they are at least where it is not known how much there is: of texts, arrays and sparse vectors."""
MEAN_BYTES = 64
"""What a row of those is taken for, to tell."""

CACHE_BYTES = 16 << 20
"""How much of a compressed dataset is kept unpacked, per dataset."""

DAMAGE = (OSError, RuntimeError, KeyError, ValueError)
"""What h5py raises for a file that is damaged: it depends on where the damage is."""

_TEXT = {DataType.VARCHAR, DataType.JSON, DataType.GEOMETRY}


@dataclass(frozen=True, slots=True)
class Filters:
    """What HDF5 does to each block. ``cut``: text is laid down as offsets and bytes, which can be compressed."""

    options: Mapping[str, Any]
    cut: bool

    @staticmethod
    def of(compression: str) -> Filters:
        """Make the filters of a spec's word; raises ConflictError where hdf5plugin is needed and not installed."""
        if compression == "none":
            return Filters({}, cut=False)
        if compression == "gzip":
            return Filters({"compression": "gzip", "compression_opts": 4, "shuffle": True}, cut=True)
        try:
            plugin = import_module("hdf5plugin")
        except ImportError as error:
            what = f"compression: {compression} needs hdf5plugin, which is not installed"
            hint = f"{PLUGIN_HINT}, or write compression: gzip"
            raise ConflictError(what, hint=hint) from error
        made = plugin.Zstd() if compression == "zstd" else plugin.Bitshuffle(cname="lz4")
        return Filters(dict(made), cut=True)


def open_file(path: Path) -> h5py.File:
    """Open a file to be read; raises one of ``DAMAGE`` where it is not whole."""
    return h5py.File(path, "r", locking="best-effort", rdcc_nbytes=CACHE_BYTES)


def can_unpack(dataset: h5py.Dataset) -> bool:
    """Tell whether the filters of a dataset are here; those of hdf5plugin are, once it is imported."""
    if _lacks_filter(dataset) and find_spec("hdf5plugin"):
        import_module("hdf5plugin")
    return not _lacks_filter(dataset)


def _lacks_filter(dataset: h5py.Dataset) -> bool:
    made = dataset.id.get_create_plist()
    return not all(h5py.h5z.filter_avail(made.get_filter(i)[0]) for i in range(made.get_nfilters()))


class Columns:
    """The datasets of one field, written block by block."""

    def __init__(
        self, file: h5py.Group, name: str, field: Field, filters: Filters, *, rows: int, cut: bool = False
    ) -> None:
        """Begin; there will be at most so many ``rows``."""
        self._field, self._filters, self._rows, self._cut = field, filters, rows, cut or filters.cut
        self._file, self._name = file, name
        self._datasets: dict[str, h5py.Dataset] = {}

    def append(self, array: pa.Array) -> None:
        """Write the next rows."""
        if self._field.nullable:
            self._add(f"{VALID}/{self._name}", cols.to_numpy(array.is_valid()))
        kind = self._field.type
        if kind is DataType.ARRAY:
            self._list(array)
        elif kind is DataType.SPARSE_FLOAT_VECTOR:
            self._sparse(array)
        elif kind in _TEXT:
            self._text(self._name, array)
        else:
            self._add(self._name, plain_rows(array))

    def _list(self, array: pa.Array) -> None:
        values = array.flatten()
        self._offsets(self._name, "offsets", np.diff(_offsets(array)))
        if pa.types.is_string(array.type.value_type):
            self._text(f"{self._name}/values", values)
        else:
            self._add(f"{self._name}/values", plain_rows(values))

    def _sparse(self, array: pa.Array) -> None:
        lengths, data = cut_bytes(array)
        pairs = data.view(PAIR)
        self._offsets(self._name, "indptr", lengths // PAIR.itemsize)
        self._add(f"{self._name}/indices", pairs["index"])
        self._add(f"{self._name}/data", pairs["value"])

    def _text(self, name: str, array: pa.Array) -> None:
        lengths, data = cut_bytes(array)
        if self._cut:
            self._offsets(name, "offsets", lengths)
            self._add(f"{name}/bytes", data)
            return
        coded = array.fill_null("" if pa.types.is_string(array.type) else b"").cast(pa.binary())
        rows = coded.to_pylist()  # not a vector: text
        self._add(name, np.array(rows, dtype=object), h5py.string_dtype())

    def _offsets(self, name: str, word: str, lengths: np.ndarray[Any, Any]) -> None:
        """Write where each row ends; the first offset, zero, is written with the first rows."""
        path = f"{name}/{word}"
        last = int(self._datasets[path][-1]) if path in self._datasets else 0
        ends = last + np.cumsum(lengths, dtype=np.int64)
        self._add(path, ends if path in self._datasets else np.concatenate([[0], ends]).astype(np.int64))

    def _add(self, path: str, rows: np.ndarray[Any, Any], dtype: Any = None) -> None:
        dataset = self._datasets.get(path)
        if dataset is None:
            dataset = self._datasets[path] = self._create(path, rows, dtype or rows.dtype)
        at = dataset.shape[0]
        dataset.resize(at + len(rows), axis=0)
        if len(rows):
            dataset[at:] = rows

    def _create(self, path: str, rows: np.ndarray[Any, Any], dtype: Any) -> h5py.Dataset:
        size = max(1, int(rows.dtype.itemsize * np.prod(rows.shape[1:])))
        shape = (0, *rows.shape[1:])
        text = rows.dtype == object
        checks = {} if text else {"fletcher32": True, **self._filters.options}
        block = (max(1, self._block_bytes(path, size) // size), *rows.shape[1:])
        return self._file.create_dataset(path, shape, dtype, maxshape=(None, *rows.shape[1:]), chunks=block, **checks)

    def _block_bytes(self, path: str, size: int) -> int:
        """Tell how large blocks are of a dataset whose values are of this size."""
        group, _, name = path.rpartition("/")
        if group in {"", VALID} or name in {"offsets", "indptr"}:
            return min(BLOCK_BYTES, (self._rows + 1) * size)
        return min(BLOCK_BYTES, max(LEAST_BYTES, self._rows * MEAN_BYTES))


def plain_rows(array: pa.Array) -> np.ndarray[Any, Any]:
    """Give numbers, bools, moments or vectors as (n,) or (n, width); null is zero."""
    kind = array.type
    if pa.types.is_fixed_size_binary(kind):
        start = array.offset * kind.byte_width
        raw = np.frombuffer(array.buffers()[1], np.uint8)[start : start + len(array) * kind.byte_width]
        return _without_null(raw.reshape(len(array), kind.byte_width), array)
    if pa.types.is_fixed_size_list(kind):
        width = kind.list_size
        values = cols.to_numpy(array.values)[array.offset * width : (array.offset + len(array)) * width]
        return _without_null(values.reshape(len(array), width), array)
    if pa.types.is_timestamp(kind):
        array = array.view(pa.int64())
    return _without_null(cols.to_numpy(array), array)


def _without_null(rows: np.ndarray[Any, Any], array: pa.Array) -> np.ndarray[Any, Any]:
    """Put zeros where there is null: what lies under it is anybody's."""
    if array.null_count:
        rows = rows.copy()
        rows[~cols.to_numpy(array.is_valid())] = 0
    return rows


def _offsets(array: pa.Array) -> np.ndarray[Any, Any]:
    """Give where the rows of texts or lists begin and end; a null is empty."""
    if array.null_count:
        lengths = np.diff(np.frombuffer(array.buffers()[1], np.int32)[array.offset : array.offset + len(array) + 1])
        lengths = lengths * cols.to_numpy(array.is_valid())
        return np.concatenate([[0], np.cumsum(lengths)])
    if not len(array):
        return np.zeros(1, np.int32)
    return np.frombuffer(array.buffers()[1], np.int32)[array.offset : array.offset + len(array) + 1]


def cut_bytes(array: pa.Array) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Give the lengths of texts, and their bytes one after the other; a null is empty."""
    if array.null_count:
        array = array.fill_null("" if pa.types.is_string(array.type) else b"")
    if not len(array):
        return np.zeros(0, np.int64), np.zeros(0, np.uint8)
    offsets = _offsets(array)
    data = array.buffers()[2]
    raw = np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]] if data is not None else np.zeros(0, np.uint8)
    return np.diff(offsets).astype(np.int64), raw


def is_text(field: Field) -> bool:
    """Tell whether a field's rows, or what its arrays hold, are laid down as text."""
    return (field.element if field.type is DataType.ARRAY else field.type) in _TEXT


def has_zero(array: pa.Array) -> bool:
    """Tell whether a text of these rows, or of these arrays, holds a zero byte."""
    texts = array.flatten() if pa.types.is_list(array.type) else array
    _, data = cut_bytes(texts)
    return bool((data == 0).any())
