"""Questions about primary keys, in Milvus's expression language."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from vsync.connectors.milvus.wire import common_pb2, milvus_pb2
from vsync.schema import HIGHEST, LOWEST, DataType, Field

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

WINDOW = 16_384
"""How many rows a query may answer."""

ORDERED = ("iterator",)
"""What asks for rows in the order of their keys."""
PAGED = ("iterator", "reduce_stop_for_best")
"""What asks for the first rows in the order of their keys, none left out up to the last one that is given.

The limit is one of each segment: a page ends where the first of them has no more to give, and may hold many times the
limit, or one row. Nothing is behind an empty page alone.
"""

_CLOSING = {")": "(", "]": "["}
_TEXTS = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'", re.DOTALL)
# A literal ends at its quote and at the line's end; the rest of a text goes as it is: servers read UTF-8.
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r"})


def literal(value: int | str) -> str:
    """Write a key as it stands in an expression. -2^63 has no literal: see ``edges``."""
    return str(value) if isinstance(value, int) else f'"{value.translate(_ESCAPES)}"'


def within(key: Field, lo: int | str | None, hi: int | str | None, *, after: int | str | None = None) -> str:
    """Ask for the rows from ``lo`` (included; None: open) to ``hi`` (excluded), or of them those behind ``after``."""
    first = [] if lo is None else [f"{key.name} >= {_bound(lo)}"]
    first = first if after is None else [f"{key.name} > {_bound(after)}"]
    last = [] if hi is None else [f"{key.name} < {_bound(hi)}"]
    return " and ".join(first + last) or everything(key)


def _bound(value: int | str) -> str:
    """Write a key to compare with: unlike a list of keys, a comparison may hold a sum."""
    return f"({LOWEST + 1} - 1)" if value == LOWEST else literal(value)


def has_newline(expression: str) -> bool:
    """Tell whether a text in an expression has a line break."""
    return any(escaped in expression.replace(r"\\", "") for escaped in (r"\n", r"\r"))


def among(key: Field, values: Iterable[int | str]) -> str:
    """Ask for the rows whose key is one of these."""
    return f"{key.name} in [{','.join(map(literal, values))}]"


def everything(key: Field) -> str:
    """Ask for every row: some servers ignore partitions where nothing is asked for."""
    if key.type is DataType.VARCHAR:
        return f'{key.name} >= ""'
    return f"{key.name} >= {LOWEST + 1} or {edges(key)[LOWEST]}"


def both(where: str | None, expression: str) -> str:
    """Ask for the rows of which a filter is true too; the filter is whole by itself (:func:`is_whole`)."""
    return expression if where is None else f"({where}) and ({expression})"


def is_whole(where: str) -> bool:
    """Tell whether no bracket of a filter closes one that it did not open, or stays open; those in texts are none."""
    open_ones: list[str] = []
    for char in _TEXTS.sub("", where):
        if char in _CLOSING.values():
            open_ones.append(char)
        elif char in _CLOSING and (not open_ones or open_ones.pop() != _CLOSING[char]):
            return False
    return not open_ones


def deletable(key: Field, values: Sequence[int | str]) -> list[str]:
    """Ask for the rows with these keys by lists, which also an unloaded collection deletes by; -2^63 by itself."""
    plain = [value for value in values if value != LOWEST]
    lowest = [edges(key)[LOWEST]] if len(plain) < len(values) else []
    return ([among(key, plain)] if plain else []) + lowest


def edges(key: Field) -> dict[int, str]:
    """Ask for the two int64 keys that cannot be asked for by their value: Milvus counts 2^63-1, and never gives it."""
    if key.type is DataType.VARCHAR:
        return {}
    return {LOWEST: f"{key.name} < {LOWEST + 1}", HIGHEST: f"{key.name} > {HIGHEST - 1}"}


def query(
    collection: str,
    expression: str,
    fields: Sequence[str],
    *,
    partitions: Sequence[str] = (),
    limit: int | None = None,
    at: int | None = None,
    order: Sequence[str] = (),
) -> Any:
    """Make a QueryRequest, strongly consistent: as of now, or as of the server's timestamp ``at``.

    ``order`` is ORDERED or PAGED.
    """
    levels = common_pb2.ConsistencyLevel
    request = milvus_pb2.QueryRequest(
        collection_name=collection,
        expr=expression,
        output_fields=fields,
        partition_names=partitions,
        consistency_level=levels.Strong if at is None else levels.Customized,
        guarantee_timestamp=at or 0,
    )
    params = dict.fromkeys(order, "True") | ({} if limit is None else {"limit": str(limit)})
    request.query_params.extend(common_pb2.KeyValuePair(key=key, value=value) for key, value in params.items())
    return request


def counted(answer: Any) -> int:
    """Read the answer to ``count(*)``."""
    return int(answer.fields_data[0].scalars.long_data.data[0])
