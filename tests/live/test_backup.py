"""Backups of a real Milvus, and what is restored of them: compared by content, by a reader that is not vsync."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import applies
import glove
import pytest
import reader
from conftest import QUICK_ON_LITE
from milvus_sources import Ends, make

if TYPE_CHECKING:
    from pathlib import Path


ROWS = glove.rows(1_000, 5_000)
WORDS = {"_default": ROWS[:2_000], "rare": ROWS[2_000:]}
SMALL = "40KiB"


def backup(ends: Ends, *words: str, code: int = 0) -> applies.Done:
    done = applies.vsync(
        ends.folder, "backup", "--from", ends.source.uri, "--database", ends.source.database, "repo", "--json",
        "--chunk-bytes", SMALL, *words,
    )  # fmt: skip
    assert done.code == code, (done.code, done.problems, done.err[-2000:])
    return done


def restore(ends: Ends, *words: str, code: int = 0) -> applies.Done:
    done = applies.vsync(
        ends.folder, "restore", "repo", *words, "--to", ends.target.uri, "--database", ends.target.database,
        "--auto-approve", "--json",
    )  # fmt: skip
    assert done.code == code, (done.code, done.problems, done.err[-2000:])
    return done


def snapshots(folder: Path) -> list[dict[str, object]]:
    done = applies.vsync(folder, "snapshots", "repo", "--json")
    assert done.code == 0, done.err
    return [json.loads(line) for line in done.out.splitlines() if '"snapshot"' in line]


def stored(folder: Path) -> int:
    """Give the bytes of all objects."""
    return sum(p.stat().st_size for p in (folder / "repo" / "objects").rglob("*") if p.is_file())


def test_what_is_backed_up_is_restored_whole_and_again_nothing_is_stored_twice(ends: Ends) -> None:
    with ends.old() as client:
        make(client, "words", WORDS)
        client.create_alias("words", "lexicon")
    backup(ends)
    assert len(snapshots(ends.folder)) == 1
    once = stored(ends.folder)
    backup(ends)
    assert len(snapshots(ends.folder)) == 2, "nothing changed: a manifest"
    assert stored(ends.folder) == once
    restore(ends)
    ends.content("words", WORDS)
    with ends.new() as client:
        if ends.target.kind == "milvus-2.3.5":  # it looks for aliases in the default database only
            assert client.describe_collection("words")["aliases"] == ["lexicon"]
        else:
            assert client.describe_alias("lexicon")["collection_name"] == "words"
    again = restore(ends)
    assert again.of("summary")[0]["empty"], "a second restore finds nothing to do"

    new = glove.rows(50_000, 50_040)
    with ends.old() as client:
        reader.insert(client, "words", new, "rare")
        client.delete("words", ids=ROWS.ids[:3].tolist())
    backup(ends)
    assert stored(ends.folder) - once < 0.15 * once, "the ranges that changed"
    restore(ends, "--write", "mirror", "--allow-destroy", "collection.words", "--rename", "{collection}")
    ends.content("words", {"_default": WORDS["_default"][3:], "rare": glove.together(WORDS["rare"], new)})


@QUICK_ON_LITE
def test_a_choice_is_restored_under_another_name(ends: Ends) -> None:
    with ends.old() as client:
        make(client, "words", WORDS)
        make(client, "others", {"_default": ROWS[:10]})
    backup(ends)
    first = snapshots(ends.folder)[0]["id"]
    restore(
        ends, str(first), "--collections", "wo*", "--partitions", "rare", "--where", f"id < {ROWS.ids[2_500]}",
        "--rename", "{collection}_then",
    )  # fmt: skip
    with ends.new() as client:
        assert client.list_collections() == ["words_then"]
    ends.content("words_then", {"rare": ROWS[2_000:2_500]})
    missing = restore(ends, "--collections", "nothing*", code=1)
    assert "matches no collection" in missing.problems


@QUICK_ON_LITE
def test_a_backup_that_was_stopped_goes_on_and_is_not_listed_before_it_is_whole(ends: Ends) -> None:
    with ends.old() as client:
        make(client, "words", WORDS)
    for step in (1, 3, 5):
        words = ["backup", "--from", ends.source.uri, "--database", ends.source.database, "repo", "--json"]
        process = applies.begin(ends.folder, *words, "--chunk-bytes", SMALL)
        seen = 0
        for said in applies.events(process):
            seen += said["type"] == "chunk_acked"
            if seen == step:
                process.kill()
                break
        process.wait(applies.SECONDS)
        assert process.stdout is not None
        process.stdout.close()
        assert snapshots(ends.folder) == []
    backup(ends)
    assert len(snapshots(ends.folder)) == 1
    assert applies.vsync(ends.folder, "verify", "repo").code == 0
    restore(ends)
    ends.content("words", WORDS)


@QUICK_ON_LITE
def test_a_damaged_object_is_named_and_never_restored(ends: Ends) -> None:
    with ends.old() as client:
        make(client, "words", WORDS)
    backup(ends)
    (manifest,) = (ends.folder / "repo" / "snapshots").iterdir()
    last = json.loads(manifest.read_text())["collections"]["words"]["partitions"]["rare"][-1]
    victim = ends.folder / "repo" / "objects" / last["object"][:2] / last["object"]
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    found = applies.vsync(ends.folder, "verify", "repo")
    assert found.code == 3
    assert victim.name[:12] in found.out + found.err
    refused = restore(ends, code=12)  # the keys of two partitions are compared by the plan
    assert victim.name[:12] in refused.problems
    done = restore(ends, "--partitions", "rare", "--chunk-bytes", SMALL, code=1)
    assert victim.name[:12] in done.problems
    if ends.target.kind != "milvus-2.3.5":  # which loads, and so reads, nothing before it has its index
        ends.content("words", {"rare": WORDS["rare"][: -last["rows"]]})
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    restore(ends, "--partitions", "rare", "--chunk-bytes", SMALL)
    ends.content("words", {"rare": WORDS["rare"]})


@pytest.mark.parametrize("target", ["lite"], indirect=True)
def test_a_check_compares_what_was_backed_up_last_with_what_is_there_now(ends: Ends) -> None:
    with ends.old() as client:
        make(client, "words", {"_default": ROWS[:500]})
    backup(ends)
    (ends.folder / "words.yaml").write_text(backup(ends, "--show-spec").out)
    assert applies.vsync(ends.folder, "check", "words.yaml", "--full").code == 0
    with ends.old() as client:
        client.delete("words", ids=ROWS.ids[:3].tolist())
    differs = applies.vsync(ends.folder, "check", "words.yaml")
    assert differs.code == 3
    assert "3 rows" in differs.out
    refused = applies.vsync(ends.folder, "check", "words.yaml", "--repair", "--out", "repair.json")
    assert refused.code == 64
    assert "a snapshot does not change" in refused.err


@pytest.mark.parametrize("target", ["lite-server"], indirect=True)
def test_two_backups_at_once_do_not_mix(ends: Ends) -> None:
    with ends.old() as client:
        make(client, "words", WORDS)
    repo, elsewhere = str(ends.folder / "repo"), ends.folder / "elsewhere"
    elsewhere.mkdir()
    words = ["backup", "--from", ends.source.uri, "--database", ends.source.database, repo, "--chunk-bytes", SMALL]
    first = applies.begin(ends.folder, *words, "--json")
    for said in applies.events(first):
        if said["type"] == "chunk_acked":
            break
    first.send_signal(signal.SIGSTOP)
    here = applies.vsync(ends.folder, *words)
    assert here.code == 11, here
    there = applies.vsync(elsewhere, *words)
    assert there.code == 0, there
    first.send_signal(signal.SIGCONT)
    last = list(applies.events(first))[-1]
    assert first.wait(applies.SECONDS) == 4, str(last)
    assert first.stdout is not None
    first.stdout.close()
    assert "this backup was given up, or is finished by another" in last["problems"][0]["what"]
    assert len(snapshots(ends.folder)) == 1
    restore(ends)
    ends.content("words", WORDS)


@QUICK_ON_LITE
def test_rows_that_are_there_are_left_where_it_is_not_said_otherwise(ends: Ends) -> None:
    with ends.old() as client:
        make(client, "words", {"_default": ROWS[:1_000]})
    with ends.new() as client:
        make(client, "words", {"_default": ROWS[500:1_500].changed()})
    backup(ends)
    done = restore(ends)
    assert (done.balance("collection.words")["written"], done.balance("collection.words")["there"]) == (500, 500)
    ends.content("words", {"_default": glove.together(ROWS[:500], ROWS[500:1_500].changed())})
    refused = restore(ends, "--write", "mirror", code=8)
    assert "500 rows to be deleted, and max_delete allows 150" in refused.problems
    refused = restore(ends, "--write", "mirror", "--max-delete", "500", code=12)
    assert "--allow-destroy collection.words" in refused.problems
    restore(ends, "--write", "mirror", "--max-delete", "40%", "--allow-destroy", "collection.words")
    ends.content("words", {"_default": ROWS[:1_000]})
