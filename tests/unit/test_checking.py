"""What a check finds, against a naive comparison of dictionaries: whatever differs, in any order, whole or in parts.

The target is the model, which can hold a key twice; the sources are tables in memory.
"""

from __future__ import annotations

import json
import struct
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_target import ModelReader, ModelTarget, Server

from vsync.applying.retry import Retry
from vsync.checking import Checks, Side, Ways, check_sides, keyed
from vsync.checking.findings import Compared, Event, Finding, Found
from vsync.connectors.base import Bounds
from vsync.connectors.memory import MemorySource
from vsync.errors import ConflictError, TargetError, TransientError
from vsync.planning.facts import SessionFacts
from vsync.planning.steps import Unit
from vsync.rows import arrow_type
from vsync.schema import Collection, DataType, Field

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from vsync.applying.events import Event as ApplyEvent
    from vsync.connectors.base import Key, KeyRange

VALUES = (
    Field("vector", DataType.FLOAT_VECTOR, dim=2),
    Field("number", DataType.INT64, nullable=True, default=7),
    Field("text", DataType.VARCHAR, max_length=9, nullable=True),
    Field("json", DataType.JSON),
    Field("list", DataType.ARRAY, element=DataType.VARCHAR, max_capacity=9, max_length=9),
)
NAN = struct.unpack("<f", b"\x01\x00\xc0\x7f")[0]
ROWS = st.tuples(
    st.sampled_from([(0.0, 1.0), (-0.0, 1.0), (1e-40, 1.0)]),
    st.sampled_from([None, 7, -1, 2**40]),
    st.sampled_from([None, "", "é", "a\0b"]),
    st.sampled_from([b'{"a":1,"b":[1e3]}', b'{"b": [1000.0], "a": 1}', b'{"a":1}', b"null"]),
    st.sampled_from([(), ("",), ("", ""), ("a", "bc"), ("ab", "c")]),
)
KEYS: dict[DataType, st.SearchStrategy[Any]] = {
    DataType.INT64: st.integers(-(2**63), 2**63 - 1) | st.integers(-20, 60),
    DataType.VARCHAR: st.text("ab\"'\\\n é", max_size=6),
}
Row = tuple[Any, ...]


def collection_of(key: DataType, *, auto_id: bool = False) -> Collection:
    return Collection("c", (Field("id", key, primary=True, auto_id=auto_id, max_length=64), *VALUES))


@dataclass
class World:
    """A model of both sides: the files' rows in their order, each with its key first, and those of the target."""

    collection: Collection
    files: list[list[Row]]
    held: list[Row]
    target: ModelTarget

    @staticmethod
    def of(collection: Collection, files: list[list[Row]], held: list[Row]) -> World:
        server = Server()
        table = server.create(collection)
        table.loaded, table.rows["_default"] = True, list(held)
        return World(collection, files, held, ModelTarget(server))

    @property
    def fields(self) -> tuple[Field, ...]:
        first = 1 if self.collection.primary.auto_id else 0
        return self.collection.fields[first:]

    def table(self, file: int) -> pa.Table:
        columns = zip(*self.files[file], strict=True) if self.files[file] else ((),) * len(self.fields)
        return pa.table({f.name: pa.array(list(c), arrow_type(f)) for f, c in zip(self.fields, columns, strict=True)})

    @contextmanager
    def use(self, unit: Unit) -> Iterator[MemorySource]:
        yield MemorySource(self.table(int(unit.path)))

    def side(self, chunk_rows: int) -> Side:
        units, bounds = [], []
        for n, rows in enumerate(self.files):
            origins: dict[str, Any] = {f.name: f.name for f in self.fields}
            units.append(Unit(f"k{n}", f"a{n}", "collection.c", "memory", str(n), {}, "", 0, len(rows), 1, origins, 1))
            cut = range(0, len(rows), chunk_rows)
            bounds.append(tuple(Bounds(lo, min(lo + chunk_rows, len(rows))) for lo in cut))
        losers = tuple(() for _ in self.files)
        return Side(
            "collection.c", self.collection, "_default", tuple(units), tuple(bounds), losers,
            skips=False, write="append", exclusive=True, session=None,
        )  # fmt: skip

    def check(self, how: Any = "content", *, side: Side | None = None, **asked: Any) -> tuple[Compared, list[Finding]]:
        found: list[Finding] = []

        def hear(event: Event | ApplyEvent) -> None:
            if isinstance(event, Found):
                found.extend(event.findings)

        ways = Ways(self.target, self.use, lambda f, *args: f(*args), hear, 3, Retry(hear).settled)
        (compared,) = check_sides([side or self.side(5)], ways, Checks(how, **asked))
        return compared, found

    def place(self, finding: Finding) -> Row:
        """Give the row of the source that a finding names."""
        return self.files[finding.unit][finding.row]


def meaning(row: Row) -> Row:
    """Say what a row's values mean: floats by their bits, null as its default, JSON by its values."""
    vector, number, text, document, items = row
    return (
        struct.pack("<2f", *vector),
        7 if number is None else number,
        text,
        json.dumps(json.loads(document), sort_keys=True),
        tuple(items),
    )


def naive(world: World, how: str, *, one_way: bool) -> set[tuple[str, Any, str]]:
    """Compare dictionaries: symbol, key, and the names of the fields that differ."""
    ours = {row[0]: row[1:] for rows in world.files for row in rows}
    theirs = {row[0]: row[1:] for row in world.held}
    copies = Counter(row[0] for row in world.held)
    found = {("+", key, "") for key in ours.keys() - theirs.keys()}
    if not one_way:
        found |= {("-", key, "") for key in theirs.keys() - ours.keys()}
    found |= {("2", key, f"{n} copies") for key, n in copies.items() if n > 1 and (key in ours or not one_way)}
    if how == "content":
        for key in ours.keys() & theirs.keys() - {key for key, n in copies.items() if n > 1}:
            pairs = zip(VALUES, meaning(ours[key]), meaning(theirs[key]), strict=True)
            names = [f.name for f, a, b in pairs if a != b]
            if names:
                found.add(("*", key, ", ".join(names)))
    return found


def in_order(key: Key | None) -> Any:
    return key.encode() if isinstance(key, str) else key


@st.composite
def worlds(draw: st.DrawFn, kind: DataType) -> World:
    keys = draw(st.lists(KEYS[kind], unique=True, max_size=40))
    rows = [(key, *draw(ROWS)) for key in keys]
    held: list[Row] = []
    for row in rows:
        fate = draw(st.sampled_from(["same"] * 6 + ["missing", "other", "twice", "thrice"]))
        copies = {"missing": 0, "twice": 2, "thrice": 3}.get(fate, 1)
        held += [(row[0], *draw(ROWS)) if fate == "other" else row] * copies
    others = draw(st.lists(KEYS[kind], max_size=10))
    held += [(key, *draw(ROWS)) for key in others if key not in set(keys)]
    cut = draw(st.integers(0, len(rows)))
    shuffled = draw(st.permutations(rows))
    return World.of(
        collection_of(kind), [list(shuffled[:cut]), list(shuffled[cut:])], list(draw(st.permutations(held)))
    )


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyed, "PIECE_ROWS", 3)
    monkeypatch.setattr(keyed, "BLOCK_ROWS", 4)


MANY = settings(max_examples=80)


@pytest.mark.parametrize("memory", [1 << 20, 800], ids=["whole", "in parts"])
@pytest.mark.parametrize("kind", KEYS)
@MANY
@given(data=st.data(), how=st.sampled_from(["content", "keys"]), one_way=st.booleans())
def test_a_check_finds_what_a_naive_comparison_finds(
    kind: DataType, memory: int, data: st.DataObject, how: str, *, one_way: bool
) -> None:
    world = data.draw(worlds(kind))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keyed, "MEMORY", memory)
        compared, found = world.check(how, one_way=one_way)
    named = [(f.symbol, f.key, f.detail if f.symbol in "*2" else "") for f in found]
    expected = naive(world, how, one_way=one_way)
    assert set(named) == expected
    assert len(named) == len(expected)
    assert [f.key for f in found] == sorted([f.key for f in found], key=in_order)
    assert compared.differences == len(expected)
    assert (compared.source, compared.target) == (sum(map(len, world.files)), len(world.held))
    for f in found:
        assert f.unit < 0 or world.place(f)[0] == f.key
        assert f.symbol != "+" or f.detail == f"{f.unit} row {f.row}"


@pytest.mark.parametrize("memory", [1 << 20, 800], ids=["whole", "in parts"])
@MANY
@given(data=st.data())
def test_rows_without_keys_are_compared_as_often_as_they_are_there(memory: int, data: st.DataObject) -> None:
    rows = data.draw(st.lists(ROWS, max_size=30))
    more = data.draw(st.lists(ROWS, max_size=5))
    left = data.draw(st.lists(st.integers(0, 29), max_size=5))
    kept = [row for n, row in enumerate(rows) if n not in left] + more
    held = [(100 + n, *row) for n, row in enumerate(data.draw(st.permutations(kept)))]
    world = World.of(collection_of(DataType.INT64, auto_id=True), [rows[:9], rows[9:]], held)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vsync.checking.unkeyed.MEMORY", memory)
        compared, found = world.check("keys")  # there are none of the source's own: content is compared
    ours, theirs = Counter(map(meaning, rows)), Counter(meaning(row[1:]) for row in held)
    by_key = {row[0]: meaning(row[1:]) for row in held}
    assert Counter(meaning(world.place(f)) for f in found if f.symbol == "+") == ours - theirs
    assert Counter(by_key[f.key] for f in found if f.symbol == "-" and isinstance(f.key, int)) == theirs - ours
    assert (compared.how, compared.source, compared.target) == ("content", len(rows), len(held))
    assert all(f.key is None and f.detail == f"{f.unit} row {f.row}" for f in found if f.symbol == "+")


class Settling(ModelTarget):
    """It counts old copies, some fewer each time: Milvus 2.3.5 does for a while, after rows were replaced."""

    settling = 1e4

    def __init__(self, server: Server, *copies: int) -> None:
        super().__init__(server)
        self.copies = list(copies)

    def old(self) -> int:
        return self.copies.pop(0) if self.copies else 0

    def count(self, collection: str, partition: str | None) -> int | None:
        return (super().count(collection, partition) or 0) + self.old()

    def reader(self, collection: Collection, partition: str | None) -> ModelReader:
        return SettlingReader(self, collection, partition)


class SettlingReader(ModelReader):
    def count(self, keys: KeyRange) -> int:
        assert isinstance(self.target, Settling)
        return super().count(keys) + self.target.old()


def applied(seconds_ago: float, left: int | None) -> SessionFacts:
    ended = (datetime.now(timezone.utc) - timedelta(seconds=seconds_ago)).isoformat()
    return SessionFacts(1, 1, True, "", "id", False, 0, left, ended=ended)  # noqa: FBT003 - as the state gives it


@pytest.mark.parametrize(("how", "left"), [("keys", 3), ("keys", None), ("content", None), ("counts", 3)])
def test_old_copies_that_are_still_counted_after_an_apply_are_waited_for(
    how: str, left: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vsync.applying.retry.RECOUNT_SECONDS", 0.0)
    world = World.of(collection_of(DataType.INT64), [rows_of(1, 5, 9)], rows_of(1, 5, 9))
    world.target = target = Settling(world.target.server, 3, 2, 2, 0)
    compared, found = world.check(how, side=replace(world.side(5), session=applied(60, left)))
    assert (target.copies, found, compared.target, compared.differences) == ([], [], 3, 0)


def test_what_is_counted_too_often_long_after_an_apply_is_told_at_once() -> None:
    world = World.of(collection_of(DataType.INT64), [rows_of(1, 5, 9)], rows_of(1, 5, 9, 5))
    for seconds_ago in (10**5, -60):  # a clock that went back does not make anybody wait
        world.target = Settling(world.target.server)
        compared, found = world.check("keys", side=replace(world.side(5), session=applied(seconds_ago, 3)))
        assert [(f.symbol, f.key) for f in found] == [("2", 5)]
        assert compared.target == 4


def test_doubled_rows_are_told_when_the_server_has_had_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vsync.applying.retry.RECOUNT_SECONDS", 0.0)
    world = World.of(collection_of(DataType.INT64), [rows_of(1, 5, 9)], rows_of(1, 5, 9, 5))
    world.target = Settling(world.target.server, 1, 1)
    monkeypatch.setattr(Settling, "settling", 0.05)
    _, found = world.check("keys", side=replace(world.side(5), session=applied(0, 3)))
    assert [(f.symbol, f.key) for f in found] == [("2", 5)]


def rows_of(*keys: Key) -> list[Row]:
    return [(key, (0.0, 1.0), 1, "t", b"{}", ()) for key in keys]


def test_a_row_that_is_counted_and_never_given_is_named_and_not_taken_for_missing() -> None:
    highest = 2**63 - 1

    class Hiding(ModelReader):
        def _batch(self, rows: list[Row], fields: Sequence[str]) -> pa.RecordBatch:
            return super()._batch([row for row in rows if row[0] not in {highest, 33}], fields)

    class HidingTarget(ModelTarget):
        def reader(self, collection: Collection, partition: str | None) -> ModelReader:
            return Hiding(self, collection, partition)

    world = World.of(collection_of(DataType.INT64), [rows_of(1, 5, highest)], rows_of(1, 5, 33, highest, 5))
    world.target = HidingTarget(world.target.server)
    compared, found = world.check()
    assert [(f.symbol, f.key) for f in found] == [("2", 5), ("!", 33), ("!", highest)]
    assert (compared.unreadable, compared.doubled, compared.missing, compared.beyond) == (2, 1, 0, 1)


def test_a_text_key_that_is_counted_and_never_given_is_told_by_its_neighbours() -> None:
    class Hiding(ModelReader):
        def _batch(self, rows: list[Row], fields: Sequence[str]) -> pa.RecordBatch:
            return super()._batch([row for row in rows if row[0] != ""], fields)

    class HidingTarget(ModelTarget):
        def reader(self, collection: Collection, partition: str | None) -> ModelReader:
            return Hiding(self, collection, partition)

    world = World.of(collection_of(DataType.VARCHAR), [rows_of("a", "b")], rows_of("", "a", "b"))
    world.target = HidingTarget(world.target.server)
    compared, found = world.check()
    assert [(f.symbol, f.key) for f in found] == [("!", None)]
    assert found[0].detail == "counted beyond the keys that were read, from the first to a: 1"
    assert compared.unreadable == 1


@pytest.mark.parametrize("memory", [1 << 20, 800])
def test_rows_that_the_target_cannot_give_are_found_among_those_that_it_can(
    memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(ModelReader):
        def _batch(self, rows: list[Row], fields: Sequence[str]) -> pa.RecordBatch:
            if len(fields) > 1 and any(row[0] in {4, 17} for row in rows):
                raise TargetError("a value that breaks queries")
            return super()._batch(rows, fields)

    class BrokenTarget(ModelTarget):
        def reader(self, collection: Collection, partition: str | None) -> ModelReader:
            return Broken(self, collection, partition)

    monkeypatch.setattr(keyed, "MEMORY", memory)
    world = World.of(collection_of(DataType.INT64), [rows_of(*range(30))], rows_of(*range(1, 31)))
    world.target = BrokenTarget(world.target.server)
    compared, found = world.check()
    assert [(f.symbol, f.key) for f in found] == [("+", 0), ("!", 4), ("!", 17), ("-", 30)]
    assert found[1].detail == "a value that breaks queries"
    assert compared.differences == 4
    drawn, found = world.check("sample", sample=30)
    assert [(f.symbol, f.key) for f in found] == [("+", 0), ("!", 4), ("!", 17)]
    assert (drawn.source, drawn.missing) == (30, 1)


class Garbling(ModelReader):
    """Gives arrays as Milvus 2.3.5 does: behind a key that is doubled each row has those of the row before."""

    def _batch(self, rows: list[Row], fields: Sequence[str]) -> pa.RecordBatch:
        batch = super()._batch(rows, fields)
        copies = Counter(row[0] for row in rows)
        doubled = [n for n, key in enumerate(batch.column(0).to_pylist()) if copies[key] > 1]
        if "list" not in fields or not doubled:
            return batch
        places = [n - (n > doubled[0]) for n in range(batch.num_rows)]
        columns = [c.take(pa.array(places)) if f == "list" else c for f, c in zip(fields, batch.columns, strict=True)]
        return pa.RecordBatch.from_arrays(columns, names=list(fields))


class GarblingTarget(ModelTarget):
    def reader(self, collection: Collection, partition: str | None) -> ModelReader:
        return Garbling(self, collection, partition)


@pytest.mark.parametrize("memory", [1 << 20, 800])
@pytest.mark.parametrize("kind", KEYS)
@settings(max_examples=60)
@given(data=st.data())
def test_arrays_that_a_doubled_key_puts_out_of_place_are_not_believed(
    kind: DataType, memory: int, data: st.DataObject
) -> None:
    world = data.draw(worlds(kind))
    world.target = GarblingTarget(world.target.server)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keyed, "MEMORY", memory)
        found = [(f.symbol, f.key, f.detail if f.symbol in "*2" else "") for f in world.check()[1]]
    assert sorted(found, key=repr) == sorted(naive(world, "content", one_way=False), key=repr)
    expected = {one for one in naive(world, "content", one_way=False) if one[0] in "+*"}
    drawn = {(f.symbol, f.key, f.detail if f.symbol == "*" else "") for f in world.check("sample", sample=99)[1]}
    doubled = {key for symbol, key, _ in naive(world, "content", one_way=False) if symbol == "2"}
    assert {one for one in drawn if one[1] not in doubled} <= expected


def test_a_change_that_such_arrays_hide_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyed, "MEMORY", 800)
    rows = rows_of(*range(12))
    held = [*rows, rows[0]]
    held[4] = (*held[4][:-1], ("other",))  # what the server gives of it under the next key, which another piece holds
    world = World.of(collection_of(DataType.INT64), [rows], held)
    world.target = GarblingTarget(world.target.server)
    assert [(f.symbol, f.key, f.detail) for f in world.check()[1]] == [("2", 0, "2 copies"), ("*", 4, "list")]


def test_doubles_beyond_counting_are_told_by_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vsync.checking.doubles.MOST_COUNTS", 3)
    world = World.of(collection_of(DataType.INT64), [rows_of(*range(100))], rows_of(*range(100), *range(100)))
    compared, found = world.check()
    assert compared.doubled == 100
    assert any(f.key is None and "counted beyond" in f.detail for f in found)


def test_what_others_write_while_it_counts_is_no_finding() -> None:
    class Growing(ModelTarget):
        def count(self, collection: str, partition: str | None) -> int | None:
            counted = super().count(collection, partition)
            return None if counted is None else counted + 3  # rows that were deleted right after

    world = World.of(collection_of(DataType.INT64), [rows_of(*range(30))], rows_of(*range(30)))
    world.target = Growing(world.target.server)
    assert world.check()[1] == []


def test_a_read_that_fails_for_a_moment_is_repeated_and_loses_nothing() -> None:
    failed: set[Any] = set()

    def call(function: Any, *args: Any) -> Any:
        try:
            return function(*args)
        except TransientError:
            return function(*args)

    class Flaky(ModelReader):
        def scan(self, keys: KeyRange, fields: Sequence[str]) -> Iterator[pa.RecordBatch]:
            return Stumbling(super().scan(keys, fields))

    class Stumbling:
        def __init__(self, blocks: Iterator[pa.RecordBatch]) -> None:
            self.blocks, self.asked = blocks, 0

        def __iter__(self) -> Iterator[pa.RecordBatch]:
            return self

        def __next__(self) -> pa.RecordBatch:
            self.asked += 1
            if self.asked % 2:
                failed.add(self.asked)
                raise TransientError("not now")
            return next(self.blocks)

    class FlakyTarget(ModelTarget):
        def reader(self, collection: Collection, partition: str | None) -> ModelReader:
            return Flaky(self, collection, partition)

    world = World.of(collection_of(DataType.INT64), [rows_of(*range(50))], rows_of(*range(1, 50)))
    target = FlakyTarget(world.target.server)
    found: list[Finding] = []
    ways = Ways(target, world.use, call, lambda e: found.extend(e.findings) if isinstance(e, Found) else None, 3)
    check_sides([world.side(5)], ways, Checks("content"))
    assert [(f.symbol, f.key) for f in found] == [("+", 0)]
    assert failed
    with pytest.raises(TransientError):
        check_sides([world.side(5)], replace(ways, call=lambda f, *a: f(*a)), Checks("content"))


def test_a_sample_is_drawn_again_by_its_seed_and_finds_what_it_meets() -> None:
    rows = rows_of(*range(200))
    held = [(k, v, n + (k % 10 == 0), t, j, a) for k, v, n, t, j, a in rows if k % 7]
    world = World.of(collection_of(DataType.INT64), [rows[:50], rows[50:]], held)
    compared, found = world.check("sample", sample=60, seed=5)
    again, found_again = world.check("sample", sample=60, seed=5)
    _, others = world.check("sample", sample=60, seed=6)
    assert (compared, found) == (again, found_again)
    assert found != others
    assert compared.source == 60
    keys = {f.key for f in found if f.symbol == "+"}, {f.key for f in found if f.symbol == "*"}
    assert all(isinstance(k, int) and k % 7 == 0 for k in keys[0])
    assert all(isinstance(k, int) and k % 10 == 0 for k in keys[1])
    whole, found = world.check("sample", sample=1_000)
    assert (whole.source, whole.missing, whole.changed) == (200, 29, 17)


def test_counts_alone_see_numbers_alone() -> None:
    world = World.of(collection_of(DataType.INT64), [rows_of(*range(20))], rows_of(*range(5, 22)))
    compared, found = world.check("counts")
    assert (compared.source, compared.target, compared.differences, found) == (20, 17, 3, [])
    more = World.of(collection_of(DataType.INT64), [rows_of(*range(20))], rows_of(*range(22)))
    assert more.check("counts")[0].differences == 2
    assert more.check("counts", one_way=True)[0].differences == 0


def test_losers_and_rows_that_do_not_fit_are_not_expected() -> None:
    collection = collection_of(DataType.INT64)
    rows = rows_of(*range(10), 3)
    rows[4] = (4, (NAN, 1.0), 1, "t", b"{}", ())
    world = World.of(collection, [rows], rows_of(0, 1, 2, 3, 5, 6, 7, 8, 9))
    side = replace(world.side(5), losers=((10,),), skips=True)
    for how in ("counts", "keys", "content"):
        compared, found = world.check(how, side=side)
        assert (compared.source, compared.differences, found) == (9, 0, [])


def test_fields_that_another_file_brings_are_null_here() -> None:
    rows = rows_of(*range(6))
    world = World.of(
        collection_of(DataType.INT64), [rows[:3], rows[3:]], rows[:3] + [(*r[:2], None, *r[3:]) for r in rows[3:]]
    )
    side = world.side(5)
    without = {name: origin for name, origin in side.units[1].origins.items() if name != "number"}
    side = replace(side, units=(side.units[0], replace(side.units[1], origins=without)))
    assert world.check(side=side)[1] == []
    world.target.server.tables["c"].rows["_default"][5] = rows[5]
    assert [(f.symbol, f.key, f.detail) for f in world.check(side=side)[1]] == [("*", 5, "number")]


def test_a_destination_that_was_skipped_is_not_compared() -> None:
    world = World.of(collection_of(DataType.INT64), [rows_of(1, 2)], rows_of(3))
    session = SessionFacts(1, 1, True, "", "id", False, 1, 1, skipped=True)  # noqa: FBT003 - as the state gives it
    compared, found = world.check(side=replace(world.side(5), session=session))
    assert not found
    assert compared.left_out
    assert not compared.differences


def test_rows_whose_keys_the_server_makes_cannot_be_sampled() -> None:
    world = World.of(collection_of(DataType.INT64, auto_id=True), [[]], [])
    with pytest.raises(ConflictError, match="no row of the source can be asked for"):
        world.check("sample", sample=3)


def test_row_numbers_are_keys_like_others() -> None:
    rows = rows_of(*range(12))
    world = World.of(collection_of(DataType.INT64), [rows], rows_of(*range(11)))
    side = world.side(5)
    side = replace(side, units=(replace(side.units[0], origins={**side.units[0].origins, "id": "$row"}),))
    for how in ("keys", "content"):
        assert [(f.symbol, f.key) for f in world.check(how, side=side)[1]] == [("+", 11)]
