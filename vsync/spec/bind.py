"""Long-form nodes into models, with every mistake of shape told in plain words at its place.

A part that is wrong is reported, taken out, and the rest is looked at again: one mistake hides no other.
"""

from __future__ import annotations

from difflib import get_close_matches
from functools import reduce
from operator import getitem
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from vsync.connectors.registry import STORE_KINDS
from vsync.spec import models, sources, targets
from vsync.spec.document import Places, Spec, Step
from vsync.spec.nodes import BAD, Mark, Node, Report
from vsync.spec.secret import Secret
from vsync.spec.values import REPORTED, WRONG, show

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Path = tuple[Step, ...]

_MISSING = "missing"
_UNKNOWN = "extra_forbidden"
_ROUNDS = 1000
_TAGS = {
    "[key]",
    sources.FILE_TAG,
    sources.MILVUS_TAG,
    sources.BACKUP_TAG,
    targets.MILVUS_TARGET_TAG,
    targets.STORE_TAG,
}

# What takes the place of a part that must be there, so that the rest can be looked at.
_STAND_INS: dict[str, Any] = {
    "version": 1,
    "target": {"milvus": {"uri": "stand-in.db"}},
    "collections": {},
    "data": {"from": {"kind": "", "path": "stand-in", "options": {}}},
    "aliases": "_",
    "copy": {"from": {"kind": "milvus", "at": {"uri": "stand-in.db"}}},
    "allow": "*",
    "deny": "_",
}

_EXAMPLES = {
    "version": "begin the spec with version: 1",
    "target": "write target: ./NAME.db, or target: http://HOST:19530",
    "collections": "write collections: {NAME: {from: PATH}}",
    "type": "write type: with one of int64, varchar, float_vector, ...",
    "uri": "write uri: http://HOST:19530",
    "milvus": "write target: {milvus: NAME}",
    "from": "write from: PATH",
    "at": "write at: NAME of a connection, or at: http://HOST:19530",
    "collection": "write collection: NAME",
    "repo": "write repo: PATH of the repository",
}
_LISTS: dict[Step, str] = {
    "data": "begin each item of data with: - from: PATH",
    "copy": "begin each item of copy with: - from: {milvus: {at: NAME}}",
}
_FROM_MANY = "write from: {milvus: {at: NAME, collections: [NAME, ...]}}"


class Wrong:
    """The paths of what was reported: nothing that follows from them is reported again."""

    def __init__(self) -> None:
        self.paths: set[Path] = set()

    def about(self, path: Path) -> bool:
        """Tell whether a path, or something above or below it, was wrong."""
        return any(path[: len(p)] == p or p[: len(path)] == path for p in self.paths)


def bind(root: Node, places: Places, report: Report) -> tuple[Spec | None, Wrong]:
    """Make a spec of nodes; what is wrong is left out of it, or stood in for.

    ``None`` where nothing can be made of them.
    """
    wrong = Wrong()
    data = plain(root)
    for _ in range(_ROUNDS if isinstance(data, dict) else 0):
        try:
            return Spec.model_validate(data), wrong
        except ValidationError as error:
            details = error.errors(include_url=False)
        paths = [tuple(step for step in detail["loc"] if step not in _TAGS) for detail in details]
        meant = {(*path[:-1], _close(path)) for d, path in zip(details, paths, strict=True) if d["type"] == _UNKNOWN}
        if ("copy",) in meant:
            meant.add(("collections",))
        for detail, path in zip(details, paths, strict=True):
            if not wrong.about(path) and not (detail["type"] == _MISSING and path in meant):
                _tell(detail, path, places, report)
        wrong.paths.update(paths)
        for path in paths:
            _take_out(data, path)
    return None, wrong


def plain(node: Node) -> Any:
    """Take the places off: what pydantic gets."""
    if isinstance(node.value, dict):
        return {key: plain(child) for key, child in node.value.items()}
    if isinstance(node.value, list):
        return [plain(child) for child in node.value]
    return node.value


def _take_out(data: Any, path: Path) -> None:
    """Remove what stands at a path, or stand in for it; of what is missing, remove what it is missing in."""
    try:
        holder = reduce(getitem, path[:-1], data)
    except (KeyError, IndexError, TypeError):
        return
    step = path[-1]
    if isinstance(holder, list) and isinstance(step, int):
        holder[step] = _STAND_INS.get(str(path[-2]), "")
    elif isinstance(holder, dict) and step in holder:
        del holder[step]
        if len(path) == 1 and step in _STAND_INS:
            holder[step] = _STAND_INS[str(step)]
    elif len(path) == 1:
        holder[step] = _STAND_INS[str(step)]
    elif len(path) > 1:
        _take_out(data, path[:-1])


def _tell(detail: ErrorDetails, path: Path, places: Places, report: Report) -> None:
    """Report one of pydantic's errors in our words."""
    found, kind, context = detail["input"], detail["type"], detail.get("ctx", {})
    if kind == REPORTED or found is BAD:
        return
    mark = places.mark(path)
    if kind == WRONG:
        report.add(mark, context["what"], context["hint"])
    elif kind == _MISSING:
        hint = _FROM_MANY if path[:1] == ("copy",) and path[2:] == ("from",) else _EXAMPLES.get(str(path[-1]))
        report.add(_key_of(places, path[:-1]), f"'{path[-1]}' is missing", hint)
    elif kind == _UNKNOWN:
        report.add(_key_of(places, path), *_unknown(path))
    elif kind in {"greater_than_equal", "less_than_equal"}:
        side, bound = ("least", context.get("ge")) if kind.startswith("g") else ("most", context.get("le"))
        report.add(mark, f"{show(found)} does not fit here", f"it must be at {side} {bound}")
    elif kind == "too_short":
        report.add(mark, "this list is empty", "write one item or more")
    else:
        wanted, hint = _wanted(kind, path)
        report.add(mark, f"this must be {wanted}, not {_unsaid(found, path)}", hint)


def _key_of(places: Places, path: Path) -> Mark:
    node = places.node(path)
    return node.at if node else places.mark(path)


def _unsaid(found: Any, path: Path) -> str:
    return "what it is" if "token" in path else show(found)


def _wanted(kind: str, path: Path) -> tuple[str, str | None]:
    if kind == "list_type":
        return "a list", _LISTS.get(path[-1], "write [a, b]")
    if kind == "string_type":
        return "text", None
    if kind == "dict_type":
        return "a mapping", "write {NAME: ...}"
    if path[-1] == "from":
        return "a path or {KIND: PATH}", _EXAMPLES["from"]
    return "a mapping", _EXAMPLES.get(str(path[-1])) or f"{_model_of(path)[0]} is written as {{key: value}}"


# The shape of a path (empty: any step), what stands there in words, and its model.
_SHAPES: tuple[tuple[Path, str, type[BaseModel]], ...] = (
    (("connections", ""), "a connection", sources.Connection),
    (("connections", "", "token"), "a token", Secret),
    (("target",), "a target", targets.MilvusTarget),
    (("target", "milvus"), "a connection", sources.Connection),
    (("target", "milvus", "token"), "a token", Secret),
    (("defaults",), "defaults", models.Defaults),
    (("collections", ""), "a collection", models.CollectionSpec),
    (("collections", "", "fields", ""), "a field", models.FieldSpec),
    (("collections", "", "partitions", ""), "a partition", models.PartitionSpec),
    (("collections", "", "indexes", ""), "an index", models.IndexSpec),
    (("collections", "", "data", ""), "an item of data", models.DataSpec),
    (("collections", "", "data", "", "from"), "a source of kind milvus", sources.MilvusSource),
    (("collections", "", "data", "", "from", "at"), "a connection", sources.Connection),
    (("collections", "", "data", "", "from", "at", "token"), "a token", Secret),
    (("collections", "", "data", "", "from", "partitions"), "a choice of names", sources.Names),
    (("copy", ""), "a copy", models.CopySpec),
    (("copy", "", "from"), "a source of kind milvus", sources.MilvusCollections),
    (("copy", "", "from", "at"), "a connection", sources.Connection),
    (("copy", "", "from", "at", "token"), "a token", Secret),
    (("copy", "", "from", "collections"), "a choice of names", sources.Names),
    (("copy", "", "from", "partitions"), "a choice of names", sources.Names),
)
# Keys of models that nobody writes.
_UNWRITTEN: dict[type[BaseModel], set[str]] = {
    targets.MilvusTarget: {"name"},
    sources.MilvusSource: {"kind", "name"},
    sources.MilvusCollections: {"kind", "name"},
}


# Keys of short forms, which are gone once they were made long.
_SHORT: dict[type[BaseModel], tuple[str, ...]] = {
    targets.MilvusTarget: tuple(STORE_KINDS),
    models.CollectionSpec: ("from",),
    sources.MilvusSource: ("uri", "token", "database"),
    sources.MilvusCollections: ("uri", "token", "database"),
}


def _model_of(path: Path) -> tuple[str, type[BaseModel]]:
    """Find the model of what stands at a path, and its name for people."""
    for shape, name, model in _SHAPES:
        if len(shape) == len(path) and all(s in {"", p} for s, p in zip(shape, path, strict=True)):
            return name, model
    return "a spec", Spec


def _known(model: type[BaseModel]) -> list[str]:
    """List the keys of a model as they are written."""
    names = [info.alias or name for name, info in model.model_fields.items()]
    return [*(name for name in names if name not in _UNWRITTEN.get(model, ())), *_SHORT.get(model, ())]


def _close(path: Path) -> str | None:
    """Find the key that an unknown one was probably meant to be."""
    close = get_close_matches(str(path[-1]), _known(_model_of(path[:-1])[1]), 1)
    return close[0] if close else None


def _unknown(path: Path) -> tuple[str, str]:
    """Say that a key is not known, and which one was meant or where it belongs."""
    key = str(path[-1])
    name, model = _model_of(path[:-1])
    what = f"unknown key '{key}' in {name}"
    if close := _close(path):
        return what, f"did you mean {close}?"
    hint = f"it knows {', '.join(_known(model))}"
    places = (
        path[:-1][:2],
        (*path[:2], "fields", ""),
        (*path[:2], "indexes", ""),
        (*path[:2], "data", 0),
        ("collections", ""),
    )
    for other, other_model in map(_model_of, places):
        if other_model is not model and key in _known(other_model):
            return what, f"it belongs to {other}"
    return what, hint
