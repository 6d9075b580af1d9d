"""What a filter asks of rows: comparisons of a column, an element of an array or a value in JSON with literals.

A predicate gives a boolean for each row, or null where it cannot be told: where the value is null or missing. As in
SQL, and in Milvus: neither ``x == 1`` nor ``not (x == 1)`` is true of a row whose ``x`` is null.
"""

from __future__ import annotations

import json
import math
import operator
import re
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vsync.rows.forms import arrow_type, element_of
from vsync.schema import DataType

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vsync.schema import Field

Literal: TypeAlias = "bool | int | float | str"
Predicate: TypeAlias = "Callable[[pa.RecordBatch], pa.Array]"

TURNED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}
"""What a comparison becomes when its sides change places."""
IN_ARROW = {
    "==": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}
IN_PYTHON = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True, slots=True)
class Operand:
    """What is compared: a field, one element or the length of an array, or what is at a path in JSON.

    ``path``: the keys and positions on the way into a JSON value or, for an array, the one position.
    """

    field: Field
    path: tuple[str | int, ...] = ()
    length: bool = False

    @property
    def type(self) -> pa.DataType | None:
        """The Arrow type of its values; ``None`` for what is in JSON."""
        if self.field.type is DataType.JSON:
            return None
        if self.length:
            return pa.int32()
        return arrow_type(element_of(self.field) if self.path else self.field)

    def values(self, rows: pa.RecordBatch) -> pa.Array:
        """Give its values, null where there is none; not for JSON."""
        column = rows.column(self.field.name)
        if self.length:
            return pc.list_value_length(column)
        if not self.path:
            return column
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
        starts = column.offsets.to_numpy()[:-1].astype(np.int64)
        missing = lengths <= self.path[0]
        return column.values.take(pa.array(starts + self.path[0], mask=missing))

    def found(self, rows: pa.RecordBatch) -> list[Any]:
        """Give what is at the path in each row's JSON; ``None`` where there is nothing or a null."""
        texts = rows.column(self.field.name)
        return [None if text is None else _at(json.loads(text), self.path) for text in _bytes(texts)]


def _bytes(texts: pa.Array) -> list[bytes | None]:
    return texts.to_pylist()  # type: ignore[no-any-return]  # not a vector: JSON, parsed one by one


def _at(value: Any, path: Sequence[str | int]) -> Any:
    for step in path:
        if isinstance(value, dict) and isinstance(step, str):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return None
    return value


def mismatch(operand: Operand, value: Literal) -> str | None:
    """Say why a literal cannot be compared with what the operand is; ``None`` where it can."""
    kind, said = operand.type, f"{value!r}" if isinstance(value, str) else json.dumps(value)
    if kind is None:
        return None
    if pa.types.is_boolean(kind):
        fits, wanted = isinstance(value, bool), "true or false"
    elif pa.types.is_string(kind):
        fits, wanted = isinstance(value, str), "a text in quotes"
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
        fits, wanted = isinstance(value, (int, float)) and not isinstance(value, bool), "a number"
    else:
        return f"{operand.field.name} is {operand.field}, which cannot be compared with {said}"
    return None if fits else f"{operand.field.name} is {operand.field}: it is compared with {wanted}, not with {said}"


def compare(operand: Operand, sign: str, value: Literal) -> Predicate:
    """Compare with a literal that fits; raises nothing later."""
    kind = operand.type
    if kind is None:
        return _told(operand, lambda found: _json_compared(found, sign, value))
    if pa.types.is_integer(kind) and not isinstance(value, str):
        return _integers(operand, sign, value)
    literal = pa.scalar(value if isinstance(value, (bool, str)) else float(value), kind)
    return lambda rows: IN_ARROW[sign](operand.values(rows), literal)


def _integers(operand: Operand, sign: str, value: float) -> Predicate:
    """Compare integers exactly, also with fractions and with numbers that they cannot reach."""
    whole = isinstance(value, int) or value.is_integer()
    if not math.isinf(value):
        bound = int(value) if whole else (math.ceil(value) if sign in {"<", ">="} else math.floor(value))
        if bound in INT64 and (whole or sign not in {"==", "!="}):
            return lambda rows: IN_ARROW[sign](pc.cast(operand.values(rows), pa.int64()), pa.scalar(bound, pa.int64()))
    always = IN_PYTHON[sign](0, value)
    return lambda rows: _where_valid(operand.values(rows), always=always)


def _where_valid(values: pa.Array, *, always: bool) -> pa.Array:
    return pc.if_else(pc.is_valid(values), pa.scalar(always), pa.scalar(None, pa.bool_()))


def _json_compared(found: Any, sign: str, value: Literal) -> bool:
    """Compare what JSON holds; values of different kinds differ, and are neither smaller nor larger."""
    if _kind(found) != _kind(value):
        return sign == "!="
    return bool(IN_PYTHON[sign](found, value))


def _kind(value: Any) -> str:
    return "number" if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value).__name__


def _told(operand: Operand, test: Callable[[Any], bool]) -> Predicate:
    """Test what is found in JSON; null where nothing is."""
    return lambda rows: pa.array([None if f is None else test(f) for f in operand.found(rows)], pa.bool_())


def _whole(value: Any) -> int | None:
    """Give a number as an integer, where it is one."""
    return int(value) if isinstance(value, int) or value.is_integer() else None


def is_in(operand: Operand, values: Sequence[Literal]) -> Predicate:
    """Tell whether the value is one of these, all of which fit; they may be many."""
    kind = operand.type
    if kind is None:
        return _told(operand, lambda found: any(_json_compared(found, "==", value) for value in values))
    if pa.types.is_integer(kind):
        kind = pa.int64()
        values = [whole for whole in map(_whole, values) if whole is not None and whole in INT64]
    elif not pa.types.is_string(kind) and values:
        return either([compare(operand, "==", value) for value in values])
    wanted = pa.array(values, kind)

    def held(rows: pa.RecordBatch) -> pa.Array:
        column = pc.cast(operand.values(rows), kind)
        return pc.if_else(pc.is_valid(column), pc.is_in(column, value_set=wanted), pa.scalar(None, pa.bool_()))

    return held


def like(operand: Operand, pattern: str) -> Predicate:
    r"""Match a text with a pattern: ``%`` is any text, ``_`` any character, ``\`` takes the next one as it is."""
    if operand.type is not None:
        return lambda rows: pc.match_like(operand.values(rows), pattern)
    parts = re.findall(r"\\(.)|(%)|(_)|(.)", pattern, re.DOTALL)
    words = (".*" if many else "." if one else re.escape(escaped or plain) for escaped, many, one, plain in parts)
    wanted = re.compile("".join(words), re.DOTALL)
    return _told(operand, lambda found: isinstance(found, str) and wanted.fullmatch(found) is not None)


def is_null(operand: Operand) -> Predicate:
    """Tell whether there is no value."""
    if operand.type is None:
        return lambda rows: pa.array([found is None for found in operand.found(rows)], pa.bool_())
    return lambda rows: pc.is_null(operand.values(rows))


def contains(array: Field, values: Sequence[Literal]) -> Predicate:
    """Tell whether an array holds one of these values, all of which fit its elements."""
    element = Operand(element_of(array))
    test = is_in(element, values)

    def holds(rows: pa.RecordBatch) -> pa.Array:
        column = rows.column(array.name)
        hit = np.zeros(len(column), np.bool_)
        parents = pc.list_parent_indices(column).to_numpy()
        found = test(pa.RecordBatch.from_arrays([column.flatten()], [array.name]))
        hit[parents[pc.fill_null(found, False).to_numpy(zero_copy_only=False)]] = True  # noqa: FBT003
        return pa.array(hit, mask=pc.is_null(column).to_numpy(zero_copy_only=False))

    return holds


def either(tests: Sequence[Predicate]) -> Predicate:
    """Ask that at least one is true."""
    return lambda rows: reduce(pc.or_kleene, (test(rows) for test in tests))


def both(tests: Sequence[Predicate]) -> Predicate:
    """Ask that all are true."""
    return lambda rows: reduce(pc.and_kleene, (test(rows) for test in tests))


def negated(test: Predicate) -> Predicate:
    """Turn it round."""
    return lambda rows: pc.invert(test(rows))
