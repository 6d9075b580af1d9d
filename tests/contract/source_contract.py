"""What every source keeps (``vsync.connectors.base``), as tests: a connector's own test subclasses this."""

from __future__ import annotations

import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vsync.connectors.base import Bounds
from vsync.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from vsync.connectors.base import Fingerprint, Source


# One open source answers all examples: that it does so however often it is asked is a part of the contract.
READ_OFTEN = [HealthCheck.function_scoped_fixture, HealthCheck.differing_executors]


def flip_middle(path: Path) -> None:
    """Change one byte in the middle of a file, where a small file is sampled and no header lies."""
    with path.open("r+b") as file:
        middle = file.seek(0, 2) // 2
        file.seek(middle)
        byte = file.read(1)
        file.seek(middle)
        file.write(bytes([byte[0] ^ 1]))


@dataclass(frozen=True)
class Case:
    """A source on disk: how it is opened, what it holds (100 rows or more, two columns), how it is changed.

    ``edit`` changes content in place so that the file can still be described.
    """

    open: Callable[[Path], Source]
    path: Path
    expected: pa.Table
    edit: Callable[[Path], None] = flip_middle


class SourceContract:
    """Subclass it as ``Test...`` beside a fixture ``case`` of the module (scope ``module``)."""

    @pytest.fixture
    def source(self, case: Case) -> Iterator[Source]:
        source = case.open(case.path)
        yield source
        source.close()

    @pytest.fixture
    def copy(self, case: Case, tmp_path: Path) -> Path:
        return Path(shutil.copy2(case.path, tmp_path))

    def test_describe_says_what_is_there_and_the_same_twice(self, case: Case, source: Source) -> None:
        description = source.describe()
        assert description.rows == case.expected.num_rows
        assert [(c.name, c.type) for c in description.columns] == [(f.name, f.type) for f in case.expected.schema]
        assert description.nbytes > 0
        assert {*description.suggested.values()} <= {c.name for c in description.columns}
        again = case.open(case.path)
        assert again.describe() == description == source.describe()
        again.close()

    def test_row_bytes_are_near_the_size_as_arrow(self, case: Case, source: Source) -> None:
        description = source.describe()
        for name in case.expected.column_names:
            actual = case.expected.column(name).combine_chunks().nbytes / case.expected.num_rows
            column = description.column(name)
            assert column is not None
            assert actual / 2 <= column.row_bytes <= actual * 2, column

    @settings(max_examples=30, suppress_health_check=READ_OFTEN)
    @given(chunk_bytes=st.integers(1, 1 << 20), data=st.data())
    def test_cut_covers_all_rows_once_in_order(
        self, source: Source, case: Case, chunk_bytes: int, data: st.DataObject
    ) -> None:
        names = data.draw(st.lists(st.sampled_from(case.expected.column_names), unique=True, min_size=1))
        bounds = source.cut(names, chunk_bytes)
        assert [b.lo for b in bounds] == [0, *(b.hi for b in bounds[:-1])]
        assert bounds[-1].hi == case.expected.num_rows
        assert all(b.lo < b.hi for b in bounds)
        assert source.cut(names, chunk_bytes) == bounds

    def test_chunks_are_about_as_large_as_asked(self, source: Source, case: Case) -> None:
        names = case.expected.column_names
        row_bytes = sum(c.row_bytes for c in source.describe().columns)
        for rows in (1, 10, 50):
            first, *_ = source.cut(names, int(rows * row_bytes) + 1)
            assert rows / 2 <= first.rows <= rows * 4

    @settings(max_examples=50, suppress_health_check=READ_OFTEN)
    @given(data=st.data())
    def test_read_gives_the_rows_of_the_bounds(self, source: Source, case: Case, data: st.DataObject) -> None:
        lo = data.draw(st.integers(0, case.expected.num_rows))
        hi = data.draw(st.integers(lo, case.expected.num_rows))
        names = data.draw(st.lists(st.sampled_from(case.expected.column_names), unique=True, min_size=1))
        same(source.read(Bounds(lo, hi), names), case.expected.select(names).slice(lo, hi - lo))

    def test_all_chunks_together_are_the_source(self, source: Source, case: Case) -> None:
        names = case.expected.column_names
        row_bytes = sum(c.row_bytes for c in source.describe().columns)
        batches = [source.read(bounds, names) for bounds in source.cut(names, int(7 * row_bytes))]
        assert len(batches) > 3
        same(pa.Table.from_batches(batches), case.expected)

    def test_threads_read_the_same(self, source: Source, case: Case) -> None:
        names = case.expected.column_names
        bounds = source.cut(names, int(11 * sum(c.row_bytes for c in source.describe().columns)))
        jumbled = [bounds[i * 7919 % len(bounds)] for i in range(3 * len(bounds))]
        with ThreadPoolExecutor(4) as pool:
            for at, batch in zip(jumbled, pool.map(lambda b: source.read(b, names), jumbled), strict=True):
                same(batch, case.expected.slice(at.lo, at.rows))

    def test_columns_come_in_the_order_asked_for(self, source: Source, case: Case) -> None:
        names = case.expected.column_names[::-1]
        assert source.read(Bounds(0, 2), names).schema.names == names

    def test_unknown_column_is_named_with_the_near_one(self, source: Source, case: Case) -> None:
        name = case.expected.column_names[-1]
        for ask in (lambda n: source.read(Bounds(0, 1), [n]), lambda n: source.cut([n], 1000)):
            with pytest.raises(SourceError, match=re.escape(f"no column '{name}x'; did you mean '{name}'")) as caught:
                ask(name + "x")
            assert caught.value.problems[0].where

    def test_bounds_beyond_the_rows_are_refused(self, source: Source, case: Case) -> None:
        rows, names = case.expected.num_rows, case.expected.column_names
        for bounds in (Bounds(0, rows + 1), Bounds(-1, 1), Bounds(2, 1)):
            with pytest.raises(SourceError, match="were asked for"):
                source.read(bounds, names)

    def test_fingerprint_tells_content_from_time(self, case: Case, copy: Path) -> None:
        before = fingerprint(case, copy)
        assert before.content == fingerprint(case, case.path).content, "the content alone counts, not the place"
        os.utime(copy, ns=(1, 10**18))
        touched = fingerprint(case, copy)
        assert touched.content == before.content
        case.edit(copy)
        assert fingerprint(case, copy).content != before.content

    def test_fingerprint_carries_the_time_of_change(self, case: Case, copy: Path) -> None:
        os.utime(copy, ns=(1, 10**18))
        assert fingerprint(case, copy).modified == 10**18

    def test_closed_is_closed(self, case: Case) -> None:
        source = case.open(case.path)
        source.close()
        source.close()
        with pytest.raises(SourceError, match="closed"):
            source.read(Bounds(0, 1), case.expected.column_names)


def fingerprint(case: Case, path: Path) -> Fingerprint:
    source = case.open(path)
    found = source.describe().fingerprint
    source.close()
    return found


def same(got: pa.RecordBatch | pa.Table, expected: pa.Table) -> None:
    """Compare names, types and values, bit for bit where NaN is concerned."""
    got.validate(full=True)
    assert got.schema.names == expected.schema.names
    assert got.schema.types == expected.schema.types
    table = pa.table(got.columns, names=got.schema.names)
    assert table.num_rows == expected.num_rows
    assert table.combine_chunks().equals(expected.combine_chunks())
