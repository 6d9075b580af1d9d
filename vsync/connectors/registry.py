"""The kinds of sources and targets there are: a new format is one file here beside, and one line below.

Nothing is imported until a kind is opened, so that reading a spec loads no vendor library.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from vsync.connectors.base import Database, Source, Target
    from vsync.schema import Collection


@dataclass(frozen=True, slots=True)
class FileKind:
    """A kind of file: the module that opens it, the endings it goes by, and its options with their types.

    ``required`` options have to be written. ``folder``: it is no file, but a folder as a whole.
    """

    module: str
    suffixes: tuple[str, ...]
    options: Mapping[str, type] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    folder: bool = False


@dataclass(frozen=True, slots=True)
class StoreKind:
    """A kind of place that vsync itself keeps collections in: the module that opens it, and its options.

    An option is one of some words, or any name where there are none. ``remote``: it may be a URL. ``snapshots``: it
    holds many states, each of which can be read. ``file_kind``: each partition is a file of this kind.
    """

    module: str
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    remote: bool = False
    snapshots: bool = False
    file_kind: str | None = None


FILE_KINDS: dict[str, FileKind] = {
    "hdf5": FileKind("vsync.connectors.hdf5", (".h5", ".hdf5")),
    "faiss": FileKind("vsync.connectors.faiss", (".index", ".faiss"), {"allow_lossy": bool}),
    "parquet": FileKind("vsync.connectors.parquet", (".parquet",)),
    "numpy": FileKind("vsync.connectors.numpy", (".npy",)),
    "milvus1": FileKind(
        "vsync.connectors.milvus1",
        (),
        {"collection": str, "partitions": list, "ignore_log": bool},
        required=("collection",),
        folder=True,
    ),
}

STORE_KINDS: dict[str, StoreKind] = {
    "hdf5": StoreKind(
        "vsync.connectors.hdf5.target",
        {"compression": ("none", "gzip", "bitshuffle-lz4", "zstd"), "layout": ("vsync", "milvusdm")},
        file_kind="hdf5",
    ),
    "backup": StoreKind("vsync.connectors.backup", {"name": ()}, remote=True, snapshots=True),
}


def kind_of(path: str) -> str | None:
    """Tell the kind of a file by its ending."""
    return next((kind for kind, k in FILE_KINDS.items() if path.lower().endswith(k.suffixes)), None)


def open_store(kind: str, place: str, options: Mapping[str, Any]) -> Target:
    """Open a place that vsync keeps collections in, as a target; it need not be there yet."""
    store: Target = import_module(STORE_KINDS[kind].module).open_target(place, **options)
    return store


def open_written(kind: str, place: str, options: Mapping[str, Any]) -> Target:
    """Open it to compare what was written there: where each time begins anew, what was written last."""
    if not STORE_KINDS[kind].snapshots:
        return open_store(kind, place, options)
    store: Target = import_module(STORE_KINDS[kind].module).open_written(place, **options)
    return store


def open_snapshot(kind: str, place: str, snapshot: str | None) -> Database:
    """Open one state of such a place as a database to read; the last one where none is named.

    Raises :class:`vsync.errors.SourceError` where it is not there.
    """
    found: Database = import_module(STORE_KINDS[kind].module).open_snapshot(place, snapshot)
    return found


def file_of(
    kind: str, options: Mapping[str, Any], collection: Collection, partition: str
) -> tuple[str, Mapping[str, str]]:
    """Give the file that a partition is kept in, relative to the place, and the map of it that has to be said."""
    found: tuple[str, Mapping[str, str]] = import_module(STORE_KINDS[kind].module).file_of(
        collection, partition, **options
    )
    return found


def open_source(kind: str, path: Path, options: Mapping[str, Any]) -> Source:
    """Open one file; raises :class:`vsync.errors.SourceError` where it cannot be read as this kind."""
    source: Source = import_module(FILE_KINDS[kind].module).open_source(path, **options)
    return source
