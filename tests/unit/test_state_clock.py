"""A clock that jumps: times are shown, rates may be unknown, nothing is decided by them."""

from __future__ import annotations

from contextlib import closing
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import applies
import pytest
from journals import CHUNKS, OUTCOME, TO, begun, wrong

from vsync import api
from vsync.state.lock import locked
from vsync.state.view import View

if TYPE_CHECKING:
    from pathlib import Path

NOON = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)


class Clock:
    """Stands in for the journal's clock; each look is a second later, and it can be set."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> str:
        self.now += timedelta(seconds=1)
        return self.now.isoformat(timespec="milliseconds")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("vsync.state.journal._now", clock)
    return clock


def run_of(state: Path, clock: Clock, jump: timedelta) -> None:
    """Copy one of three chunks, have the clock jump, copy another, and die."""
    with closing(begun(state)) as journal:
        journal.begin_run("t", "plan")
        for n in range(2):
            journal.sent("t", "key", 1, n, session=1, there_mask=None)
            journal.acked("t", "key", 1, n, OUTCOME)
            clock.now += jump


@pytest.mark.parametrize("hours", [-48, -1, 0, 1, 10_000])
def test_a_running_apply_is_shown_whatever_the_clock_does(tmp_path: Path, clock: Clock, hours: int) -> None:
    state = tmp_path / ".vsync" / "vsync.db"
    run_of(state, clock, timedelta(hours=hours))
    with locked(state, "me"):
        seen = api.status(state)
        done = applies.vsync(tmp_path, "status")
    assert seen.running
    assert seen.items[0].done == 2
    assert "66%  20 / 30 rows, 2 / 3 chunks" in done.out
    assert seen.rows_per_second is None or seen.rows_per_second > 0
    assert ("the clock of its machine went back" in done.out) is (hours < 0)
    if hours == 0:
        assert seen.rows_per_second == 20 / 3
        assert seen.eta == 1.5
        assert "7 rows/s   ETA 0:00:02" in done.out
    found = applies.vsync(tmp_path, "state", "doctor")
    assert found.code == 0
    assert (f"the clock went back during run 1: begun {NOON.isoformat()[:10]}" in found.out) is (hours < 0)


def test_nothing_is_decided_by_the_clock(tmp_path: Path, clock: Clock) -> None:
    for hours in (-48, 0, 48):
        state = tmp_path / f"{hours}.db"
        run_of(state, clock, timedelta(hours=hours))
        assert not wrong(state)
        with closing(View(state)) as view:
            facts = view.facts("t")
            assert facts.acked == {"key": {0, 1}}
            assert view.balance("t", TO).written == 2 * OUTCOME.written
            assert view.last_run() is not None
    assert len(CHUNKS) == 3


def test_a_later_run_is_the_last_one_though_its_clock_is_behind(tmp_path: Path, clock: Clock) -> None:
    with closing(begun(tmp_path / "s.db")) as journal:
        journal.end_run(journal.begin_run("t", "first"), 0)
        clock.now -= timedelta(days=400)
        second = journal.begin_run("t", "second")
        last = journal.last_run()
        assert last is not None
        assert last.id == second
        assert last.ended is None
        journal.begin_session("t", TO, "id-1", 5)
        journal.end_session("t", TO, 5)
        journal.end_run(second, 0)
        assert journal.facts("t").sessions["collection.words"].done
        ended = journal.last_run()
    assert ended is not None
    assert not ended.clock_went_back, "each run is compared with itself"
