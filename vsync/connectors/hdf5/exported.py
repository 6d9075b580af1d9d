"""A file that vsync exported as a source by itself: a column for each field, of the type that it had."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import pyarrow as pa

from vsync.connectors import columns as cols
from vsync.connectors import files
from vsync.connectors.base import EXPORTED, Bounds, Column, Description
from vsync.connectors.hdf5.kept import FORMAT, MILVUSDM, KeptFile

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import h5py

    from vsync.schema import Field

SAMPLE_ROWS = 256
"""Of texts, arrays and sparse vectors, to tell their mean size."""


def is_exported(file: h5py.File) -> bool:
    """Tell whether vsync wrote a file, and in its own layout: in that of MilvusDM it is like a file of MilvusDM."""
    return FORMAT in file.attrs and file.attrs.get("layout") != MILVUSDM


class ExportedSource:
    """One file; satisfies :class:`vsync.connectors.base.Source`. Its rows are numbered in the order of their keys."""

    def __init__(self, path: Path) -> None:
        self._path, self._where = path, str(path)
        self._file = KeptFile(path)

    def describe(self) -> Description:
        """Say what is there; the fields are those of the collection that was exported."""
        columns = self._columns
        return Description(
            locator=self._where,
            fingerprint=files.fingerprint(self._path, [f"{c.name} {c.native}" for c in columns]),
            rows=self._file.rows,
            nbytes=self._path.stat().st_size,
            columns=columns,
            layout=EXPORTED,
            suggested={c.name: c.name for c in columns},
            schema=self._file.collection,
        )

    def cut(self, columns: Sequence[str], chunk_bytes: int) -> list[Bounds]:
        """Cut along the blocks of the largest dataset, each of which is read and checked as a whole."""
        chosen = cols.pick(self._columns, columns, self._where)
        largest = max(chosen, key=lambda c: c.row_bytes, default=None)
        whole = self._file.block_rows(largest.name) if largest else 1
        return files.cut(self._file.rows, sum(c.row_bytes for c in chosen), chunk_bytes, whole=whole)

    def read(self, bounds: Bounds, columns: Sequence[str]) -> pa.RecordBatch:
        """Read a range of rows of each column."""
        cols.pick(self._columns, columns, self._where)
        cols.check_bounds(bounds, self._file.rows, self._where)
        rows = self._file.read(bounds.lo, bounds.hi, list(dict.fromkeys(columns)))
        return pa.RecordBatch.from_arrays([rows.column(name) for name in columns], names=list(columns))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @cached_property
    def _columns(self) -> tuple[Column, ...]:
        fields = self._file.fields
        sample = self._file.read(0, min(SAMPLE_ROWS, self._file.rows), list(fields))
        return tuple(self._column(field, sample.column(name)) for name, field in fields.items())

    def _column(self, field: Field, sample: pa.Array) -> Column:
        size = cols.mean_bytes(sample) if len(sample) else cols.row_bytes(sample.type)
        # That the server made the keys, or spread the rows by a key, was so there: here they are plain values.
        plain = replace(field, auto_id=False, partition_key=False, clustering_key=False, params=None)
        return Column(field.name, sample.type, self._file.native(field.name), size, field=plain)
