"""A target in memory that keeps rows as a multiset, so that doubles show, and fails as it is told to.

``Server`` outlives the processes that use it, as a real one does; ``ModelTarget`` is one process's way to it. What it
models of Milvus: inserts store a key again, an upsert replaces it in its own partition, requests are not atomic, an
answer can be lost, and a request can land after its sender gave it up.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from vsync.connectors import columns as cols
from vsync.connectors import files
from vsync.connectors.base import Acked, Bounds, Column, Description, Fingerprint, KeyRange, Loss
from vsync.errors import Problem, SourceChangedError, SourceError, TargetError, TooLargeError, TransientError
from vsync.rows import Rules, arrow_type
from vsync.schema import Collection, DataType, Field, Index, LiveCollection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from collections.abc import Collection as Container

Row = tuple[Any, ...]


class KilledError(Exception):
    """The process ends here."""


@dataclass(slots=True)
class Faults:
    """What goes wrong: the fate of each request in turn, and the moments at which the process dies.

    A moment is the beginning or the end of anything done to the server or the journal, counted from 0.
    """

    fates: list[str] = field(default_factory=list)
    kills: set[int] = field(default_factory=set)
    moment: int = 0
    lock: threading.RLock = field(default_factory=threading.RLock)

    def pass_moment(self) -> None:
        with self.lock:
            self.moment += 1
            if self.moment - 1 in self.kills:
                raise KilledError(f"at moment {self.moment - 1}")

    def fate(self) -> str:
        with self.lock:
            return self.fates.pop(0) if self.fates else "acked"


@dataclass(slots=True)
class Table:
    """A collection: its rows by partition, each with its key first."""

    schema: Collection
    id: str
    loaded: bool = False
    rows: dict[str, list[Row]] = field(default_factory=lambda: {"_default": []})


@dataclass(slots=True)
class Server:
    """What all processes share. ``late`` are requests on their way: each lands when its countdown is over."""

    databases: set[str] = field(default_factory=lambda: {"default"})
    tables: dict[str, Table] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    late: list[tuple[int, Callable[[], object]]] = field(default_factory=list)
    made: int = 0
    lock: threading.RLock = field(default_factory=threading.RLock)

    def number(self) -> int:
        self.made += 1
        return self.made

    def land(self, *, all_of_them: bool = False) -> None:
        """Let the requests land whose time has come."""
        due = [action for left, action in self.late if left <= 0 or all_of_them]
        self.late = [] if all_of_them else [(left - 1, action) for left, action in self.late if left > 0]
        for action in due:
            action()

    def create(self, wanted: Collection) -> Table:
        """Create a collection as this server does: what is not said becomes its default."""
        schema = replace(
            wanted,
            dynamic=bool(wanted.dynamic),
            description=wanted.description or "",
            shards=wanted.shards or 1,
            consistency=wanted.consistency or "bounded",
            properties=wanted.properties or (),
            partitions=(),
            indexes=(),
            aliases=None,
        )
        self.tables[wanted.name] = table = Table(schema, f"id-{self.number()}")
        return table

    def keys(self, collection: str) -> Counter[Any]:
        """Count every key of a collection, whatever its partition."""
        return Counter(row[0] for rows in self.tables[collection].rows.values() for row in rows)

    def values(self, collection: str) -> Counter[Row]:
        """Count every row without its key."""
        return Counter(row[1:] for rows in self.tables[collection].rows.values() for row in rows)


@dataclass(slots=True)
class ModelTarget:
    """Satisfies :class:`vsync.connectors.base.Target`."""

    server: Server
    faults: Faults = field(default_factory=Faults)
    writers: int = 3
    rows_per_request: int = 4

    @property
    def identity(self) -> str:
        return "model"

    @property
    def label(self) -> str:
        return "model (1.0)"

    @property
    def settling(self) -> float:
        return 0.0

    @property
    def rules(self) -> Rules:
        return Rules()

    def _do(self, change: Callable[[], Any]) -> Any:
        self.faults.pass_moment()
        with self.server.lock:
            self.server.land()
            done = change()
        self.faults.pass_moment()
        return done

    def observe(self, names: Sequence[str], *, count: bool = True) -> dict[str, LiveCollection]:
        return {n: _live(self.server.tables[n], count=count) for n in names if n in self.server.tables}

    def collection_id(self, name: str) -> str | None:
        table = self.server.tables.get(name)
        return table.id if table else None

    def collections(self) -> list[str]:
        return sorted(self.server.tables)

    def aliases(self) -> dict[str, str]:
        return dict(self.server.aliases)

    def has_database(self) -> bool:
        return "default" in self.server.databases

    def conflicts(self, desired: Collection) -> list[Problem]:
        return [
            Problem(f"this server has no {f.type}", f"collection.{desired.name}.field.{f.name}", "choose another type")
            for f in desired.fields
            if f.type == "int8_vector"
        ]

    def nearest(self, desired: Collection, fixed: Container[str]) -> tuple[Collection, list[Loss]]:
        """Leave out what this server has no type for, and say that descriptions are not kept."""
        address = f"collection.{desired.name}.field"
        lost = [] if "fields" in fixed else [f for f in desired.fields if f.type == "int8_vector"]
        losses = [
            Loss("lost", f"{address}.{f.name}", "its description is not kept") for f in desired.fields if f.description
        ]
        losses += [Loss("lost", f"{address}.{f.name}", "there is no int8_vector", harmful=True) for f in lost]
        return replace(desired, fields=tuple(f for f in desired.fields if f not in lost)), losses

    def same(self, desired: Index, live: Index) -> bool:
        return desired == live

    def create_database(self) -> None:
        self._do(lambda: self.server.databases.add("default"))

    def create_collection(self, desired: Collection) -> None:
        self._do(lambda: self.server.tables.get(desired.name) or self.server.create(desired))

    def drop_collection(self, name: str) -> None:
        def drop() -> None:
            self.server.tables.pop(name, None)
            self.server.aliases = {a: c for a, c in self.server.aliases.items() if c != name}

        self._do(drop)

    def set_properties(self, name: str, properties: Mapping[str, str]) -> None:
        def change() -> None:
            table = self.server.tables[name]
            merged = {**dict(table.schema.properties or ()), **properties}
            table.schema = replace(table.schema, properties=tuple(sorted(merged.items())))

        self._do(change)

    def create_partition(self, collection: str, partition: str) -> None:
        self._do(lambda: self.server.tables[collection].rows.setdefault(partition, []))

    def clear(self, collection: str, partition: str | None) -> None:
        def clear() -> None:
            rows = self.server.tables[collection].rows
            for name in [partition] if partition else list(rows):
                rows[name] = []

        self._do(clear)

    def create_index(self, collection: str, index: Index, progress: Callable[[int], None]) -> None:
        def create() -> None:
            table = self.server.tables[collection]
            others = [i for i in table.schema.indexes or () if i.field != index.field]
            table.schema = replace(table.schema, indexes=(*others, index))

        progress(50)
        self._do(create)

    def drop_index(self, collection: str, field_name: str) -> None:
        def drop() -> None:
            table = self.server.tables[collection]
            table.loaded = False
            left = tuple(i for i in table.schema.indexes or () if i.field != field_name)
            table.schema = replace(table.schema, indexes=left)

        self._do(drop)

    def load(self, collection: str, progress: Callable[[int], None]) -> None:
        def load() -> None:
            table = self.server.tables[collection]
            indexed = {i.field for i in table.schema.indexes or ()}
            if any(f.type.is_vector and f.name not in indexed for f in table.schema.fields):
                raise TargetError("a vector field has no index")
            table.loaded = True

        progress(50)
        self._do(load)

    def release(self, collection: str) -> None:
        def release() -> None:
            self.server.tables[collection].loaded = False

        self._do(release)

    def flush(self, collection: str) -> None:
        self._do(lambda: self.server.tables[collection])

    def count(self, collection: str, partition: str | None) -> int | None:
        def count() -> int | None:
            table = self.server.tables[collection]
            places = [partition] if partition else list(table.rows)
            return sum(len(table.rows[p]) for p in places) if table.loaded else None

        found: int | None = self._do(count)
        return found

    def set_alias(self, alias: str, collection: str) -> None:
        self._do(lambda: self.server.aliases.update({alias: collection}))

    def delete(self, collection: str, partition: str | None, keys: pa.Array) -> None:
        gone = set(plain(keys))

        def remove() -> None:
            rows = self.server.tables[collection].rows
            for name in [partition] if partition else list(rows):
                rows[name] = [r for r in rows[name] if r[0] not in gone]

        self._do(remove)

    def writer(self, collection: Collection, partition: str | None) -> ModelWriter:
        return ModelWriter(self, collection, partition or "_default")

    def reader(self, collection: Collection, partition: str | None) -> ModelReader:
        return ModelReader(self, collection, partition)

    def source(
        self, collection: str, partition: str | None, *, where: str | None = None, load: bool = False
    ) -> ModelSource:
        return ModelSource(self, collection, partition, where=where, load=load)

    @property
    def keeps(self) -> bool:
        return False

    def seams(self, collection: str, partition: str | None) -> Sequence[Any]:  # noqa: ARG002
        return ()

    def note(self, spec_digest: str, sources: Sequence[str]) -> None:
        """Do nothing: a server has no place for it."""

    def finish(self, names: Container[str]) -> None:
        """Seal nothing."""

    def unfinished(self, names: Container[str]) -> bool:  # noqa: ARG002
        return False

    def close(self) -> None:
        """Nothing is held."""


@dataclass(frozen=True, slots=True)
class ModelWriter:
    """Satisfies :class:`vsync.connectors.base.Writer`."""

    target: ModelTarget
    collection: Collection
    partition: str

    def encode(self, rows: pa.RecordBatch) -> list[pa.RecordBatch]:
        step = self.target.rows_per_request
        return [rows.slice(at, step) for at in range(0, rows.num_rows, step)]

    def halve(self, request: pa.RecordBatch) -> list[pa.RecordBatch]:
        assert request.num_rows > 1
        return [request.slice(0, request.num_rows // 2), request.slice(request.num_rows // 2)]

    def send(self, request: pa.RecordBatch) -> Acked:
        target, server = self.target, self.target.server
        rows = list(zip(*(plain(c) for c in request.columns), strict=True))
        with server.lock:
            server.land()
        target.faults.pass_moment()
        fate = target.faults.fate()
        if fate == "lost":
            raise TransientError("no answer", in_doubt=True)
        if fate == "large" and request.num_rows > 1:
            raise TooLargeError("message larger than max")
        if fate == "refused":
            raise TransientError("rate limit", in_doubt=False)
        if fate.startswith("late"):
            with server.lock:
                server.late.append((int(fate[4:]), lambda: self._store(rows)))
            raise TransientError("no answer in time", in_doubt=True)
        with server.lock:
            made = self._store(rows[: len(rows) // 2] if fate == "part" else rows)
        if fate in {"part", "landed"}:
            raise TransientError("the connection was cut", in_doubt=True)
        target.faults.pass_moment()
        return Acked(len(rows), ((made[0], made[-1]),) if made else (), np.array(made, np.int64))

    def _store(self, rows: list[Row]) -> list[int]:
        """Store rows: under keys of the server's making, or in place of those with their keys in this partition."""
        server = self.target.server
        table = server.tables.get(self.collection.name)
        if table is None:
            return []
        if self.collection.primary.auto_id:
            made = [server.number() for _ in rows]
            table.rows[self.partition] += [(key, *row) for key, row in zip(made, rows, strict=True)]
            return made
        keys = {row[0] for row in rows}
        table.rows[self.partition] = [r for r in table.rows[self.partition] if r[0] not in keys] + rows
        return []

    def probe(self, keys: pa.Array, *, everywhere: bool = True) -> pa.BooleanArray:
        def look() -> set[Any]:
            table = self.target.server.tables[self.collection.name]
            if not table.loaded:
                raise TargetError("collection not loaded")
            return {r[0] for p, rows in table.rows.items() if everywhere or p == self.partition for r in rows}

        there = self.target._do(look)
        return pa.array([key in there for key in plain(keys)], pa.bool_())

    def displace(self, keys: pa.Array) -> None:
        gone = set(plain(keys))

        def remove() -> None:
            rows = self.target.server.tables[self.collection.name].rows
            for other in rows:
                if other != self.partition:
                    rows[other] = [r for r in rows[other] if r[0] not in gone]

        self.target._do(remove)


@dataclass(frozen=True, slots=True)
class ModelReader:
    """Satisfies :class:`vsync.connectors.base.Reader`; of rows with one key it gives the last."""

    target: ModelTarget
    collection: Collection
    partition: str | None
    keys_in_block: int = 7

    def keys(self) -> Iterator[pa.Array]:
        found = sorted({row[0] for row in self._rows()})
        for at in range(0, len(found), self.keys_in_block):
            yield pa.array(found[at : at + self.keys_in_block], arrow_type(self.collection.primary))

    def read(self, keys: KeyRange, fields: Sequence[str]) -> pa.RecordBatch:
        return self._batch([row for row in self._rows() if _within(row[0], keys)], fields)

    def scan(self, keys: KeyRange, fields: Sequence[str]) -> Iterator[pa.RecordBatch]:
        rows = self.read(keys, fields)
        step = self.keys_in_block
        return iter([rows.slice(at, step) for at in range(0, rows.num_rows, step)])

    def fetch(self, keys: pa.Array, fields: Sequence[str]) -> pa.RecordBatch:
        wanted = set(keys.to_pylist())
        return self._batch([row for row in self._rows() if row[0] in wanted], fields)

    def count(self, keys: KeyRange) -> int:
        return sum(_within(row[0], keys) for row in self._rows())

    def _rows(self) -> list[Row]:
        rows = self.target.server.tables[self.collection.name].rows
        found: list[Row] = self.target._do(
            lambda: [row for name in rows if self.partition in {None, name} for row in rows[name]]
        )
        return found

    def _batch(self, rows: list[Row], fields: Sequence[str]) -> pa.RecordBatch:
        """Make a batch: a stored row holds the values of the collection's fields in their order."""
        rows = [row for _, row in sorted({row[0]: row for row in rows}.items())]
        places = {field.name: (place, field) for place, field in enumerate(self.collection.fields)}
        chosen = [places[name] for name in fields]
        columns = [pa.array([row[place] for row in rows], arrow_type(field)) for place, field in chosen]
        return pa.RecordBatch.from_arrays(columns, names=list(fields))


class ModelSource:
    """Satisfies :class:`vsync.connectors.base.CollectionSource`; it knows no filter."""

    def __init__(
        self, target: ModelTarget, collection: str, partition: str | None, *, where: str | None, load: bool
    ) -> None:
        if where is not None:
            raise SourceError("the model knows no filter")
        table = target.server.tables.get(collection)
        if table is None:
            meant = target.server.aliases.get(collection)
            hint = (
                f"it is an alias: write `collection: {meant}`" if meant else cols.near(collection, target.collections())
            )
            raise SourceError(f"there is no collection {collection!r}", where="model", hint=hint)
        if partition is not None and partition not in table.rows:
            hint = cols.near(partition, table.rows)
            raise SourceError(f"there is no partition {partition!r}", where=f"model/{collection}", hint=hint)
        if not table.loaded and not load:
            raise SourceError("is not loaded", where=f"model/{collection}")
        self._owes = not table.loaded
        self._target, self._table, self._partition = target, table, partition
        self._reader = ModelReader(target, table.schema, partition)
        self._closed = False
        table.loaded = True

    @property
    def reader(self) -> ModelReader:
        if self._closed:
            raise SourceError("is closed")
        return self._reader

    def describe(self) -> Description:
        schema, columns = self._table.schema, self._columns()
        rows = self.reader.count(KeyRange())
        mine = tuple(sorted(a for a, c in self._target.aliases().items() if c == schema.name))
        found = _live(self._table, count=False)
        return Description(
            locator="/".join(filter(None, ("model", schema.name, self._partition))),
            fingerprint=Fingerprint(f"{self._table.id} {self._partition} {schema.fields}", 0),
            rows=rows,
            nbytes=int(rows * sum(c.row_bytes for c in columns)),
            columns=columns,
            suggested={c.name: c.name for c in columns},
            collection=replace(found, schema=replace(found.schema, aliases=mine)),
        )

    def _columns(self) -> tuple[Column, ...]:
        fields = self._table.schema.fields
        held = self.reader.read(KeyRange(), [f.name for f in fields])
        return tuple(
            Column(f.name, arrow_type(f), str(f), cols.mean_bytes(column))
            for f, column in zip(fields, held.columns, strict=True)
        )

    def cut(self, columns: Sequence[str], chunk_bytes: int, seams: Sequence[Any] = ()) -> list[Bounds]:
        chosen = cols.pick(self._columns(), columns, "model")
        step = max(1, int(chunk_bytes / max(1.0, sum(c.row_bytes for c in chosen))))
        return files.cut_keys(self.reader.keys(), step, seams)

    def read(self, bounds: Bounds, columns: Sequence[str]) -> pa.RecordBatch:
        if bounds.keys is None:
            raise SourceError("a collection is read by ranges of keys")
        if self._target.collection_id(self._table.schema.name) != self._table.id:
            raise SourceChangedError("is another collection now")
        cols.pick(self._columns(), columns, "model")
        return self.reader.read(bounds.keys, columns)

    def close(self) -> None:
        if self._owes:
            self._table.loaded = self._owes = False
        self._closed = True


def _within(key: Any, keys: KeyRange) -> bool:
    return (keys.lo is None or key >= keys.lo) and (keys.hi is None or key < keys.hi)


def plain(column: pa.Array) -> list[Any]:
    """Give values that can be compared and counted."""
    return [tuple(v) if isinstance(v, list) else v for v in column.to_pylist()]


def data_row(key: int) -> Row:
    """Give the row that the data brings under a key, without the key."""
    return (float(key), float(key)), key * 10


def filled(keys: set[int], rare: Callable[[int], bool]) -> Server:
    """Give a server that holds somebody's rows under these keys, the ``rare`` ones in a partition of that name."""
    server = Server()
    if keys:
        fields = (
            Field("id", DataType.INT64, primary=True),
            Field("vector", DataType.FLOAT_VECTOR, dim=2),
            Field("number", DataType.INT64),
        )
        table = server.create(Collection("words", fields))
        table.schema = replace(table.schema, indexes=(Index("vector", "AUTOINDEX"),))
        table.loaded = True
        table.rows = {"_default": [], "rare": []}
        for key in sorted(keys):
            table.rows["rare" if rare(key) else "_default"].append((key, (-1.0, -1.0), -1))
    return server


def _live(table: Table, *, count: bool) -> LiveCollection:
    own = tuple(p for p in table.rows if p != "_default")
    counts = {p: len(rows) if table.loaded and count else None for p, rows in table.rows.items()}
    rows = sum(map(len, table.rows.values())) if table.loaded and count else None
    return LiveCollection(replace(table.schema, partitions=own), table.id, table.loaded, rows, counts)
