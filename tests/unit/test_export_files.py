"""Exports of files into files: what each way of writing does to what is there, bits that flip, and kills everywhere."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import applies
import glove
import h5py
import numpy as np
import pytest
from chaos.forked import Mortal

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext
    from pathlib import Path

A = glove.rows(0, 300)
B = glove.rows(100, 400).changed()
DESTROY = ("--allow-destroy", "collection.words")


def spec(folder: Path, collections: dict[str, Any], **options: Any) -> None:
    to = {"hdf5": {"path": "exports", **options}}
    said = {"version": 1, "target": to, "defaults": {"chunk_bytes": "8KiB"}, "collections": collections}
    (folder / "vsync.yaml").write_text(json.dumps(said))


def words(folder: Path, rows: glove.Rows, **said: Any) -> dict[str, Any]:
    """Write rows to a file, and say a collection of them."""
    glove.write_parquet(folder / "words.parquet", rows)
    return {"words": {"from": "words.parquet", **said}}


def held(path: Path) -> dict[Any, tuple[bytes, str]]:
    """Read an exported file by h5py; its keys ascend."""
    with h5py.File(path) as file:
        ids, vectors, texts = file["ids"][:], file["vectors"][:], file["words"].asstr()[:]
        assert file.attrs["rows"] == len(ids)
    assert (np.diff(ids) > 0).all()
    return glove.Rows(ids, vectors, list(texts)).by_id()


def test_a_file_has_the_rows_of_the_data_and_a_second_apply_nothing_to_do(tmp_path: Path) -> None:
    spec(tmp_path, words(tmp_path, A))
    applies.apply(tmp_path)
    assert held(tmp_path / "exports" / "words" / "_default.h5") == A.by_id()
    applies.assert_no_changes(tmp_path)
    assert applies.vsync(tmp_path, "check", "--full").code == 0
    assert sorted(p.name for p in (tmp_path / "exports").iterdir()) == [".lock", "import.yaml", "words"]
    assert sorted(p.name for p in (tmp_path / "exports" / "words").iterdir()) == ["_default.h5", "collection.json"]


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        ("append", {**B.by_id(), **A.by_id()}),
        ("upsert", {**A.by_id(), **B.by_id()}),
        ("overwrite", B.by_id()),
        ("mirror", B.by_id()),
    ],
)
def test_each_way_of_writing_does_to_files_what_it_does_to_a_milvus(
    tmp_path: Path, write: str, expected: dict[Any, tuple[bytes, str]]
) -> None:
    bounds = {"max_delete": "50%"} if write == "mirror" else {}
    spec(tmp_path, words(tmp_path, A, write=write, **bounds))
    applies.apply(tmp_path)
    spec(tmp_path, words(tmp_path, B, write=write, **bounds))
    if write in {"overwrite", "mirror"}:
        assert "allow-destroy" in applies.apply(tmp_path, code=12).problems
        assert held(tmp_path / "exports" / "words" / "_default.h5") == A.by_id()
    applies.apply(tmp_path, *(DESTROY if write in {"overwrite", "mirror"} else ()))
    assert held(tmp_path / "exports" / "words" / "_default.h5") == expected
    applies.assert_no_changes(tmp_path)


def test_the_layout_of_milvusdm_is_what_its_readers_know(tmp_path: Path) -> None:
    glove.write_parquet(tmp_path / "a.parquet", A)
    items = [{"from": "a.parquet", "map": {"id": "ids", "v": "vectors"}}]
    fields = {"id": {"type": "int64", "primary": True}, "v": {"type": "float_vector", "dim": glove.DIM}}
    spec(tmp_path, {"words": {"fields": fields, "data": items}}, layout="milvusdm")
    applies.apply(tmp_path)
    with h5py.File(tmp_path / "exports" / "words" / "None.h5") as file:
        assert sorted(file) == ["embeddings", "ids"]
        assert (file["ids"][:] == A.ids).all()
        assert file["embeddings"][:].tobytes() == A.vectors.tobytes()
    applies.assert_no_changes(tmp_path)
    # What lies beside it, and vsync's own reader of such files, understand it.
    back = tmp_path / "back"
    back.mkdir()
    text = (tmp_path / "exports" / "import.yaml").read_text().replace("hdf5: words", "hdf5: ../exports/words")
    (back / "vsync.yaml").write_text(text.replace("target: ", "target: {hdf5: again}\n# ", 1))
    applies.apply(back)
    with h5py.File(back / "again" / "words" / "_default.h5") as file:
        assert (file["id"][:] == A.ids).all()
        assert file["v"][:].tobytes() == A.vectors.tobytes()


def test_a_file_in_the_place_of_another_is_not_taken_for_it(tmp_path: Path) -> None:
    glove.write_parquet(tmp_path / "a.parquet", A)
    glove.write_parquet(tmp_path / "b.parquet", glove.rows(500, 600))
    data = [{"from": f"{name}.parquet", "into": name} for name in "ab"]
    spec(tmp_path, {"words": {"partitions": ["a", "b"], "data": data}})
    applies.apply(tmp_path)
    folder = tmp_path / "exports" / "words"
    shutil.copy(folder / "b.h5", folder / "a.h5")
    for command in (("apply", "--auto-approve"), ("check", "--full")):
        done = applies.vsync(tmp_path, *command)
        assert done.code == 1
        assert "is the file of partition b, put in the place of another" in done.err
    assert held(folder / "a.h5") == held(folder / "b.h5")


@pytest.mark.parametrize("place", ["hdf5", "backup"])
def test_rows_of_data_that_lacks_the_dynamic_field_are_kept_without_it(tmp_path: Path, place: str) -> None:
    glove.write_parquet(tmp_path / "a.parquet", A)
    glove.write_parquet(tmp_path / "b.parquet", glove.rows(500, 600))
    mapped = {"id": "ids", "v": "vectors"}
    data = [{"from": "a.parquet", "map": {**mapped, "$meta": {"word": "words"}}}, {"from": "b.parquet", "map": mapped}]
    fields = {"id": {"type": "int64", "primary": True}, "v": {"type": "float_vector", "dim": glove.DIM}}
    said = {"words": {"fields": fields, "dynamic": True, "data": data}}
    made = {"version": 1, "target": {place: "kept"}, "collections": said}
    (tmp_path / "vsync.yaml").write_text(json.dumps(made))
    applies.apply(tmp_path)
    assert applies.vsync(tmp_path, "check", "--full").code == 0
    sources = {"hdf5": "kept/words/_default.h5", "backup": {"repo": "kept", "collection": "words"}}
    again = {"words": {**said["words"], "data": [{"from": {place: sources[place]}}]}}
    (tmp_path / "again.yaml").write_text(json.dumps({"version": 1, "target": {"hdf5": "again"}, "collections": again}))
    done = applies.vsync(tmp_path, "apply", "again.yaml", "--auto-approve")
    assert done.code == 0, done.err
    with h5py.File(tmp_path / "again" / "words" / "_default.h5") as file:
        assert (file["id"][:] == np.concatenate([A.ids, np.arange(500, 600)])).all()
        kept = [json.loads(text) for text in file["$meta"][:]]
    assert kept == [{"word": word} for word in A.words] + [{}] * 100


def test_a_flipped_bit_is_found_by_the_checksum(tmp_path: Path) -> None:
    spec(tmp_path, words(tmp_path, A))
    applies.apply(tmp_path)
    file = tmp_path / "exports" / "words" / "_default.h5"
    raw = bytearray(file.read_bytes())
    at = raw.index(A.vectors[50].tobytes())
    raw[at] ^= 1
    file.write_bytes(raw)
    done = applies.vsync(tmp_path, "check", "--full")
    assert done.code == 1
    assert str(file) in done.err


def test_data_that_goes_back_to_what_was_half_written_is_written_whole(
    tmp_path: Path, forks: ForkServerContext
) -> None:
    mortal, export = Mortal(tmp_path, forks, 1), ("apply", "--auto-approve", *DESTROY)
    spec(tmp_path, words(tmp_path, A))
    mortal.passed(*export)
    spec(tmp_path, words(tmp_path, B, write="overwrite"))
    assert mortal.killed_at("journal.acked.after:5", *export)
    spec(tmp_path, words(tmp_path, A, write="overwrite"))
    assert mortal.killed_at("file.put.after:1", *export), "it is emptied, and nothing else is done yet"
    assert applies.vsync(tmp_path, "state", "doctor").code == 0
    spec(tmp_path, words(tmp_path, B, write="overwrite"))
    mortal.passed(*export)
    assert held(tmp_path / "exports" / "words" / "_default.h5") == B.by_id()
    applies.assert_no_changes(tmp_path)
    assert applies.vsync(tmp_path, "state", "doctor").code == 0


@pytest.mark.slow
def test_an_export_is_whole_in_the_end_wherever_it_is_killed(tmp_path: Path, forks: ForkServerContext) -> None:
    export = ("apply", "--auto-approve", *DESTROY)
    first = tmp_path / "first"
    first.mkdir()
    spec(first, words(first, A))
    points = Mortal(first, forks, 1).passed(*export)
    ended = 0
    for name in dict.fromkeys(points):
        for write, expected in (("append", {**B.by_id(), **A.by_id()}), ("overwrite", B.by_id())):
            folder = tmp_path / f"{name}-{write}"
            folder.mkdir()
            spec(folder, words(folder, A))
            mortal = Mortal(folder, forks, 1)
            mortal.passed(*export)
            spec(folder, words(folder, B, write=write))
            ended += mortal.killed([name], *export)
            assert held(folder / "exports" / "words" / "_default.h5") in (A.by_id(), expected)
            mortal.passed(*export)
            assert held(folder / "exports" / "words" / "_default.h5") == expected
    assert ended > len(set(points))
