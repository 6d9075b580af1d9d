"""Where rows come from: files of a kind, and the collections of a Milvus or of a backup.

A connection is here too, for a target is one as well.
"""

import posixpath
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from vsync.spec.address import check_address, check_path, check_place, without_credentials
from vsync.spec.base import Model, to_long, under_kind
from vsync.spec.secret import Secret, check_token
from vsync.spec.values import Plain, Text, Truth, one_collection, some_text
from vsync.spec.variables import escape

Glob = Annotated[str, BeforeValidator(some_text)]
FILE_TAG = "[file]"
MILVUS_TAG = "[milvus]"
BACKUP_TAG = "[backup]"


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
        return under_kind(self.kind, self.path, self.options)

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


class InDatabase(Model):
    """What all sources in a database say."""

    partitions: Names | None = Field(None, description="The partitions that are read; all where it is not written")
    where: Annotated[str, BeforeValidator(some_text)] | None = Field(
        None, description="Which rows are read: an expression of Milvus", examples=["lang == 'en'"]
    )

    @property
    def address(self) -> str:
        """Where it is, for people."""
        raise NotImplementedError

    @property
    def place(self) -> Any:
        """Where it is, as JSON: what tells one database from another while a spec is worked on."""
        raise NotImplementedError

    def is_in(self, milvus: Connection | None) -> bool:
        """Tell whether it is that very database, as far as the words tell."""
        raise NotImplementedError


class OneCollection(InDatabase):
    """The rows of one collection of a database."""

    collection: Annotated[str, BeforeValidator(one_collection)] = Field(description="The collection that is read")

    @property
    def label(self) -> str:
        """The source for people: ``DATABASE/COLLECTION``."""
        return f"{self.address}/{self.collection}"


class ManyCollections(InDatabase):
    """Many collections of a database."""

    collections: Names = Field(Names(), description="The collections that are copied; all where it is not written")

    @property
    def label(self) -> str:
        """The source for people."""
        return self.address

    def _same(self) -> dict[str, Any]:
        """Give what it says of each of its collections."""
        said = self.model_fields_set - {"collections"}
        return {key: getattr(self, key) for key in type(self).model_fields if key in said}


class FromMilvus(InDatabase):
    """What all sources in a Milvus say; ``name`` is their connection's, if it has one."""

    kind: Literal["milvus"] = "milvus"
    at: Connection = Field(description="Where it is: a connection's name, an address, or {uri: ..., token: ...}")
    name: Text | None = None
    load_source: Truth = Field(
        default=False, description="Whether a collection that is not loaded is loaded to be read, and released then"
    )

    @property
    def address(self) -> str:
        """The connection's name where it has one, else its address without credentials, and the database it says."""
        return self.name or "/".join(filter(None, (self.at.label.rstrip("/"), self.at.database)))

    @property
    def place(self) -> Any:
        """How it is reached."""
        return self.at.long()

    def is_in(self, milvus: Connection | None) -> bool:
        """Tell whether it is that very database, as far as the words tell."""
        return milvus is not None and self.at.is_same(milvus)

    def long(self) -> dict[str, Any]:
        """Write the kind as the key, and the connection by its name where it has one."""
        at = escape(self.name) if self.name else self.at.long()
        return {"milvus": {"at": at, **_chosen_first(super().long(), {"kind", "at", "name"})}}


class MilvusSource(FromMilvus, OneCollection):
    """The rows of one collection of a Milvus."""


class MilvusCollections(FromMilvus, ManyCollections):
    """Many collections of a Milvus."""

    def one(self, collection: str) -> MilvusSource:
        """Make the source of one of the collections."""
        return MilvusSource(collection=collection, **self._same())


class FromBackup(InDatabase):
    """What all sources in a repository of backups say."""

    kind: Literal["backup"] = "backup"
    repo: Annotated[Text, BeforeValidator(check_place)] = Field(
        description="The repository: a folder, relative to the spec's, or s3://BUCKET/PREFIX"
    )
    snapshot: Text | None = Field(None, description="Which snapshot, as vsync snapshots lists them; the last one")

    @property
    def address(self) -> str:
        """The repository, and the snapshot where one is named."""
        return self.repo + (f"@{self.snapshot}" if self.snapshot else "")

    @property
    def place(self) -> Any:
        """The repository and its snapshot."""
        return [self.repo, self.snapshot]

    def is_in(self, milvus: Connection | None) -> bool:  # noqa: ARG002
        """Tell that it is no Milvus."""
        return False

    def long(self) -> dict[str, Any]:
        """Write the kind as the key."""
        place = {key: to_long(getattr(self, key)) for key in ("repo", "snapshot") if getattr(self, key) is not None}
        return {"backup": {**place, **_chosen_first(super().long(), {"kind", "repo", "snapshot"})}}


class BackupSource(FromBackup, OneCollection):
    """The rows of one collection of a backup."""


class BackupCollections(FromBackup, ManyCollections):
    """Many collections of a backup."""

    def one(self, collection: str) -> BackupSource:
        """Make the source of one of the collections."""
        return BackupSource(collection=collection, **self._same())


def _chosen_first(written: dict[str, Any], without: set[str]) -> dict[str, Any]:
    """Put what is chosen before how it is read."""
    rest = {key: value for key, value in written.items() if key not in without}
    chosen: dict[str, Any] = {key: rest.pop(key) for key in ("collection", "collections") if key in rest}
    return {**chosen, **rest}


def _tag(value: Any) -> str:
    kind = value.get("kind") if isinstance(value, dict) else getattr(value, "kind", None)
    return {"milvus": MILVUS_TAG, "backup": BACKUP_TAG}.get(str(kind), FILE_TAG)


AnySource = Annotated[
    Annotated[FileSource, Tag(FILE_TAG)]
    | Annotated[MilvusSource, Tag(MILVUS_TAG)]
    | Annotated[BackupSource, Tag(BACKUP_TAG)],
    Discriminator(_tag),
]
"""The tags stand in the paths of pydantic's errors, where the binder takes them out again."""

AnyCollections = Annotated[
    Annotated[MilvusCollections, Tag(MILVUS_TAG)] | Annotated[BackupCollections, Tag(BACKUP_TAG)],
    Discriminator(_tag),
]
