"""Rows into the three servers and back, bit by bit; keys asked for; what twice was sent is there once."""

from __future__ import annotations

import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
from milvus_rows import EVERYWHERE, KEY, VECTOR, make, opened, rows, send

from vsync.connectors.milvus import keys
from vsync.connectors.milvus.decode import decode
from vsync.errors import TargetError, TooLargeError
from vsync.schema import Collection, DataType, Field, Index

if TYPE_CHECKING:
    from conftest import Endpoint

    from vsync.connectors.milvus.target import MilvusTarget

PLAIN = Collection("c", (KEY, VECTOR), indexes=(Index("v"),))
TEXT_KEY = Field("id", DataType.VARCHAR, primary=True, max_length=64)
NASTY = ["", '"', "\\", 'a"b\\c\nd\te\rf', "数据\U0001f600", "x' or 1 == 1", "100%", "\\n", "\u0000", " "]


def read(target: MilvusTarget, collection: Collection) -> pa.RecordBatch:
    """Read all rows, by key."""
    names = [f.name for f in collection.fields]
    question = keys.query(collection.name, keys.everything(collection.primary), names, limit=keys.WINDOW)
    answer = target._client.call("Query", question)
    batch = decode(collection.fields, answer.fields_data)
    return batch.take(pa.compute.sort_indices(batch.column(collection.primary.name)))


def test_every_type_comes_back_as_it_was_sent(target: Endpoint) -> None:
    desired = Collection("c", EVERYWHERE, indexes=(Index("v"),))
    batch = rows(desired, pa.array(range(-20, 40)))
    with opened(target) as milvus:
        make(milvus, desired)
        assert send(milvus, desired, batch.slice(7, 31)) == 31
        got = read(milvus, desired)
    sent = batch.slice(7, 31)
    if target.kind != "milvus-2.3.5":  # Lite writes JSON anew: the same values in other bytes
        texts = [[json.loads(text) for text in rows.column("j").to_pylist()] for rows in (got, sent)]
        assert texts[0] == texts[1]
        got, sent = got.drop_columns("j"), sent.drop_columns("j")
    assert repr(got.to_pylist()) == repr(sent.to_pylist())


def test_nulls_come_back_as_nulls_where_the_server_has_them(target: Endpoint) -> None:
    fields = [dataclasses.replace(f, nullable=not (f.primary or f.type.is_vector)) for f in EVERYWHERE]
    desired = Collection("c", tuple(fields), indexes=(Index("v"),))
    with opened(target) as milvus:
        if milvus.conflicts(desired):
            return
        make(milvus, desired)
        batch = rows(desired, pa.array(range(60)))
        send(milvus, desired, batch)
        got = read(milvus, desired)
        for name in got.schema.names:
            assert got.column(name).is_valid().equals(batch.column(name).is_valid()), name
        assert repr(got.column("s").to_pylist()) == repr(batch.column("s").to_pylist())


def test_what_is_sent_twice_is_there_once_and_takes_the_last_values(target: Endpoint) -> None:
    desired = dataclasses.replace(PLAIN, dynamic=True)
    first = rows(desired, pa.array(range(500)))
    second = first.set_column(2, "$meta", pa.array([b'{"b": 2}'] * 500, pa.binary()))
    with opened(target) as milvus:
        make(milvus, desired)
        for batch in (first, first, second):
            assert send(milvus, desired, batch) == 500
        assert milvus.count("c", None) == 500
        milvus.flush("c")
        assert milvus.count("c", None) == 500
        question = keys.query("c", "id in [0, 1]", ["$meta"], limit=10)
        fields = milvus._client.call("Query", question).fields_data
        meta = next(f for f in fields if f.is_dynamic or f.field_name == "$meta")
        assert {bytes(cell).replace(b" ", b"") for cell in meta.scalars.json_data.data} == {b'{"b":2}'}


def test_several_requests_at_once_into_one_collection(target: Endpoint) -> None:
    with opened(target) as milvus, ThreadPoolExecutor(milvus.writers) as pool:
        make(milvus, PLAIN)
        writer = milvus.writer(PLAIN, None)
        batches = [rows(PLAIN, pa.array(range(n * 300, (n + 1) * 300))) for n in range(8)]
        sent = [request for batch in batches for request in writer.encode(batch)]
        assert sum(acked.rows for acked in pool.map(writer.send, sent)) == 2_400
        assert milvus.count("c", None) == 2_400
        assert writer.probe(pa.array(range(2_500))).true_count == 2_400


@pytest.mark.parametrize("partition", [None, "p"])
def test_probing_finds_keys_in_every_partition(target: Endpoint, partition: str | None) -> None:
    desired = dataclasses.replace(PLAIN, partitions=("p",))
    with opened(target) as milvus:
        make(milvus, desired)
        send(milvus, desired, rows(desired, pa.array(range(0, 40_000, 4))), "p")
        asked = np.arange(39_990, -10, -1)
        held = milvus.writer(desired, partition).probe(pa.array(asked))
        assert held.to_pylist() == [key % 4 == 0 and key >= 0 for key in asked.tolist()]
        assert milvus.writer(desired, partition).probe(pa.array([], pa.int64())).to_pylist() == []


def test_the_ends_of_int64_are_keys_like_others(target: Endpoint) -> None:
    ends = [-(2**63), -(2**63) + 1, -1, 0, 2**63 - 2, 2**63 - 1]
    with opened(target) as milvus:
        make(milvus, PLAIN)
        writer = milvus.writer(PLAIN, None)
        assert writer.probe(pa.array(ends)).to_pylist() == [False] * 6
        send(milvus, PLAIN, rows(PLAIN, pa.array(ends)))
        assert writer.probe(pa.array([*ends, 1])).to_pylist() == [True] * 6 + [False]
        assert (milvus.count("c", None), milvus.count("c", "_default")) == (6, 6)
        milvus.clear("c", None)
        assert milvus.count("c", None) == 0


def test_texts_of_every_kind_are_keys(target: Endpoint) -> None:
    desired = Collection("c", (TEXT_KEY, VECTOR), indexes=(Index("v"),))
    with opened(target) as milvus:
        make(milvus, desired)
        send(milvus, desired, rows(desired, pa.array(NASTY)))
        asked = pa.array([*NASTY, "no", '""', "\\\\"])
        assert milvus.writer(desired, None).probe(asked).to_pylist() == [True] * len(NASTY) + [False] * 3
        assert (milvus.count("c", None), milvus.count("c", "_default")) == (len(NASTY), len(NASTY))


def test_the_keys_that_a_server_makes_come_back_as_ranges(target: Endpoint) -> None:
    desired = Collection("c", (dataclasses.replace(KEY, auto_id=True), VECTOR), indexes=(Index("v"),))
    with opened(target) as milvus:
        make(milvus, desired)
        writer = milvus.writer(desired, None)
        acked = [writer.send(r) for _ in range(3) for r in writer.encode(rows(desired, pa.array(range(200))))]
        made = sorted(pair for one in acked for pair in one.key_ranges)
        assert sum(last - first + 1 for first, last in made) == 600
        assert all(a[1] < b[0] for a, b in pairwise(made))


def test_deletes_by_key_and_by_partition(target: Endpoint) -> None:
    desired = dataclasses.replace(PLAIN, partitions=("p",))
    lowest = -(2**63)
    with opened(target) as milvus:
        make(milvus, desired)
        send(milvus, desired, rows(desired, pa.array([lowest, *range(1_000)])), "p")
        send(milvus, desired, rows(desired, pa.array(range(2_000, 2_500))))
        milvus.delete("c", "p", pa.array([lowest, 3, 5, 7_777]))
        milvus.delete("c", None, pa.array([2_000, 999]))
        live = milvus.observe(["c"])["c"]
        assert (live.rows, live.partition_rows) == (1_496, {"_default": 499, "p": 997})
        send(milvus, desired, rows(desired, pa.array([10, 11])))
        if target.kind == "milvus-2.3.5":
            milvus.delete("c", "p", pa.array([10]))
            assert milvus.count("c", "p") == 996
            assert milvus.count("c", "_default") == 501
        else:  # a deletion there forgets the partition
            with pytest.raises(TargetError, match="another partition"):
                milvus.delete("c", "p", pa.array([10]))


def test_a_key_moves_from_one_partition_to_another(target: Endpoint) -> None:
    desired = dataclasses.replace(PLAIN, partitions=("p",))
    with opened(target) as milvus:
        make(milvus, desired)
        send(milvus, desired, rows(desired, pa.array(range(1_000))), "p")
        milvus.flush("c")
        assert milvus._client.server.holds.upsert_looks_in_partition_only
        writer, moved = milvus.writer(desired, None), pa.array(range(990, 1_010))
        writer.delete(moved, except_partition=None)
        assert milvus.count("c", None) == 990
        assert send(milvus, desired, rows(desired, moved)) == 20
        live = milvus.observe(["c"])["c"]
        assert (live.rows, live.partition_rows) == (1_010, {"_default": 20, "p": 990})


def test_two_rows_of_one_key_are_not_sent(target: Endpoint) -> None:
    with opened(target) as milvus, pytest.raises(TargetError, match="same key in id"):
        milvus.writer(PLAIN, None).encode(rows(PLAIN, pa.array([1, 2, 1])))


def test_a_chunk_larger_than_a_request_is_sent_in_parts(target: Endpoint) -> None:
    desired = Collection("c", (KEY, Field("v", DataType.FLOAT_VECTOR, dim=16_384)), indexes=(Index("v"),))
    with opened(target) as milvus:
        make(milvus, desired)
        writer = milvus.writer(desired, None)
        batch = rows(desired, pa.array(range(700)))  # 44 MiB
        requests = writer.encode(batch)
        limit = milvus._client.server.holds.request_bytes
        assert len(requests) == (2 if target.kind == "milvus-2.3.5" else 1)
        assert max(len(request.payload) for request in requests) <= limit
        if target.kind == "milvus-2.3.5":
            assert [writer.send(request).rows for request in requests] == [350, 350]
            assert milvus.count("c", None) == 700


def test_a_request_that_is_too_large_after_all_says_so(target: Endpoint) -> None:
    if target.kind != "milvus-2.3.5":
        return  # 256 MiB there: too much for a quick test
    desired = Collection("c", (KEY, Field("v", DataType.FLOAT_VECTOR, dim=16_384)), indexes=(Index("v"),))
    with opened(target) as milvus:
        milvus.create_collection(desired)
        writer = milvus.writer(desired, None)
        writer._limit = 1 << 30
        with pytest.raises(TooLargeError):
            writer.send(writer.encode(rows(desired, pa.array(range(1_100))))[0])


def test_a_request_is_made_smaller_without_changing_a_bit(target: Endpoint) -> None:
    desired = Collection("c", EVERYWHERE, indexes=(Index("v"),), dynamic=True)
    with opened(target) as milvus:
        milvus.create_collection(desired)
        writer = milvus.writer(desired, None)
        batch = rows(desired, pa.array(range(61)))
        (whole,) = writer.encode(batch)
        parts = writer.halve(whole)
        limit = len(whole.payload) // 2
        assert sum(part.rows for part in parts) == 61
        assert max(len(part.payload) for part in parts) <= limit
        start = 0
        for part in parts:
            assert [part] == writer.encode(batch.slice(start, part.rows)), "as if it had been cut so from the first"
            start += part.rows
        assert len(writer.encode(batch)) == len(parts), "later requests are as small"
        with pytest.raises(TooLargeError, match="one row"):
            writer.halve(writer.encode(batch.slice(0, 1))[0])


def test_a_row_that_the_server_refuses_is_an_error(target: Endpoint) -> None:
    short = Collection("c", (KEY, VECTOR, Field("s", DataType.VARCHAR, max_length=2)), indexes=(Index("v"),))
    with opened(target) as milvus:
        make(milvus, short)
        with pytest.raises(TargetError, match="writing rows"):
            send(milvus, short, rows(short, pa.array(range(10))))
        assert milvus.count("c", None) == 0
