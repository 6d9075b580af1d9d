"""HDF5 as a source: every dataset of one or two dimensions is a column named by its path in the file."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pyarrow as pa

from vsync.connectors import columns as cols
from vsync.connectors import files
from vsync.connectors.base import Bounds, Column, Description
from vsync.connectors.hdf5.exported import ExportedSource, is_exported
from vsync.connectors.hdf5.layout import DAMAGE, PLUGIN_HINT, can_unpack, open_file
from vsync.errors import SourceError
from vsync.schema import NAME

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from vsync.connectors.base import Source

SAMPLE_ROWS = 256
"""Of strings of variable length, to tell their mean."""
LAYOUTS: Mapping[str, tuple[str, str, tuple[str, ...]]] = {
    "ann-benchmarks": ("train", "vector", ("test", "neighbors", "distances")),
    "MilvusDM": ("embeddings", "embedding", ("ids",)),
}
"""Known forms: the main dataset, the field it is suggested for, and what else belongs to the form."""


@dataclass(frozen=True, slots=True)
class _Set:
    """A dataset that is a column. ``raw``: this many bytes a row are taken as they lie in the file."""

    dataset: h5py.Dataset
    column: Column
    rows: int
    raw: int | None


def open_source(path: Path) -> Source:
    """Open a file and read its headers; raises :class:`SourceError` where it is not HDF5, or not whole."""
    files.check_file(path)
    try:
        if not h5py.is_hdf5(path):
            raise SourceError("is not an HDF5 file", where=str(path), hint="is it whole, and of this kind?")
        file = open_file(path)
    except DAMAGE as error:
        raise _damaged(str(path), error) from error
    try:
        if is_exported(file):
            file.close()
            return ExportedSource(path)
        return Hdf5Source(path, file)
    except DAMAGE as error:
        file.close()
        raise _damaged(str(path), error) from error


class Hdf5Source:
    """One file; satisfies :class:`vsync.connectors.base.Source`. HDF5 lets in one thread at a time."""

    def __init__(self, path: Path, file: h5py.File) -> None:
        self._path = path
        self._where = str(path)
        self._file = file
        self._sets: dict[str, _Set] = {}
        self._others: dict[str, str] = {}
        file.visititems(self._visit)
        self._columns = tuple(s.column for s in self._sets.values())
        if not self._sets:
            hint = "a column is a dataset of shape (n,) or (n, dim) of numbers, bools or strings"
            raise SourceError("holds no dataset that is a column", where=self._where, hint=hint)

    def describe(self) -> Description:
        """Say what is there, from headers; the length of each dataset is in its column's ``native``."""
        layout, suggested, main = self._layout()
        try:
            parts = [p for s in self._sets.values() for p in _parts(s.dataset, self._path)]
            shapes = [f"{c.name} {c.native}" for c in self._columns]
            shapes += [files.fingerprint(p).content for p in sorted(set(parts)) if p.is_file()]
            return Description(
                locator=self._where,
                fingerprint=files.fingerprint(self._path, shapes),
                rows=self._sets[main].rows,
                nbytes=self._path.stat().st_size,
                columns=self._columns,
                layout=layout,
                suggested=suggested,
            )
        except DAMAGE as error:
            raise _damaged(self._where, error) from error

    def cut(self, columns: Sequence[str], chunk_bytes: int) -> list[Bounds]:
        """Cut along the blocks of compressed datasets; what was never written is refused."""
        chosen, rows = self._choose(columns)
        for one in chosen:
            self._check(one)
        packed = [s for s in chosen if s.dataset.chunks and s.dataset.id.get_create_plist().get_nfilters()]
        largest = max(packed, key=lambda s: s.column.row_bytes, default=None)
        whole = largest.dataset.chunks[0] if largest else 1
        return files.cut(rows, sum(s.column.row_bytes for s in chosen), chunk_bytes, whole=whole)

    def read(self, bounds: Bounds, columns: Sequence[str]) -> pa.RecordBatch:
        """Read a range of rows of each column."""
        chosen, rows = self._choose(columns)
        cols.check_bounds(bounds, rows, self._where)
        return pa.RecordBatch.from_arrays([self._rows(s, bounds.lo, bounds.hi) for s in chosen], names=list(columns))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _visit(self, name: str, node: h5py.HLObject) -> None:
        if not isinstance(node, h5py.Dataset):
            return
        found = _set(name, node)
        if found is None:
            self._others[name] = "of no shape" if node.shape is None else cols.shape(node)
        else:
            self._sets[name] = found

    def _layout(self) -> tuple[str | None, Mapping[str, str], str]:
        """Recognise a form: its name, its map, and the dataset whose length is the file's."""
        for layout, (main, field, more) in LAYOUTS.items():
            if main in self._sets and self._sets[main].dataset.ndim + (self._sets[main].raw is not None) > 1:
                rows = self._sets[main].rows
                if layout == "ann-benchmarks":
                    return layout, {field: main}, main
                same = {n: n for n, s in self._sets.items() if s.rows == rows and NAME.match(n)}
                ids = {"id": "ids"} if "ids" in same else {}
                rest = {n: n for n in same if n not in {main, *more}}
                return layout, {**ids, field: main, **rest}, main
            if main in self._others:
                self._choose([main])
        count = Counter(s.rows for s in self._sets.values())
        rows = max(count, key=lambda n: (count[n], n))
        return None, {}, next(n for n, s in self._sets.items() if s.rows == rows)

    def _choose(self, names: Sequence[str]) -> tuple[list[_Set], int]:
        """Find datasets by name and their one length; where they differ, all are named with theirs."""
        if not self._file:
            raise SourceError("is closed", where=self._where)
        for name in set(names) & set(self._others):
            what = f"the dataset {name!r} is {self._others[name]}: it cannot be a column"
            hint = "a column is of shape (n,) or (n, dim), of numbers, bools (dim a multiple of 8) or strings"
            raise SourceError(what, where=self._where, hint=hint)
        chosen = [self._sets[c.name] for c in cols.pick(self._columns, names, self._where)]
        if len({s.rows for s in chosen}) > 1:
            each = ", ".join(f"{s.column.name} has {s.rows}" for s in chosen)
            hint = "map datasets of one length"
            what = f"the datasets differ in their number of rows: {each}"
            raise SourceError(what, where=self._where, hint=hint)
        return chosen, chosen[0].rows if chosen else self._sets[self._layout()[2]].rows

    def _check(self, one: _Set) -> None:
        where = f"{self._where}:/{one.column.name}"
        try:
            missing = _unwritten(one.dataset, self._path)
        except DAMAGE as error:
            raise _damaged(where, error) from error
        if missing:
            hint = "HDF5 would read zeros there; write the file anew"
            raise SourceError(missing, where=where, hint=hint)
        self._rows(one, 0, min(1, one.rows))

    def _rows(self, one: _Set, lo: int, hi: int) -> pa.Array:
        where = f"{self._where}:/{one.column.name}"
        try:
            return _array(one, lo, hi)
        except pa.ArrowInvalid as error:
            hint = "strings are UTF-8; write bytes that are no text as uint8 rows or fixed byte strings"
            raise SourceError(f"rows {lo} to {hi}: {error}", where=where, hint=hint) from error
        except DAMAGE as error:
            if not can_unpack(one.dataset):
                what = f"is compressed by a filter that is not here: {error}"
                raise SourceError(what, where=where, hint=PLUGIN_HINT) from error
            raise _damaged(where, error) from error


def _set(name: str, dataset: h5py.Dataset) -> _Set | None:
    """Describe a dataset as a column; ``None`` where it cannot be one."""
    string = h5py.check_string_dtype(dataset.dtype)
    raw = None
    if dataset.shape is None or len(dataset.shape) not in {1, 2}:
        return None
    can_unpack(dataset)
    width = dataset.shape[1] if len(dataset.shape) > 1 else None
    if string is None:
        kind = cols.arrow_type(dataset.dtype, width)
    elif width is not None:
        return None
    elif string.length is None:
        kind = pa.utf8()
    else:
        raw = string.length
        kind = pa.utf8() if string.encoding == "utf-8" else pa.binary(raw)
    if kind is None:
        return None
    native = cols.shape(dataset) if string is None or raw else f"string ({dataset.shape[0]},)"
    mean = raw if raw is not None else _mean(dataset) if string else 0
    return _Set(dataset, Column(name, kind, native, cols.row_bytes(kind, mean)), dataset.shape[0], raw)


def _mean(dataset: h5py.Dataset) -> float:
    """Sample the length of strings in bytes; what cannot be read here is told by ``cut``."""
    try:
        sample = dataset[:SAMPLE_ROWS]
    except DAMAGE:
        return 0.0
    return float(sum(map(len, sample)) / max(1, len(sample)))


def _array(one: _Set, lo: int, hi: int) -> pa.Array:
    if one.raw is not None:
        raw = _bytes(one.dataset, lo, hi, one.raw)
        return cols.text(raw) if pa.types.is_string(one.column.type) else cols.from_numpy(raw)
    rows = one.dataset[lo:hi]
    if pa.types.is_string(one.column.type):
        return cols.strings([len(row) for row in rows], b"".join(rows))
    return cols.from_numpy(rows)


def _bytes(dataset: h5py.Dataset, lo: int, hi: int, width: int) -> np.ndarray[Any, Any]:
    """Read fixed strings as uint8 of shape (n, width), the zero bytes at their ends and inside of them kept.

    HDF5's own conversion ends a null-terminated string at its first zero byte, so the file's type is asked
    for; that of blanks at the end (Fortran's) is left to it.
    """
    kind = dataset.id.get_type()
    out = np.zeros(hi - lo, dtype=f"V{width}")
    if hi > lo:
        if kind.get_strpad() == h5py.h5t.STR_SPACEPAD:
            return np.ascontiguousarray(dataset[lo:hi]).view(np.uint8).reshape(hi - lo, width)
        space = dataset.id.get_space()
        space.select_hyperslab((lo,), (hi - lo,))
        dataset.id.read(h5py.h5s.create_simple((hi - lo,)), space, out, kind)
    return out.view(np.uint8).reshape(hi - lo, width)


def _unwritten(dataset: h5py.Dataset, path: Path) -> str | None:
    """Say which rows of a dataset nobody ever wrote: HDF5 reads them as zeros without a word."""
    if not dataset.size:
        return None
    if dataset.is_virtual:
        return _virtual(dataset, path)
    if dataset.external:
        return "its rows are in raw files beside the file, which cannot be told from files that are missing"
    if dataset.chunks is None:
        return None if dataset.id.get_storage_size() else "its rows were never written"
    blocks = int(np.prod([-(-n // c) for n, c in zip(dataset.shape, dataset.chunks, strict=True)]))
    there = dataset.id.get_num_chunks()
    return None if there == blocks else f"{blocks - there} of its {blocks} blocks were never written"


def _virtual(dataset: h5py.Dataset, path: Path) -> str | None:
    """Say the same of a dataset that is put together of others, in other files as a rule."""
    covered = 0
    for source, part in zip(dataset.virtual_sources(), _parts(dataset, path), strict=True):
        covered += source.vspace.get_select_npoints()
        if not part.is_file():
            return f"its part {part} is not there"
        with open_file(part) as file:
            there = file.get(source.dset_name)
            if not isinstance(there, h5py.Dataset):
                return f"its part {part} holds no dataset {source.dset_name}"
            if not _holds(there, source):
                return f"its part {part} holds {len(there)} rows, not those that are taken from it"
            if missing := _unwritten(there, part):
                return f"its part {part}: {missing}"
    return None if covered == dataset.size else "its parts do not cover all of its rows"


def _holds(dataset: h5py.Dataset, source: Any) -> bool:
    """Tell whether a dataset is as large as one part of a virtual dataset takes it for."""
    taken = source.src_space
    if taken.get_select_type() == h5py.h5s.SEL_HYPERSLABS:
        last = taken.get_select_bounds()[1]
        return len(last) == dataset.ndim and all(i < n for i, n in zip(last, dataset.shape, strict=True))
    return bool(dataset.size >= source.vspace.get_select_npoints())


def _parts(dataset: h5py.Dataset, path: Path) -> list[Path]:
    """List the files of a virtual dataset's parts, in its order; a dataset that is not virtual has none."""
    if not dataset.is_virtual:
        return []
    return [path if s.file_name == "." else path.parent / s.file_name for s in dataset.virtual_sources()]


def _damaged(where: str, error: Exception) -> SourceError:
    """Put what h5py says into words that say what to do."""
    text = str(error)
    if "truncated" in text:
        return SourceError("the file is truncated: its header says it is longer", where=where, hint="copy it again")
    if "lock" in text:
        hint = "another program has it open for writing: let it finish"
        return SourceError(f"the file is locked ({text})", where=where, hint=hint)
    return SourceError(f"cannot be read: {text}", where=where, hint="the file is damaged: copy or write it again")
