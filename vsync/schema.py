"""What a Milvus holds, in Milvus's own words: frozen, normalised, comparable values.

``None`` in an attribute means "not said": in a desired collection it is not managed, in a live one the server
does not tell. A comparison looks only at what both sides say.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class DataType(str, Enum):
    """The field types of Milvus, spelled as in the spec."""

    INT8 = "int8"
    INT16 = "int16"
    INT32 = "int32"
    INT64 = "int64"
    FLOAT = "float"
    DOUBLE = "double"
    BOOL = "bool"
    VARCHAR = "varchar"
    JSON = "json"
    ARRAY = "array"
    GEOMETRY = "geometry"
    TIMESTAMPTZ = "timestamptz"
    FLOAT_VECTOR = "float_vector"
    BINARY_VECTOR = "binary_vector"
    FLOAT16_VECTOR = "float16_vector"
    BFLOAT16_VECTOR = "bfloat16_vector"
    INT8_VECTOR = "int8_vector"
    SPARSE_FLOAT_VECTOR = "sparse_float_vector"

    def __str__(self) -> str:
        """Give the spec's spelling."""
        return self.value

    @property
    def is_vector(self) -> bool:
        """Whether an index over distances can be built on it."""
        return self.value.endswith("_vector")

    @property
    def is_integer(self) -> bool:
        """Whether it is one of the four integer types."""
        return self in INTEGER_BITS


NO_ELEMENTS = {DataType.JSON, DataType.ARRAY, DataType.GEOMETRY, DataType.TIMESTAMPTZ}
"""The types beside vectors that arrays do not hold."""

INTEGER_BITS = {DataType.INT8: 8, DataType.INT16: 16, DataType.INT32: 32, DataType.INT64: 64}

METRICS: dict[DataType, tuple[str, ...]] = {
    **{kind: ("COSINE", "L2", "IP") for kind in DataType if kind.is_vector},
    DataType.BINARY_VECTOR: ("HAMMING", "JACCARD", "SUBSTRUCTURE", "SUPERSTRUCTURE"),
    DataType.SPARSE_FLOAT_VECTOR: ("IP", "BM25"),
}
"""What the vectors of each type can be measured by."""

MAX_DIM = 32_768
MAX_LENGTH = 65_535
"""The most bytes of a VARCHAR."""

MAX_CAPACITY = 4_096
"""The most elements of an array."""

KEY_TYPES = {DataType.INT64, DataType.VARCHAR}
"""The types of primary keys and partition keys."""

# Milvus's own rule for names of collections, partitions, fields and aliases; Lite takes more, other servers do not.
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}\Z")

DEFAULT_PARTITION = "_default"
"""Milvus's own partition: always there, and where rows go that nobody says a partition for."""

LOWEST, HIGHEST = -(2**63), 2**63 - 1
"""The least and the greatest int64 key."""

DYNAMIC_FIELD = "$meta"
"""The name of the column that carries the dynamic field's JSON bytes."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a collection. ``dim`` in dimensions (bits for binary vectors), ``max_length`` in bytes.

    ``in_characters``: ``max_length`` counts characters. ``computed``: a function of the collection makes its values.
    ``params`` are what else its type has, such as an analyzer: sorted pairs of strings.
    """

    name: str
    type: DataType
    primary: bool = False
    auto_id: bool = False
    dim: int | None = None
    max_length: int | None = None
    element: DataType | None = None
    max_capacity: int | None = None
    nullable: bool = False
    default: Any = None
    partition_key: bool = False
    clustering_key: bool = False
    description: str | None = None
    in_characters: bool | None = None
    computed: bool | None = None
    params: tuple[tuple[str, str], ...] | None = None

    def __str__(self) -> str:
        """Render the type as people write it: ``float_vector(768)``, ``array<int64>(100)``."""
        size = self.dim or (self.max_length if self.type is DataType.VARCHAR else self.max_capacity)
        element = f"<{self.element}>" if self.element else ""
        return f"{self.type}{element}" + (f"({size})" if size else "")


META = Field(DYNAMIC_FIELD, DataType.JSON, default=b"{}")
"""The field that carries the dynamic field's values."""


@dataclass(frozen=True, slots=True)
class Index:
    """An index on one field. ``params`` are sorted pairs of strings; ``metric`` is upper case or not said."""

    field: str
    type: str | None = None
    metric: str | None = None
    params: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        """Render as ``HNSW COSINE M=16 efConstruction=200``."""
        words = [self.type or "", self.metric or "", *(f"{k}={v}" for k, v in self.params)]
        return " ".join(filter(None, words))


@dataclass(frozen=True, slots=True)
class Function:
    """What a server computes of fields into others. ``type`` in Milvus's words, such as ``BM25``."""

    name: str
    type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    params: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection as it shall be or as it is. ``partitions`` leaves out Milvus's own ``_default``."""

    name: str
    fields: tuple[Field, ...]
    dynamic: bool | None = None
    description: str | None = None
    shards: int | None = None
    consistency: str | None = None
    num_partitions: int | None = None
    properties: tuple[tuple[str, str], ...] | None = None
    partitions: tuple[str, ...] | None = None
    indexes: tuple[Index, ...] | None = None
    aliases: tuple[str, ...] | None = None
    functions: tuple[Function, ...] = ()

    @property
    def primary(self) -> Field:
        """The primary key; every collection has one."""
        return next(f for f in self.fields if f.primary)

    @property
    def columns(self) -> tuple[Field, ...]:
        """What its rows bring: the fields that are not computed, and what carries the dynamic field."""
        fields = tuple(f for f in self.fields if not f.computed)
        return (*fields, META) if self.dynamic else fields

    def field(self, name: str) -> Field | None:
        """Find a field by its name."""
        return next((f for f in self.fields if f.name == name), None)


@dataclass(frozen=True, slots=True)
class LiveCollection:
    """A collection as a server describes it, with what can be known of its rows without writing or loading.

    ``id`` changes when the collection is dropped and made again (where the server has ids at all). ``loaded`` is
    ``None`` where being loaded is no state that lasts (embedded Milvus Lite). ``rows`` and the values of
    ``partition_rows`` are strong counts, ``None`` where the server cannot count (not loaded). ``unread`` are the fields
    that vsync has no words for, and so leaves out of the schema: the name of each, and what it is.
    """

    schema: Collection
    id: str
    loaded: bool | None
    rows: int | None
    partition_rows: dict[str, int | None] = field(default_factory=dict)
    unread: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Rules:
    """What this server refuses, or takes and then breaks of, beyond what the fields say; true is stricter."""

    finite_vectors: bool = True
    json_objects_only: bool = False
    no_json_scalars: bool = False
    sparse_non_negative: bool = False
    sparse_non_empty: bool = False
    simple_geometry: bool = False
