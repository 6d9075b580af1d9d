"""The journal: what was done and what is in doubt, in SQLite (WAL, synchronous=FULL), one transaction a transition.

A chunk goes ``pending -> sent -> acked``. ``sent`` is committed before its request goes out: a chunk that is ``sent``
in a journal that nobody writes is *in doubt*. Rows are kept by target, so that one spec brings up several. Only the
thread that drives an apply writes; anybody may read while it does.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
import time
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from vsync import faults
from vsync.errors import JournalError
from vsync.planning.facts import OVERTAKEN
from vsync.state.file import backup_of, translated, write_copy
from vsync.state.view import View

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from vsync.planning.facts import Owed
    from vsync.planning.steps import CopyChunk, Destination, Unit

BACKUP_SECONDS = 60.0
"""How often the journal keeps a backup of itself while it is written."""
BACKUP_SHARE = 0.01
"""The part of the time that backups take at the most, however large the journal is."""

_UNDO = (
    "UPDATE chunks SET state = 'pending', session = NULL, there_mask = NULL, read = NULL, written = NULL, there = NULL,"
    " rejected = NULL, dropped = NULL, key_ranges = NULL, digest = NULL, left_out = ''"
    " WHERE state = 'acked' AND target = ? AND unit = ?"
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a chunk: rows acknowledged, there already, rejected, dropped; together they are those read.

    ``kept`` is what is still to be known of attempts before it: see :mod:`vsync.applying.there`.
    """

    read: int
    written: int
    there: int
    rejected: int
    dropped: int
    digest: str
    key_ranges: tuple[tuple[int, int], ...] = ()
    kept: bytes | None = None


class Journal(View):
    """One state file, open for the thread that drives an apply. Raises JournalError where it cannot be used."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, create=True)
        self._next_backup = time.monotonic() + BACKUP_SECONDS

    def changing(self, name: str) -> AbstractContextManager[None]:
        """Make one transaction of the changes inside; ``name`` is its fault point."""
        return self._commit(name)

    def change(self, sql: str, args: Sequence[Any] = ()) -> None:
        """Change what only the commands of ``vsync state`` change, inside :meth:`changing`."""
        self._db.execute(sql, list(args))

    def _write(self, name: str, sql: str, args: Sequence[Any]) -> None:
        with self._commit(name):
            self._db.execute(sql, list(args))

    @contextmanager
    def _commit(self, name: str) -> Iterator[None]:
        """Commit what is written inside, as one transaction; ``name`` is its fault point."""
        with translated(self.path), faults.around(f"journal.{name}"), self._db.atomic():
            yield
        if time.monotonic() >= self._next_backup and not self._db.conn.in_transaction:
            self.backup()

    def backup(self) -> None:
        """Keep a backup of what is committed, whole or not at all, in ``NAME.db.bak``."""
        began, to = time.monotonic(), backup_of(self.path)
        with translated(to), faults.around("journal.backup"):
            write_copy(self._db.conn, to)
        now = time.monotonic()
        self._next_backup = now + max(BACKUP_SECONDS, (now - began) / BACKUP_SHARE)

    # -- runs -----------------------------------------------------------------------------------------------

    def begin_run(self, target: str, plan: str) -> int:
        """Record that an apply begins; gives its number."""
        now = _now()
        self._write(
            "begin_run",
            "INSERT INTO runs (target, plan, who, host, pid, started, heartbeat) VALUES (?, ?, ?, ?, ?, ?, ?)",
            [target, plan, _who(), socket.gethostname(), os.getpid(), now, now],
        )
        row = self._one("SELECT max(id) FROM runs")
        assert row is not None
        return int(row[0])

    def end_run(self, run: int, exit_code: int) -> None:
        """Record how a run ended, and keep a backup; that none can be made does not hide the error of the run."""
        self._write("end_run", "UPDATE runs SET ended = ?, exit_code = ? WHERE id = ?", [_now(), exit_code, run])
        with suppress(JournalError) if exit_code else nullcontext():
            self.backup()

    # -- collections, destinations, units -------------------------------------------------------------------

    def creating(self, target: str, address: str) -> None:
        """Record that a collection is about to be created: after a kill, what is there is ours."""
        self._write(
            "creating",
            "INSERT OR REPLACE INTO resources (target, address, finished) VALUES (?, ?, 0)",
            [target, address],
        )

    def created(self, target: str, address: str, collection_id: str) -> None:
        """Record the identity of a collection that was created."""
        self._write(
            "created",
            "UPDATE resources SET collection_id = ? WHERE target = ? AND address = ?",
            [collection_id, target, address],
        )

    def finished(self, target: str, address: str) -> None:
        """Record that a created collection has all that the plan gave it."""
        self._write("finished", "UPDATE resources SET finished = 1 WHERE target = ? AND address = ?", [target, address])

    def owe(self, target: str, debts: Sequence[Owed]) -> None:
        """Record what is about to be taken away and given back later; after a kill the next plan gives it back."""
        with self._commit("owe"):
            self._db.conn.executemany(
                "INSERT OR REPLACE INTO owed VALUES (?, ?, ?, ?)",
                [(target, debt.kind, debt.name, debt.collection) for debt in debts],
            )

    def paid(self, target: str, debts: Sequence[Owed]) -> None:
        """Record that these are there again."""
        with self._commit("paid"):
            self._db.conn.executemany(
                "DELETE FROM owed WHERE target = ? AND kind = ? AND name = ?",
                [(target, debt.kind, debt.name) for debt in debts],
            )

    def begin_session(self, target: str, to: Destination, collection_id: str, before: int | None) -> None:
        """Record that rows are about to be brought to a destination; the same again where it was begun before."""
        self._write(
            "begin_session",
            "INSERT OR IGNORE INTO sessions (target, destination, session, epoch, write, content, collection_id, probe,"
            " skipped, before, begun) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                target,
                to.address,
                to.session,
                to.epoch,
                to.write,
                to.content,
                collection_id,
                int(to.probe),
                int(to.skipped),
                before,
                _now(),
            ],
        )
        self._write(
            "begin_session",
            "UPDATE sessions SET content = ? WHERE target = ? AND destination = ? AND session = ?",
            [to.content, target, to.address, to.session],
        )

    def end_session(self, target: str, to: Destination, left: int | None, *, uneven: bool = False) -> None:
        """Record that everything arrived, and the count that was left; ``uneven``: not the one that should be.

        Rows may have been mended since, in another way than the session wrote.
        """
        self._write(
            "end_session",
            "UPDATE sessions SET ended = ?, left = ?, uneven = ?, write = ?"
            " WHERE target = ? AND destination = ? AND session = ?",
            [_now(), left, int(uneven), to.write, target, to.address, to.session],
        )

    def checked(self, target: str, destination: str, how: str) -> None:
        """Record that what a destination holds was compared now with its data and is equal: ``keys`` or ``content``."""
        self._write(
            "checked",
            "UPDATE sessions SET checked = ?, checked_how = ? WHERE target = ? AND destination = ? AND session ="
            " (SELECT max(session) FROM sessions WHERE target = ? AND destination = ?)",
            [_now(), how, target, destination, target, destination],
        )

    def restart(self, target: str, units: Sequence[Unit]) -> None:
        """Forget, all at once, that chunks of these units were done: their rows are to be copied again."""
        with self._commit("restart"):
            for destination in dict.fromkeys(u.destination for u in units):
                self._db.execute(
                    "UPDATE sessions SET partial = 1, content = '' WHERE target = ? AND destination = ? AND session ="
                    " (SELECT max(session) FROM sessions WHERE target = ? AND destination = ?)",
                    [target, destination, target, destination],
                )
            self._db.conn.executemany(_UNDO, [(target, u.key) for u in units])

    def written_over(self, target: str, to: Destination, units: Sequence[Unit], chunks: Sequence[CopyChunk]) -> None:
        """Forget what was brought to a destination where its rows are about to be deleted, or written over.

        That is all that others than these, its ``units`` in the order of the plan, brought; and ``chunks`` that are
        sent again, for other rows of them lose now.
        """
        keys = {unit.key for unit in units}
        found = self._all("SELECT key FROM units WHERE target = ? AND destination = ?", [target, to.address])
        others = [(target, key) for (key,) in found if key not in keys]
        again = [(target, units[c.unit].key, to.epoch, c.n) for c in chunks]
        if others or again:
            with self._commit("written_over"):
                self._db.conn.executemany(_UNDO, others)
                self._db.conn.executemany(_UNDO + " AND epoch = ? AND n = ?", again)

    def overtaken(self, target: str, destination: str) -> None:
        """End the copy of some data: rows of other data are about to be written over its rows, outside of chunks."""
        self._write(
            "overtaken",
            "UPDATE sessions SET content = ?, partial = max(partial, ended IS NULL), ended = coalesce(ended, ?)"
            " WHERE target = ? AND destination = ? AND session ="
            " (SELECT max(session) FROM sessions WHERE target = ? AND destination = ?)",
            [OVERTAKEN, _now(), target, destination, target, destination],
        )

    def enter_unit(self, target: str, unit: Unit, epoch: int, chunks: Sequence[CopyChunk]) -> None:
        """Record a unit and its cut, once; chunks that are known keep their state.

        Those of a collection that were not sent yet may have been cut again.
        """
        with self._commit("enter_unit"):
            self._db.execute(
                "INSERT OR REPLACE INTO units (target, key, address, destination, path, content, modified, rows,"
                " origins, seen) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, (SELECT coalesce(max(seen), 0) + 1 FROM units))",
                [
                    target,
                    unit.key,
                    unit.address,
                    unit.destination,
                    unit.path,
                    unit.content,
                    unit.modified,
                    unit.rows,
                    json.dumps(unit.origins, ensure_ascii=False),
                ],
            )
            self._db.conn.executemany(
                "INSERT INTO chunks (target, unit, epoch, n, lo, hi, keys, state, attempt)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, 'pending', 0) ON CONFLICT DO UPDATE SET lo = excluded.lo,"
                " hi = excluded.hi, keys = excluded.keys WHERE state = 'pending' AND excluded.keys IS NOT NULL",
                [(target, unit.key, epoch, c.n, c.lo, c.hi, _keys(c)) for c in chunks],
            )

    def saw(self, target: str, units: Sequence[Unit]) -> None:
        """Record the names and times of files whose content was compared and is the same, and how they are mapped."""
        with self._commit("saw"):
            self._db.conn.executemany(
                "UPDATE units SET address = ?, path = ?, modified = ?, origins = ? WHERE target = ? AND key = ?",
                [
                    (u.address, u.path, u.modified, json.dumps(u.origins, ensure_ascii=False), target, u.key)
                    for u in units
                ],
            )

    # -- the chunk protocol ---------------------------------------------------------------------------------

    def together(self) -> AbstractContextManager[None]:
        """Commit all transitions made inside as one transaction: a commit is a write to the disk, and waits for it."""
        return self._commit("together")

    def sent(
        self, target: str, unit: str, epoch: int, n: int, *, session: int, there_mask: bytes | None, left_out: str = ""
    ) -> None:
        """Commit that a chunk's requests go out now; from here until ``acked`` it is in doubt.

        ``left_out`` digests its rows that are not sent: see :func:`vsync.planning.known.left_out`.
        """
        self._write(
            "sent",
            "UPDATE chunks SET state = 'sent', session = ?, attempt = attempt + 1, there_mask = ?, sent = ?,"
            " left_out = ?, error = NULL WHERE target = ? AND unit = ? AND epoch = ? AND n = ?",
            [session, there_mask, _now(), left_out, target, unit, epoch, n],
        )

    def acked(
        self,
        target: str,
        unit: str,
        epoch: int,
        n: int,
        outcome: Outcome,
        rejects: Sequence[tuple[int, str, str, str, str | None]] = (),
    ) -> None:
        """Commit that the server acknowledged a chunk; ``rejects`` are (row, field, value, why, key)."""
        now = _now()
        with self._commit("acked"):
            self._db.execute("UPDATE runs SET heartbeat = ? WHERE id = (SELECT max(id) FROM runs)", [now])
            self._db.execute(
                "UPDATE chunks SET state = 'acked', read = ?, written = ?, there = ?, rejected = ?, dropped = ?,"
                " digest = ?, key_ranges = ?, acked = ?, there_mask = ?"
                " WHERE target = ? AND unit = ? AND epoch = ? AND n = ?",
                [
                    outcome.read,
                    outcome.written,
                    outcome.there,
                    outcome.rejected,
                    outcome.dropped,
                    outcome.digest,
                    json.dumps(outcome.key_ranges),
                    now,
                    outcome.kept,
                    target,
                    unit,
                    epoch,
                    n,
                ],
            )
            self._db.conn.executemany(
                "INSERT OR REPLACE INTO rejects VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [(target, unit, epoch, n, *reject) for reject in rejects],
            )

    def acked_late(self, target: str, unit: str, epoch: int, n: int, rows: int, kept: bytes | None) -> None:
        """Count rows that an earlier attempt wrote, unheard, and that the chunk did not bring any more."""
        self._write(
            "acked",
            "UPDATE chunks SET read = read + ?, written = written + ?, there_mask = ?"
            " WHERE target = ? AND unit = ? AND epoch = ? AND n = ?",
            [rows, rows, kept, target, unit, epoch, n],
        )

    def reopen(self, target: str, unit: str, epoch: int, n: int) -> None:
        """Put a chunk in doubt again whose acknowledged rows are not all there: its keys count for nothing now."""
        self._write(
            "reopen",
            "UPDATE chunks SET state = 'sent', key_ranges = NULL WHERE target = ? AND unit = ? AND epoch = ? AND n = ?",
            [target, unit, epoch, n],
        )

    def clearing(self, target: str, destination: str) -> None:
        """Put all chunks of a destination in doubt before it is emptied: soon nobody knows what of them is there."""
        with self._commit("clearing"):
            self._db.execute(
                "UPDATE chunks SET state = 'sent', key_ranges = NULL WHERE target = ? AND state = 'acked' AND unit IN"
                " (SELECT key FROM units WHERE target = ? AND destination = ?)",
                [target, target, destination],
            )
            self._db.execute(
                "UPDATE sessions SET partial = 1 WHERE target = ? AND destination = ?", [target, destination]
            )

    def failed(self, target: str, unit: str, epoch: int, n: int, error: str) -> None:
        """Record why a chunk could not be done; its state stays as it is."""
        self._write(
            "failed",
            "UPDATE chunks SET error = ? WHERE target = ? AND unit = ? AND epoch = ? AND n = ?",
            [error, target, unit, epoch, n],
        )


def _keys(chunk: CopyChunk) -> str | None:
    return None if chunk.keys is None else json.dumps([chunk.keys.lo, chunk.keys.hi], ensure_ascii=False)


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
