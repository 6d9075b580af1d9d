"""A journal of one file in three chunks, as the tests of the state use it."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from vsync.planning.steps import CopyChunk, Destination, Unit
from vsync.state.doctor import Finding, examine
from vsync.state.journal import Journal, Outcome

if TYPE_CHECKING:
    from pathlib import Path

TO = Destination(
    address="collection.words",
    collection="words",
    partition="_default",
    write="append",
    probe=True,
    strict=False,
    on_bad_row="skip",
    content="content",
    epoch=1,
    session=1,
    before=5,
)
UNIT = Unit(
    key="key",
    address="collection.words.data.0",
    destination="collection.words",
    kind="hdf5",
    path="a.h5",
    options={},
    content="c1",
    modified=7,
    rows=30,
    nbytes=300,
    origins={"id": "ids"},
    chunks=3,
)
CHUNKS = [CopyChunk(0, n, 10 * n, 10 * n + 10) for n in range(3)]
OUTCOME = Outcome(read=10, written=8, there=1, rejected=1, dropped=0, digest="d", key_ranges=((3, 5), (9, 9)))


def begun(path: Path, target: str = "t") -> Journal:
    journal = Journal(path)
    journal.creating(target, "collection.words")
    journal.created(target, "collection.words", "id-1")
    journal.begin_session(target, TO, "id-1", 5)
    journal.enter_unit(target, UNIT, 1, CHUNKS)
    return journal


def finished(state: Path) -> None:
    """Write a state whose apply came to its end, with its backup."""
    with closing(begun(state)) as journal:
        run = journal.begin_run("t", "plan")
        for n in range(len(CHUNKS)):
            journal.sent("t", "key", 1, n, session=1, there_mask=None)
            journal.acked("t", "key", 1, n, OUTCOME)
        journal.end_session("t", TO, 5 + 3 * OUTCOME.written)
        journal.end_run(run, 0)


def wrong(state: Path) -> list[Finding]:
    return [f for f in examine(state) if f.level == "wrong"]
