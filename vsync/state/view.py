"""What a state file knows, read: by plans, by ``status``, and by the apply that writes it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from vsync.connectors.base import Bounds, KeyRange
from vsync.planning.facts import FileFacts, JournalFacts, Owed, SessionFacts
from vsync.state.file import StateFile

if TYPE_CHECKING:
    from vsync.planning.steps import Destination

PACE_CHUNKS = 64
"""The chunks that a run's pace is taken over."""


@dataclass(frozen=True, slots=True)
class Balance:
    """The sums of one session at a destination; ``planned`` are the rows that its chunks had when they were cut."""

    before: int | None
    planned: int
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

    @property
    def clock_went_back(self) -> bool:
        """Whether the machine's clock was set back meanwhile; times are shown, and decide nothing."""
        return self.heartbeat < self.started or (self.ended is not None and self.ended < self.heartbeat)


class View(StateFile):
    """One state file, open for reading. Raises JournalError where it cannot be used."""

    def facts(self, target: str) -> JournalFacts:
        """Gather what is known of a target."""
        sessions = self._all(
            "SELECT destination, epoch, session, ended IS NOT NULL, content, collection_id, probe, before, left,"
            " skipped, checked, checked_how, partial, uneven, ended, write FROM sessions s WHERE target = ?"
            " AND session = (SELECT max(session) FROM sessions t WHERE t.target = s.target"
            " AND t.destination = s.destination)",
            [target],
        )
        done, doubt, left_out = self._chunks(target)
        units = self._all("SELECT key, destination, path, content FROM units WHERE target = ?", [target])
        files = self._all(
            "SELECT address, path, content, rows, modified FROM units WHERE target = ? ORDER BY seen",
            [target],
        )
        resources = self._all(
            "SELECT address, finished, collection_id, partial FROM resources WHERE target = ?", [target]
        )
        owed = self._all("SELECT kind, name, collection FROM owed WHERE target = ?", [target])
        return JournalFacts(
            collections={a: bool(f) for a, f, _, _ in resources},
            ids={a: i for a, _, i, _ in resources},
            partial=frozenset(a for a, _, _, partial in resources if partial),
            sessions={
                r[0]: SessionFacts(
                    r[1],
                    r[2],
                    bool(r[3]),
                    r[4],
                    r[5],
                    bool(r[6]),
                    r[7],
                    r[8],
                    bool(r[9]),
                    r[10],
                    r[11],
                    bool(r[12]),
                    bool(r[13]),
                    r[14],
                    r[15],
                )
                for r in sessions
            },
            acked={u: frozenset(n) for u, n in done.items()},
            in_doubt={u: frozenset(n) for u, n in doubt.items()},
            owed=frozenset(Owed(*row) for row in owed),
            left_out=left_out,
            brought=tuple(unit for unit in units if unit[0] in done or unit[0] in doubt),
            left_alone=self._left_alone(target),
            files={(address, path): FileFacts(*rest) for address, path, *rest in files},
        )

    def _chunks(self, target: str) -> tuple[dict[str, set[int]], dict[str, set[int]], dict[str, dict[int, str]]]:
        """Give the chunks of each unit that are done, and in doubt, in the present epoch; and what they left out."""
        done: dict[str, set[int]] = {}
        doubt: dict[str, set[int]] = {}
        left_out: dict[str, dict[int, str]] = {}
        for unit, n, state, those in self._all(
            "SELECT c.unit, c.n, c.state, c.left_out FROM chunks c JOIN units u ON u.target = c.target"
            " AND u.key = c.unit WHERE c.target = ? AND c.state != 'pending' AND c.epoch = (SELECT max(epoch)"
            " FROM sessions s WHERE s.target = c.target AND s.destination = u.destination)",
            [target],
        ):
            (done if state == "acked" else doubt).setdefault(unit, set()).add(n)
            if those:
                left_out.setdefault(unit, {})[n] = those
        return done, doubt, left_out

    def _left_alone(self, target: str) -> frozenset[str]:
        """Give the destinations where rows were there already, and kept their place, in the present epoch."""
        found = self._all(
            "SELECT DISTINCT u.destination FROM chunks c JOIN units u ON u.target = c.target AND u.key = c.unit"
            " JOIN sessions s ON s.target = c.target AND s.destination = u.destination AND s.session = c.session"
            " WHERE c.target = ? AND c.state = 'acked' AND c.there > 0 AND s.write IN ('append', 'skip') AND c.epoch ="
            " (SELECT max(epoch) FROM sessions t WHERE t.target = c.target AND t.destination = u.destination)",
            [target],
        )
        return frozenset(address for (address,) in found)

    def known_cut(self, target: str, unit: str) -> tuple[Bounds, ...] | None:
        """Give the bounds that a unit was cut into before, in order; ``None`` for an unknown unit."""
        rows = self._all(
            "SELECT lo, hi, keys FROM chunks c WHERE target = ? AND unit = ? AND epoch ="
            " (SELECT max(epoch) FROM chunks WHERE target = c.target AND unit = c.unit) ORDER BY n",
            [target, unit],
        )
        return tuple(_bounds(*row) for row in rows) or None

    def digests(self, target: str, unit: str) -> list[tuple[Bounds, str]]:
        """Give the bounds and digests of a unit's acknowledged chunks."""
        rows = self._all(
            "SELECT lo, hi, keys, digest FROM chunks c WHERE target = ? AND unit = ? AND state = 'acked' AND epoch ="
            " (SELECT max(epoch) FROM chunks WHERE target = c.target AND unit = c.unit) ORDER BY n",
            [target, unit],
        )
        return [(_bounds(*bounds), digest) for *bounds, digest in rows]

    def has_run(self, target: str, plan: str) -> bool:
        """Tell whether a saved plan was begun before."""
        return self._one("SELECT 1 FROM runs WHERE target = ? AND plan = ?", [target, plan]) is not None

    def has_finished(self, target: str, plan: str) -> bool:
        """Tell whether a saved plan was carried out to its end."""
        sql = "SELECT 1 FROM runs WHERE target = ? AND plan = ? AND exit_code = 0"
        return self._one(sql, [target, plan]) is not None

    def last_run(self) -> RunRecord | None:
        """Give the run that began last."""
        row = self._one(
            "SELECT id, target, who, host, pid, started, heartbeat, ended, exit_code FROM runs ORDER BY id DESC"
        )
        return RunRecord(*row) if row else None

    def there_mask(self, target: str, unit: str, to: Destination, n: int) -> bytes | None:
        """Give what was journaled of a chunk with its attempts in a session; ``None`` before that."""
        row = self._one(
            "SELECT there_mask FROM chunks WHERE target = ? AND unit = ? AND epoch = ? AND session = ? AND n = ?",
            [target, unit, to.epoch, to.session, n],
        )
        return row[0] if row else None

    def kept(self, target: str, to: Destination) -> list[tuple[str, int, bytes]]:
        """List what is kept of chunks that a session has done: unit, number, and what it is."""
        rows = self._all(
            "SELECT c.unit, c.n, c.there_mask FROM chunks c JOIN units u ON u.target = c.target AND u.key = c.unit"
            " WHERE c.target = ? AND u.destination = ? AND c.epoch = ? AND c.session = ? AND c.state = 'acked'"
            " AND c.there_mask IS NOT NULL",
            [target, to.address, to.epoch, to.session],
        )
        return [(unit, n, kept) for unit, n, kept in rows]

    def balance(self, target: str, to: Destination) -> Balance:
        """Sum up one session of a destination."""
        before = self._one(
            "SELECT before FROM sessions WHERE target = ? AND destination = ? AND session = ?",
            [target, to.address, to.session],
        )
        sums = self._one(
            "SELECT coalesce(sum(hi - lo), 0), coalesce(sum(coalesce(read, hi - lo)), 0), coalesce(sum(written), 0),"
            " coalesce(sum(there), 0), coalesce(sum(rejected), 0), coalesce(sum(dropped), 0) FROM chunks c JOIN units u"
            " ON u.target = c.target AND u.key = c.unit WHERE c.target = ? AND u.destination = ? AND c.epoch = ?"
            " AND c.session = ? AND c.state = 'acked'",
            [target, to.address, to.epoch, to.session],
        )
        assert sums is not None
        return Balance(before[0] if before else None, *sums)

    def key_ranges(self, target: str, collection: str) -> list[tuple[int, int]]:
        """List the keys that the server handed out to a collection's present content, as ranges, ends included."""
        address, below = f"collection.{collection}", f"collection.{collection}.partition."
        rows = self._all(
            "SELECT key_ranges FROM chunks c JOIN units u ON u.target = c.target AND u.key = c.unit"
            " WHERE c.target = ? AND c.state = 'acked' AND (u.destination = ? OR substr(u.destination, 1, ?) = ?)"
            " AND c.epoch = (SELECT max(epoch) FROM sessions s WHERE s.target = c.target"
            " AND s.destination = u.destination)",
            [target, address, len(below), below],
        )
        return [(lo, hi) for (text,) in rows for lo, hi in json.loads(text)]

    def sent_again(self, target: str, unit: str, epoch: int) -> list[tuple[int, Bounds]]:
        """List a unit's chunks that were sent more than once: number and bounds."""
        rows = self._all(
            "SELECT n, lo, hi, keys FROM chunks WHERE target = ? AND unit = ? AND epoch = ? AND attempt > 1 ORDER BY n",
            [target, unit, epoch],
        )
        return [(n, _bounds(*bounds)) for n, *bounds in rows]

    def acked_ranges(self, target: str, unit: str, epoch: int) -> list[tuple[int, Bounds, list[tuple[int, int]]]]:
        """List a unit's acknowledged chunks: number, bounds, and the ranges of keys that the server handed out."""
        rows = self._all(
            "SELECT n, key_ranges, lo, hi, keys FROM chunks WHERE target = ? AND unit = ? AND epoch = ?"
            " AND state = 'acked' ORDER BY n",
            [target, unit, epoch],
        )
        return [(n, _bounds(*bounds), [(lo, hi) for lo, hi in json.loads(text)]) for n, text, *bounds in rows]

    def rejects(self, target: str) -> list[dict[str, Any]]:
        """List every rejected row: unit's address and path, row number, key (JSON text), field, value and why.

        Of a file that changed those of its last content; of a collection, which each session cuts anew, all.
        """
        rows = self._all(
            "SELECT u.address, u.path, r.row, r.key, r.field, r.value, r.why FROM rejects r JOIN units u"
            " ON u.target = r.target AND u.key = r.unit WHERE r.target = ? AND (instr(u.content, '@') OR u.seen ="
            " (SELECT max(seen) FROM units n WHERE n.target = u.target AND n.address = u.address AND n.path = u.path"
            " AND n.destination = u.destination)) ORDER BY u.address, u.path, r.row",
            [target],
        )
        return [dict(zip(("address", "path", "row", "key", "field", "value", "why"), r, strict=True)) for r in rows]

    def rejected(self, target: str, unit: str) -> int:
        """Count the rows of a unit that are on record as not fitting, in the present epoch of its destination."""
        row = self._one(
            "SELECT count(DISTINCT n || ' ' || row) FROM rejects r JOIN units u ON u.target = r.target"
            " AND u.key = r.unit WHERE r.target = ? AND r.unit = ? AND r.epoch = (SELECT max(epoch) FROM sessions s"
            " WHERE s.target = r.target AND s.destination = u.destination)",
            [target, unit],
        )
        return int(row[0]) if row else 0

    def rejected_keys(self, target: str, destination: str, address: str, path: str) -> list[int | str]:
        """List the keys of a source's rows that are on record as not fitting, each once, in the present epoch."""
        rows = self._all(
            "SELECT DISTINCT r.key FROM rejects r JOIN units u ON u.target = r.target AND u.key = r.unit"
            " WHERE r.target = ? AND u.destination = ? AND u.address = ? AND u.path = ? AND r.key IS NOT NULL"
            " AND r.epoch = (SELECT max(epoch) FROM sessions s WHERE s.target = r.target"
            " AND s.destination = u.destination)",
            [target, destination, address, path],
        )
        return [json.loads(key) for (key,) in rows]

    def pace(self, run: RunRecord) -> float | None:
        """Give the rows a second of a run's last chunks; ``None`` where their times do not tell."""
        rows, began, ended = self._all(
            "SELECT sum(rows), min(sent), max(acked) FROM (SELECT coalesce(read, hi - lo) AS rows, sent,"
            " acked FROM chunks WHERE target = ? AND state = 'acked' AND sent >= ? ORDER BY acked DESC LIMIT ?)",
            [run.target, run.started, PACE_CHUNKS],
        )[0]
        if rows is None:
            return None
        seconds = (datetime.fromisoformat(ended) - datetime.fromisoformat(began)).total_seconds()
        return rows / seconds if seconds > 0 else None

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


def _bounds(lo: int, hi: int, keys: str | None) -> Bounds:
    return Bounds(lo, hi, None if keys is None else KeyRange(*json.loads(keys)))
