"""A repository of backups: objects, the snapshots that name them, and what is not finished yet. See docs/backup.md.

``config.json``        what tells this repository from others
``objects/AB/DIGEST``  rows; written before anything names them, never changed
``snapshots/ID.json``  a snapshot, written last of all, once: what is not listed here is no backup
``pending/ID/``        a backup that is not finished
``prune.json``         there while somebody prunes, and after that was killed

Backups and prunes shut each other out without a clock or a lock service: each writes its own mark first and looks for
the other's then, so that of two at one moment one at least sees the other.
"""

from __future__ import annotations

import json
from datetime import datetime, timezone
from functools import cached_property
from typing import TYPE_CHECKING
from uuid import uuid4

from vsync.connectors.backup.manifest import Manifest
from vsync.connectors.backup.objects import Objects
from vsync.connectors.backup.store import open_store
from vsync.errors import LockedError, SourceError, TargetError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vsync.connectors.backup.store import Store

FORMAT_VERSION = 1
CONFIG, PRUNING = "config.json", "prune.json"
SHORTEST = 4
"""How many characters of a snapshot's id at least tell which is meant."""


class Repository:
    """One repository, opened; nothing is written before :meth:`make`."""

    def __init__(self, store: Store) -> None:
        self.store, self.objects = store, Objects(store)

    @property
    def label(self) -> str:
        """The place for people."""
        return self.store.label

    @cached_property
    def id(self) -> str:
        """What tells it from others; of one that is not there its place."""
        if self.store.size(CONFIG) is None:
            return self.label
        said = json.loads(self.store.get(CONFIG))
        if said.get("format_version") != FORMAT_VERSION:
            hint = "a newer vsync wrote it: use that"
            raise TargetError(f"is of format {said.get('format_version')}", where=self.label, hint=hint)
        return str(said["id"])

    @property
    def there(self) -> bool:
        """Whether there is a repository."""
        return self.store.size(CONFIG) is not None

    def make(self) -> None:
        """Make it, where it is not there."""
        if not self.there:
            said = {"format_version": FORMAT_VERSION, "id": uuid4().hex, "made": now()}
            self.store.put_new(CONFIG, json.dumps(said).encode())

    def snapshot_ids(self) -> list[str]:
        """List the snapshots, the oldest first: an id begins with the time."""
        names = (found.name for found in self.store.list("snapshots"))
        return sorted(name.removeprefix("snapshots/").removesuffix(".json") for name in names)

    def manifest(self, snapshot: str) -> Manifest:
        """Read a snapshot."""
        name = f"snapshots/{snapshot}.json"
        return Manifest.from_json(self.store.get(name), f"{self.label}/{name}")

    def find(self, snapshot: str | None) -> Manifest:
        """Find a snapshot by its id or how that begins, or the last one; raises SourceError where there is none."""
        if not self.there:
            hint = "vsync backup makes one"
            raise SourceError("there is no repository", where=self.label, hint=hint)
        ids = self.snapshot_ids()
        if not ids:
            raise SourceError("there is no snapshot yet", where=self.label, hint="vsync backup makes one")
        if snapshot is None:
            return self.manifest(ids[-1])
        short = len(snapshot) < SHORTEST
        meant = [one for one in ids if one == snapshot or (not short and one.startswith(snapshot))]
        meant = meant or [one for one in ids if not short and one.rpartition("-")[2].startswith(snapshot)]
        if len(meant) != 1:
            what = f"there is no snapshot {snapshot}" if not meant else f"{snapshot} may be {', '.join(meant)}"
            raise SourceError(what, where=self.label, hint=f"vsync snapshots {self.label} lists them")
        return self.manifest(meant[0])

    def last(self, name: str) -> Manifest | None:
        """Find the last snapshot of something, by its name; ``None`` where there is none."""
        for snapshot in reversed(self.snapshot_ids()):
            manifest = self.manifest(snapshot)
            if manifest.name == name:
                return manifest
        return None

    def unfinished(self) -> list[str]:
        """List the backups that are not finished."""
        return sorted({found.name.split("/")[1] for found in self.store.list("pending")})

    def refuse_while_pruning(self) -> None:
        """Raise LockedError while somebody prunes."""
        if self.store.size(PRUNING) is not None:
            hint = f"wait for it; if it was killed, let it end: vsync prune {self.label} --take-over"
            raise LockedError("the repository is being pruned", where=self.label, hint=hint)

    def forget(self, snapshot: str) -> None:
        """Remove a snapshot; its objects stay until somebody prunes."""
        self.store.delete(f"snapshots/{snapshot}.json")

    def abandon(self, pending: str) -> None:
        """Give an unfinished backup up."""
        for found in list(self.store.list(f"pending/{pending}")):
            self.store.delete(found.name)
        self.store.tidy(f"pending/{pending}")

    def used(self) -> Iterator[tuple[str, int]]:
        """Name the objects of all snapshots, with their sizes; some more than once."""
        for snapshot in self.snapshot_ids():
            for _, _, one in self.manifest(snapshot).ranges:
                yield one.object, one.nbytes


def open_repository(place: str) -> Repository:
    """Open a repository, which need not be there."""
    return Repository(open_store(place))


def existing(place: str) -> Repository:
    """Open a repository that is there; raises UsageError where it is not."""
    found = open_repository(place)
    if not found.there:
        raise UsageError(f"{found.label} is no repository of vsync", hint="vsync backup makes one")
    return found


def now() -> str:
    """Tell the time in UTC, as ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")


def new_id() -> str:
    """Make the id of a snapshot: the time, and what tells two of one moment apart."""
    moment = datetime.now(timezone.utc)
    return f"{moment:%Y%m%dT%H%M%S}.{moment.microsecond // 1_000:03}Z-{uuid4().hex[:8]}"
