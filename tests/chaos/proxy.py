"""A TCP proxy of the tests' own: it forwards to a server, and cuts connections when it is told to."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK = 1 << 16
ANSWER_BYTES = 300
"""A cut comes with the first block from the server of at least this size: HTTP/2's own housekeeping is smaller."""


class Proxy:
    """Forwards TCP to ``port``. ``cut_after`` arms it: see there. ``cuts`` counts the connections that it cut."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._left: list[int] = []
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def cut_after(self, *nbytes: int) -> None:
        """Let so many more bytes pass to the server, and lose the answer with the connection; for each number anew."""
        with self._lock:
            self._left = list(nbytes)

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._forward, args=(client,), daemon=True).start()

    def _forward(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client, socket.create_connection(("127.0.0.1", self._to)) as server:
            while True:
                readable, _, _ = select.select([client, server], [], [])
                for source, sink in ((client, server), (server, client)):
                    if source not in readable:
                        continue
                    block = source.recv(BLOCK)
                    if not block or (source is server and self._cuts_now(block)):
                        return
                    sink.sendall(block)
                    if source is client:
                        self._passed(len(block))

    def _passed(self, nbytes: int) -> None:
        with self._lock:
            if self._left:
                self._left[0] -= nbytes

    def _cuts_now(self, block: bytes) -> bool:
        with self._lock:
            if not self._left or self._left[0] > 0 or len(block) < ANSWER_BYTES:
                return False
            self._left.pop(0)
            self.cuts += 1
            return True


@contextlib.contextmanager
def proxy_to(port: int) -> Iterator[Proxy]:
    proxy = Proxy(port)
    try:
        yield proxy
    finally:
        proxy.close()
