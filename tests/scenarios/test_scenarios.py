"""Planning, by scenario: a spec, a live state, what the journal knows and the sources, and the plan that follows.

Each file beside this one holds several scenarios: ``=== NAME``, then sections that begin with ``--- SECTION``. All but
``spec``, ``plan`` and ``steps`` may be left out. ``spec``: as people write it. ``sources``: for each path its columns
and rows, how many rows a chunk has, and the content it is known by. ``live``: collections in the words of the spec,
with their id, rows, whether they are loaded, and the rows of partitions. ``journal``: collections, sessions by
destination, files as they last were, and the chunks that are acknowledged or in doubt, by path. ``target`` and
``choice``: what else. ``plan``: what people are shown, and each conflict. ``steps``: what is done, in order.
"""

from __future__ import annotations

import difflib
import fnmatch
import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
import yaml
from model_target import ModelTarget, Server

from vsync.connectors.base import Column, Description, Fingerprint
from vsync.connectors.files import cut
from vsync.errors import Problem
from vsync.planning.build import build_plan
from vsync.planning.choice import Choice
from vsync.planning.facts import Facts, FileFacts, JournalFacts, SessionFacts, TargetFacts, UnitFacts
from vsync.planning.origins import plain_origin
from vsync.planning.steps import Plan, Unit, unit_key
from vsync.planning.wanted import DataItem, Wanted, want
from vsync.planning.words import describe
from vsync.report.words import plan_lines
from vsync.schema import LiveCollection
from vsync.spec import parse_spec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vsync.spec import Spec

HERE = Path(__file__).parent
TYPES = {
    "int64": pa.int64(),
    "int32": pa.int32(),
    "string": pa.string(),
    "double": pa.float64(),
    "bool": pa.bool_(),
    "json": pa.binary(),
}


@dataclass(frozen=True, slots=True)
class Scenario:
    """One scenario: its name, and its sections as text."""

    name: str
    sections: dict[str, str]

    def data(self, section: str) -> dict[str, Any]:
        found: dict[str, Any] = yaml.safe_load(self.sections.get(section, "")) or {}
        return found


def scenarios() -> Iterator[Scenario]:
    for path in sorted(HERE.glob("*.txt")):
        for text in path.read_text("utf-8").split("=== ")[1:]:
            name, _, rest = text.partition("\n")
            parts = (part.partition("\n") for part in f"\n{rest}".split("\n--- ")[1:])
            yield Scenario(f"{path.stem}: {name}", {head: body for head, _, body in parts})


@pytest.mark.parametrize("scenario", list(scenarios()), ids=lambda s: str(s.name))
def test_the_plan_is_as_expected(scenario: Scenario) -> None:
    plan = plan_of(scenario)
    assert_same(scenario, "plan", shown(plan))
    assert_same(scenario, "steps", [describe(step, plan) for step in plan.steps])


@pytest.mark.parametrize("scenario", list(scenarios()), ids=lambda s: str(s.name))
def test_a_plan_is_the_same_after_a_round_through_json(scenario: Scenario) -> None:
    plan = plan_of(scenario)
    again = Plan.from_json(plan.to_json())
    assert again == plan
    assert again.id == plan.id


def assert_same(scenario: Scenario, section: str, found: Sequence[str]) -> None:
    expected = scenario.sections[section].rstrip().splitlines()
    difference = "\n".join(difflib.unified_diff(expected, list(found), "expected", "found", lineterm=""))
    assert not difference, f"{scenario.name}, {section}:\n{difference}"


def shown(plan: Plan) -> list[str]:
    """Give what people see: the plan without its head, then each conflict."""
    lines = [text.rstrip() for _, text in plan_lines(plan)][2:]
    return [*lines, *(f"Conflict: {problem}" for problem in plan.conflicts)]


def plan_of(scenario: Scenario) -> Plan:
    spec = parse_spec(scenario.sections["spec"], folder=Path("/specs"), environ={})
    choice = Choice(**{k: tuple(v) for k, v in scenario.data("choice").items()})
    sources, live, target = scenario.data("sources"), _live(scenario.data("live")), scenario.data("target")
    model = ModelTarget(Server())
    wanted = {
        name: want(spec, name, _items(spec, name, sources), live.get(name), model.nearest)
        for name in spec.collections
        if choice.takes(f"collection.{name}")
    }
    units = tuple(u for whole in wanted.values() if not whole.problems for u in _units(whole, sources))
    facts = TargetFacts(
        identity="model",
        label="model",
        database=spec.target.database,
        has_database=target.get("has_database", True),
        live=live,
        aliases=target.get("aliases", {}),
        judge=model.conflicts,
        same_index=model.same,
    )
    collisions = tuple(Problem(text) for text in target.get("collisions", ()))
    return build_plan(spec, Facts(facts, _journal(scenario.data("journal"), units), wanted, units, collisions), choice)


def _items(spec: Spec, name: str, sources: dict[str, Any]) -> list[DataItem]:
    items = []
    for index, data in enumerate(spec.collections[name].data):
        paths = tuple(p for p in sources if fnmatch.fnmatch(p, data.source.label))
        items.append(DataItem(index, data, paths, tuple(_description(p, sources[p]) for p in paths)))
    return items


def _description(path: str, said: dict[str, Any]) -> Description:
    columns = tuple(_column(name, native) for name, native in said["columns"].items())
    fingerprint = Fingerprint(said.get("content", "c1"), said.get("modified", 1))
    nbytes = round(said["rows"] * sum(c.row_bytes for c in columns))
    return Description(path, fingerprint, said["rows"], nbytes, columns, suggested=said.get("suggested", {}))


def _column(name: str, native: str) -> Column:
    """Read ``int64``, ``float32[4]`` for vectors, or ``float32[]`` for lists of any length."""
    element, bracket, dim = native.rstrip("]").partition("[")
    if bracket and not dim:
        return Column(name, pa.list_(pa.float32()), native, 0.0)
    if bracket:
        kind = pa.list_(pa.float32() if element == "float32" else pa.float64(), int(dim))
        return Column(name, kind, native, int(dim) * kind.value_type.bit_width / 8)
    return Column(name, TYPES[native], native, 8.0)


def _units(wanted: Wanted, sources: dict[str, Any]) -> Iterator[UnitFacts]:
    for data in wanted.data:
        for path, described in zip(data.item.paths, data.item.descriptions, strict=True):
            origins = {m.field.name: plain_origin(m.origin) for m in data.mapping}
            content = described.fingerprint.content
            bounds = tuple(cut(described.rows, 1, sources[path].get("chunk", 100)))
            unit = Unit(
                key=unit_key(data.destination, origins, content),
                address=data.address,
                destination=data.destination,
                kind=data.item.spec.source.kind,
                path=path,
                options={},
                content=content,
                modified=described.fingerprint.modified,
                rows=described.rows,
                nbytes=described.nbytes,
                origins=origins,
                chunks=len(bounds),
            )
            yield UnitFacts(unit, bounds, tuple(sources[path].get("losers", ())))


def _live(said: dict[str, Any]) -> dict[str, LiveCollection]:
    """Make live collections of the words of the spec; what it does not say is as a server would have made it."""
    found = {}
    for name, words in said.items():
        rows, loaded, own = words.pop("rows", 0), words.pop("loaded", True), words.pop("partition_rows", {})
        identity = words.pop("id", "id-1")
        text = yaml.safe_dump({"version": 1, "target": "x.db", "collections": {name: words}}, sort_keys=False)
        schema = want(parse_spec(text, folder=Path("/"), environ={}), name, [], None).declared
        partitions = tuple(own)
        schema = replace(
            schema,
            dynamic=bool(schema.dynamic),
            description=schema.description or "",
            shards=schema.shards or 1,
            partitions=partitions,
            indexes=schema.indexes or (),
            aliases=None,
        )
        default = rows - sum(own.values())
        counts = dict.fromkeys(("_default", *own)) if not loaded else {"_default": default, **own}
        found[name] = LiveCollection(schema, identity, loaded, rows if loaded else None, counts)
    return found


def _journal(said: dict[str, Any], units: Sequence[UnitFacts]) -> JournalFacts:
    return JournalFacts(
        collections=said.get("collections", {}),
        ids=said.get("ids", {}),
        sessions={a: _session(words, a, units) for a, words in said.get("sessions", {}).items()},
        acked=_chunks(said.get("acked", {}), units),
        in_doubt=_chunks(said.get("in_doubt", {}), units),
        files={
            (u.address, u.path): FileFacts(**{"content": u.content, "rows": u.rows, "modified": 1, **words})
            for u in (facts.unit for facts in units)
            for path, words in said.get("files", {}).items()
            if u.path == path
        },
    )


def _session(words: dict[str, Any], destination: str, units: Sequence[UnitFacts]) -> SessionFacts:
    keys = sorted(u.unit.key for u in units if u.unit.destination == destination)
    content = hashlib.sha256("\n".join(keys).encode()).hexdigest()[:24]
    usual = {"epoch": 1, "session": 1, "done": True, "content": content, "collection_id": "id-1", "probe": False}
    return SessionFacts(**{**usual, "before": 0, "left": None, **words})


def _chunks(said: dict[str, list[int]], units: Sequence[UnitFacts]) -> dict[str, frozenset[int]]:
    return {u.unit.key: frozenset(numbers) for u in units for path, numbers in said.items() if u.unit.path == path}
