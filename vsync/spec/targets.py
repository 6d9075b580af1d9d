"""What is brought into the declared state: a Milvus, or a place where vsync itself keeps collections."""

from typing import Annotated, Any

from pydantic import BeforeValidator, Discriminator, Field, Tag, ValidationInfo, field_validator

from vsync.connectors.registry import STORE_KINDS
from vsync.spec.address import check_path, check_place
from vsync.spec.base import Model, under_kind
from vsync.spec.sources import Connection
from vsync.spec.values import Plain, Text
from vsync.spec.variables import escape

MILVUS_TARGET_TAG = "[to milvus]"
STORE_TAG = "[to files]"


class MilvusTarget(Model):
    """The Milvus that is brought into the declared state; ``name`` is its connection's, if it has one."""

    milvus: Connection
    name: Text | None = None

    @property
    def connection(self) -> Connection | None:
        """Where the Milvus is."""
        return self.milvus

    @property
    def database(self) -> str:
        """The name of the database."""
        return self.milvus.database or "default"

    def long(self) -> dict[str, Any]:
        """Write the connection by its name where it has one."""
        return {"milvus": escape(self.name) if self.name else self.milvus.long()}


class StoreTarget(Model):
    """Files that vsync keeps collections in: an export, or a repository of backups.

    ``path`` is a folder, relative to the spec's; of a kind that may be elsewhere also a URL.
    """

    kind: Text
    path: Annotated[Text, BeforeValidator(check_place)]
    options: dict[str, Plain] = Field({})

    @field_validator("path")
    @classmethod
    def _here(cls, path: str, info: ValidationInfo) -> str:
        kind = STORE_KINDS.get(info.data.get("kind", ""))
        return path if kind is not None and kind.remote else check_path(path)

    @property
    def connection(self) -> Connection | None:
        """There is no Milvus."""
        return None

    @property
    def snapshots(self) -> bool:
        """Whether each apply makes a state of its own, which never changes."""
        return STORE_KINDS[self.kind].snapshots

    @property
    def database(self) -> str:
        """The name of the database: where it is."""
        return self.path

    def long(self) -> dict[str, Any]:
        """Write the kind as the key."""
        return under_kind(self.kind, self.path, self.options)


def _tag(value: Any) -> str:
    stores = "kind" in value if isinstance(value, dict) else isinstance(value, StoreTarget)
    return STORE_TAG if stores else MILVUS_TARGET_TAG


AnyTarget = Annotated[
    Annotated[MilvusTarget, Tag(MILVUS_TARGET_TAG)] | Annotated[StoreTarget, Tag(STORE_TAG)], Discriminator(_tag)
]
"""The tags stand in the paths of pydantic's errors, where the binder takes them out again."""
