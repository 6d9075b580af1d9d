"""What a map says of dynamic fields: keys of the source's that become fields, and what is put into the target's."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from vsync.errors import Problem
from vsync.planning.inferred import said_of
from vsync.rows import Cast, DynamicKey, FromColumn, WithKeys, cast_of
from vsync.rows.dynamic import key_route, value_route
from vsync.schema import DYNAMIC_FIELD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from vsync.connectors.base import Column, Description
    from vsync.planning.wanted import DataItem
    from vsync.rows import Mapped, Origin
    from vsync.schema import Collection
    from vsync.spec import Spec

    Way = tuple[str, Callable[[Column], Cast]]
    """A column that is needed, and what says how it is cast."""


def origin(said: Mapping[str, Origin], description: Description) -> Origin | None:
    """Say where the values of the dynamic field come from: from the source's, without keys that became fields.

    Keys that the map puts in take the place of the source's own.
    """
    own = FromColumn(DYNAMIC_FIELD) if description.column(DYNAMIC_FIELD) else None
    whole, taken = said.get(DYNAMIC_FIELD), {o.key for o in said.values() if isinstance(o, DynamicKey)}
    if isinstance(whole, WithKeys):
        taken |= {o.key for _, o in whole.keys if isinstance(o, DynamicKey)}
        return replace(whole, column=DYNAMIC_FIELD if own else None, without=tuple(sorted(taken)))
    if whole is not None:
        return whole
    return WithKeys(DYNAMIC_FIELD, tuple(sorted(taken))) if own and taken else own


def ways(mapped: Mapped) -> list[Way]:
    """Name the columns that a field's values come from, each with what becomes of them."""
    if isinstance(mapped.origin, WithKeys):
        return [way for key, put in mapped.origin.keys for way in _ways_of_key(key, put)]
    if isinstance(mapped.origin, DynamicKey):
        key = mapped.origin.key
        return [(DYNAMIC_FIELD, lambda _: key_route(key, mapped.field).cast)]
    return (
        [(mapped.origin.column, partial(cast_of, field=mapped.field))] if isinstance(mapped.origin, FromColumn) else []
    )


def _ways_of_key(key: str, put: Origin) -> Iterator[Way]:
    if isinstance(put, FromColumn):
        yield put.column, lambda column: value_route(column, key).cast
    elif isinstance(put, DynamicKey):
        note = f"{DYNAMIC_FIELD}.{put.key} is called {key}" if put.key != key else None
        yield DYNAMIC_FIELD, lambda _: Cast(exact=True, note=note)


def column_of(description: Description, name: str) -> Column | None:
    """Find a column, with the field that it is where the source is a collection."""
    column, live = description.column(name), description.collection
    if column is None or live is None or column.field is not None:
        return column
    return replace(column, field=live.schema.field(name))


def problems(spec: Spec, name: str, item: DataItem, collection: Collection) -> Iterator[Problem]:
    """Find what keeps the dynamic field from being filled as the map says."""
    whole = said_of(item).get(DYNAMIC_FIELD)
    path = ("collections", name, "data", item.index, "map", DYNAMIC_FIELD)
    if whole is not None and not collection.dynamic:
        what = f"collection {name} has no dynamic field to fill"
        yield Problem(what, spec.where(*path), "write dynamic: true, which makes it anew; or map to fields")
    for key, _ in whole.keys if isinstance(whole, WithKeys) else ():
        if collection.field(key) is not None:
            what = f"{key} is a field of {name}, and no key of its dynamic field can have that name"
            yield Problem(what, spec.where(*path, "keys", key), "map it to the field, or give the key another name")
