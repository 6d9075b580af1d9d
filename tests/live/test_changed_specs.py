"""Specs and files that change between two applies, and in the middle of one: what was done before tells the truth.

Each case brings rows by one spec, perhaps killed on the way, and then by another; the content is compared by pymilvus.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

import applies
import h5py
import numpy as np
import pytest
import reader
from conftest import Endpoint

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

FIELDS = "{id: {type: int64, primary: true}, vec: {type: float_vector, dim: 4}, tag: {type: int64}}"
MADE = FIELDS.replace("primary: true", "primary: true, auto_id: true")
ALLOWED = ("--allow-destroy", "collection.c")
MAP = "map: {id: ids, vec: vec, tag: tag}"
MADE_MAP = "map: {vec: vec, tag: tag}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, ids, tag in (("a", range(1_000), 1), ("b", range(500, 1_500), 2), ("c", range(5_000, 6_000), 3)):
        write(tmp_path / f"{name}.h5", ids, tag)
    return tmp_path


def write(path: Path, ids: Iterable[int], tag: int) -> None:
    keys = np.array(list(ids), np.int64)
    with h5py.File(path, "w") as file:
        file["ids"], file["tag"] = keys, np.full(len(keys), tag, np.int64)
        file["other"] = np.full(len(keys), 10 * tag, np.int64)
        file["vec"] = np.stack([keys, keys, keys, keys], axis=1).astype(np.float32)


def spec(folder: Path, files: Iterable[str], more: str = "", *, how: str = MAP, fields: str = FIELDS) -> None:
    data = ", ".join(f"{{from: {name}.h5, {how}}}" for name in files)
    (folder / "vsync.yaml").write_text(
        "version: 1\ntarget: ./t.db\ndefaults: {chunk_bytes: 4KiB}\ncollections:\n"
        f"  c: {{fields: {fields}, indexes: {{vec: {{type: FLAT, metric: L2}}}}, {more} data: [{data}]}}\n"
    )


def kill(folder: Path, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    """Apply, and be killed on the way."""
    monkeypatch.setenv("VSYNC_FAULT", point)
    process = applies.start(folder, *ALLOWED)
    assert process.wait(applies.SECONDS) == -9
    assert process.stdout is not None
    process.stdout.close()
    monkeypatch.delenv("VSYNC_FAULT")


def applied(folder: Path) -> dict[int, int]:
    """Apply, see that there is nothing more to do, and give the tag of each key."""
    applies.apply(folder, *ALLOWED)
    applies.assert_no_changes(folder)
    return held(folder)


def held(folder: Path) -> dict[int, int]:
    with reader.client_of(Endpoint(str(folder / "t.db"), "default", "lite")) as client:
        client.load_collection("c")
        rows = client.query("c", "id >= 0", ["id", "tag"], limit=16_384, consistency_level="Strong")
        assert reader.count(client, "c") == len(rows)
    return {row["id"]: row["tag"] for row in rows}


A, B, C = range(1_000), range(500, 1_500), range(5_000, 6_000)


def test_rows_that_lose_no_more_are_brought_also_from_chunks_that_were_done(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec(folder, "ab", "on_collision: last,")
    kill(folder, monkeypatch, "journal.acked.after:9")  # a is done, without the rows that lost to b
    write(folder / "b.h5", range(1_000, 1_500), 3)
    found = applied(folder)
    assert sorted(found) == list(range(1_500))
    assert {found[key] for key in range(500)} == {1}
    assert {found[key] for key in range(1_000, 1_500)} <= {2, 3}


def test_rows_that_lost_to_an_item_that_was_removed_are_brought(folder: Path) -> None:
    spec(folder, "ab", "on_collision: last,")
    applies.apply(folder, "--only", "collection.c.data.0")
    assert len(held(folder)) == 500
    spec(folder, "a", "on_collision: last,")
    assert applied(folder) == dict.fromkeys(A, 1)


@pytest.mark.parametrize("write_", ["append", "upsert", "overwrite", "mirror"])
def test_another_winner_replaces_the_one_before_where_rows_are_replaced(folder: Path, write_: str) -> None:
    spec(folder, "ab", f"on_collision: first, write: {write_},")
    assert applied(folder) == dict.fromkeys(B, 2) | dict.fromkeys(A, 1)
    spec(folder, "ab", f"on_collision: last, write: {write_},")
    first, last = dict.fromkeys(B, 2) | dict.fromkeys(A, 1), dict.fromkeys(A, 1) | dict.fromkeys(B, 2)
    assert applied(folder) == (first if write_ == "append" else last)


@pytest.mark.parametrize("write_", ["append", "overwrite"])
def test_another_policy_after_a_kill(folder: Path, monkeypatch: pytest.MonkeyPatch, write_: str) -> None:
    spec(folder, "ab", f"on_collision: last, write: {write_},")
    kill(folder, monkeypatch, "journal.acked.after:8")
    spec(folder, "ab", f"on_collision: first, write: {write_},")
    assert applied(folder) == dict.fromkeys(B, 2) | dict.fromkeys(A, 1)


def test_keys_that_collide_are_an_error_again_once_no_policy_settles_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec(folder, "ab", "on_collision: last,")
    kill(folder, monkeypatch, "journal.acked.after:10")
    spec(folder, "ab", "on_collision: error,")
    assert "500 rows" in applies.plan(folder, code=12)


def test_what_was_asked_of_a_chunk_in_doubt_is_asked_anew_of_other_rows(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder / "old.h5", range(500), 9)
    (folder / "vsync.yaml").write_text("")
    spec(folder, ["old"])
    applies.apply(folder, "--state", "theirs.db")
    write(folder / "c.h5", range(384, 400), 5)
    spec(folder, "a", "on_collision: first,")
    kill(folder, monkeypatch, "journal.together.after:7")  # a chunk is in doubt of which others hold some rows
    spec(folder, "ca", "on_collision: first,")
    assert applied(folder) == dict.fromkeys(A, 1) | dict.fromkeys(range(500), 9)


@pytest.mark.parametrize("few", [True, False])
def test_what_a_mirror_deleted_is_brought_again(folder: Path, *, few: bool) -> None:
    write(folder / "a.h5", A[:100] if few else A, 1)
    spec(folder, "a")
    applied(folder)
    if few:  # rows are then deleted one by one
        spec(folder, "c")
        applied(folder)
    spec(folder, "c", "write: mirror, max_delete: 100%,")
    assert applied(folder) == dict.fromkeys(C, 3)
    spec(folder, "a")
    assert applied(folder) == dict.fromkeys(C, 3) | dict.fromkeys(A[:100] if few else A, 1)


def test_a_mirror_after_one_that_was_killed_over_its_rows(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    more = "write: mirror, max_delete: 100%,"
    write(folder / "b.h5", range(9_000, 10_000), 2)
    spec(folder, "a", more)
    applied(folder)
    spec(folder, "cb", more)
    kill(folder, monkeypatch, "journal.acked.after:5")
    spec(folder, "ac", more)
    assert applied(folder) == dict.fromkeys(A, 1) | dict.fromkeys(C, 3)


def test_a_file_that_was_written_over_is_brought_again(folder: Path) -> None:
    write(folder / "b.h5", A, 2)
    for name, tag in {"a": 1, "b": 2}.items():
        spec(folder, name, "write: upsert,")
        assert applied(folder) == dict.fromkeys(A, tag)
    spec(folder, "a", "write: upsert,")
    assert applied(folder) == dict.fromkeys(A, 1)
    spec(folder, "a", "write: upsert,", how=MAP.replace("tag: tag", "tag: other"))
    assert applied(folder) == dict.fromkeys(A, 10)
    spec(folder, "a", "write: upsert,")
    assert applied(folder) == dict.fromkeys(A, 1)


def test_another_file_goes_on_where_one_was_killed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder / "b.h5", A, 2)
    spec(folder, "a")
    kill(folder, monkeypatch, "journal.acked.after:4")
    spec(folder, "b")
    found = applied(folder)
    assert sorted(found) == list(A)
    assert set(found.values()) == {1, 2}  # append replaces nothing


@pytest.mark.parametrize("write_", ["upsert", "overwrite", "mirror"])
@pytest.mark.parametrize("killed", [False, True])
def test_another_way_of_writing_is_carried_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, write_: str, killed: bool
) -> None:
    spec(folder, "a")
    applies.apply(folder, "--state", "theirs.db")
    spec(folder, "b")
    if killed:
        kill(folder, monkeypatch, "journal.acked.after:4")
    else:
        assert applied(folder) == dict.fromkeys(B, 2) | dict.fromkeys(A, 1)
    spec(folder, "b", f"write: {write_}, max_delete: 100%," if write_ == "mirror" else f"write: {write_},")
    others = dict.fromkeys(A, 1) if write_ == "upsert" else {}
    assert applied(folder) == others | dict.fromkeys(B, 2)


@pytest.mark.parametrize("change", ["mapping", "partition", "name", "killed"])
def test_rows_whose_keys_the_server_makes_do_not_come_twice(
    folder: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    parted = f"{MADE_MAP}, into: p" if change == "partition" else MADE_MAP
    more = "partitions: [p, q]," if change == "partition" else ""
    spec(folder, "a", more, how=parted, fields=MADE)
    if change == "killed":
        kill(folder, monkeypatch, "journal.acked.after:4")
    else:
        applied(folder)
    other = {"partition": parted.replace("into: p", "into: q"), "name": MADE_MAP}
    if change == "name":
        write(folder / "a.h5", range(1_100), 1)
    spec(
        folder,
        "ba" if change == "name" else "a",
        more,
        how=other.get(change, MADE_MAP.replace("g: tag", "g: other")),
        fields=MADE,
    )
    assert "changed since rows of it were copied" in applies.plan(folder, code=12)


def test_another_file_of_equal_samples_is_another_file(folder: Path) -> None:
    rows = 200_000
    for name, tag in {"a": 1, "b": 9}.items():
        with h5py.File(folder / f"{name}.h5", "w") as file:
            file["ids"], file["vec"] = np.arange(rows), np.zeros((rows, 4), np.float32)
            tags = np.ones(rows, np.int64)
            tags[61_700:61_800] = tag
            file["tag"] = tags
    spec(folder, "a", "write: upsert,")
    (folder / "vsync.yaml").write_text((folder / "vsync.yaml").read_text().replace("4KiB", "1MiB"))
    applies.apply(folder)
    applies.assert_no_changes(folder)
    (folder / "a.h5").rename(folder / "d.h5")
    (folder / "vsync.yaml").write_text((folder / "vsync.yaml").read_text().replace("a.h5", "d.h5"))
    applies.assert_no_changes(folder)
    (folder / "vsync.yaml").write_text((folder / "vsync.yaml").read_text().replace("d.h5", "b.h5"))
    applies.apply(folder)
    with reader.client_of(Endpoint(str(folder / "t.db"), "default", "lite")) as client:
        client.load_collection("c")
        found = client.query("c", "tag == 9", ["id"], limit=16_384, consistency_level="Strong")
    assert sorted(row["id"] for row in found) == list(range(61_700, 61_800))


@pytest.mark.parametrize("lost", [False, True], ids=["state kept", "state lost"])
def test_a_first_backup_that_was_killed_has_indexes_and_aliases_in_the_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, lost: bool
) -> None:
    spec(folder, "a", "aliases: [other],")
    applies.apply(folder)
    backup = ["backup", "--from", "./t.db", "repo", "--chunk-bytes", "4KiB"]
    monkeypatch.setenv("VSYNC_FAULT", "journal.acked.after:4")
    assert subprocess.run(applies.command(backup), cwd=folder, capture_output=True, check=False).returncode == -9
    monkeypatch.delenv("VSYNC_FAULT")
    if lost:
        shutil.rmtree(folder / ".vsync")
    done = applies.vsync(folder, *backup, "--json")
    assert done.code == 0, done.problems
    there = done.of("settled")[0]["before"]
    assert there == (done.of("settled")[0]["left"] - done.of("settled")[0]["written"] if lost else 0)
    (manifest,) = (folder / "repo" / "snapshots").iterdir()
    kept = json.loads(manifest.read_text())["collections"]["c"]["collection"]
    assert [index["field"] for index in kept["indexes"]] == ["vec"]
    assert kept["aliases"] == ["other"]


def test_a_backup_that_goes_on_holds_nothing_of_a_collection_that_was_dropped(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec(folder, "a")
    applies.apply(folder)
    backup = ["backup", "--from", "./t.db", "repo", "--chunk-bytes", "4KiB"]
    monkeypatch.setenv("VSYNC_FAULT", "journal.acked.after:4")
    assert subprocess.run(applies.command(backup), cwd=folder, capture_output=True, check=False).returncode == -9
    monkeypatch.delenv("VSYNC_FAULT")
    with reader.client_of(Endpoint(str(folder / "t.db"), "default", "lite")) as client:
        client.drop_collection("c")
    spec(folder, "c")
    applies.apply(folder)
    done = applies.vsync(folder, *backup, "--json")
    assert (done.code, done.of("settled")[0]["left"]) == (0, 1_000), done.problems
    done = applies.vsync(folder, "restore", "repo", "--to", "./again.db", "--auto-approve")
    assert done.code == 0, done.err
    with reader.client_of(Endpoint(str(folder / "again.db"), "default", "lite")) as client:
        client.load_collection("c")
        assert [row["id"] for row in client.query("c", "id < 1000", ["id"])] == []
        assert reader.count(client, "c") == 1_000


def test_the_balance_of_rows_that_were_replaced_adds_up(folder: Path) -> None:
    spec(folder, "a")
    applies.apply(folder)
    spec(folder, "b", "write: upsert,")
    done = applies.vsync(folder, "apply", "--auto-approve")
    assert "1,000 rows read = 1,000 written (500 over rows that were there); holds 1,500 rows" in done.out + done.err
