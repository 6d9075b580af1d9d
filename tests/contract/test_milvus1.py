"""Folders of a Milvus 1.x: the contract, what counts as rows of a collection, and the ways a folder can be wrong."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import milvus1
import numpy as np
import pyarrow as pa
import pytest
from contract.source_contract import Case, SourceContract, flip_middle
from milvus1 import Kept, Part

from vsync.connectors.base import Bounds
from vsync.connectors.milvus1 import open_source
from vsync.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable

    from vsync.connectors.base import Source

DIM = 6
RANDOM = np.random.default_rng(5)
GONE = [0, 3, 4, 5, 60, 119]


def floats(rows: int) -> Any:
    return RANDOM.random((rows, DIM), dtype=np.float32)


def part(first: int, rows: int, **more: Any) -> Part:
    return Part(np.arange(first, first + rows), floats(rows), **more)


def open_words(path: Path, **options: Any) -> Source:
    return open_source(path, collection="words", **options)


def rows_of(source: Source) -> tuple[Any, Any]:
    """Read all of a source: its ids, and its vectors as bytes."""
    batch = source.read(Bounds(0, source.describe().rows), ["ids", "embeddings"])
    vectors = batch.column(1)
    raw = vectors.to_pylist() if pa.types.is_fixed_size_binary(vectors.type) else vectors.flatten().to_numpy().tobytes()
    return batch.column(0).to_pylist(), raw


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Three segments, one of them in a partition, with rows deleted in the middle and at both ends."""
    parts = [part(0, 120, deleted=GONE), part(1000, 40)]
    other = part(2000, 60, deleted=range(59))
    kept = Kept(DIM, milvus1.IP, {"": parts, "rare": [other]})
    folder = milvus1.write(tmp_path_factory.mktemp("milvus1") / "old", {"other": Kept(DIM), "words": kept})
    live = [np.delete(np.arange(len(p.ids)), list(p.deleted)) for p in (*parts, other)]
    pairs = list(zip((*parts, other), live, strict=True))
    vectors = np.concatenate([p.vectors[at] for p, at in pairs])
    ids = np.concatenate([p.ids[at] for p, at in pairs])
    table = pa.table({"ids": ids, "embeddings": pa.FixedSizeListArray.from_arrays(vectors.reshape(-1), DIM)})
    return Case(open_words, folder, table, lambda copy: flip_middle(next(copy.rglob("*.rv"))))


class TestMilvus1Source(SourceContract):
    @pytest.fixture
    def copy(self, case: Case, tmp_path: Path) -> Path:
        return Path(shutil.copytree(case.path, tmp_path / "copy"))

    def test_fingerprint_carries_the_time_of_change(self, case: Case, copy: Path) -> None:
        for path in copy.rglob("*"):
            os.utime(path, ns=(1, 10**17))
        os.utime(next(copy.rglob("deleted_docs")), ns=(1, 10**18))
        assert case.open(copy).describe().fingerprint.modified == 10**18

    def test_a_row_that_was_deleted_is_another_content(self, copy: Path) -> None:
        before = open_words(copy).describe().fingerprint.content
        place = next(copy.rglob("deleted_docs")).parent
        milvus1.with_header(place / "deleted_docs", np.array([1], "<i4").tobytes())
        rows = (place / f"{place.name}.uid").stat().st_size // 8 - 2
        change(copy, "UPDATE TableFiles SET row_count = ? WHERE segment_id = ?", rows, place.name)
        assert open_words(copy).describe().fingerprint.content != before


def change(folder: Path, statement: str, *values: Any) -> None:
    with closing(sqlite3.connect(folder / "db" / "meta.sqlite")) as meta:
        meta.execute(statement, values)
        meta.commit()


def test_it_says_dimension_and_metric(case: Case) -> None:
    described = open_words(case.path).describe()
    assert described.layout == "Milvus 1.x, IP"
    assert described.suggested == {"id": "ids", "embedding": "embeddings"}
    assert [c.native for c in described.columns] == ["int64 (155,)", f"float32 (155, {DIM}), IP"]


@pytest.mark.parametrize(
    ("partitions", "expected"),
    [(None, [1, 2, 3]), (["_default"], [1]), (["b"], [3]), (["a", "b"], [2, 3]), ([], [])],
)
def test_partitions_are_chosen_by_their_tags(tmp_path: Path, partitions: list[str] | None, expected: list[int]) -> None:
    tagged = {"": [part(1, 1)], "a": [part(2, 1)], "b": [part(3, 1)]}
    folder = milvus1.write(tmp_path / "old", {"words": Kept(DIM, partitions=tagged)})
    assert rows_of(open_words(folder, partitions=partitions))[0] == expected


def test_a_segment_counts_once_and_only_where_it_is_searched(tmp_path: Path) -> None:
    kinds: list[tuple[int, ...]] = [
        (milvus1.RAW,),
        (milvus1.BACKUP, milvus1.INDEX),
        (milvus1.TO_INDEX, milvus1.NEW_INDEX),
        (milvus1.INDEX,),
        (milvus1.TO_DELETE,),
        (milvus1.NEW_MERGE,),
    ]
    parts = [part(10 * n, 2, types=types) for n, types in enumerate(kinds)]
    folder = milvus1.write(tmp_path / "old", {"words": Kept(DIM, partitions={"": parts})})
    assert rows_of(open_words(folder))[0] == [0, 1, 10, 11, 20, 21, 30, 31]


@pytest.mark.parametrize("metric", [milvus1.HAMMING, milvus1.TANIMOTO, milvus1.SUPERSTRUCTURE])
def test_binary_vectors_are_bytes(tmp_path: Path, metric: int) -> None:
    bits = RANDOM.integers(0, 256, (5, 2), dtype=np.uint8)
    bits[1] = 0
    kept = Kept(16, metric, {"": [Part([7, 7, 9, 2**62, -1], bits, deleted=[2])]})
    source = open_words(milvus1.write(tmp_path / "old", {"words": kept}))
    assert source.describe().columns[1].type == pa.binary(2)
    assert rows_of(source) == ([7, 7, 2**62, -1], [bytes(bits[i]) for i in (0, 1, 3, 4)])


def test_what_sqlite_has_in_its_own_log_is_seen_and_nothing_is_written(tmp_path: Path) -> None:
    folder = milvus1.write(tmp_path / "old", {"words": Kept(DIM, partitions={"": [part(0, 3)]})}, wal_mode=True)
    assert (folder / "db" / "meta.sqlite-wal").stat().st_size
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert open_words(folder).describe().rows == 3
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_the_metadata_that_the_docs_bring_from_mysql_is_enough(tmp_path: Path) -> None:
    tagged = {"": [part(1, 1)], "rare": [part(2, 1)]}
    folder = milvus1.write(tmp_path / "old", {"words": Kept(DIM, partitions=tagged)})
    page = (Path(__file__).parents[2] / "docs" / "milvusdm.md").read_text(encoding="utf-8")
    made = re.sub(r"^(sqlite|   \.\.\.)> ", "", page, flags=re.MULTILINE)
    tables = re.findall(r"^(CREATE TABLE (\w+) \(.*?\);)$", made, re.DOTALL | re.MULTILINE)
    chosen = dict(re.findall(r'-e "(SELECT [^"]*FROM (?:Tables|TableFiles))" milvus > (\w+)', page))
    path = folder / "db" / "meta.sqlite"
    with closing(sqlite3.connect(path)) as meta:
        rows = [meta.execute(statement).fetchall() for statement in chosen]
    path.unlink()
    with closing(sqlite3.connect(path)) as meta:
        for (statement, name), found in zip(tables, rows, strict=True):
            meta.execute(statement)
            meta.executemany(f"INSERT INTO {name} VALUES ({', '.join('?' * len(found[0]))})", found)  # noqa: S608
        meta.commit()
    assert rows_of(open_words(folder))[0] == [1, 2]


def test_nothing_is_in_it(tmp_path: Path) -> None:
    source = open_words(milvus1.write(tmp_path / "old", {"words": Kept(DIM)}))
    assert source.describe().rows == 0
    assert source.cut(["ids"], 1000) == []
    assert source.read(Bounds(0, 0), ["embeddings"]).num_rows == 0


LOGS = [
    ([(2, "words", 4), (3, "words", 1)], 0, "4 rows to insert and 1 ids to delete"),
    ([(2, "words", 4), (3, "words", 1)], 7 << 32 | 122, "0 rows to insert and 1 ids to delete"),
    ([(2, "other", 4)], 0, None),
    ([(2, "words", 4)], 8 << 32, None),
]


@pytest.mark.parametrize(("records", "flushed", "message"), LOGS)
def test_rows_that_are_in_the_log_alone_are_refused(
    tmp_path: Path, records: list[tuple[int, str, int]], flushed: int, message: str | None
) -> None:
    kept = Kept(DIM, partitions={"": [part(0, 3)]}, flushed=flushed)
    folder = milvus1.write(tmp_path / "old", {"words": kept})
    milvus1.write_log(folder, 7, records)
    if message is None:
        assert open_words(folder).describe().rows == 3
        return
    with pytest.raises(SourceError, match=message) as caught:
        open_words(folder)
    assert "flush the collection" in str(caught.value)
    assert open_words(folder, ignore_log=True).describe().rows == 3


def test_what_an_older_log_left_behind_is_none(tmp_path: Path) -> None:
    folder = milvus1.write(tmp_path / "old", {"words": Kept(DIM, partitions={"": [part(0, 3)]}, flushed=8 << 32)})
    path = milvus1.write_log(folder, 9, [(2, "other", 2)])
    older = milvus1.write_log(folder, 8, [(2, "words", 4)])
    path.write_bytes(path.read_bytes() + older.read_bytes())
    older.unlink()
    assert open_words(folder).describe().rows == 3


def cut_off(suffix: str) -> Callable[[Path], None]:
    def cut(folder: Path) -> None:
        path = next(folder.rglob(f"*{suffix}"))
        path.write_bytes(path.read_bytes()[:-1])

    return cut


def remove(pattern: str) -> Callable[[Path], None]:
    def removed(folder: Path) -> None:
        path = next(folder.rglob(pattern))
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return removed


def rewrite(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: milvus1.with_header(next(folder.rglob(name)), content)


DAMAGE: list[tuple[Callable[[Path], Any], str]] = [
    (cut_off(".rv"), "is not whole: it has 79 bytes, and its header says 80"),
    (cut_off(".uid"), "is not whole"),
    (cut_off("deleted_docs"), "is not whole"),
    (rewrite("*.uid", b"\0" * 16), "72 bytes of vectors and 16 of ids do not go together"),
    (rewrite("*.uid", b"\0" * 20), "do not go together"),
    (rewrite("deleted_docs", np.array([3], "<i4").tobytes()), "it deletes row 3 of 3"),
    (rewrite("deleted_docs", np.array([-1], "<i4").tobytes()), "it deletes row -1 of 3"),
    (rewrite("deleted_docs", b"\0" * 3), "3 bytes are no offsets"),
    (rewrite("deleted_docs", b""), r"its files hold 3 rows \(0 more are deleted\), and db/meta.sqlite counts 2"),
    (remove("deleted_docs"), "counts 2"),
    (remove("*.rv"), "holds no file that end in .rv"),
    (lambda f: shutil.copy(p := next(f.rglob("*.rv")), p.with_name("b.rv")), "holds 2 files that end in .rv"),
    (remove("1600000000000001000"), "the segment is not there, and db/meta.sqlite says that it holds rows"),
    (remove("meta.sqlite"), "its metadata is in MySQL, perhaps; docs/milvusdm.md"),
    (remove("db"), "is no folder of a Milvus 1.x"),
    (lambda f: (f / "db" / "meta.sqlite").write_bytes(b"x" * 5000), "cannot be read as metadata"),
    (lambda f: change(f, "ALTER TABLE TableFiles RENAME TO Others"), "no such table: TableFiles"),
    (lambda f: change(f, "UPDATE Tables SET metric_type = 9"), "the metric 9, which is not known"),
    (lambda f: change(f, "UPDATE Tables SET metric_type = 3, dimension = 9"), "has the dimension 9"),
    (lambda f: change(f, "UPDATE Tables SET state = 1"), "there is no collection 'words'; there are none"),
]


@pytest.mark.parametrize(("harm", "message"), DAMAGE)
def test_what_is_not_right_is_refused(tmp_path: Path, harm: Callable[[Path], Any], message: str) -> None:
    folder = milvus1.write(tmp_path / "old", {"words": Kept(DIM, partitions={"": [part(0, 3, deleted=[1])]})})
    assert open_words(folder).describe().rows == 2
    harm(folder)
    with pytest.raises(SourceError, match=message) as caught:
        open_words(folder)
    assert caught.value.problems[0].hint
    assert str(folder) in str(caught.value.problems[0].where)


def test_names_that_are_not_there(tmp_path: Path) -> None:
    tagged = {"": [part(1, 1)], "rare": [part(2, 1)]}
    folder = milvus1.write(tmp_path / "old", {"words": Kept(DIM, partitions=tagged), "others": Kept(DIM)})
    table = next(p.name for p in (folder / "db" / "tables").iterdir() if p.name != "words")
    for name, hint in {"word": "did you mean 'words'?", table: "the table of a partition of words"}.items():
        with pytest.raises(SourceError, match=f"there is no collection '{name}'; .*{hint}".replace("?", r"\?")):
            open_source(folder, collection=name)
    with pytest.raises(SourceError, match=r"has no partition 'rar'; did you mean 'rare'\?"):
        open_words(folder, partitions=["rar"])
    with pytest.raises(SourceError, match="name the folder above it"):
        open_words(folder / "db")
