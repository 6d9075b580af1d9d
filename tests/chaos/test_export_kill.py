"""An export that is killed at moments of chance: no file that cannot be read is ever there, and the next run completes.

Around every write of an export there is a fault point, as there is around every commit of the journal: the process ends
itself there by SIGKILL.
"""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import applies
import exports
import glove
import pytest
from chaos import forked

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext
    from pathlib import Path

ROWS = glove.rows(0, 1_200)
OLD = {"_default": ROWS[:500], "rare": ROWS[500:800]}
NEW = {"_default": glove.together(ROWS[:500].changed(), ROWS[800:]), "rare": glove.rows(2_000, 2_200)}
MAP = {"id": "ids", "vector": "vectors", "word": "words"}
RARE = "collection.words.partition.rare"
APPLY = ("apply", "--auto-approve", "--allow-destroy", "collection.words", "--allow-destroy", RARE)
KILLS, KILLED = 10, -9
CHANGES = 0.4
"""How often the data changes while an export of it is not finished."""
OWN = {
    "file.put.before", "file.put.written", "file.put.after", "export.written", "export.put", "part.removed",
    "journal.sent.after", "journal.acked.before",
}  # fmt: skip


def write(folder: Path, rows: dict[str, glove.Rows], compression: str) -> None:
    """Write the data and its spec: the files are made equal to it, that of the rare ones by replacing all of them."""
    for partition, some in rows.items():
        glove.write_hdf5(folder / f"{partition}.h5", some)
    data = [{"from": f"{p}.h5", "map": MAP, **({"into": p} if p == "rare" else {})} for p in rows]
    fields = {
        "id": {"type": "int64", "primary": True},
        "vector": {"type": "float_vector", "dim": glove.DIM},
        "word": {"type": "varchar", "max_length": glove.MOST_WORD_BYTES},
    }
    words: dict[str, Any] = {"fields": fields, "write": "mirror", "max_delete": "100%", "data": data}
    words["partitions"] = {"rare": {"write": "overwrite"}}
    spec: dict[str, Any] = {"version": 1, "target": {"hdf5": {"path": "exports", "compression": compression}}}
    spec |= {"defaults": {"chunk_bytes": "16KiB"}, "collections": {"words": words}}
    (folder / "vsync.yaml").write_text(json.dumps(spec))


def run(forks: ForkServerContext, folder: Path, faults: dict[str, str], *words: str) -> int | None:
    process = forked.start(forks, folder, (*APPLY, *words), folder / "out", faults)
    process.join(applies.SECONDS)
    assert process.exitcode in {0, KILLED}, (folder / "out").read_text()
    return process.exitcode


def passed(forks: ForkServerContext, folder: Path) -> list[str]:
    """Run an apply to its end, and give the fault points that it passed."""
    log = folder / "passed"
    log.unlink(missing_ok=True)
    assert run(forks, folder, {"VSYNC_FAULT_LOG": str(log)}) == 0
    return log.read_text().split()


def assert_old_or_new(folder: Path) -> None:
    """See that each file is there whole: as it was, or as it shall be."""
    for path in folder.glob("exports/*/*.h5"):
        known = [rows[path.stem].by_id() for rows in (OLD, NEW)]
        assert exports.rows_of(path) in known
    assert not list(folder.glob("exports/*.h5"))


def assert_done(folder: Path, rows: dict[str, glove.Rows]) -> None:
    for left in [*folder.glob("exports/words/.parts/*/*.new")]:
        left.unlink()  # a part that was being written, and that nothing needed any more
        left.parent.rmdir()
        left.parent.parent.rmdir()
    exports.assert_holds(folder / "exports" / "words", rows)
    assert {p.name for p in (folder / "exports").iterdir()} == {".lock", "import.yaml", "words"}
    applies.assert_no_changes(folder)


@pytest.mark.parametrize("fault", ["journal.overtaken.before:1", "journal.overtaken.after:1", "journal.sent.after:1"])
def test_what_an_export_of_other_data_wrote_over_is_written_again(
    tmp_path: Path, forks: ForkServerContext, fault: str
) -> None:
    """A mirror that goes on does not count on chunks whose rows another one changed back meanwhile."""
    write(tmp_path, OLD, "none")
    assert run(forks, tmp_path, {}) == 0
    # One chunk is acknowledged, and the next on its way. Then its rows are to be written back one by one: the last
    # fault is in the copy of the rare ones, after that.
    for rows, at in ((NEW, "journal.together.after:2"), (OLD, fault)):
        write(tmp_path, rows, "none")
        assert run(forks, tmp_path, {"VSYNC_FAULT": at}, "--transfers", "1") == KILLED
    assert ("  rewrite-rows" in (tmp_path / "out").read_text()) == fault.startswith("journal.sent")
    write(tmp_path, NEW, "none")
    assert run(forks, tmp_path, {}) == 0
    assert_done(tmp_path, NEW)


@pytest.mark.parametrize(
    ("compression", "seed"), [("none", 2), *(pytest.param("gzip", seed, marks=pytest.mark.slow) for seed in (8, 9))]
)
def test_ten_kills_of_exports_over_each_other(
    tmp_path: Path, forks: ForkServerContext, compression: str, seed: int
) -> None:
    chance = random.Random(seed)
    write(tmp_path, NEW, compression)
    points = passed(forks, tmp_path)
    assert set(points) >= OWN
    early = points[: len(points) // 3]
    killed_at: list[str] = []
    now, later = OLD, NEW
    write(tmp_path, now, compression)
    while len(killed_at) < KILLS:
        # While rows are written to parts, or in the end, where files take the place of others.
        name = chance.choice([chance.choice(early), chance.choice(sorted(OWN))])
        fault = f"{name}:{chance.randrange(early.count(name) // 2 + 2) + 1}"
        if run(forks, tmp_path, {"VSYNC_FAULT": fault}) == KILLED:
            killed_at.append(name)
            assert_old_or_new(tmp_path)
            if chance.random() > CHANGES:
                continue
        else:
            assert_done(tmp_path, now)
        now, later = later, now
        write(tmp_path, now, compression)
    assert run(forks, tmp_path, {}) == 0
    assert_done(tmp_path, now)
    assert len(set(killed_at)) > 2, killed_at
