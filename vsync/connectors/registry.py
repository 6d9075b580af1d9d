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

    from vsync.connectors.base import Source


@dataclass(frozen=True, slots=True)
class FileKind:
    """A kind of file: the module that opens it, the endings it goes by, and its options with their types."""

    module: str
    suffixes: tuple[str, ...]
    options: Mapping[str, type] = field(default_factory=dict)


FILE_KINDS: dict[str, FileKind] = {
    "hdf5": FileKind("vsync.connectors.hdf5", (".h5", ".hdf5")),
    "faiss": FileKind("vsync.connectors.faiss", (".index", ".faiss"), {"allow_lossy": bool}),
    "parquet": FileKind("vsync.connectors.parquet", (".parquet",)),
    "numpy": FileKind("vsync.connectors.numpy", (".npy",)),
}


def kind_of(path: str) -> str | None:
    """Tell the kind of a file by its ending."""
    return next((kind for kind, k in FILE_KINDS.items() if path.lower().endswith(k.suffixes)), None)


def open_source(kind: str, path: Path, options: Mapping[str, Any]) -> Source:
    """Open one file; raises :class:`vsync.errors.SourceError` where it cannot be read as this kind."""
    source: Source = import_module(FILE_KINDS[kind].module).open_source(path, **options)
    return source
