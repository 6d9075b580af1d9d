"""Faiss indexes as sources: the columns ``ids`` and ``vectors``, read from the mapped file without searching.

An index is a nest of indexes (a map of ids over inverted lists, say); each that can be read is turned into a
:class:`_Store`, and what is not known to be read right is refused by its name.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np
import pyarrow as pa

from vsync.connectors import columns as cols
from vsync.connectors import files
from vsync.connectors.base import Bounds, Column, Description
from vsync.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MAPPED_BYTES = 16 << 20
"""Indexes larger than this are mapped; smaller ones are read, which Faiss checks better."""
ID_BYTES = 8
IDS = "ids"
VECTORS = "vectors"

Rows = Callable[[int, int], "np.ndarray[Any, Any]"]

_METRICS = {faiss.METRIC_L2: "L2", faiss.METRIC_INNER_PRODUCT: "IP"}
_CODECS = {getattr(faiss.ScalarQuantizer, n): n[3:] for n in dir(faiss.ScalarQuantizer) if n.startswith("QT_")}
# Those whose way back is linear, or nothing.
_TRANSFORMS = {
    "LinearTransform",
    "RandomRotationMatrix",
    "PCAMatrix",
    "OPQMatrix",
    "NormalizationTransform",
    "CenteringTransform",
    "RemapDimensionsTransform",
}
_EXACT = "Flat, IVFFlat and HNSWFlat (each also under IDMap), and binary Flat, IVF, HNSW and IDMap"


@dataclass(frozen=True, slots=True)
class _Store:
    """The rows of an index in their order.

    ``ids`` gives int64 (n,), ``vectors`` float32 (n, dim) or uint8 (n, bytes). ``name`` is that of Faiss's
    index factory; ``lost`` names the codecs that were decoded; ``last`` is the id that the file ends with, if
    it does. A store points into its index, which must be kept alive.
    """

    rows: int
    name: str
    vectors: Rows
    ids: Rows
    own_ids: bool = False
    last: int | None = None
    lost: tuple[str, ...] = ()


class _RefusedError(Exception):
    """An index is of a kind that is not read back."""


def open_source(path: Path, *, allow_lossy: bool = False) -> FaissSource:
    """Map an index into memory.

    Raises :class:`SourceError` where it is not whole, where it is of a kind that is not read, and, unless
    ``allow_lossy``, where its vectors can only be decoded.
    """
    files.check_file(path)
    index = _index(path)
    try:
        store = _store(index)
        store.vectors(0, min(1, store.rows))
    except (_RefusedError, RuntimeError) as error:
        what = f"an index of this kind cannot be read back: {error}"
        raise SourceError(what, where=str(path), hint=f"what is read: {_EXACT}") from error
    if store.last is not None and not _ends_with(path, store.last):
        raise _broken(path, "it ends in the middle of its ids")
    if store.lost and not allow_lossy:
        what = f"the index keeps its vectors encoded ({', '.join(store.lost)}): they come back changed"
        raise SourceError(what, where=str(path), hint="`allow_lossy: true` takes them as they are decoded")
    return FaissSource(path, index, store)


class FaissSource:
    """One mapped index; satisfies :class:`vsync.connectors.base.Source`."""

    def __init__(self, path: Path, index: Any, store: _Store) -> None:
        self._path = path
        self._where = str(path)
        self._rows = store.rows
        binary = isinstance(index, faiss.IndexBinary)
        metric = "HAMMING" if binary else _METRICS.get(index.metric_type, f"metric {index.metric_type}")
        self._layout = f"Faiss {store.name}, {metric}"
        self._opened: tuple[Any, _Store] | None = (index, store)
        kind = pa.binary(index.code_size) if binary else pa.list_(pa.float32(), index.d)
        shape = f"uint8 ({store.rows}, {index.code_size})" if binary else f"float32 ({store.rows}, {index.d})"
        loss = f"decoded from {', '.join(store.lost)}" if store.lost else None
        self._columns = (
            Column(IDS, pa.int64(), f"int64 ({store.rows},)" if store.own_ids else "the row number", 8.0),
            Column(VECTORS, kind, f"{shape}, {metric}", cols.row_bytes(kind), loss),
        )

    def describe(self) -> Description:
        """Say what is there, from the headers."""
        return Description(
            locator=self._where,
            fingerprint=files.fingerprint(self._path, [self._layout, *(c.native for c in self._columns)]),
            rows=self._rows,
            nbytes=self._path.stat().st_size,
            columns=self._columns,
            layout=self._layout,
            suggested={"id": IDS, "vector": VECTORS},
        )

    def cut(self, columns: Sequence[str], chunk_bytes: int) -> list[Bounds]:
        """Cut into equal ranges of rows; those of inverted lists are counted list by list."""
        chosen = cols.pick(self._columns, columns, self._where)
        return files.cut(self._rows, sum(c.row_bytes for c in chosen), chunk_bytes)

    def read(self, bounds: Bounds, columns: Sequence[str]) -> pa.RecordBatch:
        """Copy rows out of the mapping, or decode them."""
        opened = self._opened  # held until the rows are copied: the store points into the index
        if opened is None:
            raise SourceError("is closed", where=self._where)
        cols.pick(self._columns, columns, self._where)
        cols.check_bounds(bounds, self._rows, self._where)
        store = opened[1]
        try:
            wanted = [store.ids if c == IDS else store.vectors for c in columns]
            arrays = [cols.from_numpy(read(bounds.lo, bounds.hi)) for read in wanted]
        except RuntimeError as error:
            raise SourceError(f"rows {bounds.lo} to {bounds.hi}: {error}", where=self._where) from error
        return pa.RecordBatch.from_arrays(arrays, names=list(columns))

    def close(self) -> None:
        """Let go of the mapping."""
        self._opened = None


def _index(path: Path) -> Any:
    """Read a small index, map a large one; raises :class:`SourceError` where it is not whole."""
    with path.open("rb") as file:
        read = "read_index_binary" if file.read(2) == b"IB" else "read_index"
    large = path.stat().st_size > MAPPED_BYTES
    if large and not _opens(read, path):
        raise _broken(path, "Faiss cannot open it")
    try:
        return getattr(faiss, read)(str(path), faiss.IO_FLAG_MMAP_IFC if large else 0)
    except (RuntimeError, MemoryError) as error:
        raise _broken(path, str(error).rsplit("Error: ", 1)[-1]) from error


def _opens(read: str, path: Path) -> bool:
    """Try in a process of its own: Faiss's mapped reader can run beyond a file's end, and crash."""
    code = "import faiss, sys; getattr(faiss, sys.argv[1])(sys.argv[2], faiss.IO_FLAG_MMAP_IFC)"
    command = [sys.executable, "-c", code, read, str(path)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0  # noqa: S603  # no shell


def _ends_with(path: Path, last: int) -> bool:
    """Tell whether the last id is the file's end: the mapped reader fills what is not there with zeros."""
    with path.open("rb") as file:
        file.seek(-ID_BYTES, os.SEEK_END)
        return file.read(ID_BYTES) == last.to_bytes(ID_BYTES, "little", signed=True)


def _broken(path: Path, reason: str) -> SourceError:
    hint = "copy it again, or write it with faiss.write_index"
    return SourceError(f"is not a whole Faiss index: {reason}", where=str(path), hint=hint)


def _store(index: Any) -> _Store:
    """Turn an index into its rows; raises :class:`_RefusedError` with the name of what is not read."""
    binary = isinstance(index, faiss.IndexBinary)
    down = faiss.downcast_IndexBinary if binary else faiss.downcast_index
    index = down(index)
    name = type(index).__name__
    if name in {"IndexFlat", "IndexFlatL2", "IndexFlatIP", "IndexBinaryFlat"}:
        store = _flat(index, "BFlat" if binary else "Flat")
    elif name in {"IndexScalarQuantizer", "IndexPQ", "IndexRaBitQ"}:
        store = _flat(index, _codec(index))
    elif name in {"IndexHNSWFlat", "IndexHNSWSQ", "IndexHNSWPQ", "IndexBinaryHNSW"} and index.storage is not None:
        store = _store(index.storage)
        prefix = f"{'B' if binary else ''}HNSW{index.hnsw.nb_neighbors(1)}"
        store = replace(store, name=prefix if binary else f"{prefix},{store.name}")
    elif name in {
        "IndexIVFFlat",
        "IndexIVFScalarQuantizer",
        "IndexIVFPQ",
        "IndexIVFRaBitQ",
        "IndexBinaryIVF",
    }:
        store = _lists(index)
    elif name in {"IndexIDMap", "IndexIDMap2", "IndexBinaryIDMap", "IndexBinaryIDMap2"}:
        store = _mapped(index, _store(index.index), name.replace("Index", "").replace("Binary", ""))
    elif name == "IndexPreTransform":
        store = _transformed(index, _store(index.index))
    else:
        raise _RefusedError(name)
    if store.rows != index.ntotal:
        raise _RefusedError(f"{name} that says it holds {index.ntotal} vectors, and holds {store.rows}")
    return store


def _flat(index: Any, name: str) -> _Store:
    """Read codes that lie in the order of rows; a flat index's are the vectors themselves."""
    codes = index.xb if name == "BFlat" else index.codes
    rows, size = int(index.ntotal), int(index.code_size)
    if codes.size() != rows * size:
        raise _RefusedError(f"{name} with {codes.size()} bytes of codes where {rows * size} belong")
    exact = name in {"Flat", "BFlat"}

    def vectors(lo: int, hi: int) -> np.ndarray[Any, Any]:
        if lo == hi:
            return _decode(index, np.empty((0, size), np.uint8), exact=exact)
        raw = faiss.rev_swig_ptr(codes.data(), rows * size)[lo * size : hi * size]
        return _decode(index, raw.reshape(hi - lo, size).copy(), exact=exact)

    return _Store(rows, name, vectors, _numbers, lost=() if exact else (name,))


def _numbers(lo: int, hi: int) -> np.ndarray[Any, Any]:
    return np.arange(lo, hi, dtype=np.int64)


def _decode(index: Any, codes: np.ndarray[Any, Any], *, exact: bool) -> np.ndarray[Any, Any]:
    if isinstance(index, faiss.IndexBinary):
        return codes
    if exact:
        return codes.view(np.float32)
    out: np.ndarray[Any, Any] = index.sa_decode(codes) if len(codes) else np.empty((0, index.d), np.float32)
    return out


def _lists(index: Any) -> _Store:
    """Walk inverted lists one after the other; a code is decoded with the number of its list before it."""
    lists, size = index.invlists, int(index.code_size)
    kind = type(faiss.downcast_InvertedLists(lists)).__name__
    if kind != "ArrayInvertedLists" or lists.code_size != size:
        raise _RefusedError(f"{type(index).__name__} with {kind}")
    ends = np.cumsum([lists.list_size(i) for i in range(index.nlist)], dtype=np.int64)
    binary = isinstance(index, faiss.IndexBinary)
    exact = binary or type(index).__name__ == "IndexIVFFlat"
    codec = "Flat" if exact else _codec(index)
    coarse = 0 if exact else int(index.coarse_code_size())

    def ids(lo: int, hi: int) -> np.ndarray[Any, Any]:
        out = np.empty(hi - lo, dtype=np.int64)
        for number, start, stop, at in _walk(ends, lo, hi):
            out[at : at + stop - start] = faiss.rev_swig_ptr(lists.get_ids(number), stop)[start:]
        return out

    def vectors(lo: int, hi: int) -> np.ndarray[Any, Any]:
        out = np.empty((hi - lo, coarse + size), dtype=np.uint8)
        for number, start, stop, at in _walk(ends, lo, hi):
            part = out[at : at + stop - start]
            if coarse:
                part[:, :coarse] = np.frombuffer(number.to_bytes(coarse, "little"), np.uint8)
            raw = faiss.rev_swig_ptr(lists.get_codes(number), stop * size)[start * size :]
            part[:, coarse:] = raw.reshape(stop - start, size)
        return _decode(index, out, exact=exact)

    name = f"BIVF{index.nlist}" if binary else f"IVF{index.nlist},{codec}"
    rows = int(ends[-1])
    last = int(ids(rows - 1, rows)[0]) if rows else None
    return _Store(rows, name, vectors, ids, own_ids=True, last=last, lost=() if exact else (codec,))


def _walk(ends: np.ndarray[Any, Any], lo: int, hi: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield for rows lo to hi: the list, the first and last (excluded) of its rows, where they go."""
    number, at = int(np.searchsorted(ends, lo, side="right")), lo
    while at < hi:
        begin = int(ends[number - 1]) if number else 0
        stop = min(hi, int(ends[number]))
        if stop > at:
            yield number, at - begin, stop - begin, at - lo
        at, number = stop, number + 1


def _mapped(index: Any, inner: _Store, name: str) -> _Store:
    """Put the map's ids in the place of the inner index's, which are positions in the map."""
    rows = inner.rows
    if index.id_map.size() != rows:
        raise _RefusedError(f"{name} of {index.id_map.size()} ids over {rows} vectors")
    block = 1 << 20
    # Rows were removed from inverted lists under a map: Faiss itself no longer knows whose ids are whose.
    if any(inner.ids(lo, min(lo + block, rows)).max() >= rows for lo in range(0, rows, block)):
        raise _RefusedError(f"{name} over {inner.name}, of which rows were removed")

    def ids(lo: int, hi: int) -> np.ndarray[Any, Any]:
        places = inner.ids(lo, hi)
        return faiss.rev_swig_ptr(index.id_map.data(), rows)[places] if hi > lo else places

    last = int(index.id_map.at(rows - 1)) if rows else None
    return replace(inner, name=f"{name},{inner.name}", ids=ids, own_ids=True, last=last)


def _transformed(index: Any, inner: _Store) -> _Store:
    """Undo the transformations that vectors went through before they were stored."""
    chain = [faiss.downcast_VectorTransform(index.chain.at(i)) for i in range(index.chain.size())]
    names = [type(t).__name__ for t in chain]
    if not {*names} <= _TRANSFORMS:
        raise _RefusedError(f"IndexPreTransform with {', '.join(names)}")
    for step in (t for t in chain if hasattr(t, "A")):
        # Not believed: Faiss forgets, when it reads an index, that a whitening PCA is not orthonormal.
        matrix = faiss.vector_to_array(step.A).reshape(step.d_out, step.d_in)
        if not np.allclose(matrix @ matrix.T, np.eye(step.d_out), atol=1e-3):
            raise _RefusedError(f"IndexPreTransform with a {type(step).__name__} that has no way back")
    steps = [f"{n.removesuffix('Matrix')} {t.d_in} to {t.d_out}" for n, t in zip(names, chain, strict=True)]

    def vectors(lo: int, hi: int) -> np.ndarray[Any, Any]:
        stored = np.ascontiguousarray(inner.vectors(lo, hi))
        out = np.empty((hi - lo, index.d), dtype=np.float32)
        if hi > lo:
            index.reverse_chain(hi - lo, faiss.swig_ptr(stored), faiss.swig_ptr(out))
        return out

    return replace(inner, name=",".join([*steps, inner.name]), vectors=vectors, lost=(*steps, *inner.lost))


def _codec(index: Any) -> str:
    """Name how an index encodes vectors, in the words of Faiss's index factory."""
    name = type(index).__name__
    if name.endswith("ScalarQuantizer"):
        return f"SQ {_CODECS.get(index.sq.qtype, index.sq.qtype)}"
    return f"PQ{index.pq.M}x{index.pq.nbits}" if name.endswith("PQ") else "RaBitQ"
