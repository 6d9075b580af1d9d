"""Keys of the dynamic field: what is taken out of it, what is put into it, and which values do not fit."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsync.connectors.base import Column
from vsync.errors import ConflictError
from vsync.planning.origins import origin_of, plain_origin
from vsync.rows import (
    Constant,
    DynamicKey,
    FromColumn,
    Mapped,
    Origin,
    RowNumber,
    Rules,
    Taken,
    WithKeys,
    columns_of,
    take_rows,
)
from vsync.rows.dynamic import key_route, value_route
from vsync.schema import DYNAMIC_FIELD, META, DataType, Field

D = DataType
KEY = Mapped(Field("id", D.INT64, primary=True), FromColumn("id"))


def out(field: Field, *texts: str | None, key: str = "k") -> Taken:
    """Take a key out of dynamic fields; the rows have the keys 100, 101, ..."""
    raw = [None if t is None else t.encode() for t in texts]
    ids = pa.array(range(100, 100 + len(texts)), pa.int64())
    batch = pa.record_batch([ids, pa.array(raw, pa.binary())], names=["id", DYNAMIC_FIELD])
    return take_rows(batch, 0, (KEY, Mapped(field, DynamicKey(key))), Rules())


def put(keys: dict[str, Any], columns: dict[str, pa.Array], without: tuple[str, ...] = ()) -> Taken:
    own = DYNAMIC_FIELD if DYNAMIC_FIELD in columns else None
    batch = pa.record_batch(list(columns.values()), names=list(columns))
    return take_rows(batch, 7, (Mapped(META, WithKeys(own, without, tuple(keys.items()))),), Rules())


def dynamic(taken: Taken) -> list[bytes]:
    assert not taken.bad
    found: list[bytes] = taken.rows.column(DYNAMIC_FIELD).to_pylist()
    return found


FIT = [
    (Field("f", D.BOOL), "true", True),
    (Field("f", D.INT8), "-128", -128),
    (Field("f", D.INT64), "9223372036854775807", 2**63 - 1),
    (Field("f", D.INT32), "1e3", 1000),
    (Field("f", D.FLOAT), "0.5", 0.5),
    (Field("f", D.DOUBLE), "0.1", 0.1),
    (Field("f", D.DOUBLE), "3", 3.0),
    (Field("f", D.VARCHAR, max_length=9), '"caf\\u00e9"', "café"),
    (Field("f", D.JSON), '{"deep": [1.0000000000000000000001]}', b'{"deep": [1.0000000000000000000001]}'),
    (Field("f", D.JSON, nullable=True), "null", None),
    (Field("f", D.ARRAY, element=D.INT16, max_capacity=9), "[1, 2]", [1, 2]),
    (Field("f", D.ARRAY, element=D.VARCHAR, max_length=5, max_capacity=9), '["a", "b"]', ["a", "b"]),
    (
        Field("f", D.TIMESTAMPTZ),
        '"2025-05-01T02:00:00+02:00"',
        dt.datetime(2025, 5, 1, tzinfo=dt.timezone.utc),
    ),
    (Field("f", D.INT64, nullable=True), "null", None),
]


@pytest.mark.parametrize(("field", "text", "value"), FIT, ids=[f"{f}-{t}" for f, t, _ in FIT])
def test_a_key_becomes_a_field(field: Field, text: str, value: object) -> None:
    taken = out(field, f' {{"other" : [{{"k": 5}}, "}}"] , "k" :{text}\n}}')
    assert not taken.bad
    assert taken.rows.column("f").to_pylist() == [value]


UNFIT = [
    (Field("f", D.BOOL), "1", "$meta.k is no bool"),
    (Field("f", D.INT8), "128", "$meta.k is no int8"),
    (Field("f", D.INT64), "9223372036854775808", "$meta.k is no int64"),
    (Field("f", D.INT64), "1.5", "$meta.k is no int64"),
    (Field("f", D.INT64), "true", "$meta.k is no int64"),
    (Field("f", D.INT64), '"5"', "$meta.k is no int64"),
    (Field("f", D.DOUBLE), "1e999", "$meta.k is no double"),
    (Field("f", D.DOUBLE), "9007199254740993", "$meta.k is no double"),
    (Field("f", D.FLOAT), "1e39", "$meta.k is no float32"),
    (Field("f", D.VARCHAR, max_length=9), "5", "$meta.k is no varchar"),
    (Field("f", D.VARCHAR, max_length=9), '"\\ud800"', "$meta.k is no varchar"),
    (Field("f", D.VARCHAR, max_length=2), '"abc"', "is longer than 2 bytes"),
    (Field("f", D.ARRAY, element=D.INT16, max_capacity=9), "5", "$meta.k is no array"),
    (Field("f", D.ARRAY, element=D.INT16, max_capacity=9), '[1, "2"]', "$meta.k is no array"),
    (Field("f", D.ARRAY, element=D.INT16, max_capacity=9), "[1, 40000]", "$meta.k an element is no int16"),
    (Field("f", D.ARRAY, element=D.INT16, max_capacity=9), "[1, null]", "holds a null"),
    (Field("f", D.INT64), "null", "$meta.k is null, and the field is neither nullable nor has a default"),
]


@pytest.mark.parametrize(("field", "text", "why"), UNFIT, ids=[f"{f}-{t}" for f, t, _ in UNFIT])
def test_a_value_of_another_type_is_a_bad_row(field: Field, text: str, why: str) -> None:
    good = (
        "[]" if field.type is D.ARRAY else '"a"' if field.type is D.VARCHAR else "true" if field.type is D.BOOL else "1"
    )
    taken = out(field, f'{{"k": {good}}}', f'{{"k": {text}}}')
    assert [(b.row, b.key, b.field, b.why) for b in taken.bad] == [(1, "101", "f", why)]
    assert taken.rows.column("id").to_pylist() == [100]


def test_a_key_that_is_not_there_is_null_or_the_default_or_a_bad_row() -> None:
    texts = ['{"k": 1}', "{}", None]
    assert out(Field("f", D.INT64, nullable=True), *texts).rows.column("f").to_pylist() == [1, None, None]
    assert out(Field("f", D.INT64, default=9), *texts).rows.column("f").to_pylist() == [1, None, None]
    bad = out(Field("f", D.INT64), *texts).bad
    assert [str(b) for b in bad] == [
        f"row {n}, field f: $meta.k is not there, and the field is neither nullable nor has a default: nothing"
        for n in (1, 2)
    ]


@pytest.mark.parametrize("text", ["{", "[1]", '{"k": NaN}', '{"k": 1} x'])
def test_a_dynamic_field_that_is_no_object_is_a_bad_row(text: str) -> None:
    (bad,) = out(Field("f", D.INT64), text).bad
    assert bad.why.startswith("$meta.k cannot be found: the dynamic field is no")


def test_the_last_of_two_values_of_a_key_counts_as_it_does_for_python() -> None:
    assert out(Field("f", D.INT64), '{"k": 1, "k": 2}').rows.column("f").to_pylist() == [2]


def test_a_key_of_the_row_may_be_a_key_of_the_dynamic_field() -> None:
    batch = pa.record_batch([pa.array([b'{"n":1,"id":5}', b'{"n":"x","id":6}'])], names=[DYNAMIC_FIELD])
    key = Mapped(Field("id", D.INT64, primary=True), DynamicKey("id"))
    taken = take_rows(batch, 0, (key, Mapped(Field("n", D.INT64), DynamicKey("n"))), Rules())
    assert taken.rows.to_pylist() == [{"id": 5, "n": 1}]
    assert [(b.row, b.key) for b in taken.bad] == [(1, "6")]


def test_columns_become_keys() -> None:
    columns = {
        "n": pa.array([1, None], pa.int64()),
        "f": pa.array([0.5, -0.0], pa.float32()),
        "b": pa.array([True, False]),
        "t": pa.array(['a"\u2028', ""], pa.large_string()),
        "raw": pa.array([b"ab\0\0", b"cdef"], pa.binary(4)),
        "json": pa.array([b'{"x": 1.0}', b"null"]),
        "list": pa.array([[1, 2], []], pa.list_(pa.int8())),
        "pair": pa.array([[1, 2], [3, None]], pa.list_(pa.int8(), 2)),
    }
    keys: dict[str, Origin] = {f"k {c}": FromColumn(c) for c in columns}
    keys |= {"row": RowNumber(), "one": Constant([1]), "no": Constant(None)}
    taken = put(keys, columns)
    found = [json.loads(text) for text in dynamic(taken)]
    assert found == [
        {
            "k n": 1, "k f": 0.5, "k b": True, "k t": 'a"\u2028', "k raw": "ab", "k json": {"x": 1.0},
            "k list": [1, 2], "k pair": [1, 2], "row": 7, "one": [1],
        },
        {
            "k f": 0.0, "k b": False, "k t": "", "k raw": "cdef", "k json": None, "k list": [],
            "k pair": [3, None], "row": 8, "one": [1],
        },
    ]  # fmt: skip
    assert columns_of((Mapped(META, WithKeys(None, (), tuple(keys.items()))),)) == list(columns)


def test_what_has_no_form_in_json_is_a_bad_row() -> None:
    broken = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff")])
    for column in (pa.array([float("nan")]), pa.array([b"{"]), broken):
        (bad,) = put({"k": FromColumn("c")}, {"c": column}).bad
        assert (bad.row, bad.field) == (7, DYNAMIC_FIELD)
        assert bad.why.startswith(("the value of k has no form in JSON", "the value of k is not JSON"))


def test_what_is_put_in_wins_and_the_rest_keeps_its_bytes() -> None:
    own = [b'{ "a" : 1.00 , "b":2e400,"\\ud800":1}', b'{ "z": 1 }', None, b'{"out":1,"out":2}']
    columns = {DYNAMIC_FIELD: pa.array(own, pa.binary()), "c": pa.array(["x", None, "y", None])}
    assert dynamic(put({"a": FromColumn("c")}, columns, ("out",))) == [
        b'{"b":2e400,"\\ud800":1,"a":"x"}',
        b'{ "z": 1 }',
        b'{"a":"y"}',
        b"{}",
    ]


def test_a_key_may_get_another_name() -> None:
    columns = {DYNAMIC_FIELD: pa.array([b'{"old":1.0,"x":2}', b'{"x":3}'])}
    assert dynamic(put({"new": DynamicKey("old")}, columns, ("old",))) == [b'{"x":2,"new":1.0}', b'{"x":3}']


@given(
    st.dictionaries(st.text(), st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists)), st.data()
)
def test_any_object_is_split_as_python_reads_it(whole: dict[str, Any], data: st.DataObject) -> None:
    indent = data.draw(st.sampled_from([None, 1]))
    text = json.dumps(whole, ensure_ascii=False, indent=indent)
    gone = data.draw(st.sets(st.sampled_from(sorted(whole)))) if whole else set()
    columns = {DYNAMIC_FIELD: pa.array([text.encode("utf-8", "surrogatepass")])}
    (left,) = dynamic(put({}, columns, tuple(gone)))
    assert json.loads(left) == {key: value for key, value in whole.items() if key not in gone}
    for key, was in whole.items():
        (value,) = out(Field("f", D.JSON, nullable=True), text, key=key).rows.column("f").to_pylist()
        assert json.loads(value or b"null") == was


def test_what_cannot_go_is_refused_before() -> None:
    with pytest.raises(ConflictError, match=r"\$meta.k, a key of the dynamic field, cannot feed field v"):
        key_route("k", Field("v", D.FLOAT_VECTOR, dim=2))
    for kind in (pa.timestamp("us"), pa.decimal128(9, 2)):
        with pytest.raises(ConflictError, match=r"column c, x, cannot be a value of the dynamic field \(\$meta.k\)"):
            value_route(Column("c", kind, "x", 4), "k")
    vectors = (
        (D.SPARSE_FLOAT_VECTOR, pa.binary()),
        (D.FLOAT_VECTOR, pa.list_(pa.float32(), 2)),
        (D.BINARY_VECTOR, pa.binary(2)),
    )
    for was, kind in vectors:
        with pytest.raises(ConflictError, match="keep it a field"):
            value_route(Column("c", kind, "x", 4, field=Field("c", was)), "k")


def test_what_a_cast_narrows_is_said() -> None:
    assert key_route("k", Field("f", D.FLOAT)).cast.note == "$meta.k -> float: rounded, checked at apply"
    assert key_route("k", Field("f", D.INT8)).cast.note == "$meta.k -> int8: checked at apply"
    assert key_route("k", Field("f", D.JSON)).cast.note is None
    assert value_route(Column("c", pa.int8(), "x", 1), "k").cast.note == "c -> $meta.k: written as JSON"


def test_a_plan_keeps_where_values_come_from() -> None:
    for origin in (
        DynamicKey("a.b"),
        WithKeys(None, ("x",), (("k", FromColumn("c")), ("n", RowNumber()), ("o", Constant({"keys": 1})))),
        WithKeys(DYNAMIC_FIELD, ("k",), (("o", DynamicKey("k")),)),
    ):
        assert origin_of(json.loads(json.dumps(plain_origin(origin)))) == origin
