"""A TCP proxy of the tests' own: it forwards to a server, and does to connections what it is told to.

It cuts them when a request has arrived and before its answer comes, or half way through a request; it turns them away;
it holds a request back until it is told to let it go, when its sender may be long dead.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK = 1 << 16
ANSWER_BYTES = 300
"""A cut comes with the first block from the server of at least this size: HTTP/2's own housekeeping is smaller."""
LATE_SECONDS = 5.0
"""How long the connection of a request that was held back stays open for the server, from one answer to the next."""


@dataclass(slots=True)
class Fault:
    """What happens to the connection that carries the byte ``left`` bytes from now, counted towards the server."""

    kind: str
    left: int


class Proxy:
    """Forwards TCP to ``port``, which may change. ``cuts`` counts the connections that it cut as it was told."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.cuts = 0
        self.passed = 0
        """Bytes that went to the server."""
        self.held = threading.Event()
        """Set once a request is held back."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._open: set[socket.socket] = set()
        self._away = False
        self._let_go = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def cut_after(self, *nbytes: int) -> None:
        """Let so many more bytes pass to the server, and lose the answer with the connection; for each number anew."""
        self._arm(*(Fault("answer", n) for n in nbytes))

    def cut_half_way_after(self, nbytes: int) -> None:
        """Let so many more bytes pass to the server, and not one more of that connection."""
        self._arm(Fault("half", nbytes))

    def hold_after(self, nbytes: int) -> None:
        """Let so many more bytes pass, and hold back what follows on that connection, until :meth:`let_go`."""
        self.held.clear()
        self._let_go.clear()
        self._arm(Fault("hold", nbytes))

    def let_go(self) -> None:
        """Send what is held back, whether its sender lives or not."""
        self._let_go.set()

    def disarm(self) -> None:
        """Do nothing more to connections; what is held back stays so."""
        self._arm()

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Break all connections, and take no new ones for a while."""
        with self._lock:
            self._away = True
            for one in self._open:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
        yield
        self._away = False

    def close(self) -> None:
        self._listener.close()

    def _arm(self, *faults: Fault) -> None:
        with self._lock:
            self._faults = list(faults)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self._away:
                    client.close()
                else:
                    threading.Thread(target=self._forward, args=(client,), daemon=True).start()

    def _forward(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client, socket.create_connection(("127.0.0.1", self.port)) as server:
            with self._lock:
                self._open |= {client, server}
            try:
                while self._turn(client, server):
                    pass
            finally:
                with self._lock:
                    self._open -= {client, server}

    def _turn(self, client: socket.socket, server: socket.socket) -> bool:
        """Pass on what has come; tells whether the connection lives."""
        readable, _, _ = select.select([client, server], [], [])
        if client in readable:
            block = client.recv(BLOCK)
            if not block:
                return False
            fault, rest = self._due(len(block))
            if fault == "hold":
                self._late(client, server, block)
                return False
            server.sendall(block[:rest])
            if fault == "half":
                return False
        if server in readable:
            block = server.recv(BLOCK)
            if not block or self._cuts_now(block):
                return False
            client.sendall(block)
        return True

    def _due(self, nbytes: int) -> tuple[str | None, int]:
        """Count bytes towards the server; gives the fault that falls due with them, and how many still pass."""
        with self._lock:
            self.passed += nbytes
            if not self._faults:
                return None, nbytes
            fault = self._faults[0]
            rest, fault.left = fault.left, fault.left - nbytes
            if fault.kind == "answer" or fault.left > 0:
                return None, nbytes
            self._faults.pop(0)
            self.cuts += 1
            return fault.kind, max(rest, 0)

    def _cuts_now(self, block: bytes) -> bool:
        with self._lock:
            due = [f for f in self._faults[:1] if f.kind == "answer" and f.left <= 0]
            if not due or len(block) < ANSWER_BYTES:
                return False
            self._faults.pop(0)
            self.cuts += 1
            return True

    def _late(self, client: socket.socket, server: socket.socket, held: bytes) -> None:
        """Hold bytes back, with all that its sender sends until it dies; then send them, and wait for the answer."""
        self.held.set()
        with contextlib.suppress(OSError):
            while block := client.recv(BLOCK):
                held += block
        self._let_go.wait()
        server.sendall(held)
        server.settimeout(LATE_SECONDS)
        while len(server.recv(BLOCK)) >= ANSWER_BYTES:
            pass


@contextlib.contextmanager
def proxy_to(port: int) -> Iterator[Proxy]:
    proxy = Proxy(port)
    try:
        yield proxy
    finally:
        proxy.close()
