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

import hashlib
import json
import re
from contextlib import suppress
from datetime import datetime, timezone
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from vsync.connectors.backup.manifest import Manifest
from vsync.connectors.backup.objects import Objects
from vsync.connectors.backup.store import open_store
from vsync.errors import ConflictError, LockedError, SourceError, TargetError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vsync.connectors.backup.store import Store

FORMAT_VERSION = 1
CONFIG, PRUNING = "config.json", "prune.json"
DAMAGED = {"pending": "give the backup up: vsync forget {} --unfinished", "prune.json": "vsync prune {} --take-over"}
"""What to do about a file that is damaged, by the first word of its name."""
_ID = re.compile(r"[0-9]{8}T")
"""How an id begins: people and their tools put other things into folders."""
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
        """What tells it from others. One that is not there has the id already that it is made with: of its place.

        So the first apply, which makes it, and the one that goes on when that was killed, are of the same target.
        """
        if self.there:
            return str(self.read(CONFIG)["id"])
        place = self.label if "://" in self.label else str(Path(self.label).absolute())
        return hashlib.sha256(place.encode()).hexdigest()[:32]

    @property
    def there(self) -> bool:
        """Whether there is a repository; raises TargetError where a newer vsync made it, or it is damaged."""
        if self.store.size(CONFIG) is None:
            return False
        version = self.read(CONFIG).get("format_version")
        if version != FORMAT_VERSION:
            hint = "a newer vsync made it: use that"
            raise TargetError(
                f"this repository is of format {version}, not {FORMAT_VERSION}", where=self.label, hint=hint
            )
        return True

    def make(self) -> None:
        """Make it, where it is not there."""
        if not self.there:
            said = {"format_version": FORMAT_VERSION, "id": self.id, "made": now()}
            self.store.put_new(CONFIG, json.dumps(said).encode())

    def refuse_other_things(self) -> None:
        """Raise ConflictError where there is something, and no repository."""
        if not self.there and not self.store.empty():
            what = "there are other things, and no repository"
            raise ConflictError(what, where=self.label, hint="a repository has a folder of its own: name a new one")

    def read(self, name: str) -> dict[str, Any]:
        """Read what vsync wrote as JSON; raises TargetError where it is damaged."""
        try:
            said: dict[str, Any] = json.loads(self.store.get(name))
            said.keys()
        except (ValueError, AttributeError) as error:
            hint = DAMAGED.get(name.partition("/")[0], "bring it back from a copy").format(self.label)
            raise TargetError("this file is damaged", where=f"{self.label}/{name}", hint=hint) from error
        return said

    def snapshot_ids(self) -> list[str]:
        """List the snapshots, the oldest first: an id begins with the time."""
        names = (found.name.removeprefix("snapshots/") for found in self.store.list("snapshots"))
        return sorted(name.removesuffix(".json") for name in names if _ID.match(name) and name.endswith(".json"))

    def manifest(self, snapshot: str) -> Manifest:
        """Read a snapshot; raises SourceError where it cannot be understood."""
        name = f"snapshots/{snapshot}.json"
        hint = f"use another; nothing is pruned before it is given up: vsync forget {self.label} {snapshot}"
        return Manifest.from_json(self.store.get(name), f"{self.label}/{name}", hint)

    def manifests(self) -> tuple[list[Manifest], dict[str, SourceError]]:
        """Read all snapshots, the oldest first, and tell by their ids what is wrong with the others."""
        found: list[Manifest] = []
        wrong: dict[str, SourceError] = {}
        for snapshot in self.snapshot_ids():
            try:
                found.append(self.manifest(snapshot))
            except SourceError as error:  # noqa: PERF203 - each is told by itself
                wrong[snapshot] = error
        return found, wrong

    def check_there(self) -> None:
        """Raise SourceError where there is no repository."""
        if not self.there:
            raise SourceError("there is no repository of vsync", where=self.label, hint="vsync backup makes one")

    def find(self, snapshot: str | None) -> Manifest:
        """Read a snapshot, by its id or a part of that, or the last one; raises SourceError where there is none."""
        self.check_there()
        return self.manifest(self.find_id(snapshot))

    def find_id(self, snapshot: str | None) -> str:
        """Find a snapshot by its id, or how that begins or ends, or the last one."""
        ids = self.snapshot_ids()
        if not ids:
            raise SourceError("there is no snapshot yet", where=self.label, hint="vsync backup makes one")
        if snapshot is None:
            return ids[-1]
        short = len(snapshot) < SHORTEST
        meant = [one for one in ids if one == snapshot or (not short and one.startswith(snapshot))]
        meant = meant or [one for one in ids if not short and one.rpartition("-")[2].startswith(snapshot)]
        if len(meant) > 1:
            raise SourceError(f"{snapshot} may be {', '.join(meant)}", where=self.label, hint="write more of it")
        if not meant:
            near = get_close_matches(snapshot, ids, 1)
            hint = f"did you mean {near[0]}?" if near else f"vsync snapshots {self.label} lists them"
            raise SourceError(f"there is no snapshot {snapshot}", where=self.label, hint=hint)
        return meant[0]

    def last(self, name: str) -> Manifest | None:
        """Find the last snapshot of something, by its name, that can be read; ``None`` where there is none."""
        for snapshot in reversed(self.snapshot_ids()):
            with suppress(SourceError):
                manifest = self.manifest(snapshot)
                if manifest.name == name:
                    return manifest
        return None

    def unfinished(self) -> list[str]:
        """List the backups that are not finished."""
        names = {found.name.split("/")[1] for found in self.store.list("pending")}
        return sorted(name for name in names if _ID.match(name))

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
    """Open a repository that is there; raises SourceError where it is not."""
    found = open_repository(place)
    found.check_there()
    return found


def now() -> str:
    """Tell the time in UTC, as ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")


def new_id() -> str:
    """Make the id of a snapshot: the time, and what tells two of one moment apart."""
    moment = datetime.now(timezone.utc)
    return f"{moment:%Y%m%dT%H%M%S}.{moment.microsecond // 1_000:03}Z-{uuid4().hex[:8]}"
