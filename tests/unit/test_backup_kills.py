"""A repository whose writer dies before and after each write there is: nothing that was sealed is lost."""

from __future__ import annotations

import json
from itertools import count
from typing import TYPE_CHECKING, Any

import backups
import pytest
from backups import NAME, Killed, Life, MortalStore, back_up, held

from vsync.connectors.backup.keepers import BackupKeeper
from vsync.connectors.backup.objects import name_of
from vsync.connectors.backup.repository import PRUNING, Repository
from vsync.connectors.backup.store import Store, open_store
from vsync.connectors.backup.upkeep import prune, verify
from vsync.connectors.runs.target import RunsTarget
from vsync.errors import LockedError, StalePlanError, TransientError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FIRST = {"_default": {n: n for n in range(15)}, "rare": {n: -n for n in range(100, 105)}}
SECOND = {"_default": {n: n + (n == 3) for n in range(20)}, "rare": FIRST["rare"]}
THIRD = {"_default": {n: n + (n == 3) + (n == 12) for n in range(20)}, "rare": FIRST["rare"]}


def whole(store: Store) -> list[str]:
    """List the snapshots, each of which is what was written."""
    repository = Repository(store)
    ids = repository.snapshot_ids()
    damaged, _ = verify(repository, [repository.manifest(one) for one in ids], lambda _read, _of: None)
    assert damaged == []
    return ids


def objects(store: Store) -> set[str]:
    return {found.name for found in store.list("objects")}


def needed(store: Store) -> set[str]:
    return {name_of(digest) for digest, _ in Repository(store).used()}


def killed_everywhere(
    folder: Path, before: Callable[[Store], object], do: Callable[[Store], object], after: Callable[[Store], object]
) -> int:
    """Kill ``do`` at each of its moments, each time in a repository of its own; then look. Gives how many there are."""
    for moments in count():
        store = open_store(str(folder / str(moments)))
        before(store)
        try:
            do(MortalStore(store, Life(moments)))
        except Killed:
            after(store)
        else:
            return moments
    raise AssertionError


def test_a_backup_that_dies_at_any_moment_is_no_snapshot_and_the_next_completes_it(tmp_path: Path) -> None:
    sealed: set[int] = set()

    def goes_on(store: Store) -> None:
        ids = whole(store)
        sealed.add(len(ids))
        if len(ids) == 2:
            assert held(store) == SECOND, "listed, and so whole"
        else:
            assert held(store) == FIRST
            back_up(store, SECOND)
        assert held(store) == SECOND
        assert held(store, whole(store)[0]) == FIRST
        back_up(store, THIRD)
        assert len(whole(store)) == 3
        assert held(store) == THIRD
        assert (Repository(store).unfinished(), prune(Repository(store)).removed) == ([], 0), "all are needed"

    moments = killed_everywhere(
        tmp_path, lambda store: back_up(store, FIRST), lambda store: back_up(store, SECOND), goes_on
    )
    assert (moments > 15, sealed) == (True, {1, 2})


def test_a_backup_of_a_new_repository_may_die_too(tmp_path: Path) -> None:
    def goes_on(store: Store) -> None:
        if not Repository(store).there or not whole(store):
            back_up(store, FIRST)
        assert held(store) == FIRST

    assert killed_everywhere(tmp_path, lambda _: None, lambda store: back_up(store, FIRST), goes_on) > 15


def three_and_forget_two(store: Store) -> None:
    for rows in (FIRST, SECOND, THIRD):
        back_up(store, rows)
    for one in Repository(store).snapshot_ids()[:2]:
        Repository(store).forget(one)
    assert objects(store) > needed(store)


def test_a_prune_that_dies_at_any_moment_harms_no_snapshot_and_the_next_completes_it(tmp_path: Path) -> None:
    def goes_on(store: Store) -> None:
        assert held(store) == THIRD
        assert len(whole(store)) == 1
        if store.size(PRUNING) is not None:
            with pytest.raises(LockedError, match=r"vsync prune .* --take-over"):
                prune(Repository(store))
            with pytest.raises(LockedError, match="the repository is being pruned"):
                back_up(store, FIRST)
            assert Repository(store).unfinished() == [], "a backup that may not begin leaves nothing"
            prune(Repository(store), take_over=True)
        else:
            prune(Repository(store))
        assert objects(store) == needed(store)
        assert held(store) == THIRD
        back_up(store, FIRST)
        assert (held(store), len(whole(store))) == (FIRST, 2)

    assert killed_everywhere(tmp_path, three_and_forget_two, lambda s: prune(Repository(s)), goes_on) > 5


def test_half_a_file_of_one_who_was_killed_is_swept_by_the_next_prune(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    back_up(store, FIRST)
    half = next((tmp_path / "objects").iterdir()) / ".0123456789abcdef.new"
    half.write_bytes(b"half")
    assert len(whole(store)) == 1
    prune(Repository(store))
    assert not half.exists()


def test_a_backup_that_is_not_finished_keeps_what_it_wrote_from_a_prune(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    with pytest.raises(Killed):
        back_up(MortalStore(store, Life(15)), FIRST)
    wrote = objects(store)
    assert wrote
    with pytest.raises(LockedError, match=r"a backup is not finished.*vsync forget .* --unfinished"):
        prune(Repository(store))
    assert objects(store) == wrote
    (pending,) = Repository(store).unfinished()
    Repository(store).abandon(pending)
    assert prune(Repository(store)).removed == len(wrote)
    assert objects(store) == set()


@pytest.mark.parametrize("moment", range(1, 28))
def test_of_two_backups_of_one_thing_the_later_goes_on_and_the_other_is_told(tmp_path: Path, moment: int) -> None:
    """The other comes in at every moment of the first one."""
    store = open_store(str(tmp_path))
    moments = count(1)

    def another() -> None:
        if next(moments) == moment:
            back_up(store, SECOND)

    try:
        back_up(MortalStore(store, another), SECOND)
    except StalePlanError as error:
        assert "another vsync goes on with this backup" in str(error) or "was given up" in str(error)  # noqa: PT017
    assert held(store) == SECOND
    for one in whole(store):
        assert held(store, one) == SECOND
    back_up(store, THIRD)
    assert (held(store), Repository(store).unfinished()) == (THIRD, [])


def test_what_was_found_and_is_finished_by_another_meanwhile_is_not_begun_again(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    with pytest.raises(Killed):
        back_up(MortalStore(store, Life(12)), FIRST)
    late = RunsTarget(BackupKeeper(Repository(store), "source"))
    assert late.collections() == [NAME]
    back_up(store, FIRST)
    with pytest.raises(StalePlanError, match="finished by another vsync"):
        late.set_properties(NAME, {"a": "b"})
    assert (len(whole(store)), held(store), Repository(store).unfinished()) == (1, FIRST, [])


def test_a_store_that_fails_for_a_moment_at_any_write_is_asked_again(tmp_path: Path) -> None:
    """Before the write, and after it: then it was carried out, and nobody heard of it."""
    for moment in count(1):
        store = open_store(str(tmp_path / str(moment)))
        back_up(store, FIRST)
        moments = count(1)

        def fails(moments: Iterator[int] = moments, moment: int = moment) -> None:
            if next(moments) == moment:
                raise TransientError("the server is away")

        def again(function: Callable[..., Any], *args: Any) -> Any:
            try:
                return function(*args)
            except TransientError:
                return function(*args)

        back_up(MortalStore(store, fails), SECOND, call=again)
        assert (held(store), len(whole(store))) == (SECOND, 2)
        assert Repository(store).unfinished() == []
        back_up(store, THIRD)
        assert held(store) == THIRD
        if next(moments) < moment:
            break
    assert moment > 15


def test_two_backups_of_different_things_do_not_meet(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    did: list[str] = []

    def another() -> None:
        if not did:
            did.append("it")
            back_up(store, FIRST, name="other")

    back_up(MortalStore(store, another), FIRST)
    assert sorted(Repository(store).manifest(one).name for one in whole(store)) == ["other", "source"]
    assert len(objects(store)) == len(needed(store)), "and store what both have once"


def test_an_unchanged_thing_costs_a_manifest(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    back_up(store, FIRST)
    before = {found.name for prefix in ("objects", "snapshots", "pending") for found in store.list(prefix)}
    back_up(store, FIRST)
    after = {found.name for prefix in ("objects", "snapshots", "pending") for found in store.list(prefix)}
    (new,) = after - before
    assert (new.startswith("snapshots/"), before - after) == (True, set())
    assert json.loads(store.get(new))["format_version"] == 1


def test_rows_that_came_behind_the_last_are_objects_of_their_own(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    back_up(store, FIRST)
    before = objects(store)
    more = {**FIRST, "_default": {**FIRST["_default"], **{n: n for n in range(200, 200 + backups.CHUNK)}}}
    back_up(store, more)
    assert len(objects(store) - before) == 1
    assert held(store) == more
