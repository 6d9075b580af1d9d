"""What moved on the target since it was last applied, by what the state knows (``plan --refresh-only``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vsync.errors import many
from vsync.planning.steps import Change
from vsync.schema import DEFAULT_PARTITION

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vsync.planning.choice import Choice
    from vsync.planning.facts import JournalFacts, SessionFacts
    from vsync.schema import LiveCollection


def known_collections(journal: JournalFacts) -> list[str]:
    """Name the collections that a state knows of a target."""
    return sorted({address.split(".")[1] for address in {*journal.collections, *journal.sessions}})


def refresh(journal: JournalFacts, live: Mapping[str, LiveCollection], choice: Choice) -> tuple[Change, ...]:
    """Compare what a state knows with what is there; what is as it was left is ``same``, all else ``warn``."""
    return tuple(
        change
        for name in known_collections(journal)
        if choice.takes(f"collection.{name}")
        for change in _collection(journal, name, live.get(name))
    )


def _collection(journal: JournalFacts, name: str, live: LiveCollection | None) -> Iterator[Change]:
    address = f"collection.{name}"
    if live is None:
        yield Change("warn", address, "is not there any more")
        return
    if journal.collections.get(address) is False:
        yield Change("warn", address, "vsync has not finished making it: apply goes on")
    below = {a: s for a, s in journal.sessions.items() if a == address or a.startswith(f"{address}.")}
    if any(s.collection_id != live.id for s in below.values()):
        yield Change("warn", address, "was dropped and made again: what vsync had brought there is gone")
        return
    for destination, session in sorted(below.items()):
        yield _destination(destination, session, live)
    if not below:
        yield Change("same", address, "is there; vsync has brought no rows")


def _destination(address: str, session: SessionFacts, live: LiveCollection) -> Change:
    partition = address.partition(".partition.")[2]
    if partition and partition not in (live.schema.partitions or ()):
        return Change("warn", address, "is not there any more")
    rows = live.partition_rows.get(partition or DEFAULT_PARTITION, live.rows) if live.partition_rows else live.rows
    left = session.left
    if not session.done:
        return Change("warn", address, "its rows are not all applied yet: apply goes on")
    if rows is None and session.uneven:
        return Change("warn", address, f"not counted: not loaded; it did not hold the {left:,} rows that it should")
    if rows is None or left is None:
        return Change("same", address, "not counted: not loaded" if rows is None else many(rows, "row"))
    if rows == left:
        return Change("same", address, f"{many(rows, 'row')}, as vsync left them")
    moved = f"{left - rows:,} are gone" if rows < left else f"{rows - left:,} are not from vsync"
    return Change("warn", address, f"{rows:,} rows, vsync left {left:,}: {moved}")
