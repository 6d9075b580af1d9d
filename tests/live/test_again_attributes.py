"""The same environment again: whatever can be declared is applied, and then there are no changes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import applies
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import reader
import servers
from conftest import QUICK_ON_LITE

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Endpoint

N = 40
SCALARS = """
      i8: {type: int8, description: a small number}
      i16: {type: int16}
      i32: {type: int32}
      i64: {type: int64}
      f: {type: float}
      d: {type: double}
      b: {type: bool}
      s: {type: varchar, max_length: 64}
      j: {type: json}
      numbers: {type: array, element: int16, max_capacity: 4}
      words: {type: array, element: varchar, max_length: 16, max_capacity: 4}
"""
EVERYWHERE = f"""
version: 1
target: {{milvus: {{uri: URI, database: DATABASE}}}}
defaults: {{chunk_bytes: 2KiB}}
collections:
  everything:
    description: One field of every type
    fields:
      id: {{type: int64, primary: true}}
      v: {{type: float_vector, dim: 4}}{SCALARS}
      number: {{type: int32, default: 7}}
      text: {{type: varchar, max_length: 16, default: none}}
      weight: {{type: float, default: 1.1}}
      flag: {{type: bool, default: true}}NEW_TYPES
    dynamic: true
    shards: 2
    consistency: strong
    properties: {{collection.ttl.seconds: 864000}}
    partitions: [a, b]
    indexes:
      v: {{type: HNSW, metric: COSINE, params: {{M: 16, efConstruction: 64}}}}
      i64: {{type: SCALAR_INDEX}}
      s: {{type: TEXT_INDEX}}
    aliases: [every_DATABASE, all_DATABASE]
    load: true
    data: [{{from: rows.parquet}}, {{from: more.parquet, into: a}}]
  by_key:
    fields:
      id: {{type: varchar, max_length: 32, primary: true}}
      v: {{type: float_vector, dim: 4}}
      s: {{type: varchar, max_length: 64, partition_key: true}}
    num_partitions: 7
    consistency: eventually
    indexes: {{v: {{type: IVF_FLAT, metric: IP, params: {{nlist: 8}}}}}}
    load: false
    data: [{{from: rows.parquet, map: {{id: key, v: v, s: s}}}}]
  made:
    fields:
      key: {{type: int64, primary: true, auto_id: true}}
      v: {{type: float_vector, dim: 4}}
    dynamic: false
    consistency: bounded
    indexes: {{v: {{type: FLAT, metric: L2}}}}
    data: [{{from: rows.parquet, map: {{v: v}}}}]
  automatic:
    consistency: session
    data: [{{from: rows.parquet, map: {{id: id, v: v}}}}]
  empty:                                    # the application's: no rows of ours
    fields: {{id: {{type: int64, primary: true}}, v: {{type: float_vector, dim: 8}}}}
    indexes: {{v: {{}}}}
"""
NEW_TYPES = """
      place: {type: geometry}
      at: {type: timestamptz}
      zone: {type: timestamptz, default: "2025-05-01T23:59:59.25+08:00"}
      home: {type: geometry, default: POINT (1 2)}"""
INDEXES = {
    "milvus-2.3.5": [
        "{type: FLAT, metric: L2}",
        "{type: IVF_FLAT, metric: IP, params: {nlist: 16}}",
        "{type: IVF_SQ8, metric: L2, params: {nlist: 16}}",
        "{type: IVF_PQ, metric: L2, params: {nlist: 4, m: 2, nbits: 8}}",
        "{type: HNSW, metric: COSINE, params: {M: 8, efConstruction: 32}}",
        "{type: SCANN, metric: L2, params: {nlist: 4}}",
        "{type: AUTOINDEX, metric: COSINE}",
        "{type: AUTOINDEX}",
    ],
    "lite": [
        "{type: FLAT, metric: L2}",
        "{type: BRUTE_FORCE, metric: L2}",
        "{type: IVF_FLAT, metric: IP, params: {nlist: 16}}",
        "{type: IVF_SQ8, metric: L2, params: {nlist: 16}}",
        "{type: HNSW, metric: COSINE, params: {M: 8, efConstruction: 32}}",
        "{type: HNSW_SQ, metric: L2, params: {M: 8, efConstruction: 32, sq_type: SQ8}}",
        "{type: AUTOINDEX, metric: COSINE}",
        "{type: AUTOINDEX}",
    ],
}


def table(first: int, size: int = N) -> pa.Table:
    numbers = np.arange(first, first + size)
    vectors = np.random.default_rng(first).random((size, 4), dtype="f4")
    return pa.table(
        {
            "id": pa.array(numbers),
            "key": pa.array([f"key {n}" for n in numbers]),
            "v": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), 4),
            "i8": pa.array(numbers % 100, pa.int8()),
            "i16": pa.array(numbers, pa.int16()),
            "i32": pa.array(numbers, pa.int32()),
            "i64": pa.array(numbers),
            "f": pa.array(numbers, pa.float32()),
            "d": pa.array(numbers, pa.float64()),
            "b": pa.array([bool(n % 2) for n in numbers]),
            "s": pa.array([f"naïve {n % 5}" for n in numbers]),
            "j": pa.array([json.dumps({"n": int(n)}) for n in numbers]),
            "place": pa.array([f"POINT ({n} 0.5)" for n in numbers]),
            "at": pa.array(numbers * 1_001, pa.timestamp("us")),
            "numbers": pa.array([[int(n), -1][: n % 3] for n in numbers], pa.list_(pa.int16())),
            "words": pa.array([["ü", "x"][: n % 3] for n in numbers], pa.list_(pa.string())),
        }
    )


def write(folder: Path, target: Endpoint, spec: str) -> None:
    pq.write_table(table(0), folder / "rows.parquet")
    pq.write_table(table(1_000), folder / "more.parquet")
    kind = target.kind.startswith("lite")
    text = spec.replace("SCALAR_INDEX", "INVERTED" if kind else "STL_SORT")
    text = text.replace("NEW_TYPES", NEW_TYPES if kind else "")
    text = text.replace("TEXT_INDEX", "INVERTED" if kind else "TRIE")
    (folder / "vsync.yaml").write_text(text.replace("URI", target.uri).replace("DATABASE", target.database))


def test_everything_that_can_be_declared_is_there_the_second_time(tmp_path: Path, target: Endpoint) -> None:
    write(tmp_path, target, EVERYWHERE)
    first = applies.apply(tmp_path)
    for name in ("everything", "made", "automatic"):
        assert first.balance(f"collection.{name}")["left"] == N
    not_loaded = first.balance("collection.by_key")
    assert not_loaded["written"] == N
    assert not_loaded["left"] == (None if target.kind == "milvus-2.3.5" else N)
    applies.assert_no_changes(tmp_path)
    assert applies.apply(tmp_path).said[-1]["empty"] is True
    if target.kind.startswith("lite"):
        return
    with reader.client_of(target) as client:
        said = client.describe_collection("everything")
        assert (said["description"], said["num_shards"]) == ("One field of every type", 2)
        assert str(client.get_load_state("by_key")["state"]) == "NotLoad"
        assert client.describe_collection("by_key")["num_partitions"] == 7
    assert "not counted" in applies.plan(tmp_path)


@QUICK_ON_LITE
def test_what_is_there_is_left_where_the_state_is_lost(tmp_path: Path, target: Endpoint) -> None:
    spec = EVERYWHERE.replace("load: false", "load: true")
    write(tmp_path, target, spec)
    applies.apply(tmp_path)
    applies.assert_no_changes(tmp_path)
    (tmp_path / ".vsync" / "vsync.db").unlink()
    said = applies.plan(tmp_path, code=12)
    assert "collection.made holds 40 rows that this state does not know" in said
    assert "auto_id" in said
    again = applies.apply(tmp_path, "--except", "collection.made")
    for name in ("everything", "everything.partition.a", "by_key", "automatic"):
        balance = again.balance(f"collection.{name}")
        assert (balance["written"], balance["there"], balance["left"]) == (0, N, N)
    applies.assert_no_changes(tmp_path, "--except", "collection.made")


def test_every_type_of_index_stays_as_it_was_made(tmp_path: Path, target: Endpoint) -> None:
    kind = "lite" if target.kind.startswith("lite") else target.kind
    # The embedded one builds them over rows; a flush of each takes Milvus 3 s.
    data = "data: [{from: rows.parquet, map: {id: id, v: v}}]" if kind == "lite" else "data: []"
    fields = "fields: {id: {type: int64, primary: true}, v: {type: float_vector, dim: 4}}"
    collections = [
        f"  c{i}: {{{fields}, indexes: {{v: {index}}}, load: false, {data}}}" for i, index in enumerate(INDEXES[kind])
    ]
    head = "version: 1\ntarget: {milvus: {uri: URI, database: DATABASE}}\ncollections:\n"
    write(tmp_path, target, head + "\n".join(collections) + "\n")
    applies.apply(tmp_path)
    applies.assert_no_changes(tmp_path)


REFUSED: list[tuple[str, str, str, tuple[str, ...]]] = [
    # what is declared, of a field or of the collection; where it says so; on which kinds it is refused
    ("x: {type: int32, nullable: true}", "", "does not hold nullable fields", ("milvus-2.3.5",)),
    ("x: {type: int32, clustering_key: true}", "", "does not hold clustering keys", ("lite", "milvus-2.3.5")),
    ("x: {type: binary_vector, dim: 8}", "", "binary_vector", ("lite",)),
    ("x: {type: float16_vector, dim: 8}", "", "does not hold float16_vector", ("lite", "milvus-2.3.5")),
    ("x: {type: bfloat16_vector, dim: 8}", "", "does not hold bfloat16_vector", ("lite", "milvus-2.3.5")),
    ("x: {type: int8_vector, dim: 8}", "", "does not hold int8_vector", ("lite", "milvus-2.3.5")),
    ("x: {type: sparse_float_vector}", "", "does not hold sparse_float_vector", ("milvus-2.3.5",)),
    ("x: {type: geometry}", "", "does not hold geometry", ("milvus-2.3.5",)),
    ("x: {type: timestamptz}", "", "does not hold timestamptz", ("milvus-2.3.5",)),
    ("x: {type: float_vector, dim: 8}", "", "holds one vector field in a collection", ("milvus-2.3.5",)),
    ("x: {type: int32}", "indexes: {v: {type: DISKANN}}", "has no index DISKANN", ("lite",)),
    ("x: {type: int32}", "indexes: {v: {type: HNSW_SQ}}", "has no index HNSW_SQ", ("milvus-2.3.5",)),
]


@pytest.fixture
def kind(target: Endpoint) -> str:
    return "lite" if target.kind.startswith("lite") else target.kind


def test_what_a_server_cannot_hold_is_a_conflict_before_anything_is_made(
    tmp_path: Path, target: Endpoint, kind: str
) -> None:
    refused = [r for r in REFUSED if kind in r[3]]
    assert len(refused) >= 6
    collections = "  fine: {fields: {id: {type: int64, primary: true}, v: {type: float_vector, dim: 4}}}\n"
    for i, (field, more, _, _) in enumerate(refused):
        fields = f"{{id: {{type: int64, primary: true}}, v: {{type: float_vector, dim: 4}}, {field}}}"
        collections += f"  c{i}:\n    fields: {fields}\n" + (f"    {more}\n" if more else "")
    head = "version: 1\ntarget: {milvus: {uri: URI, database: DATABASE}}\ncollections:\n"
    write(tmp_path, target, head + collections)
    conflicts = applies.vsync(tmp_path, "plan", "--json").of("conflict")
    for i, (_, _, words, _) in enumerate(refused):
        assert any(f"collection.c{i}" in c["where"] and words in c["what"] for c in conflicts), (i, words, conflicts)
    done = applies.apply(tmp_path, code=12)
    assert all(words in done.problems for _, _, words, _ in refused)
    if target.kind == "lite" and not (tmp_path / "lite.db").exists():
        return
    with reader.client_of(target) as client:
        assert client.list_collections() == []


LITE_ONLY = """
version: 1
target: {milvus: {uri: URI, database: DATABASE}}
collections:
  held_by_lite:
    fields:
      id: {type: int64, primary: true}
      v: {type: float_vector, dim: 4}
      w: {type: float_vector, dim: 4}
      sparse: {type: sparse_float_vector}
      maybe: {type: int32, nullable: true}
      note: {type: varchar, max_length: 8, nullable: true, default: x}
    indexes: {v: {type: FLAT, metric: L2}, w: {type: HNSW, metric: IP, params: {M: 8, efConstruction: 32}}}
"""
MILVUS_ONLY = """
version: 1
target: {milvus: {uri: URI, database: DATABASE}}
collections:
  held_by_milvus:
    fields:
      id: {type: varchar, max_length: 64, primary: true, auto_id: true}
      bits: {type: binary_vector, dim: 16}
    indexes: {bits: {type: BIN_IVF_FLAT, metric: JACCARD, params: {nlist: 8}}}
    data: [{from: bits.npy, map: {bits: array}}]
"""


def test_what_only_this_server_holds_stays_too(tmp_path: Path, target: Endpoint, kind: str) -> None:
    np.save(tmp_path / "bits.npy", np.random.default_rng(1).integers(0, 256, (N, 2), dtype="u1"))
    write(tmp_path, target, {"lite": LITE_ONLY, "milvus-2.3.5": MILVUS_ONLY}[kind])
    applies.apply(tmp_path)
    applies.assert_no_changes(tmp_path)


def test_one_spec_and_one_state_bring_up_development_and_production(
    tmp_path: Path, lite_path: Path, lite_server: Any
) -> None:
    spec = "version: 1\ntarget: '${target}'\ncollections:\n  words_of_both: {from: rows.parquet, map: {id: id, v: v}}\n"
    pq.write_table(table(0), tmp_path / "rows.parquet")
    (tmp_path / "vsync.yaml").write_text(spec.replace("{from", "{data: [{from").replace("v: v}}", "v: v}}]}"))
    both = [["--var", f"target={uri}"] for uri in (lite_path, lite_server.uri)]
    for words in both:
        done = applies.apply(tmp_path, *words)
        assert done.balance("collection.words_of_both")["written"] == N
    for words in both:
        applies.assert_no_changes(tmp_path, *words)
    from pymilvus import MilvusClient

    client = MilvusClient(lite_server.uri, dedicated=True, grpc_options=servers.NO_PINGS)
    client.drop_collection("words_of_both")
    client.close()
    applies.assert_no_changes(tmp_path, *both[0])
    assert "1 to add" in applies.plan(tmp_path, *both[1], code=2)
