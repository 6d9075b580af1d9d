"""Fixtures of all tests: the real servers, started when the first test asks for them.

- ``milvus``: one Milvus 2.3.5 for the session; ``lite_server``: one ``milvus-lite server`` for the session; ``lite25``:
  one of the Milvus Lite of 2.5.
- ``s3``: one SeaweedFS for the session; ``bucket``: an empty place in it, as ``s3://BUCKET/PREFIX``, and what the
  environment says to reach it.
- ``lite_path``: a path for an embedded Milvus Lite of one test, given back at the test's end.
- ``target``: an empty database of one test, once on each of the three; ``source``: another one beside it; ``ends``:
  both, and the folder of the spec that copies.
- ``forks``: processes that have vsync's imports behind them, to be killed.

Where Milvus 2.3.5 or SeaweedFS cannot run, their tests are skipped and the summary says so in red. In CI on Linux
x86-64 they fail.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from uuid import uuid4

import pytest
import s3_server
import servers
from chaos.lite25 import PACKAGE, Lite25Server, installed
from hypothesis import settings
from s3_server import S3Server
from servers import LiteServer, MilvusServer, Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.context import ForkServerContext
    from pathlib import Path

    from milvus_sources import Ends

AnyServer = TypeVar("AnyServer", bound=Server)
QUICK_ON_LITE = pytest.mark.parametrize(
    "target", ["lite", "lite-server", pytest.param("milvus-2.3.5", marks=pytest.mark.slow)], indirect=True
)
"""On Milvus, whose every flush takes 3 s, with --all only."""
QUICK_WHEN_EMBEDDED = pytest.mark.parametrize(
    "target",
    ["lite", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("lite-server", "milvus-2.3.5"))],
    indirect=True,
)
"""On servers with --all only: what it is about does not depend on them."""

settings.register_profile("vsync", deadline=None)  # a slow machine breaks nothing
settings.load_profile("vsync")

_SERVERS = {"lite-server": "lite_server", "milvus-2.3.5": "milvus"}
NEEDS_MILVUS = f"needs Milvus {servers.MILVUS_VERSION}: "
NEEDS_S3 = "needs a server of S3: "


class Endpoint(NamedTuple):
    """An empty database: ``MilvusClient(uri, db_name=database)``; ``kind`` is the fixture's parameter."""

    uri: str
    database: str
    kind: str


@pytest.fixture(scope="session")
def milvus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer]:
    _skip_loudly(NEEDS_MILVUS, servers.available())
    yield from _serve(MilvusServer(tmp_path_factory.mktemp("milvus")))


@pytest.fixture(scope="session")
def lite_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiteServer]:
    yield from _serve(LiteServer(tmp_path_factory.mktemp("lite-server")))


@pytest.fixture(scope="session")
def lite25(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lite25Server]:
    try:
        installed()
    except servers.ServerError as error:
        pytest.skip(f"needs {PACKAGE}: {error}")
    yield from _serve(Lite25Server(tmp_path_factory.mktemp("lite25")))


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    _skip_loudly(NEEDS_S3, s3_server.available())
    yield from _serve(S3Server(tmp_path_factory.mktemp("s3")))


@pytest.fixture
def bucket(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    if not s3.running:
        s3.start()
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{s3_server.BUCKET}/{uuid4().hex}"


@pytest.fixture
def lite_path(tmp_path: Path) -> Iterator[Path]:
    from milvus_lite.server_manager import server_manager_instance

    servers.silence_pymilvus()
    path = tmp_path / "lite.db"
    yield path
    server_manager_instance.release_server(str(path))


@pytest.fixture(params=["lite", "lite-server", "milvus-2.3.5"])
def target(request: pytest.FixtureRequest) -> Iterator[Endpoint]:
    if request.param == "lite":
        yield Endpoint(str(request.getfixturevalue("lite_path")), "default", "lite")
        return
    server = request.getfixturevalue(_SERVERS[request.param])
    if not server.running:
        server.start()
    with fresh_database(server) as database:
        yield Endpoint(server.uri, database, request.param)
    assert server.running, f"the test ended {server.name}; its log ends with\n{server.tail()}"


@pytest.fixture
def source(target: Endpoint, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Endpoint]:
    """Give another empty database beside ``target``: on the same server, or another folder of the embedded one."""
    if target.kind == "lite":
        from milvus_lite.server_manager import server_manager_instance

        yield target._replace(uri=str(tmp_path / "source.db"))
        server_manager_instance.release_server(str(tmp_path / "source.db"))
        return
    with fresh_database(request.getfixturevalue(_SERVERS[target.kind])) as database:
        yield target._replace(database=database)


@pytest.fixture
def ends(source: Endpoint, target: Endpoint, tmp_path: Path) -> Ends:
    from milvus_sources import Ends

    return Ends(source, target, tmp_path)


@pytest.fixture(scope="module")
def forks() -> ForkServerContext:
    from chaos import forked

    return forked.context()


@pytest.fixture
def milvus_source(milvus: MilvusServer) -> Iterator[Endpoint]:
    """Give an empty database of Milvus 2.3.5, whatever the target is."""
    if not milvus.running:
        milvus.start()
    with fresh_database(milvus) as database:
        yield Endpoint(milvus.uri, database, "milvus-2.3.5")


@contextlib.contextmanager
def fresh_database(server: Server) -> Iterator[str]:
    from pymilvus import MilvusClient

    database = f"test_{uuid4().hex[:12]}"
    client = MilvusClient(server.uri, timeout=30, dedicated=True, grpc_options=servers.NO_PINGS)
    client.create_database(database)
    client.close()
    yield database
    if not server.running:
        return
    options = servers.NO_PINGS
    client = MilvusClient(server.uri, db_name=database, timeout=30, dedicated=True, grpc_options=options)
    for collection in client.list_collections():
        # Not list_aliases: Milvus 2.3.5 looks for them in the default database only.
        for alias in client.describe_collection(collection)["aliases"]:
            client.drop_alias(alias)
        client.drop_collection(collection)
    client.drop_database(database)
    client.close()


def _skip_loudly(needs: str, reason: str | None) -> None:
    """Skip a test for a reason, if there is one; in CI, which has all that is needed, fail."""
    if reason and servers.has_platform() and os.environ.get("CI") == "true":
        pytest.fail(needs + reason)
    if reason:
        pytest.skip(needs + reason)


def _serve(server: AnyServer) -> Iterator[AnyServer]:
    server.start()
    yield server
    server.kill()  # nobody reads its data again


def pytest_configure() -> None:
    """Have the programs that tests start hear SIGINT, which xdist's workers and shells' background jobs ignore."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = [report.longrepr for report in terminalreporter.stats.get("skipped", [])]
    words = [told[2] for told in skipped if isinstance(told, tuple)]
    for needs in (NEEDS_MILVUS, NEEDS_S3):
        reasons = [said.partition(needs)[2] for said in words if needs in said]
        if reasons:
            terminalreporter.write_line("")
            what = needs.removeprefix("needs ").removesuffix(": ")
            terminalreporter.write_line(
                f"SKIPPED: {len(reasons)} tests against {what}: {reasons[0]}", red=True, bold=True
            )
