"""Collections as sources: of Milvus Lite embedded and served, Milvus 2.3.5, Milvus Lite 2.5, and the tests' model."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
from chaos.lite25 import PACKAGE, Lite25Server, installed
from conftest import fresh_database
from contract.collection_contract import CollectionContract, Held, Place
from model_target import ModelTarget
from model_target import Server as Model
from servers import LiteServer, MilvusServer, ServerError

from vsync.connectors.base import Bounds, KeyRange
from vsync.connectors.milvus import open_target
from vsync.connectors.milvus.wire import milvus_pb2
from vsync.errors import SourceError, TransientError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SERVED = {"lite-server": "lite_server", "milvus-2.3.5": "milvus"}


@pytest.fixture(scope="module", params=["model", "lite", "lite-server", "milvus-2.3.5", "lite-2.5"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    if request.param == "model":
        server = Model()
        yield Place(ModelTarget(server), lambda: ModelTarget(server), dynamic=False, filters=False)
        return
    with contextlib.ExitStack() as stack:
        uri, database = str(tmp_path_factory.mktemp("lite") / "lite.db"), "default"
        if request.param == "lite-2.5":
            uri = stack.enter_context(lite25(tmp_path_factory)).uri
        elif request.param in SERVED:
            running: LiteServer | MilvusServer = request.getfixturevalue(SERVED[request.param])
            uri, database = running.uri, stack.enter_context(fresh_database(running))
        target = stack.enter_context(contextlib.closing(open_target(uri, None, database)))
        old = request.param == "lite-2.5"
        yield Place(
            target,
            lambda: open_target(uri, None, database),
            stays_unloaded=request.param != "lite",
            partitions=not old,
            aliases=not old,
            tells_ids=not old,
            unwritable="\n\r'" if old else "",
        )


def lite25(tmp_path_factory: pytest.TempPathFactory) -> Lite25Server:
    try:
        installed()
    except ServerError as error:
        pytest.skip(f"needs {PACKAGE}: {error}")
    return Lite25Server(tmp_path_factory.mktemp("lite25"))


class TestCollections(CollectionContract):
    """They keep the contract."""


@pytest.fixture
def on_milvus(milvus: MilvusServer) -> Iterator[Place]:
    with fresh_database(milvus) as name, contextlib.closing(open_target(milvus.uri, None, name)) as target:
        yield Place(target, lambda: target)


def test_a_collection_that_is_loaded_in_part_is_refused(on_milvus: Place) -> None:
    """Milvus answers from what is loaded, and says nothing of the rest."""
    made = on_milvus.make(partitions=["p"])
    rows = on_milvus.rows(made, range(5))
    on_milvus.send(made, rows)
    on_milvus.send(made, on_milvus.rows(made, range(10, 13)), "p")
    target = on_milvus.target
    target.release(made.name)
    request = milvus_pb2.LoadPartitionsRequest(collection_name=made.name, partition_names=["p"], replica_number=1)
    target._client.call("LoadPartitions", request)  # type: ignore[attr-defined]
    held = Held(on_milvus, made, rows)
    while True:
        try:
            with contextlib.closing(target.source(made.name, "p")) as part:
                assert part.describe().rows == 3
        except TransientError:
            continue  # it is being loaded
        break
    for load in (False, True):
        with pytest.raises(SourceError, match=r"only some of its partitions are loaded, _default is not"):
            held.open(load=load).__enter__()
    assert target.observe([made.name])[made.name].loaded is False
    target.load(made.name, lambda _percent: None)
    with held.open() as source:
        assert source.describe().rows == 8


def test_a_key_that_milvus_counts_and_never_gives_is_refused_unless_left_out(on_milvus: Place) -> None:
    made = on_milvus.make()
    rows = on_milvus.rows(made, [1, 2**63 - 1])
    on_milvus.send(made, rows)
    held = Held(on_milvus, made, rows)
    with held.open() as source, pytest.raises(SourceError, match=f"{2**63 - 1}.*leave it out"):
        source.cut(["id"], 100)
    with held.open(where=f"id < {2**63 - 1}") as source:
        assert [b.keys for b in source.cut(["id"], 100)] == [KeyRange()]
        assert source.read(Bounds(0, 1, KeyRange()), ["n"]).column(0).to_pylist() == [0]


def test_one_without_an_index_says_so(on_milvus: Place) -> None:
    made = on_milvus.make()
    on_milvus.target.drop_index(made.name, "v")
    with pytest.raises(SourceError, match=r"neither indexed nor loaded.*create an index"):
        on_milvus.target.source(made.name, None, load=True)


def test_a_place_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    target = open_target(str(tmp_path / "none.db"), None, None)
    with pytest.raises(SourceError, match="no Milvus Lite folder"):
        target.source("c", None)
    assert not (tmp_path / "none.db").exists()


def test_a_database_that_is_not_there_is_named(lite_server: LiteServer) -> None:
    there = contextlib.closing(open_target(lite_server.uri, None, "nowhere"))
    with there as target, pytest.raises(SourceError, match="no database nowhere"):
        target.source("c", None)
