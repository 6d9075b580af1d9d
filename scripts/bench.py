"""Measures vsync's apply beside a plain pymilvus script and the ceiling; run by scripts/bench."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # the servers that the tests use

import bench_measure as bm
import bench_milvus
import bench_report as report
from bench_check import measure_check
from bench_export import measure_exports
from bench_measure import KINDS, MIB, Kind, Shape, Used
from bench_milvus import PAIRS, measure_copies
from bench_mirror import measure_mirror
from bench_report import Target
from bench_rounds import Rounds

from vsync.applying.settings import TRANSFERS
from vsync.spec.models import Defaults

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SHAPES = (Shape(400_000, 128), Shape(150_000, 768), Shape(1_200_000, 128))
QUICK = (Shape(50_000, 128), Shape(20_000, 768))
WARMING = Shape(5_000, 128)
MIRROR = "mirror"
WITHOUT_PLAIN = 1_000_000
"""From so many rows on the plain script is left out: it takes minutes and says nothing new."""

HELP = """\
Measures, on this machine and in one run, how fast vsync copies an HDF5 file (an INT64 key and float vectors) into
Milvus 2.3.5 and into Milvus Lite (each a server process of its own), beside two others that do the same:

  vsync     `vsync apply --json` of a spec with one collection: plan, journal, copy, flush, count
  plain     the script one writes with pymilvus: a thousand row dictionaries to an insert, one after the other, flush
            (scripts/bench_plain.py)
  ceiling   requests like those of vsync (same size, upserts into Milvus, inserts into Lite), encoded beforehand, sent
            from memory over the same channel with the best number in flight, flush (scripts/bench_ceiling.py)

No collection is indexed or loaded. Each round starts a fresh server and runs all contenders once, in an order that
rotates. Reading it:

  copy s      the copy phase: reading, encoding, sending, journal, by the contender's own clock (run_ended.copy_seconds
              of vsync; the loop of the plain script; the sending of the ceiling); rows/s and MB/s are of this phase
  CPU s/GB    what the client used of the processor in the copy phase, all threads, for a gigabyte copied; this counts
              where the server has a machine of its own
  process s   the whole process, from its start to its end: start-up, plan and the closing flush too
  CPU s       user and system seconds of the whole client process, by the kernel
  anonymous   the largest peak of the client's anonymous memory (RssAnon, sampled every 20 ms): what it allocated
  RSS         the largest peak of its resident memory (ru_maxrss): that and the files that it has mapped

With --milvus the rows (an INT64 key, float vectors, a short text) are in a Milvus already: they are copied from one
collection of Milvus 2.3.5 into another, from one Milvus Lite into another, and from Milvus 2.3.5 into Milvus Lite. Here
the plain script is query_iterator into insert, and the ceiling queries by ranges of keys, known beforehand and not
checked, whose columns go on undecoded (scripts/bench_forward.py). At last a mirror of which 100 rows have changed,
beside `vsync check --full` of the same data, whole processes both (scripts/bench_mirror.py).

With --export they are exported into HDF5 files. Here the plain script is query_iterator into h5py, and the ceiling
queries by ranges of keys whose answers are thrown away (scripts/bench_drain.py). The copy phase of an export ends when
all rows are in parts on the disk; the whole export, when they are put together in one file and counted. And a backup of
them is restored, beside vsync's copy of an HDF5 file of as many vectors.

Identical runs vary 1.5-fold, more on a machine that others use: trust medians, and ratios within one run, never
absolute numbers of two. Servers run as in the tests (tests/servers.py: etcd without fsync, quotas off), but with
Milvus's own waits for flushes and strong queries, the same for all contenders.
Exits with 1 where something is MISSED that must be reached; docs/speed.md has the last run.
"""


def main() -> int:
    """Run what was asked for."""
    args = arguments()
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))  # and leave nothing behind
    folder = Path(tempfile.mkdtemp(prefix="vsync-bench-", dir=args.folder))
    print(report.machine(), flush=True)
    try:
        if args.explore:
            explore(args, folder)
            return 0
        if args.check:
            return check(args, folder)
        if args.export:
            return exports(args, folder)
        if args.milvus:
            return copies(args, folder)
        missed = [t for kind in args.server for t in measure_all(args, KINDS[kind], kind, folder) if not t.reached]
        missed += [t for t in [measure_plan(folder, args.shape[0], args.chunks)] if not t.reached]
    finally:
        shutil.rmtree(folder)
    print(f"\n{len(missed)} missed" if missed else "\nAll reached.")
    return int(bool(missed))


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeat", type=int, metavar="N", help="rounds; medians are quoted (7; 1 with --quick)")
    parser.add_argument("--quick", action="store_true", help="few rows and one round: does it work? (a minute)")
    parser.add_argument("--server", action="append", choices=KINDS, help="only this one; may be repeated")
    parser.add_argument("--shape", action="append", type=shape, metavar="ROWSxDIM", help="400000x128; may be repeated")
    parser.add_argument("--chunk-bytes", type=int, default=Defaults().chunk_bytes, help="of vsync and the ceiling")
    parser.add_argument("--transfers", type=int, default=TRANSFERS, help="requests in flight of vsync")
    parser.add_argument("--in-flight", type=int, help="requests in flight of the ceiling (tried out beforehand)")
    parser.add_argument("--chunks", type=int, default=1_000, help="chunks of the plan that is timed")
    parser.add_argument("--folder", type=Path, help="where files and servers go (the system's temporary folder)")
    parser.add_argument(
        "--explore", action="store_true", help="compare chunk sizes, requests in flight, upserts and inserts instead"
    )
    parser.add_argument("--milvus", action="store_true", help="measure copying from one Milvus to another instead")
    parser.add_argument("--export", action="store_true", help="measure exports and restores instead")
    parser.add_argument("--pair", action="append", choices=[*PAIRS, MIRROR], help="of --milvus: only this")
    parser.add_argument("--check", action="store_true", help="measure `vsync check` beside reading both sides instead")
    parser.add_argument("--rows", type=int, help="rows of --check and of the mirror (400,000; 20,000 with --quick)")
    args = parser.parse_args()
    args.server = args.server or list(KINDS)
    args.rows = args.rows or (20_000 if args.quick else 400_000)
    args.pair = args.pair or [*PAIRS, MIRROR]
    between = args.milvus or args.export
    quick, usual = (bench_milvus.QUICK, bench_milvus.SHAPES) if args.milvus else (QUICK, SHAPES[: 2 if between else 3])
    args.shape = args.shape or (quick if args.quick else usual)
    args.repeat = args.repeat or (1 if args.quick else 5 if between else 7)
    return args


def shape(text: str) -> Shape:
    """Read ``400000x128``."""
    rows, _, dim = text.partition("x")
    return Shape(int(rows), int(dim))


def measure_all(args: argparse.Namespace, kind: Kind, name: str, folder: Path) -> Iterator[Target]:
    """Measure one kind of server with every shape; prints tables and targets as it goes."""
    bound = 300 + args.transfers * 5 * args.chunk_bytes / MIB
    for one in args.shape:
        bm.make_requests(folder, one, args.chunk_bytes)
        rounds = Rounds(f"{kind.name} {one}", partial(fresh, kind, folder), args.repeat, say)
        ceiling = _sending(folder, one, args.chunk_bytes, kind.method)
        in_flight = args.in_flight or rounds.best(kind.in_flight, ceiling)
        ways = {"vsync": _copying(folder, one, args.chunk_bytes, args.transfers)}
        ways |= {"plain": _plainly(folder, one)} if one.rows < WITHOUT_PLAIN else {}
        runs = rounds.run(ways | {"ceiling": partial(ceiling, in_flight=in_flight)})
        print(
            f"\n{report.table(kind.name, one, runs)}\nthe ceiling had {in_flight} in flight, vsync {args.transfers}\n"
        )
        for target in report.targets(name, one, runs, bound):
            print(target, flush=True)
            yield target
        for path in folder.glob(f"{one}-*"):
            shutil.rmtree(path)


def measure_plan(folder: Path, one: Shape, chunks: int) -> Target:
    """Time what many chunks add to `vsync plan --out`: the same file in one chunk is taken off."""
    bm.make_file(folder, one)
    spent: dict[int, list[float]] = {1: [], chunks: []}
    for _ in range(3):
        for count, seconds in spent.items():
            spec = bm.write_spec(folder, "./none.db", one, min(1 << 30, -(-one.nbytes // count)))
            command = [sys.executable, "-m", "vsync", "plan", spec, "--out", f"{count}.json"]
            seconds.append(bm.measure(command, folder).seconds)
    many, few = median(spent[chunks]), median(spent[1])
    target = Target(f"plan of {chunks:,} chunks, over one of 1 ({few:.2f} s)", many - few, 1, at_most=True, unit=" s")
    print(f"\n{target}", flush=True)
    return target


def check(args: argparse.Namespace, folder: Path) -> int:
    """Measure `vsync check --full`, and look whether it finds what was planted."""
    missed = 0
    for name in args.server:
        for target in measure_check(KINDS[name], name, folder, args.rows, min(args.repeat, 3), say):
            print(target, flush=True)
            missed += not target.reached
        shutil.rmtree(folder / "server")
    return int(bool(missed))


def copies(args: argparse.Namespace, folder: Path) -> int:
    """Measure copies from one Milvus to another, and mirrors."""
    missed = 0
    for pair in args.pair:
        if pair == MIRROR:
            found = measure_mirror(KINDS["milvus"], folder, args.rows, min(args.repeat, 3), say)
        else:
            found = measure_copies(args, pair, folder, say)
        for target in found:
            print(target, flush=True)
            missed += not target.reached
    return int(bool(missed))


def exports(args: argparse.Namespace, folder: Path) -> int:
    """Measure exports and restores."""
    missed = 0
    for name in args.server:
        for target in measure_exports(args, KINDS[name], name, folder, say):
            print(target, flush=True)
            missed += not target.reached
    return int(bool(missed))


def explore(args: argparse.Namespace, folder: Path) -> None:
    """Print the copy phase in rows/s for chunk sizes and transfers, and of upserts beside inserts."""
    for name in args.server:
        kind, one = KINDS[name], args.shape[0]
        ways: dict[str, Callable[[str], Used]] = {}
        for size in (4, 8, 16, 32):
            for n in (1, 2, 3, 4) if len(kind.in_flight) > 1 else (1,):
                ways[f"vsync, chunks of {size} MiB, {n} in flight"] = _copying(folder, one, size * MIB, n)
        for method in ("Upsert", "Insert"):
            bm.make_requests(folder, one, args.chunk_bytes)
            ceiling = _sending(folder, one, args.chunk_bytes, method)
            ways[f"ceiling, {method}"] = partial(ceiling, in_flight=kind.in_flight[-1])
        runs = Rounds(f"{kind.name} {one}", partial(fresh, kind, folder), args.repeat, say).run(ways)
        print(f"\n### {kind.name}, {one}, median rows/s of the copy phase\n")
        for way, used in runs.items():
            print(f"  {one.rows / median(u.copy_seconds for u in used):>10,.0f}  {way}", flush=True)


def _copying(folder: Path, one: Shape, chunk_bytes: int, transfers: int) -> Callable[[str], Used]:
    return lambda uri: bm.vsync(folder, uri, one, chunk_bytes, transfers)


def _plainly(folder: Path, one: Shape) -> Callable[[str], Used]:
    return lambda uri: bm.plain(folder, uri, one)


def _sending(folder: Path, one: Shape, chunk_bytes: int, method: str) -> Callable[..., Used]:
    def send(uri: str, in_flight: int) -> Used:
        return bm.ceiling(folder, uri, one, chunk_bytes, method, in_flight)

    return send


@contextmanager
def fresh(kind: Kind, folder: Path) -> Iterator[tuple[str]]:
    """Run a fresh server that has taken some rows already; gives its address."""
    place = folder / "server"
    with kind.server(place) as server:
        bm.plain(folder, server.uri, WARMING)
        bm.drop_all(server.uri)
        yield (server.uri,)
    shutil.rmtree(place)


def say(text: str) -> None:
    """Tell on stderr how far it is."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
