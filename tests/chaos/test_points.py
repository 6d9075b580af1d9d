"""The chaos suite, short: an apply ended at each fault point of the protocol, and its instruments seen to work.

The long form is scripts/chaos.
"""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import glove
import pytest
import reader
from chaos import points, tally
from chaos.content import Compared, compare
from chaos.interruption import LOSS, REOPENED, Interruption, Passed, Recorded, choose
from chaos.lane import Lane
from chaos.scenario import NAME, SHAPES, Shape, make
from chaos.tally import Tally
from chaos.trial import Trial
from conftest import Endpoint

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext

    from servers import LiteServer, MilvusServer

SUITE = Path(__file__).parents[2] / "scripts" / "chaos_run.py"
SEED = 20261123

COVERING = (
    # Together these pass every point of the protocol on Milvus Lite, most of them more than once.
    Shape("int64", "append"),
    Shape("int64", "append", bad="refused"),
    Shape("auto_id", "append", "replaced"),
    Shape("varchar", "upsert", "others", bad="skip"),
    Shape("int64", "overwrite", "reindexed"),
)


def point(name: str, passing: int = 1) -> Interruption:
    return Interruption("point", f"{name}:{passing}")


def protocol_of(kind: str) -> set[str]:
    return points.protocol() & points.expected({kind})


def in_their_order(recorded: Recorded, names: set[str]) -> list[Interruption]:
    passed = dict.fromkeys([*recorded.passed.planning, *recorded.passed.working])
    return [point(name) for name in passed if name in names]


def test_the_points_are_taken_from_the_code() -> None:
    commits, requests = points.commits(), points.requests()
    assert {"begin_run", "sent", "acked", "end_session", "backup"} <= commits
    assert {"Insert", "Upsert", "Delete", "Query", "CreateCollection", "LoadCollection", "AlterAlias"} <= requests
    assert requests >= points.WRITES
    assert commits | requests >= points.NEVER | set(points.ONLY), "an exception that the code does not know any more"
    assert protocol_of("milvus") | protocol_of("lite") == points.both_sides(
        {f"journal.{name}" for name in commits - points.NEVER} | {f"request.{name}" for name in points.WRITES}
    )


def test_an_apply_is_ended_at_each_point_of_the_protocol(tmp_path: Path, forks: ForkServerContext) -> None:
    lane = Lane("lite-embedded", None, tmp_path, SEED, forks)
    left = protocol_of("lite-embedded")
    for n, shape in enumerate(COVERING):
        # One after the other, in one scenario. Who finds a collection made that was not noted does not note it again.
        once = {"journal.created.before"} if "journal.created.after" in left else set()
        given = in_their_order(lane.record(n, shape), left - once)
        if shape.key == "auto_id":
            # Once some chunks are done rows are taken away: whoever counts them then finds that.
            given += [point("journal.acked.after", 5), Interruption(LOSS, "0.5"), *map(point, REOPENED)]
        result = lane.repeat(n, given, shape)
        assert result.right, result
        left -= set(lane.tally.ended)
    assert not left


SOON = "int64 overwrite others from milvus"


@pytest.mark.parametrize(
    "shape",
    [s if str(s) == SOON else pytest.param(s, marks=pytest.mark.slow) for s in SHAPES if s.source],
    ids=str,
)
def test_a_copy_of_collections_is_ended_at_each_point_of_the_protocol(
    tmp_path: Path, forks: ForkServerContext, shape: Shape
) -> None:
    lane = Lane("lite-embedded", None, tmp_path, SEED, forks)
    # Who finds a collection made that was not noted does not note it again: that point would end the later ones.
    given = in_their_order(lane.record(0, shape), protocol_of("lite-embedded") - {"journal.created.before"})
    result = lane.repeat(0, given, shape)
    assert result.right, result
    assert set(lane.tally.ended) == {one.at.rpartition(":")[0] for one in given}
    assert {"journal.sent.after", "journal.acked.before", "journal.enter_unit.after"} <= set(lane.tally.ended)


def test_a_served_lite_that_is_interrupted_in_every_way(
    tmp_path: Path, forks: ForkServerContext, lite_server: LiteServer
) -> None:
    lane = Lane("lite", lite_server, tmp_path, SEED, forks)
    given = "point=request.Insert.before:2 late=60000:0.1 half=50000 cut=50000 away=0.2"
    result = lane.repeat(0, [Interruption.parse(one) for one in given.split()], Shape("int64", "append", "others"))
    assert result.right, result
    assert {one.kind for one in result.hit} >= {"point", "late"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "given"),
    [
        (
            Shape("varchar", "upsert", "others"),
            "point=journal.sent.after:1 point=request.Delete.after:2 point=request.Upsert.after:1 kill=0.5 cut=40000",
        ),
        (Shape("auto_id", "append"), "point=request.Insert.after:2 loss=0.5 point=request.Insert.before:1"),
    ],
    ids=str,
)
def test_a_handful_on_milvus(
    tmp_path: Path, forks: ForkServerContext, milvus: MilvusServer, shape: Shape, given: str
) -> None:
    lane = Lane("milvus", milvus, tmp_path, SEED, forks)
    result = lane.repeat(0, [Interruption.parse(one) for one in given.split()], shape)
    assert result.right, result
    assert len(result.hit) >= 3


@pytest.mark.slow
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("server", ["milvus", "lite", "lite-embedded"])
def test_some_minutes_of_chaos(tmp_path: Path, server: str) -> None:
    command = [sys.executable, str(SUITE), "--server", server, "--seed", str(SEED), "--minutes", "3"]
    ran = subprocess.run([*command, "--folder", str(tmp_path)], capture_output=True, text=True, check=False)
    assert ", 0 lost, 0 doubled, 0 changed" in ran.stdout.replace("compared: ", ", "), ran.stdout + ran.stderr
    assert "WRONG" not in ran.stdout
    assert not list(tmp_path.iterdir()), "it removes what it made"


def test_the_comparison_sees_what_is_lost_doubled_and_changed(target: Endpoint) -> None:
    from pymilvus import DataType

    rows, twice = glove.rows(0, 300), 0
    with reader.client_of(target) as client:
        schema, index = client.create_schema(), client.prepare_index_params()
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=glove.DIM)
        schema.add_field("word", DataType.VARCHAR, max_length=512)
        index.add_index("vector", index_type="FLAT", metric_type="L2")
        client.create_collection("words", schema=schema, index_params=index)
        client.create_partition("words", "rare")
        reader.insert(client, "words", rows[:200], "rare")
        reader.insert(client, "words", rows[200:])
        expected = {"_default": rows[200:].by_id(), "rare": rows[:200].by_id()}
        assert compare(client, "words", "id", expected) == Compared(300)

        client.delete("words", ids=[3, 250, 251])
        reader.insert(client, "words", rows[:1].numbered(1_000_000))
        if target.kind == "milvus-2.3.5":  # Lite would replace them
            twice = 6
            reader.insert(client, "words", rows[30:34], "_default")
            reader.insert(client, "words", rows[40:42], "rare")
        client.upsert("words", [{"id": 7, "vector": rows.vectors[7], "word": "changed"}], partition_name="rare")
        assert compare(client, "words", "id", expected) == Compared(300, lost=3, doubled=1 + twice, changed=1)


def test_a_row_that_is_gone_makes_a_scenario_wrong(
    tmp_path: Path, forks: ForkServerContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = Trial.run_to_the_end

    def ends_and_somebody_deletes(trial: Trial) -> None:
        ends(trial)
        item = trial.scenario.items[0]
        with reader.client_of(trial.scenario.target) as client:
            client.delete(NAME, ids=trial.scenario.written(item.path, 0, len(item.rows.ids))[:2])
            client.flush(NAME)

    monkeypatch.setattr(Trial, "run_to_the_end", ends_and_somebody_deletes)
    result = Lane("lite-embedded", None, tmp_path, SEED, forks).repeat(0, [], Shape("int64", "append", bad="skip"))
    assert not result.right
    assert result.compared.lost == 2
    assert "2 rows" in result.wrong or "fewer" in result.wrong
    assert (tmp_path / "lite-embedded-0" / "vsync.yaml").exists(), "its files stay"


def test_of_a_state_whose_tables_were_not_made_yet_nothing_is_done(tmp_path: Path, forks: ForkServerContext) -> None:
    scenario = make(Shape("int64", "append"), tmp_path, Endpoint("", "", "lite"), random.Random(SEED))
    (tmp_path / ".vsync").mkdir()
    (tmp_path / ".vsync" / "vsync.db").touch()
    assert Trial(scenario, forks, None, None).done() == []


def test_what_was_never_hit_is_named() -> None:
    everything = points.expected({"lite"})
    one = Tally("lite", passed=Counter(everything), ended=Counter(everything))
    assert tally.never([one]) == []
    del one.passed["request.DropAlias.after"], one.ended["journal.acked.before"], one.ended["request.Query.before"]
    assert tally.never([one]) == ["journal.acked.before", "request.DropAlias.after"]


def test_a_point_where_no_run_was_ended_is_chosen() -> None:
    whole = Recorded(Passed(["request.Query.before"], ["journal.acked.before"] * 3 + ["journal.end_run.after"]), 1, 1)
    known = Tally("lite", ended=Counter({"journal.acked.before": 9, "request.Query.before": 9}))
    chosen = Counter(choose({"point": 1}, whole, Passed(), known, random.Random(n)).at for n in range(100))
    assert chosen["journal.end_run.after:1"] > 30  # of 100: the one that comes first is chosen as often
    assert set(chosen) > {"journal.acked.before:1", "request.Query.before:1"}
    done = Passed([], ["journal.acked.before"] * 2 + ["journal.end_run.after"])
    left = {choose({"point": 1}, whole, done, known, random.Random(n)).at for n in range(100)}
    assert left == {"journal.acked.before:1", "request.Query.before:1"}
