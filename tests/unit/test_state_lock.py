"""The lock of a state: one process at a time, told who it is, free when it dies, never broken."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import applies
import pytest

from vsync.errors import JournalError, LockedError
from vsync.state.journal import holder
from vsync.state.lock import clear_note, is_held, locked, look_at

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOLD = """
from pathlib import Path
from vsync.state.journal import holder
from vsync.state.lock import locked
import sys
with locked(Path(sys.argv[1]), holder()):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another(state: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Hold a lock in a process of its own."""
    command = [sys.executable, "-c", HOLD, str(state)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield process


def test_a_second_is_told_who_holds_it_and_since_when(tmp_path: Path) -> None:
    state = tmp_path / ".vsync" / "vsync.db"
    state.parent.mkdir()
    with another(state) as process:
        said = rf"another vsync holds the state .*vsync.db: \w+ on .*, process {process.pid}, since 20\d\d-\d\d-\d\dT"
        with pytest.raises(LockedError, match=said), locked(state, "me"):
            pass
        done = applies.vsync(tmp_path, "state", "unlock")
        assert done.code == 11
        assert f"process {process.pid}, since 20" in done.err
        assert "a live lock is never broken" in done.err
        assert is_held(state)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10) == 0
    assert not is_held(state)
    assert look_at(state).said == "", "who gives it back leaves no note"


def test_a_killed_holder_leaves_a_note_and_no_lock(tmp_path: Path) -> None:
    state = tmp_path / ".vsync" / "vsync.db"
    state.parent.mkdir()
    with another(state) as process:
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    assert not is_held(state)
    assert f"process {process.pid}" in look_at(state).said
    done = applies.vsync(tmp_path, "state", "unlock")
    assert done.code == 0
    assert "There is nothing to unlock" in done.out
    assert f"did not give it back, and is gone: {holder().split(',')[0]}, process {process.pid}" in done.out
    assert look_at(state).said == ""
    done = applies.vsync(tmp_path, "state", "unlock", "--json")
    assert [(one["type"], one["held"], one["last"]) for one in done.said] == [("summary", False, None)]


def test_what_was_never_locked(tmp_path: Path) -> None:
    done = applies.vsync(tmp_path, "state", "unlock")
    assert done.code == 0
    assert "There is nothing to unlock" in done.out
    assert not list(tmp_path.iterdir())
    assert clear_note(tmp_path / "s.db").said == ""


def test_who_looks_keeps_nobody_from_taking_it(tmp_path: Path) -> None:
    """status looks by holding it for a moment, shared: an apply that begins at that moment is not refused."""
    state = tmp_path / "s.db"
    state.with_suffix(".lock").touch()
    looking, enough = threading.Event(), threading.Event()

    def look() -> None:
        while not enough.is_set():
            look_at(state)
            looking.set()

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        assert looking.wait(10)
        for n in range(200):
            with locked(state, f"apply {n}"):
                assert is_held(state)
    finally:
        enough.set()
        watcher.join()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def flock(_handle: int, _how: int) -> None:
        raise OSError(number, os.strerror(number))

    state = tmp_path / "s.db"
    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(JournalError, match=r"cannot lock .*s.lock: .*this file system has no locks"), locked(state, ""):
        pass
    assert not is_held(state)


def test_a_state_that_has_the_name_of_its_lock(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="cannot be a state"), locked(tmp_path / "s.lock", "me"):
        pass


@pytest.mark.parametrize("words", [["mv", "collection.a", "collection.b"], ["rm", "collection.a", "--yes"]])
def test_what_changes_a_state_takes_its_lock(tmp_path: Path, words: list[str]) -> None:
    state = tmp_path / ".vsync" / "vsync.db"
    state.parent.mkdir()
    state.touch()
    with another(state) as process:
        for command in (words, ["doctor", "--restore", "--yes"]):
            done = applies.vsync(tmp_path, "state", *command)
            assert done.code == 11, done
            assert f"process {process.pid}" in done.err
        process.kill()
