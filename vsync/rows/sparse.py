"""Sparse vectors in Milvus's form: a row is pairs (uint32 index, float32 value), sorted, little endian."""

from __future__ import annotations

import json
from array import array as typed
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from vsync.rows.bad import Finding, found, shown
from vsync.rows.buffers import (
    Mask,
    Numbers,
    dtype_of,
    from_bytes,
    list_parts,
    numbers,
    valid_mask,
)
from vsync.rows.route import SAME, Cast, Casted, Route, refusal
from vsync.rows.scalars import convert, is_number, number_cast
from vsync.rows.text import refuse_constant

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vsync.connectors.base import Column
    from vsync.schema import Field

PAIR = np.dtype([("index", "<u4"), ("value", "<f4")])
"""One dimension of a sparse vector, as the server has it."""
MAX_INDEX = 2**32 - 2
"""Milvus takes indices below 2^32 - 1."""

HINT = (
    "map sparse bytes as Milvus has them, a map of index to value, a list of (index, value) structs, a "
    'struct of the lists indices and values, or JSON text such as {"1": 0.5} here'
)


@dataclass(frozen=True, slots=True)
class _Pairs:
    """All pairs of a column in one run: the row each belongs to (ascending), its index and its value."""

    owners: NDArray[np.int64]
    indices: Numbers
    values: Numbers


def sparse_route(column: Column, field: Field) -> Route:
    """Find the way into a sparse vector field."""
    source = column.type
    if pa.types.is_binary(source):
        return Route(SAME, Casted)
    if pa.types.is_string(source):
        return Route(Cast(exact=False, note="JSON -> sparse_float_vector: rounded to float32"), _from_text)
    kinds = _pair_types(source)
    if kinds is None or not pa.types.is_integer(kinds[0]) or not is_number(kinds[1]):
        raise refusal(column, field, HINT)
    cast = number_cast(dtype_of(kinds[1]), "float32")
    run = _from_lists if pa.types.is_struct(source) else _from_pairs
    return Route(Cast(cast.exact, cast.note or "pairs -> sparse_float_vector"), run)


def _pair_types(kind: pa.DataType) -> tuple[pa.DataType, pa.DataType] | None:
    """Give the types of index and value, ``None`` where the type holds no pairs."""
    if pa.types.is_map(kind):
        return kind.key_type, kind.item_type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner = kind.value_type
        two = pa.types.is_struct(inner) and inner.num_fields == len(PAIR.names or ())
        return (inner.field(0).type, inner.field(1).type) if two else None
    if pa.types.is_struct(kind) and {f.name for f in kind} == {"indices", "values"}:
        lists = [kind.field(kind.get_field_index(name)).type for name in ("indices", "values")]
        if all(pa.types.is_list(t) or pa.types.is_large_list(t) for t in lists):
            return lists[0].value_type, lists[1].value_type
    return None


def _from_pairs(array: pa.Array) -> Casted:
    """Build from a map, or from lists of (index, value) structs."""
    offsets, structs = list_parts(array)
    indices, values = structs.field(0), structs.field(1)
    owners = np.repeat(np.arange(len(array)), np.diff(offsets))
    null = ~(valid_mask(structs) & valid_mask(indices) & valid_mask(values))
    valid = valid_mask(array)
    bad = np.zeros(len(array), np.bool_)
    bad[owners[null]] = True
    findings = found(bad & valid, "holds a null", partial(shown, array))
    keep = (valid & ~bad)[owners]
    return _built(array, _Pairs(owners[keep], numbers(indices)[keep], numbers(values)[keep]), findings)


def _from_lists(array: pa.Array) -> Casted:
    """Build from a struct of the lists ``indices`` and ``values``."""
    indices = array.field(array.type.get_field_index("indices"))
    values = array.field(array.type.get_field_index("values"))
    valid = valid_mask(array)
    nulls = ~(valid_mask(indices) & valid_mask(values)) & valid
    runs = []
    for lists in (indices, values):
        offsets, child = list_parts(lists)
        lengths = np.diff(offsets)
        owners = np.repeat(np.arange(len(array)), lengths)
        nulls[owners[~valid_mask(child)]] = True
        runs.append((lengths, owners, numbers(child)))
    (lengths, owners, index), (others, value_owners, value) = runs
    findings = found(nulls & valid, "holds a null", partial(shown, array))
    wrong = (lengths != others) & valid & ~nulls
    findings += found(wrong, "has not as many values as indices", partial(shown, array))
    good = valid & ~nulls & ~wrong
    keep = good[owners]
    return _built(array, _Pairs(owners[keep], index[keep], value[good[value_owners]]), findings)


def _from_text(array: pa.Array) -> Casted:
    """Build from JSON text: ``{"1": 0.5}`` or ``{"indices": [1], "values": [0.5]}``."""
    findings: list[Finding] = []
    lengths = np.zeros(len(array), np.int64)
    indices, values = typed("q"), typed("d")
    for at, raw in enumerate(array.view(pa.binary()).to_pylist()):  # not a vector: JSON texts
        if raw is None:
            continue
        try:
            pairs = _parsed(raw)
        except (ValueError, RecursionError) as error:
            findings.append(Finding(at, shown(array, at), f"is no sparse vector ({error})"))
            continue
        lengths[at] = len(pairs)
        indices.extend(index for index, _ in pairs)
        values.extend(value for _, value in pairs)
    owners = np.repeat(np.arange(len(array)), lengths)
    return _built(array, _Pairs(owners, np.frombuffer(indices, "q"), np.frombuffer(values, "d")), findings)


def _parsed(raw: bytes) -> list[tuple[int, float]]:
    made = json.loads(raw.decode(), object_pairs_hook=tuple, parse_constant=refuse_constant)
    if not isinstance(made, tuple):
        raise ValueError("a JSON object is expected")  # noqa: TRY004 - the value is wrong, not the program
    if [key for key, _ in made] in (["indices", "values"], ["values", "indices"]):
        lists = dict(made)
        if not (isinstance(lists["indices"], list) and isinstance(lists["values"], list)):
            raise ValueError("indices and values are lists")
        made = tuple(zip(lists["indices"], lists["values"], strict=True))
    return [(_index(key), _number(value)) for key, value in made]


def _index(key: Any) -> int:
    if isinstance(key, str) and key.isascii() and key.isdigit():
        key = int(key)
    if not isinstance(key, int) or isinstance(key, bool) or not 0 <= key <= MAX_INDEX:
        raise ValueError(f"{key!r} is no index")
    return key


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is no number")  # noqa: TRY004 - the value is wrong, not the program
    try:
        return float(value)
    except OverflowError:
        raise ValueError("a number is too large") from None


def _built(array: pa.Array, pairs: _Pairs, findings: list[Finding]) -> Casted:
    """Sort the pairs of each row by index and lay them out; what does not fit is added to the findings."""
    bad = np.zeros(len(array), np.bool_)

    def refuse(places: Mask, why: str) -> None:
        rows = np.zeros(len(array), np.bool_)
        rows[pairs.owners[places]] = True
        findings.extend(found(rows & ~bad, why, partial(shown, array)))
        bad[rows] = True

    limits = np.iinfo(pairs.indices.dtype)
    out_of_range = (pairs.indices < 0) | (pairs.indices > min(MAX_INDEX, limits.max))
    refuse(out_of_range, f"holds an index that is not from 0 to {MAX_INDEX}")
    values, overflown = convert(pairs.values, np.dtype(np.float32))
    if overflown is not None:
        refuse(overflown, "holds a value that float32 cannot")
    places = (pairs.owners.astype(np.uint64) << np.uint64(32)) | pairs.indices.astype(np.uint32)
    laid = np.empty(len(places), PAIR)
    laid["index"], laid["value"] = pairs.indices.astype(np.uint32), values
    if (places[1:] <= places[:-1]).any():
        order = np.argsort(places, kind="stable")
        places, laid = places[order], laid[order]
        twice = np.zeros(len(places), np.bool_)
        twice[1:] = places[1:] == places[:-1]
        refuse(twice, "holds an index twice")
    counts = np.bincount(pairs.owners, minlength=len(array))
    offsets = np.concatenate(([0], np.cumsum(counts))) * PAIR.itemsize
    return Casted(from_bytes(pa.binary(), offsets, laid.view(np.uint8), array), tuple(findings))
