"""Files that are there whole or not at all, whatever happens: written beside, synced, and given their name."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from vsync.errors import TargetError
from vsync.faults import passing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def write_whole(path: Path, write: Callable[[Any], None]) -> None:
    """Write a file so that it is there whole or not at all, whatever happens; folders above it are made.

    Raises TargetError where the disk is full, or nobody may write there.
    """
    new = path.with_name(f"{path.name}.new")
    passing("file.put.before")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with new.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        passing("file.put.written")
        put(new, path)
        passing("file.put.after")
    except OSError as error:
        with suppress(OSError):
            new.unlink(missing_ok=True)
        raise cannot_write(path, error) from error


def put(new: Path, path: Path) -> None:
    """Give a whole file its name, durably."""
    new.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have the disk know which files a folder holds."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def cannot_write(path: Path, error: OSError | RuntimeError) -> TargetError:
    """Say that a file cannot be written."""
    what = getattr(error, "strerror", None) or error
    return TargetError(f"cannot be written: {what}", where=str(path), hint="is there room, and may you?")
