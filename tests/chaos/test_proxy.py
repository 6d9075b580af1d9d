"""The suite's own proxy does to connections what it is told to."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import pytest
from chaos.proxy import ANSWER_BYTES, Proxy, proxy_to

if TYPE_CHECKING:
    from collections.abc import Iterator

ANSWER = b"a" * ANSWER_BYTES
SECONDS = 20


class Server:
    """Answers each block of a connection, and keeps what came in each connection until its end."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.heard: list[bytes] = []
        self.ended = threading.Semaphore(0)
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            heard = b""
            with connection:
                while block := _received(connection):
                    heard += block
                    connection.sendall(ANSWER)
            self.heard.append(heard)
            self.ended.release()


def _received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(1 << 16)
    except OSError:
        return b""


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.listener.close()


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    with proxy_to(server.port) as made:
        yield made


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(proxy.uri.rpartition(":")[2])), SECONDS)


def test_it_forwards_both_ways(proxy: Proxy, server: Server) -> None:
    with connect(proxy) as client:
        client.sendall(b"hello")
        assert _received(client) == ANSWER
    assert server.ended.acquire(timeout=SECONDS)
    assert server.heard == [b"hello"]
    assert (proxy.passed, proxy.cuts) == (5, 0)


def test_a_request_that_arrives_without_an_answer(proxy: Proxy, server: Server) -> None:
    proxy.cut_after(3)
    with connect(proxy) as client:
        client.sendall(b"hello")
        assert _received(client) == b""
    assert server.ended.acquire(timeout=SECONDS)
    assert server.heard == [b"hello"]
    assert proxy.cuts == 1


def test_a_request_that_arrives_half(proxy: Proxy, server: Server) -> None:
    proxy.cut_half_way_after(3)
    with connect(proxy) as client:
        client.sendall(b"hello")
        assert _received(client) in {b"", ANSWER}
    assert server.ended.acquire(timeout=SECONDS)
    assert server.heard == [b"hel"]
    assert proxy.cuts == 1


def test_a_request_that_arrives_when_its_sender_is_gone(
    proxy: Proxy, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chaos.proxy.LATE_SECONDS", 0.5)
    proxy.hold_after(3)
    with connect(proxy) as client:
        client.sendall(b"hello")
        assert proxy.held.wait(SECONDS)
    assert not server.heard
    with connect(proxy) as other:  # others pass meanwhile
        other.sendall(b"other")
        proxy.let_go()
        assert server.ended.acquire(timeout=SECONDS)
        assert server.heard[0] == b"hello"


def test_a_server_that_is_away(proxy: Proxy, server: Server) -> None:
    with connect(proxy) as before:
        before.sendall(b"before")
        assert _received(before) == ANSWER
        with proxy.away():
            assert _received(before) == b""
            with connect(proxy) as client:
                assert _received(client) == b""
    with connect(proxy) as after:
        after.sendall(b"after")
        assert _received(after) == ANSWER
    assert server.ended.acquire(timeout=SECONDS)
    assert server.heard[0] == b"before"
