"""One apply at a time for one state: an flock on a file beside it, freed by the kernel when its holder dies."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vsync.errors import JournalError, LockedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOOKS = 20
"""How often a lock that is held is looked at, in a fifth of a second: who asks whether it is held, holds it shortly."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock, or held it: what it wrote into the file, for people."""

    held: bool
    said: str


def lock_of(state: Path) -> Path:
    """Name the file that is locked; raises JournalError where it would be the state itself."""
    path = state.with_suffix(".lock")
    if path == state:
        raise JournalError(f"{state} cannot be a state: its lock has this name", hint="name it NAME.db")
    return path


@contextmanager
def locked(state: Path, holder: str) -> Iterator[None]:
    """Hold the lock of a state file; raises LockedError where another process does.

    ``holder`` is written into the file, for people; nothing is decided by what it says.
    """
    path = lock_of(state)
    try:
        handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as e:
        raise JournalError(f"cannot lock {path}: {e.strerror}", hint="name another place with --state") from e
    try:
        _take(handle, state, path)
        _say(handle, holder)
        try:
            yield
        finally:
            _say(handle, "")
    finally:
        os.close(handle)


def _take(handle: int, state: Path, path: Path) -> None:
    for look in range(LOOKS):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            if look < LOOKS - 1:
                time.sleep(0.2 / LOOKS)
                continue
            other = _said(handle)
            raise LockedError(
                f"another vsync holds the state {state}" + (f": {other}" if other else ""),
                hint=f"wait for it to end, or stop it; vsync status --state {state} shows how far it is",
            ) from e
        except OSError as e:
            raise JournalError(
                f"cannot lock {path}: {e.strerror}",
                hint="this file system has no locks (flock): name a place on another with --state",
            ) from e
        return


def _said(handle: int) -> str:
    return os.pread(handle, 200, 0).decode(errors="replace").strip()


def _say(handle: int, text: str) -> None:
    """Write who holds it; a full disk keeps nobody from holding it, or from giving it back."""
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, text.encode(), 0)
    except OSError:
        return


def look_at(state: Path) -> Holder:
    """Tell whether a process holds the lock of a state file now, and what its last holder wrote."""
    try:
        handle = os.open(lock_of(state), os.O_RDONLY)
    except OSError:
        return Holder(held=False, said="")
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return Holder(held=True, said=_said(handle))
    except OSError:
        return Holder(held=False, said="")  # no locks here: then nobody can hold one
    else:
        return Holder(held=False, said=_said(handle))
    finally:
        os.close(handle)


def is_held(state: Path) -> bool:
    """Tell whether an apply holds the lock of a state file now."""
    return look_at(state).held


def clear_note(state: Path) -> Holder:
    """Remove what a dead holder left in the lock's file; never touches a lock that is held. Gives what was found."""
    found = look_at(state)
    if found.said and not found.held:
        with locked(state, ""):
            pass
    return found
