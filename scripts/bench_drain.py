"""The two that scripts/bench --export compares with: a plain script, and rows asked for as fast as a server gives them.

bench_drain.py plain URI FILE.h5                      query_iterator into h5py, a thousand rows at a time
bench_drain.py ceiling URI ROWS RANGE_ROWS IN_FLIGHT  ranges of keys, known beforehand, by the cheapest query there is;
                                                      the answers are thrown away undecoded

Prints what it took.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from bench_forward import BATCH, DATABASE, NAME, SECONDS, columns_of, timed

FIELDS = ["id", "vector", "word"]


def plain(uri: str, path: str) -> dict[str, float]:
    """Do what one writes with pymilvus and h5py on an afternoon."""
    import h5py
    import numpy as np
    from pymilvus import MilvusClient

    client = MilvusClient(uri, db_name=DATABASE)

    def export() -> None:
        rows = client.query_iterator(NAME, batch_size=BATCH, output_fields=FIELDS)
        ids, vectors, words = [], [], []
        while page := rows.next():
            ids += [row["id"] for row in page]
            vectors += [row["vector"] for row in page]
            words += [row["word"] for row in page]
        rows.close()
        with h5py.File(path, "w") as file:
            file["ids"] = np.array(ids, np.int64)
            file["vectors"] = np.array(vectors, np.float32)
            file.create_dataset("words", data=words, dtype=h5py.string_dtype())

    return timed(export)


def ceiling(uri: str, rows: int, range_rows: int, in_flight: int) -> dict[str, float]:
    """Ask for range after range, ``in_flight`` at a time, and look at no answer."""
    from vsync.connectors.milvus import keys
    from vsync.connectors.milvus.client import Client
    from vsync.connectors.milvus.wire import common_pb2

    with closing(Client(uri, None, DATABASE, create=False)) as source, ThreadPoolExecutor(in_flight) as executor:

        def ask(lo: int) -> None:
            hi = min(lo + range_rows, rows)
            question = keys.query(NAME, f"id >= {lo} and id < {hi}", FIELDS, limit=hi - lo)
            question.consistency_level = common_pb2.ConsistencyLevel.Eventually
            answer = source.call("Query", question, timeout=SECONDS, read=columns_of)
            if len(answer.parts) < len(FIELDS):
                raise RuntimeError(f"the server gave no rows from {lo} on")

        return timed(lambda: list(executor.map(ask, range(0, rows, range_rows))))


def main() -> None:
    """Run one of the two."""
    way, uri, *rest = sys.argv[1:]
    if way == "plain":
        said = plain(uri, rest[0])
    else:
        rows, range_rows, in_flight = map(int, rest)
        said = ceiling(uri, rows, range_rows, in_flight)
    print(json.dumps(said | {"seconds": said["copy_seconds"]}))


if __name__ == "__main__":
    main()
