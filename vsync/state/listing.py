"""``vsync state list`` and ``show``: all that a state knows, by address."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vsync.errors import UsageError

if TYPE_CHECKING:
    from vsync.state.view import View


@dataclass(frozen=True, slots=True)
class Held:
    """What is known at one address: of a collection or partition the rows, of a data item its files' chunks.

    ``made`` is whether vsync created the collection, and finished that (``None``: it did not). ``rows`` is what was
    left there when it was last applied; for a data item the rows that are done.
    """

    target: str
    address: str
    made: bool | None = None
    rows: int | None = None
    chunks: int = 0
    done: int = 0
    in_doubt: int = 0
    epoch: int | None = None
    session: int | None = None
    applied: str | None = None
    checked: str | None = None
    checked_how: str | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """One time that rows were brought to a destination."""

    session: int
    epoch: int
    write: str
    begun: str
    ended: str | None
    before: int | None
    left: int | None
    checked: str | None
    checked_how: str | None
    skipped: bool
    partial: bool


@dataclass(frozen=True, slots=True)
class ChunkHeld:
    """A chunk that is not done: ``pending``, or ``sent`` and so in doubt."""

    n: int
    lo: int
    hi: int
    state: str
    attempts: int
    error: str | None


@dataclass(frozen=True, slots=True)
class FileHeld:
    """One file of a data item, and its chunks in the destination's present epoch."""

    address: str
    path: str
    key: str
    content: str
    rows: int
    chunks: int
    done: int
    in_doubt: int
    attempts: int
    digests: int
    key_ranges: int
    rejects: int
    left: tuple[ChunkHeld, ...]


@dataclass(frozen=True, slots=True)
class Shown:
    """All that is known at one address."""

    held: Held
    collection_id: str | None
    sessions: tuple[Session, ...]
    files: tuple[FileHeld, ...]


_LATEST = (
    "SELECT destination, epoch, session, left, ended, checked, checked_how FROM sessions s WHERE target = ?"
    " AND session = (SELECT max(session) FROM sessions t WHERE t.target = s.target AND t.destination = s.destination)"
)
_SUMS = (
    "count(c.n), total(c.state = 'acked'), total(c.state = 'sent'),"
    " total(CASE c.state WHEN 'acked' THEN c.written + c.there + c.rejected + c.dropped END), max(c.acked)"
)


def targets(view: View) -> list[str]:
    """Name the targets that a state knows, in the order in which they were first written to."""
    found = view.query("SELECT target FROM runs ORDER BY id")
    found += view.query("SELECT target FROM resources UNION SELECT target FROM sessions UNION SELECT target FROM units")
    return list(dict.fromkeys(str(row[0]) for row in found))


def choose_target(view: View, word: str | None) -> str:
    """Find the one target that is meant; ``word`` is its name or a part that no other has. Raises UsageError."""
    known = targets(view)
    found = [t for t in known if word == t] or [t for t in known if word is None or word in t]
    if len(found) == 1:
        return found[0]
    if not known:
        raise UsageError(f"{view.path} knows of no target yet", hint="vsync apply writes it")
    said = f"no target of {view.path} is {word!r}" if not found else f"{view.path} knows several targets"
    raise UsageError(f"{said}: {', '.join(known)}", hint="say which with --target")


def listed(view: View, target: str) -> list[Held]:
    """List everything that is known of a target: each collection, then what is below it."""
    made = dict(view.query("SELECT address, finished FROM resources WHERE target = ?", [target]))
    sessions = {s[0]: s[1:] for s in view.query(_LATEST, [target])}
    items = _present(view, f"u.address, u.destination, {_SUMS}", target, "GROUP BY u.address, u.destination")
    found = []
    for address in {*made, *sessions}:
        epoch, session, left, ended, checked, how = sessions.get(address, (None,) * 6)
        of_it = [sums[2:5] for sums in items if sums[1] == address]
        found.append(
            Held(
                target=target,
                address=address,
                made=bool(made[address]) if address in made else None,
                rows=left,
                chunks=sum(chunks for chunks, _, _ in of_it),
                done=sum(int(done) for _, done, _ in of_it),
                in_doubt=sum(int(doubt) for _, _, doubt in of_it),
                epoch=epoch,
                session=session,
                applied=ended,
                checked=checked,
                checked_how=how,
            )
        )
    found += [
        Held(target, address, rows=int(rows), chunks=chunks, done=int(done), in_doubt=int(doubt), applied=applied)
        for address, _, chunks, done, doubt, rows, applied in items
    ]
    return sorted(found, key=lambda h: h.address.split("."))


def show(view: View, target: str, address: str) -> Shown:
    """Give all that is known at an address; raises UsageError where nothing is."""
    known = {h.address: h for h in listed(view, target)}
    if address not in known:
        raise unknown(address, known)
    identity = view.query("SELECT collection_id FROM resources WHERE target = ? AND address = ?", [target, address])
    sessions = view.query(
        "SELECT session, epoch, write, begun, ended, before, left, checked, checked_how, skipped, partial"
        " FROM sessions WHERE target = ? AND destination = ? ORDER BY session",
        [target, address],
    )
    return Shown(
        held=known[address],
        collection_id=identity[0][0] if identity else None,
        sessions=tuple(Session(*(*s[:9], bool(s[9]), bool(s[10]))) for s in sessions),
        files=tuple(_files(view, target, address)),
    )


def unknown(address: str, known: dict[str, Held]) -> UsageError:
    """Make the error for an address that a state does not know."""
    import difflib

    near = difflib.get_close_matches(address, known, 1)
    return UsageError(
        f"the state knows nothing of {address}",
        hint=f"did you mean {near[0]}?" if near else "vsync state list shows what it knows",
    )


def _present(view: View, columns: str, target: str, rest: str, *args: str) -> list[tuple[Any, ...]]:
    """Ask for the chunks of files in the present epoch of their destinations; a file may have none."""
    sql = (
        f"SELECT {columns} FROM units u LEFT JOIN chunks c ON c.target = u.target AND c.unit = u.key AND c.epoch ="  # noqa: S608 - no input
        " (SELECT max(epoch) FROM sessions s WHERE s.target = u.target AND s.destination = u.destination)"
        f" WHERE u.target = ? {rest}"
    )
    return view.query(sql, [target, *args])


def _files(view: View, target: str, address: str) -> list[FileHeld]:
    """Describe the files of a data item, or of a destination."""
    columns = (
        "u.address, u.path, u.key, u.content, u.rows, count(c.n), total(c.state = 'acked'), total(c.state = 'sent'),"
        " total(c.attempt), count(c.digest), total(json_array_length(c.key_ranges)),"
        " (SELECT count(DISTINCT row) FROM rejects r WHERE r.target = u.target AND r.unit = u.key)"
    )
    rest = "AND ? IN (u.address, u.destination) GROUP BY u.key ORDER BY u.seen"
    left: dict[str, list[ChunkHeld]] = {}
    undone = "AND ? IN (u.address, u.destination) AND c.state != 'acked' ORDER BY u.seen, c.n"
    for key, *chunk in _present(view, "u.key, c.n, c.lo, c.hi, c.state, c.attempt, c.error", target, undone, address):
        left.setdefault(key, []).append(ChunkHeld(*chunk))
    return [
        FileHeld(*(*row[:5], *map(int, row[5:12]), tuple(left.get(row[2], ()))))
        for row in _present(view, columns, target, rest, address)
    ]
