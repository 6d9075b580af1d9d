"""Answers to queries, of which dense vectors stay where they lie: in the bytes that came.

protobuf would copy them twice, into its message and out of it. So they are cut out of an answer before protobuf
reads the rest, by protobuf's own rule: a tag, a length, the bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vsync.connectors.milvus.codec import VECTOR_SLOTS, delimited
from vsync.connectors.milvus.wire import milvus_pb2, schema_pb2
from vsync.schema import DataType

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_VARINT, _FIXED_64, _DELIMITED, _FIXED_32 = 0, 1, 2, 5


def _number(message: Any, name: str) -> int:
    return int(message.DESCRIPTOR.fields_by_name[name].number)


_FIELDS = _number(milvus_pb2.QueryResults, "fields_data")
_NAME, _VECTORS = _number(schema_pb2.FieldData, "field_name"), _number(schema_pb2.FieldData, "vectors")
_DIM = _number(schema_pb2.VectorField, "dim")
_FLOATS = _number(schema_pb2.VectorField, VECTOR_SLOTS[DataType.FLOAT_VECTOR])
_DENSE = {
    _number(schema_pb2.VectorField, slot)
    for kind, slot in VECTOR_SLOTS.items()
    if kind is not DataType.SPARSE_FLOAT_VECTOR
}


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a query: ``runs`` are the values of its dense vectors, by their fields' names."""

    message: Any
    runs: Mapping[str, memoryview]

    @property
    def status(self) -> Any:
        """What the server says of how it went."""
        return self.message.status

    @property
    def fields_data(self) -> Any:
        """The columns, without those values."""
        return self.message.fields_data


def read(payload: bytes) -> Answer:
    """Read a serialized QueryResults."""
    raw, kept = memoryview(payload), list[Any]()
    runs: dict[str, memoryview] = {}
    for number, begin, start, end in parts_of(raw):
        cut = _without_run(raw[start:end]) if number == _FIELDS else None
        if cut is None:
            kept.append(raw[begin:end])
        else:
            name, runs[name], rest = cut
            kept += delimited(_FIELDS, rest)
    return Answer(milvus_pb2.QueryResults.FromString(b"".join(kept) if runs else payload), runs)


def _without_run(field: memoryview) -> tuple[str, memoryview, list[Any]] | None:
    """Cut the values out of a FieldData of dense vectors: its name, they, and the rest. None for any other."""
    name, run, rest = "", None, list[Any]()
    for number, begin, start, end in parts_of(field):
        if number == _NAME:
            name = str(field[start:end], "utf-8")
        if number == _VECTORS:
            run = _run(field[start:end])
        else:
            rest.append(field[begin:end])
    return None if run is None or not name else (name, run, rest)


def _run(vectors: memoryview) -> memoryview | None:
    """Find the values of a VectorField that holds a dimension and dense vectors, and nothing else."""
    found = None
    for number, _begin, start, end in parts_of(vectors):
        if number in _DENSE and found is None:
            found = vectors[start:end]
            if number == _FLOATS:  # a message of its own, of one packed run
                inner = list(parts_of(found))
                if len(inner) != 1:
                    return None
                found = found[inner[0][2] :]
        elif number != _DIM:
            return None
    return found


def parts_of(raw: memoryview) -> Iterator[tuple[int, int, int, int]]:
    """Walk the fields of a message: number, where it begins with its tag, where its value starts and ends."""
    at, size = 0, len(raw)
    while at < size:
        begin = at
        tag, at = _varint(raw, at)
        kind, start = tag & 7, at
        if kind == _VARINT:
            _, at = _varint(raw, at)
        elif kind == _DELIMITED:
            length, start = _varint(raw, at)
            at = start + length
        elif kind in {_FIXED_32, _FIXED_64}:
            at += 4 if kind == _FIXED_32 else 8
        else:
            raise ValueError(f"a field of kind {kind} in an answer")
        if at > size:
            raise ValueError("an answer ends within a field")
        yield tag >> 3, begin, start, at


def _varint(raw: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:  # noqa: PLR2004  # seven bits to a byte
            return value, at
