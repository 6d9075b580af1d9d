"""What goes wrong on the way to a Milvus, in words that name it; and no vendor's exception gets through."""

from __future__ import annotations

import contextlib
import inspect
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import pyarrow as pa
import pymilvus.exceptions
import pytest
from milvus_rows import KEY, VECTOR, make, opened, rows, send
from servers import LiteServer, MilvusServer, available, take_ports

from vsync.connectors.milvus import failures, open_target
from vsync.connectors.milvus.wire import milvus_pb2
from vsync.errors import LockedError, TargetError, TooLargeError, TransientError
from vsync.schema import Collection, Index

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Endpoint

    from vsync.connectors.milvus.target import MilvusTarget

PLAIN = Collection("c", (KEY, VECTOR))
VENDORS = [
    kind
    for _, kind in inspect.getmembers(pymilvus.exceptions, inspect.isclass)
    if issubclass(kind, pymilvus.exceptions.MilvusException)
]


class Broken(grpc.RpcError):  # type: ignore[misc]  # grpc ships no types
    """An error of gRPC's, as its channels raise them."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__()
        self._code, self._details = code, details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details


@pytest.mark.parametrize("kind", VENDORS)
def test_every_exception_of_pymilvus_is_translated(kind: Any) -> None:
    with pytest.raises(TargetError, match="here: doing it: why"), failures.translated("here", "doing it"):
        raise kind(message="why")


@pytest.mark.parametrize("code", list(grpc.StatusCode))
def test_every_code_of_grpc_is_translated(code: grpc.StatusCode) -> None:
    with pytest.raises(TargetError, match=r"here: doing it: .*why"), failures.translated("here", "doing it"):
        raise Broken(code, "why")
    with (
        pytest.raises(TargetError, match="doing it: no answer in time"),
        failures.translated("here", "doing it"),
    ):
        raise grpc.FutureTimeoutError


@pytest.mark.parametrize(
    ("code", "old", "reason", "kind", "in_doubt"),
    [
        (8, 49, "rate limit exceeded", TransientError, False),
        (0, 49, "rate limit exceeded", TransientError, False),
        (9, 48, "memory quota exhausted", TransientError, False),
        (901, 1, "node not found[node=7]", TransientError, True),
        (65535, 1, "segment not loaded", TransientError, True),
        (0, 55, "time tick long delay", TransientError, True),
        (101, 1, "collection not loaded", failures.GoneError, None),
        (100, 4, "can't find collection", failures.GoneError, None),
        (200, 200, "a", failures.GoneError, None),
        (700, 11, "there is no index", failures.GoneError, None),
        (65535, 1, "collection not found[collection=7]", failures.GoneError, None),
        (65535, 1, "partition name a not found", failures.GoneError, None),
        (65535, 1, "nlist out of range: [1, 65536]", failures.RefusedError, None),
        (1, 1, "unexpected error", failures.RefusedError, None),
        (1100, 1, "message larger than max (70000000 vs 67108864)", TooLargeError, None),
        (1400, 1, "privilege not permitted", failures.RefusedError, None),
    ],
)
def test_codes_of_milvus_mean_what_they_mean(
    code: int, old: int, reason: str, kind: type[TargetError], *, in_doubt: bool | None
) -> None:
    error = failures.from_code(code, old, f"{reason}\n/go/src/stack.go:77", "here", "doing it")
    assert type(error) is kind
    assert "stack" not in str(error)
    assert getattr(error, "in_doubt", None) is in_doubt
    assert error.exit_code == {TransientError: 5, failures.GoneError: 4}.get(kind, 1)


@pytest.mark.parametrize(
    ("code", "details", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, "Socket closed", TransientError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", TransientError),
        (grpc.StatusCode.INTERNAL, "Received RST_STREAM with error code 2", TransientError),
        (grpc.StatusCode.INTERNAL, "grpc: error unmarshalling request", TargetError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "received message larger than max (7 vs. 6)", TooLargeError),
        (grpc.StatusCode.UNAUTHENTICATED, "auth check failure", TargetError),
        (grpc.StatusCode.UNIMPLEMENTED, "unknown method", failures.UnknownRequestError),
    ],
)
def test_codes_of_grpc_mean_what_they_mean(code: grpc.StatusCode, details: str, kind: type[TargetError]) -> None:
    assert type(failures.translate(Broken(code, details), "here", "doing it")) is kind


def test_a_server_that_is_down_is_named_with_its_port() -> None:
    port = take_ports(["nobody"], {})["nobody"]
    with pytest.raises(TransientError, match=f"http://127.0.0.1:{port}: connecting: .*cannot be reached") as caught:
        open_target(f"http://127.0.0.1:{port}", None, None)
    assert caught.value.exit_code == 5
    assert "check that the server runs" in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "what"),
    [
        ("ftp://host:1", "is no address of a Milvus"),
        ("http://:19530", "is no address of a Milvus"),
        ("http://host:99999", "is no address of a Milvus"),
        ("http://root:secret@host", "carries a password"),
        ("http://host:19530/db", "carries more than host and port"),
        ("/somewhere/words", "neither an address nor a Milvus Lite folder"),
    ],
)
def test_addresses_that_cannot_be_meant_are_refused(uri: str, what: str) -> None:
    with pytest.raises(TargetError, match=what) as caught:
        open_target(uri, None, None)
    assert "secret" not in str(caught.value)


def test_what_is_no_milvus_is_refused(tmp_path: Path) -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with pytest.raises(TargetError, match=r"does not know that request .*; is this Milvus's own port"):
            open_target(f"http://127.0.0.1:{port}", None, None)
    finally:
        server.stop(None)
    (tmp_path / "old.db").write_bytes(b"SQLite format 3")
    with pytest.raises(TargetError, match=r"old\.db is a file: Milvus Lite 3 keeps a folder"):
        open_target(str(tmp_path / "old.db"), None, None)
    (tmp_path / "notes.db").mkdir()
    (tmp_path / "notes.db" / "notes.txt").write_text("mine")
    with pytest.raises(TargetError, match=r"notes\.db is a folder of something else"):
        open_target(str(tmp_path / "notes.db"), None, None)


def test_a_database_that_is_not_there_is_named(target: Endpoint) -> None:
    with opened(target._replace(database="nowhere")) as milvus:
        assert not milvus.has_database()
        with pytest.raises(TargetError, match="nowhere"):
            milvus.create_collection(PLAIN)


def test_a_folder_that_is_not_there_stays_so(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "new.db"
    milvus = open_target(str(path), None, None)
    assert milvus.has_database()
    assert (milvus.observe(["c"]), milvus.aliases(), milvus.collections()) == ({}, {}, [])
    assert milvus.conflicts(PLAIN) == []
    assert (milvus.identity, milvus._client.born, milvus.label[:20]) == (
        str(path),
        "",
        "new.db (Milvus Lite ",
    )
    milvus.close()
    assert not path.parent.exists()
    milvus = open_target(str(path), None, None)
    milvus.create_collection(PLAIN)
    born = milvus._client.born
    milvus.close()
    with opened_folder(path) as again:
        assert (again.identity, again._client.born, list(again.observe(["c"]))) == (str(path), born, ["c"])
    shutil.rmtree(path)
    with opened_folder(path) as made_again:
        made_again.create_collection(PLAIN)
        assert made_again._client.born not in {"", born}


def test_a_folder_that_another_process_holds_is_locked(tmp_path: Path) -> None:
    path = tmp_path / "held.db"
    with opened_folder(path) as made:
        made.create_collection(PLAIN)
    holder = (
        "import sys; from milvus_lite import MilvusLite; db = MilvusLite(sys.argv[1])\n"
        "print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", holder, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(LockedError, match=r"held\.db: another process has this Milvus Lite folder open"):
            open_target(str(path), None, None)
    finally:
        process.stdin.close()
        process.wait(30)
        process.stdout.close()
    with opened_folder(path) as milvus:
        assert list(milvus.observe(["c"])) == ["c"]


@pytest.mark.parametrize("kind", ["HNSW", "AUTOINDEX"])
def test_an_index_that_lite_was_killed_while_saving_is_built_again(lite_path: Path, kind: str) -> None:
    desired = Collection("c", (KEY, VECTOR), indexes=(Index("v", kind, "L2"),))
    with opened_folder(lite_path) as milvus:
        make(milvus, desired)
        send(milvus, desired, rows(desired, pa.array(range(500))))
        milvus.flush("c")
        milvus.release("c")
        milvus.load("c", lambda _percent: None)
    (saved,) = lite_path.glob("collections/c/**/indexes/*")
    saved.write_bytes(b"")
    with opened_folder(lite_path) as milvus:
        assert milvus.writer(desired, None).probe(pa.array([1, 1_000])).to_pylist() == [True, False]
        percents: list[int] = []
        milvus.load("c", percents.append)
        assert (percents, milvus.observe(["c"])["c"].schema.indexes) == ([100], desired.indexes)
    assert saved.stat().st_size > 0


def test_a_closed_folder_is_free_for_others(tmp_path: Path) -> None:
    path = tmp_path / "free.db"
    with opened_folder(path) as one, opened_folder(path) as two:
        one.create_collection(PLAIN)
        one.close()
        assert list(two.observe(["c"])) == ["c"]  # the last one to go gives the lock back
    taker = "import sys; from milvus_lite import MilvusLite; MilvusLite(sys.argv[1]).close()"
    subprocess.run([sys.executable, "-c", taker, str(path)], check=True, timeout=60)


def test_a_frozen_server_is_given_up_and_nothing_of_the_vendors_is_printed(
    milvus: MilvusServer, capfd: pytest.CaptureFixture[str]
) -> None:
    with contextlib.closing(open_target(milvus.uri, None, None)) as target:
        milvus.freeze()
        try:
            with pytest.raises(TransientError, match="asking: no answer in time") as caught:
                target._client.call("GetVersion", milvus_pb2.GetVersionRequest(), timeout=0.5, doing="asking")
        finally:
            milvus.thaw()
        assert caught.value.in_doubt
    assert capfd.readouterr() == ("", "")


def test_a_server_that_dies_and_comes_back_is_found_again(tmp_path: Path) -> None:
    with LiteServer(tmp_path) as server, contextlib.closing(open_target(server.uri, None, None)) as target:
        target.create_collection(PLAIN)
        server.kill()
        with pytest.raises(TransientError, match="cannot be reached"):
            target.collections()
        server.restart()
        assert collections_soon(target) == ["c"]


def collections_soon(target: MilvusTarget) -> list[str]:
    """Ask again until the channel is there again, as the one layer of retry does."""
    pause = threading.Event()
    for _ in range(100):
        with contextlib.suppress(TransientError):
            return target.collections()
        pause.wait(0.1)
    return []


class GuardedServer(MilvusServer):
    """A Milvus that asks for a token."""

    def _answers(self) -> bool:
        with contextlib.suppress(TargetError), contextlib.closing(open_target(self.uri, "root:Milvus", None)):
            return True
        return False


def test_a_token_that_is_wrong_or_not_given_is_named(tmp_path: Path) -> None:
    if available():
        pytest.skip(f"needs Milvus 2.3.5: {available()}")
    with GuardedServer(tmp_path, {"common.security.authorizationEnabled": True}) as server:
        with pytest.raises(TargetError, match=r"connecting: the server wants a token .*--token-env NAME"):
            open_target(server.uri, None, None)
        for token in ("root:wrong", "0123456789abcdef"):
            with pytest.raises(TargetError, match="connecting: the token is not accepted") as caught:
                open_target(server.uri, token, None)
            assert (caught.value.exit_code, "check the token" in str(caught.value)) == (1, True)
            assert token not in str(caught.value)
        with contextlib.closing(open_target(server.uri, "root:Milvus", None)) as target:
            user = milvus_pb2.CreateCredentialRequest(username="bob", password="c2VjcmV0MQ==")  # noqa: S106  # of a test's server
            target._client.call("CreateCredential", user)
        with contextlib.closing(open_target(server.uri, "bob:secret1", None)) as target:
            assert target.has_database()
            with pytest.raises(TargetError, match="the token does not allow it"):
                target.create_collection(PLAIN)


def opened_folder(path: Path) -> contextlib.closing[MilvusTarget]:
    return contextlib.closing(open_target(str(path), None, None))
