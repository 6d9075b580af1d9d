"""A folder that MilvusDM exported to: ``COLLECTION/PARTITION.h5``, and beside it ``yamls/COLLECTION/PARTITION.yaml``.

The files may lie elsewhere by now than their configurations say: the one that lies in its place in the tree counts.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from vsync.connectors.files import natural
from vsync.convert.jobs import Body, Job
from vsync.convert.read import Reading, is_configuration, read_file
from vsync.errors import Problem

if TYPE_CHECKING:
    from pathlib import Path

NO_PARTITION = "None"
"""What MilvusDM calls the file of the rows that are in no partition."""


def read_tree(folder: Path, reading: Reading) -> list[Job]:
    """Read the configurations of a folder, and the files that none of them names."""
    files = sorted(folder.rglob("*.h5"), key=natural)
    named: dict[Path, str] = {}
    jobs: list[Job] = []
    for path in sorted([*folder.rglob("*.yaml"), *folder.rglob("*.yml")], key=natural):
        if is_configuration(path):
            jobs += [_placed(job, path, files, named, reading) for job in read_file(path, reading)]
        else:
            reading.note(str(path), "is no configuration of MilvusDM, and is left out")
    bodies = [_body(path, folder, reading) for path in files if path not in named]
    if not files:
        what = "the folder holds no export of MilvusDM: no file that ends in .h5"
        reading.problems.append(Problem(what, str(folder), "name the folder of its data_dir"))
    jobs += [Job("H2M", None, (body,), body.where) for body in bodies if body]
    _check_once(jobs, reading)
    return jobs


def _placed(job: Job, path: Path, files: list[Path], named: dict[Path, str], reading: Reading) -> Job:
    """Find the files that a configuration names where they are now."""
    bodies = []
    for body in job.bodies:
        sources = []
        for source in body.sources:
            written = source.get("hdf5")
            found = _found(written, path, body, files) if written and "*" not in written else None
            if found is not None:
                named[found] = str(path)
                source = {"hdf5": reading.path(str(found))}  # noqa: PLW2901 - the same source, where it is now
            sources.append(source)
        bodies.append(replace(body, sources=tuple(sources)))
    return replace(job, bodies=tuple(bodies))


def _found(written: str, path: Path, body: Body, files: list[Path]) -> Path | None:
    """Find a file in its place in the tree, or the one of its name."""
    root = path.parents[2] if len(path.parents) > 2 else path.parent  # noqa: PLR2004 - ROOT/yamls/COLLECTION/FILE
    place = root / body.collection / f"{body.partition or NO_PARTITION}.h5"
    if place in files:
        return place
    alike = [file for file in files if file.name == written.rpartition("/")[2]]
    return alike[0] if len(alike) == 1 else None


def _body(path: Path, folder: Path, reading: Reading) -> Body | None:
    """Take a file that no configuration names for what its place says."""
    if path.parent == folder:
        reading.note(str(path), "is left out: nothing says which collection it belongs to")
        return None
    reading.note(str(path), "no configuration names it: collection and partition are those of its place")
    partition = None if path.stem == NO_PARTITION else path.stem
    source = {"hdf5": reading.path(str(path))}
    return Body(path.parent.name, partition, (source,), "skip", None, None, str(path))


def _check_once(jobs: list[Job], reading: Reading) -> None:
    """Refuse two exports of the same rows: only one of them can be what is meant."""
    seen: dict[tuple[str, str | None], str] = {}
    for body in (body for job in jobs for body in job.bodies):
        key = (body.collection, body.partition)
        if key in seen:
            what = f"{body.collection}/{body.partition or NO_PARTITION} is there twice, also at {seen[key]}"
            reading.problems.append(Problem(what, body.where, "convert the folder of one run of MilvusDM"))
        seen[key] = body.where
