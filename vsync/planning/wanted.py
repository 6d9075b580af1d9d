"""From a collection of the spec and the sources of its rows: its schema, and where each field's values come from."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from vsync.errors import ConflictError, Problem
from vsync.planning import dynamic, rekeying
from vsync.planning.declared import declare, says_partitions
from vsync.planning.diff import forces_replacement
from vsync.planning.inferred import KEY_NAMES, columns, inferred_fields, made_fields, plain_name, said_of
from vsync.planning.inherit import ATTRIBUTES, as_it_is, take_over, unplaced
from vsync.planning.rekeying import rekey_of
from vsync.planning.steps import Fidelity, destination_address
from vsync.rows import (
    Constant,
    DynamicKey,
    FromColumn,
    Mapped,
    Origin,
    RowNumber,
    cast_of,
    columns_of,
    constant,
    infer_field,
    origin_columns,
)
from vsync.schema import DEFAULT_PARTITION, DYNAMIC_FIELD, MAX_LENGTH, Collection, DataType, Field

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from vsync.connectors.base import Column, Description, Loss
    from vsync.planning.inherit import Nearest
    from vsync.schema import LiveCollection
    from vsync.spec import CollectionSpec, DataSpec, Spec


@dataclass(frozen=True, slots=True)
class DataItem:
    """One ``data:`` item of a collection: the files it names, described, in their order; or a collection's partition.

    ``partition`` is the one of the source, where its rows are to stay in their own. ``options`` is what a source is
    opened with.
    """

    index: int
    spec: DataSpec
    paths: tuple[str, ...]
    descriptions: tuple[Description, ...]
    partition: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its name in addresses: the position where it has none."""
        return self.spec.name or str(self.index)

    @property
    def first(self) -> Description | None:
        """What the first of its files holds, of those that have rows: an empty one may know no types."""
        return next((d for d in self.descriptions if d.rows), next(iter(self.descriptions), None))


@dataclass(frozen=True, slots=True)
class WantedData:
    """A data item with the mapping of its rows and the destination they go to.

    ``old_key`` is the column of the keys that they had, where the server makes new ones.
    """

    item: DataItem
    address: str
    destination: str
    partition: str | None
    mapping: tuple[Mapped, ...]
    old_key: str | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the spec says of one collection, made whole.

    ``declared`` holds only what the spec says (fields inferred from sources only where the collection is not there
    yet); ``effective`` has the fields that rows are written to. ``losses`` are what a collection that is made anew is
    not, of its source or of what the spec says; ``dropped`` what rows lose that are written to one that is there.
    """

    declared: Collection
    effective: Collection
    data: tuple[WantedData, ...]
    fidelity: tuple[Fidelity, ...]
    problems: tuple[Problem, ...]
    losses: tuple[Loss, ...] = ()
    dropped: tuple[Loss, ...] = ()


def want(
    spec: Spec,
    name: str,
    items: Sequence[DataItem],
    live: LiveCollection | None,
    nearest: Nearest = as_it_is,
    *,
    unfinished: bool = False,
) -> Wanted:
    """Make a collection of the spec whole; problems are collected, nothing is raised.

    ``nearest`` is the target's judgement of what it holds of a collection that is made like another one.
    ``unfinished``: vsync made what is there, and not all of it yet.
    """
    wish, problems, fidelity = spec.collections[name], list[Problem](), list[Fidelity]()
    open_to = set() if says_partitions(wish) else {"partitions"}
    declared = _holding(declare(name, wish, items), wish, live)
    declared, losses = nearest(declared, ATTRIBUTES - open_to)
    source, rekey = _source(items), rekey_of(wish, items)
    if live is None and source is not None:
        declared, lost = take_over(declared, source, said_of(items[0]), nearest, rekey)
        losses = [*losses, *lost]
        if wish.fields is None:
            declared = replace(declared, fields=(*declared.fields, *made_fields(declared, items)))
    elif live is not None and source is not None and unfinished:
        made, _ = take_over(declared, source, said_of(items[0]), nearest, rekey)
        declared = replace(declared, indexes=made.indexes, aliases=made.aliases)
    elif not declared.fields and live is None:
        fields = tuple(map(rekey, inferred_fields(spec, name, items, problems)))
        holds = True if any(f.name == DYNAMIC_FIELD for f in fields) else declared.dynamic
        declared = replace(declared, fields=tuple(f for f in fields if f.name != DYNAMIC_FIELD), dynamic=holds)
    effective = _effective(declared, live)
    data: list[WantedData] = []
    if any(f.primary for f in effective.fields):
        for item in items:
            origins = _origins(spec, name, item, effective, problems)
            plain = tuple(Mapped(f, origins[f.name]) for f in effective.columns if f.name in origins)
            fidelity += _casts(spec, name, item, plain, problems)
            mapping, old_key = rekeying.with_prefix(wish, item, plain), _old_key(wish, item, effective)
            partition = _partition(item, effective)
            to, address = destination_address(name, partition), f"collection.{name}.data.{item.name}"
            data.append(WantedData(item, address, to, partition, mapping, old_key))
        _row_number_twice(spec, name, data, problems)
        problems += rekeying.problems(spec, name, effective, data)
        fidelity += rekeying.told(name, effective, data)
    dropped: tuple[Loss, ...] = ()
    if wish.fields is None:
        fidelity += [line for w in data for line in _left_out(w)]
        if live is None:
            told = {loss.address.rpartition(".")[2] for loss in losses}
            losses += unplaced(name, _with_taken(data, told), "the first source has no such field", begin=1)
        else:
            dropped = tuple(unplaced(name, _with_taken(data, set()), "the collection has no such field"))
    fidelity = list(dict.fromkeys(fidelity))
    return Wanted(declared, effective, tuple(data), tuple(fidelity), tuple(problems), tuple(losses), dropped)


def _effective(declared: Collection, live: LiveCollection | None) -> Collection:
    """Give the collection that rows are written to: with the fields that are there, unless it is made anew."""
    if live is None:
        return declared
    if not (declared.fields and any(forces_replacement(declared, live.schema))):
        declared = replace(declared, fields=tuple(_told(f, declared.field(f.name)) for f in live.schema.fields))
    return replace(declared, dynamic=live.schema.dynamic) if declared.dynamic is None else declared


def _with_taken(data: Sequence[WantedData], told: set[str]) -> list[tuple[Description, set[str]]]:
    """Give each source with what is copied of it, and what was told of."""
    return [(d, told | _taken(w)) for w in data for d in w.item.descriptions]


def _holding(declared: Collection, wish: CollectionSpec, live: LiveCollection | None) -> Collection:
    """Give a new collection the dynamic field where its data brings values for it."""
    brings = any(DYNAMIC_FIELD in (d.map or {}) for d in wish.data)
    return replace(declared, dynamic=True) if live is None and declared.dynamic is None and brings else declared


def _left_out(data: WantedData) -> Iterator[Fidelity]:
    """Name the columns of files that are copied nowhere, where nothing says which are wanted."""
    if data.item.spec.map:
        return
    for path, description in zip(data.item.paths, data.item.descriptions, strict=True):
        if description.collection is None and not description.suggested:
            for column in description.columns:
                if column.name not in _taken(data):
                    what = f"column {column.name} ({column.native}) of {path}: no field takes it"
                    yield Fidelity("lost", data.address, what)


def _taken(data: WantedData) -> set[str]:
    """Name the columns that an item's fields come from."""
    old_key = {data.old_key} if data.old_key is not None else set()
    return old_key | set(columns_of(data.mapping))


def _told(live: Field, declared: Field | None) -> Field:
    """Complete a live field by what its server forgets: Milvus Lite the max_length of the elements of an array."""
    if declared is not None:
        live = replace(live, in_characters=declared.in_characters)  # the spec counts bytes
    if live.element is not DataType.VARCHAR or live.max_length is not None:
        return live
    return replace(live, max_length=(declared.max_length if declared else None) or MAX_LENGTH)


def _partition(item: DataItem, collection: Collection) -> str | None:
    """Say where the rows of an item go: ``None`` where Milvus itself spreads them."""
    if item.spec.into or not any(f.partition_key for f in collection.fields):
        own = item.partition if item.partition in (collection.partitions or ()) else None
        return item.spec.into_one or own or DEFAULT_PARTITION
    return None


def _source(items: Sequence[DataItem]) -> LiveCollection | None:
    """Give the collection that the first item's rows come from; ``None`` where they come from files."""
    return next((d.collection for item in items[:1] for d in item.descriptions), None)


def _origins(
    spec: Spec, name: str, item: DataItem, collection: Collection, problems: list[Problem]
) -> dict[str, Origin]:
    """Find for each field where its values come from; the first file of the item decides."""
    said = said_of(item)
    known = {f.name for f in collection.fields}
    for field_name in said.keys() - known - {DYNAMIC_FIELD}:
        near = difflib.get_close_matches(field_name, known, 1)
        hint = f"did you mean {near[0]}?" if near else f"its fields are {', '.join(sorted(known))}"
        if isinstance(said[field_name], DynamicKey):
            hint = f"declare it with its type, under fields: ({hint})"
        where = spec.where("collections", name, "data", item.index, "map", field_name)
        problems.append(Problem(f"collection {name} has no field {field_name}", where, hint))
    problems += dynamic.problems(spec, name, item, collection)
    description = item.first
    if description is None:
        return {n: o for n, o in said.items() if n in known}
    taken = {column for o in said.values() for column in origin_columns(o)}
    found: dict[str, Origin] = {}
    whole = dynamic.origin(said, description) if collection.dynamic else None
    if whole is not None:
        found[DYNAMIC_FIELD] = whole
    for f in collection.fields:
        origin = said.get(f.name) or _unsaid_origin(f, collection, description, taken)
        if f.computed:
            _refuse_computed(spec, name, item, f, problems)
        elif origin is not None and not (f.primary and f.auto_id):
            found[f.name] = origin
        elif not (f.auto_id or f.nullable or f.default is not None):
            where = spec.where("collections", name, "data", item.index, "map")
            hint = f"write map: {{{f.name}: COLUMN}}"
            if description.column(f.name) is not None and f.name not in taken:
                hint = f"declare {f.name} as it is there, or map another column to it"
            problems.append(Problem(_unfed(f, name, item.paths[0], description, taken), where, hint))
    return found


def _unfed(f: Field, name: str, path: str, description: Description, taken: set[str]) -> str:
    """Say that nothing feeds a field: there is no column for it, or the one of its name is of another type."""
    column = description.column(f.name)
    if column is None or f.name in taken:
        return f"nothing says where field {f.name} of {name} comes from: {path} holds {columns(description)}"
    return f"column {f.name} of {path} is {column.native}, and the field {f.name} of {name} is {f}"


def _refuse_computed(spec: Spec, name: str, item: DataItem, f: Field, problems: list[Problem]) -> None:
    if f.name in said_of(item):
        where = spec.where("collections", name, "data", item.index, "map", f.name)
        problems.append(Problem(f"the server itself makes the values of {f.name}", where, "leave it out"))


def _unsaid_origin(f: Field, collection: Collection, description: Description, taken: set[str]) -> Origin | None:
    if f.auto_id:
        return None
    free = [c for c in description.columns if c.name not in taken]
    for column in _candidates(f, collection, description, free):
        if _fits(column, f):
            return FromColumn(column.name)
    return RowNumber() if f.primary and f.type is DataType.INT64 else None


def _candidates(f: Field, collection: Collection, description: Description, free: Sequence[Column]) -> Iterator[Column]:
    by_name = {c.name: c for c in free}
    if f.name in description.suggested and description.suggested[f.name] in by_name:
        yield by_name[description.suggested[f.name]]
    yield from (c for c in free if c.name == f.name)
    yield from (c for c in free if c.name.rsplit("/", 1)[-1] == f.name)
    yield from (c for c in free if plain_name(c.name) == f.name)
    if f.primary:
        yield from (c for c in free if c.field is not None and c.field.primary)
        yield from (c for k in KEY_NAMES for c in free if c.name.rsplit("/", 1)[-1].lower() == k)
    if f.type.is_vector and sum(g.type.is_vector for g in collection.fields) == 1:
        suggested = [c for c in free if c.name in description.suggested.values() and _is_vector(c)]
        vectors = suggested or [c for c in free if _is_vector(c)]
        if len(vectors) == 1:
            yield vectors[0]


def _old_key(wish: CollectionSpec, item: DataItem, collection: Collection) -> str | None:
    """Find the column of the keys that rows of an item have, where the server makes new ones.

    Of a file only where the policy says so: its columns are no keys until a spec makes one of them the key.
    """
    key, description = collection.primary, item.first
    if not key.auto_id or description is None:
        return None
    if description.collection is not None:
        name = description.collection.schema.primary.name
        return name if description.column(name) else None
    if wish.on_collision != "renumber":
        return None
    said = said_of(item).get(key.name)
    if isinstance(said, FromColumn):
        found = [c for c in description.columns if c.name == said.column]
    else:
        found = list(_candidates(key, collection, description, description.columns))
    return next((c.name for c in found if infer_field(c, key.name, primary=True)), None)


def _is_vector(column: Column) -> bool:
    made = infer_field(column, "vector")
    return made is not None and made.type.is_vector


def _fits(column: Column, f: Field) -> bool:
    try:
        cast_of(column, f)
    except ConflictError:
        # A vector of another dimension is meant all the same: better the clear error than another column.
        return f.type.is_vector and _is_vector(column)
    return True


def _casts(
    spec: Spec, name: str, item: DataItem, mapping: Sequence[Mapped], problems: list[Problem]
) -> Iterator[Fidelity]:
    """Check every mapped column of every file, and name what a cast or a decoder changes, and where."""
    changed: dict[tuple[str, str], list[str]] = {}
    for m in mapping:
        where = spec.where("collections", name, "data", item.index, "map", m.field.name)
        address = f"collection.{name}.field.{m.field.name}"
        ways = dynamic.ways(m)
        if not ways and isinstance(m.origin, Constant | RowNumber):
            _check_made(m, where, problems)
        for path, description in zip(item.paths, item.descriptions, strict=True):
            for column_name, cast_from in ways:
                column = dynamic.column_of(description, column_name)
                if column is None:
                    problems.append(Problem(*_no_column(path, column_name, description, where)))
                    continue
                try:
                    cast = cast_from(column)
                except ConflictError as e:
                    problems += [Problem(f"{path}: {p.what}", p.where or where, p.hint) for p in e.problems]
                    continue
                for note in filter(None, (cast.note, column.loss, _narrower(column, m.field))):
                    changed.setdefault((address, note), []).append(path)
    for (address, note), paths in changed.items():
        more = f" and {len(paths) - 1:,} more" if len(paths) > 1 else ""
        yield Fidelity("converted", address, f"{note} (from {paths[0]}{more})")


def _narrower(column: Column, f: Field) -> str | None:
    """Say that texts may be too long for a field, where the source says how long they may be."""
    was = column.field
    if was is None or {was.type, f.type} != {DataType.VARCHAR}:
        return None
    most, room = ((one.max_length or MAX_LENGTH) * (4 if one.in_characters else 1) for one in (was, f))
    return f"{was} -> {f}: longer texts do not fit, checked at apply" if most > room else None


def _no_column(path: str, name: str, description: Description, where: str | None) -> tuple[str, str | None, str]:
    """Say that a source does not have a column, and which one was meant or what there is."""
    if name == DYNAMIC_FIELD:
        return f"{path} has no dynamic field ({DYNAMIC_FIELD})", where, f"it holds {columns(description)}"
    near = difflib.get_close_matches(name, [c.name for c in description.columns], 1)
    hint = f"did you mean {near[0]}?" if near else f"it holds {columns(description)}"
    return f"{path} has no column {name}", where, hint


def _check_made(mapped: Mapped, where: str | None, problems: list[Problem]) -> None:
    """Check that a constant, or the row number, can stand in its field."""
    try:
        constant(mapped.origin.value if isinstance(mapped.origin, Constant) else 0, mapped.field)
    except ConflictError as e:
        problems += [Problem(p.what, p.where or where, p.hint) for p in e.problems]


def _row_number_twice(spec: Spec, name: str, data: Sequence[WantedData], problems: list[Problem]) -> None:
    """Refuse row numbers as keys of several files: they would collide."""
    numbered = [d for d in data for m in d.mapping if m.field.primary and isinstance(m.origin, RowNumber)]
    if sum(len(d.item.paths) for d in numbered) > 1:
        problems.append(
            Problem(
                f"the keys of collection {name} are row numbers, and several files would repeat them",
                spec.where("collections", name, "data"),
                "map a column to the key, declare the key auto_id: true, or give each file a collection of its own",
            )
        )
