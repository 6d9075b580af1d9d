"""Applies to the model of a server as processes that die: the plan, the journal and the copy loop are the real ones."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import stamina
from model_target import Faults, KilledError, ModelTarget, Server

from vsync.applying.run import carry_out
from vsync.applying.settings import Settings, Stop
from vsync.errors import TransientError
from vsync.observing import gather
from vsync.opening import Sources
from vsync.planning.build import build_plan
from vsync.state.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vsync.applying.events import Event, Settled
    from vsync.planning.choice import Choice
    from vsync.planning.steps import Plan
    from vsync.spec import Spec
    from vsync.state.view import View

TRIES = 60


class MortalJournal(Journal):
    """The real journal, in a process that may die before and after each of its transitions."""

    def __init__(self, path: Path, faults: Faults) -> None:
        super().__init__(path)
        self.faults = faults

    @contextmanager
    def _commit(self, name: str) -> Iterator[None]:
        self.faults.pass_moment()
        with super()._commit(name):
            yield
        self.faults.pass_moment()


def make_plan(spec: Spec, target: ModelTarget, view: View | None, choice: Choice) -> Plan:
    made = build_plan(spec, gather(spec, target, Sources(spec), view, choice), choice)
    assert not made.conflicts, made.conflicts
    return made


def quiet(_event: Event) -> None:
    """Hear nothing."""


def apply_once(spec: Spec, server: Server, state: Path, faults: Faults, choice: Choice) -> list[Settled]:
    """Be one process that applies; a kill leaves its journal as it is, open."""
    target, journal = ModelTarget(server, faults), MortalJournal(state, faults)
    made = make_plan(spec, target, journal, choice)
    journal.begin_run(made.target, made.id)
    settled = carry_out(made, target, journal, Sources(spec), Settings(transfers=2), Stop(), quiet)
    journal.close()
    return settled


def apply_until_done(spec: Spec, server: Server, state: Path, faults: Faults, choice: Choice) -> list[Settled]:
    """Run the same command again until it ends by itself."""
    with stamina.set_testing(testing=True, attempts=2, cap=True):
        for _ in range(TRIES):
            try:
                return apply_once(spec, server, state, faults, choice)
            except (KilledError, TransientError):  # noqa: PERF203 - each round is a process of its own
                continue
    raise AssertionError(f"not done after {TRIES} tries")
