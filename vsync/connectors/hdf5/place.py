"""The folder of an export among others who write there: nothing of theirs is replaced or removed."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

from vsync.connectors.durable import cannot_write, put, sync_folder
from vsync.connectors.hdf5.kept import MILVUSDM
from vsync.errors import Problem, TargetError
from vsync.faults import passing
from vsync.schema import DEFAULT_PARTITION, NAME

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

DESCRIPTION = "collection.json"
DROPPED = "collection.dropped"
"""The description of a collection that is being removed: it says which files are to go."""
PARTS = ".parts"

Seen = dict[str, tuple[int, int, int]]


def file_name(partition: str, layout: str) -> str:
    """Name the file of a partition."""
    return "None.h5" if layout == MILVUSDM and partition == DEFAULT_PARTITION else f"{partition}.h5"


def seen(folder: Path) -> Seen:
    """Tell the state of an export: all that makes up its collections."""
    paths = (p for pattern in (f"*/{DESCRIPTION}", "*/*.h5", f"*/{PARTS}/*/*") for p in folder.glob(pattern))
    return {str(path.relative_to(folder)): _stamp(path) for path in paths}


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError:  # gone in between
        return 0, 0, 0
    return found.st_ino, found.st_size, found.st_mtime_ns


def taken(folder: Path, partitions: Iterable[str], layout: str) -> Iterator[Problem]:
    """Name files of others that lie where new partitions of a collection would be."""
    if (folder / DROPPED).exists():
        return
    for partition in partitions:
        path = folder / file_name(partition, layout)
        if os.path.lexists(path):
            hint = "move it away, or export into another folder"
            yield Problem("is there already, and no collection of this export has it", str(path), hint)


def unfit(names: Sequence[str], layout: str, where: str) -> Iterator[Problem]:
    """Name partitions that no file can be named after."""
    for name in names:
        if not NAME.match(name):
            yield Problem(f"no file is named after the partition {name!r}", where, "a name has letters, digits and _")
        if layout == MILVUSDM and name == "None":
            yield Problem("None.h5 is that of the default partition in layout: milvusdm", where, "leave layout: out")


def remove(folder: Path, layout: str, *, half: bool = False) -> None:
    """Remove what a collection has in its folder: its files and no others, its description first.

    ``half``: only what an earlier removal, that was stopped, has left.
    """
    try:
        if not half and (folder / DESCRIPTION).exists():
            put(folder / DESCRIPTION, folder / DROPPED)
            passing("collection.dropped")
        if not (folder / DROPPED).exists():
            return
        for partition in (DEFAULT_PARTITION, *_partitions(folder / DROPPED)):
            (folder / file_name(partition, layout)).unlink(missing_ok=True)
            passing("file.removed")
        shutil.rmtree(folder / PARTS, ignore_errors=True)
        sync_folder(folder)
        (folder / DROPPED).unlink()
        if not any(folder.iterdir()):
            folder.rmdir()
    except OSError as error:
        raise cannot_write(folder, error) from error


def _partitions(description: Path) -> list[str]:
    try:
        said: Mapping[str, Mapping[str, list[str]]] = json.loads(description.read_text("utf-8"))
        return list(said["collection"].get("partitions") or ())
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise TargetError(f"cannot be read: {error}", where=str(description), hint="move it away") from error
