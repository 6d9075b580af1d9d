"""Geometry: well-known text, which servers check and some of them write anew."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vsync.rows.bad import Finding, found, shown
from vsync.rows.buffers import valid_mask
from vsync.rows.route import SAME, Cast, Route, refusal
from vsync.rows.text import varchar_route
from vsync.schema import DataType

if TYPE_CHECKING:
    from vsync.connectors.base import Column
    from vsync.schema import Field

_WKT = r"(?i)^\s*(SRID=\d+;)?\s*(POINT|LINESTRING|POLYGON|MULTI(POINT|LINESTRING|POLYGON)|GEOMETRYCOLLECTION)\b"
_SIMPLE = r"(?i)^\s*(POINT\s*\([^(),]+\)|POLYGON\s*\(\s*\([^()]+\)\s*\))\s*$"
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


def geometry_route(column: Column, field: Field) -> Route:
    """Find the way into a geometry field."""
    if not pa.types.is_string(column.type):
        raise refusal(column, field, "map a column of well-known text here, such as POINT (30.5 -10)")
    whole = (
        SAME
        if column.native == DataType.GEOMETRY
        else Cast(exact=True, note="text -> geometry: well-known text, checked at apply")
    )
    return Route(whole, varchar_route(column, field).run)


def bad_geometry(array: pa.Array, *, simple: bool) -> list[Finding]:
    """Find what is no well-known text, by its first word; ``simple``: and what is more than a point or one ring."""
    why = "is no POINT and no POLYGON of one ring, and this server holds no other geometry"
    rules = [(_SIMPLE, why)] if simple else [(_WKT, "is no well-known text of a geometry, such as POINT (30.5 -10)")]
    findings: list[Finding] = []
    for form, reason in rules:
        fits = pc.match_substring_regex(array, form).fill_null(True)  # noqa: FBT003  # a value
        bad = ~np.asarray(fits.to_numpy(zero_copy_only=False), np.bool_) & valid_mask(array)
        findings += found(bad, reason, partial(shown, array))
    return findings


def canonical_wkt(text: str) -> bytes:
    """Write a geometry so that equal ones are equal bytes: its words in capitals, its numbers as they are shortest."""
    plain = re.sub(r"\s*([(),])\s*", r"\1", " ".join(text.split())).upper()
    return _NUMBER.sub(lambda number: repr(float(number[0]) + 0.0), plain).encode()
