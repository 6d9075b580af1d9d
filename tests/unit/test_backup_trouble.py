"""A repository of backups in trouble: each is a clear error that says what to do, and nothing that is whole is lost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import applies
import pytest
from backups import Killed, Life, MortalStore, back_up, held

from vsync.connectors.backup.repository import CONFIG, PRUNING, Repository
from vsync.connectors.backup.store import open_store
from vsync.errors import StalePlanError

if TYPE_CHECKING:
    from pathlib import Path

    from vsync.connectors.backup.store import Store

ROWS = {"_default": {n: n for n in range(35)}}
MORE = {"_default": {n: n for n in range(70)}}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Hold two snapshots of one thing, in the folder ``repo``."""
    made = open_store(str(tmp_path / "repo"))
    back_up(made, ROWS)
    back_up(made, MORE)
    return made


def ids(store: Store) -> list[str]:
    return Repository(store).snapshot_ids()


def run(folder: Path, words: str, code: int = 0) -> str:
    """Run a command; an error is in one piece and without a traceback."""
    done = applies.vsync(folder, *words.split())
    assert done.code == code, (words, done)
    assert "vsync itself failed" not in done.err
    assert ("Error:" in done.err) == (code != 0), done
    return " ".join((done.out + done.err).split())


PUT_BEFORE_ROWS = 2
"""What a backup writes first: the file of the repository, and its own mark."""
RESTORE = "--to ./new.db --plan"


@pytest.mark.parametrize("how", ["cut off", "not JSON", "another thing", "empty"])
def test_a_damaged_snapshot_is_named_and_the_others_are_of_use(tmp_path: Path, store: Store, how: str) -> None:
    first, last = ids(store)
    path = tmp_path / "repo" / "snapshots" / f"{last}.json"
    whole = path.read_bytes()
    path.write_bytes(
        {"cut off": whole[: len(whole) // 2], "not JSON": b"\xff\0", "another thing": b"[1]", "empty": b""}[how]
    )
    where = f"repo/snapshots/{last}.json"

    shown = run(tmp_path, "snapshots repo", 3)
    assert f"{first} source 35 rows" in shown
    assert f"this snapshot is damaged {where} use another" in shown
    assert f"this snapshot is damaged {where}" in run(tmp_path, "verify repo", 3)
    assert "1 snapshot read" in run(tmp_path, f"verify repo {first}")
    assert "this snapshot is damaged" in run(tmp_path, f"restore repo {RESTORE}", 1)
    assert "copy 35 rows" in run(tmp_path, f"restore repo {first} {RESTORE}")

    back_up(store, MORE)
    assert held(store) == MORE, "the next backup does not need it"
    refused = run(tmp_path, "prune repo", 1)
    assert f"nothing is pruned before it is given up: vsync forget repo {last}" in refused
    assert last not in run(tmp_path, "forget repo --keep-last 1 --dry-run")
    assert f"{last} cannot be read" in run(tmp_path, f"forget repo {last} --auto-approve")
    run(tmp_path, "prune repo")
    assert "2 snapshots read" in run(tmp_path, "verify repo")
    assert held(store) == MORE


def test_a_snapshot_of_a_newer_format_is_left_alone(tmp_path: Path, store: Store) -> None:
    last = ids(store)[-1]
    said = json.loads(store.get(f"snapshots/{last}.json"))
    store.put(f"snapshots/{last}.json", json.dumps(said | {"format_version": 2}).encode())
    for command, code in (("snapshots repo", 3), ("verify repo", 3), ("prune repo", 1), (f"restore repo {RESTORE}", 1)):
        assert "this snapshot is of format 2, not 1" in run(tmp_path, command, code)
    assert store.size(PRUNING) is None, "a prune that is refused leaves no mark"


COMMANDS = ["snapshots repo", "verify repo", "forget repo --keep-last 1", "prune repo", f"restore repo {RESTORE}"]
BACKUP = "backup --from ./source.db repo --plan"


@pytest.mark.parametrize(
    ("config", "what"),
    [({"format_version": 2, "id": "a"}, "this repository is of format 2, not 1"), (None, "this file is damaged")],
    ids=["newer", "damaged"],
)
def test_a_repository_that_cannot_be_understood_is_left_alone(
    tmp_path: Path, store: Store, config: dict[str, Any] | None, what: str
) -> None:
    store.put(CONFIG, json.dumps(config).encode() if config else b"{")
    before = {path: path.read_bytes() for path in (tmp_path / "repo").rglob("*") if path.is_file()}
    for command in [*COMMANDS, BACKUP]:
        done = applies.vsync(tmp_path, *command.split())
        assert (done.code != 0, what in done.err) == (True, True), (command, done)
        assert "vsync itself failed" not in done.err
    assert before == {path: path.read_bytes() for path in (tmp_path / "repo").rglob("*") if path.is_file()}


def test_an_object_that_is_missing_is_named_with_those_who_need_it(tmp_path: Path, store: Store) -> None:
    first, last = ids(store)
    (_, _, one), *_ = Repository(store).manifest(first).ranges
    store.delete(f"objects/{one.object[:2]}/{one.object}")
    shown = run(tmp_path, "verify repo", 3)
    assert f"{one.object}: there is no objects/{one.object[:2]}/{one.object}" in shown
    assert f"{first} things/_default from key 0, {last} things/_default from key 0" in shown
    assert "back up again: what the source still has is stored anew" in shown
    damaged = applies.vsync(tmp_path, "verify", "repo", "--json").of("damaged")
    assert [(found["object"], len(found["needed"])) for found in damaged] == [(one.object, 2)]

    back_up(store, MORE)
    assert "3 snapshots read" in run(tmp_path, "verify repo"), "and it did"


@pytest.mark.parametrize("which", [0, 1], ids=["first", "last"])
def test_a_snapshot_that_was_changed_is_told_whichever_says_the_same_of_its_objects(
    tmp_path: Path, store: Store, which: int
) -> None:
    changed = ids(store)[which]
    path = tmp_path / "repo" / "snapshots" / f"{changed}.json"
    text = path.read_text()
    path.write_text(text.replace('"rows": 10', '"rows": 5', 1))
    assert "this snapshot was changed after it was written" in run(tmp_path, "verify repo", 3)
    assert "this snapshot was changed" in run(tmp_path, f"restore repo {changed} {RESTORE}", 1)

    said = json.loads(path.read_text())
    del said["digest"]  # as those of the first days
    path.write_text(json.dumps(said))
    shown = run(tmp_path, "verify repo", 3)
    assert "it holds 10 rows from 0 to 9, and these say 5 from 0 to 9" in shown
    assert f"{ids(store)[1 - which]} things/_default from key 0" not in shown, "the other one says it right"
    restored = applies.vsync(tmp_path, "restore", "repo", changed, "--to", "./new.db", "--auto-approve")
    assert restored.code == 12
    assert "holds 10 rows, and the snapshot says 5" in restored.err


def test_files_of_others_in_a_repository_are_no_snapshots(tmp_path: Path, store: Store) -> None:
    for folder in ("snapshots", "pending"):
        (tmp_path / "repo" / folder).mkdir(exist_ok=True)
        (tmp_path / "repo" / folder / ".DS_Store").write_bytes(b"\0")
    assert ids(store)[0] in run(tmp_path, "snapshots repo")
    assert "2 snapshots read" in run(tmp_path, "verify repo")
    run(tmp_path, "prune repo")


def test_a_damaged_object_is_mended_by_the_next_backup_once_it_is_removed(tmp_path: Path, store: Store) -> None:
    first, _ = ids(store)
    (_, _, one), *_ = Repository(store).manifest(first).ranges
    path = tmp_path / "repo" / "objects" / one.object[:2] / one.object
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert f"{one.object} is damaged" in run(tmp_path, "verify repo", 3)
    assert path.exists(), "to look does not change anything"
    assert "--remove-damaged, and back up again" in run(tmp_path, "verify repo", 3)
    assert "it is removed; back up again" in run(tmp_path, "verify repo --remove-damaged", 3)
    assert not path.exists()
    back_up(store, MORE)
    assert "3 snapshots read" in run(tmp_path, "verify repo")
    assert held(store, first) == ROWS


def test_a_folder_with_other_things_is_no_repository(tmp_path: Path) -> None:
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo" / "letters.txt").write_text("dear")
    for command in COMMANDS[:5]:
        assert "there is no repository of vsync" in run(tmp_path, command, 1)
    shown = run(tmp_path, BACKUP, 12)
    assert "there are other things, and no repository" in shown
    assert "a folder of its own" in shown
    assert [path.name for path in (tmp_path / "repo").iterdir()] == ["letters.txt"]


def test_a_file_is_no_repository(tmp_path: Path) -> None:
    (tmp_path / "repo").write_text("dear")
    for command in COMMANDS[:4]:
        assert "there is no repository of vsync" in run(tmp_path, command, 1)
    assert "there is a file" in run(tmp_path, BACKUP, 12)


def test_a_snapshot_that_is_not_there_is_not_guessed(tmp_path: Path, store: Store) -> None:
    first, last = ids(store)
    wrong = f"{first[:-1]}{'0' if first[-1] != '0' else '1'}"
    assert f"there is no snapshot {wrong}" in run(tmp_path, f"verify repo {wrong}", 1)
    assert f"did you mean {first}?" in run(tmp_path, f"restore repo {wrong} {RESTORE}", 1)
    assert "vsync snapshots repo lists them" in run(tmp_path, "forget repo nonsense", 1)
    assert f"2026 may be {first}, {last}" in run(tmp_path, "verify repo 2026", 1).replace(first[:4], "2026")
    assert "there is no snapshot 202" in run(tmp_path, "verify repo 202", 1), "too short to say which"
    tail = last.rpartition("-")[2]
    assert "1 snapshot read" in run(tmp_path, f"verify repo {tail[:6]}")


def test_all_may_be_forgotten(tmp_path: Path, store: Store) -> None:
    first, last = ids(store)
    assert "nobody can be asked" in run(tmp_path, f"forget repo {first} {last}", 12)
    assert "Would forget 2" in run(tmp_path, f"forget repo {first} {last} --dry-run")
    assert len(ids(store)) == 2
    assert "Forgot 2" in run(tmp_path, f"forget repo {first} {last} {first} --auto-approve")
    assert "There are no snapshots." in run(tmp_path, "snapshots repo")
    assert "there is no snapshot yet" in run(tmp_path, f"restore repo {RESTORE}", 1)
    assert "0 objects" in run(tmp_path, "verify repo")
    assert "Removed 8 objects" in run(tmp_path, "prune repo")
    assert list(store.list("objects")) == []
    back_up(store, ROWS)
    assert held(store) == ROWS


def test_which_to_forget_is_to_be_said(tmp_path: Path, store: Store) -> None:
    assert "which ones?" in run(tmp_path, "forget repo", 64)
    assert "0 is not in the range" in applies.vsync(tmp_path, "forget", "repo", "--keep-last", "0").err
    assert len(ids(store)) == 2


def test_the_last_of_each_thing_are_kept(tmp_path: Path, store: Store) -> None:
    back_up(store, ROWS, name="other")
    *_, last, other = ids(store)
    assert "Forgot 1" in run(tmp_path, "forget repo --keep-last 1 --auto-approve")
    assert ids(store) == [last, other]
    assert "Nothing is forgotten." in run(tmp_path, "forget repo --keep-last 1 --auto-approve")


def test_a_prune_waits_for_no_backup_and_says_so(tmp_path: Path, store: Store) -> None:
    with pytest.raises(Killed):
        back_up(MortalStore(store, Life(6)), {"_default": {n: -n for n in range(50)}})
    (pending,) = Repository(store).unfinished()
    assert f"{pending} not finished: the same backup goes on with it" in run(tmp_path, "snapshots repo")
    shown = run(tmp_path, "prune repo", 11)
    assert "a backup is not finished, and needs what it wrote" in shown
    assert "vsync forget repo --unfinished" in shown
    assert f"{pending} not finished" in run(tmp_path, "forget repo --unfinished --auto-approve")
    assert "Removed 1 object " in run(tmp_path, "prune repo")
    assert held(store) == MORE


def test_a_backup_waits_for_no_prune_and_says_so(tmp_path: Path, store: Store) -> None:
    with pytest.raises(Killed):
        back_up(MortalStore(store, Life(0)), ROWS)
    store.put_new(PRUNING, b'{"began": "2026-01-01T00:00:00Z"}')
    shown = run(tmp_path, "prune repo", 11)
    assert "another prune began at 2026-01-01T00:00:00Z" in shown
    assert "vsync prune repo --take-over" in shown
    store.put(PRUNING, b"{")
    assert "this file is damaged repo/prune.json vsync prune repo --take-over" in run(tmp_path, "prune repo", 1)
    run(tmp_path, "prune repo --take-over")
    assert "2 snapshots read" in run(tmp_path, "verify repo")


@pytest.mark.parametrize("moment", ["store.put.before", "store.put.written", "store.put.after"])
@pytest.mark.parametrize("nth", range(1, 7))
def test_a_backup_that_is_given_up_while_it_writes_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, nth: int
) -> None:
    """Between any two things that it does: also when the folder goes in which a file of it is on its way."""
    store = open_store(str(tmp_path / "repo"))
    passed = 0

    def told(name: str) -> None:
        nonlocal passed
        passed += name == moment
        if name == moment and passed == nth + PUT_BEFORE_ROWS:
            repository = Repository(store)
            for pending in repository.unfinished():
                repository.abandon(pending)

    monkeypatch.setattr("vsync.faults._told", told)
    with pytest.raises(StalePlanError, match="was given up, or is finished by another vsync"):
        back_up(store, MORE)
    assert passed >= nth + PUT_BEFORE_ROWS
    assert Repository(store).unfinished() == []
    assert ids(store) == []
    back_up(store, MORE)
    assert held(store) == MORE


def test_a_damaged_mark_of_a_backup_that_is_not_finished_is_named(tmp_path: Path, store: Store) -> None:
    store.put("pending/20260101T000000.000Z-0/head.json", b"")
    shown = run(tmp_path, BACKUP, 1)
    assert "this file is damaged" in shown
    assert "vsync forget" in shown
    assert "--unfinished" in shown
    run(tmp_path, "forget repo --unfinished --auto-approve")
    assert Repository(store).unfinished() == []
