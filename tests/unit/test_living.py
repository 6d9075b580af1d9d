"""What of a collection is missing on the target, and what was there before the first attempt: against plain sets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsync.applying import there
from vsync.observing.living import Merged, missing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vsync.connectors.base import Bounds, Key

INTS = st.integers(-(2**63), 2**63 - 1) | st.integers(-9, 9)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=3)
EDGES = {0, 2, 5}
"""Where empty blocks are put between the others."""


def ascending(keys: set[Any]) -> list[Any]:
    return sorted(keys, key=lambda key: key.encode() if isinstance(key, str) else key)


def blocks(keys: Sequence[Any], sizes: Sequence[int], kind: pa.DataType, *, empty: bool) -> Iterator[pa.Array]:
    at = n = 0
    while at < len(keys) or (empty and n in EDGES):
        if empty and n in EDGES:
            yield pa.array([], kind)
        size = sizes[n % len(sizes)]
        if at < len(keys):
            yield pa.array(keys[at : at + size], kind)
        at, n = at + size, n + 1


def inside(key: Any, bounds: Bounds) -> bool:
    assert bounds.keys is not None
    lo, hi = (k.encode() if isinstance(k, str) else k for k in (bounds.keys.lo, bounds.keys.hi))
    key = key.encode() if isinstance(key, str) else key
    return lo <= key and (hi is None or key < hi)


SIZES = st.lists(st.integers(1, 7), min_size=1, max_size=4)


@given(
    sides=st.one_of(
        st.tuples(st.sets(INTS, max_size=40), st.sets(INTS, max_size=40), st.just(pa.int64())),
        st.tuples(st.sets(TEXTS, max_size=40), st.sets(TEXTS, max_size=40), st.just(pa.string())),
    ),
    shared=st.integers(0, 40),
    sizes=st.tuples(SIZES, SIZES),
    step=st.integers(1, 9),
    empty=st.booleans(),
)
def test_every_missing_key_is_in_one_chunk_and_no_chunk_spans_too_many_rows(
    sides: tuple[set[Key], set[Key], pa.DataType],
    shared: int,
    sizes: tuple[list[int], list[int]],
    step: int,
    empty: bool,  # noqa: FBT001 - hypothesis gives it by name
) -> None:
    ours, theirs, kind = sides
    theirs = theirs | set(ascending(ours)[:shared])
    source, target = ascending(ours), ascending(theirs)
    cut = list(
        missing(blocks(source, sizes[0], kind, empty=empty), Merged(blocks(target, sizes[1], kind, empty=empty)), step)
    )

    gone = [key for key in source if key not in theirs]
    assert [[key for key in gone if inside(key, b)] for b in cut] == [gone[b.lo : b.hi] for b in cut]
    assert [n for b in cut for n in range(b.lo, b.hi)] == list(range(len(gone))), "numbered one after the other"
    assert all(b.rows for b in cut)
    assert all(len([key for key in source if inside(key, b)]) <= step for b in cut), "read at once"
    ends = [b.keys.hi for b in cut if b.keys is not None]
    assert None not in ends[:-1]
    if gone:
        rest = len(source) - source.index(gone[cut[-1].lo])
        assert (ends[-1] is None) == (rest <= step), "what is added behind comes along, where that is near"


@pytest.mark.parametrize(
    ("kind", "keys"), [(pa.int64(), st.integers(0, 30)), (pa.string(), st.text("aé😀", max_size=3))]
)
def test_a_key_is_asked_for_once_however_the_rows_of_a_collection_change(
    kind: pa.DataType, keys: st.SearchStrategy[Any]
) -> None:
    @given(attempts=st.lists(st.sets(keys), min_size=1, max_size=4), held=st.sets(keys))
    def holds(attempts: list[set[Any]], held: set[Any]) -> None:
        known: bytes | None = None
        before, asked, on_target = set(held), list[Any](), set(held)

        def ask(those: pa.Array) -> pa.BooleanArray:
            asked.extend(those.to_pylist())
            return pa.array([key in on_target for key in those.to_pylist()], pa.bool_())

        for rows in attempts:
            now = pa.array(ascending(rows), kind)
            known, mask = there.of_collection(known, now, ask)
            assert mask.tolist() == [key in before for key in now.to_pylist()]
            on_target |= rows  # the attempt lands, though nobody hears of it
        assert len(asked) == len(set(asked))
        assert set(asked) == set().union(*attempts)

    holds()


def test_rows_of_a_file_are_asked_for_once() -> None:
    keys = pa.array(range(9))
    known, mask = there.of_file(None, keys, lambda those: pa.array([k % 3 == 0 for k in those.to_pylist()]))
    again, same = there.of_file(known, keys, lambda _: pytest.fail("asked again"))
    assert (again, same.tolist()) == (known, mask.tolist())
    assert mask.tolist() == [k % 3 == 0 for k in range(9)]
