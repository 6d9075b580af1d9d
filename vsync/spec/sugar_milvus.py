"""Short forms of what is in a Milvus or a backup: connections by name, a source, a copy of many collections."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vsync.spec import values
from vsync.spec.nodes import BAD, Node, Report

if TYPE_CHECKING:
    from collections.abc import Mapping

_OURS = ("kind", "name")
_CONNECTION = ("uri", "token", "database")
_ONE = "write {milvus: {at: NAME, collection: NAME}}"
_BACKUP = "write {backup: {repo: PATH, collection: NAME}}"
_MANY = "write from: {milvus: {at: NAME, collections: [NAME, ...]}}"


class MilvusSugar:
    """One method for each part that has a short form; each takes nodes and gives some."""

    def __init__(self, report: Report, connections: Mapping[str, Node]) -> None:
        self.report = report
        self.connections = connections

    def connection(self, where: Node) -> dict[str, Node] | None:
        """Find what ``at: TEXT`` means: the connection of that name, else an address.

        The answer has it as ``at``, and as ``name`` its name where it has one; ``None`` where it is neither.
        """
        if not isinstance(where.value, str):
            return {"at": where}
        name = str(where.value)
        if name in self.connections:
            return {"at": self.connections[name], "name": replace(where, value=name)}
        if any(c in name for c in ":/.@"):
            return {"at": replace(where, value={"uri": where})}
        hint = "write an address, or name one under connections:"
        if self.connections:
            hint = values.one_of(name, self.connections, "a connection")
        self.report.add(where.mark, f"there is no connection {values.show(where.value)}", hint)
        return None

    def source(self, inner: Node) -> Node:
        """Lengthen what is written under ``milvus:`` to what the models of a source hold."""
        if inner.value is BAD:
            return inner
        if not isinstance(inner.value, dict):
            what = f"this must be a mapping, not {values.show(inner.value)}" if inner.value is not None else ""
            return replace(inner, value=self.report.add(inner.mark, what or "there is nothing written here", _ONE))
        parts = dict(inner.value)
        for key in _OURS:
            if key in parts:
                self.report.add(parts.pop(key).at, f"unknown key '{key}' in a source of kind milvus", _ONE)
        beside = {key: parts.pop(key) for key in _CONNECTION if key in parts}
        if "at" in parts:
            for key, child in beside.items():
                hint = (
                    "remove one of them"
                    if key == "uri"
                    else f"move {key}: to the connection: at: {{uri: ..., {key}: ...}}"
                )
                self.report.add(child.at, f"at: says where it is, and {key}: beside it too", hint)
            parts |= self.connection(parts["at"]) or {"at": Node(BAD)}
        elif beside:
            parts["at"] = replace(inner, value=beside)
        choices = {key: self.names(parts[key]) for key in ("collections", "partitions") if key in parts}
        return replace(inner, value={"kind": Node("milvus", inner.at), **parts, **choices})

    def backup(self, inner: Node, which: str) -> Node:
        """Lengthen what is written under ``backup:`` to what the models of a source hold."""
        if inner.value is BAD:
            return inner
        if not isinstance(inner.value, dict):
            what = "this must be a mapping" if inner.value is not None else "there is nothing written here"
            return replace(inner, value=self.report.add(inner.mark, what, _BACKUP))
        known = ("repo", "snapshot", which, "partitions", "where")
        for key, child in inner.value.items():
            if key not in known:
                self.report.add(child.at, f"unknown key '{key}' in a source of kind backup", values.one_of(key, known))
        parts = {key: child for key, child in inner.value.items() if key in known}
        choices = {key: self.names(parts[key]) for key in ("collections", "partitions") if key in parts}
        return replace(inner, value={"kind": Node("backup", inner.at), **parts, **choices})

    @staticmethod
    def names(node: Node) -> Node:
        """Lengthen ``GLOB`` and ``[GLOB, ...]`` to ``{allow: [GLOB, ...]}``."""
        if isinstance(node.value, list):
            return replace(node, value={"allow": node})
        if isinstance(node.value, dict) or node.value is None or node.value is BAD:
            return node
        return replace(node, value={"allow": replace(node, value=[node])})

    def copy(self, node: Node) -> Node:
        """Lengthen an item of ``copy:``."""
        if not isinstance(node.value, dict):
            return node
        parts = dict(node.value)
        if "source" in parts:
            self.report.add(parts["source"].at, "unknown key 'source' in a copy", "did you mean from?")
            parts.setdefault("from", Node(BAD))
            del parts["source"]
        if "from" in parts:
            parts["from"] = self.many(parts["from"])
        return replace(node, value=parts)

    def many(self, node: Node) -> Node:
        """Lengthen what stands after ``from:`` of a copy."""
        if node.value is None or node.value is BAD:
            return node
        kinds = set(node.value) if isinstance(node.value, dict) else set()
        if kinds == {"backup"}:
            return self.backup(node.value["backup"], "collections")
        if kinds != {"milvus"}:
            return replace(node, value=self.report.add(node.mark, "a copy is from a milvus or a backup", _MANY))
        return self.source(node.value["milvus"])
