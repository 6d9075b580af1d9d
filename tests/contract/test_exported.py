"""A file that vsync exported is a source: the contract, and the fields that its columns were."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pyarrow as pa
import pytest
from contract.source_contract import Case, SourceContract

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
