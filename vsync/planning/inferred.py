"""Fields that nothing declares, found from what the sources hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vsync.errors import Problem
from vsync.rows import Constant, DynamicKey, FromColumn, Origin, RowNumber, WithKeys, infer_field, origin_columns
from vsync.schema import DYNAMIC_FIELD, MAX_LENGTH, META, NAME, Collection, DataType, Field

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vsync.connectors.base import Description
    from vsync.planning.wanted import DataItem
    from vsync.spec import DataSpec, Spec
    from vsync.spec.models import MapFrom

KEY_NAMES = ("id", "ids", "pk", "key", "keys", "_id", "uid", "uuid", "primary_key")
"""Columns that are taken for the primary key where nothing says which is, in this order."""

NO_ROWS = "without rows nothing tells how long its lists are: declare fields:"


def said_of(item: DataItem) -> dict[str, Origin]:
    """Give what the map of an item says."""
    return {n: _origin(m) for n, m in (item.spec.map or {}).items()}


def made_fields(collection: Collection, items: Sequence[DataItem]) -> list[Field]:
    """Infer the fields that maps name and the source does not have."""
    made: dict[str, Field | None] = {}
    for item in items:
        if (first := item.first) is None:
            continue
        for name, origin in said_of(item).items():
            if collection.field(name) is None and name not in {*made, DYNAMIC_FIELD}:
                made[name] = _field_of(name, origin, first, primary=False)
    return [f for f in made.values() if f is not None]


def inferred_fields(spec: Spec, name: str, items: Sequence[DataItem], problems: list[Problem]) -> tuple[Field, ...]:
    """Infer fields from the first file of the first item; the others must then fit.

    What it has for the dynamic field is among them, under its name.
    """
    where = spec.where("collections", name)
    described = [(item, item.first) for item in items if item.first is not None]
    if not described:
        problems.append(
            Problem(
                f"collection {name} is not on the target, and nothing says what its fields are",
                where,
                "write fields:, or data: to infer them from",
            )
        )
        return ()
    first, description = next((pair for pair in described if pair[1].rows), described[0])
    chosen = _chosen_columns(first.spec, description)
    key = _key_name(chosen, description)
    fields = []
    for field_name, origin in chosen.items():
        made = _field_of(field_name, origin, description, primary=field_name == key)
        if made is not None:
            fields.append(made)
        elif field_name == key:
            hint = f"map another column to {field_name}, or declare fields: in which this one has another name"
            problems.append(Problem(f"no key is made of {_native(origin, description)}", where, hint))
        elif first.spec.map and not isinstance(origin, DynamicKey):  # of which the caller says that it is no field
            problems.append(
                Problem(
                    f"no field type holds {_native(origin, description)}",
                    where,
                    f"map another column to {field_name}",
                )
            )
    if key is None:
        fields.insert(0, Field("id", DataType.INT64, primary=True))
    if not any(f.type.is_vector for f in fields):
        problems.append(
            Problem(
                f"{first.paths[first.descriptions.index(description)]} has no vector column: it holds "
                f"{columns(description)}",
                where,
                "map one: map: {vector: COLUMN}, or declare fields:" if description.rows else NO_ROWS,
            )
        )
    return tuple(fields)


def _chosen_columns(data: DataSpec, description: Description) -> dict[str, Origin]:
    """Choose the fields to infer: those of the map, else those of a known layout, else every column."""
    said = {n: _origin(m) for n, m in (data.map or {}).items()}
    if said.keys() - {DYNAMIC_FIELD}:
        return said
    rest = _unsaid_columns(description)
    inside = {column for origin in said.values() for column in origin_columns(origin)}
    return {n: o for n, o in rest.items() if o.column not in inside} | said


def _unsaid_columns(description: Description) -> dict[str, FromColumn]:
    if description.suggested:
        return {n: FromColumn(c) for n, c in description.suggested.items() if description.column(c)}
    return {plain_name(c.name): FromColumn(c.name) for c in description.columns}


def plain_name(column: str) -> str:
    """Give the field that a column is called as, where it is inferred."""
    name = "".join(ch if ch.isalnum() and ch.isascii() else "_" for ch in column.rsplit("/", 1)[-1])
    return name if NAME.match(name) else f"_{name}"


def _key_name(chosen: dict[str, Origin], description: Description) -> str | None:
    was = {c.name for c in description.columns if c.field is not None and c.field.primary}
    known = next((n for n, origin in chosen.items() if isinstance(origin, FromColumn) and origin.column in was), None)
    if known is not None:
        return known
    by_name = {n.lower(): n for n in chosen}
    return next((by_name[k] for k in KEY_NAMES if k in by_name), None)


def _field_of(name: str, origin: Origin, description: Description, *, primary: bool) -> Field | None:
    if isinstance(origin, FromColumn):
        column = description.column(origin.column)
        made = infer_field(column, name, primary=primary) if column else None
        if made and primary and made.type is not DataType.VARCHAR:
            return Field(name, DataType.INT64, primary=True) if made.type.is_integer else None
        return made
    if isinstance(origin, WithKeys):
        return META
    if isinstance(origin, DynamicKey):
        return None
    if isinstance(origin, RowNumber):
        return Field(name, DataType.INT64, primary=primary)
    types = {bool: DataType.BOOL, int: DataType.INT64, float: DataType.DOUBLE, str: DataType.VARCHAR}
    made_type = types.get(type(origin.value), DataType.JSON)
    return Field(name, made_type, primary=primary, max_length=MAX_LENGTH if made_type is DataType.VARCHAR else None)


def _origin(mapped: MapFrom) -> Origin:
    if mapped.row:
        return RowNumber()
    if mapped.key is not None:
        return DynamicKey(mapped.key)
    if mapped.keys is not None:
        return WithKeys(None, keys=tuple((key, _origin(put)) for key, put in mapped.keys.items()))
    return FromColumn(mapped.column) if mapped.column is not None else Constant(mapped.const)


def _native(origin: Origin, description: Description) -> str:
    column = description.column(origin.column) if isinstance(origin, FromColumn) else None
    return f"{column.name} ({column.native})" if column else str(origin)


def columns(description: Description) -> str:
    """Name what a source holds, for people."""
    return ", ".join(f"{c.name} ({c.native})" for c in description.columns) or "no columns"
