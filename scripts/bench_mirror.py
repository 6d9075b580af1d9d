"""How long a mirror takes of which little has changed, beside `vsync check --full` of the same data."""

from __future__ import annotations

import shutil
import sys
from contextlib import closing
from statistics import median
from typing import TYPE_CHECKING

import bench_measure as bm
from bench_forward import DATABASE, NAME, collection
from bench_measure import Kind, Shape
from bench_milvus import fill, rows_of
from bench_report import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

DIM = 50
CHANGED, TAKEN, BROUGHT = 60, 20, 20
COPY = "bench_mirror"
SPEC = """
version: 1
connections: {{source: {{uri: "{uri}", database: {database}}}}}
target: "{uri}"
collections:
  {copy}:
    write: mirror
    from: {{milvus: {{at: source, collection: {name}}}}}
"""


def measure_mirror(kind: Kind, folder: Path, rows: int, repeat: int, say: Callable[[str], None]) -> Iterator[Target]:
    """Copy a collection, then change a hundred rows of the copy, check it and mirror it, in turn."""
    changes = CHANGED + TAKEN + BROUGHT
    of = f"mirror of {rows:,} rows, {changes} changed:"
    spec, checks, mirrors = folder / "mirror.yaml", list[float](), list[float]()
    with kind.server(folder / "server") as server:
        fill(server.uri, Shape(rows, DIM))
        spec.write_text(SPEC.format(uri=server.uri, database=DATABASE, copy=COPY, name=NAME))
        vsync(folder, "apply", spec, "--auto-approve")
        for n in range(repeat):
            damage(server.uri, rows, n)
            checks.append(vsync(folder, "check", spec, "--full", found=True).seconds)
            used = vsync(folder, "apply", spec, "--auto-approve", "--json", "--allow-destroy", f"collection.{COPY}")
            mirrors.append(used.seconds)
            say(f"{of} round {n + 1}: check --full {checks[-1]:.2f} s, mirror {mirrors[-1]:.2f} s")
            yield Target(f"{of} rows moved", used.said["written"], 10 * changes, at_most=True)
        vsync(folder, "check", spec, "--full")
    shutil.rmtree(folder / "server")
    spread = ", ".join(f"{c:.2f} and {m:.2f}" for c, m in zip(checks, mirrors, strict=True))
    print(f"\n{kind.name}, {rows:,} x {DIM}: seconds of check --full and of the mirror, whole processes: {spread}")
    yield Target(f"{of} mirror / check --full", median(mirrors) / median(checks), 1.2, at_most=True)


def vsync(folder: Path, command: str, *options: object, found: bool = False) -> bm.Used:
    """Run it; ``found``: a check that is to find differences."""
    return bm.measure([sys.executable, "-m", "vsync", command, *options], folder, 3 if found else 0)


def damage(uri: str, rows: int, n: int) -> None:
    """Change rows of the copy, take some away and bring others, in round ``n``; the mirror takes all of it back."""
    import pyarrow as pa

    from vsync.connectors.milvus import open_target

    def write(keys: Sequence[int], seed: int) -> None:
        batch = rows_of(Shape(len(keys), DIM), seed, seed + len(keys)).set_column(0, "id", pa.array(keys))
        for request in writer.encode(batch):
            writer.send(request)

    with closing(open_target(uri, None, None)) as target:
        writer = target.writer(collection(COPY, DIM), None)
        step = rows // (CHANGED + TAKEN)
        changed, taken = range(n, CHANGED * step, step), range(CHANGED * step + n, rows, step)
        write(changed, rows + n * CHANGED)
        target.delete(COPY, None, pa.array(list(taken)[:TAKEN]))
        write(range(rows, rows + BROUGHT), 0)
        target.flush(COPY)
