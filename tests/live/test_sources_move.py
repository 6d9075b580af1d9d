"""Files that are touched, changed in one number, or grown after they were applied; and ``plan --deep``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest
from applies import apply, assert_no_changes, plan

if TYPE_CHECKING:
    from pathlib import Path

ROWS, DIM = 6_000, 256
SPEC = """
version: 1
target: ./milvus.db
defaults: {chunk_bytes: 1MiB}
collections:
  things:
    fields:
      id: {type: int64, primary: true}
      vector: {type: float_vector, dim: 256}
    indexes: {vector: {type: FLAT, metric: L2}}
    data: [{name: all, from: things.h5}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Hold a spec whose only file is larger than its samples."""
    write(tmp_path, np.arange(ROWS, dtype=np.int64))
    (tmp_path / "vsync.yaml").write_text(SPEC)
    return tmp_path


def write(folder: Path, ids: np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
    vectors = np.random.default_rng(7).random((len(ids), DIM), dtype=np.float32)
    with h5py.File(folder / "things.h5", "w") as file:
        file["id"], file["vector"] = ids, vectors


def test_a_touched_file_is_no_change(folder: Path) -> None:
    apply(folder)
    os.utime(folder / "things.h5")
    assert_no_changes(folder)
    apply(folder)
    assert_no_changes(folder)


def test_one_number_in_the_middle_is_a_change(folder: Path) -> None:
    apply(folder)
    with h5py.File(folder / "things.h5", "r+") as file:
        file["vector"][2_345, 3] += 1
    assert "changed: 6,000 rows as before, of other content" in plan(folder, code=2)
    done = apply(folder)
    assert done.balance("collection.things")["there"] == ROWS, "append leaves what is there"
    assert_no_changes(folder)


def test_a_file_that_grew_brings_only_what_is_new(folder: Path) -> None:
    apply(folder)
    write(folder, np.arange(ROWS + 500, dtype=np.int64))
    assert "changed: 6,500 rows, were 6,000" in plan(folder, code=2)
    balance = apply(folder).balance("collection.things")
    assert (balance["written"], balance["there"], balance["left"]) == (500, ROWS, ROWS + 500)
    assert_no_changes(folder)


def test_deep_tells_new_rows_from_those_that_are_there(folder: Path) -> None:
    apply(folder)
    write(folder, np.arange(1_000, ROWS + 1_000, dtype=np.int64))
    shown = plan(folder, "--deep", code=2)
    assert "looked at all: 1,000 rows new, 5,000 there already, 0 that do not fit" in shown


def test_deep_counts_no_rows_that_lose_a_collision(folder: Path) -> None:
    write(folder, np.arange(ROWS, dtype=np.int64) % 5_000)
    spec = (folder / "vsync.yaml").read_text()
    (folder / "vsync.yaml").write_text(spec.replace("  things:\n", "  things:\n    on_collision: last\n"))
    assert "looked at all: 5,000 rows new, 0 there already" in plan(folder, "--deep", code=2)
    balance = apply(folder).balance("collection.things")
    assert (balance["written"], balance["dropped"]) == (5_000, ROWS - 5_000)


def test_deep_names_a_value_that_does_not_fit(folder: Path) -> None:
    spec = SPEC.replace("dim: 256}", "dim: 256}\n      note: {type: varchar, max_length: 4}")
    (folder / "vsync.yaml").write_text(spec)
    with h5py.File(folder / "things.h5", "r+") as file:
        notes = ["fits"] * ROWS
        notes[4_321] = "does not"
        file.create_dataset("note", data=notes, dtype=h5py.string_dtype())
    plan(folder, code=2)
    shown = plan(folder, "--deep", code=12)
    assert "row 4321, field note" in shown
    assert "does not" in shown
    assert not (folder / "milvus.db").exists(), "a plan writes nothing"
