"""The commands that look after a repository of backups: ``snapshots``, ``verify``, ``forget``, ``prune``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import rich_click as click

from vsync.cli.group import vsync
from vsync.errors import ConflictError, MismatchError, Problem, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vsync.errors import SourceError

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON objects, one a line.")


@vsync.command()
@click.argument("repo")
@json_option
def snapshots(repo: str, as_json: bool) -> None:  # noqa: FBT001 - click passes flags by name
    """List the snapshots of a repository, the oldest first, and backups that are not finished."""
    from vsync.connectors.backup import existing
    from vsync.report import backups as words
    from vsync.report.console import show

    found = existing(repo)
    manifests, wrong = found.manifests()
    sealed = {*wrong, *(one.id for one in manifests)}
    unfinished = [one for one in found.unfinished() if one not in sealed]
    if as_json:
        words.say_snapshots(manifests, unfinished)
    else:
        show(words.snapshot_lines(manifests, unfinished))
    _refuse(wrong.values())


@vsync.command()
@click.argument("repo")
@click.argument("snapshot", required=False)
@click.option("--remove-damaged", is_flag=True, help="Remove what is damaged: the next backup stores it anew.")
@json_option
def verify(repo: str, snapshot: str | None, remove_damaged: bool, as_json: bool) -> None:  # noqa: FBT001
    """Read what snapshots hold and compare it with its digests: all of them, or the one that is named."""
    from vsync.connectors.backup import existing, upkeep
    from vsync.report import backups as words

    found = existing(repo)
    manifests, wrong = ([found.find(snapshot)], {}) if snapshot else found.manifests()
    damaged, read = upkeep.verify(found, manifests, words.reading(as_json=as_json))
    if as_json:
        words.say_verified(damaged, read, len(manifests))
    gone = f"what it has no more is lost: vsync forget {repo} SNAPSHOT"
    hint = f"vsync verify {repo} --remove-damaged, and back up again: what the source still has is stored anew; {gone}"
    if remove_damaged and upkeep.remove_damaged(found, damaged):
        hint = f"it is removed; back up again: what the source still has is stored anew; {gone}"
    _refuse(wrong.values(), [Problem(f"{one.object}: {one.what}", ", ".join(one.needed), hint) for one in damaged])
    if not as_json:
        click.echo(words.verified_line(read, len(manifests)))


def _refuse(wrong: Iterable[SourceError], damaged: Sequence[Problem] = ()) -> None:
    """Raise MismatchError where snapshots cannot be read, or their objects are not what they were."""
    problems = [problem for error in wrong for problem in error.problems] + list(damaged)
    if problems:
        raise MismatchError(problems)


@vsync.command()
@click.argument("repo")
@click.argument("ids", nargs=-1, metavar="[SNAPSHOT]...")
@click.option("--keep-last", type=click.IntRange(min=1), metavar="N", help="All but the last N of each name.")
@click.option("--unfinished", is_flag=True, help="Give backups up that are not finished.")
@click.option("--auto-approve", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Show what would be forgotten.")
def forget(
    repo: str,
    ids: tuple[str, ...],
    keep_last: int | None,
    unfinished: bool,  # noqa: FBT001
    auto_approve: bool,  # noqa: FBT001
    dry_run: bool,  # noqa: FBT001
) -> None:
    """Forget snapshots, by their ids or all but the last ones. What only they need is removed by prune."""
    from vsync.connectors.backup import existing
    from vsync.connectors.backup.upkeep import to_forget
    from vsync.report import backups as words

    if not (ids or keep_last or unfinished):
        raise UsageError("which ones?", hint="name snapshots, or write --keep-last N, or --unfinished")
    found = existing(repo)
    these = to_forget(found, ids, keep_last) if ids or keep_last else []
    given_up = found.unfinished() if unfinished else []
    for line in words.forgotten_lines(found, these):
        click.echo(line)
    for pending in given_up:
        click.echo(f"  - {pending}  not finished")
    if dry_run or not (these or given_up):
        click.echo("Nothing is forgotten." if not dry_run else f"Would forget {len(these) + len(given_up)}.")
        return
    _agree(these, given_up, auto_approve=auto_approve)
    for one in these:
        found.forget(one)
    for pending in given_up:
        found.abandon(pending)
    click.echo(f"Forgot {len(these) + len(given_up)}. Room is made by: vsync prune {repo}")


def _agree(these: Sequence[str], given_up: Sequence[str], *, auto_approve: bool) -> None:
    if auto_approve:
        return
    if not sys.stdin.isatty():
        hint = "look with --dry-run, then add --auto-approve"
        raise ConflictError("nobody can be asked: this is no terminal", hint=hint)
    if input(f"Forget these {len(these) + len(given_up)}? Only yes is taken for yes: ").strip() != "yes":
        raise ConflictError("nothing was forgotten: it was not agreed to")


@vsync.command()
@click.argument("repo")
@click.option("--dry-run", is_flag=True, help="Show what would be removed.")
@click.option("--take-over", is_flag=True, help="Go on where another prune was killed.")
@json_option
def prune(repo: str, dry_run: bool, take_over: bool, as_json: bool) -> None:  # noqa: FBT001
    """Remove what no snapshot needs. Killed, it leaves every snapshot whole."""
    from vsync.connectors.backup import existing, upkeep
    from vsync.report import backups as words

    found = existing(repo)
    done = upkeep.pruned(*upkeep.unused_objects(found)) if dry_run else upkeep.prune(found, take_over=take_over)
    if as_json:
        words.say_pruned(done, dry_run=dry_run)
    else:
        click.echo(words.pruned_line(done, dry_run=dry_run))
