"""What the journal knows of sources, against what they are now: which chunks are done, and what came there otherwise.

A chunk brought the rows that had not lost a collision of keys when it was sent. It is done as long as the same rows of
it lose: others would be left out for good, or be where they should not.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from vsync.planning.facts import FileFacts

if TYPE_CHECKING:
    from collections.abc import Collection as Container
    from collections.abc import Sequence

    from vsync.connectors.base import Key
    from vsync.planning.facts import JournalFacts, SessionFacts, UnitFacts
    from vsync.planning.steps import Destination

_NONE: frozenset[int] = frozenset()


def left_out(dropped: Sequence[Key]) -> str:
    """Digest the rows of a chunk that lose; empty where none does."""
    return hashlib.sha256(repr(tuple(dropped)).encode()).hexdigest()[:16] if dropped else ""


def done(u: UnitFacts, journal: JournalFacts) -> frozenset[int]:
    """Give the chunks that were acknowledged, and would bring the same rows now."""
    return journal.acked.get(u.unit.key, _NONE) - _others(u, journal)


def doubted(u: UnitFacts, journal: JournalFacts) -> frozenset[int]:
    """Give the chunks in doubt that would bring the same rows now."""
    return journal.in_doubt.get(u.unit.key, _NONE) - _others(u, journal)


def _others(u: UnitFacts, journal: JournalFacts) -> frozenset[int]:
    """Give the chunks that left out other rows than they would now."""
    key = u.unit.key
    were = journal.left_out.get(key, {})
    if not (were or u.losers):
        return _NONE
    sent = journal.acked.get(key, _NONE) | journal.in_doubt.get(key, _NONE)
    return frozenset(n for n in sent if n < len(u.bounds) and were.get(n, "") != left_out(u.losers_within(u.bounds[n])))


def as_sent(units: Sequence[UnitFacts], journal: JournalFacts) -> bool:
    """Whether all chunks that were sent would bring the same rows now."""
    return not any(_others(u, journal) for u in units)


def moved(units: Sequence[UnitFacts], journal: JournalFacts) -> list[UnitFacts]:
    """Give the sources that are not as an apply last saw them."""
    return [u for u in units if differs(u, was(u, journal))]


def differs(u: UnitFacts, before: FileFacts) -> bool:
    """Whether a source is another one than it was. Of a collection each session has a cut of its own."""
    now = u.unit.content
    if not u.unit.lives:
        return before.content != now
    return before.content.partition("@")[0] != now.partition("@")[0]


def was(u: UnitFacts, journal: JournalFacts) -> FileFacts:
    """Give the file as an apply last saw it: as it is now, if none did."""
    return journal.files.get((u.unit.address, u.unit.path), FileFacts(u.unit.content, u.unit.rows, u.unit.modified))


def goes_on(
    content: str,
    write: str,
    old: SessionFacts | None,
    units: Sequence[UnitFacts],
    journal: JournalFacts,
    *,
    auto_id: bool = False,
) -> bool:
    """Tell whether a session that has not ended can go on: it is of the same data, written in the same way.

    Else what it brought counts as there before. Rows with keys of the server's making are told apart by their chunks.
    """
    if old is None or old.done or moved(units, journal):
        return False
    same = old.content in {"", content} and old.write in {"", write}
    return auto_id or (same and as_sent(units, journal))


def copied_otherwise(
    to: Destination, units: Sequence[UnitFacts], journal: JournalFacts, present: Container[str]
) -> UnitFacts | None:
    """Find a source whose rows were brought to this collection as another unit: in another mapping, or elsewhere in it.

    ``present`` are the keys of the units that the spec has: what is meant to be there twice.
    """
    ours = f"collection.{to.collection}"
    before = [
        (path, content.partition("@")[0])
        for key, destination, path, content in journal.brought
        if key not in present and (destination == ours or destination.startswith(f"{ours}.partition."))
    ]
    paths, contents = {path for path, _ in before}, {content for _, content in before}
    for u in units:
        new = not (journal.acked.get(u.unit.key) or journal.in_doubt.get(u.unit.key))
        if new and (u.unit.path in paths or u.unit.content.partition("@")[0] in contents):
            return u
    return None
