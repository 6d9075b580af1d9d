"""Where rows come from: files of a kind, and the collections of a Milvus.

A connection is here too, for a target is one as well.
"""

import posixpath
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from vsync.spec.address import check_address, check_path, without_credentials
from vsync.spec.base import Model, to_long
from vsync.spec.secret import Secret, check_token
from vsync.spec.values import Plain, Text, Truth, one_collection, some_text
from vsync.spec.variables import escape

Glob = Annotated[str, BeforeValidator(some_text)]
FILE_TAG = "[file]"
MILVUS_TAG = "[milvus]"


class Connection(Model):
    """Where a Milvus is, and how to get in."""

    uri: Annotated[Text, BeforeValidator(check_address)] = Field(
        description="http(s)://HOST:PORT of a server, or the path of a Milvus Lite file, NAME.db"
    )
    token: Annotated[Secret, BeforeValidator(check_token)] | None = Field(
        None, description="Where the token is had: {env: NAME}, {file: PATH} or {cmd: [...]}"
    )
    database: Text | None = Field(None, description="The database; the server's default where it is not said")

    @property
    def label(self) -> str:
        """The address for people, without credentials."""
        return without_credentials(self.uri)

    @property
    def is_lite(self) -> bool:
        """Whether it is a path of Milvus Lite rather than a server."""
        return "://" not in self.uri

    def is_same(self, other: "Connection") -> bool:
        """Tell whether it is the same database of the same Milvus, as far as the words tell."""
        return self.place == other.place

    @property
    def place(self) -> tuple[str, str]:
        """The address and the database, in one way of writing them."""
        uri = posixpath.normpath(self.uri) if self.is_lite else self.uri.rstrip("/")
        return uri, self.database or "default"


class FileSource(Model):
    """Files of one kind. ``path`` is a file, glob or folder, relative to the spec's folder."""

    kind: Text
    path: Annotated[Text, BeforeValidator(check_path)]
    options: dict[str, Plain] = Field({})

    def long(self) -> dict[str, Any]:
        """Write the kind as the key."""
        path = to_long(self.path)
        return {self.kind: {"path": path, **to_long(self.options)} if self.options else path}

    @property
    def label(self) -> str:
        """The source for people: its path."""
        return self.path


class Names(Model):
    """A choice of names by globs: those that ``allow`` takes and ``deny`` does not."""

    allow: list[Glob] = Field(["*"], min_length=1, description="Globs of the names that are taken")
    deny: list[Glob] = Field([], description="Globs of the names that are left out, whatever allow says")

    def chosen(self, names: Iterable[str]) -> list[str]:
        """List the names that are taken, in the order they came in."""
        return [name for name in names if _matches(name, self.allow) and not _matches(name, self.deny)]

    def unmatched(self, names: Iterable[str]) -> list[str]:
        """List the patterns of ``allow`` that match none of the names, as they are written."""
        known = list(names)
        return [pattern for pattern in self.allow if not any(fnmatchcase(name, pattern) for name in known)]


def _matches(name: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


class FromMilvus(Model):
    """What all sources in a Milvus say; ``name`` is their connection's, if it has one."""

    kind: Literal["milvus"] = "milvus"
    at: Connection = Field(description="Where it is: a connection's name, an address, or {uri: ..., token: ...}")
    name: Text | None = None
    partitions: Names | None = Field(None, description="The partitions that are read; all where it is not written")
    where: Annotated[str, BeforeValidator(some_text)] | None = Field(
        None, description="Which rows are read: an expression of Milvus", examples=["lang == 'en'"]
    )
    load_source: Truth = Field(
        default=False, description="Whether a collection that is not loaded is loaded to be read, and released then"
    )

    @property
    def address(self) -> str:
        """The connection's name where it has one, else its address without credentials."""
        return self.name or self.at.label

    def long(self) -> dict[str, Any]:
        """Write the kind as the key, and the connection by its name where it has one."""
        written: dict[str, Any] = {key: value for key, value in super().long().items() if key not in {"at", "name"}}
        chosen = {key: written.pop(key) for key in ("collection", "collections") if key in written}
        return {"milvus": {"at": escape(self.name) if self.name else self.at.long(), **chosen, **written}}


class MilvusSource(FromMilvus):
    """The rows of one collection of a Milvus."""

    collection: Annotated[str, BeforeValidator(one_collection)] = Field(description="The collection that is read")

    @property
    def label(self) -> str:
        """The source for people: ``CONNECTION/COLLECTION``."""
        return f"{self.address}/{self.collection}"


class MilvusCollections(FromMilvus):
    """Many collections of a Milvus."""

    collections: Names = Field(Names(), description="The collections that are copied; all where it is not written")

    def one(self, collection: str) -> MilvusSource:
        """Make the source of one of the collections."""
        same = {key: getattr(self, key) for key in FromMilvus.model_fields if key in self.model_fields_set}
        return MilvusSource(collection=collection, **same)

    @property
    def label(self) -> str:
        """The source for people."""
        return self.address


def _tag(value: Any) -> str:
    kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    return MILVUS_TAG if kind == "milvus" else FILE_TAG


AnySource = Annotated[
    Annotated[FileSource, Tag(FILE_TAG)] | Annotated[MilvusSource, Tag(MILVUS_TAG)], Discriminator(_tag)
]
"""The tags stand in the paths of pydantic's errors, where the binder takes them out again."""
