"""Exports into HDF5 files: each way of writing into files that are there, and what can go wrong on the way."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import applies
import exports
import glove
import h5py
import numpy as np
import pytest
import reader
import yaml
from conftest import Endpoint
from milvus_sources import Ends, make

from vsync.connectors.hdf5 import open_source
from vsync.connectors.hdf5.target import open_target
from vsync.errors import LockedError, StalePlanError

if TYPE_CHECKING:
    from pathlib import Path

ROWS = glove.rows(0, 900)
CHUNKS = {"chunk_bytes": "32KiB"}
MAP = {"id": "ids", "vector": "vectors", "word": "words"}
ALLOWED = ("--allow-destroy", "collection.words")


def item(name: str, into: str | None = None, **more: Any) -> dict[str, Any]:
    return {"from": f"{name}.h5", "map": MAP, **({"into": into} if into else {}), **more}


def write(folder: Path, *data: dict[str, Any], target: Any = "exports", **more: Any) -> None:
    fields = {
        "id": {"type": "int64", "primary": True},
        "vector": {"type": "float_vector", "dim": glove.DIM},
        "word": {"type": "varchar", "max_length": glove.MOST_WORD_BYTES},
    }
    words = {"fields": fields} | more | {"data": list(data)}
    spec = {
        "version": 1,
        "target": {"hdf5": target},
        "defaults": {"chunk_bytes": "32KiB"},
        "collections": {"words": words},
    }
    (folder / "vsync.yaml").write_text(json.dumps(spec))


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """Export the rows once, into two partitions."""
    glove.write_hdf5(tmp_path / "common.h5", ROWS[:600])
    glove.write_hdf5(tmp_path / "rare.h5", ROWS[600:])
    write(tmp_path, item("common"), item("rare", "rare"))
    applies.apply(tmp_path)
    exports.assert_holds(tmp_path / "exports" / "words", {"_default": ROWS[:600], "rare": ROWS[600:]})
    applies.assert_no_changes(tmp_path)
    return tmp_path


def assert_holds(folder: Path, common: glove.Rows, rare: glove.Rows = ROWS[600:]) -> None:
    exports.assert_holds(folder / "exports" / "words", {"_default": common, "rare": rare})


def test_append_adds_the_rows_whose_keys_the_files_do_not_have(exported: Path) -> None:
    more = glove.together(ROWS[:300].changed(), glove.rows(1_000, 1_100))
    glove.write_hdf5(exported / "more.h5", more)
    write(exported, item("more"), partitions=["rare"])
    done = applies.apply(exported)
    assert done.balance("collection.words")["written"] == 100
    assert_holds(exported, glove.together(ROWS[:600], glove.rows(1_000, 1_100)))
    applies.assert_no_changes(exported)


def test_upsert_replaces_rows_whose_keys_come_again_also_from_another_partition(exported: Path) -> None:
    glove.write_hdf5(exported / "more.h5", ROWS[500:700].changed())
    write(exported, item("more"), partitions=["rare"], write="upsert")
    applies.apply(exported)
    assert_holds(exported, glove.together(ROWS[:500], ROWS[500:700].changed()), ROWS[700:])
    applies.assert_no_changes(exported)


def test_skip_leaves_alone_what_holds_rows(exported: Path) -> None:
    glove.write_hdf5(exported / "more.h5", glove.rows(1_000, 1_100))
    write(exported, item("more"), partitions=["rare"], write="skip")
    another = ("--state", str(exported / "another.db"))  # the first one remembers that it was empty when it began
    assert not applies.apply(exported, *another).of("settled")
    assert_holds(exported, ROWS[:600])
    applies.assert_no_changes(exported, *another)


def test_overwrite_replaces_and_with_a_partition_named_that_one_only(exported: Path) -> None:
    glove.write_hdf5(exported / "more.h5", glove.rows(1_000, 1_100))
    write(exported, item("more", "rare"), partitions={"rare": {"write": "overwrite"}})
    applies.apply(exported, code=12)
    assert_holds(exported, ROWS[:600])
    applies.apply(exported, "--allow-destroy", "collection.words.partition.rare")
    assert_holds(exported, ROWS[:600], glove.rows(1_000, 1_100))

    glove.write_hdf5(exported / "again.h5", ROWS[:10])
    write(exported, item("again"), partitions=["rare"], write="overwrite")
    applies.apply(exported, *ALLOWED)
    assert_holds(exported, ROWS[:10], glove.rows(1_000, 1_100))
    applies.assert_no_changes(exported)


def test_mirror_makes_equal_with_deletes_and_within_its_limit(exported: Path) -> None:
    now = glove.together(ROWS[:590], glove.rows(1_000, 1_010))
    glove.write_hdf5(exported / "common.h5", glove.together(ROWS[:5].changed(), now[5:]))
    write(exported, item("common"), partitions=["rare"], write="mirror")
    assert "10 rows not in the data will be deleted" in applies.plan(exported, code=12)
    applies.apply(exported, *ALLOWED)
    assert_holds(exported, glove.together(ROWS[:5].changed(), now[5:]))
    applies.assert_no_changes(exported)
    assert applies.vsync(exported, "check", "--full").code == 0

    glove.write_hdf5(exported / "common.h5", ROWS[:100])
    applies.apply(exported, *ALLOWED, code=8)
    assert_holds(exported, glove.together(ROWS[:5].changed(), now[5:]))


@pytest.mark.parametrize("mode", [{"write": "upsert"}, {"write": "mirror", "max_delete": "100%"}], ids=str)
def test_what_a_file_holds_again_is_written_again(tmp_path: Path, mode: dict[str, str]) -> None:
    first, second = ROWS[:500], glove.together(ROWS[:500].changed(), ROWS[500:])
    write(tmp_path, item("rows"), **mode)
    expected: dict[Any, Any] = {}
    for rows in (first, second, first, second):
        glove.write_hdf5(tmp_path / "rows.h5", rows)
        applies.apply(tmp_path, *ALLOWED)
        expected = rows.by_id() if mode["write"] == "mirror" else expected | rows.by_id()
        assert exports.rows_of(tmp_path / "exports" / "words" / "_default.h5") == expected
        applies.assert_no_changes(tmp_path)


def test_a_mirror_whose_data_changes_before_it_is_finished_is_of_the_data_in_the_end(tmp_path: Path) -> None:
    mirror = {"write": "mirror", "max_delete": "100%"}
    write(tmp_path, item("rows"), **mirror)
    glove.write_hdf5(tmp_path / "rows.h5", ROWS[:500])
    applies.apply(tmp_path)
    glove.write_hdf5(tmp_path / "rows.h5", ROWS[200:])
    process = applies.start(tmp_path, *ALLOWED)
    next(said for said in applies.events(process) if said["type"] == "chunk_acked")
    process.kill()
    process.wait(applies.SECONDS)
    assert process.stdout is not None
    process.stdout.close()
    glove.write_hdf5(tmp_path / "rows.h5", ROWS[:450])
    applies.apply(tmp_path, *ALLOWED)
    exports.assert_holds(tmp_path / "exports" / "words", {"_default": ROWS[:450]})
    applies.assert_no_changes(tmp_path)


def test_a_mirror_mends_also_much_that_others_wrote(tmp_path: Path) -> None:
    mirror = {"write": "mirror", "max_delete": "100%"}
    glove.write_hdf5(tmp_path / "rows.h5", ROWS[:500])
    glove.write_hdf5(tmp_path / "others.h5", ROWS[100:700].changed())
    write(tmp_path, item("rows"), **mirror)
    applies.apply(tmp_path)
    write(tmp_path, item("others"), write="upsert")
    applies.apply(tmp_path, "--state", str(tmp_path / "others.db"))
    write(tmp_path, item("rows"), **mirror)
    applies.apply(tmp_path, *ALLOWED)
    exports.assert_holds(tmp_path / "exports" / "words", {"_default": ROWS[:500]})
    applies.assert_no_changes(tmp_path)


@pytest.mark.parametrize("target", ["lite"], indirect=True)
def test_collections_are_merged_and_chosen_from_by_partition_and_filter(
    source: Endpoint, target: Endpoint, tmp_path: Path
) -> None:
    ends = Ends(source, target, tmp_path)
    with ends.old() as client:
        make(client, "one", {"_default": ROWS[:300], "rare": ROWS[300:400], "tmp": ROWS[400:410]})
        make(client, "two", {"_default": ROWS[500:600]})
    at = {"uri": source.uri, "database": source.database}
    one = {"at": at, "collection": "one", "where": "id >= 100", "partitions": {"deny": ["tmp"]}}
    two = {"at": at, "collection": "two"}
    words: dict[str, Any] = {"data": [{"from": {"milvus": one}}, {"from": {"milvus": two}, "into": "rare"}]}
    spec: dict[str, Any] = {"version": 1, "target": {"hdf5": "exports"}, "collections": {"words": words}}
    (tmp_path / "vsync.yaml").write_text(json.dumps(spec))
    applies.apply(tmp_path)
    assert_holds(tmp_path, ROWS[100:300], glove.together(ROWS[300:400], ROWS[500:600]))
    applies.assert_no_changes(tmp_path)
    assert applies.vsync(tmp_path, "check", "--full").code == 0

    with ends.old() as client:
        reader.insert(client, "two", ROWS[600:650])
        client.delete("one", ids=[150, 350])
    words["write"] = "mirror"
    words["scope"] = "id >= 100"
    (tmp_path / "vsync.yaml").write_text(json.dumps(spec))
    applies.apply(tmp_path, *ALLOWED, "--allow-destroy", "collection.words.partition.rare")
    common = glove.together(ROWS[100:150], ROWS[151:300])
    assert_holds(tmp_path, common, glove.together(ROWS[300:350], ROWS[351:400], ROWS[500:650]))
    applies.assert_no_changes(tmp_path)


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_the_layout_of_milvusdm_is_what_milvusdm_wrote(tmp_path: Path, compression: str) -> None:
    glove.write_hdf5(tmp_path / "common.h5", ROWS[:600])
    glove.write_hdf5(tmp_path / "rare.h5", ROWS[600:])
    milvusdm = {"path": "exports", "layout": "milvusdm", "compression": compression}
    fields = {"id": {"type": "int64", "primary": True}, "vector": {"type": "float_vector", "dim": glove.DIM}}
    parts = {"_default": ROWS[:600], "rare": ROWS[600:]}
    data = [item("common"), item("rare", "rare")]
    data = [one | {"map": {k: MAP[k] for k in fields}} for one in data]
    write(tmp_path, *data, target=milvusdm, fields=fields)
    applies.apply(tmp_path)
    applies.assert_no_changes(tmp_path)
    words = tmp_path / "exports" / "words"
    assert {p.name for p in words.iterdir()} == {"collection.json", "None.h5", "rare.h5"}
    for partition, rows in parts.items():
        name = "None" if partition == "_default" else partition
        with h5py.File(words / f"{name}.h5") as file:
            assert set(file) == {"ids", "embeddings"}
            assert (file["ids"][:].tolist(), file["embeddings"][:].tobytes()) == (
                rows.ids.tolist(), rows.vectors.tobytes()
            )  # fmt: skip
            assert file["embeddings"].dtype == np.float32

    with contextlib.closing(open_source(words / "None.h5")) as again:
        assert (again.describe().layout, again.describe().rows) == ("MilvusDM", 600)
    said = yaml.safe_load((tmp_path / "exports" / "import.yaml").read_text())
    (tmp_path / "exports" / "vsync.yaml").write_text(json.dumps(said | {"target": {"hdf5": "../back"}}))
    applies.apply(tmp_path / "exports")
    for partition, rows in parts.items():
        with h5py.File(tmp_path / "back" / "words" / f"{partition}.h5") as file:
            assert file["id"][:].tolist() == rows.ids.tolist()
            assert file["vector"][:].tobytes() == rows.vectors.tobytes()


def assert_refused(folder: Path, said: str, *words: str, code: int) -> None:
    done = applies.apply(folder, *words, code=code)
    problems = [p for one in done.of("error") for p in one["problems"]]
    told = [f"{p['where']}: {p['what']}; {p['hint']}" for p in problems]
    assert any(said in line for line in told), told


def test_what_others_have_in_the_folder_is_named_and_stays_as_it_is(tmp_path: Path) -> None:
    words = tmp_path / "exports" / "words"
    words.mkdir(parents=True)
    glove.write_hdf5(tmp_path / "common.h5", ROWS[:600])
    glove.write_hdf5(tmp_path / "rare.h5", ROWS[600:])
    write(tmp_path, item("common"), item("rare", "rare"))
    for path in (words / "_default.h5", words / "rare.h5", tmp_path / "exports" / "import.yaml"):
        glove.write_hdf5(path, ROWS[:7])
        was = path.read_bytes()
        assert_refused(tmp_path, f"{path}: is there already", code=12)
        assert path.read_bytes() == was
        assert not list((tmp_path / "exports").rglob("collection.json"))
        path.unlink()


def test_a_collection_that_is_replaced_loses_its_own_files_alone(exported: Path) -> None:
    words = exported / "exports" / "words"
    (words / "README").write_text("mine")
    glove.write_hdf5(words / "mine.h5", ROWS[:7])
    few = glove.Rows(ROWS.ids[:9], ROWS.vectors[:9], [f"w{n}" for n in range(9)])
    glove.write_hdf5(exported / "few.h5", few)
    key = {"type": "varchar", "primary": True, "max_length": 9}
    fields = {"id": key, "vector": {"type": "float_vector", "dim": glove.DIM}}
    write(exported, {"from": "few.h5", "map": {"id": "words", "vector": "vectors"}}, fields=fields)
    applies.apply(exported, *ALLOWED)
    assert {p.name for p in words.iterdir()} == {"README", "mine.h5", "collection.json", "_default.h5"}
    with h5py.File(words / "_default.h5") as file:
        assert file["id"].asstr()[:].tolist() == few.words
    applies.assert_no_changes(exported)


@pytest.mark.parametrize("mode", [{}, {"write": "overwrite"}, {"write": "mirror", "max_delete": "100%"}], ids=str)
def test_a_file_that_is_damaged_or_somebody_elses_is_named_and_never_overwritten(
    exported: Path, mode: dict[str, str]
) -> None:
    glove.write_hdf5(exported / "more.h5", glove.rows(1_000, 1_100))
    write(exported, item("more"), partitions=["rare"], **mode)
    path = exported / "exports" / "words" / "_default.h5"
    whole = path.read_bytes()
    glove.write_hdf5(path, ROWS[:7])
    others = path.read_bytes()
    for damaged, said in (
        (whole[: len(whole) // 2], "cannot be read"),
        (b"no HDF5", "cannot be read"),
        (others, "is no file that vsync exported"),
    ):
        path.write_bytes(damaged)
        assert_refused(exported, f"{path}: {said}", *ALLOWED, code=1)
        assert path.read_bytes() == damaged
    path.write_bytes(whole)
    applies.apply(exported, *ALLOWED)


def test_another_layout_or_a_damaged_description_is_refused(exported: Path) -> None:
    write(exported, item("common"), target={"path": "exports", "layout": "milvusdm"})
    assert_refused(exported, "collection.json: its files are of layout: vsync; write layout: vsync", code=1)
    write(exported, item("common"))
    (exported / "exports" / "words" / "collection.json").write_text("{")
    assert_refused(exported, "collection.json: cannot be read", code=1)
    assert exports.rows_of(exported / "exports" / "words" / "_default.h5") == ROWS[:600].by_id()


def test_a_second_export_into_the_folder_ends_with_11_and_a_late_one_with_4(exported: Path) -> None:
    glove.write_hdf5(exported / "more.h5", glove.rows(1_000, 1_100))
    write(exported, item("more"), partitions=["rare"])
    with contextlib.closing(open_target(str(exported / "exports"))) as late:
        assert late.count("words", None) == 900
        with contextlib.closing(open_target(str(exported / "exports"))) as first:
            first.set_properties("words", {"owner": "me"})
            assert_refused(exported, "another process exports into this folder; wait until the other", code=11)
            with pytest.raises(LockedError):
                late.clear("words", None)
            assert_holds(exported, ROWS[:600])
        applies.apply(exported)
        for _ in range(2):  # many threads write, and none of them may
            with pytest.raises(StalePlanError, match=r"exported into this folder since .*make a new plan"):
                late.clear("words", None)
    assert_holds(exported, glove.together(ROWS[:600], glove.rows(1_000, 1_100)))


def test_the_spec_of_an_exported_file_or_folder_says_all_of_its_collection(tmp_path: Path, lite_path: Path) -> None:
    said: dict[str, Any] = {
        "description": 'costs $${X}: it\'s "quoted"',
        "fields": {
            "id": {"type": "int64", "primary": True},
            "vector": {"type": "float_vector", "dim": glove.DIM},
            "word": {"type": "varchar", "max_length": glove.MOST_WORD_BYTES, "default": "$${HOME}"},
        },
        "indexes": {"vector": {"type": "HNSW", "metric": "COSINE", "params": {"M": 8, "efConstruction": 64}}},
        "partitions": ["rare"],
        "aliases": ["lexicon"],
    }
    glove.write_hdf5(tmp_path / "common.h5", ROWS)
    write(tmp_path, item("common"), **said)
    applies.apply(tmp_path)
    folder = tmp_path / "exports"
    alone = yaml.safe_load(applies.vsync(folder, "init", "--from", "words/_default.h5").out)["collections"]["words"]
    whole = yaml.safe_load((folder / "import.yaml").read_text())["collections"]["words"]
    for key in ("description", "fields"):
        assert alone[key] == whole[key] == said[key]
    assert alone["indexes"] == whole["indexes"]
    assert alone["indexes"]["vector"]["metric"] == "COSINE"
    assert (whole["aliases"], set(whole["partitions"])) == (["lexicon"], {"rare"})

    words = ("import.yaml", "--var", f"TARGET={lite_path}")
    done = applies.vsync(folder, "apply", *words, "--auto-approve")
    assert done.code == 0, done.err
    assert "No changes." in applies.vsync(folder, "plan", *words).out
    assert applies.vsync(folder, "check", *words, "--full").code == 0
    with reader.client_of(Endpoint(str(lite_path), "default", "lite")) as client:
        reader.assert_holds(client, "lexicon", ROWS.by_id())


BLOCKED = """
import sys
sys.modules["hdf5plugin"] = None
import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "hdf5plugin" else find(name, *more)
from vsync.cli import main
main()
"""
LATE = 0
LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
from vsync.cli import main
main()
"""


def run(program: str, folder: Path, *words: str) -> applies.Done:
    command = [sys.executable, "-c", program, *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=applies.SECONDS)
    assert "Traceback" not in done.stderr, done.stderr
    return applies.Done(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("compression", ["zstd", pytest.param("bitshuffle-lz4", marks=pytest.mark.slow)])
def test_without_hdf5plugin_it_is_said_what_to_install(tmp_path: Path, compression: str) -> None:
    glove.write_hdf5(tmp_path / "common.h5", ROWS)
    write(tmp_path, item("common"), target={"path": "exports", "compression": compression})
    done = run(BLOCKED, tmp_path, "apply", "--auto-approve")
    assert done.code == 12
    assert f"compression: {compression} needs hdf5plugin, which is not installed" in done.err
    assert "pip install 'vsync[hdf5plugin]', or write compression: gzip" in done.err
    assert not (tmp_path / "exports").exists()

    applies.apply(tmp_path)
    write(tmp_path, item("common"), target="exports")
    for words in (("plan",), ("init", "--from", "exports/words/_default.h5")):
        done = run(BLOCKED, tmp_path, *words)
        assert done.code == 1
        assert "_default.h5\n" in done.err
        assert "compressed by a filter that is not here" in done.err
        assert "pip install 'vsync[hdf5plugin]'" in done.err


@pytest.mark.parametrize(
    ("chunk_bytes", "limit", "place"),
    [("4MiB", 2_000_000, ".rows"), ("512KiB", 2_000_000, "_default.h5"), ("512KiB", LATE, "_default.h5")],
)
@pytest.mark.parametrize("compression", ["none", pytest.param("gzip", marks=pytest.mark.slow)])
def test_a_disk_that_is_full_is_an_error_and_the_next_run_completes(
    tmp_path: Path, chunk_bytes: str, limit: int, place: str, compression: str
) -> None:
    rows = glove.rows(0, 20_000)
    glove.write_hdf5(tmp_path / "common.h5", rows)
    write(tmp_path, item("common"), target={"path": "exports", "compression": compression})
    spec = json.loads((tmp_path / "vsync.yaml").read_text()) | {"defaults": {"chunk_bytes": chunk_bytes}}
    (tmp_path / "vsync.yaml").write_text(json.dumps(spec))
    if limit == LATE:  # HDF5 writes the last of it when it closes the file
        applies.apply(tmp_path)
        limit = (tmp_path / "exports" / "words" / "_default.h5").stat().st_size - 3_000
        shutil.rmtree(tmp_path / "exports")
        shutil.rmtree(tmp_path / ".vsync")
    done = run(LIMITED, tmp_path, str(limit), "apply", "--auto-approve")
    assert done.code == 1, done
    assert place in done.err
    assert "is there room, and may you?" in done.err
    assert not list((tmp_path / "exports").rglob("*.h5"))
    applies.apply(tmp_path)
    exports.assert_holds(tmp_path / "exports" / "words", {"_default": rows})
    applies.assert_no_changes(tmp_path)
