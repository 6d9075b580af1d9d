"""What can be wrong with a Milvus as a source, with mirroring, and with copies of many collections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vsync.schema import NAME
from vsync.spec.checks_keys import numbering_problems
from vsync.spec.sources import OneCollection
from vsync.spec.targets import StoreTarget
from vsync.spec.values import SAME_NAME, show

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vsync.spec.bind import Path
    from vsync.spec.checks import Checks
    from vsync.spec.document import Spec
    from vsync.spec.models import ByValue, CollectionSpec, DataSpec

MIRROR = "mirror"
_SCOPE_HINT = "say the same of the rows of the target with scope: of the collection, or remove where:"


def check_reading(checks: Checks, path: Path, spec: Spec, collection: CollectionSpec) -> None:
    """Check the sources of a collection that are in a Milvus, and what mirroring it needs."""
    name = str(path[1])
    for number, data in enumerate(collection.data):
        at = (*path, "data", number)
        source = data.source
        if not isinstance(source, OneCollection):
            continue
        if source.collection == name and source.is_in(spec.target.connection):
            hint = "read another one, or remove it"
            checks.problem((*at, "from"), "a collection is not copied into itself", hint)
        for field, origin in (data.map or {}).items():
            inside = [(field, "keys", key) for key, put in (origin.keys or {}).items() if put.row]
            for place in [(field,), *inside] if origin.row else inside:
                what = "the rows of a collection have no numbers"
                checks.problem((*at, "map", *place), what, "write a field of the source: its key")
    if collection.load is not None and isinstance(spec.target, StoreTarget):
        what = f"nothing is loaded in a target of kind {spec.target.kind}"
        checks.problem((*path, "load"), what, "remove load:; what is restored from it is loaded anyway")
    for number, address in enumerate(collection.accept_loss or []):
        _check_address(checks, (*path, "accept_loss", number), address, name)
    if any(copy.write == MIRROR for copy in spec.copies):
        return  # what it is in the end is known when the copies are expanded
    for below, what, hint in mirror_problems(collection):
        checks.problem((*path, *below), what, hint)


def _check_address(checks: Checks, path: Path, address: str, name: str) -> None:
    """Check that what may be lost is of this collection, or an alias."""
    ours = f"collection.{name}"
    if address != ours and not address.startswith((f"{ours}.", "alias.")):
        what = f"{show(address)} is nothing of the collection '{name}'"
        checks.problem(path, what, f"write an address such as {ours}.field.NAME")


def mirror_problems(collection: CollectionSpec) -> Iterator[tuple[Path, str, str]]:
    """Find what does not fit mirroring: the path below the collection, what it is, and a hint."""
    if MIRROR not in collection.writes:
        for key in ("scope", "max_delete"):
            if key in collection.model_fields_set:
                yield (key,), f"{key} is of write: mirror", f"write write: mirror, or remove {key}:"
        return
    for number, data in enumerate(collection.data):
        if narrowed(data) and collection.scope is None and _mirrored(collection, data.into_one):
            what = "mirror would delete the rows that this where leaves out"
            yield ("data", number, "from", "where"), what, _SCOPE_HINT


def narrowed(data: DataSpec) -> bool:
    """Tell whether an item of data leaves rows of its source out."""
    return isinstance(data.source, OneCollection) and data.source.where is not None


def _mirrored(collection: CollectionSpec, into: str | None) -> bool:
    """Tell whether rows that go into a partition (``None``: into any) can be mirrored."""
    if into is None:
        return True
    partition = (collection.partitions or {}).get(into)
    return (partition.write if partition and partition.write else collection.write) == MIRROR


def by_value_problems(data: DataSpec, by: ByValue, collection: CollectionSpec) -> Iterator[tuple[str, str]]:
    """Find what does not fit rows that find their partition by a value: what it is, and a hint."""
    if not isinstance(data.source, OneCollection):
        yield (
            "the rows of a file go into one partition",
            "name it; or load them first, and copy from there by the value",
        )
    if not NAME.match(by.name("x")):
        yield f"{show(data.into)} makes no name of a partition", "a name has letters, digits and _"
    if "upsert" in collection.writes:
        yield (
            "upsert would leave a row whose value changed in its old partition too",
            "write append, mirror or overwrite",
        )
    made = collection.writes & {MIRROR, "overwrite"}
    if made and collection.partitions is None:
        what = f"{' and '.join(sorted(made))} has to know of partitions whose value no row has any more"
        yield what, "declare them under partitions:"


def check_copies(checks: Checks, spec: Spec) -> None:
    """Check copies of many collections, as far as they can be without asking what there is."""
    if not spec.copies:
        checks.problem(("copy",), "this list is empty", "write one item or more", key=True)
    scoped = any(collection.scope is not None for collection in spec.collections.values())
    for number, copy in enumerate(spec.copies):
        path = ("copy", number)
        if not NAME.match(copy.renamed("x")):
            what = f"{show(copy.rename)} makes no name of a collection"
            checks.problem((*path, "rename"), what, "a name has letters, digits and _, and begins with no digit")
        if copy.rename == SAME_NAME and copy.source.is_in(spec.target.connection):
            hint = f'write rename: "{SAME_NAME}_copy", or copy from another database'
            checks.problem((*path, "from"), "a database is not copied into itself", hint)
        if copy.load is not None and isinstance(spec.target, StoreTarget):
            what = f"nothing is loaded in a target of kind {spec.target.kind}"
            checks.problem((*path, "load"), what, "remove load:; what is restored from it is loaded anyway")
        for below, what, hint in numbering_problems(copy, spec.target):
            checks.problem((*path, *below), what, hint)
        if copy.write != MIRROR:
            if "max_delete" in copy.model_fields_set:
                hint = "write write: mirror, or remove max_delete:"
                checks.problem((*path, "max_delete"), "max_delete is of write: mirror", hint)
        elif copy.source.where is not None and not scoped:
            what = "mirror would delete the rows that this where leaves out"
            hint = "name each collection under collections: with scope:, or remove where:"
            checks.problem((*path, "from", "where"), what, hint)
