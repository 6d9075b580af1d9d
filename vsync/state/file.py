"""The state file itself: its place, how it is opened, and what is said where it cannot be used."""

from __future__ import annotations

import os
import shlex
import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from vsync.errors import JournalError
from vsync.state.migrations import FORMAT, format_of, migrate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_HINTS = {
    "full": "make room, then run the same command again",
    "disk I/O": "make room, or look at the disk, then run the same command again",
    "No space": "make room, then run the same command again",
    "too large": "let files grow larger here, then run the same command again",
    "readonly": "make the file and its folder writable, or name another place with --state",
    "unable to open": "make the file and its folder readable and writable, or name another place with --state",
    "locked": "another program holds the file open: end it, then run the same command again",
}
_HINT = "name another place with --state"
MAGIC = b"SQLite format 3\0"
SMALLEST_PAGE = 512
"""Bytes of a page of an SQLite file, at the least."""


class StateFile:
    """One state file, open. Raises JournalError where it cannot be used.

    A reader changes nothing: a file that nobody has open, or that an older vsync wrote, is copied into memory and
    brought forward there. A writer holds the lock; it looks whether the file is whole, and brings it forward in place.
    ``found`` is the format that the file had.
    """

    def __init__(self, path: Path, *, create: bool = False) -> None:
        from sqlite_utils import Database

        self.path = path
        self.found = 0
        if create:
            make_folder(path.parent)
        with translated(path):
            refuse_cut(path)
            self._db = Database(_for_writing(path) if create else _for_reading(path))
            try:
                self._begin(create=create)
            except BaseException:
                self._db.close()
                raise

    def _begin(self, *, create: bool) -> None:
        found = self.found = format_of(self._db, self.path)
        if not create:
            if found < FORMAT:
                self._db = _in_memory(self._db.conn)
                migrate(self._db, found)
            return
        refuse_damaged(self._db.conn, self.path)
        if 0 < found < FORMAT:
            write_copy(self._db.conn, self.path.with_name(f"{self.path.name}.format-{found}"))
        mode = self._db.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        if mode != "wal":
            raise OSError(0, f"this file system bears no log beside a file (journal_mode={mode})")
        self._db.execute("PRAGMA synchronous=FULL")
        if found < FORMAT:
            migrate(self._db, found)

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

    def query(self, sql: str, args: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Ask what only the commands of ``vsync state`` ask."""
        return self._all(sql, args)


def connect(path: Path, how: str) -> sqlite3.Connection:
    """Open an SQLite file with these parameters, each statement a transaction of its own."""
    return sqlite3.connect(f"{path.resolve().as_uri()}?{how}", uri=True, isolation_level=None, timeout=10)


def wal_of(path: Path) -> Path:
    """Name the file beside an SQLite file that holds what was committed last."""
    return path.with_name(f"{path.name}-wal")


def backup_of(path: Path) -> Path:
    """Name the backup that a state keeps of itself."""
    return path.with_name(f"{path.name}.bak")


def _for_writing(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    return connect(path, "mode=rw")


def _for_reading(path: Path) -> sqlite3.Connection:
    """Open for reading, so that nothing is put beside the file.

    Without a log beside it nobody has it open: it is copied at once, for an apply may begin at any moment.
    """
    os.close(os.open(path, os.O_RDONLY))  # says better than SQLite why it cannot be read
    if path.is_dir():
        raise IsADirectoryError(0, "Is a directory")
    while not wal_of(path).exists():
        before = path.stat()
        with closing(connect(path, "mode=ro&immutable=1")) as there:
            copy = sqlite3.connect(":memory:", isolation_level=None)
            there.backup(copy)
            refuse_damaged(copy, path)
        now = path.stat()
        if (before.st_mtime_ns, before.st_ino) == (now.st_mtime_ns, now.st_ino) and not wal_of(path).exists():
            return copy
        copy.close()
    return connect(path, "mode=ro")


def _in_memory(connection: sqlite3.Connection) -> Any:
    """Copy an open file into memory, and close it."""
    from sqlite_utils import Database

    copy = sqlite3.connect(":memory:", isolation_level=None)
    with closing(connection):
        connection.backup(copy)
    return Database(copy)


def refuse_cut(path: Path) -> None:
    """Raise where a file is cut short in a way that SQLite does not see."""
    if not path.is_file():
        return
    size, wal = path.stat().st_size, wal_of(path)
    if size == 0:
        # The first apply makes an empty file, for a moment: then nothing is beside it.
        if backup_of(path).exists() or (wal.exists() and wal.stat().st_size):
            raise damaged(path, "it is empty, and was not")
        return
    with path.open("rb") as file:
        head = file.read(18)
    page = int.from_bytes(head[16:], "big") if head.startswith(MAGIC) else 0
    # The last page may be half written where the log beside it still holds it whole.
    if size < SMALLEST_PAGE or (page >= SMALLEST_PAGE and size % page and not wal.exists()):
        raise damaged(path, f"it is cut short, at {size:,} bytes")


def refuse_damaged(connection: sqlite3.Connection, path: Path) -> None:
    """Raise where an open file is not whole."""
    found = [str(row[0]) for row in connection.execute("PRAGMA quick_check(3)").fetchall()]
    if found != ["ok"]:
        raise damaged(path, "; ".join(found))


def damaged(path: Path, why: str) -> JournalError:
    """Make the error that says how a damaged state is mended."""
    command = f"vsync state doctor --state {shlex.quote(str(path))}"
    return JournalError(
        f"state {path} is damaged: {why}", hint=f"{command} says what is wrong, and how to bring its backup back"
    )


def write_copy(connection: sqlite3.Connection, to: Path) -> None:
    """Write a copy of an open file, whole or not at all: beside its place, looked through, synced, then renamed."""
    beside = to.with_name(f"{to.name}.new")
    _remove(beside)
    os.close(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        with closing(connect(beside, "mode=rw")) as copy:
            copy.execute("PRAGMA synchronous=OFF")  # it is synced below, once
            connection.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")  # as a plain file, with nothing beside it
            refuse_damaged(copy, to)
        sync(beside)
        beside.replace(to)
        sync(to.parent)
    finally:
        _remove(beside)


def _remove(path: Path) -> None:
    for end in ("", "-journal", "-wal", "-shm"):
        path.with_name(f"{path.name}{end}").unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Have the disk keep what a file, or a folder, holds."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Make ``.vsync/`` for its owner alone, out of git's sight."""
    ours = folder.name == ".vsync" or not folder.exists()  # what lies beside a file named by --state is not ours
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        ignore = folder / ".gitignore"
        if ours and not ignore.exists():
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
        if type(e) is sqlite3.DatabaseError:  # malformed, or no database at all; what else goes wrong has classes below
            raise damaged(path, str(e)) from e
        why = str(e.strerror if isinstance(e, OSError) else e)
        hint = next((hint for word, hint in _HINTS.items() if word in why), _HINT)
        raise JournalError(
            f"state {path} cannot be used: {why}", hint=f"{hint}. What it recorded before still holds"
        ) from e
