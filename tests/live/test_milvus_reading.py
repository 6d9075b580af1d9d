"""What the three servers hold, read back: every value bit by bit, every key once, whatever lies in which segment."""

from __future__ import annotations

import dataclasses
import json
from bisect import bisect_left
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
from conftest import QUICK_ON_LITE
from milvus_rows import EVERYWHERE, KEY, VECTOR, make, opened, rows, send

from vsync.connectors.base import KeyRange
from vsync.connectors.milvus import keys, read
from vsync.errors import ConflictError, TargetError, TooLargeError, TransientError
from vsync.rows import arrow_type, digest
from vsync.schema import DYNAMIC_FIELD, Collection, DataType, Field, Index

if TYPE_CHECKING:
    from collections.abc import Iterable

    from conftest import Endpoint

    from vsync.connectors.milvus.read import MilvusReader

PLAIN = Collection("c", (KEY, VECTOR), indexes=(Index("v"),))
TEXT_KEY = Field("id", DataType.VARCHAR, primary=True, max_length=64)
SPLIT = dataclasses.replace(PLAIN, partitions=("p",), shards=2, consistency="bounded")
EVERYTHING = KeyRange()
ALPHABET = [
    "",
    '"',
    "\\",
    "\n",
    "\r",
    "\t",
    "'",
    "%",
    "a",
    "b",
    "~",
    "\u0000",
    "é",
    "数",
    "\uffff",
    "\U0001f600",
    "\\n",
]

# Bits that a detour by way of Python's floats, or of text, would change: quiet NaNs with payloads, and subnormals.
FLOATS = np.array([0x7FC00001, 0xFFC12345, 0x80000000, 1, 0x807FFFFF, 0x7F7FFFFF, 0xFF800000], "u4").view("f4")
DOUBLES = np.array([0x7FF8000000000001, 0xFFF8000012345678, 1 << 63, 1, 0x7FEFFFFFFFFFFFFF], "u8").view("f8")


def scanned(reader: MilvusReader) -> list[Any]:
    blocks = list(reader.keys())
    assert all(len(block) for block in blocks)
    return [key for block in blocks for key in block.to_pylist()]


def names(collection: Collection) -> list[str]:
    return [f.name for f in collection.fields] + [DYNAMIC_FIELD] * bool(collection.dynamic)


def in_small_pages(reader: MilvusReader, size: int) -> MilvusReader:
    """Have it ask for fewer rows at once than this server would bear."""
    reader.holds = dataclasses.replace(reader.holds, window=size)
    return reader


def same_values(got: pa.RecordBatch, sent: pa.RecordBatch, json_columns: Iterable[str]) -> bool:
    """Compare bit by bit; JSON, which Lite writes anew, by its values."""
    parsed = [
        [
            [None if cell is None else json.loads(cell) for cell in batch.column(name).to_pylist()]
            for name in json_columns
        ]
        for batch in (got, sent)
    ]
    plain = [batch.drop_columns(list(json_columns)) for batch in (got, sent)]
    return parsed[0] == parsed[1] and digest(plain[0]) == digest(plain[1])


def test_every_type_comes_back_bit_by_bit(target: Endpoint) -> None:
    more = {
        Field("bits", DataType.BINARY_VECTOR, dim=16): (KEY,),
        Field("sparse", DataType.SPARSE_FLOAT_VECTOR): (KEY, VECTOR),
        Field("place", DataType.GEOMETRY, nullable=True): (KEY, VECTOR),
        Field("at", DataType.TIMESTAMPTZ, nullable=True): (KEY, VECTOR),
    }
    json_columns = [] if target.kind == "milvus-2.3.5" else ["j", DYNAMIC_FIELD]
    with opened(target) as milvus:
        wanted = [Collection("c", EVERYWHERE, dynamic=True, indexes=(Index("v"),))]
        wanted += [
            Collection(
                field.name,
                (*with_, field),
                indexes=tuple(Index(f.name) for f in (*with_[1:], field) if f.type.is_vector),
            )
            for field, with_ in more.items()
        ]
        for desired in wanted:
            if milvus.conflicts(desired):
                continue
            sent = with_odd_bits(rows(desired, pa.array(range(-30, 40))), finite=milvus.rules.finite_vectors)
            make(milvus, desired)
            send(milvus, desired, sent.take(pa.array(np.random.default_rng(1).permutation(70))))
            for again in range(2):
                got = milvus.reader(desired, None).read(EVERYTHING, names(desired))
                assert got.schema == sent.schema
                assert same_values(got, sent, [n for n in json_columns if n in names(desired)]), (desired.name, again)
                milvus.flush(desired.name)


def with_odd_bits(batch: pa.RecordBatch, *, finite: bool) -> pa.RecordBatch:
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    size = len(batch)
    if "v" in columns:
        odd = FLOATS[2:6] if finite else FLOATS
        columns["v"] = pa.FixedSizeListArray.from_arrays(pa.array(np.resize(odd, size * 4)), 4)
    for name, values in (("f", FLOATS), ("d", DOUBLES)):
        if name in columns:
            columns[name] = pa.array(np.resize(values, size))
    return pa.RecordBatch.from_pydict(columns)


def test_columns_come_in_the_order_asked_for_with_or_without_the_key(target: Endpoint) -> None:
    desired = Collection("c", EVERYWHERE, dynamic=True, indexes=(Index("v"),))
    with opened(target) as milvus:
        make(milvus, desired)
        reader = milvus.reader(desired, None)
        nothing = reader.read(EVERYTHING, ["words", DYNAMIC_FIELD, "id", "v"])
        send(milvus, desired, rows(desired, pa.array(range(10))))
        reader = milvus.reader(desired, None)
        some = reader.read(KeyRange(3, 6), ["words", DYNAMIC_FIELD, "id", "v"])
        assert nothing.schema == some.schema
        assert nothing.schema.names == ["words", DYNAMIC_FIELD, "id", "v"]
        assert (nothing.num_rows, some.column(2).to_pylist()) == (0, [3, 4, 5])
        assert reader.read(KeyRange(9), ["s"]).to_pydict() == {"s": ["naïve"]}
        assert reader.fetch(pa.array([99, 5, -1]), ["i64"]).to_pydict() == {"i64": [-1]}
        assert reader.fetch(pa.array([], pa.int64()), ["i64"]).num_rows == 0
        with pytest.raises(TargetError, match="no field nowhere"):
            reader.read(EVERYTHING, ["nowhere"])


def test_nulls_and_defaults_come_back_where_the_server_has_them(target: Endpoint) -> None:
    nullable = [dataclasses.replace(f, nullable=not (f.primary or f.type.is_vector)) for f in EVERYWHERE]
    default = (
        KEY,
        VECTOR,
        Field("n", DataType.INT32, default=7),
        Field("s", DataType.VARCHAR, max_length=8, default="é"),
    )
    with opened(target) as milvus:
        desired = Collection("nulls", tuple(nullable), indexes=(Index("v"),))
        if not milvus.conflicts(desired):
            make(milvus, desired)
            sent = rows(desired, pa.array(range(60)))
            send(milvus, desired, sent)
            got = milvus.reader(desired, None).read(EVERYTHING, names(desired))
            assert same_values(got, sent, ["j"])
            only = [i for i, cell in enumerate(sent.column("s").to_pylist()) if cell is None]
            got = milvus.reader(desired, None).fetch(pa.array(only), names(desired))
            assert got.column("s").null_count == len(only) == len(got)
        desired = Collection("defaults", default, indexes=(Index("v"),))
        make(milvus, desired)
        send(milvus, desired, rows(Collection("defaults", (KEY, VECTOR)), pa.array([1, 2])))
        got = milvus.reader(desired, None).read(EVERYTHING, ["n", "s"])
        assert got.to_pydict() == {"n": [7, 7], "s": ["é", "é"]}


def test_all_keys_come_once_whatever_became_of_them(target: Endpoint) -> None:
    random = np.random.default_rng(7)
    order = random.permutation(50_000)
    with opened(target) as milvus:
        make(milvus, SPLIT)
        for i, part in enumerate(np.split(order, 5)):
            send(milvus, SPLIT, rows(SPLIT, pa.array(part)), "p" if i % 2 else None)
            if i == 2:
                milvus.flush("c")
        gone, back = order[5_000:15_000], order[8_000:12_000]
        milvus.delete("c", None, pa.array(gone))
        send(milvus, SPLIT, rows(SPLIT, pa.array(random.permutation(back))))
        send(milvus, SPLIT, rows(SPLIT, pa.array(order[:3_000])))  # they were there already
        inside = np.setdiff1d(np.concatenate(np.split(order, 5)[1::2]), gone)
        expected = np.union1d(np.setdiff1d(order, gone), back)
        for partition, held in (("p", inside), ("_default", np.setdiff1d(expected, inside))):
            assert scanned(milvus.reader(SPLIT, partition)) == held.tolist(), partition
        assert scanned(in_small_pages(milvus.reader(SPLIT, None), 15_000)) == expected.tolist()
        reader = milvus.reader(SPLIT, None)
        assert scanned(reader) == expected.tolist()
        cuts = [None, *sorted(random.choice(50_000, 3, replace=False).tolist()), None]
        ranges = [KeyRange(lo, hi) for lo, hi in pairwise(cuts)]
        with ThreadPoolExecutor(3) as pool:
            parts = list(pool.map(lambda part: reader.read(part, ["id", "v"]), ranges))
        assert np.concatenate([part.column("id") for part in parts]).tolist() == expected.tolist()
        assert [part.num_rows for part in parts] == [reader.count(part) for part in ranges]
        found = reader.fetch(pa.array(order[:20_000]), ["id"]).column("id").to_pylist()
        assert sorted(found) == sorted(set(order[:20_000].tolist()) & set(expected.tolist()))


def test_two_entities_of_one_key_are_counted_and_one_of_them_is_given(target: Endpoint) -> None:
    with opened(target) as milvus:
        make(milvus, SPLIT)
        writer = milvus.writer(SPLIT, None)
        writer._method = "Insert"  # as other clients do; ours upserts
        for start in (0, 5_000, 4_000, 0, 0):
            for request in writer.encode(rows(SPLIT, pa.array(range(start, start + 6_000)))):
                writer.send(request)
        reader = milvus.reader(SPLIT, None)
        assert scanned(reader) == list(range(11_000))
        assert scanned(in_small_pages(milvus.reader(SPLIT, None), 2_000)) == list(range(11_000))
        for known in (0, 11_000, 12_000):
            read_ = reader.read(EVERYTHING, ["id", "v"], rows=known)
            assert read_.column("id").to_pylist() == list(range(11_000))
        assert sorted(reader.fetch(pa.array(range(12_000)), ["v", "id"]).column("id").to_pylist()) == [*range(11_000)]
        doubles = target.kind == "milvus-2.3.5"
        assert reader.count(EVERYTHING) == (30_000 if doubles else 11_000)
        assert reader.count(KeyRange(10_990, 20_000)) == 10
        assert reader.count(KeyRange(3_990, 4_010)) == (70 if doubles else 20)


@QUICK_ON_LITE
def test_a_range_is_counted_only_where_it_has_changed(target: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(target) as milvus:
        make(milvus, SPLIT)
        send(milvus, SPLIT, rows(SPLIT, pa.array(range(3_000))))
        reader, counted = milvus.reader(SPLIT, None), list[str]()
        count = reader.count_where

        def noted(expression: str) -> int:
            counted.append(expression)
            return count(expression)

        monkeypatch.setattr(reader, "count_where", noted)
        for known, expected in {2_000: 0, 1_999: 1, 2_001: 1, 100_000: 1}.items():
            counted.clear()
            got = reader.read(KeyRange(500, 2_500), ["id"], rows=known)
            assert got.column("id").to_pylist() == list(range(500, 2_500))
            assert len(counted) == (0 if reader.holds.short_page_is_last else expected)
        assert reader.read(KeyRange(5_000), ["id"], rows=7).num_rows == 0
        monkeypatch.setattr(read, "ANSWER_BYTES", 50_000)  # rows of 24 bytes: more than an answer shall hold
        assert reader.read(KeyRange(0), ["id", "v"], rows=3_000).num_rows == 3_000


def test_the_newest_rows_are_there_however_weak_the_consistency(target: Endpoint) -> None:
    for shards in (1, 3):
        desired = dataclasses.replace(PLAIN, name=f"c{shards}", shards=shards, consistency="eventually")
        with opened(target) as milvus:
            make(milvus, desired)
            for n in range(0, 300, 100):
                send(milvus, desired, rows(desired, pa.array(range(n, n + 100))))
                assert scanned(milvus.reader(desired, None)) == list(range(n + 100))
                send(milvus, desired, rows(desired, pa.array(range(n, n + 100))))
                assert milvus.reader(desired, None).read(KeyRange(n), ["v"]).num_rows == 100
                milvus.delete(desired.name, None, pa.array([n]))
                assert milvus.reader(desired, None).fetch(pa.array([n, n + 1]), ["id"]).to_pydict() == {"id": [n + 1]}
                send(milvus, desired, rows(desired, pa.array([n])))
                assert milvus.reader(desired, None).count(KeyRange(n)) == 100


def test_a_scan_sees_what_was_written_before_it_began(target: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(target) as milvus:
        make(milvus, SPLIT)
        reader = milvus.reader(SPLIT, None)
        for n in range(3):
            assert scanned(reader) == list(range(n))
            send(milvus, SPLIT, rows(SPLIT, pa.array([n])))
        assert scanned(reader) == [0, 1, 2]
        send(milvus, SPLIT, rows(SPLIT, pa.array([3])))
        monkeypatch.setattr(read, "FRESH_SECONDS", -1.0)  # a reader that stays open sees what is new, only later
        assert reader.read(KeyRange(2), ["id"]).column("id").to_pylist() == [2, 3]


@QUICK_ON_LITE
@pytest.mark.parametrize("key", [KEY, TEXT_KEY], ids=lambda key: str(key.type))
def test_any_range_of_any_content(target: Endpoint, key: Field) -> None:
    """Change a collection at random and compare ranges at random with what it must hold."""
    random = Random(11)
    desired = dataclasses.replace(SPLIT, fields=(key, VECTOR, Field("b", DataType.BOOL)), dynamic=True)
    held: dict[Any, str] = {}
    with opened(target) as milvus:
        make(milvus, desired)
        for step in range(8):
            chosen = list(dict.fromkeys(any_key(random, key) for _ in range(random.randrange(1, 900))))
            gone = [k for k in chosen if random.random() < 0.3]
            milvus.delete("c", None, pa.array(gone, arrow_type(key)))
            held = {k: place for k, place in held.items() if k not in set(gone)}
            for place in ("_default", "p"):
                new = [k for k in chosen if held.get(k, place) == place and random.random() < 0.5]
                if new:
                    send(milvus, desired, rows(desired, pa.array(new)), place)
                    held |= dict.fromkeys(new, place)
            if step % 5 == 2:
                milvus.flush("c")
            for partition in (None, "p"):
                inside = sorted((k for k in held if partition in {None, held[k]}), key=ordered)
                reader = in_small_pages(milvus.reader(desired, partition), random.choice([200, 16_384]))
                compare(random, key, reader, inside)


def compare(random: Random, key: Field, reader: MilvusReader, inside: list[Any]) -> None:
    assert scanned(reader) == inside
    for _ in range(4):
        lo, hi = sorted((any_key(random, key), any_key(random, key)), key=ordered)
        part = KeyRange(lo if random.random() < 0.9 else None, hi if random.random() < 0.9 else None)
        start = 0 if part.lo is None else bisect_left(inside, ordered(part.lo), key=ordered)
        end = len(inside) if part.hi is None else bisect_left(inside, ordered(part.hi), key=ordered)
        got = reader.read(part, ["b", "id"])
        assert got.column("id").to_pylist() == inside[start:end], part
        assert reader.count(part) == len(got), part
        asked = [any_key(random, key) for _ in range(5)] + random.sample(inside, min(len(inside), 20))
        found = reader.fetch(pa.array(list(dict.fromkeys(asked)), arrow_type(key)), ["id"]).column("id").to_pylist()
        assert sorted(found, key=ordered) == sorted(set(asked) & set(inside), key=ordered)


def any_key(random: Random, key: Field) -> Any:
    if key.type is DataType.INT64:
        return random.randrange(-1_000, 1_000) << random.choice([0, 0, 0, 20, 52])
    return "".join(random.choices(ALPHABET, k=random.randrange(6)))


def ordered(value: Any) -> Any:
    """Give what orders a key as servers do: texts by their bytes."""
    return value.encode() if isinstance(value, str) else value


def test_the_ends_of_int64_are_given_but_for_the_last_on_milvus(target: Endpoint) -> None:
    ends = [-(2**63), -(2**63) + 1, 0, 2**63 - 2, 2**63 - 1]
    with opened(target) as milvus:
        make(milvus, PLAIN)
        send(milvus, PLAIN, rows(PLAIN, pa.array(ends)))
        given = ends[:-1] if target.kind == "milvus-2.3.5" else ends
        reader = milvus.reader(PLAIN, None)
        for one in (reader, in_small_pages(milvus.reader(PLAIN, None), 1)):
            assert scanned(one) == given
            assert one.read(KeyRange(ends[0], ends[-1]), ["id"]).column("id").to_pylist() == ends[:-1]
            assert one.read(KeyRange(ends[1]), ["id"]).column("id").to_pylist() == given[1:]
            assert one.read(KeyRange(None, ends[0]), ["id"]).num_rows == 0
        assert sorted(reader.fetch(pa.array([*ends, 1]), ["id"]).column("id").to_pylist()) == given
        assert (reader.count(EVERYTHING), reader.count(KeyRange(ends[-1])), reader.count(KeyRange(None, 0))) == (
            5,
            1,
            2,
        )


@QUICK_ON_LITE
def test_rows_that_come_between_the_count_and_the_question_are_not_left_out(
    target: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of more rows than were counted an answer holds some: that they are some is seen."""
    if target.kind != "milvus-2.3.5":
        return  # answers that are not full are the last ones there
    with opened(target) as milvus:
        make(milvus, PLAIN)
        for start in range(0, 20_000, 5_000):
            send(milvus, PLAIN, rows(PLAIN, pa.array(range(start, start + 5_000))))
        reader = milvus.reader(PLAIN, None)
        counts = iter([100])
        count, ask = reader.count_where, reader.ask
        some = iter([rows(PLAIN, pa.array(range(20_000 - keys.WINDOW, 20_000))).select(["id"])])
        monkeypatch.setattr(reader, "count_where", lambda expression: next(counts, None) or count(expression))
        monkeypatch.setattr(reader, "ask", lambda *how: (how[-1] == keys.ORDERED and next(some, None)) or ask(*how))
        assert reader.read(EVERYTHING, ["id"]).column("id").to_pylist() == list(range(20_000))
        assert next(counts, None) is None


@QUICK_ON_LITE
def test_rows_that_no_answer_holds_together_come_in_several(target: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    if target.kind != "milvus-2.3.5":
        return  # 256 MiB there: too much for a quick test
    desired = Collection("c", (KEY, VECTOR, Field("s", DataType.VARCHAR, max_length=65_535)), indexes=(Index("v"),))
    text = "0123456789" * 6_000
    with opened(target) as milvus:
        make(milvus, desired)
        plain = rows(PLAIN, pa.array(range(1_200)))
        send(milvus, desired, plain.append_column("s", pa.array([f"{i} {text}" for i in range(1_200)])))  # 72 MB
        reader = milvus.reader(desired, None)
        with pytest.raises(TooLargeError):
            reader.ask(keys.everything(KEY), desired.fields, 1_200, ())
        monkeypatch.setattr(read, "TEXT_BYTES", 2 * read.ANSWER_BYTES)  # one row at once
        assert reader.read(KeyRange(5, 8), ["s"]).num_rows == 3
        monkeypatch.undo()
        got = reader.read(EVERYTHING, ["id", "s"])
        assert got.column("id").to_pylist() == list(range(1_200))
        assert got.column("s")[777].as_py() == f"777 {text}"
        assert sorted(reader.fetch(pa.array(range(1_200)), ["id", "s"]).column("id").to_pylist()) == list(range(1_200))


def test_a_collection_that_is_not_loaded_is_refused_or_loaded_where_nothing_stays_so(target: Endpoint) -> None:
    with opened(target) as milvus:
        make(milvus, PLAIN)
        send(milvus, PLAIN, rows(PLAIN, pa.array([1])))
        milvus.release("c")
        if target.kind in {"lite", "lite-server"}:
            assert scanned(milvus.reader(PLAIN, None)) == [1]
            return
        with pytest.raises(ConflictError, match=r"c is not loaded.*`load: true`"):
            milvus.reader(PLAIN, None)
        milvus.load("c", lambda _percent: None)
        reader = milvus.reader(PLAIN, None)
        milvus.release("c")
        with pytest.raises(TargetError, match="load it"):
            scanned(reader)


def test_a_scan_goes_on_after_an_answer_that_did_not_come(target: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(target) as milvus:
        make(milvus, PLAIN)
        send(milvus, PLAIN, rows(PLAIN, pa.array(range(5_000))))
        call, random = milvus._client.call, Random(5)

        def flaky(method: str, request: Any, **options: Any) -> Any:
            if random.random() < 0.4:
                raise TransientError("no answer in time")
            return call(method, request, **options)

        blocks = in_small_pages(milvus.reader(PLAIN, None), 300).keys()
        monkeypatch.setattr(milvus._client, "call", flaky)
        found: list[int] = []
        failed = 0
        while True:
            try:
                block = next(blocks, None)
            except TransientError:
                failed += 1
                continue
            if block is None:
                break
            found += block.to_pylist()
        assert found == list(range(5_000))
        assert failed > 5
        assert next(blocks, None) is None


@QUICK_ON_LITE
def test_a_row_that_no_answer_holds_is_an_error(target: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(target) as milvus:
        make(milvus, PLAIN)
        send(milvus, PLAIN, rows(PLAIN, pa.array(range(3))))
        reader = milvus.reader(PLAIN, None)

        def refused(*_question: Any) -> pa.RecordBatch:
            raise TooLargeError("trying to send message larger than max")

        monkeypatch.setattr(reader, "ask", refused)
        with pytest.raises(TooLargeError, match="a row of c is larger"):
            reader.read(EVERYTHING, ["v"])
        with pytest.raises(TooLargeError, match="a row of c is larger"):
            reader.fetch(pa.array([1, 2]), ["v"])


@QUICK_ON_LITE
def test_answers_out_of_order_are_put_in_order_or_refused(target: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(target) as milvus:
        make(milvus, PLAIN)
        send(milvus, PLAIN, rows(PLAIN, pa.array(range(100))))
        small, reader = in_small_pages(milvus.reader(PLAIN, None), 10), milvus.reader(PLAIN, None)
        for one in (small, reader):
            ask = one.ask

            def turned(*question: Any, ask: Any = ask) -> pa.RecordBatch:
                answer = ask(*question)
                return answer.take(pa.array(range(len(answer) - 1, -1, -1)))

            monkeypatch.setattr(one, "ask", turned)
        with pytest.raises(TargetError, match="not in their order"):
            small.read(EVERYTHING, ["v"])
        if target.kind == "milvus-2.3.5":
            assert reader.read(EVERYTHING, ["id"]).column("id").to_pylist() == list(range(100))
        monkeypatch.setattr(reader, "ask", lambda *_question: rows(PLAIN, pa.array([1, 1, 2])))
        with pytest.raises(TargetError, match="keys twice"):
            list(reader.keys())
