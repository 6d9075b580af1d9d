"""Exported files, read by h5py alone: as somebody reads them who has no vsync."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import glove


def rows_of(path: Path) -> dict[Any, tuple[bytes, str]]:
    """Read the words of one file by id, which ascend."""
    with h5py.File(path) as file:
        ids, vectors = file["id"][:], file["vector"][:]
        assert file.attrs["rows"] == len(ids)
        assert (np.diff(ids) > 0).all()
        words = _texts(file["word"])
    return {int(i): (v.tobytes(), w) for i, v, w in zip(ids, vectors, words, strict=True)}


def _texts(node: h5py.Dataset | h5py.Group) -> list[str]:
    if isinstance(node, h5py.Dataset):
        return list(node.asstr()[:])
    ends, data = node["offsets"][:], node["bytes"][:].tobytes()
    return [data[lo:hi].decode() for lo, hi in pairwise(ends)]


def assert_holds(folder: Path, expected: Mapping[str, glove.Rows]) -> None:
    """Compare all files of a collection, by partition, and see that nothing else lies there."""
    found = {path.stem: rows_of(path) for path in folder.glob("*.h5")}
    assert found == {partition: rows.by_id() for partition, rows in expected.items()}
    assert {path.name for path in folder.iterdir()} == {"collection.json", *(f"{p}.h5" for p in expected)}
