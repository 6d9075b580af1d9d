"""A backup, a restore and a prune, each killed ten times at moments of chance: no snapshot is lost, and each is whole.

Around every write of a repository there is a fault point, as there is around every commit of the journal and every
request to a Milvus: the process ends itself there by SIGKILL. ``test_backup_kills`` kills at each, without a Milvus.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import applies
import glove
import pytest
import reader
from chaos.forked import Mortal
from milvus_sources import Ends, make

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext
    from pathlib import Path

    from conftest import Endpoint

ROWS = glove.rows(0, 3_000)
WORDS = {"_default": ROWS[:1_000], "rare": ROWS[1_000:]}
CHUNK = "16KiB"
KILLS, FEWEST = 10, 7


@pytest.fixture
def ends(source: Endpoint, target: Endpoint, tmp_path: Path) -> Ends:
    with Ends(source, target, tmp_path).old() as client:
        make(client, "words", WORDS)
    release(source.uri)
    return Ends(source, target, tmp_path)


def release(path: str) -> None:
    """Let other processes have a Milvus Lite."""
    from milvus_lite.server_manager import server_manager_instance

    server_manager_instance.release_server(path)


def whole(folder: Path) -> list[str]:
    """List the snapshots of a repository, each of which is what was written."""
    assert applies.vsync(folder, "verify", "repo").code == 0
    return [one["id"] for one in applies.vsync(folder, "snapshots", "repo", "--json").of("snapshot")]


def backup(ends: Ends, repo: str = "repo") -> tuple[str, ...]:
    return "backup", "--from", ends.source.uri, repo, "--chunk-bytes", CHUNK


@pytest.mark.slow
@pytest.mark.parametrize("target", ["lite"], indirect=True)
def test_ten_kills_of_a_backup_and_of_its_restore(ends: Ends, forks: ForkServerContext) -> None:
    mortal = Mortal(ends.folder, forks, 20261126)
    points = mortal.passed(*backup(ends, "another"))
    assert {"store.put.before", "store.put.written", "store.put.after", "journal.sent.after"} < set(points)
    hit = sealed = 0
    for _ in range(KILLS):
        died = mortal.killed(points[: len(points) // 3], *backup(ends))
        hit += died
        sealed += not died
        if (ends.folder / "repo" / "config.json").exists():
            assert len(whole(ends.folder)) == sealed
    assert hit >= FEWEST
    mortal.passed(*backup(ends))
    assert len(whole(ends.folder)) == sealed + 1
    assert applies.vsync(ends.folder, "prune", "repo", "--json").of("summary")[0]["removed"] == 0

    restore = ("restore", "repo", "--to", ends.target.uri, "--auto-approve", "--chunk-bytes", CHUNK)
    points = mortal.passed("restore", "repo", "--to", "./another.db", "--auto-approve", "--chunk-bytes", CHUNK)
    assert {"request.Insert.before", "request.Insert.after", "journal.sent.after"} < set(points)
    assert sum(mortal.killed(points[: len(points) // 3], *restore) for _ in range(KILLS)) >= FEWEST
    mortal.passed(*restore)
    assert len(whole(ends.folder)) == sealed + 1
    ends.content("words", WORDS)


@pytest.mark.parametrize("target", ["lite"], indirect=True)
def test_ten_kills_of_a_prune(ends: Ends, forks: ForkServerContext) -> None:
    mortal = Mortal(ends.folder, forks, 20261127)
    mortal.passed(*backup(ends))
    changed = {name: rows.changed() for name, rows in WORDS.items()}
    with ends.old() as client:
        for partition, rows in changed.items():
            client.delete("words", ids=rows.ids.tolist())
            reader.insert(client, "words", rows, partition)
    release(ends.source.uri)
    mortal.passed(*backup(ends))
    old, new = whole(ends.folder)
    assert applies.vsync(ends.folder, "forget", "repo", old, "--auto-approve").code == 0
    removed = applies.vsync(ends.folder, "prune", "repo", "--dry-run", "--json").of("summary")[0]["removed"]
    assert removed > KILLS
    few = [point for _ in range(3) for point in ("store.delete.before", "store.delete.after")]
    hit = 0
    for _ in range(KILLS):
        hit += mortal.killed(few, "prune", "repo", "--take-over")
        assert whole(ends.folder) == [new]
    assert hit >= FEWEST
    mortal.passed("prune", "repo", "--take-over")
    assert whole(ends.folder) == [new]
    assert applies.vsync(ends.folder, "prune", "repo", "--json").of("summary")[0]["removed"] == 0
    restored = applies.vsync(ends.folder, "restore", "repo", "--to", ends.target.uri, "--auto-approve")
    assert restored.code == 0, restored
    ends.content("words", changed)
