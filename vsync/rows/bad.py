"""Rows that do not fit: how they are named and shown."""

from __future__ import annotations

from codecs import getincrementaldecoder
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from vsync.errors import BadRowsError, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

IS_NULL = "is null, and the field is neither nullable nor has a default"
NEVER_NULL = "is null, which keys and vectors cannot be"
NAMED = 10
SHOWN_CHARACTERS = 60
SHOWN_ELEMENTS = 6


@dataclass(frozen=True, slots=True)
class BadRow:
    """One value that does not fit: the row's number in its file, the field, the value (shortened) and why.

    ``key`` is what the source has for the row's key, as JSON; ``None`` where it has none (auto_id).
    """

    row: int
    field: str
    value: str
    why: str
    key: str | None = None

    def __str__(self) -> str:
        """Render as ``row 500001, field vec: holds NaN or infinity: nan at 3 of [...]``."""
        shown = "" if self.value == "null" else f": {self.value}"
        return f"row {self.row}, field {self.field}: {self.why}{shown}"


@dataclass(frozen=True, slots=True)
class Finding:
    """A bad value by its position in an array, before rows have numbers and the array a field."""

    at: int
    value: str
    why: str


def found(mask: NDArray[np.bool_], why: str, show: Callable[[int], str]) -> list[Finding]:
    """Make a finding of each true place."""
    places = np.flatnonzero(mask).tolist()  # not a vector: positions of bad rows
    return [Finding(at, show(at), why) for at in places]


def bad_rows_error(bad: Sequence[BadRow], *, where: str | None = None) -> BadRowsError:
    """Make the error that names the first ten values and says how many rows are bad in all."""
    rows = len({b.row for b in bad})
    problems = [Problem(str(b), where) for b in bad[:NAMED]]
    if len(bad) > NAMED:
        problems.append(Problem(f"{rows} rows do not fit in all; the first {NAMED} values are named", where))
    problems[-1] = Problem(problems[-1].what, where, hint_for(bad))
    return BadRowsError(problems)


def hint_for(bad: Sequence[BadRow]) -> str:
    """Say what to do about rows that do not fit."""
    nulls = sorted({b.field for b in bad if b.why == IS_NULL})
    new = f"declare {', '.join(nulls)} with nullable: true where the collection is still to be made, " if nulls else ""
    return f"mend the source, {new}or write on_bad_row: skip"


def shown(array: pa.Array, at: int) -> str:
    """Render one value of an array in a readable, short form."""
    one = array.slice(at, 1)
    if one.null_count:
        return "null"
    kind = one.type
    if pa.types.is_string(kind) or pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return _shown_bytes(one.cast(pa.binary())[0].as_py() if kind != pa.string() else _raw(one))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        values = one.flatten()
        few = values.slice(0, SHOWN_ELEMENTS).to_pylist()  # not a vector: the six elements shown
        head = [_short(v) for v in few]
        more = ", ..." if len(values) > SHOWN_ELEMENTS else ""
        return f"[{', '.join(head)}{more}] ({len(values)} values)"
    return _short(one[0].as_py())


def _raw(one: pa.Array) -> bytes:
    raw: bytes = one.view(pa.binary())[0].as_py()
    return raw


def _shown_bytes(raw: bytes) -> str:
    head: str | bytes = raw[: 4 * SHOWN_CHARACTERS]
    with suppress(UnicodeDecodeError):  # the last character may be cut in two
        head = getincrementaldecoder("utf-8")().decode(raw[: 4 * SHOWN_CHARACTERS], final=len(raw) == len(head))
    text = repr(head)
    return text if len(text) <= SHOWN_CHARACTERS else f"{head[:SHOWN_CHARACTERS]!r}... ({len(raw)} bytes)"


def _short(value: Any) -> str:
    text = f"{value:.9g}" if isinstance(value, float) and not value.is_integer() else repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."
