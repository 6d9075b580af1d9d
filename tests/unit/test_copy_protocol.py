"""The chunk protocol under every interleaving of faults that hypothesis thinks of: each key ends up there once.

The journal, the plan and the apply are the real ones; the server is ``model_target``, whose requests are lost, land
without an answer, land in part or land late, while the process is killed between any two things that it does.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import tempfile
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import stamina
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from model_target import Faults, ModelReader, ModelTarget, ModelWriter, Server, data_row, filled
from mortal import apply_once, apply_until_done, make_plan, quiet

from vsync.applying.run import carry_out
from vsync.applying.settings import Settings, Stop
from vsync.errors import MismatchError, TransientError
from vsync.opening import Sources
from vsync.planning.choice import Choice
from vsync.spec import parse_spec
from vsync.state.journal import Journal
from vsync.state.view import View

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from vsync.connectors.base import Acked
    from vsync.schema import Collection
    from vsync.spec import Spec

ROWS = 40
MANY_WAITS = 30
ROW_BYTES = 8 + 2 * 4 + 8

SPEC = """
version: 1
target: model.db
defaults: {{chunk_bytes: {chunk}}}
collections:
  words:
    fields:
      id: {{type: int64, primary: true, auto_id: {auto_id}}}
      vector: {{type: float_vector, dim: 2}}
      number: {{type: int64}}
    partitions: [rare]
    aliases: [lexicon]
    write: {write}
    data:
      - {{name: first, from: a.parquet, map: {map}}}
      - {{name: second, from: b.parquet, map: {map}, into: rare}}
"""

OPS = st.sampled_from(["acked", "lost", "landed", "part", "refused", "large", "late0", "late1", "late3"])


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path, lo in (("a.parquet", 0), ("b.parquet", ROWS)):
            ids = np.arange(lo, lo + ROWS, dtype=np.int64)
            vectors = pa.FixedSizeListArray.from_arrays(np.repeat(ids, 2).astype(np.float32), 2)
            table = pa.table({"ids": ids, "vectors": vectors, "numbers": ids * 10})
            pq.write_table(table, folder / path, row_group_size=5)
        yield folder


def spec_of(folder: Path, write: str, *, auto_id: bool, chunk_rows: int, exclusive: bool = True) -> Spec:
    columns = "{vector: vectors, number: numbers}" if auto_id else "{id: ids, vector: vectors, number: numbers}"
    text = SPEC.format(write=write, map=columns, auto_id=str(auto_id).lower(), chunk=f'"{chunk_rows * ROW_BYTES}"')
    text = text.replace("    data:", f"    exclusive: {str(exclusive).lower()}\n    data:")
    return parse_spec(text, folder=folder, environ={})


def check_finished(spec: Spec, server: Server, state: Path, choice: Choice) -> None:
    with closing(View(state)) as view:
        again = make_plan(spec, ModelTarget(server), view, choice)
    assert again.empty, [again.steps, again.changes]
    assert server.aliases == {"lexicon": "words"}


FAULTS = {
    "fates": st.lists(OPS, max_size=25),
    "kills": st.sets(st.integers(0, 150), max_size=6),
    "chunk_rows": st.integers(3, 15),
}
QUICK = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@QUICK
@given(
    write=st.sampled_from(["append", "upsert", "overwrite"]),
    there=st.one_of(st.just(set()), st.sets(st.integers(-5, 2 * ROWS), max_size=30)),
    **FAULTS,
)
def test_each_key_is_there_once_whatever_dies_when(
    folder: Path, write: str, there: set[int], fates: list[str], kills: set[int], chunk_rows: int
) -> None:
    spec = spec_of(folder, write, auto_id=False, chunk_rows=chunk_rows)
    # Some where the data puts them, some in the other partition.
    server, faults = filled(there, rare=lambda key: key % 2 == 1), Faults(list(fates), set(kills))
    choice = Choice(allow_destroy=("collection.words", "collection.words.partition.rare"))
    with tempfile.TemporaryDirectory() as name:
        state = Path(name) / "state.db"
        settled = apply_until_done(spec, server, state, faults, choice)
        assert all(s.balanced for s in settled), settled
        check_finished(spec, server, state, choice)
    server.land(all_of_them=True)

    kept = there if write == "append" else there - set(range(2 * ROWS)) if write == "upsert" else set()
    expected: dict[int, tuple[Any, ...]] = dict.fromkeys(kept, ((-1.0, -1.0), -1))
    expected |= {key: data_row(key) for key in range(2 * ROWS) if key not in kept}
    assert max(server.keys("words").values()) == 1
    assert {r[0]: r[1:] for rows in server.tables["words"].rows.values() for r in rows} == expected


@QUICK
@given(**FAULTS)
@example(fates=["lost"] * 5 + ["late3", "lost"], kills=set(), chunk_rows=14)  # it lands two runs later
def test_keys_of_the_servers_making_are_settled_so_that_each_row_is_there_once(
    folder: Path, fates: list[str], kills: set[int], chunk_rows: int
) -> None:
    spec = spec_of(folder, "append", auto_id=True, chunk_rows=chunk_rows)
    server, faults = Server(), Faults(list(fates), set(kills))
    with tempfile.TemporaryDirectory() as name:
        state = Path(name) / "state.db"
        settled = apply_until_done(spec, server, state, faults, Choice())
        assert all(s.balanced for s in settled), settled
        check_finished(spec, server, state, Choice())
    assert server.values("words") == {data_row(key): 1 for key in range(2 * ROWS)}


class LateTarget(ModelTarget):
    """What is late lands when rows are counted, after all that was in doubt is settled."""

    def count(self, collection: str, partition: str | None) -> int | None:
        if self.server.tables[collection].loaded:
            self.server.land(all_of_them=True)
        return super().count(collection, partition)

    def reader(self, collection: Collection, partition: str | None) -> ModelReader:
        if len(self.server.late) > 1:
            self.server.land(all_of_them=True)
        return super().reader(collection, partition)


def test_an_insert_that_lands_after_it_was_settled_is_removed(folder: Path, tmp_path: Path) -> None:
    spec = spec_of(folder, "append", auto_id=True, chunk_rows=10)
    server = Server()
    target, journal = LateTarget(server, Faults(["late99"])), Journal(tmp_path / "state.db")
    made = make_plan(spec, target, journal, Choice())
    with closing(journal):
        settled = carry_out(made, target, journal, Sources(spec), Settings(transfers=1), Stop(), quiet)
    assert server.made > 2 * ROWS, "it did land"
    assert server.late == []
    assert [s.left for s in settled] == [ROWS, ROWS]
    assert server.values("words") == {data_row(key): 1 for key in range(2 * ROWS)}


OTHERS = -999
"""The number in rows that somebody else wrote."""


class OthersTarget(ModelTarget):
    """Somebody else writes two rows when rows are counted for the second time."""

    def count(self, collection: str, partition: str | None) -> int | None:
        table = self.server.tables[collection]
        if table.loaded and not any(row[-1] == OTHERS for row in table.rows["_default"]):
            table.rows["_default"] += [(-5, (0.5, 0.5), OTHERS), (10**6, (0.5, 0.5), OTHERS)]
        return super().count(collection, partition)


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("auto_id", [True, False])
def test_rows_of_others_stay_and_are_an_error_unless_the_spec_expects_them(
    folder: Path, tmp_path: Path, *, exclusive: bool, auto_id: bool
) -> None:
    spec = spec_of(folder, "append", auto_id=auto_id, chunk_rows=10, exclusive=exclusive)
    server, state = Server(), tmp_path / "state.db"
    target, journal = OthersTarget(server, Faults(["landed"])), Journal(state)
    made = make_plan(spec, target, journal, Choice())
    told = contextlib.nullcontext() if not exclusive else pytest.raises(MismatchError, match="2 more than the 40 that")
    with told, closing(journal), stamina.set_testing(testing=True, attempts=3):
        carry_out(made, target, journal, Sources(spec), Settings(transfers=1), Stop(), quiet)
    assert server.values("words")[((0.5, 0.5), OTHERS)] == 2
    assert bool(server.aliases) is not exclusive, "no alias moves while counts differ"


def test_old_copies_that_are_still_counted_are_waited_for(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = [7, 2, 0]

    class SlowTarget(ModelTarget):
        """It counts old copies, some fewer each time: Milvus 2.3.5 does under load, after rows were replaced."""

        settling = 1e9

        def count(self, collection: str, partition: str | None) -> int | None:
            counted = super().count(collection, partition)
            old = copies.pop(0) if counted and copies else 0
            return None if counted is None else counted + old

    monkeypatch.setattr("vsync.applying.retry.RECOUNT_SECONDS", 0.0)
    spec = spec_of(folder, "upsert", auto_id=False, chunk_rows=10)
    target, journal = SlowTarget(Server()), Journal(tmp_path / "state.db")
    made = make_plan(spec, target, journal, Choice())
    with closing(journal):
        settled = carry_out(made, target, journal, Sources(spec), Settings(transfers=1), Stop(), quiet)
    assert copies == []
    assert all(s.balanced for s in settled), settled


def test_rows_that_the_server_lost_are_sent_again_whoever_made_their_keys(folder: Path, tmp_path: Path) -> None:
    for auto_id in (True, False):
        spec = spec_of(folder, "append", auto_id=auto_id, chunk_rows=4)
        server, state = Server(), tmp_path / f"{auto_id}.db"
        apply_once(spec, server, state, Faults(), Choice())
        rows = server.tables["words"].rows
        del rows["_default"][3:6], rows["rare"][-1]
        with closing(View(state)) as view:
            made = make_plan(spec, ModelTarget(server), view, Choice())
        assert [c.summary for c in made.changes if "vsync left 40" in c.summary], made.changes
        apply_until_done(spec, server, state, Faults(["landed", "part"]), Choice())
        assert server.values("words") == {data_row(key): 1 for key in range(2 * ROWS)}, auto_id
        check_finished(spec, server, state, Choice())


@pytest.mark.parametrize("fate", ["landed", "part", "lost"])
def test_a_chunk_that_lost_rows_and_was_sent_again_unheard_counts_once(folder: Path, tmp_path: Path, fate: str) -> None:
    """Its rows may be there when the next run counts: what that then writes is no more than was there."""
    spec = spec_of(folder, "append", auto_id=True, chunk_rows=4)
    server, state = Server(), tmp_path / "state.db"
    apply_once(spec, server, state, Faults(), Choice())
    del server.tables["words"].rows["_default"][1:3]
    with stamina.set_testing(testing=True), pytest.raises(TransientError, match="in doubt once more"):
        apply_once(spec, server, state, Faults(["acked", fate]), Choice())  # it is sent in two requests
    settled = apply_once(spec, server, state, Faults(), Choice())
    assert [(s.left, s.expected) for s in settled] == [(ROWS, ROWS)]
    assert server.values("words") == {data_row(key): 1 for key in range(2 * ROWS)}
    check_finished(spec, server, state, Choice())


class LosingTarget(ModelTarget):
    """It loses acknowledged rows before it counts them for the first time."""

    def count(self, collection: str, partition: str | None) -> int | None:
        table = self.server.tables[collection]
        if table.loaded:
            del table.rows["_default"][ROWS - 3 :]
        return super().count(collection, partition)


@pytest.mark.parametrize("write", ["append", "upsert", "overwrite"])
@pytest.mark.parametrize("loads", [False, True])
def test_rows_that_were_missing_are_not_forgotten_while_they_cannot_be_counted(
    folder: Path, tmp_path: Path, write: str, *, loads: bool
) -> None:
    spec, server, state = spec_of(folder, write, auto_id=False, chunk_rows=10), Server(), tmp_path / "state.db"
    target, journal = LosingTarget(server), Journal(state)
    made, choice = make_plan(spec, target, journal, Choice()), Choice(allow_destroy=("collection.words",))
    with closing(journal), pytest.raises(MismatchError, match="3 fewer than the 40 that it should"):
        carry_out(made, target, journal, Sources(spec), Settings(transfers=1), Stop(), quiet)
    server.tables["words"].loaded = False  # as Milvus Lite 2.5 forgets it when it is started again
    if loads:
        spec = spec_of(folder, f"{write}\n    load: true", auto_id=False, chunk_rows=10)
    with pytest.raises(MismatchError, match="3 fewer than the 40" if loads else "cannot be counted, for it is not"):
        apply_once(spec, server, state, Faults(), choice)
    assert server.aliases == {}
    server.tables["words"].loaded = True
    apply_once(spec, server, state, Faults(), choice)
    assert server.values("words") == {data_row(key): 1 for key in range(2 * ROWS)}
    server.tables["words"].loaded = loads
    check_finished(spec, server, state, choice)


def test_rows_that_stay_in_doubt_are_an_error_and_never_taken_for_done(folder: Path, tmp_path: Path) -> None:
    spec = spec_of(folder, "append", auto_id=True, chunk_rows=ROWS)
    server, state = Server(), tmp_path / "state.db"
    faults = Faults(["lost", "lost", "lost"])  # the first of each file, and the first that is sent again
    with stamina.set_testing(testing=True), pytest.raises(TransientError, match="in doubt once more"):
        apply_once(spec, server, state, faults, Choice())
    apply_once(spec, server, state, Faults(), Choice())
    assert server.values("words") == {data_row(key): 1 for key in range(2 * ROWS)}


def test_a_collection_made_anew_forgets_the_keys_that_the_old_one_handed_out(folder: Path, tmp_path: Path) -> None:
    spec = spec_of(folder, "append", auto_id=True, chunk_rows=10)
    server, state = Server(), tmp_path / "state.db"
    apply_once(spec, server, state, Faults(), Choice())
    server.tables.clear()
    server.aliases.clear()
    server.made = 0  # its keys begin anew, as those of an embedded server do
    apply_until_done(spec, server, state, Faults(["landed", "part", "landed"]), Choice())
    assert server.values("words") == {data_row(key): 1 for key in range(2 * ROWS)}


def test_what_is_prepared_out_of_turn_does_not_make_the_loop_spin(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits, second, spun = 0, threading.Event(), threading.Event()
    real_wait, real_encode = concurrent.futures.wait, ModelWriter.encode

    def counted(*args: Any, **named: Any) -> Any:
        nonlocal waits
        waits += 1
        if waits > MANY_WAITS:
            spun.set()
        return real_wait(*args, **named)

    def encode(self: ModelWriter, rows: pa.RecordBatch) -> list[pa.RecordBatch]:
        if rows.column(0)[0].as_py():
            second.set()
        elif second.wait(10):
            spun.wait(0.2)  # the first is slower than the second; a loop that spins is seen at once
        return real_encode(self, rows)

    monkeypatch.setattr("vsync.applying.copy.wait", counted)
    monkeypatch.setattr(ModelWriter, "encode", encode)
    spec = spec_of(folder, "append", auto_id=False, chunk_rows=20)
    apply_once(spec, Server(), tmp_path / "state.db", Faults(), Choice())
    assert not spun.is_set()


def test_the_next_chunk_is_prepared_while_one_is_sent(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared, alone = threading.Semaphore(0), list[int]()
    real_wait, real_encode, real_send = concurrent.futures.wait, ModelWriter.encode, ModelWriter.send

    def patient(futures: Any, timeout: float, **named: Any) -> Any:
        return real_wait(futures, timeout + 60, **named)  # what only begins at a timeout begins too late

    def encode(self: ModelWriter, rows: pa.RecordBatch) -> list[pa.RecordBatch]:
        if rows.column(0)[0].as_py() % ROWS:
            prepared.release()
        return real_encode(self, rows)

    def send(self: ModelWriter, request: pa.RecordBatch) -> Acked:
        first = request.column(0)[0].as_py()
        if first % ROWS + request.num_rows < ROWS and not prepared.acquire(timeout=10):
            alone.append(first)
        return real_send(self, request)

    monkeypatch.setattr("vsync.applying.copy.wait", patient)
    monkeypatch.setattr(ModelWriter, "encode", encode)
    monkeypatch.setattr(ModelWriter, "send", send)
    spec = spec_of(folder, "append", auto_id=False, chunk_rows=10)
    target, journal = ModelTarget(Server(), writers=1, rows_per_request=10), Journal(tmp_path / "state.db")
    made = make_plan(spec, target, journal, Choice())
    with closing(journal):
        carry_out(made, target, journal, Sources(spec), Settings(transfers=1), Stop(), quiet)
    assert alone == [], "each chunk but the last one is sent while the next one is made ready"
