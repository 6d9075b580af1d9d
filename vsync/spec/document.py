"""A whole spec: its collections, its target, and where in the text each part of it was written."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PrivateAttr

from vsync.spec import values
from vsync.spec.base import Model
from vsync.spec.models import CollectionSpec, CopySpec, Defaults
from vsync.spec.nodes import START, Mark, Node
from vsync.spec.sources import Connection
from vsync.spec.targets import AnyTarget

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vsync.spec.secret import Secret

Step = str | int


@dataclass(frozen=True, slots=True)
class Places:
    """Where the parts of a spec were written: the marks of the long form's paths, in one text."""

    name: str
    marks: dict[tuple[Step, ...], Node] = field(default_factory=dict)

    def node(self, path: Sequence[Step]) -> Node | None:
        """Find what was written for a path or its closest ancestor."""
        steps = tuple(path)
        return next((self.marks[steps[:n]] for n in range(len(steps), -1, -1) if steps[:n] in self.marks), None)

    def mark(self, path: Sequence[Step]) -> Mark:
        """Find the place of a path or its closest ancestor."""
        node = self.node(path)
        return node.mark if node else START

    def add(self, node: Node, path: tuple[Step, ...] = ()) -> None:
        """Note the places of a node and of everything below it."""
        self.marks[path] = node
        below = node.value
        pairs = below.items() if isinstance(below, dict) else enumerate(below) if isinstance(below, list) else ()
        for step, child in pairs:
            self.add(child, (*path, step))


def _version(value: Any) -> int:
    version = values.whole(value)
    if version != 1:
        raise values.wrong(f"this vsync reads version 1 of the language, not {version}", "write version: 1")
    return version


class Spec(Model):
    """What a Milvus is to hold. Two specs are equal when they say the same, wherever it was written."""

    version: Annotated[Literal[1], BeforeValidator(_version)] = Field(description="The version of the language: 1")
    connections: dict[str, Connection] = Field({}, description="Servers by name, for target: {milvus: NAME}")
    target: AnyTarget = Field(description="What is brought into the declared state: a Milvus, or files")
    defaults: Defaults = Field(Defaults(), description="What holds for every collection")
    copies: list[CopySpec] = Field([], alias="copy", description="Many collections of a Milvus or a backup as they are")
    collections: dict[str, CollectionSpec] = Field(description="The collections by name")

    _places: Places | None = PrivateAttr(None)
    _folder: Path = PrivateAttr(Path())

    @property
    def places(self) -> Places | None:
        """Where its parts were written; ``None`` where it was not read from a text."""
        return self._places

    def placed(self, places: Places, folder: Path) -> Spec:
        """Give it the text it was read from."""
        self._places = places
        self._folder = folder
        return self

    @property
    def name(self) -> str | None:
        """The name of the text it was read from, as problems show it."""
        return self._places.name if self._places else None

    @property
    def folder(self) -> Path:
        """The folder that its paths are relative to."""
        return self._folder

    def where(self, *path: Step) -> str | None:
        """Tell where a part of the long form was written, as ``name:line:column``.

        ``path`` is such as ``("collections", "words", "fields", "vec", "dim")``; of a part that was not
        written, the closest one around it counts. Only the name is known of a spec that a saved plan holds, and nothing
        of one that was not read from a text: ``None``.
        """
        if self._places is None or not self._places.marks:
            return self.name
        mark = self._places.mark(path)
        return f"{self._places.name}:{mark.line}:{mark.column}"

    def where_token(self, secret: Secret) -> str | None:
        """Tell where a secret is first named, likewise."""
        from vsync.spec.bind import plain

        marks = self._places.marks if self._places else {}
        tokens = (path for path, node in marks.items() if path[-1:] == ("token",) and plain(node) == secret.long())
        return self.where(*next(tokens, ()))

    def long(self) -> dict[str, Any]:
        """Write the whole spec in its long form: plain data in the language's order, without any secret.

        Beside copies a collection is written exactly as it was said, for what it says wins over them.
        """
        collections = {k: c.said() if self.copies else c.long() for k, c in self.collections.items()}
        written = {"version": 1, **super().long(), "collections": collections}
        if self.copies and not collections:
            del written["collections"]
        return written

    def to_yaml(self) -> str:
        """Write the whole spec in its long form, as YAML that reads back as an equal spec."""
        from vsync.spec.dump import dump

        return dump(self.long())

    @property
    def digest(self) -> str:
        """A digest of what the spec says: not of its place, its comments, or an order that means nothing.

        The order of lists and of fields means something, for collections are made in it; that of aliases not.
        """
        said = self.long()
        for collection in said.get("collections", {}).values():
            if "fields" in collection:
                collection["fields"] = list(collection["fields"].items())
            if "aliases" in collection:
                collection["aliases"] = sorted(collection["aliases"])
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        """Compare what is said, not where; beside copies it counts whether what is the default was said."""
        if not isinstance(other, Spec) or self.__dict__ != other.__dict__:
            return False
        return not self.copies or self.long() == other.long()

    def __hash__(self) -> int:
        """Hash what is said."""
        return hash(self.digest)
