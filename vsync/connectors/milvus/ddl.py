"""Collections, partitions, indexes and aliases: made, changed and removed, looking before acting."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any

from vsync.connectors.milvus import answers, describe, keys
from vsync.connectors.milvus.capabilities import LITE
from vsync.connectors.milvus.client import pairs
from vsync.connectors.milvus.failures import (
    COLLECTION_NOT_FOUND,
    GONE_HINT,
    INDEX_NOT_FOUND,
    NOT_LOADED,
    GoneError,
    RefusedError,
)
from vsync.connectors.milvus.wire import common_pb2, milvus_pb2
from vsync.errors import TargetError, TransientError
from vsync.schema import DEFAULT_PARTITION

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from vsync.connectors.milvus.client import Client
    from vsync.schema import Collection, Field, Index

_CUT_OFF = ("No data left in file", "not fully written", "EOF: reading", "read error", "read_index")
"""What Lite says of a file of an index that ends too early."""

_LEFT_OVER = "File exists"
"""What Lite says where it finds the folder of a collection that it does not know."""

POLL_SECONDS = 0.2
STALLED_SECONDS = 1_800.0
"""How long building or loading may stand still before it is given up; the server goes on by itself."""

QUERY_SECONDS = 300.0
"""A count on Lite reads every row."""

EMBEDDED_SECONDS = 6 * 3_600.0
"""Lite builds indexes inside the call that asks for it."""

FAILED_HINT = "mend the index in the spec where that is at fault, and run the same command again"
BUILD_HINT = (
    "Milvus 2.3 repeats a build that fails for ever, and says nothing of it: look for "
    '"failed to build index" in its log, and mend the type or params of the index in the spec'
)
LOAD_HINT = "the server goes on by itself: look at its log; is its memory enough?"
FLUSH_HINT = "the server goes on by itself: look at its log"


def look(client: Client, name: str) -> Any | None:
    """Describe a collection; None where there is none of that name, also where the name is an alias."""
    try:
        request = milvus_pb2.DescribeCollectionRequest(collection_name=name)
        answer = client.call("DescribeCollection", request, doing=f"describing {name}")
    except RefusedError as error:
        if error.code == COLLECTION_NOT_FOUND:
            return None
        raise
    return answer if answer.schema.name == name else None


def create_collection(client: Client, desired: Collection) -> None:
    """Create it and compare what the server made of it; raises :class:`TargetError` that names each loss."""
    holds = client.server.holds
    if (live := look(client, desired.name)) is None:
        level = (desired.consistency or "bounded").capitalize()
        properties = dict(desired.properties or ())
        if not holds.tells_ids:
            properties[describe.LITE_ID] = uuid.uuid4().hex
        request = milvus_pb2.CreateCollectionRequest(
            collection_name=desired.name,
            schema=describe.schema_message(desired, holds).SerializeToString(),
            shards_num=desired.shards or 1,
            consistency_level=common_pb2.ConsistencyLevel.Value(level),
            properties=pairs(properties),
            num_partitions=desired.num_partitions or 0,
        )
        _create(client, request)
        live = look(client, desired.name)
    if live is None:
        raise TargetError(f"{desired.name} is not there after it was created", where=client.place)
    lost = describe.losses(desired, describe.read_collection(live, holds, (), ()), holds)
    if lost:
        raise TargetError(
            f"{client.server} did not keep all of {desired.name}: {'; '.join(lost)}",
            where=client.place,
            hint="leave that out of the spec, or write to a server that holds it; drop the collection first",
        )


def _create(client: Client, request: Any) -> None:
    try:
        client.call("CreateCollection", request, doing=f"creating {request.collection_name}")
    except RefusedError as error:
        if client.server.kind != LITE or _LEFT_OVER not in str(error):
            raise
        hint = "Milvus Lite was killed while it made it, and left that folder without rows: remove it, and apply again"
        raise RefusedError(error.problems[0].what, code=error.code, where=client.place, hint=hint) from error


def drop_collection(client: Client, name: str) -> None:
    """Drop a collection, never the one that an alias of this name means; its aliases go first."""
    if look(client, name) is None:
        return
    for alias, collection in aliases(client).items():
        if collection == name:
            client.call("DropAlias", milvus_pb2.DropAliasRequest(alias=alias), doing=f"dropping {alias}")
    release(client, name)
    request = milvus_pb2.DropCollectionRequest(collection_name=name)
    client.call("DropCollection", request, doing=f"dropping {name}")


def aliases(client: Client) -> dict[str, str]:
    """Map every alias to its collection."""
    if not client.server.holds.aliases:
        return {}
    request = milvus_pb2.ListAliasesRequest()
    names = client.call("ListAliases", request, doing="listing aliases").aliases
    found = {}
    for alias in names:
        one = milvus_pb2.DescribeAliasRequest(alias=alias)
        found[alias] = client.call("DescribeAlias", one, doing=f"describing {alias}").collection
    return found


def set_alias(client: Client, alias: str, collection: str) -> None:
    """Create an alias, or move it."""
    there = aliases(client).get(alias)
    if there == collection:
        return
    method, make = ("AlterAlias", milvus_pb2.AlterAliasRequest)
    if there is None:
        method, make = ("CreateAlias", milvus_pb2.CreateAliasRequest)
    client.call(method, make(alias=alias, collection_name=collection), doing=f"setting the alias {alias}")


def set_properties(client: Client, name: str, properties: Mapping[str, str]) -> None:
    """Set properties, leaving the others."""
    request = milvus_pb2.AlterCollectionRequest(collection_name=name, properties=pairs(properties))
    client.call("AlterCollection", request, doing=f"setting properties of {name}")


def partitions(client: Client, collection: str) -> list[str]:
    """List the partitions, with Milvus's own ones."""
    if not client.server.holds.partitions:
        return [DEFAULT_PARTITION]
    request = milvus_pb2.ShowPartitionsRequest(collection_name=collection)
    return list(client.call("ShowPartitions", request, doing=f"describing {collection}").partition_names)


def create_partition(client: Client, collection: str, partition: str) -> None:
    """Create a partition where it is not there."""
    if partition not in partitions(client, collection):
        request = milvus_pb2.CreatePartitionRequest(collection_name=collection, partition_name=partition)
        client.call("CreatePartition", request, doing=f"creating partition {partition} of {collection}")


def drop_partition(client: Client, collection: str, partition: str) -> None:
    """Drop a partition with its rows, released first where the server wants it."""
    if partition not in partitions(client, collection):
        return
    if client.server.kind != LITE and _load_state(client, collection, ()) != common_pb2.LoadStateNotLoad:
        release_request = milvus_pb2.ReleasePartitionsRequest(collection_name=collection, partition_names=[partition])
        client.call("ReleasePartitions", release_request, doing=f"releasing {partition} of {collection}")
    request = milvus_pb2.DropPartitionRequest(collection_name=collection, partition_name=partition)
    client.call("DropPartition", request, doing=f"dropping partition {partition} of {collection}")


def indexes(client: Client, collection: str) -> list[Any]:
    """List the indexes, as the server describes them."""
    try:
        request = milvus_pb2.DescribeIndexRequest(collection_name=collection)
        return list(client.call("DescribeIndex", request, doing=f"describing {collection}").index_descriptions)
    except RefusedError as error:
        if error.code == INDEX_NOT_FOUND:
            return []
        raise


def create_index(client: Client, collection: str, field: Field, index: Index, progress: Callable[[int], None]) -> None:
    """Create an index where the field has none, and wait until it is built; ``progress`` is told percents."""
    doing = f"building the index of {collection}.{field.name}"
    states = common_pb2.IndexState
    found = _index_of(client, collection, field.name)
    if found is not None and found.state == states.Failed:  # a server that says so does not try again by itself
        drop_index(client, collection, field.name)
        found = None
    if found is None:
        request = describe.index_request(collection, field, index, client.server.holds)
        try:
            client.call("CreateIndex", request, timeout=_long(client), doing=doing)
        except RefusedError as error:
            if error.problems[0].hint is not None:
                raise
            what = error.problems[0].what
            raise RefusedError(what, code=error.code, where=client.place, hint=FAILED_HINT) from error
    watch = _Watch(client, doing, BUILD_HINT)
    while True:
        built = _index_of(client, collection, field.name)
        if built is None:
            raise GoneError(f"{doing}: it is gone", code=INDEX_NOT_FOUND, where=client.place, hint=GONE_HINT)
        if built.state == states.Failed:
            reason = built.index_state_fail_reason or "the server gives no reason"
            raise TargetError(f"{doing}: it failed: {reason}", where=client.place, hint=FAILED_HINT)
        if built.state == states.Finished and built.pending_index_rows == 0:
            return
        progress(100 * built.indexed_rows // max(1, built.total_rows))
        watch.saw((built.state, built.indexed_rows, built.pending_index_rows))


def _index_of(client: Client, collection: str, field: str) -> Any | None:
    return next((i for i in indexes(client, collection) if i.field_name == field), None)


def drop_index(client: Client, collection: str, field: str) -> None:
    """Drop the index of a field; the collection is released first, since servers refuse otherwise."""
    index = _index_of(client, collection, field)
    if index is None:
        return
    release(client, collection)
    request = milvus_pb2.DropIndexRequest(collection_name=collection, field_name=field, index_name=index.index_name)
    client.call("DropIndex", request, doing=f"dropping the index of {collection}.{field}")


def load_state(client: Client, collection: str, partition: str | None = None) -> int:
    """Ask whether a collection, or a partition of it, is loaded: a value of Milvus's LoadState.

    A collection of which only some partitions are loaded counts as not loaded: Milvus answers questions about all of
    it from those alone, and does not say so.
    """
    chosen = [] if partition is None else [partition]
    state = _load_state(client, collection, chosen)
    if chosen or state != common_pb2.LoadStateLoaded or not client.server.holds.loads_partitions:
        return state
    return _load_state(client, collection, partitions(client, collection))


def _load_state(client: Client, collection: str, chosen: Sequence[str]) -> int:
    request = milvus_pb2.GetLoadStateRequest(collection_name=collection, partition_names=chosen)
    return int(client.call("GetLoadState", request).state)


def load(client: Client, collection: str, progress: Callable[[int], None]) -> None:
    """Load a collection and wait; ``progress`` is told percents."""
    doing = f"loading {collection}"
    if load_state(client, collection) != common_pb2.LoadStateLoaded:
        try:
            _ask_to_load(client, collection)
        except RefusedError as error:
            if client.server.kind != LITE or not any(words in str(error) for words in _CUT_OFF):
                raise
            _index_again(client, collection)
            _ask_to_load(client, collection)
    watch = _Watch(client, doing, LOAD_HINT)
    while True:
        request = milvus_pb2.GetLoadingProgressRequest(collection_name=collection)
        percent = int(client.call("GetLoadingProgress", request, doing=doing).progress)
        progress(percent)
        if percent >= 100 and load_state(client, collection) == common_pb2.LoadStateLoaded:  # noqa: PLR2004
            return
        watch.saw(percent)


def _ask_to_load(client: Client, collection: str) -> None:
    request = milvus_pb2.LoadCollectionRequest(collection_name=collection, replica_number=1)
    client.call("LoadCollection", request, timeout=_long(client), doing=f"loading {collection}")


def _index_again(client: Client, collection: str) -> None:
    """Drop the indexes and declare them as they were: Lite that is killed while it saves one cannot load it."""
    for index in indexes(client, collection):
        dropped = milvus_pb2.DropIndexRequest(collection_name=collection, field_name=index.field_name)
        client.call("DropIndex", dropped, doing=f"mending the index of {collection}.{index.field_name}")
        release(client, collection)  # without any index it counts as loaded, and would build at once
        made = milvus_pb2.CreateIndexRequest(
            collection_name=collection,
            field_name=index.field_name,
            index_name=index.index_name,
            extra_params=index.params,
        )
        client.call("CreateIndex", made, timeout=_long(client), doing=f"mending the index of {collection}")


def release(client: Client, collection: str) -> None:
    """Release a collection where it is loaded."""
    if _load_state(client, collection, ()) != common_pb2.LoadStateNotLoad:
        request = milvus_pb2.ReleaseCollectionRequest(collection_name=collection)
        client.call("ReleaseCollection", request, doing=f"releasing {collection}")


def flush(client: Client, collection: str) -> None:
    """Have the server write what it holds in memory, and wait for it."""
    doing = f"flushing {collection}"
    request = milvus_pb2.FlushRequest(collection_names=[collection])
    answer = client.call("Flush", request, timeout=_long(client), doing=doing)
    state = milvus_pb2.GetFlushStateRequest(
        segmentIDs=answer.coll_segIDs[collection].data,
        flush_ts=answer.coll_flush_ts[collection],
        collection_name=collection,
    )
    watch = _Watch(client, doing, FLUSH_HINT)
    while not client.call("GetFlushState", state, doing=doing).flushed:
        watch.saw(None)


def count(client: Client, collection: str, key: Field, partition: str | None) -> int | None:
    """Count rows, strongly; None where the server cannot, since the collection is not loaded."""
    if client.server.kind == LITE and partition is not None:
        # Its count(*) of a partition reads every row; its statistics are exact.
        request = milvus_pb2.GetPartitionStatisticsRequest(collection_name=collection, partition_name=partition)
        answer = client.call("GetPartitionStatistics", request, doing=f"counting {collection}")
        return next(int(stat.value) for stat in answer.stats if stat.key == "row_count")
    if not client.server.holds.counts_unloaded:
        state = load_state(client, collection, partition)
        if state == common_pb2.LoadStateLoading:
            # To take it for not loaded would decide by chance: one that is, is again in a moment, after a restart.
            raise not_ready(client, f"counting {collection}")
        if state != common_pb2.LoadStateLoaded:
            return None
    return count_where(client, collection, keys.everything(key) if partition is not None else "", partition)


def ask(client: Client, question: Any, *, doing: str) -> answers.Answer:
    """Send a query; a server that says that the collection is not loaded, but is or will be, is starting."""
    if not client.server.holds.newline_literals and keys.has_newline(question.expr):
        raise TargetError(
            f"{doing}: {client.server} cannot be asked for a key with a line break: it answers wrongly",
            where=client.place,
        )
    try:
        answer: answers.Answer = client.call("Query", question, timeout=QUERY_SECONDS, doing=doing, read=answers.read)
    except RefusedError as error:
        coming = {common_pb2.LoadStateLoaded, common_pb2.LoadStateLoading}
        if error.code != NOT_LOADED or load_state(client, question.collection_name) not in coming:
            raise
        raise not_ready(client, doing) from error
    return answer


def not_ready(client: Client, doing: str) -> TransientError:
    """Make the error for a collection that is being loaded."""
    hint = (
        "it is being loaded, or the server has just started; if that lasts, look at its log, or release the collection"
    )
    return TransientError(f"{doing}: the collection is not ready yet", where=client.place, hint=hint)


def now(client: Client) -> int | None:
    """Ask for the server's time, which questions may refer to; None where it tells none, and answers as of now."""
    if not client.server.holds.timestamps:
        return None
    return int(client.call("AllocTimestamp", milvus_pb2.AllocTimestampRequest()).timestamp)


def count_where(client: Client, collection: str, expression: str, partition: str | None = None) -> int:
    """Count the rows of a loaded collection, or of one partition, that an expression is true of, strongly."""
    question = keys.query(collection, expression, ["count(*)"], partitions=[partition] if partition else [])
    return keys.counted(ask(client, question, doing=f"counting {collection}"))


class _Watch:
    """Waits between two looks at something slow; gives up when nothing has changed for long."""

    def __init__(self, client: Client, doing: str, hint: str) -> None:
        self._client, self._doing, self._hint = client, doing, hint
        self._seen: Any = self
        self._since = time.monotonic()

    def saw(self, state: Any) -> None:
        if state != self._seen:
            self._seen, self._since = state, time.monotonic()
        if time.monotonic() - self._since > STALLED_SECONDS:
            raise TransientError(
                f"{self._doing}: nothing has changed for {STALLED_SECONDS / 60:.0f} minutes",
                where=self._client.place,
                hint=self._hint,
            )
        time.sleep(POLL_SECONDS)


def _long(client: Client) -> float:
    return EMBEDDED_SECONDS if client.server.kind == LITE else 60.0
