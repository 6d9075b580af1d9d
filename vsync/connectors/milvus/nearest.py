"""What is nearest, on a server, to a collection of another one; and what does not stay as it is there."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vsync.connectors.base import Loss
from vsync.connectors.milvus.conflicts import default_fits
from vsync.connectors.milvus.describe import AUTOINDEX
from vsync.schema import DYNAMIC_FIELD, MAX_LENGTH, METRICS, DataType

if TYPE_CHECKING:
    from collections.abc import Collection as Container
    from collections.abc import Iterator

    from vsync.connectors.milvus.capabilities import Server
    from vsync.schema import Collection, Field, Function, Index

BYTES_OF_A_CHARACTER = 4
_ANALYZES = ("enable_analyzer", "enable_match", "analyzer_params", "multi_analyzer_params")


def nearest(desired: Collection, server: Server, fixed: Container[str]) -> tuple[Collection, list[Loss]]:
    """Change what this server does not hold, but for the attributes in ``fixed``; name all that it does not keep."""
    ledger = _Ledger(desired.name, server)
    if "fields" not in fixed:
        desired = _with_fields(desired, ledger)
    if "dynamic" not in fixed and desired.dynamic:
        ledger.rewritten(DYNAMIC_FIELD)
    if "indexes" not in fixed and desired.indexes:
        kept = (_index(index, desired.field(index.field), ledger) for index in desired.indexes)
        desired = replace(desired, indexes=tuple(i for i in kept if i is not None) or None)
    holds = server.holds
    if "properties" not in fixed and desired.properties and not holds.properties:
        ledger.lost("", f"the properties {', '.join(key for key, _ in desired.properties)} are not kept")
        desired = replace(desired, properties=None)
    if "partitions" not in fixed and desired.partitions and not holds.partitions:
        for name in desired.partitions:
            ledger.lost(f"partition.{name}", "its rows are not parted from others: there are no partitions")
        desired = replace(desired, partitions=None)
    if "aliases" not in fixed and desired.aliases and not holds.aliases:
        ledger.lines += [ledger.loss(f"alias.{name}", "there are no aliases") for name in desired.aliases]
        desired = replace(desired, aliases=None)
    if "num_partitions" not in fixed and not any(f.partition_key for f in desired.fields):
        desired = replace(desired, num_partitions=None)
    _harmless(desired, ledger)
    return desired, ledger.lines


class _Ledger:
    """The lines so far; each ends with the server that forces it."""

    def __init__(self, name: str, server: Server) -> None:
        self.address = f"collection.{name}"
        self.server = server
        self.holds = server.holds
        self.lines: list[Loss] = []

    def loss(self, address: str, what: str, *, harmful: bool = True) -> Loss:
        return Loss("lost", address, f"{what} ({self.server})", harmful=harmful)

    def lost(self, below: str, what: str, *, harmful: bool = True) -> None:
        self.lines.append(self.loss(f"{self.address}.{below}".rstrip("."), what, harmful=harmful))

    def converted(self, below: str, what: str) -> None:
        self.lines.append(Loss("converted", f"{self.address}.{below}", f"{what} ({self.server})"))

    def rewritten(self, field: str) -> None:
        """Say so where the server writes JSON anew."""
        if self.holds.rewrites_json:
            what = "JSON is written anew: the order of keys and the form of numbers may change, no value does"
            self.converted(f"field.{field}", what)


def _with_fields(desired: Collection, ledger: _Ledger) -> Collection:
    """Leave out the fields that the server has no place for, and change the others."""
    functions = tuple(f for f in desired.functions if _is_made_again(f, desired, ledger))
    made = {name: function for function in functions for name in function.outputs}
    vectors = 0
    kept: list[Field] = []
    for field in desired.fields:
        why = None
        if field.computed and field.name not in made:
            why = _no_function(field, desired, ledger)
        elif field.type not in ledger.holds.types:
            why = f"it is left out: there is no {field.type}"
        elif field.type.is_vector and vectors == ledger.holds.max_vector_fields:
            why = f"it is left out: a collection has {vectors} vector field{'s' * (vectors > 1)} at most"
        if why is not None:
            ledger.lost(f"field.{field.name}", why)
            continue
        vectors += field.type.is_vector
        if field.name in made:
            function = made[field.name]
            what = f"it is not copied: it is made again of {', '.join(function.inputs)}, by {function.type}"
            ledger.converted(f"field.{field.name}", what)
        kept.append(_field(field, ledger))
    names = {f.name for f in kept}
    functions = tuple(f for f in functions if names.issuperset((*f.inputs, *f.outputs)))
    return replace(desired, fields=tuple(kept), functions=functions)


def _is_made_again(function: Function, desired: Collection, ledger: _Ledger) -> bool:
    inputs = [desired.field(name) for name in function.inputs]
    return function.type in ledger.holds.functions and all(f and f.type in ledger.holds.types for f in inputs)


def _no_function(field: Field, desired: Collection, ledger: _Ledger) -> str:
    by = next((f for f in desired.functions if field.name in f.outputs), None)
    if by is None:
        return "it is left out: a function computes it that its server does not tell"
    known = by.type in ledger.holds.functions
    return f"it is left out: {by.type} computes it, {'whose fields are not' if known else 'which is not'} there"


def _field(field: Field, ledger: _Ledger) -> Field:
    """Change what the server does not hold of a field that it does."""
    holds, below = ledger.holds, f"field.{field.name}"
    if field.nullable and not holds.nullable:
        ledger.lost(below, "it is not nullable: rows without a value are refused")
        field = replace(field, nullable=False)
    if field.default is not None and not (holds.default and default_fits(field)):
        ledger.lost(below, f"it has no default, which is {field.default!r}")
        field = replace(field, default=None)
    if field.clustering_key and not holds.clustering_key:
        ledger.lost(below, "rows are not sorted by it: there are no clustering keys")
        field = replace(field, clustering_key=False)
    if field.partition_key and not holds.partition_key:
        ledger.lost(below, "it is no partition key: collections with one cannot be queried")
        field = replace(field, partition_key=False)
    if field.type is DataType.JSON:
        ledger.rewritten(field.name)
    return _with_params(_with_length(field, ledger), ledger)


def _with_length(field: Field, ledger: _Ledger) -> Field:
    below = f"field.{field.name}"
    if field.element is DataType.VARCHAR and field.max_length is None:
        ledger.converted(below, f"max_length is {MAX_LENGTH:,}: its server does not tell what it was")
        return replace(field, max_length=MAX_LENGTH, in_characters=None)
    if not field.in_characters or field.max_length is None or ledger.holds.counts_characters:
        return field
    length = min(field.max_length * BYTES_OF_A_CHARACTER, MAX_LENGTH)
    ledger.converted(below, f"max_length is {length:,} bytes instead of {field.max_length:,} characters")
    return replace(field, max_length=length, in_characters=None)


def _with_params(field: Field, ledger: _Ledger) -> Field:
    """Leave out analyzers that the server does not have, and what it drops."""
    holds, below, params = ledger.holds, f"field.{field.name}", dict(field.params or ())
    for key in holds.drops_params & params.keys():
        ledger.lost(below, f"{key} is not kept", harmful=False)
        del params[key]
    if holds.analyzers is not None and any(key in params for key in _ANALYZES):
        unknown = set(_analyzers(params)) - holds.analyzers
        if not holds.analyzers:
            ledger.lost(below, "texts are not analyzed: there is no full text search")
            params = {key: value for key, value in params.items() if key not in _ANALYZES}
        elif unknown:
            ledger.lost(below, f"its analyzer is the standard one: there is no {', '.join(sorted(unknown))}")
            params = {key: value for key, value in params.items() if not key.endswith("analyzer_params")}
    return replace(field, params=tuple(sorted(params.items())) or None)


def _analyzers(params: dict[str, str]) -> Iterator[str]:
    """Name the tokenizers and filters of an analyzer; what cannot be read is named as it is."""
    if "multi_analyzer_params" in params:
        yield "multi_analyzer_params"
    try:
        said = json.loads(params.get("analyzer_params") or "{}")
        parts = [said.get("tokenizer"), said.get("type"), *said.get("filter", ())]
    except (ValueError, AttributeError, TypeError):
        parts = [params.get("analyzer_params")]
    for part in parts:
        name: Any = part.get("type") if isinstance(part, dict) else part
        if name:
            yield str(name)


def _index(index: Index, field: Field | None, ledger: _Ledger) -> Index | None:
    """Find the nearest index; ``None``: none, for the field is not there, which is told, or has no indexes there."""
    if field is None:
        return None
    holds, below = ledger.holds, f"index.{index.field}"
    types = None if holds.index_types is None else holds.index_types.get(field.type, frozenset())
    if types is not None and not types:
        ledger.lost(below, f"there are no indexes of {field.type}", harmful=False)
        return None
    if index.metric is not None and index.metric not in METRICS.get(field.type, ()):
        ledger.lost(below, f"{field.type} is not measured by {index.metric}")
        index = replace(index, metric=None)
    auto = AUTOINDEX if field.type.is_vector else holds.scalar_index
    if types is not None and (index.type or AUTOINDEX).upper() not in map(str.upper, types):
        if index.type not in {None, AUTOINDEX}:
            ledger.converted(below, f"it is {auto or 'what the server chooses'}: there is no {index.type}")
        return replace(index, type=auto, params=())
    missing = holds.index_needs.get((index.type or "").upper(), frozenset()) - dict(index.params).keys()
    if missing:
        needs = f"{index.type} needs {', '.join(sorted(missing))}, which the source does not tell"
        ledger.converted(below, f"it is {AUTOINDEX}: {needs}")
        return replace(index, type=AUTOINDEX, params=())
    if index.type == AUTOINDEX and not holds.autoindex_takes_params:
        return replace(index, params=())  # what the source's server chose
    return index


def _harmless(desired: Collection, ledger: _Ledger) -> None:
    """Name what the server does not keep and what does no harm, whoever says it."""
    if not ledger.holds.tells_description:
        below = [""] * bool(desired.description)
        below += [f"field.{f.name}" for f in desired.fields if f.description]
        for where in below:
            ledger.lost(where, "its description is not kept", harmful=False)
    if not ledger.holds.tells_layout:
        for key in ("shards", "consistency", "num_partitions"):
            if getattr(desired, key) is not None:
                ledger.lost("", f"{key} is not kept", harmful=False)
