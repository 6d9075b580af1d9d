"""Columns into the dynamic field and keys out of it: from files and collections, through apply, check and mirror."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import applies
import pyarrow as pa
import pyarrow.parquet as pq
import reader

if TYPE_CHECKING:
    from pathlib import Path

    from milvus_sources import Ends
    from pymilvus import MilvusClient

ROWS = 300
INTO = """
collections:
  goods:
    fields: {id: {type: int64, primary: true}, vector: {type: float_vector, dim: 2}}
    indexes: {vector: {type: FLAT, metric: L2}}
    data:
      - from: goods.parquet
        map: {$meta: {price: cost, label: text, sizes: sizes, origin: {const: file}}}
"""
OUT = """
collections:
  out:
    fields:
      id: {type: int64, primary: true}
      vector: {type: float_vector, dim: 2}
      price: {type: float, default: -1}
      label: {type: varchar, max_length: 20}
      sizes: {type: array, element: int16, max_capacity: 4}
    indexes: {vector: {type: FLAT, metric: L2}}
    on_bad_row: skip
    write: WRITE
    data:
      - from: {milvus: {at: old, collection: goods}}
        map: {price: $meta.price, label: $meta.label, sizes: $meta.sizes, $meta: {was: $meta.origin, of: {const: 1}}}
"""


def vector(n: int) -> list[float]:
    return [float(n), n / 2]


def found(client: MilvusClient, name: str, ids: list[int]) -> dict[int, dict[str, Any]]:
    client.load_collection(name)
    rows = client.query(name, filter=f"id in {ids}", output_fields=["*"], consistency_level="Strong")
    return {
        r["id"]: {k: list(v) if k == "sizes" else v for k, v in r.items() if k not in {"id", "vector"}} for r in rows
    }


def check_all(folder: Path, address: str) -> None:
    said = applies.vsync(folder, "check", "--full", "--json")
    assert said.code == 0, said
    assert address in said.out


def test_columns_of_a_file_become_keys_of_the_dynamic_field(ends: Ends) -> None:
    ids = range(ROWS)
    table = {
        "id": pa.array(ids, pa.int64()),
        "vector": pa.array([vector(n) for n in ids], pa.list_(pa.float32(), 2)),
        "cost": pa.array([None if n == 1 else n / 4 for n in ids], pa.float64()),
        "text": pa.array([f'"{n}"\\é' for n in ids]),
        "sizes": pa.array([[n, 1] for n in ids], pa.list_(pa.int16())),
    }
    pq.write_table(pa.table(table), ends.folder / "goods.parquet")
    ends.spec(INTO)
    said = applies.plan(ends.folder, code=2)
    assert "cost -> $meta.price: written as JSON" in said
    applies.apply(ends.folder)
    applies.assert_no_changes(ends.folder)
    check_all(ends.folder, "collection.goods")
    with ends.new() as client:
        rows = found(client, "goods", [1, 2])
        assert rows == {
            1: {"label": '"1"\\é', "sizes": [1, 1], "origin": "file"},
            2: {"price": 0.5, "label": '"2"\\é', "sizes": [2, 1], "origin": "file"},
        }
        assert reader.count(client, "goods", "price == 0.5") == 1


def fill(client: MilvusClient) -> None:
    """Make a collection with a dynamic field, of which some values are not what most are."""
    from pymilvus import DataType

    schema, index = client.create_schema(enable_dynamic_field=True), client.prepare_index_params()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
    index.add_index("vector", index_type="FLAT", metric_type="L2")
    client.create_collection("goods", schema=schema, index_params=index)
    rows = [
        {"id": n, "vector": vector(n), "price": n / 4, "label": str(n), "sizes": [n], "origin": "a", "rest": {"n": n}}
        for n in range(ROWS)
    ]
    del rows[3]["price"], rows[4]["label"], rows[5]["origin"]
    rows[6]["price"] = "cheap"
    rows[7]["sizes"] = [1, 2**40]
    client.insert("goods", rows)


def test_keys_of_the_dynamic_field_become_fields(ends: Ends) -> None:
    with ends.old() as client:
        fill(client)
    ends.spec(OUT.replace("WRITE", "append"))
    said = applies.plan(ends.folder, code=2)
    assert "$meta.price -> float: rounded, checked at apply" in said
    assert "$meta.origin is called was" in said
    done = applies.apply(ends.folder, code=3)
    assert done.balance("collection.out")["rejected"] == 3
    rejects = ends.folder / ".vsync" / "vsync.rejects.jsonl"
    told = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert {(t["key"], t["field"], t["why"]) for t in told} == {
        ("4", "label", "$meta.label is not there, and the field is neither nullable nor has a default"),
        ("6", "price", "$meta.price is no float"),
        ("7", "sizes", "$meta.sizes an element is no int16"),
    }
    with ends.new() as client:
        assert found(client, "out", [2, 3, 5, 6]) == {
            2: {"price": 0.5, "label": "2", "sizes": [2], "was": "a", "of": 1, "rest": {"n": 2}},
            3: {"price": -1.0, "label": "3", "sizes": [3], "was": "a", "of": 1, "rest": {"n": 3}},
            5: {"price": 1.25, "label": "5", "sizes": [5], "of": 1, "rest": {"n": 5}},
        }
        assert reader.count(client, "out") == ROWS - 3
    check_all(ends.folder, "collection.out")
    assert "No changes." in applies.plan(ends.folder)

    with ends.old() as client:
        row = {"id": 6, "vector": vector(6), "price": 1.5, "label": "6", "sizes": [6], "rest": {}}
        client.delete("goods", ids=[6, 8])  # an upsert of Milvus Lite keeps the dynamic values that were there
        client.insert("goods", [row, {**row, "id": 8, "rest": {"n": 9}}])
    ends.spec(OUT.replace("WRITE", "mirror"))
    assert applies.apply(ends.folder).balance("collection.out")["written"] == 2
    with ends.new() as client:
        assert found(client, "out", [6, 8]) == {
            n: {"price": 1.5, "label": "6", "sizes": [6], "of": 1, "rest": {"n": 9} if n == 8 else {}} for n in (6, 8)
        }
        assert reader.count(client, "out") == ROWS - 2
    check_all(ends.folder, "collection.out")
