"""What ``vsync check`` does, as a function: compare the data of a spec with what its target holds."""

from __future__ import annotations

import secrets
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vsync.api import both_ends, silent, state_path, view_of
from vsync.applying.settings import MAX_DOWNTIME
from vsync.errors import JournalError, LockedError, UsageError
from vsync.planning.choice import Choice
from vsync.spec import StoreTarget

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from vsync.applying.events import Event as ApplyEvent
    from vsync.applying.events import Waiting
    from vsync.checking import Side
    from vsync.checking.findings import Compared, Event, Finding, How
    from vsync.planning.steps import Plan
    from vsync.spec import Spec


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check came to. ``seed`` is what a sample was drawn by, ``repair`` the plan that mends what was found."""

    target_label: str
    compared: tuple[Compared, ...]
    seed: int | None = None
    repair: Plan | None = None

    @property
    def differences(self) -> int:
        """How many rows differ."""
        return sum(c.differences for c in self.compared)


def check(
    spec: Spec,
    *,
    how: How = "keys",
    sample: int = 0,
    seed: int | None = None,
    one_way: bool = False,
    repair: bool = False,
    state: Path | None = None,
    choice: Choice | None = None,
    transfers: int | None = None,
    retries: int | None = None,
    max_downtime: float = MAX_DOWNTIME,
    report: Callable[[Event | Waiting], None] | None = None,
) -> Checked:
    """Compare the rows that the data of a spec brings with those of its target; neither is written to.

    ``how`` is ``counts``, ``keys``, ``content``, or ``sample`` with the number of rows to draw. Every difference is
    reported as it is found. What fails for a moment is tried again, ``retries`` times or for ``max_downtime`` seconds,
    and a server that may still count old copies of replaced rows is waited for. Raises where sources or target cannot
    be read, ConflictError where they cannot be compared.
    """
    from vsync.applying.retry import Retry
    from vsync.applying.settings import TRANSFERS
    from vsync.checking import Checks, Ways, check_sides, mend_of, sides
    from vsync.observing import gather
    from vsync.planning.repair import repair_plan

    say = report or silent
    choice = choice or Choice()
    drawn_by = secrets.randbelow(2**32) if seed is None else seed
    path = state_path(spec, state)
    if repair and isinstance(spec.target, StoreTarget) and spec.target.snapshots:
        raise UsageError("a snapshot does not change: it cannot be repaired", hint="make another: vsync backup")

    def wait(event: ApplyEvent) -> None:
        say(event)  # type: ignore[arg-type]  # all that a retry reports is that it waits

    with both_ends(spec, choice, written=True) as (target, sources), view_of(path) as view:
        facts = gather(sources.spec, target, sources, view, choice, whole=True)
        found = sides(sources.spec, facts, choice, one_way=one_way)
        noted: list[Finding] = []
        retry, hear = Retry(wait, retries, max_downtime), _noting(say, noted) if repair else say
        ways = Ways(target, sources.use, retry.call, hear, transfers or TRANSFERS, retry.settled)
        compared = check_sides(found, ways, Checks(how, one_way, sample, drawn_by))
        mends = [mend_of(side, one, noted) for side, one in zip(found, compared, strict=True)]
        made = repair_plan(spec, facts, choice, mends) if repair else None
        done = Checked(target.label, tuple(compared), drawn_by if how == "sample" else None, made)
        identity = target.identity
    if not one_way:
        _record(path, identity, found, compared)
    return done


def _record(path: Path, target: str, sides: Sequence[Side], compared: Sequence[Compared]) -> None:
    """Record when destinations were found equal, where the state knows them and nobody writes it."""
    from vsync.state.journal import Journal, holder
    from vsync.state.lock import locked

    equal = [
        one
        for side, one in zip(sides, compared, strict=True)
        if side.session is not None and one.how in {"keys", "content"} and not (one.differences or one.left_out)
    ]
    if not equal or not path.exists():
        return
    # What a check found is so, whether the state can be written or not.
    with suppress(LockedError, JournalError), locked(path, holder()), closing(Journal(path)) as journal:
        for one in equal:
            journal.checked(target, one.address, one.how)


def _noting(say: Callable[[Event | Waiting], None], noted: list[Finding]) -> Callable[[Event | Waiting], None]:
    """Keep the findings that pass by, no more than can be mended."""
    from vsync.checking.findings import Found
    from vsync.planning.mend import MOST_ROWS

    def hear(event: Event | Waiting) -> None:
        if isinstance(event, Found) and len(noted) <= MOST_ROWS:
            noted.extend(event.findings)
        say(event)

    return hear
