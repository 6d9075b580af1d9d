"""The files that say which key became which: what is gathered is what the journal counts as acknowledged, once."""

from __future__ import annotations

import shutil
import stat
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vsync.errors import JournalError
from vsync.state.ids import IdMap

if TYPE_CHECKING:
    from pathlib import Path

Told = dict[tuple[str, object], object]


def put(to: IdMap, source: str, old: pa.Array, first: int, name: str = "words") -> tuple[int, int]:
    new = np.arange(first, first + len(old), dtype=np.int64)
    to.put(name, source, old, new, [(first, first + len(old) - 1)])
    return first, first + len(old) - 1


def gathered(to: IdMap, acked: list[tuple[int, int]], *, text: bool = False) -> Told:
    found = to.gather("words", acked, text=text)
    assert found is not None
    path, rows = found
    told = pq.read_table(path).to_pylist()
    assert len(told) == rows
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    return {(one["source"], one["old"]): one["new"] for one in told}


@pytest.fixture
def made(tmp_path: Path) -> IdMap:
    (tmp_path / ".vsync").mkdir()
    return IdMap.beside(tmp_path / ".vsync" / "vsync.db", "http://one/default")


def test_only_acknowledged_keys_are_told(made: IdMap) -> None:
    one = put(made, "a", pa.array([1, 2]), 100)
    put(made, "b", pa.array([1, 2]), 200)  # it was sent, and removed: nobody acknowledged it
    again = put(made, "b", pa.array([1, 2]), 300)
    assert gathered(made, [one, again]) == {("a", 1): 100, ("a", 2): 101, ("b", 1): 300, ("b", 2): 301}


def test_a_chunk_that_is_sent_again_later_replaces_what_was_told(made: IdMap) -> None:
    one, two = put(made, "a", pa.array([1, 2]), 100), put(made, "b", pa.array([7]), 200)
    gathered(made, [one, two])
    again = put(made, "a", pa.array([1, 2]), 300)
    assert gathered(made, [two, again]) == {("b", 7): 200, ("a", 1): 300, ("a", 2): 301}
    assert gathered(made, [two, again]) == {("b", 7): 200, ("a", 1): 300, ("a", 2): 301}


def test_parts_that_nobody_acknowledged_may_overlap_others(made: IdMap) -> None:
    acked = [put(made, "a", pa.array([1, 2, 3, 4]), 100)]
    gathered(made, acked)
    put(made, "b", pa.array([7, 8, 9, 10]), 100)  # a server that lost what it had acknowledged handed them out again
    put(made, "c", pa.array([5]), 101)
    assert gathered(made, [(102, 103)]) == {("b", 9): 102, ("b", 10): 103}


def test_parts_that_are_there_after_they_were_gathered_count_once(made: IdMap, monkeypatch: pytest.MonkeyPatch) -> None:
    one = put(made, "a", pa.array([1, 2]), 100)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_args, **_words: None)  # as if it was killed before that
        gathered(made, [one])
    two = put(made, "b", pa.array([1]), 200)
    assert gathered(made, [one, two]) == {("a", 1): 100, ("a", 2): 101, ("b", 1): 200}


def test_keys_of_several_kinds_are_told_as_texts(made: IdMap) -> None:
    one = put(made, "a", pa.array([5, None]), 100)
    assert gathered(made, [one]) == {("a", 5): 100, ("a", None): 101}
    two = put(made, "b", pa.array(["x"]), 200)
    large = put(made, "c", pa.array([2**64 - 1], pa.uint64()), 300)
    assert gathered(made, [one, two, large], text=True) == {
        ("a", "5"): "100",
        ("a", None): "101",
        ("b", "x"): "200",
        ("c", str(2**64 - 1)): "300",
    }
    assert gathered(made, [two], text=True) == {("a", "5"): "100", ("a", None): "101"} | {
        ("b", "x"): "200",
        ("c", str(2**64 - 1)): "300",
    }, "nothing came since"
    three = put(made, "d", pa.array([6]), 400)
    assert gathered(made, [two, three], text=True) == {("b", "x"): "200", ("d", "6"): "400"}


def test_many_small_parts_are_few_groups(made: IdMap) -> None:
    acked = [put(made, "a", pa.array([n]), 10 * n + 1) for n in range(40)]
    assert len(gathered(made, acked)) == 40
    assert pq.read_metadata(made.path("words")).num_row_groups == 1


def test_each_target_and_each_collection_has_a_file_of_its_own(made: IdMap, tmp_path: Path) -> None:
    other = IdMap.beside(tmp_path / ".vsync" / "vsync.db", "http://two/default")
    one, two = put(made, "a", pa.array([1]), 100), put(other, "b", pa.array([1]), 100)
    assert gathered(made, [one]) == {("a", 1): 100}
    assert gathered(other, [two]) == {("b", 1): 100}
    assert made.gather("others", [], text=False) is None


def test_a_collection_that_is_renamed_keeps_its_file(made: IdMap) -> None:
    one = put(made, "a", pa.array([1]), 100, "terms")
    made.gather("terms", [one], text=False)
    two = put(made, "a", pa.array([2]), 200, "terms")
    put(made, "b", pa.array([3]), 300)  # of a collection that had the name before, and was forgotten
    made.moved("terms", "words")
    assert gathered(made, [one, two]) == {("a", 1): 100, ("a", 2): 200}


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "vsync.ids").write_text("a file")
    with pytest.raises(JournalError, match=r"the file of old and new keys .* cannot be used"):
        put(IdMap.beside(tmp_path / "vsync.db", "t"), "a", pa.array([1]), 100)
