"""A spec as YAML for people: blocks for its parts, one line for what fits on one."""

from __future__ import annotations

from io import StringIO
from typing import Any

import yaml

from vsync.spec.scalars import TrapError, resolve

_WIDTH = 96
# How many levels of a section stand one below the other; what is deeper stands on one line where it fits.
_BLOCKS = {"collections": 3, "copy": 1, "connections": 1}


class _Dumper(yaml.SafeDumper):
    """Quotes what any reader of YAML could take for something else than text."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the signature is PyYAML's
        """Write everything out."""
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - likewise
        """Indent lists too."""
        super().increase_indent(flow, indentless=False)

    def text(self, data: str) -> yaml.Node:
        """Represent text."""
        try:
            safe = isinstance(resolve(data), str) and data != "<<" and data.isprintable()
        except TrapError:
            safe = False
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=None if safe else '"')


_Dumper.add_representer(str, _Dumper.text)


def dump(data: dict[str, Any]) -> str:
    """Write plain data as YAML in its own order."""
    dumper = _Dumper(StringIO(), sort_keys=False)
    node: Any = dumper.represent_data(data)
    node.flow_style = False
    for key, section in node.value:
        _fold(section, _BLOCKS.get(key.value, 0))
    text = yaml.serialize(node, Dumper=_Dumper, allow_unicode=True, width=2**20)
    assert isinstance(text, str)
    return text


def _fold(node: Any, blocks: int) -> int:
    """Put what is below ``blocks`` levels on one line where it fits; returns its width on one line."""
    if isinstance(node, yaml.ScalarNode):
        return len(node.value) + 2
    if isinstance(node, yaml.MappingNode):
        width = sum(_fold(key, 0) + _fold(value, blocks - 1) for key, value in node.value) + 2
        flat = all(isinstance(value, yaml.ScalarNode) for _, value in node.value)
    else:
        width = sum(_fold(item, blocks) for item in node.value) + 2
        flat = all(isinstance(item, yaml.ScalarNode) for item in node.value)
    # A flat one may go up a level, but not a whole collection.
    node.flow_style = not node.value or (width <= _WIDTH and (blocks <= 0 or (flat and blocks == 1)))
    return width
