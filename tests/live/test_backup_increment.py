"""What the second backup of a collection stores, where a few rows were appended, and where nothing changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import applies
import glove
import pytest
import reader
from conftest import Endpoint
from milvus_sources import make

if TYPE_CHECKING:
    from pathlib import Path

MOST = 0.05
"""Of the first backup's bytes, where a hundredth of its rows came behind the last."""


def stored(repo: Path) -> dict[str, int]:
    """Give every file of a repository with its bytes."""
    return {str(path.relative_to(repo)): path.stat().st_size for path in repo.rglob("*") if path.is_file()}


def back_up(folder: Path, source: Path, chunk_bytes: str) -> dict[str, int]:
    done = applies.vsync(folder, "backup", "--from", str(source), "repo", "--chunk-bytes", chunk_bytes, "--json")
    assert done.code == 0, (done.problems, done.err)
    return stored(folder / "repo")


@pytest.mark.parametrize(
    ("rows", "chunk_bytes"),
    [
        pytest.param(5_000, "16KiB", id="5,000 rows"),
        pytest.param(400_000, "2MiB", id="400,000 rows", marks=[pytest.mark.slow, pytest.mark.timeout(1_800)]),
    ],
)
def test_appended_rows_cost_what_they_are_and_no_change_a_manifest(
    tmp_path: Path, lite_path: Path, rows: int, chunk_bytes: str
) -> None:
    target = Endpoint(str(lite_path), "default", "lite")
    with reader.client_of(target) as client:
        make(client, "words", {"_default": glove.rows(0, rows)})
    first = back_up(tmp_path, lite_path, chunk_bytes)
    nothing_changed = back_up(tmp_path, lite_path, chunk_bytes)
    (manifest,) = nothing_changed.keys() - first.keys()
    assert (manifest.startswith("snapshots/"), first.keys() - nothing_changed.keys()) == (True, set())
    assert nothing_changed[manifest] < MOST * sum(first.values())

    more = glove.rows(0, rows // 100).numbered(rows)
    with reader.client_of(target) as client:
        reader.insert(client, "words", more, "_default")
    appended = back_up(tmp_path, lite_path, chunk_bytes)
    new = {name: size for name, size in appended.items() if name not in nothing_changed}
    assert sum(new.values()) <= MOST * sum(first.values()), (new, sum(first.values()))
    assert nothing_changed.keys() < appended.keys()
    assert sum(name.startswith("objects/") for name in new) >= 1

    done = applies.vsync(tmp_path, "verify", "repo", "--json").of("summary")[0]
    assert (done["snapshots"], done["damaged"]) == (3, 0)
    held = applies.vsync(tmp_path, "snapshots", "repo", "--json").of("snapshot")
    assert [one["rows"] for one in held] == [rows, rows, rows + rows // 100]
