"""What can be wrong in a spec whose every part is well-formed: found without a connection or a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vsync.schema import DEFAULT_PARTITION, DYNAMIC_FIELD, NAME
from vsync.spec.checks_fields import check_fields, check_index
from vsync.spec.checks_keys import collision_problems
from vsync.spec.checks_milvus import by_value_problems, check_copies, check_reading
from vsync.spec.nodes import Node
from vsync.spec.values import one_of, show

if TYPE_CHECKING:
    from vsync.spec.bind import Path, Wrong
    from vsync.spec.document import Places, Spec, Step
    from vsync.spec.models import CollectionSpec, DataSpec
    from vsync.spec.nodes import Report

_NAME_HINT = "a name has letters, digits and _, begins with no digit, and has 255 characters at the most"


class Checks:
    """Where problems go: at the place of a path, unless something about that path was wrong already."""

    def __init__(self, places: Places, report: Report, wrong: Wrong) -> None:
        self.places = places
        self.report = report
        self.wrong = wrong

    def problem(self, path: Path, what: str, hint: str | None = None, *, key: bool = False) -> None:
        """Report at what was written for a path, or at its key."""
        if not self.wrong.about(path):
            self.sure(path, what, hint, key=key)

    def sure(self, path: Path, what: str, hint: str | None = None, *, key: bool = False) -> None:
        """Report it even if something around it was wrong: it is wrong by itself."""
        node = self.places.node(path) or Node(None)
        self.report.add(node.at if key else node.mark, what, hint)

    def names(self, *path: Step) -> list[str]:
        """Name everything that was written below a path, right or wrong, in its order."""
        node = self.places.marks.get(path)
        return list(node.value) if node is not None and isinstance(node.value, dict) else []


def check(spec: Spec, places: Places, report: Report, wrong: Wrong) -> None:
    """Report everything that is wrong with a spec."""
    checks = Checks(places, report, wrong)
    for name in checks.names("connections"):
        if not NAME.match(name.replace("-", "_")):
            checks.sure(("connections", name), f"'{name}' cannot be the name of a connection", _NAME_HINT, key=True)
    milvus = spec.target.connection
    if milvus is not None and milvus.database is not None:
        _check_name(checks, ("target", "milvus", "database"), milvus.database, "a database")
    for name, connection in spec.connections.items():
        if connection.database is not None:
            _check_name(checks, ("connections", name, "database"), connection.database, "a database")
    if ("copy",) in places.marks:
        check_copies(checks, spec)
    elif not checks.names("collections"):
        checks.problem(("collections",), "there are no collections", "write collections: {NAME: {from: PATH}}")
    for name in checks.names("collections"):
        _check_name(checks, ("collections", name), name, "a collection")
    for name, collection in spec.collections.items():
        path = ("collections", name)
        _check_parts(checks, path, collection)
        check_fields(checks, path, collection)
        _check_data(checks, path, collection)
        check_reading(checks, path, spec, collection)
        for below, what, hint in collision_problems(collection, spec.target):
            checks.problem((*path, *below), what, hint)
    _check_aliases(checks, spec)


def _check_name(checks: Checks, path: Path, name: str, what: str) -> None:
    if not NAME.match(name):
        checks.sure(path, f"{show(name)} cannot be the name of {what}", _NAME_HINT, key=path[-1] == name)


def _check_parts(checks: Checks, path: Path, collection: CollectionSpec) -> None:
    """Check names of fields and partitions, and the indexes one by one."""
    if collection.fields is not None and not checks.names(*path, "fields"):
        checks.problem((*path, "fields"), "there are no fields", "remove fields: to have them found from the data")
    for name in checks.names(*path, "fields"):
        _check_name(checks, (*path, "fields", name), name, "a field")
    for name in checks.names(*path, "partitions"):
        if name == DEFAULT_PARTITION:
            hint = "it is always there: remove it; into: _default works"
            checks.problem((*path, "partitions", name), "_default is Milvus's own partition", hint, key=True)
        _check_name(checks, (*path, "partitions", name), name, "a partition")
    for name, index in (collection.indexes or {}).items():
        at = (*path, "indexes", name)
        declared = checks.names(*path, "fields")
        if collection.fields is not None and name not in declared:
            hint = one_of(name, declared, "one of the fields")
            checks.problem(at, f"there is no field '{name}' to index", hint, key=True)
        else:
            _check_name(checks, at, name, "a field")
            check_index(checks, at, index, (collection.fields or {}).get(name))


def _check_data(checks: Checks, path: Path, collection: CollectionSpec) -> None:
    """Check where rows come from and go to."""
    taken: dict[str, int] = {}
    for number, data in enumerate(collection.data):
        at = (*path, "data", number)
        if data.name is not None:
            _check_name(checks, (*at, "name"), data.name, "an item of data")
            if data.name in taken:
                what = f"two items of data are named {show(data.name)}"
                checks.problem((*at, "name"), what, "give each a name of its own")
            taken[data.name] = number
        if data.into is not None:
            _check_into(checks, (*at, "into"), data, collection)
        _check_map(checks, (*at, "map"), list(data.map) if data.map is not None else None, collection)


def _check_into(checks: Checks, path: Path, data: DataSpec, collection: CollectionSpec) -> None:
    name, by = data.into or "", data.into_by
    keys = [key for key, field in (collection.fields or {}).items() if field.partition_key]
    if keys:
        checks.problem(path, f"rows find their partition by the partition key '{keys[0]}'", "remove into:")
    elif by is not None:
        for what, hint in by_value_problems(data, by, collection):
            checks.problem(path, what, hint)
    elif name == DEFAULT_PARTITION:
        return
    elif collection.partitions is not None:
        declared = checks.names(*path[:2], "partitions")
        if name not in declared:
            hint = one_of(name, declared, "one of the partitions") if declared else "declare it under partitions:"
            checks.problem(path, f"there is no partition {show(name)}", hint)
    else:
        _check_name(checks, path, name, "a partition")


def _check_map(checks: Checks, path: Path, names: list[str] | None, collection: CollectionSpec) -> None:
    if names is not None and not checks.names(*path):
        checks.problem(path, "this map is empty", "remove it to have columns found by their names")
    declared = checks.names(*path[:2], "fields")
    for name in names or []:
        field = (collection.fields or {}).get(name)
        if name == DYNAMIC_FIELD:
            _check_keys(checks, (*path, name), collection)
        elif collection.fields is None:
            _check_name(checks, (*path, name), name, "a field")
        elif name not in declared:
            hint = one_of(name, declared, "one of the fields")
            checks.problem((*path, name), f"there is no field '{name}' to fill", hint, key=True)
        elif field is not None and field.auto_id:
            hint = "remove it here, or remove auto_id: of the field"
            checks.problem((*path, name), f"the server makes the values of '{name}' (auto_id)", hint, key=True)


def _check_keys(checks: Checks, path: Path, collection: CollectionSpec) -> None:
    """Check what is put into the dynamic field."""
    if collection.dynamic is False:
        checks.problem(path, "there is no dynamic field to fill: the spec says dynamic: false", "remove it", key=True)
    for key in checks.names(*path, "keys"):
        if key in checks.names(*path[:2], "fields"):
            hint = "map it to the field, or give the key another name"
            what = f"'{key}' is a field, and no key of the dynamic field can have its name"
            checks.problem((*path, "keys", key), what, hint, key=True)


def _check_aliases(checks: Checks, spec: Spec) -> None:
    """Check that every alias is one, of one collection."""
    taken: dict[str, str] = {}
    for name, collection in spec.collections.items():
        for number, alias in enumerate(collection.aliases or []):
            path = ("collections", name, "aliases", number)
            if checks.wrong.about(path):
                continue
            _check_name(checks, path, alias, "an alias")
            if alias in checks.names("collections"):
                checks.problem(path, f"the alias {show(alias)} is the name of a collection", "choose another name")
            elif alias in taken:
                hint = "an alias stands for one collection: remove it in one place"
                checks.problem(path, f"{taken[alias]} has the alias {show(alias)} already", hint)
            taken[alias] = f"collection {name}"
