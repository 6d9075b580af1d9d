"""What every collection that is a source keeps (``CollectionSource`` in ``vsync.connectors.base``), as tests.

A test of a kind of target subclasses this beside a fixture ``place``: an open target, and what its server lacks.
"""

from __future__ import annotations

import contextlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

from vsync.connectors.base import Bounds, KeyRange
from vsync.errors import SourceChangedError, SourceError
from vsync.schema import DYNAMIC_FIELD, Collection, DataType, Field, Index

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from vsync.connectors.base import CollectionSource, Target

FIELDS = (
    Field("v", DataType.FLOAT_VECTOR, dim=4),
    Field("n", DataType.INT32),
    Field("s", DataType.VARCHAR, max_length=64),
)
INT_KEY = Field("id", DataType.INT64, primary=True)
TEXT_KEY = Field("id", DataType.VARCHAR, primary=True, max_length=64)
INTS = [-(2**63) + 1, -(2**62), *range(-70, 0), 0, *range(3, 200, 2), 2**62, 2**63 - 2]
ALPHABET = ["", '"', "\\", "'", "%", "_", "a", "b", "~", "\n", "\r", "\t", "\\n", "é", "数", "\uffff", "\U0001f600"]
EVERYTHING = KeyRange()
NUMBERS = count()


@dataclass(frozen=True)
class Place:
    """A database that is there, and what can be done in it. ``again`` opens another target of the same.

    ``unwritable`` are characters that keys cannot have there.
    """

    target: Target
    again: Callable[[], Target]
    stays_unloaded: bool = True
    partitions: bool = True
    aliases: bool = True
    dynamic: bool = True
    filters: bool = True
    tells_ids: bool = True
    unwritable: str = ""

    def make(self, key: Field = INT_KEY, *, partitions: Sequence[str] = ()) -> Collection:
        """Create a collection of a name of its own, loaded."""
        made = Collection(f"c{next(NUMBERS)}", (key, *FIELDS), dynamic=self.dynamic, indexes=(Index("v"),))
        self.target.create_collection(made)
        for partition in partitions:
            self.target.create_partition(made.name, partition)
        self.target.create_index(made.name, Index("v"), lambda _percent: None)
        self.target.load(made.name, lambda _percent: None)
        return made

    def send(self, collection: Collection, rows: pa.Table, partition: str | None = None) -> None:
        writer = self.target.writer(collection, partition)
        for batch in rows.combine_chunks().to_batches():
            for request in writer.encode(batch):
                writer.send(request)

    def rows(self, collection: Collection, keys: Sequence[Any]) -> pa.Table:
        """Make a row for each key; ``n`` is its number."""
        size = len(keys)
        vectors = np.arange(size * 4, dtype="f4") + 0.5
        columns = {
            "id": pa.array(keys, pa.string() if collection.primary.type is DataType.VARCHAR else pa.int64()),
            "v": pa.FixedSizeListArray.from_arrays(pa.array(vectors), 4),
            "n": pa.array(range(size), pa.int32()),
            "s": pa.array([f"é{i}" + "-" * (i % 9) for i in range(size)], pa.string()),
        }
        if collection.dynamic:
            columns[DYNAMIC_FIELD] = pa.array([json.dumps({"a": i}).encode() for i in range(size)], pa.binary())
        return pa.table(columns)


@dataclass(frozen=True)
class Held:
    """What a source is to give: its collection, all rows ascending by key, and how it is opened."""

    place: Place
    collection: Collection
    rows: pa.Table
    partition: str | None = None

    @property
    def names(self) -> list[str]:
        return list(self.rows.column_names)

    @contextlib.contextmanager
    def open(self, *, where: str | None = None, load: bool = False) -> Iterator[CollectionSource]:
        with contextlib.closing(
            self.place.target.source(self.collection.name, self.partition, where=where, load=load)
        ) as source:
            yield source


class CollectionContract:
    """Subclass it as ``Test...`` beside a fixture ``place`` of the module (scope ``module``)."""

    @pytest.fixture(scope="class", params=[INT_KEY, TEXT_KEY], ids=["int64", "varchar"])
    @classmethod
    def held(cls, request: pytest.FixtureRequest, place: Place) -> Held:
        """Give a collection whose rows lie in two partitions, if its server has any, and came in no order."""
        made = place.make(request.param, partitions=["p"] if place.partitions else [])
        rows = place.rows(made, INTS if request.param is INT_KEY else texts(place.unwritable))
        jumbled = rows.take(np.random.default_rng(1).permutation(len(rows)))
        place.send(made, jumbled.slice(0, 100), "p" if place.partitions else None)
        place.send(made, jumbled.slice(100))
        if place.aliases:
            place.target.set_alias(f"of_{made.name}", made.name)
        return Held(place, made, rows)

    @pytest.fixture
    def source(self, held: Held) -> Iterator[CollectionSource]:
        with held.open() as source:
            yield source

    def test_describe_says_what_is_there_and_the_same_twice(self, held: Held, source: CollectionSource) -> None:
        said = source.describe()
        assert said.rows == len(held.rows)
        assert [(c.name, c.type) for c in said.columns] == [(f.name, f.type) for f in held.rows.schema]
        assert said.locator.endswith(f"/{held.collection.name}")
        assert said.suggested == {name: name for name in held.names}
        assert [c.native for c in said.columns][1:3] == ["float_vector(4)", "int32"]
        with held.open() as again:
            assert again.describe() == said == source.describe()

    def test_description_shows_the_collection_with_its_aliases(self, held: Held, source: CollectionSource) -> None:
        live, name = source.describe().collection, held.collection.name
        assert live is not None
        seen = held.place.target.observe([name], count=False)[name]
        mine = (f"of_{name}",) if held.place.aliases else ()
        assert live == replace(seen, schema=replace(seen.schema, aliases=mine))
        assert live.rows is None, "it lives: counting is the description's own affair"

    def test_row_bytes_are_near_the_size_as_arrow(self, held: Held, source: CollectionSource) -> None:
        said = source.describe()
        for column in said.columns:
            actual = held.rows.column(column.name).combine_chunks().nbytes / len(held.rows)
            assert actual / 2 <= column.row_bytes <= actual * 2, column
        assert said.nbytes == int(said.rows * sum(c.row_bytes for c in said.columns))

    def test_cut_covers_all_keys_with_open_ends(self, held: Held, source: CollectionSource) -> None:
        keys = held.rows.column("id").to_pylist()
        row_bytes = sum(c.row_bytes for c in source.describe().columns)
        for step in (1, 7, len(keys) - 1, len(keys), len(keys) + 1):
            bounds = source.cut(held.names, int(row_bytes * step) + 1)
            assert [b.lo for b in bounds] == [*range(0, len(keys), step)]
            assert [b.hi for b in bounds] == [*(b.lo for b in bounds[1:]), len(keys)]
            firsts = [None, *(keys[b.lo] for b in bounds[1:]), None]
            assert [b.keys for b in bounds] == [KeyRange(*firsts[i : i + 2]) for i in range(len(bounds))]

    def test_all_chunks_together_are_the_source(self, held: Held, source: CollectionSource) -> None:
        row_bytes = sum(c.row_bytes for c in source.describe().columns)
        bounds = source.cut(held.names, int(row_bytes * 11))
        assert len(bounds) > 10
        batches = [source.read(b, held.names) for b in bounds]
        assert [len(b) for b in batches] == [b.rows for b in bounds]
        same(pa.Table.from_batches(batches), held.rows)

    def test_any_range_gives_its_rows(self, held: Held, source: CollectionSource) -> None:
        random, keys = Random(5), held.rows.column("id").to_pylist()
        for _ in range(15):
            lo, hi = sorted(random.choices(range(len(keys)), k=2))
            bounds = Bounds(0, 0, KeyRange(keys[lo], keys[hi]))
            same(pa.table(source.read(bounds, held.names)), held.rows.slice(lo, hi - lo))
        ends = Bounds(0, 0, KeyRange(None, keys[3])), Bounds(0, 0, KeyRange(keys[-3], None))
        assert [source.read(b, ["id"]).column(0).to_pylist() for b in ends] == [keys[:3], keys[-3:]]

    def test_threads_read_the_same(self, held: Held, source: CollectionSource) -> None:
        row_bytes = sum(c.row_bytes for c in source.describe().columns)
        bounds = source.cut(held.names, int(row_bytes * 17))
        jumbled = [bounds[i * 7919 % len(bounds)] for i in range(3 * len(bounds))]
        with ThreadPoolExecutor(4) as pool:
            for at, batch in zip(jumbled, pool.map(lambda b: source.read(b, held.names), jumbled), strict=True):
                same(pa.table(batch), held.rows.slice(at.lo, at.rows))

    def test_columns_come_as_asked_for_with_or_without_the_key(self, held: Held, source: CollectionSource) -> None:
        bounds = Bounds(0, 3, KeyRange(None, held.rows.column("id")[3].as_py()))
        for names in (held.names[::-1], ["s"], ["n", "id"], ["s", "v", "s"], held.names[-1:]):
            got = source.read(bounds, names)
            assert got.schema.names == names
            for place, name in enumerate(names):
                same(pa.table({name: got.column(place)}), held.rows.slice(0, 3).select([name]))

    def test_what_is_not_there_is_named_with_the_near_one(self, held: Held, source: CollectionSource) -> None:
        for ask in (lambda: source.read(Bounds(0, 1, EVERYTHING), ["nn"]), lambda: source.cut(["nn"], 1000)):
            with pytest.raises(SourceError, match=r"no column 'nn'.*did you mean 'n'"):
                ask()
        target, name = held.place.target, held.collection.name
        with pytest.raises(SourceError, match=f"no collection '{name}_'.*did you mean '{name}'"):
            target.source(f"{name}_", None)
        if held.place.partitions:
            with pytest.raises(SourceError, match=r"no partition 'pp'.*did you mean 'p'"):
                target.source(name, "pp")
        if held.place.aliases:
            with pytest.raises(SourceError, match=f"an alias: write `collection: {name}`"):
                target.source(f"of_{name}", None)

    def test_rows_by_their_numbers_are_refused(self, source: CollectionSource) -> None:
        with pytest.raises(SourceError, match="by ranges of keys"):
            source.read(Bounds(0, 3), ["id"])

    def test_reader_is_of_the_same_rows(self, held: Held, source: CollectionSource) -> None:
        keys = held.rows.column("id")
        assert pa.concat_arrays(list(source.reader.keys())).to_pylist() == keys.to_pylist()
        assert source.reader.count(KeyRange(keys[10].as_py(), keys[20].as_py())) == 10
        assert sorted(source.reader.fetch(keys.slice(5, 3).combine_chunks(), ["n"]).column(0).to_pylist()) == [5, 6, 7]

    def test_a_partition_is_a_source_of_its_own(self, held: Held) -> None:
        if not held.place.partitions:
            return
        parts = []
        for partition in ("p", "_default"):
            with replace(held, partition=partition).open() as source:
                said = source.describe()
                bounds = source.cut(held.names, said.nbytes // 9)
                parts.append(pa.Table.from_batches([source.read(b, held.names) for b in bounds]))
                assert (said.rows, said.locator) == (
                    len(parts[-1]),
                    f"{said.locator[: -len(partition) - 1]}/{partition}",
                )
        assert [len(part) for part in parts] == [100, len(held.rows) - 100]
        same(pa.concat_tables(parts).sort_by("n"), held.rows)

    def test_a_filter_is_true_of_every_row_that_is_given(self, held: Held) -> None:
        if not held.place.filters:
            return
        chosen = held.rows.filter((held.rows.column("n").to_numpy() < 20) | (held.rows.column("n").to_numpy() == 70))
        keys = chosen.column("id").to_pylist()
        with held.open(where="n < 20 or n == 70") as source:
            said = source.describe()
            assert said.rows == len(chosen) == 21
            bounds = source.cut(held.names, said.nbytes // 4)
            assert [b.hi for b in bounds][-1] == 21
            same(pa.Table.from_batches([source.read(b, held.names) for b in bounds]), chosen)
            assert source.read(Bounds(0, 0, KeyRange(keys[4], keys[7])), ["id"]).column(0).to_pylist() == keys[4:7]
            assert source.reader.count(EVERYTHING) == 21
            every = held.rows.column("id").combine_chunks()
            assert sorted(source.reader.fetch(every, ["n"]).column(0).to_pylist()) == [*range(20), 70]
        with held.open(where="""s == ") or (" or (n in [3] and s != '\\')')""") as source:
            assert source.describe().rows == 1
        with held.open(where="n < 0") as source:
            assert (source.describe().rows, source.cut(["id"], 100)) == (0, [])

    def test_a_filter_that_the_server_does_not_take_is_refused_in_its_words(self, held: Held) -> None:
        if not held.place.filters:
            return
        uneven = dict.fromkeys(["n == 1) or (n == 2", "(n == 1", "n in [1)", "s == '(' or (n == 1"], "uneven")
        wrong = {"n <": "filtering", "n == 'x'": "filtering", " ": "is empty"} | uneven
        for where, words in wrong.items():
            with pytest.raises(SourceError, match=words) as caught, held.open(where=where):
                pass
            assert caught.value.problems[0].where
            assert caught.value.problems[0].hint

    def test_an_empty_collection_has_no_chunks(self, place: Place) -> None:
        empty = place.make()
        with Held(place, empty, place.rows(empty, [])).open() as source:
            said = source.describe()
            names = [c.name for c in said.columns]
            assert (said.rows, said.nbytes, source.cut(names, 1000)) == (0, 0, [])
            same(pa.table(source.read(Bounds(0, 0, EVERYTHING), names)), place.rows(empty, []))

    def test_open_ends_bring_what_came_since_and_a_range_that_was_emptied_nothing(self, place: Place) -> None:
        made = place.make()
        before = place.rows(made, range(0, 60, 2))
        held = Held(place, made, before)
        place.send(made, before)
        with held.open() as source:
            said = source.describe()
            bounds = source.cut(held.names, int(10.5 * sum(c.row_bytes for c in said.columns)))
        assert [b.keys for b in bounds] == [KeyRange(None, 20), KeyRange(20, 40), KeyRange(40, None)]
        place.send(made, place.rows(made, [-5, 21, 1_000]))
        place.target.delete(made.name, None, pa.array(range(20, 41, 2)))
        with held.open() as source:
            got = [source.read(b, ["id"]).column(0).to_pylist() for b in bounds]
            assert got == [[-5, *range(0, 20, 2)], [21], [*range(42, 60, 2), 1_000]]
            again = source.describe()
        assert again.rows == 22
        assert again.fingerprint == said.fingerprint, "it lives: only another collection is another content"
        place.target.delete(made.name, None, pa.array([21]))
        with held.open() as source:
            same(pa.table(source.read(bounds[1], held.names)), place.rows(made, []))

    def test_fingerprint_tells_what_is_read(self, held: Held, source: CollectionSource) -> None:
        found = {source.describe().fingerprint.content}
        with held.open() as again:
            found |= {again.describe().fingerprint.content}
        assert len(found) == 1
        if held.place.partitions:
            with replace(held, partition="p").open() as part:
                found |= {part.describe().fingerprint.content}
            assert len(found) == 2
        if held.place.filters:
            with held.open(where="n < 3") as some, held.open(where="n < 4") as more:
                found |= {some.describe().fingerprint.content, more.describe().fingerprint.content}
            assert len(found) == (4 if held.place.partitions else 3)

    def test_a_collection_that_took_its_name_is_another_one(self, place: Place) -> None:
        made = place.make()
        held = Held(place, made, place.rows(made, range(5)))
        place.send(made, held.rows)
        with held.open() as source:
            before = source.describe().fingerprint
            place.target.drop_collection(made.name)
            with pytest.raises(SourceError):
                source.read(Bounds(0, 5, EVERYTHING), ["id"])
            place.target.create_collection(made)
            place.target.create_index(made.name, Index("v"), lambda _percent: None)
            place.target.load(made.name, lambda _percent: None)
            place.send(made, held.rows)
            if not place.tells_ids:
                return
            with pytest.raises(SourceChangedError, match="another collection"):
                source.read(Bounds(0, 5, EVERYTHING), ["id"])
        with held.open() as source:
            assert source.describe().fingerprint != before
            assert source.read(Bounds(0, 5, EVERYTHING), ["id"]).num_rows == 5

    def test_one_that_is_not_loaded_is_loaded_only_where_that_is_asked_for(self, place: Place) -> None:
        made = place.make()
        held = Held(place, made, place.rows(made, range(5)))
        place.send(made, held.rows)

        def loaded() -> bool | None:
            return place.target.observe([made.name], count=False)[made.name].loaded

        with held.open(load=True) as source:
            assert source.describe().rows == 5
        assert loaded() is not False, "it was loaded before"
        place.target.release(made.name)
        if not place.stays_unloaded:
            with held.open() as source:
                assert source.describe().rows == 5
            return
        with pytest.raises(SourceError, match="not loaded"):
            held.open().__enter__()
        if place.filters:
            with pytest.raises(SourceError, match="filtering"):
                held.open(where="n <", load=True).__enter__()
        assert loaded() is False
        with held.open(load=True) as source:
            with held.open(load=True) as other:
                assert other.read(Bounds(0, 5, EVERYTHING), ["n"]).num_rows == 5
            assert loaded() is True, "it has to stay until the last one is closed"
            same(pa.table(source.read(Bounds(0, 5, EVERYTHING), held.names)), held.rows)
        assert loaded() is False

    def test_another_target_of_the_same_place_can_be_closed(self, held: Held, source: CollectionSource) -> None:
        other = held.place.again()
        with contextlib.closing(other.source(held.collection.name, None)) as beside:
            assert beside.describe() == source.describe()
        other.close()
        assert source.describe().rows == len(held.rows)
        assert held.place.target.observe([held.collection.name])

    def test_closed_is_closed(self, held: Held) -> None:
        with held.open() as source:
            pass
        source.close()
        for ask in (
            lambda: source.read(Bounds(0, 1, EVERYTHING), ["id"]),
            source.describe,
            lambda: source.cut(["id"], 1),
            lambda: source.reader,
        ):
            with pytest.raises(SourceError, match="closed"):
                ask()


def texts(unwritable: str) -> list[str]:
    """Make 170 keys in the order of their UTF-8 bytes."""
    random, found = Random(3), set[str]()
    alphabet = [c for c in ALPHABET if not c or c not in unwritable]
    while len(found) < 170:
        found.add("".join(random.choices(alphabet, k=random.randrange(7))))
    return sorted(found, key=str.encode)


def same(got: pa.Table, expected: pa.Table) -> None:
    """Compare names, types and values; JSON by its values: some servers write it anew."""
    got.validate(full=True)
    assert got.schema.names == expected.schema.names
    assert got.schema.types == expected.schema.types
    for name in got.column_names:
        one, other = (t.column(name).to_pylist() for t in (got, expected))
        if name == DYNAMIC_FIELD:
            one, other = ([json.loads(cell) for cell in cells] for cells in (one, other))
        assert one == other, name
