"""Collections copied from one Milvus to another: compared by content, by a reader that is not vsync."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import applies
import glove
import numpy as np
import pytest
import reader
from conftest import QUICK_ON_LITE, Endpoint
from milvus_sources import Ends, make

if TYPE_CHECKING:
    from pathlib import Path

ROWS = glove.rows(1_000, 1_600)
WORDS = {"_default": ROWS[:200], "common": ROWS[200:350], "rare": ROWS[350:]}
COPY = "collections: {words: {data: [{from: {milvus: {at: old, collection: words}}}]}}\n"


def copied_and_again_tomorrow(ends: Ends) -> None:
    with ends.old() as client:
        make(client, "words", WORDS)
    ends.spec(COPY)
    said = applies.plan(ends.folder, code=2)
    assert "not as of one moment" in said
    done = applies.apply(ends.folder)
    assert sum(s["written"] for s in done.of("settled")) == len(ROWS.ids)
    ends.content("words", WORDS)
    applies.assert_no_changes(ends.folder)

    # Rows at both ends, between the others, and in a new partition; some are deleted, and some are other rows now.
    before, behind, between, new = glove.rows(0, 3), glove.rows(5_000, 5_300), ROWS[7:9], glove.rows(7_000, 7_004)
    with ends.old() as client:
        reader.insert(client, "words", glove.together(before, behind[:290]), "common")
        reader.insert(client, "words", behind[290:], "rare")
        client.create_partition("words", "new")
        reader.insert(client, "words", new, "new")
        client.delete("words", ids=between.ids.tolist())
        client.upsert(
            "words", [{"id": int(ROWS.ids[300]), "vector": ROWS.vectors[0], "word": "x"}], partition_name="common"
        )
    done = applies.apply(ends.folder)
    assert sum(s["written"] for s in done.of("settled")) == 307
    assert sum(s["there"] for s in done.of("settled")) <= 3, "what is there already is not read again"
    now = WORDS | {
        "common": glove.together(WORDS["common"], before, behind[:290]),
        "rare": glove.together(WORDS["rare"], behind[290:]),
    }
    ends.content("words", now | {"new": new})
    applies.assert_no_changes(ends.folder)


@QUICK_ON_LITE
def test_a_collection_is_copied_with_its_partitions_and_tomorrow_what_is_new(ends: Ends) -> None:
    copied_and_again_tomorrow(ends)


def test_a_collection_of_a_server_is_copied_into_a_folder(
    milvus_source: Endpoint, lite_path: Path, tmp_path: Path
) -> None:
    copied_and_again_tomorrow(Ends(milvus_source, Endpoint(str(lite_path), "default", "lite"), tmp_path))


CHOICES = """
collections:
  some: {data: [{from: {milvus: {at: old, collection: words, partitions: {allow: ["*r*", "_*", common], deny: [_*]}}}}]}
  filtered: {data: [{from: {milvus: {at: old, collection: words, where: "id < 1100 or word == 'nope'"}}}]}
  one: {data: [{from: {milvus: {at: old, collection: words}}, into: all}]}
  renamed:
    fields:
      id: {type: int64, primary: true}
      vector: {type: float_vector, dim: 50}
      label: {type: varchar, max_length: 512}
      origin: {type: varchar, max_length: 16}
    data: [{from: {milvus: {at: old, collection: words}}, map: {label: word, origin: {const: "2024"}}}]
"""


@QUICK_ON_LITE
def test_partitions_filters_one_partition_and_mapping(ends: Ends) -> None:
    with ends.old() as client:
        make(client, "words", WORDS)
    ends.spec(CHOICES)
    applies.apply(ends.folder)
    ends.content("some", {"common": WORDS["common"], "rare": WORDS["rare"], "_default": ROWS[:0]})
    ends.content("filtered", {"_default": ROWS[:100], "common": ROWS[:0], "rare": ROWS[:0]})
    ends.content("one", {"_default": ROWS[:0], "all": ROWS})
    with ends.new() as client:
        assert client.list_partitions("some") == ["_default", "common", "rare"]
        client.load_collection("renamed")
        found = reader.read(client, "renamed", "id", ROWS.ids.tolist(), ["id", "vector", "label", "origin"])
    assert {r["id"]: (np.asarray(r["vector"], "f4").tobytes(), r["label"]) for r in found} == ROWS.by_id()
    assert {r["origin"] for r in found} == {"2024"}
    applies.assert_no_changes(ends.folder)


MERGE = """
collections:
  all:
    on_collision: {policy}
    data:
      - {{name: a, from: {{milvus: {{at: old, collection: a}}}}}}
      - {{name: b, from: {{milvus: {{at: old, collection: b}}}}}}
"""


@QUICK_ON_LITE
def test_two_collections_are_merged_by_the_policy_of_the_spec(ends: Ends) -> None:
    a, b = ROWS[:300], ROWS[250:500].changed()
    with ends.old() as client:
        make(client, "a", {"_default": a})
        make(client, "b", {"_default": b})
    ends.spec(MERGE.format(policy="error"))
    said = applies.plan(ends.folder, code=12)
    assert "holds 50 rows whose key another row has" in said
    assert "old/a key 1250 and old/b key 1250" in said
    ends.spec(
        MERGE.format(policy="first").replace("all:", "first:")
        + MERGE.format(policy="last").replace("all:", "last:").replace("collections:\n", "")
    )
    done = applies.apply(ends.folder)
    assert [s["dropped"] for s in done.of("settled")] == [50, 50]
    ends.content("first", {"_default": glove.together(a, b[50:])})
    ends.content("last", {"_default": glove.together(a[:250], b)})
    applies.assert_no_changes(ends.folder)
    with ends.old() as client:  # a key that is taken from a already, and one that neither had
        reader.insert(client, "b", glove.together(ROWS[3:4].changed(), ROWS[590:591]))
    applies.apply(ends.folder)
    ends.content("first", {"_default": glove.together(a, b[50:], ROWS[590:591])})
    applies.assert_no_changes(ends.folder)


MANY = """
copy:
  - from: {milvus: {at: old, collections: {allow: ["prod_*", news], deny: ["*_tmp"]}}}
    rename: "{collection}_v2"
"""


@QUICK_ON_LITE
def test_many_collections_are_copied_under_other_names(ends: Ends) -> None:
    parts = {name: ROWS[n * 50 : n * 50 + 50] for n, name in enumerate(("prod_a", "prod_b", "prod_tmp", "news", "old"))}
    with ends.old() as client:
        for name, rows in parts.items():
            make(client, name, {"_default": rows})
    ends.spec(MANY)
    applies.apply(ends.folder)
    with ends.new() as client:
        assert sorted(client.list_collections()) == ["news_v2", "prod_a_v2", "prod_b_v2"]
    for name in ("prod_a", "prod_b", "news"):
        ends.content(f"{name}_v2", {"_default": parts[name]})
    applies.assert_no_changes(ends.folder)
    with ends.old() as client:
        make(client, "prod_c", {"_default": ROWS[400:]})
    assert "prod_c_v2" in applies.plan(ends.folder, code=2)
    ends.spec(MANY.replace("news", "nevs"))
    assert "'nevs' matches no collection" in applies.plan(ends.folder, code=1)


@QUICK_ON_LITE
def test_a_copy_within_a_database_takes_no_alias_that_the_original_has(ends: Ends) -> None:
    ends = Ends(ends.target, ends.target, ends.folder)
    with ends.old() as client:
        make(client, "words", WORDS)
        client.create_alias("words", f"alias_of_{ends.target.database}")
    copy = "collections: {again: {data: [{from: {milvus: {at: old, collection: words}}}]}}\n"
    ends.spec(copy)
    refused = applies.plan(ends.folder, code=12)
    assert f"alias alias_of_{ends.target.database} belongs to collection words" in refused
    assert "leave it there: aliases: [] of again or of the copy" in refused
    ends.spec('copy: [{from: {milvus: {at: old, collections: [words]}}, rename: "{collection}_2", aliases: []}]\n')
    assert "words_2" in applies.plan(ends.folder, code=2)
    ends.spec(copy.replace("again: {", "again: {aliases: [], "))
    applies.apply(ends.folder)
    ends.content("again", WORDS)
    applies.assert_no_changes(ends.folder)


@QUICK_ON_LITE
def test_an_alias_that_two_copies_would_have_is_a_conflict(ends: Ends) -> None:
    alias = f"alias_of_{ends.target.database}"
    with ends.old() as client:
        make(client, "words", WORDS)
        client.create_alias("words", alias)
    source = "from: {milvus: {at: old, collection: words}}"
    spec = f"collections: {{a: {{data: [{{{source}}}]}}, b: {{MORE data: [{{{source}}}]}}}}\n"
    ends.spec(spec.replace("MORE", ""))
    refused = applies.plan(ends.folder, code=12)
    assert f"a and b are both to have the alias {alias}" in refused
    ends.spec(spec.replace("MORE", "aliases: [],"))
    (line,) = (line for line in applies.plan(ends.folder, code=2).splitlines() if f"alias.{alias}" in line)
    assert " -> a " in line
    applies.apply(ends.folder)
    applies.assert_no_changes(ends.folder)


@QUICK_ON_LITE
def test_what_is_compared_shown_and_moved_of_a_collection_that_is_a_source(ends: Ends) -> None:
    folder = ends.folder
    with ends.old() as client:
        make(client, "words", WORDS)
    ends.spec(COPY)
    applies.apply(folder)
    assert "the content is the same" in applies.vsync(folder, "check", "--full").out
    with ends.old() as client:
        reader.insert(client, "words", glove.rows(0, 2), "rare")
    with ends.new() as client:
        client.delete("words", ids=ROWS.ids[[3, 400]].tolist())
        changed = ROWS[5:6].changed()
        client.upsert("words", [{"id": int(changed.ids[0]), "vector": changed.vectors[0], "word": changed.words[0]}])
        reader.insert(client, "words", glove.rows(9_000, 9_001))
    for how in ("--quick", "--full", "--sample=600"):
        assert applies.vsync(folder, "check", how).code == 3, how
    done = applies.vsync(folder, "check", "--full", "--combined", "found.txt")
    found = sorted(line.split(" old/")[0] for line in (folder / "found.txt").read_text().splitlines())
    rare = "collection.words.partition.rare"
    expected = ["* collection.words 1005 vector, word", "+ collection.words 1003", f"+ {rare} 0", f"+ {rare} 1"]
    assert found == sorted([*expected, f"+ {rare} 1400", "- collection.words 9000"]), done.out

    done = applies.vsync(folder, "plan", "--deep")
    assert "rows new" in done.out, done.out + done.err
    done = applies.vsync(folder, "check", "--full", "--repair", "--out", "repair.json")
    assert done.code == 3, done.out + done.err
    applies.apply(folder, "repair.json")
    ends.content(
        "words",
        WORDS
        | {
            "_default": glove.together(ROWS[:200], glove.rows(9_000, 9_001)),
            "rare": glove.together(WORDS["rare"], glove.rows(0, 2)),
        },
    )
    assert "1 extra" in applies.vsync(folder, "check", "--full").out
    applies.assert_no_changes(folder)

    items = json.loads(applies.vsync(folder, "status", "--json").out.splitlines()[-1])
    assert items, items
    with ends.new() as client:
        client.rename_collection("words", "lexicon")
        client.load_collection("lexicon")
    moved = applies.vsync(folder, "state", "mv", "collection.words", "collection.lexicon")
    assert moved.code == 0, moved.err
    ends.spec(COPY.replace("{words: {data", "{lexicon: {data"))
    applies.assert_no_changes(folder)


@pytest.mark.parametrize("target", ["milvus-2.3.5"], indirect=True)
def test_keys_that_are_there_twice_are_told_and_copied_once(ends: Ends) -> None:
    with ends.old() as client:
        make(client, "words", {"_default": ROWS[:200]})
        reader.insert(client, "words", ROWS[5:8])  # Milvus keeps both
    ends.spec(COPY)
    assert "3 entities more are counted there than it has keys" in applies.plan(ends.folder, code=2)
    applies.apply(ends.folder)
    ends.content("words", {"_default": ROWS[:200]})
    applies.assert_no_changes(ends.folder)
