"""Which destinations are compared, and with what: pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from vsync.errors import ConflictError, Problem
from vsync.planning.diff import forces_replacement
from vsync.planning.origins import mapping_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vsync.connectors.base import Bounds, Key
    from vsync.planning.choice import Choice
    from vsync.planning.facts import Facts, SessionFacts
    from vsync.planning.steps import Unit
    from vsync.planning.wanted import Wanted, WantedData
    from vsync.schema import Collection, Field
    from vsync.spec import Spec


@dataclass(frozen=True, slots=True)
class Side:
    """A destination with the sources of its rows: ``bounds`` and ``losers`` are those of each unit.

    ``session`` is what the journal knows of it. ``skips``: rows that do not fit were left out. ``scope`` is an
    expression of the rows there that the data is about, where that is not all of them; ``scope_at``: where it is said.
    """

    address: str
    collection: Collection
    partition: str | None
    units: tuple[Unit, ...]
    bounds: tuple[tuple[Bounds, ...], ...]
    losers: tuple[tuple[Key, ...], ...]
    skips: bool
    write: str
    exclusive: bool
    session: SessionFacts | None
    scope: str | None = None
    scope_at: str | None = None

    @property
    def keyed(self) -> bool:
        """Whether the data brings the keys."""
        return not self.collection.primary.auto_id

    @property
    def fields(self) -> tuple[Field, ...]:
        """The fields that are compared: those that any of its data brings, but for the key."""
        mapped = {m.field.name for unit in self.units for m in mapping_of(unit, self.collection)}
        return tuple(f for f in self.collection.columns if f.name in mapped and not f.primary)

    @property
    def rows(self) -> int:
        """The rows of its sources, without those that lost a collision."""
        return sum(u.rows for u in self.units) - sum(map(len, self.losers))


def sides(spec: Spec, facts: Facts, choice: Choice, *, one_way: bool) -> list[Side]:
    """Find what is to be compared; raises ConflictError naming all that cannot be."""
    problems = [*facts.collisions]
    found: list[Side] = []
    for name, wanted in facts.wanted.items():
        if wanted.problems:
            problems += wanted.problems
        elif wanted.data:
            refused = list(_unready(spec, name, wanted, facts))
            problems += refused
            found += [] if refused else _of_collection(spec, name, wanted, facts, choice, problems, one_way=one_way)
    if problems:
        raise ConflictError(list(dict.fromkeys(problems)))
    return found


def _unready(spec: Spec, name: str, wanted: Wanted, facts: Facts) -> Iterator[Problem]:
    """Say why a collection cannot be compared as it is."""
    where, live = spec.where("collections", name), facts.target.live.get(name)
    if live is None:
        yield Problem(f"collection.{name} is not on the target", where, "vsync apply brings it there")
        return
    # What is said of rows is in their fields: a description does not keep them from being compared.
    declared = replace(wanted.declared, description=None)
    differs = next(iter(forces_replacement(declared, live.schema)), None)
    if differs:
        yield Problem(f"collection.{name} is another one on the target: {differs}", where, "see vsync plan")
    if live.loaded is False:
        hint = "load it first (load: true in the spec and vsync apply); a check never loads"
        yield Problem(f"collection.{name} is not loaded: its rows cannot be read", where, hint)
    for data in wanted.data:
        if data.partition is not None and data.partition not in live.partition_rows:
            yield Problem(f"{data.destination} is not on the target", where, "vsync apply brings it there")


def _of_collection(
    spec: Spec,
    name: str,
    wanted: Wanted,
    facts: Facts,
    choice: Choice,
    problems: list[Problem],
    *,
    one_way: bool,
) -> Iterator[Side]:
    for destination in dict.fromkeys(d.destination for d in wanted.data):
        whole = [d for d in wanted.data if d.destination == destination]
        data = [d for d in whole if choice.takes_data(d.address, destination)]
        if len(data) < len(whole) and data and not one_way:
            what = f"{destination} is compared with all its data together, and only a part of it was chosen"
            hint = "choose the whole collection or partition, or add --one-way"
            problems.append(Problem(what, spec.where("collections", name, "data"), hint))
        elif data:
            yield side_of(spec, name, wanted, data, facts)


def side_of(spec: Spec, name: str, wanted: Wanted, data: Sequence[WantedData], facts: Facts) -> Side:
    """Put a destination together with its data."""
    wish, partition, destination = spec.collections[name], data[0].partition, data[0].destination
    addresses = {d.address for d in data}
    units = [u for u in facts.units if u.unit.address in addresses and u.unit.destination == destination]
    return Side(
        address=destination,
        collection=wanted.effective,
        partition=partition,
        units=tuple(u.unit for u in units),
        bounds=tuple(u.bounds for u in units),
        losers=tuple(u.losers for u in units),
        skips=wish.on_bad_row == "skip",
        write=wish.write_into(partition),
        exclusive=wish.exclusive,
        session=_session(destination, name, facts),
        scope=wish.scope,
        scope_at=spec.where("collections", name, "scope"),
    )


def _session(destination: str, name: str, facts: Facts) -> SessionFacts | None:
    """Give what the journal knows of the destination, if it is of the collection that is there now."""
    known = facts.journal.sessions.get(destination)
    return known if known is not None and known.collection_id == facts.target.live[name].id else None
