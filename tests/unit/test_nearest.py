"""What a server makes of a collection of another one: each thing that it does not hold is changed, and named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from vsync.connectors.milvus import describe
from vsync.connectors.milvus.capabilities import Server, server_of
from vsync.connectors.milvus.conflicts import conflicts
from vsync.connectors.milvus.nearest import nearest
from vsync.connectors.milvus.wire import milvus_pb2, schema_pb2
from vsync.schema import Collection, DataType, Field, Function, Index

LITE, MILVUS, OLD = server_of("milvus_lite-3.2.2"), server_of("v2.3.5"), server_of(None)
NEW = server_of("v2.6.0")
KEY = Field("id", DataType.INT64, primary=True)
VECTOR = Field("v", DataType.FLOAT_VECTOR, dim=4)
TEXT = Field("text", DataType.VARCHAR, max_length=10, params=(("enable_analyzer", "true"),))
WORDS = Field("words", DataType.SPARSE_FLOAT_VECTOR, computed=True)
BM25 = Function("f", "BM25", ("text",), ("words",))


def of(*fields: Field, **more: Any) -> Collection:
    return Collection("c", (KEY, VECTOR, *fields), **more)


def made(desired: Collection, server: Server, fixed: frozenset[str] = frozenset()) -> tuple[Collection, list[str]]:
    """Give the nearest collection, and the ledger as text; harmful lines end with an exclamation mark."""
    found, losses = nearest(desired, server, fixed)
    return found, [f"{loss.verdict} {loss.address}{'!' if loss.harmful else ''}" for loss in losses]


FIELDS = [
    (MILVUS, Field("x", DataType.INT16, nullable=True), Field("x", DataType.INT16), "lost"),
    (OLD, Field("x", DataType.INT16, default=7), Field("x", DataType.INT16), "lost"),
    (MILVUS, Field("x", DataType.INT16, default=7), Field("x", DataType.INT16, default=7), None),
    (LITE, Field("x", DataType.INT16, clustering_key=True), Field("x", DataType.INT16), "lost"),
    (OLD, Field("x", DataType.INT64, partition_key=True), Field("x", DataType.INT64), "lost"),
    (LITE, Field("x", DataType.BINARY_VECTOR, dim=8), None, "lost"),
    (MILVUS, Field("x", DataType.FLOAT_VECTOR, dim=8), None, "lost"),
    (LITE, Field("x", DataType.JSON), Field("x", DataType.JSON), "converted"),
    (MILVUS, Field("x", DataType.JSON), Field("x", DataType.JSON), None),
]


@pytest.mark.parametrize(("server", "field", "expected", "verdict"), FIELDS)
def test_a_field_is_changed_or_left_out(
    server: Server, field: Field, expected: Field | None, verdict: str | None
) -> None:
    found, ledger = made(of(field), server)
    assert found.field("x") == expected
    assert ledger == ([] if verdict is None else [f"{verdict} collection.c.field.x{'!' * (verdict == 'lost')}"])
    assert not conflicts(found, server)


@pytest.mark.parametrize(("characters", "expected"), [(10, 40), (16_383, 65_532), (16_384, 65_535), (65_535, 65_535)])
def test_characters_become_bytes_where_the_server_counts_those(characters: int, expected: int) -> None:
    text = Field("x", DataType.VARCHAR, max_length=characters, in_characters=True)
    found, ledger = made(of(text), MILVUS)
    assert found.field("x") == replace(text, max_length=expected, in_characters=None)
    assert ledger == ["converted collection.c.field.x"]
    assert made(of(text), LITE) == (of(text), [])


def test_elements_of_a_length_that_is_not_told_may_be_as_long_as_can_be() -> None:
    words = Field("x", DataType.ARRAY, element=DataType.VARCHAR, max_capacity=4, in_characters=True)
    found, ledger = made(of(words), LITE)
    assert found.field("x") == replace(words, max_length=65_535, in_characters=None)
    assert ledger == ["converted collection.c.field.x"]


INDEXES = [
    (LITE, Index("v", "DISKANN", "L2", (("search_list", "9"),)), Index("v", "AUTOINDEX", "L2"), "converted"),
    (MILVUS, Index("v", "HNSW", "L2"), Index("v", "AUTOINDEX", "L2"), "converted"),
    (MILVUS, Index("v", "AUTOINDEX", "IP", (("M", "18"),)), Index("v", "AUTOINDEX", "IP"), None),
    (OLD, Index("v", "HNSW", "COSINE", (("M", "8"),)), Index("v", "AUTOINDEX", "COSINE"), "converted"),
    (NEW, Index("v", "HNSW", "COSINE", (("M", "8"),)), Index("v", "HNSW", "COSINE", (("M", "8"),)), None),
    (LITE, Index("v", "FLAT", "MAX_SIM"), Index("v", "FLAT"), "lost!"),
    (LITE, Index("n", "STL_SORT"), Index("n", "INVERTED"), "converted"),
    (MILVUS, Index("n", "INVERTED"), Index("n", None), "converted"),
    (LITE, Index("j", "INVERTED"), None, "lost"),
    (LITE, Index("gone", "FLAT"), None, None),
]


@pytest.mark.parametrize(("server", "index", "expected", "verdict"), INDEXES)
def test_an_index_is_the_nearest_that_there_is(
    server: Server, index: Index, expected: Index | None, verdict: str | None
) -> None:
    desired = of(Field("n", DataType.INT64), Field("j", DataType.JSON), indexes=(index,))
    found, ledger = made(desired, server)
    assert found.indexes == (None if expected is None else (expected,))
    ledger = [line.replace(" collection.c.index." + index.field, "") for line in ledger if ".field.j" not in line]
    assert ledger == ([] if verdict is None else [verdict])
    assert not conflicts(found, server)


def test_what_a_function_computes_is_computed_again_or_left_out_with_its_index() -> None:
    desired = of(TEXT, WORDS, functions=(BM25,), indexes=(Index("words", "SPARSE_INVERTED_INDEX", "BM25"),))
    found, ledger = made(desired, LITE)
    assert found == desired
    assert ledger == ["converted collection.c.field.words"]
    assert [f.name for f in found.columns] == ["id", "v", "text"]

    found, ledger = made(desired, MILVUS)
    assert (found.functions, found.field("words"), found.indexes) == ((), None, None)
    assert found.field("text") == replace(TEXT, params=None)
    assert ledger == ["lost collection.c.field.text!", "lost collection.c.field.words!"]

    untold, ledger = made(replace(desired, functions=()), LITE)
    assert untold.field("words") is None
    assert ledger == ["lost collection.c.field.words!"]


def test_an_analyzer_that_is_not_there_is_named() -> None:
    params = '{"tokenizer":"standard","filter":["lowercase",{"type":"stemmer"}]}'
    english = (("analyzer_params", params), ("enable_analyzer", "true"))
    found, losses = nearest(of(replace(TEXT, params=english)), LITE, frozenset())
    assert found.field("text") == TEXT
    assert [(loss.verdict, loss.harmful) for loss in losses] == [("lost", True)]
    assert "there is no stemmer" in losses[0].what
    assert "Milvus Lite 3.2.2" in losses[0].what


def test_what_the_spec_itself_says_stays_and_is_a_conflict() -> None:
    desired = of(
        Field("x", DataType.INT16, nullable=True, description="of it"),
        indexes=(Index("v", "HNSW"),),
        aliases=("a",),
        partitions=("p",),
        properties=(("k", "v"),),
        shards=2,
    )
    said = frozenset(Collection.__dataclass_fields__)
    assert made(desired, MILVUS, said) == (desired, [])
    assert conflicts(desired, MILVUS)
    assert made(desired, LITE, said) == (desired, ["lost collection.c.field.x", "lost collection.c"])
    found, ledger = made(desired, OLD)
    assert (found.aliases, found.partitions, found.properties) == (None, None, None)
    assert {"lost alias.a!", "lost collection.c.partition.p!", "lost collection.c!"} < set(ledger)
    assert not conflicts(found, OLD)


def test_fields_of_unknown_types_are_named_and_left_out() -> None:
    schema = schema_pb2.CollectionSchema(name="c")
    schema.fields.add(name="id", data_type=schema_pb2.DataType.Int64, is_primary_key=True)
    schema.fields.add(name="odd", data_type=7)
    schema.fields.add(name="list", data_type=schema_pb2.DataType.Array, element_type=schema_pb2.DataType.Struct)
    schema.struct_array_fields.add(name="parts").fields.add(name="price", data_type=schema_pb2.DataType.Array)
    answer = milvus_pb2.DescribeCollectionResponse(schema=schema)
    assert [f.name for f in describe.read_collection(answer, NEW.holds, (), ()).fields] == ["id"]
    assert describe.unread(answer) == (
        ("odd", "a field of Milvus's type number 7"),
        ("list", "a field of Milvus's type Array of Struct"),
        ("parts", "an array of structs of price"),
    )
