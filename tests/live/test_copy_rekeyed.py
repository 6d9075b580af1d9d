"""Merged collections whose keys get a prefix, or new ones: nothing collides, and which key became which is kept."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Any

import applies
import glove
import numpy as np
import pyarrow.parquet as pq
import pytest
import reader
from conftest import QUICK_ON_LITE, QUICK_WHEN_EMBEDDED
from milvus_sources import Ends, make

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pymilvus import MilvusClient

ROWS = glove.rows(1_000, 1_500)
A, B = ROWS[:300], ROWS[250:500].changed()
Content = dict[Any, tuple[bytes, str]]

MERGE = """
collections:
  all:
    write: {write}
    on_collision: {policy}
    data:
      - {{from: {{milvus: {{at: old, collection: a}}}}}}
      - {{name: other, from: {{milvus: {{at: old, collection: b}}}}}}
"""


def make_texts(client: MilvusClient, name: str, rows: glove.Rows, length: int = 100) -> None:
    """Make a collection whose keys are texts, each row's number as digits."""
    from pymilvus import DataType

    schema, index = client.create_schema(), client.prepare_index_params()
    schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=length)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=glove.DIM)
    schema.add_field("word", DataType.VARCHAR, max_length=glove.MOST_WORD_BYTES)
    index.add_index("vector", index_type="FLAT", metric_type="L2")
    client.create_collection(name, schema=schema, index_params=index)
    upsert_texts(client, name, rows.by_id())


def upsert_texts(client: MilvusClient, name: str, rows: Content) -> None:
    client.upsert(
        name,
        [{"id": str(k), "vector": np.frombuffer(v, "f4"), "word": word} for k, (v, word) in rows.items()],
    )


def with_prefix(prefix: str, rows: Content) -> Content:
    return {f"{prefix}{key}": row for key, row in rows.items()}


def held_texts(ends: Ends, expected: Content) -> None:
    with ends.new() as client:
        reader.assert_holds(client, "all", expected)


@QUICK_ON_LITE
def test_all_keys_get_the_name_of_where_they_are_from(ends: Ends) -> None:
    folder = ends.folder
    with ends.old() as client:
        make_texts(client, "a", A, length=5)  # with the prefix they are longer than that
        make_texts(client, "b", B, length=5)
    ends.spec(MERGE.format(policy="prefix", write="append"))
    said = applies.plan(folder, code=2)
    assert "a: is put before each key" in said
    assert "other: is put before each key" in said
    assert "varchar(11)" in said
    applies.killed_at(folder, "journal.acked.before:4")
    done = applies.apply(folder)
    assert [s["left"] for s in done.of("settled")] == [550]
    expected = with_prefix("a:", A.by_id()) | with_prefix("other:", B.by_id())
    held_texts(ends, expected)
    applies.assert_no_changes(folder)

    # Keys of others lie before, between and behind; only what is not there is copied.
    strange = dict.fromkeys(("", "a", "a9", "b:1", "other", "zz"), (b"\x00" * 4 * glove.DIM, "strange"))
    added = {"0": B.by_id()[1_250], "999999": B.by_id()[1_251], "1260x": B.by_id()[1_252]}
    with ends.new() as client:
        client.load_collection("all")
        upsert_texts(client, "all", {key: row for key, row in strange.items() if key})
    with ends.old() as client:
        upsert_texts(client, "b", {key: row for key, row in added.items() if len(key) <= 5})
        upsert_texts(client, "a", {"0": added["0"]})
    said = applies.plan(folder, code=2)
    assert "copy 3 rows" in said, said
    done = applies.apply(folder)
    assert [(s["written"], s["there"]) for s in done.of("settled")] == [(3, 11)], "1250 to 1260 lie between 0 and 1260x"
    expected |= with_prefix("other:", {k: r for k, r in added.items() if len(k) <= 5}) | {"a:0": added["0"]}
    held_texts(ends, expected | {key: row for key, row in strange.items() if key})
    applies.assert_no_changes(folder)
    assert applies.vsync(folder, "check", "--full", "--one-way").code == 0


@QUICK_ON_LITE
def test_keys_with_a_prefix_are_mirrored_and_repaired(ends: Ends) -> None:
    folder = ends.folder
    with ends.old() as client:
        make_texts(client, "a", A)
        make_texts(client, "b", B)
    ends.spec(MERGE.format(policy="prefix", write="mirror"))
    applies.apply(folder)
    b = {str(key): row for key, row in B.by_id().items()}
    with ends.old() as client:
        client.load_collection("b")
        client.delete("b", ids=["1250", "1251"])
        upsert_texts(client, "b", {"1252": b["1253"], "99": b["1254"]})
    b = {key: row for key, row in b.items() if key not in {"1250", "1251"}} | {"1252": b["1253"], "99": b["1254"]}
    expected = with_prefix("a:", A.by_id()) | with_prefix("other:", b)
    done = applies.vsync(folder, "check", "--full")
    assert done.code == 3
    applies.apply(folder, "--allow-destroy", "collection.all")
    held_texts(ends, expected)
    applies.assert_no_changes(folder)
    with ends.new() as client:
        client.delete("all", ids=["a:1000", "other:99"])
        client.flush("all")
    done = applies.vsync(folder, "check", "--full", "--repair", "--out", "repair.json")
    assert "a:1000" in done.out, done.out + done.err
    applies.apply(folder, "repair.json")
    held_texts(ends, expected)


@QUICK_ON_LITE
def test_a_prefix_needs_room_and_texts(ends: Ends) -> None:
    with ends.old() as client:
        make_texts(client, "a", A)
        make(client, "b", {"_default": B})
    ends.spec("collections: {all: {on_collision: prefix, data: [{from: {milvus: {at: old, collection: b}}}]}}\n")
    said = applies.plan(ends.folder, code=12)
    assert "vsync.yaml:7:35" in said, said
    assert "a prefix is put before varchar keys, and id of all is int64" in said
    fields = (
        "fields: {id: {type: varchar, max_length: %d, primary: true}, vector: {type: float_vector, dim: 50},"
        " word: {type: varchar, max_length: 512}}"
    )
    body = "collections: {all: {%s, on_collision: prefix, data: [{from: {milvus: {at: old, collection: b}}}]}}\n"
    ends.spec(body % (fields % 2))
    assert "the prefix b: leaves no room for a key" in applies.plan(ends.folder, code=12)
    ends.spec(body % (fields % 5))
    done = applies.apply(ends.folder, code=1)
    assert "id" in done.problems
    assert "b:1250" in done.problems
    ends.spec(body % (fields % 6))
    applies.apply(ends.folder, "--allow-destroy", "collection.all")
    with ends.new() as client:
        reader.assert_holds(client, "all", with_prefix("b:", B.by_id()))


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / ".vsync" / "vsync.ids").rglob("*") if path.is_file())


def assert_renumbered(ends: Ends, expected: Mapping[str, Content], name: str = "all") -> dict[tuple[str, Any], int]:
    """Compare what the file says with what is there: each row of the sources once, under the new key that it names."""
    (path,) = files_of(ends.folder)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    told = pq.read_table(path).to_pylist()
    new = {(one["source"], one["old"]): one["new"] for one in told}
    sources = {(source, key): row for source, rows in expected.items() for key, row in rows.items()}
    assert len(told) == len(new) == len(set(new.values()))
    assert new.keys() == sources.keys()
    with ends.new() as client:
        reader.assert_holds(client, name, {new[where]: row for where, row in sources.items()})
    return new


@QUICK_WHEN_EMBEDDED
def test_numbers_that_become_texts_are_known_again_tomorrow(ends: Ends) -> None:
    """The two sides have their keys in different orders."""
    rows = glove.rows(5, 300)
    with ends.old() as client:
        make(client, "numbers", {"_default": rows})
    fields = (
        "fields: {id: {type: varchar, max_length: 20, primary: true}, vector: {type: float_vector, dim: 50},"
        " word: {type: varchar, max_length: 512}}"
    )
    spec = (
        f"collections: {{texts: {{MORE {fields}, data: [{{from: {{milvus: {{at: old, collection: numbers}}}}}}]}}}}\n"
    )
    ends.spec(spec.replace("MORE", ""))
    applies.apply(ends.folder)
    applies.assert_no_changes(ends.folder)
    with ends.old() as client:
        reader.insert(client, "numbers", glove.rows(1_000, 1_003))
    with ends.new() as client:
        client.load_collection("texts")
        client.delete("texts", ids=["7", "70"])
    said = applies.plan(ends.folder, code=2)
    assert "5 rows" in said
    (settled,) = applies.apply(ends.folder).of("settled")
    assert (settled["written"], settled["left"]) == (5, 298)
    applies.assert_no_changes(ends.folder)

    (ends.folder / ".vsync" / "vsync.db").unlink()
    ends.spec(spec.replace("MORE", "strict: true,"))
    refused = applies.apply(ends.folder, code=1)
    assert "are in collection.texts already" in refused.problems


@pytest.mark.parametrize("texts", [False, True], ids=["int64", "varchar"])
def test_rows_get_new_keys_and_a_file_says_which(ends: Ends, *, texts: bool) -> None:
    folder = ends.folder
    with ends.old() as client:
        make(client, "a", {"_default": A[:200], "rare": A[200:]})
        if texts:
            make_texts(client, "b", B)
        else:
            make(client, "b", {"_default": B})
    ends.spec(MERGE.format(policy="renumber", write="append"))
    said = applies.plan(folder, code=2)
    assert "the server makes new keys: an apply writes a file that says which became which" in said
    for point in (
        "ids.put.before:2",
        "ids.put.after:3",
        "journal.together.before:5",
        "request.Insert.after:3",
        "ids.gather.before:1",
        "ids.gather.after:1",
    ):
        applies.killed_at(folder, point)
    done = applies.vsync(folder, "apply", "--auto-approve")
    assert done.code == 0, done.err
    (path,) = files_of(folder)
    assert f"Old and new keys of 550 rows: {path}" in done.out.replace("\n", " ").replace("  ", " "), done.out
    kind: Any = str if texts else int
    parts = {"old/a": A[:200].by_id(), "old/a/rare": A[200:].by_id(), "old/b": B.by_id()}
    expected = {
        source: {(str(k) if texts else kind(k)): row for k, row in rows.items()} for source, rows in parts.items()
    }
    new = assert_renumbered(ends, expected)
    applies.assert_no_changes(folder)

    # Rows that are gone are sent again with their chunks, under newer keys, and the file follows.
    lost = [new["old/b", kind(1_250)], new["old/a/rare", kind(1_299)]]
    with ends.new() as client:
        client.load_collection("all")
        client.delete("all", ids=lost)
        client.flush("all")
    applies.killed_at(folder, "ids.put.after:1")
    applies.apply(folder)
    newer = assert_renumbered(ends, expected)
    assert newer != new
    assert not set(lost) & set(newer.values())
    applies.assert_no_changes(folder)


@QUICK_ON_LITE
def test_keys_of_files_are_told_where_the_server_makes_new_ones(ends: Ends) -> None:
    folder = ends.folder
    glove.write_hdf5(folder / "a.h5", A)
    glove.write_parquet(folder / "b.parquet", B)
    mapped = "map: {ids: ids, vector: vectors, word: words}"
    data = f"data: [{{from: a.h5, {mapped}}}, {{from: b.parquet, {mapped}}}]"
    ends.spec(f"collections: {{all: {{on_collision: renumber, {data}}}}}\n")
    applies.killed_at(folder, "ids.put.after:2")
    applies.apply(folder)
    with ends.new() as client:
        described = client.describe_collection("all")
        assert described["auto_id"]
        key = next(f["name"] for f in described["fields"] if f.get("is_primary"))
    told = pq.read_table(files_of(folder)[0]).to_pylist()
    new = {(one["source"], one["old"]): one["new"] for one in told}
    assert len(told) == len(new) == 550
    rows = {("a.h5", k): row for k, row in A.by_id().items()} | {("b.parquet", k): row for k, row in B.by_id().items()}
    with ends.new() as client:
        reader.assert_holds(client, "all", {new[at]: row for at, row in rows.items()}, key=key)
    applies.vsync(folder, "state", "mv", "collection.all", "collection.every")
    assert files_of(folder)[0].name == "every.parquet"


@QUICK_ON_LITE
@pytest.mark.parametrize("policy", ["error", "renumber"])
def test_collections_of_the_same_fields_each_go_on_where_they_stopped(ends: Ends, policy: str) -> None:
    first, then = ROWS[250:], ROWS[:200]
    with ends.old() as client:
        make(client, "a", {"_default": first})
        make(client, "b", {"_default": then})
    ends.spec(MERGE.format(policy=policy, write="append"))
    applies.killed_at(ends.folder, "journal.acked.before:12")  # the first is there, and a part of the second
    done = applies.apply(ends.folder)
    assert [(s["written"], s["left"]) for s in done.of("settled")] == [(450, 450)]
    if policy == "renumber":
        assert_renumbered(ends, {"old/a": first.by_id(), "old/b": then.by_id()})
    else:
        ends.content("all", {"_default": glove.together(first, then)})
    applies.assert_no_changes(ends.folder)


FILES = ["{hdf5: kept}", "{backup: kept}"]


@pytest.mark.parametrize("target", ["lite"], indirect=True)
@pytest.mark.parametrize("to", FILES)
def test_keys_with_a_prefix_are_kept_in_files_and_come_back(ends: Ends, to: str) -> None:
    """Numbers and texts; again after more rows came, where what was there is not cut anew."""
    folder, spec = ends.folder, ends.folder / "vsync.yaml"
    with ends.old() as client:
        make_texts(client, "a", A)
        make(client, "b", {"_default": B})
    fields = (
        "fields: {id: {type: varchar, max_length: 50, primary: true}, vector: {type: float_vector, dim: 50},"
        " word: {type: varchar, max_length: 512}}"
    )
    ends.spec(MERGE.format(policy="prefix", write="mirror").replace("    write:", f"    {fields}\n    write:"))
    text = spec.read_text()
    spec.write_text("\n".join(f"target: {to}" if line[:7] == "target:" else line for line in text.split("\n")))
    applies.killed_at(folder, "journal.acked.before:4")
    assert [s["left"] for s in applies.apply(folder).of("settled")] == [550]
    new = glove.rows(7, 10)
    with ends.old() as client:
        client.load_collection("b")
        reader.insert(client, "b", new)
    assert [s["left"] for s in applies.apply(folder).of("settled")] == [553]
    assert applies.vsync(folder, "check", "--full").code == 0
    if "backup" in to:
        copy = "copy: [{from: {backup: {repo: kept}}}]"
        spec.write_text(f"version: 1\ntarget: {{milvus: {{uri: {ends.target.uri}}}}}\n{copy}\n")
        applies.apply(folder)
        held_texts(ends, with_prefix("a:", A.by_id()) | with_prefix("other:", B.by_id() | new.by_id()))
