"""The fault points, taken from the code itself: each commit of the journal, each request to a Milvus."""

from __future__ import annotations

import ast
import functools
from pathlib import Path
from typing import TYPE_CHECKING

import vsync

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOM = Path(vsync.__file__).parent

NEVER = {"checked", "overtaken", "written_over", "ShowCollections"}
"""What no apply of one's own data does: vsync check, a mirror of other data (test_export_kill.py), vsync init."""
ONLY: dict[str, set[str]] = {
    # Requests that not every server is sent, and those that are.
    "AllocTimestamp": {"milvus"},
    "ReleasePartitions": {"milvus"},
    "Upsert": {"milvus", "lite25"},
    "ReleaseCollection": {"milvus", "lite", "lite25"},
    "GetPartitionStatistics": {"lite", "lite-embedded"},
    "TruncateCollection": {"lite", "lite-embedded"},
    **{
        # Milvus Lite 2.5 has neither databases nor aliases nor partitions, and changes no collection.
        name: {"milvus", "lite", "lite-embedded"}
        for name in (
            *("AlterAlias", "AlterCollection", "CreateAlias", "CreateDatabase", "CreatePartition", "DescribeAlias"),
            *("DropAlias", "DropPartition", "ListAliases", "ListDatabases", "ShowPartitions"),
        )
    },
}

WRITES = {"Insert", "Upsert", "Delete"}


def commits() -> set[str]:
    """Name the journal's transactions: what its methods give to ``_write`` and ``_commit``, and its own points."""
    tree = ast.parse((ROOM / "state" / "journal.py").read_text("utf-8"))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            given = node.args[0].value if isinstance(node.args[0], ast.Constant) else None
            if node.func.attr in {"_write", "_commit", "around"} and isinstance(given, str):
                found.add(given.removeprefix("journal."))
    return found


def requests() -> set[str]:
    """Name the requests that are sent to a Milvus: the methods of its service that the connector's code names."""
    from pymilvus.grpc_gen import milvus_pb2

    methods = set(milvus_pb2.DESCRIPTOR.services_by_name["MilvusService"].methods_by_name)
    return methods & set(_texts()) - {"Connect"}  # pymilvus itself sends that one


def _texts() -> Iterator[str]:
    for path in (ROOM / "connectors" / "milvus").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def both_sides(names: set[str]) -> set[str]:
    return {f"{name}.{side}" for name in names for side in ("before", "after")}


@functools.cache
def protocol() -> set[str]:
    """The points of the chunk protocol itself: every commit, every request that writes or removes rows."""
    return both_sides({f"journal.{name}" for name in commits()} | {f"request.{name}" for name in WRITES & requests()})


def expected(servers: set[str]) -> set[str]:
    """The points that applies to these servers must pass."""
    absent = NEVER | {name for name, only in ONLY.items() if servers.isdisjoint(only)}
    made = {f"journal.{name}" for name in commits() - absent} | {f"request.{name}" for name in requests() - absent}
    return both_sides(made)
