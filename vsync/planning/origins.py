"""Where a field's values come from, in the plain form that plans and units carry, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vsync.rows import Constant, DynamicKey, FromColumn, Mapped, Origin, RowNumber, WithKeys

if TYPE_CHECKING:
    from vsync.planning.steps import Unit
    from vsync.schema import Collection


def mapping_of(unit: Unit, collection: Collection) -> tuple[Mapped, ...]:
    """Rebuild the mapping of a unit from the plan's plain form."""
    return tuple(Mapped(f, origin_of(unit.origins[f.name])) for f in collection.columns if f.name in unit.origins)


def origin_of(said: str | dict[str, Any]) -> Origin:
    """Read an origin from its plain form; ``plain_origin`` makes it."""
    if isinstance(said, dict) and "keys" in said:
        keys = tuple((key, origin_of(put)) for key, put in said["keys"].items())
        return WithKeys(said["column"], tuple(said["without"]), keys)
    if isinstance(said, dict) and "key" in said:
        return DynamicKey(said["key"])
    if isinstance(said, dict) and "column" in said:
        return FromColumn(said["column"], said["prefix"])
    if isinstance(said, dict):
        return Constant(said["const"])
    return RowNumber() if said == "$row" else FromColumn(said)


def plain_origin(origin: Origin) -> str | dict[str, Any]:
    """Write an origin in the plan's plain form: a column's name, ``$row`` or ``{"const": value}``.

    A column whose values get a prefix is ``{"column": name, "prefix": text}``, a key of the dynamic field
    ``{"key": name}``, and a dynamic field that is put together ``{"column": ..., "without": [...], "keys": {...}}``.
    """
    if isinstance(origin, WithKeys):
        keys = {key: plain_origin(put) for key, put in origin.keys}
        return {"column": origin.column, "without": list(origin.without), "keys": keys}
    if isinstance(origin, DynamicKey):
        return {"key": origin.key}
    if isinstance(origin, FromColumn):
        return {"column": origin.column, "prefix": origin.prefix} if origin.prefix else origin.column
    return {"const": origin.value} if isinstance(origin, Constant) else "$row"
