"""Emptying a partition and keeping it: what works differs by server, and by what is loaded."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from vsync.connectors.milvus import ddl, keys
from vsync.connectors.milvus.capabilities import LITE
from vsync.connectors.milvus.decode import decode
from vsync.connectors.milvus.wire import common_pb2, milvus_pb2
from vsync.errors import TargetError
from vsync.schema import DEFAULT_PARTITION

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pyarrow as pa

    from vsync.connectors.milvus.client import Client
    from vsync.schema import Collection, Field

DELETE_SECONDS = 600.0
PAGE = 8_000


def clear(client: Client, live: Collection, partition: str | None) -> None:
    """Remove all rows of a partition (None: ``_default``; of all, where a partition key deals rows out).

    A named partition is dropped and made again. ``_default`` cannot be dropped, so its rows are deleted: on
    Milvus by expression, for which a collection that is not loaded is loaded and released again; on Lite by
    truncating where no other partition holds rows, else key by key.
    """
    by_key = any(field.partition_key for field in live.fields)
    if partition is not None and partition != DEFAULT_PARTITION and not by_key:
        ddl.drop_partition(client, live.name, partition)
        ddl.create_partition(client, live.name, partition)
    elif client.server.kind == LITE:
        _clear_lite(client, live)
    else:
        _delete_all(client, live, None if by_key else DEFAULT_PARTITION)


def _delete_all(client: Client, live: Collection, partition: str | None) -> None:
    request = milvus_pb2.DeleteRequest(
        collection_name=live.name, partition_name=partition or "", expr=keys.everything(live.primary)
    )
    doing = f"emptying {live.name}"
    with loaded(client, live.name):
        client.call("Delete", request, timeout=DELETE_SECONDS, doing=doing)
        left = ddl.count(client, live.name, live.primary, partition)
    if left:
        raise TargetError(f"{doing}: {left} rows are still there", where=client.place, hint="apply again")


@contextmanager
def loaded(client: Client, collection: str) -> Iterator[None]:
    """Have a collection loaded while its rows are asked for or removed; one that was not is released again."""
    state = ddl.load_state(client, collection)
    if state == common_pb2.LoadStateLoaded:
        yield
        return
    if client.server.kind != LITE and not ddl.indexes(client, collection):
        raise TargetError(
            f"{collection} is neither indexed nor loaded: its rows cannot be asked for or removed",
            where=client.place,
            hint="create an index of its vector field, or drop the collection and have it made again",
        )
    ddl.load(client, collection, lambda _percent: None)
    try:
        yield
    finally:
        # One that is being loaded is loaded by somebody. The embedded server releases by itself, at its end.
        if state == common_pb2.LoadStateNotLoad and not client.folder:
            ddl.release(client, collection)


def delete(client: Client, live: Collection, partition: str | None, keys_: pa.Array) -> None:
    """Remove the rows with these keys from a loaded collection, or from one partition of it; raises where some stay."""
    lite, key = client.server.kind == LITE, live.primary
    if lite:
        ddl.load(client, live.name, lambda _percent: None)
    for start in range(0, len(keys_), PAGE):
        values = keys_.slice(start, PAGE).to_pylist()  # not a vector: keys
        if lite and partition is not None:
            _refuse_elsewhere(client, live, partition, values)
        delete_keys(client, live.name, key, partition, values)
        left = sum(ddl.count_where(client, live.name, those, partition) for those in keys.deletable(key, values))
        if left:
            raise TargetError(
                f"deleting from {live.name}: {left} rows are still there", where=client.place, hint="apply again"
            )
    if lite:
        ddl.flush(client, live.name)  # what is only in memory of a deletion, an insert of the key takes back


def delete_keys(
    client: Client, collection: str, key: Field, partition: str | None, values: Sequence[int | str]
) -> None:
    """Send the deletion of at most PAGE keys, from a partition or from all; Lite forgets the partition."""
    place = "" if client.server.kind == LITE else partition or ""
    for expression in keys.deletable(key, values):
        request = milvus_pb2.DeleteRequest(collection_name=collection, partition_name=place, expr=expression)
        client.call("Delete", request, timeout=DELETE_SECONDS, doing=f"deleting from {collection}")


def _clear_lite(client: Client, live: Collection) -> None:
    named = [name for name in ddl.partitions(client, live.name) if name in (live.partitions or ())]
    if not any(ddl.count(client, live.name, live.primary, name) for name in named):
        request = milvus_pb2.TruncateCollectionRequest(collection_name=live.name)
        client.call("TruncateCollection", request, timeout=DELETE_SECONDS, doing=f"emptying {live.name}")
        return
    # A deletion there forgets the partition: a key that another partition holds as well must stay.
    ddl.load(client, live.name, lambda _percent: None)
    while rows := _keys(client, live.name, live.primary, [DEFAULT_PARTITION], keys.everything(live.primary)):
        _refuse_elsewhere(client, live, DEFAULT_PARTITION, rows)
        delete_keys(client, live.name, live.primary, None, rows)
    ddl.flush(client, live.name)  # what is only in memory of a deletion, an insert of the key takes back


def _refuse_elsewhere(client: Client, live: Collection, partition: str, values: Sequence[int | str]) -> None:
    others = [name for name in ddl.partitions(client, live.name) if name != partition]
    elsewhere = _keys(client, live.name, live.primary, others, keys.among(live.primary, values)) if others else []
    if elsewhere:
        raise TargetError(
            f"{len(elsewhere)} keys of {live.name} are in {partition} and in another partition, "
            f"such as {elsewhere[0]!r}: Milvus Lite would remove both",
            where=client.place,
            hint="overwrite the whole collection",
        )


def _keys(client: Client, collection: str, key: Field, partitions: list[str], expression: str) -> list[int | str]:
    question = keys.query(collection, expression, [key.name], partitions=partitions, limit=PAGE)
    answer = client.call("Query", question, timeout=DELETE_SECONDS)
    found: list[int | str] = decode([key], answer.fields_data).column(0).to_pylist()  # not a vector: keys
    return found
