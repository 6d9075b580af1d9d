"""Rows of a collection into partitions by the value of a field: copied, killed, compared, moved and refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import applies
import numpy as np
import pytest
import reader
from conftest import QUICK_ON_LITE

if TYPE_CHECKING:
    from milvus_sources import Ends
    from pymilvus import MilvusClient

ROWS = 1_200
YEARS = [2022, 2023, 2024]
SPEC = """
collections:
  books:
    partitions: PARTITIONS
    write: WRITE
    data: [{from: {milvus: {at: old, collection: books}}, into: "INTO"}]
"""


def row(n: int, year: int) -> dict[str, Any]:
    return {"id": n, "vector": [float(n), n / 2], "year": year, "lang": ["en", "de"][n % 2]}


def fill(client: MilvusClient) -> None:
    from pymilvus import DataType

    schema, index = client.create_schema(), client.prepare_index_params()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
    schema.add_field("year", DataType.INT32)
    schema.add_field("lang", DataType.VARCHAR, max_length=64)
    index.add_index("vector", index_type="FLAT", metric_type="L2")
    client.create_collection("books", schema=schema, index_params=index)
    client.insert("books", [row(n, YEARS[n % 3]) for n in range(ROWS)])


def spec(ends: Ends, *, partitions: str = "[]", write: str = "append", into: str = "y{year}") -> None:
    body = SPEC.replace("WRITE", write).replace("INTO", into).replace("PARTITIONS", partitions)
    ends.spec(body.replace("    partitions: []\n", ""), "2KiB")


def holds(ends: Ends, expected: dict[str, list[int]]) -> None:
    """Compare the keys of each partition, and count what is there, doubled keys too."""
    with ends.new() as client:
        client.load_collection("books")
        assert set(client.list_partitions("books")) == {"_default", *expected}
        assert reader.count(client, "books") == sum(map(len, expected.values()))
        for partition, keys in expected.items():
            rows = client.query(
                "books", filter="id >= 0", partition_names=[partition], limit=5_000, consistency_level="Strong"
            )
            assert sorted(r["id"] for r in rows) == sorted(keys), partition
            assert reader.count(client, "books", partition=partition) == len(keys)


def by_year(years: list[int]) -> dict[str, list[int]]:
    return {f"y{y}": np.flatnonzero(np.array(years) == y).tolist() for y in sorted(set(years))}


@QUICK_ON_LITE
def test_rows_go_into_the_partition_of_their_value_also_when_killed(ends: Ends) -> None:
    with ends.old() as client:
        fill(client)
    spec(ends)
    said = applies.plan(ends.folder, code=2)
    assert all(f"partition.y{year}" in said for year in YEARS), said
    kills, _ = applies.apply_with_kills(ends.folder, 7, 2, 30)
    assert kills
    years = [YEARS[n % 3] for n in range(ROWS)]
    holds(ends, by_year(years))
    applies.assert_no_changes(ends.folder)
    done = applies.vsync(ends.folder, "check", "--full")
    assert done.code == 0, done

    with ends.old() as client:
        client.insert("books", [row(ROWS, 2025), row(ROWS + 1, 2022)])
    applies.apply(ends.folder)
    holds(ends, by_year([*years, 2025, 2022]))


@QUICK_ON_LITE
@pytest.mark.parametrize("write", ["append", "mirror"])
def test_a_row_whose_value_changed(ends: Ends, write: str) -> None:
    with ends.old() as client:
        fill(client)
    spec(ends, partitions="[y2022, y2023, y2024, y2030]", write=write)
    applies.apply(ends.folder)
    years = [YEARS[n % 3] for n in range(ROWS)]
    with ends.old() as client:
        client.upsert("books", [row(0, 2030), row(1, 2024)])
    address = [w for y in (2022, 2023) for w in ("--allow-destroy", f"collection.books.partition.y{y}")]
    applies.apply(ends.folder, *(address if write == "mirror" else []))
    if write != "append":
        years[0], years[1] = 2030, 2024
    holds(ends, {"y2030": [], **by_year(years)})
    applies.assert_no_changes(ends.folder)


@QUICK_ON_LITE
def test_values_that_make_no_partition_are_refused(ends: Ends) -> None:
    with ends.old() as client:
        fill(client)
    for said, into, partitions in (
        ("the value 2022, and '2022' cannot be the name of a partition", "{year}", "[]"),
        ('lang has the value "de", and there is no partition de', "{lang}", "[en]"),
        ("there is no field lng to part rows by", "{lng}", "[]"),
        ("vector is float_vector(2), and partitions are made of", "{vector}", "[]"),
        ("id has more than 64 values", "p{id}", "[]"),
    ):
        spec(ends, into=into, partitions=partitions)
        done = applies.vsync(ends.folder, "plan")
        assert done.code not in {0, 2}
        assert said in done.err
