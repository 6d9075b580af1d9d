"""What a collection or partition holds, in the order of its keys: nothing left out, nothing twice.

A server gives some of many rows and does not say which. Two questions are safe: for all rows of a range at once, where
a count has shown that an answer holds them; and for a page of the first rows of every segment (``keys.PAGED``), the
next one behind its last key, until one is empty. A page for each segment costs too much where a range is small, and a
count for each page where it is large: so pages are asked for while much is left, and then the rest at once. A range of
which it is known how many keys it had is asked for first, and counted only where the answer has not as many: a count
looks at every row of the collection.

Every question is as of a timestamp of the server, for which it waits once: without it a collection that is not
strongly consistent leaves out its newest rows. Newer servers answer as of that very time, and forget in the end what
was replaced since: therefore it is never an old one.
"""

from __future__ import annotations

import math
import time
from operator import methodcaller
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from vsync.connectors.base import KeyRange
from vsync.connectors.columns import row_bytes
from vsync.connectors.milvus import ddl, keys
from vsync.connectors.milvus.decode import decode
from vsync.errors import TargetError, TooLargeError
from vsync.rows import arrow_type
from vsync.schema import META

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from vsync.connectors.base import Key
    from vsync.connectors.milvus.answers import Answer
    from vsync.connectors.milvus.client import Client
    from vsync.schema import Collection, Field

ANSWER_BYTES = 32 << 20
"""How large an answer shall be; the limit is 64 MiB on Milvus."""

TEXT_BYTES = 128
"""What a text, JSON or array is taken for; where it is more, smaller answers are asked for."""

FRESH_SECONDS = 60.0
"""How long a timestamp is used."""


class MilvusReader:
    """See :class:`vsync.connectors.base.Reader`. Used by several threads at once."""

    def __init__(
        self, client: Client, collection: Collection, partition: str | None, *, where: str | None = None
    ) -> None:
        self._client = client
        self._collection = collection
        self._where = where
        self._partitions = () if partition is None else (partition,)
        self._at: tuple[int | None, float] = (None, -math.inf)
        self.holds, self.place = client.server.holds, client.place

    def keys(self) -> Iterator[pa.Array]:
        """Scan all primary keys in blocks; 2^63-1, which Milvus counts and never gives, is not among them."""
        self._at = (None, -math.inf)
        # Not a generator: an error would end it, and the next block would seem to be none.
        return map(methodcaller("column", 0), _Scan(self, KeyRange(), [self._collection.primary]))

    def read(self, within: KeyRange, fields: Sequence[str], *, rows: int = 0) -> pa.RecordBatch:
        """Read the rows of a range, ascending by key; ``rows`` is how many there were, where that is known."""
        wanted = self._fields(fields)
        return _joined(_Scan(self, within, wanted, rows), wanted).select(list(fields))

    def scan(self, within: KeyRange, fields: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Read the rows of a range in blocks, ascending by key."""
        return map(methodcaller("select", list(fields)), _Scan(self, within, self._fields(fields)))

    def fetch(self, keys_: pa.Array, fields: Sequence[str]) -> pa.RecordBatch:
        """Read the rows with these keys."""
        wanted = self._fields(fields)
        step = min(self.most(wanted), keys.WINDOW // 2)
        parts = (keys_.slice(start, step) for start in range(0, len(keys_), step))
        return _joined((rows for part in parts for rows in self._fetched(part, wanted)), wanted).select(list(fields))

    def count(self, within: KeyRange) -> int:
        """Count the entities of a range. Lite counts a key once, and takes as long as for reading the rows."""
        return self.count_where(keys.within(self._collection.primary, within.lo, within.hi))

    def count_where(self, expression: str) -> int:
        """Count the entities that an expression is true of."""
        return keys.counted(self._answer(expression, ["count(*)"], None, ()))

    def ask(self, expression: str, fields: Sequence[Field], limit: int, order: Sequence[str]) -> pa.RecordBatch:
        """Ask once for rows that an expression is true of; the primary key is among the fields."""
        answer = self._answer(expression, [field.name for field in fields], limit, order)
        return decode(fields, answer.fields_data, runs=answer.runs)

    def most(self, fields: Sequence[Field]) -> int:
        """Tell how many rows with these fields to ask for at once."""
        size = sum(row_bytes(arrow_type(field), TEXT_BYTES) for field in fields)
        return max(1, min(self.holds.window, int(ANSWER_BYTES / size)))

    def one_row_too_large(self) -> TooLargeError:
        """Make the error for a row that no answer holds."""
        return TooLargeError(
            f"a row of {self._collection.name} is larger than the server's answers may be",
            where=self.place,
            hint="raise the server's limits (proxy.grpc.serverMaxSendSize, quotaAndLimits.limits.maxOutputSize)",
        )

    def _fetched(self, part: pa.Array, fields: Sequence[Field]) -> Iterator[pa.RecordBatch]:
        """Ask for the rows with these keys, then for those that were not in the answer, until it is empty."""
        key = fields[0]
        while len(part):
            values = part.to_pylist()  # not a vector: keys
            try:
                answers = [self.ask(those, fields, self.holds.window, ()) for those in keys.deletable(key, values)]
            except TooLargeError as error:
                if len(part) == 1:
                    raise self.one_row_too_large() from error
                for half in (part[: len(part) // 2], part[len(part) // 2 :]):
                    yield from self._fetched(half, fields)
                return
            yield from answers
            found = pa.concat_arrays([rows.column(0) for rows in answers])
            if self.holds.short_page_is_last or not len(found):
                return
            part = part.filter(pc.invert(pc.is_in(part, value_set=found)))

    def _answer(self, expression: str, fields: Sequence[str], limit: int | None, order: Sequence[str]) -> Answer:
        name, at = self._collection.name, self._now()
        expression = keys.both(self._where, expression)
        question = keys.query(name, expression, fields, partitions=self._partitions, limit=limit, at=at, order=order)
        return ddl.ask(self._client, question, doing=f"reading {name}")

    def _now(self) -> int | None:
        now = time.monotonic()
        at, since = self._at
        if now - since > FRESH_SECONDS:
            at = ddl.now(self._client)
            self._at = at, now
        return at

    def _fields(self, names: Sequence[str]) -> list[Field]:
        """Find fields by their names, and put the key before them."""
        key = self._collection.primary
        known = {field.name: field for field in (*self._collection.fields, META)}
        unknown = [name for name in names if name not in known]
        if unknown:
            raise TargetError(f"{self._collection.name} has no field {unknown[0]}", where=self.place)
        return [key, *(known[name] for name in names if name != key.name)]


class _Scan:
    """The rows of a range in blocks, ascending by key; ``fields`` begin with the key, ``rows`` is how many there were.

    Where it raised a TransientError it may be asked again for the same block.
    """

    def __init__(self, reader: MilvusReader, within: KeyRange, fields: Sequence[Field], rows: int = 0) -> None:
        self._reader, self._within, self._fields = reader, within, fields
        self._limit = reader.most(fields)
        self._left, self._guess = 0, rows
        self._last: Key | None = None
        self._done = False

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self

    def __next__(self) -> pa.RecordBatch:
        rows = None if self._done else self._block()
        if rows is None or not rows.num_rows:
            self._done = True
            raise StopIteration
        self._last = rows.column(0)[-1].as_py()
        return rows

    def _block(self) -> pa.RecordBatch | None:
        """Ask for all that is left, or for a page of it; in smaller pages where the answer is too large."""
        exact = self._reader.holds.short_page_is_last
        rest = keys.within(self._fields[0], self._within.lo, self._within.hi, after=self._last)
        guess, self._guess = self._guess, 0
        guessed = not exact and 0 < guess <= self._few
        whole = guessed or (not exact and self._few_left(rest))
        if whole and not (guessed or self._left):
            return None
        limit, order = (keys.WINDOW, keys.ORDERED) if whole else (self._limit, keys.PAGED)
        try:
            rows = self._in_order(self._reader.ask(rest, self._fields, limit, order), sort=whole)
        except TooLargeError as error:
            if guessed:
                return self._block()
            asked = self._left if whole else self._limit
            if asked == 1:
                raise self._reader.one_row_too_large() from error
            self._limit = asked // 2
            return self._block()
        if guessed and rows.num_rows != guess and rows.num_rows != self._reader.count_where(rest):
            return self._block()
        if whole and rows.num_rows == limit:
            self._left = limit  # more have come since they were counted, and some are not in the answer: in pages, then
            return self._block()
        self._left -= rows.num_rows
        self._done = (whole or exact) and rows.num_rows < limit
        return rows

    @property
    def _few(self) -> int:
        """So many rows an answer holds, and is not full."""
        return min(self._limit, keys.WINDOW - 1)

    def _few_left(self, rest: str) -> bool:
        """Tell whether an answer holds what is left."""
        if self._left <= self._few:
            self._left = self._reader.count_where(rest)
        return self._left <= self._few

    def _in_order(self, rows: pa.RecordBatch, *, sort: bool) -> pa.RecordBatch:
        if sort and not _ascending(rows.column(0)):
            rows = rows.take(pc.sort_indices(rows.column(0)))
        block = rows.column(0)
        behind = self._last is None or not len(block) or block[0].as_py() > self._last
        if not (behind and _ascending(block)):
            what = "the server gave keys twice or not in their order: its answers cannot be trusted"
            raise TargetError(what, where=self._reader.place)
        return rows


def _ascending(block: pa.Array) -> bool:
    return bool(pc.all(pc.less(block[:-1], block[1:]), min_count=0).as_py())


def _joined(blocks: Iterable[pa.RecordBatch], fields: Sequence[Field]) -> pa.RecordBatch:
    found = [rows for rows in blocks if rows.num_rows] or [decode(fields, [])]
    return found[0] if len(found) == 1 else pa.Table.from_batches(found).combine_chunks().to_batches()[0]
