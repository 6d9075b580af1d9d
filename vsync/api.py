"""What the commands do, as functions: load a spec, plan, apply, status. The command line adds nothing but words."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vsync.errors import (
    ConflictError,
    MismatchError,
    StalePlanError,
    TargetError,
    TransientError,
    VsyncError,
    many,
    refused,
)
from vsync.planning.approval import CHECK_AGAIN, check_approved, check_found
from vsync.planning.build import build_plan
from vsync.planning.choice import Choice
from vsync.planning.steps import Plan
from vsync.spec import Places, Spec, parse_spec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vsync.applying.events import Report, Settled
    from vsync.applying.settings import Settings, Stop
    from vsync.checking.findings import Event
    from vsync.connectors.base import Target
    from vsync.errors import Problem
    from vsync.opening import Sources
    from vsync.planning.steps import Change
    from vsync.state.journal import Journal
    from vsync.state.view import RunRecord, View


@dataclass(frozen=True, slots=True)
class Result:
    """What an apply did: the balance of each destination, and where rejected rows are written to."""

    plan: Plan
    settled: tuple[Settled, ...]
    rejects: Path | None = None

    @property
    def rejected(self) -> int:
        """Rows that did not fit and were skipped."""
        return sum(s.rejected for s in self.settled)


@dataclass(frozen=True, slots=True)
class Item:
    """How far one file of a data item is."""

    address: str
    path: str
    chunks: int
    done: int
    in_doubt: int
    rows: int
    rows_done: int


@dataclass(frozen=True, slots=True)
class Status:
    """What a state knows of its last run; ``running`` while its process is alive.

    ``rows_per_second`` is the pace of its last chunks, ``eta`` the seconds that the rows still to copy take at it.
    """

    run: RunRecord | None
    running: bool
    items: tuple[Item, ...]
    rejects: int
    rows_per_second: float | None = None
    eta: float | None = None


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What moved on a target since it was last applied."""

    target_label: str
    changes: tuple[Change, ...]

    @property
    def moved(self) -> bool:
        """Whether anything is not as it was left."""
        return any(c.action != "same" for c in self.changes)


def status(state: Path) -> Status:
    """Read a state, also while an apply writes it; an absent one knows nothing."""
    from vsync.state.lock import is_held

    with view_of(state) as view:
        run = view.last_run() if view else None
        if view is None or run is None:
            return Status(None, running=False, items=(), rejects=0)
        items = tuple(Item(*row) for row in view.progress(run.target))
        left, pace = sum(i.rows - i.rows_done for i in items), view.pace(run)
        running = run.ended is None and is_held(state)
        eta = left / pace if pace and running else None
        return Status(run, running, items, len(view.rejects(run.target)), pace, eta)


def state_path(spec: Spec | Plan, state: Path | None = None) -> Path:
    """Say where the state of a spec lies: ``.vsync/NAME.db`` beside it, or where it was told to be."""
    if state is not None:
        return state
    name = (spec.name or "vsync.yaml") if isinstance(spec, Spec) else spec.spec_name
    return Path(spec.folder) / ".vsync" / f"{Path(name).stem}.db"


def plan(
    spec: Spec,
    *,
    state: Path | None = None,
    choice: Choice | None = None,
    deep: bool = False,
    report: Callable[[Event], None] | None = None,
) -> Plan:
    """Compare a spec with its sources and its target, and say what it takes; nothing is written anywhere.

    Conflicts are in ``plan.conflicts``; raises where sources or target cannot be read at all. ``report`` hears how far
    a comparison is that a mirror needs (the events of :mod:`vsync.checking.findings`).
    """
    path = state_path(spec, state)
    choice = choice or Choice()
    with both_ends(spec, choice) as (target, sources), view_of(path) as view:
        made = make_plan(spec, target, sources, view, choice, report=report)
        return _deepened(made, target, sources) if deep else made


def refresh(spec: Spec, *, state: Path | None = None, choice: Choice | None = None) -> Refreshed:
    """Compare a target with what the state knows of it: counts, identities, what is missing; plans nothing."""
    from vsync.planning.facts import JournalFacts
    from vsync.planning.refresh import known_collections
    from vsync.planning.refresh import refresh as compare

    with target_of(spec) as target, view_of(state_path(spec, state)) as view:
        known = view.facts(target.identity) if view else JournalFacts()
        live = target.observe(known_collections(known)) if target.has_database() else {}
        return Refreshed(target.label, compare(known, live, choice or Choice()))


def make_plan(
    spec: Spec,
    target: Target,
    sources: Sources,
    view: View | None,
    choice: Choice,
    saved: Plan | None = None,
    *,
    report: Callable[[Event], None] | None = None,
) -> Plan:
    """Look at both ends and at the state, and plan; what a ``saved`` plan has frozen stays as it is there."""
    from vsync.observing import gather

    finished = saved is not None and view is not None and view.has_finished(target.identity, saved.id)
    frozen = None if finished else saved
    facts = gather(sources.spec, target, sources, view, choice, saved=frozen, report=report or silent)
    made = build_plan(sources.spec, facts, choice)
    return replace(made, spec=spec.long(), spec_digest=spec.digest)


def _deepened(made: Plan, target: Target, sources: Sources) -> Plan:
    from vsync.observing.deep import look_deep

    changes, conflicts = look_deep(made, target, sources)
    return replace(made, changes=changes, conflicts=(*made.conflicts, *conflicts))


def apply(
    what: Spec | Plan,
    *,
    state: Path | None = None,
    choice: Choice | None = None,
    settings: Settings | None = None,
    stop: Stop | None = None,
    report: Report | None = None,
    confirm: Callable[[Plan], bool] | None = None,
) -> Result:
    """Make the target hold what the spec says; a saved plan is carried out only as far as it was approved.

    ``confirm(plan)`` is asked before anything is written, for a spec; ``False`` ends with ConflictError. Raises
    MismatchError at the end where counts differ or rows were rejected.
    """
    from vsync.applying.settings import Settings as DefaultSettings
    from vsync.applying.settings import Stop as NoStop
    from vsync.state.file import make_folder
    from vsync.state.journal import Journal, holder
    from vsync.state.lock import locked

    saved = what if isinstance(what, Plan) else None
    spec = spec_of(saved) if saved else what
    assert isinstance(spec, Spec)
    path = state_path(saved or spec, state)
    choice = Choice(saved.only, saved.leave_out, saved.allow_destroy) if saved else choice or Choice()
    make_folder(path.parent)
    with locked(path, holder()), closing(Journal(path)) as journal, both_ends(spec, choice) as (target, sources):
        fresh = make_plan(spec, target, sources, journal, choice, saved)
        if saved is not None and saved.repairs:
            if journal.has_finished(fresh.target, saved.id):
                raise StalePlanError("this repair was carried out already", hint=f"check again: {CHECK_AGAIN}")
            fresh = check_found(saved, fresh, resumes=journal.has_run(fresh.target, saved.id))
        else:
            refuse_unapproved(fresh, None if saved else confirm)
            if saved is not None:
                check_approved(saved, fresh, resumes=journal.has_run(fresh.target, saved.id))
        journal.restart(fresh.target, [u for u in fresh.units if choice.restarts(u.address, u.destination)])
        return _carry_out(
            fresh,
            saved or fresh,
            target,
            sources,
            journal,
            settings or DefaultSettings(),
            stop or NoStop(),
            report or silent,
        )


def _carry_out(
    fresh: Plan,
    approved: Plan,
    target: Target,
    sources: Sources,
    journal: Journal,
    settings: Settings,
    stop: Stop,
    report: Report,
) -> Result:
    from vsync.applying.run import carry_out
    from vsync.init import check_import, write_import

    check_import(sources.spec)
    journal.saw(fresh.target, fresh.units)
    run = journal.begin_run(fresh.target, approved.id)
    code = 1
    try:
        settled = carry_out(fresh, target, journal, sources, settings, stop, report)
        write_import(sources.spec, target)
        code = 3 if any(s.rejected for s in settled) else 0
    except VsyncError as e:
        code = e.exit_code
        raise
    finally:
        journal.end_run(run, code)
    result = Result(fresh, tuple(settled), _write_rejects(journal, fresh.target))
    if result.rejected:
        raise MismatchError(
            f"finished, but {many(result.rejected, 'row')} did not fit, skipped as on_bad_row says",
            where=str(result.rejects),
            hint="each is listed there with its row number, field, value and reason",
        )
    return result


def refuse_unapproved(made: Plan, confirm: Callable[[Plan], bool] | None) -> None:
    """Raise ConflictError where a plan has conflicts, or is not agreed to."""
    if made.conflicts:
        raise refused(list(made.conflicts))
    if confirm is not None and not made.empty and not confirm(made):
        raise ConflictError("nothing was done: it was not agreed to")


def spec_of(saved: Plan) -> Spec:
    """Rebuild the spec that a plan was made from; secrets are resolved anew."""
    text = json.dumps(saved.spec, ensure_ascii=False)
    spec = parse_spec(text, name=saved.spec_name, folder=Path(saved.folder))
    return spec.placed(Places(saved.spec_name), Path(saved.folder))  # it is nowhere in the file as it is now


@contextmanager
def target_of(spec: Spec, *, written: bool = False) -> Iterator[Target]:
    """Open a spec's target, to compare it where it is ``written``; one that is not there stays so for now."""
    from vsync.opening import open_to

    with closing(open_to(spec, written=written)) as target:
        yield target


@contextmanager
def both_ends(spec: Spec, choice: Choice, *, written: bool = False) -> Iterator[tuple[Target, Sources]]:
    """Open a spec's target, and the sources of its data; what it copies as it is is found out by asking for it.

    Where the target cannot be opened, what is wrong with the sources is told, too.
    """
    from vsync.opening import Sources

    with ExitStack() as stack:
        try:
            target = stack.enter_context(target_of(spec, written=written))
        except TargetError as error:
            wrong, away = _wrong_sources(spec, choice)
            more = [p for p in (*wrong, *away) if p not in error.problems]
            # Waiting for the servers does not mend what is wrong with the data.
            kind = TransientError if isinstance(error, TransientError) and not wrong else TargetError
            raise (kind([*error.problems, *more]) if more else error) from error
        yield target, stack.enter_context(closing(Sources(spec)))


def _wrong_sources(spec: Spec, choice: Choice) -> tuple[list[Problem], list[Problem]]:
    """Name what is wrong with the sources, and those that are away for the moment."""
    from vsync.observing import open_items
    from vsync.opening import Sources

    problems: list[Problem] = []
    try:
        with closing(Sources(spec)) as sources:
            for name in (n for n in sources.spec.collections if choice.takes(f"collection.{n}")):
                open_items(sources.spec, name, sources, problems)
    except TransientError as error:
        return problems, list(error.problems)
    except VsyncError as error:
        problems += error.problems
    return problems, []


@contextmanager
def view_of(path: Path) -> Iterator[View | None]:
    """Open a state for reading; ``None`` where there is none."""
    from vsync.state.view import View as Opened

    if not path.exists():
        yield None
        return
    with closing(Opened(path)) as view:
        yield view


def silent(_event: object) -> None:
    """Report nothing."""


def _write_rejects(journal: Journal, target: str) -> Path | None:
    """Write the rejected rows beside the state, one JSON object a line; where there are none there is no file."""
    from vsync.state.file import translated

    rows = journal.rejects(target)
    path = journal.path.with_suffix(".rejects.jsonl")
    with translated(path):
        if not rows:
            path.unlink(missing_ok=True)
            return None
        handle = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return path
