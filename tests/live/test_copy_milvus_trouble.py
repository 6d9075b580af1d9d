"""Copies of collections that go wrong on the way: each ends in words, and the next apply is right."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import applies
import glove
import pytest
import reader
import servers
from conftest import QUICK_ON_LITE, Endpoint
from milvus_sources import Ends, make

if TYPE_CHECKING:
    from pathlib import Path


ROWS = glove.rows(1_000, 1_600)
WORDS = {"_default": ROWS[:400], "rare": ROWS[400:]}
COPY = "collections: {words: {data: [{from: {milvus: {at: old, collection: words}}}]}}\n"
SERVED = pytest.mark.parametrize(
    "target", ["lite-server", pytest.param("milvus-2.3.5", marks=pytest.mark.slow)], indirect=True
)


@pytest.fixture
def ends(source: Endpoint, target: Endpoint, tmp_path: Path) -> Ends:
    """Hold a collection that is to be copied."""
    made = Ends(source, target, tmp_path)
    with made.old() as client:
        make(client, "words", WORDS)
    made.spec(COPY)
    return made


def cuts(folder: Path) -> dict[tuple[str, int], tuple[Any, ...]]:
    """Read from the state how units were cut."""
    with closing(sqlite3.connect(folder / ".vsync" / "vsync.db")) as db:
        return {(unit, n): rest for unit, n, *rest in db.execute("SELECT unit, n, lo, hi, keys FROM chunks")}


@QUICK_ON_LITE
@pytest.mark.parametrize("point", ["journal.sent.after:4", "request.INSERT.after:6", "journal.acked.before:9"])
def test_an_interrupted_copy_goes_on_with_the_same_cut(ends: Ends, point: str) -> None:
    folder = ends.folder
    request = "Insert" if ends.target.kind.startswith("lite") else "Upsert"
    applies.killed_at(folder, point.replace("INSERT", request))
    known = cuts(folder)
    before, behind = glove.rows(0, 2), glove.rows(9_000, 9_003)
    with ends.old() as client:
        reader.insert(client, "words", glove.Rows(*before_and(before, behind)), "rare")
        client.delete("words", ids=ROWS.ids[[1, 399, 401]].tolist())
    done = applies.apply(folder)
    now = cuts(folder)
    assert {key: now[key] for key in known} == known
    assert all(s["left"] == s["expected"] for s in done.of("settled")), done.out
    with ends.new() as client:
        client.load_collection("words")
        held = reader.held(client, "words", "id", [*ROWS.ids.tolist(), *before.ids.tolist(), *behind.ids.tolist()])
        assert reader.count(client, "words") == len(held)
    untouched = {k: row for k, row in ROWS.by_id().items() if k not in ROWS.ids[[1, 399, 401]]}
    assert held.items() >= untouched.items()
    applies.apply(folder)
    with ends.new() as client:
        client.load_collection("words")
        added = before.by_id() | behind.by_id()
        assert reader.held(client, "words", "id", list(added)) == added
    applies.assert_no_changes(folder)


def before_and(a: glove.Rows, b: glove.Rows) -> tuple[Any, ...]:
    import numpy as np

    return np.append(a.ids, b.ids), np.concatenate([a.vectors, b.vectors]), [*a.words, *b.words]


@QUICK_ON_LITE
@pytest.mark.parametrize("point", ["journal.enter_unit.after:2", "journal.sent.after:17"])
def test_a_saved_plan_brings_what_was_added_behind_the_last_chunk(ends: Ends, point: str) -> None:
    folder = ends.folder
    applies.plan(folder, "--out", "saved.json", code=2)
    behind = glove.rows(9_000, 12_000)
    with ends.old() as client:
        reader.insert(client, "words", behind, "rare")
    applies.killed_at(folder, point, "saved.json")
    with ends.old() as client:
        reader.insert(client, "words", glove.rows(20_000, 20_002), "rare")
    applies.apply(folder, "saved.json")
    rare = [WORDS["rare"], behind, glove.rows(20_000, 20_002)]
    ends.content("words", WORDS | {"rare": glove.Rows(*before_and(glove.Rows(*before_and(*rare[:2])), rare[2]))})
    applies.assert_no_changes(folder)


@QUICK_ON_LITE
def test_a_collection_that_was_made_again_is_another_one(ends: Ends) -> None:
    folder = ends.folder
    applies.plan(folder, "--out", "saved.json", code=2)
    newer = {"_default": ROWS[:50].changed()}
    length = 600 if ends.source.kind.startswith("lite") else 512  # Lite has no ids, and a schema tells them apart
    with ends.old() as client:
        client.drop_collection("words")
        make(client, "words", newer, length=length)
    done = applies.apply(folder, "saved.json", code=4)
    assert "the saved plan is stale" in done.problems
    assert "words" in done.problems
    applies.killed_at(folder, "journal.sent.after:2")
    newest = {"_default": ROWS[:60]}
    with ends.old() as client:
        client.drop_collection("words")
        make(client, "words", newest)
    applies.apply(folder)
    with ends.new() as client:
        client.load_collection("words")
        assert reader.count(client, "words") == 60
    applies.assert_no_changes(folder)


@SERVED
def test_a_collection_that_is_not_loaded_is_refused_or_loaded_and_released(ends: Ends) -> None:
    folder = ends.folder
    with ends.old() as client:
        client.release_collection("words")
    done = applies.vsync(folder, "plan")
    assert done.code == 12
    assert "is not loaded: its rows cannot be read" in done.err
    assert "load_source: true" in done.err
    ends.spec(COPY.replace("words}}", "words, load_source: true}}"))
    for attempt in (lambda: applies.plan(folder, code=2), lambda: applies.apply(folder)):
        attempt()
        with ends.old() as client:
            assert client.get_load_state("words")["state"].name == "NotLoad"
    ends.content("words", WORDS)
    applies.assert_no_changes(folder)


@SERVED
def test_a_source_that_is_not_there_is_told_in_words(ends: Ends) -> None:
    folder = ends.folder
    port = servers.take_ports(["port"], {})["port"]
    ends.spec(COPY, uri=f"http://127.0.0.1:{port}")
    done = applies.vsync(folder, "plan")
    assert done.code == 5, done.err
    assert f"127.0.0.1:{port}" in done.err
    ends.spec(COPY, database="nowhere")
    done = applies.vsync(folder, "plan")
    assert done.code == 12, done.err
    assert "there is no database nowhere" in done.err
    ends.spec("copy: [{from: {milvus: {at: old}}}]\n", database="nowhere")
    assert "there is no database nowhere" in applies.vsync(folder, "plan").err
    for wrong, hint in (
        ("collection: wods", "did you mean words?"),
        ("collection: words, partitions: {allow: [rar]}", "_default, rare"),
    ):
        ends.spec(COPY.replace("collection: words", wrong))
        done = applies.vsync(folder, "plan")
        assert done.code == 12, done.err
        assert hint in done.err
    ends.spec(COPY.replace("words}}", 'words, where: "id <"}}'))
    done = applies.vsync(folder, "plan")
    assert done.code == 12
    assert "vsync.yaml:7" in done.err, done.err
    ends.spec(COPY, token={"env": "NO_SUCH_TOKEN"})
    done = applies.vsync(folder, "plan")
    assert done.code == 1, done.err
    assert "NO_SUCH_TOKEN" in done.err


def test_both_ends_that_are_away_are_worth_another_try(tmp_path: Path) -> None:
    ports = servers.take_ports(["old", "new"], {})
    old, new = (Endpoint(f"http://127.0.0.1:{ports[name]}", "default", "lite-server") for name in ("old", "new"))
    Ends(old, new, tmp_path).spec(COPY)
    done = applies.vsync(tmp_path, "plan")
    assert done.code == 5, done.err
    assert old.uri in done.err
    assert new.uri in done.err


def test_a_source_that_goes_down_on_the_way_is_waited_for(lite_path: Path, tmp_path: Path) -> None:
    """And where it does not come back in time, the next apply goes on."""
    with servers.LiteServer(tmp_path / "old") as old:
        made = Ends(Endpoint(old.uri, "default", "lite-server"), Endpoint(str(lite_path), "default", "lite"), tmp_path)
        with made.old() as client:
            make(client, "words", WORDS)
        made.spec(COPY)
        process = applies.start(tmp_path, "--max-downtime", "2s")
        for said in applies.events(process):
            if said["type"] == "chunk_acked":
                old.kill()
                break
        assert process.stdout is not None
        rest = process.stdout.read().decode()
        assert process.wait(applies.SECONDS) == 5, rest
        assert "when it is well again, run the same command" in json.loads(rest.splitlines()[-1])["problems"][0]["hint"]
        old.start()
        with made.old() as client:
            client.load_collection("words")
        made.spec(COPY)
        applies.apply(tmp_path)
        made.content("words", WORDS)
        applies.assert_no_changes(tmp_path)
