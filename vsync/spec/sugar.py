"""Short forms made long, as nodes: what was written keeps its place, so that every problem can point at it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic_core import PydanticCustomError

from vsync.connectors.registry import FILE_KINDS, STORE_KINDS, kind_of
from vsync.schema import DYNAMIC_FIELD
from vsync.spec import values
from vsync.spec.nodes import BAD, Mark, Node, Report
from vsync.spec.sugar_milvus import MilvusSugar

if TYPE_CHECKING:
    from collections.abc import Callable

_CONVERTERS: dict[type, Callable[[Any], Any]] = {
    bool: values.truth,
    int: values.whole,
    float: values.number,
    str: values.text,
}


def lengthen(root: Node, report: Report) -> Node:
    """Write a whole spec in its long form."""
    return _Sugar(report).spec(root)


class _Sugar:
    """One method for each part that has a short form; each takes a node and gives one."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.connections: dict[str, Node] = {}
        self.milvus = MilvusSugar(report, self.connections)

    def spec(self, root: Node) -> Node:
        if not isinstance(root.value, dict):
            hint = "begin with version: 1, target: and collections:"
            return replace(root, value=self.report.add(root.mark, "a spec is a mapping", hint))
        parts = dict(root.value)
        parts = self.each(parts, "connections", lambda node: self.each_item(node, self.connection))
        found = parts.get("connections", Node(None)).value
        self.connections = found if isinstance(found, dict) else {}
        self.milvus = MilvusSugar(self.report, self.connections)
        parts = self.each(parts, "target", self.target)
        parts = self.copies(parts)
        parts = self.each(parts, "collections", lambda node: self.each_item(node, self.collection))
        return self.no_nothing(replace(root, value=parts))

    def copies(self, parts: dict[str, Node]) -> dict[str, Node]:
        """Lengthen the items of ``copy:``; beside it ``collections:`` need not be written."""
        if "copies" in parts:
            self.report.add(parts["copies"].at, "unknown key 'copies' in a spec", "did you mean copy?")
            parts = {key: node for key, node in parts.items() if key != "copies"}
            return {"collections": Node(BAD), **parts}
        if "copy" not in parts:
            return parts
        written = parts["copy"]
        if isinstance(written.value, list):
            parts = {**parts, "copy": self.each_item(written, self.milvus.copy)}
        return {"collections": replace(written, value={}), **parts}

    def wrong(self, node: Node, mark: Mark, what: str, hint: str) -> Node:
        """Report a problem, and put nothing in the place of what is wrong."""
        return replace(node, value=self.report.add(mark, what, hint))

    @staticmethod
    def each(parts: dict[str, Node], key: str, change: Callable[[Node], Node]) -> dict[str, Node]:
        """Change what stands under a key, where it is there."""
        return {k: change(node) if k == key else node for k, node in parts.items()}

    @staticmethod
    def each_item(node: Node, change: Callable[[Node], Node]) -> Node:
        """Change every item of a mapping or list."""
        if isinstance(node.value, dict):
            return replace(node, value={k: change(child) for k, child in node.value.items()})
        if isinstance(node.value, list):
            return replace(node, value=[change(child) for child in node.value])
        return node

    def connection(self, node: Node) -> Node:
        """Lengthen ``URI`` to ``{uri: URI}``."""
        return replace(node, value={"uri": node}) if isinstance(node.value, str) else node

    def target(self, node: Node) -> Node:
        """Lengthen ``URI``, ``{milvus: NAME}`` and ``{milvus: URI}`` to ``{milvus: {uri: ...}}``."""
        if isinstance(node.value, str):
            if node.value in self.connections:
                what = f"a target in one word is an address, and {values.show(node.value)} is a connection"
                return self.wrong(node, node.mark, what, f"write target: {{milvus: {node.value}}}")
            return replace(node, value={"milvus": self.connection(node)})
        if not isinstance(node.value, dict):
            return node
        store = next((kind for kind in STORE_KINDS if kind in node.value), None)
        if store is not None:
            return self.store(node, store)
        if "name" in node.value:
            self.report.add(node.value["name"].at, "unknown key 'name'", "write target: {milvus: NAME}")
        if "uri" in node.value and "milvus" not in node.value:
            hint = "write target: {milvus: {uri: ...}}"
            return self.wrong(node, node.value["uri"].at, "a target's first key is its kind", hint)
        where = node.value.get("milvus", Node(BAD))
        return self.named_target(node, where) if isinstance(where.value, str) else node

    def store(self, node: Node, kind: str) -> Node:
        """Lengthen ``{KIND: PATH}`` and ``{KIND: {path: PATH, ...}}`` to what the model of a store holds."""
        others = [key for key in node.value if key != kind]
        if others:
            what = f"a target has one key, its kind: there is {kind} already"
            return self.wrong(node, node.value[others[0]].at, what, f"remove {others[0]}:, or {kind}:")
        inner = node.value[kind]
        if not isinstance(inner.value, dict):
            return replace(node, value={"kind": Node(kind, inner.at), "path": inner})
        options = dict(inner.value)
        path = options.pop("path", None)
        if path is None:
            return self.wrong(node, inner.at, "'path' is missing", f"write {{{kind}: {{path: PATH}}}}")
        known, fitting = STORE_KINDS[kind].options, dict[str, Node]()
        for key, written in options.items():
            if key not in known:
                hint = values.one_of(key, ["path", *known])
                self.report.add(written.at, f"unknown key '{key}' in a target of kind {kind}", hint)
            elif written.value in known[key] or (not known[key] and isinstance(written.value, str)):
                fitting[key] = written
            elif written.value is not BAD:
                hint = values.one_of(written.value, known[key]) if known[key] else "write a name"
                self.report.add(written.mark, f"{values.show(written.value)} is not known here", hint)
        return replace(
            node, value={"kind": Node(kind, inner.at), "path": path, "options": replace(node, value=fitting)}
        )

    def named_target(self, node: Node, where: Node) -> Node:
        """Find what ``{milvus: TEXT}`` means: the connection of that name, else an address."""
        parts = {key: child for key, child in node.value.items() if key != "name"}
        found = self.milvus.connection(where)
        if found is None:
            return replace(node, value=BAD)
        named = {"name": found["name"]} if "name" in found else {}
        return replace(node, value={**parts, "milvus": found["at"], **named})

    def collection(self, node: Node) -> Node:
        """Lengthen ``from: X`` to ``data: [{from: X}]``, and what else has a short form."""
        if node.value is None:
            return replace(node, value={})
        if not isinstance(node.value, dict):
            return node
        parts = dict(node.value)
        if "from" in parts:
            source = parts.pop("from")
            if "data" in parts:
                self.report.add(source.at, "from: and data: say the same thing twice", "move from: into data:")
            else:
                item = replace(source, value={"from": source})
                parts["data"] = replace(source, value=[item], mark=source.at)
        parts = self.each(parts, "partitions", self.partitions)
        parts = self.each(parts, "indexes", lambda n: self.each_item(n, self.empty))
        parts = self.each(parts, "data", lambda n: self.each_item(n, self.data) if isinstance(n.value, list) else n)
        return replace(node, value=parts)

    def partitions(self, node: Node) -> Node:
        """Lengthen ``[a, b]`` to ``{a: {}, b: {}}``."""
        if not isinstance(node.value, list):
            return self.each_item(node, self.empty)
        named: dict[str, Node] = {}
        for child in node.value:
            if isinstance(child.value, str):
                if child.value in named:
                    self.report.add(child.mark, f"the partition {values.show(child.value)} is written twice")
                named[str(child.value)] = replace(child, value={}, key=child.mark)
            elif child.value is not BAD:
                hint = "write [a, b], or {a: {}, b: {}}"
                self.report.add(
                    child.mark, f"this must be the name of a partition, not {values.show(child.value)}", hint
                )
        return replace(node, value=named)

    @staticmethod
    def empty(node: Node) -> Node:
        """Lengthen nothing to ``{}``."""
        return replace(node, value={}) if node.value is None else node

    def data(self, node: Node) -> Node:
        if not isinstance(node.value, dict):
            return node
        parts = dict(node.value)
        if "source" in parts:
            self.report.add(parts["source"].at, "unknown key 'source'", "did you mean from?")
            parts.setdefault("from", Node(BAD))
            del parts["source"]
        parts = self.each(parts, "from", self.source)
        parts = self.each(parts, "map", self.mapping)
        return replace(node, value=parts)

    def source(self, node: Node) -> Node:
        """Lengthen ``PATH`` and ``{KIND: PATH}`` to what :class:`vsync.spec.models.FileSource` holds."""
        if isinstance(node.value, str):
            kind = kind_of(node.value)
            if kind is not None:
                return self.file(node, Node(kind, node.mark), node, {})
            known = ", ".join(s for k in FILE_KINDS.values() for s in k.suffixes)
            hint = f"write {{KIND: PATH}} with one of {', '.join(FILE_KINDS)} (known endings: {known})"
            what = f"the kind of {values.show(node.value)} cannot be told from its ending"
            return self.wrong(node, node.mark, what, hint)
        if not isinstance(node.value, dict):
            return node
        if len(node.value) != 1:
            hint = f"write {{KIND: PATH}} with one of {', '.join(FILE_KINDS)}, or {{milvus: ...}}, {{backup: ...}}"
            return self.wrong(node, node.at, "a source has one key, its kind", hint)
        return self.source_of_kind(node, *next(iter(node.value.items())))

    def source_of_kind(self, node: Node, kind: str, inner: Node) -> Node:
        """Lengthen what is written under a kind."""
        if kind == "milvus":
            return self.milvus.source(inner)
        if kind == "backup":
            return self.milvus.backup(inner, "collection")
        if kind not in FILE_KINDS:
            hint = values.one_of(kind, ["milvus", "backup", *FILE_KINDS])
            return self.wrong(node, inner.at, f"'{kind}' is not a kind of source", hint)
        options = dict(inner.value) if isinstance(inner.value, dict) else {"path": inner}
        path = options.pop("path", None)
        if path is None:
            return self.wrong(node, inner.at, "'path' is missing", f"write {{{kind}: {{path: PATH}}}}")
        for key in FILE_KINDS[kind].required:
            if key not in options:
                hint = f"write {{{kind}: {{path: PATH, {key}: {key.upper()}}}}}"
                return self.wrong(node, inner.at, f"'{key}' is missing", hint)
        return self.file(node, Node(kind, inner.at), path, options)

    def file(self, node: Node, kind: Node, path: Node, options: dict[str, Node]) -> Node:
        """Put a source together, its options looked at."""
        fitting = {
            key: option
            for key, written in options.items()
            if (option := self.option(str(kind.value), key, written)) is not None
        }
        return replace(node, value={"kind": kind, "path": path, "options": replace(node, value=fitting)})

    def option(self, kind: str, key: str, node: Node) -> Node | None:
        """Convert an option to the type that its kind wants; ``None`` where there is no such option."""
        known = FILE_KINDS[kind].options
        if key not in known:
            hint = values.one_of(key, ["path", *known])
            self.report.add(node.at, f"unknown key '{key}' in a source of kind {kind}", hint)
            return None
        try:
            if known[key] is list:
                return self.texts(node)
            return replace(node, value=_CONVERTERS[known[key]](node.value))
        except PydanticCustomError as error:
            if error.context:
                self.report.add(node.mark, error.context["what"], error.context["hint"])
            return None

    @staticmethod
    def texts(node: Node) -> Node:
        """Take a list of text, or one text for a list of it; raises what a validator raises."""
        items = node.value if isinstance(node.value, list) else [replace(node, key=None)]
        return replace(node, value=[replace(item, value=values.some_text(item.value)) for item in items])

    def mapping(self, node: Node) -> Node:
        """Lengthen a map: what stands under ``$meta`` may have keys of its own."""
        if not isinstance(node.value, dict):
            return self.each_item(node, self.map_from)
        return replace(
            node,
            value={
                name: self.keys(child) if name == DYNAMIC_FIELD else self.map_from(child)
                for name, child in node.value.items()
            },
        )

    def keys(self, node: Node) -> Node:
        """Lengthen ``{KEY: COLUMN}`` to ``{keys: {KEY: {column: ...}}}``."""
        if not isinstance(node.value, dict) or set(node.value) == {"const"}:
            return self.map_from(node)
        if not node.value:
            return self.wrong(node, node.mark, "no key of the dynamic field is written here", "write {KEY: COLUMN}")
        return replace(node, value={"keys": self.each_item(node, self.map_from)})

    def map_from(self, node: Node) -> Node:
        """Lengthen ``COLUMN``, ``$row`` and ``$meta.KEY`` to ``{column: ...}``, ``{row: true}`` and ``{key: ...}``."""
        if isinstance(node.value, str):
            return self.map_word(node, node.value)
        if node.value is BAD or (isinstance(node.value, dict) and set(node.value) == {"const"}):
            return node
        hint = "write a column's name, $row, $meta.KEY, or {const: VALUE}"
        what = f"this must say where the field's values are, and {self.shown(node)} does not"
        return self.wrong(node, node.mark, what, hint)

    def map_word(self, node: Node, word: str) -> Node:
        if word == "$row":
            return replace(node, value={"row": replace(node, value=True)})
        key = word.removeprefix(f"{DYNAMIC_FIELD}.")
        if key not in {word, ""}:
            return replace(node, value={"key": replace(node, value=key)})
        if word.startswith("$") and word != DYNAMIC_FIELD:
            hint = "the words with $ are $row, the number of the row, and $meta.KEY, of the dynamic field"
            return self.wrong(node, node.mark, f"{values.show(word)} is not known here", hint)
        return replace(node, value={"column": node})

    @staticmethod
    def shown(node: Node) -> str:
        return {dict: "this mapping", list: "a list", type(None): "nothing"}.get(
            type(node.value), values.show(node.value)
        )

    def no_nothing(self, node: Node) -> Node:
        """Refuse keys with nothing after them, wherever nothing has no meaning."""
        if node.value is None:
            hint = "write a value, or remove the key"
            return self.wrong(node, node.at, "there is nothing written here", hint)
        if isinstance(node.value, dict) and set(node.value) == {"const"}:
            return node
        return self.each_item(node, self.no_nothing)
