"""``vsync init``: the spec it writes is valid, loads the file it was made from, and says what a Milvus holds."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import faiss
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import QUICK_ON_LITE
from milvus_rows import EVERYWHERE, KEY, VECTOR, make, opened, rows, send

import vsync
from vsync.errors import SourceError, VsyncError
from vsync.init import spec_from
from vsync.schema import Collection, DataType, Field, Index

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Endpoint

N = 40


def planned(text: str, folder: Path) -> vsync.Plan:
    made = vsync.plan(vsync.parse_spec(text, folder=folder))
    assert made.conflicts == ()
    return made


def vectors(dim: int = 4) -> Any:
    return np.random.default_rng(7).random((N, dim), dtype=np.float32)


def write_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["ids"], file["vectors"], file["year"] = np.arange(N), vectors(), np.arange(N, dtype="i2")
        file.create_dataset("some/words", data=[f"wörd {i}" for i in range(N)], dtype=h5py.string_dtype())


def write_benchmark(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["train"], file["test"], file["neighbors"] = vectors(), vectors()[:5], np.zeros((5, 10), "i4")


def write_npy(path: Path) -> None:
    np.save(path, vectors())


def write_parquet(path: Path) -> None:
    vector = pa.FixedSizeListArray.from_arrays(vectors().ravel(), 4)
    table = {"pk": [f"k{i}" for i in range(N)], "embedding": vector, "tags": [["a"], []] * (N // 2), "ok": [True] * N}
    pq.write_table(pa.table(table), path)


def write_faiss(path: Path) -> None:
    index = faiss.IndexIDMap2(faiss.IndexFlatL2(4))
    index.add_with_ids(vectors(), np.arange(100, 100 + N))
    faiss.write_index(index, str(path))


FILES = {
    "of-words.h5": write_hdf5,
    "sift.hdf5": write_benchmark,
    "2024.npy": write_npy,
    "a b.parquet": write_parquet,
    "part.index": write_faiss,
}


@pytest.mark.parametrize("name", FILES)
def test_the_spec_of_a_file_loads_it(name: str, tmp_path: Path, lite_path: Path) -> None:
    FILES[name](tmp_path / name)
    text = spec_from(name, target=str(lite_path), folder=tmp_path)
    spec = vsync.parse_spec(text, folder=tmp_path)
    result = vsync.apply(spec)
    assert [s.left for s in result.settled] == [N]
    assert planned(text, tmp_path).empty
    assert spec.to_yaml() == text, "the long form of the long form is itself"


def test_every_column_that_can_be_loaded_is_mapped(tmp_path: Path) -> None:
    FILES["of-words.h5"](tmp_path / "of-words.h5")
    spec = vsync.parse_spec(spec_from("of-words.h5", folder=tmp_path), folder=tmp_path)
    collection = spec.collections["of_words"]
    assert {n: m.column for n, m in (collection.data[0].map or {}).items()} == {
        "ids": "ids",
        "vectors": "vectors",
        "year": "year",
        "words": "some/words",
    }


def collections(kind: str) -> list[Collection]:
    """What a server is made to hold, as far as it can."""
    index = Index("v", "HNSW", "COSINE", (("M", "8"), ("efConstruction", "64")))
    language = Field("s", DataType.VARCHAR, max_length=64, partition_key=True)
    made = [
        Collection("everything", EVERYWHERE, dynamic=True, indexes=(index,)),
        Collection("parts", (KEY, VECTOR), partitions=("common", "rare"), indexes=(index,)),
        Collection("by_key", (KEY, VECTOR, language), indexes=(Index("v", "AUTOINDEX", "L2"),)),
        Collection("made_keys", (Field("id", DataType.INT64, primary=True, auto_id=True), VECTOR), indexes=(index,)),
        Collection("words", (Field("word", DataType.VARCHAR, primary=True, max_length=32), VECTOR), indexes=(index,)),
    ]
    if kind == "milvus-2.3.5":
        code = Field("code", DataType.BINARY_VECTOR, dim=16)
        made.append(Collection("codes", (KEY, code), indexes=(Index("code", "BIN_FLAT", "HAMMING"),)))
        made.append(Collection("told", (KEY, VECTOR), description="it's: told", shards=2, consistency="strong",
                               indexes=(index,)))  # fmt: skip
    else:
        sparse = Field("sparse", DataType.SPARSE_FLOAT_VECTOR)
        extra = (
            Field("s", DataType.VARCHAR, max_length=64, nullable=True),
            Field("i16", DataType.INT16, default=-5),
            Field("f", DataType.FLOAT, default=1.1),
            Field("b", DataType.BOOL, default=False),
        )
        both = (index, Index("sparse", "SPARSE_INVERTED_INDEX", "IP"))
        made.append(Collection("several", (KEY, VECTOR, sparse, *extra), indexes=both))
    return made


def test_the_spec_of_a_milvus_says_what_it_holds(target: Endpoint, tmp_path: Path) -> None:
    with opened(target) as milvus:
        for collection in collections(target.kind):
            make(milvus, collection)
            if not collection.primary.auto_id and collection.primary.type is DataType.INT64:
                send(milvus, collection, rows(collection, pa.array(range(N))))
        milvus.set_alias("lexicon", "words")
        milvus.release("parts")
    database = None if target.kind == "lite" else target.database
    text = spec_from(target.uri, database=database, folder=tmp_path)
    spec = vsync.parse_spec(text, folder=tmp_path)
    assert list(spec.collections) == sorted(c.name for c in collections(target.kind))
    made = planned(text, tmp_path)
    assert made.empty, f"{text}\n{made.changes}"
    assert spec.to_yaml() == text


@QUICK_ON_LITE
def test_an_empty_place_can_be_made_the_same(target: Endpoint, tmp_path: Path) -> None:
    with opened(target) as milvus:
        for collection in collections(target.kind):
            make(milvus, collection)
    database = None if target.kind == "lite" else target.database
    text = spec_from(target.uri, database=database, folder=tmp_path)
    with opened(target) as milvus:
        for collection in collections(target.kind):
            milvus.drop_collection(collection.name)
    vsync.apply(vsync.parse_spec(text, folder=tmp_path))
    assert spec_from(target.uri, database=database, folder=tmp_path) == text


def test_with_a_target_the_spec_of_a_milvus_copies_it_there(tmp_path: Path, lite_path: Path) -> None:
    auto = Collection("made", (replace(KEY, auto_id=True), VECTOR), indexes=(Index("v", "FLAT", "L2"),))
    words = Collection("words", (KEY, VECTOR), partitions=("rare",), indexes=(Index("v", "FLAT", "L2"),))
    with opened_lite(lite_path) as milvus:
        for collection in (auto, words):
            make(milvus, collection)
            data = rows(collection, pa.array(range(N)))
            send(milvus, collection, data)
    text = spec_from("lite.db", target="./there.db", folder=tmp_path)
    assert "auto_id" not in text, "keys are copied, not made again"
    result = vsync.apply(vsync.parse_spec(text, folder=tmp_path))
    assert [(s.destination, s.left) for s in result.settled] == [
        ("collection.made", N),
        ("collection.words", N),
        ("collection.words.partition.rare", 0),
    ]
    assert planned(text, tmp_path).empty


def test_collections_are_chosen_by_a_glob(tmp_path: Path, lite_path: Path) -> None:
    with opened_lite(lite_path) as milvus:
        for name in ("docs_a", "docs_b", "other"):
            make(milvus, Collection(name, (KEY, VECTOR)))
    spec = vsync.parse_spec(spec_from("lite.db", collections="docs_*", folder=tmp_path), folder=tmp_path)
    assert list(spec.collections) == ["docs_a", "docs_b"]
    with pytest.raises(SourceError, match=r"no collection that matches nothing; there are docs_a, docs_b, other"):
        spec_from("lite.db", collections="nothing", folder=tmp_path)


def opened_lite(path: Path) -> Any:
    from contextlib import closing

    from vsync.connectors.milvus import open_target

    return closing(open_target(str(path), None, None))


@pytest.mark.parametrize(
    ("origin", "words"),
    [
        ("data.csv", "no file that vsync reads"),
        ("missing.h5", "no such file"),
        ("missing.db", "there is no Milvus Lite at missing.db"),
        ("empty.h5", "is not an HDF5 file"),
        ("folder", "folder"),
    ],
)
def test_what_is_none_of_them(origin: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("a,b\n")
    (tmp_path / "empty.h5").touch()
    (tmp_path / "folder").mkdir()
    write_npy(tmp_path / "folder" / "a.npy")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(VsyncError) as caught:
        spec_from(origin, folder=tmp_path)
    assert words in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before
