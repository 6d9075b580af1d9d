"""Keys of the dynamic field: taken out of it into fields of their own, and columns put into it.

The JSON of what nobody names keeps its bytes: numbers have more digits there than Python keeps.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from vsync.connectors.base import Column
from vsync.errors import ConflictError
from vsync.rows.bad import Finding
from vsync.rows.buffers import is_any_list, plain, plain_type
from vsync.rows.casting import route, shortened
from vsync.rows.forms import element_of
from vsync.rows.route import SAME, Cast, Casted, Route
from vsync.rows.text import checked_json, is_jsonable, parsed, stripped, written
from vsync.schema import DYNAMIC_FIELD, DataType, Field

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()
_TEXTS = {DataType.VARCHAR, DataType.GEOMETRY, DataType.TIMESTAMPTZ}


def key_route(key: str, field: Field) -> Route:
    """Find the way of a key of the dynamic field into a field of its own; its ``run`` takes the JSON of the whole.

    Raises :class:`vsync.errors.ConflictError` for vectors. A value of another type than the field's is a bad row, and
    so is none where the field needs one.
    """
    name = f"{DYNAMIC_FIELD}.{key}"
    if field.type.is_vector:
        what = f"{name}, a key of the dynamic field, cannot feed field {field.name}, which is {field}"
        raise ConflictError(what, hint="map a column of vectors here")
    inner = route(Column(name, _kind(field), "a key of the dynamic field", 0), field)
    rounded = "" if inner.cast.exact else "rounded, "
    note = None if field.type is DataType.JSON else f"{name} -> {field}: {rounded}checked at apply"
    return Route(Cast(inner.cast.exact, note), partial(_taken_out, key, field, inner))


def value_route(column: Column, key: str) -> Route:
    """Find the way of a column into a key of the dynamic field: its ``run`` gives JSON, null where there is none.

    Text becomes text, numbers and booleans what they are, bytes are JSON already. Raises
    :class:`vsync.errors.ConflictError` for what has no form in JSON, and for fields that are vectors.
    """
    kind = plain_type(column.type)
    cast = Cast(exact=True, note=f"{column.name} -> {DYNAMIC_FIELD}.{key}: written as JSON")
    vector = column.field is not None and column.field.type.is_vector
    if pa.types.is_null(kind):
        return Route(SAME, lambda array: Casted(pa.nulls(len(array), pa.binary())))
    if not vector and pa.types.is_binary(kind):
        as_it_is = Cast(exact=True, note=f"{column.name} -> {DYNAMIC_FIELD}.{key}: as the JSON that it is")
        return Route(as_it_is, checked_json)
    if not vector and pa.types.is_fixed_size_binary(kind):
        return Route(cast, lambda array: written(stripped(array).view(pa.string())))
    if not vector and is_jsonable(kind):
        return Route(cast, written)
    what = f"column {column.name}, {column.native}, cannot be a value of the dynamic field ({DYNAMIC_FIELD}.{key})"
    raise ConflictError(what, hint="keep it a field: vectors, times and decimals do not go there")


def as_values(array: pa.Array, name: str, key: str) -> Casted:
    """Write a batch of column ``name`` as values of the dynamic field; raises as :func:`value_route` does."""
    casted = value_route(Column(name, array.type, str(array.type), 0), key).run(plain(array))
    return replace(casted, findings=tuple(replace(f, why=f"the value of {key} {f.why}") for f in casted.findings))


def with_keys(base: pa.Array, without: Sequence[str], values: Mapping[str, pa.Array]) -> Casted:
    """Take keys out of JSON objects and put others in: what is put in takes the place of a key of its name.

    A null among ``values`` leaves its key out of the row. A row that is as it was keeps its bytes.
    """
    gone = {*without, *values}
    names = [json.dumps(key, ensure_ascii=False).encode() + b":" for key in values]
    put = [(name, v.to_pylist()) for name, v in zip(names, values.values(), strict=True)]  # not a vector: JSON
    made: list[bytes] = []
    findings: list[Finding] = []
    for at, raw in enumerate(base.to_pylist()):  # not a vector: JSON
        whole = b"{}" if raw is None else raw
        try:
            members = _members(whole)
        except ValueError as error:
            findings.append(Finding(at, shortened(whole), str(error)))
            made.append(b"{}")
            continue
        new = [name + texts[at] for name, texts in put if texts[at] is not None]
        if new or gone & members.keys():
            kept = [member.encode() for key, (member, _) in members.items() if key not in gone]
            whole = b"{" + b",".join([*kept, *new]) + b"}"
        made.append(whole)
    return Casted(pa.array(made, pa.binary()), tuple(findings))


def _kind(field: Field) -> pa.DataType:
    """Say what values of the dynamic field are in Arrow before they are cast to the field's own type."""
    if field.type is DataType.ARRAY:
        return pa.list_(_kind(element_of(field)))
    if field.type is DataType.BOOL:
        return pa.bool_()
    if field.type in _TEXTS:
        return pa.string()
    if field.type is DataType.JSON:
        return pa.binary()
    return pa.int64() if field.type.is_integer else pa.float64()


def _taken_out(key: str, field: Field, inner: Route, array: pa.Array) -> Casted:
    values: list[Any] = []
    findings: list[Finding] = []
    kind, needed = _kind(field), not field.nullable and field.default is None
    for at, raw in enumerate(array.to_pylist()):  # not a vector: JSON
        value, why = None, None
        try:
            members = _members(b"{}" if raw is None else raw)
            text = members[key][1] if key in members else None
            value = _fitting(text, kind)
            why = _missing(text) if value is None and needed else None
        except _UnfitError:
            why = f"is no {field.type}"
        except ValueError as error:
            text, why = shortened(raw), f"cannot be found: the dynamic field {error}"
        if why is not None:
            findings.append(Finding(at, _short_text(text), f"{DYNAMIC_FIELD}.{key} {why}"))
        values.append(value)
    casted = inner.run(pa.array(values, kind))
    known = {f.at for f in findings}
    more = [replace(f, why=f"{DYNAMIC_FIELD}.{key} {f.why}") for f in casted.findings if f.at not in known]
    return Casted(casted.values, (*findings, *more))


def _missing(text: str | None) -> str:
    there = "is not there" if text is None else "is null"
    return f"{there}, and the field is neither nullable nor has a default"


def _short_text(text: str | None) -> str:
    """Show JSON in 60 characters at most."""
    if text is None:
        return "nothing"
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 - the docstring's number


class _UnfitError(Exception):
    """A value is of another type."""


def _fitting(text: str | None, kind: pa.DataType) -> Any:
    """Read JSON as a value of this type, ``None`` for null; raises _UnfitError where it is of another one."""
    if text is None or text == "null":
        return None
    if pa.types.is_binary(kind):
        return text.encode()
    return _of_kind(json.loads(text), kind)


def _of_kind(value: Any, kind: pa.DataType) -> Any:
    fits, number = False, isinstance(value, int | float) and not isinstance(value, bool)
    if is_any_list(kind):
        if isinstance(value, list):
            return [None if v is None else _of_kind(v, kind.value_type) for v in value]
    elif pa.types.is_boolean(kind):
        fits = isinstance(value, bool)
    elif pa.types.is_string(kind):
        fits = isinstance(value, str) and not any("\ud800" <= c <= "\udfff" for c in value)
    elif number and pa.types.is_integer(kind):
        whole = value if isinstance(value, int) else int(value) if value.is_integer() else None
        fits = whole is not None and -(2**63) <= whole < 2**63
        value = whole
    elif number and abs(value) <= np.finfo(np.float64).max:
        fits = int(float(value)) == value if isinstance(value, int) else True
        value = float(value)
    if not fits:
        raise _UnfitError
    return value


def _members(raw: bytes) -> dict[str, tuple[str, str]]:
    """Split a JSON object: for each key the text of its member, and that of its value alone, as they are.

    Of a key that is there twice the last one is given. Raises ValueError that says in a few words what is wrong.
    """
    if not isinstance(parsed(raw), dict):
        raise ValueError("is no JSON object")  # noqa: TRY004 - the value is wrong, not the program
    text, found = raw.decode(), dict[str, tuple[str, str]]()
    at = _after_space(text, _after_space(text, 0) + 1)
    while text[at] != "}":
        first = at
        key, at = _DECODER.raw_decode(text, at)
        at = _after_space(text, _after_space(text, at) + 1)
        begins = at
        _, at = _DECODER.raw_decode(text, at)
        found[key] = (text[first:at], text[begins:at])
        at = _after_space(text, at)
        if text[at] == ",":
            at = _after_space(text, at + 1)
    return found


def _after_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at
