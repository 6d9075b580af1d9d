"""Lines on a terminal or in a file, by rich: colours say nothing that symbols and words do not say too."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from vsync.errors import SpecError, StoppedError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from vsync.errors import Problem, VsyncError
    from vsync.report.words import Line

STYLES = {
    "plain": "",
    "bold": "bold",
    "dim": "dim",
    "create": "green",
    "update": "yellow",
    "replace": "magenta",
    "destroy": "red",
    "copy": "cyan",
    "same": "dim",
    "warn": "yellow",
    "orphan": "dim",
}


class _Console(Console):
    """A console that tells its caller when nobody reads any more, where rich would exit."""

    def on_broken_pipe(self) -> None:
        """Raise it again: it is called where it was caught."""
        raise BrokenPipeError


def console(*, stderr: bool = False) -> Console:
    """Make a console that wraps nothing and marks nothing up by itself."""
    return _Console(stderr=stderr, highlight=False, soft_wrap=True, emoji=False, markup=False)


def show(lines: Iterable[Line], *, stderr: bool = False) -> None:
    """Print lines in their styles."""
    out = console(stderr=stderr)
    for style, text in lines:
        out.print(Text(text, style=STYLES[style]))


def show_error(error: VsyncError) -> None:
    """Print what went wrong, where, and what to do: to stderr, after whatever stdout holds."""
    sys.stdout.flush()
    out = console(stderr=True)
    if isinstance(error, StoppedError | SpecError):  # a spec's problems one a line, as compilers say them
        out.print(Text(str(error)))
        return
    for problem in error.problems:
        out.print(*_problem(problem), sep="\n")


def _problem(problem: Problem) -> Iterable[Text]:
    yield Text.assemble(("Error: ", "bold red"), (problem.what, "bold"))
    if problem.where:
        yield Text(f"  {problem.where}")
    if problem.hint:
        yield Text(f"  {problem.hint}", style="dim")
