"""What a spec itself says of a collection, in the words of the schema."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vsync.schema import DEFAULT_PARTITION, Collection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vsync.planning.wanted import DataItem
    from vsync.spec import CollectionSpec


def declare(name: str, wish: CollectionSpec, items: Sequence[DataItem]) -> Collection:
    """Say what the spec says; of the data only which partitions it goes into."""
    return Collection(
        name=name,
        fields=tuple(f.to_field(n) for n, f in (wish.fields or {}).items()),
        dynamic=wish.dynamic,
        description=wish.description,
        shards=wish.shards,
        consistency=wish.consistency,
        num_partitions=wish.num_partitions,
        properties=tuple(sorted(wish.properties.items())) if wish.properties is not None else None,
        partitions=_partitions(wish, items),
        indexes=tuple(i.to_index(n) for n, i in wish.indexes.items()) if wish.indexes is not None else None,
        aliases=tuple(wish.aliases) if wish.aliases is not None else None,
    )


def says_partitions(wish: CollectionSpec) -> bool:
    """Tell whether the spec names partitions, and not only sources do that have some."""
    return wish.partitions is not None or any(d.into_one for d in wish.data)


def _partitions(wish: CollectionSpec, items: Sequence[DataItem]) -> tuple[str, ...] | None:
    """Give the declared partitions, and those that data goes into."""
    into = [d.into_one for d in wish.data if wish.partitions is None]
    into += [item.partition for item in items if not item.spec.into_one]
    goes = [name for name in into if name and name != DEFAULT_PARTITION]
    return tuple(dict.fromkeys([*(wish.partitions or ()), *goes])) or (None if wish.partitions is None else ())
