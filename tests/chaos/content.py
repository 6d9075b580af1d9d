"""What a target holds against what it must hold, counted: rows lost, doubled and changed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import reader

if TYPE_CHECKING:
    from chaos.scenario import Content
    from pymilvus import MilvusClient

CUT_OFF = "No data left in file"
"""What Milvus Lite says of the file of an index that it was killed over: it saves them in the background."""


@dataclass(frozen=True, slots=True)
class Compared:
    """What a comparison found. ``doubled`` are all rows that are there beyond the expected ones, once each."""

    rows: int = 0
    lost: int = 0
    doubled: int = 0
    changed: int = 0

    @property
    def right(self) -> bool:
        return not (self.lost or self.doubled or self.changed)

    def __add__(self, other: Compared) -> Compared:
        return Compared(
            self.rows + other.rows,
            self.lost + other.lost,
            self.doubled + other.doubled,
            self.changed + other.changed,
        )

    def __str__(self) -> str:
        return f"{self.rows:,} rows compared: {self.lost} lost, {self.doubled} doubled, {self.changed} changed"


def compare(client: MilvusClient, name: str, told_apart_by: str, expected: dict[str, Content]) -> Compared:
    """Compare a collection with what each of its partitions must hold; rows in any other are too many."""
    _load(client, name)
    expression = f'{told_apart_by} >= ""' if told_apart_by == "word" else f"{told_apart_by} >= 0"
    found = Compared()
    for partition, rows in expected.items():
        found += _partition(client, name, told_apart_by, expression, partition, rows)
    elsewhere = reader.count(client, name, expression) - sum(
        reader.count(client, name, expression, partition) for partition in expected
    )
    return found + Compared(doubled=elsewhere)


def _load(client: MilvusClient, name: str) -> None:
    """Load it; an index that Lite was killed over is made anew, as a person does who is told so: its rows are there."""
    from pymilvus import MilvusException

    try:
        client.load_collection(name, timeout=reader.CALL_SECONDS)
    except MilvusException as error:
        if CUT_OFF not in str(error):
            raise
        client.drop_index(name, "vector")
        client.release_collection(name)
        index = client.prepare_index_params()
        index.add_index("vector", index_type="FLAT", metric_type="L2")
        client.create_index(name, index)
        client.load_collection(name, timeout=reader.CALL_SECONDS)


def _partition(
    client: MilvusClient, name: str, told_apart_by: str, expression: str, partition: str, expected: Content
) -> Compared:
    total = reader.count(client, name, expression, partition)
    fields = list(dict.fromkeys([told_apart_by, "vector", "word"]))
    answer = reader.read(client, name, told_apart_by, list(expected), fields, partition)
    seen = Counter(row[told_apart_by] for row in answer)
    changed = {
        row[told_apart_by]
        for row in answer
        if (np.asarray(row["vector"], "f4").tobytes(), row["word"]) != expected[row[told_apart_by]]
    }
    # Of a key that is there twice a query shows one row: only the count sees both.
    beyond = max(total, len(answer)) - len(seen)
    return Compared(len(expected), len(expected) - len(seen), beyond, len(changed))
