"""From a configuration of MilvusDM to the spec that does what it did, with a comment for each thing that differs.

``read`` takes a configuration apart, ``tree`` finds those that lie beside an export of MilvusDM, ``write`` makes the
spec.
"""

from __future__ import annotations

from pathlib import Path

from vsync.convert.read import Reading, read_file
from vsync.convert.tree import read_tree
from vsync.convert.write import write
from vsync.errors import SpecError


def convert(what: Path, *, target: str | None = None, folder: Path | None = None) -> str:
    """Write the spec that is equal to a configuration of MilvusDM, or to all that lie in a folder that it exported to.

    ``target`` is where the rows are to go instead of ``dest_host`` and ``dest_port``; ``folder`` is where the spec will
    lie, to which its paths are relative. Raises SpecError with everything that is wrong, each with its line.
    """
    reading = Reading(folder or Path.cwd())
    jobs = read_tree(what, reading) if what.is_dir() else read_file(what, reading)
    if reading.problems:
        raise SpecError(reading.problems)
    return write(jobs, str(what), target, reading)
