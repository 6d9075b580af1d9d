"""What the chaos suite did to each server, and what it says of it in the end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chaos import points
from chaos.content import Compared
from chaos.interruption import KINDS, LOSS, Interruption

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(slots=True)
class Tally:
    """The counts of one server. ``ended``: the points at which runs were ended; ``passed``: those that they passed."""

    server: str
    scenarios: int = 0
    losses: int = 0
    interruptions: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    passed: Counter[str] = field(default_factory=Counter)
    compared: Compared = field(default_factory=Compared)
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def count(self, interruption: Interruption) -> None:
        """Count an interruption that met its run."""
        if interruption.kind == LOSS:
            self.losses += 1
            return
        self.interruptions[interruption.kind] += 1
        if interruption.kind == "point":
            self.ended[interruption.at.rpartition(":")[0]] += 1


def never(tallies: Sequence[Tally]) -> list[str]:
    """Name the points that had to be passed and were not, and those of the protocol at which no run was ended."""
    must = points.expected({t.server for t in tallies})
    passed = {name for t in tallies for name in t.passed}
    ended = {name for t in tallies for name in t.ended}
    return sorted((must - passed) | ((must & points.protocol()) - ended))


def lines(tallies: Sequence[Tally]) -> Iterator[str]:
    """Say all of it."""
    yield _row("interruptions", [t.server for t in tallies], "all")
    for kind, text in KINDS.items():
        yield _counts(f"  {text}", [t.interruptions[kind] for t in tallies])
    yield _counts("  all", [t.interruptions.total() for t in tallies])
    yield _counts("scenarios", [t.scenarios for t in tallies])
    yield _counts("  in which rows were taken away between two runs", [t.losses for t in tallies])
    yield _row("interruptions a minute", [f"{60 * t.interruptions.total() / t.seconds:.1f}" for t in tallies], "")
    yield ""
    yield _row("fault points: runs that ended there / that passed", [t.server for t in tallies], "ended")
    for name in sorted({name for t in tallies for name in t.passed} | points.expected({t.server for t in tallies})):
        cells = [f"{t.ended[name]:,}/{t.passed[name]:,}" for t in tallies]
        yield _row(f"  {name}", cells, f"{sum(t.ended[name] for t in tallies):,}")
    yield ""
    interrupted = sum(t.interruptions.total() for t in tallies)
    scenarios = sum(t.scenarios for t in tallies)
    yield f"{interrupted:,} interruptions of {scenarios:,} scenarios, {sum_of(tallies)}."


def sum_of(tallies: Sequence[Tally]) -> Compared:
    return sum((t.compared for t in tallies), Compared())


def _counts(text: str, counts: Sequence[int]) -> str:
    return _row(text, [f"{count:,}" for count in counts], f"{sum(counts):,}")


def _row(text: str, cells: Sequence[str], last: str) -> str:
    return f"{text:50}" + "".join(f"{cell:>15}" for cell in cells) + f"{last:>8}"
