"""``vsync state``: shows and mends what an apply knows of what it did."""

from __future__ import annotations

import sys
from contextlib import closing, contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import rich_click as click

from vsync.cli.common import Shown, state_of
from vsync.cli.group import Commands, vsync
from vsync.cli.options import spec_argument, state_option
from vsync.errors import ConflictError, JournalError, LockedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from vsync.state.journal import Journal

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON objects, one a line.")
target_option = click.option("--target", metavar="NAME", help="Of which target, or a part of its name.")
yes_option = click.option("--yes", "--auto-approve", "yes", is_flag=True, help="Do not ask.")


@vsync.group("state", cls=Commands)
def state_group() -> None:
    """Show and mend the state: what an apply knows of what it did."""


def _command(name: str, *options: Callable[..., Any]) -> Callable[[Callable[..., None]], Any]:
    """Make a command of ``vsync state``; it is called with the state's ``path``, and ``as_json``."""

    def made(command: Callable[..., None]) -> Any:
        def called(spec: Path, state: Path | None, **rest: Any) -> None:
            command(path=state_of(spec, state), **rest)

        called.__doc__ = command.__doc__
        for option in reversed([*options, spec_argument, state_option, json_option]):
            called = option(called)
        return state_group.command(name)(called)

    return made


@_command("list", target_option)
def list_(path: Path, target: str | None, as_json: bool) -> None:  # noqa: FBT001 - click passes flags by name
    """List what a state knows: collections, partitions and data, of each target."""
    from vsync.report.jsonl import say
    from vsync.report.state import list_lines
    from vsync.state.listing import choose_target, listed, targets
    from vsync.state.view import View

    with closing(View(_there(path))) as view:
        chosen = [choose_target(view, target)] if target else targets(view)
        found = {one: listed(view, one) for one in chosen}
    if as_json:
        for held in (h for items in found.values() for h in items):
            say("state_item", **asdict(held))
        say("summary", state=str(path), targets=list(found))
    else:
        _show(list_lines(found))


@_command("show", click.argument("address", metavar="ADDR"), target_option)
def show(path: Path, address: str, target: str | None, as_json: bool) -> None:  # noqa: FBT001
    """Show all that a state knows at an address."""
    from vsync.report.jsonl import say
    from vsync.report.state import show_lines
    from vsync.state.listing import choose_target
    from vsync.state.listing import show as look
    from vsync.state.view import View

    with closing(View(_there(path))) as view:
        shown = look(view, choose_target(view, target), address)
    if as_json:
        say("summary", **asdict(shown))
    else:
        _show(show_lines(shown))


@_command("mv", click.argument("old", metavar="OLD"), click.argument("new", metavar="NEW"), target_option)
def mv(path: Path, old: str, new: str, target: str | None, as_json: bool) -> None:  # noqa: FBT001
    """Give what is known of OLD, which was renamed in the spec, to NEW. The server is not asked."""
    from vsync.errors import many
    from vsync.state.listing import choose_target
    from vsync.state.moving import move

    with _journal(path) as journal:
        moved = move(journal, choose_target(journal, target), old, new)
    _say(as_json, f"{old} is known as {new} now ({many(moved, 'record')}).", old=old, new=new, moved=moved)


@_command("rm", click.argument("address", metavar="ADDR"), target_option, yes_option)
def rm(path: Path, address: str, target: str | None, yes: bool, as_json: bool) -> None:  # noqa: FBT001
    """Forget what is known at ADDR and below it. Its rows stay on the server; the next plan compares keys."""
    from vsync.errors import many
    from vsync.state.listing import choose_target
    from vsync.state.moving import forget

    with _journal(path) as journal:
        chosen = choose_target(journal, target)
        _agree(yes, f"Forget {address} of {chosen}? Its rows stay on the server, and the next apply compares keys.")
        gone = forget(journal, chosen, address)
    undo = "vsync state doctor --restore undoes it"
    _say(as_json, f"{address} is forgotten ({many(gone, 'record')}); {undo}.", address=address, forgotten=gone)


@_command("unlock")
def unlock(path: Path, as_json: bool) -> None:  # noqa: FBT001
    """Say who holds the lock. The kernel frees it when its holder ends: one that is held is never broken."""
    from vsync.state.lock import clear_note, lock_of

    found = clear_note(path)
    if found.held:
        raise LockedError(
            f"{lock_of(path)} is held by {found.said or 'another process'}",
            hint="it is free the moment that process ends: wait for it, or stop it; a live lock is never broken",
        )
    note = f" Its last holder did not give it back, and is gone: {found.said}." if found.said else ""
    _say(as_json, f"There is nothing to unlock: nobody holds {path}.{note}", held=False, last=found.said or None)


@_command(
    "doctor",
    click.option("--restore", is_flag=True, help="Bring the backup back; the file as it is now is kept beside it."),
    yes_option,
)
def doctor(path: Path, restore: bool, yes: bool, as_json: bool) -> None:  # noqa: FBT001
    """Look whether a state is whole and agrees with itself, and bring its backup back."""
    from vsync.report.jsonl import say
    from vsync.report.state import finding_lines
    from vsync.state.doctor import check_backup, examine
    from vsync.state.doctor import restore as bring_back
    from vsync.state.journal import holder
    from vsync.state.lock import locked

    if restore:
        if not path.parent.exists():
            check_backup(path)  # there is nothing to lock
        with locked(path, holder()):
            if not any(f.level == "wrong" for f in examine(path)):
                _agree(yes, f"Nothing is wrong with {path}. Go back to its backup all the same?")
            aside = bring_back(path)
        kept = f"; what was there is kept as {aside}" if aside else ""
        _say(as_json, f"{path} is its backup again{kept}. Go on with: vsync apply", restored=str(path), kept=aside)
        return
    found = examine(path)
    if as_json:
        for one in found:
            say("finding", **asdict(one))
    else:
        _show(finding_lines(found))
    wrong = [f for f in found if f.level == "wrong"]
    if wrong:
        error = JournalError(wrong[0].what, where=str(path), hint=wrong[0].hint)
        raise error if as_json else Shown(error, shown=True)
    if as_json:
        say("summary", wrong=0)


@contextmanager
def _journal(path: Path) -> Iterator[Journal]:
    """Open a state to change it, as an apply does: under its lock."""
    from vsync.state.journal import Journal, holder
    from vsync.state.lock import locked

    with locked(_there(path), holder()), closing(Journal(path)) as journal:
        yield journal


def _there(path: Path) -> Path:
    if not path.exists():
        raise JournalError(f"there is no state at {path}", hint="vsync apply makes it; --state names another place")
    return path


def _agree(yes: bool, question: str) -> None:  # noqa: FBT001 - what --yes says
    if yes:
        return
    if not sys.stdin.isatty():
        raise ConflictError("nobody can be asked: this is no terminal", hint="add --yes")
    if input(f"{question} Only yes is taken for yes: ").strip() != "yes":
        raise ConflictError("nothing was changed: it was not agreed to")


def _show(lines: Any) -> None:
    from vsync.report.console import show as show_lines

    show_lines(lines)


def _say(as_json: bool, text: str, **what: Any) -> None:  # noqa: FBT001 - --json
    from vsync.report.jsonl import say

    if as_json:
        say("summary", text=text, **what)
    else:
        click.echo(text)
