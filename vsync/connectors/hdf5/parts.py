"""Parts of an export that are not put together yet: each a file written once, whole before it has its name.

``NUMBER.rows``: rows in the order of their keys. ``NUMBER.gone``: keys whose rows are gone. ``NUMBER.clear``: all that
was before is gone. Rows and keys are Arrow's own files. The number says which came later.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from vsync.connectors.durable import write_whole
from vsync.connectors.runs.run import key_at
from vsync.faults import passing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from vsync.connectors.base import Key

ROWS, GONE, CLEAR = ".rows", ".gone", ".clear"


class Part:
    """Rows, or keys that are gone, in a file of its own; a :class:`vsync.connectors.runs.run.Run`."""

    def __init__(self, path: Path, key: str) -> None:
        self.path, self._key = path, key
        self.removes = path.suffix == GONE

    @cached_property
    def rows(self) -> int:
        """How many there are."""
        return int(self._batch().num_rows)

    @cached_property
    def first(self) -> Key:
        """The lowest key."""
        return key_at(self, 0)

    @cached_property
    def last(self) -> Key:
        """The highest key."""
        return key_at(self, self.rows - 1)

    def keys(self, lo: int, hi: int) -> pa.Array:
        """Show keys."""
        return self._batch().column(self._key).slice(lo, hi - lo)

    def read(self, lo: int, hi: int, fields: Sequence[str]) -> pa.RecordBatch:
        """Show rows."""
        return self._batch().slice(lo, hi - lo).select(list(fields))

    def _batch(self) -> pa.RecordBatch:
        # Mapped each time: thousands of files may wait, and none is held open.
        with pa.memory_map(str(self.path)) as file, pa.ipc.open_file(file) as reader:
            return reader.get_batch(0)


class Parts:
    """The parts of one partition, in a folder of their own that is there while there are some."""

    def __init__(self, folder: Path, key: str) -> None:
        self._folder, self._key = folder, key
        self._lock = threading.Lock()
        self._files = sorted(p for p in folder.glob("*") if p.suffix in {ROWS, GONE, CLEAR}) if folder.is_dir() else []
        self._next = int(self._files[-1].stem) + 1 if self._files else 0

    def __bool__(self) -> bool:
        return bool(self._files)

    @property
    def all(self) -> list[Path]:
        """Every part there is."""
        return list(self._files)

    @property
    def replaces(self) -> bool:
        """Whether what was before them is gone."""
        return any(p.suffix == CLEAR for p in self._files)

    def runs(self) -> list[Part]:
        """Give those that count, in their order."""
        with self._lock:
            files = list(self._files)
        clears = [n for n, p in enumerate(files) if p.suffix == CLEAR]
        return [Part(p, self._key) for p in files[clears[-1] + 1 if clears else 0 :]]

    def add(self, batch: pa.RecordBatch, *, removes: bool) -> None:
        """Write rows, or keys that are gone, to a part of their own; it is there when this returns."""

        def write(file: Any) -> None:
            with pa.ipc.new_file(file, batch.schema) as writer:
                writer.write_batch(batch)

        self._new(GONE if removes else ROWS, write)

    def clear(self) -> None:
        """Write that all before it is gone."""
        self._new(CLEAR, lambda _file: None)

    def remove(self, files: Sequence[Path]) -> None:
        """Remove parts that have been put together: in their order, so that those that are left mean the same."""
        with self._lock:
            for file in files:
                file.unlink(missing_ok=True)
                passing("part.removed")
            self._files = [f for f in self._files if f not in set(files)]
            if not self._files:
                with suppress(OSError):
                    self._folder.rmdir()

    def _new(self, suffix: str, write: Callable[[Any], None]) -> None:
        with self._lock:
            number, self._next = self._next, self._next + 1
        path = self._folder / f"{number:08d}{suffix}"
        write_whole(path, write)
        with self._lock:
            self._files = sorted([*self._files, path])
