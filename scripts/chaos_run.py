"""Interrupts applies, lets them go on, and compares what they leave; run by scripts/chaos."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import shlex
import shutil
import sys
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # read when grpc is imported: its lines go to stderr
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # the suite is the tests', and so are the servers

from chaos import forked, tally
from chaos.interruption import KINDS, Interruption
from chaos.lane import Lane, Result
from chaos.lite25 import Lite25Server
from servers import LiteServer, MilvusServer, Server, ServerError

if TYPE_CHECKING:
    from chaos.tally import Tally

SERVERS: dict[str, type[Server] | None] = {
    "milvus": MilvusServer,
    "lite": LiteServer,
    "lite-embedded": None,
    "lite25": Lite25Server,
}

MOST_WRONG = 5
"""A server's lane gives up after so many: they are for somebody to look at."""

HELP = """\
Applies specs to real servers and interrupts each apply, again and again, until it has come to its end in spite of it.
Then a program that shares no code with vsync reads what is there: the keys, the counts (which alone see a row that is
there twice), each value bit for bit, rows of others, rejected rows. A plan must say "No changes".

Scenarios are made of chance: HDF5, Faiss, NumPy and Parquet files; INT64, VARCHAR and auto_id keys; append, upsert,
overwrite and skip; partitions; rows of others there before; rows that do not fit. Servers work side by side.

Exits with 1 where a row is lost, doubled or changed, where an apply does not come to its end, or where a fault point
was never passed, or one of the protocol (each commit of the journal, each request that writes) ended no run.
"""


def main() -> int:
    """Run what was asked for."""
    args = arguments()
    folder = Path(tempfile.mkdtemp(prefix="vsync-chaos-", dir=args.folder))
    print(f"seed {args.seed}, {', '.join(args.server)}, in {folder}", flush=True)
    until = time.time() + 60 * args.minutes
    with ProcessPoolExecutor(len(args.server), multiprocessing.get_context("spawn")) as lanes:
        running = [lanes.submit(run, kind, folder / kind, args, until) for kind in args.server]
        tallies = [one for one in (lane.result() for lane in running) if one is not None]
    if args.scenario is not None:
        return int(any(t.wrong for t in tallies))
    print("\n" + "\n".join(tally.lines(tallies)))
    return judge(tallies, args, folder)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/chaos", description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, help="what chance begins with (chosen, and printed)")
    parser.add_argument("--minutes", type=float, default=20.0, help="how long to go on (20)")
    parser.add_argument("--server", action="append", choices=SERVERS, help="only this one; may be repeated")
    parser.add_argument("--folder", type=Path, help="where files and servers go (the system's temporary folder)")
    parser.add_argument("--scenario", type=int, metavar="N", help="this scenario alone, of one server")
    parser.add_argument(
        "--interrupt",
        action="append",
        type=Interruption.parse,
        metavar="KIND=WHEN",
        help=f"interrupt it so, not by chance; may be repeated: {'; '.join(f'{k}: {v}' for k, v in KINDS.items())}",
    )
    args = parser.parse_args()
    args.server = args.server or list(SERVERS)
    args.seed = random.SystemRandom().randrange(10**6) if args.seed is None else args.seed
    if args.scenario is not None and len(args.server) != 1:
        parser.error("a scenario is one of one server: add --server")
    return args


def run(kind: str, folder: Path, args: argparse.Namespace, until: float) -> Tally | None:
    """Be one lane: start the server, and interrupt scenarios until time is over."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    folder.mkdir()
    made = SERVERS[kind]
    server = made(folder / "server") if made else None
    try:
        if server:
            server.start()
    except ServerError as error:
        print(f"SKIPPED: {kind}: {error}", flush=True)
        return None
    lane = Lane(kind, server, folder, args.seed, forked.context())
    n = args.scenario or 0
    try:
        while time.time() < until and len(lane.tally.wrong) < MOST_WRONG:
            if args.interrupt:
                result = lane.repeat(n, args.interrupt)
            else:
                result = lane.interrupt(n, time.monotonic() + until - time.time())
            tell(result, lane, n, args.seed)
            if args.scenario is not None:
                break
            n += 1
    finally:
        if server:
            server.kill()  # nobody reads its data again
    return lane.tally


def end_with_parent() -> None:
    """End this lane when whoever started it is gone; its server goes with it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def tell(result: Result, lane: Lane, n: int, seed: int) -> None:
    """Print how a scenario came out; where it came out wrong, the command that repeats it."""
    print(result, flush=True)
    if not result.right:
        given = [word for one in result.tried for word in ("--interrupt", str(one))]
        words = ["scripts/chaos", "--seed", seed, "--server", lane.tally.server, "--scenario", n, *given]
        lane.tally.wrong.append(shlex.join(map(str, words)))
        print(f"  again: {lane.tally.wrong[-1]}", flush=True)


def judge(tallies: list[Tally], args: argparse.Namespace, folder: Path) -> int:
    """Say what is wrong, and with which seed it was found."""
    wrong = [command for t in tallies for command in t.wrong]
    never = tally.never(tallies)
    if wrong:
        print(f"{len(wrong)} scenarios came out wrong; their files are in {folder}. Again:", *wrong, sep="\n  ")
    else:
        shutil.rmtree(folder)
    if never:
        print("never passed, or no run ended there (longer runs reach more): " + ", ".join(never))
    print(f"seed {args.seed}")
    return int(bool(wrong or never or not tallies))


if __name__ == "__main__":
    sys.exit(main())
