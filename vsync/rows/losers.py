"""Rows that lost a collision of keys: known by their numbers in a file, and by their keys in a collection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def without(
    rows: pa.RecordBatch, numbers: NDArray[np.int64], losers: Sequence[Any], key: str | None
) -> tuple[pa.RecordBatch, NDArray[np.int64]]:
    """Leave out rows, each with its number: ``losers`` are numbers, or values of the column ``key`` if that is said."""
    if not losers:
        return rows, numbers
    if key is None:
        keep = ~np.isin(numbers, np.asarray(losers, np.int64))
    else:
        keys = rows.column(key)
        keep = ~pc.is_in(keys, value_set=pa.array(losers, keys.type)).to_numpy(zero_copy_only=False)
    return rows.filter(pa.array(keep)), numbers[keep]
