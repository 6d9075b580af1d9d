"""Keeping a repository: proving that it is whole, forgetting snapshots, removing what no snapshot needs."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vsync.connectors.backup.objects import DamagedError, name_of
from vsync.connectors.backup.repository import PRUNING, now
from vsync.errors import LockedError, SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pyarrow as pa

    from vsync.connectors.backup.manifest import Manifest, Range
    from vsync.connectors.backup.repository import Repository
    from vsync.connectors.backup.store import Found


@dataclass(frozen=True, slots=True)
class Damage:
    """An object that is not what it should be, and where it is needed; ``damaged``: it is there, and of no use."""

    object: str
    what: str
    needed: tuple[str, ...]
    damaged: bool


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a prune removed, or would remove, and what stays; sizes in bytes."""

    removed: int
    removed_bytes: int
    kept: int
    kept_bytes: int


def verify(
    repository: Repository, manifests: Sequence[Manifest], report: Callable[[int, int], None]
) -> tuple[list[Damage], int]:
    """Read every object of these snapshots once and compare; gives what is damaged, and how many were read.

    ``report`` hears how many are read, of how many.
    """
    needed: defaultdict[str, defaultdict[tuple[Range, str], list[str]]] = defaultdict(lambda: defaultdict(list))
    for manifest in manifests:
        for name, partition, one in manifest.ranges:
            said = one, manifest.collections[name].kept.schema.primary.name
            needed[one.object][said].append(f"{manifest.id} {name}/{partition} from key {json.dumps(one.first)}")
    found = []
    for number, (digest, saying) in enumerate(needed.items(), 1):
        try:
            batch = repository.objects.check(digest)
        except SourceError as error:
            what, damaged = error.problems[0].what, isinstance(error, DamagedError)
            found.append(Damage(digest, what, tuple(place for some in saying.values() for place in some), damaged))
        else:
            wrong = ((_differs(batch, *said), tuple(places)) for said, places in saying.items())
            found += [Damage(digest, what, places, damaged=False) for what, places in wrong if what]
        report(number, len(needed))
    return found, len(needed)


def _differs(batch: pa.RecordBatch, one: Range, key: str) -> str | None:
    """Say where the rows of an object are not those that a snapshot says."""
    keys = batch.column(key)
    ends = (keys[0].as_py(), keys[-1].as_py()) if len(keys) else (None, None)
    if (batch.num_rows, *ends) == (one.rows, one.first, one.last):
        return None
    held = f"{batch.num_rows:,} rows from {ends[0]} to {ends[1]}"
    return f"it holds {held}, and these say {one.rows:,} from {one.first} to {one.last}"


def remove_damaged(repository: Repository, found: Sequence[Damage]) -> int:
    """Remove objects that are there and of no use, so that a backup stores them anew; gives how many there were."""
    damaged = [one for one in found if one.damaged]
    for one in damaged:
        repository.store.delete(name_of(one.object))
    return len(damaged)


def to_forget(repository: Repository, ids: Sequence[str], keep_last: int | None) -> list[str]:
    """Find the snapshots to forget: those named, or of each name all but the last ``keep_last``.

    One that cannot be read is forgotten where it is named.
    """
    if ids:
        return list(dict.fromkeys(repository.find_id(one) for one in ids))
    by_name: defaultdict[str, list[str]] = defaultdict(list)
    for manifest in repository.manifests()[0]:
        by_name[manifest.name].append(manifest.id)
    return sorted(one for some in by_name.values() for one in some[: max(0, len(some) - (keep_last or len(some)))])


def prune(repository: Repository, *, take_over: bool = False) -> Pruned:
    """Remove the objects that no snapshot names; raises LockedError while a backup is not finished.

    The mark is written before that is looked for, so that a backup that begins now sees it, or is seen. A prune that is
    killed leaves its mark, and what it did not remove: the next one goes on, where it is told to (``take_over``).
    """
    mark = json.dumps({"began": now()}).encode()
    if not repository.store.put_new(PRUNING, mark) and not take_over:
        began = repository.read(PRUNING).get("began")
        hint = f"wait for it; if it was killed: vsync prune {repository.label} --take-over"
        raise LockedError(f"another prune began at {began}", where=repository.label, hint=hint)
    try:
        sealed = set(repository.snapshot_ids())
        if any(one not in sealed for one in repository.unfinished()):
            hint = f"let it end, or give it up: vsync forget {repository.label} --unfinished"
            raise LockedError("a backup is not finished, and needs what it wrote", where=repository.label, hint=hint)
        unused, kept = unused_objects(repository)
        for found in unused:
            repository.store.delete(found.name)
        repository.store.tidy("objects")
    finally:
        repository.store.delete(PRUNING)
    return pruned(unused, kept)


def unused_objects(repository: Repository) -> tuple[list[Found], list[Found]]:
    """Tell the objects that no snapshot names from those that one does."""
    used = {name_of(digest) for digest, _ in repository.used()}
    objects = list(repository.store.list("objects"))
    return [one for one in objects if one.name not in used], [one for one in objects if one.name in used]


def pruned(unused: Sequence[Found], kept: Sequence[Found]) -> Pruned:
    """Add up what is removed and what stays."""
    return Pruned(len(unused), sum(one.size for one in unused), len(kept), sum(one.size for one in kept))
