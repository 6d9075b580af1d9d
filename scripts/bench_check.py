"""How fast `vsync check --full` is beside reading both sides raw, and whether it finds what was planted.

bench_check.py raw URI FILE.h5 KIND     prints the seconds of reading the file, and all rows of the collection by ranges

Raw is the file's three columns into memory, then queries by key ranges for the same fields, two in flight, each answer
as the protobuf message that the client library makes of it: not decoded any further, not kept, not compared.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from bench_measure import Kind, measure
from bench_report import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME = "bench_check"
IN_FLIGHT = 2
RANGE_ROWS = {"milvus": 16_000, "lite": 100_000}
"""Rows of a range: the largest answer of Milvus 2.3.5, and of Milvus Lite, where every query reads every row."""
SPEC = """
version: 1
target: {{milvus: {{uri: "{uri}"}}}}
collections:
  {name}:
    fields:
      id: {{type: int64, primary: true}}
      vector: {{type: float_vector, dim: 50}}
      word: {{type: varchar, max_length: 512}}
    indexes: {{vector: {{type: FLAT, metric: L2}}}}
    data: [{{from: {{hdf5: glove.h5}}, map: {{id: ids, vector: vectors, word: words}}}}]
"""


def measure_check(
    kind: Kind, name: str, folder: Path, rows: int, repeat: int, say: Callable[[str], None]
) -> Iterator[Target]:
    """Load GloVe, plant 20 faults, then read raw and check in turn."""
    import glove

    glove.write_hdf5(folder / "glove.h5", glove.rows(0, rows))
    with kind.server(folder / "server") as server:
        spec = folder / "check.yaml"
        spec.write_text(SPEC.format(uri=server.uri, name=NAME))
        measure([sys.executable, "-m", "vsync", "apply", spec, "--auto-approve"], folder)
        planted = plant(server.uri, name, rows)
        raws, checks = [], []
        for n in range(repeat):
            raw = measure([sys.executable, __file__, "raw", server.uri, folder / "glove.h5", name], folder)
            raws.append(raw.said["raw_seconds"])
            found, seconds = run_check(spec, folder)
            checks.append(seconds)
            say(f"{kind.name} check, round {n + 1}: raw {raws[-1]:.2f} s, check --full {seconds:.2f} s")
            yield Target(f"{name} check of {rows:,} rows: faults found of {len(planted)}", len(planted & found), 20)
            yield Target(f"{name} check of {rows:,} rows: found and not planted", len(found - planted), 0, at_most=True)
    spread = ", ".join(f"{r:.2f} and {c:.2f}" for r, c in zip(raws, checks, strict=True))
    print(f"\n{kind.name}, {rows:,} rows: seconds of reading raw and of check --full, round by round: {spread}")
    yield Target(f"{name} check --full of {rows:,} rows / reading both sides raw", median(raws) / median(checks), 0.5)


def run_check(spec: Path, folder: Path) -> tuple[set[str], float]:
    """Check, and give what was found and the seconds that it took beside starting up and planning."""
    import subprocess

    command = [sys.executable, "-m", "vsync", "check", spec, "--full", "--json", "--combined", "found.txt"]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if ran.returncode != 3:
        raise RuntimeError(f"{command} ended with {ran.returncode}:\n{ran.stdout}{ran.stderr}")
    said = [json.loads(line) for line in ran.stdout.splitlines()]
    seconds = next(one["seconds"] for one in said if one["type"] == "compared")
    lines = (folder / "found.txt").read_text(encoding="utf-8").splitlines()
    return {line.partition(" glove.h5 row ")[0] for line in lines}, seconds


@dataclass
class Planter:
    """Plants faults, one a row, and remembers the lines that tell them."""

    target: Any
    collection: Any
    lines: set[str]

    def row(self, n: int, *, key: int | None = None, bit: bool = False) -> Any:
        """Make row ``n`` of the file, under another key or with one bit of its vector changed."""
        import glove
        import pyarrow as pa

        one = glove.rows(n, n + 1)
        vector = one.vectors.copy()
        if bit:
            vector.view("u4")[0, 7] ^= 1
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(vector.reshape(-1)), glove.DIM)
        return pa.RecordBatch.from_pydict(
            {"id": pa.array([n if key is None else key]), "vector": vectors, "word": one.words}
        )

    def send(self, row: Any, method: str) -> None:
        """Write one row, as an upsert or as an insert."""
        from vsync.connectors.milvus import codec

        (request,) = codec.encode(row, self.collection, None, 64 << 20)
        self.target._client.call_bytes(method, request.payload, 60.0)  # noqa: SLF001

    def tell(self, symbol: str, key: int, detail: str = "") -> None:
        """Remember a line of the report."""
        self.lines.add(f"{symbol} collection.{NAME} {key} {detail}".rstrip())


def plant(uri: str, name: str, rows: int) -> set[str]:
    """Plant 20 faults all over the keys; a key cannot be there twice in Milvus Lite."""
    import pyarrow as pa

    from vsync.connectors.milvus import open_target

    kinds = "+-*2" if name == "milvus" else "+-*"
    with closing(open_target(uri, None, None)) as target:
        planter = Planter(target, target.observe([NAME], count=False)[NAME].schema, set())
        for n in range(20):
            key = (n * rows // 20 + 37 * n) % rows
            kind = kinds[n % len(kinds)]
            if kind == "+":
                target.delete(NAME, None, pa.array([key]))
                planter.tell("+", key)
            elif kind == "-":
                planter.send(planter.row(key, key=rows + n), "Upsert")
                planter.tell("-", rows + n)
            elif kind == "*":
                planter.send(planter.row(key, bit=True), "Upsert")
                planter.tell("*", key, "vector")
            else:
                planter.send(planter.row(key), "Insert")
                planter.tell("2", key, "2 copies")
        target.flush(NAME)
    return planter.lines


def read_raw(uri: str, path: Path, name: str) -> float:
    """Read both sides, one after the other."""
    import h5py

    from vsync.connectors.milvus import keys
    from vsync.connectors.milvus.client import Client

    step = RANGE_ROWS[name]
    with closing(Client(uri, None, None, create=False)) as client, ThreadPoolExecutor(IN_FLIGHT) as executor:
        client.server  # noqa: B018 - connect before the clock starts
        began = time.monotonic()
        with h5py.File(path) as file:
            rows = min(len(file[column][:]) for column in ("ids", "vectors", "words"))

        def ask(lo: int) -> int:
            within = f"id >= {lo}" + (f" and id < {lo + step}" if lo + step < rows else "")
            question = keys.query(NAME, within, ["id", "vector", "word"], limit=step + 384, order=keys.ORDERED)
            answer = client.call("Query", question, timeout=600)
            return len(next(f for f in answer.fields_data if f.field_name == "id").scalars.long_data.data)

        got = sum(executor.map(ask, range(0, rows, step)))
        seconds = time.monotonic() - began
    if not rows - 20 <= got <= rows + 20:
        raise RuntimeError(f"{got} rows were read of {rows}")
    return seconds


if __name__ == "__main__":
    print(json.dumps({"raw_seconds": read_raw(sys.argv[2], Path(sys.argv[3]), sys.argv[4])}))
