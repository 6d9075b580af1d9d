"""How fast vsync exports, and restores what it backed up: what `scripts/bench --export` measures."""

from __future__ import annotations

import shutil
import sys
from contextlib import contextmanager
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
        in_flight = args.in_flight or best_in_flight(args, kind, shape, folder, say)
        runs = rounds(args, kind, shape, folder, in_flight, say)
        print(f"\n{report.table(kind.name, shape, runs)}")
        print(f"the ceiling had {in_flight} in flight, vsync {args.transfers}\n")
        yield from targets(name, shape, runs, bound)


def rounds(args: Namespace, kind: Kind, shape: Shape, folder: Path, in_flight: int, say: Callable[[str], None]) -> Runs:
    """Run all contenders in turn, on a fresh server each round."""
    contenders: dict[str, Callable[[str], Used]] = {
        "vsync": lambda uri: export(args, folder, uri),
        "plain": lambda uri: bm.measure([sys.executable, DRAIN, "plain", uri, "plain.h5"], folder),
        "ceiling": lambda uri: ceiling(args, shape, folder, uri, in_flight),
        "restore": lambda uri: restore(args, folder, uri),
        "hdf5": lambda uri: bm.vsync(folder, uri, shape, args.chunk_bytes, args.transfers),
    }
    names = list(contenders)
    runs: Runs = {name: [] for name in names}
    for n in range(args.repeat):
        turn = n % len(names)
        with fresh(kind, shape, folder) as uri:
            back_up(args, folder, uri)
            for contender in names[turn:] + names[:turn]:
                used = contenders[contender](uri)
                runs[contender].append(used)
                say(f"{kind.name} {shape} round {n + 1}: {contender} {took(used):.2f} s of {used.seconds:.2f} s")
                bm.drop_all(uri)
    return runs


def took(used: Used) -> float:
    """Tell the seconds from the first step to the last: an export's parts are put together, what was copied counted."""
    return used.said["seconds"]


def best_in_flight(args: Namespace, kind: Kind, shape: Shape, folder: Path, say: Callable[[str], None]) -> int:
    """Try the ceiling with several ranges in flight; the fastest number is taken."""
    least: dict[int, float] = {}
    with fresh(kind, shape, folder) as uri:
        for in_flight in IN_FLIGHT * min(2, args.repeat):
            spent = took(ceiling(args, shape, folder, uri, in_flight))
            least[in_flight] = min(spent, least.get(in_flight, spent))
    say(f"{kind.name} {shape}: best seconds of the ceiling by ranges in flight: {least}")
    return min(least, key=lambda n: least[n])


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
def fresh(kind: Kind, shape: Shape, folder: Path) -> Iterator[str]:
    """Run a fresh server that holds what is exported; gives its address."""
    with kind.server(folder / "server") as server:
        fill(server.uri, shape)
        yield server.uri
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
