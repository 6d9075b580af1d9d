"""The source in memory; its file here stands for the program that has the rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
from contract.source_contract import Case, SourceContract
from pyarrow import feather

from vsync.connectors.base import Bounds
from vsync.connectors.memory import MemorySource

if TYPE_CHECKING:
    from pathlib import Path

WORDS = [f"word {i}" for i in range(150)]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    vectors = np.arange(600, dtype=np.float32)
    table = pa.table({"id": range(150), "vector": pa.FixedSizeListArray.from_arrays(vectors, 4), "word": WORDS})
    path = tmp_path_factory.mktemp("memory") / "rows.feather"
    feather.write_feather(table, path, compression="uncompressed")
    return Case(lambda p: MemorySource(feather.read_table(p, memory_map=False)), path, table)


class TestMemorySource(SourceContract):
    def test_fingerprint_carries_the_time_of_change(self, case: Case, copy: Path) -> None:
        assert case.open(copy).describe().fingerprint.modified == 0, "a table has no time"


def test_content_counts_not_how_it_lies_in_memory() -> None:
    whole = pa.table({"word": WORDS, "n": range(150)})
    parts = pa.concat_tables([whole.slice(0, 40), whole.slice(40)])
    large = whole.set_column(0, "word", whole.column("word").cast(pa.large_string()).dictionary_encode())
    assert MemorySource(whole).describe() == MemorySource(parts).describe() == MemorySource(large).describe()
    other = MemorySource(whole.set_column(1, "n", [[*range(149), 0]]))
    assert other.describe().fingerprint != MemorySource(whole).describe().fingerprint


def test_empty_table() -> None:
    source = MemorySource(pa.table({"id": pa.array([], pa.int64())}))
    assert source.describe().rows == 0
    assert source.cut(["id"], 1000) == []
    assert source.read(Bounds(0, 0), ["id"]).num_rows == 0
