"""The contract between vsync and every system that rows come from or go to.

A *source* is one file or one collection, opened. It is described, cut into chunks, and read chunk by chunk:

A file is one as follows; how a collection that lives differs, :class:`CollectionSource` says.

- ``describe`` reads headers, not rows, and says the same for the same content whenever it is asked.
- ``cut`` is deterministic: the same content and arguments give the same bounds, on any machine. The bounds cover
  every row once, in order.
- ``read`` of the same bounds gives the same rows in the same order, whichever thread asks, however often, and in
  whatever order. It holds one chunk in memory, not the source. Readers may come from several threads at once.
- What cannot be read right is refused with :class:`vsync.errors.SourceError`, never guessed: a wrong row is worse than
  no row.

A *target* is observed, changed and written. Every method that changes it is one attempt with a deadline: it may be
repeated by its caller, and looks before it acts. Whatever fails raises :class:`vsync.errors.TransientError` (worth a
retry), :class:`vsync.errors.TooLargeError` or :class:`vsync.errors.TargetError`; nothing of a vendor passes through.
What is not there any more raises a TargetError that is a :class:`vsync.errors.StalePlanError` too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from collections.abc import Collection as Container

    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from vsync.errors import Problem
    from vsync.schema import Collection, Field, Index, LiveCollection, Rules

Key = int | str


@dataclass(frozen=True, slots=True)
class KeyRange:
    """Primary keys from ``lo`` (included) to ``hi`` (excluded); ``None``: open. VARCHAR: in UTF-8 byte order."""

    lo: Key | None = None
    hi: Key | None = None

    def covers(self, other: KeyRange) -> bool:
        """Tell whether another range lies within this one."""
        below: Any = self.lo
        above: Any = self.hi
        starts = below is None or (other.lo is not None and other.lo >= below)
        return starts and (above is None or (other.hi is not None and other.hi <= above))


@dataclass(frozen=True, slots=True)
class Bounds:
    """A chunk of a source: its rows from ``lo`` (included) to ``hi`` (excluded).

    Of a file these are the rows' numbers. A collection lives: there they are the places that its rows had, in the order
    of their keys, when it was cut, and the chunk is whatever rows have their keys in ``keys``.
    """

    lo: int
    hi: int
    keys: KeyRange | None = None

    @property
    def rows(self) -> int:
        """How many rows there are, or were when it was cut."""
        return self.hi - self.lo


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a source: its Arrow type as ``read`` gives it, and the source's own words for it.

    ``row_bytes`` is the size of one row in bytes as Arrow, exact for fixed-size types and a mean for others. ``loss``
    names what reading loses, such as a codec, where the source is read by decoding. ``field`` is what it was in the
    Milvus that it comes from, where the source knows. ``nulls``: some rows have none, as far as was seen.
    """

    name: str
    type: pa.DataType
    native: str
    row_bytes: float
    loss: str | None = None
    field: Field | None = None
    nulls: bool = False


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What tells one content of a source from another.

    ``content`` is a digest of what is cheap to read and telling: size, shapes, types, and content sampled at fixed
    places. ``modified`` is the time of the last change in nanoseconds; it alone decides nothing.
    """

    content: str
    modified: int


EXPORTED = "vsync"
"""The layout of files that vsync itself exported."""


@dataclass(frozen=True, slots=True)
class Description:
    """What a source holds. ``layout`` names a well-known form, whose ``suggested`` map is field -> column.

    ``collection`` is what a source that is a collection says of itself, its aliases too; ``None`` for a file.
    ``moves``: others may write there while it is read. ``schema``: of a file that says so, the collection that its rows
    were exported from.
    """

    locator: str
    fingerprint: Fingerprint
    rows: int
    nbytes: int
    columns: tuple[Column, ...]
    layout: str | None = None
    suggested: Mapping[str, str] = field(default_factory=dict)
    collection: LiveCollection | None = None
    moves: bool = False
    schema: Collection | None = None

    def column(self, name: str) -> Column | None:
        """Find a column by its name."""
        return next((c for c in self.columns if c.name == name), None)


class Source(Protocol):
    """One file, opened; see the module's docstring for what its methods promise."""

    def describe(self) -> Description:
        """Say what is there, from headers and samples."""

    def cut(self, columns: Sequence[str], chunk_bytes: int) -> list[Bounds]:
        """Cut all rows into chunks of about ``chunk_bytes`` bytes of these columns, at least one row each."""

    def read(self, bounds: Bounds, columns: Sequence[str]) -> pa.RecordBatch:
        """Read the rows of one chunk, the columns in the order asked for."""

    def close(self) -> None:
        """Give back what is held; a closed source is not read again."""


@dataclass(frozen=True, slots=True)
class Loss:
    """What does not stay as it is on its way to a target: ``converted`` or ``lost``, the address, and what it is.

    ``harmful``: somebody may miss it, and has to accept that.
    """

    verdict: Literal["converted", "lost"]
    address: str
    what: str
    harmful: bool = False


@dataclass(frozen=True, slots=True)
class Acked:
    """The server answered that it wrote ``rows``; for auto_id the keys it handed out, ranges with both ends.

    ``keys`` are the same ones in the order of the rows; of texts the numbers that they are.
    """

    rows: int
    key_ranges: tuple[tuple[int, int], ...] = ()
    keys: NDArray[np.int64] | None = None


class Writer(Protocol):
    """The way into one collection and partition. Used by several threads at once."""

    def encode(self, rows: pa.RecordBatch) -> list[Any]:
        """Turn rows into requests, each below the server's limit, in the rows' order."""

    def halve(self, request: Any) -> list[Any]:
        """Make smaller requests of one that the server found too large, in the rows' order; so from here on.

        Raises TooLargeError for a request of one row.
        """

    def send(self, request: Any) -> Acked:
        """Send one request once, as an upsert where keys are our own, as an insert for auto_id."""

    def probe(self, keys: pa.Array, *, everywhere: bool = True) -> pa.BooleanArray:
        """Tell for each key, in order, whether the collection holds it, or only this partition (strong consistency)."""

    def displace(self, keys: pa.Array) -> None:
        """Remove the rows with these keys from other partitions, where upserts into this one would leave them there."""


class Reader(Protocol):
    """What a collection, or one of its partitions, holds. Used by several threads at once; reads only.

    All that was written before it was opened is seen. Where a server holds two entities under one key, only ``count``
    sees both: the others give one of them. Rows that others write meanwhile, also over rows that were there, may be
    given or not; but no row is given twice, and none that nobody touches is left out.
    """

    def keys(self) -> Iterator[pa.Array]:
        """Scan all primary keys in blocks: ascending, each once, none left out that was there when it began.

        The iterator outlives a TransientError: when it is asked again, it goes on with the block that failed.
        """

    def read(self, keys: KeyRange, fields: Sequence[str]) -> pa.RecordBatch:
        """Read the rows of a range, ascending by key, each key once; columns in the order asked for."""

    def scan(self, keys: KeyRange, fields: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Read the rows of a range in blocks, as ``read`` does all at once.

        Where it raises TransientError it may be asked for the same block again.
        """

    def fetch(self, keys: pa.Array, fields: Sequence[str]) -> pa.RecordBatch:
        """Read the rows with these keys, in any order; those that are not there are left out."""

    def count(self, keys: KeyRange) -> int:
        """Count the entities of a range: also those under one key, and keys that no query returns."""


class CollectionSource(Source, Protocol):
    """A collection, or one of its partitions, as a source: it lives, so that its chunks are ranges of keys.

    What reading sees is what was written before the source was opened; what others write meanwhile may be seen or not.
    ``cut`` scans the keys, and may cut otherwise the next time; the first range is open below and the last one above,
    so that they bring what came since. ``read`` gives the rows of a range, ascending by key, each key once. The
    fingerprint's content tells one collection from another that took its name, not what it holds. Reading may raise
    :class:`vsync.errors.TransientError`, which the caller tries again, and :class:`vsync.errors.SourceChangedError`
    where it is another collection by now, or not there or loaded any more.
    """

    def cut(self, columns: Sequence[str], chunk_bytes: int, seams: Sequence[Key] = ()) -> list[Bounds]:
        """Cut all keys into ranges of about ``chunk_bytes``; where it can, at ``seams``, ascending keys."""

    @property
    def reader(self) -> Reader:
        """What it holds, asked by keys."""


class Database(Protocol):
    """A database that rows are read from."""

    @property
    def label(self) -> str:
        """For people: address and server version."""

    def observe(self, names: Sequence[str], *, count: bool = True) -> dict[str, LiveCollection]:
        """Describe those of these collections that are there; counts are strong. Reads only."""

    def collections(self) -> list[str]:
        """List the names of all collections, sorted."""

    def has_database(self) -> bool:
        """Tell whether the database is there."""

    def source(
        self, collection: str, partition: str | None, *, where: str | None = None, load: bool = False
    ) -> CollectionSource:
        """Open a collection, or one of its partitions, as a source of the rows that ``where`` is true of.

        ``where`` is in the server's own language. With ``load`` one that is not loaded is, until the last source of
        this process that asked for it is closed. Raises SourceError where it cannot be read.
        """

    def close(self) -> None:
        """Give back connections; for Milvus Lite the folder's lock too."""


class Target(Database, Protocol):
    """A database that collections live in; see the module's docstring for what its methods promise."""

    @property
    def identity(self) -> str:
        """What tells this database from any other: no credentials in it."""

    @property
    def keeps(self) -> bool:
        """Whether it only keeps rows, and neither indexes nor loads them: then ``finish`` has work to do at the end."""

    @property
    def writers(self) -> int:
        """How many requests in flight one collection bears."""

    @property
    def settling(self) -> float:
        """For how many seconds a count may still hold old copies of rows that were replaced."""

    @property
    def rules(self) -> Rules:
        """What this server refuses in values, beyond what a field's type says."""

    def collection_id(self, name: str) -> str | None:
        """Tell the ``id`` that :meth:`observe` gives a collection; ``None`` where there is none. Cheap: asked often."""

    def aliases(self) -> dict[str, str]:
        """Map every alias of the database to its collection."""

    def conflicts(self, desired: Collection) -> list[Problem]:
        """Name what this server cannot hold; ``where`` of each is an address such as ``collection.c.field.f``."""

    def nearest(self, desired: Collection, fixed: Container[str]) -> tuple[Collection, list[Loss]]:
        """Make of a collection of another server the nearest one that this server holds, and name what differs.

        Attributes named in ``fixed`` are left as they are: what cannot be held of them is a conflict. Also of them what
        is not kept and does no harm, such as a description, is named.
        """

    def same(self, desired: Index, live: Index) -> bool:
        """Tell whether two descriptions of an index mean the same on this server."""

    def create_database(self) -> None:
        """Create the database where it is not there."""

    def create_collection(self, desired: Collection) -> None:
        """Create it without partitions and indexes, and compare what the server made of it; a loss raises."""

    def drop_collection(self, name: str) -> None:
        """Drop it, its indexes and rows, and release it first. Its aliases go with it."""

    def set_properties(self, name: str, properties: Mapping[str, str]) -> None:
        """Set these properties, leave the others."""

    def create_partition(self, collection: str, partition: str) -> None:
        """Create it where it is not there."""

    def clear(self, collection: str, partition: str | None) -> None:
        """Remove all rows of a partition (``None``: ``_default``), keeping it."""

    def create_index(self, collection: str, index: Index, progress: Callable[[int], None]) -> None:
        """Create it where it is not there, and wait until it is built; ``progress`` is told percents, and may raise."""

    def drop_index(self, collection: str, field: str) -> None:
        """Drop the index of a field, releasing the collection first."""

    def load(self, collection: str, progress: Callable[[int], None]) -> None:
        """Load it and wait; ``progress`` is told percents, and may raise."""

    def release(self, collection: str) -> None:
        """Release it from memory."""

    def flush(self, collection: str) -> None:
        """Have the server persist what it holds."""

    def count(self, collection: str, partition: str | None) -> int | None:
        """Count rows, strongly (``None`` for partition: all of them); ``None`` where the server cannot, unloaded."""

    def set_alias(self, alias: str, collection: str) -> None:
        """Create the alias, or move it here."""

    def delete(self, collection: str, partition: str | None, keys: pa.Array) -> None:
        """Remove the rows with these keys, all copies, from a loaded collection or one partition; wait for it.

        Raises where the server would remove such a key from another partition too, which is not to be changed.
        """

    def writer(self, collection: Collection, partition: str | None) -> Writer:
        """Open the way into a collection that is there."""

    def reader(self, collection: Collection, partition: str | None) -> Reader:
        """Open what a loaded collection that is there holds (``None``: all partitions), as of now."""

    def seams(self, collection: str, partition: str | None) -> Sequence[Key]:
        """Name keys, ascending, at which rows are best cut: what lies between two may be here already."""

    def note(self, spec_digest: str, sources: Sequence[str]) -> None:
        """Hear which spec what is written is of, and from which databases; a target that keeps rows keeps that too."""

    def finish(self, names: Container[str]) -> None:
        """Put the seal on these collections, where this target keeps rows; else there is nothing to do."""

    def unfinished(self, names: Container[str]) -> bool:
        """Tell whether something was written to these collections that :meth:`finish` has not sealed."""
