"""Milvus as a target: what :class:`vsync.connectors.base.Target` promises, put together from its parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vsync.connectors.milvus import clear, ddl, describe, live
from vsync.connectors.milvus.capabilities import LITE
from vsync.connectors.milvus.conflicts import conflicts
from vsync.connectors.milvus.failures import COLLECTION_NOT_FOUND, GONE_HINT, GoneError
from vsync.connectors.milvus.nearest import nearest
from vsync.connectors.milvus.read import MilvusReader
from vsync.connectors.milvus.source import MilvusSource
from vsync.connectors.milvus.wire import common_pb2, milvus_pb2
from vsync.connectors.milvus.write import MilvusWriter
from vsync.errors import ConflictError, TargetError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from collections.abc import Collection as Container

    import pyarrow as pa

    from vsync.connectors.base import Key, Loss
    from vsync.connectors.milvus.client import Client
    from vsync.errors import Problem
    from vsync.schema import Collection, Index, LiveCollection, Rules


class MilvusTarget:
    """See :class:`vsync.connectors.base.Target`. Used by several threads at once."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @property
    def identity(self) -> str:
        """See :attr:`Client.identity`."""
        return self._client.identity

    @property
    def label(self) -> str:
        """Give address and server version."""
        return self._client.label

    @property
    def writers(self) -> int:
        """Give how many requests in flight one collection bears."""
        return self._client.server.holds.writers

    @property
    def settling(self) -> float:
        """Give for how many seconds a count may hold old copies of rows that were replaced."""
        return self._client.server.holds.settling

    @property
    def rules(self) -> Rules:
        """Give what this server refuses in values."""
        return self._client.server.holds.rules

    def observe(self, names: Sequence[str], *, count: bool = True) -> dict[str, LiveCollection]:
        """Describe those of these collections that are there."""
        if not self.has_database():
            return {}
        found = {name: live.observe(self._client, name, count=count) for name in names}
        return {name: one for name, one in found.items() if one is not None}

    def collection_id(self, name: str) -> str | None:
        """Tell what a collection is known by, or that there is none."""
        return live.collection_id(self._client, name)

    def collections(self) -> list[str]:
        """List the names of all collections."""
        return live.collections(self._client)

    def aliases(self) -> dict[str, str]:
        """Map every alias of the database to its collection."""
        return live.aliases(self._client)

    def has_database(self) -> bool:
        """Tell whether the database is there."""
        return live.has_database(self._client)

    def conflicts(self, desired: Collection) -> list[Problem]:
        """Name what this server cannot hold."""
        return conflicts(desired, self._client.server)

    def nearest(self, desired: Collection, fixed: Container[str]) -> tuple[Collection, list[Loss]]:
        """Change what this server does not hold, and name what it does not keep."""
        return nearest(desired, self._client.server, fixed)

    def same(self, desired: Index, live: Index) -> bool:
        """Tell whether two descriptions of an index mean the same on this server."""
        return describe.same_index(desired, live)

    def create_database(self) -> None:
        """Create the database where it is not there."""
        if not self.has_database():
            request = milvus_pb2.CreateDatabaseRequest(db_name=self._client.database)
            self._client.call("CreateDatabase", request, doing=f"creating database {self._client.database}")

    def create_collection(self, desired: Collection) -> None:
        """Create it without partitions and indexes; a loss raises."""
        if desired.name in self.aliases():
            raise TargetError(f"{desired.name} is the name of an alias", hint="name the collection otherwise")
        ddl.create_collection(self._client, desired)

    def drop_collection(self, name: str) -> None:
        """Drop it with its aliases."""
        ddl.drop_collection(self._client, name)

    def set_properties(self, name: str, properties: Mapping[str, str]) -> None:
        """Set these properties, leave the others."""
        ddl.set_properties(self._client, name, properties)

    def create_partition(self, collection: str, partition: str) -> None:
        """Create it where it is not there."""
        ddl.create_partition(self._client, collection, partition)

    def clear(self, collection: str, partition: str | None) -> None:
        """Remove all rows of a partition, keeping it."""
        clear.clear(self._client, self._schema(collection), partition)

    def create_index(self, collection: str, index: Index, progress: Callable[[int], None]) -> None:
        """Create it where it is not there, and wait until it is built."""
        field = self._schema(collection).field(index.field)
        if field is None:
            raise TargetError(f"{collection} has no field {index.field} to index", where=self._client.place)
        ddl.create_index(self._client, collection, field, index, progress)

    def drop_index(self, collection: str, field: str) -> None:
        """Drop the index of a field, releasing the collection first."""
        ddl.drop_index(self._client, collection, field)

    def load(self, collection: str, progress: Callable[[int], None]) -> None:
        """Load it and wait."""
        ddl.load(self._client, collection, progress)

    def release(self, collection: str) -> None:
        """Release it from memory."""
        ddl.release(self._client, collection)

    def flush(self, collection: str) -> None:
        """Have the server persist what it holds."""
        ddl.flush(self._client, collection)

    def count(self, collection: str, partition: str | None) -> int | None:
        """Count rows, strongly; None where the server cannot."""
        return ddl.count(self._client, collection, self._schema(collection).primary, partition)

    def set_alias(self, alias: str, collection: str) -> None:
        """Create the alias, or move it here."""
        ddl.set_alias(self._client, alias, collection)

    def delete(self, collection: str, partition: str | None, keys: pa.Array) -> None:
        """Remove the rows with these keys, all copies, and wait for it."""
        clear.delete(self._client, self._schema(collection), partition, keys)

    def writer(self, collection: Collection, partition: str | None) -> MilvusWriter:
        """Open the way into a collection that is there."""
        forgets = self._client.server.kind == LITE  # at each start what was loaded, a served one too

        def load() -> None:
            ddl.load(self._client, collection.name, lambda _percent: None)

        return MilvusWriter(self._client, collection, partition, load if forgets else None)

    def reader(self, collection: Collection, partition: str | None) -> MilvusReader:
        """Open what a loaded collection holds; Lite, which forgets at each start what was loaded, loads it here."""
        name = collection.name
        if self._client.server.kind == LITE:
            ddl.load(self._client, name, lambda _percent: None)
        elif ddl.load_state(self._client, name) == common_pb2.LoadStateNotLoad:
            raise ConflictError(
                f"{name} is not loaded: its rows cannot be read",
                where=self._client.place,
                hint="load it, or have it loaded: `load: true` and vsync apply",
            )
        return MilvusReader(self._client, collection, partition)

    def source(
        self, collection: str, partition: str | None, *, where: str | None = None, load: bool = False
    ) -> MilvusSource:
        """Open a collection, or a partition of it, as a source; see :class:`MilvusSource`."""
        return MilvusSource(self._client, collection, partition, where=where, load=load)

    @property
    def keeps(self) -> bool:
        """Tell that it indexes and loads."""
        return False

    def seams(self, collection: str, partition: str | None) -> Sequence[Key]:  # noqa: ARG002
        """Name no keys: what is sent is sent, wherever it is cut."""
        return ()

    def note(self, spec_digest: str, sources: Sequence[str]) -> None:
        """Do nothing: a server has no place for it."""

    def finish(self, names: Container[str]) -> None:
        """Do nothing: what a server acknowledged is there."""

    def unfinished(self, names: Container[str]) -> bool:  # noqa: ARG002
        """Tell that nothing is left to be sealed."""
        return False

    def close(self) -> None:
        """Give back the connection and the folder."""
        self._client.close()

    def _schema(self, collection: str) -> Collection:
        answer = ddl.look(self._client, collection)
        if answer is None:
            raise GoneError(
                f"there is no collection {collection}",
                code=COLLECTION_NOT_FOUND,
                where=self._client.place,
                hint=GONE_HINT,
            )
        names = ddl.partitions(self._client, collection)
        return describe.read_collection(answer, self._client.server.holds, names, ())
