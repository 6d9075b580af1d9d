"""A table in memory as a source: for tests, and for programs that have their rows already."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import xxhash

from vsync.connectors import columns as cols
from vsync.connectors import files
from vsync.connectors.base import Bounds, Column, Description, Fingerprint
from vsync.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence


class MemorySource:
    """One table; satisfies :class:`vsync.connectors.base.Source`. ``name`` stands where a path would."""

    def __init__(self, table: pa.Table, name: str = "memory") -> None:
        plain = [cols.plain(c.combine_chunks()) for c in table.columns]
        self._table: pa.Table | None = pa.table(plain, names=table.column_names).combine_chunks()
        self._name = name
        self._rows = table.num_rows
        self._columns = tuple(
            Column(field.name, field.type, str(field.type), cols.mean_bytes(array))
            for field, array in zip(self._table.schema, plain, strict=True)
        )

    def describe(self) -> Description:
        """Say what is there; the fingerprint is of all content, for it is at hand."""
        table = self._open()
        fingerprint = Fingerprint(_digest(table), 0)
        nbytes = int(sum(c.row_bytes for c in self._columns) * self._rows)
        return Description(self._name, fingerprint, self._rows, nbytes, self._columns)

    def cut(self, columns: Sequence[str], chunk_bytes: int) -> list[Bounds]:
        """Cut into equal ranges of rows."""
        chosen = cols.pick(self._columns, columns, self._name)
        return files.cut(self._rows, sum(c.row_bytes for c in chosen), chunk_bytes)

    def read(self, bounds: Bounds, columns: Sequence[str]) -> pa.RecordBatch:
        """Show a slice of the table, nothing is copied."""
        table = self._open()
        cols.pick(self._columns, columns, self._name)
        cols.check_bounds(bounds, self._rows, self._name)
        rows = table.slice(bounds.lo, bounds.rows)
        return pa.RecordBatch.from_arrays([_one(rows.column(name)) for name in columns], names=list(columns))

    def close(self) -> None:
        """Let go of the table."""
        self._table = None

    def _open(self) -> pa.Table:
        if self._table is None:
            raise SourceError("is closed", where=self._name)
        return self._table


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _digest(table: pa.Table) -> str:
    digest = xxhash.xxh3_128(str(table.schema).encode())
    for batch in table.to_batches():
        digest.update(batch.serialize())
    return digest.hexdigest()
