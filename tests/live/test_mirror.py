"""Mirrors: a destination made equal to its data, again and again; compared by a reader that is not vsync."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import applies
import glove
import numpy as np
import pytest
import reader
from conftest import QUICK_ON_LITE

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Endpoint
    from pymilvus import MilvusClient

HEAD = """
version: 1
target: {{milvus: {{uri: "{uri}", database: {database}}}}}
defaults: {{chunk_bytes: 32KiB}}
x-fields: &fields
  id: {{type: int64, primary: true}}
  vector: {{type: float_vector, dim: 50}}
  word: {{type: varchar, max_length: 512}}
x-map: &map {{id: ids, vector: vectors, word: words}}
x-index: &index {{vector: {{type: FLAT, metric: L2}}}}
collections:
"""
FILE = "  copy: {fields: *fields, indexes: *index, MORE data: [{from: rows.h5, map: *map}]}\n"
SOURCE = "  from: {fields: *fields, indexes: *index, data: [{from: from.h5, map: *map}]}\n"
COPY = '  copy: {MORE from: {milvus: {uri: "URI", database: DATABASE, collection: from}}}\n'
ALLOWED = ("--allow-destroy", "collection.copy")
ROWS = glove.rows(0, 900)


def write_spec(folder: Path, target: Endpoint, *collections: str, more: str = "write: mirror,") -> None:
    text = HEAD.format(uri=target.uri, database=target.database)
    for said in collections:
        text += said.replace("MORE", more).replace("URI", target.uri).replace("DATABASE", target.database)
    (folder / "vsync.yaml").write_text(text)


def copy_from(folder: Path, target: Endpoint) -> None:
    """Bring rows into ``from``, and mirror that."""
    other = folder / "other"
    other.mkdir()
    write_spec(other, target, SOURCE)
    glove.write_hdf5(other / "from.h5", ROWS)
    applies.apply(other)
    write_spec(folder, target, COPY)
    applies.apply(folder)


def damage(client: MilvusClient, name: str) -> None:
    """Take ten rows away, change five, and bring seven that nobody knows."""
    client.load_collection(name)
    client.delete(name, ids=list(range(100, 110)))
    reader.upsert(client, name, glove.rows(300, 305).changed())
    reader.insert(client, name, glove.rows(900, 907))
    client.flush(name)


@QUICK_ON_LITE
def test_a_mirror_of_a_file_mends_what_others_did_and_follows_the_file(tmp_path: Path, target: Endpoint) -> None:
    write_spec(tmp_path, target, FILE)
    glove.write_hdf5(tmp_path / "rows.h5", ROWS)
    applies.apply(tmp_path)
    again = applies.plan(tmp_path)
    assert "comparing collection.copy with its data: 1,800 rows of both sides" in again
    assert "the content is that of the sources; compared now" in again

    with reader.client_of(target) as client:
        damage(client, "copy")
    refused = applies.plan(tmp_path, code=12)
    assert "10 are not there, 5 are different" in refused
    assert "7 rows not in the data will be deleted" in refused
    applies.apply(tmp_path, code=12)
    applies.apply(tmp_path, *ALLOWED)
    with reader.client_of(target) as client:
        reader.assert_holds(client, "copy", ROWS.by_id())
    applies.assert_no_changes(tmp_path)

    glove.write_hdf5(tmp_path / "rows.h5", glove.rows(50, 1_000))
    applies.apply(tmp_path, *ALLOWED)
    with reader.client_of(target) as client:
        reader.assert_holds(client, "copy", glove.rows(50, 1_000).by_id())
    applies.assert_no_changes(tmp_path)


@QUICK_ON_LITE
def test_a_mirror_of_a_collection_brings_what_moved_row_by_row(tmp_path: Path, target: Endpoint) -> None:
    copy_from(tmp_path, target)
    with reader.client_of(target) as client:
        reader.assert_holds(client, "copy", ROWS.by_id())
        damage(client, "from")

    steps = tmp_path / "plan.json"
    assert "10 rows not in the data will be deleted" in applies.plan(tmp_path, *ALLOWED, "--out", str(steps), code=2)
    shown = applies.vsync(tmp_path, "show", str(steps), "--steps").out
    assert re.search(r"rewrite-rows .* keys 300, 301, 302, 303, 304\n", shown)
    assert re.search(r"rewrite-rows .* keys 900, 901, 902, 903, 904, 905, 906\n", shown)
    done = applies.vsync(tmp_path, "apply", str(steps), "--json")
    assert done.code == 0, done.err
    assert done.balance("collection.copy")["written"] == 12
    kept = {k: row for k, row in ROWS.by_id().items() if not 100 <= k < 110}
    expected = kept | glove.rows(300, 305).changed().by_id() | glove.rows(900, 907).by_id()
    with reader.client_of(target) as client:
        reader.assert_holds(client, "copy", expected)
    applies.assert_no_changes(tmp_path)
    again = applies.vsync(tmp_path, "apply", str(steps), "--json")
    assert again.code == 0, again.err
    assert not again.of("settled"), "a saved plan that was carried out to its end changes nothing any more"


@QUICK_ON_LITE
def test_a_row_that_came_back_to_its_source_is_not_deleted(tmp_path: Path, target: Endpoint) -> None:
    copy_from(tmp_path, target)
    with reader.client_of(target) as client:
        client.delete("from", ids=list(range(20)))
        reader.upsert(client, "copy", ROWS[30:32].changed())
        client.flush("copy")
    applies.plan(tmp_path, *ALLOWED, "--out", "plan.json", code=2)
    words = ("check", "--full", "--repair", "--out", "mend.json", *ALLOWED)
    assert applies.vsync(tmp_path, *words).code == 3
    with reader.client_of(target) as client:
        reader.insert(client, "from", ROWS[:15])
        client.delete("from", ids=[30])
    held = ROWS[:15].by_id() | ROWS[20:].by_id() | ROWS[30:31].changed().by_id()
    for saved in ("plan.json", "mend.json"):
        done = applies.vsync(tmp_path, "apply", saved, "--json")
        # Five rows less than the check counted: it is to be made again.
        assert done.code == (0 if saved == "plan.json" else 4), done.out
        assert [s["written"] for s in done.of("settled")] == ([1] if saved == "plan.json" else [])
        with reader.client_of(target) as client:
            reader.assert_holds(client, "copy", held)
    applies.apply(tmp_path, *ALLOWED)
    del held[30]
    with reader.client_of(target) as client:
        reader.assert_holds(client, "copy", held)
    applies.assert_no_changes(tmp_path)


@QUICK_ON_LITE
def test_what_a_mirror_deletes_is_bounded(tmp_path: Path, target: Endpoint) -> None:
    write_spec(tmp_path, target, FILE)
    glove.write_hdf5(tmp_path / "rows.h5", ROWS)
    applies.apply(tmp_path)
    glove.write_hdf5(tmp_path / "rows.h5", ROWS[:800])
    refused = applies.plan(tmp_path, *ALLOWED, code=8)
    assert "100 rows to be deleted, and max_delete allows 90" in refused
    applies.apply(tmp_path, *ALLOWED, code=8)
    with reader.client_of(target) as client:
        reader.assert_holds(client, "copy", ROWS.by_id())

    write_spec(tmp_path, target, FILE, more="write: mirror, max_delete: 100,")
    applies.apply(tmp_path, *ALLOWED)
    with reader.client_of(target) as client:
        reader.assert_holds(client, "copy", ROWS[:800].by_id())


@QUICK_ON_LITE
def test_rows_outside_of_its_scope_are_left_alone(tmp_path: Path, target: Endpoint) -> None:
    write_spec(tmp_path, target, FILE, more='write: mirror, scope: "id < 10000",')
    glove.write_hdf5(tmp_path / "rows.h5", ROWS)
    applies.apply(tmp_path)
    others = glove.rows(0, 50).numbered(20_000)
    with reader.client_of(target) as client:
        damage(client, "copy")
        reader.insert(client, "copy", others)
        client.flush("copy")
    assert "7 rows not in the data will be deleted" in applies.plan(tmp_path, *ALLOWED, code=2)
    applies.apply(tmp_path, *ALLOWED)
    with reader.client_of(target) as client:
        reader.assert_holds(client, "copy", ROWS.by_id() | others.by_id())
    applies.assert_no_changes(tmp_path)
    assert applies.vsync(tmp_path, "check", "--full").code == 0, "a check has the same scope"
    with reader.client_of(target) as client:
        client.delete("copy", ids=[5])
    assert applies.vsync(tmp_path, "check", "--repair", "--out", "mend.json").code == 3
    assert applies.vsync(tmp_path, "apply", "mend.json").code == 0
    with reader.client_of(target) as client:
        reader.assert_holds(client, "copy", ROWS.by_id() | others.by_id())


@QUICK_ON_LITE
def test_a_row_outside_of_its_scope_is_not_written_over(tmp_path: Path, target: Endpoint) -> None:
    write_spec(tmp_path, target, FILE, more="write: mirror, scope: 'word != \"theirs\"',")
    glove.write_hdf5(tmp_path / "rows.h5", ROWS)
    applies.apply(tmp_path)
    theirs = replace(ROWS[100:103], words=["theirs"] * 3)
    with reader.client_of(target) as client:
        reader.upsert(client, "copy", theirs)
        client.flush("copy")
    held = ROWS.by_id() | theirs.by_id()
    what = "3 rows of the data have keys that rows outside of its scope have (100, 101, 102)"
    assert what in applies.plan(tmp_path, *ALLOWED, code=12)
    applies.apply(tmp_path, *ALLOWED, code=12)
    checked = applies.vsync(tmp_path, "check", "--full", "--repair", "--out", str(tmp_path / "repair.json"))
    assert "+ collection.copy 100 rows.h5 row 100: its key is there, outside of scope" in checked.out
    assert what in checked.out + checked.err
    assert checked.code == 12
    with reader.client_of(target) as client:
        reader.assert_holds(client, "copy", held)

    glove.write_hdf5(tmp_path / "rows.h5", ROWS[200:])
    applies.apply(tmp_path, *ALLOWED, code=8)
    write_spec(tmp_path, target, FILE, more="write: mirror, max_delete: 200, scope: 'word != \"theirs\"',")
    applies.apply(tmp_path, *ALLOWED)
    with reader.client_of(target) as client:
        reader.assert_holds(client, "copy", ROWS[200:].by_id() | theirs.by_id())
    applies.assert_no_changes(tmp_path)


@QUICK_ON_LITE
def test_a_scope_that_the_server_does_not_understand_has_its_line(tmp_path: Path, target: Endpoint) -> None:
    write_spec(tmp_path, target, FILE, more='write: mirror, scope: "nothing > 1",')
    glove.write_hdf5(tmp_path / "rows.h5", ROWS[:50])
    applies.apply(tmp_path)
    (tmp_path / "rows.h5").touch()
    done = applies.vsync(tmp_path, "plan")
    assert done.code == 1
    assert "Error: scope of collection.copy: " in done.err
    line = next(n for n, text in enumerate((tmp_path / "vsync.yaml").read_text().splitlines(), 1) if "scope:" in text)
    assert f"  vsync.yaml:{line}:" in done.err


@QUICK_ON_LITE
def test_where_much_differs_chunks_are_copied_whole(tmp_path: Path, target: Endpoint) -> None:
    write_spec(tmp_path, target, FILE, more="write: mirror, max_delete: 100%,")
    glove.write_hdf5(tmp_path / "rows.h5", ROWS)
    applies.apply(tmp_path)
    new = glove.rows(400, 1_500).changed()
    glove.write_hdf5(tmp_path / "rows.h5", new)
    text = applies.plan(tmp_path, *ALLOWED, code=2)
    assert "1,100 rows" in text
    assert "400 rows not in the data will be deleted" in text
    done = applies.apply(tmp_path, *ALLOWED)
    assert [done.balance("collection.copy")[k] for k in ("before", "written", "there", "left")] == [
        500,
        1_100,
        500,
        1_100,
    ]
    with reader.client_of(target) as client:
        reader.assert_holds(client, "copy", new.by_id())
    applies.assert_no_changes(tmp_path)


@QUICK_ON_LITE
@pytest.mark.parametrize("way", ["upsert", "overwrite"])
def test_what_replaces_rows_from_a_collection_compares_first(tmp_path: Path, target: Endpoint, way: str) -> None:
    other = tmp_path / "other"
    other.mkdir()
    write_spec(other, target, SOURCE)
    glove.write_hdf5(other / "from.h5", ROWS)
    applies.apply(other)
    write_spec(tmp_path, target, COPY, more=f"write: {way},")
    applies.apply(tmp_path)
    applies.assert_no_changes(tmp_path)
    with reader.client_of(target) as client:
        damage(client, "from")
    allowed = ALLOWED if way == "overwrite" else ()
    done = applies.apply(tmp_path, *allowed)
    assert done.balance("collection.copy")["written"] == (12 if way == "upsert" else 897)
    kept = {k: row for k, row in ROWS.by_id().items() if way == "upsert" or not 100 <= k < 110}
    expected = kept | glove.rows(300, 305).changed().by_id() | glove.rows(900, 907).by_id()
    with reader.client_of(target) as client:
        reader.assert_holds(client, "copy", expected)
    applies.assert_no_changes(tmp_path)


@QUICK_ON_LITE
def test_a_mirror_that_is_ended_at_any_request_is_finished_by_the_next(
    tmp_path: Path, target: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_spec(tmp_path, target, FILE)
    glove.write_hdf5(tmp_path / "rows.h5", ROWS)
    applies.apply(tmp_path)
    writes = "request.Upsert" if target.kind == "milvus-2.3.5" else "request.Insert"
    for point in ("request.Delete.after:1", f"{writes}.before:1", f"{writes}.after:1", "journal.end_session.before:1"):
        with reader.client_of(target) as client:
            damage(client, "copy")
        monkeypatch.setenv("VSYNC_FAULT", point)
        process = applies.start(tmp_path, *ALLOWED)
        assert process.wait(applies.SECONDS) == -9, point
        assert process.stdout is not None
        process.stdout.close()
        monkeypatch.delenv("VSYNC_FAULT")
        applies.apply(tmp_path, *ALLOWED)
        with reader.client_of(target) as client:
            reader.assert_holds(client, "copy", ROWS.by_id())
        applies.assert_no_changes(tmp_path)


def test_keys_that_the_server_makes_cannot_be_mirrored(tmp_path: Path, lite_path: Path) -> None:
    fields = "{id: {type: int64, primary: true, auto_id: true}, vector: {type: float_vector, dim: 4}}"
    np.save(tmp_path / "rows.npy", np.ones((5, 4), np.float32))
    (tmp_path / "vsync.yaml").write_text(
        f"version: 1\ntarget: {lite_path}\ncollections:\n  copy:\n    write: mirror\n    fields: {fields}\n"
        "    from: rows.npy\n"
    )
    assert "copy is to be mirrored, and its keys are made by the server" in applies.plan(tmp_path, code=12)
