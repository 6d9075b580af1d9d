"""Which rows of a chunk were in the target before its first attempt: asked once, and journaled with ``sent``.

Of a file a bit for each of its rows is enough. A collection may give other rows at the next attempt: so its keys are
kept, each with its answer, and only those that are new are asked for then, since nobody has sent them yet. Those that
are *gone* from it by then may have been written all the same: they are kept until they are counted. Of rows whose keys
the server makes nothing is asked: what was sent is kept by its digests, and found again by them.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Ask = Callable[[pa.Array], pa.BooleanArray]


def of_file(known: bytes | None, keys: pa.Array, ask: Ask) -> tuple[bytes, NDArray[np.bool_]]:
    """Give what to journal, and for each key whether it was there; ``known`` is what was journaled before."""
    if known is not None:
        bits = np.frombuffer(zlib.decompress(known), np.uint8)
        return known, np.unpackbits(bits, count=len(keys)).astype(bool)
    there = ask(keys).to_numpy(zero_copy_only=False)
    return zlib.compress(np.packbits(there).tobytes(), 1), there


def of_collection(known: bytes | None, keys: pa.Array, ask: Ask) -> tuple[bytes, NDArray[np.bool_]]:
    """Give what to journal, and for each key whether it was there; ``known`` is what was journaled before."""
    if known is None:
        answers = ask(keys)
        return _packed(pa.table({"key": keys, "there": answers})), answers.to_numpy(zero_copy_only=False)
    asked = _unpacked(known)
    new = keys.filter(pc.invert(pc.is_in(keys, value_set=asked.column("key").combine_chunks())))
    if len(new):
        asked = pa.concat_tables([asked, pa.table({"key": new, "there": ask(new)})]).combine_chunks()
    at = pc.index_in(keys, value_set=asked.column("key").combine_chunks())
    there = asked.column("there").combine_chunks().take(at).to_numpy(zero_copy_only=False)
    return _packed(asked), there


def gone(known: bytes, keys: pa.Array) -> bytes | None:
    """Keep those keys that earlier attempts may have sent and that are not among these; ``None``: there are none."""
    asked = _unpacked(known)
    left = asked.filter(pc.invert(pc.or_(asked.column("there"), pc.is_in(asked.column("key"), value_set=keys))))
    return _packed(left) if left.num_rows else None


def gone_keys(kept: bytes) -> pa.Array:
    """Give the keys that :func:`gone` kept."""
    return _unpacked(kept).column("key").combine_chunks()


def of_digests(known: bytes | None, digests: NDArray[np.uint64]) -> bytes:
    """Give what to journal of rows that are sent without keys."""
    before = digests[:0] if known is None else digests_of(known)
    return zlib.compress(np.union1d(before, digests).tobytes(), 1)


def digests_of(known: bytes) -> NDArray[np.uint64]:
    """Give the digests of all rows that were sent without keys."""
    return np.frombuffer(zlib.decompress(known), np.uint64)


def _packed(asked: pa.Table) -> bytes:
    out = pa.BufferOutputStream()
    with pa.ipc.new_stream(out, asked.schema) as stream:
        stream.write_table(asked)
    return zlib.compress(out.getvalue(), 1)


def _unpacked(known: bytes) -> pa.Table:
    with pa.ipc.open_stream(zlib.decompress(known)) as stream:
        return stream.read_all()
