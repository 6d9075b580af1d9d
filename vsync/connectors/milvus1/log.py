"""The write-ahead log of a Milvus 1.x: what was inserted or deleted and is not in the tables, because nobody flushed.

A file ``wal/N.wal`` is a row of records (core/src/db/wal/WalBuffer.h): a packed header (its number, uint64: N in the
upper half, where the record ends in the file in the lower one; what it is, uint8; the lengths of the collection's name
and of the partition's, uint16 each; how many rows, and how many bytes of vectors, uint32 each), then the two names, the
ids, the vectors.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from vsync.errors import SourceError

if TYPE_CHECKING:
    from pathlib import Path

    from vsync.connectors.milvus1.meta import Collection

_HEADER = struct.Struct("<QBHHII")
_INSERTS = {1, 2}
_DELETE = 3
_ID_BYTES = 8
_OFFSET_BITS = 32


def check_flushed(folder: Path, collection: Collection) -> None:
    """Raise :class:`SourceError` where the log has rows of a collection that are not in its tables."""
    inserted = deleted = 0
    for path in sorted(folder.glob("wal/*.wal")):
        try:
            new, gone = _pending(path, collection)
        except OSError as error:
            raise SourceError(f"cannot be read: {error.strerror}", where=str(path)) from error
        inserted, deleted = inserted + new, deleted + gone
    if inserted or deleted:
        what = f"of {collection.name!r} {inserted:,} rows to insert and {deleted:,} ids to delete are in its log alone"
        hint = (
            "start that Milvus once more, flush the collection and stop it; or say ignore_log: true to go without them"
        )
        raise SourceError(what, where=str(folder / "wal"), hint=hint)


def _pending(path: Path, collection: Collection) -> tuple[int, int]:
    """Count the rows that one file of the log inserts and deletes after the collection was last flushed."""
    counts = [0, 0]
    if not path.stem.isdecimal():
        return 0, 0
    with path.open("rb") as file:
        while len(head := file.read(_HEADER.size)) == _HEADER.size:
            number, kind, name_size, tag_size, rows, data_size = _HEADER.unpack(head)
            name = file.read(name_size)
            end = file.seek(tag_size + rows * _ID_BYTES + data_size, 1)
            if number != int(path.stem) << _OFFSET_BITS | end:
                break  # what follows was never written whole, or is what an older log left in the file
            if number > collection.flushed and name == collection.name.encode() and kind in {*_INSERTS, _DELETE}:
                counts[kind == _DELETE] += rows
    return counts[0], counts[1]
