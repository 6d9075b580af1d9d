"""A collection that vsync keeps, or one of its partitions, as a source of rows."""

from __future__ import annotations

from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING

import pyarrow as pa
import xxhash

from vsync.connectors import columns as cols
from vsync.connectors.base import Bounds, Column, Description, Fingerprint, KeyRange
from vsync.connectors.files import cut_keys
from vsync.errors import SourceError
from vsync.rows import arrow_type

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vsync.connectors.base import Key
    from vsync.connectors.runs.reader import RunsReader
    from vsync.schema import LiveCollection


class RunsSource:
    """See :class:`vsync.connectors.base.CollectionSource`. What it reads does not change while it is open."""

    def __init__(self, reader: RunsReader, live: LiveCollection, locator: str) -> None:
        self.reader, self._live, self._locator = reader, live, locator

    @cached_property
    def _rows(self) -> int:
        return self.reader.count(KeyRange())

    @cached_property
    def _columns(self) -> tuple[Column, ...]:
        """Describe the columns; what is of no fixed size is told by the first rows."""
        fields = self._live.schema.columns
        sample = next(islice(self.reader.scan(KeyRange(), [f.name for f in fields]), 1), None)
        kinds = {f.name: arrow_type(f) for f in fields}
        sizes = {
            name: cols.row_bytes(kind) if sample is None else cols.mean_bytes(sample.column(name))
            for name, kind in kinds.items()
        }
        return tuple(Column(f.name, kinds[f.name], str(f), sizes[f.name]) for f in fields)

    def describe(self) -> Description:
        """Say what is there."""
        return Description(
            locator=self._locator,
            fingerprint=Fingerprint(self._digest(), 0),
            rows=self._rows,
            nbytes=int(self._rows * sum(c.row_bytes for c in self._columns)),
            columns=self._columns,
            suggested={c.name: c.name for c in self._columns},
            collection=self._live,
        )

    def cut(self, columns: Sequence[str], chunk_bytes: int, seams: Sequence[Key] = ()) -> list[Bounds]:
        """Cut the keys into ranges."""
        chosen = cols.pick(self._columns, columns, self._locator)
        step = max(1, int(chunk_bytes / max(1.0, sum(c.row_bytes for c in chosen))))
        return self.reader.pieces(step) or cut_keys(self.reader.keys(), step, seams)

    def read(self, bounds: Bounds, columns: Sequence[str]) -> pa.RecordBatch:
        """Read the rows of a range of keys, ascending."""
        if bounds.keys is None:
            what = f"rows {bounds.lo} to {bounds.hi} were asked for: a collection is read by ranges of keys"
            raise SourceError(what, where=self._locator)
        cols.pick(self._columns, columns, self._locator)
        rows = self.reader.read(bounds.keys, list(dict.fromkeys(columns)))
        return pa.RecordBatch.from_arrays([rows.column(name) for name in columns], names=list(columns))

    def close(self) -> None:
        """Keep nothing: the place it is in is closed by who opened it."""

    def _digest(self) -> str:
        schema = self._live.schema
        telling = (
            self._live.id,
            [(f.name, str(f), f.primary, f.nullable) for f in schema.fields],
            schema.dynamic,
            self._locator,
        )
        return xxhash.xxh3_128(repr(telling).encode()).hexdigest()
