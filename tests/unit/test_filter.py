"""Filters over Arrow rows: what is refused is named with its place, and slices of rows are filtered as rows are."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsync.errors import SourceError
from vsync.rows import arrow_type
from vsync.rows.filter import parse
from vsync.schema import Collection, DataType, Field

T = DataType
COLLECTION = Collection(
    "words",
    (
        Field("id", T.INT64, primary=True),
        Field("n", T.INT32, nullable=True),
        Field("f", T.FLOAT),
        Field("b", T.BOOL),
        Field("s", T.VARCHAR, max_length=8),
        Field("j", T.JSON),
        Field("a", T.ARRAY, element=T.INT64, max_capacity=9, nullable=True),
        Field("at", T.TIMESTAMPTZ),
        Field("v", T.FLOAT_VECTOR, dim=2),
    ),
)


@pytest.mark.parametrize(
    ("text", "column", "what"),
    [
        ("", 1, "a field is expected, not the end"),
        ("nope == 1", 1, "words has no field nope"),
        ("id ==", 6, "a number, a text in quotes, true or false is expected, not the end"),
        ("id = 1", 4, "= is not understood here"),
        ("id == 1 n == 2", 9, "n is not expected here"),
        ("id == 'a'", 7, "id is int64: it is compared with a number, not with 'a'"),
        ("n == 1 and b == 1", 17, "b is bool: it is compared with true or false, not with 1"),
        ("s in ['a', 1]", 6, "s is varchar(8): it is compared with a text in quotes, not with 1"),
        ("id + 1 == 2", 4, "+ is not understood here"),
        ("id == 1 - 1", 9, "- is not expected here"),
        ("id == 010", 7, "010 may be meant octal"),
        ("id == 0x10", 7, "0 is not understood here"),
        ("id == 1" + 40 * "0", 7, "the number is too long"),
        ("(id == 1", 9, ") is expected, not the end"),
        ("1 < id > 2", 8, "< and > are no range"),
        ("s like 1", 8, "like takes a text in quotes"),
        ("n like 'a'", 8, "n is int32: it is compared with a number"),
        ("s == 'a\\q'", 6, "\\q is not understood in a text"),
        ("v == 1", 6, "v is float_vector(2), which cannot be compared with 1"),
        ("v[0] == 1", 1, "there is nothing in it at 0"),
        ("a['x'] == 1", 1, "there is nothing in it at 'x'"),
        ("a[-1] == 1", 3, "a key in quotes or a position is expected"),
        ("at == '2020-01-01'", 7, "at is timestamptz, which cannot be compared with '2020-01-01'"),
        ("exists id", 8, "exists asks for a key in JSON or in the dynamic field"),
        ("array_contains(s, 'a')", 16, "an array field is expected"),
        ("array_contains(a, 'a')", 19, "it is compared with a number"),
        ("text_match(s, 'a')", 1, "text_match is no function that is understood here"),
        ("id", 3, "a comparison is expected, not the end"),
        ("not", 4, "a field is expected, not the end"),
        ("n is 1", 6, "null is expected, not 1"),
        ("(" * 60 + "id == 1" + ")" * 60, 51, "the filter is nested too deeply"),
        ("$meta['a'] == 1", 1, "words has no field $meta"),
    ],
)
def test_what_is_not_understood_is_named_with_its_place(text: str, column: int, what: str) -> None:
    with pytest.raises(SourceError) as raised:
        parse(text, COLLECTION)
    (problem,) = raised.value.problems
    assert what in problem.what
    assert str(problem.where).endswith(f"column {column}")
    assert problem.hint


def test_a_key_of_the_dynamic_field_needs_a_key() -> None:
    with pytest.raises(SourceError, match="a key of the dynamic field is expected"):
        parse("$meta == 1", Collection("words", COLLECTION.fields, dynamic=True))


def test_only_the_fields_that_it_looks_at_are_read() -> None:
    assert parse("n == 1 or (n == 2 and not s like 'a%')", COLLECTION).fields == ("n", "s")


ARRAYS = st.lists(st.none() | st.lists(st.integers(0, 3), max_size=4), max_size=12)


@given(ARRAYS, st.integers(0, 12), st.integers(0, 3))
def test_arrays_are_asked_row_by_row_whatever_slice_they_are(cells: list[list[int] | None], start: int, n: int) -> None:
    column = pa.array(cells, arrow_type(COLLECTION.fields[6])).slice(start)
    rows, cells = pa.RecordBatch.from_arrays([column], ["a"]), cells[start:]
    asked = {
        f"array_contains(a, {n})": [c is not None and n in c for c in cells],
        f"not array_contains(a, {n})": [c is not None and n not in c for c in cells],
        f"array_contains_all(a, [1, {n}])": [c is not None and {1, n} <= set(c) for c in cells],
        f"array_contains_any(a, [1, {n}])": [c is not None and bool({1, n} & set(c)) for c in cells],
        f"a[1] == {n}": [c is not None and len(c) > 1 and c[1] == n for c in cells],
        f"array_length(a) >= {n}": [c is not None and len(c) >= n for c in cells],
        "a is null": [c is None for c in cells],
    }
    assert {text: parse(text, COLLECTION).mask(rows).to_pylist() for text in asked} == asked


@given(st.lists(st.none() | st.integers(-(2**31), 2**31 - 1), max_size=8), st.integers(-(2**70), 2**70), st.booleans())
def test_integers_are_compared_exactly_with_any_number(cells: list[int | None], value: int, half: bool) -> None:  # noqa: FBT001
    literal = str(value + 0.5 if half else value) if abs(value) < 2**50 else str(value)
    number = float(literal) if "." in literal else int(literal)
    rows = pa.RecordBatch.from_arrays([pa.array(cells, pa.int32())], ["n"])
    answers = {sign: parse(f"n {sign} {literal}", COLLECTION).mask(rows).to_pylist() for sign in ("==", "<", ">=")}
    assert answers == {
        "==": [c is not None and c == number for c in cells],
        "<": [c is not None and c < number for c in cells],
        ">=": [c is not None and c >= number for c in cells],
    }


NUMBERS = st.integers(-3, 3) | st.sampled_from([2**63, -(2**63) - 1, 2.0, 0.5, 1e300])


@given(st.lists(st.none() | st.integers(-3, 3), max_size=8), st.lists(NUMBERS, max_size=6))
def test_a_list_means_each_of_its_values_whatever_the_kind(cells: list[int | None], values: list[float]) -> None:
    texts = pa.array([None if c is None else str(c) for c in cells], pa.string())
    bodies = pa.array([None if c is None else f'{{"k": {c}}}'.encode() for c in cells], pa.binary())
    rows = pa.RecordBatch.from_arrays([pa.array(cells, pa.int32()), texts, bodies], ["n", "s", "j"])
    listed, quoted = json.dumps(values), json.dumps([str(value) for value in values])
    asked = {
        f"n in {listed}": [c is not None and c in values for c in cells],
        f"n not in {listed}": [c is not None and c not in values for c in cells],
        f"s in {quoted}": [c is not None and str(c) in map(str, values) for c in cells],
        f"s not in {quoted}": [c is not None and str(c) not in map(str, values) for c in cells],
        f"j['k'] in {listed}": [c is not None and c in values for c in cells],
        f"j['k'] not in {listed}": [c is not None and c not in values for c in cells],
    }
    assert {text: parse(text, COLLECTION).mask(rows).to_pylist() for text in asked} == asked
