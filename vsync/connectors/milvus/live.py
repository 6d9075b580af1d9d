"""What a database holds by now: which collections and aliases, and what each of them is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vsync.connectors.milvus import ddl, describe
from vsync.connectors.milvus.wire import common_pb2, milvus_pb2
from vsync.schema import DEFAULT_PARTITION, LiveCollection

if TYPE_CHECKING:
    from vsync.connectors.milvus.client import Client


def has_database(client: Client) -> bool:
    """Tell whether the database is there. ``default`` always is, also for users who may not list them."""
    return client.database == "default" or (client.there and client.database in _databases(client))


def _databases(client: Client) -> list[str]:
    answer = client.call("ListDatabases", milvus_pb2.ListDatabasesRequest(), doing="listing databases")
    return list(answer.db_names)


def collections(client: Client) -> list[str]:
    """List the names of all collections."""
    if not has_database(client) or not client.there:
        return []
    answer = client.call("ShowCollections", milvus_pb2.ShowCollectionsRequest(), doing="listing collections")
    return sorted(answer.collection_names)


def aliases(client: Client) -> dict[str, str]:
    """Map every alias of the database to its collection."""
    return ddl.aliases(client) if has_database(client) and client.there else {}


def observe(client: Client, name: str, *, count: bool) -> LiveCollection | None:
    """Describe a collection of a database that is there; None where there is none of that name."""
    answer = ddl.look(client, name) if client.there else None
    if answer is None:
        return None
    holds = client.server.holds
    # One that could not be built counts as none: a plan then has it built again.
    indexes = [i for i in ddl.indexes(client, name) if i.state != common_pb2.IndexState.Failed]
    schema = describe.read_collection(answer, holds, ddl.partitions(client, name), indexes)
    key, own = schema.primary, schema.partitions
    places = [] if own is None else [DEFAULT_PARTITION, *own]
    # The embedded server releases everything at each start: being loaded is no state of its own.
    loaded = None if client.folder else ddl.load_state(client, name) == common_pb2.LoadStateLoaded
    rows = ddl.count(client, name, key, None) if count else None
    by_partition = {place: ddl.count(client, name, key, place) for place in places} if count else {}
    identity = describe.identity(answer, holds) or client.born
    return LiveCollection(schema, identity, loaded, rows, by_partition, describe.unread(answer))


def collection_id(client: Client, name: str) -> str | None:
    """Tell what a collection is known by, or that there is none."""
    answer = ddl.look(client, name) if client.there else None
    return None if answer is None else describe.identity(answer, client.server.holds) or client.born
