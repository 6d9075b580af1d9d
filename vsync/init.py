"""Writing a spec from what is there: a data file, or a Milvus."""

from __future__ import annotations

import os
import re
from contextlib import closing
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsync.connectors.base import EXPORTED
from vsync.connectors.durable import write_whole
from vsync.connectors.registry import FILE_KINDS, STORE_KINDS, file_of, kind_of, open_source
from vsync.errors import ConflictError, SourceError, SpecError, UsageError
from vsync.planning.wanted import DataItem, want
from vsync.schema import DEFAULT_PARTITION, MAX_LENGTH, NAME, Collection, DataType, Field, LiveCollection
from vsync.spec import Secret, Spec, StoreTarget, parse_spec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from vsync.connectors.base import Target

IMPORT_NAME, IMPORTED = "import.yaml", "./milvus.db"
IMPORT = """\
# What this export holds, into a Milvus: the one below, or another. Each export writes this anew: change a copy of it.
#   vsync apply import.yaml
#   vsync apply import.yaml --var TARGET=http://localhost:19530
"""
_KNOWN = len("# What this export holds, into a Milvus")
"""By so much of its beginning an import.yaml is known."""


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
    ``target`` it copies them there. What of them a spec has no words for is told in comments at its beginning. Raises
    UsageError where it is none of them.
    """
    folder = folder or Path.cwd()
    if Path(origin).suffix == ".db" and not (folder / origin).exists():
        raise UsageError(f"there is no Milvus Lite at {origin}", hint="name its folder, or a server: http://HOST:PORT")
    if "://" in origin or (folder / origin).is_dir():
        return _of_milvus(origin, collections, token_env, database, target, folder)
    return _of_file(origin, target or "./milvus.db", folder)


def _of_file(origin: str, target: str, folder: Path) -> str:
    kind = kind_of(origin)
    if kind is None:
        endings = ", ".join(s for k in FILE_KINDS.values() for s in k.suffixes)
        raise UsageError(f"{origin} is no file that vsync reads", hint=f"it goes by the endings: {endings}")
    with closing(open_source(kind, folder / origin, {})) as source:
        description = source.describe()
    path = Path(origin)
    # An export has a folder for each collection, and in it a file for each partition.
    stem = re.sub(r"[^A-Za-z0-9_]", "_", path.absolute().parent.name if description.layout == EXPORTED else path.stem)
    name = stem if NAME.match(stem) else f"c_{stem}"[:255]
    short = _parse({"version": 1, "target": target, "collections": {name: {"from": {kind: origin}}}}, folder)
    item = DataItem(0, short.collections[name].data[0], (origin,), (description,))
    whole = want(short, name, [item], None)
    if whole.problems:
        raise SpecError(list(whole.problems))
    mapping = {m.field.name: getattr(m.origin, "column", "$row") for m in whole.data[0].mapping}
    said = _collection(whole.effective)
    if description.schema is not None:
        said = _collection(replace(description.schema, partitions=None))
        _plain(said, description.schema)
    said["data"] = [{"from": {kind: origin}, "map": mapping}]
    spec = _parse({"version": 1, "target": target, "collections": {name: said}}, folder)
    return "".join(f"# {line.what}\n" for line in whole.fidelity if line.verdict == "lost") + spec.to_yaml()


def _of_milvus(
    origin: str, pattern: str, token_env: str | None, database: str | None, target: str | None, folder: Path
) -> str:
    from vsync.connectors.milvus import open_target

    uri = origin if "://" in origin else str((folder / origin).absolute())
    token = Secret(env=token_env).resolve(folder, os.environ) if token_env else None
    with closing(open_target(uri, token, database)) as opened:
        held = opened.collections()
        names = [n for n in held if fnmatchcase(n, pattern)]
        if not names:
            what = f"there is no collection that matches {pattern}" if held else "there are no collections"
            hint = f"there are {', '.join(sorted(held))}" if held else "name another with --database, if there is one"
            raise SourceError(what, where=opened.label, hint=hint)
        live = opened.observe(names, count=False)
        aliases = opened.aliases()
    connection: dict[str, Any] = {"uri": origin}
    if token_env:
        connection["token"] = {"env": token_env}
    if database:
        connection["database"] = database
    said = {n: _live_collection(live[n], [a for a, c in aliases.items() if c == n]) for n in sorted(live)}
    comments = "".join(
        f"# {line}\n" for name in sorted(live) for line in _unsaid(live[name], copied=target is not None)
    )
    if target is None:
        spec = _parse({"version": 1, "target": {"milvus": connection}, "collections": said}, folder)
        return comments + spec.to_yaml()
    for name, collection in said.items():
        _plain(collection, live[name].schema)
        collection["data"] = [{"from": {"milvus": {"at": "source", "collection": name}}}]
    connections = {"source": connection}
    spec = _parse({"version": 1, "connections": connections, "target": target, "collections": said}, folder)
    return comments + spec.to_yaml()


def write_import(spec: Spec, target: Target) -> None:
    """Write beside an export, the target of this spec, the spec that imports it again; elsewhere do nothing."""
    to = spec.target
    if isinstance(to, StoreTarget) and (kind := STORE_KINDS[to.kind].file_kind):
        text = spec_of_export(target, kind, to.options).encode()
        path = _import_of(spec, to)
        if not path.exists() or path.read_bytes() != text:
            write_whole(path, lambda file: file.write(text))


def check_import(spec: Spec) -> None:
    """Raise ConflictError where something else lies where :func:`write_import` will write."""
    to = spec.target
    if isinstance(to, StoreTarget) and STORE_KINDS[to.kind].file_kind:
        path = _import_of(spec, to)
        if os.path.lexists(path) and not (path.is_file() and path.read_bytes().startswith(IMPORT.encode()[:_KNOWN])):
            hint = "move it away, or export into another folder"
            raise ConflictError("is there already, and no export wrote it", where=str(path), hint=hint)


def _import_of(spec: Spec, to: StoreTarget) -> Path:
    return Path(spec.folder) / to.path / IMPORT_NAME


def spec_of_export(exported: Target, kind: str, options: Mapping[str, Any]) -> str:
    """Write the spec that imports what was exported into files of a kind."""
    live = exported.observe(exported.collections(), count=False)
    aliases = exported.aliases()
    said = {n: _live_collection(live[n], [a for a, c in aliases.items() if c == n]) for n in sorted(live)}
    for name, collection in said.items():
        schema = live[name].schema
        _plain(collection, schema)
        by_key = any(f.partition_key for f in schema.fields)
        named = () if by_key else schema.partitions or ()
        collection["data"] = []
        for partition in (DEFAULT_PARTITION, *named):
            file, mapping = file_of(kind, options, schema, partition)
            into = {} if partition == DEFAULT_PARTITION else {"into": partition}
            collection["data"].append({"from": {kind: file}, **into, **({"map": mapping} if mapping else {})})
    spec = _parse({"version": 1, "target": IMPORTED, "collections": said}, Path())
    comments = "".join(f"# {line}\n" for name in sorted(live) for line in _unsaid(live[name], copied=True))
    return IMPORT + comments + spec.to_yaml().replace(IMPORTED, f'"${{TARGET:-{IMPORTED}}}"', 1)


def _plain(said: dict[str, Any], schema: Collection) -> None:
    """Write a collection for another place: keys that the server made are plain ones, what it computes is left out."""
    for computed in (f.name for f in schema.fields if f.computed):
        del said["fields"][computed]
        said.get("indexes", {}).pop(computed, None)
    for field in schema.fields:
        written = said["fields"].get(field.name, {})
        written.pop("auto_id", None)
        if field.in_characters and field.max_length:  # a spec counts bytes, of which a character has four at the most
            written["max_length"] = min(4 * field.max_length, MAX_LENGTH)


def _unsaid(live: LiveCollection, *, copied: bool) -> Iterator[str]:
    """Name what a spec has no words for; ``copied``: the spec makes the collection elsewhere."""
    address = f"collection.{live.schema.name}"
    makers = {output: f for f in live.schema.functions for output in f.outputs}
    hint = "without fields: a copy takes it along" if copied else "it is left as it is"
    for field in live.schema.fields:
        if field.computed:
            made = makers.get(field.name)
            by = f"function {made.name} ({made.type} of {', '.join(made.inputs)})" if made else "a function"
            what = "the field is left out" if copied else "the function is left out"
            yield f"{address}.field.{field.name}: {by} makes its values; {what}, for a spec has no functions: {hint}"
        if field.params:
            params = " ".join(f"{key}={value}" for key, value in field.params)
            yield f"{address}.field.{field.name}: {params} is left out, for a spec has no words for it: {hint}"
    for name, what in live.unread:
        yield f"{address}.field.{name}: it is left out: it is {what}"


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

    text = json.dumps(data, ensure_ascii=False).replace("${", "$${")  # what a Milvus holds are no variables
    return parse_spec(text, name="vsync.yaml", folder=folder)
