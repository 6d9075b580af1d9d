"""What each server holds, by kind and version: the table that plans ask before anything is created.

Lite, Milvus 2.3 and Lite 2.5 were measured (docs/servers.md); 2.4 to 2.6 are as Milvus documents them. A
version that is newer than all of these counts as the newest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from vsync.schema import DataType, Rules

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_T = DataType
_NUMBERS = {_T.INT8, _T.INT16, _T.INT32, _T.INT64, _T.FLOAT, _T.DOUBLE}
_SCALARS = _NUMBERS | {_T.BOOL, _T.VARCHAR, _T.JSON, _T.ARRAY}
_NEW = {_T.GEOMETRY, _T.TIMESTAMPTZ}
_HALVES = {_T.FLOAT16_VECTOR, _T.BFLOAT16_VECTOR}
_MIB = 1 << 20

LITE, MILVUS, OLD_LITE = "Milvus Lite", "Milvus", "Milvus Lite 2"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a server holds, and what it needs from those who write to it."""

    types: frozenset[DataType]
    max_vector_fields: int = 4
    nullable: bool = False
    default: bool = True
    clustering_key: bool = False
    partition_key: bool = True
    auto_id_varchar: bool = True
    partitions: bool = True
    loads_partitions: bool = True
    """Whether some partitions can be loaded and others not."""
    aliases: bool = True
    tells_description: bool = True
    """Whether descriptions are kept; where not, they are left out and not compared."""
    tells_layout: bool = True
    """Whether shards, consistency level and number of partitions mean something there."""
    tells_array_max_length: bool = True
    counts_characters: bool = False
    """Whether the max_length of a varchar counts characters, not bytes."""
    properties: bool = True
    rewrites_json: bool = False
    functions: frozenset[str] = frozenset()
    tells_functions: bool = True
    analyzers: frozenset[str] | None = frozenset()
    """The tokenizers and filters of texts; None where a list would be older than the server."""
    drops_params: frozenset[str] = frozenset()
    """What of a field's parameters is not kept, and changes no answer."""
    tells_ids: bool = True
    index_types: Mapping[DataType, frozenset[str]] | None = None
    """Those of each type of field, in the server's spelling; None where a list would be older than the server."""
    index_needs: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """The parameters that a type of index is not made without."""
    autoindexed: frozenset[DataType] | None = None
    """The vectors that AUTOINDEX is for; None: all."""
    autoindex_takes_params: bool = False
    scalar_index: str | None = "AUTOINDEX"
    """What an index of a scalar field is where its type is not declared; None: the server chooses unasked."""
    insert_replaces: bool = False
    """Whether an insert of a key that is there replaces its row, whole."""
    upsert_looks_in_partition_only: bool = False
    """Whether a row with the same key in another partition stays when its key is upserted."""
    counts_unloaded: bool = False
    timestamps: bool = True
    """Whether the server tells its time, which later questions may refer to."""
    writers: int = 8
    settling: float = 120.0
    """For how many seconds a count may hold old copies of rows that were replaced: seen on 2.3 under load."""
    request_bytes: int = 40 * _MIB
    """What a request may have; the limits are 64 MiB, and 256 MiB on Lite."""
    newline_literals: bool = True
    """Whether questions may be about texts with line breaks; where not, they are answered wrongly."""
    window: int = 16_384
    """How many rows a query may ask for."""
    short_page_is_last: bool = False
    """Whether a page in the order of keys has as many rows as were asked for, unless there are no more."""
    rules: Rules = field(default_factory=Rules)
    """What it refuses in values."""


def _indexes(fields: Iterable[DataType], types: str) -> dict[DataType, frozenset[str]]:
    return dict.fromkeys(fields, frozenset(types.split()))


_LITE_3 = Capabilities(
    types=frozenset(_SCALARS | _NEW | {_T.FLOAT_VECTOR, _T.SPARSE_FLOAT_VECTOR}),
    nullable=True,
    auto_id_varchar=False,
    tells_description=False,
    tells_layout=False,
    loads_partitions=False,
    tells_array_max_length=False,
    counts_characters=True,
    rewrites_json=True,
    functions=frozenset({"BM25"}),
    analyzers=frozenset({"standard", "jieba", "stop", "lowercase"}),
    drops_params=frozenset({"mmap.enabled"}),
    tells_ids=False,
    timestamps=False,
    index_types={
        **_indexes(_NUMBERS | {_T.BOOL, _T.VARCHAR, _T.TIMESTAMPTZ}, "INVERTED"),
        **_indexes({_T.FLOAT_VECTOR}, "AUTOINDEX FLAT BRUTE_FORCE HNSW HNSW_SQ IVF_FLAT IVF_SQ8"),
        **_indexes({_T.SPARSE_FLOAT_VECTOR}, "AUTOINDEX SPARSE_INVERTED_INDEX"),
    },
    autoindexed=frozenset({_T.FLOAT_VECTOR}),
    autoindex_takes_params=True,
    scalar_index="INVERTED",
    insert_replaces=True,
    upsert_looks_in_partition_only=True,
    counts_unloaded=True,
    writers=1,
    settling=0.0,
    request_bytes=128 * _MIB,
    window=100_000,
    short_page_is_last=True,
    rules=Rules(
        finite_vectors=False,
        no_json_scalars=True,
        sparse_non_negative=True,
        sparse_non_empty=True,
        simple_geometry=True,
    ),
)
_2_3 = Capabilities(
    types=frozenset(_SCALARS | {_T.FLOAT_VECTOR, _T.BINARY_VECTOR}),
    max_vector_fields=1,
    index_types={
        **_indexes(_NUMBERS, "STL_SORT"),
        **_indexes({_T.VARCHAR}, "Trie"),
        **_indexes(
            {_T.FLOAT_VECTOR},
            "AUTOINDEX FLAT IVF_FLAT IVF_SQ8 IVF_PQ HNSW SCANN DISKANN GPU_IVF_FLAT GPU_IVF_PQ",
        ),
        **_indexes({_T.BINARY_VECTOR}, "AUTOINDEX BIN_FLAT BIN_IVF_FLAT"),
    },
    index_needs={
        "HNSW": frozenset({"M", "efConstruction"}),
        "IVF_FLAT": frozenset({"nlist"}),
        "IVF_SQ8": frozenset({"nlist"}),
        "IVF_PQ": frozenset({"nlist", "m"}),
        "SCANN": frozenset({"nlist"}),
        "GPU_IVF_FLAT": frozenset({"nlist"}),
        "GPU_IVF_PQ": frozenset({"nlist", "m"}),
        "BIN_IVF_FLAT": frozenset({"nlist"}),
    },
    autoindexed=frozenset({_T.FLOAT_VECTOR}),
    scalar_index=None,
    upsert_looks_in_partition_only=True,
    rules=Rules(json_objects_only=True),
)
_2_4 = replace(
    _2_3,
    types=_2_3.types | _HALVES | {_T.SPARSE_FLOAT_VECTOR},
    max_vector_fields=4,
    default=False,
    rules=Rules(),
    clustering_key=True,
    index_types=None,
    index_needs={},
    autoindexed=None,
    scalar_index="AUTOINDEX",
)
_2_5 = replace(
    _2_4,
    nullable=True,
    default=True,
    upsert_looks_in_partition_only=False,
    functions=frozenset({"BM25"}),
    analyzers=None,
)
_2_6 = replace(_2_5, types=_2_5.types | _NEW | {_T.INT8_VECTOR}, max_vector_fields=10)
# The C++ core of Milvus 2.5 behind gRPC: a query of a field with a default crashes it, one of a partition
# key fails.
_LITE_2 = replace(
    _2_5,
    nullable=False,
    default=False,
    partition_key=False,
    partitions=False,
    loads_partitions=False,
    aliases=False,
    properties=False,
    tells_functions=False,
    index_types={
        **_indexes(_NUMBERS | {_T.BOOL}, "INVERTED"),
        **_indexes({_T.VARCHAR}, "INVERTED Trie"),
        **_indexes({_T.FLOAT_VECTOR}, "AUTOINDEX FLAT IVF_FLAT"),
        **_indexes({_T.BINARY_VECTOR}, "AUTOINDEX BIN_FLAT"),
        **_indexes(_HALVES, "AUTOINDEX FLAT"),
        **_indexes({_T.SPARSE_FLOAT_VECTOR}, "AUTOINDEX SPARSE_INVERTED_INDEX SPARSE_WAND"),
    },
    autoindexed=frozenset({_T.FLOAT_VECTOR}),
    scalar_index="INVERTED",
    tells_layout=False,
    timestamps=False,
    newline_literals=False,
    writers=1,
)
_VERSIONS = {(2, 3): _2_3, (2, 4): _2_4, (2, 5): _2_5, (2, 6): _2_6}


@dataclass(frozen=True, slots=True)
class Server:
    """What answers at the other end."""

    kind: str
    version: str
    holds: Capabilities

    def __str__(self) -> str:
        """Render as people write it: ``Milvus 2.3.5``."""
        return f"{self.kind} {self.version}".strip()


def server_of(answer: str | None) -> Server:
    """Read a server's answer to the question for its version; None where it does not know the question."""
    if answer is None:
        return Server(OLD_LITE, "", _LITE_2)
    if answer.startswith("milvus_lite-"):
        return Server(LITE, answer.removeprefix("milvus_lite-"), _LITE_3)
    numbers = re.match(r"v?((\d+)\.(\d+)[.\d]*)", answer)
    if numbers is None:
        return Server(MILVUS, answer, _VERSIONS[max(_VERSIONS)])
    version = (int(numbers[2]), int(numbers[3]))
    known = max((v for v in _VERSIONS if v <= version), default=min(_VERSIONS))
    return Server(MILVUS, numbers[1], _VERSIONS[known])
