"""Measures upserts against inserts of the same fresh rows, on Milvus 2.3.5 and on Milvus Lite, in turn within one run.

    .venv/bin/python scripts/bench_upsert.py            400,000 x 128, five rounds: about a quarter of an hour
    .venv/bin/python scripts/bench_upsert.py --rows 20000 --rounds 1        does it work?

Each round runs both on each kind of server, in an order that rotates, each on a fresh server (tests/servers.py) and an
empty collection. The requests are vsync's, encoded beforehand: what is compared is the server's work alone. No key is
there before: that is what a first copy sends. docs/speed.md holds the last run, and how to read it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import astuple, dataclass, fields
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # the servers that the tests use

import bench_measure as bm
import bench_report as report
from bench_ceiling import SECONDS, wanted

from vsync.connectors.milvus.client import Client
from vsync.connectors.milvus.target import MilvusTarget
from vsync.schema import Index
from vsync.spec.models import Defaults

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

METHODS = ("Insert", "Upsert")
SEARCHES, SEARCH_SECONDS = 200, 10.0
NAME = "bench_ceiling"  # what the requests of bench_measure are encoded for


@dataclass(frozen=True, slots=True)
class Cost:
    """What one method came to; sizes are what the files take on the disk after the flush."""

    send_s: float
    flush_s: float
    data_mb: float
    delta_kb: float
    folder_mb: float
    index_s: float
    load_s: float
    search_ms: float


def main() -> None:
    """Run all rounds, and print the medians."""
    args = arguments()
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))  # and leave nothing behind
    folder = Path(tempfile.mkdtemp(prefix="vsync-bench-", dir=args.folder))
    shape = bm.Shape(args.rows, args.dim)
    costs: dict[tuple[str, str], list[Cost]] = {(s, m): [] for s in args.server for m in METHODS}
    print(f"{report.machine()}\nload when it began: {load()}", flush=True)
    try:
        requests = bm.make_requests(folder, shape, Defaults().chunk_bytes)
        for n in range(args.rounds):
            for name in args.server:
                for method in METHODS if n % 2 == 0 else METHODS[::-1]:
                    cost = measure(bm.KINDS[name], folder / "server", requests, shape, method)
                    costs[name, method].append(cost)
                    print(f"{time.strftime('%H:%M:%S')}  {name} {method}: {cost}", file=sys.stderr, flush=True)
    finally:
        shutil.rmtree(folder)
    for name in args.server:
        print(f"\n{table(bm.KINDS[name].name, shape, {m: costs[name, m] for m in METHODS})}")
    print(f"\nload when it ended: {load()}")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5, help="medians are quoted (5)")
    parser.add_argument("--server", action="append", choices=bm.KINDS, help="only this one; may be repeated")
    parser.add_argument("--folder", type=Path, help="where files and servers go (the system's temporary folder)")
    args = parser.parse_args()
    args.server = args.server or list(bm.KINDS)
    return args


def measure(kind: bm.Kind, place: Path, requests: Path, shape: bm.Shape, method: str) -> Cost:
    """Send all requests by one method to a fresh server, and use what they made."""
    collection, index = wanted(NAME, shape.dim), Index("vector", "FLAT", "L2")
    in_flight = 3 if len(kind.in_flight) > 1 else 1
    with kind.server(place) as server, closing(Client(server.uri, None, None, create=False)) as client:
        target = MilvusTarget(client)
        target.create_collection(collection)
        sent = send(client, sorted(requests.iterdir()), method, in_flight)
        flushed = timed(lambda: target.flush(NAME))
        sizes = [size(place / "data", part) for part in ("insert_log", "delta_log", "")]
        indexed = timed(lambda: target.create_index(NAME, index, lambda _percent: None))
        target.release(NAME)  # Lite loads what it creates
        loaded = timed(lambda: target.load(NAME, lambda _percent: None))
        if (count := target.count(NAME, None)) != shape.rows:
            raise RuntimeError(f"{count} rows are there, {shape.rows} were sent")
        search = searching(server.uri, shape.dim)
    shutil.rmtree(place)
    data, delta, whole = sizes
    return Cost(sent, flushed, data / 1e6, delta / 1e3, whole / 1e6, indexed, loaded, search)


def send(client: Client, paths: Sequence[Path], method: str, in_flight: int) -> float:
    """Send requests as fast as the server takes them; gives the seconds."""
    payloads = [path.read_bytes() for path in paths]
    with ThreadPoolExecutor(in_flight) as executor:
        return timed(lambda: list(executor.map(lambda payload: client.call_bytes(method, payload, SECONDS), payloads)))


def searching(uri: str, dim: int) -> float:
    """Search for one vector after the other, for some seconds at the most; gives the median in ms."""
    import numpy as np
    from pymilvus import MilvusClient

    patient = {"grpc.keepalive_time_ms": 600_000}  # a served Lite that is at work takes pings for an attack
    client = MilvusClient(uri, timeout=SECONDS, dedicated=True, grpc_options=patient)
    vectors = np.random.default_rng(2).standard_normal((SEARCHES, dim), np.float32)
    seconds: list[float] = []
    for vector in vectors.tolist():
        if sum(seconds) < SEARCH_SECONDS:
            seconds.append(timed(partial(client.search, NAME, [vector], limit=10)))
    client.close()
    return 1e3 * median(seconds)


def timed(function: Callable[[], object]) -> float:
    """Time a call."""
    began = time.monotonic()
    function()
    return time.monotonic() - began


def size(folder: Path, part: str) -> int:
    """Add up what the files below a folder take on the disk."""
    return sum(path.lstat().st_blocks * 512 for path in (folder / part).rglob("*") if path.is_file())


def load() -> str:
    """Say how busy the machine is: the processes that ran or waited for a processor, over 1, 5 and 15 minutes."""
    return " ".join(f"{n:.2f}" for n in os.getloadavg())


def table(name: str, shape: bm.Shape, costs: dict[str, list[Cost]]) -> str:
    """Render the medians of one server as Markdown, and what each round took."""
    names = [field.name for field in fields(Cost)]
    lines = [
        f"### {name}, {shape.rows:,} x {shape.dim}, medians of {len(costs['Insert'])}",
        "",
        "| | rows/s | " + " | ".join(n.replace("_", " ") for n in names) + " |",
        "| --- |" + " ---: |" * (len(names) + 1),
    ]
    for method, rounds in costs.items():
        middle = [median(column) for column in zip(*map(astuple, rounds), strict=True)]
        cells = " | ".join(f"{value:.2f}" if value < 100 else f"{value:,.0f}" for value in middle)
        lines.append(f"| {method} | {shape.rows / middle[0]:,.0f} | {cells} |")
    for method, rounds in costs.items():
        lines += ["", f"{method}, send s, round by round: " + ", ".join(f"{one.send_s:.2f}" for one in rounds)]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
