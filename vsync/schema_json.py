"""Collections as JSON, and back without a loss: what backups and exports keep of a schema.

An attribute is left out where it holds what it holds by default. Pairs are objects. Values that JSON has no words for
are objects of one member: ``{"base64": "..."}`` for bytes, ``{"float": "nan"}`` for numbers that are not finite, and
``{"json": ...}`` for lists and objects themselves.
"""

from __future__ import annotations

import base64
import math
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

from vsync.schema import Collection, DataType, Field, Function, Index, LiveCollection

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T", Collection, LiveCollection)


def to_json(collection: Collection | LiveCollection) -> dict[str, Any]:
    """Give the object that :func:`from_json` reads: of strings, numbers, booleans, lists and objects alone."""
    return _written(collection)


def from_json(kind: type[T], said: Any) -> T:
    """Read a :class:`Collection` or a :class:`LiveCollection`; raises ValueError where it is none."""
    found: T = _read(kind, said)
    return found


def _written(one: Any) -> dict[str, Any]:
    forms = _FORMS[type(one)]
    said = {}
    for known in fields(one):
        value = getattr(one, known.name)
        if value == known.default:
            continue
        write, _ = forms.get(known.name, _AS_IT_IS)
        said[known.name] = value if value is None else write(value)
    return said


def _read(kind: type[Any], said: Any) -> Any:
    forms, known = _FORMS[kind], {f.name for f in fields(kind)}
    if not isinstance(said, dict):
        raise ValueError(f"{said!r} is no {kind.__name__}")  # noqa: TRY004 - what is read is wrong, not the program
    if unknown := said.keys() - known:
        raise ValueError(f"{kind.__name__} has no {', '.join(sorted(unknown))}: a newer vsync may have written it")
    try:
        return kind(**{name: forms.get(name, _AS_IT_IS)[1](value) for name, value in said.items()})
    except (AttributeError, KeyError, TypeError) as e:
        raise ValueError(f"{said!r} is no {kind.__name__}: {e}") from e


def _default_written(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    return {"json": value} if isinstance(value, list | dict) else value


def _default_read(said: Any) -> Any:
    if not isinstance(said, dict):
        return said
    ((kind, value),) = said.items()
    if kind == "base64":
        return base64.b64decode(value)
    readers: dict[str, Callable[[Any], Any]] = {"float": float, "json": _same}
    return readers[kind](value)


def _many(kind: type[Any]) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    return lambda values: [_written(v) for v in values], lambda said: tuple(_read(kind, v) for v in said)


def _same(value: Any) -> Any:
    return value


_AS_IT_IS = (_same, _same)
_TYPE = (str, DataType)
_WORDS = (list, tuple)
_PAIRS = (dict, lambda said: tuple(said.items()))
_LIST_OF_PAIRS = (lambda pairs: [list(p) for p in pairs], lambda said: tuple(tuple(p) for p in said))

_FORMS: dict[type[Any], dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]]] = {
    # A class -> its attributes that are not JSON as they are: how each is written and read.
    Field: {"type": _TYPE, "element": _TYPE, "default": (_default_written, _default_read), "params": _PAIRS},
    Index: {"params": _PAIRS},
    Function: {"inputs": _WORDS, "outputs": _WORDS, "params": _PAIRS},
    Collection: {
        "fields": _many(Field),
        "indexes": _many(Index),
        "functions": _many(Function),
        "properties": _PAIRS,
        "partitions": _WORDS,
        "aliases": _WORDS,
    },
    LiveCollection: {"schema": (_written, lambda said: _read(Collection, said)), "unread": _LIST_OF_PAIRS},
}
