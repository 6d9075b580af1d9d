"""A backup of the journal that is brought back is older than the target: each row is there once all the same.

The apply is the whole of ``vsync.apply``, against ``model_target``. A backup is made after one of its commits, the
process is killed after another, the journal is destroyed, its backup brought back, and the apply run to its end.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import stamina
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model_target import Faults, KilledError, ModelTarget, Server, data_row, filled

from vsync import api
from vsync.errors import ConflictError, JournalError, TransientError
from vsync.planning.choice import Choice
from vsync.spec import parse_spec
from vsync.state.doctor import restore
from vsync.state.file import backup_of
from vsync.state.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from vsync.api import Result
    from vsync.connectors.base import Target
    from vsync.spec import Spec

ROWS = 30
TRIES = 40
CHOICE = Choice(allow_destroy=("collection.words", "collection.words.partition.rare"))
SPEC = """
version: 1
target: model.db
defaults: {{chunk_bytes: 96}}
collections:
  words:
    fields:
      id: {{type: int64, primary: true, auto_id: {auto_id}}}
      vector: {{type: float_vector, dim: 2}}
      number: {{type: int64}}
    partitions: [rare]
    write: {write}
    data:
      - {{name: first, from: a.parquet, map: {map}}}
"""
SECOND = "      - {{name: second, from: b.parquet, map: {map}{into}}}\n"


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        for path, lo in (("a.parquet", 0), ("b.parquet", ROWS)):
            ids = np.arange(lo, lo + ROWS, dtype=np.int64)
            vectors = pa.FixedSizeListArray.from_arrays(np.repeat(ids, 2).astype(np.float32), 2)
            table = pa.table({"ids": ids, "vectors": vectors, "numbers": ids * 10})
            pq.write_table(table, Path(name) / path, row_group_size=4)
        yield Path(name)


def spec_of(folder: Path, write: str, *, auto_id: bool = False, into: str | None = ", into: rare") -> Spec:
    """Make a spec of two files, the second into a partition, or beside the first; with ``into=None`` of the first."""
    columns = "{vector: vectors, number: numbers}" if auto_id else "{id: ids, vector: vectors, number: numbers}"
    text = SPEC.format(write=write, map=columns, auto_id=str(auto_id).lower())
    text += SECOND.format(map=columns, into=into) if into is not None else ""
    return parse_spec(text, folder=folder, environ={})


def _in_rare(key: int) -> bool:
    """Tell where the data puts a key."""
    return key >= ROWS


@dataclass(slots=True)
class World:
    """A server, a state, and what befalls whoever applies.

    A backup is made after so many commits, or at the end, and the process killed so many moments later.
    """

    server: Server
    state: Path
    faults: Faults = field(default_factory=Faults)
    backup_after: int | None = None
    killed_after: int | None = None
    commits: int = 0
    dead: bool = False

    def apply(self, spec: Spec, choice: Choice = CHOICE) -> Result:
        """Be one process that applies."""
        world, self.dead = self, False

        class MortalJournal(Journal):
            @contextmanager
            def _commit(self, name: str) -> Iterator[None]:
                if world.dead:
                    raise KilledError("it is dead already")
                with world.mortal(), super()._commit(name):
                    world.faults.pass_moment()
                    yield
                if not self._db.conn.in_transaction:
                    world.commits += 1
                    if world.commits == world.backup_after:
                        super().backup()
                        if world.killed_after is not None:
                            world.faults.kills = {world.faults.moment + world.killed_after}
                    with world.mortal():
                        world.faults.pass_moment()

            def backup(self) -> None:
                """Make none but the one of this test, at the end at the latest."""
                if not backup_of(self.path).exists():
                    super().backup()

        @contextmanager
        def model(_spec: Spec, **_: bool) -> Iterator[Target]:
            yield ModelTarget(world.server, world.faults)

        with ExitStack() as patched:
            patched.enter_context(mock.patch("vsync.state.journal.Journal", MortalJournal))
            patched.enter_context(mock.patch.object(api, "target_of", model))
            return api.apply(spec, state=self.state, choice=choice)

    @contextmanager
    def mortal(self) -> Iterator[None]:
        try:
            yield
        except KilledError:
            self.dead = True
            raise

    def apply_until_done(self, spec: Spec) -> Result:
        """Run the same command again until it ends by itself."""
        with stamina.set_testing(testing=True, attempts=2, cap=True):
            for _ in range(TRIES):
                try:
                    return self.apply(spec)
                except (KilledError, TransientError):  # noqa: PERF203 - each round is a process of its own
                    continue
        raise AssertionError(f"not done after {TRIES} tries")

    def lose_the_journal(self) -> None:
        """Destroy the journal, see that it is refused, and bring its backup back."""
        os.truncate(self.state, 0)
        with pytest.raises(JournalError, match="is damaged"):
            Journal(self.state)
        restore(self.state)


BACKUP = st.integers(1, 25)
LATER = st.integers(0, 40)
KILLS = st.sets(st.integers(0, 200), max_size=2)
FATES = st.lists(st.sampled_from(["acked", "acked", "lost", "landed", "part", "refused", "late1"]), max_size=20)
QUICK = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@QUICK
@given(
    write=st.sampled_from(["append", "upsert", "overwrite"]),
    there=st.one_of(st.just(set()), st.sets(st.integers(-5, 2 * ROWS), max_size=30)),
    backup=BACKUP,
    kills=KILLS,
    fates=FATES,
)
def test_with_keys_of_our_own_it_converges(
    folder: Path, write: str, there: set[int], backup: int, kills: set[int], fates: list[str]
) -> None:
    spec = spec_of(folder, write)
    with tempfile.TemporaryDirectory() as name:
        world = World(filled(there, rare=_in_rare), Path(name) / "state.db", Faults(list(fates), set(kills)), backup)
        world.apply_until_done(spec)
        world.lose_the_journal()
        result = world.apply_until_done(spec)
        assert all(s.balanced for s in result.settled), result.settled
        world.faults = Faults()
        assert world.apply(spec).plan.empty
    world.server.land(all_of_them=True)
    kept = there if write == "append" else there - set(range(2 * ROWS)) if write == "upsert" else set()
    expected: dict[int, tuple[Any, ...]] = dict.fromkeys(kept, ((-1.0, -1.0), -1))
    expected |= {key: data_row(key) for key in range(2 * ROWS) if key not in kept}
    assert max(world.server.keys("words").values()) == 1
    assert {r[0]: r[1:] for rows in world.server.tables["words"].rows.values() for r in rows} == expected


@QUICK
@given(backup=BACKUP, later=LATER, fates=FATES)
def test_with_keys_of_our_own_a_killed_apply_goes_on_from_its_backup(
    folder: Path, backup: int, later: int, fates: list[str]
) -> None:
    there = set(range(0, 2 * ROWS, 7))
    with tempfile.TemporaryDirectory() as name:
        world = World(filled(there, rare=_in_rare), Path(name) / "state.db", Faults(list(fates)), backup, later)
        with stamina.set_testing(testing=True, attempts=2, cap=True), suppress(KilledError, TransientError):
            world.apply(spec_of(folder, "append"))
        world.lose_the_journal()
        result = world.apply_until_done(spec_of(folder, "append"))
        assert all(s.balanced for s in result.settled), result.settled
    world.server.land(all_of_them=True)
    assert max(world.server.keys("words").values()) == 1
    rows = {r[0]: r[1:] for rows in world.server.tables["words"].rows.values() for r in rows}
    assert rows == {k: ((-1.0, -1.0), -1) if k in there else data_row(k) for k in range(2 * ROWS)}


@QUICK
@given(backup=BACKUP, later=LATER, fates=FATES, ends=st.booleans())
def test_with_keys_of_the_servers_making_no_row_is_doubled(
    folder: Path, backup: int, later: int, fates: list[str], *, ends: bool
) -> None:
    """It goes on where what is in doubt can be settled, and is refused where rows may be there that nobody knows."""
    spec = spec_of(folder, "append", auto_id=True)
    with tempfile.TemporaryDirectory() as name:
        world = World(Server(), Path(name) / "state.db", Faults(list(fates)), backup, later)
        with stamina.set_testing(testing=True, attempts=2, cap=True), suppress(KilledError, TransientError):
            _ = world.apply_until_done(spec) if ends else world.apply(spec)
        world.lose_the_journal()
        before = world.server.values("words") if world.server.tables else None
        try:
            result = world.apply_until_done(spec)
        except ConflictError:
            with pytest.raises(ConflictError, match=r"made by the server \(auto_id\)"):
                world.apply(spec)
            assert before == world.server.values("words"), "nothing was sent, nothing was removed"
            return
        assert all(s.balanced for s in result.settled), result.settled
        world.faults = Faults()
        assert world.apply(spec).plan.empty
    assert world.server.values("words") == {data_row(key): 1 for key in range(2 * ROWS)}


def test_of_keys_of_the_servers_making_an_apply_that_was_killed_goes_on(folder: Path, tmp_path: Path) -> None:
    """All its chunks were known when the backup was made: what came later is found, and removed."""
    spec = spec_of(folder, "append", auto_id=True, into=None)
    world = World(Server(), tmp_path / "state.db", backup_after=9, killed_after=8)
    with pytest.raises(KilledError):
        world.apply(spec)
    assert 0 < len(world.server.keys("words")) < ROWS
    world.lose_the_journal()
    result = world.apply_until_done(spec)
    assert [s.left for s in result.settled] == [ROWS]
    assert world.server.values("words") == {data_row(key): 1 for key in range(ROWS)}


@pytest.mark.parametrize("into", ["", ", into: rare"])
def test_of_keys_of_the_servers_making_whenever_the_backup_was_made(folder: Path, tmp_path: Path, into: str) -> None:
    spec = spec_of(folder, "append", auto_id=True, into=into)
    whole = {data_row(key): 1 for key in range(2 * ROWS)}
    went_on, refused = [], []
    for backup in range(1, 12):
        world = World(Server(), tmp_path / f"{backup}.db", backup_after=backup, killed_after=14)
        with pytest.raises(KilledError):
            world.apply(spec)
        before = world.server.values("words")
        world.lose_the_journal()
        try:
            world.apply_until_done(spec)
        except ConflictError:
            refused.append(backup)
            assert world.server.values("words") == before
        else:
            went_on.append(backup)
            assert world.server.values("words") == whole, backup
    assert refused
    assert bool(went_on) is (into == ""), "whether a second destination was begun since cannot be known"


def test_of_keys_of_the_servers_making_what_an_unknown_apply_wrote_is_refused(folder: Path, tmp_path: Path) -> None:
    world = World(Server(), tmp_path / "state.db")
    world.apply(spec_of(folder, "append", auto_id=True, into=None))
    with_second = spec_of(folder, "append", auto_id=True, into="")
    backup_of(world.state).write_bytes(world.state.read_bytes())  # it is closed, and whole
    world.apply(with_second)
    world.lose_the_journal()
    with pytest.raises(ConflictError, match="brought back from its backup, and the keys are made by the server"):
        world.apply(with_second)
    assert world.server.values("words") == {data_row(key): 1 for key in range(2 * ROWS)}

    overwritten = spec_of(folder, "overwrite", auto_id=True, into="")
    world.apply(overwritten)
    assert world.server.values("words") == {data_row(key): 1 for key in range(2 * ROWS)}
    assert world.apply(overwritten).plan.empty


def test_of_keys_of_the_servers_making_a_backup_that_nothing_followed_is_believed(folder: Path, tmp_path: Path) -> None:
    world = World(Server(), tmp_path / "state.db")
    world.apply(spec_of(folder, "append", auto_id=True, into=None))
    backup_of(world.state).write_bytes(world.state.read_bytes())
    world.lose_the_journal()
    assert world.apply(spec_of(folder, "append", auto_id=True, into=None)).plan.empty
    world.apply(spec_of(folder, "append", auto_id=True, into=""))
    assert world.server.values("words") == {data_row(key): 1 for key in range(2 * ROWS)}


@pytest.mark.parametrize("auto_id", [False, True])
def test_what_is_overwritten_again_is_emptied_first_whenever_it_is_killed(
    folder: Path, tmp_path: Path, *, auto_id: bool
) -> None:
    spec, again = spec_of(folder, "overwrite", auto_id=auto_id, into=""), replace(CHOICE, restart=("collection.words",))
    part = replace(CHOICE, restart=("collection.words.data.first",))
    world = World(Server(), tmp_path / "state.db")
    world.apply(spec)
    with pytest.raises(ConflictError, match="is overwritten by all its data together"):
        world.apply(spec, part)
    with pytest.raises(ConflictError, match=r"let them be destroyed: --allow-destroy collection\.words"):
        world.apply(spec, replace(again, allow_destroy=()))
    killed = 0
    for moment in range(0, 40, 2):
        rows = world.server.tables["words"].rows["_default"]
        rows[0] = (rows[0][0], (-1.0, -1.0), -1)  # somebody changes a row: copied again it is as the data says
        world.faults = Faults(kills={moment})
        try:
            world.apply(spec, again)
        except KilledError:
            killed += 1
            world.faults = Faults()
            if world.apply(spec).plan.empty:  # killed before it was recorded: then it is asked for once more
                world.apply(spec, again)
        world.faults = Faults()
        assert world.server.values("words") == {data_row(key): 1 for key in range(2 * ROWS)}, moment
        assert world.apply(spec).plan.empty
    assert killed > 10


@pytest.mark.parametrize("write", ["append", "upsert"])
def test_what_is_copied_again_is_counted_right_whenever_it_is_killed(folder: Path, tmp_path: Path, write: str) -> None:
    spec, again = spec_of(folder, write), replace(CHOICE, restart=("collection.words",))
    world = World(filled(set(range(0, 2 * ROWS, 9)), rare=_in_rare), tmp_path / "state.db")
    world.apply(spec)
    content = world.server.values("words")
    for moment in range(0, 60, 4):
        gone = world.server.tables["words"].rows["rare"].pop()
        world.server.tables["words"].rows["rare"].append((10**6 + moment, gone[1], gone[2]))  # counts alone do not tell
        world.faults = Faults(kills={moment})
        killed = False
        try:
            world.apply(spec, again)
        except KilledError:
            killed = True
        world.faults = Faults()
        if killed and world.apply(spec).plan.empty:
            world.apply(spec, again)
        assert world.apply(spec).plan.empty
        assert gone in world.server.tables["words"].rows["rare"], moment
        world.server.tables["words"].rows["rare"] = [
            r for r in world.server.tables["words"].rows["rare"] if r[0] < 10**6
        ]
        world.apply(spec)
        assert world.server.values("words") == content, moment
        assert max(world.server.keys("words").values()) == 1
