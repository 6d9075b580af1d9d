"""What each way of writing does to the rows that are there: compared by content, by a reader that is not vsync."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import applies
import glove
import grpc
import numpy as np
import pytest
import reader
from conftest import QUICK_ON_LITE

from vsync.connectors.milvus import wire

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Endpoint

SPEC = """
version: 1
target: {milvus: {uri: URI, database: DATABASE}}
defaults: {chunk_bytes: 32KiB}
x-fields: &fields
  id: {type: int64, primary: true}
  vector: {type: float_vector, dim: 50}
  word: {type: varchar, max_length: 512}
x-map: &map {id: ids, vector: vectors, word: words}
x-index: &index {vector: {type: FLAT, metric: L2}}
collections:
"""
COLLECTION = "  {name}: {{fields: *fields, indexes: *index, {more}, data: [{{from: {name}.h5, map: *map}}]}}\n"


class TooLarge(grpc.RpcError):  # type: ignore[misc]  # grpc ships no types
    """What Milvus 2.3.5 answers (observed in test_milvus_writing) to a message above its limit."""

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.RESOURCE_EXHAUSTED

    def details(self) -> str:
        return "grpc: received message larger than max"


def write_spec(folder: Path, target: Endpoint, collections: str) -> None:
    text = SPEC.replace("URI", target.uri).replace("DATABASE", target.database)
    (folder / "vsync.yaml").write_text(text + collections)


@QUICK_ON_LITE
def test_each_way_of_writing_treats_rows_that_are_there_as_it_says(tmp_path: Path, target: Endpoint) -> None:
    ways = ("append", "upsert", "skip", "overwrite")
    write_spec(tmp_path, target, "".join(COLLECTION.format(name=w, more=f"write: {w}") for w in ways))
    old, new = glove.rows(0, 400).changed(), glove.rows(200, 800)
    for way in ways:
        glove.write_hdf5(tmp_path / f"{way}.h5", old)
    applies.apply(tmp_path)
    (tmp_path / ".vsync" / "vsync.db").unlink()
    for way in ways:
        glove.write_hdf5(tmp_path / f"{way}.h5", new)

    assert "--allow-destroy collection.overwrite" in applies.plan(tmp_path, code=12)
    applies.apply(tmp_path, code=12)
    allowed = ("--allow-destroy", "collection.overwrite")
    done = applies.apply(tmp_path, *allowed)
    assert [done.balance("collection.append")[k] for k in ("written", "there", "left")] == [400, 200, 800]
    assert [done.balance("collection.upsert")[k] for k in ("written", "there", "left")] == [600, 200, 800]
    assert [done.balance("collection.overwrite")[k] for k in ("written", "there", "left")] == [600, 0, 600]
    assert not [s for s in done.of("settled") if s["destination"] == "collection.skip"]
    with reader.client_of(target) as client:
        reader.assert_holds(client, "append", new.by_id() | old.by_id())
        reader.assert_holds(client, "upsert", old.by_id() | new.by_id())
        reader.assert_holds(client, "skip", old.by_id())
        reader.assert_holds(client, "overwrite", new.by_id())
    applies.assert_no_changes(tmp_path)


@QUICK_ON_LITE
def test_collisions_strict_and_bad_rows(tmp_path: Path, target: Endpoint) -> None:
    names = {"first": "on_collision: first", "last": "on_collision: last", "bad": "on_bad_row: skip"}
    write_spec(tmp_path, target, "".join(COLLECTION.format(name=n, more=more) for n, more in names.items()))
    good = glove.rows(0, 600)
    twice = glove.Rows(
        np.concatenate([good.ids, good.ids[:100]]),
        np.concatenate([good.vectors, good.vectors[:100] + np.float32(1)]),
        [*good.words, *(f"again {w}" for w in good.words[:100])],
    )
    for name in ("first", "last"):
        glove.write_hdf5(tmp_path / f"{name}.h5", twice)
    words = list(good.words)
    words[7] = words[333] = "x" * 513
    glove.write_hdf5(tmp_path / "bad.h5", glove.Rows(good.ids, good.vectors, words))
    done = applies.apply(tmp_path, code=3)
    assert "2 rows did not fit" in done.problems
    rejects = [json.loads(line) for line in (tmp_path / ".vsync" / "vsync.rejects.jsonl").read_text().splitlines()]
    assert [(r["row"], r["field"]) for r in rejects] == [(7, "word"), (333, "word")]
    applies.assert_no_changes(tmp_path)
    with reader.client_of(target) as client:
        reader.assert_holds(client, "first", good.by_id())
        reader.assert_holds(client, "last", good.by_id() | twice[600:].by_id())
        reader.assert_holds(client, "bad", {k: row for k, row in good.by_id().items() if k not in {7, 333}})
    (tmp_path / ".vsync" / "vsync.db").unlink()
    write_spec(tmp_path, target, COLLECTION.format(name="first", more="strict: true, on_collision: first"))
    refused = applies.apply(tmp_path, code=1)
    assert "strict: true" in refused.problems
    assert "are in collection.first already" in refused.problems


PARTITIONS = """
  parts:
    fields: *fields
    indexes: *index
    write: WRITE
    partitions: {a: {}, b: {write: WRITE_B}, c: {}}
    data:
      - {name: a, from: a.h5, map: *map, into: a}
      - {name: b, from: b.h5, map: *map, into: b}
"""


def write_partitions(folder: Path, target: Endpoint, write: str, write_b: str) -> None:
    write_spec(folder, target, PARTITIONS.replace("WRITE_B", write_b).replace("WRITE", write))


def test_overwriting_a_partition_replaces_that_one_alone(tmp_path: Path, target: Endpoint) -> None:
    write_partitions(tmp_path, target, "append", "overwrite")
    a, b, newer = glove.rows(0, 300), glove.rows(300, 600), glove.rows(450, 700)
    glove.write_hdf5(tmp_path / "a.h5", a)
    glove.write_hdf5(tmp_path / "b.h5", b)
    applies.apply(tmp_path)
    glove.write_hdf5(tmp_path / "b.h5", newer)
    said = applies.plan(tmp_path, code=12)
    assert "collection.parts.partition.b is to be overwritten, and 300 rows are there" in said
    applies.apply(tmp_path, "--allow-destroy", "collection.parts.partition.b")
    with reader.client_of(target) as client:
        reader.assert_holds(client, "parts", a.by_id() | newer.by_id())
        assert [reader.count(client, "parts", partition=p) for p in "abc"] == [300, 250, 0]
    applies.assert_no_changes(tmp_path)


@pytest.mark.parametrize("write", ["upsert", "append"])
def test_keys_in_another_partition(tmp_path: Path, target: Endpoint, write: str) -> None:
    """An upsert moves a row; an append takes its key for one that is there. Either way no key is there twice."""
    write_partitions(tmp_path, target, write, write)
    first = glove.rows(0, 600)
    glove.write_hdf5(tmp_path / "a.h5", first[:300])
    glove.write_hdf5(tmp_path / "b.h5", first[300:])
    applies.apply(tmp_path)
    # b now brings 100 rows that were a's, with other values, and one that is new; a has 100 less.
    moved = glove.Rows(
        np.append(first.ids[200:600], np.int64(9_000)),
        np.concatenate([first.vectors[200:600] + np.float32(1), first.vectors[:1]]),
        [f"new {w}" for w in [*first.words[200:600], "one"]],
    )
    glove.write_hdf5(tmp_path / "a.h5", first[:200])
    glove.write_hdf5(tmp_path / "b.h5", moved)
    done = applies.apply(tmp_path)
    b = done.balance("collection.parts.partition.b")
    new_one = {9_000: moved.by_id()[9_000]}
    expected = first.by_id() | (moved.by_id() if write == "upsert" else new_one)
    in_partitions, written, there = ([200, 401], 401, 300) if write == "upsert" else ([300, 301], 1, 400)
    assert (b["written"], b["there"], b["left"]) == (written, there, in_partitions[1])
    with reader.client_of(target) as client:
        reader.assert_holds(client, "parts", expected)
        assert [reader.count(client, "parts", partition=p) for p in "ab"] == in_partitions
    applies.assert_no_changes(tmp_path)


def test_a_partition_that_is_overwritten_takes_its_keys_from_the_others(tmp_path: Path, target: Endpoint) -> None:
    """Rows that no data brings to another partition any more are still there: a key must not be there twice."""
    write_partitions(tmp_path, target, "append", "overwrite")
    rows = glove.rows(0, 600)
    glove.write_hdf5(tmp_path / "a.h5", rows[:300])
    glove.write_hdf5(tmp_path / "b.h5", rows[300:400])
    applies.apply(tmp_path)
    moved = rows[200:600].changed()
    glove.write_hdf5(tmp_path / "a.h5", rows[:200])
    glove.write_hdf5(tmp_path / "b.h5", moved)
    allowed = ("--allow-destroy", "collection.parts.partition.b")
    said = applies.plan(tmp_path, *allowed, code=2)
    assert "rows of other partitions that have its keys go from there" in said
    done = applies.apply(tmp_path, *allowed)
    assert done.balance("collection.parts.partition.b")["left"] == 400
    with reader.client_of(target) as client:
        reader.assert_holds(client, "parts", rows[:200].by_id() | moved.by_id())
        assert [reader.count(client, "parts", partition=p) for p in "abc"] == [200, 400, 0]
    applies.assert_no_changes(tmp_path)


@QUICK_ON_LITE
def test_the_count_of_a_partition_is_exact_whatever_was_done(tmp_path: Path, target: Endpoint) -> None:
    """Lite is counted by its statistics: after upserts, replacing inserts and deletes, before and after a flush."""
    write_partitions(tmp_path, target, "upsert", "append")
    rows = glove.rows(0, 600)
    glove.write_hdf5(tmp_path / "a.h5", rows[:300])
    glove.write_hdf5(tmp_path / "b.h5", rows[300:])
    applies.apply(tmp_path)
    glove.write_hdf5(tmp_path / "a.h5", rows[:300].changed())  # the same keys again
    done = applies.apply(tmp_path)
    assert done.balance("collection.parts.partition.a")["left"] == 300
    with reader.client_of(target) as client:
        client.load_collection("parts")
        client.delete("parts", filter="id in [0, 1, 2, 299]")
        if target.kind.startswith("lite"):  # there an insert replaces
            reader.insert(client, "parts", rows[300:310].changed(), "b")
        counts = {p: reader.count(client, "parts", partition=p) for p in "abc"}
    assert counts == {"a": 296, "b": 300, "c": 0}
    said = applies.plan(tmp_path, code=2)
    assert "296 rows, vsync left 300" in said
    applies.apply(tmp_path)
    with reader.client_of(target) as client:
        client.flush("parts")
        client.load_collection("parts")
        assert {p: reader.count(client, "parts", partition=p) for p in "abc"} == {"a": 300, "b": 300, "c": 0}
    applies.assert_no_changes(tmp_path)


@QUICK_ON_LITE
def test_an_upsert_that_changes_a_partition_key_leaves_one_row(tmp_path: Path, target: Endpoint) -> None:
    """The new row goes where its new partition key belongs; the old one lies elsewhere, and must not stay there."""
    word = "word: {type: varchar, max_length: 512, partition_key: true}"
    fields = f"{{id: {{type: int64, primary: true}}, vector: {{type: float_vector, dim: 50}}, {word}}}"
    what = f"  keyed: {{fields: {fields}, indexes: *index, write: upsert, data: [{{from: keyed.h5, map: *map}}]}}\n"
    write_spec(tmp_path, target, what)
    old = glove.rows(0, 400).changed()
    glove.write_hdf5(tmp_path / "keyed.h5", old)
    applies.apply(tmp_path)
    (tmp_path / ".vsync" / "vsync.db").unlink()
    new = glove.rows(200, 800)
    glove.write_hdf5(tmp_path / "keyed.h5", new)
    done = applies.apply(tmp_path)
    assert [done.balance("collection.keyed")[k] for k in ("written", "there", "left")] == [600, 200, 800]
    with reader.client_of(target) as client:
        reader.assert_holds(client, "keyed", old.by_id() | new.by_id())
    applies.assert_no_changes(tmp_path)


@QUICK_ON_LITE
def test_requests_that_are_too_large_are_halved(
    tmp_path: Path, target: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "key: {type: int64, primary: true, auto_id: true}"
    made = f"{{{key}, vector: {{type: float_vector, dim: 50}}, id: {{type: int64}}}}"
    data = "[{from: keyed.h5, map: {vector: vectors, id: ids}}]"
    keyed = COLLECTION.format(name="keyed", more="write: append")
    write_spec(tmp_path, target, f"{keyed}  made: {{fields: {made}, indexes: *index, data: {data}}}\n")
    what = glove.rows(0, 600)
    glove.write_hdf5(tmp_path / "keyed.h5", what)
    refused = []
    call_bytes = wire.Connection.call_bytes

    def small_alone(self: wire.Connection, method: str, payload: bytes, timeout: float) -> object:
        if len(payload) <= 10_000:  # chunks here have 32 KiB
            return call_bytes(self, method, payload, timeout)
        refused.append(method)
        raise TooLarge

    monkeypatch.setattr(wire.Connection, "call_bytes", small_alone)
    applies.apply(tmp_path)
    assert len(refused) >= 4
    with reader.client_of(target) as client:
        reader.assert_holds(client, "keyed", what.by_id())
        client.load_collection("made")
        assert reader.count(client, "made") == 600
        assert len(reader.read(client, "made", "id", what.ids.tolist(), ["id"])) == 600


@QUICK_ON_LITE
def test_rows_that_are_gone_come_back_whoever_made_their_keys(tmp_path: Path, target: Endpoint) -> None:
    key = "key: {type: int64, primary: true, auto_id: true}"
    made = f"{{{key}, vector: {{type: float_vector, dim: 50}}, id: {{type: int64}}}}"
    data = "[{from: keyed.h5, map: {vector: vectors, id: ids}}]"
    keyed = COLLECTION.format(name="keyed", more="write: append")
    write_spec(tmp_path, target, f"{keyed}  made: {{fields: {made}, indexes: *index, data: {data}}}\n")
    what = glove.rows(0, 600)
    glove.write_hdf5(tmp_path / "keyed.h5", what)
    applies.apply(tmp_path)
    gone = what.ids[[3, 200, 201, 599]].tolist()
    with reader.client_of(target) as client:
        for name in ("keyed", "made"):
            client.load_collection(name)
        keys = [row["key"] for row in reader.read(client, "made", "id", gone, ["key", "id"])]
        client.delete("keyed", ids=gone)
        client.delete("made", ids=keys)
        client.flush("made")
    shown = applies.plan(tmp_path, code=2)
    assert "596 rows, vsync left 600: all keys are compared again when applied" in shown
    assert "596 rows, vsync left 600: chunks that lost rows are sent again" in shown
    applies.apply(tmp_path)
    with reader.client_of(target) as client:
        reader.assert_holds(client, "keyed", what.by_id())
        client.load_collection("made")
        assert reader.count(client, "made") == 600
        assert len(reader.read(client, "made", "id", what.ids.tolist(), ["id"])) == 600
    applies.assert_no_changes(tmp_path)
