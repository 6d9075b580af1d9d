"""Real servers for tests, the bench and the chaos runs: Milvus 2.3.5 standalone and ``milvus-lite server``.

::

    with MilvusServer(folder) as server:
        client = MilvusClient(server.uri)
        server.kill()       # SIGKILL, as a power cut of the process
        server.restart()    # the same folder, the same port

Each server keeps everything in its folder (data, config, ``server.log``), takes free ports of 127.0.0.1, and
dies with the thread that started it, however that ends: start it in one that lives as long.

As a program, ``python tests/servers.py milvus|lite FOLDER`` runs one until Ctrl-C.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import http.client
import importlib.metadata
import logging
import os
import platform
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from typing_extensions import Self

NO_PINGS = {"grpc.keepalive_time_ms": 2**31 - 1}
"""For clients: a served Milvus Lite ends a connection that is pinged every 10 s, as pymilvus does."""
MILVUS_VERSION = "2.3.5"
START_SECONDS = 150.0
"""How long a server may take until it answers; 3 to 8 s are usual, a busy machine needs more."""
POLL_SECONDS = 0.05

# Becomes the server after it asked the kernel for its own end with its parent's. An exec keeps the process id
# and the request; a preexec_fn would do the same, but may deadlock where threads run.
LAUNCHER = """
import ctypes, os, signal, sys
parent, command = int(sys.argv[1]), sys.argv[2:]
signal.signal(signal.SIGINT, signal.SIG_DFL)
if sys.platform == "linux":
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
if os.getppid() != parent:
    sys.exit("the parent is gone")
os.execv(command[0], command)
"""


class ServerError(RuntimeError):
    """A server did not start, or died; the message ends with the tail of its log."""


class Server:
    """A server process of our own: what :class:`MilvusServer` and :class:`LiteServer` share."""

    name = "server"
    stop_seconds = 10.0

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder).resolve()
        self.log = self.folder / "server.log"
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """Where clients connect; a restart keeps it, unless somebody else took the port meanwhile."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        if self._process is None:
            raise ServerError(f"{self.name} in {self.folder} was not started")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Tell whether the process lives; a frozen one does."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start and wait until a MilvusClient's calls are answered; raises :class:`ServerError`."""
        if self.running:
            raise ServerError(f"{self.name} in {self.folder} runs already")
        self.folder.mkdir(parents=True, exist_ok=True)
        command, environment = self._prepare()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", LAUNCHER, str(os.getpid()), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env={**os.environ, **environment},
                start_new_session=True,  # Ctrl-C is for the one who started us
            )
        try:
            self.wait_until(lambda: self._healthy() and self._answers())
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self) -> None:
        """Ask it to end, and kill it where it does not within ``stop_seconds``."""
        if self._process is not None and self.running:
            self._process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(self.stop_seconds)
        self.kill()

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone; nothing where it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def freeze(self) -> None:
        """SIGSTOP, and wait until all of it has stopped: a thread may answer one more request before."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOWAIT)

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def restart(self) -> Self:
        """Stop it if it runs, and start it on the same folder and port."""
        self.stop()
        return self.start()

    def wait_until(self, condition: Callable[[], bool], seconds: float = START_SECONDS) -> None:
        """Wait for the condition; raises :class:`ServerError` where the server or the time ends first."""
        deadline = time.monotonic() + seconds
        while not condition():
            if self._ended_within(POLL_SECONDS):
                raise ServerError(f"{self.name} ended; {self.log} ends with\n{self.tail()}")
            if time.monotonic() > deadline:
                late = f"{self.name} was not so far in {seconds:.0f} s"
                raise ServerError(f"{late}; {self.log} ends with\n{self.tail()}")

    def tail(self, lines: int = 30) -> str:
        """Return the last lines of the server's log."""
        text = self.log.read_text("utf-8", "replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def __enter__(self) -> Self:
        return self if self.running else self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _prepare(self) -> tuple[list[str], dict[str, str]]:
        """Take ports, write the config; returns the command and what the environment needs."""
        raise NotImplementedError

    def _healthy(self) -> bool:
        """Tell cheaply whether asking with a client is worth it."""
        raise NotImplementedError

    def _ended_within(self, seconds: float) -> bool:
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
            return True
        return False

    def _answers(self) -> bool:
        from grpc import RpcError
        from pymilvus import MilvusClient, MilvusException

        silence_pymilvus()
        try:
            client = MilvusClient(self.uri, timeout=5)
            try:
                client.list_collections(timeout=5)
            finally:
                client.close()
        except (MilvusException, RpcError):
            return False
        return True


class MilvusServer(Server):
    """Milvus 2.3.5 standalone, with its etcd inside, from PyPI's ``milvus==2.3.5``.

    ``settings`` overrides its milvus.yaml by dotted keys: ``{"common.security.authorizationEnabled": True}``.
    """

    name = f"Milvus {MILVUS_VERSION}"
    # Told to end, its parts wait for each other for ever; the package's own launcher gives them a second too.
    stop_seconds = 1.0

    def __init__(self, folder: Path, settings: Mapping[str, object] | None = None) -> None:
        super().__init__(folder)
        self.settings = dict(settings or {})
        self._ports: dict[str, int] = {}

    def _prepare(self) -> tuple[list[str], dict[str, str]]:
        reason = available()
        if reason:
            raise ServerError(f"{self.name} cannot run here: {reason}")
        binaries = unpack()
        template = (_package_folder() / "config.yaml.template").read_text("utf-8")
        names = [*re.findall(r"\{\{ *(\w+_port)\b", template), "metrics", "etcd_peer"]
        self._ports = take_ports(names, self._ports)
        self.port = self._ports["proxy_port"]
        configs = self.folder / "configs"
        configs.mkdir(exist_ok=True)
        (configs / "etcd.yaml").write_text(yaml.safe_dump(self._etcd_config()))
        (configs / "milvus.yaml").write_text(yaml.safe_dump(self._milvus_config(template)))
        (configs / "glog.conf").write_text("--logtostderr=true\n--minloglevel=2\n")
        library_path = os.pathsep.join(filter(None, [str(binaries), os.environ.get("LD_LIBRARY_PATH")]))
        return [str(binaries / "milvus"), "run", "standalone"], {
            "DEPLOY_MODE": "STANDALONE",
            "MILVUSCONF": str(configs),
            "METRICS_PORT": str(self._ports["metrics"]),
            "LD_LIBRARY_PATH": library_path,
        }

    def change(self, settings: Mapping[str, object]) -> None:
        """Change settings of the running server: it reads its file again, every five seconds or so."""
        self.settings |= settings
        path = self.folder / "configs" / "milvus.yaml"
        config = yaml.safe_load(path.read_text())
        _set(config, settings)
        new = path.with_suffix(".new")
        new.write_text(yaml.safe_dump(config))
        new.replace(path)

    def kill(self) -> None:
        super().kill()
        if self._process is not None:  # Milvus leaves one of these behind for every start
            Path("/tmp/milvus", f"server_id_{self._process.pid}").unlink(missing_ok=True)  # noqa: S108 - its choice

    def _etcd_config(self) -> dict[str, Any]:
        client, peer = (f"http://127.0.0.1:{self._ports[name]}" for name in ("etcd_port", "etcd_peer"))
        return {
            "name": "default",
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"default={peer}",
            # What it saves matters at a power cut only; a killed process loses nothing.
            "unsafe-no-fsync": True,
        }

    def _milvus_config(self, template: str) -> dict[str, Any]:
        data = self.folder / "data"
        values = {
            **self._ports,
            "etcd_log_level": "warn",
            "etcd_log_path": self.folder / "etcd.log",
            "etcd_data_dir": data / "etcd",
            "local_storage_dir": data,
            "rocksmq_data_dir": data / "rocksmq",
            "system_log_path": '""',  # not a second time beside stdout
        }

        def value(match: re.Match[str]) -> str:
            return str(values.get(match["name"], match["default"] or ""))

        pattern = r"\{\{ *(?P<name>\w+)(?:\(\w+\))?(?:: *(?P<default>[^}]*?))? *\}\}"
        config: dict[str, Any] = yaml.safe_load(re.sub(pattern, value, template))
        components = [key for key, part in config.items() if isinstance(part, dict) and "ip" in part]
        own: dict[str, object] = {f"{component}.ip": "127.0.0.1" for component in components}
        own |= {
            "etcd.config.path": str(self.folder / "configs" / "etcd.yaml"),
            "log.level": "warn",
            "quotaAndLimits.enabled": False,
            # How long a killed server's parts are thought to live: of Milvus's 30 s a restart costs 28.
            "common.session.ttl": 10,
            # How long, in ms, a flush waits for those who may still write to a segment: it takes 1 s instead of 3.
            "dataCoord.segment.assignmentExpiration": 500,
            # What a strongly consistent query waits for, in ms, and a flush too.
            "proxy.timeTickInterval": 100,
            # How often the loader looks, in ms: 1.5 s for an empty collection instead of 3.
            "queryCoord.checkChannelInterval": 100,
            "queryCoord.checkSegmentInterval": 100,
            "queryCoord.distPullInterval": 100,
        }
        _set(config, own | self.settings)
        return config

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._ports['metrics']}/healthz", timeout=5) as response:
                return b"OK" in response.read()
        except (OSError, http.client.HTTPException):
            return False


class LiteServer(Server):
    """``milvus-lite server`` as a process of its own, on ``FOLDER/data``."""

    name = "milvus-lite server"

    def _prepare(self) -> tuple[list[str], dict[str, str]]:
        self.port = take_ports(["port"], {"port": self.port})["port"]
        arguments = ["--data-dir", str(self.folder / "data"), "--host", "127.0.0.1", "--port", str(self.port)]
        return [sys.executable, "-m", "milvus_lite.cmdline", "server", *arguments], {}

    def _healthy(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def has_platform() -> bool:
    """Tell whether there is a Milvus 2.3.5 for this kind of machine."""
    return (sys.platform, platform.machine()) == ("linux", "x86_64")


def available() -> str | None:
    """Say why Milvus 2.3.5 cannot run here; None where it can."""
    if not has_platform():
        return f"it is there for Linux on x86-64 only, this is {sys.platform} on {platform.machine()}"
    try:
        version = importlib.metadata.version("milvus")
    except importlib.metadata.PackageNotFoundError:
        return f"the package is not installed: pip install milvus=={MILVUS_VERSION}"
    if version != MILVUS_VERSION:
        return f"milvus {version} is installed: pip install milvus=={MILVUS_VERSION}"
    return None


def silence_pymilvus() -> None:
    """Keep pymilvus from writing the traceback of every refused call to stderr."""
    import pymilvus

    logging.getLogger(pymilvus.__name__).setLevel(logging.CRITICAL + 1)


@functools.cache
def unpack() -> Path:
    """Unpack the package's binaries (300 MB, 6 s) once for this user and machine; returns their folder."""
    import milvus

    cache = Path(tempfile.gettempdir()) / f"vsync-milvus-{MILVUS_VERSION}-{os.getuid()}"
    cache.mkdir(mode=0o700, exist_ok=True)
    if cache.stat().st_uid != os.getuid():
        raise ServerError(f"{cache} belongs to somebody else: set TMPDIR to a folder of your own")
    with locked(cache / "lock"):
        milvus._initialize_data_files(str(cache))  # looks at digests, and does what is missing
    return cache / "bin"


def take_ports(names: Sequence[str], wanted: Mapping[str, int]) -> dict[str, int]:
    """Find a free port of 127.0.0.1 for each name: the wanted one where it is free.

    They lie below the range that the kernel hands out: no connection takes one before the server does.
    """
    chance = random.SystemRandom()
    ports: dict[str, int] = {}
    with contextlib.ExitStack() as held:
        for name in names:
            port = wanted.get(name, 0)
            while not (port and _bind(held, port)):
                port = chance.randrange(10_240, 32_000)
            ports[name] = port
    return ports


def _bind(held: contextlib.ExitStack, port: int) -> bool:
    probe = held.enter_context(socket.socket())
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free for servers
    try:
        probe.bind(("127.0.0.1", port))
        probe.listen()
    except OSError:
        return False
    return True


def _set(config: dict[str, Any], settings: Mapping[str, object]) -> None:
    for key, setting in settings.items():
        *parents, last = key.split(".")
        functools.reduce(lambda part, name: part.setdefault(name, {}), parents, config)[last] = setting


def _package_folder() -> Path:
    import milvus

    return Path(milvus.__file__).parent / "data"


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep out other processes, of the same run of the tests or of another."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> None:
    """Run one server until Ctrl-C; its uri is the one line printed."""
    kinds: dict[str, type[Server]] = {"milvus": MilvusServer, "lite": LiteServer}
    if len(sys.argv) != 3 or sys.argv[1] not in kinds:
        sys.exit("usage: python tests/servers.py milvus|lite FOLDER")
    with kinds[sys.argv[1]](Path(sys.argv[2])) as server, contextlib.suppress(KeyboardInterrupt):
        sys.stdout.write(server.uri + "\n")
        sys.stdout.flush()
        while server.running:
            signal.pause()


if __name__ == "__main__":
    main()
