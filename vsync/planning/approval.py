"""A saved plan beside the world as it is now: what was approved, and nothing else, is carried out."""

from __future__ import annotations

from dataclasses import replace

from vsync.errors import StalePlanError
from vsync.planning.steps import Clear, CopyChunk, Destination, Plan, RewriteRows, Step, Unit

CHECK_AGAIN = "vsync check --full --repair --out FILE.json"


def check_approved(saved: Plan, fresh: Plan, *, resumes: bool) -> None:
    """Compare a saved plan with the world as it is now; raises StalePlanError saying what changed.

    Until it is begun the target must be as it was seen. Always, what is left to do must be among what was approved.
    """
    moved = []
    if fresh.target != saved.target:
        moved.append(f"the target is {fresh.target}, it was {saved.target}")
    if not resumes:
        moved += [f"collection.{n} changed since" for n, d in saved.observed.items() if fresh.observed.get(n) != d]
        moved += _sources_moved(saved, fresh)
    approved = {_known_as(s, saved) for s in saved.steps}
    new = [s for s in fresh.steps if _known_as(s, fresh) not in approved and not _cut_on(s, fresh, saved)]
    seen = {d.address: d for d in saved.destinations}
    if new and not moved:
        counted = [d for d in fresh.destinations if d.address in seen and d.before != seen[d.address].before]
        why = _sources_moved(saved, fresh) + [_counted(d, seen[d.address]) for d in counted]
        moved += why or [f"{len(new)} steps that it does not hold are needed now"]
    for d in fresh.destinations:
        was = seen.get(d.address)
        clears = Clear(d.address) in approved
        counts = clears or (was is not None and was.write == "mirror")
        if was is not None and not resumes and (was.probe != d.probe or (counts and was.before != d.before)):
            moved.append(_counted(d, was))
    if moved:
        raise StalePlanError(
            f"the saved plan is stale: {'; '.join(dict.fromkeys(moved))}",
            hint="make it again: vsync plan --out FILE",
        )


def check_found(saved: Plan, fresh: Plan, *, resumes: bool = False) -> Plan:
    """Compare what a check found with the world as it is now; gives the repair, or raises StalePlanError.

    Where it ``resumes``, rows were mended since by an earlier attempt: else there must be as many as were counted.
    Target, collections and sources must always be as they were.
    """
    counted = {d.address: d.before for d in fresh.destinations}
    now = {(u.address, u.path): u for u in fresh.units}
    moved = [f"the target is {fresh.target}, it was {saved.target}"] if fresh.target != saved.target else []
    moved += [f"collection.{n} changed since" for n, d in saved.observed.items() if fresh.observed.get(n) != d]
    moved += _sources_moved(saved, fresh)
    moved += [f"{u.path} is in no data of the spec" for u in saved.units if (u.address, u.path) not in now]
    for d in saved.destinations if not resumes else ():
        rows = counted.get(d.address)
        if rows is not None and rows != d.before:
            moved.append(f"{d.address} holds {rows:,} rows, the check counted {d.before:,}")
    if moved:
        raise StalePlanError(
            f"the repair is stale: {'; '.join(dict.fromkeys(moved))}",
            hint=f"check again: {CHECK_AGAIN}",
        )
    return replace(saved, units=tuple(replace(u, modified=now[u.address, u.path].modified) for u in saved.units))


def _sources_moved(saved: Plan, fresh: Plan) -> list[str]:
    was = {(u.address, u.path): u for u in saved.units}
    return [
        f"{u.path} changed: it was {_content(was[u.address, u.path])}, it is {_content(u)}"
        for u in fresh.units
        if (u.address, u.path) in was and _content(was[u.address, u.path]) != _content(u)
    ]


def _content(unit: Unit) -> str:
    """Give what a source is known by; each session cuts a collection anew, and numbers that."""
    return unit.content.partition("@")[0] if unit.lives else unit.content


def _counted(now: Destination, was: Destination) -> str:
    rows = "cannot be counted" if now.before is None else f"holds {now.before:,} rows"
    return f"{now.address} {rows}, the plan saw {'none counted' if was.before is None else format(was.before, ',')}"


def _known_as(step: Step, plan: Plan) -> object:
    """Say what a step is known by in any plan: a chunk by its unit's key."""
    if isinstance(step, CopyChunk):
        return (plan.units[step.unit].key, step.n, step.bounds, step.dropped)
    if isinstance(step, RewriteRows):
        return (plan.units[step.unit].key, replace(step, unit=0))
    return step


def _cut_on(step: Step, plan: Plan, of: Plan) -> bool:
    """Tell whether a chunk of a collection is a piece of one of another plan's, which has outgrown what it was."""
    if not isinstance(step, CopyChunk) or step.keys is None:
        return False
    mine, keys = plan.units[step.unit].key, step.keys
    wholes = (c for c in of.steps if isinstance(c, CopyChunk) and of.units[c.unit].key == mine and c.keys is not None)
    return any(c.keys.covers(keys) and set(step.dropped) <= set(c.dropped) for c in wholes if c.keys is not None)
