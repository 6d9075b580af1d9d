"""VARCHAR and JSON: bytes that must be UTF-8, and nested columns written as JSON."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pyarrow as pa

from vsync.rows.bad import Finding, found, shown
from vsync.rows.buffers import byte_rows, from_bytes, is_any_list, plain_type, valid_mask
from vsync.rows.route import SAME, Cast, Casted, Route, refusal
from vsync.rows.scalars import is_number
from vsync.schema import DYNAMIC_FIELD, Field

if TYPE_CHECKING:
    from vsync.connectors.base import Column


def varchar_route(column: Column, field: Field) -> Route:
    """Find the way into a varchar field."""
    source = column.type
    if pa.types.is_string(source):
        return Route(SAME, _checked_text)
    if pa.types.is_binary(source):
        cast = Cast(exact=True, note="bytes -> varchar: checked to be UTF-8 at apply")
        return Route(cast, lambda array: _checked_text(array.view(pa.string())))
    if pa.types.is_fixed_size_binary(source):
        note = "bytes -> varchar: without trailing zero bytes, checked to be UTF-8 at apply"
        return Route(Cast(exact=True, note=note), lambda array: _checked_text(stripped(array).view(pa.string())))
    if pa.types.is_integer(source):
        cast = Cast(exact=True, note=f"{source} -> varchar: as decimal digits")
        return Route(cast, lambda array: Casted(array.cast(pa.string())))
    raise refusal(column, field, "map a column of strings here, or change the field's type")


def stripped(array: pa.Array) -> pa.Array:
    """Take the trailing zero bytes off fixed-size binary, giving binary."""
    matrix = byte_rows(array)
    if matrix.size == 0:
        return array.cast(pa.binary())
    filled = matrix != 0
    ends = np.where(filled.any(axis=1), matrix.shape[1] - filled[:, ::-1].argmax(axis=1), 0)
    offsets = np.concatenate(([0], np.cumsum(ends)))
    data = matrix[np.arange(matrix.shape[1]) < ends[:, None]]
    return from_bytes(pa.binary(), offsets, data, array)


def _checked_text(array: pa.Array) -> Casted:
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        raw = array.view(pa.binary())
        texts = raw.to_pylist()  # not a vector: texts
        bad = np.fromiter((not _is_utf8(v) for v in texts), np.bool_, len(raw))
        return Casted(array, tuple(found(bad, "is not UTF-8", partial(shown, raw))))
    return Casted(array)


def _is_utf8(value: bytes | None) -> bool:
    try:
        (value or b"").decode()
    except UnicodeDecodeError:
        return False
    return True


def json_route(column: Column, field: Field) -> Route:
    """Find the way into a JSON field. Text keeps its bytes, and is parsed by the checks, not here."""
    source = column.type
    if pa.types.is_binary(source):
        return Route(SAME, Casted)
    if pa.types.is_string(source):
        return Route(SAME, lambda array: Casted(array.view(pa.binary())))
    if pa.types.is_fixed_size_binary(source):
        cast = Cast(exact=True, note="bytes -> json: without trailing zero bytes")
        return Route(cast, lambda array: Casted(stripped(array)))
    objects = not is_any_list(source) or field.name != DYNAMIC_FIELD
    if is_nested(source) and is_jsonable(source) and objects:
        return Route(Cast(exact=True, note=f"{_word(source)} -> json: written as JSON text"), written)
    maps = " or maps" if field.name == DYNAMIC_FIELD else ", maps or lists"
    raise refusal(column, field, f"map a column of JSON text, or of structs{maps} of plain values here")


def is_nested(kind: pa.DataType) -> bool:
    """Tell whether it is a struct, a map or a list of any length."""
    return bool(
        pa.types.is_struct(kind) or pa.types.is_map(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind)
    )


def is_jsonable(kind: pa.DataType) -> bool:
    """Tell whether JSON has a form for every value of this type."""
    kind = plain_type(kind)
    if pa.types.is_struct(kind):
        fields = [kind.field(i) for i in range(kind.num_fields)]
        return len({f.name for f in fields}) == len(fields) and all(is_jsonable(f.type) for f in fields)
    if pa.types.is_map(kind):
        key = plain_type(kind.key_type)
        return bool(pa.types.is_string(key) or pa.types.is_integer(key)) and is_jsonable(kind.item_type)
    if is_any_list(kind):
        return is_jsonable(kind.value_type)
    return bool(is_number(kind) or pa.types.is_string(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind))


def _word(kind: pa.DataType) -> str:
    return "struct" if pa.types.is_struct(kind) else "map" if pa.types.is_map(kind) else "list"


def written(array: pa.Array) -> Casted:
    """Write each value as JSON."""
    texts: list[bytes | None] = []
    findings: list[Finding] = []
    valid = valid_mask(array)
    for at in range(len(array)):
        text = None
        if valid[at]:
            try:
                text = dumps(_value(array[at].as_py(), array.type))
            except ValueError as error:
                findings.append(Finding(at, shown(array, at), f"has no form in JSON ({error})"))
        texts.append(text)
    return Casted(pa.array(texts, pa.binary()), tuple(findings))


def checked_json(array: pa.Array) -> Casted:
    """Find what is no JSON in an array of its bytes."""
    findings: list[Finding] = []
    for at, raw in enumerate(array.to_pylist()):  # not a vector: JSON
        try:
            parsed(b"null" if raw is None else raw)
        except ValueError as error:  # noqa: PERF203 - each bad value is named
            findings.append(Finding(at, shown(array, at), str(error)))
    return Casted(array, tuple(findings))


def parsed(raw: bytes) -> Any:
    """Read JSON; raises ValueError that says in a few words why it is none."""
    try:
        return _DECODER.decode(raw.decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not JSON ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos}"
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    return "nested too deep" if isinstance(error, RecursionError) else str(error)


def refuse_constant(word: str) -> NoReturn:
    """Refuse NaN and infinities, which Python's parser takes for JSON."""
    raise ValueError(f"{word} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=refuse_constant)


def dumps(value: Any) -> bytes:
    """Write a value as compact JSON; raises ValueError for NaN, infinities and text that is no Unicode."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _value(value: Any, kind: pa.DataType) -> Any:
    """Turn Arrow's list of pairs, which is how a map comes out, into an object, at every depth."""
    if value is None:
        return None
    if pa.types.is_struct(kind):
        return {f.name: _value(value[f.name], f.type) for f in (kind.field(i) for i in range(kind.num_fields))}
    if pa.types.is_map(kind):
        made = {str(k): _value(v, kind.item_type) for k, v in value}
        if len(made) != len(value):
            raise ValueError("a key is there twice")
        return made
    if is_any_list(kind):
        return [_value(v, kind.value_type) for v in value]
    return value
