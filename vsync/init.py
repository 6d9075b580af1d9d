"""Writing a spec from what is there: a data file, or a Milvus."""

from __future__ import annotations

import os
import re
from contextlib import closing
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from vsync.connectors.registry import FILE_KINDS, kind_of, open_source
from vsync.errors import SpecError, UsageError
from vsync.planning.wanted import DataItem, want
from vsync.rows.infer import MAX_LENGTH
from vsync.schema import NAME, Collection, DataType, Field, LiveCollection
from vsync.spec import Secret, Spec, parse_spec


def spec_from(
    origin: str,
    *,
    collections: str = "*",
    target: str | None = None,
    token_env: str | None = None,
    database: str | None = None,
    folder: Path | None = None,
) -> str:
    """Write the long form of a spec, as YAML.

    ``origin`` is a data file (the spec loads it into ``target``, ``./milvus.db`` where it is not said), a Milvus Lite
    folder or a server's address: the spec declares what it holds, of the collections that match the glob; with a
    ``target`` it copies them there. Raises UsageError where it is none of them.
    """
    folder = folder or Path.cwd()
    if "://" in origin or (folder / origin).is_dir():
        return _of_milvus(origin, collections, token_env, database, target, folder).to_yaml()
    return _of_file(origin, target or "./milvus.db", folder).to_yaml()


def _of_file(origin: str, target: str, folder: Path) -> Spec:
    kind = kind_of(origin)
    if kind is None:
        endings = ", ".join(s for k in FILE_KINDS.values() for s in k.suffixes)
        raise UsageError(f"{origin} is no file that vsync reads", hint=f"it goes by the endings: {endings}")
    with closing(open_source(kind, folder / origin, {})) as source:
        description = source.describe()
    stem = re.sub(r"[^A-Za-z0-9_]", "_", Path(origin).stem)
    name = stem if NAME.match(stem) else f"c_{stem}"[:255]
    short = _parse({"version": 1, "target": target, "collections": {name: {"from": {kind: origin}}}}, folder)
    item = DataItem(0, short.collections[name].data[0], (origin,), (description,))
    whole = want(short, name, [item], None)
    if whole.problems:
        raise SpecError(list(whole.problems))
    mapping = {m.field.name: getattr(m.origin, "column", "$row") for m in whole.data[0].mapping}
    said = _collection(whole.effective) | {"data": [{"from": {kind: origin}, "map": mapping}]}
    return _parse({"version": 1, "target": target, "collections": {name: said}}, folder)


def _of_milvus(
    origin: str, pattern: str, token_env: str | None, database: str | None, target: str | None, folder: Path
) -> Spec:
    from vsync.connectors.milvus import open_target

    uri = origin if "://" in origin else str((folder / origin).absolute())
    token = Secret(env=token_env).resolve(folder, os.environ) if token_env else None
    with closing(open_target(uri, token, database, create=False)) as opened:
        names = [n for n in opened.collections() if fnmatchcase(n, pattern)]
        if not names:
            raise UsageError(f"{origin} holds no collection that matches {pattern}")
        live = opened.observe(names, count=False)
        aliases = opened.aliases()
    connection: dict[str, Any] = {"uri": origin}
    if token_env:
        connection["token"] = {"env": token_env}
    if database:
        connection["database"] = database
    said = {n: _live_collection(live[n], [a for a, c in aliases.items() if c == n]) for n in sorted(live)}
    if target is None:
        return _parse({"version": 1, "target": {"milvus": connection}, "collections": said}, folder)
    for name, collection in said.items():
        for field in collection["fields"].values():
            field.pop("auto_id", None)  # the keys that the source's server made are copied, as plain ones
        collection["data"] = [{"from": {"milvus": {"at": "source", "collection": name}}}]
    connections = {"source": connection}
    return _parse({"version": 1, "connections": connections, "target": target, "collections": said}, folder)


def _live_collection(live: LiveCollection, aliases: list[str]) -> dict[str, Any]:
    said = _collection(live.schema)
    if aliases:
        said["aliases"] = sorted(aliases)
    if live.loaded is not None:
        said["load"] = live.loaded
    return said


def _collection(c: Collection) -> dict[str, Any]:
    """Write a collection in the words of the spec, leaving out what is as it is by default or not told."""
    said: dict[str, Any] = {"description": c.description} if c.description else {}
    said["fields"] = {f.name: _field(f) for f in c.fields}
    for key in ("dynamic", "shards", "num_partitions", "consistency"):
        value = getattr(c, key)
        if value is not None and value is not False:
            said[key] = value
    if c.num_partitions is not None and not any(f.partition_key for f in c.fields):
        del said["num_partitions"]
    if c.properties:
        said["properties"] = dict(c.properties)
    if c.partitions:
        said["partitions"] = list(c.partitions)
    if c.indexes:
        said["indexes"] = {i.field: _index(i.type, i.metric, dict(i.params)) for i in c.indexes}
    return said


def _field(f: Field) -> dict[str, Any]:
    said: dict[str, Any] = {"type": str(f.type)}
    for key in ("dim", "max_length", "max_capacity", "default", "description"):
        value = getattr(f, key)
        if value is not None and value != "":
            said[key] = value
    if f.element is not None:
        said["element"] = str(f.element)
    if f.element is DataType.VARCHAR:
        said.setdefault("max_length", MAX_LENGTH)  # embedded Milvus Lite forgets it
    if f.type is DataType.SPARSE_FLOAT_VECTOR:
        said.pop("dim", None)
    flags = ("primary", "auto_id", "nullable", "partition_key", "clustering_key")
    return said | {key: True for key in flags if getattr(f, key)}


def _index(kind: str | None, metric: str | None, params: dict[str, str]) -> dict[str, Any]:
    said: dict[str, Any] = {"type": kind or "AUTOINDEX"}
    if metric:
        said["metric"] = metric
    return said | ({"params": params} if params else {})


def _parse(data: dict[str, Any], folder: Path) -> Spec:
    import json

    return parse_spec(json.dumps(data, ensure_ascii=False), name="vsync.yaml", folder=folder)
