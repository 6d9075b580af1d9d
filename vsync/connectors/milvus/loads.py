"""Having a collection loaded while it is read: what was loaded for that is released at its end, and nothing else."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from vsync.connectors.milvus import ddl
from vsync.connectors.milvus.wire import common_pb2
from vsync.errors import SourceError, TargetError

if TYPE_CHECKING:
    from vsync.connectors.milvus.client import Client


class _Holds:
    """For how many sources this process has a collection loaded that was not: by database and name."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.counts: dict[tuple[str, str], int] = {}


_holds = _Holds()


def hold(client: Client, collection: str, partition: str | None, *, load: bool) -> bool:
    """Have a collection loaded, or a partition that is to be read; true: the caller owes a :func:`let_go`.

    The embedded server keeps nothing loaded, and loads here. Raises SourceError where it is not loaded, without
    ``load`` or where it cannot be.
    """
    if client.folder:
        _load(client, collection)
        return False
    with _holds.lock:
        key = (client.identity, collection)
        if load and key in _holds.counts:
            _holds.counts[key] += 1
            return True
        state = ddl.load_state(client, collection, partition)
        if state == common_pb2.LoadStateNotLoad:
            _check(client, collection, load=load)
            _load_or_release(client, collection)
            _holds.counts[key] = 1
            return True
        if load:
            _load(client, collection)  # by somebody else, who may not be through with it
        elif state == common_pb2.LoadStateLoading:  # it may be loaded in part only, at the end
            raise ddl.not_ready(client, f"reading {collection}")
        return False


def let_go(client: Client, collection: str) -> None:
    """Give back a hold; with the last one the collection is released."""
    with _holds.lock:
        key = (client.identity, collection)
        if _holds.counts[key] == 1:
            ddl.release(client, collection)
            del _holds.counts[key]
        else:
            _holds.counts[key] -= 1


def _check(client: Client, collection: str, *, load: bool) -> None:
    """Raise what keeps a collection that is not loaded from being read."""
    where, loaded = f"{client.place}/{collection}", common_pb2.LoadStateLoaded
    if client.server.holds.loads_partitions:
        names = ddl.partitions(client, collection)
        if some := [name for name in names if ddl.load_state(client, collection, name) == loaded]:
            missing = next(name for name in names if name not in some)
            what = f"only some of its partitions are loaded, {missing} is not: its rows cannot be read"
            raise SourceError(what, where=where, hint="load the whole collection, or release it")
    if not ddl.indexes(client, collection):
        what = "is neither indexed nor loaded: its rows cannot be read"
        raise SourceError(what, where=where, hint="create an index of its vector field, and load it")
    if not load:
        hint = "load it, or write `load_source: true` (vsync backup: --load-source): it is released afterwards"
        raise SourceError("is not loaded: its rows cannot be read", where=where, hint=hint)


def _load_or_release(client: Client, collection: str) -> None:
    try:
        _load(client, collection)
    except BaseException:
        with suppress(TargetError):
            ddl.release(client, collection)
        raise


def _load(client: Client, collection: str) -> None:
    ddl.load(client, collection, lambda _percent: None)
