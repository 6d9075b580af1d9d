"""A backup that is being written, and a snapshot that is read, as places that keep collections."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NoReturn
from uuid import uuid4

from vsync import schema_json
from vsync.connectors.backup.manifest import Held, Manifest, Range
from vsync.connectors.backup.objects import ObjectRun, name_of
from vsync.connectors.backup.repository import new_id, now
from vsync.connectors.base import KeyRange
from vsync.connectors.runs.reader import RunsReader, one_behind_the_other
from vsync.connectors.runs.target import Kept
from vsync.errors import ConflictError, LockedError, SourceError, StalePlanError
from vsync.schema import Collection

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence

    import pyarrow as pa

    from vsync.connectors.backup.repository import Repository
    from vsync.connectors.base import Key, Loss
    from vsync.connectors.runs.run import Run
    from vsync.errors import Problem


HEAD = "head.json"


class SnapshotKeeper:
    """A snapshot, which never changes; see :class:`vsync.connectors.runs.target.Keeper`."""

    def __init__(self, repository: Repository, manifest: Manifest, *, identity: str | None = None) -> None:
        self._repository, self._manifest = repository, manifest
        self.identity = identity or f"backup:{repository.id}:{manifest.id}"
        self.label = f"{repository.label}@{manifest.id}"

    def names(self) -> list[str]:
        """List the collections."""
        return sorted(self._manifest.collections)

    def kept(self, name: str) -> Kept | None:
        """Find a collection."""
        held = self._manifest.collections.get(name)
        return held.kept if held else None

    def runs(self, name: str, partition: str) -> Sequence[Run]:
        """Give the ranges of a partition."""
        held = self._manifest.collections[name]
        key = held.kept.schema.primary.name
        return [ObjectRun(self._repository.objects, one, key) for one in held.partitions.get(partition, ())]

    def _refuse(self, *_words: Any, **_more: Any) -> NoReturn:
        """Refuse to be written to."""
        raise ConflictError("a snapshot does not change", where=self.label, hint="make another: vsync backup")

    save = drop = add = clear = _refuse

    def note(self, spec_digest: str, sources: Sequence[str]) -> None:
        """Do nothing: nothing is written."""

    def finish(self, names: Container[str]) -> None:
        """Do nothing: it is finished."""

    def unfinished(self, names: Container[str]) -> bool:  # noqa: ARG002
        """Tell that it is finished."""
        return False

    def seams(self, name: str, partition: str) -> Sequence[Key]:  # noqa: ARG002
        """Name no keys: nothing is written."""
        return ()

    def conflicts(self, desired: Collection) -> list[Problem]:  # noqa: ARG002
        """Name nothing."""
        return []

    def nearest(self, desired: Collection, fixed: Container[str]) -> tuple[Collection, list[Loss]]:  # noqa: ARG002
        """Change nothing."""
        return desired, []

    def close(self) -> None:
        """Keep nothing open."""


class BackupKeeper:
    """The backup of something, by its name, that is being written: a new one, or one that was stopped.

    See :class:`vsync.connectors.runs.target.Keeper`. Each description and each range is an object below
    ``pending/ID/``, written after the rows it names. ``head.json`` there says who writes: of two who do, from two
    places with states of their own, the one that began later goes on, and the other is told.
    """

    def __init__(self, repository: Repository, name: str) -> None:
        self._repository, self._store, self._name = repository, repository.store, name
        self.identity = f"backup:{repository.id}:{name}"
        self.label = repository.label
        self._lock = threading.RLock()
        self._id: str | None = None
        self._began = ""
        self._kept: dict[str, Kept] = {}
        self._ranges: defaultdict[tuple[str, str], list[Range | None]] = defaultdict(list)
        self._number = 0
        self._writer = uuid4().hex
        self._may_write = self._found = False
        self._sealed: str | None = None
        self._made: Manifest | None = None
        self._notes: dict[str, Any] = {}
        self._go_on()

    def _go_on(self) -> None:
        """Find the backup of this name that was stopped; one that was sealed, and not tidied up, is none."""
        self._repository.refuse_other_things()
        sealed = set(self._repository.snapshot_ids()) if self._repository.there else set()
        for pending in self._repository.unfinished() if self._repository.there else ():
            head = f"pending/{pending}/{HEAD}"
            if pending in sealed or self._store.size(head) is None:
                continue
            said = self._repository.read(head)
            if said["name"] == self._name:
                self._id, self._began, self._found = pending, said["began"], True
                self._read()
                return

    def _read(self) -> None:
        """Read what was written; a range whose rows are not there any more was not written."""
        for found in self._store.list(f"pending/{self._id}/collections"):
            said = self._repository.read(found.name)
            self._kept[said["name"]] = Kept(said["id"], schema_json.from_json(Collection, said["collection"]))
        for found in sorted(self._store.list(f"pending/{self._id}/ranges")):
            said = self._repository.read(found.name)
            where = said.pop("collection"), said.pop("partition")
            one = Range.from_json(said) if said else None
            if one is None or self._store.size(name_of(one.object)) == one.nbytes:
                self._ranges[where].append(one)
            self._number = max(self._number, int(found.name.rpartition("/")[2].partition("-")[0]) + 1)

    def _begin(self) -> None:
        """Begin, where that has not been done: the mark first, then a look whether somebody prunes."""
        with self._lock:
            if self._may_write:
                self._refuse_another()
                return
            self._repository.make()
            self._repository.refuse_while_pruning()
            new = self._id is None
            if self._id is None:
                self._id, self._began = new_id(), now()
            if self._found and self._is_ended():
                raise self._ended_elsewhere()
            self._put(HEAD, {"name": self._name, "began": self._began, "writer": self._writer})
            try:
                self._repository.refuse_while_pruning()
            except LockedError:
                if new:
                    self._repository.abandon(self._id)
                    self._id = None
                raise
            self._may_write = True

    def _refuse_another(self) -> None:
        """Raise StalePlanError where somebody else goes on with this backup, or gave it up."""
        head = f"pending/{self._id}/{HEAD}"
        assert self._id is not None
        try:
            if self._repository.read(head)["writer"] == self._writer:
                return
            what, hint = "another vsync goes on with this backup", "let it end: vsync snapshots shows when it has"
        except SourceError:
            if self._store.size(head) is not None:
                raise
            self._repository.abandon(self._id)  # what this one wrote while the other tidied up
            raise self._ended_elsewhere() from None
        raise StalePlanError(what, where=f"{self.label}/{head}", hint=hint)

    def _is_ended(self) -> bool:
        """Tell whether somebody finished or gave up, since it was found, what goes on here."""
        return self._store.size(f"pending/{self._id}/{HEAD}") is None or self._store.size(self._snapshot) is not None

    @property
    def _snapshot(self) -> str:
        return f"snapshots/{self._id}.json"

    def _ended_elsewhere(self) -> StalePlanError:
        what = "this backup was given up, or is finished by another vsync"
        hint = "back up again: what is there is not stored twice"
        return StalePlanError(what, where=f"{self.label}/pending/{self._id}/{HEAD}", hint=hint)

    def _put(self, name: str, said: dict[str, Any]) -> None:
        self._store.put(f"pending/{self._id}/{name}", json.dumps(said, ensure_ascii=False).encode())

    def names(self) -> list[str]:
        """List the collections."""
        return sorted(self._kept)

    def kept(self, name: str) -> Kept | None:
        """Find a collection."""
        return self._kept.get(name)

    def save(self, name: str, kept: Kept) -> None:
        """Write a description."""
        self._begin()
        said = {"name": name, "id": kept.id, "collection": schema_json.to_json(kept.schema)}
        self._put(f"collections/{name}.json", said)
        self._kept[name] = kept

    def drop(self, name: str) -> None:
        """Forget a collection with its ranges."""
        self._begin()
        with self._lock:
            self._store.delete(f"pending/{self._id}/collections/{name}.json")
            for found in list(self._store.list(f"pending/{self._id}/ranges/{name}")):
                self._store.delete(found.name)
            self._kept.pop(name, None)
            for where in [w for w in self._ranges if w[0] == name]:
                del self._ranges[where]

    def runs(self, name: str, partition: str) -> Sequence[ObjectRun]:
        """Give the ranges that were written."""
        kept = self._kept[name]
        with self._lock:
            ranges = list(self._ranges[name, partition])
        cleared = max((n + 1 for n, one in enumerate(ranges) if one is None), default=0)
        objects, key = self._repository.objects, kept.schema.primary.name
        return [ObjectRun(objects, one, key) for one in ranges[cleared:] if one is not None]

    def add(self, name: str, partition: str, batch: pa.RecordBatch, *, removes: bool) -> None:
        """Write rows, then what says where they are."""
        self._begin()
        one = self._repository.objects.write(batch, self._kept[name].schema.primary.name, removes=removes)
        self._enter(name, partition, one)

    def clear(self, name: str, partition: str) -> None:
        """Write that all before it is gone."""
        if self.runs(name, partition):
            self._enter(name, partition, None)

    def _enter(self, name: str, partition: str, one: Range | None) -> None:
        with self._lock:
            number, self._number = self._number, self._number + 1
        said = {"collection": name, "partition": partition, **(one.to_json() if one else {})}
        self._put(f"ranges/{name}/{partition}/{number:08d}-{uuid4().hex[:8]}.json", said)
        with self._lock:
            self._ranges[name, partition].append(one)

    def note(self, spec_digest: str, sources: Sequence[str]) -> None:
        """Hear what stands in the snapshot."""
        self._notes = {"spec_digest": spec_digest, "sources": list(sources), "vsync_version": version("vsync")}

    def finish(self, names: Container[str]) -> None:
        """Write the snapshot: once every object that it names is known to be there. Goes on where it did not end."""
        if self._sealed is None:
            self._begin()
            assert self._id is not None
            self._seal(self._id, names)
            self._sealed = self._id
        for sealed in self._repository.unfinished():
            if self._store.size(f"snapshots/{sealed}.json") is not None:
                self._repository.abandon(sealed)
        self._id, self._sealed, self._made = None, None, None
        self._may_write = self._found = False
        self._kept.clear()
        self._ranges.clear()

    def _seal(self, snapshot: str, names: Container[str]) -> None:
        held = {
            name: Held(kept, {p: tuple(self._sorted_out(name, p, kept)) for p in kept.partitions})
            for name, kept in self._kept.items()
            if name in names
        }
        self._made = self._made or Manifest(snapshot, self._name, self._began, now(), held, self._notes)
        self._refuse_missing(self._made)
        self._refuse_another()
        text = self._made.to_json()
        # Of an answer that was lost, the same is there.
        if not self._store.put_new(self._snapshot, text) and self._store.get(self._snapshot) != text:
            raise self._ended_elsewhere()

    def _sorted_out(self, name: str, partition: str, kept: Kept) -> Iterator[Range]:
        """Give ranges that do not overlap, ascending; those that do are written anew as what they come to."""
        runs = self.runs(name, partition)
        apart = one_behind_the_other(runs)
        if apart is not None:
            yield from (run.range for run in apart)
            return
        fields = [f.name for f in kept.schema.columns]
        for batch in RunsReader(runs, kept.schema).scan(KeyRange(), fields):
            yield self._repository.objects.write(batch, kept.schema.primary.name)

    def _refuse_missing(self, made: Manifest) -> None:
        there = {found.name: found.size for found in self._store.list("objects")}
        missing = sum(there.get(name_of(one.object)) != one.nbytes for _, _, one in made.ranges)
        if missing:
            self._repository.abandon(made.id)
            what = f"{missing} objects of this backup are not there any more: somebody removed them"
            raise StalePlanError(what, where=self.label, hint="back up again: what is there is not stored twice")

    def unfinished(self, names: Container[str]) -> bool:
        """Tell whether there is a backup of these that is not sealed."""
        return any(name in names for name in self._kept)

    def seams(self, name: str, partition: str) -> Sequence[Key]:
        """Name the keys at which the last snapshot was cut: what did not change is the same object then."""
        last = self._repository.last(self._name) if self._repository.there else None
        held = last.collections.get(name) if last else None
        ranges = held.partitions.get(partition, ()) if held else ()
        behind = [_next(ranges[-1].last)] if ranges else []
        return [*(one.first for one in ranges), *behind]

    def conflicts(self, desired: Collection) -> list[Problem]:  # noqa: ARG002
        """Name nothing: everything is kept."""
        return []

    def nearest(self, desired: Collection, fixed: Container[str]) -> tuple[Collection, list[Loss]]:  # noqa: ARG002
        """Change nothing."""
        return desired, []

    def close(self) -> None:
        """Keep nothing open."""


def _next(key: Key) -> Key:
    """Give the first key behind another."""
    return key + 1 if isinstance(key, int) else key + "\0"
