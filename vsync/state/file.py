"""The state file itself: its place, its tables, its format."""

from __future__ import annotations

import os
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from vsync.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

FORMAT = 1

_TABLES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "meta": ({"key": str, "value": str}, ("key",)),
    "runs": (
        {"id": int, "target": str, "plan": str, "who": str, "host": str, "pid": int, "started": str}
        | {"heartbeat": str, "ended": str, "exit_code": int},
        ("id",),
    ),
    "resources": (
        {"target": str, "address": str, "collection_id": str, "finished": int},
        ("target", "address"),
    ),
    "sessions": (
        {"target": str, "destination": str, "session": int, "epoch": int, "write": str, "content": str}
        | {"collection_id": str, "probe": int, "skipped": int, "before": int, "left": int}
        | {"begun": str, "ended": str},
        ("target", "destination", "session"),
    ),
    "units": (
        {"target": str, "key": str, "address": str, "destination": str, "path": str, "content": str}
        | {"modified": int, "rows": int, "seen": int},
        ("target", "key"),
    ),
    "chunks": (
        {"target": str, "unit": str, "epoch": int, "n": int, "lo": int, "hi": int, "state": str}
        | {"session": int, "attempt": int, "written": int, "there": int, "rejected": int, "dropped": int}
        | {"there_mask": bytes, "key_ranges": str, "digest": str, "sent": str, "acked": str, "error": str},
        ("target", "unit", "epoch", "n"),
    ),
    "rejects": (
        {
            "target": str,
            "unit": str,
            "epoch": int,
            "n": int,
            "row": int,
            "field": str,
            "value": str,
            "why": str,
        },
        ("target", "unit", "epoch", "row", "field"),
    ),
}


class StateFile:
    """One state file, open. Raises JournalError where it cannot be used."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        from sqlite_utils import Database

        self.path = path
        if create:
            make_folder(path.parent)
        with translated(path):
            if create:
                os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            how = "mode=rwc" if create else _reading(path)
            connection = sqlite3.connect(f"{path.resolve().as_uri()}?{how}", uri=True, isolation_level=None, timeout=10)
            self._db = Database(connection)
            if create:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=FULL")
                self._make_tables()
            self._check_format()

    def _make_tables(self) -> None:
        with self._db.atomic():
            for name, (columns, keys) in _TABLES.items():
                self._db.table(name).create(columns, pk=keys, strict=True, if_not_exists=True)
            self._db.execute("INSERT OR IGNORE INTO meta VALUES ('format', ?)", [str(FORMAT)])

    def _check_format(self) -> None:
        found = self._one("SELECT value FROM meta WHERE key = 'format'")
        if found is None or int(found[0]) != FORMAT:
            raise JournalError(
                f"state {self.path} has format {found[0] if found else '?'}, this vsync knows {FORMAT}",
                hint="use the vsync that wrote it, or name another place with --state",
            )

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _one(self, sql: str, args: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        with translated(self.path):
            row: tuple[Any, ...] | None = self._db.execute(sql, list(args)).fetchone()
        return row

    def _all(self, sql: str, args: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with translated(self.path):
            return list(self._db.execute(sql, list(args)).fetchall())


def _reading(path: Path) -> str:
    """Say how to open a state for reading. Where nobody has it open it is a plain file: nothing is put beside it."""
    return "mode=ro" if path.with_name(f"{path.name}-wal").exists() else "mode=ro&immutable=1"


def make_folder(folder: Path) -> None:
    """Make ``.vsync/`` for its owner alone, out of git's sight."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        ignore = folder / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")
    except OSError as e:
        raise JournalError(
            f"cannot make the state's folder {folder}: {e.strerror}",
            hint="make it writable, or name another place with --state",
        ) from e


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what SQLite and the file system raise into JournalError."""
    try:
        yield
    except (sqlite3.Error, OSError) as e:
        why = e.strerror if isinstance(e, OSError) else e
        raise JournalError(
            f"state {path} cannot be used: {why}",
            hint="is the disk full, the folder read-only, or the file damaged? What it recorded before still holds",
        ) from e
