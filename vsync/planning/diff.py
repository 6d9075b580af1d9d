"""A collection that is wanted against one that is there: changes, the steps that make them, and conflicts.

Only what both sides say is compared: ``None`` in the wanted schema is not managed, ``None`` in the live one is not
told by that server. What differs and can be changed in place becomes a step; the rest forces a replacement, which is a
conflict unless ``--allow-destroy`` names the collection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from vsync.errors import Problem
from vsync.planning.steps import (
    Change,
    CreateCollection,
    CreateIndex,
    CreatePartition,
    DropCollection,
    DropIndex,
    Load,
    Release,
    SetProperties,
    Step,
)
from vsync.schema import Collection, Field, Index, LiveCollection

SameIndex = Callable[[Index, Index], bool]
Where = Callable[..., "str | None"]
"""``where("fields", "vec")`` gives the place in the spec of something of this collection."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What it takes to make one collection as it is wanted: ``before`` its rows are copied, and ``after``."""

    before: tuple[Step, ...] = ()
    after: tuple[Step, ...] = ()
    changes: tuple[Change, ...] = ()
    conflicts: tuple[Problem, ...] = ()
    replaced: bool = False


def diff(
    wanted: Collection,
    live: LiveCollection | None,
    *,
    load: bool | None,
    allow_destroy: bool,
    same_index: SameIndex,
    where: Where,
    unfinished: bool = False,
    keeps: bool = False,
) -> Difference:
    """Compare one collection; ``load`` is the spec's word, ``None`` where it says nothing.

    ``unfinished``: vsync made it, and was stopped before it had all that its plan gave it. ``keeps``: the target only
    keeps what it is given; it is told of declared indexes, so that a copy of it has them, and loads nothing.
    """
    if keeps:
        made = diff(wanted, live, load=False, allow_destroy=allow_destroy, same_index=same_index, where=where)
        return replace(made, after=tuple(s for s in made.after if not isinstance(s, Load | Release)))
    if unfinished and load is None:
        load = True
    if live is None:
        return _created(wanted, load=load, where=where)
    forced = tuple(forces_replacement(wanted, live.schema))
    if forced:
        return _replaced(wanted, live, forced, load=load, allowed=allow_destroy, where=where)
    return _changed(wanted, live, load=load, same_index=same_index, where=where, unfinished=unfinished)


def _created(wanted: Collection, *, load: bool | None, where: Where) -> Difference:
    indexes = _indexes_to_create(wanted, load=load)
    details = [f"+ {f.name}  {f}{_flags(f)}" for f in wanted.fields]
    details += [f"+ index {i.field}  {i}" for i in indexes]
    details += _attributes(wanted)
    change = Change("create", f"collection.{wanted.name}", "will be created", tuple(details), where())
    partitions = wanted.partitions or ()
    return Difference(
        before=(
            CreateCollection(wanted.name),
            *(CreatePartition(wanted.name, p) for p in partitions),
        ),
        after=(
            *(CreateIndex(wanted.name, i) for i in indexes),
            # Milvus Lite loads what it creates.
            Load(wanted.name) if load is not False else Release(wanted.name),
        ),
        changes=(change, *(_partition_change(wanted.name, p, where) for p in partitions)),
    )


def _attributes(wanted: Collection) -> Iterator[str]:
    """Say what else is declared of a collection that will be created."""
    if wanted.dynamic:
        yield "+ dynamic field"
    for attribute in ("description", "shards", "consistency", "num_partitions"):
        value = getattr(wanted, attribute)
        if value is not None:
            yield f"+ {attribute}  {value}"
    yield from (f"+ properties.{k}  {v}" for k, v in sorted(wanted.properties or ()))


def _indexes_to_create(wanted: Collection, *, load: bool | None) -> list[Index]:
    """List the declared indexes, and AUTOINDEX for vectors without one where the collection is to be loaded."""
    declared = list(wanted.indexes or ())
    if load is False:
        return declared
    covered = {i.field for i in declared}
    return declared + [Index(f.name, "AUTOINDEX") for f in wanted.fields if f.type.is_vector and f.name not in covered]


def _replaced(
    wanted: Collection,
    live: LiveCollection,
    forced: Sequence[str],
    *,
    load: bool | None,
    allowed: bool,
    where: Where,
) -> Difference:
    address = f"collection.{wanted.name}"
    if not allowed:
        rows = "its rows" if live.rows is None else f"its {live.rows:,} rows"
        problem = Problem(
            f"{address} differs in what cannot be changed in place: {'; '.join(forced)}",
            where(),
            f"make the spec agree with what is there, or let it be dropped with {rows} and made anew: "
            f"--allow-destroy {address}",
        )
        return Difference(conflicts=(problem,))
    made = _created(replace(wanted, fields=wanted.fields or live.schema.fields), load=load, where=where)
    details = tuple(f"~ {line}  # forces replacement" for line in forced)
    change = Change("replace", address, "must be replaced", details, where())
    return Difference(
        (DropCollection(wanted.name), *made.before), made.after, (change, *made.changes[1:]), replaced=True
    )


def forces_replacement(wanted: Collection, live: Collection) -> Iterator[str]:
    """Say each thing that differs and that no server here changes in place."""
    for f in wanted.fields:
        there = live.field(f.name)
        if there is None:
            yield f"field {f.name} is not there"
            continue
        for attribute in Field.__dataclass_fields__:
            want, have = getattr(f, attribute), getattr(there, attribute)
            if want is not None and have is not None and want != have:
                yield f"{f.name}.{attribute}  {have} -> {want}"
            elif attribute == "default" and want is not None and have is None:
                yield f"{f.name}.default  none -> {want}"
    if wanted.fields:
        yield from (
            f"field {f.name} is not in the spec"
            for f in live.fields
            if wanted.field(f.name) is None and not f.nullable and f.default is None and not f.auto_id
        )
    for attribute in ("dynamic", "description", "shards", "consistency", "num_partitions"):
        want, have = getattr(wanted, attribute), getattr(live, attribute)
        if want is not None and have is not None and want != have:
            yield (
                f"{attribute}  {have!r} -> {want!r}" if attribute == "description" else f"{attribute}  {have} -> {want}"
            )


def _changed(
    wanted: Collection,
    live: LiveCollection,
    *,
    load: bool | None,
    same_index: SameIndex,
    where: Where,
    unfinished: bool,
) -> Difference:
    name = wanted.name
    before: list[Step] = []
    after: list[Step] = []
    details: list[str] = []
    there = dict(live.schema.properties or ())
    properties = tuple((k, v) for k, v in wanted.properties or () if there.get(k) != v)
    if properties:
        before.append(SetProperties(name, properties))
        details += [f"~ properties.{k}  {there.get(k, 'not set')} -> {v}" for k, v in properties]
    partitions = [p for p in wanted.partitions or () if p not in (live.schema.partitions or ())]
    before += [CreatePartition(name, p) for p in partitions]
    reload = False
    # Stopped while an index was built: that is waited for, since the server goes on by itself.
    stopped = unfinished and bool(load) and live.loaded is not True
    for index in wanted.indexes or ():
        old = next((i for i in live.schema.indexes or () if i.field == index.field), None)
        if old is not None and same_index(index, old):
            if stopped:
                after.append(CreateIndex(name, index))
            continue
        if old is not None:
            after.append(DropIndex(name, index.field))
            reload = live.loaded is not False
        after.append(CreateIndex(name, index))
        details.append(f"~ index {index.field}  {old} -> {index}" if old else f"+ index {index.field}  {index}")
    if load and live.loaded is not True:
        declared, built = ({i.field for i in schema.indexes or ()} for schema in (wanted, live.schema))
        vectors = [f.name for f in live.schema.fields if f.type.is_vector and f.name not in declared]
        indexes = [Index(f, "AUTOINDEX") for f in vectors if stopped or f not in built]
        after += [CreateIndex(name, i) for i in indexes]
        details += [f"+ index {i.field}  {i}" for i in indexes if i.field not in built]
    if load is False and (live.loaded or unfinished):
        after.append(
            Release(name)
        )  # Lite 2.5 loads what has no index: released as it is seen, it may not be in the end
        details += ["~ load  loaded -> not loaded"] if live.loaded else []
    elif load and (live.loaded is False or (unfinished and live.loaded is None)):
        after.append(Load(name))
        details.append("~ load  not loaded -> loaded")
    elif reload:
        after.append(Load(name))
    changes = [_partition_change(name, p, where) for p in partitions]
    if details:
        changes.insert(0, Change("update", f"collection.{name}", "will be changed in place", tuple(details), where()))
    return Difference(tuple(before), tuple(after), tuple(changes))


def _partition_change(collection: str, partition: str, where: Where) -> Change:
    return Change(
        "create",
        f"collection.{collection}.partition.{partition}",
        "will be created",
        (),
        where("partitions", partition),
    )


def _flags(f: Field) -> str:
    words = [
        "primary key" if f.primary else "",
        "auto_id" if f.auto_id else "",
        "nullable" if f.nullable else "",
        f"default {f.default!r}" if f.default is not None else "",
        "partition key" if f.partition_key else "",
        "clustering key" if f.clustering_key else "",
        "computed" if f.computed else "",
    ]
    said = ", ".join(filter(None, words))
    return f"  {said}" if said else ""
