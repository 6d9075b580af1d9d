"""What a Milvus holds, read by nothing of vsync's: pymilvus's own client, and Milvus's own words."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np
import servers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from conftest import Endpoint
    from glove import Rows
    from pymilvus import MilvusClient

CALL_SECONDS = 120.0
"""Without it pymilvus repeats a call to a server that is ill for an hour."""
AT_ONCE = 2_000
WINDOW = 16_384


@contextlib.contextmanager
def client_of(endpoint: Endpoint) -> Iterator[MilvusClient]:
    """Connect anew; an embedded Lite is given back at the end, so that the next process can have it."""
    from milvus_lite.server_manager import server_manager_instance
    from pymilvus import MilvusClient

    servers.silence_pymilvus()
    options = servers.NO_PINGS
    client = MilvusClient(endpoint.uri, db_name=endpoint.database, timeout=60, dedicated=True, grpc_options=options)
    try:
        yield client
    finally:
        client.close()
        if endpoint.kind == "lite":
            server_manager_instance.release_server(endpoint.uri)


def count(client: MilvusClient, name: str, expression: str = "id >= 0", partition: str | None = None) -> int:
    """Count rows strongly: the one question that sees a row that is there twice."""
    answer = client.query(
        name,
        filter=expression,
        output_fields=["count(*)"],
        partition_names=[partition] if partition else None,
        consistency_level="Strong",
        timeout=CALL_SECONDS,
    )
    return int(answer[0]["count(*)"])


def read(
    client: MilvusClient,
    name: str,
    field: str,
    values: Sequence[Any],
    fields: Sequence[str],
    partition: str | None = None,
) -> list[dict[str, Any]]:
    """Fetch the rows whose ``field`` is one of the values, by `in` lists with an explicit limit."""
    found: list[dict[str, Any]] = []
    for start in range(0, len(values), AT_ONCE):
        part = [quoted(value) for value in values[start : start + AT_ONCE]]
        answer = client.query(
            name,
            filter=f"{field} in [{', '.join(part)}]",
            output_fields=list(fields),
            limit=WINDOW,
            partition_names=[partition] if partition else None,
            consistency_level="Strong",
            timeout=CALL_SECONDS,
        )
        assert len(answer) < WINDOW
        found += answer
    return found


def quoted(value: Any) -> str:
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(int(value))


def held(client: MilvusClient, name: str, key: str, keys: Sequence[Any]) -> dict[Any, tuple[bytes, str]]:
    """Map each of these keys that is there to its vector's bytes and its word; no key may come twice."""
    found = read(client, name, key, keys, [key, "vector", "word"])
    by_key = {row[key]: (np.asarray(row["vector"], "f4").tobytes(), row["word"]) for row in found}
    assert len(by_key) == len(found), f"{name} answers {len(found)} rows for {len(by_key)} keys"
    return by_key


def assert_holds(client: MilvusClient, name: str, expected: dict[Any, tuple[bytes, str]], *, key: str = "id") -> None:
    """Compare the whole content: the count, the keys, none twice, every vector bit for bit, every word."""
    client.load_collection(name, timeout=CALL_SECONDS)
    expression = f'{key} >= ""' if isinstance(next(iter(expected)), str) else f"{key} >= 0"
    assert count(client, name, expression) == len(expected)
    got = held(client, name, key, list(expected))
    wrong = [k for k, row in expected.items() if got.get(k) != row]
    assert not wrong, f"{len(wrong)} of {len(expected)} keys of {name} are missing or differ, such as {wrong[:3]}"


def insert(client: MilvusClient, name: str, what: Rows, partition: str | None = None) -> None:
    """Write rows with keys of their own, as another program does."""
    rows = [{"id": int(i), "vector": v, "word": w} for i, v, w in zip(what.ids, what.vectors, what.words, strict=True)]
    client.insert(name, rows, partition_name=partition or "")


def upsert(client: MilvusClient, name: str, what: Rows) -> None:
    """Replace rows with keys of their own, as another program does."""
    rows = [{"id": int(i), "vector": v, "word": w} for i, v, w in zip(what.ids, what.vectors, what.words, strict=True)]
    client.upsert(name, rows)
