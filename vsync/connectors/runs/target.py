"""A place that vsync keeps collections in, as a target: see :class:`vsync.connectors.base.Target`.

What is particular to a place is its :class:`Keeper`: where descriptions and runs lie, and how they are sealed.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

import numpy as np
import pyarrow as pa

from vsync.connectors.base import Acked, KeyRange
from vsync.connectors.runs.reader import RunsReader
from vsync.connectors.runs.run import sorted_by_key
from vsync.connectors.runs.source import RunsSource
from vsync.errors import Problem, SourceError, StalePlanError, TargetError, TooLargeError
from vsync.rows import Rules, arrow_schema, arrow_type, constant
from vsync.schema import DEFAULT_PARTITION, Collection, LiveCollection

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from collections.abc import Collection as Container

    from vsync.connectors.base import Key, Loss
    from vsync.connectors.runs.run import Run
    from vsync.schema import Field, Index

WRITERS = 16
"""Each chunk is a file of its own: they do not wait for each other."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A collection as it is kept: ``id`` tells it from another that takes its name; aliases are in the schema."""

    id: str
    schema: Collection

    @property
    def by_key(self) -> bool:
        """Whether its partitions are the server's business: here there is one."""
        return any(f.partition_key for f in self.schema.fields)

    @property
    def partitions(self) -> tuple[str, ...]:
        """The partitions that its rows lie in."""
        return (DEFAULT_PARTITION, *(() if self.by_key else self.schema.partitions or ()))


class Keeper(Protocol):
    """Where collections lie. Used by several threads at once; what is written is durable when a method returns."""

    @property
    def identity(self) -> str:
        """What tells this place from any other."""

    @property
    def label(self) -> str:
        """The place for people."""

    def names(self) -> list[str]:
        """List the collections."""

    def kept(self, name: str) -> Kept | None:
        """Find what is kept of a collection."""

    def save(self, name: str, kept: Kept) -> None:
        """Keep the description of a collection, a new one or a changed one."""

    def drop(self, name: str) -> None:
        """Forget a collection with its rows, where it is there."""

    def runs(self, name: str, partition: str) -> Sequence[Run]:
        """Give the runs of a partition in the order they were written."""

    def add(self, name: str, partition: str, batch: pa.RecordBatch, *, removes: bool) -> None:
        """Add a run of rows, or of keys that are gone."""

    def clear(self, name: str, partition: str) -> None:
        """Have all runs of a partition be gone."""

    def note(self, spec_digest: str, sources: Sequence[str]) -> None:
        """Hear what the rows that are written are of: it is kept with them."""

    def finish(self, names: Container[str]) -> None:
        """Seal what was written of these collections."""

    def unfinished(self, names: Container[str]) -> bool:
        """Tell whether something of these collections is not sealed."""

    def seams(self, name: str, partition: str) -> Sequence[Key]:
        """Name keys at which rows are best cut."""

    def conflicts(self, desired: Collection) -> list[Problem]:
        """Name what this place cannot keep of a collection."""

    def nearest(self, desired: Collection, fixed: Container[str]) -> tuple[Collection, list[Loss]]:
        """Change what this place does not keep, and name it."""

    def close(self) -> None:
        """Give back what is held."""


class RunsTarget:
    """See :class:`vsync.connectors.base.Target`."""

    keeps = True
    writers = WRITERS
    settling = 0.0
    rules = Rules(finite_vectors=False)

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._changing = threading.Lock()
        self.identity, self.label = keeper.identity, keeper.label
        self.conflicts_of_place, self.nearest = keeper.conflicts, keeper.nearest
        self.note, self.finish, self.unfinished = keeper.note, keeper.finish, keeper.unfinished
        self.collections, self.drop_collection = keeper.names, keeper.drop

    def observe(self, names: Sequence[str], *, count: bool = True) -> dict[str, LiveCollection]:
        """Describe those of these collections that are kept."""
        found = {name: self._keeper.kept(name) for name in names}
        return {name: self._live(name, kept, count=count) for name, kept in found.items() if kept is not None}

    def _live(self, name: str, kept: Kept, *, count: bool) -> LiveCollection:
        rows = {p: self._count(name, p) if count else None for p in kept.partitions}
        total = sum(n or 0 for n in rows.values()) if count else None
        schema = replace(kept.schema, partitions=None if kept.by_key else kept.schema.partitions or ())
        return LiveCollection(schema, kept.id, None, total, {} if kept.by_key else rows)

    def collection_id(self, name: str) -> str | None:
        """Tell what a collection is known by."""
        kept = self._keeper.kept(name)
        return kept.id if kept else None

    def aliases(self) -> dict[str, str]:
        """Map every alias to its collection."""
        found = {name: self._keeper.kept(name) for name in self._keeper.names()}
        return {alias: name for name, kept in found.items() if kept for alias in kept.schema.aliases or ()}

    def has_database(self) -> bool:
        """Tell that it is there: it comes with what is first kept."""
        return True

    def conflicts(self, desired: Collection) -> list[Problem]:
        """Name what cannot be kept."""
        found = self.conflicts_of_place(desired)
        key = next((f for f in desired.fields if f.primary and f.auto_id), None)
        if key is not None:
            what = f"collection.{desired.name}.field.{key.name} is auto_id: there is no server that makes keys"
            found.append(
                Problem(what, f"collection.{desired.name}.field.{key.name}", "bring keys, or leave auto_id: out")
            )
        return found

    def same(self, desired: Index, live: Index) -> bool:
        """Tell whether two descriptions of an index are equal."""
        return desired == live

    def create_database(self) -> None:
        """Do nothing: see ``has_database``."""

    def create_collection(self, desired: Collection) -> None:
        """Keep its description, without partitions, indexes and aliases, under an id of its own."""
        with self._changing:
            kept = self._keeper.kept(desired.name)
            schema = replace(desired, partitions=None, indexes=None, aliases=None)
            if kept is None:
                self._keeper.save(desired.name, Kept(uuid4().hex, schema))
            elif kept.schema.fields != desired.fields:
                raise TargetError(f"{desired.name} is there already, with other fields", where=self.label)

    def set_properties(self, name: str, properties: Mapping[str, str]) -> None:
        """Set these properties, leave the others."""

        def changed(schema: Collection) -> Collection:
            return replace(schema, properties=tuple(sorted({**dict(schema.properties or ()), **properties}.items())))

        self._change(name, changed)

    def create_partition(self, collection: str, partition: str) -> None:
        """Create it where it is not there."""

        def changed(schema: Collection) -> Collection:
            return replace(schema, partitions=tuple(dict.fromkeys([*(schema.partitions or ()), partition])))

        self._change(collection, changed)

    def create_index(self, collection: str, index: Index, progress: Callable[[int], None]) -> None:
        """Keep the word of an index, so that a copy has it."""

        def changed(schema: Collection) -> Collection:
            others = [i for i in schema.indexes or () if i.field != index.field]
            return replace(schema, indexes=(*others, index))

        self._change(collection, changed)
        progress(100)

    def drop_index(self, collection: str, field: str) -> None:
        """Forget the word of an index."""
        self._change(
            collection,
            lambda schema: replace(schema, indexes=tuple(i for i in schema.indexes or () if i.field != field)),
        )

    def load(self, collection: str, progress: Callable[[int], None]) -> None:  # noqa: ARG002
        """Raise: nothing is loaded here, and no plan says so."""
        raise TargetError(f"{collection} is kept in files: nothing is loaded", where=self.label)

    def release(self, collection: str) -> None:
        """Do nothing: nothing is loaded here."""

    def clear(self, collection: str, partition: str | None) -> None:
        """Have all rows of a partition be gone."""
        self._keeper.clear(collection, partition or DEFAULT_PARTITION)

    def flush(self, collection: str) -> None:
        """Do nothing: what was acknowledged is durable."""

    def count(self, collection: str, partition: str | None) -> int | None:
        """Count rows."""
        names = [partition] if partition is not None else self._found(collection).partitions
        return sum(self._count(collection, name) for name in names)

    def set_alias(self, alias: str, collection: str) -> None:
        """Give a collection an alias, and take it from another."""
        holder = self.aliases().get(alias)
        if holder not in {None, collection}:
            self._change(str(holder), lambda s: replace(s, aliases=tuple(a for a in s.aliases or () if a != alias)))
        self._change(collection, lambda s: replace(s, aliases=tuple(dict.fromkeys([*(s.aliases or ()), alias]))))

    def delete(self, collection: str, partition: str | None, keys: pa.Array) -> None:
        """Have the rows with these keys be gone."""
        kept = self._found(collection)
        for name in [partition] if partition is not None else kept.partitions:
            _take_away(self._keeper, kept, name, keys)

    def writer(self, collection: Collection, partition: str | None) -> RunsWriter:
        """Open the way into a collection."""
        return RunsWriter(self._keeper, self._found(collection.name), partition or DEFAULT_PARTITION)

    def reader(self, collection: Collection, partition: str | None) -> RunsReader:
        """Open what a collection holds."""
        return self._reader(self._found(collection.name), partition)

    def source(
        self,
        collection: str,
        partition: str | None,
        *,
        where: str | None = None,
        load: bool = False,  # noqa: ARG002 - there is nothing to load
    ) -> RunsSource:
        """Open a collection, or a partition of it, as a source."""
        kept = self._keeper.kept(collection)
        if kept is None:
            raise SourceError(f"there is no collection {collection}", where=self.label)
        if partition is not None and partition not in kept.partitions:
            raise SourceError(f"there is no partition {partition}", where=f"{self.label}/{collection}")
        (live,) = self.observe([collection], count=False).values()
        return RunsSource(
            self._reader(kept, partition, where), live, "/".join(filter(None, (self.label, collection, partition)))
        )

    def seams(self, collection: str, partition: str | None) -> Sequence[Key]:
        """Name keys at which rows are best cut."""
        return self._keeper.seams(collection, partition or DEFAULT_PARTITION)

    def close(self) -> None:
        """Give back what is held."""
        self._keeper.close()

    def _reader(self, kept: Kept, partition: str | None, where: str | None = None) -> RunsReader:
        names = [partition] if partition is not None else kept.partitions
        runs = [run for name in names for run in self._keeper.runs(kept.schema.name, name)]
        return RunsReader(runs, kept.schema, where=where)

    def _count(self, name: str, partition: str) -> int:
        return RunsReader(self._keeper.runs(name, partition), self._found(name).schema).count(KeyRange())

    def _found(self, name: str) -> Kept:
        kept = self._keeper.kept(name)
        if kept is None:
            raise _GoneError(f"there is no collection {name}", where=self.label, hint="make a new plan: vsync plan")
        return kept

    def _change(self, name: str, change: Callable[[Collection], Collection]) -> None:
        """Change the description of a collection, where there is anything to change."""
        with self._changing:
            kept = self._found(name)
            changed = change(kept.schema)
            if changed != kept.schema:
                self._keeper.save(name, replace(kept, schema=changed))


class _GoneError(TargetError, StalePlanError):
    """What is to be changed is not there any more."""


@dataclass(frozen=True, slots=True)
class RunsWriter:
    """See :class:`vsync.connectors.base.Writer`: a request is a run."""

    keeper: Keeper
    kept: Kept
    partition: str

    def encode(self, rows: pa.RecordBatch) -> list[Any]:
        """Put the rows in the order of their keys, with every field: some data may bring more than others."""
        if not rows.num_rows:
            return []
        for field in self.kept.schema.columns:
            if field.name not in rows.schema.names:
                rows = rows.append_column(field.name, _unsaid(field, rows.num_rows))
        return [sorted_by_key(rows, self.kept.schema.primary.name)]

    def halve(self, request: Any) -> list[Any]:
        """Cut a run in two."""
        if request.num_rows == 1:
            raise TooLargeError("a row is too large to be kept")
        half = request.num_rows // 2
        return [request.slice(0, half), request.slice(half)]

    def send(self, request: Any) -> Acked:
        """Add a run."""
        self.keeper.add(self.kept.schema.name, self.partition, request, removes=False)
        return Acked(request.num_rows)

    def probe(self, keys: pa.Array, *, everywhere: bool = True) -> pa.BooleanArray:
        """Tell for each key whether it is there."""
        found = np.zeros(len(keys), np.bool_)
        for name in self.kept.partitions if everywhere else (self.partition,):
            found |= RunsReader(self.keeper.runs(self.kept.schema.name, name), self.kept.schema).holds(keys)
        return pa.array(found)

    def displace(self, keys: pa.Array) -> None:
        """Have the rows with these keys be gone from the other partitions."""
        for name in self.kept.partitions:
            if name != self.partition:
                _take_away(self.keeper, self.kept, name, keys)


def _unsaid(field: Field, rows: int) -> pa.Array:
    """Give what a server puts where rows do not bring a field: its default, or null."""
    if field.default is None:
        return pa.nulls(rows, arrow_type(field))
    value = pa.array([field.default]) if isinstance(field.default, bytes) else constant(field.default, field)
    return pa.array(value.cast(arrow_type(field)).to_pylist() * rows, arrow_type(field))  # not a vector: a default


def _take_away(keeper: Keeper, kept: Kept, partition: str, keys: pa.Array) -> None:
    """Have rows be gone from a partition, as far as they are there."""
    held = RunsReader(keeper.runs(kept.schema.name, partition), kept.schema).holds(keys)
    if held.any():
        key = kept.schema.primary
        schema = arrow_schema([key])
        gone = pa.RecordBatch.from_arrays([keys.filter(pa.array(held)).cast(schema.types[0])], names=[key.name])
        keeper.add(kept.schema.name, partition, sorted_by_key(gone, key.name), removes=True)
