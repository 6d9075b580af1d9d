"""A folder of HDF5 files as a target: ``COLLECTION/PARTITION.h5``, and beside them a spec that imports them again.

What is written goes to parts first (:mod:`vsync.connectors.hdf5.parts`), each durable when it is acknowledged. In the
end they are put together with what was there into a new file, which takes the old one's name. So a file is whole at any
moment, and what was interrupted goes on where it stopped. See docs/export.md for the form of the files.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from vsync import schema_json
from vsync.connectors.base import KeyRange, Loss
from vsync.connectors.durable import cannot_write, put, write_whole
from vsync.connectors.hdf5 import place
from vsync.connectors.hdf5.kept import FORMAT, FORMAT_VERSION, MILVUSDM, KeptFile, names_of
from vsync.connectors.hdf5.layout import Filters, has_zero, is_text
from vsync.connectors.hdf5.parts import Parts
from vsync.connectors.hdf5.place import DESCRIPTION, PARTS, file_name
from vsync.connectors.hdf5.write import write_file
from vsync.connectors.runs.reader import RunsReader
from vsync.connectors.runs.run import STEP
from vsync.connectors.runs.target import Kept, RunsTarget
from vsync.errors import LockedError, Problem, StalePlanError, TargetError
from vsync.faults import passing
from vsync.schema import DEFAULT_PARTITION, DYNAMIC_FIELD, Collection, DataType

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence

    import pyarrow as pa

    from vsync.connectors.base import Key
    from vsync.connectors.runs.run import Run
    from vsync.schema import Field

LOCK = ".lock"


def open_target(place: str, *, compression: str = "none", layout: str = "vsync") -> RunsTarget:
    """Open a folder to keep collections in; it need not be there."""
    return RunsTarget(Folder(Path(place), compression, layout))


def file_of(
    collection: Collection, partition: str, *, compression: str = "none", layout: str = "vsync"
) -> tuple[str, dict[str, str]]:
    """Give the file that a partition is kept in, and, in the layout of MilvusDM, what its datasets are."""
    del compression  # the file says so itself
    file = file_name(partition, layout)
    return f"{collection.name}/{file}", names_of(collection, layout) if layout == MILVUSDM else {}


class Folder:
    """See :class:`vsync.connectors.runs.target.Keeper`."""

    def __init__(self, path: Path, compression: str, layout: str) -> None:
        self._path, self._layout = path, layout
        self._filters = Filters.of(compression)
        self.identity = f"hdf5:{path.resolve()}"
        self.label = str(path)
        self._lock = threading.RLock()
        self._held: TextIO | None = None
        self._files: dict[Path, KeptFile] = {}
        self._parts: dict[Path, Parts] = {}
        self._notes: dict[str, str] = {}
        self._seen = place.seen(path)

    def names(self) -> list[str]:
        """List the collections: folders with a description."""
        return sorted(p.parent.name for p in self._path.glob(f"*/{DESCRIPTION}")) if self._path.is_dir() else []

    def kept(self, name: str) -> Kept | None:
        """Read a description."""
        path = self._path / name / DESCRIPTION
        try:
            said = json.loads(path.read_text("utf-8"))
            layout = said.get("layout", "vsync")
            kept = Kept(said["id"], schema_json.from_json(Collection, said["collection"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            hint = "it is not of vsync, or damaged: export into another folder"
            raise TargetError(f"cannot be read: {error}", where=str(path), hint=hint) from error
        if layout != self._layout:
            hint = f"write layout: {layout}, or export into another folder"
            raise TargetError(f"its files are of layout: {layout}", where=str(path), hint=hint)
        return kept

    def save(self, name: str, kept: Kept) -> None:
        """Write a description."""
        self._hold()
        place.remove(self._path / name, self._layout, half=True)
        schema = schema_json.to_json(kept.schema)
        said = {FORMAT: FORMAT_VERSION, "id": kept.id, "layout": self._layout, "collection": schema}
        text = json.dumps(said, ensure_ascii=False, indent=2)
        write_whole(self._path / name / DESCRIPTION, lambda file: file.write(text.encode()))

    def drop(self, name: str) -> None:
        """Remove a collection, its files and no others."""
        self._hold()
        folder = self._path / name
        with self._lock:
            for path in [p for p in self._files if p.parent == folder]:
                self._files.pop(path).close()
            self._parts = {p: parts for p, parts in self._parts.items() if folder not in p.parents}
            place.remove(folder, self._layout)

    def runs(self, name: str, partition: str) -> Sequence[Run]:
        """Give the file, and the parts that are not in it yet."""
        path, parts = self._file(name, partition), self._parts_of(name, partition)
        base = self._opened(path)  # also where it is to be replaced: a file of somebody else's is not
        return [*([base] if base is not None and not parts.replaces else []), *parts.runs()]

    def add(self, name: str, partition: str, batch: pa.RecordBatch, *, removes: bool) -> None:
        """Write a part."""
        self._hold()
        self._parts_of(name, partition).add(batch, removes=removes)

    def clear(self, name: str, partition: str) -> None:
        """Write a part that says so: the file stays until there is another."""
        self._hold()
        if self.runs(name, partition):
            self._parts_of(name, partition).clear()

    def _put_together(self, name: str, partition: str, schema: Collection) -> None:
        """Write the rows of all runs to a new file, and give it the old one's name."""
        path, parts = self._file(name, partition), self._parts_of(name, partition)
        these, runs = parts.all, self.runs(name, partition)
        fields = [f for f in schema.columns if f.name in names_of(schema, self._layout)]
        rows = RunsReader(runs, schema).scan(KeyRange(), [f.name for f in fields])
        attributes = {"partition": partition, "layout": self._layout, **self._notes}
        most = sum(run.rows for run in runs if not run.removes)
        zeros = {f.name for f in fields if any(holds_zero(run, f) for run in runs)}
        new = self._path / name / PARTS / f"{path.name}.new"
        try:
            new.parent.mkdir(parents=True, exist_ok=True)
            write_file(new, schema, self._layout, rows, most, self._filters, attributes, zeros)
            passing("export.written")
            with self._lock:
                put(new, path)
                if path in self._files:
                    self._files.pop(path).close()
            passing("export.put")
        except (OSError, RuntimeError) as error:
            raise cannot_write(path, error) from error
        parts.remove(these)

    def note(self, spec_digest: str, sources: Sequence[str]) -> None:
        """Hear what stands in the attributes of the files."""
        self._notes = {"spec_digest": spec_digest, "sources": json.dumps(list(sources), ensure_ascii=False)}

    def finish(self, names: Container[str]) -> None:
        """Put each partition's parts and its file together into a new file."""
        if self.unfinished(names):
            self._hold()
        for name, kept, partition in self._unfinished():
            if name in names:
                self._put_together(name, partition, kept.schema)
        for name in (n for n in self.names() if n in names and self._held is not None):
            shutil.rmtree(self._path / name / PARTS, ignore_errors=True)

    def unfinished(self, names: Container[str]) -> bool:
        """Tell whether there are parts that are in no file, or partitions that have none."""
        return any(name in names for name, _, _ in self._unfinished())

    def _unfinished(self) -> Iterator[tuple[str, Kept, str]]:
        for name in self.names():
            kept = self.kept(name)
            for partition in kept.partitions if kept else ():
                if kept and (self._parts_of(name, partition) or not self._file(name, partition).exists()):
                    yield name, kept, partition

    def seams(self, name: str, partition: str) -> Sequence[Key]:  # noqa: ARG002
        """Name no keys: a file is written whole."""
        return ()

    def conflicts(self, desired: Collection) -> list[Problem]:
        """Name what no file can have, places where others have theirs, and what layout: milvusdm has no place for."""
        where, kept = f"collection.{desired.name}", self.kept(desired.name)
        wished = desired.partitions or ()
        there = kept.partitions if kept else ()
        new = [p for p in (DEFAULT_PARTITION, *wished) if p not in there]
        problems = [
            *place.unfit(wished, self._layout, where),
            *place.taken(self._path / desired.name, new, self._layout),
        ]
        return problems + (self._no_place(desired, where) if self._layout == MILVUSDM else [])

    def _no_place(self, desired: Collection, where: str) -> list[Problem]:
        vectors = [f for f in desired.fields if f.type.is_vector]
        wrong = [f.name for f in desired.fields if f.primary and f.type is not DataType.INT64]
        kinds = {DataType.FLOAT_VECTOR, DataType.BINARY_VECTOR}
        wrong += [f.name for f in vectors if f.type not in kinds]
        hint = "leave layout: out"
        problems = [Problem(f"layout: milvusdm holds no {desired.field(n)}: {n}", where, hint) for n in wrong]
        if len(vectors) != 1:
            problems.append(Problem(f"layout: milvusdm holds one vector, {where} has {len(vectors)}", where, hint))
        return problems

    def nearest(self, desired: Collection, fixed: Container[str]) -> tuple[Collection, list[Loss]]:  # noqa: ARG002
        """Keep everything; the layout of MilvusDM keys and vectors alone."""
        if self._layout != MILVUSDM or not desired.fields:
            return desired, []
        kept = names_of(desired, self._layout)
        left_out = [f for f in desired.fields if f.name not in kept]
        names = [f.name for f in left_out]
        if desired.dynamic:
            names.append(DYNAMIC_FIELD)
            desired = replace(desired, dynamic=False)
        what = "layout: milvusdm has no place for it"
        losses = [Loss("lost", f"collection.{desired.name}.field.{name}", what, harmful=True) for name in names]
        return replace(desired, fields=tuple(f for f in desired.fields if f not in left_out)), losses

    def close(self) -> None:
        """Close the files and let go of the folder."""
        with self._lock:
            for file in self._files.values():
                file.close()
            self._files.clear()
            if self._held is not None:
                self._held.close()
                self._held = None

    def _hold(self) -> None:
        """Have the folder to ourselves from the first change on; the kernel gives it back when this process ends."""
        with self._lock:
            if self._held is not None:
                return
            try:
                self._path.mkdir(parents=True, exist_ok=True)
                held = (self._path / LOCK).open("w")
            except OSError as error:
                raise cannot_write(self._path, error) from error
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                held.close()
                hint = "wait until the other vsync has ended"
                raise LockedError("another process exports into this folder", where=self.label, hint=hint) from error
            if place.seen(self._path) != self._seen:
                held.close()
                what = "another process exported into this folder since it was looked at"
                raise StalePlanError(what, where=self.label, hint="make a new plan: vsync plan")
            self._held = held

    def _file(self, name: str, partition: str) -> Path:
        return self._path / name / file_name(partition, self._layout)

    def _opened(self, path: Path) -> KeptFile | None:
        with self._lock:
            if path not in self._files:
                if not path.exists():
                    return None
                file, kept = KeptFile(path), self.kept(path.parent.name)
                if kept and (file.collection.fields, file.collection.dynamic) != (
                    kept.schema.fields,
                    kept.schema.dynamic,
                ):
                    file.close()
                    hint = "move it away, or export into another folder"
                    raise TargetError("holds another collection's fields than this one's", where=str(path), hint=hint)
                if kept and path.name != file_name(file.partition, self._layout):
                    file.close()
                    what = f"is the file of partition {file.partition}, put in the place of another"
                    raise TargetError(what, where=str(path), hint="move it back, or away")
                self._files[path] = file
            return self._files[path]

    def _parts_of(self, name: str, partition: str) -> Parts:
        folder = self._path / name / PARTS / partition
        with self._lock:
            if folder not in self._parts:
                kept = self.kept(name)
                if kept is None:
                    raise TargetError(f"there is no collection {name}", where=self.label)
                self._parts[folder] = Parts(folder, kept.schema.primary.name)
            return self._parts[folder]


def holds_zero(run: Run, field: Field) -> bool:
    """Tell whether a text of a run holds a zero byte, at which HDF5 would end it; a file says so by how it lies."""
    if isinstance(run, KeptFile):
        return run.is_cut(field.name)
    if run.removes or not is_text(field):
        return False
    return any(
        has_zero(run.read(lo, min(lo + STEP, run.rows), [field.name]).column(0)) for lo in range(0, run.rows, STEP)
    )
