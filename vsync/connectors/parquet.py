"""Parquet as a source: its top-level columns; lists of numbers of one length are vectors."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass
from itertools import accumulate
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vsync.connectors import columns as cols
from vsync.connectors import files
from vsync.connectors.base import Bounds, Column, Description
from vsync.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

SAMPLE_ROWS = 256
"""Rows of the first and of the last row group that are looked at for the lengths of lists and strings."""
READ_BYTES = 1 << 20
BATCH_BYTES = 4 << 20
LATE = 4
"""How many chunks are remembered for threads that ask in another order than that of the rows."""

_DAMAGE = (pa.ArrowException, OSError)


@dataclass(frozen=True, slots=True)
class _Field:
    """A column, and the length of its lists where that makes vectors of them."""

    column: Column
    width: int | None


def open_source(path: Path) -> ParquetSource:
    """Open a file and read its footer; raises :class:`SourceError` where it is not Parquet, or not whole."""
    files.check_file(path)
    try:
        file = pq.ParquetFile(path, buffer_size=READ_BYTES, pre_buffer=False, page_checksum_verification=True)
    except _DAMAGE as error:
        hint = "is it whole, and of this kind?"
        raise SourceError(f"is not a Parquet file: {error}", where=str(path), hint=hint) from error
    try:
        return ParquetSource(path, file)
    except _DAMAGE as error:
        file.close()
        raise _damaged(str(path), error) from error


class ParquetSource:
    """One file; satisfies :class:`vsync.connectors.base.Source`. Pages are decoded once, under a lock."""

    def __init__(self, path: Path, file: pq.ParquetFile) -> None:
        self._path = path
        self._where = str(path)
        self._file: pq.ParquetFile | None = file
        self._rows: int = file.metadata.num_rows
        names = file.schema_arrow.names
        if len(set(names)) < len(names):
            raise SourceError("two columns have one name", where=self._where, hint="write the file with one of them")
        sample = _sample(file)
        self._fields = {f.name: _field(file, f, sample.column(f.name)) for f in file.schema_arrow}
        self._columns = tuple(f.column for f in self._fields.values())
        self._stream: _Stream | None = None
        self._lock = Lock()

    def describe(self) -> Description:
        """Say what is there, from the footer and a sample of rows."""
        return Description(
            locator=self._where,
            fingerprint=files.fingerprint(self._path, [f"{c.name} {c.native}" for c in self._columns]),
            rows=self._rows,
            nbytes=self._path.stat().st_size,
            columns=self._columns,
        )

    def cut(self, columns: Sequence[str], chunk_bytes: int) -> list[Bounds]:
        """Cut into equal ranges of rows, whatever the row groups: they are streamed."""
        chosen = cols.pick(self._columns, columns, self._where)
        return files.cut(self._rows, sum(c.row_bytes for c in chosen), chunk_bytes)

    def read(self, bounds: Bounds, columns: Sequence[str]) -> pa.RecordBatch:
        """Take rows from where the last read stopped, or begin anew at the row group that holds them."""
        cols.pick(self._columns, columns, self._where)
        cols.check_bounds(bounds, self._rows, self._where)
        try:
            batches = self._take(bounds, sorted(set(columns)))
            arrays = [self._array(name, batches, bounds.lo) for name in columns]
        except _DAMAGE as error:
            raise _damaged(self._where, error) from error
        return pa.RecordBatch.from_arrays(arrays, names=list(columns))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._file is not None:
                self._file.close()
            self._file = self._stream = None

    def _take(self, bounds: Bounds, names: list[str]) -> list[pa.RecordBatch]:
        with self._lock:
            if self._file is None:
                raise SourceError("is closed", where=self._where)
            if self._stream is None or self._stream.names != names:
                row_bytes = sum(self._fields[name].column.row_bytes for name in names)
                self._stream = _Stream(self._file, names, int(BATCH_BYTES / max(row_bytes, 64)) + 1)
            try:
                return self._stream.take(bounds.lo, bounds.hi)
            except _DAMAGE:
                self._stream = None
                raise

    def _array(self, name: str, batches: list[pa.RecordBatch], first: int) -> pa.Array:
        field = self._fields[name]
        pieces = [cols.plain(b.column(name)) for b in batches]
        if not pieces:
            return pa.array([], type=field.column.type)
        array = pa.concat_arrays(pieces)
        return array if field.width is None else _vectors(array, field.width, first, f"{self._where}:{name}")


class _Stream:
    """Rows of some columns in order, decoded once; the last few chunks of them are kept. Not thread-safe."""

    def __init__(self, file: pq.ParquetFile, names: list[str], batch_rows: int) -> None:
        self.names = names
        self._file = file
        self._batch_rows = batch_rows
        groups = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
        self._starts = [0, *accumulate(groups)]
        self._seek(0)

    def take(self, lo: int, hi: int) -> list[pa.RecordBatch]:
        """Give the rows as slices, in order, none of them empty."""
        if lo == hi:
            return []
        kept = self._kept[0][0] if self._kept else self._end
        if lo < kept or (lo > self._end and self._group(lo) > self._group(self._end)):
            self._seek(lo)
        while self._end < hi:
            batch = next(self._batches, None)
            if batch is None:
                raise OSError(f"ends at row {self._end}, before its footer says")
            self._kept.append((self._end, batch))
            self._end += batch.num_rows
            horizon = min(lo, self._end - LATE * (hi - lo))
            while self._kept and self._kept[0][0] + self._kept[0][1].num_rows <= horizon:
                self._kept.popleft()
        parts = [(b, max(lo - at, 0), min(hi - at, b.num_rows)) for at, b in self._kept]
        return [b.slice(start, stop - start) for b, start, stop in parts if start < stop]

    def _group(self, row: int) -> int:
        return bisect_right(self._starts, row) - 1

    def _seek(self, row: int) -> None:
        group = min(self._group(row), len(self._starts) - 2)
        self._kept: deque[tuple[int, pa.RecordBatch]] = deque()
        self._end = self._starts[max(group, 0)]
        rest = range(max(group, 0), len(self._starts) - 1)
        self._batches: Iterator[pa.RecordBatch] = iter(
            self._file.iter_batches(self._batch_rows, row_groups=list(rest), columns=self.names)
        )


def _sample(file: pq.ParquetFile) -> pa.Table:
    """Read the first rows of the first and of the last row group that hold any."""
    groups = [i for i in range(file.metadata.num_row_groups) if file.metadata.row_group(i).num_rows]
    batches = [next(file.iter_batches(SAMPLE_ROWS, row_groups=[i])) for i in sorted({*groups[:1], *groups[-1:]})]
    return pa.Table.from_batches(batches, schema=batches[0].schema if batches else file.schema_arrow)


def _field(file: pq.ParquetFile, field: pa.Field, sample: pa.ChunkedArray) -> _Field:
    kind = cols.plain_type(field.type)
    rows = file.metadata.num_rows
    width = _width(file, field.name, kind, sample)
    if width is None:
        mean = cols.mean_bytes(cols.plain(sample.combine_chunks()))
        nulls = sample.null_count > 0 or _counts_nulls(file, field.name)
        return _Field(Column(field.name, kind, f"{field.type} ({rows},)", mean, nulls=nulls), None)
    native = f"{field.type} ({rows}, {width})"
    vector = pa.binary(width) if pa.types.is_uint8(kind.value_type) else pa.list_(kind.value_type, width)
    return _Field(Column(field.name, vector, native, cols.row_bytes(vector)), width)


def _counts_nulls(file: pq.ParquetFile, name: str) -> bool:
    """Tell whether the footer counts nulls in a flat column; of lists it counts empty ones with them."""
    schema, groups = file.metadata.schema, file.metadata.num_row_groups
    place = next((i for i in range(len(schema)) if schema.column(i).path == name), None)
    if place is None:
        return False
    found = (file.metadata.row_group(i).column(place).statistics for i in range(groups))
    return any(s is not None and s.has_null_count and s.null_count for s in found)


def _width(file: pq.ParquetFile, name: str, kind: pa.DataType, sample: pa.ChunkedArray) -> int | None:
    """Tell the length of a column's lists where it makes vectors of them.

    Lists of floats are vectors where those of the sample have one length. Lists of integers may be arrays by
    nature: they are vectors only where the footer's number of values says the same of all rows.
    """
    if not (pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)):
        return None
    if not (pa.types.is_integer(kind.value_type) or pa.types.is_floating(kind.value_type)):
        return None
    if pa.types.is_fixed_size_list(kind):
        return int(kind.list_size) or None
    lengths = pc.unique(pc.drop_null(pc.list_value_length(sample))).to_pylist()  # not a vector: lengths of lists
    if len(lengths) != 1 or not lengths[0]:
        return None
    width = int(lengths[0])
    if pa.types.is_floating(kind.value_type):
        return width
    meta = file.metadata
    leaves = [i for i in range(meta.num_columns) if meta.schema.column(i).path.startswith(f"{name}.")]
    values = sum(meta.row_group(g).column(i).num_values for g in range(meta.num_row_groups) for i in leaves)
    return width if values == width * meta.num_rows else None


def _vectors(lists: pa.Array, width: int, first: int, where: str) -> pa.Array:
    """Turn lists into vectors; raises :class:`SourceError` with the row of another length, or with a hole."""
    lengths, valid = cols.to_numpy(pc.list_value_length(lists)), cols.to_numpy(lists.is_valid())
    odd = np.flatnonzero(valid & (lengths != width))
    if len(odd):
        what = f"row {first + int(odd[0])} has {int(lengths[odd[0]])} values, others have {width}"
        raise SourceError(what, where=where, hint="a vector column holds lists of one length")
    values = lists.flatten()
    if values.null_count:
        hole = int(np.flatnonzero(cols.to_numpy(values.is_null()))[0]) // width
        what = f"row {first + int(np.flatnonzero(valid)[hole])} has a null among its values"
        raise SourceError(what, where=where, hint="a vector is null as a whole, or has all its values")
    matrix = cols.to_numpy(values).reshape(-1, width)
    if lists.null_count == 0:
        return cols.from_numpy(matrix)
    spread = np.zeros((len(lists), width), dtype=matrix.dtype)
    spread[valid] = matrix
    return cols.from_numpy(spread, valid)


def _damaged(where: str, error: Exception) -> SourceError:
    return SourceError(f"cannot be read: {error}", where=where, hint="the file is damaged: copy or write it again")
