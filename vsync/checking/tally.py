"""What was found at one destination, added up and told as it comes."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vsync.checking.findings import Compared, Finding, Found

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vsync.checking.findings import How, Report, Symbol
    from vsync.connectors.base import Key, KeyRange


@dataclass(frozen=True, slots=True)
class Odd:
    """What is odd of a key: it is there more than once, or its row cannot be read."""

    symbol: Symbol
    detail: str
    copies: int = 1


@dataclass(slots=True)
class Tally:
    """The findings of one destination. ``odd`` are keys that are doubled or unreadable; ``compared`` says the rest.

    ``mark`` marks findings before they are told.
    """

    address: str
    how: How
    one_way: bool
    report: Report
    mark: Callable[[Sequence[Finding]], Sequence[Finding]] | None = None
    source: int = 0
    target: int = 0
    outside: int = 0
    taken: int = 0
    found: Counter[Symbol] = field(default_factory=Counter)
    beyond: int = 0
    odd: dict[Key, Odd] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    def tell(self, findings: Sequence[Finding]) -> None:
        """Add findings; where only one way counts, those of rows that the source has."""
        kept = []
        for f in self.mark(findings) if self.mark else findings:
            alone = f.unit < 0
            self.taken += f.taken
            self.beyond += alone * (f.copies - 1 if f.symbol == "2" else 1)
            if not (alone and self.one_way):
                kept.append(f)
        self.found.update(f.symbol for f in kept)
        if kept:
            self.report(Found(tuple(kept)))

    def vague(self, found: Sequence[tuple[Symbol, int, KeyRange]]) -> None:
        """Add rows that are counted in a range of keys, and cannot be told by key."""
        for symbol, rows, keys in found:
            self.found[symbol] += rows
            lo, hi = ("the first" if keys.lo is None else keys.lo), ("the last" if keys.hi is None else keys.hi)
            detail = f"counted beyond the keys that were read, from {lo} to {hi}: {rows}"
            self.report(Found((Finding(symbol, self.address, None, detail, copies=rows),)))

    def compared(self) -> Compared:
        """Sum it up."""
        return Compared(
            address=self.address,
            how=self.how,
            source=self.source,
            target=self.target,
            missing=self.found["+"],
            extra=self.found["-"],
            changed=self.found["*"],
            doubled=self.found["2"],
            unreadable=self.found["!"],
            beyond=self.beyond,
            outside=self.outside,
            taken=self.taken,
            one_way=self.one_way,
            seconds=time.monotonic() - self.began,
        )
