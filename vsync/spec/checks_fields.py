"""What can be wrong with the fields and indexes of a collection, by Milvus's own rules for every server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vsync.schema import KEY_TYPES, MAX_DIM, METRICS, NO_ELEMENTS, DataType
from vsync.spec.values import one_of, show

if TYPE_CHECKING:
    from vsync.spec.bind import Path
    from vsync.spec.checks import Checks
    from vsync.spec.models import CollectionSpec, FieldSpec, IndexSpec

_T = DataType
_DIMLESS = {_T.SPARSE_FLOAT_VECTOR}
_DENSE = {kind for kind in DataType if kind.is_vector} - _DIMLESS
_NO_ELEMENT = {kind for kind in DataType if kind.is_vector} | NO_ELEMENTS
_SORTABLE = {_T.INT8, _T.INT16, _T.INT32, _T.INT64, _T.FLOAT, _T.DOUBLE, _T.VARCHAR}
_ALL_METRICS = tuple(dict.fromkeys(metric for metrics in METRICS.values() for metric in metrics))


def check_fields(checks: Checks, path: Path, collection: CollectionSpec) -> None:
    """Report what is wrong with the fields of a collection, one by one and taken together."""
    if collection.fields is None:
        return
    at = (*path, "fields")
    for name, field in collection.fields.items():
        _check_sizes(checks, (*at, name), name, field)
        _check_roles(checks, (*at, name), name, field)
    primary = [name for name, field in collection.fields.items() if field.primary]
    if not primary and checks.names(*at):
        hint = "give one field of type int64 or varchar primary: true"
        checks.problem(at, "no field is the primary key", hint, key=True)
    _check_one(checks, at, collection.fields, "primary", "primary key")
    _check_one(checks, at, collection.fields, "partition_key", "partition key")
    _check_one(checks, at, collection.fields, "clustering_key", "clustering key")
    spread = [name for name, field in collection.fields.items() if field.partition_key]
    if spread and collection.partitions:
        what = f"a collection with the partition key '{spread[0]}' has no partitions of its own"
        checks.problem((*path, "partitions"), what, "remove partitions:, or partition_key:")
    if collection.num_partitions is not None and not spread:
        hint = "give a field partition_key: true, or remove it"
        checks.problem((*path, "num_partitions"), "num_partitions is of a collection with a partition key", hint)


def _check_one(checks: Checks, path: Path, fields: dict[str, FieldSpec], role: str, what: str) -> None:
    names = [name for name, field in fields.items() if getattr(field, role)]
    for name in names[1:]:
        message = f"'{name}' is a second {what}, and '{names[0]}' is one already"
        checks.problem((*path, name, role), message, "one field of a collection can be it")


def _check_sizes(checks: Checks, path: Path, name: str, field: FieldSpec) -> None:
    """Check dim, max_length, element and max_capacity against the type."""
    holds = field.element if field.type is _T.ARRAY else field.type
    wants = {
        "dim": field.type in _DENSE,
        "element": field.type is _T.ARRAY,
        "max_capacity": field.type is _T.ARRAY,
        "max_length": holds is _T.VARCHAR,
    }
    examples = {"dim": 768, "element": "int64", "max_capacity": 100, "max_length": 256}
    for key, wanted in wants.items():
        said = getattr(field, key) is not None
        if wanted and not said and not checks.wrong.about((*path, key)):
            checks.problem(path, f"'{name}' has no {key}", f"write {key}: {examples[key]}, or what it is", key=True)
        elif said and not wanted:
            checks.problem((*path, key), f"a field of type {field.type} has no {key}", "remove it")
    if field.dim is not None and field.type is _T.BINARY_VECTOR and field.dim % 8:
        hint = f"it counts bits: write {-(-field.dim // 8) * 8}"
        checks.problem((*path, "dim"), f"the dim of a binary vector is a multiple of 8, and {field.dim} is not", hint)
    elif field.dim is not None and field.type in _DENSE - {_T.BINARY_VECTOR} and field.dim > MAX_DIM:
        checks.problem((*path, "dim"), f"{field.dim} does not fit here", f"it must be at most {MAX_DIM}")
    if field.type is _T.ARRAY and field.element in _NO_ELEMENT:
        allowed = ", ".join(str(kind) for kind in DataType if kind not in _NO_ELEMENT)
        checks.problem((*path, "element"), f"an array cannot hold {field.element}", f"it holds one of {allowed}")


def _check_roles(checks: Checks, path: Path, name: str, field: FieldSpec) -> None:
    """Check what a field is to its collection against its type."""
    if field.primary:
        if field.type not in KEY_TYPES:
            what = f"'{name}' cannot be the primary key: it is {field.type}"
            checks.problem((*path, "type"), what, "a key is int64 or varchar")
        if field.nullable:
            checks.problem((*path, "nullable"), "a primary key is never null", "remove nullable:")
        if field.default is not None:
            checks.problem((*path, "default"), "a primary key has no default", "remove default:")
        if field.partition_key:
            what = "a primary key is not the partition key too"
            checks.problem((*path, "partition_key"), what, "give it to another field")
    elif field.auto_id:
        hint = "give the field primary: true, or remove auto_id:"
        checks.problem((*path, "auto_id"), "auto_id is of the primary key", hint)
    if field.partition_key and not field.primary and field.type not in KEY_TYPES:
        what = f"'{name}' cannot be the partition key: it is {field.type}"
        checks.problem((*path, "partition_key"), what, "a partition key is int64 or varchar")
    if field.clustering_key and field.type not in _SORTABLE:
        what = f"'{name}' cannot be the clustering key: it is {field.type}"
        checks.problem((*path, "clustering_key"), what, "a clustering key is a number or varchar")


def check_index(checks: Checks, path: Path, index: IndexSpec, field: FieldSpec | None) -> None:
    """Report what is wrong with an index on a field; ``None`` where the field is not declared."""
    for key, instead in (("index_type", "type"), ("metric_type", "metric")):
        if key in index.params:
            hint = f"write {instead}: beside params:"
            checks.problem((*path, "params", key), f"{key} is not a parameter", hint, key=True)
    if not index.type:
        checks.problem((*path, "type"), "the type is empty", "write AUTOINDEX, HNSW, ...")
    if index.metric is None:
        return
    if field is not None and not field.type.is_vector:
        checks.problem((*path, "metric"), f"an index on a field of type {field.type} has no metric", "remove it")
        return
    known = _ALL_METRICS if field is None else METRICS[field.type]
    if index.metric not in known:
        what = f"{show(index.metric)} is not a metric" + (f" of {field.type}" if field else "")
        checks.problem((*path, "metric"), what, one_of(index.metric, known))
