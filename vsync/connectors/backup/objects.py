"""Rows as objects: one Arrow file each, named by the SHA-256 of its bytes."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from vsync.connectors.backup.manifest import Range
from vsync.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vsync.connectors.backup.store import Store
    from vsync.connectors.base import Key

CACHED = 4
"""How many objects are kept in memory: those that are read from at the moment."""


class DamagedError(SourceError):
    """An object is there, and is not what was written."""


def name_of(digest: str) -> str:
    """Give the name of an object."""
    return f"objects/{digest[:2]}/{digest}"


class Objects:
    """The objects of a repository. Used by several threads at once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._cache: OrderedDict[str, pa.RecordBatch] = OrderedDict()

    @property
    def label(self) -> str:
        """The place for people."""
        return self._store.label

    def write(self, batch: pa.RecordBatch, key: str, *, removes: bool = False) -> Range:
        """Write rows, in the order of their keys, where the repository does not have them; gives what says so."""
        data = to_bytes(batch)
        digest = hashlib.sha256(data).hexdigest()
        if self._store.size(name_of(digest)) != len(data):
            self._store.put(name_of(digest), data)
        keys = batch.column(key)
        return Range(keys[0].as_py(), keys[-1].as_py(), batch.num_rows, len(data), digest, removes)

    def read(self, digest: str, *, again: bool = True) -> pa.RecordBatch:
        """Read rows; raises SourceError where the object is not there, or not what was written.

        ``again``: whether they will be read from soon after.
        """
        with self._lock:
            if digest in self._cache:
                self._cache.move_to_end(digest)
                return self._cache[digest] if again else self._cache.pop(digest)
        batch = self.check(digest)
        if not again:
            return batch
        with self._lock:
            self._cache[digest] = batch
            while len(self._cache) > CACHED:
                self._cache.popitem(last=False)
        return batch

    def check(self, digest: str) -> pa.RecordBatch:
        """Read rows from the store, and compare their bytes with the digest."""
        name, where = name_of(digest), self._store.label
        data = self._store.get(name)
        if hashlib.sha256(data).hexdigest() != digest:
            hint = "it was changed after it was written; vsync verify says which snapshots have it"
            raise DamagedError(f"{name} is damaged: its content is not what it was", where=where, hint=hint)
        with pa.ipc.open_file(pa.py_buffer(data)) as reader:
            return reader.get_batch(0)


def to_bytes(batch: pa.RecordBatch) -> bytes:
    """Write rows as an Arrow file of one batch; equal rows give equal bytes.

    So they are copied first: where they lie in memory, and what is under a null, is not to be seen. LZ4: vectors hardly
    shrink under any codec, and zstd takes ten times as long to read them.
    """
    plain = batch.take(pa.array(np.arange(batch.num_rows)))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, plain.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        writer.write_batch(plain)
    data: bytes = sink.getvalue().to_pybytes()
    return data


@dataclass(frozen=True, slots=True)
class ObjectRun:
    """A range of a snapshot; a :class:`vsync.connectors.runs.run.Run`."""

    objects: Objects
    range: Range
    key: str

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self.range.rows

    @property
    def removes(self) -> bool:
        """Whether its keys are those of rows that are gone."""
        return self.range.removes

    @property
    def first(self) -> Key:
        """The lowest key."""
        return self.range.first

    @property
    def last(self) -> Key:
        """The highest key."""
        return self.range.last

    def keys(self, lo: int, hi: int) -> pa.Array:
        """Read keys."""
        return self._rows(again=True).column(self.key).slice(lo, hi - lo)

    def read(self, lo: int, hi: int, fields: Sequence[str]) -> pa.RecordBatch:
        """Read rows."""
        whole = hi - lo == self.rows  # as the chunks of a restore are: it would only take memory
        return self._rows(again=not whole).slice(lo, hi - lo).select(list(fields))

    def _rows(self, *, again: bool) -> pa.RecordBatch:
        batch = self.objects.read(self.range.object, again=again)
        if batch.num_rows != self.rows:
            what = f"{name_of(self.range.object)} holds {batch.num_rows:,} rows, and the snapshot says {self.rows:,}"
            raise SourceError(what, where=self.objects.label, hint="the snapshot was changed after it was written")
        return batch
