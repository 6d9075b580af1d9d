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
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from vsync import faults
from vsync.state.file import translated
from vsync.state.view import View

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from vsync.planning.steps import CopyChunk, Destination, Unit


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a chunk: rows acknowledged, there already, rejected, dropped; together they are its rows."""

    written: int
    there: int
    rejected: int
    dropped: int
    digest: str
    key_ranges: tuple[tuple[int, int], ...] = ()


class Journal(View):
    """One state file, open for the thread that drives an apply. Raises JournalError where it cannot be used."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, create=True)

    def _write(self, name: str, sql: str, args: Sequence[Any]) -> None:
        with self._commit(name):
            self._db.execute(sql, list(args))

    @contextmanager
    def _commit(self, name: str) -> Iterator[None]:
        """Commit what is written inside, as one transaction; ``name`` is its fault point."""
        with translated(self.path), faults.around(f"journal.{name}"), self._db.atomic():
            yield

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
        """Record how a run ended."""
        self._write("end_run", "UPDATE runs SET ended = ?, exit_code = ? WHERE id = ?", [_now(), exit_code, run])

    # -- collections, destinations, units -------------------------------------------------------------------

    def creating(self, target: str, address: str) -> None:
        """Record that a collection is about to be created: after a kill, what is there is ours."""
        self._write("creating", "INSERT OR REPLACE INTO resources VALUES (?, ?, NULL, 0)", [target, address])

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

    def begin_session(self, target: str, to: Destination, collection_id: str, before: int | None) -> None:
        """Record that rows are about to be brought to a destination; the same again where it was begun before."""
        self._write(
            "begin_session",
            "INSERT OR IGNORE INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, ?, NULL)",
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

    def end_session(self, target: str, to: Destination, left: int | None) -> None:
        """Record that everything arrived, and the count that was left."""
        self._write(
            "end_session",
            "UPDATE sessions SET ended = ?, left = ? WHERE target = ? AND destination = ? AND session = ?",
            [_now(), left, target, to.address, to.session],
        )

    def enter_unit(self, target: str, unit: Unit, epoch: int, chunks: Sequence[CopyChunk]) -> None:
        """Record a unit and its cut, once; chunks that are known keep their state."""
        with self._commit("enter_unit"):
            self._db.execute(
                "INSERT OR REPLACE INTO units VALUES (?, ?, ?, ?, ?, ?, ?, ?,"
                " (SELECT coalesce(max(seen), 0) + 1 FROM units))",
                [target, unit.key, unit.address, unit.destination, unit.path, unit.content, unit.modified, unit.rows],
            )
            self._db.conn.executemany(
                "INSERT OR IGNORE INTO chunks (target, unit, epoch, n, lo, hi, state, attempt)"
                " VALUES (?, ?, ?, ?, ?, ?, 'pending', 0)",
                [(target, unit.key, epoch, c.n, c.lo, c.hi) for c in chunks],
            )

    def saw(self, target: str, unit: str, modified: int) -> None:
        """Record the time of a file whose content was compared and is the same."""
        self._write("saw", "UPDATE units SET modified = ? WHERE target = ? AND key = ?", [modified, target, unit])

    # -- the chunk protocol ---------------------------------------------------------------------------------

    def together(self) -> AbstractContextManager[None]:
        """Commit all transitions made inside as one transaction: a commit is a write to the disk, and waits for it."""
        return self._commit("together")

    def sent(self, target: str, unit: str, epoch: int, n: int, *, session: int, there_mask: bytes | None) -> None:
        """Commit that a chunk's requests go out now; from here until ``acked`` it is in doubt."""
        self._write(
            "sent",
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
        now = _now()
        with self._commit("acked"):
            self._db.execute("UPDATE runs SET heartbeat = ? WHERE id = (SELECT max(id) FROM runs)", [now])
            self._db.execute(
                "UPDATE chunks SET state = 'acked', written = ?, there = ?, rejected = ?, dropped = ?, digest = ?,"
                " key_ranges = ?, acked = ?, there_mask = NULL WHERE target = ? AND unit = ? AND epoch = ? AND n = ?",
                [
                    outcome.written,
                    outcome.there,
                    outcome.rejected,
                    outcome.dropped,
                    outcome.digest,
                    json.dumps(outcome.key_ranges),
                    now,
                    target,
                    unit,
                    epoch,
                    n,
                ],
            )
            self._db.conn.executemany(
                "INSERT OR REPLACE INTO rejects VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [(target, unit, epoch, n, *reject) for reject in rejects],
            )

    def reopen(self, target: str, unit: str, epoch: int, n: int) -> None:
        """Put a chunk in doubt again whose acknowledged rows are not all there: its keys count for nothing now."""
        self._write(
            "reopen",
            "UPDATE chunks SET state = 'sent', key_ranges = NULL WHERE target = ? AND unit = ? AND epoch = ? AND n = ?",
            [target, unit, epoch, n],
        )

    def failed(self, target: str, unit: str, epoch: int, n: int, error: str) -> None:
        """Record why a chunk could not be done; its state stays as it is."""
        self._write(
            "failed",
            "UPDATE chunks SET error = ? WHERE target = ? AND unit = ? AND epoch = ? AND n = ?",
            [error, target, unit, epoch, n],
        )


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
