"""A new file that HDF5 writes: where the disk is full, it hears nothing of that.

A write that fails leaves HDF5 with blocks that it can neither write nor forget, and it takes the process with it, at
the latest when that ends. So what does not go to the disk any more is kept in memory until the file is closed: no more
than a block of rows, for then :meth:`Sink.check` raises.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Buffer, Self


class Sink:
    """What h5py asks of a file, and :meth:`check`; to be closed after the :class:`h5py.File` that writes to it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b", buffering=0)
        self._at = self._end = 0
        self._error: OSError | None = None
        self._kept: list[tuple[int, bytes]] = []

    def check(self) -> None:
        """Raise OSError where not everything is in the file."""
        if self._error is not None:
            raise self._error

    def sync(self) -> None:
        """Have the disk know all of it; raises OSError as :meth:`check` does."""
        self.check()
        os.fsync(self._file.fileno())

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._end}[whence]
        return self._at

    def tell(self) -> int:
        """Tell the place."""
        return self._at

    def write(self, data: Buffer) -> int:
        """Write there."""
        view, at = memoryview(data).cast("B"), self._at
        self._at += len(view)
        self._end = max(self._end, self._at)
        try:
            written = 0
            while self._error is None and written < len(view):
                written += os.pwrite(self._file.fileno(), view[written:], at + written)
        except OSError as error:
            self._error = error
        if self._error is not None:
            self._kept.append((at, bytes(view)))
        return len(view)

    def read(self, size: int) -> bytes:
        """Read from there; that there is such a method tells h5py that this is a file."""
        data = bytearray(size)
        self.readinto(data)
        return bytes(data)

    def readinto(self, buffer: Buffer) -> int:
        """Read from there."""
        view, at = memoryview(buffer).cast("B"), self._at
        self._at += len(view)
        found = os.preadv(self._file.fileno(), [view], at)
        view[found:] = bytes(len(view) - found)
        for place, data in self._kept:
            lo, hi = max(at, place), min(at + len(view), place + len(data))
            if lo < hi:
                view[lo - at : hi - at] = data[lo - place : hi - place]
        return len(view)

    def truncate(self, size: int) -> int:
        """Make it so long."""
        self._end = size
        try:
            if self._error is None:
                os.ftruncate(self._file.fileno(), size)
        except OSError as error:
            self._error = error
        return size

    def flush(self) -> None:
        """Do nothing: nothing waits."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()
