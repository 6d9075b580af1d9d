"""Milvus Lite 2.5 as a server: the C++ core of Milvus 2.5 behind gRPC, installed apart from the Milvus Lite in use."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from servers import Server, ServerError, locked, take_ports

PACKAGE = "milvus-lite==2.5.1"
INSTALL_SECONDS = 300


class Lite25Server(Server):
    """Its one database in the file ``FOLDER/data.db``; it knows no others."""

    name = "Milvus Lite 2.5"

    def _prepare(self) -> tuple[list[str], dict[str, str]]:
        libraries = installed() / "milvus_lite" / "lib"
        self.port = take_ports(["port"], {"port": self.port})["port"]
        # Its libraries are for it alone: the Python that starts it would not bear them.
        alone = ["/usr/bin/env", f"LD_LIBRARY_PATH={libraries}"]
        return [*alone, str(libraries / "milvus"), str(self.folder / "data.db"), f"127.0.0.1:{self.port}", "ERROR"], {}

    def _healthy(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def installed() -> Path:
    """Install the package into a folder of this user's, once; raises ServerError where it cannot be had."""
    folder = Path(tempfile.gettempdir()) / f"vsync-{PACKAGE.replace('==', '-')}-{os.getuid()}"
    with locked(folder.with_suffix(".lock")):
        if (folder / "milvus_lite").is_dir():
            return folder
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
        command = [*pip, "--target", str(folder), PACKAGE]
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
        if done.returncode:
            raise ServerError(f"{PACKAGE} cannot be had here: {done.stderr.strip()[-300:]}")
        return folder
