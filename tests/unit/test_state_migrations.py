"""Formats of the state: an older one is read as it lies and brought forward by an apply; a newer one is refused."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from format_1 import TABLES, format_of, to_format_1
from journals import CHUNKS, OUTCOME, TO, UNIT, begun
from sqlite_utils import Database

from vsync.connectors.base import KeyRange
from vsync.errors import JournalError
from vsync.planning.facts import Owed
from vsync.planning.steps import CopyChunk
from vsync.state import migrations
from vsync.state.journal import Journal
from vsync.state.view import View

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Give a state of format 1, of an apply that was cut off."""
    state = tmp_path / "s.db"
    with closing(begun(state)) as journal:
        journal.begin_run("t", "plan")
        journal.sent("t", "key", 1, 0, session=1, there_mask=b"mask")
        journal.sent("t", "key", 1, 1, session=1, there_mask=None)
        journal.acked("t", "key", 1, 1, OUTCOME, [(13, "word", "'x'", "too long", None)])
    to_format_1(state)
    return state


LIVING = replace(UNIT, key="living", address="collection.words.data.1", lives=True)
RANGES = [
    CopyChunk(0, n, 10 * n, 10 * n + 10, keys=KeyRange(*keys)) for n, keys in enumerate([(None, "é"), ("é", None)])
]


@pytest.mark.parametrize("found", range(2, migrations.FORMAT))
def test_each_older_format_is_brought_forward_with_the_same_facts(tmp_path: Path, found: int) -> None:
    """Made by the steps up to it, filled by the columns that it has."""
    now, old = tmp_path / "now.db", tmp_path / "old.db"
    with closing(begun(now)) as journal:
        journal.enter_unit("t", LIVING, 1, RANGES if found > 2 else CHUNKS)
        journal.sent("t", "key", 1, 0, session=1, there_mask=b"mask")
        journal.sent("t", "key", 1, 1, session=1, there_mask=None)
        journal.acked("t", "key", 1, 1, OUTCOME, [(13, "word", "'x'", "too long", '"k"')])
        journal.owe("t", [Owed("load", "words", "words")])
        known = everything(journal)
    db = Database(str(old))
    for step in migrations.MIGRATIONS[:found]:
        step(db)
    db.execute("INSERT INTO meta VALUES ('format', ?)", [str(found)])
    db.execute("ATTACH ? AS now", [str(now)])
    for (table,) in db.execute(
        "SELECT name FROM main.sqlite_master WHERE type = 'table' AND name != 'meta'"
    ).fetchall():
        columns = ", ".join(row[1] for row in db.execute(f"PRAGMA main.table_info({table})"))
        db.execute(f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM now.{table}")  # noqa: S608 - no input
    db.conn.commit()
    db.close()
    with closing(View(old)) as view:
        assert (everything(view), view.found) == (known, found)
    with closing(Journal(old)) as journal:
        assert everything(journal) == known
    assert format_of(old) == str(migrations.FORMAT)
    assert schema_of(old) == schema_of(now)


def test_rows_that_are_rejected_are_known_by_their_chunk_for_it_may_have_grown(tmp_path: Path) -> None:
    with closing(begun(tmp_path / "s.db")) as journal:
        journal.enter_unit("t", LIVING, 1, RANGES)
        for n in range(2):
            journal.sent("t", "living", 1, n, session=1, there_mask=None)
            journal.acked("t", "living", 1, n, OUTCOME, [(12, "word", "'x'", "too long", f'"k{n}"')])
        assert [r["key"] for r in journal.rejects("t")] == ['"k0"', '"k1"']
        assert journal.known_cut("t", "living") == tuple(c.bounds for c in RANGES)
        assert journal.sent_again("t", "living", 1) == []


def everything(view: View) -> list[Any]:
    return [
        view.facts("t"),
        view.balance("t", TO),
        view.progress("t"),
        view.rejects("t"),
        view.digests("t", "key"),
        view.known_cut("t", "key"),
        view.known_cut("t", "living"),
        view.key_ranges("t", "words"),
        view.there_mask("t", "key", TO, 0),
        view.last_run(),
    ]


def schema_of(state: Path) -> list[Any]:
    with closing(sqlite3.connect(state)) as db:
        tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        return [(t, db.execute(f"PRAGMA table_info({t})").fetchall()) for t in tables]


def test_an_older_state_is_read_and_nothing_is_written(old: Path) -> None:
    before = old.read_bytes(), sorted(p.name for p in old.parent.iterdir())
    with closing(View(old)) as view:
        assert view.facts("t").acked == {"key": {1}}
        assert view.facts("t").in_doubt == {"key": {0}}
        assert view.facts("t").sessions["collection.words"].checked is None
        assert view.found == 1
    assert (old.read_bytes(), sorted(p.name for p in old.parent.iterdir())) == before


def test_an_apply_brings_it_forward_and_keeps_what_it_was(old: Path, tmp_path: Path) -> None:
    with closing(View(old)) as view:
        known = everything(view)
    was = old.read_bytes()
    with closing(Journal(old)) as journal:
        assert everything(journal) == known
        journal.checked("t", "collection.words", "keys")
        journal.acked("t", "key", 1, 0, OUTCOME)
    assert format_of(old) == str(migrations.FORMAT)
    kept = old.with_name("s.db.format-1")
    assert format_of(kept) == "1"
    with closing(View(kept)) as view:
        assert everything(view) == known
    assert schema_of(kept) != schema_of(old)

    Journal(tmp_path / "new.db").close()
    assert schema_of(old) == schema_of(tmp_path / "new.db"), "brought forward it is like one that was made now"
    old.write_bytes(was)
    Journal(old).close()
    assert format_of(kept) == "1", "again, after the older file was put back"


def test_a_state_that_an_older_apply_left_open_is_read_with_its_log(old: Path) -> None:
    with closing(sqlite3.connect(old)) as running:
        running.execute("UPDATE chunks SET error = 'of its log'")
        running.commit()
        assert old.with_name("s.db-wal").stat().st_size
        with closing(View(old)) as view:
            assert view.query("SELECT DISTINCT error FROM chunks") == [("of its log",)]
            assert view.found == 1


def test_a_migration_that_is_cut_off_leaves_the_file_as_it_was(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(db: Any) -> None:
        db.execute("ALTER TABLE sessions ADD COLUMN more TEXT")
        raise sqlite3.OperationalError("database or disk is full")

    with closing(View(old)) as view:
        known = everything(view)
    with monkeypatch.context() as broken:
        broken.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, breaks))
        with pytest.raises(JournalError, match="database or disk is full; make room"):
            Journal(old)
    assert format_of(old) == "1"
    with closing(Journal(old)) as journal:
        assert everything(journal) == known


def test_a_first_apply_that_was_killed_before_its_tables_were_made(tmp_path: Path) -> None:
    """The first release made them one after the other."""
    state = tmp_path / "s.db"
    for made in ("", "PRAGMA journal_mode=WAL"):
        with closing(sqlite3.connect(state)) as db:
            db.executescript(made)
        with closing(View(state)) as view:
            assert view.last_run() is None
        before = state.read_bytes()
        with closing(View(state)):
            assert state.read_bytes() == before
    Journal(state).close()
    assert format_of(state) == str(migrations.FORMAT)


def test_what_is_an_sqlite_file_and_no_state(tmp_path: Path) -> None:
    other = tmp_path / "photos.db"
    with closing(sqlite3.connect(other)) as db:
        db.execute("CREATE TABLE photos (id INTEGER)")
    before = other.read_bytes()
    for opens in (Journal, View):
        with pytest.raises(JournalError, match="is an SQLite file, and no state of vsync"):
            opens(other)
    assert other.read_bytes() == before


@pytest.mark.parametrize("word", ["99", "-1", "two", ""])
def test_a_newer_format_is_refused_and_left_alone(old: Path, word: str) -> None:
    with closing(sqlite3.connect(old)) as db:
        db.execute("UPDATE meta SET value = ?", [word])
        db.commit()
    before = old.read_bytes()
    for opens in (Journal, View):
        with pytest.raises(JournalError, match=f"has format {word}, this vsync knows {migrations.FORMAT}"):
            opens(old)
    assert old.read_bytes() == before


def test_when_content_was_checked_is_known_of_the_last_session_alone(tmp_path: Path) -> None:
    with closing(begun(tmp_path / "s.db")) as journal:
        journal.checked("t", "collection.words", "content")
        session = journal.facts("t").sessions["collection.words"]
        assert session.checked_how == "content"
        assert session.checked is not None
        journal.begin_session("t", replace(TO, session=2), "id-1", 5)
        assert journal.facts("t").sessions["collection.words"].checked is None, "rows were brought since"


def test_the_tables_of_format_1_are_those_that_the_migrations_begin_with(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "written.db")) as db:
        db.executescript(TABLES)
    made = Database(str(tmp_path / "made.db"))
    migrations.MIGRATIONS[0](made)
    made.close()
    assert schema_of(tmp_path / "made.db") == schema_of(tmp_path / "written.db")


def test_an_older_state_learns_the_mappings_of_its_files(old: Path) -> None:
    with closing(Journal(old)) as journal:
        assert journal.query("SELECT origins FROM units") == [(None,)]
        journal.saw("t", [UNIT])
        assert journal.query("SELECT origins FROM units") == [('{"id": "ids"}',)]
