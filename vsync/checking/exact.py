"""Two bodies of rows, compared row by row: vectors of keys and digests, and a finding of each row that differs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vsync.checking.findings import Finding
from vsync.checking.reading import unit_and_row
from vsync.rows.digest import mixed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from vsync.checking.findings import Symbol
    from vsync.checking.reading import Expected, Rows
    from vsync.checking.tally import Odd
    from vsync.connectors.base import Key
    from vsync.schema import Field

_ORDER = "+-*2!"


def by_key(
    expected: Expected, source: Rows, target: Rows, fields: Sequence[Field], odd: Mapping[Key, Odd]
) -> list[Finding]:
    """Compare rows by their keys; each side has a key once. The findings are sorted by key.

    ``odd`` are keys that were found to be doubled or unreadable: their content is not compared, for a query gives any
    of the copies.
    """
    address, units = expected.side.address, expected.side.units

    def finding(symbol: Symbol, key: Key, detail: str, place: int, copies: int = 1) -> Finding:
        unit, row = unit_and_row(place) if place >= 0 else (-1, -1)
        return Finding(symbol, address, key, detail or f"{units[unit].path} row {row}", unit, row, copies)

    places: dict[Key, int] = {}
    found: list[Finding] = []
    if odd:
        those = pa.array(list(odd), source.keys.type)
        ours, theirs = _among(source.keys, those), _among(target.keys, those)
        places = dict(_pairs(source.only(ours)))
        source, target = source.only(~ours), target.only(~theirs)
    for key, one in odd.items():
        if one.symbol == "2" and key not in places:
            found.append(Finding("-", address, key))
        found.append(finding(one.symbol, key, one.detail, places.get(key, -1), one.copies))
    at = pc.index_in(source.keys, value_set=target.keys)
    there = at.is_valid().to_numpy(zero_copy_only=False)
    found += [finding("+", key, "", place) for key, place in _pairs(source.only(~there))]
    extra = target.only(~_among(target.keys, source.keys))
    found += [Finding("-", address, key) for key, _ in _pairs(extra)]
    both = source.only(there)
    differ = both.digests != target.digests[at.drop_null().to_numpy()]
    changed = differ.any(axis=1)
    names = np.array([f.name for f in fields])
    for (key, place), which in zip(_pairs(both.only(changed)), differ[changed], strict=True):
        found.append(finding("*", key, ", ".join(names[which]), place))
    return sorted(found, key=lambda f: (_in_order(f.key), _ORDER.index(f.symbol)))


def by_content(expected: Expected, source: Rows, target: Rows) -> list[Finding]:
    """Compare rows without their keys, as often as each is there."""
    address, units = expected.side.address, expected.side.units
    ours, theirs = mixed(source.digests), mixed(target.digests)
    found = []
    for place in np.sort(source.places[surplus(ours, theirs)]):
        unit, row = unit_and_row(int(place))
        found.append(Finding("+", address, None, f"{units[unit].path} row {row}", unit, row))
    extra = target.keys.filter(pa.array(surplus(theirs, ours)))
    keys = sorted(extra.to_pylist(), key=_in_order)  # not a vector: keys
    return found + [Finding("-", address, key) for key in keys]


def surplus(ours: NDArray[np.uint64], theirs: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Mark which of our values are there more often than among theirs: of equal ones the last."""
    order = np.argsort(ours, kind="stable")
    ordered = ours[order]
    rank = np.arange(len(ours)) - np.searchsorted(ordered, ordered)
    others = np.sort(theirs)
    of_theirs = np.searchsorted(others, ordered, side="right") - np.searchsorted(others, ordered)
    mask = np.zeros(len(ours), np.bool_)
    mask[order] = rank >= of_theirs
    return mask


def _pairs(rows: Rows) -> Iterator[tuple[Key, int]]:
    return zip(rows.keys.to_pylist(), map(int, rows.places), strict=True)  # not a vector: keys


def _among(keys: pa.Array, others: pa.Array) -> NDArray[np.bool_]:
    mask: NDArray[np.bool_] = pc.is_in(keys, value_set=others).to_numpy(zero_copy_only=False)
    return mask


def _in_order(key: Key | None) -> bytes | int:
    """Give what sorts as the server does: texts by their bytes."""
    return key.encode() if isinstance(key, str) else key or 0
