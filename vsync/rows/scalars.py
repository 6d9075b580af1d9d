"""Numbers into numbers, by value: nothing wraps and nothing overflows unseen."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from vsync.rows.bad import found, shown
from vsync.rows.buffers import Mask, Numbers, dtype_of, from_numbers, numbers, valid_mask
from vsync.rows.forms import arrow_type
from vsync.rows.route import SAME, Cast, Casted, Route, refusal

if TYPE_CHECKING:
    from vsync.connectors.base import Column
    from vsync.schema import Field

BFLOAT16_INFINITY = 0x7F80

MANTISSA = {"bfloat16": 8, "float16": 11, "float32": 24, "float64": 53}


def is_number(kind: pa.DataType) -> bool:
    """Tell whether it is an integer or a float."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def number_cast(source: np.dtype[Any], target: str) -> Cast:
    """Say what casting NumPy type ``source`` to ``target`` (``bfloat16`` is one too) does to values."""
    if source.name == target:
        return SAME
    arrow = f"{source.name} -> {target}"
    if target not in MANTISSA:
        fits = source.kind != "f" and np.can_cast(source, target)
        return Cast(exact=True, note=arrow if fits else f"{arrow}: checked at apply")
    bits = MANTISSA[source.name] if source.kind == "f" else source.itemsize * 8 - (source.kind == "i")
    exact = bits <= MANTISSA[target]
    return Cast(exact, arrow if exact else f"{arrow}: rounded")


def convert(values: Numbers, target: np.dtype[Any]) -> tuple[Numbers, Mask | None]:
    """Cast to ``target``, rounding floats to nearest even; the mask tells what does not fit, if anything.

    An integer type holds no fraction, NaN, infinity or value out of its range; a float type no finite value
    that would become infinite. Returns ``values`` itself where the type is the same.
    """
    if values.dtype == target:
        return values, None
    with np.errstate(all="ignore"):
        out: Numbers = values.astype(target)
        if target.kind == "f":
            bad = np.isinf(out)
            if bad.any() and values.dtype.kind == "f":
                bad &= np.isfinite(values)
        elif values.dtype.kind == "f":
            low, high = float(np.iinfo(target).min), float(np.iinfo(target).max + 1)
            bad = (out != values) | ~((values >= low) & (values < high))
        else:
            have, want = np.iinfo(values.dtype), np.iinfo(target)
            bad = (values < max(have.min, want.min)) | (values > min(have.max, want.max))
    return out, bad if bad.any() else None


def to_bfloat16(values: Numbers) -> tuple[Numbers, Mask | None]:
    """Round to the bits of bfloat16 (nearest even, by way of float32); the mask is as in :func:`convert`."""
    single, bad = convert(values, np.dtype(np.float32))
    bits = np.ascontiguousarray(single).view(np.uint32)
    half = (bits >> 16) & 1
    half += 0x7FFF
    half += bits
    out = (half >> 16).astype(np.uint16)
    finite = np.isfinite(single)
    if not finite.all():
        nan = np.isnan(single)
        out[nan] = (bits[nan] >> 16).astype(np.uint16) | 0x40
    overflown = finite & ((out & 0x7FFF) == BFLOAT16_INFINITY)
    bad = overflown if bad is None else overflown | bad
    return out, bad if bad.any() else None


def number_route(column: Column, field: Field) -> Route:
    """Find the way into an integer, float or bool field."""
    source, target = column.type, arrow_type(field)
    if source == target:
        return Route(SAME, Casted)
    if pa.types.is_temporal(source):
        return _temporal(column, field)
    if pa.types.is_decimal(source) and pa.types.is_floating(target):
        return Route(Cast(exact=False, note=f"{source} -> {field.type}: rounded"), partial(_decimals, target))
    if pa.types.is_boolean(source) and pa.types.is_integer(target):
        cast = Cast(exact=True, note=f"bool -> {field.type}: 0 and 1")
        return Route(cast, lambda array: Casted(array.cast(target)))
    if not is_number(source) or pa.types.is_boolean(target):
        raise refusal(column, field, f"map a column of {'booleans' if field.type == 'bool' else 'numbers'} here")
    return Route(number_cast(dtype_of(source), dtype_of(target).name), partial(_numbers, target))


def _numbers(target: pa.DataType, array: pa.Array) -> Casted:
    out, bad = convert(numbers(array), dtype_of(target))
    values = from_numbers(target, out, array)
    if bad is None:
        return Casted(values)
    why = f"is no {dtype_of(target).name}"
    return Casted(values, tuple(found(bad & valid_mask(array), why, partial(shown, array))))


def _decimals(target: pa.DataType, array: pa.Array) -> Casted:
    # By way of their digits, which are read as the nearest double: Arrow's own cast multiplies, and is off by one bit.
    return _numbers(target, array.cast(pa.string()).cast(pa.float64()))


def _temporal(column: Column, field: Field) -> Route:
    base = integer_behind(column.type)
    if base is None or not field.type.is_integer or base.bit_width > arrow_type(field).bit_width:
        raise refusal(column, field, "times go exactly into an int64 field, as a count of their unit")
    target = arrow_type(field)
    cast = Cast(exact=True, note=f"{column.type} -> {field.type}: {_unit(column.type)}")
    return Route(cast, lambda array: _numbers(target, array.view(base)))


def integer_behind(kind: pa.DataType) -> pa.DataType | None:
    """Give the integer that a time is stored as; ``None`` for intervals, which are several."""
    if not pa.types.is_temporal(kind) or pa.types.is_interval(kind):
        return None
    return pa.int32() if kind.bit_width == pa.int32().bit_width else pa.int64()


def _unit(kind: pa.DataType) -> str:
    if pa.types.is_date32(kind):
        return "days since 1970-01-01"
    unit = "ms" if pa.types.is_date64(kind) else kind.unit
    since = " since 1970-01-01" if pa.types.is_timestamp(kind) or pa.types.is_date64(kind) else ""
    return f"in {unit}{since}{' UTC' if pa.types.is_timestamp(kind) and kind.tz else ''}"
