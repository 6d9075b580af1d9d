"""What the commands of a repository show, as lines or as JSON objects."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from vsync.errors import many
from vsync.report.jsonl import say
from vsync.report.words import size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vsync.connectors.backup.manifest import Manifest
    from vsync.connectors.backup.repository import Repository
    from vsync.connectors.backup.upkeep import Damage, Pruned
    from vsync.report.words import Line

EVERY = 100
"""A line for so many objects."""


def snapshot_lines(manifests: Sequence[Manifest], unfinished: Sequence[str]) -> Iterator[Line]:
    """List snapshots with what they hold."""
    if not manifests:
        yield "plain", "There are no snapshots."
    for one in manifests:
        yield "bold", f"{one.id}  {one.name or '-'}  {many(one.rows, 'row')}  {size(one.nbytes)}"
        for name, held in sorted(one.collections.items()):
            partitions = f" in {many(len(held.partitions), 'partition')}" if len(held.partitions) > 1 else ""
            yield "plain", f"    {name}  {many(held.rows, 'row')}{partitions}"
    for pending in unfinished:
        yield "warn", f"{pending}  not finished: the same backup goes on with it"


def say_snapshots(manifests: Sequence[Manifest], unfinished: Sequence[str]) -> None:
    """Print snapshots as objects."""
    for one in manifests:
        collections = {name: held.rows for name, held in sorted(one.collections.items())}
        say(
            "snapshot", id=one.id, name=one.name, began=one.began, finished=one.finished, rows=one.rows,
            bytes=one.nbytes, collections=collections, **one.notes,
        )  # fmt: skip
    for pending in unfinished:
        say("unfinished", id=pending)
    say("summary", snapshots=len(manifests), unfinished=len(unfinished))


def forgotten_lines(repository: Repository, ids: Sequence[str]) -> Iterator[str]:
    """List snapshots that are forgotten; one that cannot be read by its id alone."""
    known = {one.id: one for one in repository.manifests()[0]}
    for one in ids:
        held = f"{known[one].name}  {many(known[one].rows, 'row')}" if one in known else "cannot be read"
        yield f"  - {one}  {held}"


def verified_line(read: int, snapshots: int) -> str:
    """Say that all is what was written."""
    return f"{many(snapshots, 'snapshot')} read: {many(read, 'object')}, each as it was written."


def reading(*, as_json: bool) -> Callable[[int, int], None]:
    """Make what shows how many objects were read."""
    from vsync.report.console import show

    def hear(read: int, of: int) -> None:
        if not as_json and (read % EVERY == 0 or read == of):
            show([("dim", f"  {read:,} of {many(of, 'object')} read")], stderr=True)

    return hear


def say_verified(damaged: Sequence[Damage], read: int, snapshots: int) -> None:
    """Print what is damaged as objects."""
    for one in damaged:
        say("damaged", **asdict(one))
    say("summary", snapshots=snapshots, objects=read, damaged=len(damaged))


def pruned_line(done: Pruned, *, dry_run: bool) -> str:
    """Say what a prune did, or would do."""
    what = f"{many(done.removed, 'object')} ({size(done.removed_bytes)})"
    kept = f"{many(done.kept, 'object')} ({size(done.kept_bytes)})"
    return f"{'Would remove' if dry_run else 'Removed'} {what}; {kept} stay."


def say_pruned(done: Pruned, *, dry_run: bool) -> None:
    """Print what a prune did as an object."""
    say("summary", dry_run=dry_run, **asdict(done))
