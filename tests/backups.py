"""Small backups for tests, written as an apply writes them: a chunk at a time, those that are there left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from vsync.connectors.backup.keepers import BackupKeeper, SnapshotKeeper
from vsync.connectors.backup.repository import Repository
from vsync.connectors.base import KeyRange
from vsync.connectors.runs.target import RunsTarget
from vsync.rows import arrow_schema
from vsync.schema import Collection, DataType, Field

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from vsync.connectors.backup.store import Found, Store

CHUNK = 10
NAME = "things"
THINGS = Collection(
    NAME,
    (
        Field("id", DataType.INT64, primary=True),
        Field("value", DataType.INT64),
        Field("vector", DataType.FLOAT_VECTOR, dim=2),
    ),
)
Rows = dict[int, int]


def once(function: Callable[..., Any], *args: Any) -> Any:
    return function(*args)


def back_up(
    store: Store, partitions: Mapping[str, Rows], *, name: str = "source", call: Callable[..., Any] = once
) -> None:
    """Back rows up, or go on with it: each partition in chunks, and a snapshot at the end.

    ``call`` calls what is called again where it fails for a moment.
    """
    target = RunsTarget(BackupKeeper(Repository(store), name))
    call(target.create_collection, THINGS)
    for partition in partitions:
        if partition != "_default":
            call(target.create_partition, NAME, partition)
    for partition, rows in partitions.items():
        seams: list[Any] = [*target.seams(NAME, partition)]
        writer = target.writer(THINGS, partition)
        for chunk in chunks(rows, seams):
            if not writer.probe(chunk.column(0), everywhere=False).to_pylist()[0]:
                for request in writer.encode(chunk):
                    call(writer.send, request)
    call(target.finish, [NAME])


def chunks(rows: Rows, seams: list[Any]) -> Iterator[pa.RecordBatch]:
    """Cut rows at their seams, and at most ``CHUNK`` long."""
    keys = sorted(rows)
    lo = 0
    for at in range(1, len(keys) + 1):
        if at == len(keys) or at - lo == CHUNK or any(keys[at - 1] < seam <= keys[at] for seam in seams):
            part = keys[lo:at]
            yield pa.RecordBatch.from_arrays(
                [
                    pa.array(part, pa.int64()),
                    pa.array([rows[key] for key in part], pa.int64()),
                    pa.array([[rows[key], key] for key in part], pa.list_(pa.float32(), 2)),
                ],
                schema=arrow_schema(THINGS.columns),
            )
            lo = at


def held(store: Store, snapshot: str | None = None) -> dict[str, Rows]:
    """Read the rows of a snapshot, by partition."""
    repository = Repository(store)
    target = RunsTarget(SnapshotKeeper(repository, repository.find(snapshot)))
    found: dict[str, Rows] = {}
    for partition in ("_default", *(target.observe([NAME])[NAME].schema.partitions or ())):
        batch = target.source(NAME, partition).reader.read(KeyRange(), ["id", "value"])
        found[partition] = dict(zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True))
    return found


class Killed(BaseException):
    """The process ended here."""


class Watch(Protocol):
    """What a store tells before and after everything that it writes or removes."""

    def __call__(self) -> None: ...


@dataclass
class Life:
    """The life of a process: so many moments. When they are over nothing that it does has an effect."""

    left: int
    lived: int = 0

    def __call__(self) -> None:
        self.lived += 1
        if self.lived > self.left:
            raise Killed


@dataclass(frozen=True)
class MortalStore:
    """A real store in a process that dies before or after one of its writes; or one that is watched."""

    store: Store
    moment: Watch

    @property
    def label(self) -> str:
        return self.store.label

    def put(self, name: str, data: bytes) -> None:
        self.moment()
        self.store.put(name, data)
        self.moment()

    def put_new(self, name: str, data: bytes) -> bool:
        self.moment()
        did = self.store.put_new(name, data)
        self.moment()
        return did

    def delete(self, name: str) -> None:
        self.moment()
        self.store.delete(name)
        self.moment()

    def tidy(self, prefix: str) -> None:
        self.moment()
        self.store.tidy(prefix)

    def empty(self) -> bool:
        return self.store.empty()

    def get(self, name: str) -> bytes:
        return self.store.get(name)

    def size(self, name: str) -> int | None:
        return self.store.size(name)

    def list(self, prefix: str) -> Iterator[Found]:
        return self.store.list(prefix)
