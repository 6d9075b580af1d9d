"""What MilvusDM was told to do, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

FLOAT = ("L2", "IP")
BINARY = ("HAMMING", "JACCARD", "TANIMOTO", "SUBSTRUCTURE", "SUPERSTRUCTURE")
MODES = ("append", "skip", "overwrite")


@dataclass(frozen=True, slots=True)
class Body:
    """Rows for one destination: a partition, or with ``None`` the rows of a collection that are in none.

    ``sources`` are written as a spec says them. ``dim`` and ``metric`` are ``None`` where nothing tells them. ``where``
    is the line that says it.
    """

    collection: str
    partition: str | None
    sources: tuple[dict[str, Any], ...]
    mode: str
    dim: int | None
    metric: str | None
    where: str


@dataclass(frozen=True, slots=True)
class Job:
    """One of MilvusDM's four jobs: its target as a spec says it (``None``: nothing tells it), and its rows."""

    task: str
    target: Any
    bodies: tuple[Body, ...]
    where: str
