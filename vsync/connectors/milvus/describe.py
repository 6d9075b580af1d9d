"""Between vsync's collections and Milvus's messages: what to create, and what a server says it holds."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from vsync import times
from vsync.connectors.milvus.client import pairs
from vsync.connectors.milvus.codec import NUMBERS
from vsync.connectors.milvus.wire import common_pb2, milvus_pb2, schema_pb2
from vsync.schema import DEFAULT_PARTITION, Collection, DataType, Field, Function, Index

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vsync.connectors.milvus.capabilities import Capabilities

LITE_ID = "vsync.id"
"""A property that vsync gives collections where the server has no ids: it tells a collection made again."""

_TYPES = {number: kind for kind, number in NUMBERS.items()}
_DEFAULTS = {
    DataType.BOOL: "bool_data",
    DataType.INT8: "int_data",
    DataType.INT16: "int_data",
    DataType.INT32: "int_data",
    DataType.INT64: "long_data",
    DataType.FLOAT: "float_data",
    DataType.DOUBLE: "double_data",
    DataType.VARCHAR: "string_data",
    DataType.GEOMETRY: "string_data",
    DataType.TIMESTAMPTZ: "string_data",
}
AUTOINDEX = "AUTOINDEX"
_INDEXES = {
    DataType.BINARY_VECTOR: "BIN_FLAT",
    DataType.FLOAT16_VECTOR: "FLAT",
    DataType.BFLOAT16_VECTOR: "FLAT",
    DataType.SPARSE_FLOAT_VECTOR: "SPARSE_INVERTED_INDEX",
}
_METRICS = {DataType.BINARY_VECTOR: "HAMMING", DataType.SPARSE_FLOAT_VECTOR: "IP"}
_COMPUTED_METRIC = "BM25"
_SIZES = ("dim", "max_length", "max_capacity")
# What servers add to the parameters of an index, beside those that were given.
_NO_INDEX_PARAMS = {
    "index_type",
    "metric_type",
    "params",
    "search_params",
    "dim",
    "max_length",
    "mmap.enabled",
    "index_name",
}


def schema_message(desired: Collection, holds: Capabilities) -> Any:
    """Make the schema that a collection is created with."""
    description = (desired.description or "") if holds.tells_description else ""
    message = schema_pb2.CollectionSchema(
        name=desired.name,
        description=description,
        enable_dynamic_field=bool(desired.dynamic),
        autoID=desired.primary.auto_id,
    )
    message.fields.extend(_field_message(field, holds) for field in desired.fields)
    message.functions.extend(
        schema_pb2.FunctionSchema(
            name=function.name,
            type=schema_pb2.FunctionType.Value(function.type),
            input_field_names=function.inputs,
            output_field_names=function.outputs,
            params=pairs(dict(function.params)),
        )
        for function in desired.functions
    )
    return message


def _field_message(field: Field, holds: Capabilities) -> Any:
    sizes = {key: str(size) for key in _SIZES if (size := getattr(field, key)) is not None}
    message = schema_pb2.FieldSchema(
        name=field.name,
        description=(field.description or "") if holds.tells_description else "",
        data_type=NUMBERS[field.type],
        element_type=NUMBERS[field.element] if field.element else 0,
        is_primary_key=field.primary,
        autoID=field.auto_id,
        nullable=field.nullable,
        is_partition_key=field.partition_key,
        is_clustering_key=field.clustering_key,
        is_function_output=bool(field.computed),
        type_params=pairs(sizes | dict(field.params or ())),
    )
    if field.default is not None:
        # A default of another kind than the field's kills Milvus 2.3: only these are written.
        setattr(message.default_value, _DEFAULTS[field.type], field.default)
    return message


def read_collection(answer: Any, holds: Capabilities, partitions: Iterable[str], indexes: Iterable[Any]) -> Collection:
    """Read what a server says of a collection; None in an attribute means that this server does not tell."""
    fields = tuple(_read_field(f, holds) for f in answer.schema.fields if _is_known(f))
    by_key = any(f.partition_key for f in fields)
    level = common_pb2.ConsistencyLevel.Name(answer.consistency_level).lower()
    properties = {p.key: p.value for p in answer.properties if p.key != LITE_ID}
    layout = holds.tells_layout
    return Collection(
        name=answer.schema.name,  # Milvus Lite 2 says it nowhere else
        fields=fields,
        dynamic=answer.schema.enable_dynamic_field,
        description=answer.schema.description if holds.tells_description else None,
        shards=answer.shards_num if layout else None,
        consistency=level if layout else None,
        num_partitions=answer.num_partitions if layout and by_key else None,
        properties=tuple(sorted(properties.items())),
        partitions=None if by_key else tuple(sorted(set(partitions) - {DEFAULT_PARTITION})),
        indexes=tuple(sorted(map(read_index, indexes), key=lambda index: index.field)),
        functions=tuple(map(_read_function, answer.schema.functions)),
    )


def unread(answer: Any) -> tuple[tuple[str, str], ...]:
    """Name the fields that vsync has no words for: what :func:`read_collection` leaves out."""
    return tuple(_unread(answer.schema))


def _unread(schema: Any) -> Iterator[tuple[str, str]]:
    for field in schema.fields:
        if not (field.is_dynamic or _is_known(field)):
            of = f" of {_word(field.element_type)}" if field.element_type else ""
            yield field.name, f"a field of Milvus's type {_word(field.data_type)}{of}"
    for field in schema.struct_array_fields:
        yield field.name, f"an array of structs of {', '.join(f.name for f in field.fields)}"


def _word(kind: int) -> str:
    return schema_pb2.DataType.Name(kind) if kind in schema_pb2.DataType.values() else f"number {kind}"


def _is_known(message: Any) -> bool:
    element = message.element_type if message.data_type == NUMBERS[DataType.ARRAY] else NUMBERS[DataType.BOOL]
    return not message.is_dynamic and message.data_type in _TYPES and element in _TYPES


def _read_function(message: Any) -> Function:
    known = message.type in schema_pb2.FunctionType.values()
    return Function(
        name=message.name,
        type=schema_pb2.FunctionType.Name(message.type) if known else str(message.type),
        inputs=tuple(message.input_field_names),
        outputs=tuple(message.output_field_names),
        params=tuple(sorted((p.key, p.value) for p in message.params)),
    )


def _read_field(message: Any, holds: Capabilities) -> Field:
    kind, sizes = _TYPES[message.data_type], {p.key: p.value for p in message.type_params}
    slot = message.default_value.WhichOneof("data")
    default = getattr(message.default_value, slot) if slot else None
    if kind is DataType.FLOAT and default is not None:
        default = float(str(np.float32(default)))  # 1.1, as it was written, and not 1.10000002384
    if kind is DataType.TIMESTAMPTZ and default is not None:
        default = times.text_of(default if isinstance(default, int) else times.micros_of(default))
    params = tuple(sorted((key, _compact(value)) for key, value in sizes.items() if key not in _SIZES))
    text = DataType.VARCHAR in {kind, _TYPES.get(message.element_type)}
    return Field(
        name=message.name,
        type=kind,
        primary=message.is_primary_key,
        auto_id=message.autoID,
        dim=_number(sizes.get("dim")),
        max_length=_number(sizes.get("max_length")),
        element=_TYPES.get(message.element_type) if kind is DataType.ARRAY else None,
        max_capacity=_number(sizes.get("max_capacity")),
        nullable=message.nullable,
        default=default,
        partition_key=message.is_partition_key,
        clustering_key=message.is_clustering_key,
        description=message.description if holds.tells_description else None,
        in_characters=True if text and holds.counts_characters else None,
        computed=message.is_function_output or None,
        params=params or None,
    )


def _compact(text: str) -> str:
    """Write JSON in one way: servers give an analyzer back with other blanks."""
    try:
        return json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=False)
    except ValueError:
        return text


def _number(text: str | None) -> int | None:
    return int(text) if text else None


def read_index(message: Any) -> Index:
    """Read what a server says of an index: parameters as JSON, as pairs, or both."""
    given = {p.key: p.value for p in message.params}
    params = {key: value for key, value in given.items() if key not in _NO_INDEX_PARAMS}
    params.update({key: _text(value) for key, value in json.loads(given.get("params") or "{}").items()})
    kind, metric = given.get("index_type") or None, given.get("metric_type") or None
    if metric in {"NONE", "none"}:
        metric = None
    return Index(message.field_name, kind, metric.upper() if metric else None, tuple(sorted(params.items())))


def identity(answer: Any, holds: Capabilities) -> str:
    """Give what differs when a collection is dropped and made again; empty where nothing does."""
    if holds.tells_ids:
        return str(answer.collectionID)
    return next((p.value for p in answer.properties if p.key == LITE_ID), "")


def index_request(collection: str, field: Field, index: Index, holds: Capabilities) -> Any:
    """Make the request for an index; a type and a metric that are not declared are chosen."""
    known = (holds.index_types or {}).get(field.type, ())
    spelled = next((kind for kind in known if index.type and kind.upper() == index.type.upper()), index.type)
    given: dict[str, str | None] = {"index_type": spelled}
    if field.type.is_vector:
        auto = holds.autoindexed is None or field.type in holds.autoindexed
        if index.type in {None, AUTOINDEX}:
            given["index_type"] = AUTOINDEX if auto else _INDEXES[field.type]
        given["metric_type"] = index.metric or (
            _COMPUTED_METRIC if field.computed else _METRICS.get(field.type, "COSINE")
        )
    elif index.type is None:
        given["index_type"] = holds.scalar_index
    if index.params:
        given["params"] = json.dumps({key: _value(value) for key, value in index.params})
    return milvus_pb2.CreateIndexRequest(
        collection_name=collection,
        field_name=field.name,
        index_name=field.name,
        extra_params=pairs({key: value for key, value in given.items() if value is not None}),
    )


def same_index(desired: Index, live: Index) -> bool:
    """Tell whether a live index is what is desired, in what both say; AUTOINDEX leaves the type open."""
    wanted = (desired.type or AUTOINDEX).upper()
    if wanted != AUTOINDEX and live.type is not None and wanted != live.type.upper():
        return False
    if desired.metric is not None and live.metric is not None and desired.metric.upper() != live.metric:
        return False
    told = dict(live.params)
    return all(told.get(key, value) == value for key, value in desired.params)


def losses(desired: Collection, live: Collection, holds: Capabilities) -> list[str]:
    """Name what a server did not keep of what it was told to create."""
    found = [
        f"{name} is {got!r}, not {wanted!r}"
        for name in ("dynamic", "description", "shards", "consistency", "num_partitions")
        if _differ(wanted := getattr(desired, name), got := getattr(live, name))
    ]
    kept = dict(live.properties or ())
    found += [
        f"the property {key} is {kept.get(key)!r}, not {value!r}"
        for key, value in desired.properties or ()
        if kept.get(key) != value
    ]
    if holds.tells_functions:
        found += [f"the function {f.name} is not there" for f in desired.functions if f not in live.functions]
    for field in desired.fields:
        got_field = live.field(field.name)
        if got_field is None:
            found.append(f"the field {field.name} is not there")
        else:
            found += [f"the field {field.name}: {what}" for what in _field_losses(field, got_field, holds)]
    return found


def _field_losses(wanted: Field, live: Field, holds: Capabilities) -> list[str]:
    untold = set() if wanted.element is None or holds.tells_array_max_length else {"max_length"}
    return [
        f"{name} is {got!r}, not {value!r}"
        for name in (f.name for f in dataclasses.fields(Field))
        if name not in untold
        and _differ(value := getattr(wanted, name), got := getattr(live, name), told=name != "description")
    ]


def _differ(wanted: Any, got: Any, *, told: bool = False) -> bool:
    """Compare what both sides say; ``told``: where the server says nothing, it did not keep it."""
    if wanted is None or (got is None and not told):
        return False
    return bool(wanted != got)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _value(text: str) -> Any:
    """Read a parameter as the JSON value it stands for: servers refuse numbers in quotes."""
    try:
        return json.loads(text)
    except ValueError:
        return text
