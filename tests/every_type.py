"""Collections with every type and option that a server holds, and what they hold, read by pymilvus.

``wide``: keys that the server makes, every scalar, a dynamic field, a partition key, a function. ``other``: text keys,
several vectors, a partition, an alias, a property. ``bits``: where only one vector can be, the other one. A row is
known by its number ``n``.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import milvus_rows
import numpy as np
import pyarrow as pa
from pymilvus.grpc_gen import common_pb2, milvus_pb2, milvus_pb2_grpc

from vsync.rows import arrow_type
from vsync.schema import DYNAMIC_FIELD, META, Collection, DataType, Field, Function, Index

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from conftest import Endpoint
    from pymilvus import MilvusClient

T = DataType
ALL = LITE, MILVUS, OLD = "Lite 3", "Milvus 2.3", "Lite 2.5"
ROWS = 6
NAN, INF = float("nan"), float("inf")
TEXTS = ["", "naïve", "\U0001f600" * 8, 'q"\\\n', "数据", "नमस्ते"]
"""None is longer than 8 characters."""
OBJECTS = [
    b'{"Z":1,"A":1e3}',
    b"{}",
    '{"é":[true,null,-0.0]}'.encode(),
    b'{"X":{"Y":[]}}',
    b'{"N":0.1}',
    b'{"S":"\\u00e9"}',
]


@dataclass(frozen=True)
class Case:
    """A row of the table: a field and its values, and the servers that it is on."""

    row: str
    field: Field
    values: Sequence[Any]
    on: tuple[str, ...] = ALL


def _floats(kind: str, *rows: Sequence[float]) -> list[bytes]:
    return [np.array(row, kind).tobytes() for row in rows]


def _sparse(*pairs: tuple[int, float]) -> bytes:
    return b"".join(struct.pack("<If", at, value) for at, value in pairs)


def _arrays(element: DataType, *cells: Sequence[Any], length: int | None = None, on: tuple[str, ...] = ALL) -> Case:
    name = f"array of {element}"
    made = Field(f"a_{element}", T.ARRAY, element=element, max_capacity=4, max_length=length)
    return Case(name, made, [[], *cells, *[list(cells[0])] * (ROWS - 1 - len(cells))], on)


FLOATS = [NAN, -INF, -0.0, 1.4e-45, 3.4028234663852886e38, 0.10000000149011612]
DOUBLES = [NAN, INF, -0.0, 5e-324, 1.7976931348623157e308, 0.1]
DENSE = [[1e-45, -0.0, 3.4e38, 0.1], *([float(i), -1.0, 0.5, 2.0] for i in range(ROWS - 1))]
HALVES = [[6e-8, -0.0, 65504, 0.1], *([float(i), -1.0, 0.5, 2.0] for i in range(ROWS - 1))]
VECTOR = Case("float_vector", Field("v", T.FLOAT_VECTOR, dim=4), _floats("<f4", *DENSE))
NUMBER = Case("int32", Field("n", T.INT32), range(ROWS))
_WIDE = (
    VECTOR,
    NUMBER,
    Case("int8", Field("i8", T.INT8), [-128, 127, 0, -1, 1, 5]),
    Case("int16", Field("i16", T.INT16), [-(2**15), 2**15 - 1, 0, -1, 1, 5]),
    Case("int64", Field("i64", T.INT64), [-(2**63), 2**63 - 1, 0, -1, 2**53 + 1, 5]),
    Case("float", Field("f", T.FLOAT), FLOATS),
    Case("double", Field("d", T.DOUBLE), DOUBLES),
    Case("bool", Field("b", T.BOOL), [True, False] * 3),
    Case("varchar", Field("s", T.VARCHAR, max_length=8), TEXTS, (LITE,)),  # in characters
    Case("varchar", Field("s", T.VARCHAR, max_length=32), TEXTS, (MILVUS, OLD)),
    Case("json", Field("j", T.JSON), OBJECTS),
    _arrays(T.INT8, [-128, 127]),
    _arrays(T.INT16, [-(2**15), 2**15 - 1]),
    _arrays(T.INT32, [-(2**31), 2**31 - 1, 0, 1]),
    _arrays(T.INT64, [-(2**63), 2**63 - 1]),
    _arrays(T.FLOAT, [-0.0, 1.4e-45, INF]),
    _arrays(T.DOUBLE, [-0.0, 5e-324], [INF]),
    _arrays(T.BOOL, [True, False]),
    _arrays(T.VARCHAR, ["", "ü", "数据"], ["नमस्ते"], length=8, on=(LITE,)),
    _arrays(T.VARCHAR, ["", "ü", "数据"], ["नमस्ते"], length=32, on=(MILVUS, OLD)),
    Case("nullable", Field("maybe", T.INT16, nullable=True), [None, 1, None, -1, 0, 2], (LITE,)),
    Case("default", Field("usual", T.INT32, default=7), [7, 1, 2, 7, 3, 4], (LITE, MILVUS)),
    Case("clustering key", Field("sorted", T.INT64, clustering_key=True), range(ROWS), (OLD,)),
    Case("partition key", Field("tenant", T.INT64, partition_key=True), [1, 2] * 3, (LITE, MILVUS)),
)
ANALYZED = (("analyzer_params", '{"tokenizer":"standard"}'), ("enable_analyzer", "true"))
WORDS = ["blue fish", "red fish", "fish", "", "sea of red fish", "blue"]
WIDE = (
    *_WIDE,
    Case("text analyzer", Field("text", T.VARCHAR, max_length=32, params=ANALYZED), WORDS, (LITE, OLD)),
    Case("function (BM25)", Field("bm25", T.SPARSE_FLOAT_VECTOR, computed=True), (), (LITE, OLD)),
)
FUNCTION = Function("by_words", "BM25", ("text",), ("bm25",))
DYNAMIC = Case("dynamic field", META, OBJECTS)
AUTO = Case("auto_id key", Field("id", T.INT64, primary=True, auto_id=True), ())
KEYS = ["k" + text.replace("\n", "") for text in TEXTS]
KEY = Case("varchar key", Field("key", T.VARCHAR, primary=True, max_length=33), KEYS)
BITS = Case("binary_vector", Field("bits", T.BINARY_VECTOR, dim=16), [bytes([i, 255 - i]) for i in range(ROWS)])
SPARSE = Case(
    "sparse_float_vector",
    Field("sparse", T.SPARSE_FLOAT_VECTOR),
    [_sparse((0, 0.5), (4_000_000_000, 1e-45)), *[_sparse((i, 1.5)) for i in range(ROWS - 1)]],
)
SEVERAL = Case("several vectors", Field("v2", T.FLOAT_VECTOR, dim=4), VECTOR.values)
VECTORS = {
    LITE: (VECTOR, SPARSE, SEVERAL),
    MILVUS: (VECTOR,),
    OLD: (
        BITS,
        SEVERAL,
        Case("float16_vector", Field("f16", T.FLOAT16_VECTOR, dim=4), _floats("<f2", *HALVES)),
        Case("bfloat16_vector", Field("bf16", T.BFLOAT16_VECTOR, dim=4), [bytes([i, 63] * 4) for i in range(ROWS)]),
    ),
}
PARTITION, ALIAS, PROPERTIES = "part", "other_name", (("owner", "me"),)
NAMES = {LITE: ("wide", "other"), MILVUS: ("wide", "other", "bits"), OLD: ("wide", "other")}


def cases(server: str, name: str) -> tuple[Case, ...]:
    """List the fields of a collection, as a server has them."""
    if name == "other":
        return (KEY, NUMBER, *VECTORS[server])
    if name == "bits":
        return (KEY, NUMBER, BITS)
    sparse = (SPARSE,) if server == OLD else ()
    return (AUTO, *(c for c in WIDE if server in c.on), *sparse, DYNAMIC)


def collection(server: str, name: str, prefix: str = "") -> Collection:
    """Say what a collection is."""
    fields = tuple(c.field for c in cases(server, name) if c is not DYNAMIC)
    named = name == "other" and server != OLD
    return Collection(
        prefix + name,
        fields,
        dynamic=name == "wide",
        partitions=(PARTITION,) if named else None,
        properties=PROPERTIES if named else None,
        indexes=tuple(Index(f.name, "FLAT" if f.type is T.FLOAT_VECTOR else None) for f in fields if f.type.is_vector),
        functions=(FUNCTION,) if any(f.computed for f in fields) else (),
    )


def make(endpoint: Endpoint, server: str) -> None:
    """Make all collections, with their rows, and no others: Lite 2.5 keeps those of other tests in its one database."""
    with milvus_rows.opened(endpoint) as target:
        for left in target.collections():
            target.drop_collection(left)
        for name in NAMES[server]:
            made = collection(server, name)
            milvus_rows.make(target, made)
            rows = _batch(cases(server, name))
            milvus_rows.send(target, made, rows.slice(0, 3), made.partitions[0] if made.partitions else None)
            milvus_rows.send(target, made, rows.slice(3))
            target.flush(name)
            if made.partitions:
                target.set_alias(ALIAS, name)


def _batch(wanted: Iterable[Case]) -> pa.RecordBatch:
    columns = {}
    for case in wanted:
        kind = arrow_type(case.field)
        if case.field.auto_id or case.field.computed:
            continue
        if pa.types.is_fixed_size_list(kind):
            values = np.frombuffer(b"".join(case.values), kind.value_type.to_pandas_dtype())
            columns[case.field.name] = pa.FixedSizeListArray.from_arrays(pa.array(values), kind.list_size)
        else:
            columns[case.field.name] = pa.array(list(case.values), kind)
    return pa.RecordBatch.from_pydict(columns)


def expected(case: Case) -> dict[int, Any]:
    """Give the values of a field by the rows' numbers, in the form of :func:`held`."""
    if case.field.type.is_vector:
        return dict(enumerate(case.values))
    if case.field.type is T.JSON:
        return {n: bytes(value) for n, value in enumerate(case.values)}
    return {n: _bits(value, case.field.element or case.field.type) for n, value in enumerate(case.values)}


def held(client: MilvusClient, endpoint: Endpoint, name: str, fields: Iterable[Field]) -> dict[str, dict[int, Any]]:
    """Read fields by the rows' numbers: numbers and vectors as their bits, JSON as the server's bytes."""
    own = [f for f in fields if f.type is not T.JSON]
    texts = [f.name for f in fields if f.type is T.JSON]
    names = list({"n", *(f.name for f in own)})
    rows = client.query(name, filter="n >= 0", output_fields=names, limit=100, consistency_level="Strong")
    found = {f.name: {int(r["n"]): _bits(r[f.name], f.element or f.type) for r in rows} for f in own}
    assert all(len(values) == len(rows) for values in found.values()), "a row is there twice"
    return found | (_json(endpoint, name, texts) if texts else {})


def _bits(value: Any, kind: DataType) -> Any:
    if value is None:
        return None
    if kind is T.SPARSE_FLOAT_VECTOR:
        return _sparse(*sorted(value.items()))
    if kind.is_vector:
        return _vector(value, kind)
    if not isinstance(value, (str, bool, int, float, np.generic)):
        return [_bits(v, kind) for v in value]
    if kind in {T.FLOAT, T.DOUBLE}:  # what a NaN's bits are is nobody's business
        return "NaN" if np.isnan(value) else struct.pack("<f" if kind is T.FLOAT else "<d", value)
    return value


def _vector(value: Any, kind: DataType) -> bytes:
    if kind is T.FLOAT_VECTOR:
        return np.asarray(value, "<f4").tobytes()
    return b"".join(value) if isinstance(value, list) else bytes(value)


def _json(endpoint: Endpoint, name: str, fields: Sequence[str]) -> dict[str, dict[int, bytes]]:
    """Ask for the bytes themselves, which pymilvus's client parses."""
    options = [("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(endpoint.uri.removeprefix("http://"), options=options) as channel:
        question = milvus_pb2.QueryRequest(
            db_name=endpoint.database,
            collection_name=name,
            expr="n >= 0",
            output_fields=["n", *fields],
            query_params=[common_pb2.KeyValuePair(key="limit", value="100")],
            consistency_level=common_pb2.Strong,
        )
        stub = milvus_pb2_grpc.MilvusServiceStub(channel)
        answer = stub.Query(question, timeout=30, metadata=[("dbname", endpoint.database)])
    columns = {DYNAMIC_FIELD if data.is_dynamic else data.field_name: data.scalars for data in answer.fields_data}
    numbers = columns["n"].int_data.data
    return {f: dict(zip(numbers, map(bytes, columns[f].json_data.data), strict=True)) for f in fields}


def parsed(values: dict[int, bytes]) -> dict[int, Any]:
    """Read JSON as the values that it stands for."""
    return {n: json.loads(value) for n, value in values.items()}
