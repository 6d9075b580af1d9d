"""The plain script that scripts/bench compares with: what one writes with pymilvus and h5py on an afternoon.

bench_plain.py URI COLLECTION FILE.h5

Rows are dictionaries, a thousand to an insert, one insert after the other. Prints what the loop took.
"""

from __future__ import annotations

import json
import sys
import time

import h5py
from pymilvus import DataType, MilvusClient

BATCH = 1_000


def main() -> None:
    """Create the collection, insert all rows, flush."""
    uri, collection, path = sys.argv[1:]
    client = MilvusClient(uri)
    with h5py.File(path) as file:
        ids, vectors = file["ids"], file["vectors"]
        schema = client.create_schema(auto_id=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=vectors.shape[1])
        client.create_collection(collection, schema=schema)
        began, used = time.monotonic(), time.process_time()
        for start in range(0, len(ids), BATCH):
            keys = ids[start : start + BATCH].tolist()
            rows = vectors[start : start + BATCH].tolist()
            client.insert(collection, [{"id": key, "vector": row} for key, row in zip(keys, rows, strict=True)])
        seconds, cpu_seconds = time.monotonic() - began, time.process_time() - used
    client.flush(collection)
    print(json.dumps({"copy_seconds": seconds, "copy_cpu_seconds": cpu_seconds}))


if __name__ == "__main__":
    main()
