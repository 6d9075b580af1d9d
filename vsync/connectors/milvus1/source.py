"""A collection of a Milvus 1.x, or some of its partitions: the columns ``ids`` and ``embeddings``."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import xxhash

from vsync.connectors import columns as cols
from vsync.connectors import files
from vsync.connectors.base import Bounds, Column, Description, Fingerprint
from vsync.connectors.milvus1.log import check_flushed
from vsync.connectors.milvus1.meta import read_meta
from vsync.connectors.milvus1.segments import Rows, open_rows
from vsync.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from vsync.connectors.milvus1.meta import Collection

IDS = "ids"
VECTORS = "embeddings"


def open_source(
    path: Path, *, collection: str, partitions: Sequence[str] | None = None, ignore_log: bool = False
) -> Milvus1Source:
    """Open a collection of the folder of a Milvus 1.x, or the partitions of it with these tags.

    Raises :class:`SourceError` where it is not there or not whole, and, unless ``ignore_log``, where rows of it are in
    the write-ahead log alone.
    """
    meta = read_meta(path)
    found = meta.collection(collection)
    segments = meta.segments(found, partitions)
    if not ignore_log:
        check_flushed(path, found)
    return Milvus1Source(path, found, [open_rows(path, found, s) for s in segments])


class Milvus1Source:
    """Segments one after the other; satisfies :class:`vsync.connectors.base.Source`."""

    def __init__(self, path: Path, collection: Collection, parts: Sequence[Rows]) -> None:
        self._path = path
        self._where = f"{path}: {collection.name}"
        self._collection = collection
        self._parts = [part for part in parts if part.count]
        self._ends = list(accumulate(part.count for part in self._parts))
        self._rows = self._ends[-1] if self._ends else 0
        self._open = True
        size = collection.row_bytes
        kind = pa.binary(size) if collection.binary else pa.list_(pa.float32(), collection.dim)
        shape = f"uint8 ({self._rows}, {size})" if collection.binary else f"float32 ({self._rows}, {collection.dim})"
        self._columns = (
            Column(IDS, pa.int64(), f"int64 ({self._rows},)", 8.0),
            Column(VECTORS, kind, f"{shape}, {collection.metric}", cols.row_bytes(kind)),
        )

    def describe(self) -> Description:
        """Say what is there, from the metadata and samples of every file."""
        kept = [path for part in self._parts for path in part.files]
        marks = [files.fingerprint(path) for path in kept]
        said = [*(c.native for c in self._columns), *(m.content for m in marks)]
        digest = xxhash.xxh3_128("\n".join(said).encode())
        return Description(
            locator=self._where,
            fingerprint=Fingerprint(digest.hexdigest(), max((m.modified for m in marks), default=0)),
            rows=self._rows,
            nbytes=sum(path.stat().st_size for path in kept),
            columns=self._columns,
            layout=f"Milvus 1.x, {self._collection.metric}",
            suggested={"id": IDS, "embedding": VECTORS},
        )

    def cut(self, columns: Sequence[str], chunk_bytes: int) -> list[Bounds]:
        """Cut into equal ranges of the rows that are not deleted."""
        chosen = cols.pick(self._columns, columns, self._where)
        return files.cut(self._rows, sum(c.row_bytes for c in chosen), chunk_bytes)

    def read(self, bounds: Bounds, columns: Sequence[str]) -> pa.RecordBatch:
        """Copy rows out of the mapped files, across segments."""
        if not self._open:
            raise SourceError("is closed", where=self._where)
        cols.pick(self._columns, columns, self._where)
        cols.check_bounds(bounds, self._rows, self._where)
        return pa.RecordBatch.from_arrays([self._column(name, bounds) for name in columns], names=list(columns))

    def close(self) -> None:
        """Read no more: no file is held."""
        self._open = False

    def _column(self, name: str, bounds: Bounds) -> pa.Array:
        ids = name == IDS
        width = self._collection.row_bytes // (1 if self._collection.binary else 4)
        dtype: Any = np.int64 if ids else np.uint8 if self._collection.binary else np.float32
        out = np.empty(bounds.rows if ids else (bounds.rows, width), dtype)
        at = bounds.lo
        while at < bounds.hi:
            number = bisect_right(self._ends, at)
            part, first = self._parts[number], self._ends[number] - self._parts[number].count
            end = min(bounds.hi, self._ends[number])
            read = part.read_ids if ids else part.read_vectors
            out[at - bounds.lo : end - bounds.lo] = read(at - first, end - first)
            at = end
        return cols.from_numpy(out)
