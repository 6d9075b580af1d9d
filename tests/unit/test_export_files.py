"""Exports of files into files: what each way of writing does to what is there, and what is in the way of an export."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
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
KILLS, FEWEST = 10, 7
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


def test_skip_leaves_a_file_alone_that_had_rows_when_it_was_first_planned(tmp_path: Path) -> None:
    spec(tmp_path, words(tmp_path, A))
    applies.apply(tmp_path)
    spec(tmp_path, words(tmp_path, B, write="skip"))
    applies.apply(tmp_path, "--state", "another.db")
    assert held(tmp_path / "exports" / "words" / "_default.h5") == A.by_id()


def test_overwriting_a_partition_replaces_that_one_alone(tmp_path: Path) -> None:
    glove.write_parquet(tmp_path / "a.parquet", A)
    glove.write_parquet(tmp_path / "b.parquet", B[250:])
    both: dict[str, Any] = {
        "partitions": {"old": {}, "new": {"write": "overwrite"}},
        "data": [{"from": "a.parquet", "into": "old"}, {"from": "b.parquet", "into": "new"}],
    }
    spec(tmp_path, {"words": both})
    applies.apply(tmp_path)
    glove.write_parquet(tmp_path / "b.parquet", B[280:])
    applies.apply(tmp_path, "--allow-destroy", "collection.words.partition.new")
    files = tmp_path / "exports" / "words"
    assert held(files / "old.h5") == A.by_id()
    assert held(files / "new.h5") == B[280:].by_id()
    assert held(files / "_default.h5") == {}


def test_files_are_merged_into_one(tmp_path: Path) -> None:
    glove.write_parquet(tmp_path / "a.parquet", A)
    glove.write_hdf5(tmp_path / "b.h5", B)
    data = [{"from": "a.parquet"}, {"from": "b.h5"}]
    spec(tmp_path, {"words": {"on_collision": "last", "data": data}})
    applies.apply(tmp_path)
    assert held(tmp_path / "exports" / "words" / "_default.h5") == {**A.by_id(), **B.by_id()}


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


def test_a_second_export_into_a_folder_is_refused_while_one_is_at_work(tmp_path: Path) -> None:
    spec(tmp_path, words(tmp_path, A))
    (tmp_path / "exports").mkdir()
    with (tmp_path / "exports" / ".lock").open("w") as held_by_another:
        fcntl.flock(held_by_another, fcntl.LOCK_EX)
        done = applies.apply(tmp_path, code=11)
    assert "another process exports into this folder" in done.problems
    applies.apply(tmp_path)
    assert held(tmp_path / "exports" / "words" / "_default.h5") == A.by_id()


def test_a_file_of_others_is_not_overwritten(tmp_path: Path) -> None:
    spec(tmp_path, words(tmp_path, A))
    theirs = tmp_path / "exports" / "words" / "_default.h5"
    theirs.parent.mkdir(parents=True)
    glove.write_hdf5(theirs, B)
    before = theirs.read_bytes()
    done = applies.apply(tmp_path, code=12)
    assert "is there already, and no collection of this export has it" in done.problems
    assert theirs.read_bytes() == before


@pytest.mark.parametrize("cut", [0, 100, 5_000])
def test_a_file_that_is_damaged_is_named_and_left_as_it_is(tmp_path: Path, cut: int) -> None:
    spec(tmp_path, words(tmp_path, A))
    applies.apply(tmp_path)
    file = tmp_path / "exports" / "words" / "_default.h5"
    file.write_bytes(file.read_bytes()[:cut])
    spec(tmp_path, words(tmp_path, B))
    done = applies.apply(tmp_path, code=1)
    assert str(file) in done.problems
    assert file.stat().st_size == cut


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


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0}))
from vsync.cli import main
sys.argv = ["vsync", "apply", "--auto-approve"]
main()
"""


def test_a_disk_that_is_full_is_told_and_the_next_apply_goes_on(tmp_path: Path) -> None:
    spec(tmp_path, words(tmp_path, A))
    for limit in (4_000, 60_000):  # no part fits; the parts do, but not the file
        script = [sys.executable, "-c", LIMITED.format(limit)]
        done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 1
        assert "cannot be written: File too large" in done.stderr or "disk" in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "exports" / "words" / "_default.h5").exists()
    applies.apply(tmp_path)
    assert held(tmp_path / "exports" / "words" / "_default.h5") == A.by_id()


WITHOUT_PLUGIN = """
import sys
sys.modules["hdf5plugin"] = None
from vsync.cli import main
sys.argv = ["vsync", *sys.argv[1:]]
main()
"""


@pytest.mark.parametrize("compression", ["zstd", "bitshuffle-lz4"])
def test_what_needs_hdf5plugin_says_so_where_it_is_not_installed(tmp_path: Path, compression: str) -> None:
    spec(tmp_path, words(tmp_path, A), compression=compression)

    def run(*said: str) -> str:
        script = [sys.executable, "-c", WITHOUT_PLUGIN, *said]
        done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode not in {0, 70}, done.stdout
        assert "Traceback" not in done.stderr
        return done.stderr

    assert "pip install 'vsync[hdf5plugin]'" in run("plan")
    applies.apply(tmp_path)
    back = {"version": 1, "target": {"hdf5": "again"}, "collections": {"w": {"from": "exports/words/_default.h5"}}}
    (tmp_path / "vsync.yaml").write_text(json.dumps(back))
    said = run("apply", "--auto-approve")
    assert "compressed by a filter that is not here" in said
    assert "pip install 'vsync[hdf5plugin]'" in said


@pytest.fixture(scope="module")
def forks() -> ForkServerContext:
    return forked.context()


def test_an_export_that_is_killed_ten_times_is_whole_in_the_end(tmp_path: Path, forks: ForkServerContext) -> None:
    mortal, export = Mortal(tmp_path, forks, 20261126), ("apply", "--auto-approve", *DESTROY)
    (tmp_path / "once").mkdir()
    spec(tmp_path / "once", words(tmp_path / "once", A))
    points = Mortal(tmp_path / "once", forks, 1).passed(*export)
    assert {"file.put.before", "file.put.after", "export.written", "part.removed", "journal.sent.after"} < set(points)
    file = tmp_path / "exports" / "words" / "_default.h5"
    spec(tmp_path, words(tmp_path, A))
    mortal.passed(*export)
    hit, contents = 0, [A]
    for n in range(1, KILLS + 1):
        contents.append(glove.rows(50 * n, 50 * n + 300))
        spec(tmp_path, words(tmp_path, contents[-1], write="overwrite"))
        hit += mortal.killed(points, *export)
        assert held(file) in [rows.by_id() for rows in contents], "a reader sees an old file or the new one"
    assert hit >= FEWEST
    mortal.passed(*export)
    assert held(file) == contents[-1].by_id()
    applies.assert_no_changes(tmp_path)
    assert applies.vsync(tmp_path, "check", "--full").code == 0


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
    spec(tmp_path, words(tmp_path, B, write="overwrite"))
    mortal.passed(*export)
    assert held(tmp_path / "exports" / "words" / "_default.h5") == B.by_id()
    applies.assert_no_changes(tmp_path)


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
