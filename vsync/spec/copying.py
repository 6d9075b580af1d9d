"""Copies of many collections written out: a spec with ``copy:`` and what there is make a spec without it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vsync.errors import Problem, SpecError
from vsync.schema import NAME
from vsync.spec.checks_keys import collision_problems
from vsync.spec.checks_milvus import mirror_problems
from vsync.spec.document import Places

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vsync.spec.document import Spec, Step
    from vsync.spec.models import CollectionSpec, CopySpec

_SHOWN = 5


def expand(spec: Spec, held: Callable[[CopySpec], Sequence[str]]) -> Spec:
    """Write the copies of a spec out as collections; ``held`` names the collections that a copy's source holds.

    What :attr:`Spec.collections` says of one of them wins, key by key. The answer is a spec of its own, whose
    places of what only a copy says are that copy's; its long form and its digest are not those of the spec.
    Raises :class:`SpecError` with everything that does not fit.
    """
    if not spec.copies:
        return spec
    expansion = _Expansion(spec)
    for number, copy in enumerate(spec.copies):
        expansion.take(number, copy, held(copy))
    return expansion.finish()


class _Expansion:
    """The collections that copies make, and what is wrong with them."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.problems: list[Problem] = []
        self.made: dict[str, tuple[int, str]] = {}
        """By the name here: the number of the copy, and the name there."""

    def problem(self, path: tuple[Step, ...], what: str, hint: str) -> None:
        self.problems.append(Problem(what, self.spec.where(*path), hint))

    def take(self, number: int, copy: CopySpec, held: Sequence[str]) -> None:
        """Take the collections that one copy chooses."""
        path = ("copy", number, "from", "collections")
        names = copy.source.collections
        unmatched = set(names.unmatched(held))
        for place, pattern in enumerate(names.allow):
            if pattern in unmatched:
                what = f"'{pattern}' matches no collection of {copy.source.label}"
                self.problem((*path, "allow", place), what, _what_is_there(held))
        chosen = names.chosen(held)
        if not chosen and not unmatched:
            what = f"there is nothing to copy from {copy.source.label}: deny leaves out all that allow takes"
            self.problem(path, what, "remove a pattern of deny:, or the copy")
        again = {copy.renamed(name) for name in chosen} if self.copies_here(copy) else set()
        for name in chosen:
            if name in again:
                what = f"'{name}' is what this copy makes, and it would be copied again"
                self.problem(path, what, f'leave it out: deny: ["{name}"], or a glob of all such names')
            else:
                self.make(number, copy, name)

    def copies_here(self, copy: CopySpec) -> bool:
        """Tell whether a copy is within the target's own database."""
        return copy.source.is_in(self.spec.target.connection)

    def make(self, number: int, copy: CopySpec, name: str) -> None:
        """Note that a copy makes a collection here."""
        here = copy.renamed(name)
        if not NAME.match(here):
            what = f"'{here}' cannot be the name of a collection here"
            hint = f'deny "{name}" and declare it under collections: by another name, with data: from it'
            self.problem(("copy", number, "from", "collections"), what, hint)
        elif here not in self.made:
            self.made[here] = (number, name)
        elif "data" not in self.said(here):
            other, there = self.made[here]
            label = self.spec.copies[other].source.label
            what = f"'{here}' is made of two collections: {label}/{there} and {copy.source.label}/{name}"
            hint = f"say how they merge with data: of {here} under collections:, or rename: or deny: one of them"
            self.problem(("copy", number, "from", "collections"), what, hint)

    def said(self, name: str) -> set[str]:
        """Tell which keys the spec itself says of a collection."""
        own = self.spec.collections.get(name)
        return own.model_fields_set if own else set()

    def merged(self, here: str) -> CollectionSpec:
        """Make one collection: what the copy says, and over it what the spec says."""
        number, there = self.made[here]
        copied = self.spec.copies[number].collection(there, data=there if NAME.match(there) else None)
        own = self.spec.collections.get(here)
        return copied.model_copy(update={key: getattr(own, key) for key in self.said(here)})

    def finish(self) -> Spec:
        """Make the spec, or raise what is wrong."""
        collections = {here: self.merged(here) for here in self.made}
        collections |= {name: own for name, own in self.spec.collections.items() if name not in collections}
        expanded = self.spec.model_copy(update={"copies": [], "collections": collections})
        if self.spec.places is not None:
            expanded.placed(self.places(self.spec.places), self.spec.folder)
        for name, collection in collections.items():
            self.check(expanded, name, collection)
        if self.problems:
            raise SpecError(self.problems)
        return expanded

    def check(self, expanded: Spec, name: str, collection: CollectionSpec) -> None:
        """Check what only shows once a copy and a collection are one."""
        for alias in collection.aliases or []:
            if alias in self.made and alias != name:
                where = ("collections", name, "aliases", (collection.aliases or []).index(alias))
                self.problem(where, f"the alias '{alias}' is the name of a collection", "choose another name")
        for below, what, hint in mirror_problems(collection):
            if below[0] in self.said(name) or below[0] == "data":
                self.problems.append(Problem(what, expanded.where("collections", name, *below), hint))
        for below, what, hint in collision_problems(collection, expanded.target):
            self.problems.append(Problem(what, expanded.where("collections", name, *below), hint))

    def places(self, places: Places) -> Places:
        """Find the places of what the copies say, where the spec does not say it itself."""
        marks = dict(places.marks)
        for path, node in places.marks.items():
            if path[:1] != ("copy",) or len(path) == 1:
                continue
            below = path[2:]
            if below[:1] == ("from",):
                below = ("data", 0, *below)
            for here, (number, _) in self.made.items():
                if number == path[1] and not (below and below[0] in self.said(here)):
                    marks.setdefault(("collections", here, *below), node)
        return Places(places.name, marks)


def _what_is_there(held: Sequence[str]) -> str:
    shown = ", ".join(sorted(held)[:_SHOWN]) or "no collections"
    return f"there are {shown}{', ...' if len(held) > _SHOWN else ''}"
