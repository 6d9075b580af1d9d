r"""Milvus's filter expressions over rows in Arrow: for rows that no server holds, those of files and backups.

What the servers agree on is understood, and the rest refused with its position, never taken for something else:
``== != < <= > >=`` of a field and a literal, ``1 < x <= 5``, ``in``, ``not in``, ``like`` (``%``, ``_``, ``\``), ``is
null``, ``is not null``, ``and``, ``or``, ``not``, ``array_contains``, ``array_contains_any``, ``array_contains_all``,
``array_length``, ``a[0]``, ``exists``, and what is in JSON: ``j['a']['b'][0]``, ``$meta['a']``, or just ``a`` for a key
of the dynamic field. Source: https://milvus.io/docs/boolean.md, and what Milvus 2.3.5 answers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import pyarrow as pa
import pyarrow.compute as pc

from vsync.errors import SourceError
from vsync.rows.forms import element_of
from vsync.rows.predicates import (
    TURNED,
    Operand,
    both,
    compare,
    contains,
    either,
    is_in,
    is_null,
    like,
    mismatch,
    negated,
)
from vsync.schema import DYNAMIC_FIELD, META, DataType

if TYPE_CHECKING:
    from vsync.rows.predicates import Literal, Predicate
    from vsync.schema import Collection, Field

TOKEN = re.compile(
    r"""\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?!\w))
    |(?P<name>\$?[A-Za-z_]\w*)
    |(?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
    |(?P<sign>==|!=|<=|>=|&&|\|\||[-<>!()\[\],])
    |(?P<other>\S))""",
    re.VERBOSE | re.DOTALL,
)
ESCAPES = {"\\": "\\", "'": "'", '"': '"', "n": "\n", "t": "\t", "r": "\r", "0": "\0"}
DEEPEST = 50
"""How many parentheses and ``not`` may be open at once."""
LONGEST_NUMBER = 40
SIGNS = {"and": "&&", "or": "||", "not": "!"}


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter that was understood. ``fields`` are the names of those it looks at."""

    fields: tuple[str, ...]
    predicate: Predicate

    def mask(self, rows: pa.RecordBatch) -> pa.Array:
        """Tell for each row whether it is chosen."""
        return pc.fill_null(self.predicate(rows), False)  # noqa: FBT003  Arrow's own signature


def parse(text: str, collection: Collection) -> Filter:
    """Understand a filter over the rows of a collection; raises SourceError with the position of what is not."""
    parser = _Parser(text, collection)
    predicate = parser.alternatives()
    if parser.kind:
        parser.refuse(f"{parser.word} is not expected here")
    return Filter(tuple(dict.fromkeys(parser.fields)), predicate)


class _Parser:
    """Recursive descent. ``kind``, ``word`` and ``at`` are the next token's; the kind is empty at the end."""

    def __init__(self, text: str, collection: Collection) -> None:
        self.text, self.collection = text, collection
        self.fields: list[str] = []
        self.kind, self.word, self.at, self._end, self._open = "", "", 0, 0, 0
        self._next()

    def refuse(self, what: str, at: int | None = None) -> NoReturn:
        hint = "docs/backup.md says what a filter over files and backups understands"
        raise SourceError(what, where=f"where: {self.text!r}, column {(self.at if at is None else at) + 1}", hint=hint)

    def _next(self) -> None:
        found = TOKEN.match(self.text, self._end)
        if found is None:
            self.kind, self.word, self.at = "", "the end", len(self.text)
            return
        self.kind, self._end = found.lastgroup or "", found.end()
        self.word, self.at = found[self.kind], found.start(self.kind)
        if self.kind == "other":
            self.refuse(f"{self.word} is not understood here")
        if self.kind == "name" and self.word.lower() in SIGNS:
            self.kind, self.word = "sign", SIGNS[self.word.lower()]

    def _take(self, *words: str) -> str | None:
        """Take the next token where it is one of these signs or, in any case, names."""
        if self.kind in {"sign", "name"} and self.word.lower() in words:
            word = self.word.lower()
            self._next()
            return word
        return None

    def _need(self, sign: str) -> None:
        if not self._take(sign):
            self.refuse(f"{sign} is expected, not {self.word}")

    def alternatives(self) -> Predicate:
        self._open += 1
        if self._open > DEEPEST:
            self.refuse("the filter is nested too deeply")
        tests = [self._all()]
        while self._take("||"):
            tests.append(self._all())
        self._open -= 1
        return either(tests)

    def _all(self) -> Predicate:
        tests = [self._one()]
        while self._take("&&"):
            tests.append(self._one())
        return both(tests)

    def _one(self) -> Predicate:
        flip = False
        while self._take("!"):
            flip = not flip
        if self._take("("):
            test = self.alternatives()
            self._need(")")
        elif self._take("exists"):
            test = self._exists()
        else:
            test = self._function() or self._comparison()
        return negated(test) if flip else test

    def _exists(self) -> Predicate:
        at, operand = self.at, self._operand()
        if operand.type is not None:
            self.refuse("exists asks for a key in JSON or in the dynamic field", at)
        return negated(is_null(operand))

    def _function(self) -> Predicate | None:
        word = self._take("array_contains", "array_contains_any", "array_contains_all")
        if word is None:
            return None
        self._need("(")
        array = self._array()
        self._need(",")
        at = self.at
        values = [self._literal()] if word == "array_contains" else self._list()
        self._need(")")
        for value in values:
            self._fits(Operand(element_of(array)), value, at)
        return both([contains(array, [v]) for v in values]) if word.endswith("all") else contains(array, values)

    def _array(self) -> Field:
        at, operand = self.at, self._operand()
        if operand.field.type is not DataType.ARRAY or operand.path:
            self.refuse("an array field is expected", at)
        return operand.field

    def _comparison(self) -> Predicate:
        if self.kind in {"number", "text"} or self.word == "-" or self.word.lower() in {"true", "false"}:
            first, value = self.at, self._literal()
            sign = self._sign()
            operand = self._operand()
            self._fits(operand, value, first)
            test = compare(operand, TURNED[sign], value)
            return self._range(operand, sign, test) if sign[0] in "<>" else test
        operand = self._operand()
        flip = bool(self._take("!"))
        if self._take("in"):
            at, values = self.at, self._list()
            for value in values:
                self._fits(operand, value, at)
            test = is_in(operand, values)
        elif self._take("like"):
            test = self._like(operand)
        elif flip:
            self.refuse(f"in or like is expected, not {self.word}")
        elif self._take("is"):
            flip = bool(self._take("!"))
            self._need("null")
            test = is_null(operand)
        else:
            sign, at, value = self._sign(), self.at, self._literal()
            self._fits(operand, value, at)
            return compare(operand, sign, value)
        return negated(test) if flip else test

    def _range(self, operand: Operand, sign: str, test: Predicate) -> Predicate:
        """Take the other end of ``1 < x < 5``, where there is one."""
        at, other = self.at, self._take("<", "<=", ">", ">=")
        if other is None:
            return test
        if other[0] != sign[0]:
            self.refuse(f"{sign} and {other} are no range", at)
        at, value = self.at, self._literal()
        self._fits(operand, value, at)
        return both([test, compare(operand, other, value)])

    def _sign(self) -> str:
        sign = self._take(*TURNED)
        return sign or self.refuse(f"a comparison is expected, not {self.word}")

    def _like(self, operand: Operand) -> Predicate:
        at, pattern = self.at, self._literal()
        if not isinstance(pattern, str):
            self.refuse("like takes a text in quotes", at)
        self._fits(operand, pattern, at)
        return like(operand, pattern)

    def _fits(self, operand: Operand, value: Literal, at: int) -> None:
        what = mismatch(operand, value)
        if what:
            self.refuse(what, at)

    def _operand(self) -> Operand:
        at, name = self.at, self.word
        if self.kind != "name":
            self.refuse(f"a field is expected, not {self.word}")
        self._next()
        if name.lower() == "array_length":
            self._need("(")
            operand = Operand(self._array(), length=True)
            self._need(")")
            return operand
        if self.word == "(":
            self.refuse(f"{name} is no function that is understood here", at)
        field = self.collection.field(name) or (META if self.collection.dynamic else None)
        if field is None:
            self.refuse(f"{self.collection.name} has no field {name}", at)
        self.fields.append(field.name)
        path = (*(() if name in {field.name, DYNAMIC_FIELD} else (name,)), *self._path())
        self._reachable(field, path, at)
        return Operand(field, path)

    def _path(self) -> list[str | int]:
        path: list[str | int] = []
        while self._take("["):
            at, step = self.at, self._literal()
            if isinstance(step, (bool, float)) or (isinstance(step, int) and step < 0):
                self.refuse("a key in quotes or a position is expected", at)
            path.append(step)
            self._need("]")
        return path

    def _reachable(self, field: Field, path: tuple[str | int, ...], at: int) -> None:
        positions = len(path) == 1 and isinstance(path[0], int)
        if path and field.type is not DataType.JSON and not (field.type is DataType.ARRAY and positions):
            self.refuse(f"{field.name} is {field}: there is nothing in it at {path[0]!r}", at)
        if field.name == DYNAMIC_FIELD and not path:
            self.refuse(f"a key of the dynamic field is expected: {DYNAMIC_FIELD}['a']", at)

    def _list(self) -> list[Literal]:
        self._need("[")
        values: list[Literal] = []
        while not self._take("]"):
            values.append(self._literal())
            if self.word != "]":
                self._need(",")
        return values

    def _literal(self) -> Literal:
        at, minus = self.at, bool(self._take("-"))
        kind, word = self.kind, self.word
        if kind == "number":
            self._next()
            return self._number(word, at) * (-1 if minus else 1)
        if kind == "text" and not minus:
            self._next()
            return self._unquoted(word, at)
        if kind == "name" and word.lower() in {"true", "false"} and not minus:
            self._next()
            return word.lower() == "true"
        return self.refuse(f"a number, a text in quotes, true or false is expected, not {word}")

    def _number(self, word: str, at: int) -> int | float:
        if len(word) > LONGEST_NUMBER:
            self.refuse("the number is too long", at)
        if word.isdigit():
            if word[0] == "0" and len(word) > 1:
                self.refuse(f"{word} may be meant octal: write it without the 0", at)
            return int(word)
        return float(word)

    def _unquoted(self, word: str, at: int) -> str:
        def plain(found: re.Match[str]) -> str:
            return ESCAPES.get(found[1]) or self.refuse(f"\\{found[1]} is not understood in a text", at)

        return re.sub(r"\\(.)", plain, word[1:-1], flags=re.DOTALL)
