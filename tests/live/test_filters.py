"""Filters over rows that no server holds choose what the servers' own filters choose."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest
from milvus_rows import KEY, VECTOR, make, opened, send

from vsync.connectors.base import KeyRange
from vsync.connectors.milvus.read import MilvusReader
from vsync.rows import arrow_type
from vsync.rows import filter as filters
from vsync.schema import META, Collection, DataType, Field, Index

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Endpoint

    from vsync.connectors.milvus.target import MilvusTarget

T = DataType
INF = float("inf")
VALUES: dict[Field, list[object]] = {
    KEY: list(range(6)),
    Field("i8", T.INT8): [-128, 127, 5, 0, 2, 2],
    Field("i64", T.INT64): [0, -7, 2**53 + 1, -(2**63), 7, 2**63 - 1],
    Field("f", T.FLOAT): [0.5, 1.5, -0.0, INF, 2.0, 16777216.0],
    Field("d", T.DOUBLE): [0.1, -2.5, 1e300, INF, float("nan"), 2.0],
    Field("b", T.BOOL): [True, False, True, False, True, False],
    Field("s", T.VARCHAR, max_length=64): ["", "abc", "a%b", "a_b\"'\\q\t", "ABC", "naïve 数据"],
    Field("j", T.JSON): [
        b'{"a":1,"b":{"c":[1,2]},"s":"x"}',
        b'{"a":2.5,"n":null}',
        b"{}",
        b'{"a":"1","s":"abc"}',
        b'{"a":9007199254740993,"b":null}',
        b'{"a":[1],"b":{}}',
    ],
    Field("ai", T.ARRAY, element=T.INT64, max_capacity=8): [[], [1, 300], [3], [1, 2, 3], [5], [2]],
    Field("av", T.ARRAY, element=T.VARCHAR, max_capacity=8, max_length=32): [
        ["x"],
        [],
        ["ü", ""],
        ["abc"],
        ["x", "y"],
        [],
    ],
    META: [
        b'{"dyn":1}',
        b'{"dyn":"one"}',
        b"{}",
        b'{"dyn":1.5}',
        b'{"dyn":[1]}',
        b'{"k":{"z":1}}',
    ],
}
STORED = tuple(f for f in VALUES if f is not META)
BOTH = """
i8 == 5
i8 != 5
i8 > 0
i8 <= -128
i8 == 300
i8 < 300
i8 in [2, 300]
i8 in []
i8 not in [2, 5]
i64 == 9007199254740993
i64 == 9223372036854775807
f == 1.5
f in [0.5, 2]
d == 0.1
d in [0.1, 2]
d != 2
d > 0
d < 0
not (d > 0)
b == true
b != True
b in [true]
s == 'abc'
'abc' == s
s == "abc"
s == 'a_b"\\'\\\\q\\t'
s < 'abc'
s > 'a'
s in ['abc', "ABC"]
s not in ['abc']
s like 'a%'
s like 'abc'
s like '%'
not (s like 'a%')
i8 > 0 and s like 'a%'
i8 > 0 and s like 'a%' or b == true
i8 > 0 && (s like 'a%' || b == true)
!(i8 > 0 and b == true) or id == 4
j['a'] == 1
j['a'] == '1'
j['a'] != '2' and id != 2
j['a'] > 1
j['a'] < '2'
j["s"] == 'abc'
j['s'] like 'a%'
j['b']['c'][0] == 1
exists j['a']
not (exists j['b']['c'])
dyn == 1
dyn == 'one'
$meta['dyn'] == 1
k['z'] == 1
array_contains(ai, 1)
array_contains(av, '')
not array_contains(ai, 1)
array_contains_all(ai, [1,2])
array_contains_any(ai, [1, 2])
ARRAY_CONTAINS_ANY(av, ['x', 'ü'])
array_length(ai) == 1
array_length(ai) != 1
ai[0] == 1
ai[0] > 1
ai[1] == 2
ai[5] != 1
av[0] == 'x'
""".strip().splitlines()
ONLY_MILVUS = """
1 < i64 < 8
1 <= i64 <= 7
7 >= i64 > 1
1 < f < 3
'a' < s < 'b'
f == 16777217
j['a'] in [1, 2]
ai[0] in [1, 3]
array_contains(ai, 300)
""".strip().splitlines()
ONLY_LITE = """
s like '%b%'
s like '%c'
i8 > 2.5
i8 == 5.0
i8 == 5.5
not i8 in [2]
array_length(ai) > 1
array_length(ai) <= 1
""".strip().splitlines()


def batch() -> pa.RecordBatch:
    columns = {f.name: pa.array(cells, arrow_type(f)) for f, cells in VALUES.items()}
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(24, dtype="f4")), 4)
    return pa.RecordBatch.from_pydict({**columns, "v": vectors})


@contextlib.contextmanager
def filled(endpoint: Endpoint, collection: Collection, rows: pa.RecordBatch) -> Iterator[MilvusTarget]:
    with opened(endpoint) as milvus:
        make(milvus, collection)
        send(milvus, collection, rows)
        yield milvus


def test_a_filter_chooses_what_the_server_chooses(target: Endpoint) -> None:
    collection = Collection("c", (*STORED, VECTOR), dynamic=True, indexes=(Index("v"),))
    rows = batch()
    more = ONLY_MILVUS if target.kind == "milvus-2.3.5" else ONLY_LITE
    differ = {}
    with filled(target, collection, rows) as milvus:
        client = milvus.reader(collection, None)._client
        for text in BOTH + more:
            theirs = MilvusReader(client, collection, None, where=text).read(KeyRange(), ["id"])
            ours = rows.filter(filters.parse(text, collection).mask(rows)).column("id")
            if theirs.column("id") != ours:
                differ[text] = theirs.column("id").to_pylist(), ours.to_pylist()
    assert not differ


NULLABLE = Collection(
    "n",
    (
        KEY,
        VECTOR,
        Field("n", T.INT32, nullable=True),
        Field("t", T.VARCHAR, max_length=8, nullable=True),
        Field("o", T.JSON, nullable=True),
    ),
    indexes=(Index("v"),),
)
OF_NULLS = """
n == 0
n != 0
not (n == 0)
n is null
n is not null
not (n is null)
n in [0, 2]
n == 0 or id == 1
not (n == 0 or id == 1)
not (n == 0 and id == 1)
t like 'a%'
not (t like 'a%')
o['a'] == 2
o['a'] != 2
""".strip().splitlines()


@pytest.mark.parametrize("target", ["lite"], indirect=True)
def test_what_is_null_is_neither_equal_nor_different(target: Endpoint) -> None:
    cells = {
        "id": pa.array(range(6)),
        "v": batch().column("v"),
        "n": pa.array([0, None, 2, None, 4, None], pa.int32()),
        "t": pa.array(["ab", None, None, "ab", None, None]),
        "o": pa.array([b'{"a":0}', None, b'{"a":2}', None, b'{"a":4}', None], pa.binary()),
    }
    rows = pa.RecordBatch.from_pydict(cells)
    differ = {}
    with filled(target, NULLABLE, rows) as milvus:
        client = milvus.reader(NULLABLE, None)._client
        for text in OF_NULLS:
            theirs = MilvusReader(client, NULLABLE, None, where=text).read(KeyRange(), ["id"])
            ours = rows.filter(filters.parse(text, NULLABLE).mask(rows)).column("id")
            if theirs.column("id") != ours:
                differ[text] = theirs.column("id").to_pylist(), ours.to_pylist()
    assert not differ
