"""The spec language: YAML text in, a :class:`Spec` out, or everything that is wrong with it.

The way of a text: :mod:`nodes` reads it with its places, :mod:`variables` fills in ``${NAME}``, :mod:`sugar`
makes short forms long, :mod:`bind` makes models of it (:mod:`models`, :mod:`document`), :mod:`checks` finds
what is wrong with parts that are well-formed each. All report into one list: no mistake hides another.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from vsync.spec.bind import bind
from vsync.spec.checks import check
from vsync.spec.copying import expand
from vsync.spec.document import Places, Spec
from vsync.spec.models import (
    CollectionSpec,
    CopySpec,
    DataSpec,
    Defaults,
    FieldSpec,
    IndexSpec,
    MapFrom,
    PartitionSpec,
)
from vsync.spec.nodes import Report, compose
from vsync.spec.secret import Secret
from vsync.spec.sources import (
    BackupCollections,
    BackupSource,
    Connection,
    FileSource,
    FromBackup,
    FromMilvus,
    InDatabase,
    ManyCollections,
    MilvusCollections,
    MilvusSource,
    Names,
    OneCollection,
)
from vsync.spec.sugar import lengthen
from vsync.spec.targets import MilvusTarget, StoreTarget
from vsync.spec.variables import Variables, load_variables, read_text

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "BackupCollections",
    "BackupSource",
    "CollectionSpec",
    "Connection",
    "CopySpec",
    "DataSpec",
    "Defaults",
    "FieldSpec",
    "FileSource",
    "FromBackup",
    "FromMilvus",
    "InDatabase",
    "IndexSpec",
    "ManyCollections",
    "MapFrom",
    "MilvusCollections",
    "MilvusSource",
    "MilvusTarget",
    "Names",
    "OneCollection",
    "PartitionSpec",
    "Places",
    "Secret",
    "Spec",
    "StoreTarget",
    "expand",
    "json_schema",
    "load_spec",
    "load_variables",
    "parse_spec",
]

_NONE: Mapping[str, str] = MappingProxyType({})


def load_spec(path: str | Path, variables: Mapping[str, str] = _NONE, environ: Mapping[str, str] | None = None) -> Spec:
    """Read a spec from a file; raises :class:`vsync.errors.SpecError` with all its problems.

    ``variables`` are looked up first where ``${NAME}`` is written, then ``environ`` (the process's
    own by default).
    """
    text = read_text(path, "the spec")
    folder = Path(path).absolute().parent
    return parse_spec(text, name=str(path), folder=folder, variables=variables, environ=environ)


def parse_spec(
    text: str,
    *,
    name: str = "vsync.yaml",
    folder: Path,
    variables: Mapping[str, str] = _NONE,
    environ: Mapping[str, str] | None = None,
) -> Spec:
    """Read a spec from text; ``name`` is what problems call it, ``folder`` what its paths are relative to.

    Raises :class:`vsync.errors.SpecError` with all its problems, each with its place in the text.
    """
    report = Report(name)
    written = compose(text.removeprefix("\ufeff"), report)
    spec = None
    if written is not None:
        filled = Variables(variables, os.environ if environ is None else environ, report).fill(written)
        root = lengthen(filled, report)
        places = Places(name)
        places.add(root)
        spec, wrong = bind(root, places, report)
        if spec is not None:
            check(spec, places, report, wrong)
            spec.placed(places, folder)
    report.raise_any()
    assert spec is not None
    return spec


def json_schema() -> dict[str, Any]:
    """Describe the language as people write it, for editors: JSON Schema, draft 2020-12."""
    from vsync.spec.jsonschema import build

    return build()
