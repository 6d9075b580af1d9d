"""Every spec of specs/ is loaded, planned and applied, and then there is nothing left to do."""

from __future__ import annotations

import re
import shutil
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faiss
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vsync
from vsync.connectors.milvus import open_target

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Endpoint

SPECS = Path(__file__).parents[2] / "specs"
N = 60


def vectors(rows: int, dim: int) -> Any:
    return np.random.default_rng(3).random((rows, dim), dtype=np.float32)


def write_words(path: Path, first: int = 0) -> None:
    with h5py.File(path, "w") as file:
        file["ids"], file["vectors"] = np.arange(first, first + N), vectors(N, 50)
        file.create_dataset("words", data=[f"wörd {i}" for i in range(N)], dtype=h5py.string_dtype())


def write_index(path: Path, *, codec: bool = False) -> None:
    inner = faiss.IndexScalarQuantizer(50, faiss.ScalarQuantizer.QT_8bit) if codec else faiss.IndexFlatL2(50)
    inner.train(vectors(N, 50))
    index = faiss.IndexIDMap2(inner)
    index.add_with_ids(vectors(N, 50), np.arange(1000, 1000 + N))
    faiss.write_index(index, str(path))


def fixed(rows: int, dim: int) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(vectors(rows, dim).ravel(), dim)


def write_anchors(data: Path) -> None:
    for name in ("en", "de"):
        np.save(data / f"{name}.npy", vectors(N, 300))


def write_documents(data: Path) -> None:
    (data / "passages").mkdir()
    for n in range(2):
        table = {
            "embedding": fixed(N, 384),
            "body": [f"passage {i}" for i in range(N)],
            "lang": ["en", "de", "日本"] * (N // 3),
            "tags": [["a", "ü"], [], ["b"]] * (N // 3),
            "metadata": ['{"page": 1}', "{}", '{"é": null}'] * (N // 3),
        }
        pq.write_table(pa.table(table), data / "passages" / f"part-{n}.parquet")


def write_faiss(data: Path) -> None:
    write_index(data / "flat.index")
    write_index(data / "sq8.index", codec=True)


def write_glove(data: Path) -> None:
    write_words(data / "glove.h5")
    write_index(data / "glove.index")


def write_mirror(data: Path) -> None:
    write_words(data / "glove.h5")
    collections = "".join(f"  {name}: {{from: data/glove.h5}}\n" for name in ("words", "others", "tmp_1"))
    text = f"version: 1\ntarget: ./old.db\ncollections:\n{collections}"
    vsync.apply(vsync.parse_spec(text, name="old.yaml", folder=data.parent))


def write_partitions(data: Path) -> None:
    for n, name in enumerate(("glove-2", "glove-10", "rest")):
        write_words(data / f"{name}.h5", n * N)


def write_server(data: Path) -> None:
    table = {
        "sku": [f"sku-{i // 2}" for i in range(N)],  # each product twice: the later row counts
        "picture": fixed(N, 512),
        "price": pa.array([i / 4 for i in range(N)], pa.float64()),
        "in_stock": [True, False, None] * (N // 3),
    }
    pq.write_table(pa.table(table), data / "products.parquet")


def write_simple(data: Path) -> None:
    write_words(data / "glove.h5")


CASES: dict[str, tuple[Callable[[Path], None], dict[str, int]]] = {
    "anchors": (write_anchors, {"english": N, "german": N}),
    "documents": (write_documents, {"passages": 2 * N}),
    "faiss": (write_faiss, {"exact": N, "compressed": N}),
    "glove": (write_glove, {"words": N, "neighbours": N}),
    "mirror": (write_mirror, {"words": N, "others": N}),
    "partitions": (write_partitions, {"words": 3 * N}),
    "server": (write_server, {"products": N // 2}),
    "simple": (write_simple, {"words": N}),
}
"""What writes the data of each spec, and the rows that each of its collections then holds."""


def test_every_spec_has_a_case() -> None:
    assert {p.stem for p in SPECS.glob("*.yaml")} == {*CASES, "export"}


def test_the_spec_of_an_export_is_applied_and_what_lies_beside_it_imports_it(tmp_path: Path) -> None:
    write_words(tmp_path / "glove.h5")
    text = "version: 1\ntarget: ./demo.db\ncollections: {words: {from: glove.h5}}\n"
    vsync.apply(vsync.parse_spec(text, name="demo.yaml", folder=tmp_path))
    shutil.copy(SPECS / "export.yaml", tmp_path)
    spec = vsync.load_spec(tmp_path / "export.yaml")
    vsync.apply(spec)
    assert vsync.plan(spec).empty
    back = vsync.load_spec(tmp_path / "exports" / "import.yaml")
    result = vsync.apply(back)
    assert vsync.plan(back).empty
    assert [(s.destination, s.left) for s in result.settled] == [("collection.words", N)]
    assert (tmp_path / "exports" / "milvus.db").is_dir()


@pytest.mark.parametrize("name", CASES)
def test_a_spec_is_applied_and_then_nothing_is_left_to_do(
    name: str, target: Endpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, expected = CASES[name]
    monkeypatch.setenv("MILVUS_TOKEN", "root:Milvus")
    (tmp_path / "data").mkdir()
    write(tmp_path / "data")
    path = tmp_path / f"{name}.yaml"
    shutil.copy(SPECS / path.name, path)
    turn_to(path, target)

    spec = vsync.load_spec(path)
    assert vsync.parse_spec(spec.to_yaml(), folder=tmp_path).to_yaml() == spec.to_yaml()
    plan = vsync.plan(spec)
    assert plan.conflicts == ()
    assert not plan.empty
    result = vsync.apply(spec)
    again = vsync.plan(spec)
    assert again.empty, again.changes
    with closing(open_target(target.uri, None, target.database)) as opened:
        live = opened.observe(list(expected))
    assert {n: c.rows for n, c in live.items()} == expected
    assert all(s.balanced for s in result.settled)


def turn_to(path: Path, target: Endpoint) -> None:
    """Have a spec name this target instead of the Milvus Lite of its own, which is at the same place otherwise."""
    connection = f"uri: {target.uri}" + ("" if target.kind == "lite" else f", database: {target.database}")
    text = path.read_text(encoding="utf-8")
    if "connections:" in text:
        text = re.sub(r"^    uri: .*$", "    " + connection.replace(", ", "\n    "), text, flags=re.MULTILINE)
    else:
        text = re.sub(r"^target: .*$", f"target: {{milvus: {{{connection}}}}}", text, flags=re.MULTILINE)
    path.write_text(text, encoding="utf-8")
