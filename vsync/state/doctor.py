"""``vsync state doctor``: whether a state is whole and agrees with itself, and bringing its backup back.

A backup is older than the state was. What it thinks pending may have been sent since, so it is in doubt; and what its
sessions wrote is not all known to it (``partial``). Planning then counts anew what is there, sends again what is in
doubt, and refuses where keys of the server's making cannot tell what is missing.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Literal

from vsync.errors import JournalError
from vsync.state.file import backup_of, connect, sync, translated, wal_of, write_copy
from vsync.state.journal import Journal
from vsync.state.lock import look_at
from vsync.state.migrations import FORMAT
from vsync.state.view import View

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: ``ok``, worth a ``note``, or ``wrong``."""

    level: Literal["ok", "note", "wrong"]
    what: str
    hint: str | None = None


_LOGIC = {
    "chunks belong to a file that the state knows": """
        SELECT DISTINCT unit FROM chunks c
        WHERE NOT EXISTS (SELECT 1 FROM units u WHERE u.target = c.target AND u.key = c.unit)""",
    "files belong to a destination that rows were brought to": """
        SELECT address FROM units u WHERE NOT EXISTS
            (SELECT 1 FROM sessions s WHERE s.target = u.target AND s.destination = u.destination)""",
    "chunks are of an epoch that their destination has had": """
        SELECT DISTINCT u.address FROM chunks c JOIN units u ON u.target = c.target AND u.key = c.unit
        WHERE c.epoch > (SELECT max(epoch) FROM sessions s
            WHERE s.target = u.target AND s.destination = u.destination)""",
    "sessions follow each other, and so do epochs": """
        SELECT s.destination FROM sessions s JOIN sessions later ON later.target = s.target
            AND later.destination = s.destination AND later.session > s.session AND later.epoch < s.epoch""",
    "chunks are pending, sent or acked": """
        SELECT DISTINCT state FROM chunks WHERE state NOT IN ('pending', 'sent', 'acked')""",
    "the rows of each acknowledged chunk are written, there already, rejected or lost to a collision": """
        SELECT u.address || ' chunk ' || c.n FROM chunks c JOIN units u ON u.target = c.target AND u.key = c.unit
            LEFT JOIN sessions s ON s.target = u.target AND s.destination = u.destination AND s.session = c.session
        WHERE c.state = 'acked' AND coalesce(c.read, c.hi - c.lo) IS NOT
            c.written + iif(s.write IN ('upsert', 'mirror'), 0, c.there) + c.rejected + c.dropped""",
    "a destination that was finished has no chunk in doubt": """
        SELECT u.address || ' chunk ' || c.n FROM chunks c JOIN units u ON u.target = c.target AND u.key = c.unit
            JOIN sessions s ON s.target = u.target AND s.destination = u.destination AND s.session = c.session
        WHERE c.state = 'sent' AND s.ended IS NOT NULL AND s.partial = 0""",
    # Upserts replace, and those into another partition displace: their sums are the apply's to judge.
    "what was left at a destination is what was there before and what was written": """
        SELECT s.destination FROM sessions s
        WHERE s.write = 'append' AND s.ended IS NOT NULL AND s.skipped = 0 AND s.partial = 0
            AND s.session = (SELECT max(session) FROM sessions t
                WHERE t.target = s.target AND t.destination = s.destination)
            AND NOT EXISTS (SELECT 1 FROM sessions o
                WHERE o.target = s.target AND o.collection_id = s.collection_id AND o.write IN ('upsert', 'mirror'))
            AND s.left - s.before != (SELECT coalesce(sum(c.written), 0)
                FROM chunks c JOIN units u ON u.target = c.target AND u.key = c.unit
                WHERE c.target = s.target AND u.destination = s.destination AND c.epoch = s.epoch
                    AND c.session = s.session AND c.state = 'acked')""",
}
"""What must hold within a state, and the query that finds where it does not."""


def examine(state: Path) -> list[Finding]:
    """Look at a state, its lock and its backup; changes nothing."""
    return [*_of_lock(state), *_of_file(state), *_of_backup(state)]


def _of_lock(state: Path) -> Iterator[Finding]:
    holder = look_at(state)
    if holder.held:
        yield Finding("note", f"the lock is held by {holder.said or 'somebody'}")
    elif holder.said:
        yield Finding(
            "note",
            f"the lock is free; its last holder did not give it back: {holder.said}",
            "nothing needs to be done: the kernel freed it; vsync state unlock removes the note",
        )
    else:
        yield Finding("ok", "the lock is free")


def _of_file(state: Path) -> Iterator[Finding]:
    if not state.exists():
        hint = _restore_hint(state) if backup_of(state).exists() else None
        yield Finding("wrong" if hint else "note", f"there is no state at {state}", hint)
        return
    try:
        with closing(View(state)) as view, translated(state):
            found = [str(row[0]) for row in view.query("PRAGMA integrity_check(10)")]
            if found != ["ok"]:
                yield Finding("wrong", f"the file is damaged: {'; '.join(found)}", _restore_hint(state))
                return
            yield Finding("ok", f"the file is whole, of format {FORMAT}" if view.found == FORMAT else _older(view))
            yield from _of_logic(view, state)
            yield from _of_runs(view, state)
    except JournalError as e:
        problem = e.problems[0]
        yield Finding("wrong", problem.what, _restore_hint(state) if "damaged" in problem.what else problem.hint)


def _older(view: View) -> str:
    return f"the file is whole, of format {view.found}: the next apply brings it to format {FORMAT}"


def _of_logic(view: View, state: Path) -> Iterator[Finding]:
    wrong = False
    for words, query in _LOGIC.items():
        found = view.query(query)
        if found:
            wrong = True
            some = ", ".join(str(row[0]) for row in found[:3])
            yield Finding("wrong", f"it does not hold that {words}: {some}", _restore_hint(state))
    if not wrong:
        yield Finding("ok", "what it records agrees with itself")


def _of_runs(view: View, state: Path) -> Iterator[Finding]:
    run = view.last_run()
    if run is None:
        yield Finding("note", "nothing was applied yet")
        return
    if run.ended is None and not look_at(state).held:
        log = wal_of(state)
        kept = f"; {log.name} holds what it committed last: keep the two together" if log.exists() else ""
        yield Finding("note", f"run {run.id} was cut off after {run.heartbeat}{kept}", "vsync apply goes on with it")
    if run.clock_went_back:
        yield Finding(
            "note",
            f"the clock went back during run {run.id}: begun {run.started}, last sign {run.heartbeat}",
            "nothing is decided by times; rates and times that are shown may be wrong",
        )


def _of_backup(state: Path) -> Iterator[Finding]:
    path = backup_of(state)
    if not path.exists():
        yield Finding("note", "there is no backup yet: an apply makes one")
        return
    made = datetime.fromtimestamp(path.stat().st_mtime, timezone.utc).isoformat(timespec="seconds")
    try:
        with closing(View(path)) as view:
            found = [str(row[0]) for row in view.query("PRAGMA integrity_check(10)")]
            acked = view.query("SELECT count(*) FROM chunks WHERE state = 'acked'")[0][0]
    except JournalError as e:
        found = [e.problems[0].what]
    if found != ["ok"]:
        yield Finding("wrong", f"the backup of {made} is damaged: {'; '.join(found)}", "the next apply makes another")
        return
    yield Finding("ok", f"the backup of {made} is whole; chunks done in it: {acked:,}")


def _restore_hint(state: Path) -> str:
    if backup_of(state).exists():
        return "vsync state doctor --restore brings the backup back; the file as it is now is kept beside it"
    return (
        f"there is no backup: move {state.name} away and apply again; keys are compared with those that are there "
        "(with keys of the server's making that is refused)"
    )


def check_backup(state: Path) -> None:
    """Raise JournalError where there is no backup to bring back."""
    if not backup_of(state).exists():
        hint = _restore_hint(state) if state.exists() else "vsync apply makes a state, and its backup"
        raise JournalError(f"there is no backup of {state}", hint=hint)


def restore(state: Path) -> Path | None:
    """Bring the backup back; gives where the file as it was is kept. Needs the lock."""
    backup, new = backup_of(state), state.with_name(f"{state.name}.restored")
    check_backup(state)
    for finding in _of_backup(state):
        if finding.level == "wrong":
            raise JournalError(finding.what, hint=f"move {state.name} away and apply again: keys are compared then")
    with translated(backup), closing(connect(backup, "mode=ro&immutable=1")) as kept:
        write_copy(kept, new)
    with closing(Journal(new)) as restored:
        _doubt(restored)
    with translated(state):
        aside = _put_aside(state)
        new.replace(state)
        sync(state.parent)
    return aside


def _doubt(journal: Journal) -> None:
    """Mark what a backup cannot know: what was sent since it was made."""
    with journal.changing("restore"):
        journal.change(
            "UPDATE sessions SET partial = 1 WHERE session = (SELECT max(session) FROM sessions t"
            " WHERE t.target = sessions.target AND t.destination = sessions.destination)"
        )
        journal.change("UPDATE resources SET partial = 1")
        journal.change("UPDATE chunks SET state = 'sent' WHERE state = 'pending'")


def _put_aside(state: Path) -> Path | None:
    """Move a state, and what SQLite keeps beside it, to a name that is free: the file first, so that none is mixed."""
    if not state.exists():
        return None
    n = 1
    while (aside := state.with_name(f"{state.name}.damaged-{n}")).exists():
        n += 1
    for end in ("", "-wal", "-shm"):
        part = state.with_name(f"{state.name}{end}")
        if part.exists():
            part.rename(aside.with_name(f"{aside.name}{end}"))
    return aside
