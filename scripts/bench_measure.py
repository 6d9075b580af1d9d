"""What scripts/bench needs to run its contenders: files, processes and what they used."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import servers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HERE = Path(__file__).parent
SAMPLE_SECONDS = 0.02
RUN_SECONDS = 1_800
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Shape:
    """Rows and dimensions of a file: ``400000x128``."""

    rows: int
    dim: int

    def __str__(self) -> str:
        """Render as it is written on the command line."""
        return f"{self.rows}x{self.dim}"

    @property
    def nbytes(self) -> int:
        """The bytes of its keys and vectors."""
        return self.rows * (8 + 4 * self.dim)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of server: how vsync writes to it, and how many requests in flight are worth trying."""

    name: str
    server: Callable[[Path], servers.Server]
    method: str
    in_flight: tuple[int, ...]


# Milvus's own, which users wait for: flushes and strong queries of the tests' servers end sooner.
OWN = {"dataCoord.segment.assignmentExpiration": 2000, "proxy.timeTickInterval": 200}
MILVUS = partial(servers.MilvusServer, settings=OWN)
KINDS = {
    "milvus": Kind(f"Milvus {servers.MILVUS_VERSION}", MILVUS, "Upsert", (2, 3, 4)),
    "lite": Kind("Milvus Lite (served)", servers.LiteServer, "Insert", (1,)),
}


@dataclass(frozen=True, slots=True)
class Used:
    """What one process took: seconds, bytes; ``said`` is the last JSON line that it printed."""

    seconds: float
    cpu_seconds: float
    anonymous: int
    resident: int
    said: dict[str, float]

    @property
    def copy_seconds(self) -> float:
        """The seconds of the copy phase, by the process's own clock."""
        return self.said["copy_seconds"]

    @property
    def copy_cpu_seconds(self) -> float:
        """The seconds of the processor in the copy phase, all threads."""
        return self.said["copy_cpu_seconds"]


def measure(command: Sequence[object], folder: Path, ends_with: int = 0) -> Used:
    """Run a program to its end; raises RuntimeError with its output where it ended otherwise.

    CPU and the peak of resident memory are the kernel's (``wait4``), the peak of anonymous memory is sampled.
    """
    with tempfile.TemporaryFile() as out:
        began = time.monotonic()
        process = subprocess.Popen([str(c) for c in command], cwd=folder, stdout=out, stderr=subprocess.STDOUT)
        anonymous, status, usage = 0, 0, None
        try:
            while usage is None:
                pid, status, found = os.wait4(process.pid, os.WNOHANG)
                if pid:
                    usage = found
                    break
                anonymous = max(anonymous, _anonymous(process.pid))
                if time.monotonic() - began > RUN_SECONDS:
                    raise RuntimeError(f"{command} took more than {RUN_SECONDS} s")
                time.sleep(SAMPLE_SECONDS)
        finally:
            if usage is None:
                process.kill()
                os.wait4(process.pid, 0)
            process.returncode = 0  # reaped by wait4: there is nobody left to wait for
        seconds = time.monotonic() - began
        out.seek(0)
        text = out.read().decode("utf-8", "replace")
    if (code := os.waitstatus_to_exitcode(status)) != ends_with:
        raise RuntimeError(f"{' '.join(map(str, command))} ended with {code}:\n{text}")
    return Used(seconds, usage.ru_utime + usage.ru_stime, anonymous, usage.ru_maxrss * 1024, _said(text))


def _anonymous(pid: int) -> int:
    """Read the anonymous memory of a process: what it allocated, without the files it has mapped."""
    try:
        lines = Path("/proc", str(pid), "status").read_text("ascii", "replace").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")), 0)


def _said(text: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for line in text.splitlines():
        if line.startswith("{"):
            found |= {k: v for k, v in json.loads(line).items() if k.endswith("seconds") or k == "written"}
    return found


def make_file(folder: Path, shape: Shape) -> Path:
    """Write an HDF5 file of this shape, once: keys in order, vectors normally distributed."""
    import h5py
    import numpy as np

    path = folder / f"{shape}.h5"
    if not path.exists():
        chance = np.random.default_rng(1)
        with h5py.File(path, "w") as file:
            file["ids"] = np.arange(1, shape.rows + 1, dtype=np.int64)
            vectors = file.create_dataset("vectors", (shape.rows, shape.dim), "<f4")
            for start in range(0, shape.rows, 50_000):
                part = min(50_000, shape.rows - start)
                vectors[start : start + part] = chance.standard_normal((part, shape.dim), np.float32)
    return path


def make_requests(folder: Path, shape: Shape, chunk_bytes: int) -> Path:
    """Encode a file as requests to the collection ``bench_ceiling``, once."""
    path = folder / f"{shape}-{chunk_bytes}"
    if not path.exists():
        source = make_file(folder, shape)
        measure(
            [sys.executable, HERE / "bench_ceiling.py", "encode", source, path, "bench_ceiling", str(chunk_bytes)],
            folder,
        )
    return path


def write_spec(folder: Path, uri: str, shape: Shape, chunk_bytes: int) -> Path:
    """Write the spec that vsync applies: not indexed and not loaded, as for the other contenders."""
    path = folder / "bench.yaml"
    path.write_text(
        "version: 1\n"
        f'target: {{milvus: {{uri: "{uri}"}}}}\n'
        f"defaults: {{chunk_bytes: {chunk_bytes}}}\n"
        "collections:\n"
        "  bench_vsync:\n"
        "    fields:\n"
        "      id:     {type: int64, primary: true}\n"
        f"      vector: {{type: float_vector, dim: {shape.dim}}}\n"
        "    load: false\n"
        "    data:\n"
        f"      - {{from: {{hdf5: {shape}.h5}}, map: {{id: ids, vector: vectors}}}}\n"
    )
    return path


def vsync(folder: Path, uri: str, shape: Shape, chunk_bytes: int, transfers: int) -> Used:
    """Apply a fresh spec with a fresh state."""
    make_file(folder, shape)
    spec = write_spec(folder, uri, shape, chunk_bytes)
    shutil.rmtree(folder / ".vsync", ignore_errors=True)
    options = ["--auto-approve", "--json", "--transfers", str(transfers)]
    return measure([sys.executable, "-m", "vsync", "apply", spec, *options], folder)


def plain(folder: Path, uri: str, shape: Shape) -> Used:
    """Run the plain pymilvus script."""
    source = make_file(folder, shape)
    return measure([sys.executable, HERE / "bench_plain.py", uri, "bench_plain", source], folder)


def ceiling(folder: Path, uri: str, shape: Shape, chunk_bytes: int, method: str, in_flight: int) -> Used:
    """Send requests that are encoded already."""
    requests = make_requests(folder, shape, chunk_bytes)
    arguments = [uri, "bench_ceiling", requests, str(shape.dim), method, str(in_flight)]
    return measure([sys.executable, HERE / "bench_ceiling.py", "send", *arguments], folder)


def drop_all(uri: str) -> None:
    """Drop what a run left, so that the next finds the server as it was."""
    from pymilvus import MilvusClient

    client = MilvusClient(uri, timeout=60, dedicated=True, grpc_options=servers.NO_PINGS)
    for name in client.list_collections():
        client.drop_collection(name)
    client.close()
