"""The difference of two schemas, for whatever collections hypothesis makes."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsync.errors import UsageError
from vsync.planning.diff import diff
from vsync.planning.steps import CreateCollection, CreateIndex, CreatePartition, Plan
from vsync.schema import Collection, DataType, Field, Index, LiveCollection

NAMES = st.text("abcdefg", min_size=1, max_size=3)
TEXT = st.none() | st.text(max_size=5)


@st.composite
def collections(draw: st.DrawFn) -> Collection:
    """Make a collection with a key, a vector and some more fields; attributes are said or not."""
    others = draw(st.lists(NAMES, max_size=4, unique=True))
    kinds = st.sampled_from([DataType.VARCHAR, DataType.JSON, DataType.INT32, DataType.BOOL])
    more = [
        Field(f"f_{n}", draw(kinds), nullable=draw(st.booleans()), description=draw(TEXT), max_length=draw(LENGTHS))
        for n in others
    ]
    fields = (
        Field("id", DataType.INT64, primary=True, auto_id=draw(st.booleans())),
        Field("vec", DataType.FLOAT_VECTOR, dim=draw(st.integers(1, 9))),
        *more,
    )
    return Collection(
        name="words",
        fields=fields,
        dynamic=draw(st.none() | st.booleans()),
        description=draw(TEXT),
        shards=draw(LENGTHS),
        consistency=draw(st.none() | st.sampled_from(["strong", "bounded"])),
        properties=draw(st.none() | st.dictionaries(NAMES, NAMES, max_size=3).map(lambda d: tuple(sorted(d.items())))),
        partitions=draw(st.none() | st.lists(NAMES, max_size=3, unique=True).map(tuple)),
        indexes=draw(st.none() | st.just((Index("vec", "HNSW", "L2", (("M", "8"),)),))),
    )


LENGTHS = st.none() | st.integers(1, 9)


def same(a: Index, b: Index) -> bool:
    return a == b


def nowhere(*_path: object) -> None:
    """Say no place."""


@given(collections())
def test_a_collection_that_is_as_it_is_wanted_needs_nothing(wanted: Collection) -> None:
    live = LiveCollection(wanted, "id-1", loaded=True, rows=5)
    found = diff(wanted, live, load=True, allow_destroy=False, same_index=same, where=nowhere)
    # AUTOINDEX is for collections that are still to be loaded.
    assert (found.before, found.after, found.changes, found.conflicts) == ((), (), (), ())


@given(collections(), collections())
def test_what_is_not_said_on_one_side_is_no_difference(wanted: Collection, other: Collection) -> None:
    """What the spec leaves out, or the server does not tell, is nobody's business."""
    unsaid = replace(
        wanted,
        dynamic=None,
        description=None,
        shards=None,
        consistency=None,
        properties=None,
        partitions=None,
        indexes=None,
    )
    live = LiveCollection(replace(other, fields=wanted.fields), "id-1", loaded=True, rows=5)
    found = diff(unsaid, live, load=None, allow_destroy=False, same_index=same, where=nowhere)
    assert (found.before, found.after, found.conflicts) == ((), (), ())


@given(collections())
def test_what_is_made_has_all_that_was_wanted(wanted: Collection) -> None:
    made = diff(wanted, None, load=None, allow_destroy=False, same_index=same, where=nowhere)
    steps = [*made.before, *made.after]
    assert steps[0] == CreateCollection("words")
    assert {s.partition for s in steps if isinstance(s, CreatePartition)} == set(wanted.partitions or ())
    indexes = {s.index.field: s.index for s in steps if isinstance(s, CreateIndex)}
    assert indexes == {"vec": (wanted.indexes or (Index("vec", "AUTOINDEX"),))[0]}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format_version": 1}', "null"])
def test_what_is_no_plan_is_said(text: str) -> None:
    with pytest.raises(UsageError, match=r"my\.json (is not a saved plan|has format)"):
        Plan.from_json(text, "my.json")


def test_a_plan_of_another_format_is_refused() -> None:
    with pytest.raises(UsageError, match="has format 99, this vsync reads format 1"):
        Plan.from_json(json.dumps({"format_version": 99}), "p")
