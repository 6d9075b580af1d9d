"""YAML text as a tree of nodes that know where they were written.

It is built from the parser's events, not by ``yaml.load``: a spec is read by people and by editors that
follow other versions of YAML, so whatever those read differently (``on``, ``012``, ``12:30``, a date) is a
problem here, never a guess. What is wrong goes into a :class:`Report`, and stands in the tree as :data:`BAD`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

import yaml

from vsync.errors import Problem, SpecError
from vsync.spec.scalars import TrapError, resolve

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_DEPTH = 50
MAX_NODES = 100_000


class Bad(Enum):
    """The value of a node that was reported already."""

    BAD = "bad"

    def __repr__(self) -> str:
        """Show nothing of what was written."""
        return "BAD"


BAD = Bad.BAD


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in the text: line and column count from 1."""

    line: int
    column: int


START = Mark(1, 1)


@dataclass(frozen=True, slots=True)
class Node:
    """A value and where it is: a scalar at its text, a mapping or list at the key it is written under.

    ``value`` is a ``dict[str, Node]``, a ``list[Node]``, a plain scalar or :data:`BAD`; ``depth`` and
    ``size`` count what is below it, aliases written out; ``plain`` is a scalar without quotes.
    """

    value: Any
    mark: Mark = START
    key: Mark | None = None
    text: str = ""
    plain: bool = False
    depth: int = 1
    size: int = 1

    @property
    def at(self) -> Mark:
        """Where its key is written, or it itself where there is no key."""
        return self.key or self.mark

    def under(self, key: Mark) -> Node:
        """Put it under a key."""
        return replace(self, key=key, mark=key if isinstance(self.value, dict | list) else self.mark)


class Report:
    """Collects problems, each once, with the places of one text."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._problems: dict[tuple[Mark, str], Problem] = {}

    def where(self, mark: Mark) -> str:
        """Write a place as ``name:line:column``."""
        return f"{self.name}:{mark.line}:{mark.column}"

    def add(self, mark: Mark, what: str, hint: str | None = None) -> Bad:
        """Note a problem; the answer stands in for the value that is wrong."""
        self._problems.setdefault((mark, what), Problem(what, self.where(mark), hint))
        return BAD

    @property
    def problems(self) -> list[Problem]:
        """What was noted, in the order of the text."""
        return [self._problems[k] for k in sorted(self._problems, key=lambda k: (k[0].line, k[0].column))]

    def raise_any(self) -> None:
        """Raise :class:`SpecError` with everything that was noted, if anything was."""
        if self._problems:
            raise SpecError(self.problems)


@dataclass(slots=True)
class _Frame:
    """A mapping or list that is being read. ``items`` alternates keys and values in a mapping."""

    mapping: bool
    mark: Mark
    anchor: str | None
    items: list[Node] = field(default_factory=list)


class _Composer:
    """Events in, one node out; see :func:`compose`."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.stack: list[_Frame] = []
        self.anchors: dict[str, Node] = {}
        self.root: Node | None = None
        self.documents = 0

    def take(self, event: yaml.Event) -> bool:
        """Take one event; false where nothing more is to be read."""
        mark = _mark(event)
        if isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                self.report.add(mark, "a second document begins here", "a spec is one document: remove the ---")
                return False
        elif isinstance(event, yaml.AliasEvent):
            self.put(self.alias(event.anchor, mark))
        elif isinstance(event, yaml.ScalarEvent):
            self.put(self.scalar(event, mark), event.anchor)
        elif isinstance(event, yaml.CollectionStartEvent):
            self.tag(event, mark)
            self.stack.append(_Frame(isinstance(event, yaml.MappingStartEvent), mark, event.anchor))
            if len(self.stack) > MAX_DEPTH:
                self.report.add(mark, f"this is nested more than {MAX_DEPTH} levels deep")
                return False
        elif isinstance(event, yaml.CollectionEndEvent):
            frame = self.stack.pop()
            self.put(self.close(frame), frame.anchor)
        return True

    def put(self, node: Node, anchor: str | None = None) -> None:
        """Hand a finished node to what it stands in."""
        if node.depth + len(self.stack) > MAX_DEPTH or node.size > MAX_NODES:
            what = "this is too large or too deep once its anchors are written out"
            node = Node(self.report.add(node.mark, what), node.mark)
        if anchor is not None:
            self.anchors[anchor] = node
        if self.stack:
            self.stack[-1].items.append(node)
        else:
            self.root = node

    def alias(self, anchor: str | None, mark: Mark) -> Node:
        """Find what an alias stands for."""
        if any(frame.anchor == anchor for frame in self.stack):
            return Node(self.report.add(mark, f"*{anchor} stands within what it names"), mark)
        if anchor is None or anchor not in self.anchors:
            hint = f'quote it if it is text: "*{anchor}"'
            what = f"an unquoted * begins an alias, and there is no anchor &{anchor} before it"
            return Node(self.report.add(mark, what, hint), mark)
        node = self.anchors[anchor]
        return replace(node, mark=mark, key=None) if isinstance(node.value, dict | list) else node

    def scalar(self, event: yaml.ScalarEvent, mark: Mark) -> Node:
        """Read a scalar as what every version of YAML takes it for."""
        if not self.tag(event, mark):
            return Node(BAD, mark)
        if not event.implicit[0]:
            return Node(event.value, mark, text=event.value)
        try:
            return Node(resolve(event.value), mark, text=event.value, plain=True)
        except TrapError as trap:
            return Node(self.report.add(mark, trap.what, trap.hint), mark)

    def tag(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent, mark: Mark) -> bool:
        """Refuse every explicit tag but ``!!str``."""
        if event.tag in {None, "tag:yaml.org,2002:str"}:
            return True
        text = event.tag.replace("tag:yaml.org,2002:", "!!")
        self.report.add(mark, f"{text} is a YAML tag, and a spec has none", "quote it if it is text")
        return False

    def close(self, frame: _Frame) -> Node:
        """Make a node of a mapping or list that has ended."""
        depth = 1 + max((n.depth for n in frame.items), default=0)
        size = 1 + sum(n.size for n in frame.items)
        if not frame.mapping:
            return Node(frame.items, frame.mark, depth=depth, size=size)
        own: dict[str, Mark] = {}
        named: dict[str, Node] = {}
        for key, value in zip(frame.items[::2], frame.items[1::2], strict=True):
            if key.plain and key.text == "<<":
                for name, node in self.merge(value):
                    named.setdefault(name, node)
            elif isinstance(key.value, str):
                if key.value in own:
                    hint = f"it is written at line {own[key.value].line} already"
                    self.report.add(key.mark, f"the key '{key.value}' is written twice", hint)
                own[key.value] = key.mark
                named[key.value] = value.under(key.mark)
            elif key.value is not BAD:
                quoted = f'quote it if it is text: "{key.text}"' if key.text else None
                self.report.add(key.mark, f"a key must be text, and {key.text or 'this'} is none", quoted)
        return Node(named, frame.mark, depth=depth, size=size)

    def merge(self, value: Node) -> Iterator[tuple[str, Node]]:
        """List what ``<<`` brings in."""
        for node in value.value if isinstance(value.value, list) else [value]:
            if isinstance(node.value, dict):
                yield from node.value.items()
            elif node.value is not BAD:
                self.report.add(node.mark, "<< merges mappings, and this is none", "write <<: *anchor")


def compose(text: str, report: Report) -> Node | None:
    """Read text as one node; ``None`` where there is none, with the reason in the report."""
    composer = _Composer(report)
    if unreadable := yaml.reader.Reader.NON_PRINTABLE.search(text):
        hint = "it is not visible: remove it, or write it as an escape in double quotes"
        report.add(_place(text, unreadable.start()), "a control character cannot stand in YAML", hint)
        return None
    try:
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            if not composer.take(event):
                break
    except yaml.MarkedYAMLError as error:
        report.add(*_explain(text, error))
        return None
    except yaml.YAMLError:
        report.add(START, "this is not text that YAML takes", "save it as plain UTF-8")
        return None
    if composer.root is None and not report.problems:
        report.add(START, "the file is empty", "begin with version: 1, target: and collections:")
    return composer.root


def _mark(event: yaml.Event) -> Mark:
    start: Any = event.start_mark
    return Mark(start.line + 1, start.column + 1)


def _lines(text: str) -> list[str]:
    """Split into lines where YAML does."""
    for end in ("\r\n", "\r", "\x85", "\u2028", "\u2029"):
        text = text.replace(end, "\n")
    return text.split("\n")


def _place(text: str, position: int) -> Mark:
    before = _lines(text[:position])
    return Mark(len(before), len(before[-1]) + 1)


_ADVICE = {
    "mapping values are not allowed": (
        "a ': ' cannot stand here",
        "quote the text that holds it, or start a new line for the key",
    ),
    "alphabetic or numeric": ("an unquoted * or & begins an alias or anchor", 'quote it if it is text: "*"'),
    "unexpected end of stream": ("a quoted text does not end", "close it with the quote it begins with"),
    "did not find expected key": (
        "this line does not fit into what is above it",
        "line up the keys of one mapping in one column, and quote text that has quotes or colons in it",
    ),
    "',' or '}'": ("a { } is not closed, or a , is missing in it", 'quote text that has braces: "${NAME}"'),
    "',' or ']'": ("a [ ] is not closed, or a , is missing in it", "quote text that has brackets"),
    "'-' indicator": ("this line does not fit into the list above it", "begin it with - or indent it"),
}


def _explain(text: str, error: yaml.MarkedYAMLError) -> tuple[Mark, str, str | None]:
    """Say what the parser found in the words of people who write YAML, not of those who parse it."""
    spot: Any = error.problem_mark or error.context_mark
    all_lines = _lines(text)
    line, column = min(spot.line, len(all_lines) - 1), spot.column
    while line > 0 and not all_lines[line].strip():
        line, column = line - 1, len(all_lines[line - 1])
    mark = Mark(line + 1, column + 1)
    problem = str(error.problem)
    if "cannot start any token" in problem:
        found = all_lines[line][column : column + 1]
        if found == "\t":
            return mark, "a tab cannot indent", "use spaces"
        return mark, f"text cannot begin with {found}", "quote it"
    for phrase, (what, hint) in _ADVICE.items():
        if phrase in problem:
            return mark, what, hint
    return mark, f"this is not YAML: {problem}", None
