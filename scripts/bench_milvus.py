"""How fast vsync copies from one Milvus to another, and mirrors: what `scripts/bench --milvus` measures."""

from __future__ import annotations

import shutil
import sys
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import bench_measure as bm
import bench_report as report
from bench_forward import DATABASE, NAME, collection
from bench_measure import KINDS, MIB, Kind, Shape, Used
from bench_report import Runs, Target
from bench_rounds import Rounds

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterator


FORWARD = bm.HERE / "bench_forward.py"
SHAPES = (Shape(40_000, 768), Shape(200_000, 128))
QUICK = (Shape(4_000, 768), Shape(20_000, 128))
WARMING = 20_000
LOADED_AT_ONCE = 5_000
RANGE_ROWS = 16_000
"""The most rows of a range of the ceiling: more does no answer of Milvus hold."""
SPEC = """
version: 1
connections: {{source: {{uri: "{source}", database: {database}}}}}
target: "{target}"
defaults: {{chunk_bytes: {chunk_bytes}}}
collections:
  bench_vsync:
    from: {{milvus: {{at: source, collection: {name}}}}}
    load: false
    indexes: {{}}
"""


@dataclass(frozen=True, slots=True)
class Pair:
    """What is copied from and to; ``alone`` is the target's part of the ceiling that the copy phase must reach."""

    name: str
    source: Kind
    target: Kind
    reaches: float
    plain: bool = False
    in_flight: tuple[int, ...] = (2, 3)

    @property
    def writers(self) -> int:
        """How many requests at once the target bears."""
        return self.target.in_flight[-1]


PAIRS = {
    "milvus-milvus": Pair(
        "One Milvus 2.3.5", KINDS["milvus"], KINDS["milvus"], 0.85, plain=True, in_flight=(2, 3, 4, 6)
    ),
    "lite-lite": Pair("Two served Milvus Lite", KINDS["lite"], KINDS["lite"], 0.9),
    "milvus-lite": Pair("Milvus 2.3.5 to served Milvus Lite", KINDS["milvus"], KINDS["lite"], 0.9),
}


def measure_copies(args: Namespace, pair: str, folder: Path, say: Callable[[str], None]) -> Iterator[Target]:
    """Measure one pair with every shape; prints tables as it goes."""
    chosen = PAIRS[pair]
    bound = 300 + args.transfers * 5 * args.chunk_bytes / MIB
    for shape in args.shape:
        rounds = Rounds(f"{chosen.name} {shape}", partial(fresh, args, chosen, shape, folder), args.repeat, say)
        forward = partial(ceiling, args, chosen, shape, folder)
        in_flight = args.in_flight or rounds.best(chosen.in_flight, forward)
        ways: dict[str, Callable[..., Used]] = {"vsync": partial(vsync, args, folder)}
        ways |= {"plain": partial(plain, shape, folder)} if chosen.plain else {}
        runs = rounds.run(ways | {"ceiling": partial(forward, in_flight=in_flight)})
        print(f"\n{report.table(chosen.name, shape, runs)}")
        print(f"the ceiling had {in_flight} in flight, vsync {args.transfers}\n")
        yield from targets(pair, shape, runs, bound)


def plain(shape: Shape, folder: Path, source: str, target: str) -> Used:
    """Run the plain script."""
    return bm.measure([sys.executable, FORWARD, "plain", source, target, shape.dim], folder)


def vsync(args: Namespace, folder: Path, source: str, target: str) -> Used:
    """Apply a fresh spec with a fresh state."""
    spec = folder / "bench.yaml"
    spec.write_text(
        SPEC.format(source=source, target=target, database=DATABASE, name=NAME, chunk_bytes=args.chunk_bytes)
    )
    shutil.rmtree(folder / ".vsync", ignore_errors=True)
    options = ["--auto-approve", "--json", "--transfers", str(args.transfers)]
    return bm.measure([sys.executable, "-m", "vsync", "apply", spec, *options], folder)


def ceiling(args: Namespace, pair: Pair, shape: Shape, folder: Path, source: str, target: str, in_flight: int) -> Used:
    """Forward ranges of the size of vsync's chunks, as far as an answer holds them."""
    step = min(RANGE_ROWS, args.chunk_bytes * shape.rows // shape.nbytes)
    command = [sys.executable, FORWARD, "ceiling", source, target, shape.dim, shape.rows, step]
    return bm.measure([*command, pair.target.method, in_flight, pair.writers], folder)


@contextmanager
def fresh(args: Namespace, pair: Pair, shape: Shape, folder: Path) -> Iterator[tuple[str, str]]:
    """Run fresh servers, one of which holds what is to be copied, and copy a little; gives their addresses."""
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder / "servers")
        source = target = stack.enter_context(pair.source.server(folder / "servers" / "source"))
        if not pair.plain:
            target = stack.enter_context(pair.target.server(folder / "servers" / "target"))
        fill(source.uri, shape)
        ceiling(args, pair, Shape(min(shape.rows, WARMING), shape.dim), folder, source.uri, target.uri, 1)
        bm.drop_all(target.uri)
        yield source.uri, target.uri


def fill(uri: str, shape: Shape) -> None:
    """Write the collection that is copied: flushed, indexed and loaded, as one that is in use."""
    from vsync.connectors.milvus import open_target
    from vsync.schema import Index

    with closing(open_target(uri, None, DATABASE)) as target:
        target.create_database()
        target.create_collection(collection(NAME, shape.dim))
        writer = target.writer(collection(NAME, shape.dim), None)
        for start in range(0, shape.rows, LOADED_AT_ONCE):
            for request in writer.encode(rows_of(shape, start, min(start + LOADED_AT_ONCE, shape.rows))):
                writer.send(request)
        target.flush(NAME)
        target.create_index(NAME, Index("vector", "FLAT", "L2"), ignored)
        target.load(NAME, ignored)


def ignored(_percent: int) -> None:
    """Take no notice of how far it is."""


def rows_of(shape: Shape, start: int, end: int) -> Any:
    """Make rows: keys in order, vectors normally distributed, a short text."""
    import numpy as np
    import pyarrow as pa

    chance = np.random.default_rng(start)
    vectors = pa.array(chance.standard_normal((end - start) * shape.dim, np.float32))
    columns = {
        "id": pa.array(np.arange(start, end)),
        "vector": pa.FixedSizeListArray.from_arrays(vectors, shape.dim),
        "word": pa.array([f"word {n}" for n in range(start, end)]),
    }
    return pa.RecordBatch.from_pydict(columns)


def targets(pair: str, shape: Shape, runs: Runs, bound_mib: float) -> Iterator[Target]:
    """Compare medians with what must be reached."""
    of = f"{pair} {shape}:"
    ours, plain = runs["vsync"], runs.get("plain")
    copy, cpu = (median(getattr(u, what) for u in ours) for what in ("copy_seconds", "copy_cpu_seconds"))
    if plain:
        yield Target(f"{of} copy phase / plain script", median(u.copy_seconds for u in plain) / copy, 3)
        less = cpu / median(u.copy_cpu_seconds for u in plain)
        yield Target(f"{of} client CPU of the copy phase / plain script", less, 1 / 3, at_most=True)
    most = median(u.copy_seconds for u in runs["ceiling"])
    yield Target(f"{of} copy phase / ceiling", most / copy, PAIRS[pair].reaches)
    peak = max(u.anonymous for u in ours) / MIB
    yield Target(f"{of} anonymous memory", peak, bound_mib, at_most=True, unit=" MiB")
