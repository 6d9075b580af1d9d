"""How fast vsync exports, and restores what it backed up: what `scripts/bench --export` measures."""

from __future__ import annotations

import shutil
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import bench_measure as bm
import bench_report as report
from bench_forward import DATABASE, NAME
from bench_measure import MIB, Kind, Shape, Used
from bench_milvus import RANGE_ROWS, fill
from bench_report import Runs, Target
from bench_rounds import Rounds

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterator

DRAIN = bm.HERE / "bench_drain.py"
IN_FLIGHT = (1, 2, 3, 4)
REACHES = {"milvus": 0.85, "lite": 0.9}
RESTORED = 0.9
"""What part of the speed of copying an HDF5 file a restore is to have."""
EXPORT = """
version: 1
connections: {{source: {{uri: "{uri}", database: {database}}}}}
target: {{hdf5: exports}}
defaults: {{chunk_bytes: {chunk_bytes}}}
collections:
  {name}:
    from: {{milvus: {{at: source, collection: {name}}}}}
"""
RESTORE = """
version: 1
target: {{milvus: {{uri: "{uri}", database: default}}}}
defaults: {{chunk_bytes: {chunk_bytes}}}
collections:
  bench_restored:
    from: {{backup: {{repo: repository, collection: {name}}}}}
    load: false
    indexes: {{}}
"""


def measure_exports(
    args: Namespace, kind: Kind, name: str, folder: Path, say: Callable[[str], None]
) -> Iterator[Target]:
    """Measure one kind of server with every shape; prints tables as it goes."""
    bound = 300 + args.transfers * 5 * args.chunk_bytes / MIB
    for shape in args.shape:
        bm.make_file(folder, shape)
        rounds = Rounds(f"{kind.name} {shape}", partial(fresh, args, kind, shape, folder), args.repeat, say)
        drain = partial(ceiling, args, shape, folder)
        in_flight = args.in_flight or rounds.best(IN_FLIGHT, drain)
        runs = rounds.run(
            {
                "vsync": partial(export, args, folder),
                "plain": partial(plain, folder),
                "ceiling": partial(drain, in_flight=in_flight),
                "restore": partial(restore, args, folder),
                "hdf5": partial(hdf5, args, shape, folder),
            }
        )
        print(f"\n{report.table(kind.name, shape, runs)}")
        print(f"the ceiling had {in_flight} in flight, vsync {args.transfers}\n")
        yield from targets(name, shape, runs, bound)


def took(used: Used) -> float:
    """Tell the seconds from the first step to the last: an export's parts are put together, what was copied counted."""
    return used.said["seconds"]


def plain(folder: Path, uri: str) -> Used:
    """Run the plain script."""
    return bm.measure([sys.executable, DRAIN, "plain", uri, "plain.h5"], folder)


def hdf5(args: Namespace, shape: Shape, folder: Path, uri: str) -> Used:
    """Copy an HDF5 file of as many vectors."""
    return bm.vsync(folder, uri, shape, args.chunk_bytes, args.transfers)


def export(args: Namespace, folder: Path, uri: str) -> Used:
    """Export into a folder that is not there, with a fresh state."""
    for left in (".vsync", "exports"):
        shutil.rmtree(folder / left, ignore_errors=True)
    return _apply(args, folder, EXPORT.format(uri=uri, database=DATABASE, name=NAME, chunk_bytes=args.chunk_bytes))


def restore(args: Namespace, folder: Path, uri: str) -> Used:
    """Restore into a collection that is not there, with a fresh state."""
    shutil.rmtree(folder / ".vsync", ignore_errors=True)
    return _apply(args, folder, RESTORE.format(uri=uri, name=NAME, chunk_bytes=args.chunk_bytes))


def _apply(args: Namespace, folder: Path, text: str) -> Used:
    spec = folder / "bench.yaml"
    spec.write_text(text)
    options = ["--auto-approve", "--json", "--transfers", str(args.transfers)]
    return bm.measure([sys.executable, "-m", "vsync", "apply", spec, *options], folder)


def back_up(args: Namespace, folder: Path, uri: str) -> None:
    """Make the repository that is restored; it is not timed."""
    for left in (".vsync", "repository"):
        shutil.rmtree(folder / left, ignore_errors=True)
    options = ["--from", uri, "--database", DATABASE, "--chunk-bytes", str(args.chunk_bytes)]
    bm.measure([sys.executable, "-m", "vsync", "backup", *options, "repository"], folder)


def ceiling(args: Namespace, shape: Shape, folder: Path, uri: str, in_flight: int) -> Used:
    """Ask for ranges of the size of vsync's chunks, as far as an answer holds them."""
    step = min(RANGE_ROWS, args.chunk_bytes * shape.rows // shape.nbytes)
    return bm.measure([sys.executable, DRAIN, "ceiling", uri, shape.rows, step, in_flight], folder)


@contextmanager
def fresh(args: Namespace, kind: Kind, shape: Shape, folder: Path) -> Iterator[tuple[str]]:
    """Run a fresh server that holds what is exported, and back it up; gives its address."""
    with kind.server(folder / "server") as server:
        fill(server.uri, shape)
        back_up(args, folder, server.uri)
        yield (server.uri,)
    shutil.rmtree(folder / "server")


def targets(name: str, shape: Shape, runs: Runs, bound_mib: float) -> Iterator[Target]:
    """Compare medians with what must be reached."""
    of = f"{name} {shape}:"
    spent = {contender: median(map(took, used)) for contender, used in runs.items()}
    copied = {contender: median(u.copy_seconds for u in used) for contender, used in runs.items()}
    yield Target(f"{of} copy phase of the export / ceiling", copied["ceiling"] / copied["vsync"], REACHES[name])
    if name == "milvus":
        yield Target(f"{of} whole export / plain script", spent["plain"] / spent["vsync"], 4)
    yield Target(f"{of} restore / HDF5 into it", copied["hdf5"] / copied["restore"], RESTORED)
    peak = max(u.anonymous for u in [*runs["vsync"], *runs["restore"]]) / MIB
    yield Target(f"{of} anonymous memory", peak, bound_mib, at_most=True, unit=" MiB")
