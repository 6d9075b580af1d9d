"""Checks of values against the field and the server: which rows would be refused, or stored wrong."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vsync.rows.bad import IS_NULL, NEVER_NULL, BadRow, Finding, bad_rows_error, found, shown
from vsync.rows.buffers import (
    Mask,
    byte_lengths,
    byte_offsets,
    byte_rows,
    list_parts,
    numbers,
    rows_holding,
    valid_mask,
)
from vsync.rows.moments import outside
from vsync.rows.places import bad_geometry
from vsync.rows.scalars import BFLOAT16_INFINITY
from vsync.rows.sparse import MAX_INDEX, PAIR
from vsync.rows.text import parsed
from vsync.schema import DYNAMIC_FIELD, DataType, Field, Rules

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["BadRow", "Rules", "bad_rows_error", "check_column", "find_bad_rows"]

FLOAT16_INFINITY = 0x7C00
FLOATING = (DataType.FLOAT_VECTOR, DataType.FLOAT16_VECTOR, DataType.BFLOAT16_VECTOR)


def find_bad_rows(rows: pa.RecordBatch, first_row: int, fields: Sequence[Field], rules: Rules) -> list[BadRow]:
    """Find every value of ``rows`` (in the fields' Arrow form) that does not fit, by row, then field.

    ``first_row`` is the number of the first row in its file. Fields without a column are left out.
    Checked are: nulls without a default, bytes of varchars, lengths and elements of arrays, JSON, geometry, years,
    NaN and infinities in vectors, and the form of sparse vectors.
    """
    names = rows.schema.names
    bad = [
        BadRow(first_row + f.at, field.name, f.value, f.why)
        for field in fields
        if field.name in names
        for f in check_column(rows.column(field.name), field, rules)
    ]
    return sorted(bad, key=lambda b: b.row)


def check_column(array: pa.Array, field: Field, rules: Rules) -> list[Finding]:
    """Find what does not fit in one column, by position."""
    findings: list[Finding] = []
    if array.null_count and not field.nullable and field.default is None:
        never = field.primary or field.type.is_vector
        findings += found(~valid_mask(array), NEVER_NULL if never else IS_NULL, partial(shown, array))
    if field.type is DataType.VARCHAR and field.max_length is not None:
        findings += _too_long(array, field)
    elif field.type is DataType.ARRAY:
        findings += _bad_arrays(array, field)
    elif field.type is DataType.JSON:
        findings += _bad_json(array, field, rules)
    elif field.type is DataType.GEOMETRY:
        findings += bad_geometry(array, simple=rules.simple_geometry)
    elif field.type is DataType.TIMESTAMPTZ:
        findings += outside(array)
    elif field.type is DataType.SPARSE_FLOAT_VECTOR:
        findings += _bad_sparse(array, rules)
    elif field.type in FLOATING and rules.finite_vectors:
        findings += _not_finite(array, field)
    return findings


def _too_long(array: pa.Array, field: Field) -> list[Finding]:
    long, unit = _longer(array, field)
    if not long.any():
        return []

    def show(at: int) -> str:
        size = f"({_lengths(array.slice(at, 1), field)[0]} {unit})"
        text = shown(array, at)
        return text if text.endswith(size) else f"{text} {size}"

    return found(long & valid_mask(array), f"is longer than {field.max_length} {unit}", show)


def _longer(array: pa.Array, field: Field) -> tuple[Mask, str]:
    """Mark the texts that are longer than the field's ``max_length``, and say in what that counts."""
    limit = field.max_length or 0
    long: Mask = byte_lengths(array) > limit  # no text has more characters than bytes
    if field.in_characters and long.any():
        long = _lengths(array, field) > limit
    return long, "characters" if field.in_characters else "bytes"


def _lengths(array: pa.Array, field: Field) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    if not field.in_characters:
        return byte_lengths(array)
    lengths = pc.utf8_length(array).fill_null(0).to_numpy(zero_copy_only=False)
    return np.asarray(lengths, np.int64)


def _bad_arrays(array: pa.Array, field: Field) -> list[Finding]:
    offsets, child = list_parts(array)
    valid = valid_mask(array)
    show = partial(shown, array)
    findings: list[Finding] = []
    if field.max_capacity is not None:
        long = (np.diff(offsets) > field.max_capacity) & valid
        findings += found(long, f"has more than {field.max_capacity} elements", show)
    if child.null_count:
        nulls = rows_holding(~valid_mask(child), offsets) & valid
        findings += found(nulls, "holds a null", show)
    if field.element is DataType.VARCHAR and field.max_length is not None:
        long, unit = _longer(child, field)
        long &= valid_mask(child)
        why = f"holds a string longer than {field.max_length} {unit}"
        findings += found(rows_holding(long, offsets) & valid, why, show)
    return findings


def _not_finite(array: pa.Array, field: Field) -> list[Finding]:
    bad = _non_finite_elements(array, field)
    if bad is None:
        return []
    matrix = bad.reshape(len(array), -1)
    first = matrix.argmax(axis=1)

    def show(at: int) -> str:
        return f"element {first[at]} of {shown(array, at)}"

    return found(matrix.any(axis=1) & valid_mask(array), "holds NaN or infinity", show)


def _non_finite_elements(array: pa.Array, field: Field) -> Mask | None:
    """Mark the elements that are NaN or infinite, ``None`` where there are none."""
    if field.type is DataType.BFLOAT16_VECTOR:
        bad = (byte_rows(array).view(np.uint16) & BFLOAT16_INFINITY) == BFLOAT16_INFINITY
    else:
        values = numbers(list_parts(array)[1])
        if values.dtype == np.float16:
            bad = (values.view(np.uint16) & FLOAT16_INFINITY) == FLOAT16_INFINITY
        else:
            with np.errstate(all="ignore"):
                # One that is not finite makes the sum so; a sum that overflows only costs the closer look.
                if np.isfinite(values.sum()):
                    return None
            bad = ~np.isfinite(values)
    return bad if bad.any() else None


def _bad_json(array: pa.Array, field: Field, rules: Rules) -> list[Finding]:
    objects = rules.json_objects_only or field.name == DYNAMIC_FIELD
    findings = []
    for at, raw in enumerate(array.to_pylist()):  # not a vector: JSON texts
        if raw is None:
            continue
        try:
            value = parsed(raw)
        except ValueError as error:
            findings.append(Finding(at, shown(array, at), str(error)))
            continue
        if objects and not isinstance(value, dict):
            findings.append(Finding(at, shown(array, at), "is no JSON object"))
        elif rules.no_json_scalars and not isinstance(value, dict | list):
            findings.append(Finding(at, shown(array, at), "is no JSON object or list, which this server takes alone"))
    return findings


def _bad_sparse(array: pa.Array, rules: Rules) -> list[Finding]:
    lengths = np.where(valid_mask(array), byte_lengths(array), 0)
    show = partial(shown, array)
    findings: list[Finding] = []
    torn = lengths % PAIR.itemsize != 0
    findings += found(torn, f"is not made of pairs of {PAIR.itemsize} bytes", show)
    if rules.sparse_non_empty:
        findings += found((lengths == 0) & valid_mask(array), "is an empty sparse vector", show)
    whole = np.where(torn, 0, lengths)
    data = _bytes_of(array, whole)
    pairs = np.frombuffer(data, PAIR)
    offsets = np.concatenate(([0], np.cumsum(whole // PAIR.itemsize)))
    unsorted = np.zeros(len(pairs), np.bool_)
    unsorted[1:] = pairs["index"][1:] <= pairs["index"][:-1]
    unsorted[offsets[:-1][offsets[:-1] < len(pairs)]] = False
    for places, why in (
        (unsorted, "has indices that do not ascend"),
        (pairs["index"] > MAX_INDEX, f"holds an index above {MAX_INDEX}"),
        (~np.isfinite(pairs["value"]), "holds NaN or infinity"),
        ((pairs["value"] < 0) & rules.sparse_non_negative, "holds a negative value"),
    ):
        if places.any():
            findings += found(rows_holding(places, offsets), why, show)
    return findings


def _bytes_of(array: pa.Array, lengths: np.ndarray[tuple[int], np.dtype[np.int64]]) -> bytes | pa.Buffer:
    """Give the bytes of the rows one after the other, without those whose length is to be taken as 0."""
    kept = array.filter(pa.array(lengths > 0)) if (byte_lengths(array) != lengths).any() else array
    offsets, data = byte_offsets(kept), kept.buffers()[2]
    return data.slice(offsets[0], offsets[-1] - offsets[0]) if data is not None else b""
