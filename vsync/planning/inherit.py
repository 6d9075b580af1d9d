"""What a new collection takes over from the one that its rows come from, where the spec does not say otherwise."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vsync.planning.steps import Fidelity
from vsync.rows import FromColumn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vsync.rows import Origin
    from vsync.schema import Collection, Field

KEYS_KEPT = "the keys that its server made are kept, as plain keys: new rows bring their own"


def take_over(declared: Collection, source: Collection, said: Mapping[str, Origin]) -> Collection:
    """Complete a new collection by its source; ``said`` is the map of its data.

    Fields that the map names otherwise have their new name, in indexes too. Where the source is split by a partition
    key, so is the new one.
    """
    fields = declared.fields or tuple(_renamed(f, said) for f in source.fields)
    by_key = any(f.partition_key for f in fields)
    return replace(
        declared,
        fields=fields,
        dynamic=source.dynamic if declared.dynamic is None else declared.dynamic,
        description=declared.description or source.description or None,
        shards=declared.shards or source.shards,
        consistency=declared.consistency or source.consistency,
        num_partitions=declared.num_partitions or (source.num_partitions if by_key else None),
        properties=source.properties or None if declared.properties is None else declared.properties,
        **_made_later(declared, fields, source, said),
    )


def finish(declared: Collection, live: Collection, source: Collection, said: Mapping[str, Origin]) -> Collection:
    """Complete one that vsync made, and has not finished, by what of its source is made after the collection itself."""
    return replace(declared, **_made_later(declared, live.fields, source, said))


def _made_later(
    declared: Collection, fields: Sequence[Field], source: Collection, said: Mapping[str, Origin]
) -> dict[str, Any]:
    names = {f.name for f in fields}
    indexes = tuple(replace(i, field=_new_name(i.field, said)) for i in source.indexes or ())
    indexes = tuple(i for i in indexes if i.field in names)
    return {
        "indexes": indexes or None if declared.indexes is None else declared.indexes,
        "aliases": source.aliases if declared.aliases is None else declared.aliases,
    }


def _renamed(f: Field, said: Mapping[str, Origin]) -> Field:
    """Give a field its new name. Keys that a server made are the data's own from here on."""
    return replace(f, name=_new_name(f.name, said), auto_id=False)


def _new_name(old: str, said: Mapping[str, Origin]) -> str:
    if old in said:
        return old
    return next((new for new, origin in said.items() if origin == FromColumn(old)), old)


def kept_keys(name: str, fields: tuple[Field, ...], source: Collection) -> list[Fidelity]:
    """Say that keys which a server made become plain ones."""
    key = next((f for f in fields if f.primary), None)
    if key is None or key.auto_id or not source.primary.auto_id:
        return []
    return [Fidelity("converted", f"collection.{name}.field.{key.name}", KEYS_KEPT)]
