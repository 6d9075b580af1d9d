"""Copies from each server to each: every type and option comes out as the table of docs/fidelity.md says.

What arrived is read by pymilvus and compared, bit for bit, with what the test wrote into the source.
"""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import applies
import every_type
import pytest
import reader
from conftest import Endpoint, fresh_database
from every_type import ALIAS, LITE, MILVUS, OLD, PARTITION

from vsync.schema import DataType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from every_type import Case
    from pymilvus import MilvusClient

TABLE = Path(__file__).parents[2] / "docs" / "fidelity.md"
FIXTURES = {LITE: "lite_server", MILVUS: "milvus", OLD: "lite25"}
FLAGS = ("type", "nullable", "default_value", "is_partition_key", "is_clustering_key", "element_type")
PAIRS = [(source, target) for source in (LITE, MILVUS, OLD) for target in (LITE, MILVUS, OLD)]


@pytest.fixture(scope="module")
def databases(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Endpoint]]:
    """Give an empty database of a server; Lite 2.5 has only one."""
    with contextlib.ExitStack() as stack:

        def database(server: str) -> Endpoint:
            running = request.getfixturevalue(FIXTURES[server])
            name = "default" if server == OLD else stack.enter_context(fresh_database(running))
            return Endpoint(running.uri, name, server)

        yield database


@pytest.fixture(scope="module")
def sources(databases: Callable[[str], Endpoint]) -> Callable[[str], Endpoint]:
    """Make the two collections on a server, once."""
    made: dict[str, Endpoint] = {}

    def source(server: str) -> Endpoint:
        if server not in made:
            made[server] = databases(server)
            every_type.make(made[server], server)
        return made[server]

    return source


def table() -> dict[tuple[str, str], dict[str, str]]:
    """Read the table of the docs: for each pair, a cell for each row."""
    lines = [line for line in TABLE.read_text("utf-8").splitlines() if line.startswith("|")]
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    pairs = [tuple(pair.split(" → ")) for pair in head[1:]]
    assert pairs == PAIRS
    return {pair: {row[0]: row[at + 1] for row in rows} for at, pair in enumerate(PAIRS)}


SLOW = {(MILVUS, OLD), (OLD, MILVUS), (MILVUS, LITE)}
CASES = [
    pytest.param(pair, marks=[pytest.mark.slow] * (pair in SLOW), id="-".join(pair).replace(" ", "")) for pair in PAIRS
]


def test_the_table_has_a_row_for_each_type_and_option() -> None:
    rows = {row: {LITE, MILVUS} for row in ("partition", "alias", "property")}
    for server in every_type.ALL:
        for case in (case for name in every_type.NAMES[server] for case in every_type.cases(server, name)):
            rows[case.row] = rows.get(case.row, set()) | {server}
    for (source, _), cells in table().items():
        assert cells.keys() == rows.keys()
        assert set(cells.values()) <= {"exact", "converted", "not held", "-"}
        assert {row for row, cell in cells.items() if cell != "-"} == {r for r in cells if source in rows[r]}


@pytest.mark.parametrize("pair", CASES)
def test_every_type_arrives_as_the_table_says(
    pair: tuple[str, str], tmp_path: Path, sources: Callable[[str], Endpoint], databases: Callable[[str], Endpoint]
) -> None:
    copy = Copy(tmp_path, pair[0], sources(pair[0]), databases(pair[1]))
    copy.write(accept=[])
    planned = applies.vsync(tmp_path, "plan", "--json")
    told = sorted((line["address"], line["verdict"]) for line in planned.of("fidelity"))
    copy.ledger = dict(told)  # what is lost comes after what is converted
    asked = re.findall(r"accept_loss: \[(\S+)\]", planned.out)
    assert bool(asked) == (planned.code == 12), (planned.out, planned.err)
    assert copy.ledger.keys() >= set(asked)
    copy.write(accept=asked)
    applies.apply(tmp_path)

    with reader.client_of(copy.source) as there, reader.client_of(copy.target) as here:
        cells = {row: cell for name in every_type.NAMES[pair[0]] for row, cell in copy.cells(name, there, here)}
        cells |= copy.named(here)
    expected = table()[pair]
    assert {row: cells.get(row, "-") for row in expected} == expected
    assert not cells.keys() - expected.keys()
    checked = applies.vsync(tmp_path, "check", "--full")
    assert checked.code == 0, checked.out + checked.err
    applies.assert_no_changes(tmp_path)


@dataclass
class Copy:
    """A copy of all collections of one server to another; each has the name of the folder here."""

    folder: Path
    server: str
    source: Endpoint
    target: Endpoint
    ledger: dict[str, str] = field(default_factory=dict)

    @property
    def left_out(self) -> bool:
        """Whether the collection of one binary vector is: there would be no vector left."""
        return self.target.kind == LITE

    def here(self, name: str) -> str:
        return f"{name}_{re.sub('[^a-z0-9]', '_', self.server.lower())}"

    def only(self) -> set[int]:
        """Rows without a null, where the target has none."""
        nulls = self.server == LITE and self.target.kind != LITE
        return {1, 3, 4, 5} if nulls else set(range(every_type.ROWS))

    def write(self, accept: list[str] | dict[str, str]) -> None:
        said: dict[str, Any] = {}
        for name in every_type.NAMES[self.server]:
            if name == "bits" and self.left_out:
                continue
            from_: dict[str, Any] = {"uri": self.source.uri, "database": self.source.database, "collection": name}
            if len(self.only()) < every_type.ROWS:
                from_["where"] = f"n in {sorted(self.only())}"
            ours = f"collection.{self.here(name)}"
            mine = [a for a in accept if a.startswith(f"{ours}.") or a == ours or (name == "other" and "alias." in a)]
            said[self.here(name)] = {"accept_loss": mine, "data": [{"from": {"milvus": from_}}]}
        target = {"milvus": {"uri": self.target.uri, "database": self.target.database}}
        spec = {"version": 1, "target": target, "collections": said}
        (self.folder / "vsync.yaml").write_text(json.dumps(spec))

    def cells(self, name: str, there: MilvusClient, here: MilvusClient) -> Iterator[tuple[str, str]]:
        """Compare the fields of a collection, and say what became of each."""
        cases = every_type.cases(self.server, name)
        if name == "bits" and self.left_out:
            yield every_type.BITS.row, "not held"
            return
        told = {f["name"]: f for f in here.describe_collection(self.here(name))["fields"]} | {"$meta": {}}
        flags = {f["name"]: f for f in there.describe_collection(name)["fields"]} | {"$meta": {}}
        kept = [case.field for case in cases if case.field.name in told and not case.field.computed]
        got = every_type.held(here, self.target, self.here(name), kept)
        was = every_type.held(there, self.source, name, kept)
        for case in cases:
            verdict = self.ledger.get(f"collection.{self.here(name)}.field.{case.field.name}", "exact")
            if case.field.name not in told:
                assert verdict == "lost"
            elif case.field.computed:
                assert self.words(there, name) == self.words(here, self.here(name)) == {1, 4}
            else:
                self.compare(case, verdict, got[case.field.name], was[case.field.name])
            if verdict == "exact":
                now, before = told[case.field.name], flags[case.field.name]
                assert [now.get(flag) for flag in FLAGS] == [before.get(flag) for flag in FLAGS]
            yield case.row, "not held" if verdict == "lost" else verdict

    def compare(self, case: Case, verdict: str, got: dict[int, Any], was: dict[int, Any]) -> None:
        """Compare what arrived with what the source holds, and both with what was written there."""
        assert got.keys() == self.only()
        was = {n: was[n] for n in got}
        wrote = {n: value for n, value in every_type.expected(case).items() if n in got} or was
        if case.field.type is DataType.JSON:
            assert every_type.parsed(got) == every_type.parsed(wrote), case.row
        else:
            assert was == wrote, case.row
        if case.field.type is not DataType.JSON or verdict == "exact":
            assert got == was, case.row

    def words(self, client: MilvusClient, name: str) -> set[int]:
        found = client.search(
            name, ["red"], anns_field="bm25", limit=9, output_fields=["n"], consistency_level="Strong"
        )
        return {int(hit["entity"]["n"]) for hit in found[0]}

    def named(self, here: MilvusClient) -> dict[str, str]:
        """Look at what is not a field: partition, alias and property."""
        if self.server == OLD:
            return {}
        name = self.here("other")
        lost = {address for address, verdict in self.ledger.items() if verdict == "lost"}
        said = here.describe_collection(name)
        if said["properties"].get("owner") != "me":
            assert f"collection.{name}" in lost
        if f"collection.{name}.partition.{PARTITION}" in lost:
            return {"partition": "not held", "alias": "not held", "property": "not held"}
        rows = here.query(name, filter="n >= 0", output_fields=["n"], partition_names=[PARTITION], limit=10)
        assert {int(row["n"]) for row in rows} == {0, 1, 2} & self.only()
        assert said["aliases"] == [ALIAS] or self.target.kind == LITE
        assert here.describe_collection(ALIAS)["collection_name"] in {name, ALIAS}
        return {"partition": "exact", "alias": "exact", "property": "exact"}
