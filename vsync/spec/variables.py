"""``${NAME}`` and ``${NAME:-default}`` in the values of a spec, and the file that gives their values."""

from __future__ import annotations

import re
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsync.errors import SpecError
from vsync.spec.nodes import BAD, Node, Report, compose

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_USE = re.compile(r"\$\$\{|\$\{(?P<inside>[^}]*)(?P<end>\}?)")


class Filled(str):
    """Text that variables were put into. Messages show ``written``: what variables hold may be secret."""

    __slots__ = ("written",)

    written: str

    @classmethod
    def of(cls, text: str, written: str) -> Filled:
        """Make one of the text and of what was written in its place."""
        filled = cls(text)
        filled.written = written
        return filled


class Variables:
    """Values by name: those given for this run win over the environment's."""

    def __init__(self, given: Mapping[str, str], environ: Mapping[str, str], report: Report) -> None:
        self.given = given
        self.environ = environ
        self.report = report

    def fill(self, node: Node, path: tuple[str | int, ...] = ()) -> Node:
        """Put variables into every string below a node, and drop the keys that begin with ``x-``."""
        if isinstance(node.value, dict):
            named = {
                key: self.fill(child, (*path, key))
                for key, child in node.value.items()
                if not key.startswith("x-") or _is_free(path)
            }
            return replace(node, value=named)
        if isinstance(node.value, list):
            return replace(node, value=[self.fill(child, (*path, i)) for i, child in enumerate(node.value)])
        if isinstance(node.value, str) and "${" in node.value and not _is_token(path):
            return replace(node, value=self.put_in(node.value, node))
        return node

    def put_in(self, text: str, node: Node) -> Any:
        """Replace the variables of one text; ``BAD`` where one is not known."""
        parts: list[str] = []
        position = 0
        for use in _USE.finditer(text):
            value = "${" if use["inside"] is None else self.look_up(use["inside"], use["end"], node)
            if value is None:
                return BAD
            parts += text[position : use.start()], value
            position = use.end()
        return Filled.of("".join(parts) + text[position:], node.value)

    def look_up(self, inside: str, end: str, node: Node) -> str | None:
        """Find the value of what stands between the braces."""
        name, with_default, default = inside.partition(":-")
        if not end or not _NAME.match(name) or "${" in default:
            hint = "write ${NAME} or ${NAME:-default}; ${ itself is written $${"
            self.report.add(node.mark, f"'${{{inside}{end}' is not a variable", hint)
            return None
        value = self.given.get(name, self.environ.get(name))
        if with_default:
            value = value or default
        if value is None:
            hint = f"give it with --var {name}=VALUE, set it in the environment, or write ${{{name}:-DEFAULT}}"
            if close := get_close_matches(name, self.given, 1):
                hint = f"did you mean {close[0]}? Or " + hint
            self.report.add(node.mark, f"the variable {name} is not set", hint)
        elif not _is_text(value):
            self.report.add(node.mark, f"the value of the variable {name} is not text", "it must be UTF-8")
            return None
        return value


def escape(text: str) -> str:
    """Write text so that it comes back as it is from :meth:`Variables.fill`."""
    return text.replace("${", "$${")


def load_variables(path: str | Path) -> dict[str, str]:
    """Read a file of variables, a flat mapping of YAML; raises :class:`SpecError` with all its problems."""
    text = read_text(path, "the file of variables")
    report = Report(str(path))
    root = compose(text, report)
    found: dict[str, str] = {}
    if root is not None and not isinstance(root.value, dict):
        report.add(root.mark, "a file of variables is a mapping", "write lines such as NAME: value")
    elif root is not None:
        for name, node in root.value.items():
            if not _NAME.match(name):
                report.add(node.at, f"'{name}' cannot be the name of a variable", "use letters, digits and _")
            elif isinstance(node.value, dict | list) or node.value is None:
                report.add(node.at, f"the value of {name} must be text or a number", f"write {name}: value")
            found[name] = node.text
    report.raise_any()
    return found


def read_text(path: str | Path, what: str) -> str:
    """Read a file of UTF-8 text; raises :class:`SpecError` where there is none."""
    try:
        return Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        hint = "is it a file of data? vsync init --from FILE writes a spec of it"
        raise SpecError(f"{what} is not UTF-8 text (byte {error.start})", where=str(path), hint=hint) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it cannot be a path"
        raise SpecError(f"{what} cannot be read: {reason}", where=str(path), hint="check the path") from None


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_token(path: tuple[str | int, ...]) -> bool:
    """Tell whether a path is a token's: it is refused as it is written."""
    if path[-1:] != ("token",):
        return False
    if path[:1] == ("copy",) or (path[:1] == ("collections",) and path[2:3] in {("from",), ("data",)}):
        return path[-3:-1] == ("from", "milvus") or path[-4:-1] == ("from", "milvus", "at")
    return path[:1] == ("connections",) or path[:2] == ("target", "milvus")


def _is_free(path: tuple[str | int, ...]) -> bool:
    """Tell whether the keys below a path are the user's own words rather than the language's."""
    return path[2:3] == ("properties",) or path[4:5] == ("params",) or "const" in path[6:]
