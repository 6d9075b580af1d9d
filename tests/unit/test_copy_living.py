"""Copying a collection that changes while it is copied, whatever dies when: nothing is lost, doubled or overwritten.

The plan, the journal and the apply are the real ones; both servers are ``model_target``, and rows of the source are
added, deleted and changed at any moment of any attempt.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import stamina
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from model_target import Faults, KilledError, ModelTarget, Server
from mortal import apply_once, apply_until_done, make_plan

from vsync.errors import TransientError
from vsync.planning.choice import Choice
from vsync.schema import Collection, DataType, Field, Index
from vsync.spec import parse_spec
from vsync.state.doctor import examine
from vsync.state.view import View

if TYPE_CHECKING:
    from vsync.spec import Connection, Spec

KEYS = range(0, 80, 2)
"""What the source holds at first: even keys; those that 4 divides in the default partition, the others in ``rare``."""
ROW_BYTES = 8 + 2 * 4 + 8
OTHERS = -1

SPEC = """
version: 1
target: model.db
defaults: {{chunk_bytes: "{chunk}"}}
collections:
  words:
    write: {write}
    data: [{{from: {{milvus: {{at: source.db, collection: words}}}}}}]
"""
FIELDS = (
    Field("id", DataType.INT64, primary=True),
    Field("vector", DataType.FLOAT_VECTOR, dim=2),
    Field("number", DataType.INT64),
)


def row(key: int, version: int = 0) -> tuple[Any, ...]:
    return key, (float(key), float(version)), version


def holding(rows: dict[int, tuple[Any, ...]]) -> Server:
    """Give a server whose collection holds these rows."""
    server = Server()
    table = server.create(Collection("words", FIELDS))
    table.schema = replace(table.schema, indexes=(Index("vector", "AUTOINDEX"),))
    table.loaded = True
    table.rows = {"_default": [], "rare": []}
    for key, one in sorted(rows.items()):
        table.rows[home(key)].append(one)
    return server


def home(key: int) -> str:
    return "rare" if key % 4 else "_default"


@dataclass(slots=True)
class Life(Faults):
    """Faults, and what becomes of the rows of the source: ``changes`` are (what, key) by moment."""

    changes: dict[int, tuple[str, int]] = field(default_factory=dict)
    source: Server = field(default_factory=Server)
    versions: dict[int, set[int]] = field(default_factory=dict)
    """Of each key that was touched, the versions that its row had."""
    gone: set[int] = field(default_factory=set)
    """Keys that were deleted at some time."""

    def pass_moment(self) -> None:
        with self.lock:
            change = self.changes.pop(self.moment, None)
            if change is not None:
                self.make(*change)
        super(Life, self).pass_moment()  # with slots it is another class than the one that a bare super() knows

    def make(self, what: str, key: int) -> None:
        """Touch a row of the source, as one request of somebody else's."""
        with self.source.lock:
            rows = self.source.tables["words"].rows[home(key)]
            there = [r for r in rows if r[0] == key]
            touched = self.versions.setdefault(key, {r[2] for r in there})
            if there:
                rows.remove(there[0])
            if what == "delete":
                self.gone.add(key)
                return
            version = max(touched, default=0) + 1
            touched.add(version)
            rows.append(row(key, version))


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModelTarget]:
    """Give what is opened at each address."""
    places: dict[str, ModelTarget] = {}

    def opened(_spec: Spec, connection: Connection) -> ModelTarget:
        return places[connection.uri]

    monkeypatch.setattr("vsync.opening.open_connection", opened)
    monkeypatch.setattr("vsync.opening.check_there", lambda *_where: None)
    return places


def spec_of(write: str, chunk_rows: int, more: str = "") -> Spec:
    text = SPEC.format(write=write, chunk=chunk_rows * ROW_BYTES).replace("    data:", f"{more}    data:")
    return parse_spec(text, folder=Path("/nowhere"), environ={})


def rows_of(server: Server) -> list[tuple[Any, ...]]:
    return [r for rows in server.tables["words"].rows.values() for r in rows]


def check_doctor(state: Path) -> None:
    assert [f.what for f in examine(state) if f.level == "wrong"] == []


def interrupted(spec: Spec, target: Server, state: Path, faults: Faults) -> None:
    """Apply once, without a second attempt: what is in doubt stays so."""
    with stamina.set_testing(testing=True, attempts=1), pytest.raises((TransientError, KilledError)):
        apply_once(spec, target, state, faults, Choice())


@pytest.mark.parametrize("write", ["append", "upsert"])
@pytest.mark.parametrize("there", [set(), {2, 33, 84}])
def test_rows_that_were_written_unheard_and_are_deleted_by_the_next_attempt_are_counted(
    ends: dict[str, ModelTarget], tmp_path: Path, write: str, there: set[int]
) -> None:
    life = Life(source=holding({key: row(key) for key in KEYS}))
    ends["source.db"] = ModelTarget(life.source)
    target = holding({key: row(key, OTHERS) for key in there}) if there else Server()
    spec, state = spec_of(write, 30), tmp_path / "state.db"
    interrupted(spec, target, state, Faults(["landed", "landed"]))
    for key in (0, 4):
        life.make("delete", key)
    life.make("put", 8)
    settled = apply_until_done(spec, target, state, Faults(), Choice())
    assert all(s.balanced for s in settled), settled
    check_rows(write, there, life, target)
    assert row(8, 1) in rows_of(target)
    assert row(0) in rows_of(target), "what was copied stays, whatever becomes of it in the source"
    check_doctor(state)
    with closing(View(state)) as view:
        assert view.query("SELECT count(*) FROM chunks WHERE there_mask IS NOT NULL") == [(0,)]


AUTO_ID = """    fields:
      key: {type: int64, primary: true, auto_id: true}
      id: {type: int64}
      vector: {type: float_vector, dim: 2}
      number: {type: int64}
    partitions: [rare]
"""


@pytest.mark.parametrize("died", [[20, 34], [22, 29], [25, 42], [28]])
def test_rows_without_keys_that_were_written_unheard_are_found_though_their_source_changed(
    ends: dict[str, ModelTarget], tmp_path: Path, died: list[int]
) -> None:
    life = Life(source=holding({key: row(key) for key in KEYS}))
    ends["source.db"] = ModelTarget(life.source)
    target, spec, state = Server(), spec_of("append", 5, AUTO_ID), tmp_path / "state.db"
    for n, kill in enumerate(died):
        interrupted(spec, target, state, Faults(["landed", "part", "landed", "lost"], {kill}))
        for key in range(8):
            life.make("put" if key % 3 else "delete", n * 10 + key)
    settled = apply_until_done(spec, target, state, Faults(["landed", "lost", "part"]), Choice())
    assert all(s.balanced for s in settled), settled
    held, versions = Counter(row[0] for row in target.values("words")), life.versions
    assert max(held.values()) == 1, "doubled"
    assert all(one in [row(one[0], v) for v in versions.get(one[0], {0})] for one in target.values("words"))
    assert held.keys() >= {key for key in KEYS if key not in versions}
    check_doctor(state)


def test_a_collection_that_was_dropped_on_the_way_is_copied_whole(ends: dict[str, ModelTarget], tmp_path: Path) -> None:
    """What was cut were the rows that it lacked: now it lacks them all."""
    ends["source.db"] = ModelTarget(holding({key: row(key) for key in KEYS}))
    target = holding({key: row(key, OTHERS) for key in KEYS if key < 60})
    spec, state = spec_of("append", 5), tmp_path / "state.db"
    interrupted(spec, target, state, Faults(kills={20}))
    del target.tables["words"]
    settled = apply_until_done(spec, target, state, Faults(), Choice())
    assert all(s.balanced for s in settled), settled
    assert sorted(rows_of(target)) == [row(key) for key in KEYS]


@pytest.mark.parametrize("died", range(4, 60, 5))
def test_what_a_collection_takes_over_from_its_source_is_made_whoever_died(
    ends: dict[str, ModelTarget], tmp_path: Path, died: int
) -> None:
    source = holding({key: row(key) for key in KEYS})
    made = source.tables["words"]
    made.schema = replace(made.schema, indexes=(Index("vector", "HNSW", "L2", (("M", "8"),)),))
    source.aliases["lexicon"] = "words"
    ends["source.db"] = ModelTarget(source)
    target, spec, state = Server(), spec_of("append", 5), tmp_path / "state.db"
    interrupted(spec, target, state, Faults(kills={died}))
    apply_until_done(spec, target, state, Faults(), Choice())
    assert target.tables["words"].schema.indexes == made.schema.indexes
    assert target.aliases == {"lexicon": "words"}
    assert sorted(rows_of(target)) == [row(key) for key in KEYS]
    with closing(View(state)) as view:
        assert make_plan(spec, ModelTarget(target), view, Choice()).empty


CHANGES = st.dictionaries(
    st.integers(0, 150),
    st.tuples(st.sampled_from(["put", "put", "delete"]), st.integers(-6, 90)),
    max_size=12,
)
OPS = st.sampled_from(["acked", "lost", "landed", "part", "refused", "large", "late0", "late1", "late3"])
QUICK = settings(
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # to shrink such a story takes minutes
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@QUICK
@given(
    write=st.sampled_from(["append", "upsert"]),
    there=st.one_of(st.just(set()), st.sets(st.integers(-5, 85), max_size=30)),
    changes=CHANGES,
    fates=st.lists(OPS, max_size=25),
    kills=st.sets(st.integers(0, 150), max_size=6),
    chunk_rows=st.integers(2, 12),
)
def test_rows_that_nobody_touched_are_there_once_and_the_rest_comes_next_time(
    ends: dict[str, ModelTarget],
    write: str,
    there: set[int],
    changes: dict[int, tuple[str, int]],
    fates: list[str],
    kills: set[int],
    chunk_rows: int,
) -> None:
    source = holding({key: row(key) for key in KEYS})
    target = holding({key: row(key, OTHERS) for key in there}) if there else Server()
    life = Life(list(fates), set(kills), changes=dict(changes), source=source)
    ends["source.db"] = ModelTarget(source, life)
    spec, choice = spec_of(write, chunk_rows), Choice()
    with tempfile.TemporaryDirectory() as name:
        state = Path(name) / "state.db"
        settled = apply_until_done(spec, target, state, life, choice)
        assert all(s.balanced for s in settled), settled
        check_doctor(state)
        check_rows(write, there, life, target)

        life.kills.clear()
        life.fates.clear()
        life.changes.clear()
        apply_until_done(spec, target, state, Faults(), choice)
        check_rows(write, there, life, target)
        check_doctor(state)
        now = {r[0]: r for r in rows_of(source)}
        held = {r[0]: r for r in rows_of(target)}
        assert now.keys() <= held.keys()
        if write == "upsert":
            assert {key: held[key] for key in now} == now
        with closing(View(state)) as view:
            again = make_plan(spec, ModelTarget(target), view, choice)
        assert again.empty, [again.steps, again.changes]


def check_rows(write: str, there: set[int], life: Life, target: Server) -> None:
    held = rows_of(target)
    keys = [r[0] for r in held]
    assert len(keys) == len(set(keys)), "doubled"
    by_key = {r[0]: r for r in held}
    for key in there:
        if write == "append" or (key not in KEYS and key not in life.versions):
            assert by_key[key] == row(key, OTHERS), "what was there was overwritten"
    for key in KEYS:
        if key not in life.versions and not (write == "append" and key in there):
            assert by_key[key] == row(key), "lost, or not as it is"
    for key, one in by_key.items():
        versions = {OTHERS} if key in there else set()
        versions |= life.versions.get(key, {0} if key in KEYS else set())
        assert one in [row(key, v) for v in versions], "nobody wrote that"
