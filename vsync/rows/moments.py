"""Timestamptz: microseconds since 1970 in UTC, from times of any unit and from text."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from vsync.rows.bad import Finding, found, shown
from vsync.rows.buffers import from_numbers, numbers, valid_mask
from vsync.rows.forms import SCALARS
from vsync.rows.route import SAME, Cast, Casted, Route, refusal
from vsync.schema import DataType
from vsync.times import EXAMPLE, FIRST, LAST, micros_of

if TYPE_CHECKING:
    from vsync.connectors.base import Column
    from vsync.schema import Field

_FORM = SCALARS[DataType.TIMESTAMPTZ]
_MICROS = {"s": 1_000_000, "ms": 1_000, "us": 1}
_NANOS = 1_000


def timestamptz_route(column: Column, field: Field) -> Route:
    """Find the way into a timestamptz field."""
    source = column.type
    if source == _FORM:
        return Route(SAME, Casted)
    if pa.types.is_timestamp(source):
        taken = "" if source.tz else ", taken as UTC"
        checked = ": whole microseconds, checked at apply" if source.unit == "ns" else ""
        return Route(Cast(exact=True, note=f"{source} -> timestamptz{taken}{checked}"), _scaled)
    if pa.types.is_string(source):
        cast = Cast(exact=True, note="text -> timestamptz: a time with its offset from UTC, checked at apply")
        return Route(cast, _parsed)
    raise refusal(column, field, f"map a column of timestamps here, or of text such as {EXAMPLE}")


def outside(array: pa.Array) -> list[Finding]:
    """Find the moments that no server can write: of years before 1 or after 9999."""
    values = numbers(array.view(pa.int64()))
    bad = ((values < FIRST) | (values > LAST)) & valid_mask(array)
    return found(bad, "is not within the years 1 to 9999", lambda at: f"{values[at]} microseconds since 1970")


def _scaled(array: pa.Array) -> Casted:
    values, unit = numbers(array.view(pa.int64())), array.type.unit
    if unit == "ns":
        out, why = values // _NANOS, "is finer than a microsecond"
        bad = values % _NANOS != 0
    else:
        factor = _MICROS[unit]
        bad, why = (values > LAST // factor) | (values < FIRST // factor), "is not within the years 1 to 9999"
        out = np.where(bad, 0, values) * factor
    made = from_numbers(_FORM, out, array)
    bad &= valid_mask(array)
    return Casted(made, tuple(found(bad, why, lambda at: f"{values[at]} {unit} since 1970")) if bad.any() else ())


def _parsed(array: pa.Array) -> Casted:
    try:
        return Casted(array.cast(_FORM))
    except pa.ArrowInvalid:
        pass  # one by one, to tell which it is
    values, bad = np.zeros(len(array), np.int64), np.zeros(len(array), np.bool_)
    for at, text in enumerate(array):
        if text.is_valid:
            try:
                values[at] = _read(text)
            except ValueError:
                bad[at] = True
    why = f"is no time such as {EXAMPLE}"
    return Casted(from_numbers(_FORM, values, array), tuple(found(bad, why, partial(shown, array))))


def _read(text: pa.Scalar) -> int:
    """Read what Arrow takes, which is less strict about the form, or what RFC 3339 allows beside it."""
    try:
        return int(text.cast(_FORM).value)
    except pa.ArrowInvalid:
        return micros_of(text.as_py())
