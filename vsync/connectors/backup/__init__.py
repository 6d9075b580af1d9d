"""Repositories of backups: written as a target, read as databases. See docs/backup.md."""

from __future__ import annotations

from vsync.connectors.backup.keepers import BackupKeeper, SnapshotKeeper
from vsync.connectors.backup.repository import existing, open_repository
from vsync.connectors.runs.target import RunsTarget

__all__ = ["existing", "open_repository", "open_snapshot", "open_target", "open_written"]


def open_target(place: str, *, name: str = "") -> RunsTarget:
    """Open a repository to write the next backup of something into; it need not be there."""
    return RunsTarget(BackupKeeper(open_repository(place), name))


def open_written(place: str, *, name: str = "") -> RunsTarget:
    """Open what was backed up under a name to compare it: a backup that was stopped, else its last snapshot."""
    repository = open_repository(place)
    keeper = BackupKeeper(repository, name)
    last = repository.last(name) if repository.there and not keeper.names() else None
    return RunsTarget(keeper if last is None else SnapshotKeeper(repository, last, identity=keeper.identity))


def open_snapshot(place: str, snapshot: str | None) -> RunsTarget:
    """Open a snapshot to read: the last one where none is named. Raises SourceError where it is not there."""
    repository = open_repository(place)
    return RunsTarget(SnapshotKeeper(repository, repository.find(snapshot)))
