"""The kinds of check, one destination after the other."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import numpy as np

from vsync.checking.exact import by_key
from vsync.checking.findings import CheckBegan, Compared
from vsync.checking.keyed import KeyedCheck
from vsync.checking.reading import Expected, Held, Rows, place
from vsync.checking.scope import Scope
from vsync.checking.tally import Odd, Tally
from vsync.checking.unkeyed import UnkeyedCheck
from vsync.connectors.base import KeyRange
from vsync.errors import ConflictError, Problem, SourceError
from vsync.rows import arrow_type
from vsync.schema import DataType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from vsync.checking.findings import Finding, How
    from vsync.checking.reading import Keep, Ways
    from vsync.checking.sides import Side
    from vsync.connectors.base import Reader

FETCHED_AT_ONCE = 4_000


@dataclass(frozen=True, slots=True)
class Checks:
    """What is asked of a check: ``sample`` and ``seed`` are the number of rows to draw, and what they are drawn by."""

    how: How = "keys"
    one_way: bool = False
    sample: int = 0
    seed: int = 0


def check_sides(sides: Sequence[Side], ways: Ways, asked: Checks) -> list[Compared]:
    """Compare each destination with its data; every finding is reported as it is made."""
    unkeyed = [side.address for side in sides if not side.keyed]
    if asked.how == "sample" and unkeyed:
        hint = "use --full, which compares rows without their keys, or leave it out: --except ADDR"
        what = "the server makes its keys, so that no row of the source can be asked for"
        raise ConflictError([Problem(f"{address}: {what}", None, hint) for address in unkeyed])
    return [_check(side, ways, asked) for side in sides]


def _check(side: Side, ways: Ways, asked: Checks) -> Compared:
    # Rows whose keys the server made have nothing else in common with those of the source than their values.
    how: How = "content" if asked.how == "keys" and not side.keyed else asked.how
    if side.session is not None and side.session.skipped:
        done = Compared(side.address, how, 0, 0, left_out="it held rows when it was first planned: skipped")
        ways.report(done)
        return done
    tally = Tally(side.address, how, asked.one_way, ways.report)
    expected = Expected(side, ways)
    until = time.monotonic() + _unsettled(side, ways.target.settling)
    tally.target = _counted(side, ways, until)
    if side.scope is not None:
        within = ways.call(_reader(side, ways).count, KeyRange())
        tally.outside, tally.target = tally.target - within, within
        tally.mark = Scope.of(side, ways).mark
    if how == "counts":
        tally.source = _count(expected)
    else:
        held = Held(side, ways, _reader(side, ways), until)
        if how == "sample":
            _sample(expected, held, tally, asked)
        elif side.keyed:
            KeyedCheck(expected, held, side.fields if how == "content" else (), tally).run(tally.target)
        else:
            UnkeyedCheck(expected, held, side.fields, tally).run(tally.target)
    done = tally.compared()
    ways.report(done)
    return done


def _unsettled(side: Side, settling: float) -> float:
    """For how many seconds the target may still count old copies of the rows that the last apply replaced."""
    ended = side.session.ended if side.session is not None and side.keyed else None
    if ended is None:
        return 0.0
    age = (datetime.now(timezone.utc) - datetime.fromisoformat(ended)).total_seconds()
    return max(0.0, settling - age) if age >= 0 else 0.0


def _counted(side: Side, ways: Ways, until: float) -> int:
    """Count the destination, and again while there is more than the last apply left there and old copies may be."""

    def count() -> int:
        return ways.call(ways.target.count, side.collection.name, side.partition) or 0

    left = side.session.left if side.session is not None else None
    if left is None:
        return count()
    return ways.settled(count(), count, lambda rows: rows - left, side.address, until - time.monotonic())


def _reader(side: Side, ways: Ways) -> Reader:
    """Open what the destination holds, of the rows that the data is about."""
    if side.scope is None:
        return ways.target.reader(side.collection, side.partition)
    try:
        return ways.target.source(side.collection.name, side.partition, where=side.scope).reader
    except SourceError as error:
        wrong = [Problem(f"scope of {side.address}: {p.what}", side.scope_at, p.hint) for p in error.problems]
        raise SourceError(wrong) from error


def _count(expected: Expected) -> int:
    """Count the rows that should be there: those that did not fit are known by looking at all."""
    if not expected.side.skips:
        return expected.side.rows
    return sum(len(expected.read(chunk, ())[1]) for chunk in expected.chunks())


def _sample(expected: Expected, held: Held, tally: Tally, asked: Checks) -> None:
    """Draw rows of the source, and compare them with what the target gives under their keys."""
    side, chunks = expected.side, expected.chunks()
    starts = np.cumsum([0, *(chunk.hi - chunk.lo for chunk in chunks)])
    total = int(starts[-1])
    drawn = np.sort(np.random.default_rng(asked.seed).choice(total, min(asked.sample, total), replace=False))
    held.ways.report(CheckBegan(side.address, 2 * len(drawn)))
    none = Rows.none(arrow_type(side.collection.primary), len(side.fields))
    waiting = [none]
    for chunk, start, end in zip(chunks, starts, starts[1:], strict=False):
        rows = drawn[np.searchsorted(drawn, start) : np.searchsorted(drawn, end)] - start + chunk.lo
        if len(rows):
            within = chunk.part(int(rows[0]), int(rows[-1]) + 1)
            waiting.append(expected.rows(within, side.fields, _only(rows)))
        if sum(len(w.places) for w in waiting) < FETCHED_AT_ONCE and chunk != chunks[-1]:
            continue
        source, waiting = Rows.joined(waiting), [none]
        tally.source += len(source.places)
        tally.tell(_compared(expected, held, source))


def _compared(expected: Expected, held: Held, source: Rows) -> list[Finding]:
    """Compare rows with those that the target gives under their keys."""
    side = expected.side
    none = Rows.none(source.keys.type, len(side.fields))
    target = Rows.joined([none, *held.readable(source.keys, side.fields)])
    odd = {key: Odd("!", why) for key, why in held.unreadable.items()}
    held.unreadable.clear()
    found = by_key(expected, source, target, side.fields, odd)
    changed = [f for f in found if f.symbol == "*"]
    if not changed or len(source.places) == 1 or not any(f.type is DataType.ARRAY for f in side.fields):
        return found
    # Where a key is doubled, Milvus 2.3.5 gives arrays with the rows before them: each that differs is asked for alone.
    alone = [source.only(source.places == place(f.unit, f.row)) for f in changed]
    return [f for f in found if f.symbol != "*"] + [f for one in alone for f in _compared(expected, held, one)]


def _only(rows: NDArray[np.int64]) -> Keep:
    return lambda _keys, numbers: np.isin(numbers, rows)
