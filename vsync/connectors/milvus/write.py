"""The way into one collection and partition: requests encoded, sent once each, and keys that are there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vsync.connectors.base import Acked
from vsync.connectors.milvus import codec, ddl, keys
from vsync.connectors.milvus.clear import delete_keys
from vsync.connectors.milvus.decode import decode
from vsync.connectors.milvus.failures import NOT_LOADED, RefusedError
from vsync.connectors.milvus.wire import milvus_pb2
from vsync.errors import TargetError, TooLargeError
from vsync.schema import DEFAULT_PARTITION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from vsync.connectors.milvus.client import Client
    from vsync.schema import Collection

PROBED_AT_ONCE = 8_000
"""Half of a query's window: also where every key is there twice, no answer is cut off."""

SEND_SECONDS = 60.0
SLOWEST_BYTES_PER_SECOND = 500_000


class MilvusWriter:
    """See :class:`vsync.connectors.base.Writer`. Used by several threads at once."""

    def __init__(
        self, client: Client, collection: Collection, partition: str | None, load: Callable[[], None] | None
    ) -> None:
        self._client = client
        self._collection = collection
        self._partition = partition
        self._load = load
        holds = client.server.holds
        # Where an insert replaces the row of its key, an upsert would keep the dynamic values of the old one.
        insert = collection.primary.auto_id or holds.insert_replaces
        self._method = "Insert" if insert else "Upsert"
        self._limit = holds.request_bytes

    def encode(self, rows: pa.RecordBatch) -> list[codec.Request]:
        """Turn rows into requests; keys must differ: what comes twice in a request is stored twice."""
        key = self._collection.primary
        if not key.auto_id and key.name in rows.schema.names:
            column = rows.column(key.name)
            if pc.count_distinct(column).as_py() != len(column):
                raise TargetError(f"two rows of one chunk have the same key in {key.name}")
        return codec.encode(rows, self._collection, self._partition, self._limit)

    def halve(self, request: codec.Request) -> list[codec.Request]:
        """Make requests of half the size of one that the server found too large; later ones are not larger."""
        if request.rows == 1:
            raise TooLargeError(
                f"one row of {self._collection.name} is a request of {len(request.payload):,} bytes, which the server "
                "finds too large",
                where=self._client.place,
                hint="raise the server's limit (proxy.grpc.serverMaxRecvSize), or leave a field out of the map",
            )
        self._limit = min(self._limit, max(1, len(request.payload) // 2))
        message = milvus_pb2.InsertRequest.FromString(request.payload)
        rows = decode(codec.wire_fields(self._collection), message.fields_data, request.rows)
        return [smaller for half in codec.halves(rows) for smaller in self.encode(half)]

    def send(self, request: codec.Request) -> Acked:
        """Send one request once; raises :class:`TransientError` where it may have been carried out or not."""
        seconds = SEND_SECONDS + len(request.payload) / SLOWEST_BYTES_PER_SECOND
        answer = self._client.call_bytes(self._method, request.payload, seconds)
        written = answer.upsert_cnt if self._method == "Upsert" else answer.insert_cnt
        if answer.err_index or written != request.rows:
            raise TargetError(
                f"the server says that it wrote {written} of {request.rows} rows of {self._collection.name}",
                where=self._client.place,
                hint="count and check the collection before going on: vsync check",
            )
        if not self._collection.primary.auto_id:
            return Acked(request.rows)
        made = _made(answer.IDs)
        if len(made) != request.rows:
            what = f"the server says that it made {len(made)} keys for {request.rows} rows of {self._collection.name}"
            raise TargetError(what, where=self._client.place, hint="count and check the collection: vsync check")
        return Acked(request.rows, _ranges(made), made)

    def probe(self, keys_: pa.Array, *, everywhere: bool = True) -> pa.BooleanArray:
        """Tell for each key, in order, whether the collection holds it now, in whatever partition or in this one."""
        if not len(keys_):
            return pa.array([], pa.bool_())
        # A probe waits for this time once, instead of at each of its questions.
        at = ddl.now(self._client)
        partitions = () if everywhere or self._partition is None else (self._partition,)
        found = [self._found(part, at, partitions) for part in _cut(keys_)]
        return pc.is_in(keys_, value_set=pa.concat_arrays(found))

    def displace(self, keys_: pa.Array) -> None:
        """Remove the rows with these keys from other partitions, where upserts into this one would leave them there.

        A repeated or late request does no harm on Milvus: it never touches the partition that is written to.
        """
        if self._client.server.holds.upsert_looks_in_partition_only and self._partition is not None:
            self.delete(keys_, except_partition=self._partition)

    def delete(self, keys_: pa.Array, *, except_partition: str | None) -> None:
        """Delete the rows with these keys from every partition but one, before they are written to that one.

        For servers whose upsert looks in one partition only (``upsert_looks_in_partition_only``). Works
        unloaded on Milvus. Lite forgets partitions when it deletes: keys that others hold go everywhere.
        """
        others = [name for name in self._partitions() if name != (except_partition or DEFAULT_PARTITION)]
        if not others:
            return
        key, forgets = self._collection.primary, self._client.server.holds.insert_replaces
        for part in _cut(keys_):
            there = self._found(part, None, others) if forgets else part
            values = there.to_pylist()  # not a vector: keys
            for partition in (None,) if forgets else others:
                delete_keys(self._client, self._collection.name, key, partition, values)
            if forgets and values:
                # What is only in memory of a deletion, the next insert of the key takes back.
                ddl.flush(self._client, self._collection.name)

    def _partitions(self) -> list[str]:
        request = milvus_pb2.ShowPartitionsRequest(collection_name=self._collection.name)
        return list(self._client.call("ShowPartitions", request).partition_names)

    def _found(self, part: pa.Array, at: int | None, partitions: Sequence[str] = ()) -> pa.Array:
        """Give those of these keys that are there; an edge of int64 is counted, since no query returns it."""
        key, values = self._collection.primary, part.to_pylist()  # not a vector: keys
        edges = keys.edges(key)
        there = [
            value
            for value in set(values) & set(edges)
            if keys.counted(self._ask(edges[value], ["count(*)"], at, partitions))
        ]
        plain = [value for value in values if value not in edges]
        if not plain:
            return pa.array(there, part.type)
        answer = self._ask(keys.among(key, plain), [key.name], at, partitions, limit=keys.WINDOW)
        return pa.concat_arrays([decode([key], answer.fields_data).column(0), pa.array(there, part.type)])

    def _ask(
        self,
        expression: str,
        fields: Sequence[str],
        at: int | None,
        partitions: Sequence[str],
        *,
        limit: int | None = None,
    ) -> Any:
        name = self._collection.name
        request = keys.query(name, expression, fields, partitions=partitions, limit=limit, at=at)
        doing = f"asking which keys {name} holds"
        try:
            return ddl.ask(self._client, request, doing=doing)
        except RefusedError as error:
            if error.code != NOT_LOADED or self._load is None:
                raise
        self._load()
        return ddl.ask(self._client, request, doing=doing)


def _cut(keys_: pa.Array) -> Iterator[pa.Array]:
    for start in range(0, len(keys_), PROBED_AT_ONCE):
        yield keys_.slice(start, PROBED_AT_ONCE)


def _made(ids: Any) -> NDArray[np.int64]:
    """Give the keys that a server handed out, in the order of the rows."""
    texts = ids.str_id.data
    made = [int(text) for text in texts] if texts else ids.int_id.data
    return np.fromiter(made, np.int64, len(made))


def _ranges(made: NDArray[np.int64]) -> tuple[tuple[int, int], ...]:
    """Turn keys into ranges, first and last included."""
    numbers = np.sort(made)
    if not len(numbers):
        return ()
    breaks = np.flatnonzero(np.diff(numbers) != 1)
    firsts = numbers[np.concatenate(([0], breaks + 1))]
    lasts = numbers[np.concatenate((breaks, [len(numbers) - 1]))]
    return tuple(zip(firsts.tolist(), lasts.tolist(), strict=True))  # not a vector: ends of ranges
