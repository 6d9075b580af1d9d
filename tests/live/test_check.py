"""What ``vsync check`` finds on real servers: rows taken, added, changed in one bit, doubled; and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import applies
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import reader
import stamina
from conftest import QUICK_ON_LITE
from milvus_rows import EVERYWHERE, opened, rows, send

from vsync.connectors.milvus import codec
from vsync.connectors.milvus.target import MilvusTarget
from vsync.errors import TransientError
from vsync.schema import Collection, DataType, Field, Index

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Endpoint

LIMIT = 64 << 20
HIGHEST = 2**63 - 1
NASTY = ["", '"', "\\", 'a"b\\c\nd\te\rf', "数据\U0001f600", "x' or 1 == 1", "100%", "\\n", " ", "é"]
ADDRESSES = "collection.c", "collection.c.partition.rare"

SPEC = """
version: 1
target: {{milvus: {{uri: "{uri}", database: {database}}}}}
defaults: {{chunk_bytes: 4KiB}}
collections:
  c:
    fields:
{fields}
    indexes: {{v: {{type: FLAT, metric: L2}}}}
    partitions: [rare]
    data:
      - {{name: first, from: first.parquet}}
      - {{name: second, from: second.parquet, into: rare}}
"""


def collection(key: Field) -> Collection:
    return Collection("c", (key, *EVERYWHERE[1:]), indexes=(Index("v"),), partitions=("rare",))


KEYS = {
    "int64": Field("id", DataType.INT64, primary=True),
    "varchar": Field("id", DataType.VARCHAR, primary=True, max_length=64),
}


def keys_of(kind: str, lo: int, hi: int) -> pa.Array:
    if kind == "int64":
        return pa.array(range(lo, hi), pa.int64())
    return pa.array([NASTY[n] if 0 <= n < len(NASTY) else f"k{n:04}" for n in range(lo, hi)])


class World:
    """A collection with two partitions, its rows in files in no order, and faults planted into it by hand."""

    def __init__(self, folder: Path, target: Endpoint, kind: str) -> None:
        self.folder, self.endpoint = folder, target
        self.collection = collection(KEYS[kind])
        self.files = [rows(self.collection, keys_of(kind, -150, 150)), rows(self.collection, keys_of(kind, 150, 350))]
        for name, batch in zip(("first", "second"), self.files, strict=True):
            shuffled = batch.take(pa.array(np.random.default_rng(7).permutation(batch.num_rows)))
            texts = shuffled.column("j").cast(pa.string())
            table = pa.Table.from_batches([shuffled.drop_columns("j").append_column("j", texts)])
            pq.write_table(table, folder / f"{name}.parquet", row_group_size=50)
        fields = "\n".join(f"      {f.name}: {json.dumps(_said(f))}" for f in self.collection.fields)
        text = SPEC.format(uri=target.uri, database=target.database, fields=fields)
        (folder / "vsync.yaml").write_text(text)
        self.expected: list[str] = []

    def key(self, file: int, n: int) -> Any:
        return self.files[file].column("id")[n].as_py()

    def expect(self, symbol: str, file: int, key: Any, detail: str = "") -> None:
        self.expected.append(f"{symbol} {ADDRESSES[file]} {json.dumps(key, ensure_ascii=False)} {detail}".rstrip())

    def plant(self) -> None:
        """Plant faults in both partitions, of every kind that this server can hold."""
        with opened(self.endpoint) as milvus:
            for file, partition in enumerate(("_default", "rare")):
                gone = [self.key(file, n) for n in (0, 77)]
                milvus.delete("c", partition, pa.array(gone, self.files[file].column("id").type))
                for key in gone:
                    self.expect("+", file, key)
                new = "zz new" if isinstance(gone[0], str) else 10**12 + file
                new = f"{new}{file}" if isinstance(new, str) else new
                send(milvus, self.collection, self._row(file, 5, id=new), partition)
                self.expect("-", file, new)
                for n, (name, value) in enumerate(CHANGED.items(), start=20):
                    one = self._row(file, n)
                    changed = value(one.column(name)[0].as_py())
                    assert repr(changed) != repr(one.column(name)[0].as_py())
                    send(milvus, self.collection, self._row(file, n, **{name: changed}), partition)
                    self.expect("*", file, self.key(file, n), name)
                if self.endpoint.kind == "milvus-2.3.5":
                    for copies, n in ((2, 100), (3, 101)):
                        for _ in range(copies - 1):
                            self._insert(milvus, self._row(file, n), partition)
                        self.expect("2", file, self.key(file, n), f"{copies} copies")

    def _row(self, file: int, n: int, **other: Any) -> pa.RecordBatch:
        one = self.files[file].slice(n, 1)
        columns = {name: one.column(name) for name in one.schema.names}
        columns |= {name: pa.array([value], one.column(name).type) for name, value in other.items()}
        return pa.RecordBatch.from_pydict(columns)

    def _insert(self, milvus: MilvusTarget, row: pa.RecordBatch, partition: str) -> None:
        (request,) = codec.encode(row, self.collection, partition, LIMIT)
        assert milvus._client.call_bytes("Insert", request.payload, 60.0).insert_cnt == 1

    def check(self, *words: str, code: int) -> tuple[applies.Done, list[str]]:
        """Check, and give what it wrote; a missing row's place in its file is looked at, and taken off."""
        done = applies.vsync(self.folder, "check", *words, "--combined", "found.txt")
        assert done.code == code, (done.code, done.out, done.err)
        lines = (self.folder / "found.txt").read_text(encoding="utf-8").splitlines()
        return done, [self._without_place(line) for line in lines]

    def _without_place(self, line: str) -> str:
        if not line.startswith("+"):
            return line
        head, path, word, row = line.rsplit(" ", 3)
        assert word == "row"
        key = json.loads(head.split(" ", 2)[2])
        assert pq.read_table(self.folder / path).column("id")[int(row)].as_py() == key
        return head


def _said(f: Field) -> dict[str, Any]:
    names = ("primary", "dim", "max_length", "max_capacity")
    said = {name: value for name in names if (value := getattr(f, name))}
    return {"type": str(f.type), **said, **({"element": str(f.element)} if f.element else {})}


def flipped(kind: str) -> Any:
    """Flip the lowest bit of a number; NaN becomes one."""
    bits = f"u{kind[1:]}"
    return lambda value: 1.0 if np.isnan(value) else (np.array([value], kind).view(bits) ^ 1).view(kind)[0].item()


CHANGED: dict[str, Any] = {
    "v": lambda value: [*value[:3], flipped("f4")(value[3])],
    "i8": flipped("i1"),
    "i64": flipped("i8"),
    "f": flipped("f4"),
    "d": flipped("f8"),
    "b": lambda value: not value,
    "s": lambda value: value + "\x01" if len(value) < 3 else value[:-1] + chr(ord(value[-1]) ^ 1),
    "j": lambda value: b'{"a": 0}' if json.loads(value) != {"a": 0} else b"{}",
    "numbers": lambda value: [n ^ 1 for n in value] or [0],
    "words": lambda value: [f"{word}!" for word in value] or [""],
    "flags": lambda value: [not flag for flag in value] or [False],
    "doubles": lambda value: [flipped("f8")(n) for n in value] or [0.0],
}


@QUICK_ON_LITE
@pytest.mark.parametrize("kind", KEYS)
def test_planted_faults_are_found_and_nothing_else_then_mended(tmp_path: Path, target: Endpoint, kind: str) -> None:
    world = World(tmp_path, target, kind)
    applies.apply(tmp_path)
    for words in (["--quick"], [], ["--full"], ["--sample", "60"], ["--full", "--one-way"]):
        done, found = world.check(*words, code=0)
        assert not found
        assert "No differences." in done.out
    assert "content last checked 20" in applies.plan(tmp_path, code=0)
    lock = tmp_path / ".vsync" / "vsync.lock"
    lock.unlink()
    lock.mkdir()  # the state cannot be written
    world.check(code=0)
    lock.rmdir()

    world.plant()
    done, found = world.check("--full", code=3)
    assert sorted(found) == sorted(world.expected)
    assert f"source and target differ in {len(found)} rows" in done.err
    by_key = [line for line in world.expected if line[0] != "*"]
    _, found = world.check(code=3)
    assert sorted(found) == sorted(by_key)
    _, found = world.check("--full", "--one-way", code=3)
    assert sorted(found) == sorted(line for line in world.expected if line[0] != "-")
    done, _ = world.check("--full", "--json", code=3)
    assert len(done.of("difference")) == len(world.expected)
    assert done.said[-1]["type"] == "summary"
    assert done.said[-1]["differences"] == len(world.expected)

    allowed = [word for address in ADDRESSES for word in ("--allow-destroy", address)]
    world.check("--full", "--repair", "--out", "mend.json", *allowed, code=3)
    steps = applies.vsync(tmp_path, "show", "mend.json", "--steps").out
    assert "rewrite-rows collection.c.data.first first.parquet rows" in steps
    assert "delete-rows collection.c.partition.rare" in steps
    done = applies.vsync(tmp_path, "apply", "mend.json", "--json")
    assert done.code == 0, done.out[-2000:]
    assert [s["left"] for s in done.of("settled")] == [300, 200]
    again = applies.vsync(tmp_path, "apply", "mend.json")
    assert again.code == 4
    assert "this repair was carried out already" in again.err
    assert not world.check("--full", code=0)[1]
    assert "content last checked 20" in applies.plan(tmp_path, code=0)


AUTO = """
version: 1
target: {{milvus: {{uri: "{uri}", database: {database}}}}}
collections:
  c:
    fields:
      id: {{type: int64, primary: true, auto_id: true}}
      v: {{type: float_vector, dim: 4}}
      s: {{type: varchar, max_length: 64}}
    indexes: {{v: {{type: FLAT, metric: L2}}}}
    data: [{{from: rows.parquet}}]
"""


def test_rows_whose_keys_the_server_makes_are_compared_without_them(tmp_path: Path, target: Endpoint) -> None:
    made = Collection("c", (Field("id", DataType.INT64, primary=True, auto_id=True), *_fields("v", "s")))
    batch = rows(made, pa.array(range(120)))
    pq.write_table(pa.Table.from_batches([batch, batch.slice(0, 20)]), tmp_path / "rows.parquet")
    (tmp_path / "vsync.yaml").write_text(AUTO.format(uri=target.uri, database=target.database))
    applies.apply(tmp_path)
    assert applies.vsync(tmp_path, "check").code == 0
    assert applies.vsync(tmp_path, "check", "--sample", "5").code == 12

    with reader.client_of(target) as client:
        client.load_collection("c")
        row = client.query("c", filter='s == "naïve"', output_fields=["id", "v"], limit=1)[0]
        place = int((row["v"][0] - 0.5) / 4)
        client.delete("c", ids=[row["id"]])
        client.insert("c", [{"v": [0.25] * 4, "s": "added"}])
        extra = client.query("c", filter='s == "added"', output_fields=["id"], consistency_level="Strong")[0]["id"]
    done = applies.vsync(tmp_path, "check", "--combined", "found.txt")
    assert done.code == 3
    lines = (tmp_path / "found.txt").read_text().splitlines()
    # Of rows that are there twice one is missing: the last of them.
    last = place + 120 if place < 20 else place
    assert lines == [f"+ collection.c null rows.parquet row {last}", f"- collection.c {extra}"]
    words = ("check", "--repair", "--out", "mend.json", "--allow-destroy", "collection.c")
    done = applies.vsync(tmp_path, *words)
    assert done.code == 12
    assert "the server makes the keys (auto_id)" in done.err
    assert not (tmp_path / "mend.json").exists()


def _fields(*names: str) -> list[Field]:
    return [f for f in EVERYWHERE if f.name in names]


PLAIN = """
version: 1
target: {{milvus: {{uri: "{uri}", database: {database}}}}}
collections:
  c: {{indexes: {{v: {{type: FLAT, metric: L2}}}}, data: [{{from: rows.parquet}}]}}
"""


def write_plain(folder: Path, target: Endpoint, keys: list[int]) -> None:
    batch = rows(Collection("c", (KEYS["int64"], *_fields("v"))), pa.array(keys, pa.int64()))
    pq.write_table(pa.Table.from_batches([batch]), folder / "rows.parquet")
    (folder / "vsync.yaml").write_text(PLAIN.format(uri=target.uri, database=target.database))


@QUICK_ON_LITE
def test_a_row_that_milvus_counts_and_never_gives_is_told(tmp_path: Path, target: Endpoint) -> None:
    write_plain(tmp_path, target, [-HIGHEST - 1, -1, 0, 5, HIGHEST - 1, HIGHEST])
    applies.apply(tmp_path)
    done = applies.vsync(tmp_path, "check", "--full", "--combined", "found.txt")
    hides = target.kind == "milvus-2.3.5"
    expected = f"! collection.c {HIGHEST} is counted, and no query gives it\n" if hides else ""
    assert ((tmp_path / "found.txt").read_text(), done.code) == (expected, 3 if hides else 0)


@QUICK_ON_LITE
def test_what_cannot_be_compared_is_refused_with_the_way_out(tmp_path: Path, target: Endpoint) -> None:
    write_plain(tmp_path, target, list(range(30)))
    done = applies.vsync(tmp_path, "check")
    assert done.code == 12
    assert "collection.c is not on the target" in done.err
    applies.apply(tmp_path)
    if target.kind == "lite":
        return  # being loaded is no state of its own there
    with reader.client_of(target) as client:
        client.release_collection("c")
    done = applies.vsync(tmp_path, "check", "--full")
    assert done.code == 12
    assert "is not loaded: its rows cannot be read" in done.err


def test_a_held_lite_folder_is_said_and_a_lost_state_changes_nothing(tmp_path: Path, lite_path: Path) -> None:
    from conftest import Endpoint as Place

    write_plain(tmp_path, Place(str(lite_path), "default", "lite"), list(range(30)))
    applies.apply(tmp_path)
    for path in (tmp_path / ".vsync").iterdir():
        path.unlink()
    assert applies.vsync(tmp_path, "check", "--full").code == 0
    assert not list((tmp_path / ".vsync").iterdir())
    hold = f"from pymilvus import MilvusClient; MilvusClient({str(lite_path)!r}); print('held', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert applies.vsync(tmp_path, "check").code == 11
        holder.kill()


def test_options_that_exclude_each_other_are_refused(tmp_path: Path, lite_path: Path) -> None:
    from conftest import Endpoint as Place

    write_plain(tmp_path, Place(str(lite_path), "default", "lite"), [1])
    for words in (["--quick", "--full"], ["--seed", "3"], ["--repair"], ["--quick", "--repair", "--out", "x.json"]):
        assert applies.vsync(tmp_path, "check", *words).code == 64
    assert not lite_path.exists()


@pytest.mark.parametrize(
    ("words", "asked"), [(["--retries", "2"], 3), (["--max-downtime", "0"], 1), (["--max-downtime", "9s"], 5)]
)
def test_a_target_that_is_away_is_asked_again_as_often_as_was_said(
    tmp_path: Path, lite_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], asked: int
) -> None:
    from conftest import Endpoint as Place

    questions = []

    def away(*_question: object) -> int:
        questions.append(1)
        raise TransientError("the target is away")

    write_plain(tmp_path, Place(str(lite_path), "default", "lite"), list(range(30)))
    applies.apply(tmp_path)
    monkeypatch.setattr(MilvusTarget, "count", away)
    with stamina.set_testing(testing=True, attempts=5, cap=True):  # no waiting, and five times where nothing says less
        done = applies.vsync(tmp_path, "check", "--full", *words)
    assert (done.code, len(questions)) == (5, asked)
    assert "the target is away" in done.err
