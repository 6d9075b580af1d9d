"""The servers of the tests do what the tests rely on."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import servers
from pymilvus import DataType, MilvusClient, MilvusException
from servers import LiteServer, MilvusServer, Server, ServerError, take_ports

if TYPE_CHECKING:
    from conftest import Endpoint

TESTS = Path(__file__).parents[1]


def make_collection(client: MilvusClient, name: str, rows: int) -> None:
    schema = client.create_schema(auto_id=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
    client.create_collection(name, schema=schema, consistency_level="Strong")
    client.upsert(name, [{"id": i, "vector": [i, 0.5]} for i in range(rows)])
    index = client.prepare_index_params()
    index.add_index("vector", index_type="FLAT", metric_type="L2")
    client.create_index(name, index)


def count(client: MilvusClient, name: str) -> int:
    client.load_collection(name, timeout=60)
    answer = client.query(name, filter="id >= 0", output_fields=["count(*)"], timeout=60)
    return int(answer[0]["count(*)"])


def loads(uri: str, name: str) -> bool:
    """Tell whether the collection could be loaded: not while Milvus takes the killed process for alive."""
    try:
        MilvusClient(uri).load_collection(name, timeout=10)
    except MilvusException:
        return False
    return True


@pytest.fixture(params=["first", "second"])
def twice(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_test_gets_an_empty_database(target: Endpoint, twice: str) -> None:
    client = MilvusClient(target.uri, db_name=target.database)
    assert client.list_collections() == [], twice
    make_collection(client, "c", 10)
    client.create_alias("c", "nickname")
    assert count(client, "c") == 10


def outlives_a_kill(server: Server) -> None:
    uri = server.uri
    make_collection(MilvusClient(uri), "c", 10)
    server.kill()
    assert not server.running
    with pytest.raises(ConnectionRefusedError), socket.socket() as probe:
        probe.connect(("127.0.0.1", server.port))
    server.restart()
    assert server.uri == uri
    server.wait_until(lambda: loads(uri, "c"), 60)
    assert count(MilvusClient(uri), "c") == 10


def test_rows_outlive_a_kill_of_lite(tmp_path: Path) -> None:
    with LiteServer(tmp_path) as server:
        outlives_a_kill(server)


def test_rows_outlive_a_kill_of_milvus_beside_another_one(milvus: MilvusServer, tmp_path: Path) -> None:
    with MilvusServer(tmp_path) as server:
        outlives_a_kill(server)
        assert milvus.running
        assert server.uri != milvus.uri


def test_settings_reach_milvus(milvus: MilvusServer, tmp_path: Path) -> None:
    with MilvusServer(tmp_path, {"proxy.maxNameLength": 5}) as server:
        client = MilvusClient(server.uri)
        with pytest.raises(Exception, match="length"):
            make_collection(client, "six_or_more", 1)
    assert milvus.running


def test_a_server_that_ends_at_its_start_shows_its_log(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("this is no folder")
    with pytest.raises(ServerError, match=r"(?s)ended.*data"):
        LiteServer(tmp_path).start()


@pytest.mark.skipif(sys.platform != "linux", reason="needs PR_SET_PDEATHSIG")
def test_a_server_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    program = "import sys, servers; s = servers.LiteServer(sys.argv[1]).start(); print(s.pid, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as parent:
        assert parent.stdout is not None
        server = os.pidfd_open(int(parent.stdout.readline()))
        assert not ended(server, 0)
        parent.kill()
        assert ended(server, 30)
        os.close(server)


def ended(process: int, seconds: float) -> bool:
    return bool(select.select([process], [], [], seconds)[0])


def test_a_port_that_is_taken_is_not_handed_out() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        ports = take_ports(["a", "b"], {"a": taken})
    assert taken not in ports.values()
    assert ports["a"] != ports["b"]
    assert take_ports(["a"], {"a": taken}) == {"a": taken}


def run_pytest(folder: Path, reason: str, environment: dict[str, str]) -> str:
    """Run two tests that need Milvus with the conftest of this folder, where Milvus is not available."""
    conftest = (
        (TESTS / "conftest.py")
        .read_text("utf-8")
        .replace("import servers\n", f"import servers\nservers.available = lambda: {reason!r}\n")
    )
    (folder / "conftest.py").write_text(conftest)
    (folder / "test_two.py").write_text(
        "def test_one(milvus): pass\n\n\ndef test_two(milvus): pass\n\n\ndef test_three(): pass\n"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(folder),
        str(folder),
    ]
    result = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": str(TESTS), **environment},
        cwd=folder,
        stdout=subprocess.PIPE,
        check=False,
    )
    return result.stdout.decode()


def test_skipped_tests_are_announced(tmp_path: Path) -> None:
    output = run_pytest(tmp_path, "no such thing here", {"CI": ""})
    assert "SKIPPED: 2 tests against Milvus 2.3.5: no such thing here" in output
    assert "1 passed, 2 skipped" in output.splitlines()[-1]


@pytest.mark.skipif(not servers.has_platform(), reason="the package is not there for this machine")
def test_in_ci_a_missing_package_fails(tmp_path: Path) -> None:
    output = run_pytest(tmp_path, "the package is not installed", {"CI": "true"})
    assert "1 passed, 2 errors" in output.splitlines()[-1]
