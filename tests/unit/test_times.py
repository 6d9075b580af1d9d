"""Points in time as text and back, by Python's own clock arithmetic and by Arrow's."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsync.times import FIRST, LAST, micros_of, text_of

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@given(st.integers(FIRST, LAST))
def test_a_moment_is_its_text(micros: int) -> None:
    text = text_of(micros)
    assert micros_of(text) == micros
    assert pa.scalar(text).cast(pa.timestamp("us", "UTC")).value == micros
    assert not text.endswith(("0Z", ".Z")) or "." not in text


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("1970-01-01T00:00:00Z", EPOCH),
        ("2025-05-01t23:59:59.25+08:00", datetime(2025, 5, 1, 15, 59, 59, 250_000, timezone.utc)),
        ("2025-05-01 00:00:00.000001z", datetime(2025, 5, 1, 0, 0, 0, 1, timezone.utc)),
        ("1969-12-31T23:00:00-01:00", EPOCH),
    ],
)
def test_what_rfc_3339_allows_is_read(text: str, moment: datetime) -> None:
    assert micros_of(text) == (moment - EPOCH) // timedelta(microseconds=1)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2025-05-01",
        "2025-05-01T00:00:00",
        "2025-05-01T00:00Z",
        "2025-05-01T00:00:00.1234567Z",
        "2025-13-01T00:00:00Z",
        "2025-05-01T24:00:00Z",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-00:01",
        "2025-05-01T00:00:00Z\n",
        "٢٠٢٥-05-01T00:00:00Z",
    ],
)
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        micros_of(text)


def test_texts_are_as_short_as_they_can_be() -> None:
    assert [text_of(m) for m in (0, 250_000, 10_000_000)] == [
        "1970-01-01T00:00:00Z",
        "1970-01-01T00:00:00.25Z",
        "1970-01-01T00:00:10Z",
    ]
