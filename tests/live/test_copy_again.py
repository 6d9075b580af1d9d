"""Copies and merges of collections, applied again: what won stays, what moved is there once, what is empty stays so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import applies
import glove
import pytest
import reader
from conftest import QUICK_WHEN_EMBEDDED
from milvus_sources import Ends, make

if TYPE_CHECKING:
    from pathlib import Path

ROWS = glove.rows(2_000, 2_300)
A, B = ROWS[:100], ROWS[50:200].changed()

MERGE = """
collections:
  all:
    {more}on_collision: {policy}
    partitions: {{p: {{write: append}}, q: {{write: {write}}}}}
    data:
      - {{name: a, from: {{milvus: {{at: old, collection: a}}}}, into: p}}
      - {{name: b, from: {{milvus: {{at: old, collection: b}}}}, into: q}}
"""
COPY = """
collections:
  docs: {{write: {write}, {more}data: [{{from: {{milvus: {{at: old, collection: docs}}}}}}]}}
"""


def merge(policy: str, write: str) -> str:
    return MERGE.format(policy=policy, write=write, more="max_delete: 100%\n    " if write == "mirror" else "")


def move(ends: Ends, rows: glove.Rows) -> None:
    """Have rows of ``_default`` be in ``rare``: by two programs: Milvus Lite forgets deletions before upserts."""
    with ends.old() as client:
        client.delete("docs", ids=[int(key) for key in rows.ids])
    those = zip(rows.ids, rows.vectors, rows.words, strict=True)
    with ends.old() as client:
        data = [{"id": int(key), "vector": vector, "word": word} for key, vector, word in those]
        client.upsert("docs", data, partition_name="rare")


def copy(write: str) -> str:
    return COPY.format(write=write, more="max_delete: 100%, " if write == "mirror" else "")


ALLOW = ("--allow-destroy", "collection.all", "--allow-destroy", "collection.docs")


@QUICK_WHEN_EMBEDDED
@pytest.mark.parametrize("write", ["append", "upsert", "mirror", "overwrite"])
def test_rows_that_won_still_win_when_they_are_there_already(ends: Ends, write: str) -> None:
    with ends.old() as client:
        make(client, "a", {"_default": A})
        make(client, "b", {"_default": B})
    ends.spec(merge("first", write))
    for _ in range(2):
        applies.apply(ends.folder, *ALLOW)
        ends.content("all", {"p": A, "q": B[50:]})
        applies.assert_no_changes(ends.folder, *ALLOW)


@QUICK_WHEN_EMBEDDED
def test_a_collision_with_what_is_there_already_is_seen(ends: Ends) -> None:
    with ends.old() as client:
        make(client, "a", {"_default": A})
        make(client, "b", {"_default": B[50:]})
    ends.spec(merge("error", "append"))
    applies.apply(ends.folder)
    with ends.old() as client:
        reader.insert(client, "b", A[:1])
    assert f"a key {A.ids[0]} and " in applies.plan(ends.folder, code=12)
    ends.content("all", {"p": A, "q": B[50:]})


@QUICK_WHEN_EMBEDDED
def test_a_merge_of_a_collection_and_a_file_is_done_once(ends: Ends, tmp_path: Path) -> None:
    with ends.old() as client:
        make(client, "a", {"_default": A})
    glove.write_hdf5(tmp_path / "b.h5", B)
    ends.spec(
        "\ncollections:\n  all:\n    on_collision: first\n    data:\n"
        "      - {from: {milvus: {at: old, collection: a}}}\n"
        "      - {name: b, from: b.h5, map: {id: ids, vector: vectors, word: words}}\n"
    )
    applies.apply(ends.folder)
    ends.content("all", {"_default": glove.Rows.joined(A, B[50:])})
    applies.assert_no_changes(ends.folder)


@pytest.mark.parametrize("write", ["append", "upsert", "mirror", "overwrite"])
@pytest.mark.parametrize("target", ["lite", pytest.param("milvus-2.3.5")], indirect=True)
def test_a_row_that_changes_its_partition_while_a_copy_lies_killed_is_there_once(ends: Ends, write: str) -> None:
    with ends.old() as client:
        make(client, "docs", {"_default": A, "rare": B[50:]})
        client.load_collection("docs")
    ends.spec(copy(write), chunk_bytes="4KiB")
    applies.killed_at(ends.folder, "journal.sent.after:7", "--transfers", "1", *ALLOW)
    move(ends, A[3:4])
    done = applies.vsync(ends.folder, "apply", "--auto-approve", *ALLOW)
    assert done.code in {0, 3}, "the count is off by the row that went to the other partition"
    applies.apply(ends.folder, *ALLOW)
    with ends.new() as client:
        reader.assert_holds(client, "docs", A.by_id() | B[50:].by_id())
    applies.assert_no_changes(ends.folder, *ALLOW)


@QUICK_WHEN_EMBEDDED
def test_a_moved_row_is_counted_by_an_upsert_of_single_rows(ends: Ends) -> None:
    with ends.old() as client:
        make(client, "docs", {"_default": A, "rare": B[50:]})
        client.load_collection("docs")
    ends.spec(copy("upsert"))
    applies.apply(ends.folder)
    move(ends, A[3:4])
    with ends.old() as client:
        reader.upsert(client, "docs", A[5:6].changed())
    applies.apply(ends.folder)
    applies.assert_no_changes(ends.folder)
    assert "agrees with itself" in applies.vsync(ends.folder, "state", "doctor").out


@QUICK_WHEN_EMBEDDED
@pytest.mark.parametrize("write", ["upsert", "mirror", "overwrite"])
def test_what_is_rightly_empty_is_no_change(ends: Ends, write: str) -> None:
    with ends.old() as client:
        make(client, "docs", {"_default": A})
        client.load_collection("docs")
    ends.spec(copy(write))
    applies.apply(ends.folder, *ALLOW)
    with ends.old() as client:
        client.delete("docs", filter="id >= 0")
    applies.apply(ends.folder, *ALLOW)
    applies.assert_no_changes(ends.folder, *ALLOW)


@QUICK_WHEN_EMBEDDED
def test_the_doctor_bears_another_write_mode(ends: Ends) -> None:
    with ends.old() as client:
        make(client, "docs", {"_default": A})
    ends.spec(copy("append"))
    applies.apply(ends.folder)
    with ends.old() as client:
        reader.insert(client, "docs", B[100:101])
    ends.spec(copy("upsert"))
    applies.apply(ends.folder)
    assert "agrees with itself" in applies.vsync(ends.folder, "state", "doctor").out
