"""The plan as data: its steps, a closed union; what it shows; and its JSON.

A plan holds no secrets, no handles and no clock. It carries the spec it was made from (connections as references) and
fingerprints of every source and of what was observed of the target, so that an apply can tell that the world moved.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from vsync.connectors.base import Bounds, Key, KeyRange
from vsync.errors import Problem, UsageError
from vsync.schema import DEFAULT_PARTITION, Collection, Index

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class CreateDatabase:
    """Create the target's database."""

    database: str
    kind: Literal["create-database"] = "create-database"


@dataclass(frozen=True, slots=True)
class DropCollection:
    """Drop a collection that is replaced."""

    collection: str
    kind: Literal["drop-collection"] = "drop-collection"


@dataclass(frozen=True, slots=True)
class CreateCollection:
    """Create a collection, without partitions, indexes and aliases."""

    collection: str
    kind: Literal["create-collection"] = "create-collection"


@dataclass(frozen=True, slots=True)
class SetProperties:
    """Set properties of a collection in place."""

    collection: str
    properties: tuple[tuple[str, str], ...]
    kind: Literal["set-properties"] = "set-properties"


@dataclass(frozen=True, slots=True)
class CreatePartition:
    """Create a partition."""

    collection: str
    partition: str
    kind: Literal["create-partition"] = "create-partition"


@dataclass(frozen=True, slots=True)
class Clear:
    """Remove the rows of a destination before they are written anew."""

    destination: str
    kind: Literal["clear"] = "clear"


@dataclass(frozen=True, slots=True)
class CopyChunk:
    """Copy a chunk of a unit: see :class:`vsync.connectors.base.Bounds` for ``lo``, ``hi`` and ``keys``.

    ``dropped`` are the numbers of rows that lost a collision of keys; of a collection, those keys.
    """

    unit: int
    n: int
    lo: int
    hi: int
    dropped: tuple[Key, ...] = ()
    keys: KeyRange | None = None
    kind: Literal["copy-chunk"] = "copy-chunk"

    @property
    def bounds(self) -> Bounds:
        """What its source is asked for."""
        return Bounds(self.lo, self.hi, self.keys)

    @property
    def rows(self) -> int:
        """Rows of the source in this chunk."""
        return self.hi - self.lo


@dataclass(frozen=True, slots=True)
class Flush:
    """Have the server persist what was written."""

    collection: str
    kind: Literal["flush"] = "flush"


@dataclass(frozen=True, slots=True)
class DropIndex:
    """Drop the index of a field, to make it anew with other parameters."""

    collection: str
    field: str
    kind: Literal["drop-index"] = "drop-index"


@dataclass(frozen=True, slots=True)
class CreateIndex:
    """Create an index and wait until it is built."""

    collection: str
    index: Index
    kind: Literal["create-index"] = "create-index"


@dataclass(frozen=True, slots=True)
class Release:
    """Release a collection from memory."""

    collection: str
    kind: Literal["release"] = "release"


@dataclass(frozen=True, slots=True)
class Load:
    """Load a collection and wait."""

    collection: str
    kind: Literal["load"] = "load"


@dataclass(frozen=True, slots=True)
class Verify:
    """Count a destination and compare with what was there and what was acknowledged."""

    destination: str
    kind: Literal["verify"] = "verify"


@dataclass(frozen=True, slots=True)
class DeleteRows:
    """Remove rows that the data does not hold, by their keys."""

    destination: str
    keys: tuple[Key, ...]
    kind: Literal["delete-rows"] = "delete-rows"


@dataclass(frozen=True, slots=True)
class RewriteRows:
    """Write rows of a unit again: of a file by ranges of their numbers, last excluded; of a collection by their keys.

    ``anew``: their keys are deleted first. ``missing``: the keys are not there yet.
    """

    unit: int
    rows: tuple[tuple[int, int], ...]
    anew: bool = False
    keys: tuple[Key, ...] = ()
    missing: bool = False
    kind: Literal["rewrite-rows"] = "rewrite-rows"


@dataclass(frozen=True, slots=True)
class Recount:
    """Count a destination that was repaired: it must hold so many rows."""

    destination: str
    rows: int
    kind: Literal["recount"] = "recount"


@dataclass(frozen=True, slots=True)
class SetAlias:
    """Create an alias, or move it here."""

    alias: str
    collection: str
    kind: Literal["set-alias"] = "set-alias"


@dataclass(frozen=True, slots=True)
class Finish:
    """Put the seal on what was written to a target that only keeps it."""

    kind: Literal["finish"] = "finish"


Step = (
    CreateDatabase
    | DropCollection
    | CreateCollection
    | SetProperties
    | CreatePartition
    | Clear
    | CopyChunk
    | Flush
    | DropIndex
    | CreateIndex
    | Release
    | Load
    | Verify
    | DeleteRows
    | RewriteRows
    | Recount
    | SetAlias
    | Finish
)


@dataclass(frozen=True, slots=True)
class Unit:
    """One file or collection of a data item, on its way to one destination: what its chunks have in common.

    ``key`` is what its chunks are known by in the journal: destination, mapping and content. ``nbytes`` is the size of
    its mapped columns as Arrow. ``origins`` maps each field to where its values come from: see
    :func:`vsync.planning.origins.plain_origin`. ``old_key`` is the column of keys that the server makes anew.
    ``lives``: it is a collection, whose content says what it is and not what it holds.
    """

    key: str
    address: str
    destination: str
    kind: str
    path: str
    options: dict[str, Any]
    content: str
    modified: int
    rows: int
    nbytes: int
    origins: dict[str, str | dict[str, Any]]
    chunks: int
    lives: bool = False
    old_key: str | None = None


@dataclass(frozen=True, slots=True)
class Destination:
    """A collection or one of its partitions, and what is to be done to the rows there.

    ``partition`` is ``None`` where Milvus itself spreads the rows (partition key). ``session`` counts the times that
    rows were brought here, ``epoch`` the times the content began anew; both are the journal's. ``probe``: it may hold
    rows, so each chunk asks which of its keys are there. ``before`` is the count that the plan saw, ``None`` where it
    cannot be counted. ``exclusive``: nobody else writes there meanwhile, so its count must come out even.
    ``elsewhere``: other partitions may hold keys of its rows.
    """

    address: str
    collection: str
    partition: str | None
    write: str
    probe: bool
    strict: bool
    on_bad_row: str
    content: str
    epoch: int
    session: int
    before: int | None
    skipped: bool = False
    exclusive: bool = True
    elsewhere: bool = False

    @property
    def replaces(self) -> bool:
        """Whether a row whose key is there replaces what is there."""
        return self.write in {"upsert", "mirror"}

    @property
    def displaces(self) -> bool:
        """Whether a row takes the place of what has its key in another partition: also where that is not asked for."""
        return self.replaces or (self.elsewhere and (self.write == "overwrite" or not self.probe))


Action = Literal["create", "update", "replace", "destroy", "copy", "same", "warn", "orphan"]


@dataclass(frozen=True, slots=True)
class Change:
    """A line of the plan for people: what happens to what is at an address, and where the spec says so."""

    action: Action
    address: str
    summary: str
    details: tuple[str, ...] = ()
    where: str | None = None
    rows: int = 0
    nbytes: int = 0
    chunks: int = 0


@dataclass(frozen=True, slots=True)
class Fidelity:
    """A line of the ledger of what does not stay as it is: ``kept``, ``converted`` or ``lost``."""

    verdict: Literal["converted", "lost"]
    address: str
    what: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The difference between a spec and a target, and the ordered steps that close it.

    ``repairs``: it mends rows that a check found, rather than what a spec says.
    """

    spec: dict[str, Any]
    spec_name: str
    folder: str
    spec_digest: str
    target: str
    target_label: str
    observed: dict[str, str]
    collections: dict[str, Collection]
    destinations: tuple[Destination, ...]
    units: tuple[Unit, ...]
    steps: tuple[Step, ...]
    changes: tuple[Change, ...]
    fidelity: tuple[Fidelity, ...] = ()
    conflicts: tuple[Problem, ...] = ()
    only: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    allow_destroy: tuple[str, ...] = ()
    repairs: bool = False
    format_version: int = field(default=FORMAT_VERSION)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return not self.steps and not self.conflicts

    @property
    def id(self) -> str:
        """What this plan is known by: a digest of all that it says."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    def destination(self, address: str) -> Destination:
        """Find a destination by its address."""
        return next(d for d in self.destinations if d.address == address)

    def to_json(self) -> str:
        """Serialise; equal plans give equal text."""
        return json.dumps(_ADAPTER.dump_python(self, mode="json"), ensure_ascii=False)

    @staticmethod
    def from_json(text: str | bytes, name: str = "the plan") -> Plan:
        """Read a saved plan; raises UsageError where it is none, or of another format."""
        try:
            data = json.loads(text)
            version = data.get("format_version")
            if version != FORMAT_VERSION:
                raise UsageError(
                    f"{name} has format {version}, this vsync reads format {FORMAT_VERSION}",
                    hint="make the plan again: vsync plan --out FILE",
                )
            return _ADAPTER.validate_python(data)
        except (ValueError, AttributeError, ValidationError) as e:
            raise UsageError(f"{name} is not a saved plan", hint="make one: vsync plan --out FILE") from e


_ADAPTER: TypeAdapter[Plan] = TypeAdapter(Plan)


def destination_address(collection: str, partition: str | None) -> str:
    """Give the address of a collection's own rows, or of a named partition."""
    if partition in {None, DEFAULT_PARTITION}:
        return f"collection.{collection}"
    return f"collection.{collection}.partition.{partition}"


def unit_key(destination: str, origins: dict[str, Any], content: str) -> str:
    """Digest what makes two chunks with the same bounds the same chunk."""
    text = json.dumps([destination, origins, content], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def content_key(units: list[str]) -> str:
    """Digest the keys of all units of a destination: what its content is known by."""
    return hashlib.sha256("\n".join(sorted(units)).encode()).hexdigest()[:24]
