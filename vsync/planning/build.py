"""The whole plan: every collection of the spec against the facts, in the order in which it is carried out."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from vsync.errors import Problem, many
from vsync.planning import known, ledger
from vsync.planning.diff import Difference, diff
from vsync.planning.facts import Owed
from vsync.planning.mend import rewrites
from vsync.planning.rows import Brought, Standing, bring
from vsync.planning.steps import (
    Change,
    Clear,
    CopyChunk,
    CreateDatabase,
    DeleteRows,
    Destination,
    Fidelity,
    Finish,
    Flush,
    Plan,
    Recount,
    SetAlias,
    Step,
    Unit,
    Verify,
    content_key,
    destination_address,
)
from vsync.spec import StoreTarget

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from vsync.planning.choice import Choice
    from vsync.planning.facts import Facts, UnitFacts
    from vsync.planning.wanted import Wanted
    from vsync.schema import Collection, LiveCollection
    from vsync.spec import CollectionSpec, Spec


@dataclass(slots=True)
class _Draft:
    """What has been gathered so far; only this module sees it, and only while it builds."""

    steps: list[Step] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    conflicts: list[Problem] = field(default_factory=list)
    fidelity: list[Fidelity] = field(default_factory=list)
    collections: dict[str, Collection] = field(default_factory=dict)
    destinations: list[Destination] = field(default_factory=list)
    units: list[Unit] = field(default_factory=list)


def build_plan(spec: Spec, facts: Facts, choice: Choice) -> Plan:
    """Build the plan that makes the target hold what the spec says; conflicts are in it, nothing is raised."""
    draft = _Draft(conflicts=list(facts.collisions))
    if not facts.target.has_database:
        database = facts.target.database
        draft.steps.append(CreateDatabase(database))
        draft.changes.append(Change("create", f"database.{database}", "will be created", (), spec.where("target")))
    for name, wanted in facts.wanted.items():
        if choice.takes(f"collection.{name}"):
            _collection(draft, spec, name, wanted, facts, choice)
    draft.conflicts += _restarts_nothing(facts, choice)
    _aliases(draft, spec, facts, choice)
    draft.changes += [*_orphans(spec, facts), *_left_behind(spec, facts)]
    if facts.target.keeps and (draft.steps or facts.target.unfinished):
        draft.steps.append(Finish())
    return Plan(
        spec=spec.long(),
        spec_name=spec.name or "vsync.yaml",
        folder=str(spec.folder),
        spec_digest=spec.digest,
        target=facts.target.identity,
        target_label=facts.target.label,
        observed={n: observed_digest(facts.target.live.get(n)) for n in facts.wanted},
        collections=draft.collections,
        destinations=tuple(draft.destinations),
        units=tuple(draft.units),
        steps=() if draft.conflicts else tuple(draft.steps),
        changes=tuple(draft.changes),
        fidelity=tuple(draft.fidelity),
        conflicts=tuple(dict.fromkeys(draft.conflicts)),
        only=choice.only,
        leave_out=choice.leave_out,
        allow_destroy=choice.allow_destroy,
    )


def observed_digest(live: LiveCollection | None) -> str:
    """Digest what a plan relies on of a live collection: its identity and schema, not its count, for it lives."""
    if live is None:
        return "absent"
    text = json.dumps([live.id, asdict(live.schema)], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _collection(draft: _Draft, spec: Spec, name: str, wanted: Wanted, facts: Facts, choice: Choice) -> None:
    wish, live = spec.collections[name], facts.target.live.get(name)
    address = f"collection.{name}"
    draft.conflicts += wanted.problems
    if wanted.problems:
        return
    difference = diff(
        wanted.declared,
        live,
        load=True if wish.load is None and Owed("load", name, name) in facts.journal.owed else wish.load,
        unfinished=facts.journal.unfinished(name, live) or name in facts.target.unfinished,
        allow_destroy=choice.may_destroy(address),
        same_index=facts.target.same_index,
        where=partial(spec.where, "collections", name),
        keeps=facts.target.keeps,
    )
    draft.conflicts += facts.target.judge(wanted.effective)
    if live is None or difference.replaced:
        draft.fidelity += ledger.lines(wanted.losses)
        draft.changes += ledger.not_needed(spec, name, wanted.losses)
        draft.conflicts += ledger.not_accepted(spec, name, wanted.losses)
    else:
        draft.conflicts += _unknown_fields(spec, name, wanted, live)
    draft.conflicts += difference.conflicts
    if wish.load is False and wish.data and wanted.effective.primary.auto_id:
        draft.conflicts.append(_never_loaded(spec, name))
    draft.fidelity += wanted.fidelity
    draft.collections[name] = wanted.effective
    there = None if difference.replaced else live
    ours = facts.journal.owns(name, live)
    brought = list(_bring_all(spec, name, wanted, there, facts, choice, ours=ours))
    if there is not None and any(b.state == "work" for b in brought):
        draft.fidelity += ledger.lines(wanted.dropped)
        draft.conflicts += ledger.not_accepted(spec, name, wanted.dropped)
    _assemble(draft, name, difference, brought, facts.units)


def _unknown_fields(spec: Spec, name: str, wanted: Wanted, live: LiveCollection) -> Iterator[Problem]:
    """Refuse to write to a collection that has fields which vsync cannot write."""
    for unread, what in live.unread if wanted.data else ():
        address = f"collection.{name}.field.{unread}"
        yield Problem(f"{address} is {what}, which vsync does not write", spec.where("collections", name))


def _restarts_nothing(facts: Facts, choice: Choice) -> Iterator[Problem]:
    data = [d for wanted in facts.wanted.values() for d in wanted.data]
    for address in choice.restart:
        if not any(replace(choice, restart=(address,)).restarts(d.address, d.destination) for d in data):
            yield Problem(f"--restart {address}: no data of the spec goes there", None, "plan shows the addresses")


def _never_loaded(spec: Spec, name: str) -> Problem:
    return Problem(
        f"collection.{name} is not to be loaded, and its keys are made by the server (auto_id): what an interrupted "
        "apply leaves in doubt can only be found in a loaded collection",
        spec.where("collections", name, "load"),
        "leave load: false out, or declare a key of the data's own",
    )


def _bring_all(
    spec: Spec,
    name: str,
    wanted: Wanted,
    live: LiveCollection | None,
    facts: Facts,
    choice: Choice,
    *,
    ours: bool,
) -> Iterator[Brought]:
    """Decide for each destination of a collection, in the order in which its data first names them."""
    wish = spec.collections[name]
    for destination in dict.fromkeys(d.destination for d in wanted.data):
        all_data = [d for d in wanted.data if d.destination == destination]
        data = [d for d in all_data if choice.takes_data(d.address, destination)]
        if not data:
            continue
        addresses = {d.address for d in data}
        units = [u for u in facts.units if u.unit.destination == destination and u.unit.address in addresses]
        partition = data[0].partition
        base = Destination(
            address=destination,
            collection=name,
            partition=partition,
            write=wish.write_into(partition),
            probe=False,
            strict=wish.strict,
            on_bad_row=wish.on_bad_row,
            content="",
            epoch=0,
            session=0,
            before=None,
            exclusive=wish.exclusive,
            elsewhere=live is not None and _elsewhere(wish, wanted, partition, live, facts, choice),
        )
        standing = Standing(
            base=base,
            live=live,
            rows=_rows_there(live, partition),
            ours=ours and (destination in facts.journal.sessions or facts.journal.unfinished(name, live)),
            auto_id=wanted.effective.primary.auto_id,
            allowed=choice.may_destroy(destination),
            whole=len(data) == len(all_data),
            where=spec.where("collections", name, "data"),
            restart=frozenset(u.unit.key for u in units if choice.restarts(u.unit.address, u.unit.destination)),
            found=facts.compared.get(destination),
            may_delete=wish.may_delete(_rows_there(live, partition) or 0),
            present=frozenset(u.unit.key for u in facts.units),
            snapshot=isinstance(spec.target, StoreTarget) and spec.target.snapshots and name in facts.target.unfinished,
        )
        yield bring(standing, units, facts.journal)


def _elsewhere(
    wish: CollectionSpec,
    wanted: Wanted,
    partition: str | None,
    live: LiveCollection,
    facts: Facts,
    choice: Choice,
) -> bool:
    """Tell whether other partitions may hold keys of this one's data: not those that hold just what theirs says.

    So are those that are made to, and those that nothing else was ever brought to.
    """
    data = [d for d in wanted.data if choice.takes_data(d.address, d.destination)]
    whole = {"overwrite"} if wish.scope else {"overwrite", "mirror"}
    exact = {d.partition for d in data if wish.write_into(d.partition) in whole}
    for d in data:
        session = facts.journal.sessions.get(d.destination)
        units = [u for u in facts.units if u.unit.destination == d.destination]
        if session and not session.done and any(u.unit.lives for u in units):
            exact.discard(d.partition)  # what was copied of it before may have moved to another partition since
            continue
        alone = session and (session.session, session.before, session.content)
        if alone == (1, 0, content_key([u.unit.key for u in units])) and known.as_sent(units, facts.journal):
            exact.add(d.partition)
    name = wanted.declared.name
    if facts.journal.unfinished(name, live):  # what vsync made and brought nothing to is empty
        uncounted = (p for p, rows in live.partition_rows.items() if not rows)
        exact.update(p for p in uncounted if destination_address(name, p) not in facts.journal.sessions)
    others = {p: rows for p, rows in live.partition_rows.items() if p not in {partition, *exact}}
    return partition is not None and any(rows != 0 for rows in others.values())


def _rows_there(live: LiveCollection | None, partition: str | None) -> int | None:
    if live is None:
        return 0
    if partition is None:
        return live.rows
    return live.partition_rows.get(partition, 0)


def _assemble(
    draft: _Draft, name: str, difference: Difference, brought: Sequence[Brought], units: Sequence[UnitFacts]
) -> None:
    """Put the steps of one collection in order: its schema, its rows, then index, load and count."""
    work = [b for b in brought if b.state == "work"]
    draft.steps += difference.before
    draft.steps += [Clear(b.destination.address) for b in work if b.clear]
    for b in work:
        if b.mend is not None and b.mend.extra:
            draft.steps.append(DeleteRows(b.destination.address, tuple(b.mend.extra)))
    for b in brought:
        first = len(draft.units)
        draft.steps += _copies(draft, b, units)
        draft.steps += rewrites(b.mend, first) if b.mend is not None else ()
    if any(b.pending or b.clear for b in work):  # some rows that are mended are not worth a segment of their own
        draft.steps.append(Flush(name))
    draft.steps += difference.after
    draft.steps += [_counted(b) for b in work]
    draft.destinations += [b.destination for b in brought]
    draft.changes += difference.changes
    draft.changes += [c for b in brought for c in b.changes]
    draft.conflicts += [p for b in brought for p in b.conflicts]


def _counted(b: Brought) -> Step:
    """Give the step that counts a destination at the end."""
    if b.mend is None or b.pending:
        return Verify(b.destination.address)
    gone = len(b.mend.extra) + b.mend.copies if b.mend.extra else 0
    return Recount(b.destination.address, b.mend.rows - gone)


def _copies(draft: _Draft, brought: Brought, units: Sequence[UnitFacts]) -> Iterator[CopyChunk]:
    """Enter the units of a destination into the plan, and give the chunks that are to be copied."""
    for u in units:
        if u.unit.destination != brought.destination.address:
            continue
        index = len(draft.units)
        draft.units.append(u.unit)
        for n in brought.pending.get(u.unit.key, ()):
            bounds = u.bounds[n]
            yield CopyChunk(index, n, bounds.lo, bounds.hi, u.losers_within(bounds), bounds.keys)


def _aliases(draft: _Draft, spec: Spec, facts: Facts, choice: Choice) -> None:
    """Aliases come last of all. One that a collection of somebody else's holds is a conflict."""
    replaced = {c.address.removeprefix("collection.") for c in draft.changes if c.action == "replace"}
    meant: dict[str, str] = {}
    for name, wanted in facts.wanted.items():
        for alias in wanted.declared.aliases or ():
            meant.setdefault(alias, name)
    for name, wanted in facts.wanted.items():
        kept = [a for a, holder in facts.target.aliases.items() if holder == name and name in replaced]
        owed = sorted(o.name for o in facts.journal.owed if o.kind == "alias" and o.collection == name)
        kept += [alias for alias in owed if alias not in facts.target.aliases]
        kept = [alias for alias in kept if meant.get(alias, name) == name]
        for alias in dict.fromkeys([*(wanted.declared.aliases or ()), *kept]):
            holder = facts.target.aliases.get(alias)
            where = spec.where("collections", name, "aliases")
            if not choice.takes(f"alias.{alias}"):
                continue
            if meant.get(alias, name) != name:
                what = f"{meant[alias]} and {name} are both to have the alias {alias}, which the sources of both have"
                draft.conflicts.append(Problem(what, where, "say aliases: [] of one of them"))
                continue
            if holder == name and name not in replaced:
                continue
            problem = _alias_problem(alias, holder, name, spec, facts.target.live, where)
            if problem is not None and holder != name:
                draft.conflicts.append(problem)
                continue
            draft.steps.append(SetAlias(alias, name))
            moved = holder is not None and holder != name
            text = f"moves from {holder} to {name}" if moved else f"-> {name}"
            draft.changes.append(Change("update" if moved else "create", f"alias.{alias}", text, (), where))


def _alias_problem(
    alias: str, holder: str | None, name: str, spec: Spec, live: Mapping[str, LiveCollection], where: str | None
) -> Problem | None:
    if alias in live:
        return Problem(f"alias {alias} is the name of a collection on the target", where, "choose another")
    if holder is None or holder in spec.collections:
        return None
    return Problem(
        f"alias {alias} belongs to collection {holder}, which the spec does not name",
        where,
        f"leave it there: aliases: [] of {name} or of the copy (vsync restore --no-aliases); or have it moved: name "
        f"{holder} under collections: without this alias",
    )


def _orphans(spec: Spec, facts: Facts) -> Iterator[Change]:
    for address in facts.journal.collections:
        name = address.removeprefix("collection.")
        if name not in spec.collections and name in facts.target.live:
            drop = () if facts.target.keeps else (f"vsync destroy --allow-destroy {address} drops it",)
            yield Change("orphan", address, "no longer in the spec: left on the server", drop)


def _left_behind(spec: Spec, facts: Facts) -> Iterator[Change]:
    """Name partitions with rows that no data goes to any more, of collections that are to be like their data."""
    for address in facts.journal.sessions:
        collection, _, partition = address.partition(".partition.")
        name = collection.removeprefix("collection.")
        wanted, live = facts.wanted.get(name), facts.target.live.get(name)
        if wanted is None or live is None or not {"mirror", "overwrite"} & spec.collections[name].writes:
            continue
        rows = live.partition_rows.get(partition)
        if rows and all(d.destination != address for d in wanted.data):
            yield Change("orphan", address, f"{many(rows, 'row')}; no data goes there any more: left on the server")
