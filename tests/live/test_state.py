"""The state as users meet it: things renamed, rows copied again or forgotten, targets that moved, broken journals."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

import applies
import glove
import pytest
import reader
from conftest import QUICK_ON_LITE
from format_1 import format_of, to_format_1

from vsync.state.migrations import FORMAT

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Endpoint

ROWS = 600
SPEC = """
version: 1
target: {milvus: {uri: URI, database: DATABASE}}
defaults: {chunk_bytes: 32KiB}
collections:
  WORDS:
    fields:
      id: {type: int64, primary: true, auto_id: false}
      vector: {type: float_vector, dim: 50}
      word: {type: varchar, max_length: 512}
    partitions: [rare]
    indexes: {vector: {type: FLAT, metric: L2}}
    write: append
    data:
      - {name: first, from: first.h5, map: {id: ids, vector: vectors, word: words}}
      - {name: second, from: second.h5, map: {id: ids, vector: vectors, word: words}, into: rare}
"""
FIRST, SECOND = "collection.words.data.first", "collection.words.data.second"
ON_LITE_ALONE = pytest.mark.parametrize("target", ["lite"], indirect=True)


@pytest.fixture
def folder(tmp_path: Path, target: Endpoint) -> Path:
    """Hold a spec of two files, 600 rows for a collection and 400 for a partition of it."""
    glove.write_hdf5(tmp_path / "first.h5", glove.rows(0, ROWS))
    glove.write_hdf5(tmp_path / "second.h5", glove.rows(ROWS, 1000))
    respell(tmp_path, SPEC.replace("URI", target.uri).replace("DATABASE", target.database), WORDS="words")
    return tmp_path


def respell(folder: Path, text: str | None = None, **words: str) -> None:
    spec = folder / "vsync.yaml"
    text = spec.read_text() if text is None else text
    for old, new in words.items():
        assert old in text
        text = text.replace(old, new)
    spec.write_text(text)


def state_of(folder: Path) -> Path:
    return folder / ".vsync" / "vsync.db"


def delete(target: Endpoint, name: str, lo: int, hi: int) -> None:
    with reader.client_of(target) as client:
        client.load_collection(name)
        client.delete(name, ids=list(range(lo, hi)))
        client.flush(name)


def assert_holds(target: Endpoint, name: str, *more: glove.Rows) -> None:
    """Compare content, by what is not vsync: the rows of both files, each once, and more."""
    expected = glove.rows(0, 1000).by_id()
    for rows in more:
        expected |= rows.by_id()
    with reader.client_of(target) as client:
        reader.assert_holds(client, name, expected)


@QUICK_ON_LITE
def test_what_was_renamed_keeps_what_is_done(folder: Path, target: Endpoint) -> None:
    applies.apply(folder)
    with reader.client_of(target) as client:
        client.rename_collection("words", "terms")
    seen = applies.vsync(folder, "plan", "--refresh-only", "--detailed-exitcode")
    assert seen.code == 2
    assert "collection.words   is not there any more" in seen.out
    respell(folder, **{"  words:": "  terms:", "name: first": "name: main"})
    assert "keys are compared" in applies.plan(folder, code=2), "nothing is known of terms yet"

    assert applies.vsync(folder, "state", "mv", "collection.words", "collection.terms").code == 0
    assert applies.vsync(folder, "state", "mv", "collection.terms.data.first", "collection.terms.data.main").code == 0
    applies.assert_no_changes(folder)
    seen = applies.vsync(folder, "plan", "--refresh-only", "--detailed-exitcode")
    assert (seen.code, "Nothing moved on the target." in seen.out) == (0, True), seen
    done = applies.apply(folder)
    assert done.said[-1]["empty"]
    assert_holds(target, "terms")


@QUICK_ON_LITE
def test_rows_are_copied_again_and_shown_in_the_plan(folder: Path, target: Endpoint) -> None:
    applies.apply(folder)
    delete(target, "words", 100, 110)
    delete(target, "words", 700, 720)
    with reader.client_of(target) as client:  # as many as are gone: counts alone do not tell
        reader.insert(client, "words", glove.rows(2000, 2010))
        reader.insert(client, "words", glove.rows(2010, 2030), "rare")
    applies.assert_no_changes(folder)

    wrong = applies.vsync(folder, "apply", "--auto-approve", "--restart", "collection.nothing")
    assert wrong.code == 12
    assert "--restart collection.nothing: no data of the spec goes there" in wrong.err

    done = applies.apply(folder, "--restart", SECOND)
    copies = [c for c in done.of("change") if c["action"] == "copy"]
    assert [c["address"] for c in copies] == [SECOND]
    assert copies[0]["details"][0].startswith("restarts: 3 of 3 chunks were done")
    balance = done.balance("collection.words.partition.rare")
    assert [balance[k] for k in ("before", "read", "written", "there", "left")] == [400, 400, 20, 380, 420]
    assert [s["destination"] for s in done.of("settled")] == ["collection.words.partition.rare"]
    applies.assert_no_changes(folder)

    done = applies.apply(folder, "--restart", "collection.words")
    assert [done.balance("collection.words")[k] for k in ("written", "there")] == [10, 590]
    assert done.balance("collection.words.partition.rare")["there"] == 400
    applies.assert_no_changes(folder)
    assert_holds(target, "words", glove.rows(2000, 2030))


@QUICK_ON_LITE
def test_a_restart_that_was_cut_off_is_gone_on_with(folder: Path, target: Endpoint) -> None:
    respell(folder, **{"write: append": "write: upsert"})
    applies.apply(folder)
    with reader.client_of(target) as client:
        row = {"id": 5, "vector": [0.0] * 50, "word": "changed"}
        client.upsert("words", [row])
    process = applies.start(folder, "--restart", FIRST, "--bwlimit", "8K", "--transfers", "1")
    said = next(one for one in applies.events(process) if one["type"] in {"chunk_acked", "error"})
    assert said["type"] == "chunk_acked", said
    process.kill()
    process.wait(30)
    if target.kind == "lite":
        assert process.stdout is not None
        process.stdout.close()
    done = applies.apply(folder)
    assert done.balance("collection.words")["left"] == ROWS
    applies.assert_no_changes(folder)
    assert_holds(target, "words")


@ON_LITE_ALONE
def test_what_goes_on_does_not_begin_anew(folder: Path) -> None:
    applies.apply(folder)
    process = applies.start(folder, "--restart", FIRST, "--restart=collection.words", "--bwlimit", "8K")
    said = applies.events(process)
    next(one for one in said if one["type"] == "chunk_acked")
    process.send_signal(signal.SIGINT)  # once: a second one would end it without a word
    *_, last = said
    assert process.wait(60) == 130
    assert last["type"] == "error", last
    assert last["problems"][0]["what"].endswith("Go on with: vsync apply --auto-approve --json --bwlimit 8K")
    saved = applies.vsync(folder, "plan", "--out", "p.json")
    assert saved.code == 0, saved
    done = applies.vsync(folder, "apply", "p.json", "--restart", FIRST)
    assert done.code == 64
    assert "a saved plan is carried out as it was approved" in done.err


@QUICK_ON_LITE
def test_what_is_forgotten_is_compared_by_its_keys(folder: Path, target: Endpoint) -> None:
    applies.apply(folder)
    assert applies.vsync(folder, "state", "rm", SECOND, "--yes").code == 0
    shown = applies.plan(folder, code=2)
    assert "second.h5 -> rare   400 rows" in shown
    assert "first.h5" not in shown
    assert applies.apply(folder).balance("collection.words.partition.rare")["there"] == 400
    assert applies.vsync(folder, "state", "rm", "collection.words", "--yes").code == 0
    assert applies.apply(folder).balance("collection.words")["there"] == ROWS
    applies.assert_no_changes(folder)
    assert_holds(target, "words")


@QUICK_ON_LITE
def test_of_keys_of_the_servers_making_nothing_is_sent_twice(folder: Path, target: Endpoint) -> None:
    respell(folder, **{"auto_id: false": "auto_id: true", "id: ids, ": "", "    partitions: [rare]\n": ""})
    respell(folder, **{", into: rare": ""})
    applies.apply(folder)
    assert "made by the server" in applies.vsync(folder, "state", "rm", FIRST, "--yes").err
    refused = applies.vsync(folder, "apply", "--auto-approve", "--restart", FIRST)
    assert refused.code == 12
    assert "its rows are there already, and the keys are made by the server (auto_id)" in refused.err

    state = state_of(folder)
    os.truncate(state, 4096)
    refused = applies.vsync(folder, "apply", "--auto-approve")
    assert refused.code == 1
    assert "vsync state doctor" in refused.err
    assert applies.vsync(folder, "state", "doctor", "--restore").code == 0
    applies.assert_no_changes(folder)
    glove.write_hdf5(folder / "third.h5", glove.rows(1000, 1100))
    with (folder / "vsync.yaml").open("a") as spec:
        spec.write("      - {name: third, from: third.h5, map: {vector: vectors, word: words}}\n")
    kept = state.with_name("vsync.db.bak").read_bytes()
    applies.apply(folder)
    state.with_name("vsync.db.bak").write_bytes(kept)
    os.truncate(state, 0)
    assert applies.vsync(folder, "state", "doctor", "--restore").code == 0
    refused = applies.vsync(folder, "apply", "--auto-approve")
    assert refused.code == 12
    assert "this state was brought back from its backup" in refused.err
    with reader.client_of(target) as client:
        client.load_collection("words")
        assert reader.count(client, "words", "id != 0") == 1100


@QUICK_ON_LITE
def test_what_moved_on_the_target_is_shown(folder: Path, target: Endpoint) -> None:
    seen = applies.vsync(folder, "plan", "--refresh-only")
    assert "The state knows nothing of this target." in seen.out
    applies.apply(folder)
    delete(target, "words", 700, 710)
    seen = applies.vsync(folder, "plan", "--refresh-only", "--json", "--detailed-exitcode")
    assert seen.code == 2
    assert {c["address"]: c["summary"] for c in seen.of("change")} == {
        "collection.words": "600 rows, as vsync left them",
        "collection.words.partition.rare": "390 rows, vsync left 400: 10 are gone",
    }
    assert seen.said[-1]["moved"] == 1
    with reader.client_of(target) as client:
        client.release_collection("words")
        client.drop_partition("words", "rare")
    seen = applies.vsync(folder, "plan", "--refresh-only", "--concise")
    assert "collection.words.partition.rare   is not there any more" in seen.out
    assert "as vsync left them" not in seen.out
    with reader.client_of(target) as client:
        client.drop_collection("words")
        client.create_collection("words", dimension=4)
    seen = applies.vsync(folder, "plan", "--refresh-only")
    assert "was dropped and made again" in seen.out
    assert applies.vsync(folder, "plan", "--refresh-only", "--out", "p.json").code == 64
    with reader.client_of(target) as client:
        client.drop_collection("words")


@ON_LITE_ALONE
def test_a_state_of_the_first_release(folder: Path, target: Endpoint) -> None:
    applies.apply(folder)
    state = state_of(folder)
    to_format_1(state)
    before = state.read_bytes(), sorted(p.name for p in state.parent.iterdir())
    applies.assert_no_changes(folder)
    assert "100%  600 / 600 rows" in applies.vsync(folder, "status").out
    assert applies.vsync(folder, "state", "list").code == 0
    assert (state.read_bytes(), sorted(p.name for p in state.parent.iterdir())) == before, "a plan writes nothing"

    applies.apply(folder)
    assert format_of(state) == str(FORMAT)
    assert format_of(state.with_name("vsync.db.format-1")) == "1"
    applies.assert_no_changes(folder)
    with reader.client_of(target) as client:
        client.rename_collection("words", "terms")
    respell(folder, **{"  words:": "  terms:"})
    assert applies.vsync(folder, "state", "mv", "collection.words", "collection.terms").code == 0
    applies.assert_no_changes(folder)


@ON_LITE_ALONE
def test_an_apply_that_was_killed_and_whose_journal_broke(folder: Path, target: Endpoint) -> None:
    """Killed in its second run; the journal of it is cut short, so that the backup of the first is brought back."""
    respell(folder, **{"write: append": "write: upsert"})
    glove.write_hdf5(folder / "first.h5", glove.rows(0, ROWS).changed())
    applies.apply(folder)
    glove.write_hdf5(folder / "first.h5", glove.rows(0, ROWS))
    process = applies.start(folder, "--bwlimit", "20K", "--transfers", "1")
    next(one for one in applies.events(process) if one["type"] == "chunk_acked")
    process.kill()
    process.wait(30)
    assert process.stdout is not None
    process.stdout.close()
    state = state_of(folder)
    os.truncate(state, state.stat().st_size // 2 // 4096 * 4096)
    refused = applies.vsync(folder, "apply", "--auto-approve")
    assert refused.code == 1
    assert "vsync state doctor --state" in refused.err
    assert applies.vsync(folder, "state", "doctor", "--restore").code == 0
    applies.apply(folder)
    applies.assert_no_changes(folder)
    assert_holds(target, "words")


@ON_LITE_ALONE
def test_the_second_of_two_applies_is_refused_until_the_first_dies(folder: Path) -> None:
    process = applies.start(folder, "--bwlimit", "8K", "--transfers", "1")
    next(one for one in applies.events(process) if one["type"] == "chunk_acked")
    refused = applies.vsync(folder, "apply", "--auto-approve")
    assert refused.code == 11
    assert f"process {process.pid}, since 20" in refused.err
    assert applies.vsync(folder, "state", "unlock").code == 11
    process.kill()
    process.wait(30)
    assert process.stdout is not None
    process.stdout.close()
    assert "cut off after" in applies.vsync(folder, "status").out
    assert "cut off" in applies.vsync(folder, "state", "doctor").out
    applies.apply(folder)


@ON_LITE_ALONE
def test_an_apply_is_watched_until_it_ends(folder: Path) -> None:
    process = applies.start(folder, "--bwlimit", "40K", "--transfers", "1")
    next(one for one in applies.events(process) if one["type"] == "chunk_acked")
    watching = applies.command(["status", "--watch", "--stats", "100ms"])
    with subprocess.Popen(watching, cwd=folder, stdout=subprocess.PIPE) as watcher:
        said, _ = watcher.communicate(timeout=applies.SECONDS)
    assert watcher.returncode == 0
    looks = said.decode().split("Run 1: ")[1:]
    assert len(looks) > 2
    assert all("running since" in look for look in looks[:-1])
    assert "rows/s   " in looks[-2]
    assert "ended" in looks[-1]
    assert "with exit code 0" in looks[-1]
    assert list(applies.events(process))[-1]["type"] == "summary"
    assert process.wait(60) == 0


@ON_LITE_ALONE
def test_it_is_redrawn_on_a_terminal_and_ctrl_c_harms_nothing(folder: Path) -> None:
    process = applies.start(folder, "--bwlimit", "4K", "--transfers", "1")
    next(one for one in applies.events(process) if one["type"] == "chunk_acked")
    ours, theirs = pty.openpty()
    environ = {**os.environ, "TERM": "xterm", "COLUMNS": "200"}
    with subprocess.Popen(
        applies.command(["status", "--watch"]), cwd=folder, stdout=theirs, stderr=theirs, env=environ
    ) as watcher:
        os.close(theirs)
        shown = b""
        while b"\x1b[2K" not in shown:  # what was drawn is taken away, to be drawn again
            shown += os.read(ours, 4096)
        watcher.send_signal(signal.SIGINT)
        with suppress(OSError):  # the terminal is gone with its last writer
            while True:
                shown += os.read(ours, 4096)
        assert watcher.wait(30) == 130
    os.close(ours)
    assert b"running since" in shown
    assert b"Traceback" not in shown
    assert process.poll() is None, "the apply goes on"
    process.send_signal(signal.SIGINT)
    assert list(applies.events(process))[-1]["exit_code"] == 130
    process.wait(30)
