"""The files of a segment: vectors (``.rv``), ids (``.uid``), and the offsets of deleted rows (``deleted_docs``).

Each begins with its length in bytes without these 8 (core/src/codecs/default/DefaultVectorsFormat.cpp and
DefaultDeletedDocsFormat.cpp).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vsync.errors import SourceError

if TYPE_CHECKING:
    from pathlib import Path

    from vsync.connectors.milvus1.meta import Collection, Segment

HEADER = 8
ID_BYTES = 8
DELETED = "deleted_docs"

_STOPPED = "copy the folder again, while that Milvus is stopped"

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a segment that are not deleted, in the order they lie in.

    ``before`` tells of each row that is deleted how many before it are not.
    """

    vectors: Path
    ids: Path
    count: int
    dtype: np.dtype[Any]
    width: int
    before: Array
    files: tuple[Path, ...]

    def places(self, lo: int, hi: int) -> slice | Array:
        """Tell where the rows from ``lo`` to ``hi`` lie in the files."""
        first, last = np.searchsorted(self.before, [lo, hi - 1], side="right")
        if first == last:
            return slice(lo + int(first), hi + int(first))
        rows = np.arange(lo, hi)
        return rows + np.searchsorted(self.before, rows, side="right")

    def read_ids(self, lo: int, hi: int) -> Array:
        """Read keys, int64 (n,)."""
        return np.array(_mapped(self.ids, np.dtype("<i8"))[self.places(lo, hi)])

    def read_vectors(self, lo: int, hi: int) -> Array:
        """Read vectors, float32 (n, dim) or uint8 (n, dim / 8)."""
        return np.array(_mapped(self.vectors, self.dtype).reshape(-1, self.width)[self.places(lo, hi)])


def open_rows(folder: Path, collection: Collection, segment: Segment) -> Rows:
    """Look at the files of a segment; raises :class:`SourceError` where they do not go together."""
    place = folder / "db" / "tables" / segment.table / segment.name
    vectors, ids = _one(place, ".rv"), _one(place, ".uid")
    total, rest = divmod(_size(ids), ID_BYTES)
    if rest or _size(vectors) != total * collection.row_bytes:
        found = f"{_size(vectors):,} bytes of vectors and {_size(ids):,} of ids"
        what = f"{found} do not go together: a vector has {collection.row_bytes:,} bytes, an id {ID_BYTES}"
        raise SourceError(what, where=str(place), hint=_STOPPED)
    deleted = place / DELETED
    gone = _deleted(deleted, total) if deleted.is_file() else np.empty(0, np.int64)
    live = total - len(gone)
    if live != segment.rows:
        what = (
            f"its files hold {live:,} rows ({len(gone):,} more are deleted), and db/meta.sqlite counts {segment.rows:,}"
        )
        raise SourceError(what, where=str(place), hint=_STOPPED)
    kept = (vectors, ids, *([deleted] if deleted.is_file() else []))
    dtype = np.dtype("u1" if collection.binary else "<f4")
    width = collection.row_bytes // dtype.itemsize
    return Rows(vectors, ids, live, dtype, width, gone - np.arange(len(gone)), kept)


def _one(place: Path, suffix: str) -> Path:
    """Find the one file of a kind: its name is the segment's, as a rule."""
    if not place.is_dir():
        what = "the segment is not there, and db/meta.sqlite says that it holds rows"
        raise SourceError(what, where=str(place), hint=_STOPPED)
    found = sorted(place.glob(f"*{suffix}"))
    if len(found) != 1:
        there = f"{len(found)} files" if found else "no file"
        raise SourceError(f"the segment holds {there} that end in {suffix}", where=str(place), hint=_STOPPED)
    return found[0]


def _size(path: Path) -> int:
    """Give how many bytes follow the header, and see that the header says so too."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            said = int.from_bytes(file.read(HEADER), "little")
    except OSError as error:
        raise SourceError(f"cannot be read: {error.strerror}", where=str(path)) from error
    if size < HEADER or said != size - HEADER:
        what = f"is not whole: it has {size:,} bytes, and its header says {said + HEADER:,}"
        raise SourceError(what, where=str(path), hint=_STOPPED)
    return said


def _deleted(path: Path, rows: int) -> Array:
    """Read the offsets of deleted rows, ascending and each once."""
    size = _size(path)
    if size % 4:
        raise SourceError(f"{size:,} bytes are no offsets of 4 bytes", where=str(path), hint=_STOPPED)
    found = np.unique(np.fromfile(path, "<i4", offset=HEADER)).astype(np.int64)
    if len(found) and not 0 <= found[0] <= found[-1] < rows:
        what = f"it deletes row {found[-1] if found[0] >= 0 else found[0]:,} of {rows:,}"
        raise SourceError(what, where=str(path), hint=_STOPPED)
    return found


def _mapped(path: Path, dtype: np.dtype[Any]) -> Array:
    try:
        return np.memmap(path, dtype, mode="r", offset=HEADER)
    except (OSError, ValueError) as error:
        raise SourceError(f"cannot be read any more: {error}", where=str(path)) from error
