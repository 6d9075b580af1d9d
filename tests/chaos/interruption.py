"""One interruption of an apply, and the choice of the next one."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from chaos import points

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping
    from pathlib import Path

KINDS = {
    "point": "SIGKILL of vsync at a fault point",
    "kill": "SIGKILL of vsync from outside",
    "server": "SIGKILL of the server, started again",
    "cut": "connection cut before the answer",
    "half": "connection cut half way through a request",
    "away": "connections refused for a while",
    "late": "SIGKILL of vsync, its request let go later",
}
LOSS = "loss"
"""No interruption: between two runs rows are gone that the server had acknowledged."""
FAILED = ("journal.failed.before", "journal.failed.after")
REOPENED = ("journal.reopen.before", "journal.reopen.after")
"""The points that a run passes where rows are refused, and where rows are gone whose keys the server made."""

EMBEDDED = {"point": 80.0, "kill": 17.0}
SERVED = {**EMBEDDED, "late": 3.0, "cut": 3.0, "half": 3.0, "away": 1.0}
LASTING = ("cut", "half", "away")
"""How often each is chosen. A run bears the last three, and comes to its end: one of them is always tried at last."""
POOL = 6
"""So many points where the fewest runs were ended are looked at."""
RARE = 20
"""A point that was passed so often is not rare."""
MOST_DONE = 0.8
"""A run that resumes takes some time, however little is left of it to do."""
WEIGHT = 3
"""At a point of the protocol itself runs are ended so often for once at another."""
BEGUN = "journal.begin_run.after"


@dataclass(frozen=True, slots=True)
class Interruption:
    """What happens, and when: a point and its passing, seconds from the start, or bytes towards the server.

    Of ``late`` both: the bytes before the request that is held back, and when in the next run it is let go.
    Of ``loss``, where among the chunks that are done.
    """

    kind: str
    at: str

    def __str__(self) -> str:
        return f"{self.kind}={self.at}"

    @classmethod
    def parse(cls, text: str) -> Interruption:
        kind, _, at = text.partition("=")
        if kind not in {*KINDS, LOSS} or not at:
            raise ValueError(f"{text!r} is no interruption: write one of {', '.join(KINDS)}, = and when")
        return cls(kind, at)


@dataclass(slots=True)
class Passed:
    """The points that a run passed in their order: while it planned, and since it had begun.

    A run that resumes plans again, and goes on where the one before was.
    """

    planning: list[str] = field(default_factory=list)
    working: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, log: Path) -> Passed:
        lines = log.read_text().splitlines() if log.exists() else []
        begun = lines.index(BEGUN) if BEGUN in lines else len(lines)
        return cls(lines[:begun], lines[begun:])

    def follow(self, more: Passed) -> None:
        """Add a run that went on; one that ended before it had begun says nothing of what the next will pass."""
        if more.working:
            self.planning = more.planning
        self.working += more.working


class Known(Protocol):
    """How many runs were ended at each point so far, and how many passed it."""

    @property
    def ended(self) -> Counter[str]: ...

    @property
    def passed(self) -> Counter[str]: ...


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a run of a shape did that was not interrupted."""

    passed: Passed
    seconds: float
    nbytes: int


def choose(
    odds: Mapping[str, float], whole: Recorded, so_far: Passed, known: Known, chance: random.Random
) -> Interruption:
    """Choose the next interruption of a scenario that has come ``so_far`` of the ``whole``."""
    kind = chance.choices(list(odds), list(odds.values()))[0]
    if kind == "point":
        name, passing = _point(whole.passed, so_far, known, chance)
        return Interruption(kind, f"{name}:{passing}")
    left = 1 - min(len(so_far.working) / len(whole.passed.working), MOST_DONE)
    seconds = f"{chance.random() * whole.seconds * left:.3f}"
    nbytes = str(int(chance.random() ** 2 * whole.nbytes * left))
    at = {"cut": nbytes, "half": nbytes, "late": f"{nbytes}:{seconds}"}
    return Interruption(kind, at.get(kind, seconds))


def _point(whole: Passed, so_far: Passed, known: Known, chance: random.Random) -> tuple[str, int]:
    """Take a point that is still to be passed, where few runs were ended.

    Of several rather one that is rare, or the one that comes first: the others are still to come.
    """
    planning = so_far.planning or whole.planning
    left = Counter(whole.working) - Counter(so_far.working) + Counter(planning)
    protocol = points.protocol()

    def rank(name: str) -> tuple[int, bool, float]:
        ended = known.ended[name] // (WEIGHT if name in protocol else 1)
        return ended, name not in protocol, min(1 + known.passed[name], RARE) * chance.random()

    least = sorted(left, key=rank)[:POOL]
    order = [*planning, *whole.working]
    name = chance.choice([least[0], chance.choice(least), min(least, key=order.index)])
    return name, 1 + int(left[name] * chance.random() ** 2)
