"""One apply at a time for one state: an flock on a file beside it, freed by the kernel when its holder dies."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vsync.errors import JournalError, LockedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def locked(state: Path, holder: str) -> Iterator[None]:
    """Hold the lock of a state file; raises LockedError where another process does.

    ``holder`` is written into the file, for people; nothing is decided by what it says.
    """
    path = state.with_suffix(".lock")
    try:
        handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as e:
        raise JournalError(f"cannot lock {path}: {e.strerror}", hint="name another place with --state") from e
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            other = os.pread(handle, 200, 0).decode(errors="replace").strip()
            raise LockedError(
                f"another apply holds the state {state}" + (f": {other}" if other else ""),
                hint="wait for it to end, or stop it; vsync status shows how far it is",
            ) from e
        os.ftruncate(handle, 0)
        os.pwrite(handle, holder.encode(), 0)
        yield
    finally:
        os.close(handle)


def is_held(state: Path) -> bool:
    """Tell whether an apply holds the lock of a state file now."""
    try:
        handle = os.open(state.with_suffix(".lock"), os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False
