"""The journal: what was done and what is in doubt, in SQLite (WAL, synchronous=FULL), one transaction a transition.

A chunk goes ``pending -> sent -> acked``. ``sent`` is committed before its request goes out: a chunk that is ``sent`` in
a journal that nobody writes is *in doubt*. Rows are kept by target, so that one spec brings up several. Only the
thread that drives an apply writes; anybody may read while it does.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsync.errors import JournalError
from vsync.planning.facts import FileFacts, JournalFacts, SessionFacts

if TYPE_CHECKING:
    from vsync.connectors.base import Bounds
    from vsync.planning.steps import CopyChunk, Destination, Unit

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
        {"target": str, "unit": str, "epoch": int, "n": int, "row": int, "field": str, "value": str, "why": str},
        ("target", "unit", "epoch", "row", "field"),
    ),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a chunk: rows acknowledged, there already, rejected, dropped; together they are its rows."""

    written: int
    there: int
    rejected: int
    dropped: int
    digest: str
    key_ranges: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Balance:
    """The sums of one session at a destination."""

    before: int | None
    read: int
    written: int
    there: int
    rejected: int
    dropped: int


@dataclass(frozen=True, slots=True)
class RunRecord:
    """Who ran, on what, since when, and how it ended (``None``: it has not, or was killed)."""

    id: int
    target: str
    who: str
    host: str
    pid: int
    started: str
    heartbeat: str
    ended: str | None
    exit_code: int | None


class Journal:
    """One state file. Raises JournalError where it cannot be used."""

    def __init__(self, path: Path, *, create: bool) -> None:
        from sqlite_utils import Database

        self.path = path
        if create:
            make_folder(path.parent)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        with _translated(path):
            uri = f"{path.resolve().as_uri()}?mode={'rwc' if create else 'ro'}"
            connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=10)
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
        row: tuple[Any, ...] | None = self._db.execute(sql, list(args)).fetchone()
        return row

    def _all(self, sql: str, args: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return list(self._db.execute(sql, list(args)).fetchall())

    def _write(self, sql: str, args: Sequence[Any]) -> None:
        with _translated(self.path):
            self._db.execute(sql, list(args))

    # -- what planning is told ------------------------------------------------------------------------------

    def facts(self, target: str) -> JournalFacts:
        """Gather what is known of a target."""
        sessions = self._all(
            "SELECT destination, epoch, session, ended IS NOT NULL, content, collection_id, probe, before, left, skipped"
            " FROM sessions s WHERE target = ? AND session = (SELECT max(session) FROM sessions t"
            " WHERE t.target = s.target AND t.destination = s.destination)",
            [target],
        )
        chunks = self._all(
            "SELECT c.unit, c.n, c.state FROM chunks c JOIN units u ON u.target = c.target AND u.key = c.unit"
            " WHERE c.target = ? AND c.state != 'pending' AND c.epoch = (SELECT max(epoch) FROM sessions s"
            " WHERE s.target = c.target AND s.destination = u.destination)",
            [target],
        )
        done: dict[str, set[int]] = {}
        doubt: dict[str, set[int]] = {}
        for unit, n, state in chunks:
            (done if state == "acked" else doubt).setdefault(unit, set()).add(n)
        files = self._all(
            "SELECT address, path, content, rows, modified FROM units WHERE target = ? ORDER BY seen", [target]
        )
        resources = self._all("SELECT address, finished FROM resources WHERE target = ?", [target])
        return JournalFacts(
            collections={a: bool(f) for a, f in resources},
            sessions={
                r[0]: SessionFacts(r[1], r[2], bool(r[3]), r[4], r[5], bool(r[6]), r[7], r[8], bool(r[9]))
                for r in sessions
            },
            acked={u: frozenset(n) for u, n in done.items()},
            in_doubt={u: frozenset(n) for u, n in doubt.items()},
            files={(address, path): FileFacts(*rest) for address, path, *rest in files},
        )

    def known_cut(self, target: str, unit: str) -> tuple[Bounds, ...] | None:
        """Give the bounds that a unit was cut into before, in order; ``None`` for an unknown unit."""
        rows = self._all(
            "SELECT lo, hi FROM chunks c WHERE target = ? AND unit = ? AND epoch ="
            " (SELECT max(epoch) FROM chunks WHERE target = c.target AND unit = c.unit) ORDER BY n",
            [target, unit],
        )
        return tuple((lo, hi) for lo, hi in rows) or None

    def digests(self, target: str, unit: str) -> list[tuple[Bounds, str]]:
        """Give the bounds and digests of a unit's acknowledged chunks."""
        rows = self._all(
            "SELECT lo, hi, digest FROM chunks c WHERE target = ? AND unit = ? AND state = 'acked' AND epoch ="
            " (SELECT max(epoch) FROM chunks WHERE target = c.target AND unit = c.unit) ORDER BY n",
            [target, unit],
        )
        return [((lo, hi), digest) for lo, hi, digest in rows]

    # -- runs -----------------------------------------------------------------------------------------------

    def begin_run(self, target: str, plan: str) -> int:
        """Record that an apply begins; gives its number."""
        now = _now()
        self._write(
            "INSERT INTO runs (target, plan, who, host, pid, started, heartbeat) VALUES (?, ?, ?, ?, ?, ?, ?)",
            [target, plan, _who(), socket.gethostname(), os.getpid(), now, now],
        )
        row = self._one("SELECT max(id) FROM runs")
        assert row is not None
        return int(row[0])

    def heartbeat(self, run: int) -> None:
        """Record that a run is alive."""
        self._write("UPDATE runs SET heartbeat = ? WHERE id = ?", [_now(), run])

    def end_run(self, run: int, exit_code: int) -> None:
        """Record how a run ended."""
        self._write("UPDATE runs SET ended = ?, exit_code = ? WHERE id = ?", [_now(), exit_code, run])

    def has_run(self, target: str, plan: str) -> bool:
        """Tell whether a saved plan was begun before."""
        return self._one("SELECT 1 FROM runs WHERE target = ? AND plan = ?", [target, plan]) is not None

    def last_run(self) -> RunRecord | None:
        """Give the run that began last."""
        row = self._one(
            "SELECT id, target, who, host, pid, started, heartbeat, ended, exit_code FROM runs ORDER BY id DESC"
        )
        return RunRecord(*row) if row else None

    # -- collections, destinations, units -------------------------------------------------------------------

    def creating(self, target: str, address: str) -> None:
        """Record that a collection is about to be created: after a kill, what is there is ours."""
        self._write("INSERT OR REPLACE INTO resources VALUES (?, ?, NULL, 0)", [target, address])

    def created(self, target: str, address: str, collection_id: str) -> None:
        """Record the identity of a collection that was created."""
        self._write(
            "UPDATE resources SET collection_id = ? WHERE target = ? AND address = ?",
            [collection_id, target, address],
        )

    def finished(self, target: str, address: str) -> None:
        """Record that a created collection has all that the plan gave it."""
        self._write("UPDATE resources SET finished = 1 WHERE target = ? AND address = ?", [target, address])

    def begin_session(
        self, target: str, to: Destination, collection_id: str, before: int | None
    ) -> None:
        """Record that rows are about to be brought to a destination; the same again where it was begun before."""
        self._write(
            "INSERT OR IGNORE INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, ?, NULL)",
            [target, to.address, to.session, to.epoch, to.write, to.content, collection_id]
            + [int(to.probe), int(to.skipped), before, _now()],
        )
        self._write(
            "UPDATE sessions SET content = ? WHERE target = ? AND destination = ? AND session = ?",
            [to.content, target, to.address, to.session],
        )

    def end_session(self, target: str, to: Destination, left: int | None) -> None:
        """Record that everything arrived, and the count that was left."""
        self._write(
            "UPDATE sessions SET ended = ?, left = ? WHERE target = ? AND destination = ? AND session = ?",
            [_now(), left, target, to.address, to.session],
        )

    def enter_unit(self, target: str, unit: Unit, epoch: int, chunks: Sequence[CopyChunk]) -> None:
        """Record a unit and its cut, once; chunks that are known keep their state."""
        with _translated(self.path), self._db.atomic():
            self._db.execute(
                "INSERT OR REPLACE INTO units VALUES (?, ?, ?, ?, ?, ?, ?, ?,"
                " (SELECT coalesce(max(seen), 0) + 1 FROM units))",
                [target, unit.key, unit.address, unit.destination, unit.path, unit.content]
                + [unit.modified, unit.rows],
            )
            self._db.conn.executemany(
                "INSERT OR IGNORE INTO chunks (target, unit, epoch, n, lo, hi, state, attempt)"
                " VALUES (?, ?, ?, ?, ?, ?, 'pending', 0)",
                [(target, unit.key, epoch, c.n, c.lo, c.hi) for c in chunks],
            )

    def saw(self, target: str, unit: str, modified: int) -> None:
        """Record the time of a file whose content was compared and is the same."""
        self._write("UPDATE units SET modified = ? WHERE target = ? AND key = ?", [modified, target, unit])

    # -- the chunk protocol ---------------------------------------------------------------------------------

    def there_mask(self, target: str, unit: str, epoch: int, n: int) -> bytes | None:
        """Give what a first attempt was told of the rows that were there before it; ``None`` before that."""
        row = self._one(
            "SELECT there_mask FROM chunks WHERE target = ? AND unit = ? AND epoch = ? AND n = ? AND state = 'sent'",
            [target, unit, epoch, n],
        )
        return row[0] if row else None

    def sent(
        self, target: str, unit: str, epoch: int, n: int, *, session: int, there_mask: bytes | None
    ) -> None:
        """Commit that a chunk's requests go out now; from here until ``acked`` it is in doubt."""
        self._write(
            "UPDATE chunks SET state = 'sent', session = ?, attempt = attempt + 1, there_mask = ?, sent = ?,"
            " error = NULL WHERE target = ? AND unit = ? AND epoch = ? AND n = ?",
            [session, there_mask, _now(), target, unit, epoch, n],
        )

    def acked(
        self,
        target: str,
        unit: str,
        epoch: int,
        n: int,
        outcome: Outcome,
        rejects: Sequence[tuple[int, str, str, str]] = (),
    ) -> None:
        """Commit that the server acknowledged a chunk; ``rejects`` are (row, field, value, why)."""
        with _translated(self.path), self._db.atomic():
            self._db.execute(
                "UPDATE chunks SET state = 'acked', written = ?, there = ?, rejected = ?, dropped = ?, digest = ?,"
                " key_ranges = ?, acked = ?, there_mask = NULL WHERE target = ? AND unit = ? AND epoch = ? AND n = ?",
                [outcome.written, outcome.there, outcome.rejected, outcome.dropped, outcome.digest]
                + [json.dumps(outcome.key_ranges), _now(), target, unit, epoch, n],
            )
            self._db.conn.executemany(
                "INSERT OR REPLACE INTO rejects VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [(target, unit, epoch, n, *reject) for reject in rejects],
            )

    def failed(self, target: str, unit: str, epoch: int, n: int, error: str) -> None:
        """Record why a chunk could not be done; its state stays as it is."""
        self._write(
            "UPDATE chunks SET error = ? WHERE target = ? AND unit = ? AND epoch = ? AND n = ?",
            [error, target, unit, epoch, n],
        )

    def balance(self, target: str, to: Destination) -> Balance:
        """Sum up one session of a destination."""
        before = self._one(
            "SELECT before FROM sessions WHERE target = ? AND destination = ? AND session = ?",
            [target, to.address, to.session],
        )
        sums = self._one(
            "SELECT coalesce(sum(hi - lo), 0), coalesce(sum(written), 0), coalesce(sum(there), 0),"
            " coalesce(sum(rejected), 0), coalesce(sum(dropped), 0) FROM chunks c JOIN units u"
            " ON u.target = c.target AND u.key = c.unit WHERE c.target = ? AND u.destination = ? AND c.epoch = ?"
            " AND c.session = ? AND c.state = 'acked'",
            [target, to.address, to.epoch, to.session],
        )
        assert sums is not None
        return Balance(before[0] if before else None, *sums)

    def key_ranges(self, target: str, collection: str) -> list[tuple[int, int]]:
        """List the keys that the server handed out to a collection's acknowledged chunks, as ranges, ends included."""
        address, below = f"collection.{collection}", f"collection.{collection}.partition."
        rows = self._all(
            "SELECT key_ranges FROM chunks c JOIN units u ON u.target = c.target AND u.key = c.unit"
            " WHERE c.target = ? AND c.state = 'acked' AND (u.destination = ? OR substr(u.destination, 1, ?) = ?)",
            [target, address, len(below), below],
        )
        return [(lo, hi) for (text,) in rows for lo, hi in json.loads(text)]

    def rejects(self, target: str) -> list[dict[str, Any]]:
        """List every rejected row: unit's address and path, row number, field, value and why."""
        rows = self._all(
            "SELECT u.address, u.path, r.row, r.field, r.value, r.why FROM rejects r JOIN units u"
            " ON u.target = r.target AND u.key = r.unit WHERE r.target = ? ORDER BY u.address, u.path, r.row",
            [target],
        )
        return [dict(zip(("address", "path", "row", "field", "value", "why"), r, strict=True)) for r in rows]

    def progress(self, target: str) -> list[tuple[str, str, int, int, int, int, int]]:
        """Sum up each data item: address, path, chunks, done, in doubt, rows, rows done; in the present epoch."""
        return [
            (r[0], r[1], r[2], r[3], r[4], r[5], r[6])
            for r in self._all(
                "SELECT u.address, u.path, count(*), sum(c.state = 'acked'), sum(c.state = 'sent'), sum(hi - lo),"
                " coalesce(sum((hi - lo) * (c.state = 'acked')), 0) FROM chunks c JOIN units u"
                " ON u.target = c.target AND u.key = c.unit WHERE c.target = ? AND c.epoch ="
                " (SELECT max(epoch) FROM sessions s WHERE s.target = c.target AND s.destination = u.destination)"
                " GROUP BY u.key ORDER BY min(u.seen)",
                [target],
            )
        ]


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def holder() -> str:
    """Say who this process is, for the lock."""
    return f"{_who()} on {socket.gethostname()}, process {os.getpid()}, since {_now()}"


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no name for this user id, as in containers
        return str(os.getuid())


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
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as e:
        raise JournalError(
            f"state {path} cannot be used: {e}",
            hint="is the disk full, the folder read-only, or the file damaged? What it recorded before still holds",
        ) from e
