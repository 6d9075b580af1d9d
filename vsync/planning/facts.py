"""What planning is told: the facts of the sources, of the journal and of the target, gathered beforehand."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vsync.connectors.base import KeyRange
from vsync.schema import DEFAULT_PARTITION

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vsync.connectors.base import Bounds, Key
    from vsync.errors import Problem
    from vsync.planning.mend import Mend
    from vsync.planning.steps import Unit
    from vsync.planning.wanted import Wanted
    from vsync.schema import Collection, Index, LiveCollection


@dataclass(frozen=True, slots=True)
class UnitFacts:
    """A unit, how it is cut, and which of its rows lost a collision of keys.

    ``losers`` are the numbers of rows of a file, and the keys of a collection; ascending. ``surplus`` entities are
    counted in a collection beyond one for each of its keys. ``unfit`` rows are on record as not fitting, and not cut
    again. ``moves``: others may write there while it is read.
    """

    unit: Unit
    bounds: tuple[Bounds, ...]
    losers: tuple[Key, ...] = ()
    surplus: int = 0
    unfit: int = 0
    moves: bool = False

    def losers_within(self, bounds: Bounds) -> tuple[Key, ...]:
        """Give those of its losers that a chunk holds."""
        return losers_within(self.losers, bounds)


def losers_within(losers: Sequence[Key], bounds: Bounds) -> tuple[Key, ...]:
    """Give those of a unit's losers, ascending, that a chunk holds: numbers of rows of a file, keys of a collection."""
    within = bounds.keys or KeyRange(bounds.lo, bounds.hi)
    first = 0 if within.lo is None else bisect_left(losers, within.lo)
    last = len(losers) if within.hi is None else bisect_left(losers, within.hi)
    return tuple(losers[first:last])


OVERTAKEN = "overtaken"
"""The content of a session over whose rows those of other data were written."""


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """What the journal knows of the last time that rows were brought to a destination.

    ``before`` and ``left`` are the counts at its beginning and end, ``None`` where it was not counted or has not ended.
    ``ended`` is when it ended; ``checked`` is when its rows were last compared with the data and were equal,
    ``checked_how``: ``keys`` or ``content``.
    ``partial``: not all that is left of it is known, for the state is a backup brought back, part of it was forgotten,
    or the destination was about to be emptied. ``uneven``: the count at its end was not what it should be, which
    ``left`` is. ``write`` is how it wrote.
    """

    epoch: int
    session: int
    done: bool
    content: str
    collection_id: str
    probe: bool
    before: int | None
    left: int | None
    skipped: bool = False
    checked: str | None = None
    checked_how: str | None = None
    partial: bool = False
    uneven: bool = False
    ended: str | None = None
    write: str = ""

    @property
    def overtaken(self) -> bool:
        """Whether rows of other data may have been written over those that it brought: its chunks count for nothing."""
        return self.content == OVERTAKEN

    def is_of(self, live: LiveCollection | None, partition: str | None, *, auto_id: bool) -> bool:
        """Tell whether a destination is still the one that rows were brought to, and not one of the same name.

        A partition may be gone too. Where the server makes the keys, lost rows are found by counting.
        """
        if live is None or live.id != self.collection_id:
            return False
        made = live.schema.partitions
        return auto_id or made is None or partition in {None, DEFAULT_PARTITION, *made}


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A file as an apply last saw it."""

    content: str
    rows: int
    modified: int


@dataclass(frozen=True, slots=True)
class Owed:
    """What an apply has taken away on its way and not given back yet: being loaded, or an alias of a collection."""

    kind: str
    name: str
    collection: str


@dataclass(frozen=True, slots=True)
class JournalFacts:
    """What the journal knows of one target.

    ``collections`` maps those that vsync created, or was about to, to whether it finished them, ``ids`` to their ids,
    ``None`` where it was stopped before it learned it. ``acked`` and ``in_doubt`` map a unit's key to the numbers of
    its chunks in the destination's present epoch. ``files`` maps a unit's address and path to what it last was. To the
    collections ``partial`` more rows may have been brought than is known, for the state is a backup brought back.
    ``left_out`` maps a unit's key to its chunks of which rows lost a collision, and these to which: see
    :func:`vsync.planning.known.left_out`. ``brought`` are the units of which chunks were sent in the present epoch:
    key, destination, path and content. ``left_alone`` are the destinations where rows of others kept their place.
    """

    collections: dict[str, bool] = field(default_factory=dict)
    ids: dict[str, str | None] = field(default_factory=dict)
    sessions: dict[str, SessionFacts] = field(default_factory=dict)
    acked: dict[str, frozenset[int]] = field(default_factory=dict)
    in_doubt: dict[str, frozenset[int]] = field(default_factory=dict)
    files: dict[tuple[str, str], FileFacts] = field(default_factory=dict)
    owed: frozenset[Owed] = frozenset()
    partial: frozenset[str] = frozenset()
    left_out: dict[str, dict[int, str]] = field(default_factory=dict)
    brought: tuple[tuple[str, str, str, str], ...] = ()
    left_alone: frozenset[str] = frozenset()

    def owns(self, collection: str, live: LiveCollection | None) -> bool:
        """Tell whether vsync made what is there: not where somebody dropped that and made another under its name."""
        address = f"collection.{collection}"
        made = self.ids.get(address)
        return address in self.collections and (live is None or made is None or made == live.id)

    def unfinished(self, collection: str, live: LiveCollection | None) -> bool:
        """Tell whether vsync made what is there, and was stopped before it had all that its plan gave it."""
        return self.owns(collection, live) and self.collections[f"collection.{collection}"] is False


@dataclass(frozen=True, slots=True)
class TargetFacts:
    """What was observed of the target, and its pure judgements.

    ``keeps``: it neither indexes nor loads. ``unfinished`` are the collections of which something was
    written that is not sealed.
    """

    identity: str
    label: str
    database: str
    has_database: bool
    live: dict[str, LiveCollection]
    aliases: dict[str, str]
    judge: Callable[[Collection], list[Problem]]
    same_index: Callable[[Index, Index], bool]
    keeps: bool = False
    unfinished: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a plan is built from, beside the spec.

    ``collisions`` are keys that the data holds twice. ``compared`` maps a destination to what differs there from its
    data, where that was looked at.
    """

    target: TargetFacts
    journal: JournalFacts
    wanted: dict[str, Wanted]
    units: tuple[UnitFacts, ...]
    collisions: tuple[Problem, ...] = ()
    compared: dict[str, Mend] = field(default_factory=dict)
