"""The way from a source's column to a field's Arrow form: decided once from types, then run on each batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vsync.errors import ConflictError

if TYPE_CHECKING:
    from collections.abc import Callable

    import pyarrow as pa

    from vsync.connectors.base import Column
    from vsync.rows.bad import Finding
    from vsync.schema import Field


@dataclass(frozen=True, slots=True)
class Cast:
    """What a cast does to values.

    ``exact``: every value that arrives is the one that was read; what does not fit is refused, row by row.
    ``note`` says in a few words what happens, ``None`` where the bytes stay as they are.
    """

    exact: bool
    note: str | None


@dataclass(frozen=True, slots=True)
class Casted:
    """A cast column and what did not fit; what stands in the place of a bad value is arbitrary."""

    values: pa.Array
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Route:
    """A cast that is possible: what it does, and the function that does it to an array of the source."""

    cast: Cast
    run: Callable[[pa.Array], Casted]


SAME = Cast(exact=True, note=None)


def refusal(column: Column, field: Field, hint: str) -> ConflictError:
    """Make the error for a column whose type cannot feed the field."""
    what = f"column {column.name}, {column.native}, cannot feed field {field.name}, which is {field}"
    return ConflictError(what, hint=hint)


def width_refusal(column: Column, field: Field, found: str, hint: str) -> ConflictError:
    """Make the error for vectors of another size than the field's."""
    what = (
        f"vector dimension mismatch: column {column.name}, {column.native}, holds {found} a row, "
        f"field {field.name} is {field}"
    )
    return ConflictError(what, hint=hint)
