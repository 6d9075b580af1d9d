"""Bad input is named by what it is, where it is and what to do; nothing of it is written, and nothing else is lost."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple

import faiss
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from servers import take_ports

import vsync
from vsync.cli import main
from vsync.connectors.milvus import open_target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from conftest import Endpoint
    from servers import MilvusServer

N = 1000
ROW = 501


class Said(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Shell:
    """Runs commands in a folder of their own, in this process: a second start of Python each is too slow."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(folder)
        monkeypatch.setenv("COLUMNS", "200")
        self.folder, self._capsys, self._monkeypatch = folder, capsys, monkeypatch

    def run(self, *words: str) -> Said:
        self._monkeypatch.setattr("sys.argv", ["vsync", *words])
        self._capsys.readouterr()
        code: Any = 0
        try:
            main()
        except SystemExit as e:
            code = e.code
        seen = self._capsys.readouterr()
        assert "Traceback" not in seen.out + seen.err
        assert "fault of vsync" not in seen.err, seen.err
        return Said(code, seen.out, seen.err)


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(tmp_path, capsys, monkeypatch)


def write_spec(folder: Path, target: str, file: str = "data.h5", more: str = "") -> None:
    (folder / "vsync.yaml").write_text(f"""\
version: 1
target: {target}
defaults: {{chunk_bytes: 16KiB}}
collections:
  books:
    fields:
      id: {{type: int64, primary: true}}
      vector: {{type: float_vector, dim: 8}}
      word: {{type: varchar, max_length: 64}}
      year: {{type: int8}}
    indexes: {{vector: {{type: FLAT, metric: L2}}}}
    {more}
    data:
      - from: {file}
        map: {{id: ids, vector: vectors, word: words, year: year}}
""")


def write_hdf5(path: Path, rows: int = N, **other: Any) -> None:
    columns: dict[str, Any] = {
        "ids": np.arange(rows),
        "vectors": np.random.default_rng(5).random((rows, 8), dtype=np.float32),
        "words": [f"w{i}" for i in range(rows)],
        "year": np.full(rows, 5, "i4"),
    } | other
    path.unlink(missing_ok=True)
    with h5py.File(path, "w") as file:
        for name, column in columns.items():
            kind = h5py.string_dtype() if isinstance(column, list) else None
            file.create_dataset(name, data=column, dtype=kind)


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def truncated_hdf5(folder: Path) -> str:
    write_hdf5(folder / "data.h5")
    cut_off(folder / "data.h5")
    return "data.h5"


def truncated_faiss(folder: Path) -> str:
    index = faiss.IndexFlatL2(8)
    index.add(np.zeros((N, 8), "f4"))
    faiss.write_index(index, str(folder / "data.index"))
    cut_off(folder / "data.index")
    return "data.index"


def text_file(folder: Path) -> str:
    (folder / "data.h5").write_text("hello")
    return "data.h5"


def unreadable(folder: Path) -> str:
    (folder / "data.h5").symlink_to("data.h5")  # not even root reads it
    return "data.h5"


def wrong_dimension(folder: Path) -> str:
    write_hdf5(folder / "data.h5", vectors=np.zeros((N, 16), "f4"))
    return "data.h5"


def lengths_differ(folder: Path) -> str:
    write_hdf5(folder / "data.h5", words=["a"] * (N - 1))
    return "data.h5"


def repeated_keys(folder: Path) -> str:
    ids = np.arange(N)
    ids[ROW] = 3
    write_hdf5(folder / "data.h5", ids=ids)
    return "data.h5"


def null_key(folder: Path) -> str:
    vector = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(24, "f4")), 8)
    table = {"ids": pa.array([1, None, 3]), "vectors": vector, "words": ["a"] * 3, "year": [1] * 3}
    pq.write_table(pa.table(table), folder / "data.parquet")
    return "data.parquet"


def missing(_folder: Path) -> str:
    return "missing.h5"


SEEN_BY_PLAN: dict[str, tuple[Callable[[Path], str], list[str]]] = {
    "missing": (missing, ["missing.h5", "no such file", "vsync.yaml:14:15"]),
    "unreadable": (unreadable, ["data.h5", "leads nowhere", "vsync.yaml:14:15"]),
    "truncated HDF5": (truncated_hdf5, ["data.h5", "truncated", "copy it again", "vsync.yaml:14:15"]),
    "truncated Faiss": (truncated_faiss, ["data.index", "is not a whole Faiss index", "copy it again"]),
    "text": (text_file, ["data.h5", "is not an HDF5 file"]),
    "dimension": (wrong_dimension, ["data.h5", "(1000, 16)", "float_vector(8)", "write dim: 16", "vsync.yaml:15:32"]),
    "lengths": (lengths_differ, ["data.h5", "words has 999", "ids has 1000"]),
    "keys": (repeated_keys, ["1 row whose key another row has", "data.h5 row 3", "data.h5 row 501", "on_collision"]),
    "null key": (null_key, ["data.parquet", "row 1", "field id", "null"]),
}


@pytest.mark.parametrize("case", SEEN_BY_PLAN)
def test_what_headers_and_keys_tell_is_refused_before_anything_is_written(case: str, shell: Shell) -> None:
    write, words = SEEN_BY_PLAN[case]
    write_spec(shell.folder, "./milvus.db", write(shell.folder))
    for command in (["plan"], ["apply", "--auto-approve"]):
        said = shell.run(*command)
        assert said.code == 12
        assert [w for w in words if w not in said.err] == [], said.err
    assert not (shell.folder / "milvus.db").exists()


def long_word(folder: Path) -> None:
    words = [f"w{i}" for i in range(N)]
    words[ROW] = "ü" * 40
    write_hdf5(folder / "data.h5", words=words)


def large_number(folder: Path) -> None:
    year = np.full(N, 5, "i4")
    year[ROW] = 300
    write_hdf5(folder / "data.h5", year=year)


def not_a_number(folder: Path) -> None:
    vectors = np.zeros((N, 8), "f4")
    vectors[ROW, 3] = np.nan
    write_hdf5(folder / "data.h5", vectors=vectors)


BAD_VALUES: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "long": (long_word, ["field word", "longer than 64 bytes", "(80 bytes)", "üüü"]),
    "large": (large_number, ["field year", "no int8", "300"]),
    "nan": (not_a_number, ["field vector", "nan"]),
}


@pytest.mark.parametrize("case", BAD_VALUES)
def test_a_value_that_does_not_fit_is_named_and_its_chunk_is_not_sent(
    case: str, target: Endpoint, shell: Shell
) -> None:
    write, words = BAD_VALUES[case]
    write(shell.folder)
    where = f"{{milvus: {{uri: {target.uri}, database: {target.database}}}}}"
    write_spec(shell.folder, str(shell.folder / "lite.db") if target.kind == "lite" else where)
    if case == "nan" and target.kind != "milvus-2.3.5":
        pytest.skip("Milvus Lite keeps NaN in vectors")

    deep = shell.run("plan", "--deep")
    said = shell.run("apply", "--auto-approve")
    assert deep.code == 12
    assert said.code == 1
    for seen in (deep, said):
        assert [w for w in [f"row {ROW}", "data.h5", *words] if w not in seen.err] == [], seen.err
    if target.kind != "milvus-2.3.5":  # there it cannot be counted before it is indexed
        assert 0 < count(target) < N, "the other chunks are there, this one is not"

    write_hdf5(shell.folder / "data.h5")  # mended
    assert shell.run("apply", "--auto-approve").code == 0
    assert count(target) == N


def count(target: Endpoint) -> int:
    with closing(open_target(target.uri, None, target.database)) as opened:
        opened.load("books", lambda _percent: None)
        rows = opened.observe(["books"])["books"].rows
    assert rows is not None
    return rows


def test_bad_rows_can_be_skipped_and_are_listed(shell: Shell, lite_path: Path) -> None:
    large_number(shell.folder)
    write_spec(shell.folder, str(lite_path), more="on_bad_row: skip")
    said = shell.run("apply", "--auto-approve")
    assert said.code == 3
    assert "999 written + 1 rejected" in said.err
    rejects = (shell.folder / ".vsync" / "vsync.rejects.jsonl").read_text()
    assert rejects.count("\n") == 1
    assert '"row": 501' in rejects
    assert "300" in rejects
    assert "No changes." in shell.run("plan").out

    write_hdf5(shell.folder / "data.h5", N + 1)  # mended, and one row more
    assert shell.run("apply", "--auto-approve").code == 0
    assert not (shell.folder / ".vsync" / "vsync.rejects.jsonl").exists()
    assert "rejected" not in shell.run("status").out


def test_a_column_with_nulls_is_inferred_as_nullable(shell: Shell, lite_path: Path) -> None:
    vectors = pa.array([[float(n), 1.0] for n in range(5_000)], pa.list_(pa.float32(), 2))
    notes = pa.array([None if n == 4_321 else "note" for n in range(5_000)], pa.string())
    table = pa.table({"id": range(5_000), "vector": vectors, "note": notes, "full": ["x"] * 5_000})
    pq.write_table(table, shell.folder / "rows.parquet", row_group_size=2_000)
    spec = f"version: 1\ntarget: {lite_path}\ncollections:\n  c: {{SAID data: [{{from: rows.parquet}}]}}\n"
    said = "note: {type: varchar, max_length: 9}, full: {type: varchar, max_length: 9}"
    fields = f"fields: {{id: {{type: int64, primary: true}}, vector: {{type: float_vector, dim: 2}}, {said}}},"
    (shell.folder / "vsync.yaml").write_text(spec.replace("SAID", fields))
    refused = shell.run("apply", "--auto-approve")
    assert refused.code == 1
    assert "row 4321, field note: is null" in refused.err
    assert "declare note with nullable: true" in refused.err

    (shell.folder / "vsync.yaml").write_text(spec.replace("SAID", "").replace("c:", "d:"))
    pq.write_table(table.append_column("raw", pa.array([b"x"] * 5_000)), shell.folder / "rows.parquet")
    assert "lost: column raw (binary (5000,)) of rows.parquet: no field takes it" in shell.run("plan").out
    assert shell.run("apply", "--auto-approve").code == 0
    with closing(open_target(str(lite_path), None, "default")) as opened:
        made = opened.observe(["d"])["d"].schema
    assert [f.name for f in made.columns if f.nullable] == ["note"]


def test_one_row_in_the_middle_of_a_million(shell: Shell) -> None:
    rows = 1_000_000
    numbers = np.zeros(rows, "i4")
    numbers[543_210] = 2**15
    with h5py.File(shell.folder / "data.h5", "w") as file:
        file["ids"], file["vectors"], file["n"] = np.arange(rows), np.zeros((rows, 2), "f4"), numbers
    (shell.folder / "vsync.yaml").write_text("""\
version: 1
target: ./milvus.db
collections:
  many:
    fields: {id: {type: int64, primary: true}, v: {type: float_vector, dim: 2}, n: {type: int16}}
    data: [{from: data.h5, map: {id: ids, v: vectors, n: n}}]
""")
    said = shell.run("plan", "--deep")
    assert said.code == 12
    assert "row 543,210" in said.err or "row 543210" in said.err
    assert "32768" in said.err
    assert said.err.count("Error:") == 1
    assert not (shell.folder / "milvus.db").exists()


def test_a_server_that_is_down(shell: Shell) -> None:
    write_hdf5(shell.folder / "data.h5")
    uri = f"http://127.0.0.1:{take_ports(['port'], {})['port']}"
    write_spec(shell.folder, uri)
    said = shell.run("plan")
    assert said.code == 5
    assert "cannot be reached" in said.err
    assert uri in said.err


def test_a_database_that_is_not_there_is_in_the_plan(shell: Shell, milvus: MilvusServer) -> None:
    write_hdf5(shell.folder / "data.h5")
    write_spec(shell.folder, f"{{milvus: {{uri: {milvus.uri}, database: nobody_made_it}}}}")
    said = shell.run("plan")
    assert said.code == 0
    assert "+ database.nobody_made_it" in said.out
    with closing(open_target(milvus.uri, None, "nobody_made_it")) as opened:
        assert not opened.has_database()


def test_a_lite_folder_that_another_process_holds(shell: Shell) -> None:
    write_hdf5(shell.folder / "data.h5")
    write_spec(shell.folder, "./milvus.db")
    assert shell.run("apply", "--auto-approve").code == 0
    hold = "import sys; from pymilvus import MilvusClient; c = MilvusClient('milvus.db'); print(1, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", hold], cwd=shell.folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"1\n"
        for command in (["plan"], ["apply", "--auto-approve"]):
            said = shell.run(*command)
            assert said.code == 11
            assert "milvus.db" in said.err
        holder.kill()
    assert "No changes." in shell.run("plan").out


def test_a_spec_that_is_not_there_and_a_command_that_is_mistyped(shell: Shell) -> None:
    assert shell.run("plan").code == 1
    assert "vsync.yaml" in shell.run("plan").err
    said = shell.run("aply")
    assert said.code == 64
    assert "Did you mean apply?" in said.err
    said = shell.run("plan", "--concis")
    assert said.code == 64
    assert "--concise" in said.err


def test_without_a_terminal_nothing_is_applied_unasked(shell: Shell) -> None:
    write_hdf5(shell.folder / "data.h5")
    write_spec(shell.folder, "./milvus.db")
    said = shell.run("apply")
    assert said.code == 12
    assert "--auto-approve" in said.err
    assert not (shell.folder / "milvus.db").exists()
    assert vsync.plan(vsync.load_spec(shell.folder / "vsync.yaml")).conflicts == ()
