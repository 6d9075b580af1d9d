"""Plans, events and errors as JSON objects, one a line; each says its ``type``, and ``ts`` when it was said."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from vsync.planning.steps import CopyChunk, Plan
from vsync.report.words import refresh_summary, summary

if TYPE_CHECKING:
    from vsync.api import Refreshed, Status
    from vsync.applying.events import Event
    from vsync.errors import VsyncError

FORMAT_VERSION = 1


def say(kind: str, **what: Any) -> None:
    """Print one object."""
    ts = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    line = json.dumps(
        {"type": kind, "ts": ts, "format_version": FORMAT_VERSION, **what}, ensure_ascii=False, default=str
    )
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def say_plan(plan: Plan) -> None:
    """Print a plan: each change, each line of the ledger, each conflict, then the summary."""
    for change in plan.changes:
        say("change", **asdict(change))
    for line in plan.fidelity:
        say("fidelity", **asdict(line))
    for problem in plan.conflicts:
        say("conflict", **asdict(problem))
    chunks = sum(isinstance(s, CopyChunk) for s in plan.steps)
    text = "No changes." if plan.empty and not plan.conflicts else summary(plan)
    say(
        "summary",
        text=text,
        empty=plan.empty,
        conflicts=len(plan.conflicts),
        steps=len(plan.steps),
        chunks=chunks,
    )


def say_event(event: Event) -> None:
    """Print what happened, its type in the words of the class: ``chunk_acked``."""
    name = type(event).__name__
    kind = "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")
    say(kind, **asdict(event))


def say_error(error: VsyncError) -> None:
    """Print an error as the last object."""
    say("error", exit_code=error.exit_code, problems=[asdict(p) for p in error.problems])


def say_refresh(seen: Refreshed) -> None:
    """Print what moved: each line of it, then the summary."""
    for change in seen.changes:
        say("change", **asdict(change))
    say("summary", text=refresh_summary(seen), moved=sum(c.action != "same" for c in seen.changes))


def say_status(seen: Status) -> None:
    """Print what a state knows: each data item, then the run."""
    for item in seen.items:
        say("item", **asdict(item))
    run = asdict(seen.run) if seen.run else None
    say(
        "summary",
        running=seen.running,
        run=run,
        rejects=seen.rejects,
        rows_per_second=seen.rows_per_second,
        eta=seen.eta,
    )
