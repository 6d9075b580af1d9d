"""What an apply takes away for a while it gives back, also where it is killed in between: a load, an alias."""

from __future__ import annotations

from typing import TYPE_CHECKING

import applies
import glove
import pytest
import reader

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Endpoint

SPEC = """
version: 1
target: {milvus: {uri: URI, database: DATABASE}}
collections:
  words:
    fields:
      id: {type: int64, primary: true}
      vector: {type: float_vector, dim: 50}
      word: {type: varchar, max_length: LENGTH}
    indexes: {vector: {type: HNSW, metric: METRIC, params: {M: 8, efConstruction: 40}}}
    data: [{from: words.h5, map: {id: ids, vector: vectors, word: words}}]
"""

SERVED = pytest.mark.parametrize(
    "target", ["lite-server", pytest.param("milvus-2.3.5", marks=pytest.mark.slow)], indirect=True
)
"""Embedded, nothing stays loaded; on Milvus, whose index takes a while, with --all only."""


def write_spec(folder: Path, target: Endpoint, *, metric: str = "L2", length: int = 512) -> None:
    text = SPEC.replace("URI", target.uri).replace("DATABASE", target.database)
    (folder / "vsync.yaml").write_text(text.replace("METRIC", metric).replace("LENGTH", str(length)))


@SERVED
def test_a_collection_that_was_loaded_is_loaded_again(tmp_path: Path, target: Endpoint) -> None:
    glove.write_hdf5(tmp_path / "words.h5", glove.rows(0, 200))
    write_spec(tmp_path, target)
    applies.apply(tmp_path)
    write_spec(tmp_path, target, metric="COSINE")
    applies.killed_at(tmp_path, "request.DropIndex.after:1")
    with reader.client_of(target) as client:
        if target.kind == "milvus-2.3.5":  # served Lite calls it loaded without an index too
            assert client.get_load_state("words")["state"].name == "NotLoad"
    applies.apply(tmp_path)
    with reader.client_of(target) as client:
        assert client.get_load_state("words")["state"].name == "Loaded"
        client.release_collection("words")
    applies.assert_no_changes(tmp_path)  # it was given back: who releases it now may do so


@SERVED
def test_an_alias_of_somebody_elses_survives_a_replacement(tmp_path: Path, target: Endpoint) -> None:
    glove.write_hdf5(tmp_path / "words.h5", glove.rows(0, 200))
    write_spec(tmp_path, target)
    applies.apply(tmp_path)
    alias = f"theirs_{target.database}"
    with reader.client_of(target) as client:
        client.create_alias("words", alias)
    write_spec(tmp_path, target, length=600)
    applies.killed_at(tmp_path, "request.DropCollection.after:1", "--allow-destroy", "collection.words")
    applies.apply(tmp_path)
    with reader.client_of(target) as client:
        assert reader.count(client, alias) == 200
    applies.assert_no_changes(tmp_path)
