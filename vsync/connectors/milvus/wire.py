"""All that is private to pymilvus and milvus-lite is touched here, and nowhere else.

Three things are: the generated protobuf messages; the stub and channel of a MilvusClient's handler, which
carry TLS, the token and the client's identifier (its own methods repeat requests by themselves, and are not
used); the manager of embedded servers. ``tests/live/test_milvus_wire.py`` says which a new release moved.
"""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from pymilvus import MilvusClient
from pymilvus.grpc_gen import common_pb2, milvus_pb2, schema_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "LITE_VERSION",
    "Connection",
    "common_pb2",
    "hold_lite",
    "milvus_pb2",
    "release_lite",
    "schema_pb2",
]

LITE_VERSION = f"milvus_lite-{version('milvus-lite')}"
"""What the embedded server answers when it is asked for its version."""

SERVICE = "/milvus.proto.milvus.MilvusService/"

# Attempts are ours: no hidden retries; a server that comes back is found in seconds, not in two minutes.
CHANNEL_OPTIONS = {
    "grpc.enable_retries": 0,
    "grpc.initial_reconnect_backoff_ms": 200,
    "grpc.min_reconnect_backoff_ms": 1_000,
    "grpc.max_reconnect_backoff_ms": 2_000,
    # pymilvus asks every 10 s; a served Milvus Lite takes three such pings for an attack and ends the connection, in
    # the middle of a long call. A dead peer is found by each call's deadline all the same.
    "grpc.keepalive_time_ms": 60_000,
}
# The embedded server is this process: no proxy stands between, and a busy interpreter is no dead peer.
LOOPBACK_OPTIONS = {"grpc.enable_http_proxy": 0, "grpc.keepalive_time_ms": 2**31 - 1}

for _name in ("pymilvus", "pymilvus.milvus_client", "pymilvus.bulk_writer", "milvus_lite", "grpc"):
    logging.getLogger(_name).setLevel(logging.CRITICAL + 1)  # they write tracebacks of what is raised anyway


class Connection:
    """A channel to one server, borrowed from a MilvusClient. Vendor exceptions pass through."""

    def __init__(self, address: str, token: str | None, database: str, *, timeout: float, loopback: bool) -> None:
        options = {**CHANNEL_OPTIONS, **(LOOPBACK_OPTIONS if loopback else {})}
        self._client = MilvusClient(
            address,
            token=token or "",
            db_name=database,
            timeout=timeout,
            dedicated=True,
            grpc_options=options,
        )
        self._handler: Any = self._client._handler  # noqa: SLF001  # the seam this module is for
        self._database = database
        self._raw: dict[str, Any] = {}

    def call(self, method: str, request: Any, timeout: float, read: Callable[[bytes], Any] | None = None) -> Any:
        """Send one request once, with a deadline in seconds; returns the answer, its status unlooked at.

        ``read`` makes the answer of its bytes, where that is not to be protobuf's business.
        """
        if read is not None:
            return self._call_raw(method, request.SerializeToString(), timeout, read)
        stub = self._handler._stub  # noqa: SLF001  # as above
        return getattr(stub, method)(request, timeout=timeout, metadata=self._metadata())

    def call_bytes(self, method: str, payload: bytes, timeout: float) -> Any:
        """Send a mutation that is serialized already; returns its MutationResult."""
        return self._call_raw(method, payload, timeout, milvus_pb2.MutationResult.FromString)

    def _call_raw(self, method: str, payload: bytes, timeout: float, read: Callable[[bytes], Any]) -> Any:
        raw = self._raw.get(method)
        if raw is None:
            channel = self._handler._final_channel  # noqa: SLF001  # as above
            raw = self._raw[method] = channel.unary_unary(SERVICE + method, response_deserializer=read)
        return raw(payload, timeout=timeout, metadata=self._metadata())

    def close(self) -> None:
        """Close the channel; calls under way fail."""
        self._client.close()

    def _metadata(self) -> list[tuple[str, str]]:
        return [("dbname", self._database)]


class _Holds:
    """How many targets of this process use an embedded server, and whether it is ours to stop."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.counts: dict[str, int] = {}
        self.foreign: set[str] = set()


_holds = _Holds()


def hold_lite(path: str) -> str:
    """Start the embedded server of a folder, or join the one this process runs; returns its address.

    Raises whatever milvus-lite raised. Each hold needs its :func:`release_lite`.
    """
    from milvus_lite.server_manager import server_manager_instance

    with _holds.lock:
        running = server_manager_instance._servers  # noqa: SLF001  # a client of the user's may run it
        if not _holds.counts.get(path) and path in running:
            _holds.foreign.add(path)
        with _what_was_logged() as failures:
            address: str | None = server_manager_instance.start_and_get_uri(path)
        if address is None:
            raise failures[-1] if failures else RuntimeError("milvus-lite did not say why")
        _holds.counts[path] = _holds.counts.get(path, 0) + 1
        return address


def release_lite(path: str) -> None:
    """Give back a hold; with the last one the server ends and the folder's lock is free."""
    from milvus_lite.server_manager import server_manager_instance

    with _holds.lock:
        _holds.counts[path] -= 1
        if _holds.counts[path] == 0:
            del _holds.counts[path]
            if path not in _holds.foreign:
                server_manager_instance.release_server(path)
            _holds.foreign.discard(path)


@contextmanager
def _what_was_logged() -> Iterator[list[BaseException]]:
    """Collect the exceptions that the server manager logs instead of raising them."""
    caught: list[BaseException] = []

    class Catch(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info and record.exc_info[1]:
                caught.append(record.exc_info[1])

    logger, handler = logging.getLogger("milvus_lite.server_manager"), Catch()
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    try:
        yield caught
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate
