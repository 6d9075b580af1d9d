"""Dense vectors: rows of one width, cast by whole buffers; the same type keeps the same buffer."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from vsync.rows.bad import Finding, found, shown
from vsync.rows.buffers import (
    Mask,
    Numbers,
    byte_offsets,
    dtype_of,
    from_numbers,
    from_rows,
    is_any_list,
    list_parts,
    numbers,
    plain,
    plain_type,
    valid_mask,
    validity,
)
from vsync.rows.forms import LISTED_VECTORS, arrow_type, byte_width
from vsync.rows.route import SAME, Cast, Casted, Route, refusal, width_refusal
from vsync.rows.scalars import convert, is_number, number_cast, to_bfloat16
from vsync.schema import DataType, Field

if TYPE_CHECKING:
    from vsync.connectors.base import Column


def dense_route(column: Column, field: Field) -> Route:
    """Find the way into a float, float16, bfloat16 or int8 vector field."""
    source = column.type
    if source == arrow_type(field):
        return Route(SAME, Casted if pa.types.is_fixed_size_binary(source) else partial(_dense, field))
    if pa.types.is_fixed_size_binary(source) and field.type is DataType.BFLOAT16_VECTOR:
        hint = f"write dim: {source.byte_width // 2}, or map another column"
        raise width_refusal(column, field, f"{source.byte_width} bytes", hint)
    if not is_any_list(source) or not is_number(plain_type(source.value_type)):
        raise refusal(column, field, "map a column of lists of numbers here")
    if pa.types.is_fixed_size_list(source) and source.list_size != field.dim:
        hint = f"write dim: {source.list_size}, or map another column"
        raise width_refusal(column, field, f"{source.list_size} values", hint)
    element = "bfloat16" if field.type is DataType.BFLOAT16_VECTOR else dtype_of(LISTED_VECTORS[field.type]).name
    cast = _with_lengths(number_cast(dtype_of(plain_type(source.value_type)), element), source)
    return Route(cast, partial(_dense, field))


def binary_route(column: Column, field: Field) -> Route:
    """Find the way into a binary vector field: packed bytes, or lists of booleans, first bit highest."""
    source, width = column.type, byte_width(field)
    if source == arrow_type(field):
        return Route(SAME, Casted)
    if pa.types.is_fixed_size_binary(source):
        hint = f"write dim: {source.byte_width * 8}, or map another column"
        raise width_refusal(column, field, f"{source.byte_width * 8} bits", hint)
    if pa.types.is_binary(source):
        cast = Cast(exact=True, note="binary -> binary_vector: lengths checked at apply")
        return Route(cast, lambda array: _packed(field, width, _as_lists(array)))
    if not is_any_list(source):
        raise refusal(column, field, "map a column of fixed-size bytes or of lists of uint8 here")
    element = plain_type(source.value_type)
    bits = pa.types.is_boolean(element)
    if not bits and element != pa.uint8():
        raise refusal(column, field, "map a column of fixed-size bytes or of lists of uint8 here")
    if pa.types.is_fixed_size_list(source) and source.list_size != (field.dim if bits else width):
        dim = source.list_size if bits else source.list_size * 8
        raise width_refusal(column, field, f"{dim} bits", f"write dim: {dim}, or map another column")
    cast = Cast(exact=True, note="bool -> binary_vector: packed") if bits else SAME
    run = partial(_bits, field) if bits else partial(_packed, field, width)
    return Route(_with_lengths(cast, source), run)


def _with_lengths(cast: Cast, source: pa.DataType) -> Cast:
    if pa.types.is_fixed_size_list(source):
        return cast
    note = f"{cast.note}; lengths checked at apply" if cast.note else "lists: lengths checked at apply"
    return Cast(cast.exact, note)


def as_rows(array: pa.Array, width: int) -> tuple[pa.Array, list[Finding]]:
    """Give the elements of lists as ``len(array) * width`` values in row order, and rows of another width.

    Fixed-size lists of this width give their own values; the place of a null or bad row holds anything. A
    null among the elements of a row is a finding too.
    """
    offsets, child = list_parts(array)
    child = plain(child)
    valid = valid_mask(array)
    findings: list[Finding] = []
    lengths = np.diff(offsets)
    wrong = lengths != width
    if wrong.any():
        why = f"has not {width} values"
        findings += found(wrong & valid, why, partial(shown, array))
        starts = np.where(wrong, 0, offsets[:-1])
        # A null or bad row is filled from the first elements there are: what stands there is arbitrary.
        places = (starts[:, None] + np.arange(width)).ravel()
        np.minimum(places, max(len(child) - 1, 0), out=places)
        child = child.take(pa.array(places)) if len(child) else pa.nulls(len(places), child.type)
    if child.null_count:
        nulls = ~valid_mask(child).reshape(len(array), width).all(axis=1)
        findings += found(nulls & valid & ~wrong, "holds a null", partial(shown, array))
    return child, findings


def _dense(field: Field, array: pa.Array) -> Casted:
    assert field.dim is not None
    child, findings = as_rows(array, field.dim)
    source, target = numbers(child), arrow_type(field)
    if field.type is DataType.BFLOAT16_VECTOR:
        out, bad = to_bfloat16(source)
        values = from_numbers(target, out, array)
    else:
        out, bad = convert(source, dtype_of(target.value_type))
        values = from_rows(target, out, array)
    if bad is not None:
        findings += _overflown(array, child, bad, findings, field)
    return Casted(values, tuple(findings))


def _overflown(array: pa.Array, child: pa.Array, bad: Mask, findings: list[Finding], field: Field) -> list[Finding]:
    """Name the rows that hold an element the field's type cannot, with the first such element."""
    matrix = bad.reshape(len(array), -1) & valid_mask(child).reshape(len(array), -1)
    rows = matrix.any(axis=1) & valid_mask(array)
    rows[[f.at for f in findings]] = False
    first = matrix.argmax(axis=1)

    def show(at: int) -> str:
        place = int(first[at])
        return f"{shown(child, at * matrix.shape[1] + place)} at {place} of {shown(array, at)}"

    return found(rows, f"holds a value that {field.type} cannot", show)


def _packed(field: Field, width: int, array: pa.Array) -> Casted:
    child, findings = as_rows(array, width)
    return Casted(_bytes(field, numbers(child), array), tuple(findings))


def _bits(field: Field, array: pa.Array) -> Casted:
    assert field.dim is not None
    child, findings = as_rows(array, field.dim)
    bits = child.fill_null(False).to_numpy(zero_copy_only=False).reshape(len(array), field.dim)  # noqa: FBT003 - a value
    return Casted(_bytes(field, np.packbits(bits, axis=1), array), tuple(findings))


def _bytes(field: Field, values: Numbers, like: pa.Array) -> pa.Array:
    return from_numbers(arrow_type(field), values, like)


def _as_lists(array: pa.Array) -> pa.Array:
    """View binary as lists of bytes."""
    offsets = byte_offsets(array)
    data = array.buffers()[2]
    values = pa.Array.from_buffers(pa.uint8(), len(data) if data is not None else 0, [None, data])
    small = pa.py_buffer(offsets.astype(np.int32))
    return pa.Array.from_buffers(pa.list_(pa.uint8()), len(array), [validity(array), small], children=[values])
