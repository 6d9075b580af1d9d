"""A collection, or one of its partitions, as a source of rows: see :class:`vsync.connectors.base.CollectionSource`."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa
import xxhash

from vsync.connectors import columns as cols
from vsync.connectors import files
from vsync.connectors.base import Bounds, Column, Description, Fingerprint, KeyRange
from vsync.connectors.milvus import ddl, keys, live, loads
from vsync.connectors.milvus.capabilities import LITE
from vsync.connectors.milvus.failures import GoneError, RefusedError
from vsync.connectors.milvus.read import MilvusReader
from vsync.errors import SourceChangedError, SourceError, TargetError, TooLargeError, TransientError
from vsync.rows import arrow_type
from vsync.schema import HIGHEST, DataType

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vsync.connectors.base import Key
    from vsync.connectors.milvus.client import Client
    from vsync.schema import Collection, Field, LiveCollection

SAMPLE_ROWS = 200
"""How many rows tell the mean size of texts and the like."""

WHERE_HINT = "such an expression is written as the server has it: https://milvus.io/docs/boolean.md"


class MilvusSource:
    """See :class:`vsync.connectors.base.CollectionSource`. Used by several threads at once.

    The client stays open when the source is closed: others use it.
    """

    def __init__(
        self, client: Client, collection: str, partition: str | None, *, where: str | None, load: bool
    ) -> None:
        self._client, self._name, self._partition, self._where = client, collection, partition, where
        self._locator = "/".join(filter(None, (client.place, collection, partition)))
        self._sizes: dict[str, float] | None = None
        self._closed = self._owes = False
        with self._told():
            found = self._find()
            self._schema, self._id = found.schema, found.id
            if not client.server.holds.partitions:
                self._partition = None  # it has one, under no name
            self._owes = loads.hold(client, collection, self._partition, load=load)
            try:
                self._check_where()
                self._reader = MilvusReader(client, self._schema, self._partition, where=where)
            except BaseException:
                self.close()
                raise

    @property
    def reader(self) -> MilvusReader:
        """What it holds, asked by keys."""
        self._open()
        return self._reader

    def describe(self) -> Description:
        """Say what is there now; rows are counted, strongly."""
        self._open()
        with self._told():
            found = self._find()
            rows, columns = self._count(), self._columns(found.schema, self._row_bytes())
            mine = tuple(sorted(a for a, collection in live.aliases(self._client).items() if collection == self._name))
        return Description(
            locator=self._locator,
            fingerprint=Fingerprint(self._digest(found), 0),
            rows=rows,
            nbytes=int(rows * sum(c.row_bytes for c in columns)),
            columns=columns,
            suggested={c.name: c.name for c in columns},
            collection=replace(found, schema=replace(found.schema, aliases=mine)),
            moves=True,
        )

    def cut(self, columns: Sequence[str], chunk_bytes: int, seams: Sequence[Key] = ()) -> list[Bounds]:
        """Scan the keys and cut them into ranges; only where a range begins is kept."""
        self._open()
        with self._told():
            chosen = cols.pick(self._columns(self._schema, self._row_bytes()), columns, self._locator)
            step = max(1, int(chunk_bytes / max(1.0, sum(c.row_bytes for c in chosen))))
            last: list[Key] = []
            bounds = files.cut_keys(_noting(self._reader.keys(), last), step, seams)
            self._refuse_hidden_key(last[0] if last else None)
        return bounds

    def read(self, bounds: Bounds, columns: Sequence[str]) -> pa.RecordBatch:
        """Read the rows that the range of keys has now, ascending."""
        self._open()
        cols.pick(self._columns(self._schema, {}), columns, self._locator)
        if bounds.keys is None:
            what = f"rows {bounds.lo} to {bounds.hi} were asked for: a collection is read by ranges of keys"
            raise SourceError(what, where=self._locator)
        with self._told():
            rows = self._reader.read(bounds.keys, list(dict.fromkeys(columns)), rows=bounds.rows)
            if live.collection_id(self._client, self._name) != self._id:
                raise SourceChangedError("is another collection than the one that was opened", where=self._locator)
        return pa.RecordBatch.from_arrays([rows.column(name) for name in columns], names=list(columns))

    def close(self) -> None:
        """Read no more; a collection that was loaded for this is released."""
        self._closed = True
        if self._owes:
            with self._told():
                loads.let_go(self._client, self._name)
            self._owes = False

    def _open(self) -> None:
        if self._closed:
            raise SourceError("is closed", where=self._locator)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Tell what a server refuses as what is wrong with the source; what may work in a moment passes."""
        try:
            yield
        except TransientError:
            raise
        except GoneError as error:
            raise SourceChangedError(error.problems) from error
        except TargetError as error:
            raise SourceError(error.problems) from error

    def _find(self) -> LiveCollection:
        """Describe the collection without its counts; raises SourceError where it or the partition is not there."""
        client, name = self._client, self._name
        if not client.there:
            raise SourceError("there is no Milvus Lite folder", where=client.place)
        if not live.has_database(client):
            raise SourceError(f"there is no database {client.database}", where=client.place)
        found = live.observe(client, name, count=False)
        if found is None:
            meant = live.aliases(client).get(name)
            names = live.collections(client)
            hint = cols.near(name, names) if meant is None else f"it is an alias: write `collection: {meant}`"
            raise SourceError(f"there is no collection {name!r}", where=client.place, hint=hint)
        if self._partition is not None:
            names = ddl.partitions(client, name)
            if self._partition not in names:
                what, where = f"there is no partition {self._partition!r}", f"{client.place}/{name}"
                raise SourceError(what, where=where, hint=cols.near(self._partition, names))
        return found

    def _check_where(self) -> None:
        """Have the server parse the filter by itself: with uneven brackets it would be another one beside a range.

        Milvus Lite 2 reads as far as it understands: so brackets are counted here too.
        """
        if self._where is None:
            return
        if not keys.is_whole(self._where):
            raise SourceError("the brackets of `where` are uneven", where=self._locator, hint=WHERE_HINT)
        if not self._where.strip():
            raise SourceError("`where` is empty", where=self._locator, hint="leave it out for all rows")
        key, partitions = self._schema.primary.name, [self._partition] if self._partition else []
        question = keys.query(self._name, self._where, [key], partitions=partitions, limit=1)
        try:
            ddl.ask(self._client, question, doing=f"filtering {self._name}")
        except GoneError:
            raise
        except RefusedError as error:
            raise SourceError(error.problems[0].what, where=self._locator, hint=WHERE_HINT) from error

    def _count(self) -> int:
        key = self._schema.primary
        if self._where is None:
            rows = ddl.count(self._client, self._name, key, self._partition)
            if rows is None:
                raise SourceChangedError("was released meanwhile: its rows cannot be read", where=self._locator)
            return rows
        expression = keys.both(self._where, keys.everything(key))
        return ddl.count_where(self._client, self._name, expression, self._partition)

    def _columns(self, schema: Collection, sizes: dict[str, float]) -> tuple[Column, ...]:
        kinds = [(field, arrow_type(field)) for field in schema.columns]
        return tuple(Column(f.name, kind, str(f), sizes.get(f.name, cols.row_bytes(kind))) for f, kind in kinds)

    def _row_bytes(self) -> dict[str, float]:
        """Sample the columns of no fixed size, once; the first rows in the order of their keys, if the server can."""
        if self._sizes is None:
            schema = self._schema
            loose = [f for f in schema.columns if cols.is_loose(arrow_type(f))]
            self._sizes = self._sampled([schema.primary, *(f for f in loose if not f.primary)]) if loose else {}
        return self._sizes

    def _sampled(self, fields: Sequence[Field], limit: int = SAMPLE_ROWS) -> dict[str, float]:
        try:
            rows = self._reader.ask(keys.everything(fields[0]), fields, limit, keys.ORDERED)
        except TooLargeError:
            if limit == 1:
                raise
            return self._sampled(fields, max(1, limit // 10))
        named = zip(rows.schema.names, rows.columns, strict=True)
        return {name: cols.mean_bytes(column) for name, column in named} if rows.num_rows else {}

    def _refuse_hidden_key(self, last: Key | None) -> None:
        """Refuse a collection with a row under 2^63-1, which Milvus counts and never gives: it would be lost."""
        key = self._schema.primary
        if key.type is not DataType.INT64 or last == HIGHEST or self._client.server.kind == LITE:
            return
        if self._reader.count(KeyRange(HIGHEST)):
            raise SourceError(
                f"there is a row whose {key.name} is {HIGHEST}: Milvus counts it, and gives it in no answer",
                where=self._locator,
                hint=f"delete it, or leave it out: `where: {key.name} < {HIGHEST}`",
            )

    def _digest(self, found: LiveCollection) -> str:
        """Digest what tells this collection from others; not what it holds, nor its count: it lives."""
        schema = found.schema
        fields = [(f.name, str(f), f.primary, f.auto_id, f.nullable) for f in schema.fields]
        # Lite gives no ids: there a name is all that tells collections apart that others made.
        id_ = f"{found.id}/{self._name}" if found.id == self._client.born else found.id
        telling = (self._client.identity, id_, fields, schema.dynamic, self._partition, self._where)
        return xxhash.xxh3_128(repr(telling).encode()).hexdigest()


def _noting(blocks: Iterator[pa.Array], last: list[Key]) -> Iterator[pa.Array]:
    """Pass blocks of keys on, and note the last key."""
    for block in blocks:
        last[:] = [block[-1].as_py()]
        yield block
