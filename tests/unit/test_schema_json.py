"""Collections as JSON: whatever one holds comes back, from text that any reader of JSON takes."""

from __future__ import annotations

import json
from dataclasses import MISSING, fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsync.schema import Collection, DataType, Field, Function, Index, LiveCollection
from vsync.schema_json import from_json, to_json

TEXT = st.text(max_size=5)
COUNT = st.none() | st.integers(0, 2**63)
FLAG = st.none() | st.booleans()
PAIRS = st.dictionaries(TEXT, TEXT, max_size=3).map(lambda d: tuple(d.items()))
WORDS = st.lists(TEXT, max_size=3).map(tuple)
JSON = st.recursive(TEXT | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=4)
DEFAULTS = st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.binary(max_size=5) | JSON
FIELDS = st.builds(
    Field,
    name=TEXT,
    type=st.sampled_from(DataType),
    primary=st.booleans(),
    auto_id=st.booleans(),
    dim=COUNT,
    max_length=COUNT,
    element=st.none() | st.sampled_from(DataType),
    max_capacity=COUNT,
    nullable=st.booleans(),
    default=DEFAULTS,
    partition_key=st.booleans(),
    clustering_key=st.booleans(),
    description=st.none() | TEXT,
    in_characters=FLAG,
    computed=FLAG,
    params=st.none() | PAIRS,
)
INDEXES = st.builds(Index, field=TEXT, type=st.none() | TEXT, metric=st.none() | TEXT, params=PAIRS)
FUNCTIONS = st.builds(Function, name=TEXT, type=TEXT, inputs=WORDS, outputs=WORDS, params=PAIRS)
COLLECTIONS = st.builds(
    Collection,
    name=TEXT,
    fields=st.lists(FIELDS, max_size=3).map(tuple),
    dynamic=FLAG,
    description=st.none() | TEXT,
    shards=COUNT,
    consistency=st.none() | TEXT,
    num_partitions=COUNT,
    properties=st.none() | PAIRS,
    partitions=st.none() | WORDS,
    indexes=st.none() | st.lists(INDEXES, max_size=2).map(tuple),
    aliases=st.none() | WORDS,
    functions=st.lists(FUNCTIONS, max_size=2).map(tuple),
)
LIVE = st.builds(
    LiveCollection,
    schema=COLLECTIONS,
    id=TEXT,
    loaded=FLAG,
    rows=COUNT,
    partition_rows=st.dictionaries(TEXT, COUNT, max_size=2),
    unread=st.lists(st.tuples(TEXT, TEXT), max_size=2).map(tuple),
)


def through_text(said: dict[str, Any]) -> Any:
    return json.loads(json.dumps(said, allow_nan=False))


@given(COLLECTIONS)
def test_a_collection_comes_back_as_it_was(collection: Collection) -> None:
    # By their text: there nan is nan, and True is not 1.
    assert repr(from_json(Collection, through_text(to_json(collection)))) == repr(collection)


@given(LIVE)
def test_a_live_collection_comes_back_as_it_was(live: LiveCollection) -> None:
    assert repr(from_json(LiveCollection, through_text(to_json(live)))) == repr(live)


def test_every_attribute_is_among_those_that_are_tried() -> None:
    """Whoever adds an attribute that is no JSON by itself learns of it here."""
    everything = (
        Field("f", DataType.ARRAY, True, True, 1, 1, DataType.INT8, 1, True, b"\0", True, True, "d", True, True, ()),  # noqa: FBT003
        Index("f", "HNSW", "L2", (("M", "8"),)),
        Function("bm25", "BM25", ("text",), ("sparse",), (("k", "1"),)),
    )
    field, index, function = everything
    live = LiveCollection(
        Collection("c", (field,), True, "d", 1, "strong", 1, (), ("p",), (index,), ("a",), (function,)),  # noqa: FBT003
        id="7", loaded=True, rows=1, partition_rows={"p": None}, unread=(("f", "what"),),
    )  # fmt: skip
    for one in (*everything, live.schema, live):
        untried = [f.name for f in fields(one) if f.default is not MISSING and getattr(one, f.name) == f.default]
        assert not untried
    assert from_json(LiveCollection, through_text(to_json(live))) == live


def test_what_is_not_said_is_left_out() -> None:
    assert to_json(Collection("c", (Field("id", DataType.INT64, primary=True),))) == {
        "name": "c",
        "fields": [{"name": "id", "type": "int64", "primary": True}],
    }


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ([], "is no Collection"),
        ({"name": "c"}, "fields"),
        ({"name": "c", "fields": [], "colour": "red"}, "Collection has no colour"),
        ({"name": "c", "fields": [{"name": "f", "type": "int128"}]}, "int128"),
        ({"name": "c", "fields": [{"name": "f", "type": "json", "default": {"hex": "00"}}]}, "hex"),
        ({"name": "c", "fields": 7}, "is no Collection"),
    ],
)
def test_what_is_no_collection_is_refused(said: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        from_json(Collection, said)
