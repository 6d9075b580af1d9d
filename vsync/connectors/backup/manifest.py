"""What a snapshot holds, as JSON: which objects are the ranges of which partitions, and what the collections are."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vsync import schema_json
from vsync.connectors.runs.target import Kept
from vsync.errors import SourceError
from vsync.schema import Collection

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vsync.connectors.base import Key

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Range:
    """Rows of a partition in one object, in the order of their keys: both ends, and how many.

    ``removes``: they are keys whose rows are gone; only while a backup is written.
    """

    first: Key
    last: Key
    rows: int
    nbytes: int
    object: str
    removes: bool = False

    def to_json(self) -> dict[str, Any]:
        """Write it."""
        said = {"first": self.first, "last": self.last, "rows": self.rows, "bytes": self.nbytes, "object": self.object}
        return said | ({"removes": True} if self.removes else {})

    @staticmethod
    def from_json(said: dict[str, Any]) -> Range:
        """Read it."""
        return Range(**{"nbytes" if key == "bytes" else key: value for key, value in said.items()})


@dataclass(frozen=True, slots=True)
class Held:
    """A collection in a snapshot, and the ranges of each of its partitions, ascending."""

    kept: Kept
    partitions: dict[str, tuple[Range, ...]]

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return sum(r.rows for ranges in self.partitions.values() for r in ranges)


@dataclass(frozen=True, slots=True)
class Manifest:
    """A snapshot. ``name`` is what it is of, times are UTC in ISO 8601."""

    id: str
    name: str
    began: str
    finished: str
    collections: dict[str, Held]
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def ranges(self) -> Iterator[tuple[str, str, Range]]:
        """Every range, with its collection and partition."""
        for name, held in self.collections.items():
            for partition, ranges in held.partitions.items():
                for one in ranges:
                    yield name, partition, one

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return sum(held.rows for held in self.collections.values())

    @property
    def nbytes(self) -> int:
        """The bytes of its objects; each counts as often as it is named."""
        return sum(one.nbytes for _, _, one in self.ranges)

    def to_json(self) -> bytes:
        """Write it, a range on a line."""
        said = {
            "format_version": FORMAT_VERSION,
            "id": self.id,
            "name": self.name,
            "began": self.began,
            "finished": self.finished,
            **self.notes,
            "collections": {name: _held_to_json(held) for name, held in self.collections.items()},
        }
        return json.dumps({**said, "digest": _digest(said)}, ensure_ascii=False, indent=1).encode()

    @staticmethod
    def from_json(text: bytes, where: str, hint: str) -> Manifest:
        """Read it; raises SourceError where it is none, or of a newer format."""
        try:
            said = json.loads(text)
            version, digest = said["format_version"], said.pop("digest", None)
            if version != FORMAT_VERSION:
                what = f"this snapshot is of format {version}, not {FORMAT_VERSION}"
                raise SourceError(what, where=where, hint="a newer vsync wrote it: use that")
            if digest not in {None, _digest(said)}:  # those of the first days have none
                raise SourceError("this snapshot was changed after it was written", where=where, hint=hint)
            said.pop("format_version")
            collections = {name: _held_from_json(held) for name, held in said.pop("collections").items()}
            known = {key: said.pop(key) for key in ("id", "name", "began", "finished")}
            return Manifest(**known, collections=collections, notes=said)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SourceError("this snapshot is damaged", where=where, hint=hint) from error


def _digest(said: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _held_to_json(held: Held) -> dict[str, Any]:
    ranges = {p: [one.to_json() for one in some] for p, some in held.partitions.items()}
    return {"id": held.kept.id, "collection": schema_json.to_json(held.kept.schema), "partitions": ranges}


def _held_from_json(said: dict[str, Any]) -> Held:
    kept = Kept(said["id"], schema_json.from_json(Collection, said["collection"]))
    return Held(kept, {p: tuple(map(Range.from_json, some)) for p, some in said["partitions"].items()})
