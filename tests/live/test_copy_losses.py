"""What a copy loses: refused until it is accepted by name, then left alone; and keys that the new server makes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import applies
import numpy as np
import pyarrow as pa
import reader
from conftest import QUICK_ON_LITE, Endpoint
from milvus_rows import VECTOR, make, opened, send

from vsync.schema import DYNAMIC_FIELD, Collection, DataType, Field, Index

if TYPE_CHECKING:
    from pathlib import Path

    from chaos.lite25 import Lite25Server
    from pymilvus import MilvusClient

KEY = Field("id", DataType.INT64, primary=True)
NUMBER = Field("n", DataType.INT64)
NOTE = Field("note", DataType.VARCHAR, max_length=8)
FEW = {"id": {"type": "int64", "primary": True}, "v": {"type": "float_vector", "dim": 4}}
MADE = {"id": {"type": "int64", "primary": True, "auto_id": True}}


def source(endpoint: Endpoint, name: str, *fields: Field, rows: int = 20, dynamic: bool = False) -> None:
    """Make a collection with ``n`` from 0; what else there is is made of that."""
    made = Collection(name, (*fields, NUMBER, VECTOR), dynamic=dynamic, indexes=(Index("v", "FLAT", "L2"),))
    numbers = np.arange(rows)
    vectors = np.repeat(numbers, 4).astype("f4")
    columns = {
        "id": pa.array(numbers),
        "n": pa.array(numbers),
        "v": pa.FixedSizeListArray.from_arrays(pa.array(vectors), 4),
        "note": pa.array([None if n % 7 == 3 else f"n{n}" for n in numbers]),
        DYNAMIC_FIELD: pa.array([json.dumps({"extra": int(n)}).encode() for n in numbers], pa.binary()),
    }
    brought = {f.name for f in made.columns if not f.auto_id}
    with opened(endpoint) as target:
        make(target, made)
        send(target, made, pa.RecordBatch.from_pydict({name: c for name, c in columns.items() if name in brought}))
        target.flush(name)


def write_spec(folder: Path, target: Endpoint, *names: str, at: Endpoint | None = None, **said: Any) -> None:
    """Copy the collections of these names, all into ``copy``."""
    at = at or target
    places = [{"uri": at.uri, "database": at.database, "collection": name} for name in names]
    copy = said | {"data": [{"name": p["collection"], "from": {"milvus": p}} for p in places]}
    milvus = {"uri": target.uri, "database": target.database}
    spec = {
        "version": 1,
        "target": {"milvus": milvus},
        "defaults": {"chunk_bytes": "4KiB"},
        "collections": {"copy": copy},
    }
    (folder / "vsync.yaml").write_text(json.dumps(spec))


def numbers(endpoint: Endpoint) -> list[int]:
    with reader.client_of(endpoint) as client:
        client.load_collection("copy")
        rows = client.query("copy", filter="n >= 0", output_fields=["n", "v"], limit=10_000, consistency_level="Strong")
    assert all(list(row["v"]) == [row["n"]] * 4 for row in rows)
    return sorted(int(row["n"]) for row in rows)


def keys(client: MilvusClient, name: str) -> dict[int, int]:
    client.load_collection(name)
    rows = client.query(name, filter="n >= 0", output_fields=["n", "id"], limit=100, consistency_level="Strong")
    return {row["n"]: row["id"] for row in rows}


@QUICK_ON_LITE
def test_a_loss_is_refused_until_it_is_accepted_by_name(tmp_path: Path, target: Endpoint) -> None:
    source(target, "from", KEY, dynamic=True)
    write_spec(tmp_path, target, "from", dynamic=False)
    refused = applies.plan(tmp_path, code=12)
    assert "collection.copy.field.$meta is not copied as it is" in refused
    assert "accept_loss: [collection.copy.field.$meta]" in refused
    applies.apply(tmp_path, code=12)

    accepted = ["collection.copy.field.$meta", "collection.copy.field.gone"]
    write_spec(tmp_path, target, "from", dynamic=False, accept_loss=accepted)
    shown = applies.plan(tmp_path, code=2)
    assert "1 lost" in shown
    warned = next(line for line in shown.splitlines() if "not needed any more" in line)
    assert "collection.copy.field.gone" in warned
    applies.apply(tmp_path)
    assert numbers(target) == list(range(20))
    applies.assert_no_changes(tmp_path)
    write_spec(tmp_path, target, "from", dynamic=False)
    applies.assert_no_changes(tmp_path)


@QUICK_ON_LITE
def test_a_field_that_the_collection_there_lacks_is_not_left_out_in_silence(tmp_path: Path, target: Endpoint) -> None:
    source(target, "from", KEY, dynamic=True)
    write_spec(tmp_path, target, "from", dynamic=False, fields=FEW, accept_loss=["collection.copy.field.$meta"])
    applies.apply(tmp_path)  # these alone are wanted
    with reader.client_of(target) as client:
        client.load_collection("copy")
        client.delete("copy", filter="id >= 0")
    write_spec(tmp_path, target, "from")
    refused = applies.plan(tmp_path, code=12)
    lost = ["collection.copy.field.n", "collection.copy.field.$meta"]
    for address in lost:
        assert f"{address} is not copied as it is: that of" in refused
    assert "the collection has no such field" in refused
    write_spec(tmp_path, target, "from", accept_loss=lost)
    applies.apply(tmp_path)
    write_spec(tmp_path, target, "from")
    applies.assert_no_changes(tmp_path)


@QUICK_ON_LITE
def test_a_field_that_only_a_later_source_has_is_not_left_out_in_silence(tmp_path: Path, target: Endpoint) -> None:
    source(target, "one", KEY)
    source(target, "two", KEY, Field("note", DataType.VARCHAR, max_length=8, default="none"))
    write_spec(tmp_path, target, "one", "two", on_collision="first")
    assert "collection.copy.field.note is not copied as it is" in applies.plan(tmp_path, code=12)
    write_spec(tmp_path, target, "one", "two", on_collision="first", accept_loss=["collection.copy.field.note"])
    applies.apply(tmp_path)
    assert numbers(target) == list(range(20))
    applies.assert_no_changes(tmp_path)


def test_nulls_are_refused_row_by_row_where_a_field_takes_none(
    tmp_path: Path, lite_path: Path, lite25: Lite25Server
) -> None:
    lite, old = Endpoint(str(lite_path), "default", "lite"), Endpoint(lite25.uri, "default", "lite-2.5")
    source(lite, "from", KEY, Field("note", DataType.VARCHAR, max_length=8, nullable=True))
    accepted = ["collection.copy.field.note"]
    write_spec(tmp_path, old, "from", at=lite, accept_loss=accepted)
    assert "row 3, field note: is null" in applies.apply(tmp_path, code=1).problems
    write_spec(tmp_path, old, "from", at=lite, accept_loss=accepted, on_bad_row="skip")
    applies.apply(tmp_path, code=3)
    assert numbers(old) == [n for n in range(20) if n % 7 != 3]


@QUICK_ON_LITE
def test_a_key_that_is_declared_auto_id_is_made_anew(tmp_path: Path, target: Endpoint) -> None:
    source(target, "from", Field("id", DataType.INT64, primary=True, auto_id=True), rows=2_000)
    fields = MADE | {"n": {"type": "int64"}, "v": {"type": "float_vector", "dim": 4}}
    write_spec(tmp_path, target, "from", fields=fields)
    hit, done = applies.apply_with_kills(tmp_path, 5, 2, 6)
    assert hit
    assert done.balance("collection.copy")["left"] == 2_000
    assert numbers(target) == list(range(2_000))
    applies.assert_no_changes(tmp_path)
    checked = applies.vsync(tmp_path, "check", "--full")
    assert checked.code == 0, checked.out


@QUICK_ON_LITE
def test_keys_that_a_server_made_are_kept_as_plain_ones(tmp_path: Path, target: Endpoint) -> None:
    source(target, "from", Field("id", DataType.INT64, primary=True, auto_id=True))
    write_spec(tmp_path, target, "from")
    assert "as plain keys" in applies.plan(tmp_path, code=2)
    applies.apply(tmp_path)
    with reader.client_of(target) as client:
        old, new = (keys(client, name) for name in ("from", "copy"))
        assert old == new
        assert not client.describe_collection("copy")["auto_id"]
    applies.assert_no_changes(tmp_path)
