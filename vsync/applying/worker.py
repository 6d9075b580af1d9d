"""What runs in several threads: ``prepare`` a chunk (read, map, check, probe, encode) and ``send`` it, once prepared.

Tasks are small picklable values; a worker opens and keeps its own sources and writers. It writes no journal: the driver
commits between the two.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa

from vsync.applying import there
from vsync.errors import BadRowsError, TooLargeError
from vsync.planning.origins import mapping_of
from vsync.rows import BadRow, arrow_type, bad_rows_error, columns_of, digest, source_keys, take_rows
from vsync.rows.digest import row_digests
from vsync.rows.losers import without

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vsync.applying.identity import Identities
    from vsync.applying.retry import Limiter, Retry
    from vsync.connectors.base import Acked, CollectionSource, Target, Writer
    from vsync.opening import Sources
    from vsync.planning.steps import CopyChunk, Destination, Unit
    from vsync.rows import Taken
    from vsync.schema import Collection


@dataclass(frozen=True, slots=True)
class Task:
    """One chunk to be copied. ``there`` is what was journaled with earlier attempts, where there were any.

    ``only``: the rows of a collection with these keys, instead of the chunk's range.
    """

    unit: Unit
    chunk: CopyChunk
    to: Destination
    collection: Collection
    there: bytes | None = None
    only: pa.Array | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A chunk that is ready to be sent. The rows of ``requests`` are those that are neither there, bad nor dropped.

    ``read`` are the rows that its source gave, ``rows`` those to be sent. ``there_mask`` is journaled with ``sent``,
    ``kept`` with ``acked``: see :mod:`vsync.applying.there`.
    ``displaces`` are the keys that may be in other partitions and must not stay there; ``old`` those that the rows have
    in their source, where the server makes new ones.
    """

    task: Task
    requests: list[Any]
    read: int
    rows: int
    there: int
    dropped: int
    there_mask: bytes | None
    kept: bytes | None
    rejects: tuple[BadRow, ...]
    digest: str
    nbytes: int
    displaces: pa.Array | None = None
    old: pa.Array | None = None

    @property
    def rejected(self) -> int:
        """Rows that did not fit, each of which may be there several times, for several fields."""
        return len({bad.row for bad in self.rejects})


@dataclass(frozen=True, slots=True)
class Sent:
    """What the server acknowledged of a chunk; ``keys`` are those that it made, in the order of the rows."""

    prepared: Prepared
    written: int
    key_ranges: tuple[tuple[int, int], ...]
    keys: NDArray[np.int64]


@dataclass(slots=True)
class Worker:
    """Prepares and sends chunks for one target."""

    target: Target
    sources: Sources
    retry: Retry
    limiter: Limiter
    identities: Identities
    _writers: dict[str, Writer] = field(default_factory=dict)

    def writer(self, to: Destination, collection: Collection) -> Writer:
        """Open the way into a destination once."""
        if to.address not in self._writers:
            self._writers[to.address] = self.target.writer(collection, to.partition)
        return self._writers[to.address]

    def prepare(self, task: Task) -> Prepared:
        """Read a chunk and make it ready; raises BadRowsError where rows do not fit and none may be skipped."""
        self.identities.check(task.to.collection)  # here, where it delays no request
        read, old, taken = self._take(task)
        checksum = digest(taken.rows)
        rows, numbers = _winners(task, taken)
        dropped = taken.rows.num_rows - rows.num_rows
        writer = self.writer(task.to, task.collection)
        mask, held = self._there(task, rows, writer)
        kept = _kept(task, rows, mask)
        if held.any():
            _refuse_there(task, numbers, held)
            if not task.to.replaces:  # skip, too, appends to what was empty
                rows = rows.filter(pa.array(~held))
        return Prepared(
            task=task,
            requests=writer.encode(rows) if rows.num_rows else [],
            read=read,
            rows=rows.num_rows,
            there=int(held.sum()),
            dropped=dropped,
            there_mask=mask,
            kept=kept,
            rejects=taken.bad,
            digest=checksum,
            nbytes=rows.nbytes,
            displaces=_displaced(task, rows),
            old=None if old is None else old.take(pa.array(numbers - task.chunk.lo)),
        )

    def rows_of(self, task: Task) -> pa.RecordBatch:
        """Give the rows that a chunk brings, whatever of them is there."""
        _, _, taken = self._take(task)
        return _winners(task, taken)[0]

    def _take(self, task: Task) -> tuple[int, pa.Array | None, Taken]:
        """Read a chunk; gives how many rows there were, the keys that are made anew, and the rows that fit."""
        chunk, unit = task.chunk, task.unit
        mapping = mapping_of(unit, task.collection)
        old_key = unit.old_key if task.collection.primary.auto_id else None
        columns = list(dict.fromkeys([*columns_of(mapping), *([] if old_key is None else [old_key])]))
        with self.sources.use(unit, self.retry.call) as source:
            if task.only is None:
                batch = self.retry.call(source.read, chunk.bounds, columns)
            else:
                found = self.retry.call(source.describe).collection
                assert found is not None
                keys = source_keys(task.only, mapping, arrow_type(found.schema.primary))
                batch = self.retry.call(cast("CollectionSource", source).reader.fetch, keys, columns)
        taken = take_rows(batch, chunk.lo, mapping, self.target.rules)
        if taken.bad and task.to.on_bad_row == "error":
            raise bad_rows_error(taken.bad, where=f"{unit.path} rows {chunk.lo}-{chunk.hi - 1}")
        return batch.num_rows, None if old_key is None else batch.column(old_key), taken

    def _there(self, task: Task, rows: pa.RecordBatch, writer: Writer) -> tuple[bytes | None, Any]:
        """Tell which rows were there before the first attempt: asked once, then taken from the journal."""
        key, none = task.collection.primary, np.zeros(rows.num_rows, bool)
        if key.auto_id:
            return (there.of_digests(task.there, _digests_of(task, rows)) if task.unit.lives else None), none
        if task.there is None and not (rows.num_rows and (task.to.probe or task.unit.lives)):
            return None, none
        # An upsert replaces what this partition holds; for append a key is taken wherever it is.
        probe = partial(writer.probe, everywhere=not task.to.replaces)
        ask = partial(self.retry.call, probe) if task.to.probe else _nothing_there
        find = there.of_collection if task.unit.lives else there.of_file
        return find(task.there, rows.column(key.name), ask)

    def send(self, prepared: Prepared) -> Sent:
        """Send a chunk's requests, each until it is acknowledged; what was in doubt is sent again as it was."""
        task = prepared.task
        writer = self.writer(task.to, task.collection)
        if prepared.displaces is not None:
            self.retry.call(writer.displace, prepared.displaces)
        written = 0
        ranges: list[tuple[int, int]] = []
        keys: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
        requests = deque(prepared.requests)
        while requests:
            request = requests.popleft()
            self.limiter.wait(prepared.nbytes // len(prepared.requests))
            try:
                acked = self._acknowledged(writer, request, auto_id=task.collection.primary.auto_id)
            except TooLargeError:
                requests.extendleft(reversed(writer.halve(request)))
                continue
            written += acked.rows
            ranges += acked.key_ranges
            keys += [acked.keys] if acked.keys is not None else []
        return Sent(prepared, written, tuple(ranges), np.concatenate(keys))

    def _acknowledged(self, writer: Writer, request: Any, *, auto_id: bool) -> Acked:
        """Send until acknowledged; an insert with keys of the server's making is never repeated while in doubt."""
        return self.retry.call(writer.send, request, repeat_in_doubt=not auto_id)


def _digests_of(task: Task, rows: pa.RecordBatch) -> NDArray[np.uint64]:
    """Digest rows of a chunk by the fields that it brings."""
    return row_digests(rows, [m.field for m in mapping_of(task.unit, task.collection)])


def _nothing_there(keys: pa.Array) -> pa.BooleanArray:
    """Answer for a destination that was empty."""
    return pa.array(np.zeros(len(keys), bool))


def _kept(task: Task, rows: pa.RecordBatch, mask: bytes | None) -> bytes | None:
    """Say what of earlier attempts is still to be known when this one is acknowledged."""
    if task.there is None or not task.unit.lives:
        return None
    key = task.collection.primary
    return mask if key.auto_id else there.gone(task.there, rows.column(key.name))


def _displaced(task: Task, rows: pa.RecordBatch) -> pa.Array | None:
    """Give the keys of rows that replace others, in a collection that may hold some: they can be in any partition."""
    key, to = task.collection.primary, task.to
    held = to.probe or to.before != 0 or to.elsewhere
    if not to.displaces or not held or key.auto_id or not rows.num_rows:
        return None
    return rows.column(key.name)


def _winners(task: Task, taken: Taken) -> tuple[pa.RecordBatch, Any]:
    """Leave out the rows that lost a collision of keys."""
    key = None if task.chunk.keys is None else task.collection.primary.name
    return without(taken.rows, taken.numbers, task.chunk.dropped, key)


def _refuse_there(task: Task, numbers: Any, held: Any) -> None:
    if not task.to.strict:
        return
    first = int(numbers[held][0])
    raise BadRowsError(
        f"{int(held.sum())} keys of {task.unit.path} are in {task.to.address} already; the first is of row {first}",
        where=f"{task.unit.path} row {first}",
        hint="the spec says strict: true; without it they are left as they are",
    )
