"""Exports of files into files: what each way of writing does to what is there, bits that flip, and kills everywhere."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import applies
import glove
import h5py
import numpy as np
import pytest
from chaos import forked
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


@pytest.fixture(scope="module")
def forks() -> ForkServerContext:
    return forked.context()


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
