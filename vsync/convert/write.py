"""The spec that does what some jobs of MilvusDM did, with what is to be known of it above."""

from __future__ import annotations

import json
import re
import textwrap
from typing import TYPE_CHECKING, Any

from vsync.convert import words
from vsync.convert.jobs import FLOAT, Body, Job
from vsync.errors import Problem, SpecError
from vsync.schema import NAME
from vsync.spec import parse_spec
from vsync.spec.variables import escape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vsync.convert.read import Reading

_WIDTH = 110
_BIT_FLAT = "BIN_FLAT"


def write(jobs: Sequence[Job], what: str, target: str | None, reading: Reading) -> str:
    """Write one spec for all jobs; raises SpecError where they do not go together."""
    said = target or _target(jobs, reading)
    bodies: dict[str, list[Body]] = {}
    for job in jobs:
        for body in job.bodies:
            bodies.setdefault(body.collection, []).append(body)
    collections = {name: _collection(name, found, reading) for name, found in bodies.items()}
    if not collections and not reading.problems:
        hint = "files alone need no conversion: vsync init --from FILE writes a spec"
        reading.problems.append(Problem("nothing of MilvusDM is here that brings rows", what, hint))
    if reading.problems:
        raise SpecError(reading.problems)
    spec = {"version": 1, "target": said, "collections": collections}
    text = json.dumps(_escaped(spec), ensure_ascii=False)
    made = parse_spec(text, name=f"{what} as a spec", folder=reading.folder, environ={})
    return _comment(what, reading.notes) + made.to_yaml()


def _target(jobs: Sequence[Job], reading: Reading) -> Any:
    """Give the one target of all jobs."""
    told = [job for job in jobs if job.target is not None]
    for job in told[1:]:
        if job.target != told[0].target:
            what = f"{job.task} has another target than {told[0].task} at {told[0].where}, and a spec has one"
            reading.problems.append(Problem(what, job.where, "put it into a file of its own, and convert each"))
    if not told:
        where = jobs[0].where if jobs else None
        reading.problems.append(Problem("nothing says where the rows are to go", where, "say it: --target TARGET"))
    return told[0].target if told else ""


def _collection(name: str, bodies: Sequence[Body], reading: Reading) -> dict[str, Any]:
    """Write one collection and its data."""
    said: dict[str, Any] = {}
    if not NAME.match(name):
        hint = "a name has letters, digits and _, begins with no digit, and has 255 characters at the most"
        reading.problems.append(Problem(f"'{name}' cannot be the name of a collection", bodies[0].where, hint))
    told = next((b for b in bodies if b.dim is not None), None)
    for body in bodies:
        if told and body.dim is not None and (body.dim, body.metric) != (told.dim, told.metric):
            what = (
                f"{name} has dimension {body.dim} and {body.metric} here, {told.dim} and {told.metric} at {told.where}"
            )
            reading.problems.append(Problem(what, body.where, "a collection has one of each"))
    if told is not None:
        said |= _fields(told, reading)
    else:
        reading.note(bodies[0].where, words.NO_METRIC)
    into = _partitions(bodies, reading)
    mode = _mode(bodies)
    own = {body.partition: body.mode for body in bodies if body.partition}
    if own:
        said["partitions"] = {into[tag]: {"write": m} if m != mode else {} for tag, m in own.items()}
    data = [_item(source, body.partition and into[body.partition]) for body in bodies for source in body.sources]
    return said | {"write": mode, "data": data}


def _item(source: dict[str, Any], into: str | None) -> dict[str, Any]:
    return {"from": source, "into": into} if into else {"from": source}


def _mode(bodies: Sequence[Body]) -> str:
    """Give the mode of the collection: that of its own rows, else the one of all its partitions, unless it destroys."""
    own = [body.mode for body in bodies if body.partition is None]
    modes = set(own or [body.mode for body in bodies])
    return own[0] if own else modes.pop() if len(modes) == 1 and modes != {"overwrite"} else "append"


def _fields(body: Body, reading: Reading) -> dict[str, Any]:
    """Write the two fields that MilvusDM made, and the index that its metric belongs to."""
    floats = body.metric in FLOAT
    metric = body.metric
    if metric == "TANIMOTO":
        reading.note(body.where, words.TANIMOTO)
        metric = "JACCARD"
    reading.note(None, words.INDEX)
    vector = {"type": "float_vector" if floats else "binary_vector", "dim": body.dim}
    return {
        "fields": {"id": {"type": "int64", "primary": True}, "embedding": vector},
        "indexes": {"embedding": {"type": "AUTOINDEX" if floats else _BIT_FLAT, "metric": metric}},
    }


def _partitions(bodies: Sequence[Body], reading: Reading) -> dict[str, str]:
    """Give each tag the name of a partition: Milvus 1.x took names that a Milvus of today does not."""
    made: dict[str, str] = {}
    for body in bodies:
        tag = body.partition
        if tag is None or tag in made:
            continue
        plain = re.sub(r"[^A-Za-z0-9_]", "_", tag)
        name = tag if NAME.match(tag) else (plain if NAME.match(plain) else f"p_{plain}"[:255])
        if name != tag:
            reading.note(body.where, f"the partition {tag!r} is called {name} here: a name has letters, digits and _")
        if name in made.values():
            what = f"two partitions of {body.collection} would be called {name}"
            reading.problems.append(Problem(what, body.where, "convert them one by one, and rename one"))
        made[tag] = name
    return made


def _escaped(value: Any) -> Any:
    """Write ``${`` in names and paths so that it is no variable."""
    if isinstance(value, dict):
        return {key: _escaped(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_escaped(inner) for inner in value]
    return escape(value) if isinstance(value, str) else value


def _comment(what: str, notes: Sequence[str]) -> str:
    """Write what is to be known as comments."""
    lines = [f"# What MilvusDM did by {what}, as a spec. vsync plan shows what it would do, vsync apply does it."]
    for note in notes:
        parts = textwrap.wrap(note, _WIDTH, break_long_words=False, break_on_hyphens=False)
        lines += [f"# - {parts[0]}", *(f"#   {part}" for part in parts[1:])]
    return "\n".join([*lines, "", ""])
