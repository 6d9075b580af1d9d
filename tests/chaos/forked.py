"""``vsync``, started in a fraction of its imports' time: forked from a process that has them all and no connection.

gRPC bears a fork only as long as no channel was made: the parent of the runs imports, and does nothing else.
"""

from __future__ import annotations

import multiprocessing
import os
import pkgutil
import random
import sys
from typing import TYPE_CHECKING

import applies

import vsync

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.context import ForkServerContext, ForkServerProcess
    from pathlib import Path

KILLED = -9
_VENDORS = ("faiss", "h5py", "milvus_lite.server_manager", "pyarrow.parquet", "pymilvus", "sqlite_utils")


def context() -> ForkServerContext:
    """Make the context whose processes are forked; the first start waits for the imports."""
    made = multiprocessing.get_context("forkserver")
    rooms = [m.name for m in pkgutil.walk_packages(vsync.__path__, "vsync.") if not m.name.endswith("__main__")]
    made.set_forkserver_preload([*_VENDORS, *rooms])
    return made


def start(
    forks: ForkServerContext, folder: Path, words: Sequence[str], out: Path, faults: dict[str, str]
) -> ForkServerProcess:
    """Start a command in a folder; what it says goes to ``out``. ``faults`` are the variables that arm a fault."""
    process = forks.Process(target=_run, args=(str(folder), list(words), str(out), faults))
    process.start()
    return process


def _run(folder: str, words: list[str], out: str, faults: dict[str, str]) -> None:
    from vsync.cli import main

    os.environ.update(faults)
    os.chdir(folder)
    file = os.open(out, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.argv = ["vsync", *words]
    main()


class Mortal:
    """Commands that are run as processes of their own, which die at moments of chance."""

    def __init__(self, folder: Path, forks: ForkServerContext, seed: int) -> None:
        self._folder, self._forks, self._chance = folder, forks, random.Random(seed)

    def passed(self, *words: str) -> list[str]:
        """Run a command to its end, and give the fault points that it passed."""
        log = self._folder / "passed"
        log.unlink(missing_ok=True)
        assert self._run(words, {"VSYNC_FAULT_LOG": str(log)}) == 0
        return log.read_text().split()

    def killed(self, points: list[str], *words: str) -> bool:
        """Run a command that dies at one of these points; ``False`` where it ends before, well."""
        at = self._chance.randrange(len(points))
        return self.killed_at(f"{points[at]}:{points[: at + 1].count(points[at])}", *words)

    def killed_at(self, fault: str, *words: str) -> bool:
        """Run a command that dies at ``NAME:N``; ``False`` where it ends before, well."""
        return self._run(words, {"VSYNC_FAULT": fault}) == KILLED

    def _run(self, words: tuple[str, ...], faults: dict[str, str]) -> int | None:
        out = self._folder / "out"
        process = start(self._forks, self._folder, words, out, faults)
        process.join(applies.SECONDS)
        assert process.exitcode in {0, KILLED}, (words, out.read_text())
        return process.exitcode
