"""A snapshot is read object by object, each once: a restore costs what its rows do, in time and in memory."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from backups import CHUNK, NAME, back_up

from vsync.connectors.backup import objects
from vsync.connectors.backup.keepers import SnapshotKeeper
from vsync.connectors.backup.repository import Repository
from vsync.connectors.backup.store import open_store
from vsync.connectors.base import KeyRange
from vsync.connectors.runs.target import RunsTarget

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from vsync.connectors.base import CollectionSource

ROWS = {n: n for n in range(20 * CHUNK)}
COLUMNS = ["id", "value", "vector"]
ROW_BYTES = 8 + 8 + 2 * 4


@pytest.fixture
def got(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count how often each object is read."""
    found: Counter[str] = Counter()
    read = objects.Objects.check

    def check(self: objects.Objects, digest: str) -> object:
        found[digest] += 1
        return read(self, digest)

    monkeypatch.setattr(objects.Objects, "check", check)
    return found


@pytest.fixture
def source(tmp_path: Path, got: Counter[str]) -> Iterator[CollectionSource]:
    repository = Repository(open_store(str(tmp_path / "repo")))
    back_up(repository.store, {"_default": ROWS})
    opened = RunsTarget(SnapshotKeeper(repository, repository.find(None))).source(NAME, "_default")
    got.clear()
    yield opened
    opened.close()


@pytest.mark.parametrize("chunk_bytes", [CHUNK * ROW_BYTES, CHUNK * ROW_BYTES - 1, 3 * CHUNK * ROW_BYTES])
def test_no_object_is_read_for_the_plan_and_each_once_for_the_rows(
    source: CollectionSource, got: Counter[str], chunk_bytes: int
) -> None:
    """Also where the rows are taken for a little larger than they were when they were written."""
    bounds = source.cut(COLUMNS, chunk_bytes)
    assert sum(got.values()) <= 1, "the first rows tell how large a row is"
    got.clear()
    found = [key for b in bounds for key in source.read(b, COLUMNS).column(0).to_pylist()]  # not a vector: keys
    assert found == list(ROWS)
    assert len(got) == len(ROWS) // CHUNK
    assert set(got.values()) == {1}


def test_rows_of_an_object_are_read_from_it_while_it_is_at_hand(source: CollectionSource, got: Counter[str]) -> None:
    for lo in range(0, len(ROWS), CHUNK // 2):
        assert source.reader.read(KeyRange(lo, lo + CHUNK // 2), COLUMNS).num_rows == CHUNK // 2
    assert len(got) == len(ROWS) // CHUNK
    assert set(got.values()) == {1}
