"""Which key became which, of rows whose keys a server makes: a Parquet file for each collection, beside the state.

A chunk leaves a part on the disk before the journal says that it is acknowledged, and what is gathered of the parts
holds only keys that the journal counts as acknowledged. So a row that was sent again, under another key, is there once,
whatever was killed: its old part says keys that nobody acknowledged, or that are acknowledged no more.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vsync import faults
from vsync.errors import JournalError
from vsync.state.file import sync

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Ranges = Sequence[tuple[int, int]]
    """Keys, first and last included."""

_RANGES = b"vsync.ranges"
_GROUP_ROWS = 1_000_000


@dataclass(frozen=True, slots=True)
class IdMap:
    """The files of one target. Raises JournalError where they cannot be read or written."""

    folder: Path

    @staticmethod
    def beside(state: Path, target: str) -> IdMap:
        """Find the files of a target: one state may know several."""
        return IdMap(state.with_suffix(".ids") / hashlib.sha256(target.encode()).hexdigest()[:8])

    def path(self, collection: str) -> Path:
        """Name the file of a collection."""
        return self.folder / f"{collection}.parquet"

    def put(self, collection: str, source: str, old: pa.Array, new: NDArray[np.int64], ranges: Ranges) -> None:
        """Keep what became of the rows of a chunk, durably; ``ranges`` are the new keys."""
        to = self._parts(collection) / f"{ranges[0][0]}.parquet"
        table = pa.table({"source": pa.repeat(source, len(old)), "old": _plain(old), "new": new})
        with _told(to), faults.around("ids.put"):
            _make(to.parent)
            with _written(to, table.schema.with_metadata({_RANGES: json.dumps(ranges)})) as writer:
                writer.write_table(table)

    def gather(self, collection: str, acked: Ranges, *, text: bool) -> tuple[Path, int] | None:
        """Put all together that is known of acknowledged keys; gives the file and its rows, ``None`` without any.

        ``text``: the keys of the collection are texts.
        """
        to, parts = self.path(collection), self._parts(collection)
        with _told(to), faults.around("ids.gather"):
            new = sorted(parts.glob("*.parquet"))
            if new:
                self._write(to, new, acked, text=text)
            shutil.rmtree(parts, ignore_errors=True)
            return (to, pq.read_metadata(to).num_rows) if to.exists() else None

    def _write(self, to: Path, parts: Sequence[Path], acked: Ranges, *, text: bool) -> None:
        schemas = [pq.read_schema(part) for part in parts]
        again = [(lo, hi) for schema in schemas for lo, hi in json.loads(schema.metadata[_RANGES])]
        schemas += [pq.read_schema(to)] if to.exists() else []
        whole = all(pa.types.is_integer(schema.field("old").type) for schema in schemas)
        schema = pa.schema(
            {
                "source": pa.string(),
                "old": pa.int64() if whole else pa.string(),
                "new": pa.string() if text else pa.int64(),
            }
        )

        def chosen() -> Iterator[pa.Table]:
            for table in _tables(to) if to.exists() else ():
                new = _numbers(table)
                yield table.filter(pa.array(_within(new, acked) & ~_within(new, again))).cast(schema)
            for part in parts:
                table = pq.read_table(part)
                yield table.filter(pa.array(_within(_numbers(table), acked))).replace_schema_metadata().cast(schema)

        with _written(to, schema) as writer:
            for group in _grouped(chosen()):
                writer.write_table(group)

    def moved(self, old: str, new: str) -> None:
        """Follow a collection that is known by another name."""
        with _told(self.folder):
            if self._parts(old).exists():  # those of a forgotten collection of that name are of no use
                shutil.rmtree(self._parts(new), ignore_errors=True)
            for was, now in ((self.path(old), self.path(new)), (self._parts(old), self._parts(new))):
                if was.exists():
                    was.replace(now)

    def _parts(self, collection: str) -> Path:
        return self.folder / f"{collection}.parts"


def _plain(old: pa.Array) -> pa.Array:
    try:
        return old.cast(pa.int64() if pa.types.is_integer(old.type) else pa.string())
    except pa.ArrowInvalid:  # an unsigned integer beyond int64
        return old.cast(pa.string())


def _tables(path: Path) -> Iterator[pa.Table]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_GROUP_ROWS):
            yield pa.Table.from_batches([batch])


def _numbers(table: pa.Table) -> NDArray[np.int64]:
    numbers: NDArray[np.int64] = table.column("new").cast(pa.int64()).to_numpy()
    return numbers


def _within(keys: NDArray[np.int64], ranges: Ranges) -> NDArray[np.bool_]:
    """Mark the keys that lie in ranges; those of parts that nobody acknowledged may overlap others."""
    if not ranges:
        return np.zeros(len(keys), np.bool_)
    ends = np.array(sorted(ranges), np.int64)
    at = np.searchsorted(ends[:, 0], keys, side="right") - 1
    inside: NDArray[np.bool_] = (at >= 0) & (keys <= np.maximum.accumulate(ends[:, 1])[at])
    return inside


def _grouped(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Join small tables: each that is written is a group of its own in the file."""
    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        if sum(t.num_rows for t in held) >= _GROUP_ROWS:
            yield pa.concat_tables(held)
            held = []
    if held:
        yield pa.concat_tables(held)


def _make(folder: Path) -> None:
    """Make a folder for its owner alone, with those above it."""
    if not folder.exists():
        _make(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        sync(folder.parent)


@contextmanager
def _written(to: Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """Write a file for its owner alone, whole or not at all: beside its place, synced, then renamed."""
    beside = to.with_name(f"{to.name}.new")
    handle = os.open(beside, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
    with os.fdopen(handle, "wb") as file, pq.ParquetWriter(file, schema) as writer:
        yield writer
    sync(beside)
    beside.replace(to)
    sync(to.parent)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn what the file system raises into JournalError."""
    try:
        yield
    except (OSError, pa.ArrowException) as e:
        why = (e.strerror if isinstance(e, OSError) else None) or str(e)
        hint = "make room, or make the folder writable, then run the same command again"
        raise JournalError(f"the file of old and new keys {path} cannot be used: {why}", hint=hint) from e
