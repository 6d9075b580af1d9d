"""States as the first release wrote them: its tables, word for word, and a present state put into them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT) STRICT;
CREATE TABLE runs (id INTEGER PRIMARY KEY, target TEXT, plan TEXT, who TEXT, host TEXT, pid INTEGER, started TEXT,
    heartbeat TEXT, ended TEXT, exit_code INTEGER) STRICT;
CREATE TABLE resources (target TEXT, address TEXT, collection_id TEXT, finished INTEGER,
    PRIMARY KEY (target, address)) STRICT;
CREATE TABLE sessions (target TEXT, destination TEXT, session INTEGER, epoch INTEGER, write TEXT, content TEXT,
    collection_id TEXT, probe INTEGER, skipped INTEGER, before INTEGER, left INTEGER, begun TEXT, ended TEXT,
    PRIMARY KEY (target, destination, session)) STRICT;
CREATE TABLE units (target TEXT, key TEXT, address TEXT, destination TEXT, path TEXT, content TEXT, modified INTEGER,
    rows INTEGER, seen INTEGER, PRIMARY KEY (target, key)) STRICT;
CREATE TABLE chunks (target TEXT, unit TEXT, epoch INTEGER, n INTEGER, lo INTEGER, hi INTEGER, state TEXT,
    session INTEGER, attempt INTEGER, written INTEGER, there INTEGER, rejected INTEGER, dropped INTEGER,
    there_mask BLOB, key_ranges TEXT, digest TEXT, sent TEXT, acked TEXT, error TEXT,
    PRIMARY KEY (target, unit, epoch, n)) STRICT;
CREATE TABLE rejects (target TEXT, unit TEXT, epoch INTEGER, n INTEGER, row INTEGER, field TEXT, value TEXT, why TEXT,
    PRIMARY KEY (target, unit, epoch, row, field)) STRICT;
INSERT INTO meta VALUES ('format', '1');
"""


def to_format_1(state: Path) -> None:
    """Rewrite a state that nobody has open as the first release would have written it."""
    old = state.with_name("format-1.db")
    with closing(sqlite3.connect(old)) as db:
        db.executescript(f"PRAGMA journal_mode=WAL; {TABLES}")
        db.execute("ATTACH ? AS now", [str(state)])
        for (table,) in db.execute("SELECT name FROM main.sqlite_master WHERE type = 'table' AND name != 'meta'"):
            columns = ", ".join(row[1] for row in db.execute(f"PRAGMA main.table_info({table})"))
            db.execute(f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM now.{table}")  # noqa: S608
        db.commit()
        db.execute("DETACH now")
    old.replace(state)


def format_of(state: Path) -> str:
    """Read the format of a state without vsync."""
    with closing(sqlite3.connect(f"file:{state}?mode=ro", uri=True)) as db:
        return str(db.execute("SELECT value FROM meta WHERE key = 'format'").fetchone()[0])
