"""What vsync uses of pymilvus and milvus-lite that is private: a failure here names what a release moved."""

from __future__ import annotations

import importlib.metadata
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

WHERE = "see vsync/connectors/milvus/wire.py; the ceiling of the dependency in pyproject.toml is there for this"

MESSAGES = {
    "schema_pb2": [
        "FieldData",
        "ScalarField",
        "VectorField",
        "ArrayArray",
        "SparseFloatArray",
        "CollectionSchema",
    ],
    "common_pb2": ["KeyValuePair", "ConsistencyLevel", "IndexState", "LoadStateLoaded", "LoadStateNotLoad"],
    "milvus_pb2": [
        "InsertRequest",
        "UpsertRequest",
        "QueryRequest",
        "QueryResults",
        "MutationResult",
        "AllocTimestampRequest",
    ],
}


@pytest.mark.parametrize("module", MESSAGES)
def test_pymilvus_keeps_its_messages_where_they_were(module: str) -> None:
    found = importlib.import_module(f"pymilvus.grpc_gen.{module}")
    missing = [name for name in MESSAGES[module] if not hasattr(found, name)]
    assert not missing, f"pymilvus {version('pymilvus')} has no {missing} in {module}: {WHERE}"


def test_insert_and_upsert_requests_have_the_same_numbers() -> None:
    from pymilvus.grpc_gen import milvus_pb2

    numbers = [
        {f.name: f.number for f in message.DESCRIPTOR.fields}
        for message in (milvus_pb2.InsertRequest, milvus_pb2.UpsertRequest)
    ]
    used = ("collection_name", "partition_name", "fields_data", "num_rows")
    assert [[n[name] for name in used] for n in numbers] == [[3, 4, 5, 7]] * 2, f"the wire form moved: {WHERE}"


def test_a_client_has_the_handler_stub_and_channel_that_we_borrow(lite_path: Path) -> None:
    from pymilvus import MilvusClient

    client = MilvusClient(str(lite_path), dedicated=True, grpc_options={"grpc.enable_retries": 0})
    handler = getattr(client, "_handler", None)
    for name in ("_stub", "_final_channel", "_grpc_options"):
        assert hasattr(handler, name), f"pymilvus {version('pymilvus')} has no _handler.{name}: {WHERE}"
    assert handler is not None
    assert handler._grpc_options == {"grpc.enable_retries": 0}
    for name in ("Upsert", "Insert", "Query", "DescribeCollection", "AllocTimestamp", "TruncateCollection"):
        assert callable(getattr(handler._stub, name, None)), f"the stub has no {name}: {WHERE}"
    client.close()


def test_milvus_lite_has_the_manager_that_starts_and_releases_folders(lite_path: Path) -> None:
    from milvus_lite.server_manager import server_manager_instance as manager

    address = manager.start_and_get_uri(str(lite_path))
    assert address is not None
    assert address.startswith("http://127.0.0.1:")
    assert str(lite_path) in manager._servers, f"milvus-lite {version('milvus-lite')} keeps no _servers: {WHERE}"
    manager.release_server(str(lite_path))
    assert str(lite_path) not in manager._servers
    assert (lite_path / "LOCK").exists(), f"milvus-lite {version('milvus-lite')} locks another file: {WHERE}"


def version(package: str) -> str:
    return importlib.metadata.version(package)
