"""What a check finds is mended by the plan that it makes, whenever the repair is killed, and the state knows of it.

The spec, the journal, the check, the plan and the apply are the real ones; the server is ``model_target``.
"""

from __future__ import annotations

import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model_target import Faults, KilledError, ModelTarget, Server

from vsync.applying.run import carry_out
from vsync.applying.settings import Settings, Stop
from vsync.checking import Checks, Ways, check_sides, mend_of, sides
from vsync.checking.findings import Compared, Event, Finding, Found
from vsync.errors import ConflictError, StalePlanError
from vsync.observing import gather
from vsync.opening import Sources
from vsync.planning.approval import check_found
from vsync.planning.build import build_plan
from vsync.planning.choice import Choice
from vsync.planning.repair import repair_plan
from vsync.planning.steps import DeleteRows, Plan, Recount, RewriteRows
from vsync.planning.words import describe
from vsync.spec import Spec, parse_spec
from vsync.state.journal import Journal
from vsync.state.view import View

if TYPE_CHECKING:
    from collections.abc import Iterator

ROWS = 40
ADDRESSES = ("collection.words", "collection.words.partition.rare")
EVERYTHING = Choice(allow_destroy=ADDRESSES)

SPEC = """
version: 1
target: model.db
defaults: {{chunk_bytes: "240"}}
collections:
  words:
    fields:
      id: {{type: {key}, primary: true}}
      vector: {{type: float_vector, dim: 2}}
      number: {{type: int64}}
    partitions: [rare]
    data:
      - {{name: first, from: a.parquet, map: {map}}}
      - {{name: second, from: b.parquet, map: {map}, into: rare}}
"""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path, lo in (("a.parquet", 0), ("b.parquet", ROWS)):
            ids = np.random.default_rng(lo).permutation(np.arange(lo, lo + ROWS, dtype=np.int64))
            vectors = pa.FixedSizeListArray.from_arrays(np.repeat(ids, 2).astype(np.float32), 2)
            words = [f"w{n:02}" for n in ids]
            table = pa.table({"ids": ids, "words": words, "vectors": vectors, "numbers": ids * 10})
            pq.write_table(table, folder / path, row_group_size=5)
        yield folder


def spec_of(folder: Path, *, key: str = "int64", auto_id: bool = False) -> Spec:
    column = "words" if key == "varchar" else "ids"
    columns = "{vector: vectors, number: numbers}" if auto_id else f"{{id: {column}, vector: vectors, number: numbers}}"
    kind = f"int64, auto_id: {str(auto_id).lower()}" if key == "int64" else "varchar, max_length: 9"
    text = SPEC.format(map=columns, key=kind)
    return parse_spec(text, folder=folder, environ={})


def quiet(_event: object) -> None:
    """Hear nothing."""


class MortalJournal(Journal):
    """The real journal, in a process that may die before and after each of its transitions."""

    def __init__(self, path: Path, faults: Faults) -> None:
        super().__init__(path)
        self.faults = faults

    def _commit(self, name: str) -> Any:
        self.faults.pass_moment()
        return super()._commit(name)


def plan(spec: Spec, server: Server, state: Path) -> Plan:
    with closing(View(state)) as view:
        return build_plan(spec, gather(spec, ModelTarget(server), Sources(spec), view, Choice()), Choice())


def apply(spec: Spec, server: Server, state: Path) -> None:
    with closing(Journal(state)) as journal:
        made = build_plan(spec, gather(spec, ModelTarget(server), Sources(spec), journal, Choice()), Choice())
        assert not made.conflicts
        carry_out(made, ModelTarget(server), journal, Sources(spec), Settings(), Stop(), quiet)


def check(
    spec: Spec, server: Server, state: Path | None, choice: Choice = EVERYTHING, **asked: Any
) -> tuple[list[Compared], list[Finding], Plan]:
    found: list[Finding] = []

    def hear(event: Event) -> None:
        if isinstance(event, Found):
            found.extend(event.findings)

    target = ModelTarget(server)
    view = View(state) if state else None
    with closing(Sources(spec)) as sources:
        facts = gather(spec, target, sources, view, choice)
        these = sides(spec, facts, choice, one_way=asked.get("one_way", False))
        ways = Ways(target, sources.use, lambda f, *args: f(*args), hear, 2)
        compared = check_sides(these, ways, Checks(**{"how": "content", **asked}))
    if view:
        view.close()
    mends = [mend_of(side, one, found) for side, one in zip(these, compared, strict=True)]
    return compared, found, repair_plan(spec, facts, choice, mends)


def repair(saved: Plan, spec: Spec, server: Server, state: Path, faults: Faults | None = None) -> None:
    """Be one process that carries out a saved repair."""
    target, journal = ModelTarget(server, faults or Faults()), MortalJournal(state, faults or Faults())
    fresh = build_plan(spec, gather(spec, target, Sources(spec), journal, Choice()), Choice())
    resumes = journal.has_run(fresh.target, saved.id)
    journal.begin_run(fresh.target, saved.id)
    carry_out(check_found(saved, fresh, resumes=resumes), target, journal, Sources(spec), Settings(), Stop(), quiet)
    journal.close()


def right_content(key: str = "int64") -> dict[str, dict[Any, Any]]:
    def rows(lo: int) -> dict[Any, Any]:
        named = {n: f"w{n:02}" if key == "varchar" else n for n in range(lo, lo + ROWS)}
        return {named[n]: ((float(n), float(n)), n * 10) for n in range(lo, lo + ROWS)}

    return {"_default": rows(0), "rare": rows(ROWS)}


def damage(server: Server, fates: list[str], key: str, extra: list[int]) -> None:
    rows = server.tables["words"].rows
    for partition in rows:
        made = []
        for n, row in enumerate(sorted(rows[partition])):
            fate = fates[n % len(fates)] if fates else "same"
            other = (row[0], (-1.0, row[1][1]), row[2])
            made += {"same": [row], "missing": [], "changed": [other], "double": [row, row], "both": [row, other]}[fate]
        named = [f"x{n:02}" if key == "varchar" else 1_000 + n for n in extra]
        more = [(k if partition == "rare" else k * 2, (0.0, 0.0), 0) for k in named]
        rows[partition] = made + more + more[:1]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    fates=st.lists(st.sampled_from(["same", "same", "missing", "changed", "double", "both"]), max_size=12),
    extra=st.lists(st.integers(0, 40), unique=True, max_size=5),
    kills=st.sets(st.integers(0, 120), max_size=5),
    key=st.sampled_from(["int64", "varchar"]),
)
def test_a_repair_mends_all_that_was_found_whenever_it_is_killed(
    folder: Path, fates: list[str], extra: list[int], kills: set[int], key: str
) -> None:
    spec, server = spec_of(folder, key=key), Server()
    with tempfile.TemporaryDirectory() as name:
        state = Path(name) / "state.db"
        apply(spec, server, state)
        damage(server, fates, key, extra)
        _, found, made = check(spec, server, state)
        saved = Plan.from_json(made.to_json())
        assert saved == made
        assert saved.empty == (not found)
        assert saved.repairs == bool(found)
        if found:
            faults = Faults(kills=set(kills))
            for _ in range(len(kills) + 1):
                try:
                    repair(saved, spec, server, state, faults)
                    break
                except KilledError:
                    faults.kills = {k for k in kills if k >= faults.moment}
        held = {p: {r[0]: r[1:] for r in rows} for p, rows in server.tables["words"].rows.items()}
        assert held == right_content(key)
        assert max(server.keys("words").values()) == 1
        assert check(spec, server, state)[1] == []
        assert plan(spec, server, state).empty


def test_rows_of_others_are_left_alone_unless_they_may_be_destroyed(folder: Path, tmp_path: Path) -> None:
    spec, server, state = spec_of(folder), Server(), tmp_path / "state.db"
    apply(spec, server, state)
    damage(server, ["same", "missing", "double"], "int64", [1, 2])
    _, _, made = check(spec, server, state, Choice())
    assert not [s for s in made.steps if isinstance(s, DeleteRows)]
    assert [c.summary for c in made.changes if c.action == "warn"] == ["2 rows not in its data: left alone"] * 2
    repair(made, spec, server, state)
    _, found, again = check(spec, server, state, Choice())
    assert {f.symbol for f in found} == {"-", "2"}
    assert again.empty
    assert plan(spec, server, state).empty
    assert not check(spec, server, state, Choice(), one_way=True)[1]

    one = Choice(allow_destroy=("collection.words.partition.rare",))
    _, _, made = check(spec, server, state, one)
    assert [describe(s, made) for s in made.steps] == [
        "delete-rows collection.words.partition.rare 1001, 1002",
        "recount collection.words.partition.rare 40",
    ]
    repair(made, spec, server, state)
    assert sorted(server.keys("words"))[-3:] == [79, 2002, 2004]


def test_steps_name_the_rows(folder: Path, tmp_path: Path) -> None:
    spec, server, state = spec_of(folder), Server(), tmp_path / "state.db"
    apply(spec, server, state)
    table = pq.read_table(folder / "a.parquet").column("ids").to_pylist()
    gone = {table[4], table[5], table[9]}
    rows = server.tables["words"].rows
    twice = next(r for r in rows["_default"] if r[0] == table[20])
    rows["_default"] = [r for r in rows["_default"] if r[0] not in gone] + [twice]
    _, _, made = check(spec, server, state)
    assert made.steps[:2] == (RewriteRows(0, ((20, 21),), anew=True), RewriteRows(0, ((4, 6), (9, 10))))
    assert made.steps[-1] == Recount("collection.words", 40)
    assert describe(made.steps[1], made) == "rewrite-rows collection.words.data.first a.parquet rows 4-5, 9"


def test_a_lost_state_is_no_hindrance(folder: Path, tmp_path: Path) -> None:
    spec, server = spec_of(folder), Server()
    apply(spec, server, tmp_path / "first.db")
    damage(server, ["missing", "changed", "double"], "int64", [3])
    _, found, made = check(spec, server, None)
    assert found
    repair(made, spec, server, tmp_path / "second.db")
    assert check(spec, server, None)[1] == []


def test_what_moved_since_the_check_makes_the_repair_stale(folder: Path, tmp_path: Path) -> None:
    spec, server, state = spec_of(folder), Server(), tmp_path / "state.db"
    apply(spec, server, state)
    damage(server, ["missing"], "int64", [])
    _, _, made = check(spec, server, state)
    apply(spec, server, state)  # brings what is missing, in a session of its own
    with pytest.raises(StalePlanError, match=r"collection\.words holds 40 rows, the check counted 0"):
        repair(made, spec, server, state)
    with pytest.raises(StalePlanError, match=r"rows were brought to .* since it was checked"):
        repair(made, spec, server, state)  # also where it was begun before
    server.tables["words"].rows["_default"].append((5_000, (0.0, 0.0), 0))
    _, _, made = check(spec, server, state)
    server.tables["words"].rows["_default"].append((5_001, (0.0, 0.0), 0))
    with pytest.raises(StalePlanError, match=r"collection\.words holds 42 rows, the check counted 41"):
        repair(made, spec, server, state)
    server.tables["words"].id = "another"
    with pytest.raises(StalePlanError, match=r"collection\.words changed since"):
        repair(made, spec, server, state)


def test_an_apply_that_has_not_finished_is_finished_first(folder: Path, tmp_path: Path) -> None:
    spec, server, state = spec_of(folder), Server(), tmp_path / "state.db"
    with closing(Journal(state)) as journal:
        made = build_plan(spec, gather(spec, ModelTarget(server), Sources(spec), journal, Choice()), Choice())
        target = ModelTarget(server, Faults(kills={40}))
        with pytest.raises(KilledError):
            carry_out(made, target, journal, Sources(spec), Settings(), Stop(), quiet)
    server.tables["words"].loaded = True
    _, found, repairs = check(spec, server, state)
    assert {f.symbol for f in found} == {"+"}
    assert "an apply of it has not finished" in str(repairs.conflicts[0])
    assert not repairs.steps


def test_rows_in_the_wrong_partition_are_moved_only_where_they_may_be_deleted(folder: Path, tmp_path: Path) -> None:
    spec, server, state = spec_of(folder), Server(), tmp_path / "state.db"
    apply(spec, server, state)
    rows = server.tables["words"].rows
    rows["rare"] += [r for r in rows["_default"] if r[0] < 3]
    rows["_default"] = [r for r in rows["_default"] if r[0] >= 3]
    _, found, made = check(spec, server, state, Choice())
    assert [(f.symbol, f.key) for f in found] == [(s, k) for s in "+-" for k in range(3)]
    assert "3 rows of its data in collection.words.partition.rare instead" in str(made.conflicts[0])
    _, _, made = check(spec, server, state)
    repair(made, spec, server, state)
    assert check(spec, server, state)[1] == []


def test_a_row_that_is_in_another_partition_is_not_written_a_second_time(folder: Path, tmp_path: Path) -> None:
    spec, server, state = spec_of(folder), Server(), tmp_path / "state.db"
    apply(spec, server, state)
    rows = server.tables["words"].rows
    rows["old"] = [r for r in rows["_default"] if r[0] < 3]  # of which no data speaks
    rows["_default"] = [r for r in rows["_default"] if r[0] >= 3]
    before = {name: list(held) for name, held in rows.items()}
    _, _, made = check(spec, server, state)
    with pytest.raises(ConflictError, match=r"3 rows of a.parquet have keys that other partitions hold \(.*\)"):
        repair(made, spec, server, state)
    assert rows == before
    del rows["old"]
    _, _, made = check(spec, server, state)
    repair(made, spec, server, state)
    assert check(spec, server, state)[1] == []


def test_missing_rows_whose_keys_the_server_makes_are_a_conflict_with_the_way_out(folder: Path, tmp_path: Path) -> None:
    spec, server, state = spec_of(folder, auto_id=True), Server(), tmp_path / "state.db"
    apply(spec, server, state)
    assert check(spec, server, state)[1] == []
    rows = server.tables["words"].rows
    rows["rare"].append((999, (5.0, 5.0), 5))
    _, found, made = check(spec, server, state)
    assert [(f.symbol, f.key) for f in found] == [("-", 999)]
    repair(made, spec, server, state)
    assert check(spec, server, state)[1] == []
    assert plan(spec, server, state).empty
    rows["rare"].pop()
    _, found, made = check(spec, server, state)
    assert [(f.symbol, f.key) for f in found] == [("+", None)]
    assert "collection.words.partition.rare lacks 1 row, and the server makes the keys" in str(made.conflicts[0])
    assert "write: overwrite" in str(made.conflicts[0].hint)


def test_what_cannot_be_compared_is_said_all_at_once(folder: Path) -> None:
    spec, server = spec_of(folder), Server()
    with pytest.raises(ConflictError, match=r"collection\.words is not on the target"):
        check(spec, server, None)


def test_a_part_of_a_destinations_data_is_compared_one_way_alone(folder: Path, tmp_path: Path) -> None:
    spec, server, state = spec_of(folder), Server(), tmp_path / "state.db"
    apply(spec, server, state)
    text = spec.to_yaml().replace("into: rare", "into: _default")
    both = parse_spec(text, folder=folder, environ={})
    rows = server.tables["words"].rows
    rows["_default"], rows["rare"] = rows["_default"] + rows["rare"], []
    only = Choice(only=("collection.words.data.second",))
    with pytest.raises(ConflictError, match="only a part of it was chosen"):
        check(both, server, None, only)
    compared, found, _ = check(both, server, None, only, one_way=True)
    assert not found
    assert (compared[0].source, compared[0].beyond) == (ROWS, ROWS)


def test_what_is_held_in_the_end_does_not_depend_on_when_a_source_that_lives_was_counted(
    folder: Path, tmp_path: Path
) -> None:
    spec, server = spec_of(folder), Server()
    apply(spec, server, tmp_path / "state.db")
    with closing(View(tmp_path / "state.db")) as view:
        facts = gather(spec, ModelTarget(server), Sources(spec), view, Choice())
    side = sides(spec, facts, Choice(), one_way=False)[0]
    lives = replace(side, units=tuple(replace(u, lives=True) for u in side.units))
    found = [
        Finding("+", side.address, 1, unit=0),
        Finding("-", side.address, 2),
        Finding("-", side.address, 3),
        Finding("2", side.address, 4, unit=0, copies=3),
    ]
    compared = Compared(side.address, "content", source=50, target=40, missing=1, extra=2, doubled=1, beyond=4)
    mend = mend_of(lives, compared, found)
    assert mend.rows == 40 + 1 - 2, "one more, and a key once that was there three times; deletions come off later"
    assert sorted(mend.extra) == [2, 3]
