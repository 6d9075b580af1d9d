"""The two that scripts/bench --milvus compares with: a plain script, and rows forwarded as fast as two servers do it.

bench_forward.py plain SOURCE_URI TARGET_URI DIM            query_iterator into insert, a thousand rows at a time, flush
bench_forward.py ceiling SOURCE_URI TARGET_URI DIM ROWS RANGE_ROWS METHOD IN_FLIGHT WRITERS

The ceiling knows the ranges of the keys beforehand. Each of its threads asks for a range by the cheapest query there is
(not counted, not checked, eventually consistent) and sends the columns on as they came, undecoded. No journal, no
digests. Prints what the copying took.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from threading import BoundedSemaphore
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

DATABASE, NAME = "bench_source", "source"
"""What is copied from; copies go into the database ``default``."""
BATCH = 1_000
SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Columns:
    """The answer to a query: its status, and the serialized FieldData messages of a request."""

    status: Any
    parts: list[Any]


def plain(source_uri: str, target_uri: str, dim: int) -> dict[str, float]:
    """Do what one writes with pymilvus on an afternoon."""
    from pymilvus import DataType, MilvusClient

    source, target = MilvusClient(source_uri, db_name=DATABASE), MilvusClient(target_uri)
    schema = target.create_schema(auto_id=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dim)
    schema.add_field("word", DataType.VARCHAR, max_length=64)
    target.create_collection("bench_plain", schema=schema)

    def copy() -> None:
        rows = source.query_iterator(NAME, batch_size=BATCH, output_fields=["id", "vector", "word"])
        while page := rows.next():
            target.insert("bench_plain", page)
        rows.close()

    said = timed(copy)
    target.flush("bench_plain")
    return said


def ceiling(
    source_uri: str, target_uri: str, dim: int, rows: int, range_rows: int, method: str, in_flight: int, writers: int
) -> dict[str, float]:
    """Forward range after range, ``in_flight`` at a time, of which ``writers`` may be writing."""
    from vsync.connectors.milvus import keys
    from vsync.connectors.milvus.client import Client
    from vsync.connectors.milvus.target import MilvusTarget
    from vsync.connectors.milvus.wire import common_pb2, milvus_pb2

    writing = BoundedSemaphore(writers)
    with (
        closing(Client(source_uri, None, DATABASE, create=False)) as source,
        closing(Client(target_uri, None, None, create=False)) as client,
        ThreadPoolExecutor(in_flight) as executor,
    ):
        target = MilvusTarget(client)
        target.create_collection(collection("bench_ceiling", dim))

        def forward(lo: int) -> None:
            hi = min(lo + range_rows, rows)
            question = keys.query(NAME, f"id >= {lo} and id < {hi}", ["id", "vector", "word"], limit=hi - lo)
            question.consistency_level = common_pb2.ConsistencyLevel.Eventually
            answer = source.call("Query", question, timeout=SECONDS, read=columns_of)
            start = milvus_pb2.InsertRequest(collection_name="bench_ceiling", num_rows=hi - lo)
            payload = b"".join([start.SerializeToString(), *answer.parts])
            with writing:
                written = client.call_bytes(method, payload, SECONDS)
            if hi - lo != (written.upsert_cnt if method == "Upsert" else written.insert_cnt):
                raise RuntimeError(f"the server wrote less than {hi - lo} rows: {written}")

        said = timed(lambda: list(executor.map(forward, range(0, rows, range_rows))))
        target.flush("bench_ceiling")
    return said


def columns_of(payload: bytes) -> Columns:
    """Make the columns of a serialized QueryResults those of an InsertRequest, looking into none."""
    from vsync.connectors.milvus.answers import parts_of
    from vsync.connectors.milvus.codec import delimited
    from vsync.connectors.milvus.wire import milvus_pb2

    def number(message: Any, name: str) -> int:
        return int(message.DESCRIPTOR.fields_by_name[name].number)

    came, goes = number(milvus_pb2.QueryResults, "fields_data"), number(milvus_pb2.InsertRequest, "fields_data")
    raw, rest, parts = memoryview(payload), list[Any](), list[Any]()
    for found, begin, start, end in parts_of(raw):
        if found == came:
            parts += delimited(goes, [raw[start:end]])
        else:
            rest.append(raw[begin:end])
    return Columns(milvus_pb2.QueryResults.FromString(b"".join(rest)).status, parts)


def collection(name: str, dim: int) -> Any:
    """Describe what is copied: a key, a vector and a text."""
    from vsync.schema import Collection, DataType, Field

    fields = (
        Field("id", DataType.INT64, primary=True),
        Field("vector", DataType.FLOAT_VECTOR, dim=dim),
        Field("word", DataType.VARCHAR, max_length=64),
    )
    return Collection(name, fields)


def timed(function: Callable[[], object]) -> dict[str, float]:
    """Tell what a call takes, all threads."""
    began, used = time.monotonic(), time.process_time()
    function()
    return {"copy_seconds": time.monotonic() - began, "copy_cpu_seconds": time.process_time() - used}


def main() -> None:
    """Run one of the two."""
    way, source, target, *rest = sys.argv[1:]
    if way == "plain":
        said = plain(source, target, int(rest[0]))
    else:
        dim, rows, range_rows, method, in_flight, writers = rest
        said = ceiling(source, target, int(dim), int(rows), int(range_rows), method, int(in_flight), int(writers))
    print(json.dumps(said))


if __name__ == "__main__":
    main()
