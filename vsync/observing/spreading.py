"""Rows of a collection into partitions by the value of a field: a source of its own for each value, with a filter.

So each partition is a destination with chunks, a balance and a mirror of its own, and nothing else has to know of it.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pyarrow.compute as pc

from vsync.connectors.base import KeyRange
from vsync.errors import Problem, SourceError
from vsync.schema import DEFAULT_PARTITION, NAME, DataType

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from vsync.connectors.base import CollectionSource
    from vsync.observing.living import Place
    from vsync.opening import Sources
    from vsync.schema import Field
    from vsync.spec import CollectionSpec, DataSpec
    from vsync.spec.models import ByValue

MOST = 64
"""The most partitions that values are spread over: each costs a scan of the source."""
NAMED = 10


def spread(
    wish: CollectionSpec, data: DataSpec, address: str, places: Sequence[Place], sources: Sources
) -> list[Place]:
    """Part each place by the values of the field that ``into`` names; raises SourceError where that cannot be.

    A partition that the spec declares is among them also where no row has its value: a mirror empties it.
    """
    by = data.into_by
    if by is None:
        return list(places)
    return [part for place in places for part in _parted(wish, by, address, place, sources)]


def _parted(wish: CollectionSpec, by: ByValue, address: str, place: Place, sources: Sources) -> Iterator[Place]:
    with sources.look(address, place.path, place.options) as looked:
        source = cast("CollectionSource", looked)
        field = _field(by, place, source)
        values = _values(by, place, source)
    named = {by.name(value): value for value in values}
    declared = wish.partitions
    if declared is not None:
        named |= {name: v for name in declared if (v := _value_of(by, field, name)) is not None}
    _refuse(named, declared, by, place)
    for name, value in sorted(named.items()):
        chosen = f"{by.field} == {json.dumps(value)}"
        where = f"({place.options['where']}) and {chosen}" if place.options.get("where") else chosen
        yield replace(place, path=f"{place.path} {chosen}", partition=name, options={**place.options, "where": where})


def _field(by: ByValue, place: Place, source: CollectionSource) -> Field:
    """Find the field whose values make partitions; raises SourceError where it cannot."""
    described = source.describe().collection
    schema = described.schema if described else None
    found = schema.field(by.field) if schema else None
    if found is None or schema is None:
        fields = ", ".join(f.name for f in schema.fields) if schema else "none"
        raise SourceError(f"there is no field {by.field} to part rows by", where=place.path, hint=f"there are {fields}")
    if found.type is not DataType.VARCHAR and not found.type.is_integer:
        what = f"{by.field} is {found}, and partitions are made of the values of varchars and integers"
        raise SourceError(what, where=place.path, hint="choose another field")
    return found


def _values(by: ByValue, place: Place, source: CollectionSource) -> set[Any]:
    """Read which values there are; raises SourceError where there are too many, or a row has none."""
    found: set[Any] = set()
    for batch in source.reader.scan(KeyRange(), [by.field]):
        found |= set(pc.unique(batch.column(0)).to_pylist())  # not a vector: some values
        if None in found:
            hint = f"leave such rows out (where: {by.field} is not null), or mend them"
            raise SourceError(f"there are rows without {by.field}: no partition is theirs", where=place.path, hint=hint)
        if len(found) > MOST:
            what = f"{by.field} has more than {MOST} values, and each makes a partition"
            hint = "choose values with where:, or let the server spread rows: partition_key: true of the field"
            raise SourceError(what, where=place.path, hint=hint)
    return found


def _value_of(by: ByValue, field: Field, name: str) -> Any:
    """Give the value that makes a partition of this name, ``None`` where none does."""
    text = by.value(name)
    if text is None or not field.type.is_integer:
        return text
    return int(text) if text.isdecimal() and str(int(text)) == text else None


def _refuse(named: dict[str, Any], declared: Iterable[str] | None, by: ByValue, place: Place) -> None:
    problems = []
    for name, value in sorted(named.items()):
        said = f"{by.field} has the value {json.dumps(value, ensure_ascii=False)}"
        if not NAME.match(name):
            what = f"{said}, and {name!r} cannot be the name of a partition"
            hint = 'a name has letters, digits and _, and begins with no digit: write into: "p_{FIELD}", or where:'
            problems.append(Problem(what, place.path, hint))
        elif declared is not None and name not in {*declared, DEFAULT_PARTITION}:
            problems.append(
                Problem(f"{said}, and there is no partition {name}", place.path, "declare it under partitions:")
            )
    if problems:
        raise SourceError(problems[:NAMED])
