"""Sources that are collections: which partitions are copied, and how what is not on the target yet is cut.

A collection lives, so that a cut of it holds for the run that made it: the next plan, when that has ended, looks anew.
Where keys are there already it compares them, both sides in the order of their keys, and cuts what is missing. Rows on
record as not fitting are looked at again: they are missing only if they fit by now.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vsync.connectors.base import Bounds, KeyRange
from vsync.errors import Problem, SourceError
from vsync.planning.diff import forces_replacement
from vsync.rows import FromColumn, columns_of, take_rows, without_prefix
from vsync.schema import DEFAULT_PARTITION
from vsync.spec import OneCollection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from vsync.connectors.base import CollectionSource, Key, Reader, Target
    from vsync.opening import Sources
    from vsync.planning.facts import JournalFacts
    from vsync.planning.wanted import Wanted, WantedData
    from vsync.rows import Mapped, Origin, Rules
    from vsync.schema import Field, LiveCollection
    from vsync.spec import DataSpec, Spec

    Mask = NDArray[np.bool_]

AT_ONCE = 1_000
"""How many rows on record as not fitting are looked at again at a time."""


@dataclass(frozen=True, slots=True)
class Place:
    """A collection, or one partition of it, to be copied: what it is called, and what its source is opened with."""

    path: str
    partition: str | None
    options: Mapping[str, Any]


def places(data: DataSpec, sources: Sources) -> list[Place]:
    """Find what a data item takes of its collection; raises SourceError where that is not there."""
    said = data.source
    assert isinstance(said, OneCollection)
    database = sources.living(said)
    found = database.observe([said.collection], count=False).get(said.collection)
    if found is None:
        near = get_close_matches(said.collection, database.collections(), 1)
        hint = f"did you mean {near[0]}?" if near else f"it holds {', '.join(database.collections()) or 'none'}"
        raise SourceError(f"there is no collection {said.collection}", where=database.label, hint=hint)
    options = {"collection": said.collection} | ({"where": said.where} if said.where else {})
    own = found.schema.partitions
    if own is None and said.partitions is not None:
        hint = "leave partitions: out, or say where: with the field of its partition key"
        raise SourceError(f"{said.collection} is spread by a partition key", where=database.label, hint=hint)
    if own is None or (data.into is not None and said.partitions is None):
        return [Place(said.label, None, options)]
    names = [DEFAULT_PARTITION, *own]
    if said.partitions is not None:
        unmatched = said.partitions.unmatched(names)
        if unmatched:
            wrong = [
                Problem(f"no partition matches {p}", said.label, f"there are {', '.join(names)}") for p in unmatched
            ]
            raise SourceError(wrong)
        names = said.partitions.chosen(names)
    return [
        Place(said.label if name == DEFAULT_PARTITION else f"{said.label}/{name}", name, {**options, "partition": name})
        for name in names
    ]


def number_of(wanted: Wanted, data: WantedData, journal: JournalFacts, live: LiveCollection | None) -> int:
    """Tell which session of its destination a cut belongs to: one that has not ended, or the next.

    Keys that the server makes cannot be compared: there nothing is cut again while the collection is the same.
    """
    session, auto_id = journal.sessions.get(data.destination), wanted.effective.primary.auto_id
    if session is None:
        return 1
    if live is not None and any(forces_replacement(wanted.declared, live.schema)):
        live = None
    goes_on = session.is_of(live, data.partition, auto_id=auto_id) and (auto_id or not session.done)
    return session.session if goes_on else session.session + 1


def cut_of(
    spec: Spec,
    wanted: Wanted,
    data: WantedData,
    source: CollectionSource,
    target: Target,
    there: LiveCollection | None,
    rejected: Sequence[Key],
    *,
    first: bool,
) -> tuple[tuple[Bounds, ...], int]:
    """Cut a collection: what of it is not on the target where that can be told by its keys, else all of it.

    ``rejected`` are the keys of rows that are on record as not fitting; given is how many of them still do not, and are
    not cut again. ``first``: nothing was brought to the destination before.
    """
    chunk_bytes, columns = spec.defaults.chunk_bytes, columns_of(data.mapping)
    if there is None or not _comparable(spec, wanted, data, there, rejected, first=first):
        return tuple(source.cut(columns, chunk_bytes, _seams(wanted, data, target))), 0
    row_bytes = sum(c.row_bytes for c in source.describe().columns if c.name in columns)
    unfit = _unfit(data, source, target, rejected)
    reader, key = target.reader(there.schema, None), there.schema.primary
    if _keeps_keys(wanted, data):
        held: Callable[[pa.Array], Mask] = Merged(_held(reader, key.name, _key_origin(data)))
    else:
        held = partial(_asked, reader, key.name, tuple(m for m in data.mapping if m.field.primary), target.rules)
    step = max(1, int(chunk_bytes / max(row_bytes, 1)))
    return tuple(missing(source.reader.keys(), held, step, unfit)), len(unfit)


def _seams(wanted: Wanted, data: WantedData, target: Target) -> Sequence[Key]:
    """Name the keys of the source at which what is kept was cut before, where they are those of the source."""
    if not target.keeps or not _keeps_keys(wanted, data):
        return ()
    seams, origin = target.seams(wanted.declared.name, data.partition), _key_origin(data)
    prefix = origin.prefix if isinstance(origin, FromColumn) else ""
    return [str(key).removeprefix(prefix) for key in seams if str(key).startswith(prefix)] if prefix else seams


def _keeps_keys(wanted: Wanted, data: WantedData) -> bool:
    """Tell whether rows have the keys of the source, with a prefix or without: so both sides are in one order."""
    return _has_keys(data) and wanted.effective.primary.type is _source_key(data).type


def _has_keys(data: WantedData) -> bool:
    """Tell whether the keys of rows are made of those of the source."""
    origin = _key_origin(data)
    return isinstance(origin, FromColumn) and origin.column == _source_key(data).name


def _source_key(data: WantedData) -> Field:
    return next(d.collection for d in data.item.descriptions if d.collection is not None).schema.primary


def _key_origin(data: WantedData) -> Origin | None:
    return next((m.origin for m in data.mapping if m.field.primary), None)


def _held(reader: Reader, name: str, origin: Origin | None) -> Iterator[pa.Array]:
    """Scan the keys of the target that may be of this source, as they are there: a prefix keeps their order."""
    prefix = origin.prefix if isinstance(origin, FromColumn) else ""
    if not prefix:
        return reader.keys()
    behind = prefix[:-1] + chr(ord(prefix[-1]) + 1)
    return (without_prefix(rows.column(0), prefix) for rows in reader.scan(KeyRange(prefix, behind), [name]))


def _unfit(data: WantedData, source: CollectionSource, target: Target, rejected: Sequence[Key]) -> pa.Array:
    """Give those keys whose rows the source still has, and that still do not fit."""
    (key,) = (m.origin.column for m in data.mapping if m.field.primary and isinstance(m.origin, FromColumn))
    kind = next(c.type for c in source.describe().columns if c.name == key)
    found = [pa.array([], kind)]
    for first in range(0, len(rejected), AT_ONCE):
        rows = source.reader.fetch(pa.array(rejected[first : first + AT_ONCE], kind), columns_of(data.mapping))
        bad = sorted({b.row for b in take_rows(rows, 0, data.mapping, target.rules).bad})
        found.append(rows.column(key).take(pa.array(bad, pa.int64())))
    return pa.concat_arrays(found)


def _comparable(
    spec: Spec, wanted: Wanted, data: WantedData, there: LiveCollection, rejected: Sequence[Key], *, first: bool
) -> bool:
    """Tell whether keys that are on the target are left as they are, and can be told.

    What is ``strict`` is looked at by the apply, which refuses keys that are there before the first row was brought.
    """
    wish = spec.collections[wanted.declared.name]
    if wish.strict and first:
        return False
    return (
        wish.write_into(data.partition) == "append"
        and (bool(there.rows) or (there.rows == 0 and bool(rejected)))
        and not wanted.effective.primary.auto_id
        and _has_keys(data)
        and not any(forces_replacement(wanted.declared, there.schema))
    )


def missing(
    source: Iterable[pa.Array], held: Callable[[pa.Array], Mask], step: int, unfit: pa.Array | None = None
) -> Iterator[Bounds]:
    """Cut the keys of a source, ascending, of which ``held`` says that they are not there, and that are not ``unfit``.

    No chunk spans more than ``step`` rows of the source; ``lo`` and ``hi`` count missing rows alone. A chunk ends right
    behind its last missing row. Where that is near the end of the source the last chunk is open, so that what is added
    there comes along.
    """
    chunks = _Chunks(step)
    for keys in filter(len, source):
        there = held(keys)
        if unfit is not None and len(unfit):
            there |= pc.is_in(keys, value_set=unfit).to_numpy(zero_copy_only=False)
        yield from chunks.add(keys, np.flatnonzero(~there))
    yield from chunks.rest()


class Merged:
    """Tells of keys, ascending from call to call, which of them a target has, whose keys come in the same order."""

    def __init__(self, target: Iterable[pa.Array]) -> None:
        self._rest = filter(len, target)
        self._held = next(self._rest, None)

    def __call__(self, keys: pa.Array) -> Mask:
        """Mark those that are there."""
        there, last = np.zeros(len(keys), np.bool_), keys[-1].as_py()
        while self._held is not None:
            there |= pc.is_in(keys, value_set=self._held).to_numpy(zero_copy_only=False)
            if self._held[-1].as_py() > last:
                break
            self._held = next(self._rest, None)
        return there


def _asked(reader: Reader, name: str, mapping: tuple[Mapped, ...], rules: Rules, keys: pa.Array) -> Mask:
    """Mark keys that are of another type in the target, and so in another order, by asking for each."""
    origin = mapping[0].origin
    assert isinstance(origin, FromColumn)
    taken = take_rows(pa.record_batch([keys], [origin.column]), 0, mapping, rules)
    theirs = taken.rows.column(name)
    found = pc.is_in(theirs, value_set=reader.fetch(theirs, [name]).column(0))
    there = np.zeros(len(keys), np.bool_)
    there[taken.numbers] = found.to_numpy(zero_copy_only=False)
    return there


class _Chunks:
    """Puts missing keys together; ``place`` counts the rows of the source, ``rows`` those that are missing."""

    def __init__(self, step: int) -> None:
        self._step = step
        self._place = self._rows = 0
        self._open: tuple[int, int, Key] | None = None  # the place, the number and the key of its first row
        self._end: Key | None = None  # the key behind its last missing row, as far as it is seen

    def add(self, keys: pa.Array, missing: np.ndarray[Any, np.dtype[np.int64]]) -> Iterator[Bounds]:
        """Take the next keys of the source, of which those at ``missing`` are not there."""
        at = 0
        self._end = keys[0].as_py() if self._end is None else self._end
        while at < len(missing):
            if self._open is None:
                self._open = self._place + int(missing[at]), self._rows, keys[int(missing[at])].as_py()
            first, number, key = self._open
            end = int(np.searchsorted(missing, first + self._step - self._place))
            if end > at:
                behind = int(missing[end - 1]) + 1
                self._end = keys[behind].as_py() if behind < len(keys) else None
                self._rows, at = self._rows + end - at, end
            if at < len(missing):
                yield Bounds(number, self._rows, KeyRange(key, self._end))
                self._open = None
        self._place += len(keys)

    def rest(self) -> Iterator[Bounds]:
        """Give the last chunk."""
        if self._open is not None:
            first, number, key = self._open
            near = self._place - first <= self._step
            yield Bounds(number, self._rows, KeyRange(key, None if near else self._end))
