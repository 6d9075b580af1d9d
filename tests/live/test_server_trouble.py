"""Servers in trouble, and collections that somebody changes meanwhile: each apply ends in words, and the next is right.

What happens, happens at an event of the apply under test, in the same process: never by the clock.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import threading
from collections.abc import Callable
from dataclasses import astuple
from typing import TYPE_CHECKING, Any

import applies
import glove
import pytest
import reader
import servers
from chaos.proxy import proxy_to
from conftest import Endpoint
from pymilvus import DataType, MilvusClient, MilvusException
from pymilvus.client.types import LoadState
from servers import MilvusServer

import vsync
from vsync.applying import events as e
from vsync.applying.settings import Settings
from vsync.connectors.milvus import ddl, wire
from vsync.connectors.milvus.wire import common_pb2
from vsync.errors import ConflictError, MismatchError, StalePlanError, TargetError, TransientError
from vsync.spec import load_spec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SPEC = """
version: 1
target: {milvus: {uri: URI, database: DATABASE}}
defaults: {chunk_bytes: 32KiB}
collections:
  words:
    fields: {id: {type: int64, primary: true}, vector: {type: float_vector, dim: 50}, word: {type: varchar, max_length: 512}}
    indexes: {vector: {type: FLAT, metric: L2}}
    data: [{from: rows.h5, map: {id: ids, vector: vectors, word: words}, into: a}]
"""  # noqa: E501 - a spec
AUTO_ID = """
version: 1
target: {milvus: {uri: URI, database: DATABASE}}
defaults: {chunk_bytes: 32KiB}
collections:
  words:
    fields: {id: {type: int64, primary: true, auto_id: true}, vector: {type: float_vector, dim: 50}, n: {type: int64}}
    indexes: {vector: {type: FLAT, metric: L2}}
    data: [{from: rows.h5, map: {vector: vectors, n: ids}}]
"""
SIZE, CHUNKS = 900, 6

When = Callable[[list[e.Event]], bool]
"""Whether the last of the events so far is the one."""


MILVUS = ("milvus-2.3.5",)
SERVED = ("lite-server", *MILVUS)


def on(*, quick: tuple[str, ...], of: tuple[str, ...] = ("lite", *SERVED)) -> pytest.MarkDecorator:
    """Run on these servers, on the others with --all only."""
    marked = [kind if kind in quick else pytest.param(kind, marks=pytest.mark.slow) for kind in of]
    return pytest.mark.parametrize("target", marked, indirect=True)


@pytest.fixture(autouse=True)
def _nothing_is_printed(request: pytest.FixtureRequest, capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Neither pymilvus nor gRPC nor an embedded server writes a word: what is said are events and errors."""
    for name in {"target", "narrow"} & set(request.fixturenames):
        request.getfixturevalue(name)  # what is said while these are made is not vsync's
    capfd.readouterr()
    yield
    assert capfd.readouterr() == ("", "")


def write(folder: Path, target: Endpoint, spec: str = SPEC, *, size: int = SIZE) -> glove.Rows:
    what = glove.rows(0, size)
    glove.write_hdf5(folder / "rows.h5", what)
    (folder / "vsync.yaml").write_text(spec.replace("URI", target.uri).replace("DATABASE", target.database))
    return what


def apply(
    folder: Path, when: When | None = None, do: Callable[[], object] | None = None, **settings: Any
) -> list[e.Event]:
    """Apply the folder's spec; do something once, at an event. Gives all events."""
    seen: list[e.Event] = []
    left = [do] if do is not None else []

    def report(event: e.Event) -> None:
        seen.append(event)
        if left and when is not None and when(seen):
            left.pop()()

    vsync.apply(load_spec(folder / "vsync.yaml"), settings=Settings(**settings), report=report)
    return seen


def begins(step: str) -> When:
    return lambda seen: isinstance(seen[-1], e.StepBegan) and seen[-1].text.startswith(step)


def ended(step: str) -> When:
    return lambda seen: isinstance(seen[-1], e.StepEnded) and seen[-1].text.startswith(step)


def after_chunks(n: int) -> When:
    return lambda seen: sum(isinstance(event, e.ChunkAcked) for event in seen) == n


def waits(seen: list[e.Event]) -> bool:
    return isinstance(seen[-1], e.Waiting)


BEFORE_COPY, BETWEEN_CHUNKS = begins("create-partition"), after_chunks(2)
BEFORE_INDEX, BEFORE_COUNT = begins("create-index"), begins("verify")


@contextlib.contextmanager
def somebody(target: Endpoint) -> Iterator[MilvusClient]:
    """Another program; an embedded Lite is this process's, and is not given back."""
    servers.silence_pymilvus()
    # Its pings would be too many for a served Lite that is slow, and gRPC would write that.
    options = {"grpc.keepalive_time_ms": 600_000}
    client = MilvusClient(target.uri, db_name=target.database, timeout=60, dedicated=True, grpc_options=options)
    try:
        yield client
    finally:
        client.close()


def drop(client: MilvusClient) -> None:
    client.release_collection("words")
    client.drop_collection("words")


def rename(client: MilvusClient) -> None:
    client.rename_collection("words", "renamed")


def make_again(client: MilvusClient, *, partitions: tuple[str, ...] = ("a",), load: bool = True) -> None:
    drop(client)
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=glove.DIM)
    schema.add_field("word", DataType.VARCHAR, max_length=512)
    index = client.prepare_index_params()
    index.add_index("vector", index_type="FLAT", metric_type="L2")
    client.create_collection("words", schema=schema, index_params=index if load else None)
    for partition in partitions:
        client.create_partition("words", partition)


def assert_right(folder: Path, target: Endpoint, rows: glove.Rows) -> None:
    with reader.client_of(target) as client:
        reader.assert_holds(client, "words", rows.by_id())
    applies.assert_no_changes(folder)


def assert_there_once(folder: Path, target: Endpoint, rows: glove.Rows) -> None:
    """Look at the same where the server made the keys."""
    with reader.client_of(target) as client:
        client.load_collection("words")
        found = reader.read(client, "words", "n", rows.ids.tolist(), ["n"])
        assert sorted(row["n"] for row in found) == rows.ids.tolist()
        assert reader.count(client, "words") == SIZE
    applies.assert_no_changes(folder)


def check_somebody(
    folder: Path, target: Endpoint, when: When, does: Callable[[MilvusClient], object]
) -> StalePlanError:
    """Have somebody do something to an apply's collection: it ends with exit code 4, and the next one is right."""
    rows = write(folder, target)

    def interfere() -> None:
        with somebody(target) as client:
            does(client)

    with pytest.raises(StalePlanError) as caught:
        apply(folder, when, interfere)
    assert caught.value.exit_code == 4
    assert "run the same command again" in str(caught.value)
    apply(folder)
    assert_right(folder, target, rows)
    return caught.value


@on(quick=("lite-server",))
@pytest.mark.parametrize(
    ("does", "when"),
    [
        (drop, BEFORE_COPY),
        (rename, BETWEEN_CHUNKS),
        (drop, BEFORE_INDEX),
        (rename, BEFORE_COUNT),
        *(
            pytest.param(*other, marks=pytest.mark.slow)
            for other in [(rename, BEFORE_COPY), (drop, BETWEEN_CHUNKS), (rename, BEFORE_INDEX), (drop, BEFORE_COUNT)]
        ),
    ],
)
def test_a_collection_that_somebody_takes_away(
    tmp_path: Path, target: Endpoint, does: Callable[[MilvusClient], None], when: When
) -> None:
    error = check_somebody(tmp_path, target, when, does)
    said = ("dropped or renamed it meanwhile", "(code 100); somebody changed it", "there is no collection words")
    assert any(words in str(error) for words in said)


@on(quick=("lite-server",))
@pytest.mark.parametrize("when", [BEFORE_COPY, BETWEEN_CHUNKS, BEFORE_INDEX, BEFORE_COUNT])
def test_a_collection_that_somebody_makes_again(tmp_path: Path, target: Endpoint, when: When) -> None:
    """No chunk that the old one acknowledged is believed, and none goes into the new one."""
    error = check_somebody(tmp_path, target, when, make_again)
    assert "is another one than before: somebody dropped it meanwhile and made it again" in str(error)


@on(quick=("lite",))
def test_a_collection_that_somebody_makes_again_and_fills(tmp_path: Path, target: Endpoint) -> None:
    """Its count is what it should be; all the same nothing of it is believed, and nothing of it is touched."""
    others = glove.rows(0, SIZE).changed()

    def fill(client: MilvusClient) -> None:
        make_again(client)
        reader.insert(client, "words", others, "a")

    write(tmp_path, target)
    with pytest.raises(StalePlanError, match="is another one than before"), somebody(target) as client:
        apply(tmp_path, BEFORE_COUNT, lambda: fill(client))
    apply(tmp_path)  # to append is to leave what is there
    assert_right(tmp_path, target, others)


@on(quick=MILVUS, of=MILVUS)
def test_an_unloaded_collection_under_the_name_of_ours_is_not_overwritten(tmp_path: Path, target: Endpoint) -> None:
    write(tmp_path, target)
    with pytest.raises(StalePlanError, match="is another one than before"), somebody(target) as client:
        apply(tmp_path, BETWEEN_CHUNKS, lambda: make_again(client, load=False))
    with pytest.raises(ConflictError, match="is not loaded: which keys it holds cannot be asked"):
        apply(tmp_path)


@on(quick=("lite-server",))
def test_keys_of_the_servers_making_and_a_collection_that_is_made_again(tmp_path: Path, target: Endpoint) -> None:
    rows = write(tmp_path, target, AUTO_ID)
    with somebody(target) as client:

        def again() -> None:
            drop(client)
            client.create_collection("words", schema=schema, index_params=index)

        schema, index = client.create_schema(auto_id=True), client.prepare_index_params()
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=glove.DIM)
        schema.add_field("n", DataType.INT64)
        index.add_index("vector", index_type="FLAT", metric_type="L2")
        with pytest.raises(StalePlanError, match="is another one than before"):
            apply(tmp_path, ended("create-collection"), again)
    apply(tmp_path)
    assert_there_once(tmp_path, target, rows)


@on(quick=("lite-server",))
@pytest.mark.parametrize("when", [BEFORE_COPY, BETWEEN_CHUNKS, BEFORE_COUNT])
def test_a_partition_that_somebody_drops(tmp_path: Path, target: Endpoint, when: When) -> None:
    def does(client: MilvusClient) -> None:
        if target.kind == "milvus-2.3.5":
            client.release_partitions("words", ["a"])
        client.drop_partition("words", "a")

    when = begins("flush") if when is BEFORE_COPY else when
    error = check_somebody(tmp_path, target, when, does)
    assert "partition" in str(error)


@on(quick=("lite-server",))
def test_a_partition_that_somebody_makes_again_is_found_by_its_count(tmp_path: Path, target: Endpoint) -> None:
    def does() -> None:
        with somebody(target) as client:
            client.drop_partition("words", "a")
            client.create_partition("words", "a")

    rows = write(tmp_path, target)
    with pytest.raises(MismatchError, match=r"fewer than the 900 that it should; run the same command again"):
        apply(tmp_path, BETWEEN_CHUNKS, does)
    apply(tmp_path)
    assert_right(tmp_path, target, rows)


@on(quick=(), of=MILVUS)
@pytest.mark.parametrize("does", ["release", "drop the index"])
def test_what_a_milvus_needs_for_the_count_and_somebody_takes_away(tmp_path: Path, target: Endpoint, does: str) -> None:
    def drop_the_index(client: MilvusClient) -> None:
        client.drop_index("words", client.list_indexes("words")[0])

    what, when, said = {
        "release": (lambda client: client.release_collection("words"), BEFORE_COUNT, "somebody released it meanwhile"),
        "drop the index": (drop_the_index, begins("load"), r"\(code 700\)"),
    }[does]
    error = check_somebody(tmp_path, target, when, what)
    assert re.search(said, str(error))


@on(quick=("lite",))
def test_what_changes_between_the_plan_and_the_apply(tmp_path: Path, target: Endpoint) -> None:
    """While a person reads the plan and says yes."""
    rows = write(tmp_path, target)
    spec = load_spec(tmp_path / "vsync.yaml")

    def agreed(does: Callable[[MilvusClient], object]) -> Callable[[object], bool]:
        def confirm(_plan: object) -> bool:
            with somebody(target) as client:
                does(client)
            return True

        return confirm

    apply(tmp_path)
    for more, does in ((100, drop), (200, make_again)):
        rows = glove.rows(0, SIZE + more)
        glove.write_hdf5(tmp_path / "rows.h5", rows)
        with pytest.raises(StalePlanError, match=r"collection\.words changed since the plan was made; run the same"):
            vsync.apply(spec, confirm=agreed(does))
        apply(tmp_path)
        assert_right(tmp_path, target, rows)
    with somebody(target) as client:
        drop(client)
        with pytest.raises(StalePlanError, match=r"collection\.words is there now: somebody made it meanwhile"):
            apply(tmp_path, begins("create-collection"), lambda: client.create_collection("words", dimension=50))
        drop(client)
    apply(tmp_path)
    assert_right(tmp_path, target, rows)


def assert_said(folder: Path, what: str, *, process: bool) -> None:
    """Apply by the command line: its words alone are on stderr, also where this is a process of its own."""
    words = ["apply", "--auto-approve", "--max-downtime", "0"]
    if process:
        ran = subprocess.run(applies.command(words), cwd=folder, capture_output=True, text=True, check=False)
        code, err = ran.returncode, ran.stderr
    else:
        code, _, err = astuple(applies.vsync(folder, *words))
    assert code == 5
    assert what in " ".join(err.split())
    first, *rest = err.splitlines()
    assert first.startswith("Error: ")
    assert all(line.startswith("  ") for line in rest), err


AWAY_AT = {
    "the copy": BETWEEN_CHUNKS,
    "the flush": begins("flush"),
    "the index": BEFORE_INDEX,
    "the load": begins("load"),
    "the count": BEFORE_COUNT,
}


@contextlib.contextmanager
def lonely(folder: Path, target: Endpoint) -> Iterator[tuple[glove.Rows, Callable[[], object], contextlib.ExitStack]]:
    """Write a spec whose server can be sent away, and comes back when the stack is closed."""
    with contextlib.ExitStack() as back, proxy_to(int(target.uri.rpartition(":")[2])) as proxy:
        yield write(folder, target._replace(uri=proxy.uri)), lambda: back.enter_context(proxy.away()), back


@on(quick=("lite-server",), of=SERVED)
@pytest.mark.parametrize(
    "at",
    [
        "the copy",
        "the count",
        *(pytest.param(f"the {at}", marks=pytest.mark.slow) for at in ("flush", "index", "load")),
    ],
)
def test_a_server_that_stays_away(tmp_path: Path, target: Endpoint, at: str) -> None:
    with lonely(tmp_path, target) as (rows, go_away, back):
        with pytest.raises(TransientError) as caught:
            apply(tmp_path, AWAY_AT[at], go_away, max_downtime=1.0 if at == "the copy" else 0.2)
        assert "the server cannot be reached" in str(caught.value)
        assert re.search(r"\(tried for \d s\); ", str(caught.value)) or at != "the copy"
        assert str(caught.value).endswith("when it is well again, run the same command: what is done is kept")
        assert_said(tmp_path, "the server cannot be reached", process=at == "the copy")
        status = vsync.status(tmp_path / ".vsync" / "vsync.db")
        assert status.run is not None
        assert (status.run.exit_code, status.running) == (5, False)
        (item,) = status.items
        assert 2 <= item.done <= item.chunks == CHUNKS
        assert item.done == CHUNKS or at == "the copy"
        back.close()
        seen = apply(tmp_path)
        assert sum(isinstance(event, e.ChunkAcked) for event in seen) == CHUNKS - item.done
        assert_right(tmp_path, target, rows)


@on(quick=("lite-server",), of=SERVED)
def test_a_server_that_comes_back_in_time(tmp_path: Path, target: Endpoint) -> None:
    """Away at every step of one apply, and back when it is told that it is waited for."""
    with lonely(tmp_path, target) as (rows, go_away, back):
        seen: list[e.Event] = []
        told: list[str] = []

        def report(event: e.Event) -> None:
            seen.append(event)
            if any(when(seen) for when in AWAY_AT.values()):
                go_away()
            if isinstance(event, e.Waiting):
                told.append(event.reason)
                back.close()

        vsync.apply(load_spec(tmp_path / "vsync.yaml"), report=report)
        assert len(told) >= len(AWAY_AT)
        assert all("the server cannot be reached" in reason for reason in told)
        assert_right(tmp_path, target, rows)


@on(quick=SERVED, of=SERVED)
@pytest.mark.parametrize("spec", [SPEC, pytest.param(AUTO_ID, marks=pytest.mark.slow)], ids=["keyed", "made"])
def test_a_server_that_hangs(
    tmp_path: Path, target: Endpoint, spec: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frozen while requests are under way: their deadlines pass, and they land all the same when it goes on."""
    server = request.getfixturevalue("milvus" if target.kind == "milvus-2.3.5" else "lite_server")
    call, call_bytes, hangs = wire.Connection.call, wire.Connection.call_bytes, [True]

    def impatient(seconds: float) -> float:
        return min(seconds, 1.0) if hangs else seconds

    monkeypatch.setattr(
        wire.Connection, "call", lambda self, m, r, timeout, *read: call(self, m, r, impatient(timeout), *read)
    )
    monkeypatch.setattr(
        wire.Connection, "call_bytes", lambda self, m, p, timeout: call_bytes(self, m, p, impatient(timeout))
    )
    rows = write(tmp_path, target, spec)
    seen: list[e.Event] = []
    told: list[str] = []
    frozen: list[bool] = []
    one_at_a_time = threading.Lock()  # thawed by one thread while another freezes it, it would be waited for in vain

    def report(event: e.Event) -> None:
        with one_at_a_time:
            seen.append(event)
            if BETWEEN_CHUNKS(seen) and not frozen:
                frozen.append(True)
                server.freeze()
            if isinstance(event, e.Waiting):
                told.append(event.reason)
                hangs.clear()
                server.thaw()

    try:
        vsync.apply(load_spec(tmp_path / "vsync.yaml"), report=report)
    finally:
        server.thaw()
    assert all(re.search(r"no answer in time .*; the server is busy or hangs", reason) for reason in told)
    (assert_right if spec is SPEC else assert_there_once)(tmp_path, target, rows)


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory, milvus: MilvusServer) -> Iterator[MilvusServer]:
    """A Milvus with quotas and limits, which that of the other tests has not."""
    assert milvus.running  # where it cannot run, these tests are skipped with it
    settings = {
        "quotaAndLimits.enabled": True,
        "quotaAndLimits.quotaCenterCollectInterval": 0.5,
        "quotaAndLimits.dml.enabled": True,
        "quotaAndLimits.dml.upsertRate.max": 0.1,
        "quotaAndLimits.limitWriting.diskProtection.diskQuota": 1,
    }
    with MilvusServer(tmp_path_factory.mktemp("limited"), settings) as server:
        yield server


@pytest.fixture
def narrow(limited: MilvusServer) -> Iterator[Endpoint]:
    """Its database, without collections before and after."""
    target = Endpoint(limited.uri, "default", "milvus-2.3.5")
    yield target
    with somebody(target) as client:
        for name in client.list_collections():
            client.drop_collection(name)


def refuses(client: MilvusClient) -> bool:
    """Tell whether rows are refused by now, for all collections that are there: quotas are looked at now and then."""
    name = "probe"
    if not client.has_collection(name):
        client.create_collection(name, dimension=2)
    try:
        client.insert(name, [{"id": 1, "vector": [0.0, 1.0]}], timeout=1)
    except MilvusException:
        return True
    return False


def test_a_server_that_limits_rates(tmp_path: Path, narrow: Endpoint) -> None:
    rows = write(tmp_path, narrow)
    done = applies.vsync(tmp_path, "apply", "--auto-approve")
    assert done.code == 0
    assert re.search(
        r"waiting for the target: .*writing rows: .*rate limit exceeded.* \(code 8\); the server limits rates: .*; "
        r"attempt 1, again in \d\.\d s",
        done.err.replace("\n", " "),
    )
    assert_right(tmp_path, narrow, rows)


@pytest.mark.slow
def test_a_server_whose_disk_is_full_until_somebody_makes_room(
    tmp_path: Path, limited: MilvusServer, narrow: Endpoint
) -> None:
    rows = write(tmp_path, narrow)
    with somebody(narrow) as client:
        client.create_collection("filler", dimension=glove.DIM)
        reader.insert(client, "filler", glove.rows(0, 20_000))  # 4 MB, where the quota is 1 MB
        client.flush("filler")
        with pytest.raises(TransientError) as caught:
            apply(tmp_path, ended("create"), lambda: limited.wait_until(lambda: refuses(client)), max_downtime=2.0)
        assert re.search(r"disk quota exceeded.* \(code 9\) \(tried for \d s\); .*memory or disk", str(caught.value))
        seen = apply(tmp_path, waits, lambda: client.drop_collection("filler"))
    assert any("disk quota exceeded" in event.reason for event in seen if isinstance(event, e.Waiting))
    assert_right(tmp_path, narrow, rows)


@pytest.mark.slow
def test_a_server_that_is_closed_for_writing(tmp_path: Path, limited: MilvusServer, narrow: Endpoint) -> None:
    rows, deny = write(tmp_path, narrow, AUTO_ID), "quotaAndLimits.limitWriting.forceDeny"
    with somebody(narrow) as client:
        limited.change({deny: True})
        with pytest.raises(TransientError, match=r"deactivated by the administrator.*\(code 9\).*closed for writing"):
            apply(tmp_path, ended("create"), lambda: limited.wait_until(lambda: refuses(client)), max_downtime=0.5)
    seen = apply(tmp_path, waits, lambda: limited.change({deny: False}))
    assert any("deactivated" in event.reason for event in seen if isinstance(event, e.Waiting))
    assert_there_once(tmp_path, narrow, rows)


def index(kind: str, params: str) -> str:
    return SPEC.replace("{type: FLAT, metric: L2}", f"{{type: {kind}, metric: L2, params: {params}}}")


@on(quick=MILVUS, of=MILVUS)
def test_indexes_that_a_milvus_does_not_build(
    tmp_path: Path, target: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    enough = 1_500  # it builds nothing for less than 1,024 rows
    write(tmp_path, target, index("IVF_FLAT", "{nlist: 100000}"), size=enough)
    with pytest.raises(TargetError, match=r"building the index of words\.vector: nlist out of range.*; mend the index"):
        apply(tmp_path)
    write(tmp_path, target, index("HNSW", "{M: 1, efConstruction: 8}"), size=enough)  # it is tried again for ever
    with monkeypatch.context() as patch:
        patch.setattr(ddl, "STALLED_SECONDS", 1.5)
        with pytest.raises(TransientError) as caught:
            apply(tmp_path, max_downtime=0.0)
    assert "building the index of words.vector: nothing has changed for" in str(caught.value)
    assert 'look for "failed to build index" in its log, and mend the type or params' in str(caught.value)
    rows = write(tmp_path, target, size=enough)
    seen = apply(tmp_path)
    assert not any(isinstance(event, e.ChunkAcked) for event in seen)
    assert_right(tmp_path, target, rows)


@on(quick=("lite-server",))
def test_an_index_whose_build_failed_is_built_again(
    tmp_path: Path, target: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answers of the server, with the state of a build that failed until its index is dropped."""
    call, failed = wire.Connection.call, [True]

    def failing(self: wire.Connection, method: str, request: Any, timeout: float, *read: Any) -> Any:
        if method == "DropIndex":
            failed.clear()
        answer = call(self, method, request, timeout, *read)
        if method == "DescribeIndex" and failed:
            for one in answer.index_descriptions:
                one.state, one.index_state_fail_reason = common_pb2.IndexState.Failed, "out of memory"
        return answer

    monkeypatch.setattr(wire.Connection, "call", failing)
    rows = write(tmp_path, target)
    with pytest.raises(TargetError, match=r"building the index of words\.vector: it failed: out of memory; mend"):
        apply(tmp_path)
    assert failed
    apply(tmp_path)
    assert not failed
    assert_right(tmp_path, target, rows)


@pytest.mark.slow
def test_a_load_that_gets_stuck(tmp_path: Path, milvus: MilvusServer, monkeypatch: pytest.MonkeyPatch) -> None:
    assert milvus.running  # where it cannot run, this test is skipped with it
    memory = "queryCoord.overloadedMemoryThresholdPercentage"
    with MilvusServer(tmp_path / "server", {memory: 0.01}) as server:
        target = Endpoint(server.uri, "default", "milvus-2.3.5")
        rows = write(tmp_path, target)
        with monkeypatch.context() as patch:
            patch.setattr(ddl, "STALLED_SECONDS", 4.0)
            with pytest.raises(TransientError) as caught:
                apply(tmp_path, max_downtime=0.0)
        assert "loading words: nothing has changed for" in str(caught.value)
        assert "is its memory enough?" in str(caught.value)
        with pytest.raises(TransientError, match="counting words: the collection is not ready yet; it is being loaded"):
            apply(tmp_path)
        server.change({memory: 90})
        with somebody(target) as client:
            server.wait_until(lambda: client.get_load_state("words")["state"] == LoadState.Loaded)
        apply(tmp_path)
        assert_right(tmp_path, target, rows)
