"""Dropping what vsync made: the other end of bringing an environment up from a spec."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from vsync.api import refuse_unapproved, state_path, target_of
from vsync.errors import StoppedError, UsageError, VsyncError
from vsync.planning import destruction
from vsync.planning.build import observed_digest
from vsync.planning.choice import Choice
from vsync.planning.steps import Plan
from vsync.planning.words import describe
from vsync.spec import StoreTarget

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from vsync.applying.events import Report
    from vsync.applying.settings import Settings, Stop
    from vsync.connectors.base import Target
    from vsync.planning.facts import JournalFacts
    from vsync.spec import Spec
    from vsync.state.journal import Journal


def destroy(
    spec: Spec,
    *,
    state: Path | None = None,
    choice: Choice | None = None,
    settings: Settings | None = None,
    stop: Stop | None = None,
    report: Report | None = None,
    confirm: Callable[[Plan], bool] | None = None,
) -> Plan:
    """Drop the collections that vsync made, with their rows and aliases, and forget them; gives the plan of it.

    Each must be named by ``choice.allow_destroy``. Collections that vsync did not make are left, and so are databases.
    ``confirm(plan)`` is asked before anything is dropped. Raises ConflictError where something is not allowed to go or
    was not agreed to, StalePlanError where a collection becomes another one meanwhile.
    """
    from vsync.applying.settings import Settings as DefaultSettings
    from vsync.applying.settings import Stop as NoStop
    from vsync.state.file import make_folder
    from vsync.state.journal import Journal, holder
    from vsync.state.lock import locked

    if isinstance(spec.target, StoreTarget):
        raise UsageError(
            "destroy drops collections of a Milvus, and the target is files",
            where=spec.where("target"),
            hint="remove the folder of an export; vsync forget and vsync prune empty a repository of backups",
        )
    path = state_path(spec, state)
    make_folder(path.parent)
    with locked(path, holder()), closing(Journal(path)) as journal, target_of(spec) as target:
        made = _plan(spec, target, journal.facts(target.identity), choice or Choice())
        refuse_unapproved(made, confirm)
        if made.empty:
            return made
        run, code = journal.begin_run(made.target, made.id), 1
        try:
            _drop(made, target, journal, settings or DefaultSettings(), stop or NoStop(), report or (lambda _: None))
            code = 0
        except VsyncError as e:
            code = e.exit_code
            raise
        finally:
            journal.end_run(run, code)
    return made


def _plan(spec: Spec, target: Target, journal: JournalFacts, choice: Choice) -> Plan:
    there = target.has_database()
    names = destruction.known_names(spec, journal)
    destruction.refuse_others(choice, names)
    live = target.observe(names) if there else {}
    aliases = target.aliases() if there else {}
    changes = tuple(destruction.changes(spec, journal, live, aliases, choice))
    conflicts = tuple(destruction.conflicts(changes, choice))
    return Plan(
        spec=spec.long(),
        spec_name=spec.name or "vsync.yaml",
        folder=str(spec.folder),
        spec_digest=spec.digest,
        target=target.identity,
        target_label=target.label,
        observed={name: observed_digest(live.get(name)) for name in names},
        collections={},
        destinations=(),
        units=(),
        steps=() if conflicts else destruction.steps(changes),
        changes=changes,
        conflicts=conflicts,
        allow_destroy=choice.allow_destroy,
    )


def _drop(made: Plan, target: Target, journal: Journal, settings: Settings, stop: Stop, report: Report) -> None:
    """Drop one after the other; what is dropped is forgotten, so that a destruction which was killed goes on."""
    from vsync.applying.events import StepBegan, StepEnded
    from vsync.applying.identity import Identities
    from vsync.applying.retry import Retry
    from vsync.state.moving import forget

    retry = Retry(report, settings.retries, settings.max_downtime, stop)
    identities = Identities(target, retry)
    identities.look(made)
    for step in destruction.steps(made.changes):
        if stop.is_set():
            raise StoppedError("Stopped; what was dropped is forgotten", signal=stop.signal)
        text = describe(step, made)
        report(StepBegan(text))
        identities.check(step.collection)
        retry.call(target.drop_collection, step.collection)
        forget(journal, made.target, f"collection.{step.collection}")
        report(StepEnded(text))
