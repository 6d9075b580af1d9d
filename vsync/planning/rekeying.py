"""What the policy of collisions makes of keys: each with a prefix that says where it is from, or new ones.

All keys of a collection get their prefix, not only those that collide: so each row has the same key in every plan.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from vsync.errors import Problem
from vsync.planning.steps import Fidelity
from vsync.rows import FromColumn, Mapped
from vsync.schema import MAX_LENGTH, DataType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vsync.planning.wanted import DataItem, WantedData
    from vsync.schema import Collection, Field
    from vsync.spec import CollectionSpec, Spec

NEW_KEYS = "the server makes new keys: an apply writes a file that says which became which"


def rekey_of(wish: CollectionSpec, items: Sequence[DataItem]) -> Callable[[Field], Field]:
    """Say what becomes of the key field of a collection that is made like its data."""
    if wish.on_collision == "renumber":
        return _made_by_the_server
    prefixes = [item.spec.prefix or "" for item in items] if wish.on_collision == "prefix" else []
    return partial(_longer, by=max(map(len, prefixes), default=0))


def _made_by_the_server(f: Field) -> Field:
    return replace(f, auto_id=True) if f.primary else f


def _longer(f: Field, by: int) -> Field:
    grows = f.primary and f.max_length is not None
    return replace(f, max_length=min(MAX_LENGTH, (f.max_length or 0) + by)) if grows else f


def with_prefix(wish: CollectionSpec, item: DataItem, mapping: Sequence[Mapped]) -> tuple[Mapped, ...]:
    """Put the item's prefix before the keys that the mapping makes, where the policy says so."""
    prefix = item.spec.prefix if wish.on_collision == "prefix" else None
    return tuple(
        replace(m, origin=replace(m.origin, prefix=prefix))
        if prefix and m.field.primary and isinstance(m.origin, FromColumn)
        else m
        for m in mapping
    )


def told(name: str, collection: Collection, data: Sequence[WantedData]) -> Iterator[Fidelity]:
    """Name the keys that do not stay as they are."""
    address = f"collection.{name}.field.{collection.primary.name}"
    for d in data:
        origin = next((m.origin for m in d.mapping if m.field.primary), None)
        if isinstance(origin, FromColumn) and origin.prefix:
            yield Fidelity("converted", address, f"{origin.prefix} is put before each key")
        elif d.old_key is not None:
            yield Fidelity("converted", address, NEW_KEYS)


def problems(spec: Spec, name: str, collection: Collection, data: Sequence[WantedData]) -> Iterator[Problem]:
    """Find what keys do not allow: the policy, where the spec itself does not declare them, and mirroring."""
    key, policy, writes = collection.primary, spec.collections[name].on_collision, spec.collections[name].writes
    if key.auto_id and data and "mirror" in writes:
        what = f"{name} is to be mirrored, and its keys are made by the server (auto_id): no plan could compare them"
        yield Problem(what, spec.where("collections", name, "write"), "keep the data's own keys, or write overwrite")
    where = spec.where("collections", name, "on_collision")
    if policy == "renumber" and not key.auto_id:
        what = f"nothing makes new keys: {key.name} of {name} is not auto_id"
        yield Problem(what, where, "give the collection that is made another name, or write prefix, first or last")
    if policy != "prefix":
        return
    if key.auto_id:
        what = f"the server makes the keys in {key.name} of {name} (auto_id): there is nothing to put a prefix before"
        yield Problem(what, where, "write renumber")
    elif key.type is not DataType.VARCHAR:
        what = f"a prefix is put before varchar keys, and {key.name} of {name} is {key.type}"
        hint = "declare fields: with a varchar key, which takes numbers as digits; or write renumber, first or last"
        yield Problem(what, where, hint)
    else:
        for d in data:
            yield from _of_item(spec, name, key, d)


def _of_item(spec: Spec, name: str, key: Field, d: WantedData) -> Iterator[Problem]:
    prefix, origin = d.item.spec.prefix or "", next((m.origin for m in d.mapping if m.field.primary), None)
    at = spec.where("collections", name, "data", d.item.index)
    if origin is not None and not isinstance(origin, FromColumn):
        yield Problem("a prefix is put before keys that come from a column", at, f"map one to {key.name}")
    if key.max_length is not None and len(prefix) >= key.max_length:
        what = f"the prefix {prefix} leaves no room for a key: {key.name} of {name} takes {key.max_length} bytes"
        yield Problem(what, at, "give the item a shorter name:, or the field a larger max_length")
