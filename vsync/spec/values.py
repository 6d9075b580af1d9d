"""The scalars of a spec: what is taken for text, a number, a size or a word of a list, and what is not.

Each type is a plain Python type with a validator in front, so that a person never reads pydantic's own
phrases. A validator raises :func:`wrong`, whose message and hint the binder passes on.
"""

from __future__ import annotations

import math
import re
from difflib import get_close_matches
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from vsync import times
from vsync.schema import INTEGER_BITS, DataType
from vsync.spec.nodes import BAD
from vsync.spec.scalars import DECIMAL, WHOLE
from vsync.spec.variables import Filled

if TYPE_CHECKING:
    from collections.abc import Iterable

WRONG = "vsync_wrong"
REPORTED = "vsync_reported"

SAME_NAME = "{collection}"

_SHOWN = 60
_ALL = 100
_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?) ?%\Z")
_UNITS = {"B": 1, **{f"{p}B": 10 ** (3 * (i + 1)) for i, p in enumerate("kMGT")}, "KB": 1000}
_UNITS |= {f"{p}iB": 2 ** (10 * (i + 1)) for i, p in enumerate("KMGT")}
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?) ?([A-Za-z]*)\Z")


def wrong(what: str, hint: str | None = None) -> PydanticCustomError:
    """Make the error that a validator raises."""
    return PydanticCustomError(WRONG, "{what}", {"what": what, "hint": hint})


def show(value: Any) -> str:
    """Name a value as it was written, in a few words."""
    if isinstance(value, Filled):
        value = value.written
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"'{value}'" if len(value) <= _SHOWN else f"'{value[:_SHOWN]}...'"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return str(value)


def one_of(value: Any, words: Iterable[str], what: str = "one of these") -> str:
    """Name the word that was probably meant, or all there are."""
    known = {word.lower(): word for word in words}
    close = get_close_matches(str(value).lower(), known, 1)
    return f"did you mean {known[close[0]]}?" if close else f"write {what}: {', '.join(known.values())}"


def plain(value: Any) -> Any:
    """Strip a value down to what YAML and JSON have."""
    if value is BAD:
        raise PydanticCustomError(REPORTED, "reported")
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    return str(value) if isinstance(value, str) else value


def text(value: Any) -> str:
    """Take text only: a number or truth value that was meant as text must be quoted."""
    value = plain(value) if not isinstance(value, Filled) else value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, dict | list):
        raise wrong(f"this must be text, not {show(value)}")
    raise wrong(f"this must be text, and {show(value)} is none", f'quote it: "{show(value)}"')


def whole(value: Any) -> int:
    """Take a whole number; text only where a variable was put in."""
    if isinstance(value, Filled) and WHOLE.match(value.strip()):
        return int(value)
    value = value if isinstance(value, Filled) else plain(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    hint = "remove the quotes" if isinstance(value, str) and WHOLE.match(value) else None
    raise wrong(f"this must be a whole number, not {show(value)}", hint)


def truth(value: Any) -> bool:
    """Take true or false; text only where a variable was put in."""
    if isinstance(value, Filled) and value.strip().lower() in {"true", "false"}:
        return value.strip().lower() == "true"
    value = value if isinstance(value, Filled) else plain(value)
    if isinstance(value, bool):
        return value
    hint = "remove the quotes" if value in {"true", "false"} else None
    raise wrong(f"this must be true or false, not {show(value)}", hint)


def number(value: Any) -> int | float:
    """Take any number; text only where a variable was put in."""
    if isinstance(value, Filled) and DECIMAL.match(value.strip()) and math.isfinite(float(value)):
        return int(value) if WHOLE.match(value.strip()) else float(value)
    value = value if isinstance(value, Filled) else plain(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    hint = "remove the quotes" if isinstance(value, str) and DECIMAL.match(value) else None
    raise wrong(f"this must be a number, not {show(value)}", hint)


def scalar(value: Any) -> str | int | float | bool:
    """Take one value of any kind."""
    value = plain(value)
    if isinstance(value, str | int | float):
        return value
    raise wrong(f"this must be one value, not {show(value)}")


def as_text(value: Any) -> str:
    """Take one value of any kind as the text that Milvus keeps of it."""
    value = scalar(value)
    return show(value) if isinstance(value, bool) else str(value)


def size(value: Any) -> int:
    """Take a number of bytes, or text such as ``16MiB``."""
    value = value if isinstance(value, Filled) else plain(value)
    hint = "write a number of bytes, or a size such as 16MiB or 16MB"
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.match(value.strip()) if isinstance(value, str) else None
    if match is None or (match[2] or "B") not in _UNITS:
        raise wrong(f"this must be a size, not {show(value)}", hint)
    return int(float(match[1]) * _UNITS[match[2] or "B"])


def some_text(value: Any) -> str:
    """Take text that is not empty."""
    found = text(value)
    if not found.strip():
        raise wrong("this text is empty", "write something, or remove the key")
    return found


def one_collection(value: Any) -> str:
    """Take the name of one collection of a source, by whatever rule that source has for names."""
    found = some_text(value)
    if any(c in found for c in "*?["):
        what = f"{show(value)} is a choice of collections, and an item of data reads one"
        raise wrong(what, "write an item of data for each, or copy: for many collections as they are")
    return found


def rename(value: Any) -> str:
    """Take what collections are called, with ``{collection}`` in it."""
    found = text(value)
    if found.count(SAME_NAME) != 1 or any(c in found.replace(SAME_NAME, "") for c in "{}"):
        what = f"{show(value)} does not tell collections apart: {SAME_NAME} stands in it once, and no other braces"
        raise wrong(what, f'write "{SAME_NAME}_v2"')
    return found


def none_of_them(value: Any) -> Any:
    """Take an empty list alone."""
    if value == []:
        return value
    raise wrong("a copy takes aliases: [] alone", "name those of one collection under collections:")


def into(value: Any) -> str:
    """Take the name of a partition, with ``{FIELD}`` in it where it goes by the value of a field."""
    found = text(value)
    if any(c in found for c in "{}") and not re.fullmatch(r"[^{}]*\{[^{}]+\}[^{}]*", found):
        raise wrong(f"{show(value)} names no partition: {{FIELD}} stands in it once at the most", 'write "y{year}"')
    return found


def bound(value: Any) -> int | str:
    """Take a percent such as ``10%`` as text, or a number of rows."""
    value = value if isinstance(value, Filled) else plain(value)
    hint = "write a percent such as 10%, or a number of rows"
    if isinstance(value, Filled) and WHOLE.match(value.strip()):
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 0:
            raise wrong(f"{value} does not fit here", hint)
        return value
    match = _PERCENT.match(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise wrong(f"this must be a percent or a number of rows, not {show(value)}", hint)
    if Fraction(match[1]) > _ALL:
        raise wrong(f"{show(value)} is more than there is", hint)
    return f"{match[1]}%"


def part(bounded: int | str, whole: int) -> int:
    """Tell how many of ``whole`` what :func:`bound` took allows, rounded down."""
    if isinstance(bounded, int):
        return min(bounded, whole)
    return int(whole * Fraction(bounded.removesuffix("%")) / _ALL)


def show_size(count: int) -> int | str:
    """Write bytes as :func:`size` reads them, in the largest binary unit that is exact."""
    for unit in ("GiB", "MiB", "KiB"):
        if count and count % _UNITS[unit] == 0:
            return f"{count // _UNITS[unit]}{unit}"
    return count


def data_type(value: Any) -> DataType:
    """Take the name of a field type."""
    if isinstance(value, DataType):
        return value
    word = text(value)
    if word in DataType.__members__.values():
        return DataType(word)
    raise wrong(f"{show(value)} is not a type of a field", one_of(word, map(str, DataType)))


_BITS = {kind: 2 ** (bits - 1) for kind, bits in INTEGER_BITS.items()}


def default(value: Any, kind: DataType, max_length: int | None) -> Any:
    """Take the default value of a field of this type."""
    if kind in _BITS:
        found = whole(value)
        if not -_BITS[kind] <= found < _BITS[kind]:
            raise wrong(f"{found} does not fit into {kind}", f"it takes {-_BITS[kind]} to {_BITS[kind] - 1}")
        return found
    if kind in {DataType.FLOAT, DataType.DOUBLE}:
        return float(number(value))
    if kind is DataType.BOOL:
        return truth(value)
    if kind is DataType.VARCHAR:
        found_text = text(value)
        if max_length is not None and len(found_text.encode()) > max_length:
            raise wrong(f"the default has more than the {max_length} bytes of max_length")
        return found_text
    if kind is DataType.GEOMETRY:
        return text(value)
    if kind is DataType.TIMESTAMPTZ:
        try:
            return times.text_of(times.micros_of(text(value)))
        except ValueError as error:
            raise wrong(str(error), "write it with its offset from UTC") from error
    plain(value)
    raise wrong(f"a field of type {kind} has no default", "remove it")


def word(*words: str) -> BeforeValidator:
    """Take one of these words."""

    def check(value: Any) -> str:
        found = text(value)
        if found not in words:
            raise wrong(f"{show(value)} is not known here", one_of(found, words))
        return found

    return BeforeValidator(check)


Text = Annotated[str, BeforeValidator(text)]
Whole = Annotated[int, BeforeValidator(whole)]
Truth = Annotated[bool, BeforeValidator(truth)]
Size = Annotated[int, BeforeValidator(size)]
AsText = Annotated[str, BeforeValidator(as_text)]
Scalar = Annotated[str | int | float | bool, BeforeValidator(scalar)]
Plain = Annotated[Any, BeforeValidator(plain)]
Type = Annotated[DataType, BeforeValidator(data_type)]
