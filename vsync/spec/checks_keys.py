"""What can be wrong with what a collection says of keys that collide: prefixes, and new ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vsync.schema import DataType
from vsync.spec.targets import StoreTarget
from vsync.spec.values import show

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vsync.spec.bind import Path
    from vsync.spec.models import CollectionSpec, CopySpec, FieldSpec
    from vsync.spec.targets import AnyTarget

_HERE: Path = ("on_collision",)


def collision_problems(collection: CollectionSpec, target: AnyTarget) -> Iterator[tuple[Path, str, str]]:
    """Find what does not fit the policy of collisions: the path below the collection, what it is, and a hint."""
    yield from numbering_problems(collection, target)
    key = next(((n, f) for n, f in (collection.fields or {}).items() if f.primary), None)
    if collection.on_collision == "prefix":
        yield from _of_prefixes(collection)
        yield from _of_texts(*key) if key else ()
    elif collection.on_collision == "renumber" and not isinstance(target, StoreTarget) and key and not key[1].auto_id:
        what = f"nothing makes new keys: '{key[0]}' is not auto_id"
        yield _HERE, what, f"give {key[0]} auto_id: true, or write prefix, first or last"


def numbering_problems(wish: CollectionSpec | CopySpec, target: AnyTarget) -> Iterator[tuple[Path, str, str]]:
    """Find where new keys are asked of a target that makes none."""
    if wish.on_collision == "renumber" and isinstance(target, StoreTarget):
        what = f"nothing makes new keys in a target of kind {target.kind}"
        yield _HERE, what, "write prefix, first or last, or copy into a Milvus"


def _of_texts(name: str, key: FieldSpec) -> Iterator[tuple[Path, str, str]]:
    if key.auto_id:
        what = f"the server makes the keys in '{name}' (auto_id), so that there is nothing to put a prefix before"
        yield _HERE, what, "write renumber, or remove auto_id: of the field"
    elif key.type is not DataType.VARCHAR:
        what = f"a prefix is put before varchar keys, and '{name}' is {key.type}"
        yield _HERE, what, "make the key varchar, or write renumber with auto_id: true, first or last"


def _of_prefixes(collection: CollectionSpec) -> Iterator[tuple[Path, str, str]]:
    taken: set[str] = set()
    for number, data in enumerate(collection.data):
        at: Path = ("data", number, "from")
        if data.prefix is None:
            yield at, "this item has no name to put before its keys", "give it a name:, which is then part of every key"
        elif data.prefix in taken:
            what = f"two items of data would put {show(data.prefix)} before their keys"
            yield at, what, "give each a name: of its own"
        taken |= {data.prefix} if data.prefix else set()
