"""The state's format: each migration is one step to the next, in order. A new file, of format 0, goes the whole way.

All the steps that a file needs are one transaction. A step that has been released is never changed: files were made by
it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vsync.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _tables(db: Any) -> None:
    """Make what the first release kept."""
    tables: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
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
            {"target": str, "unit": str, "epoch": int, "n": int, "row": int, "field": str, "value": str, "why": str},
            ("target", "unit", "epoch", "row", "field"),
        ),
    }
    for name, (columns, keys) in tables.items():
        # A first apply of the first release could be killed between its tables.
        db.table(name).create(columns, pk=keys, strict=True, if_not_exists=True)


def _checks(db: Any) -> None:
    """When content was last compared, and how; what makes a unit's key; sessions of which not all is known.

    And the keys of rejected rows, and what an apply has taken away and owes: see ``Journal.owe``.
    """
    db.execute("ALTER TABLE sessions ADD COLUMN checked TEXT")
    db.execute("ALTER TABLE sessions ADD COLUMN checked_how TEXT")
    db.execute("ALTER TABLE sessions ADD COLUMN partial INTEGER NOT NULL DEFAULT 0")
    db.execute("ALTER TABLE resources ADD COLUMN partial INTEGER NOT NULL DEFAULT 0")
    db.execute("ALTER TABLE units ADD COLUMN origins TEXT")
    db.execute("ALTER TABLE rejects ADD COLUMN key TEXT")
    columns = {"target": str, "kind": str, "name": str, "collection": str}
    db.table("owed").create(columns, pk=("target", "kind", "name"), strict=True)


def _collections(db: Any) -> None:
    """Chunks of collections: their range of keys as JSON, and how many rows were read, for a collection lives."""
    db.execute("ALTER TABLE chunks ADD COLUMN keys TEXT")
    db.execute("ALTER TABLE chunks ADD COLUMN read INTEGER")


def _uneven(db: Any) -> None:
    """Whether the last count of a destination was not what it should hold."""
    db.execute("ALTER TABLE sessions ADD COLUMN uneven INTEGER NOT NULL DEFAULT 0")


def _rejects(db: Any) -> None:
    """Rejected rows are known by their chunk too: one of a collection may have grown into the numbers of the next."""
    db.execute("ALTER TABLE rejects RENAME TO before")
    columns = {"target": str, "unit": str, "epoch": int, "n": int, "row": int, "field": str, "value": str, "why": str}
    keys = ("target", "unit", "epoch", "n", "row", "field")
    db.table("rejects").create(columns | {"key": str}, pk=keys, strict=True)
    names = ", ".join([*columns, "key"])
    db.execute(f"INSERT INTO rejects ({names}) SELECT {names} FROM before")  # noqa: S608 - no input
    db.execute("DROP TABLE before")


def _losers(db: Any) -> None:
    """Which rows of a chunk lost a collision of keys when it was sent, as a digest; unknown of those before."""
    db.execute("ALTER TABLE chunks ADD COLUMN left_out TEXT NOT NULL DEFAULT ''")
    db.execute("UPDATE chunks SET left_out = '?' WHERE dropped > 0")


MIGRATIONS: tuple[Callable[[Any], None], ...] = (_tables, _checks, _collections, _uneven, _rejects, _losers)
FORMAT = len(MIGRATIONS)


def format_of(db: Any, path: Path) -> int:
    """Read the format of an open file, 0 for one that holds nothing yet; raises JournalError where it is not ours."""
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()}
    found = db.execute("SELECT value FROM meta WHERE key = 'format'").fetchone() if "meta" in tables else None
    if found is None and tables:
        raise JournalError(
            f"{path} is an SQLite file, and no state of vsync",
            hint="name another place with --state",
        )
    number = found[0] if found else "0"
    if not number.isdecimal() or int(number) > FORMAT:
        raise JournalError(
            f"state {path} has format {number}, this vsync knows {FORMAT}",
            hint="use the vsync that wrote it, or name another place with --state",
        )
    return int(number)


def migrate(db: Any, found: int) -> None:
    """Bring an open file from the format that it has to the present one, in one transaction."""
    with db.atomic():
        for step in MIGRATIONS[found:]:
            step(db)
        db.execute("INSERT OR REPLACE INTO meta VALUES ('format', ?)", [str(FORMAT)])
