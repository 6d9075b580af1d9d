"""What a new collection takes over from the one that its rows come from, where the spec does not say otherwise."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vsync.connectors.base import Loss
from vsync.rows import DynamicKey, FromColumn, WithKeys, origin_columns
from vsync.schema import DYNAMIC_FIELD, Collection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from collections.abc import Collection as Container

    from vsync.connectors.base import Description
    from vsync.rows import Origin
    from vsync.schema import Field, Function, LiveCollection

    Nearest = Callable[[Collection, Container[str]], tuple[Collection, list[Loss]]]
    """:meth:`vsync.connectors.base.Target.nearest` of the target."""

KEYS_KEPT = "the keys that its server made are kept, as plain keys: new rows bring their own"
AGES_ANEW = "its rows live so long from the copy on: their age is not copied"
TTL = "collection.ttl.seconds"
ATTRIBUTES = frozenset(Collection.__dataclass_fields__)


def as_it_is(desired: Collection, fixed: Container[str]) -> tuple[Collection, list[Loss]]:  # noqa: ARG001
    """Change nothing: what there is of a target's judgement where there is no target."""
    return desired, []


def take_over(
    declared: Collection,
    live: LiveCollection,
    said: Mapping[str, Origin],
    nearest: Nearest,
    rekey: Callable[[Field], Field],
) -> tuple[Collection, list[Loss]]:
    """Complete a new collection by its source, as far as the target holds it; ``said`` is the map of its data.

    Fields that the map names otherwise have their new name, in indexes too. Where the source is split by a partition
    key, so is the new one. ``rekey`` says what becomes of the key field.
    """
    source = live.schema
    moved = _moved(source, said)
    fields = declared.fields or tuple(rekey(_renamed(f, said)) for f in source.fields if f.name not in moved)
    names = {f.name for f in fields}
    indexes = tuple(replace(i, field=_new_name(i.field, said)) for i in source.indexes or ())
    by_key = any(f.partition_key for f in fields)
    whole = replace(
        declared,
        fields=fields,
        functions=() if declared.fields else tuple(_function(f, said) for f in source.functions),
        dynamic=source.dynamic if declared.dynamic is None else declared.dynamic,
        description=declared.description or source.description or None,
        shards=declared.shards or source.shards,
        consistency=declared.consistency or source.consistency,
        num_partitions=declared.num_partitions or (source.num_partitions if by_key else None),
        properties=source.properties or None if declared.properties is None else declared.properties,
        indexes=(tuple(i for i in indexes if i.field in names) or None)
        if declared.indexes is None
        else declared.indexes,
        aliases=source.aliases if declared.aliases is None else declared.aliases,
    )
    fixed = {"partitions", *(a for a in ATTRIBUTES if getattr(declared, a) not in {None, ()})}
    fixed |= {a for a in ("indexes", "aliases", "properties") if getattr(declared, a) is not None}
    found, losses = nearest(whole, fixed)
    return found, [*losses, *_not_taken(declared, found, source, said)]


def _not_taken(
    declared: Collection, found: Collection, source: Collection, said: Mapping[str, Origin]
) -> Iterator[Loss]:
    """Name what the new collection is not, of its source, on every target."""
    address = f"collection.{found.name}"
    key = next((f for f in found.fields if f.primary), None)
    if key is not None and source.primary.auto_id and not key.auto_id:
        yield Loss("converted", f"{address}.field.{key.name}", KEYS_KEPT)
    if source.dynamic and not found.dynamic and FromColumn(DYNAMIC_FIELD) not in said.values():
        others = "other " if any(isinstance(o, DynamicKey) for o in said.values()) else ""
        what = f"the {others}values of the dynamic field are not copied: the spec says dynamic: false"
        yield Loss("lost", f"{address}.field.{DYNAMIC_FIELD}", what, harmful=True)
    if declared.properties is None and TTL in dict(found.properties or ()):
        yield Loss("converted", address, f"{TTL}: {AGES_ANEW}")


def unplaced(
    name: str, sources: Sequence[tuple[Description, Container[str]]], why: str, *, begin: int = 0
) -> Iterator[Loss]:
    """Name the fields of sources that are not copied, and why not; with each goes what is copied of it, or was told of.

    The sources before ``begin`` are those that the collection's schema comes from.
    """
    for at, (description, placed) in enumerate(sources):
        if description.collection is None:
            continue
        for field, what in description.collection.unread:
            yield Loss("lost", f"collection.{name}.field.{field}", f"it is left out: it is {what}", harmful=True)
        for column in description.columns if at >= begin else ():
            if column.name not in placed:
                what = f"that of {description.locator} is not copied: {why}"
                yield Loss("lost", f"collection.{name}.field.{column.name}", what, harmful=True)


def _moved(source: Collection, said: Mapping[str, Origin]) -> set[str]:
    """Name the fields that the map puts into the dynamic field, and into no field: they are none any more."""
    meta = said.get(DYNAMIC_FIELD)
    inside = set(origin_columns(meta)) if isinstance(meta, WithKeys) else set()
    kept = {column for name, o in said.items() if name != DYNAMIC_FIELD for column in origin_columns(o)}
    kept |= {source.primary.name, *(name for f in source.functions for name in f.inputs)}
    return inside - kept - said.keys()


def _renamed(f: Field, said: Mapping[str, Origin]) -> Field:
    """Give a field its new name. Keys that a server made are the data's own from here on."""
    return replace(f, name=_new_name(f.name, said), auto_id=False)


def _function(f: Function, said: Mapping[str, Origin]) -> Function:
    names = (tuple(_new_name(n, said) for n in fields) for fields in (f.inputs, f.outputs))
    return replace(f, inputs=next(names), outputs=next(names))


def _new_name(old: str, said: Mapping[str, Origin]) -> str:
    if old in said:
        return old
    return next((new for new, origin in said.items() if origin == FromColumn(old)), old)
