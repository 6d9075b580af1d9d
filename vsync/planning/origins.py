"""Where a field's values come from, in the plain form that plans and units carry, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vsync.rows import Constant, FromColumn, Mapped, Origin, RowNumber

if TYPE_CHECKING:
    from vsync.planning.steps import Unit
    from vsync.schema import Collection


def mapping_of(unit: Unit, collection: Collection) -> tuple[Mapped, ...]:
    """Rebuild the mapping of a unit from the plan's plain form."""
    return tuple(Mapped(f, origin_of(unit.origins[f.name])) for f in collection.columns if f.name in unit.origins)


def origin_of(said: str | dict[str, Any]) -> Origin:
    """Read an origin from its plain form: a column's name, ``$row`` or ``{"const": value}``."""
    if isinstance(said, dict):
        return Constant(said["const"])
    return RowNumber() if said == "$row" else FromColumn(said)


def plain_origin(origin: Origin) -> str | dict[str, Any]:
    """Write an origin in the plan's plain form."""
    if isinstance(origin, FromColumn):
        return origin.column
    return {"const": origin.value} if isinstance(origin, Constant) else "$row"
