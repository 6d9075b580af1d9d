"""A file that vsync exported is a source: the contract, and the fields that its columns were."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pyarrow as pa
import pytest
from contract.source_contract import Case, SourceContract

from vsync.connectors.base import Bounds
from vsync.connectors.hdf5 import open_source
from vsync.connectors.hdf5.layout import Filters
from vsync.connectors.hdf5.write import write_file
from vsync.errors import SourceError
from vsync.rows import arrow_schema, arrow_type, infer_field
from vsync.schema import Collection, DataType, Field

if TYPE_CHECKING:
    from pathlib import Path

    from vsync.connectors.base import Source

T = DataType
ROWS = 400
FIELDS = (
    Field("id", T.INT64, primary=True, auto_id=True),
    Field("v", T.FLOAT_VECTOR, dim=8),
    Field("brain", T.BFLOAT16_VECTOR, dim=4),
    Field("bits", T.BINARY_VECTOR, dim=16),
    Field("sparse", T.SPARSE_FLOAT_VECTOR),
    Field("small", T.INT8, nullable=True),
    Field("text", T.VARCHAR, max_length=99, nullable=True),
    Field("place", T.GEOMETRY),
    Field("at", T.TIMESTAMPTZ),
    Field("tags", T.ARRAY, element=T.VARCHAR, max_capacity=3, max_length=9),
    Field("numbers", T.ARRAY, element=T.INT16, max_capacity=3, nullable=True),
)
COLLECTION = Collection("every", FIELDS, dynamic=True)


def cells(field: Field) -> list[Any]:
    """Make the values of a field; texts hold zero bytes."""
    made: dict[str, Any] = {
        "id": lambda n: n * 3,
        "brain": lambda n: struct.pack("<4H", *[n] * 4),
        "bits": lambda n: bytes([n % 256, 7]),
        "sparse": lambda n: struct.pack("<IfIf", n, 0.5, n + 9, -2.0)[: 16 if n % 3 else 8],
        "small": lambda n: None if n % 5 == 0 else n % 100 - 50,
        "text": lambda n: None if n % 7 == 0 else f"wörd\0{n}",
        "place": lambda n: f"POINT ({n} 1)",
        "at": lambda n: n * 10**12,
        "tags": lambda n: ["a", "ü\0", ""][: n % 4],
        "numbers": lambda n: None if n % 6 == 0 else [n, -n][: n % 3],
        "$meta": lambda n: b'{"a": %d}' % n,
    }
    return [made[field.name](n) for n in range(ROWS)]


def column(field: Field) -> pa.Array:
    if field.type is T.FLOAT_VECTOR:
        values = np.random.default_rng(1).standard_normal(ROWS * 8, np.float32)
        return pa.FixedSizeListArray.from_arrays(pa.array(values), 8)
    return pa.array(cells(field), arrow_type(field))


@pytest.fixture(scope="module", params=["none", "gzip", "bitshuffle-lz4", "zstd"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    path = tmp_path_factory.mktemp("exported") / "_default.h5"
    batch = pa.RecordBatch.from_arrays([column(f) for f in COLLECTION.columns], schema=arrow_schema(COLLECTION.columns))
    said = {"partition": "_default", "layout": "vsync"}
    blocks = [batch.slice(0, 150), batch.slice(150)]
    write_file(path, COLLECTION, "vsync", blocks, ROWS, Filters.of(request.param), said, {"text", "tags"})

    def edit(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            file["v"][ROWS // 2, 7] += 1

    return Case(open_source, path, pa.Table.from_batches([batch]), edit)


class TestExportedSource(SourceContract):
    def test_columns_are_the_fields_that_they_were(self, source: Source) -> None:
        description = source.describe()
        assert description.layout == "vsync"
        made = {c.name: infer_field(c, c.name, primary=c.name == "id") for c in description.columns}
        plain = {f.name: f for f in COLLECTION.columns} | {"id": Field("id", T.INT64, primary=True)}
        assert made == plain

    def test_each_block_has_a_checksum(self, case: Case) -> None:
        unchecked: list[str] = []

        def look(name: str, node: h5py.HLObject) -> None:
            if isinstance(node, h5py.Dataset) and node.dtype.kind != "O" and not node.fletcher32:
                unchecked.append(name)

        with h5py.File(case.path) as file:
            file.visititems(look)
        assert unchecked == []


def test_a_file_of_a_newer_format_is_refused(case: Case, tmp_path: Path) -> None:
    newer = tmp_path / "newer.h5"
    newer.write_bytes(case.path.read_bytes())
    with h5py.File(newer, "r+") as file:
        file.attrs["vsync_format_version"] = 2
    with pytest.raises(SourceError, match="is of format 2, this vsync reads format 1"):
        open_source(newer)


def by_hand(path: Path, **changed: Any) -> Path:
    """Write a file as docs/export.md tells others to, by h5py alone."""
    fields = [
        {"name": "id", "type": "int64", "primary": True},
        {"name": "v", "type": "float_vector", "dim": 2},
        {"name": "title", "type": "varchar", "max_length": 9, "nullable": True},
        {"name": "tags", "type": "array", "element": "int32", "max_capacity": 4},
        {"name": "s", "type": "sparse_float_vector"},
        {"name": "bits", "type": "binary_vector", "dim": 8},
        {"name": "packed", "type": "varchar", "max_length": 9},
    ]
    data: dict[str, Any] = {
        "id": [1, 5, 9],
        "v": np.arange(6, dtype=">f4").reshape(3, 2),
        "title": ["é", "", "z"],
        "$valid/title": [True, False, True],
        "tags/offsets": [0, 2, 2, 3],
        "tags/values": np.array([7, 8, 9], "i4"),
        "s/indptr": [0, 1, 2, 3],
        "s/indices": np.array([3, 4, 5], "u4"),
        "s/data": np.array([0.5, 1, 2], "f4"),
        "bits": np.array([[1], [2], [3]], "u1"),
        "packed/offsets": np.array([0, 1, 1, 3], "u8"),
        "packed/bytes": np.frombuffer(b"abc", "u1"),
    }
    with h5py.File(path, "w") as file:
        for name, values in (data | changed).items():
            file[name] = values
        file.attrs["vsync_format_version"] = 1
        file.attrs["layout"] = "vsync"
        file.attrs["rows"] = 3
        file.attrs["collection"] = json.dumps({"name": "c", "fields": fields})
        file.attrs["partition"] = "_default"
    return path


def test_a_file_that_others_wrote_by_the_docs_is_read(tmp_path: Path) -> None:
    source = open_source(by_hand(tmp_path / "a.h5"))
    names = [c.name for c in source.describe().columns]
    assert names == ["id", "v", "title", "tags", "s", "bits", "packed"]
    assert source.read(Bounds(0, 3), names).to_pydict() == {
        "id": [1, 5, 9],
        "v": [[0, 1], [2, 3], [4, 5]],
        "title": ["é", None, "z"],
        "tags": [[7, 8], [], [9]],
        "s": [struct.pack("<If", n, x) for n, x in ((3, 0.5), (4, 1), (5, 2))],
        "bits": [b"\1", b"\2", b"\3"],
        "packed": ["a", "", "bc"],
    }
    assert source.read(Bounds(1, 3), ["packed", "tags"]).to_pydict() == {"packed": ["", "bc"], "tags": [[], [9]]}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"v": np.zeros((2, 2), "f4")}, "the attribute rows is 3, and v has 2"),
        ({"id": [1, 2, 3, 4]}, "the attribute rows is 3, and id has 4"),
        ({"$valid/title": [True]}, "the attribute rows is 3, and title has 1"),
        ({"tags/offsets": [0, 3]}, "the attribute rows is 3, and tags has 1"),
        ({"v": np.zeros((3, 3), "f4")}, r"v is float32 \(3, 3\), and its field is fixed_size_list<.*>\[2\]"),
        ({"v": np.zeros((3, 2), "f8")}, r"v is float64 \(3, 2\)"),
        ({"bits": np.zeros((3, 2), "u1")}, r"bits is uint8 \(3, 2\), and its field is fixed_size_binary\[1\]"),
        ({"id": [0.5, 1, 2]}, r"id is float64 \(3,\), and its field is int64"),
        ({"tags/offsets": [0, 2, 1, 3]}, "tags/offsets does not ascend"),
        ({"packed/offsets": [-1, 1, 1, 3]}, "packed/offsets does not ascend"),
        ({"tags/values": np.array([7], "i4")}, "tags/values holds 1 values, and 3 are asked for"),
        ({"packed/bytes": np.frombuffer(b"a", "u1")}, "packed/bytes holds 1 values, and 3 are asked for"),
        ({"packed/bytes": np.frombuffer(b"a\xff\xff", "u1")}, "UTF"),
        ({"s/data": np.zeros(2, "f4")}, "s/data holds 2 values, and 3 are asked for"),
    ],
)
def test_a_file_that_does_not_hold_what_it_says_is_refused(tmp_path: Path, changed: Any, said: str) -> None:
    path = by_hand(tmp_path / "a.h5", **changed)
    with pytest.raises(SourceError, match=rf"a\.h5: cannot be read: .*{said}"):
        open_source(path).describe()


MERGE = """
import resource
import pyarrow as pa
from vsync.connectors.hdf5.target import open_target
from vsync.rows import arrow_schema
from vsync.schema import Collection, DataType, Field

key, text = Field("id", DataType.INT64, primary=True), Field("j", DataType.JSON)
documents = Collection("d", (key, text))
target = open_target("exports")
target.create_collection(documents)
writer = target.writer(documents, None)

def write(ids):
    rows = [pa.array(ids, pa.int64()), pa.array([b'"' + b"x" * 60_000 + b'"'] * len(ids), pa.binary())]
    for request in writer.encode(pa.RecordBatch.from_arrays(rows, schema=arrow_schema(documents.columns))):
        writer.send(request)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

for n in range(8):
    write(range(n * 500, n * 500 + 500))
target.finish(["d"])
before = write([7, 99_999])
target.finish(["d"])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


def test_large_texts_are_put_together_a_piece_at_a_time(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, "-c", MERGE], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert int(run.stdout) < 120, "MiB more than before; the file has 240"
