"""Many rows into each server, vsync killed at random moments: every row is there once, bit for bit.

What is there is read by a program that shares no code with vsync (``reader``). The chaos suite kills small applies, at
every point (``test_points``).
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import applies
import glove
import numpy as np
import pytest
import reader
from conftest import Endpoint
from milvus_sources import Ends, make

if TYPE_CHECKING:
    from pathlib import Path

    from pymilvus import MilvusClient

SPEC = """
version: 1
target: {milvus: {uri: URI, database: DATABASE}}
defaults: {chunk_bytes: CHUNK}
x-index: &index {vector: {type: FLAT, metric: L2}}
collections:
  words:                                    # four kinds of files, into three partitions
    fields: &fields
      id: {type: int64, primary: true}
      vector: {type: float_vector, dim: 50}
      word: {type: varchar, max_length: 512}
    partitions: [common, rare]
    indexes: *index
    aliases: [ALIAS]
    data:
      - {name: h5, from: "data/words-*.h5", map: &columns {id: ids, vector: vectors, word: words}}
      - {name: faiss, from: data/words.index, map: {id: ids, vector: vectors, word: {const: from faiss}}, into: rare}
      - {name: parquet, from: data/words.parquet, map: *columns, into: common}
      - {name: numpy, from: data/words.npy, map: {id: $row, vector: array, word: {const: from numpy}}, into: rare}
  lexicon:                                  # the words are the keys; some are there with other vectors
    fields:
      word: {type: varchar, max_length: 512, primary: true}
      vector: {type: float_vector, dim: 50}
    indexes: *index
    data: [{from: data/lexicon.parquet, map: {word: words, vector: vectors}}]
  made:                                     # the server makes the keys
    fields:
      key: {type: int64, primary: true, auto_id: true}
      id: {type: int64}
      vector: {type: float_vector, dim: 50}
      word: {type: varchar, max_length: 512}
    indexes: *index
    data: [{from: data/made.h5, map: *columns}]
  fresh:                                    # rows that are there, in this partition and in another, are replaced
    fields: *fields
    partitions: [new]
    indexes: *index
    write: upsert
    data: [{from: data/fresh.h5, map: *columns, into: new}]
"""

OLD = 300
"""So many rows are there before the first apply, of each collection that has any."""


def write_spec(folder: Path, target: Endpoint, chunk_bytes: str) -> None:
    text = SPEC.replace("URI", target.uri).replace("DATABASE", target.database).replace("CHUNK", chunk_bytes)
    (folder / "vsync.yaml").write_text(text.replace("ALIAS", f"alias_of_{target.database}"))


def write_sources(folder: Path, size: int) -> dict[str, glove.Rows]:
    """Write ``size`` rows to each place; their ids differ everywhere."""
    data = folder / "data"
    data.mkdir()
    parts = [glove.rows(i * size, (i + 1) * size) for i in range(7)]
    parts = [p if i == 0 else p.numbered(10_000_000 * i) for i, p in enumerate(parts)]
    numpy, h5, faiss, parquet, lexicon, made, fresh = parts
    glove.write_numpy(data / "words.npy", numpy)
    glove.write_hdf5(data / "words-2.h5", h5[: size // 2])
    glove.write_hdf5(data / "words-10.h5", h5[size // 2 :])
    glove.write_faiss(data / "words.index", faiss)
    glove.write_parquet(data / "words.parquet", parquet)
    glove.write_parquet(data / "lexicon.parquet", lexicon)
    glove.write_hdf5(data / "made.h5", made)
    glove.write_hdf5(data / "fresh.h5", fresh)
    return {
        "h5": h5, "faiss": faiss, "parquet": parquet, "numpy": numpy, "lexicon": lexicon, "made": made, "fresh": fresh,
    }  # fmt: skip


def write_old(client: MilvusClient, sources: dict[str, glove.Rows]) -> None:
    """Make two of the collections by another program, with rows of the same keys and other values."""
    from pymilvus import DataType

    for name, keyed_by_word in (("lexicon", True), ("fresh", False)):
        schema = client.create_schema(enable_dynamic_field=False)
        if not keyed_by_word:
            schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("word", DataType.VARCHAR, is_primary=keyed_by_word, max_length=512)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=glove.DIM)
        index = client.prepare_index_params()
        index.add_index("vector", index_type="FLAT", metric_type="L2")
        client.create_collection(name, schema=schema, index_params=index)
    lexicon = sources["lexicon"][:OLD]
    client.insert(
        "lexicon", [{"word": w, "vector": v + 1} for w, v in zip(lexicon.words, lexicon.vectors, strict=True)]
    )
    client.create_partition("fresh", "new")
    reader.insert(client, "fresh", sources["fresh"][:OLD].changed(), "new")
    reader.insert(client, "fresh", sources["fresh"][OLD : 2 * OLD].changed(), "_default")
    for name in ("lexicon", "fresh"):
        client.flush(name)


def assert_all_there(client: MilvusClient, sources: dict[str, glove.Rows]) -> None:
    faiss, numpy = sources["faiss"], sources["numpy"]
    expected = sources["h5"].by_id() | sources["parquet"].by_id()
    expected |= {k: (v, "from faiss") for k, (v, _) in faiss.by_id().items()}
    expected |= {k: (v, "from numpy") for k, (v, _) in numpy.by_id().items()}
    reader.assert_holds(client, "words", expected)
    size = len(numpy.ids)
    in_partitions = {p: reader.count(client, "words", partition=p) for p in ("_default", "common", "rare")}
    assert in_partitions == {"_default": size, "common": size, "rare": 2 * size}

    lexicon = sources["lexicon"].by_word()
    was = glove.Rows(sources["lexicon"].ids, sources["lexicon"].vectors + np.float32(1), sources["lexicon"].words)
    reader.assert_holds(client, "lexicon", lexicon | was[:OLD].by_word(), key="word")

    made = sources["made"].by_id()
    client.load_collection("made")
    assert reader.count(client, "made", "id >= 0") == len(made)
    rows = reader.read(client, "made", "id", list(made), ["key", "id", "vector", "word"])
    assert len({row["key"] for row in rows}) == len(rows) == len(made)
    assert {row["id"]: (np.asarray(row["vector"], "f4").tobytes(), row["word"]) for row in rows} == made

    reader.assert_holds(client, "fresh", sources["fresh"].by_id())
    assert reader.count(client, "fresh", partition="new") == len(sources["fresh"].ids)


def kill_and_compare(folder: Path, target: Endpoint, size: int, chunk_bytes: str, kills: int, most_events: int) -> int:
    sources = write_sources(folder, size)
    write_spec(folder, target, chunk_bytes)
    with reader.client_of(target) as client:
        write_old(client, sources)
    hit, last = applies.apply_with_kills(folder, 20261123, kills, most_events)
    assert last.said[-1]["type"] == "summary"
    with reader.client_of(target) as client:
        assert_all_there(client, sources)
        assert reader.count(client, f"alias_of_{target.database}") == 4 * size
    applies.assert_no_changes(folder)
    return hit


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_ten_kills_of_400_000_rows(tmp_path: Path, target: Endpoint) -> None:
    hit = kill_and_compare(tmp_path, target, 57_000, "1MiB", kills=10, most_events=22)
    assert hit >= 7


COPY = """
collections:
  words: {data: [{from: {milvus: {at: old, collection: words, load_source: true}}}]}
  lexicon:
    fields:
      id: {type: int64, primary: true}
      vector: {type: float_vector, dim: 50}
      word: {type: varchar, max_length: 512}
    data: [{from: {milvus: {at: old, collection: words, partitions: {allow: [_default]}}}}]
"""


@pytest.mark.slow
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("target", ["lite", "milvus-2.3.5"], indirect=True)
def test_ten_kills_of_a_copy_from_one_milvus_to_another(tmp_path: Path, source: Endpoint, target: Endpoint) -> None:
    size, ends = 60_000, Ends(source, target, tmp_path)
    rows = {"_default": glove.rows(0, size // 2), "rare": glove.rows(size // 2, size)}
    others = glove.rows(100, 200).changed()
    with ends.old() as client:
        make(client, "words", rows)
    with ends.new() as client:
        make(client, "lexicon", {"_default": others})
    ends.spec(COPY, chunk_bytes="128KiB")
    hit, _ = applies.apply_with_kills(tmp_path, 20261125, kills=10, most_events=14)
    assert hit >= 7
    ends.content("words", rows)
    with ends.new() as client:
        reader.assert_holds(client, "lexicon", rows["_default"].by_id() | others.by_id())
    applies.assert_no_changes(tmp_path)
    assert "No differences." in applies.vsync(tmp_path, "check", "--full", "--only", "collection.words").out


@pytest.mark.parametrize("seed", range(2))
def test_a_kill_at_any_time_leaves_a_state_that_status_reads(tmp_path: Path, lite_path: Path, seed: int) -> None:
    target = Endpoint(str(lite_path), "default", "lite")
    write_sources(tmp_path, 1_000)
    write_spec(tmp_path, target, "64KiB")
    assert applies.kill_on_the_way(tmp_path, random.Random(seed), 30)
    done = applies.vsync(tmp_path, "status", "--json")
    assert done.code == 0
    assert done.said[-1]["running"] is False
