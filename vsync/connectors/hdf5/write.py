"""Writing one file of an export: the rows of a partition, block by block, and what they are in its attributes."""

from __future__ import annotations

import json
from importlib.metadata import version
from itertools import chain
from typing import TYPE_CHECKING

import h5py
import pyarrow as pa

from vsync import schema_json
from vsync.connectors.hdf5.kept import FORMAT, FORMAT_VERSION, names_of
from vsync.connectors.hdf5.layout import Columns
from vsync.connectors.hdf5.sink import Sink
from vsync.rows import arrow_schema

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence
    from pathlib import Path

    from vsync.connectors.hdf5.layout import Filters
    from vsync.schema import Collection, Field


def write_file(
    path: Path,
    schema: Collection,
    layout: str,
    blocks: Iterable[pa.RecordBatch],
    most: int,
    filters: Filters,
    attributes: Mapping[str, str],
    zeros: Container[str],
) -> None:
    """Write blocks of at most so many rows, in the order of their keys.

    It is on the disk when this returns. ``zeros`` names fields whose texts hold zero bytes.
    """
    with Sink(path) as sink:
        with h5py.File(sink, "w") as file:
            rows = _write_rows(file, sink, schema, layout, blocks, most, filters, zeros)
            said = {
                "collection": json.dumps(schema_json.to_json(schema), ensure_ascii=False),
                "vsync_version": version("vsync"),
            }
            for key, value in {FORMAT: FORMAT_VERSION, "rows": rows, **attributes, **said}.items():
                file.attrs[key] = value
        sink.sync()


def _write_rows(
    file: h5py.File,
    sink: Sink,
    schema: Collection,
    layout: str,
    blocks: Iterable[pa.RecordBatch],
    most: int,
    filters: Filters,
    zeros: Container[str],
) -> int:
    names = names_of(schema, layout)
    fields = [f for f in schema.columns if f.name in names]
    written = {f.name: Columns(file, names[f.name], f, filters, rows=most, cut=f.name in zeros) for f in fields}
    rows = 0
    # No rows before all others: so the datasets are there in any case.
    for batch in chain([_nothing(fields)], blocks):
        for name, columns in written.items():
            columns.append(batch.column(name))
        sink.check()
        rows += batch.num_rows
    return rows


def _nothing(fields: Sequence[Field]) -> pa.RecordBatch:
    schema = arrow_schema(fields)
    return pa.RecordBatch.from_arrays([pa.array([], kind) for kind in schema.types], schema=schema)
