"""Points in time as text: a timestamptz is microseconds since 1970 in UTC, written and read by RFC 3339."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

FIRST, LAST = -62_135_596_800_000_000, 253_402_300_799_999_999
"""The microseconds that the years 1 to 9999 begin and end with: what has a text."""

EXAMPLE = "2025-05-01T23:59:59Z or 2025-05-01T23:59:59.25+08:00"

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_FORM = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?(?:([Zz])|([+-]\d\d:\d\d))", re.ASCII)


def micros_of(text: str) -> int:
    """Read a point in time; raises ValueError where it is none, has no offset, or is finer than microseconds."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no point in time such as {EXAMPLE}")
    day, hour, fraction, _zulu, offset = found.groups()
    at = datetime.fromisoformat(f"{day}T{hour}.{fraction or '':0<6}{offset or '+00:00'}")
    micros = (at - _EPOCH) // timedelta(microseconds=1)
    if not FIRST <= micros <= LAST:
        raise ValueError(f"{text!r} is not within the years 1 to 9999 in UTC")
    return micros


def text_of(micros: int) -> str:
    """Write a point in time of the years 1 to 9999, in UTC, with no more digits than it needs."""
    text = (_EPOCH + timedelta(microseconds=micros)).isoformat()
    return text.removesuffix("+00:00").rstrip("0").rstrip(".") + "Z" if "." in text else text.replace("+00:00", "Z")
