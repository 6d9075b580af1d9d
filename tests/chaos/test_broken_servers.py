"""Connections cut between a request's arrival and its answer, and servers killed under an apply: no row is doubled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import applies
import glove
import numpy as np
import pytest
import reader
from chaos.proxy import proxy_to
from conftest import Endpoint
from servers import LiteServer, MilvusServer, Server

if TYPE_CHECKING:
    from pathlib import Path

    from pymilvus import MilvusClient

SPEC = """
version: 1
target: {milvus: {uri: URI, database: DATABASE}}
defaults: {chunk_bytes: 64KiB}
collections:
  keyed:
    fields: {id: {type: int64, primary: true}, vector: {type: float_vector, dim: 50}, word: {type: varchar, max_length: 512}}
    data: [{from: rows.h5, map: &columns {id: ids, vector: vectors, word: words}}]
  made:
    fields:
      key: {type: int64, primary: true, auto_id: true}
      id: {type: int64}
      vector: {type: float_vector, dim: 50}
      word: {type: varchar, max_length: 512}
    data: [{from: rows.h5, map: *columns}]
"""  # noqa: E501 - a spec
SIZE = 3_000
"""Rows of each collection, in ten chunks."""


def write(folder: Path, target: Endpoint) -> glove.Rows:
    what = glove.rows(0, SIZE)
    glove.write_hdf5(folder / "rows.h5", what)
    (folder / "vsync.yaml").write_text(SPEC.replace("URI", target.uri).replace("DATABASE", target.database))
    return what


def assert_there_once(client: MilvusClient, what: glove.Rows) -> None:
    reader.assert_holds(client, "keyed", what.by_id())
    client.load_collection("made")
    assert reader.count(client, "made") == SIZE
    found = reader.read(client, "made", "id", what.ids.tolist(), ["key", "id", "vector", "word"])
    assert len(found) == SIZE
    assert {r["id"]: (np.asarray(r["vector"], "f4").tobytes(), r["word"]) for r in found} == what.by_id()


@pytest.fixture(params=["lite-server", "milvus-2.3.5"])
def server(request: pytest.FixtureRequest) -> Server:
    chosen: Server = request.getfixturevalue({"lite-server": "lite_server", "milvus-2.3.5": "milvus"}[request.param])
    return chosen


@pytest.fixture
def database(server: Server) -> Endpoint:
    """An endpoint of the server itself, past any proxy; its collections are dropped before."""
    endpoint = Endpoint(server.uri, "default", server.name)
    with reader.client_of(endpoint) as client:
        for name in client.list_collections():
            client.drop_collection(name)
    return endpoint


def test_an_answer_that_is_lost_doubles_no_row(tmp_path: Path, server: Server, database: Endpoint) -> None:
    with proxy_to(server.port) as proxy:
        what = write(tmp_path, database._replace(uri=proxy.uri))
        proxy.cut_after(*[150_000] * 6)  # of 1.3 MB
        done = applies.apply(tmp_path)
        assert proxy.cuts == 6
        assert done.of("waiting")
        with reader.client_of(database) as client:
            assert_there_once(client, what)
        applies.assert_no_changes(tmp_path)


def test_pymilvus_itself_doubles_rows_then(milvus: MilvusServer) -> None:
    """Why vsync never sends an insert again: pymilvus's own retry, hidden, of an insert that had arrived."""
    from pymilvus import MilvusClient

    what = glove.rows(0, 1_000)
    with proxy_to(milvus.port) as proxy, reader.client_of(Endpoint(milvus.uri, "default", "milvus")) as client:
        client.create_collection("doubled", dimension=glove.DIM, auto_id=False, consistency_level="Strong")
        through = MilvusClient(proxy.uri, dedicated=True)
        rows = [{"id": int(i), "vector": v} for i, v in zip(what.ids, what.vectors, strict=True)]
        proxy.cut_after(150_000)
        answer = through.insert("doubled", rows)
        through.close()
        assert proxy.cuts == 1
        assert answer["insert_count"] == 1_000
        assert reader.count(client, "doubled") == 2_000
        client.drop_collection("doubled")


def kill_the_server(folder: Path, server: Server, *words: str, restart: bool) -> tuple[int, bool]:
    """Kill it under an apply, half way; gives the apply's exit code, and whether it told that it waits."""
    process = applies.start(folder, *words)
    acked, waited = 0, False
    for event in applies.events(process):
        acked += event["type"] == "chunk_acked"
        if acked == 5 and server.running and not waited:
            server.kill()
        if event["type"] == "waiting" and not waited:
            waited = True
            if restart:
                server.start()
    return process.wait(applies.SECONDS), waited


def check_killed_server(folder: Path, server: Server) -> None:
    with server:
        for name, words, restart, code in (
            ("goes on", ["--max-downtime", "3m"], True, 0),
            ("gives up", ["--max-downtime", "1s"], False, 5),
        ):
            own = folder / name
            own.mkdir()
            target = Endpoint(server.uri, "default", server.name)
            what = write(own, target)
            assert kill_the_server(own, server, *words, restart=restart) == (code, True)
            if not restart:
                server.start()
                assert applies.apply(own).of("run_began")[0]["done"] >= 5
            with reader.client_of(target) as client:
                assert_there_once(client, what)
                for collection in ("keyed", "made"):
                    client.drop_collection(collection)


def test_a_lite_server_that_is_killed(tmp_path: Path) -> None:
    check_killed_server(tmp_path, LiteServer(tmp_path / "server"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_milvus_that_is_killed(tmp_path: Path, milvus: MilvusServer) -> None:
    assert milvus.running  # where it cannot run, this one is skipped with it
    check_killed_server(tmp_path, MilvusServer(tmp_path / "server"))
