"""``vsync``, started in a fraction of its imports' time: forked from a process that has them all and no connection.

gRPC bears a fork only as long as no channel was made: the parent of the runs imports, and does nothing else.
"""

from __future__ import annotations

import multiprocessing
import os
import pkgutil
import sys
from typing import TYPE_CHECKING

import vsync

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.context import ForkServerContext, ForkServerProcess
    from pathlib import Path

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
