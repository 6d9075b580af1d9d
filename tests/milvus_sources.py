"""Collections that live tests copy from: made, filled and changed by pymilvus's own client."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import glove
import reader

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from conftest import Endpoint
    from pymilvus import MilvusClient

AT_ONCE = 10_000

SPEC = """
version: 1
connections:
  old: {at}
target: {{milvus: {to}}}
defaults: {{chunk_bytes: {chunk}}}
"""


def make(
    client: MilvusClient, name: str, rows: Mapping[str, glove.Rows], *, length: int = glove.MOST_WORD_BYTES
) -> None:
    """Make a collection with these partitions and their rows; ``_default`` is there anyhow."""
    from pymilvus import DataType

    schema, index = client.create_schema(), client.prepare_index_params()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=glove.DIM)
    schema.add_field("word", DataType.VARCHAR, max_length=length)
    index.add_index("vector", index_type="FLAT", metric_type="L2")
    client.create_collection(name, schema=schema, index_params=index)
    for partition, some in rows.items():
        if partition != "_default":
            client.create_partition(name, partition)
        for start in range(0, len(some.ids), AT_ONCE):
            reader.insert(client, name, some[start : start + AT_ONCE], partition)


@dataclass(frozen=True, slots=True)
class Ends:
    """A database to copy from, one to copy to, and the spec's folder."""

    source: Endpoint
    target: Endpoint
    folder: Path

    @contextlib.contextmanager
    def old(self) -> Iterator[MilvusClient]:
        """Be a program that uses the source."""
        with reader.client_of(self.source) as client:
            yield client

    @contextlib.contextmanager
    def new(self) -> Iterator[MilvusClient]:
        """Be a program that uses the target."""
        with reader.client_of(self.target) as client:
            yield client

    def spec(self, body: str, chunk_bytes: str = "8KiB", **other: Any) -> None:
        """Write the spec; ``other`` is what the source's connection says otherwise."""
        at = {"uri": self.source.uri, "database": self.source.database, **other}
        to = {"uri": self.target.uri, "database": self.target.database}
        text = SPEC.format(
            at=json.dumps({k: v for k, v in at.items() if v is not None}), to=json.dumps(to), chunk=chunk_bytes
        )
        (self.folder / "vsync.yaml").write_text(text + body)

    def content(self, name: str, expected: Mapping[str, glove.Rows]) -> None:
        """Compare all that a collection of the target holds, by partition."""
        everything: dict[Any, tuple[bytes, str]] = {}
        with self.new() as client:
            for rows in expected.values():
                everything |= rows.by_id()
            reader.assert_holds(client, name, everything)
            for partition, rows in expected.items():
                assert reader.count(client, name, partition=partition) == len(rows.ids), partition
