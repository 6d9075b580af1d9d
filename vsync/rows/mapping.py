"""Mapping a source's columns onto fields, and casting a batch of them to the fields' Arrow form."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vsync.rows.bad import BadRow, bad_rows_error
from vsync.rows.casting import cast, constant
from vsync.rows.checks import Rules, check_column
from vsync.rows.dynamic import as_values, key_route, with_keys
from vsync.rows.forms import arrow_schema
from vsync.rows.route import Casted
from vsync.schema import DYNAMIC_FIELD, META, DataType, Field

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vsync.rows.bad import Finding


@dataclass(frozen=True, slots=True)
class FromColumn:
    """The field's values are those of a column of the source, each with ``prefix`` before it."""

    column: str
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class RowNumber:
    """The field's value is the row's number in its file, from 0."""


@dataclass(frozen=True, slots=True)
class Constant:
    """The field's value is this JSON value in every row."""

    value: Any


@dataclass(frozen=True, slots=True)
class DynamicKey:
    """The field's value is that of a key of the source's dynamic field; null where it is not there."""

    key: str


@dataclass(frozen=True, slots=True)
class WithKeys:
    """The dynamic field: what a column of the source has for it, without some keys, and with others put in.

    ``keys`` are names with where their values come from: none of them is a ``WithKeys``.
    """

    column: str | None
    without: tuple[str, ...] = ()
    keys: tuple[tuple[str, Origin], ...] = ()


Origin = FromColumn | RowNumber | Constant | DynamicKey | WithKeys


@dataclass(frozen=True, slots=True)
class Mapped:
    """A field and where its values come from."""

    field: Field
    origin: Origin


Mapping = tuple[Mapped, ...]
"""The fields that rows are sent with, in the collection's order; an auto_id primary key is none of them."""


@dataclass(frozen=True, slots=True)
class Taken:
    """The rows that fit, each one's number in its file (ascending), and what does not fit, by row."""

    rows: pa.RecordBatch
    numbers: NDArray[np.int64]
    bad: tuple[BadRow, ...]


def columns_of(mapping: Mapping) -> list[str]:
    """Give the source's columns that the mapping needs, each once, in the order of their first use."""
    return list(dict.fromkeys(column for m in mapping for column in origin_columns(m.origin)))


def origin_columns(origin: Origin) -> list[str]:
    """Give the source's columns that a field's values come from."""
    if isinstance(origin, WithKeys):
        own = [origin.column] if origin.column is not None else []
        return [*own, *(column for _, put in origin.keys for column in origin_columns(put))]
    if isinstance(origin, DynamicKey):
        return [DYNAMIC_FIELD]
    return [origin.column] if isinstance(origin, FromColumn) else []


def map_rows(batch: pa.RecordBatch, first_row: int, mapping: Mapping) -> pa.RecordBatch:
    """Cast rows to the fields' Arrow form, sharing the source's buffers where the type is the same.

    ``first_row`` is the number of the batch's first row in its file. Raises
    :class:`vsync.errors.BadRowsError` naming the values that cannot be cast, and
    :class:`vsync.errors.ConflictError` for types that cannot be. Values that can be cast may still be too
    long or null: see :func:`vsync.rows.find_bad_rows`.
    """
    taken = take_rows(batch, first_row, mapping, None)
    if taken.bad:
        raise bad_rows_error(taken.bad)
    return taken.rows


def take_rows(batch: pa.RecordBatch, first_row: int, mapping: Mapping, rules: Rules | None) -> Taken:
    """Cast rows and check them (``None``: cast only), parting those that fit from those that do not.

    Whether a bad row is an error or skipped is the caller's to decide: see :func:`vsync.rows.bad_rows_error`.
    A row that cannot be cast is not checked further. Raises as :func:`map_rows` does for types.
    """
    casted = [_cast(batch, first_row, mapped) for mapped in mapping]
    fields = [m.field for m in mapping]
    rows = pa.RecordBatch.from_arrays([c.values for c in casted], schema=arrow_schema(fields))
    numbers = np.arange(first_row, first_row + batch.num_rows, dtype=np.int64)
    taken = _without(Taken(rows, numbers, ()), fields, [c.findings for c in casted])
    if rules is not None:
        found = [check_column(c, f, rules) for c, f in zip(taken.rows.columns, fields, strict=True)]
        taken = _without(taken, fields, found)
    return _with_keys(taken, batch, first_row, mapping) if taken.bad else taken


def _with_keys(taken: Taken, batch: pa.RecordBatch, first_row: int, mapping: Mapping) -> Taken:
    """Say of each bad row what its key is: by that people find it in what the source was made from."""
    key = next((m for m in mapping if m.field.primary), None)
    if key is None:
        return taken

    def key_of(row: int) -> Any:
        if isinstance(key.origin, FromColumn):
            return batch.column(key.origin.column)[row - first_row].as_py()
        return _cast(batch.slice(row - first_row, 1), row, key).values[0].as_py()

    return replace(taken, bad=tuple(replace(b, key=_as_json(key_of(b.row))) for b in taken.bad))


def _as_json(value: Any) -> str:
    text = value.decode(errors="backslashreplace") if isinstance(value, bytes) else value
    return json.dumps(text, ensure_ascii=False, default=str)


def _without(taken: Taken, fields: Sequence[Field], findings: Sequence[Sequence[Finding]]) -> Taken:
    if not any(findings):
        return taken
    bad = [
        BadRow(int(taken.numbers[f.at]), field.name, f.value, f.why)
        for field, of_field in zip(fields, findings, strict=True)
        for f in of_field
    ]
    keep = np.ones(len(taken.numbers), np.bool_)
    keep[[f.at for of_field in findings for f in of_field]] = False
    by_row = tuple(sorted((*taken.bad, *bad), key=lambda b: b.row))
    return Taken(taken.rows.filter(pa.array(keep)), taken.numbers[keep], by_row)


def _cast(batch: pa.RecordBatch, first_row: int, mapped: Mapped) -> Casted:
    origin, field = mapped.origin, mapped.field
    if isinstance(origin, FromColumn):
        return _prefixed(cast(batch.column(origin.column), origin.column, field), origin.prefix)
    if isinstance(origin, RowNumber):
        rows = np.arange(first_row, first_row + batch.num_rows, dtype=np.int64)
        return cast(pa.array(rows), "$row", field)
    if isinstance(origin, DynamicKey):
        whole = cast(batch.column(DYNAMIC_FIELD), DYNAMIC_FIELD, META)
        out = key_route(origin.key, field).run(whole.values)
        return replace(out, findings=(*whole.findings, *out.findings))
    if isinstance(origin, WithKeys):
        return _with_values(batch, first_row, origin)
    one = constant(origin.value, field)
    return Casted(one.take(pa.array(np.zeros(batch.num_rows, np.int64))))


def _with_values(batch: pa.RecordBatch, first_row: int, origin: WithKeys) -> Casted:
    """Make the dynamic field of what the source has for it and the keys that are put in."""
    base = Casted(pa.nulls(batch.num_rows, pa.binary()))
    if origin.column is not None:
        base = cast(batch.column(origin.column), origin.column, META)
    values = {key: _value(batch, first_row, key, put) for key, put in origin.keys}
    made = with_keys(base.values, origin.without, {key: casted.values for key, casted in values.items()})
    findings = [f for casted in (base, *values.values()) for f in casted.findings]
    return replace(made, findings=(*findings, *made.findings))


def _value(batch: pa.RecordBatch, first_row: int, key: str, origin: Origin) -> Casted:
    """Give the JSON of one key of the dynamic field, null where a row has none."""
    if isinstance(origin, FromColumn):
        return as_values(batch.column(origin.column), origin.column, key)
    if isinstance(origin, RowNumber):
        return as_values(pa.array(np.arange(first_row, first_row + batch.num_rows)), "$row", key)
    return _cast(batch, first_row, Mapped(Field(key, DataType.JSON, nullable=True), origin))


def _prefixed(casted: Casted, prefix: str) -> Casted:
    return replace(casted, values=pc.binary_join_element_wise(prefix, casted.values, "")) if prefix else casted


def source_keys(keys: pa.Array, mapping: Mapping, kind: pa.DataType) -> pa.Array:
    """Give what keys are in their source, where they are of this type: without what the mapping puts before them."""
    origin = next((m.origin for m in mapping if m.field.primary), None)
    if isinstance(origin, FromColumn) and origin.prefix:
        keys = without_prefix(keys, origin.prefix)
    return keys.cast(kind)


def keys_in_source(keys: pa.Array, mapping: Mapping, kind: pa.DataType) -> pa.Array:
    """Give, of keys that need not be of a source, those that it may have, as they are there."""
    origin = next((m.origin for m in mapping if m.field.primary), None)
    prefix = origin.prefix if isinstance(origin, FromColumn) else ""
    if prefix:
        keys = keys.filter(pc.starts_with(keys, prefix))
    if pa.types.is_string(keys.type) and pa.types.is_integer(kind):
        texts = without_prefix(keys, prefix).to_pylist()  # not a vector: keys
        keys = keys.filter(pa.array([_is_int64(text) for text in texts], pa.bool_()))
    return source_keys(keys, mapping, kind)


def _is_int64(text: str) -> bool:
    return re.fullmatch(r"-?[0-9]{1,19}", text, re.ASCII) is not None and -(2**63) <= int(text) < 2**63


def without_prefix(texts: pa.Array, prefix: str) -> pa.Array:
    """Take away a prefix that all of these have."""
    return pc.utf8_slice_codeunits(texts, start=len(prefix))
