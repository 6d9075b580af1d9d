"""One Milvus database, reached: a server by its address, or an embedded Milvus Lite by its folder.

A Lite folder that is not there stays so until something is created: whoever reads finds an empty database.
"""

from __future__ import annotations

import fcntl
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from vsync import faults
from vsync.connectors.milvus import failures, wire
from vsync.connectors.milvus.capabilities import Server, server_of
from vsync.errors import LockedError, TargetError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CONNECT_SECONDS = 10.0
CALL_SECONDS = 60.0

# How a request is called in messages.
_DOING = {
    "Connect": "connecting",
    "Upsert": "writing rows",
    "Insert": "writing rows",
    "Query": "asking for rows",
    "Delete": "deleting rows",
}


class Client:
    """A connection that is opened at its first use. Used by several threads at once.

    ``uri`` is ``http(s)://host:port`` or the absolute path of a Lite folder.
    """

    def __init__(self, uri: str, token: str | None, database: str | None) -> None:
        self.database = database or "default"
        self.folder = None if "://" in uri else _lite_folder(uri)
        self.address = uri if self.folder else _address(uri)
        self._token = token
        self._lock = threading.Lock()
        self._connection: wire.Connection | None = None
        self._server: Server | None = None
        if self.there:
            self._connect()

    @property
    def there(self) -> bool:
        """Whether there is something to connect to: false for a Lite folder that nobody made yet."""
        return self.folder is None or (self.folder / "LOCK").exists()

    @property
    def identity(self) -> str:
        """The server's address or the folder's path, and the database."""
        return f"{self.address}/{self.database}" if self.folder is None else f"{self.folder}{self._suffix}"

    @property
    def born(self) -> str:
        """What tells a Lite folder from another made at its place: when its lock file was made."""
        return f"{(self.folder / 'LOCK').stat().st_mtime_ns:x}" if self.folder and self.there else ""

    @property
    def _suffix(self) -> str:
        return "" if self.database == "default" else f"/{self.database}"

    @property
    def label(self) -> str:
        """For people: address or folder, database, server and version."""
        place = self.folder.name if self.folder else self.address
        return f"{place}{self._suffix if self.folder else '/' + self.database} ({self.server})"

    @property
    def server(self) -> Server:
        """The kind and version of the server; for a folder that is not there, the embedded one's."""
        if self._server is None:
            self._server = self._ask_server() if self._connection or self.there else server_of(wire.LITE_VERSION)
        return self._server

    def call(
        self,
        method: str,
        request: Any,
        *,
        timeout: float = CALL_SECONDS,
        doing: str | None = None,
        read: Callable[[bytes], Any] | None = None,
    ) -> Any:
        """Send one request once; returns its answer, raises what a status other than success says.

        ``read`` makes the answer of its bytes, in protobuf's place.
        """
        connection, doing = self._connect(), doing or _DOING.get(method, method)
        if "db_name" in request.DESCRIPTOR.fields_by_name and not request.db_name:
            # Milvus 2.3 reads it from the metadata for most requests, but not for aliases.
            request.db_name = self.database
        with failures.translated(self.place, doing), faults.around(f"request.{method}"):
            answer = connection.call(method, request, timeout, read)
        failures.check(getattr(answer, "status", answer), self.place, doing)
        return answer

    def call_bytes(self, method: str, payload: bytes, timeout: float) -> Any:
        """Send one mutation that is serialized already; returns its result."""
        connection, doing = self._connect(), _DOING[method]
        with failures.translated(self.place, doing), faults.around(f"request.{method}"):
            answer = connection.call_bytes(method, payload, timeout)
        failures.check(answer.status, self.place, doing)
        return answer

    def close(self) -> None:
        """Close the connection; for Lite, give the folder back."""
        with self._lock:
            connection, self._connection = self._connection, None
        if connection:
            connection.close()
            if self.folder:
                wire.release_lite(str(self.folder))

    @property
    def place(self) -> str:
        """Where, in messages: without the version, which may not be known."""
        return f"{self.folder or self.address}{self._suffix}"

    def _connect(self) -> wire.Connection:
        with self._lock:
            if self._connection is None:
                self._connection = self._open()
            return self._connection

    def _open(self) -> wire.Connection:
        if self.folder is None:
            return self._dial(self.address, self._token, loopback=False)
        address = _start_lite(self.folder)
        try:
            return self._dial(address, None, loopback=True)
        except BaseException:
            wire.release_lite(str(self.folder))
            raise

    def _dial(self, address: str, token: str | None, *, loopback: bool) -> wire.Connection:
        with failures.translated(self.place, "connecting"):
            return wire.Connection(address, token, self.database, timeout=CONNECT_SECONDS, loopback=loopback)

    def _ask_server(self) -> Server:
        request = wire.milvus_pb2.GetVersionRequest()
        try:
            answer = self.call("GetVersion", request, timeout=CONNECT_SECONDS, doing="connecting")
        except failures.UnknownRequestError:
            return server_of(None)
        return server_of(answer.version)


def pairs(values: Mapping[str, str]) -> list[Any]:
    """Make Milvus's key and value messages."""
    return [wire.common_pb2.KeyValuePair(key=key, value=value) for key, value in values.items()]


def _address(uri: str) -> str:
    parts = urlsplit(uri)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise TargetError(f"{uri} is no address of a Milvus", hint="write http://host:19530 or https://host")
    if parts.username or parts.password:
        raise TargetError(
            f"the address of {parts.hostname} carries a password", hint="write `token: {env: NAME}` instead"
        )
    if parts.path.strip("/") or parts.query:
        raise TargetError(f"{uri} carries more than host and port", hint="write `database: NAME` for a database")
    try:
        port = parts.port or (443 if parts.scheme == "https" else 19530)
    except ValueError as error:
        raise TargetError(f"{uri} is no address of a Milvus", hint="a port is 1 to 65535") from error
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{port}"


def _lite_folder(uri: str) -> Path:
    if not uri.endswith(".db"):
        raise TargetError(
            f"{uri} is neither an address nor a Milvus Lite folder",
            hint="write http://host:19530, or a path that ends in .db: pymilvus opens no other",
        )
    folder = Path(uri).resolve()
    if folder.is_file():
        raise TargetError(
            f"{folder} is a file: Milvus Lite 3 keeps a folder",
            hint="a file of Milvus Lite 2 is not opened; name another path, and copy with the older version",
        )
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "LOCK").exists():
        raise TargetError(f"{folder} is a folder of something else, not of a Milvus Lite", hint="name another path")
    return folder


def _start_lite(folder: Path) -> str:
    try:
        return wire.hold_lite(str(folder))
    except Exception as error:  # a server in Python, of another project, may raise anything at its start
        if _is_locked(folder):
            raise LockedError(
                "another process has this Milvus Lite folder open",
                where=str(folder),
                hint="end that process, or run one Milvus server for both",
            ) from error
        raise TargetError(f"Milvus Lite does not start: {error}", where=str(folder)) from error


def _is_locked(folder: Path) -> bool:
    try:
        with (folder / "LOCK").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
