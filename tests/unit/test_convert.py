"""``vsync convert``: what each of MilvusDM's jobs becomes, what is said of it, what is wrong with a configuration."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import applies
import milvus1
import numpy as np
import pytest
import yaml
from milvus1 import Kept, Part

import vsync
from vsync.convert import convert
from vsync.errors import SpecError, VsyncError

if TYPE_CHECKING:
    from pathlib import Path

F2M = """
F2M:
  milvus_version: 1.x
  data_path: data/faiss1.index
  dest_host: '127.0.0.1'
  dest_port: 19530
  mode: 'append'
  dest_collection_name: 'test01'
  dest_partition_name: ''
  collection_parameter:
    dimension: 256
    index_file_size: 1024
    metric_type: 'L2'
"""
H2M = """
H2M:
  milvus-version: 1.x
  data_path:
    - data/one.h5
    - data/two.h5
  data_dir:
  dest_host: 127.0.0.1
  dest_port: 19530
  mode: 'overwrite'        # 'skip/append/overwrite'
  dest_collection_name: test_float
  dest_partition_name: partition_1
  collection_parameter: {dimension: 128, index_file_size: 1024, metric_type: IP}
"""
M2M = """
M2M:
  milvus_version: 0.10.5
  source_milvus_path: old
  mysql_parameter:
  source_collection:
    test:
      - a
      - 2021-1
  dest_host: server
  dest_port: 19530
  mode: skip
"""
M2H = """
M2H:
  milvus_version: 1.x
  source_milvus_path: old
  mysql_parameter:
  source_collection:
    test:
    bits:
  data_dir: out
"""
FLOATS = {"id": {"type": "int64", "primary": True}, "embedding": {"type": "float_vector", "dim": 4}}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder to be in, with a Milvus 1.x in ``old``: ``test`` with three partitions, ``bits`` with none."""
    vectors, bits = np.ones((2, 4), np.float32), np.ones((2, 1), np.uint8)
    tagged = {tag: [Part([n, n + 1], vectors)] for n, tag in enumerate(["", "a", "2021-1", "b"])}
    milvus1.write(
        tmp_path / "old",
        {"test": Kept(4, partitions=tagged), "bits": Kept(8, milvus1.TANIMOTO, {"": [Part([1, 2], bits)]})},
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def converted(at: Path, text: str, **options: Any) -> tuple[dict[str, Any], str]:
    """Convert a configuration; gives the spec, which is valid, and what is said above it in one line."""
    (at / "dm.yaml").write_text(text.lstrip())
    return checked(convert(at / "dm.yaml", **options), at)


def checked(text: str, folder: Path) -> tuple[dict[str, Any], str]:
    vsync.parse_spec(text, folder=folder)
    comments = [line for line in text.splitlines() if line.startswith("#")]
    said = " ".join(line.removeprefix("#").strip() for line in comments).replace(f"{folder}/", "")
    return yaml.safe_load(text), said


def wrong(folder: Path, text: str) -> list[str]:
    (folder / "dm.yaml").write_text(text.lstrip())
    with pytest.raises(SpecError) as caught:
        convert(folder / "dm.yaml")
    return [str(p).replace(f"{folder}/", "") for p in caught.value.problems]


def test_faiss(folder: Path) -> None:
    spec, said = converted(folder, F2M)
    assert spec == {
        "version": 1,
        "target": {"milvus": {"uri": "http://127.0.0.1:19530"}},
        "collections": {
            "test01": {
                "fields": {"id": FLOATS["id"], "embedding": {"type": "float_vector", "dim": 256}},
                "indexes": {"embedding": {"type": "AUTOINDEX", "metric": "L2"}},
                "write": "append",
                "data": [{"from": {"faiss": "data/faiss1.index"}}],
            }
        },
    }
    for text in (
        "dm.yaml:2:3: milvus_version has no meaning",
        "dm.yaml:6:3: mode append: MilvusDM inserted without a look",
        "dm.yaml:11:5: index_file_size has no meaning",
        "MilvusDM built no index",
    ):
        assert text in said


def test_hdf5_files_into_a_partition(folder: Path) -> None:
    spec, said = converted(folder, H2M)
    collection = spec["collections"]["test_float"]
    assert collection["write"] == "append"
    assert collection["partitions"] == {"partition_1": {"write": "overwrite"}}
    assert collection["indexes"]["embedding"]["metric"] == "IP"
    into = [{"from": {"hdf5": f"data/{n}.h5"}, "into": "partition_1"} for n in ("one", "two")]
    assert collection["data"] == into
    assert "milvus-version has no meaning" in said
    assert "dm.yaml:9:3: mode overwrite: the rows of the partition alone are replaced" in said


@pytest.mark.parametrize("mode", ["append", "skip", "overwrite"])
def test_a_folder_of_hdf5_files_into_a_collection(folder: Path, mode: str) -> None:
    text = H2M.replace("    - data/one.h5\n    - data/two.h5\n", "").replace("data_dir:", "data_dir: da[t]a/")
    text = text.replace("partition_1", "").replace("'overwrite' ", mode).replace("IP", "HAMMING")
    spec, said = converted(folder, text)
    collection = spec["collections"]["test_float"]
    assert collection["write"] == mode
    assert "partitions" not in collection
    assert collection["data"] == [{"from": {"hdf5": "da[[]t]a/*.h5"}}]
    assert collection["fields"]["embedding"] == {"type": "binary_vector", "dim": 128}
    assert collection["indexes"] == {"embedding": {"type": "BIN_FLAT", "metric": "HAMMING"}}
    assert {
        "append": "here rows whose key is there are left as they are",
        "skip": "MilvusDM skipped where the collection was there, empty or not",
        "overwrite": "MilvusDM dropped the collection without a word",
    }[mode] in said


def test_partitions_of_a_milvus_1(folder: Path) -> None:
    spec, said = converted(folder, M2M)
    assert spec["target"] == {"milvus": {"uri": "http://server:19530"}}
    collection = spec["collections"]["test"]
    assert collection["fields"] == FLOATS
    assert collection["write"] == "skip"
    assert collection["partitions"] == {"a": {}, "p_2021_1": {}}
    assert collection["data"] == [
        {"from": {"milvus1": {"path": "old", "collection": "test", "partitions": [tag]}}, "into": into}
        for tag, into in (("a", "a"), ("2021-1", "p_2021_1"))
    ]
    for text in (
        "mysql_parameter is empty",
        "the partition '2021-1' is called p_2021_1 here",
        "Milvus 1.x lets two rows have one key",
        "mode skip: MilvusDM skipped where the collection or the partition was there",
    ):
        assert text in said


def test_all_of_a_milvus_1_into_hdf5(folder: Path) -> None:
    spec, said = converted(folder, M2H)
    assert spec["target"] == {"hdf5": {"path": "out", "layout": "milvusdm"}}
    assert list(spec["collections"]) == ["test", "bits"]
    test, bits = spec["collections"].values()
    assert [d["from"]["milvus1"]["partitions"] for d in test["data"]] == [["_default"], ["a"], ["2021-1"], ["b"]]
    assert [d.get("into") for d in test["data"]] == [None, "a", "p_2021_1", "b"]
    assert bits["data"] == [{"from": {"milvus1": {"path": "old", "collection": "bits"}}}]
    assert bits["indexes"] == {"embedding": {"type": "BIN_FLAT", "metric": "JACCARD"}}
    for text in ("took only the first of these collections", "MilvusDM made a new folder", "TANIMOTO is no metric"):
        assert text in said
    every, _ = converted(folder, M2H.replace("\n    test:\n    bits:", " '*'"))
    assert every == spec


def test_jobs_of_one_file_that_have_one_target_are_one_spec(folder: Path) -> None:
    spec, said = converted(folder, F2M + H2M)
    assert list(spec["collections"]) == ["test01", "test_float"]
    assert "dm.yaml:14:1: H2M: MilvusDM ran only the first job of a file" in said
    [found] = wrong(folder, F2M + M2M)
    assert found.startswith("dm.yaml:14:1: M2M has another target than F2M at dm.yaml:1:1, and a spec has one; put it")


def test_paths_are_written_as_seen_from_where_the_spec_will_lie(folder: Path) -> None:
    spec, _ = converted(folder, H2M.replace("data/two.h5", "/data/two.h5"), folder=folder / "specs")
    sources = [d["from"]["hdf5"] for d in spec["collections"]["test_float"]["data"]]
    assert sources == ["../data/one.h5", "/data/two.h5"]
    spec, _ = converted(folder, M2H, folder=folder / "specs")
    assert spec["target"]["hdf5"]["path"] == "../out"
    assert spec["collections"]["bits"]["data"][0]["from"]["milvus1"]["path"] == "../old"


def test_another_target(folder: Path) -> None:
    spec, _ = converted(folder, M2H, target="./new.db")
    assert spec["target"] == {"milvus": {"uri": "./new.db"}}


def test_what_looks_like_a_variable_is_none(folder: Path) -> None:
    text = convert_text(folder, F2M.replace("data/faiss1", "'data/${A}'").replace("'.index", ".index'"))
    spec = vsync.parse_spec(text, folder=folder, environ={})
    assert spec.collections["test01"].data[0].source.label == "data/${A}.index"


def convert_text(folder: Path, text: str) -> str:
    (folder / "dm.yaml").write_text(text.lstrip())
    return convert(folder / "dm.yaml")


WRONG = [
    ("", ["1:1: a configuration of MilvusDM begins with its job; write one of F2M, H2M, M2M, M2H"]),
    ("- F2M", ["1:1: a configuration of MilvusDM begins with its job"]),
    ("F2N: {}", ["1:1: 'F2N' is none of MilvusDM's jobs; did you mean F2M?"]),
    ("F2M:", ["1:1: F2M has no options below it; it needs data_path, dest_host"]),
    ("F2M: {a: [}", ["1:11: "]),
    (
        F2M.replace("mode:", "mood:"),
        ["6:3: unknown key 'mood' in F2M; did you mean mode?", "1:1: 'mode' of F2M is missing"],
    ),
    (F2M.replace("'append'", "insert"), ["6:9: 'insert' is no mode; write one of these: append, skip, overwrite"]),
    (F2M.replace("'append'", ""), ["6:3: 'mode' of F2M is missing; write mode: append"]),
    (F2M.replace("256", "many"), ["10:16: dimension must be a whole number, not 'many'; write dimension: 128"]),
    (F2M.replace("'L2'", "L3"), ["12:18: metric_type is not known: 'L3'; write one of these: L2, IP"]),
    (F2M.replace("index_file", "idx_file"), ["11:5: unknown key 'idx_file_size' in collection_parameter"]),
    (F2M.replace("19530", "milvus"), ["5:14: 'milvus' is no port; write 19530"]),
    (F2M.replace("'127.0.0.1'", "[a]"), ["4:3: this must be text, not a list"]),
    (H2M.replace("data_dir:", "data_dir: x"), ["1:1: data_path and data_dir are both written; write one of them"]),
    (H2M.replace("\n    - data/one.h5\n    - data/two.h5", ""), ["1:1: neither data_path nor data_dir is written"]),
    (M2M.replace("mysql_parameter:", "mysql_parameter: {host: h}"), ["4:3: the metadata is in MySQL, and only SQLite"]),
    (F2M.replace("'test01'", "a-b"), ["7:3: 'a-b' cannot be the name of a collection"]),
    (F2M.replace("data/faiss1.index", "s3://b/x"), [" as a spec:1:"]),
    (M2M.replace(" old", " ol"), ["3:23: ol: is no folder of a Milvus 1.x; it holds db/meta.sqlite and db/tables"]),
    (M2M.replace("test:", "tests:"), ["6:5: there is no collection 'tests' in old; did you mean test?"]),
    (M2M.replace("- a", "- aa"), ["7:9: the collection 'test' has no partition 'aa'; did you mean a?"]),
    (M2M.replace("test:", "test").replace("- a", "").replace("- 2021-1", ""), ["5:3: source_collection is a mapping"]),
    (M2M.replace("- 2021-1", "- 2021-1\n    bits: [b]"), ["9:12: the collection 'bits' has no partition 'b'"]),
]


@pytest.mark.parametrize(("text", "expected"), WRONG)
def test_what_is_wrong_is_said_with_its_line(folder: Path, text: str, expected: list[str]) -> None:
    found = wrong(folder, text)
    assert sorted(expected) == sorted(
        next((e for e in expected if f.removeprefix("dm.yaml:").removeprefix("dm.yaml").startswith(e)), f)
        for f in found
    )


def test_a_configuration_that_is_not_there(folder: Path) -> None:
    with pytest.raises(VsyncError, match="the configuration cannot be read: No such file"):
        convert(folder / "none.yaml")


def write_tree(root: Path) -> None:
    """Write what MilvusDM leaves beside its HDF5 files, whose contents do not matter here."""
    for name, partition in (("words", None), ("words", "rare"), ("bits", None)):
        file = root / name / f"{partition}.h5"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
        said = {
            "milvus_version": "1.1.1",
            "data_path": [f"/was/elsewhere/{root.name}/{name}/{partition}.h5"],
            "data_dir": None,
            "dest_host": "127.0.0.1",
            "dest_port": 19530,
            "mode": "skip",
            "dest_collection_name": name,
            "dest_partition_name": partition,
            "collection_parameter": {"dimension": 16, "index_file_size": 1024, "metric_type": "L2"},
        }
        beside = root / "yamls" / name / f"{partition}.yaml"
        beside.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(yaml.dump({"H2M": said}))


def test_a_tree_with_its_yamls(folder: Path) -> None:
    write_tree(folder / "out" / "uuid")
    (folder / "out" / "vsync.yaml").write_text("version: 1\n")
    (folder / "out" / "loose.h5").write_bytes(b"")
    spec, said = checked(convert(folder / "out"), folder)
    root = "out/uuid"
    words = spec["collections"]["words"]
    assert words["partitions"] == {"rare": {}}
    assert words["write"] == "skip"
    assert [(d["from"]["hdf5"].replace(f"{folder}/", ""), d.get("into")) for d in words["data"]] == [
        (f"{root}/words/None.h5", None),
        (f"{root}/words/rare.h5", "rare"),
    ]
    assert list(spec["collections"]) == ["bits", "words"]
    assert "vsync.yaml: is no configuration of MilvusDM" in said
    assert "loose.h5: is left out: nothing says which collection it belongs to" in said


def test_a_tree_without_yamls(folder: Path) -> None:
    write_tree(folder / "out")
    for path in (folder / "out" / "yamls").rglob("*.yaml"):
        path.unlink()
    with pytest.raises(SpecError, match="nothing says where the rows are to go; say it: --target"):
        convert(folder / "out")
    spec, said = checked(convert(folder / "out", target="./new.db"), folder)
    assert {name: [d.get("into") for d in c["data"]] for name, c in spec["collections"].items()} == {
        "bits": [None],
        "words": [None, "rare"],
    }
    assert "fields" not in spec["collections"]["words"]
    assert "nothing says which metric it had" in said


def test_what_is_wrong_with_a_tree(folder: Path) -> None:
    (folder / "out").mkdir()
    with pytest.raises(SpecError, match="holds no export of MilvusDM"):
        convert(folder / "out")
    write_tree(folder / "out" / "one")
    write_tree(folder / "out" / "two")
    with pytest.raises(SpecError, match=r"bits/None is there twice.*convert the folder of one run"):
        convert(folder / "out")


def test_dimensions_that_differ(folder: Path) -> None:
    write_tree(folder / "out")
    path = folder / "out" / "yamls" / "words" / "rare.yaml"
    path.write_text(path.read_text().replace("dimension: 16", "dimension: 8"))
    with pytest.raises(SpecError, match="words has dimension 8 and L2 here, 16 and L2 at"):
        convert(folder / "out")


def test_partitions_whose_names_become_one(tmp_path: Path) -> None:
    tagged = {tag: [Part([1], np.ones((1, 4), np.float32))] for tag in ("a-1", "a.1")}
    milvus1.write(tmp_path / "old", {"test": Kept(4, partitions=tagged)})
    text = textwrap.dedent(M2M).replace(" old", f" {tmp_path}/old").replace("- a\n", "- a-1\n").replace("2021-1", "a.1")
    assert "two partitions of test would be called a_1" in wrong(tmp_path, text)[0]


def test_a_folder_of_files_alone_is_nothing_to_convert(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a.h5").touch()
    done = applies.vsync(tmp_path, "convert", "files", "--target", "./c.db")
    assert done.code == 1
    assert "files: nothing of MilvusDM is here that brings rows; files alone need no conversion" in done.err
