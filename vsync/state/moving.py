"""``vsync state mv`` and ``rm``: the records of what was renamed follow it, and those of what is to be forgotten go.

A chunk is known by its unit's key, and that is made of its destination, mapping and content: where a destination is
renamed, the keys of its units are made anew, so that a plan of the renamed spec finds what is done.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from vsync.errors import ConflictError, UsageError
from vsync.planning.steps import content_key, unit_key
from vsync.state.ids import IdMap
from vsync.state.listing import listed, unknown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vsync.state.journal import Journal
    from vsync.state.listing import Held

_ADDRESS = re.compile(r"collection\.(?P<collection>[^.]+)(?:\.(?P<kind>partition|data)\.(?P<name>.+))?\Z")


def move(journal: Journal, target: str, old: str, new: str) -> int:
    """Give what is known at an address, and below it, to another; gives the number of addresses that moved.

    Raises UsageError where the addresses are not of one kind or nothing is known, ConflictError where NEW is known or
    the state does not know what the keys of units are made of.
    """
    known = {h.address: h for h in listed(journal, target)}
    if old not in known:
        raise unknown(old, known)
    kind = _one_kind(old, new)
    if _within(new, known):
        raise ConflictError(
            f"the state knows {new} already", hint=f"vsync state rm {new} forgets it; vsync state show {new} shows it"
        )
    moved = _within(old, known)
    journal.backup()
    with journal.changing("mv"):
        for table, column in (
            ("resources", "address"),
            ("sessions", "destination"),
            ("units", "address"),
            ("units", "destination"),
        ):
            journal.change(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE target = ?"  # noqa: S608 - no input
                f" AND ({column} = ? OR substr({column}, 1, ?) = ?)",
                [new, len(old) + 1, target, old, len(old) + 1, f"{old}."],
            )
        if kind != "data":
            _rekey(journal, target, new)
        if kind is None:
            was, now = old.removeprefix("collection."), new.removeprefix("collection.")
            journal.change(
                "UPDATE owed SET name = iif(kind = 'load', ?, name), collection = ?"
                " WHERE target = ? AND collection = ?",
                [now, now, target, was],
            )
            IdMap.beside(journal.path, target).moved(was, now)
    return len(moved)


def _rekey(journal: Journal, target: str, address: str) -> None:
    """Make the keys of units anew whose destination is at an address, or below it."""
    units = journal.query(
        "SELECT key, destination, origins, content FROM units WHERE target = ? AND (destination = ?"
        " OR substr(destination, 1, ?) = ?)",
        [target, address, len(address) + 1, f"{address}."],
    )
    renamed: dict[str, str] = {}
    for key, destination, origins, content in units:
        if origins is None:
            raise ConflictError(
                f"{address} was last applied by an older vsync, which did not record what a chunk is known by",
                hint="apply once under the old name, or vsync state rm it: then keys are compared",
            )
        again = key.partition("-")[2]  # the same content twice on the same way has keys with a number behind
        renamed[key] = unit_key(destination, json.loads(origins), content) + (f"-{again}" if again else "")
    for key, now in renamed.items():
        journal.change("UPDATE units SET key = ? WHERE target = ? AND key = ?", [now, target, key])
        journal.change("UPDATE chunks SET unit = ? WHERE target = ? AND unit = ?", [now, target, key])
        journal.change("UPDATE rejects SET unit = ? WHERE target = ? AND unit = ?", [now, target, key])
    _redigest(journal, target, renamed)


def _redigest(journal: Journal, target: str, renamed: dict[str, str]) -> None:
    """Make the digests anew by which an overwritten destination knows its content, where these units are that."""
    was = {now: key for key, now in renamed.items()}
    for destination, session, content in journal.query(
        "SELECT destination, session, content FROM sessions s WHERE target = ? AND session = (SELECT max(session)"
        " FROM sessions t WHERE t.target = s.target AND t.destination = s.destination)",
        [target],
    ):
        keys = [
            str(row[0])
            for row in journal.query(
                "SELECT DISTINCT c.unit FROM chunks c JOIN units u ON u.target = c.target AND u.key = c.unit"
                " WHERE c.target = ? AND u.destination = ? AND c.epoch = (SELECT max(epoch) FROM sessions s"
                " WHERE s.target = c.target AND s.destination = u.destination)",
                [target, destination],
            )
        ]
        if keys and all(k in was for k in keys) and content_key([was[k] for k in keys]) == content:
            journal.change(
                "UPDATE sessions SET content = ? WHERE target = ? AND destination = ? AND session = ?",
                [content_key(keys), target, destination, session],
            )


def forget(journal: Journal, target: str, address: str) -> int:
    """Forget what is known at an address, and below it; gives the number of addresses. Their rows stay on the server.

    Raises UsageError where nothing is known, ConflictError where rows could double.
    """
    known = {h.address: h for h in listed(journal, target)}
    if address not in known:
        raise unknown(address, known)
    if ".data." in address:
        _refuse_uncertain(journal, target, address)
    gone = _within(address, known)
    journal.backup()
    below = [address, len(address) + 1, f"{address}."]
    with journal.changing("rm"):
        journal.change(
            "UPDATE sessions SET partial = 1, content = '' WHERE target = ? AND destination IN"
            " (SELECT destination FROM units WHERE target = ? AND address = ?)",
            [target, target, address],
        )
        for table in ("chunks", "rejects"):
            journal.change(
                f"DELETE FROM {table} WHERE target = ? AND unit IN (SELECT key FROM units WHERE target = ?"  # noqa: S608
                " AND (? IN (address, destination) OR substr(address, 1, ?) = ?))",
                [target, target, *below],
            )
        journal.change(
            "DELETE FROM units WHERE target = ? AND (? IN (address, destination) OR substr(address, 1, ?) = ?)",
            [target, *below],
        )
        journal.change(
            "DELETE FROM owed WHERE target = ? AND 'collection.' || collection = ?",
            [target, address],
        )
        for table, column in (("resources", "address"), ("sessions", "destination")):
            journal.change(
                f"DELETE FROM {table} WHERE target = ? AND ({column} = ? OR substr({column}, 1, ?) = ?)",  # noqa: S608
                [target, *below],
            )
    return len(gone)


def _refuse_uncertain(journal: Journal, target: str, address: str) -> None:
    """Raise where forgetting a data item would let its rows be sent twice."""
    made, doubt = journal.query(
        "SELECT total(json_array_length(c.key_ranges)), total(c.state = 'sent' AND u.address = ?) FROM chunks c"
        " JOIN units u ON u.target = c.target AND u.key = c.unit WHERE c.target = ? AND u.destination IN"
        " (SELECT destination FROM units WHERE target = ? AND address = ?)",
        [address, target, target, address],
    )[0]
    whole = address.partition(".data.")[0]
    if made:
        raise ConflictError(
            f"the keys of {whole} are made by the server (auto_id): without its records {address} would be sent twice",
            hint=f"forget all of it: vsync state rm {whole}; apply then refuses a collection that holds rows",
        )
    if doubt:
        raise ConflictError(
            f"{address} has chunks in doubt ({int(doubt):,}): their rows may be there",
            hint="apply first: it settles them; or forget all of it: vsync state rm " + whole,
        )


def _within(address: str, known: Mapping[str, Held]) -> list[str]:
    return [a for a in known if a == address or a.startswith(f"{address}.")]


def _one_kind(old: str, new: str) -> str | None:
    """Give what both addresses name: a ``partition``, ``data``, or ``None`` for a collection; raises UsageError."""
    was, now = _ADDRESS.match(old), _ADDRESS.match(new)
    if now is None or was is None:
        raise UsageError(f"{new} is no address that the state can know", hint="write collection.NAME, or one below it")
    if was["kind"] != now["kind"] or (was["kind"] and was["collection"] != now["collection"]):
        kind = f"collection.{was['collection']}.{was['kind']}.NAME" if was["kind"] else "collection.NAME"
        raise UsageError(f"{old} cannot become {new}", hint=f"write {kind}")
    return was["kind"]
