"""The ceiling that scripts/bench compares with: requests encoded beforehand, sent as fast as the server takes them.

bench_ceiling.py encode FILE.h5 FOLDER COLLECTION CHUNK_BYTES    writes one file a request
bench_ceiling.py send URI COLLECTION FOLDER DIM METHOD IN_FLIGHT prints the seconds of the sending

It sends the same kind of request that vsync sends, over the same channel, from memory, and keeps no journal: nothing
that reads a file and writes to that server can be faster.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from vsync.connectors.base import Bounds
from vsync.connectors.milvus import codec
from vsync.connectors.milvus.client import Client
from vsync.connectors.milvus.target import MilvusTarget
from vsync.schema import Collection, DataType, Field

LIMIT = 64 << 20
SECONDS = 600.0


def wanted(name: str, dim: int) -> Collection:
    """Describe the collection: a key and a vector."""
    return Collection(
        name, (Field("id", DataType.INT64, primary=True), Field("vector", DataType.FLOAT_VECTOR, dim=dim))
    )


def encode(source: Path, folder: Path, name: str, chunk_bytes: int) -> None:
    """Cut a file as vsync does, and write each chunk as the request it becomes."""
    from vsync.connectors.registry import open_source

    folder.mkdir(parents=True)
    with closing(open_source("hdf5", source, {})) as opened:
        dim = opened.read(Bounds(0, 1), ["vectors"]).column(0).type.list_size
        collection = wanted(name, dim)
        for n, bounds in enumerate(opened.cut(["ids", "vectors"], chunk_bytes)):
            rows = opened.read(bounds, ["ids", "vectors"]).rename_columns(["id", "vector"])
            (request,) = codec.encode(rows, collection, None, LIMIT)
            (folder / f"{n:05}.{request.rows}").write_bytes(request.payload)


def send(uri: str, name: str, folder: Path, dim: int, method: str, in_flight: int) -> dict[str, float]:
    """Create the collection, send every request, flush; gives what the sending alone took."""
    paths = sorted(folder.iterdir())
    requests = [(int(p.suffix[1:]), p.read_bytes()) for p in paths]
    with closing(Client(uri, None, None, create=False)) as client, ThreadPoolExecutor(in_flight) as executor:
        target = MilvusTarget(client)
        target.create_collection(wanted(name, dim))

        def one(request: tuple[int, bytes]) -> None:
            rows, payload = request
            answer = client.call_bytes(method, payload, SECONDS)
            written = answer.upsert_cnt if method == "Upsert" else answer.insert_cnt
            if written != rows:
                raise RuntimeError(f"the server wrote {written} of {rows} rows")

        began, used = time.monotonic(), time.process_time()
        list(executor.map(one, requests))
        seconds, cpu_seconds = time.monotonic() - began, time.process_time() - used
        target.flush(name)
    return {"copy_seconds": seconds, "copy_cpu_seconds": cpu_seconds}


def main() -> None:
    """Encode, or send."""
    if sys.argv[1] == "encode":
        source, folder, name, chunk_bytes = sys.argv[2:]
        encode(Path(source), Path(folder), name, int(chunk_bytes))
    else:
        uri, name, folder, dim, method, in_flight = sys.argv[2:]
        print(json.dumps(send(uri, name, Path(folder), int(dim), method, int(in_flight))))


if __name__ == "__main__":
    main()
