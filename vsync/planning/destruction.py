"""What ``vsync destroy`` drops: collections that vsync made, and of these the ones that are allowed to go."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from vsync.errors import Problem, UsageError, many
from vsync.planning.steps import Change, DropCollection

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vsync.planning.choice import Choice
    from vsync.planning.facts import JournalFacts
    from vsync.schema import LiveCollection
    from vsync.spec import Spec


def known_names(spec: Spec, journal: JournalFacts) -> list[str]:
    """Name the collections that a destruction is about: those that the spec declares, and those that vsync made."""
    made = [address.removeprefix("collection.") for address in journal.collections]
    return sorted({*spec.collections, *made})


def refuse_others(choice: Choice, names: list[str]) -> None:
    """Raise UsageError where an address that may be destroyed is of no collection that is known."""
    known = [f"collection.{name}" for name in names]
    for address in choice.allow_destroy:
        if address not in known:
            near = get_close_matches(address, known, 1)
            hint = f"did you mean {near[0]}?" if near else "write collection.NAME; vsync destroy shows what there is"
            raise UsageError(f"--allow-destroy {address}: vsync knows no such collection", hint=hint)


def steps(changes: tuple[Change, ...]) -> tuple[DropCollection, ...]:
    """Give the steps that carry changes out; to drop what is not there is to forget it."""
    return tuple(
        DropCollection(c.address.removeprefix("collection.")) for c in changes if c.action in {"destroy", "warn"}
    )


def changes(
    spec: Spec,
    journal: JournalFacts,
    live: Mapping[str, LiveCollection],
    aliases: Mapping[str, str],
    choice: Choice,
) -> Iterator[Change]:
    """Say of each collection whether it goes. One that is gone already is forgotten, which destroys nothing."""
    for name in known_names(spec, journal):
        address, there = f"collection.{name}", live.get(name)
        where = spec.where("collections", name) if name in spec.collections else None
        if there is None:
            if address in journal.collections:
                yield Change("warn", address, "is not there any more: will be forgotten")
        elif not journal.owns(name, there):
            yield Change("orphan", address, "was not made by vsync: left on the server", (), where)
        elif choice.allow_destroy and not choice.may_destroy(address):
            yield Change("same", address, "is not named by --allow-destroy: left on the server")
        else:
            lost = tuple(f"- alias {alias}" for alias, holder in sorted(aliases.items()) if holder == name)
            yield Change("destroy", address, f"will be dropped, with {_rows(there)}", lost, where)


def conflicts(changes: tuple[Change, ...], choice: Choice) -> Iterator[Problem]:
    """Refuse to drop what nobody named."""
    for change in changes:
        if change.action == "destroy" and not choice.may_destroy(change.address):
            what = f"{change.address} {change.summary.replace('will', 'would', 1)}"
            yield Problem(what, change.where, f"let it be destroyed: --allow-destroy {change.address}")


def _rows(there: LiveCollection) -> str:
    if there.rows is None:
        return "all its rows (not counted: it is not loaded)"
    return many(there.rows, "row")
