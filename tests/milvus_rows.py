"""Collections and rows that the live tests of the Milvus target share, one field of every type."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from vsync.connectors.milvus import open_target
from vsync.rows import arrow_type
from vsync.schema import DYNAMIC_FIELD, Collection, DataType, Field

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Endpoint

    from vsync.connectors.milvus.target import MilvusTarget

KEY = Field("id", DataType.INT64, primary=True)
VECTOR = Field("v", DataType.FLOAT_VECTOR, dim=4)
EVERYWHERE = (
    KEY,
    VECTOR,
    Field("i8", DataType.INT8),
    Field("i16", DataType.INT16),
    Field("i32", DataType.INT32),
    Field("i64", DataType.INT64),
    Field("f", DataType.FLOAT),
    Field("d", DataType.DOUBLE),
    Field("b", DataType.BOOL),
    Field("s", DataType.VARCHAR, max_length=64),
    Field("j", DataType.JSON),
    Field("numbers", DataType.ARRAY, element=DataType.INT16, max_capacity=4),
    Field("words", DataType.ARRAY, element=DataType.VARCHAR, max_capacity=4, max_length=16),
    Field("flags", DataType.ARRAY, element=DataType.BOOL, max_capacity=4),
    Field("doubles", DataType.ARRAY, element=DataType.DOUBLE, max_capacity=4),
)
"""One field of each type that every server holds."""

CYCLES: dict[str, list[Any]] = {
    "i8": [-128, 127, 0],
    "i16": [-(2**15), 2**15 - 1, -1],
    "i32": [-(2**31), 2**31 - 1, -1],
    "i64": [-(2**63), 2**63 - 1, -1],
    "f": [float("nan"), float("-inf"), -0.0, 1.5e-45],
    "d": [float("nan"), float("inf"), -0.0, 5e-324],
    "b": [True, False],
    "s": ["", "naïve", "数据 \U0001f600", 'quo"te \\ new\nline'],
    "j": [b'{"a": 1}', b"{}", '{"é": [true, null]}'.encode()],
    "numbers": [[], [1, -300], [32767]],
    "words": [["x"], [], ["ü", ""]],
    "flags": [[], [True, False]],
    "doubles": [[0.1], []],
    "place": ["POINT (30.5 -10.25)", "POLYGON ((0 0, 1 0, 1 1, 0 0))"],
    "at": [0, -62_135_596_800_000_000, 1_704_067_200_123_456, 253_402_300_799_999_999],
    DYNAMIC_FIELD: [b'{"a": 1}', b"{}"],
}


@contextlib.contextmanager
def opened(endpoint: Endpoint) -> Iterator[MilvusTarget]:
    with contextlib.closing(open_target(endpoint.uri, None, endpoint.database)) as target:
        yield target


def rows(collection: Collection, keys: pa.Array) -> pa.RecordBatch:
    """Make a row for each key, the same for the same key's position; INT64 or VARCHAR keys."""
    size = len(keys)
    columns = {}
    for field in (*collection.fields, *([Field(DYNAMIC_FIELD, DataType.JSON)] if collection.dynamic else [])):
        if field.primary:
            if not field.auto_id:
                columns[field.name] = keys
        elif field.type is DataType.FLOAT_VECTOR:
            values = np.arange(size * (field.dim or 0), dtype="f4") + 0.5
            columns[field.name] = pa.FixedSizeListArray.from_arrays(pa.array(values), field.dim)
        elif pa.types.is_fixed_size_binary(arrow_type(field)):
            width = arrow_type(field).byte_width
            columns[field.name] = pa.array([bytes([i % 256] * width) for i in range(size)], arrow_type(field))
        elif field.type is DataType.SPARSE_FLOAT_VECTOR:
            cell = np.array([3, 70_000], "<u4").tobytes(), np.array([0.5, 2.0], "<f4").tobytes()
            sparse = b"".join(cell[0][i : i + 4] + cell[1][i : i + 4] for i in (0, 4))
            columns[field.name] = pa.array([sparse] * size, pa.binary())
        else:
            cycle = CYCLES[field.name] + ([None] if field.nullable else [])
            cells = [cycle[i % len(cycle)] for i in range(size)]
            columns[field.name] = pa.array(cells, arrow_type(field))
    return pa.RecordBatch.from_pydict(columns)


def send(target: MilvusTarget, collection: Collection, batch: pa.RecordBatch, partition: str | None = None) -> int:
    """Write a batch; returns the rows that were acknowledged."""
    writer = target.writer(collection, partition)
    return sum(writer.send(request).rows for request in writer.encode(batch))


def make(target: MilvusTarget, collection: Collection) -> None:
    """Create a collection with its partitions, its indexes and loaded."""
    target.create_collection(collection)
    for partition in collection.partitions or ():
        target.create_partition(collection.name, partition)
    for index in collection.indexes or ():
        target.create_index(collection.name, index, lambda _percent: None)
    target.load(collection.name, lambda _percent: None)
