"""What MilvusDM did, done by vsync: converted, planned, applied and checked, from a Milvus 1.x and back again."""

from __future__ import annotations

import shutil
from contextlib import closing
from typing import TYPE_CHECKING, Any

import faiss
import h5py
import milvus1
import numpy as np
import pytest
from applies import vsync
from milvus1 import Kept, Part

from vsync.connectors.base import KeyRange
from vsync.connectors.milvus import open_target

if TYPE_CHECKING:
    from pathlib import Path

RANDOM = np.random.default_rng(11)
DIM = 8
M2M = """M2M:
  source_milvus_path: old
  source_collection: {words: , few: [rare]}
  dest_host: 127.0.0.1
  dest_port: 19530
  mode: append
"""
M2H = """M2H:
  source_milvus_path: old
  source_collection: {words: }
  data_dir: out
"""
INTO = """  dest_host: 127.0.0.1
  dest_port: 19530
  dest_collection_name: words
  collection_parameter: {dimension: 8, metric_type: IP}
"""


def floats(rows: int) -> Any:
    return RANDOM.random((rows, DIM), dtype=np.float32)


WORDS = {
    "": [Part(range(300), floats(300), deleted=range(0, 300, 7)), Part(range(300, 320), floats(20))],
    "rare": [Part(range(1000, 1040), floats(40), types=(milvus1.BACKUP, milvus1.INDEX))],
}


def kept(parts: list[Part]) -> dict[int, bytes]:
    """Give the rows of some segments that are not deleted."""
    return {
        key: part.vectors[n].tobytes() for part in parts for n, key in enumerate(part.ids) if n not in set(part.deleted)
    }


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    few = {"": [Part(range(5), floats(5))], "rare": [Part(range(5, 10), floats(5))]}
    milvus1.write(tmp_path / "old", {"words": Kept(DIM, milvus1.IP, WORDS), "few": Kept(DIM, partitions=few)})
    monkeypatch.chdir(tmp_path)
    return tmp_path


def applied(
    folder: Path, what: str, target: str | None, *allowed: str, check: tuple[str, ...] = ("check", "--full")
) -> dict[str, int]:
    """Convert and apply; see that nothing is left to do and nothing differs. Gives what each destination then holds."""
    spec = folder / "spec.yaml"
    spec.unlink(missing_ok=True)
    made = vsync(folder, "convert", what, "--out", "spec.yaml", *(["--target", target] if target else []))
    assert made.code == 0, made.err
    for words in (["validate"], ["plan"], ["apply", "--auto-approve", "--json"], ["plan"], check or ["plan"]):
        allow = [f"--allow-destroy={address}" for address in allowed] if words[0] in {"plan", "apply"} else []
        done = vsync(folder, *words, *allow, "spec.yaml")
        assert done.code == 0, (words, done)
        if words[0] == "apply":
            settled = {one["destination"]: one["left"] for one in done.of("settled")}
    assert "No changes" in vsync(folder, "plan", "spec.yaml").out
    return {address.removeprefix("collection."): rows for address, rows in settled.items()}


def rows_of(path: Path, collection: str, partition: str | None = None) -> dict[int, bytes]:
    """Read what a Milvus Lite holds: its vectors, bit by bit, by their keys."""
    with closing(open_target(str(path), None, None)) as target:
        live = target.observe([collection])[collection]
        batch = target.reader(live.schema, partition).read(KeyRange(), ["id", "embedding"])
    vectors = batch.column(1).flatten().to_numpy().reshape(-1, DIM)
    return {key: vectors[n].tobytes() for n, key in enumerate(batch.column(0).to_pylist())}


def test_a_milvus_1_into_a_milvus_into_hdf5_and_back(folder: Path, lite_path: Path) -> None:
    (folder / "M2M.yaml").write_text(M2M)
    assert applied(folder, "M2M.yaml", str(lite_path)) == {
        "words": 277,
        "words.partition.rare": 40,
        "few.partition.rare": 5,
    }
    expected = kept(WORDS[""])
    assert rows_of(lite_path, "words", "_default") == expected
    assert rows_of(lite_path, "words", "rare") == kept(WORDS["rare"])

    (folder / "M2H.yaml").write_text(M2H)
    assert applied(folder, "M2H.yaml", None) == {"words": 277, "words.partition.rare": 40}
    with h5py.File(folder / "out" / "words" / "None.h5") as file:
        found = {int(key): file["embeddings"][n].tobytes() for n, key in enumerate(file["ids"])}
    assert found == expected

    assert applied(folder, "out", "./again.db") == {"words": 277, "words.partition.rare": 40}
    assert rows_of(folder / "again.db", "words", "_default") == expected


def test_faiss_then_hdf5_in_the_three_modes(folder: Path, lite_path: Path) -> None:
    index = faiss.IndexFlatIP(DIM)
    index.add(floats(30))
    faiss.write_index(index, str(folder / "a.index"))
    (folder / "F2M.yaml").write_text(f"F2M:\n  data_path: a.index\n  mode: append\n{INTO}")
    assert applied(folder, "F2M.yaml", str(lite_path)) == {"words": 30}

    with h5py.File(folder / "wide.h5", "w") as file:
        file["embeddings"], file["ids"] = floats(10).astype("f8"), np.arange(100, 110)
    with h5py.File(folder / "keyless.h5", "w") as file:
        file["embeddings"] = floats(40)
    text = f"H2M:\n  data_path: [FILE.h5]\n  mode: MODE\n{INTO}"
    (folder / "append.yaml").write_text(text.replace("FILE", "wide").replace("MODE", "append"))
    (folder / "skip.yaml").write_text(text.replace("FILE", "keyless").replace("MODE", "skip"))
    (folder / "overwrite.yaml").write_text(text.replace("FILE", "keyless").replace("MODE", "overwrite"))
    assert again(folder, "append.yaml", lite_path, check=("check", "--full", "--one-way")) == {"words": 40}
    assert again(folder, "skip.yaml", lite_path, check=()) == {}
    assert set(rows_of(lite_path, "words")) == {*range(30), *range(100, 110)}
    assert again(folder, "overwrite.yaml", lite_path, "collection.words") == {"words": 40}
    assert set(rows_of(lite_path, "words")) == set(range(40)), "the row numbers are the keys"


def test_overwriting_a_partition_leaves_the_others(folder: Path, lite_path: Path) -> None:
    (folder / "M2M.yaml").write_text(M2M)
    applied(folder, "M2M.yaml", str(lite_path))
    with h5py.File(folder / "new.h5", "w") as file:
        file["embeddings"], file["ids"] = floats(3), np.arange(5000, 5003)
    text = f"H2M:\n  data_path: [new.h5]\n  mode: overwrite\n  dest_partition_name: rare\n{INTO}"
    (folder / "H2M.yaml").write_text(text)
    address = "collection.words.partition.rare"
    assert again(folder, "H2M.yaml", lite_path, address) == {"words.partition.rare": 3}
    assert set(rows_of(lite_path, "words", "rare")) == {5000, 5001, 5002}
    assert rows_of(lite_path, "words", "_default") == kept(WORDS[""])


def again(folder: Path, what: str, lite_path: Path, *allowed: str, **more: Any) -> dict[str, int]:
    """Apply another spec to the same target, with a state of its own as another spec has."""
    shutil.rmtree(folder / ".vsync")
    return applied(folder, what, str(lite_path), *allowed, **more)
