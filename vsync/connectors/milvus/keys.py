"""Questions about primary keys, in Milvus's expression language."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from vsync.connectors.milvus.wire import common_pb2, milvus_pb2
from vsync.schema import DataType, Field

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LOWEST, HIGHEST = -(2**63), 2**63 - 1
WINDOW = 16_384
"""How many rows a query may answer."""

# A literal ends at its quote; the rest of a text goes as it is: servers read UTF-8.
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r", "\t": r"\t"})


def literal(value: int | str) -> str:
    """Write a key as it stands in an expression. -2^63 has no literal: see ``edges``."""
    return str(value) if isinstance(value, int) else f'"{value.translate(_ESCAPES)}"'


def among(key: Field, values: Iterable[int | str]) -> str:
    """Ask for the rows whose key is one of these."""
    return f"{key.name} in [{','.join(map(literal, values))}]"


def everything(key: Field) -> str:
    """Ask for every row: some servers ignore partitions where nothing is asked for."""
    if key.type is DataType.VARCHAR:
        return f'{key.name} >= ""'
    return f"{key.name} >= {LOWEST + 1} or {edges(key)[LOWEST]}"


def deletable(key: Field, values: Sequence[int | str]) -> list[str]:
    """Ask for the rows with these keys, such that also an unloaded collection deletes them, but for -2^63."""
    plain = [value for value in values if value != LOWEST]
    lowest = [edges(key)[LOWEST]] if len(plain) < len(values) else []
    return ([among(key, plain)] if plain else []) + lowest


def edges(key: Field) -> dict[int, str]:
    """Ask for the two int64 keys that servers count but cannot be asked for by their value."""
    if key.type is DataType.VARCHAR:
        return {}
    return {LOWEST: f"{key.name} < {LOWEST + 1}", HIGHEST: f"{key.name} > {HIGHEST - 1}"}


def gaps(key: Field, ranges: Sequence[tuple[int, int]]) -> list[str]:
    """Ask for the rows whose int64 key is in none of these ranges (ascending, apart, ends included)."""
    if not ranges:
        return [everything(key)]
    between = [f"{key.name} > {hi} and {key.name} < {lo}" for (_, hi), (lo, _) in pairwise(ranges) if lo - hi > 1]
    return [f"{key.name} < {ranges[0][0]}", *between, f"{key.name} > {ranges[-1][1]}"]


def query(
    collection: str,
    expression: str,
    fields: Sequence[str],
    *,
    partitions: Sequence[str] = (),
    limit: int | None = None,
    at: int | None = None,
) -> Any:
    """Make a QueryRequest, strongly consistent: as of now, or as of the server's timestamp ``at``."""
    levels = common_pb2.ConsistencyLevel
    request = milvus_pb2.QueryRequest(
        collection_name=collection,
        expr=expression,
        output_fields=fields,
        partition_names=partitions,
        consistency_level=levels.Strong if at is None else levels.Customized,
        guarantee_timestamp=at or 0,
    )
    if limit is not None:
        request.query_params.append(common_pb2.KeyValuePair(key="limit", value=str(limit)))
    return request


def counted(answer: Any) -> int:
    """Read the answer to ``count(*)``."""
    return int(answer.fields_data[0].scalars.long_data.data[0])
