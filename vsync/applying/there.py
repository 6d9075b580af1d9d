"""Which rows of a chunk were in the target before its first attempt: asked once, and journaled with ``sent``.

Of a file a bit for each of its rows is enough. A collection may give other rows at the next attempt: so its keys are
kept, each with its answer, and only those that are new are asked for then, since nobody has sent them yet.
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
    asked = _unpacked(known) if known is not None else pa.table({"key": keys[:0], "there": pa.array([], pa.bool_())})
    new = keys.filter(pc.invert(pc.is_in(keys, value_set=asked.column("key").combine_chunks())))
    if len(new):
        asked = pa.concat_tables([asked, pa.table({"key": new, "there": ask(new)})]).combine_chunks()
    at = pc.index_in(keys, value_set=asked.column("key").combine_chunks())
    there = asked.column("there").combine_chunks().take(at).to_numpy(zero_copy_only=False)
    return _packed(asked), there


def _packed(asked: pa.Table) -> bytes:
    out = pa.BufferOutputStream()
    with pa.ipc.new_stream(out, asked.schema) as stream:
        stream.write_table(asked)
    return zlib.compress(out.getvalue(), 1)


def _unpacked(known: bytes) -> pa.Table:
    with pa.ipc.open_stream(zlib.decompress(known)) as stream:
        return stream.read_all()
