"""A state that is cut short, damaged, or in a place that cannot hold it: said clearly, what was recorded intact."""

from __future__ import annotations

import itertools
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import applies
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from journals import CHUNKS, OUTCOME, TO, begun, finished, wrong

from vsync.errors import JournalError
from vsync.state import file
from vsync.state.doctor import restore
from vsync.state.file import backup_of, connect
from vsync.state.journal import Journal
from vsync.state.lock import locked
from vsync.state.view import View

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = 65534
SPEC = """
version: 1
target: ./milvus.db
defaults: {chunk_bytes: 480}
collections: {words: {from: a.parquet}}
"""
PAGE = 4096


def write_rows(path: Path) -> None:
    vectors = pa.FixedSizeListArray.from_arrays(np.arange(500 * 4, dtype=np.float32), 4)
    pq.write_table(pa.table({"id": np.arange(500), "vec": vectors}), path, row_group_size=20)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_sound_state_has_nothing_wrong(tmp_path: Path) -> None:
    state = tmp_path / "s.db"
    finished(state)
    before = names(tmp_path)
    assert not wrong(state)
    assert names(tmp_path) == before == ["s.db", "s.db.bak"], "the doctor looks, and leaves nothing"


@pytest.mark.parametrize("size", [0, 1, 17, 99, 511, 512, 1000, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE, -PAGE, -1])
def test_a_state_that_is_cut_short_is_told_and_its_backup_brought_back(tmp_path: Path, size: int) -> None:
    state = tmp_path / "s.db"
    finished(state)
    with closing(View(state)) as view:
        known = view.facts("t")
    whole = state.read_bytes()
    os.truncate(state, size if size >= 0 else len(whole) + size)
    cut = state.read_bytes()
    for opens in (Journal, View):
        with pytest.raises(JournalError, match=r"is damaged: .* vsync state doctor --state"):
            opens(state)
    assert [f.hint for f in wrong(state) if f.hint and "--restore" in f.hint]
    assert state.read_bytes() == cut

    aside = restore(state)
    assert aside is not None
    assert aside.read_bytes() == cut, "what was there is kept"
    assert not wrong(state)
    with closing(Journal(state)) as journal:
        facts = journal.facts("t")
        assert facts.acked == known.acked
        assert facts.sessions["collection.words"].partial, "what it wrote since its backup it cannot know"


def test_a_page_of_garbage_is_told(tmp_path: Path) -> None:
    state = tmp_path / "s.db"
    finished(state)
    with closing(sqlite3.connect(state)) as db:
        db.execute("VACUUM")  # what a page holds that is free harms nobody
    chance, whole = random.Random(7), state.read_bytes()
    told = 0
    pages = range(len(whole) // PAGE)
    for page in pages:
        garbage = chance.randbytes(PAGE)
        state.write_bytes(whole[: page * PAGE] + garbage + whole[(page + 1) * PAGE :])
        for opens in (Journal, View):
            with pytest.raises(JournalError, match="is damaged"):
                opens(state)
        told += bool(wrong(state))
    assert told == len(pages)


def test_a_log_that_is_cut_short_forgets_from_its_end(tmp_path: Path) -> None:
    """Each commit is whole or not there, and none is there without those before it."""
    state = tmp_path / "s.db"
    journal = begun(state)
    history = [journal.facts("t")]
    for n in range(len(CHUNKS)):
        journal.sent("t", "key", 1, n, session=1, there_mask=None)
        history.append(journal.facts("t"))
        journal.acked("t", "key", 1, n, OUTCOME)
        history.append(journal.facts("t"))
    log = state.with_name("s.db-wal")
    files = {p: p.read_bytes() for p in (state, log)}
    journal.close()
    seen = []
    for size in [*range(0, len(files[log]), 3001), len(files[log])]:
        for path, content in files.items():
            path.write_bytes(content)
        os.truncate(log, size)
        state.with_name("s.db-shm").unlink(missing_ok=True)
        with closing(Journal(state)) as found:
            seen.append(found.facts("t"))
    places = [history.index(facts) for facts in seen if facts in history]
    assert places == sorted(places)
    assert {0, len(history) - 1} <= set(places)
    assert all(not facts.acked and not facts.in_doubt for facts in seen if facts not in history), "before the history"


def test_a_state_that_lost_all_but_its_log_is_told(tmp_path: Path) -> None:
    state = tmp_path / "s.db"
    journal = begun(state)
    log = state.with_name("s.db-wal").read_bytes()
    journal.close()
    state.write_bytes(b"")
    state.with_name("s.db-wal").write_bytes(log)
    for opens in (Journal, View):
        with pytest.raises(JournalError, match="is damaged: it is empty, and was not"):
            opens(state)
    assert "there is no backup" in str(wrong(state)[0].hint)
    with pytest.raises(JournalError, match=r"there is no backup of .*s.db; .*move s.db away and apply again"):
        restore(state)


def test_an_empty_file_is_a_first_apply_that_was_killed(tmp_path: Path) -> None:
    state = tmp_path / "s.db"
    state.touch()
    with closing(View(state)) as view:
        assert view.last_run() is None
    with closing(Journal(state)) as journal:
        assert journal.facts("t").sessions == {}


def test_a_folder_is_no_state(tmp_path: Path) -> None:
    for opens in (Journal, View):
        with pytest.raises(JournalError, match="cannot be used: Is a directory"):
            opens(tmp_path)


def test_what_a_backup_thinks_pending_is_in_doubt(tmp_path: Path) -> None:
    state = tmp_path / "s.db"
    with closing(begun(state)) as journal:
        journal.sent("t", "key", 1, 0, session=1, there_mask=None)
        journal.acked("t", "key", 1, 0, OUTCOME)
        journal.sent("t", "key", 1, 1, session=1, there_mask=b"mask")
        journal.backup()
        journal.acked("t", "key", 1, 1, OUTCOME)
        journal.sent("t", "key", 1, 2, session=1, there_mask=None)
    restore(state)
    with closing(View(state)) as view:
        facts = view.facts("t")
        assert facts.acked == {"key": {0}}
        assert facts.in_doubt == {"key": {1, 2}}
        assert view.there_mask("t", "key", TO, 1) == b"mask"
        assert facts.sessions["collection.words"].partial
    assert names(tmp_path) == ["s.db", "s.db.bak", "s.db.damaged-1"]
    restore(state)
    assert names(tmp_path) == ["s.db", "s.db.bak", "s.db.damaged-1", "s.db.damaged-2"]


def test_a_lost_state_comes_back_from_its_backup(tmp_path: Path) -> None:
    state = tmp_path / "s.db"
    finished(state)
    state.unlink()
    assert "--restore" in str(wrong(state)[0].hint)
    assert restore(state) is None
    with closing(View(state)) as view:
        assert view.facts("t").acked == {"key": {0, 1, 2}}


def test_a_damaged_backup_is_told_and_not_brought_back(tmp_path: Path) -> None:
    state = tmp_path / "s.db"
    finished(state)
    os.truncate(backup_of(state), 2 * PAGE)
    assert "the backup of" in wrong(state)[0].what
    with pytest.raises(JournalError, match=r"the backup of .* is damaged: .*move s.db away and apply again"):
        restore(state)
    with closing(View(state)) as view:
        assert view.facts("t").acked == {"key": {0, 1, 2}}, "the state is as it was"


def test_a_backup_is_whole_or_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = tmp_path / "s.db"
    finished(state)
    kept = backup_of(state).read_bytes()
    with closing(Journal(state)) as journal:
        journal.failed("t", "key", 1, 0, "an error")
        with monkeypatch.context() as broken:
            broken.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
            with pytest.raises(JournalError, match=r"s.db.bak cannot be used: No space left on device; make room"):
                journal.backup()
            with pytest.raises(JournalError, match=r"s.db.bak cannot be used: No space left"):
                journal.end_run(1, 0)
            journal.end_run(1, 5)  # it has an error to tell that matters more
        assert backup_of(state).read_bytes() == kept
        assert names(tmp_path) == ["s.db", "s.db-shm", "s.db-wal", "s.db.bak"]
        journal.backup()
    assert backup_of(state).read_bytes() != kept
    assert backup_of(state).stat().st_mode & 0o777 == 0o600


def test_a_damaged_journal_does_not_replace_a_good_backup(tmp_path: Path) -> None:
    state = tmp_path / "s.db"
    finished(state)
    kept = backup_of(state).read_bytes()
    with closing(Journal(state)) as journal:
        root = journal.query("SELECT rootpage FROM sqlite_master WHERE name = 'chunks'")[0][0]
        journal.query("PRAGMA shrink_memory")
        with state.open("r+b") as pages:
            pages.seek((root - 1) * PAGE)
            pages.write(random.Random(1).randbytes(PAGE))
        with pytest.raises(JournalError, match="is damaged"):
            journal.backup()
    assert backup_of(state).read_bytes() == kept


def test_a_backup_is_made_while_the_journal_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = tmp_path / "s.db"
    monkeypatch.setattr("vsync.state.journal.BACKUP_SECONDS", 0.0)
    monkeypatch.setattr("vsync.state.journal.BACKUP_SHARE", 1e9)
    with closing(begun(state)) as journal:
        with journal.together():
            journal.sent("t", "key", 1, 0, session=1, there_mask=None)
            with closing(View(backup_of(state))) as view:
                assert view.facts("t").in_doubt == {}, "what is not committed is in no backup"
        with closing(View(backup_of(state))) as view:
            assert view.facts("t").in_doubt == {"key": {0}}


@pytest.mark.parametrize(
    ("tampering", "said"),
    [
        ("DELETE FROM units", "chunks belong to a file"),
        ("DELETE FROM sessions", "files belong to a destination"),
        ("UPDATE chunks SET epoch = 9", "chunks are of an epoch"),
        ("INSERT INTO sessions (target, destination, session, epoch) VALUES ('t', 'collection.words', 2, 0)", "epochs"),
        ("UPDATE chunks SET state = 'lost' WHERE n = 1", "pending, sent or acked: lost"),
        ("UPDATE chunks SET written = 7 WHERE n = 1", "lost to a collision: collection.words.data.0 chunk 1"),
        ("UPDATE chunks SET state = 'sent' WHERE n = 1", "has no chunk in doubt: collection.words.data.0 chunk 1"),
        ("UPDATE sessions SET left = 28", "what was left at a destination"),
    ],
)
def test_what_does_not_agree_is_told(tmp_path: Path, tampering: str, said: str) -> None:
    state = tmp_path / "s.db"
    finished(state)
    with closing(sqlite3.connect(state)) as db:
        db.execute(tampering)
        db.commit()
    found = wrong(state)
    assert any(said in f.what for f in found), found
    assert all("--restore" in str(f.hint) for f in found)


# -- places that cannot hold it -----------------------------------------------------------------------------


def fill(journal: Journal) -> None:
    for n in itertools.count():
        journal.sent("t", "key", 1, n % 2, session=1, there_mask=os.urandom(4000 + n))


def test_a_full_file_is_said_and_the_next_apply_goes_on(tmp_path: Path) -> None:
    """SQLITE_FULL, as a full disk gives it."""
    state = tmp_path / "s.db"
    with closing(begun(state)) as journal:
        journal.query("PRAGMA wal_checkpoint(TRUNCATE)")
        journal.query("PRAGMA max_page_count = 1")
        with pytest.raises(JournalError, match=r"cannot be used: database or disk is full; make room, .* still holds"):
            fill(journal)
        known = journal.facts("t")
        journal.query("PRAGMA max_page_count = 100000")
        journal.acked("t", "key", 1, 0, OUTCOME)
        assert journal.facts("t").acked == {"key": {0}}
    assert not wrong(state)
    assert known.sessions


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """Give a disk of 1 MiB, where this process may make one."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "vsync-test", folder], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip("only root may mount a small disk; test_a_full_file_... shows the same by SQLite's own limit")
        yield Path(folder)
        subprocess.run(["umount", folder], check=True)


def test_a_disk_that_fills_up(small_disk: Path) -> None:
    state = small_disk / "s.db"
    with closing(begun(state)) as journal:
        filler = small_disk / "filler"
        filler.write_bytes(bytes(600_000))
        with pytest.raises(JournalError, match=r"cannot be used: .*; make room"):
            fill(journal)
        with pytest.raises(JournalError, match=r"s.db.bak cannot be used: .*; make room"):
            journal.backup()
        assert journal.facts("t").in_doubt == {"key": {0, 1}}
        filler.unlink()
        journal.acked("t", "key", 1, 0, OUTCOME)
        journal.backup()
    assert not wrong(state)
    with closing(View(state)) as view:
        assert view.facts("t").acked == {"key": {0}}


def test_an_apply_whose_state_has_no_room(small_disk: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "a.parquet")
    (tmp_path / "vsync.yaml").write_text(SPEC)
    filler = small_disk / "filler"
    filler.write_bytes(bytes(940_000))
    state = small_disk / "s.db"
    done = applies.apply(tmp_path, "--state", str(state), code=1)
    assert "make room, then run the same command again" in done.problems
    assert "s.db" in done.problems
    filler.unlink()
    done = applies.apply(tmp_path, "--state", str(state))
    assert done.balance("collection.words")["left"] == 500
    assert not wrong(state)


GROWS = """
import resource, signal, sys
sys.path[:0] = {path!r}
from test_state_damage import *
state = Path({state!r})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a file that may not grow answers as a full disk does
{before}
size = state.with_name("s.db-wal").stat().st_size if state.with_name("s.db-wal").exists() else 0
resource.setrlimit(resource.RLIMIT_FSIZE, (max(size, {least}), max(size, {least})))
try:
    {then}
except JournalError as e:
    print(e)
"""


def grows(state: Path, before: str, then: str, least: int = 0) -> str:
    program = GROWS.format(path=[p for p in sys.path if p], state=str(state), before=before, then=then, least=least)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done
    return done.stdout.decode()


def test_a_first_apply_on_a_full_disk(tmp_path: Path) -> None:
    state = tmp_path / "s.db"
    said = grows(state, "", "Journal(state)", least=PAGE)
    assert "cannot be used: " in said
    assert "make room, or look at the disk" in said
    with closing(Journal(state)) as journal:
        assert journal.facts("t").sessions == {}


def test_a_backup_on_a_full_disk_leaves_the_last_one(tmp_path: Path) -> None:
    state = tmp_path / "s.db"
    finished(state)
    kept = backup_of(state).read_bytes()
    said = grows(state, "journal = Journal(state)", "journal.backup()", least=2 * PAGE)
    assert "s.db.bak cannot be used: " in said
    assert backup_of(state).read_bytes() == kept
    assert names(tmp_path) == ["s.db", "s.db.bak"]
    assert not wrong(state)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Take the right to write from a folder, and from this process the right to write all the same."""
    for path in folder.iterdir():
        path.chmod(0o444)
    folder.chmod(0o555)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
        folder.chmod(0o755)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder that anybody may go to: those of pytest are their owner's alone."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def test_a_read_only_folder_is_read_and_not_written(folder: Path) -> None:
    state = folder / "s.db"
    finished(state)
    with read_only(folder):
        with closing(View(state)) as view:
            assert view.facts("t").acked == {"key": {0, 1, 2}}
        with pytest.raises(JournalError, match=r"cannot be used: Permission denied; name another place with --state"):
            Journal(state)
        with pytest.raises(JournalError, match=r"cannot be used: Permission denied"):
            Journal(folder / "new.db")
        with pytest.raises(JournalError, match=r"cannot make the state's folder .*new: Permission denied"):
            Journal(folder / "new" / "s.db")
        with pytest.raises(JournalError, match=r"cannot lock .*s.lock: Permission denied"), locked(state, "me"):
            pass


def test_a_read_only_folder_whose_state_was_cut_off(folder: Path) -> None:
    """SQLite cannot read the log without writing beside it: that is said, and nothing is read in part."""
    state = folder / "s.db"
    finished(state)
    with closing(Journal(state)) as journal:
        journal.failed("t", "key", 1, 0, "an error")
        kept = {p: p.read_bytes() for p in (state, state.with_name("s.db-wal"))}
    for path, content in kept.items():
        path.write_bytes(content)
    with (
        read_only(folder),
        pytest.raises(JournalError, match=r"make the file and its folder readable and writable"),
    ):
        View(state)


def test_a_file_system_that_bears_no_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without shared memory SQLite keeps another kind of journal, and says so in its answer alone."""
    monkeypatch.setattr(file, "connect", lambda path, how: connect(path, f"{how}&vfs=unix-none"))
    with pytest.raises(JournalError, match=r"cannot be used: this file system bears no log .*journal_mode=delete"):
        Journal(tmp_path / "s.db")


def test_what_lies_beside_a_state_that_was_named_is_not_ours(tmp_path: Path) -> None:
    Journal(tmp_path / "s.db").close()
    assert not (tmp_path / ".gitignore").exists(), "--state ./s.db hides nobody's folder from git"
    Journal(tmp_path / "states" / "s.db").close()
    assert (tmp_path / "states" / ".gitignore").read_text() == "*\n"


def test_a_kill_while_a_backup_is_written(tmp_path: Path) -> None:
    state = tmp_path / "s.db"
    finished(state)
    kept = backup_of(state).read_bytes()
    with closing(Journal(state)) as journal:
        journal.failed("t", "key", 1, 0, "an error")
    killed = (
        "import os, signal, sys\n"
        f"sys.path[:0] = {[p for p in sys.path if p]!r}\n"
        "from test_state_damage import *\n"
        f"journal = Journal(Path({str(state)!r}))\n"
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        "journal.backup()\n"
    )
    done = subprocess.run([sys.executable, "-c", killed], capture_output=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL, done
    assert backup_of(state).read_bytes() == kept
    assert not wrong(state)
    with closing(Journal(state)) as journal:
        journal.backup()
    assert backup_of(state).read_bytes() != kept
    assert names(tmp_path) == ["s.db", "s.db.bak"]
