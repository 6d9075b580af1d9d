"""The language as JSON Schema: the models' own, with the short forms that people write added to it."""

from __future__ import annotations

from typing import Any

from vsync.connectors.registry import FILE_KINDS, STORE_KINDS
from vsync.schema import DYNAMIC_FIELD, NAME
from vsync.spec.document import Spec

Json = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_TYPES: dict[type, str] = {bool: "boolean", int: "integer", float: "number", str: "string"}
_NAME = f"^{NAME.pattern.removesuffix(chr(92) + 'Z')}$"
_FREE = "^(x-|<<$)"
_BOUNDS = {"ge": "minimum", "le": "maximum"}
_BY_NAME = {"collections", "fields", "partitions", "indexes", "map"}
_VARIABLE: Json = {"type": "string", "pattern": r"\$\{"}
_WHERE: Json = {"type": "string", "description": "A connection's name, or an address"}
_PATH: Json = {"type": "string", "description": "A file, glob or folder, relative to the spec's folder"}


def build() -> Json:
    """Build the schema, draft 2020-12."""
    schema = Spec.model_json_schema(by_alias=True)
    parts: Json = schema.pop("$defs")
    parts = {
        name: part
        for name, part in parts.items()
        if name not in {"FileSource", "MapFrom", "MilvusTarget", "StoreTarget"}
    }
    parts |= {"Source": _source(), "MapFrom": _map_from(), "Target": _target(), "Spec": schema}
    for part in parts.values():
        _open(part)
    _shorten(parts)
    root = parts.pop("Spec")
    return {
        "$schema": DIALECT,
        "title": "vsync spec",
        "description": "What a Milvus is to hold, and where its rows come from",
        **{key: value for key, value in root.items() if key not in {"title", "description"}},
        "$defs": parts,
    }


def _open(node: Any) -> None:
    """Let variables stand for numbers and words, and ``x-`` keys anywhere; leave out what no editor needs."""
    if isinstance(node, list):
        for item in node:
            _open(item)
    elif isinstance(node, dict):
        _without_null(node)
        for key, value in node.items():
            if key != "properties":
                _open(value)
        for name, value in node.get("properties", {}).items():
            _open(value)
            value.pop("title", None)
            _name_keys(name, value)
        if node.get("additionalProperties") is False and "properties" in node:
            node["patternProperties"] = {_FREE: True}
        _vary(node)


def _name_keys(name: str, node: Json) -> None:
    """Say what keys a mapping of names takes."""
    if name in _BY_NAME and "additionalProperties" in node:
        node["patternProperties"] = {_NAME: node["additionalProperties"]}
        node["additionalProperties"] = False
    if name == "map" and "patternProperties" in node:
        keys = {"type": "object", "additionalProperties": {"$ref": "#/$defs/MapFrom"}, "minProperties": 1}
        what = "What is put into the dynamic field: {KEY: COLUMN}, or a column of whole JSON objects"
        node["properties"] = {DYNAMIC_FIELD: {"anyOf": [keys, {"$ref": "#/$defs/MapFrom"}], "description": what}}
    if "additionalProperties" in node and name not in {"properties", "params"}:
        node.setdefault("patternProperties", {})[_FREE] = True


def _vary(node: Json) -> None:
    """Let a variable stand where a number, a truth value or one of some words is wanted."""
    for bound, named in _BOUNDS.items():
        if bound in node:
            node[named] = node.pop(bound)
    if "enum" in node or node.get("type") in {"integer", "boolean", "number"}:
        written = {key: node.pop(key) for key in ("type", "enum", *_BOUNDS.values()) if key in node}
        node["anyOf"] = [written, _VARIABLE]


def _without_null(node: Json) -> None:
    """Take pydantic's ``null`` for "not said" out: nobody writes it."""
    said = [option for option in node.get("anyOf", []) if option != {"type": "null"}]
    if len(said) == 1:
        del node["anyOf"]
        node.update(said[0])
    if node.get("default", 0) is None:
        del node["default"]


def _shorten(parts: Json) -> None:
    """Add the short forms."""
    root, collection = parts["Spec"]["properties"], parts["CollectionSpec"]["properties"]
    root["target"] = {"$ref": "#/$defs/Target", "description": root["target"]["description"]}
    root["version"] = {"const": 1, "description": root["version"]["description"]}
    root["defaults"].pop("default", None)
    connections = root["connections"]
    connections["additionalProperties"] = {"anyOf": [{"$ref": "#/$defs/Connection"}, {"type": "string"}]}
    parts["DataSpec"]["properties"]["from"] = {
        "$ref": "#/$defs/Source",
        "description": parts["DataSpec"]["properties"]["from"]["description"],
    }
    collection["from"] = {"$ref": "#/$defs/Source", "description": "Short for data: [{from: ...}]"}
    parts["CollectionSpec"]["not"] = {"type": "object", "required": ["from", "data"]}
    for name in ("CollectionSpec", "PartitionSpec", "IndexSpec"):
        parts[name]["type"] = ["object", "null"]
    some: Json = {"required": ["collections"], "properties": {"collections": {"minProperties": 1}}}
    parts["Spec"]["required"].remove("collections")
    parts["Spec"]["anyOf"] = [some, {"required": ["copy"]}]
    root["copy"] = {**root["copy"], "minItems": 1}
    root["copy"].pop("default", None)
    _shorten_milvus(parts)
    by_name = {key: collection["partitions"].pop(key) for key in list(collection["partitions"]) if key != "description"}
    names = {"type": "array", "items": {"type": "string"}, "uniqueItems": True}
    collection["partitions"]["anyOf"] = [by_name, names]
    size: Json = parts["Defaults"]["properties"]["chunk_bytes"]
    size["anyOf"].append({"type": "string", "pattern": "^[0-9.]+ ?([kKMGT]i?)?B?$"})
    for properties in (collection["properties"], parts["CopySpec"]["properties"]["properties"]):
        properties["additionalProperties"] = {"type": ["string", "number", "boolean"]}


def _shorten_milvus(parts: Json) -> None:
    """Add the short forms of sources in a Milvus, and of what is said with them."""
    names: Json = {"type": "array", "items": {"type": "string"}, "minItems": 1}
    parts["Choice"] = {"anyOf": [{"$ref": "#/$defs/Names"}, names, {"type": "string", "description": "One glob"}]}
    connection = parts["Connection"]["properties"]
    for name in ("MilvusSource", "MilvusCollections"):
        part = parts[name]
        written = part["properties"]
        for key in ("kind", "name"):
            del written[key]
        written["at"] = {"anyOf": [_WHERE, {"$ref": "#/$defs/Connection"}], "description": written["at"]["description"]}
        for key in ("collections", "partitions"):
            if key in written:
                written[key] = {"$ref": "#/$defs/Choice", "description": written[key]["description"]}
        written |= {key: connection[key] for key in ("uri", "token", "database")}
        part["required"] = [key for key in part["required"] if key != "at"]
        beside = {"anyOf": [{"required": ["uri"]}, {"required": ["token"]}, {"required": ["database"]}]}
        part["oneOf"] = [{"required": ["at"], "not": beside}, {"required": ["uri"], "not": {"required": ["at"]}}]
    for name in ("BackupSource", "BackupCollections"):
        written = parts[name]["properties"]
        del written["kind"]
        for key in ("collections", "partitions"):
            if key in written:
                written[key] = {"$ref": "#/$defs/Choice", "description": written[key]["description"]}
    kinds = {"milvus": "#/$defs/MilvusCollections", "backup": "#/$defs/BackupCollections"}
    parts["CopySpec"]["properties"]["from"] = {
        "type": "object",
        "properties": {kind: {"$ref": where} for kind, where in kinds.items()},
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": False,
        "description": parts["CopySpec"]["properties"]["from"]["description"],
    }
    parts["CopySpec"]["properties"]["rename"]["pattern"] = r"^[^{}]*(\{collection\}|\$\{.*)[^{}]*$"
    for name in ("CopySpec", "CollectionSpec"):
        bound = parts[name]["properties"]["max_delete"]
        written = [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^[0-9.]+ ?%$"}, _VARIABLE]
        bound["anyOf"] = written


def _source() -> Json:
    """Describe what stands after ``from:``."""
    kinds: Json = {}
    for kind, known in FILE_KINDS.items():
        options: Json = {name: _option(t) for name, t in known.options.items()}
        long = {
            "type": "object",
            "properties": {"path": _PATH, **options},
            "required": ["path", *known.required],
            "additionalProperties": False,
        }
        kinds[kind] = {
            "anyOf": [long] if known.required else [_PATH, long],
            "description": f"Folders of kind {kind}"
            if known.folder
            else f"Files of kind {kind} ({', '.join(known.suffixes)})",
        }
    kinds["milvus"] = {"$ref": "#/$defs/MilvusSource"}
    kinds["backup"] = {"$ref": "#/$defs/BackupSource"}
    by_kind: Json = {"type": "object", "properties": kinds, "additionalProperties": False, "minProperties": 1}
    return {"anyOf": [_PATH, by_kind]}


def _option(kind: type) -> Json:
    """Describe an option of a kind of source."""
    if kind is list:
        return {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "string"}]}
    return {"anyOf": [{"type": _TYPES[kind]}, _VARIABLE]}


def _map_from() -> Json:
    """Describe where the values of a field are had."""
    const = {
        "type": "object",
        "properties": {"const": {}},
        "required": ["const"],
        "additionalProperties": False,
    }
    column = {
        "type": "string",
        "description": "A column or dataset, $row for the number of the row, or $meta.KEY of the dynamic field",
    }
    return {"anyOf": [column, const]}


def _target() -> Json:
    """Describe a target."""
    address = {
        "type": "string",
        "description": "http://HOST:PORT, or the path of a Milvus Lite file, NAME.db",
    }
    kinds: Json = {"milvus": {"anyOf": [{"$ref": "#/$defs/Connection"}, _WHERE]}}
    for kind, known in STORE_KINDS.items():
        folder = "A folder, relative to the spec's" + (", or s3://BUCKET/PREFIX" if known.remote else "")
        place = {"type": "string", "description": folder}
        options = {
            name: {"enum": list(words)} if words else {"type": "string"} for name, words in known.options.items()
        }
        long = {
            "type": "object",
            "properties": {"path": place, **options},
            "required": ["path"],
            "additionalProperties": False,
        }
        kinds[kind] = {"anyOf": [place, long]}
    by_kind: Json = {
        "type": "object",
        "properties": kinds,
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": False,
    }
    return {"anyOf": [address, by_kind]}
