"""The state: what its transitions leave known, who may hold it, and what is said where it cannot be used."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from journals import CHUNKS, OUTCOME, TO, UNIT, begun

from vsync.connectors.base import Bounds
from vsync.errors import JournalError
from vsync.state.journal import Journal
from vsync.state.migrations import FORMAT
from vsync.state.view import View

if TYPE_CHECKING:
    from pathlib import Path


def test_what_was_sent_is_in_doubt_until_it_is_acknowledged(tmp_path: Path) -> None:
    journal = begun(tmp_path / "s.db")
    journal.sent("t", "key", 1, 0, session=1, there_mask=b"mask")
    journal.sent("t", "key", 1, 1, session=1, there_mask=None)
    journal.acked("t", "key", 1, 1, OUTCOME, [(13, "word", "'x'", "too long", "13")])
    # A process that dies closes nothing: what it committed is read all the same.
    with closing(View(tmp_path / "s.db")) as view:
        facts = view.facts("t")
        assert facts.acked == {"key": {1}}
        assert facts.in_doubt == {"key": {0}}
        assert facts.collections == {"collection.words": False}
        assert (view.there_mask("t", "key", TO, 0), view.there_mask("t", "key", TO, 1)) == (b"mask", None)
        assert view.digests("t", "key") == [(Bounds(10, 20), "d")]
        assert view.known_cut("t", "key") == (Bounds(0, 10), Bounds(10, 20), Bounds(20, 30))
        assert view.key_ranges("t", "words") == [(3, 5), (9, 9)]
        assert [r["row"] for r in view.rejects("t")] == [13]
        balance = view.balance("t", TO)
    assert (balance.before, balance.read, balance.written, balance.there, balance.rejected) == (5, 10, 8, 1, 1)


def test_a_session_ends_with_what_it_left_and_a_new_epoch_forgets_its_chunks(tmp_path: Path) -> None:
    from dataclasses import replace

    with closing(begun(tmp_path / "s.db")) as journal:
        journal.sent("t", "key", 1, 0, session=1, there_mask=None)
        journal.acked("t", "key", 1, 0, OUTCOME)
        journal.end_session("t", TO, 13)
        journal.finished("t", "collection.words")
        facts = journal.facts("t")
        session = facts.sessions["collection.words"]
        assert (session.done, session.before, session.left, session.collection_id) == (True, 5, 13, "id-1")
        assert facts.collections == {"collection.words": True}

        journal.begin_session("t", replace(TO, epoch=2, session=2), "id-2", 0)
        facts = journal.facts("t")
        assert not facts.acked
        assert not facts.sessions["collection.words"].done
        assert journal.key_ranges("t", "words") == [], "the keys of what is no more are nobody's"


def test_what_was_entered_stays_as_it_is_when_it_is_entered_again(tmp_path: Path) -> None:
    with closing(begun(tmp_path / "s.db")) as journal:
        journal.sent("t", "key", 1, 2, session=1, there_mask=None)
        journal.enter_unit("t", UNIT, 1, CHUNKS)
        journal.begin_session("t", TO, "id-1", 99)
        assert journal.facts("t").in_doubt == {"key": {2}}
        assert journal.balance("t", TO).before == 5, "rows are counted when the first attempt begins"


def test_two_targets_in_one_state_know_nothing_of_each_other(tmp_path: Path) -> None:
    begun(tmp_path / "s.db", "one").close()
    with closing(begun(tmp_path / "s.db", "two")) as journal:
        journal.sent("two", "key", 1, 0, session=1, there_mask=None)
        journal.acked("two", "key", 1, 0, OUTCOME)
        assert journal.facts("one").acked == {}
        assert journal.facts("two").acked == {"key": {0}}
        assert journal.facts("three").sessions == {}
        run = journal.begin_run("one", "plan")
        journal.end_run(run, 5)
        assert journal.has_run("one", "plan")
        assert not journal.has_run("two", "plan")
        last = journal.last_run()
    assert last is not None
    assert (last.target, last.exit_code) == ("one", 5)


def test_the_state_is_for_its_owner_and_out_of_gits_sight(tmp_path: Path) -> None:
    path = tmp_path / ".vsync" / "s.db"
    Journal(path).close()
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (path.parent / ".gitignore").read_text() == "*\n"


def test_reading_puts_nothing_beside_the_state(tmp_path: Path) -> None:
    begun(tmp_path / "s.db").close()
    before = sorted(p.name for p in tmp_path.iterdir())
    with closing(View(tmp_path / "s.db")) as view:
        assert view.facts("t").sessions
        assert sorted(p.name for p in tmp_path.iterdir()) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_a_reader_sees_what_a_writer_commits(tmp_path: Path) -> None:
    with closing(begun(tmp_path / "s.db")) as journal, closing(View(tmp_path / "s.db")) as view:
        journal.sent("t", "key", 1, 0, session=1, there_mask=None)
        assert view.facts("t").in_doubt == {"key": {0}}


@pytest.mark.parametrize("opens", [Journal, View])
def test_another_format_is_refused(tmp_path: Path, opens: type[View]) -> None:
    path = tmp_path / "s.db"
    begun(path).close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE meta SET value = '99' WHERE key = 'format'")
    connection.commit()
    connection.close()
    with pytest.raises(JournalError, match=f"has format 99, this vsync knows {FORMAT}"):
        opens(path)


@pytest.mark.parametrize("opens", [Journal, View])
def test_what_is_no_state_is_said(tmp_path: Path, opens: type[View]) -> None:
    path = tmp_path / "s.db"
    path.write_bytes(b"no database " * 1000)
    with pytest.raises(JournalError, match=r"is damaged: file is not a database.* vsync state doctor --state"):
        opens(path)


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match="cannot make the state's folder"):
        Journal(tmp_path / "file" / "s.db")
    (tmp_path / "folder.db").mkdir()
    with pytest.raises(JournalError, match="cannot be used: Is a directory"):
        Journal(tmp_path / "folder.db")


FULL_DISK = """
import resource, signal, sys
sys.path[:0] = {path!r}
from pathlib import Path
from journals import *
from vsync.errors import JournalError
journal = begun(Path({state!r}))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a file that may not grow answers as a full disk does
size = Path({state!r} + "-wal").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
try:
    for n in range(10_000):
        journal.sent("t", "key", 1, 0, session=1, there_mask=bytes(4000))
except JournalError as e:
    print(e)
"""


def test_a_full_disk_is_said_and_what_was_recorded_holds(tmp_path: Path) -> None:
    state = tmp_path / "s.db"
    program = FULL_DISK.format(path=[p for p in sys.path if p], state=str(state))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=False)
    assert b"cannot be used" in done.stdout, done
    assert b"What it recorded before still holds" in done.stdout
    with closing(Journal(state)) as journal:
        assert journal.facts("t").sessions["collection.words"].session == 1
