"""Numbers, plans and balances in words: pairs of a style and a line, in Terraform's manner."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vsync.errors import many

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from vsync.api import Refreshed, Status
    from vsync.applying.events import Settled, Waiting
    from vsync.planning.steps import Change, Plan

Line = tuple[str, str]
"""A style's name (``create``, ``plain``, ...) and a line of text."""

SYMBOLS = {
    "create": "  +",
    "update": "  ~",
    "replace": " -/+",
    "destroy": "  -",
    "copy": "  >",
    "same": "  =",
    "warn": "  !",
    "orphan": "  ?",
}


KIB = 1024


def size(nbytes: float) -> str:
    """Say a size: ``3.5 GiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if nbytes < KIB:
            digits = 0 if unit == "B" or nbytes >= 100 else 1  # noqa: PLR2004 - three digits are enough for anybody
            return f"{nbytes:.{digits}f} {unit}"
        nbytes /= KIB
    return f"{nbytes:.1f} TiB"


def duration(seconds: float) -> str:
    """Say a duration: ``0:01:05``."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def plan_lines(plan: Plan, *, concise: bool = False, state: str = "") -> Iterator[Line]:
    """Show a plan; ``concise`` leaves out what stays as it is."""
    yield (
        "plain",
        f"Target {plan.target_label}   Spec {plan.spec_name}" + (f"   State {state}" if state else ""),
    )
    yield "plain", ""
    yield from _changes(c for c in plan.changes if not (concise and c.action == "same"))
    if plan.fidelity:
        lost = sum(f.verdict == "lost" for f in plan.fidelity)
        yield "plain", f"Fidelity: {len(plan.fidelity) - lost} converted, {lost} lost"
        for line in plan.fidelity:
            style = "destroy" if line.verdict == "lost" else "update"
            yield style, f"  ~ {line.address}   {line.verdict}: {line.what}"
        yield "plain", ""
    if plan.conflicts:
        yield "destroy", summary(plan)
    elif plan.empty:
        yield "create", "No changes. The target holds what the spec says."
    else:
        yield "bold", summary(plan)


def _changes(changes: Iterable[Change]) -> Iterator[Line]:
    shown = list(changes)
    width = min(48, max((len(c.address) for c in shown), default=0))
    for change in shown:
        yield from _change(change, width)
    if shown:
        yield "plain", ""


def _change(change: Change, width: int) -> Iterator[Line]:
    amounts = ""
    if change.action == "copy":
        amounts = f"   {many(change.rows, 'row')}   {size(change.nbytes)}   {many(change.chunks, 'chunk')}"
    where = f"   {change.where}" if change.where and change.action not in {"copy", "same", "warn"} else ""
    yield (
        change.action,
        f"{SYMBOLS[change.action]:>4} {change.address:<{width}}   {change.summary}{amounts}{where}",
    )
    for detail in change.details:
        yield change.action if detail[:1] in "+~-" else "dim", f"       {detail}"


def refresh_lines(seen: Refreshed, *, concise: bool = False) -> Iterator[Line]:
    """Show what moved on a target since it was applied."""
    yield "plain", f"Target {seen.target_label}"
    yield "plain", ""
    yield from _changes(c for c in seen.changes if not (concise and c.action == "same"))
    yield ("bold" if seen.moved else "create"), refresh_summary(seen)


def refresh_summary(seen: Refreshed) -> str:
    """Say in one line what moved."""
    moved = sum(c.action != "same" for c in seen.changes)
    if moved:
        return f"{many(moved, 'thing')} moved on the target; nothing was planned."
    return "Nothing moved on the target." if seen.changes else "The state knows nothing of this target."


def summary(plan: Plan) -> str:
    """Say in one line what a plan does, or that it cannot."""
    if plan.conflicts:
        return f"Plan: {many(len(plan.conflicts), 'conflict')}; nothing can be applied before they are resolved."
    count = {action: sum(c.action == action for c in plan.changes) for action in SYMBOLS}
    copies = [c for c in plan.changes if c.action == "copy"]
    text = (
        f"Plan: {count['create']} to add, {count['update']} to change, {count['replace']} to replace, "
        f"{count['destroy']} to destroy"
    )
    if not copies:
        return f"{text}; no rows to copy."
    rows, chunks = sum(c.rows for c in copies), sum(c.chunks for c in copies)
    return f"{text}; copy {many(rows, 'row')} ({size(sum(c.nbytes for c in copies))}) in {many(chunks, 'chunk')}."


def settled_line(s: Settled) -> str:
    """Say the balance of a destination: what came, and what is there."""
    replaced = s.there and s.written + s.rejected + s.dropped == s.read
    parts = [f"{s.written:,} written" + (f" ({s.there:,} over rows that were there)" if replaced else "")]
    if s.there and not replaced:
        parts.append(f"{s.there:,} there already")
    if s.rejected:
        parts.append(f"{s.rejected:,} rejected")
    if s.dropped:
        parts.append(f"{s.dropped:,} lost a collision")
    moved = (
        f" ({abs(s.moved):,} {'more' if s.moved > 0 else 'fewer'} than were cut: the source lives)" if s.moved else ""
    )
    gone = f"; {s.deleted:,} deleted" if s.deleted else ""
    read = f"{many(s.read, 'row')} read{moved} = {' + '.join(parts)}{gone}"
    if s.left is None:
        return f"{s.destination}: {read}; not counted: not loaded"
    if s.expected is None:
        why = "what it held before could not be counted"
        if s.before is not None:
            why = "other partitions may have taken rows of it"
        return f"{s.destination}: {read}; holds {many(s.left, 'row')}; {why}"
    verdict = "as it should be"
    if s.surplus:
        verdict = f"{s.surplus:,} more, from others" if s.balanced else f"SHOULD BE {s.expected:,}"
    return f"{s.destination}: {read}; holds {many(s.left, 'row')}, {verdict}"


def waiting_line(event: Waiting) -> str:
    """Say that the target is waited for, and why: the first line of what it said."""
    why = event.reason.splitlines()[0]
    return f"waiting for the target: {why}; attempt {event.attempt}, again in {event.seconds:.1f} s"


def applied_lines(settled: Sequence[Settled]) -> Iterator[Line]:
    """Say what an apply did, at its end."""
    for s in settled:
        yield ("create" if s.balanced and not s.rejected else "warn"), settled_line(s)
    for s in settled:
        if s.ids is not None:
            yield "plain", f"Old and new keys of {many(s.renumbered, 'row')}: {s.ids}"
    written, deleted = sum(s.written for s in settled), sum(s.deleted for s in settled)
    rows = f"{many(written, 'row')} written" + (f", {deleted:,} deleted" if deleted else "")
    yield "bold", f"Applied: {rows}." if settled else "Applied."


def destroyed_lines(made: Plan) -> Iterator[Line]:
    """Say what was dropped, at the end; where there was nothing to drop, what was left."""
    if made.empty:
        yield from _changes(made.changes)
        yield "create", "There is nothing to destroy."
        return
    yield "bold", f"Destroyed: {many(sum(c.action == 'destroy' for c in made.changes), 'collection')}."


def status_lines(seen: Status) -> Iterator[Line]:
    """Show what a state knows of its last run."""
    run = seen.run
    if run is None:
        yield "plain", "Nothing was applied yet."
        return
    if seen.running:
        how = f"running since {run.started}, by {run.who} on {run.host} (process {run.pid}); last sign {run.heartbeat}"
    elif run.ended is None:
        how = f"begun {run.started} and cut off after {run.heartbeat}: run vsync apply again to go on"
    else:
        how = f"begun {run.started}, ended {run.ended} with exit code {run.exit_code}"
    yield "plain", f"Run {run.id}: {how}"
    yield "plain", f"Target {run.target}"
    for item in seen.items:
        percent = 100 * item.rows_done // item.rows if item.rows else 100
        doubt = f", {item.in_doubt} {'in flight' if seen.running else 'in doubt'}" if item.in_doubt else ""
        style = "create" if item.done == item.chunks else "copy"
        yield (
            style,
            (
                f"  {item.address}  {item.path}  {percent}%  {item.rows_done:,} / {item.rows:,} rows, "
                f"{item.done} / {many(item.chunks, 'chunk')}{doubt}"
            ),
        )
    if seen.running:
        pace = f"{seen.rows_per_second:,.0f} rows/s" if seen.rows_per_second is not None else "pace not known yet"
        left = "all rows are copied" if seen.eta == 0 else f"ETA {'?' if seen.eta is None else duration(seen.eta)}"
        yield "bold", f"  {pace}   {left}"
    if run.clock_went_back:
        yield (
            "warn",
            "  the clock of its machine went back meanwhile: times and pace that are shown may be wrong",
        )
    if seen.rejects:
        yield "warn", f"  {many(seen.rejects, 'value')} rejected: see the rejects file beside the state"
