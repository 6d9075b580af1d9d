"""Opening both ends of a spec: its target, and the sources of its data."""

from __future__ import annotations

import json
import os
import threading
from collections import OrderedDict
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsync.connectors.registry import open_snapshot, open_source, open_store, open_written
from vsync.errors import SourceChangedError, SourceError, SpecError
from vsync.spec import FromBackup, FromMilvus, OneCollection, StoreTarget
from vsync.spec.copying import expand

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from vsync.connectors.base import Database, Source, Target
    from vsync.planning.steps import Unit
    from vsync.spec import Connection, DataSpec, InDatabase, Secret, Spec

OPEN_FILES = 16


def open_connection(spec: Spec, connection: Connection) -> Target:
    """Open a database; a Milvus Lite that is not there stays so until something is created in it."""
    from vsync.connectors.milvus import open_target

    uri = str((Path(spec.folder) / connection.uri).absolute()) if connection.is_lite else connection.uri
    return open_target(uri, _token(spec, connection.token), connection.database)


def _token(spec: Spec, secret: Secret | None) -> str | None:
    try:
        return secret.resolve(spec.folder, os.environ) if secret else None
    except SpecError as error:
        where = spec.where_token(secret) if secret else None
        raise SpecError([replace(problem, where=where) for problem in error.problems]) from None


def open_to(spec: Spec, *, written: bool = False) -> Target:
    """Open the target of a spec; a folder, or Milvus Lite, that is not there stays so until something is written.

    ``written``: it is to be compared, not to be written to.
    """
    to = spec.target
    if isinstance(to, StoreTarget):
        return (open_written if written else open_store)(to.kind, _place(spec, to.path), to.options)
    return open_connection(spec, to.milvus)


def open_database(spec: Spec, said: InDatabase) -> Database:
    """Open the database of a source; raises SourceError where it is none that can be read."""
    if isinstance(said, FromBackup):
        return open_snapshot(said.kind, _place(spec, said.repo), said.snapshot)
    assert isinstance(said, FromMilvus)
    check_there(spec, said.at)
    return open_connection(spec, said.at)


def check_there(spec: Spec, connection: Connection) -> None:
    """Raise SourceError where rows are to come from a Milvus Lite that is not there: opened, it would be empty."""
    if connection.is_lite and not (Path(spec.folder) / connection.uri).exists():
        raise SourceError("there is no Milvus Lite", where=_place(spec, connection.uri), hint="is its path right?")


def _place(spec: Spec, path: str) -> str:
    return path if "://" in path else str((Path(spec.folder) / path).absolute())


def data_of(spec: Spec, address: str) -> DataSpec:
    """Find the data item that an address names: ``collection.NAME.data.DATANAME``."""
    _, collection, _, name = address.split(".")
    items = spec.collections[collection].data
    return next(d for n, d in enumerate(items) if (d.name or str(n)) == name)


class Sources:
    """The sources of a spec's data, opened when they are first used; used by several threads at once.

    Files are opened each by itself, some at a time; collections over connections that they share, until the end.
    ``spec`` is the one that is given, with what it copies as it is written out: databases are asked for the names of
    their collections. Raises SpecError where that cannot be done.
    """

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self._lock = threading.RLock()
        self._open: OrderedDict[str, Source] = OrderedDict()
        self._living: set[str] = set()
        self._checked: set[str] = set()
        self._users: dict[str, int] = {}
        self._databases: dict[str, Database] = {}
        if spec.copies:
            try:
                self.spec = expand(spec, lambda copy: self.living(copy.source).collections())
            except BaseException:
                self.close()
                raise

    def open(self, address: str, path: str, options: Mapping[str, Any]) -> Source:
        """Open a source of a data item; the caller closes it. Raises SourceError where it cannot be read."""
        said = data_of(self.spec, address).source
        if isinstance(said, OneCollection):
            where, partition = options.get("where"), options.get("partition")
            load = isinstance(said, FromMilvus) and said.load_source
            return self.database(said).source(options["collection"], partition, where=where, load=load)
        return open_source(said.kind, Path(self.spec.folder) / path, options)

    @property
    def labels(self) -> list[str]:
        """The databases that are open, for people."""
        with self._lock:
            return sorted({database.label for database in self._databases.values()})

    def database(self, said: InDatabase) -> Database:
        """Open the database of a source, or find it open."""
        key = json.dumps(said.place, sort_keys=True)
        with self._lock:
            if key not in self._databases:
                self._databases[key] = open_database(self.spec, said)
            return self._databases[key]

    def living(self, said: InDatabase) -> Database:
        """Open a database that rows come from; raises SourceError where there is none."""
        database = self.database(said)
        if not database.has_database():
            name = said.at.database if isinstance(said, FromMilvus) else said.address
            raise SourceError(f"there is no database {name}", where=database.label)
        return database

    @contextmanager
    def look(self, address: str, path: str, options: Mapping[str, Any]) -> Iterator[Source]:
        """Open a source to plan from, as it is now. A collection stays open: what was loaded for it is needed again."""
        if isinstance(data_of(self.spec, address).source, OneCollection):
            with self._kept(address, path, options) as source:
                yield source
        else:
            with closing(self.open(address, path, options)) as source:
                yield source

    @contextmanager
    def use(self, unit: Unit, call: Callable[..., Any] | None = None) -> Iterator[Source]:
        """Open a unit's source, or find it open; raises SourceChangedError if it is not what was planned.

        ``call`` calls what may fail for a moment.
        """
        again = call or once
        with self._kept(unit.address, unit.path, unit.options, again) as source:
            if unit.key not in self._checked:
                again(check_unchanged, unit, source)
                self._checked.add(unit.key)
            yield source

    @contextmanager
    def _kept(
        self, address: str, path: str, options: Mapping[str, Any], call: Callable[..., Any] | None = None
    ) -> Iterator[Source]:
        """Find a source open, and open it where it is not."""
        key = json.dumps([address, path, dict(options)])
        with self._lock:
            if key not in self._open:
                self._open[key] = (call or once)(self.open, address, path, options)
                living = isinstance(data_of(self.spec, address).source, OneCollection)
                self._living |= {key} if living else set()
            source = self._open[key]
            self._open.move_to_end(key)
            self._users[key] = self._users.get(key, 0) + 1
        try:
            yield source
        finally:
            with self._lock:
                self._users[key] -= 1
                self._close_idle()

    def _close_idle(self) -> None:
        files = [key for key in self._open if key not in self._living]
        for key in files[: max(0, len(files) - OPEN_FILES)]:
            if not self._users.get(key):
                self._open.pop(key).close()

    def close(self) -> None:
        """Close them all, whatever it takes; raises what closing met last."""
        with self._lock, ExitStack() as stack:
            for database in self._databases.values():
                stack.callback(database.close)
            for source in self._open.values():
                stack.callback(source.close)
            self._open.clear()
            self._databases.clear()


def once(function: Callable[..., Any], *args: Any) -> Any:
    """Call what may fail for a moment without trying again."""
    return function(*args)


def check_unchanged(unit: Unit, source: Source) -> None:
    """Compare a source with what the plan saw; raises SourceChangedError with both fingerprints."""
    now = source.describe().fingerprint
    planned = unit.content.partition("@")[0]
    if now.content != planned or now.modified != unit.modified:
        raise SourceChangedError(
            f"{unit.path} changed since the plan: it was {planned} of {unit.modified}, it is {now.content} of "
            f"{now.modified}",
            where=unit.path,
            hint="make a new plan: vsync plan",
        )
