"""Collections on the three servers: what is created is described, and what cannot be held is named."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from chaos.trial import LEFT_OVER
from conftest import Endpoint
from milvus_rows import EVERYWHERE, KEY, VECTOR, make, opened, rows, send

from vsync.errors import TargetError
from vsync.schema import Collection, DataType, Field, Index

if TYPE_CHECKING:
    from pathlib import Path

    from vsync.connectors.milvus.target import MilvusTarget

PARTITION_KEY = Field("tenant", DataType.VARCHAR, max_length=32, partition_key=True)
ANN = Index("v", "HNSW", "L2", (("M", "8"), ("efConstruction", "64")))
PLAIN = Collection("c", (KEY, VECTOR), indexes=(Index("v"),))

DECLARED = {
    "every type": Collection("c", EVERYWHERE),
    "defaults": Collection(
        "c",
        (
            KEY,
            VECTOR,
            Field("i8", DataType.INT8, default=-3),
            Field("i64", DataType.INT64, default=2**62),
            Field("f", DataType.FLOAT, default=1.1),
            Field("d", DataType.DOUBLE, default=1.1),
            Field("b", DataType.BOOL, default=True),
            Field("s", DataType.VARCHAR, max_length=64, default="né"),
        ),
    ),
    "nullable": Collection("c", (KEY, VECTOR, Field("s", DataType.VARCHAR, max_length=64, nullable=True))),
    "descriptions": Collection(
        "c", (dataclasses.replace(KEY, description="the key"), VECTOR), description="what it is"
    ),
    "layout": Collection("c", (KEY, VECTOR), shards=2, consistency="session"),
    "properties": Collection("c", (KEY, VECTOR), properties=(("collection.ttl.seconds", "86400"),)),
    "dynamic": Collection("c", (KEY, VECTOR), dynamic=True),
    "varchar key": Collection("c", (Field("id", DataType.VARCHAR, primary=True, max_length=64), VECTOR)),
    "auto_id": Collection("c", (Field("id", DataType.INT64, primary=True, auto_id=True), VECTOR)),
    "auto_id varchar": Collection(
        "c", (Field("id", DataType.VARCHAR, primary=True, auto_id=True, max_length=64), VECTOR)
    ),
    "partition key": Collection("c", (KEY, VECTOR, PARTITION_KEY)),
    "partition key in 4": Collection("c", (KEY, VECTOR, PARTITION_KEY), num_partitions=4),
    "clustering key": Collection("c", (KEY, VECTOR, Field("n", DataType.INT64, clustering_key=True))),
    "two vectors": Collection("c", (KEY, VECTOR, Field("w", DataType.FLOAT_VECTOR, dim=8))),
    **{
        kind.value: Collection("c", (KEY, Field("v", kind, dim=None if kind.value.startswith("sparse") else 16)))
        for kind in DataType
        if kind.is_vector
    },
}

REFUSED = {
    "lite": {
        "auto_id varchar",
        "clustering key",
        "binary_vector",
        "float16_vector",
        "bfloat16_vector",
        "int8_vector",
    },
    "milvus-2.3.5": {
        "nullable",
        "clustering key",
        "two vectors",
        "float16_vector",
        "bfloat16_vector",
        "int8_vector",
        "sparse_float_vector",
    },
}
REFUSED["lite-server"] = REFUSED["lite"]


def said(desired: Collection, live: Collection) -> bool:
    """Compare what both sides say, as a plan does."""
    for name in (f.name for f in dataclasses.fields(Collection) if f.name not in {"fields", "indexes"}):
        wanted, got = getattr(desired, name), getattr(live, name)
        assert None in (wanted, got) or wanted == got, name
    assert [f.name for f in live.fields] == [f.name for f in desired.fields]
    for field in desired.fields:
        got_field = live.field(field.name)
        for name in (f.name for f in dataclasses.fields(Field)):
            wanted, got = getattr(field, name), getattr(got_field, name)
            assert None in (wanted, got) or wanted == got, f"{field.name}.{name}"
    return True


@pytest.mark.parametrize("what", DECLARED)
def test_what_is_created_is_described_or_it_is_a_conflict(target: Endpoint, what: str) -> None:
    desired = DECLARED[what]
    with opened(target) as milvus:
        conflicts = milvus.conflicts(desired)
        assert bool(conflicts) == (what in REFUSED[target.kind]), conflicts
        if conflicts:
            return
        milvus.create_collection(desired)
        live = milvus.observe(["c"])["c"]
        assert said(desired, live.schema)
        milvus.create_collection(desired)  # looks, and finds it
        assert milvus.observe(["c"])["c"].id == live.id
        milvus.drop_collection("c")
        assert milvus.observe(["c"]) == {}
        milvus.create_collection(desired)
        assert milvus.observe(["c"])["c"].id != live.id


def test_a_loss_is_refused_and_named(target: Endpoint) -> None:
    lossy = DECLARED["clustering key"]  # every one of the three drops the flag, whatever the plan said of it
    with (
        opened(target) as milvus,
        pytest.raises(TargetError, match="field n: clustering_key is False, not True"),
    ):
        milvus.create_collection(lossy)


def test_a_collection_that_is_there_and_differs_is_refused(target: Endpoint) -> None:
    with opened(target) as milvus:
        milvus.create_collection(PLAIN)
        other = dataclasses.replace(PLAIN, fields=(KEY, dataclasses.replace(VECTOR, dim=8)))
        with pytest.raises(TargetError, match="field v: dim is 4, not 8"):
            milvus.create_collection(other)


def indexes_of(milvus: MilvusTarget) -> tuple[Index, ...]:
    return milvus.observe(["c"], count=False)["c"].schema.indexes or ()


def test_indexes_are_built_described_and_dropped(target: Endpoint) -> None:
    scalar = {"milvus-2.3.5": Index("s", "Trie")}.get(target.kind, Index("s", "INVERTED"))
    fields = (KEY, VECTOR, Field("s", DataType.VARCHAR, max_length=64))
    desired = Collection("c", fields, indexes=(scalar, ANN))
    with opened(target) as milvus:
        assert milvus.conflicts(desired) == []
        milvus.create_collection(desired)
        send(milvus, desired, rows(desired, pa.array(range(300))))
        percents: list[int] = []
        for index in desired.indexes or ():
            milvus.create_index("c", index, percents.append)
            milvus.create_index("c", index, percents.append)
        milvus.load("c", percents.append)
        assert percents[-1] == 100
        live = indexes_of(milvus)
        assert live == desired.indexes
        assert milvus.same(Index("v", "HNSW"), live[1])
        assert milvus.same(Index("v", "AUTOINDEX"), live[1])
        assert not milvus.same(Index("v", "HNSW", "IP"), live[1])
        assert not milvus.same(Index("v", "HNSW", "L2", (("M", "16"),)), live[1])
        milvus.drop_index("c", "v")
        milvus.drop_index("c", "v")
        assert indexes_of(milvus) == (scalar,)


@pytest.mark.parametrize("kind", [DataType.BINARY_VECTOR, DataType.SPARSE_FLOAT_VECTOR])
def test_an_index_that_is_not_declared_suits_the_vector(target: Endpoint, kind: DataType) -> None:
    desired = Collection("c", (KEY, Field("v", kind, dim=16 if kind is DataType.BINARY_VECTOR else None)))
    with opened(target) as milvus:
        if milvus.conflicts(desired):
            return
        milvus.create_collection(desired)
        assert send(milvus, desired, rows(desired, pa.array(range(200)))) == 200
        milvus.create_index("c", Index("v", "AUTOINDEX"), lambda _percent: None)
        milvus.load("c", lambda _percent: None)
        assert milvus.count("c", None) == 200
        assert [milvus.same(Index("v", "AUTOINDEX"), index) for index in indexes_of(milvus)] == [True]


@pytest.mark.parametrize(
    ("index", "servers"),
    [
        (Index("v", "HNSW_SQ"), {"milvus-2.3.5"}),
        (Index("v", "DISKANN"), {"lite", "lite-server"}),
        (Index("v", "HNSW", "HAMMING"), {"lite", "lite-server", "milvus-2.3.5"}),
        (Index("v", "AUTOINDEX", None, (("M", "8"),)), {"milvus-2.3.5"}),
        (Index("id", "INVERTED"), {"milvus-2.3.5"}),
        (Index("id", None, "L2"), {"lite", "lite-server", "milvus-2.3.5"}),
        (Index("nowhere"), {"lite", "lite-server", "milvus-2.3.5"}),
        (ANN, set()),
    ],
)
def test_indexes_that_a_server_has_not_are_conflicts(target: Endpoint, index: Index, servers: set[str]) -> None:
    with opened(target) as milvus:
        found = milvus.conflicts(dataclasses.replace(PLAIN, indexes=(index,)))
    assert [p.where for p in found] == [f"collection.c.index.{index.field}"] * (target.kind in servers)


def test_aliases_move_and_are_no_collections(target: Endpoint) -> None:
    with opened(target) as milvus:
        milvus.create_collection(PLAIN)
        milvus.create_collection(dataclasses.replace(PLAIN, name="d"))
        milvus.set_alias("a", "c")
        milvus.set_alias("a", "c")
        assert milvus.aliases() == {"a": "c"}
        milvus.set_alias("a", "d")
        assert milvus.aliases() == {"a": "d"}
        assert list(milvus.observe(["a", "c"])) == ["c"]
        with pytest.raises(TargetError, match="a is the name of an alias"):
            milvus.create_collection(dataclasses.replace(PLAIN, name="a"))
        milvus.drop_collection("a")
        assert list(milvus.observe(["c", "d"])) == ["c", "d"]
        milvus.drop_collection("d")
        assert (milvus.aliases(), milvus.collections()) == ({}, ["c"])


def test_properties_are_set_one_by_one(target: Endpoint) -> None:
    with opened(target) as milvus:
        milvus.create_collection(dataclasses.replace(PLAIN, properties=(("collection.ttl.seconds", "60"),)))
        before = milvus.observe(["c"])["c"].id
        milvus.set_properties("c", {"collection.ttl.seconds": "90"})
        live = milvus.observe(["c"])["c"]
        assert (live.schema.properties, live.id) == ((("collection.ttl.seconds", "90"),), before)


@pytest.mark.parametrize("indexed", [False, True])
def test_partitions_are_cleared_and_kept(target: Endpoint, *, indexed: bool) -> None:
    desired = dataclasses.replace(PLAIN, partitions=("p", "q"), indexes=PLAIN.indexes if indexed else ())
    with opened(target) as milvus:
        if indexed:
            make(milvus, desired)
        else:
            milvus.create_collection(desired)
            milvus.create_partition("c", "p")
            milvus.create_partition("c", "q")
        for start, partition in enumerate(("p", "q", None)):
            keys = pa.array(range(start * 1_000, start * 1_000 + 500))
            assert send(milvus, desired, rows(desired, keys), partition) == 500
        milvus.clear("c", "p")
        if not indexed and target.kind == "milvus-2.3.5":
            assert milvus.observe(["c"])["c"].partition_rows == {"_default": None, "p": None, "q": None}
            with pytest.raises(TargetError, match="neither indexed nor loaded"):
                milvus.clear("c", None)
            return
        assert milvus.observe(["c"])["c"].partition_rows == {"_default": 500, "p": 0, "q": 500}
        milvus.clear("c", None)
        milvus.clear("c", None)
        assert milvus.observe(["c"])["c"].partition_rows == {"_default": 0, "p": 0, "q": 500}
        assert send(milvus, desired, rows(desired, pa.array(range(100))), "p") == 100
        milvus.clear("c", "q")
        live = milvus.observe(["c"])["c"]
        assert (live.rows, live.partition_rows) == (100, {"_default": 0, "p": 100, "q": 0})


def test_a_collection_with_a_partition_key_is_cleared_whole(target: Endpoint) -> None:
    desired = Collection("c", (KEY, VECTOR, dataclasses.replace(PARTITION_KEY, name="s")), indexes=(Index("v"),))
    with opened(target) as milvus:
        make(milvus, desired)
        assert send(milvus, desired, rows(desired, pa.array(range(400)))) == 400
        live = milvus.observe(["c"])["c"]
        assert (live.rows, live.partition_rows, live.schema.partitions) == (400, {}, None)
        milvus.clear("c", None)
        assert milvus.count("c", None) == 0


def test_what_is_released_cannot_be_counted_but_on_lite(target: Endpoint) -> None:
    with opened(target) as milvus:
        make(milvus, PLAIN)
        send(milvus, PLAIN, rows(PLAIN, pa.array(range(100))))
        assert milvus.count("c", None) == 100
        milvus.release("c")
        expected = None if target.kind == "milvus-2.3.5" else 100
        live = milvus.observe(["c"])["c"]
        assert (live.rows, live.partition_rows) == (expected, {"_default": expected})
        assert live.loaded == {"lite": None}.get(target.kind, False)


def test_a_database_is_made_where_it_is_not_there(target: Endpoint) -> None:
    elsewhere = target._replace(database="vsync_other" if target.kind == "lite" else target.database + "_b")
    with opened(elsewhere) as milvus:
        assert not milvus.has_database()
        assert (milvus.observe(["c"]), milvus.aliases(), milvus.collections()) == ({}, {}, [])
        milvus.create_database()
        milvus.create_database()
        milvus.create_collection(PLAIN)
        with opened(target) as own:
            assert milvus.has_database()
            assert list(milvus.observe(["c"])) == ["c"]
            assert own.observe(["c"]) == {}
            assert own.identity != milvus.identity
        milvus.drop_collection("c")
        milvus._client.call("DropDatabase", drop(elsewhere.database))


def drop(database: str) -> object:
    from vsync.connectors.milvus.wire import milvus_pb2

    return milvus_pb2.DropDatabaseRequest(db_name=database)


def test_what_lite_leaves_of_a_collection_it_was_killed_over_is_named(lite_path: Path) -> None:
    with opened(Endpoint(str(lite_path), "default", "lite")) as milvus:
        make(milvus, Collection("other", (KEY, VECTOR)))
        left = lite_path / "collections" / "c"
        left.mkdir()
        with pytest.raises(TargetError, match=r"File exists: '.*/collections/c'.* remove it, and apply again") as told:
            make(milvus, Collection("c", (KEY, VECTOR)))
        found = LEFT_OVER.search(str(told.value))
        assert found is not None
        assert found[1] == str(left)
        left.rmdir()
        make(milvus, Collection("c", (KEY, VECTOR)))
