"""The rows that are wanted at a destination, against what the journal and the target know of it: what is to be copied.

A destination is brought rows in *sessions*; the counts at the beginning and the end of each are in the journal. Chunks
that were acknowledged stay done for the destination's *epoch*, which ends when its content begins anew: the collection
was dropped or replaced, the destination was cleared, or rows that vsync had left there are gone or written over.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from vsync.errors import Problem, many
from vsync.planning import known, mirror
from vsync.planning.copies import copy_change
from vsync.planning.mend import MOST_ROWS
from vsync.planning.steps import Change, Destination, content_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vsync.planning.facts import JournalFacts, SessionFacts, UnitFacts
    from vsync.planning.mend import Mend
    from vsync.schema import LiveCollection

KEPT = "rows that were there already keep their content, which was not compared: vsync check --full does"


@dataclass(frozen=True, slots=True)
class Brought:
    """What is to be done at one destination. ``pending`` maps a unit's key to its chunks that are not done.

    ``mend``: rows are deleted, and those that are not pending in chunks are written again.
    """

    destination: Destination
    state: Literal["same", "work", "skip"]
    clear: bool
    pending: dict[str, tuple[int, ...]]
    changes: tuple[Change, ...]
    conflicts: tuple[Problem, ...] = ()
    mend: Mend | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a destination stands before the plan. ``live`` is ``None`` where its collection is still to be made.

    ``whole`` says that all its data takes part, rather than what ``--only`` and ``--except`` chose. ``restart`` are the
    keys of units whose rows are copied again although they are done. ``found`` is what differs from its data, where
    that was compared, ``may_delete`` how many of its rows mirroring may delete. ``present`` are the keys of all units.
    ``snapshot``: what is there was written for a backup that is not finished.
    """

    base: Destination
    live: LiveCollection | None
    rows: int | None
    ours: bool
    auto_id: bool
    allowed: bool
    whole: bool
    where: str | None
    restart: frozenset[str] = frozenset()
    found: Mend | None = None
    may_delete: int = 0
    present: frozenset[str] = frozenset()
    snapshot: bool = False

    @property
    def holds(self) -> bool:
        """Whether the collection may hold rows: a key is looked for in all of its partitions."""
        return self.rows is None or self.rows > 0 or bool(self.live and self.live.rows)

    @property
    def probes(self) -> bool:
        """Whether to ask which keys are there: nothing can be asked of a collection that is not loaded."""
        return (self.holds or not self.base.exclusive) and self.rows is not None


def bring(standing: Standing, units: Sequence[UnitFacts], journal: JournalFacts) -> Brought:
    """Decide what is to be copied to one destination."""
    base = standing.base
    base = replace(base, content=content_key([u.unit.key for u in units]), before=standing.rows)
    old = journal.sessions.get(base.address)
    if old is not None and not old.is_of(standing.live, base.partition, auto_id=standing.auto_id):
        base, old = replace(base, epoch=old.epoch, session=old.session), None
    elif old is not None:
        base = replace(base, epoch=old.epoch, session=old.session)
    if standing.live is None:
        return _work(_begin(base, before=0, probe=False), units, journal)
    if _uncertain(standing, old, units, journal):
        if base.write != "overwrite":
            return _refused(base, _cannot_believe(standing))
        standing, old = replace(standing, ours=False), None
    standing = replace(standing, base=base)
    if standing.found is not None and not standing.restart and _row_by_row(standing.found, base.write):
        return _mend(standing, standing.found, old, units, journal)
    decide = {"skip": _skip, "overwrite": _overwrite, "mirror": _mirror}.get(base.write, _append)
    made = decide(standing, old, units, journal)
    if made.state == "same" and not made.conflicts and old is not None and old.uneven and standing.rows is None:
        # Not loaded it cannot be counted here, and must not pass for right: the apply counts it, or says so.
        return _work(replace(base, probe=old.probe, before=old.before), units, journal)
    return made


def _row_by_row(found: Mend, write: str) -> bool:
    """Tell whether what a comparison found is all there is to do: an overwrite needs to find nothing."""
    return write != "overwrite" or not (found.changes or found.untold)


def _begin(base: Destination, *, before: int | None, probe: bool, epoch: bool = True) -> Destination:
    """Begin a session; with a new epoch nothing that was done before counts."""
    return replace(base, session=base.session + 1, epoch=base.epoch + (1 if epoch else 0), before=before, probe=probe)


def _skip(at: Standing, old: SessionFacts | None, units: Sequence[UnitFacts], journal: JournalFacts) -> Brought:
    if old is not None and old.done and old.write not in {"", "skip"}:
        old = None  # what was written otherwise is there: this is the first plan that skips
    held = old.skipped if old else bool(at.rows) or (at.rows is None and not at.ours)
    if not held:
        return _append(at, old, units, journal)
    destination = replace(at.base, skipped=True, session=max(at.base.session, 1), epoch=max(at.base.epoch, 1))
    change = Change("same", at.base.address, "held rows when it was first planned: skipped", (), at.where)
    return Brought(destination, "skip", clear=False, pending={}, changes=(change,))


def _overwrite(at: Standing, old: SessionFacts | None, units: Sequence[UnitFacts], journal: JournalFacts) -> Brought:
    base = at.base
    # Rows of others are there, and would stay; or they kept ours out, in another partition.
    asks = old is not None and old.probe and not old.done  # it would leave them where they are
    kept = old is not None and (old.before != 0 or asks or base.address in journal.left_alone)
    others = old is not None and old.write not in {"", "overwrite"} and kept
    same = old is not None and old.content == base.content and not others
    if old is not None and same and not at.restart and known.as_sent(units, journal):
        if not old.done:
            return _work(replace(base, probe=old.probe, before=old.before), units, journal)
        # What is not acknowledged any more may have been written over.
        whole = all(len(known.done(u, journal)) == len(u.bounds) for u in units)
        if whole and (at.rows is None or old.left is None or at.rows == old.left):
            return _same(at, old, units, journal)
    if not at.whole or (at.restart and len(at.restart) < len(units)):
        problem = Problem(
            f"{base.address} is overwritten by all its data together, and only a part of it was chosen",
            at.where,
            "choose the whole collection or partition with --only",
        )
        return _refused(base, problem)
    begun = _begin(base, before=0, probe=False)
    if at.rows == 0 or (at.rows is None and at.ours and old is None):
        return _work(begun, units, journal)
    rows = "the rows" if at.rows is None else f"{at.rows:,} rows"
    if not at.allowed:
        problem = Problem(
            f"{base.address} is to be overwritten, and {rows} are there",
            at.where,
            f"let them be destroyed: --allow-destroy {base.address}",
        )
        return _refused(base, problem)
    made = _work(begun, units, journal)
    gone = Change("destroy", base.address, f"{rows} will be overwritten", (), at.where)
    return replace(made, clear=True, changes=(gone, *made.changes))


def _mirror(at: Standing, old: SessionFacts | None, units: Sequence[UnitFacts], journal: JournalFacts) -> Brought:
    if not at.whole:
        problem = Problem(
            f"{at.base.address} is mirrored from all its data together, and only a part of it was chosen",
            at.where,
            "choose the whole collection or partition with --only",
        )
        return _refused(at.base, problem)
    if at.rows is None and not known.goes_on(at.base.content, at.base.write, old, units, journal):
        if not at.ours:
            return _refused(at.base, _not_loaded(at))
        if old is not None and not old.done:  # what it brought before it was killed cannot be compared
            return _overwrite(at, old, units, journal)
        made = _append(at, old, units, journal)  # what it has no more cannot be found, and would stay
        return made if old is None or made.state == "same" else _refused(at.base, _not_loaded(at))
    return _append(at, old, units, journal)


def _mend(
    at: Standing, found: Mend, old: SessionFacts | None, units: Sequence[UnitFacts], journal: JournalFacts
) -> Brought:
    """Make a destination as its data is, after a comparison."""
    found = mirror.to_be_done(at, found)
    wrong = tuple(mirror.conflicts(at, found))
    if not found.changes and not wrong:
        text = f"{at.rows:,} rows; the content is that of the sources; compared now"
        same = Change("same", at.base.address, text, (), at.where)
        return Brought(at.base, "same", clear=False, pending={}, changes=(same,))
    changes = tuple(mirror.changes(at, found))
    if mirror.is_large(found):
        # Chunks that were done once and whose rows are others now are not done.
        differ = [found.units[n].key for n in {*found.again, *found.anew}]
        stale = any(journal.acked.get(key) for key in differ) or bool(old and old.overtaken)
        begun = _begin(at.base, before=at.rows, probe=True, epoch=stale or found.writes > MOST_ROWS)
        copied = _work(begun, units, journal)
        only_deletes = replace(found, again={}, anew={})
        return replace(copied, changes=(*changes, *copied.changes), conflicts=wrong, mend=only_deletes)
    base = replace(at.base, session=old.session if old else 0, epoch=old.epoch if old else 0)
    return Brought(base, "work", clear=False, pending={}, changes=changes, conflicts=wrong, mend=found)


def _append(at: Standing, old: SessionFacts | None, units: Sequence[UnitFacts], journal: JournalFacts) -> Brought:
    otherwise = known.copied_otherwise(at.base, units, journal, at.present) if at.auto_id and at.holds else None
    if otherwise is not None:
        why = f"{otherwise.unit.path}, its mapping or its partition changed since rows of it were copied"
        return _refused(at.base, _cannot_repeat(at, why))
    if old is None:
        return _first(at, units, journal)
    # What a session that asks for keys wrote, and no longer knows of, would be taken for there before it began.
    trusted = not at.restart and not (old.partial and old.probe)
    if trusted and known.goes_on(at.base.content, at.base.write, old, units, journal, auto_id=at.auto_id):
        return _work(replace(at.base, probe=old.probe, before=old.before), units, journal)
    if at.snapshot and any(u.unit.lives for u in known.moved(units, journal)):
        # What is there is of a collection that was dropped: a snapshot must not hold both.
        return replace(_work(_begin(at.base, before=0, probe=False), units, journal), clear=True)
    return _again(at, old, units, journal)


def _first(at: Standing, units: Sequence[UnitFacts], journal: JournalFacts) -> Brought:
    """Bring rows to a destination for the first time that this state knows of."""
    if at.rows is None and at.ours:
        return _work(_begin(at.base, before=0, probe=False), units, journal)
    problem = _cannot_begin(at)
    if problem is not None:
        return _refused(at.base, problem)
    return _work(_begin(at.base, before=at.rows, probe=at.probes), units, journal)


def _again(at: Standing, old: SessionFacts, units: Sequence[UnitFacts], journal: JournalFacts) -> Brought:
    """Bring what is missing to a destination that an earlier apply finished, or whose files changed before it did.

    Then rows of the files as they were are there: a session of its own counts them as there before.
    """
    gone = at.rows is not None and old.left is not None and at.rows < old.left
    pending = at.restart or not all(len(known.done(u, journal)) == len(u.bounds) for u in units)
    changed = known.moved(units, journal)
    if at.auto_id and at.holds and (changed or at.restart):
        why = f"{changed[0].unit.path} changed since its rows were copied" if changed else "its rows are there already"
        return _refused(at.base, _cannot_repeat(at, why))
    if at.auto_id and at.holds and (gone or any(journal.in_doubt.get(u.unit.key) for u in units)):
        # Rows of chunks in doubt are removed, and sent again: they are not what was there before.
        made = _work(at.base, units, journal)
        text = f"{at.rows:,} rows, vsync left {old.left:,}: chunks that lost rows are sent again"
        return replace(made, changes=(Change("warn", at.base.address, text, (), at.where),)) if gone else made
    if gone:
        made = _work(_begin(at.base, before=at.rows, probe=at.probes), units, journal)
        text = f"{at.rows:,} rows, vsync left {old.left:,}: all keys are compared again when applied"
        return replace(made, changes=(Change("warn", at.base.address, text, (), at.where), *made.changes))
    # What a source holds again, that held something else in between, was written over.
    stale = at.base.write in {"upsert", "mirror"} and any(journal.acked.get(u.unit.key) for u in changed)
    # So was what it did not write for others had its key, where their rows are to be replaced now.
    kept = at.base.replaces and at.base.address in journal.left_alone
    epoch = stale or kept or old.overtaken
    if not pending and old.done and not epoch:
        return _same(at, old, units, journal, lives=any(u.unit.lives for u in units))
    all_ours = at.ours and not old.done and old.before == 0
    if at.rows is None and at.base.write == "append" and not all_ours:
        return _refused(at.base, _not_loaded(at))
    return _work(_begin(at.base, before=at.rows, probe=at.probes, epoch=epoch), units, journal, at.restart)


def _uncertain(at: Standing, old: SessionFacts | None, units: Sequence[UnitFacts], journal: JournalFacts) -> bool:
    """Whether rows may be there that the journal forgot, and keys of the server's making cannot tell which.

    What is in doubt is settled when applied, and a count that is what was left shows that nothing came later.
    """
    if not (at.auto_id and at.holds) or (old is not None and not old.partial):
        return False
    if old is None:
        return f"collection.{at.base.collection}" in journal.partial
    if old.done:
        return at.rows != old.left
    none = frozenset[int]()
    known = [journal.acked.get(u.unit.key, none) | journal.in_doubt.get(u.unit.key, none) for u in units]
    return any(len(chunks) < len(u.bounds) for chunks, u in zip(known, units, strict=True))


def _refused(base: Destination, problem: Problem) -> Brought:
    return Brought(base, "same", clear=False, pending={}, changes=(), conflicts=(problem,))


def _same(
    at: Standing, old: SessionFacts, units: Sequence[UnitFacts], journal: JournalFacts, *, lives: bool = False
) -> Brought:
    counted = "not counted: not loaded" if at.rows is None else "counted now"
    rows = old.left if at.rows is None else at.rows
    shown = "rows as they were left" if rows is None else many(rows, "row")
    sources = "sources unchanged"
    if lives:
        sources = "sources not compared: the server makes the keys" if at.auto_id else "no new keys in the sources"
    checked = f"; {old.checked_how} last checked {old.checked[:10]}" if old.checked else ""
    unfit = sum(u.unfit for u in units)
    skipped = f"; {many(unfit, 'row')} that do not fit {'is' if unfit == 1 else 'are'} on record" if unfit else ""
    kept = at.base.address in journal.left_alone and old.checked_how != "content"
    details = (KEPT,) if kept else ()
    changes = [Change("same", at.base.address, f"{shown}; {sources}; {counted}{skipped}{checked}", details, at.where)]
    if at.rows is not None and old.left is not None and at.rows > old.left:
        changes.append(
            Change(
                "warn",
                at.base.address,
                f"{many(at.rows - old.left, 'row')} not from vsync: left alone",
                (),
                at.where,
            )
        )
    return Brought(at.base, "same", clear=False, pending={}, changes=tuple(changes))


def _work(
    destination: Destination, units: Sequence[UnitFacts], journal: JournalFacts, again: frozenset[str] = frozenset()
) -> Brought:
    """List what is not done in the destination's epoch; a session that is open is worked on even if all is done.

    Of the units ``again`` all is listed.
    """
    old = journal.sessions.get(destination.address)
    same_epoch = old is not None and old.epoch == destination.epoch
    pending: dict[str, tuple[int, ...]] = {}
    changes = []
    for u in units:
        acked = known.done(u, journal) if same_epoch else frozenset[int]()
        in_doubt = known.doubted(u, journal) if same_epoch else frozenset[int]()
        pending[u.unit.key] = tuple(n for n in range(len(u.bounds)) if n not in acked or u.unit.key in again)
        restarted = len(acked) if u.unit.key in again else 0
        changes.append(copy_change(u, destination, pending[u.unit.key], len(in_doubt), journal, restarted))
    shown = tuple(c for c in changes if c is not None)
    if not shown and any(u.bounds or u.unit.lives for u in units):
        copied = any(u.bounds for u in units)
        what = "all its rows are copied: they are" if copied else "no new keys in the sources: what is there is"
        shown = (Change("warn", destination.address, f"{what} still to be counted"),)
    return Brought(destination, "work", clear=False, pending=pending, changes=shown)


def _cannot_begin(at: Standing) -> Problem | None:
    address = at.base.address
    if at.auto_id and at.rows != 0:  # other partitions may hold rows: others', or what was just brought there
        rows = "may hold rows" if at.rows is None else f"holds {at.rows:,} rows"
        return Problem(
            f"{address} {rows} that this state does not know, and its keys are made by the server (auto_id): "
            "vsync cannot tell which of the data's rows are there already",
            at.where,
            "use the state that wrote them (--state), write: skip, or write: overwrite",
        )
    if at.rows is None and at.base.write == "append":
        return _not_loaded(at)
    return None


def _not_loaded(at: Standing) -> Problem:
    return Problem(
        f"{at.base.address} is not loaded: which keys it holds cannot be asked, and a plan never loads",
        at.where,
        "load it first: apply it once with load: true and without data:. Or say write: "
        + ("overwrite" if at.base.write == "mirror" else "upsert, which asks for no keys"),
    )


def _cannot_believe(at: Standing) -> Problem:
    return Problem(
        f"{at.base.address}: this state was brought back from its backup, and the keys are made by the server "
        "(auto_id): vsync cannot tell which rows were written after the backup",
        at.where,
        "empty the collection and apply again, or say write: overwrite to bring all rows again",
    )


def _cannot_repeat(at: Standing, why: str) -> Problem:
    return Problem(
        f"{at.base.address}: {why}, and the keys are made by the server (auto_id): vsync cannot tell which rows are "
        "missing",
        at.where,
        "declare a key of the data's own, or say write: overwrite to bring all of them again",
    )
