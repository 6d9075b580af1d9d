"""What a check finds and how far it is, as frozen data handed to a callable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from vsync.connectors.base import Key

How = Literal["keys", "content", "counts", "sample"]
Symbol = Literal["+", "-", "*", "2", "!"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One row that differs.

    ``+`` only in the source, ``-`` only in the target, ``*`` in both but different (``detail`` names the fields),
    ``2`` there more than once, ``!`` could not be read. ``key`` is ``None`` where it is not known: of a row of the
    source whose key the server makes. ``unit`` and ``row`` are its place in the source, -1 where it is not there.
    ``copies`` is how often the target holds it, where that was counted; where ``key`` is not known, the rows meant.
    ``taken``: its key is there, in a row that the scope leaves out.
    """

    symbol: Symbol
    address: str
    key: Key | None
    detail: str = ""
    unit: int = -1
    row: int = -1
    copies: int = 1
    taken: bool = False


@dataclass(frozen=True, slots=True)
class CheckBegan:
    """A destination begins to be compared: about how many rows of both sides are read."""

    address: str
    rows: int


@dataclass(frozen=True, slots=True)
class RowsRead:
    """Rows were read, of either side."""

    address: str
    rows: int


@dataclass(frozen=True, slots=True)
class Found:
    """Rows that differ; those of one destination come sorted by key, as far as memory allows."""

    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Compared:
    """What became of one destination.

    ``source`` and ``target`` are the rows that it should hold and those it was counted to hold; of a sample, ``source``
    are the rows that were looked at. ``beyond`` are rows of the target that its data does not account for, whether
    they are a difference or not; ``outside`` are those that its scope leaves out, ``taken`` of them those that have
    keys of missing rows. ``left_out`` says why it was not compared, where it was not.
    """

    address: str
    how: How
    source: int
    target: int
    missing: int = 0
    extra: int = 0
    changed: int = 0
    doubled: int = 0
    unreadable: int = 0
    beyond: int = 0
    outside: int = 0
    taken: int = 0
    one_way: bool = False
    left_out: str = ""
    seconds: float = field(default=0.0, compare=False)

    @property
    def differences(self) -> int:
        """How many rows differ."""
        if self.how != "counts":
            return self.missing + self.extra + self.changed + self.doubled + self.unreadable
        fewer = self.source - self.target
        return max(0, fewer) if self.one_way else abs(fewer)


Event = CheckBegan | RowsRead | Found | Compared
Report = Callable[[Event], None]
