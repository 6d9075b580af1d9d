"""What of a desired collection a server cannot hold, named before anything is created."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vsync.errors import Problem
from vsync.schema import (
    INTEGER_BITS,
    KEY_TYPES,
    MAX_CAPACITY,
    MAX_DIM,
    MAX_LENGTH,
    METRICS,
    NAME,
    NO_ELEMENTS,
    Collection,
    DataType,
    Field,
    Index,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vsync.connectors.milvus.capabilities import Capabilities, Server

MAX_FIELDS, MAX_SHARDS, MAX_PARTITIONS = 64, 16, 1_024
_BYTE = 8
_RESERVED = {"$meta", "rowid", "timestamp", "_seq", "_partition", "iso", "interval"}
_NO_DEFAULT = {DataType.JSON, DataType.ARRAY}


def conflicts(desired: Collection, server: Server) -> list[Problem]:
    """Name everything this server cannot hold; ``where`` is the address of the part it is about."""
    address, holds = f"collection.{desired.name}", server.holds
    found = [Problem(what, address, hint) for what, hint in _of_collection(desired, holds, server)]
    for field in desired.fields:
        where = f"{address}.field.{field.name}"
        found += [Problem(what, where, hint) for what, hint in _of_field(field, holds, server)]
    found += _of_names(desired, server)
    for partition in desired.partitions or ():
        found += [Problem(what, f"{address}.partition.{partition}", None) for what in _of_name(partition)]
    for alias in desired.aliases or ():
        found += [Problem(what, f"alias.{alias}", None) for what in _of_name(alias)]
    for index in desired.indexes or ():
        where = f"{address}.index.{index.field}"
        found += [Problem(what, where, hint) for what, hint in _of_index(desired, index, holds, server)]
    return found


def _of_names(desired: Collection, server: Server) -> Iterator[Problem]:
    """Name the partitions and aliases of a server that has none."""
    if not server.holds.partitions:
        for partition in desired.partitions or ():
            yield Problem(f"{server} has no partitions", f"collection.{desired.name}.partition.{partition}", None)
    if not server.holds.aliases:
        for alias in desired.aliases or ():
            yield Problem(f"{server} has no aliases", f"alias.{alias}", None)


def _of_name(name: str) -> Iterator[str]:
    if not NAME.match(name):
        yield f"{name!r} is no name for Milvus: letters, digits and _, not a digit first, at most 255"


def _of_collection(desired: Collection, holds: Capabilities, server: Server) -> Iterator[tuple[str, str | None]]:
    for what in _of_name(desired.name):
        yield what, None
    vectors = [f for f in desired.fields if f.type.is_vector]
    if len(vectors) > holds.max_vector_fields:
        names = ", ".join(f.name for f in vectors)
        most = "one vector field" if holds.max_vector_fields == 1 else f"{holds.max_vector_fields} vector fields"
        hint = "leave some out: declare fields:, or map: the columns that are wanted; or write to a newer server"
        yield f"{server} holds {most} in a collection, not {len(vectors)}: {names}", hint
    if not vectors:
        yield "a collection needs a vector field", "map one, or declare one in `fields`"
    if len(desired.fields) > MAX_FIELDS:
        yield f"{len(desired.fields)} fields are more than Milvus holds ({MAX_FIELDS})", None
    if sum(f.primary for f in desired.fields) != 1:
        yield "a collection has exactly one primary key", "write `primary: true` at one field"
    partition_keys = [f.name for f in desired.fields if f.partition_key]
    if len(partition_keys) > 1:
        yield f"a collection has one partition key at most: {', '.join(partition_keys)}", None
    if partition_keys and desired.partitions:
        yield "a collection with a partition key makes its partitions itself", "leave `partitions` out"
    if desired.num_partitions is not None and not partition_keys:
        yield "num_partitions is for collections with a partition key", "leave it out"
    if not 1 <= (desired.num_partitions or 1) <= MAX_PARTITIONS:
        yield f"num_partitions is 1 to {MAX_PARTITIONS}, not {desired.num_partitions}", None
    if desired.properties and not holds.properties:
        yield f"{server} keeps no properties", "leave `properties` out"
    if not 1 <= (desired.shards or 1) <= MAX_SHARDS:
        yield f"shards are 1 to {MAX_SHARDS}, not {desired.shards}", None


def _of_field(field: Field, holds: Capabilities, server: Server) -> Iterator[tuple[str, str | None]]:
    for what in _of_name(field.name):
        yield what, None
    if field.name.lower() in _RESERVED:
        yield f"{field.name} is a name that servers use themselves", "name it otherwise"
    if field.type not in holds.types:
        yield f"{server} does not hold {field.type}", None
    if field.nullable and (field.primary or field.partition_key or field.type.is_vector):
        yield "keys and vectors cannot be nullable", None
    elif field.nullable and not holds.nullable:
        yield (
            f"{server} does not hold nullable fields",
            "declare it without nullable (a row without a value then does not fit), or write to a newer server",
        )
    if field.default is not None:
        if field.primary or field.type.is_vector or field.type in _NO_DEFAULT:
            yield f"a {'primary key' if field.primary else field.type} cannot have a default", None
        elif not holds.default:
            yield f"{server} does not hold defaults", "leave default out, or write to a newer server"
        elif not default_fits(field):
            yield f"the default {field.default!r} is no {field.type}", None
    if field.clustering_key and not holds.clustering_key:
        yield f"{server} does not hold clustering keys", "leave clustering_key out"
    yield from _of_keys(field, holds, server)
    yield from _of_sizes(field)


def _of_keys(field: Field, holds: Capabilities, server: Server) -> Iterator[tuple[str, str | None]]:
    if field.primary and field.type not in KEY_TYPES:
        yield f"a primary key is int64 or varchar, not {field.type}", None
    if field.auto_id and not field.primary:
        yield "auto_id is for the primary key", None
    if field.auto_id and field.type is DataType.VARCHAR and not holds.auto_id_varchar:
        yield f"{server} makes keys for int64 only", "declare the key as int64"
    if field.partition_key and not holds.partition_key:
        yield f"{server} cannot query collections with a partition key", None
    if field.partition_key and (field.primary or field.type not in KEY_TYPES):
        yield "a partition key is an int64 or varchar field that is not the primary key", None


def _of_sizes(field: Field) -> Iterator[tuple[str, str | None]]:
    if field.type.is_vector and field.type is not DataType.SPARSE_FLOAT_VECTOR:
        if field.dim is None or not 1 <= field.dim <= MAX_DIM:
            yield f"dim is 1 to {MAX_DIM}, not {field.dim}", None
        elif field.type is DataType.BINARY_VECTOR and field.dim % _BYTE:
            yield f"dim of a binary vector counts bits: a multiple of 8, not {field.dim}", None
    text = DataType.VARCHAR in {field.type, field.element}
    if text and (field.max_length is None or not 1 <= field.max_length <= MAX_LENGTH):
        yield f"max_length is 1 to {MAX_LENGTH}, not {field.max_length}", None
    if field.type is DataType.ARRAY:
        element = field.element
        if element is None or element.is_vector or element in NO_ELEMENTS:
            yield f"an array holds numbers, bools or varchars, not {element}", None
        if field.max_capacity is None or not 1 <= field.max_capacity <= MAX_CAPACITY:
            yield f"max_capacity is 1 to {MAX_CAPACITY}, not {field.max_capacity}", None


def default_fits(field: Field) -> bool:
    """Tell whether its default is one that its type can have."""
    value = field.default
    if field.primary or field.type.is_vector or field.type in _NO_DEFAULT:
        return False
    if field.type is DataType.BOOL:
        return isinstance(value, bool)
    if field.type in INTEGER_BITS:
        half = 1 << (INTEGER_BITS[field.type] - 1)
        return isinstance(value, int) and not isinstance(value, bool) and -half <= value < half
    if field.type is DataType.VARCHAR:
        return isinstance(value, str) and len(value.encode()) <= (field.max_length or MAX_LENGTH)
    if field.type in {DataType.GEOMETRY, DataType.TIMESTAMPTZ}:
        return isinstance(value, str)
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _of_index(
    desired: Collection, index: Index, holds: Capabilities, server: Server
) -> Iterator[tuple[str, str | None]]:
    field = desired.field(index.field)
    if field is None:
        yield f"there is no field {index.field}", None
        return
    types = None if holds.index_types is None else holds.index_types.get(field.type, frozenset())
    if types is not None and not types:
        yield f"{server} has no index for {field.type}", "leave it out"
    elif types is not None and index.type is not None and index.type.upper() not in map(str.upper, types):
        yield f"{server} has no index {index.type} for {field.type}", f"one of {', '.join(sorted(types))}"
    if index.type == "AUTOINDEX" and index.params and not holds.autoindex_takes_params:
        yield "AUTOINDEX takes no params", "leave them out, or name the type of index"
    if not field.type.is_vector:
        if index.metric is not None:
            yield f"an index of {field.type} has no metric", "leave it out"
        return
    metrics = METRICS[field.type]
    if index.metric is not None and index.metric not in metrics:
        yield f"{field.type} is not measured by {index.metric}", f"one of {', '.join(metrics)}"
