"""Which columns may feed which fields: a table from field type to the module that knows the ways into it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from vsync.connectors.base import Column
from vsync.errors import ConflictError
from vsync.rows.bad import found, shown
from vsync.rows.buffers import (
    from_lists,
    is_any_list,
    list_parts,
    plain,
    plain_type,
    rows_holding,
    valid_mask,
)
from vsync.rows.checks import Rules, check_column
from vsync.rows.forms import arrow_type, element_of
from vsync.rows.moments import timestamptz_route
from vsync.rows.places import geometry_route
from vsync.rows.route import SAME, Cast, Casted, Route, refusal
from vsync.rows.scalars import number_route
from vsync.rows.sparse import sparse_route
from vsync.rows.text import dumps, json_route, varchar_route
from vsync.rows.vectors import binary_route, dense_route
from vsync.schema import DataType, Field

if TYPE_CHECKING:
    from collections.abc import Callable


def cast_of(column: Column, field: Field) -> Cast:
    """Say what feeding this field from this column does to values.

    Raises :class:`vsync.errors.ConflictError` where it cannot be, with the column's own words and what to do.
    """
    return route(column, field).cast


def cast(array: pa.Array, name: str, field: Field) -> Casted:
    """Cast one batch of column ``name`` to the field's Arrow form; raises as :func:`cast_of` does."""
    return route(Column(name, array.type, str(array.type), 0), field).run(plain(array))


def route(column: Column, field: Field) -> Route:
    """Find the way from a column into a field; its ``run`` takes arrays of the column's plain type."""
    column = replace(column, type=plain_type(column.type))
    if pa.types.is_null(column.type):
        if not field.nullable and field.default is None:
            raise refusal(column, field, "it holds only nulls: make the field nullable, or map another column")
        return Route(SAME, lambda array: Casted(pa.nulls(len(array), arrow_type(field))))
    return ROUTES.get(field.type, number_route)(column, field)


def array_route(column: Column, field: Field) -> Route:
    """Find the way into an array field: lists whose elements may feed the array's element type."""
    source, element = column.type, element_of(field)
    if not is_any_list(source):
        raise refusal(column, field, "map a column of lists here")
    try:
        inner = route(replace(column, type=source.value_type), replace(element, nullable=True))
    except ConflictError as error:
        raise refusal(column, field, str(error.problems[0].hint)) from error
    return Route(inner.cast, partial(_array, field, inner))


def _array(field: Field, inner: Route, array: pa.Array) -> Casted:
    offsets, child = list_parts(array)
    elements = inner.run(plain(child))
    lists = from_lists(arrow_type(field), offsets, elements.values, array)
    if not elements.findings:
        return Casted(lists)
    bad = np.zeros(len(child), np.bool_)
    bad[[f.at for f in elements.findings]] = True
    rows = rows_holding(bad, offsets) & valid_mask(array)
    why = f"an element {elements.findings[0].why}"
    return Casted(lists, tuple(found(rows, why, partial(shown, array))))


ROUTES: dict[DataType, Callable[[Column, Field], Route]] = {
    DataType.VARCHAR: varchar_route,
    DataType.JSON: json_route,
    DataType.ARRAY: array_route,
    DataType.GEOMETRY: geometry_route,
    DataType.TIMESTAMPTZ: timestamptz_route,
    DataType.FLOAT_VECTOR: dense_route,
    DataType.FLOAT16_VECTOR: dense_route,
    DataType.BFLOAT16_VECTOR: dense_route,
    DataType.INT8_VECTOR: dense_route,
    DataType.BINARY_VECTOR: binary_route,
    DataType.SPARSE_FLOAT_VECTOR: sparse_route,
}
"""The ways into every type that is no plain number."""


def constant(value: Any, field: Field) -> pa.Array:
    """Cast a JSON value, written in a spec, to one row of the field's Arrow form.

    Raises :class:`vsync.errors.ConflictError` where the field cannot hold it.
    """
    try:
        casted = cast(_as_column(value, field), "const", field)
    except (ConflictError, ValueError, TypeError, OverflowError, pa.ArrowException):
        casted = None
    if casted is None or casted.findings or check_column(casted.values, field, Rules()):
        raise ConflictError(
            f"the constant {shortened(value)} does not fit field {field.name}, which is {field}",
            hint="write another value after const, or map a column",
        )
    return casted.values


def shortened(value: Any) -> str:
    """Render a JSON value in 60 characters at most."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 - the docstring's number


def _as_column(value: Any, field: Field) -> pa.Array:
    if value is None:
        return pa.nulls(1)
    if field.type is DataType.JSON:
        return pa.array([dumps(value)], pa.binary())
    if field.type is DataType.SPARSE_FLOAT_VECTOR:
        return pa.array([dumps(value).decode()])
    if field.type is DataType.BINARY_VECTOR:
        return pa.array([bytes(list(value))])
    if field.type.is_vector:
        matrix = np.asarray(value)
        return pa.FixedSizeListArray.from_arrays(pa.array(matrix), matrix.size)
    return pa.array([value])
