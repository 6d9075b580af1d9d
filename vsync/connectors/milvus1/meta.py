"""What ``db/meta.sqlite`` says: collections, their partitions, and which segments hold their rows.

The tables are those of Milvus 1.x (core/src/db/meta/SqliteMetaImpl.cpp and MetaTypes.h): ``Tables`` has a row for each
collection and each partition, ``TableFiles`` one for each file of a segment.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from vsync.connectors.columns import near
from vsync.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT = "_default"
"""What Milvus 1.x itself calls the rows that are in no partition."""
METRICS = {1: "L2", 2: "IP", 3: "HAMMING", 4: "JACCARD", 5: "TANIMOTO", 6: "SUBSTRUCTURE", 7: "SUPERSTRUCTURE"}
FLOAT_METRICS = {"L2", "IP"}

_BYTE = 8
_DROPPED = 1
_TABLES = (
    "SELECT table_id, state, dimension, metric_type, owner_table, partition_tag, flush_lsn FROM Tables ORDER BY id"
)
# These types of files hold rows that a search of Milvus 1.x sees: raw, to be indexed, indexed; and what was raw before
# it was indexed. Left out are files that are being made (0, 5, 6) and those that wait to be deleted (4).
_FILES = "SELECT segment_id, row_count FROM TableFiles WHERE table_id = ? AND file_type IN (1, 2, 3, 7) ORDER BY id"


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection: the dimension (in bits where ``binary``), and its partitions' tables by their tags.

    The rows that are in no partition have the tag ``_default`` and the collection's own table. What the write-ahead log
    has up to ``flushed`` is in the tables.
    """

    name: str
    dim: int
    metric: str
    flushed: int
    tables: dict[str, str]

    @property
    def binary(self) -> bool:
        """Whether its vectors are bits."""
        return self.metric not in FLOAT_METRICS

    @property
    def row_bytes(self) -> int:
        """The size of one vector."""
        return self.dim // _BYTE if self.binary else self.dim * 4

    @property
    def partitions(self) -> list[str]:
        """The tags of its partitions, without ``_default``."""
        return [tag for tag in self.tables if tag != DEFAULT]


@dataclass(frozen=True, slots=True)
class Segment:
    """A folder of files that hold rows, and how many rows of it are not deleted by what the metadata says."""

    table: str
    name: str
    rows: int


class Meta:
    """What the metadata of one folder says; read whole, for it is small."""

    def __init__(self, collections: dict[str, Collection], segments: dict[str, list[Segment]], where: str) -> None:
        self.collections = collections
        self._segments = segments
        self._where = where

    def collection(self, name: str) -> Collection:
        """Find a collection; raises :class:`SourceError` where there is none."""
        if name not in self.collections:
            owner = next((c.name for c in self.collections.values() if name in c.tables.values()), None)
            hint = f"it is the table of a partition of {owner}" if owner else near(name, self.collections)
            raise SourceError(f"there is no collection {name!r}", where=self._where, hint=hint)
        return self.collections[name]

    def segments(self, collection: Collection, partitions: Sequence[str] | None) -> list[Segment]:
        """List the segments of some partitions, or of all of them, each once, in the order they were made."""
        for tag in partitions or ():
            if tag not in collection.tables:
                what = f"the collection {collection.name!r} has no partition {tag!r}"
                raise SourceError(what, where=self._where, hint=near(tag, collection.tables))
        chosen = [table for tag, table in collection.tables.items() if partitions is None or tag in partitions]
        return [segment for table in chosen for segment in self._segments[table]]


def read_meta(folder: Path) -> Meta:
    """Read the metadata of the folder of a Milvus 1.x; raises :class:`SourceError` where there is none."""
    path = folder / "db" / "meta.sqlite"
    if not path.is_file():
        raise _missing(folder, path)
    try:
        # SQLite writes beside a database that it reads, and not into a folder that is somebody's only copy.
        with TemporaryDirectory(prefix="vsync-") as aside:
            for part in (path, path.with_name(f"{path.name}-wal")):
                if part.is_file():
                    shutil.copyfile(part, Path(aside) / part.name)
            with closing(sqlite3.connect(Path(aside) / path.name)) as database:
                return _read(database, str(path))
    except (sqlite3.Error, TypeError, ValueError) as error:
        hint = "is it whole, and the metadata of a Milvus 1.x?"
        raise SourceError(f"cannot be read as metadata: {error}", where=str(path), hint=hint) from error
    except OSError as error:
        raise SourceError(f"cannot be read: {error.strerror}", where=str(path)) from error


def _missing(folder: Path, path: Path) -> SourceError:
    if (folder / path.name).is_file():
        what, hint = "this is the folder db of a Milvus 1.x", f"name the folder above it: {folder.parent}"
    elif (folder / "db").is_dir():
        what = "there is no db/meta.sqlite in it: its metadata is in MySQL, perhaps"
        hint = "docs/milvusdm.md says how it is brought from there into SQLite"
    else:
        what, hint = "is no folder of a Milvus 1.x", "it holds db/meta.sqlite and db/tables"
    return SourceError(what, where=str(folder), hint=hint)


def _read(database: sqlite3.Connection, where: str) -> Meta:
    rows = [row for row in database.execute(_TABLES) if row[1] != _DROPPED]
    collections: dict[str, Collection] = {}
    for table, _, dim, metric, owner, _, flushed in rows:
        if owner:
            continue
        if metric not in METRICS:
            raise ValueError(f"the collection {table!r} has the metric {metric}, which is not known")
        made = Collection(table, int(dim), METRICS[metric], int(flushed), {DEFAULT: table})
        if made.dim < 1 or (made.binary and made.dim % _BYTE):
            raise ValueError(f"the collection {table!r} has the dimension {dim}")
        collections[table] = made
    for table, _, _, _, owner, tag, _ in rows:
        if owner in collections:
            collections[owner].tables[tag] = table
    segments = {table: _segments(database, table) for c in collections.values() for table in c.tables.values()}
    return Meta(collections, segments, where)


def _segments(database: sqlite3.Connection, table: str) -> list[Segment]:
    """List the segments of a table: several of its files (raw, index) lie in one of them."""
    found: dict[str, Segment] = {}
    for name, rows in database.execute(_FILES, (table,)):
        found.setdefault(name, Segment(table, name, int(rows)))
    return list(found.values())
