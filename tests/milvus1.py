"""Folders as a Milvus 1.x leaves them, written by what its source says of their form.

The tables and their columns: core/src/db/meta/SqliteMetaImpl.cpp and MetaTypes.h of milvus-io/milvus, 1.x; the files
of a segment: core/src/codecs/default/DefaultVectorsFormat.cpp and DefaultDeletedDocsFormat.cpp; the write-ahead log:
core/src/db/wal/WalBuffer.h and WalBuffer.cpp.
"""

from __future__ import annotations

import sqlite3
import struct
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

L2, IP, HAMMING, JACCARD, TANIMOTO, SUBSTRUCTURE, SUPERSTRUCTURE = range(1, 8)
RAW, TO_INDEX, INDEX, TO_DELETE, NEW_MERGE, NEW_INDEX, BACKUP = range(1, 8)

_SCHEMA = """
CREATE TABLE Environment (global_lsn INTEGER DEFAULT (0) NOT NULL);
CREATE TABLE Tables (id INTEGER PRIMARY KEY NOT NULL, table_id TEXT UNIQUE NOT NULL, state INTEGER NOT NULL,
    dimension INTEGER NOT NULL, created_on INTEGER NOT NULL, flag INTEGER DEFAULT (0) NOT NULL,
    index_file_size INTEGER NOT NULL, engine_type INTEGER NOT NULL, index_params TEXT NOT NULL,
    metric_type INTEGER NOT NULL, owner_table TEXT DEFAULT ('') NOT NULL, partition_tag TEXT DEFAULT ('') NOT NULL,
    version TEXT DEFAULT ('1.1.1') NOT NULL, flush_lsn INTEGER NOT NULL);
CREATE TABLE TableFiles (id INTEGER PRIMARY KEY NOT NULL, table_id TEXT NOT NULL, segment_id TEXT DEFAULT ('') NOT NULL,
    engine_type INTEGER NOT NULL, file_id TEXT NOT NULL, file_type INTEGER NOT NULL,
    file_size INTEGER DEFAULT (0) NOT NULL, row_count INTEGER DEFAULT (0) NOT NULL, updated_time INTEGER NOT NULL,
    created_on INTEGER NOT NULL, date INTEGER NOT NULL, flush_lsn INTEGER NOT NULL);
"""
_TABLE = "INSERT INTO Tables VALUES (NULL, ?, ?, ?, 0, 0, 1073741824, 1, '{}', ?, ?, ?, '1.1.1', ?)"
_FILE = "INSERT INTO TableFiles VALUES (NULL, ?, ?, 1, ?, ?, 0, ?, 0, 0, 0, 0)"


@dataclass
class Part:
    """Some rows: one segment. ``types`` are those of its files in the metadata."""

    ids: Any
    vectors: Any
    deleted: Sequence[int] = ()
    types: Sequence[int] = (RAW,)


@dataclass
class Kept:
    """A collection; ``partitions`` maps tags to segments, those of no partition have the tag ``""``."""

    dim: int
    metric: int = L2
    partitions: dict[str, list[Part]] = field(default_factory=dict)
    state: int = 0
    flushed: int = 0


def write(folder: Path, collections: dict[str, Kept], *, wal_mode: bool = False) -> Path:
    """Write the folder of a Milvus 1.x that holds these collections."""
    (folder / "db" / "tables").mkdir(parents=True)
    with closing(sqlite3.connect(folder / "db" / "meta.sqlite")) as meta:
        if wal_mode:
            meta.execute("PRAGMA journal_mode = WAL")
        meta.executescript(_SCHEMA)
        number = 1600000000000000000
        for name, kept in collections.items():
            meta.execute(_TABLE, (name, kept.state, kept.dim, kept.metric, "", "", kept.flushed))
            for tag, parts in kept.partitions.items():
                table = f"{name}_{number}" if tag else name
                if tag:
                    meta.execute(_TABLE, (table, kept.state, kept.dim, kept.metric, name, tag, kept.flushed))
                for part in parts:
                    number += 1000
                    live = len(part.ids) - len(set(part.deleted))
                    for at, kind in enumerate(part.types):
                        meta.execute(_FILE, (table, str(number), str(number + at), kind, live))
                    write_segment(folder / "db" / "tables" / table / str(number), part)
                number += 1000
        meta.commit()
        if wal_mode:  # as a Milvus that was killed leaves it: what was written last is beside the database
            aside = [(p, p.read_bytes()) for p in (folder / "db").glob("meta.sqlite*")]
    if wal_mode:
        for path, content in aside:
            path.write_bytes(content)
    return folder


def write_segment(place: Path, part: Part) -> None:
    """Write the files of a segment."""
    place.mkdir(parents=True)
    vectors = np.asarray(part.vectors)
    with_header(place / f"{place.name}.rv", vectors.astype("u1" if vectors.dtype == np.uint8 else "<f4").tobytes())
    with_header(place / f"{place.name}.uid", np.asarray(part.ids, "<i8").tobytes())
    with_header(place / "deleted_docs", np.asarray(part.deleted, "<i4").tobytes())
    (place / "bloom_filter").write_bytes(b"\0" * 16)


def with_header(path: Path, content: bytes) -> None:
    """Write a file that begins with its length."""
    path.write_bytes(struct.pack("<Q", len(content)) + content)


def write_log(folder: Path, number: int, records: Sequence[tuple[int, str, int]]) -> Path:
    """Write a file of the write-ahead log: for each record what it is (2 insert, 3 delete), its collection, its ids."""
    content = b""
    for kind, name, rows in records:
        body = name.encode() + np.arange(rows, dtype="<i8").tobytes() + (b"\0" * 16 * rows if kind != 3 else b"")
        end = len(content) + 21 + len(body)
        header = (number << 32 | end, kind, len(name.encode()), 0, rows, 16 * rows if kind != 3 else 0)
        content += struct.pack("<QBHHII", *header) + body
    (folder / "wal").mkdir(exist_ok=True)
    path = folder / "wal" / f"{number}.wal"
    path.write_bytes(content)
    return path
