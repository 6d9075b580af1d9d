"""A destination compared by its keys, in bounded memory.

What fits in memory is read once, both sides at the same time, and compared row by row. Of more, the digests are added
up by pieces of the keys' order first, so that it does not matter in which order the sources hold them; then pieces
whose sums differ are read again, some at a time.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vsync.checking.doubles import Hunt
from vsync.checking.exact import by_key
from vsync.checking.findings import CheckBegan
from vsync.checking.marks import Marks, Sums, spans, without
from vsync.checking.reading import SOURCE_THREADS, Chunk, Expected, Held, Rows
from vsync.checking.tally import Odd
from vsync.rows import arrow_type
from vsync.rows.digest import field_digests, mixed
from vsync.schema import DataType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from vsync.checking.reading import Keep
    from vsync.checking.tally import Tally
    from vsync.connectors.base import Key, KeyRange
    from vsync.schema import Field

PIECE_ROWS = 512
"""Rows of the source in a piece: what is read again where a row differs."""
BLOCK_ROWS = 4_096
"""Rows of a source whose least and greatest key are remembered."""
READ_PIECES = 64
"""Pieces that are asked for together, where the target answers several questions at once."""
MEMORY = 64 << 20
"""Bytes of keys and digests in memory."""
ROW_BYTES = 32
"""What a row takes of it, beside its key and its digests."""


@dataclass(frozen=True, slots=True)
class _Block:
    """Some rows of a chunk, ``home``, with their least and greatest key."""

    rows: Chunk
    home: Chunk
    least: Key
    greatest: Key


@dataclass(slots=True)
class _Survey:
    """Where the keys of the source lie."""

    rows: int = 0
    blocks: list[_Block] = field(default_factory=list)
    samples: list[pa.Array] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def key_bytes(self) -> int:
        """How large a key is, on an average."""
        nbytes: int = sum(keys.nbytes for keys in self.samples)
        return nbytes // max(1, sum(map(len, self.samples)))

    def add(self, home: Chunk, keys: pa.Array, numbers: NDArray[np.int64]) -> None:
        blocks = []
        for at in range(0, len(keys), BLOCK_ROWS):
            ends = pc.min_max(keys[at : at + BLOCK_ROWS])
            last = min(at + BLOCK_ROWS, len(keys)) - 1
            rows = home.part(int(numbers[at]), int(numbers[last]) + 1)
            blocks.append(_Block(rows, home, ends["min"].as_py(), ends["max"].as_py()))
        with self.lock:
            self.rows += len(keys)
            self.blocks += blocks
            self.samples.append(keys.take(pa.array(np.arange(0, len(keys), PIECE_ROWS))))


@dataclass(frozen=True, slots=True)
class KeyedCheck:
    """Compares one destination; ``fields`` are those whose values count, beside the key."""

    expected: Expected
    held: Held
    fields: tuple[Field, ...]
    tally: Tally

    def run(self, counted: int) -> None:
        """Compare all rows; ``counted`` are those that the target counts."""
        survey = self._survey()
        self.tally.source = survey.rows
        self.expected.ways.report(CheckBegan(self.expected.side.address, survey.rows + counted))
        marks = Marks.of(survey.samples, self._kind)
        most = MEMORY // (ROW_BYTES + survey.key_bytes + 8 * len(self.fields))
        if survey.rows + counted > most:
            self._in_parts(survey, marks, counted, most)
            return
        everything = np.ones(marks.pieces, np.bool_)
        source, target = self._read(self.expected.chunks(), self._ranges(marks, everything), None)
        self._hunt(marks, np.bincount(marks.pieces_of(target.keys), minlength=marks.pieces), counted)
        if self._garbled:
            _, target = self._read([], self._ranges(marks, everything), None)
        self._compare(source, target, self.tally.odd)

    def _in_parts(self, survey: _Survey, marks: Marks, counted: int, most: int) -> None:
        """Add up digests, then compare the rows of pieces that differ, at most so many at a time."""
        ours, theirs, ends = self._sums(marks, self.expected.chunks())
        self._hunt(marks, theirs.rows, counted)
        if self._garbled:
            _, theirs, ends = self._sums(marks, [])
        differs = ours.differ(theirs)
        differs[marks.pieces_of(self._array(self.tally.odd))] = True
        # Where the target holds many more rows than the source a piece is cut again, so that no part is too large.
        finer = Marks.of([marks.keys, *ends], self._kind)
        home = np.concatenate([[0], marks.pieces_of(finer.keys)])
        largest = counted // max(1, len(ends)) * 4 + PIECE_ROWS
        weights = ours.rows[home] + np.minimum(theirs.rows[home], largest)
        first = finer.pieces_of(self._array([b.least for b in survey.blocks]))
        last = finer.pieces_of(self._array([b.greatest for b in survey.blocks]))
        for part in parts(differs[home], weights, most):
            before = np.concatenate([[0], np.cumsum(part)])
            blocks = [survey.blocks[n] for n in np.flatnonzero(before[last + 1] > before[first])]
            odd = self._array(self.tally.odd)
            chosen = set(odd.filter(pa.array(part[finer.pieces_of(odd)])).to_pylist())  # not a vector: keys
            rows = self._read(_joined(blocks), self._ranges(finer, part), _within(finer, part))
            self._compare(*rows, {key: words for key, words in self.tally.odd.items() if key in chosen})

    @property
    def _key(self) -> Field:
        return self.expected.side.collection.primary

    @property
    def _kind(self) -> pa.DataType:
        return arrow_type(self._key)

    def _array(self, keys: Iterable[Key]) -> pa.Array:
        return pa.array(list(keys), self._kind)

    @property
    def _threads(self) -> int:
        """How many questions the target is asked at once."""
        return min(self.held.ways.transfers, self.held.ways.target.writers)

    def _survey(self) -> _Survey:
        """Read the keys of the source."""
        survey = _Survey()

        def add(chunk: Chunk) -> None:
            batch, numbers = self.expected.read(chunk, ())
            survey.add(chunk, batch.column(self._key.name), numbers)

        self.expected.ways.at_once((SOURCE_THREADS, [partial(add, chunk) for chunk in self.expected.chunks()]))
        survey.blocks.sort(key=lambda b: (b.rows.unit, b.rows.lo))
        return survey

    def _ranges(self, marks: Marks, wanted: NDArray[np.bool_]) -> list[KeyRange]:
        """Cut what is wanted into ranges to be asked for."""
        ranges = [marks.between(span) for span in spans(wanted, READ_PIECES if self._threads > 1 else None)]
        if not self._garbled:
            return ranges
        doubled = [key for key, one in self.tally.odd.items() if one.symbol == "2"]
        return [part for within in ranges for part in without(within, doubled)]

    @property
    def _garbled(self) -> bool:
        """Whether answers are wrong: where a key is doubled, Milvus 2.3.5 gives arrays with the rows before them."""
        arrays = any(f.type is DataType.ARRAY for f in self.fields)
        return arrays and any(one.symbol == "2" for one in self.tally.odd.values())

    def _read(self, chunks: Sequence[Chunk], ranges: Sequence[KeyRange], keep: Keep | None) -> tuple[Rows, Rows]:
        """Read both sides at once, of the source the rows that are to be kept."""
        source: list[Rows] = []
        target: list[Rows] = []

        def read_source(chunk: Chunk) -> None:
            source.append(self.expected.rows(chunk, self.fields, keep))

        def read_target(within: KeyRange) -> None:
            target.extend(self.held.blocks(within, self.fields))

        self._both(read_source, chunks, read_target, ranges)
        none = Rows.none(self._kind, len(self.fields))
        return Rows.joined([none, *source]), Rows.joined([none, *target])

    def _sums(self, marks: Marks, chunks: Sequence[Chunk]) -> tuple[Sums, Sums, list[pa.Array]]:
        """Add up both sides at once; gives also the last key of each block that the target gave."""
        ours, theirs = Sums.over(marks.pieces), Sums.over(marks.pieces)
        ends: list[pa.Array] = []

        def add(sums: Sums, rows: Rows) -> None:
            keys = field_digests(pa.record_batch([rows.keys], [self._key.name]), [self._key])
            sums.add(marks.pieces_of(rows.keys), mixed(np.concatenate([keys, rows.digests], axis=1)))

        def read_source(chunk: Chunk) -> None:
            add(ours, self.expected.rows(chunk, self.fields))

        def read_target(within: KeyRange) -> None:
            for rows in self.held.blocks(within, self.fields):
                add(theirs, rows)
                ends.append(rows.keys[-1:])

        everything = np.ones(marks.pieces, np.bool_)
        self._both(read_source, chunks, read_target, self._ranges(marks, everything))
        return ours, theirs, ends

    def _both(
        self,
        read_source: Callable[[Chunk], None],
        chunks: Sequence[Chunk],
        read_target: Callable[[KeyRange], None],
        ranges: Sequence[KeyRange],
    ) -> None:
        self.held.ways.at_once(
            (SOURCE_THREADS, [partial(read_source, chunk) for chunk in chunks]),
            (self._threads, [partial(read_target, within) for within in ranges]),
        )

    def _hunt(self, marks: Marks, known: NDArray[np.int64], counted: int) -> None:
        """Look for keys that are there more than once, where more rows are counted than keys were read."""
        keys = int(known.sum()) + len(self.held.unreadable)
        counted = self.tally.target = self.held.settled(counted, keys)
        if counted > keys:
            hunt = Hunt(self.held)
            hunt.run(marks, known, counted)
            self.tally.odd.update(hunt.odd)
            self.tally.vague(hunt.vague)
        self.tally.odd.update({key: Odd("!", why) for key, why in self.held.unreadable.items()})

    def _compare(self, source: Rows, target: Rows, odd: Mapping[Key, Odd]) -> None:
        self.tally.tell(by_key(self.expected, source, target, self.fields, odd))


def parts(wanted: NDArray[np.bool_], weights: NDArray[np.int64], most: int) -> Iterator[NDArray[np.bool_]]:
    """Part what is wanted, in order, so that each part weighs little more than ``most``."""
    places = np.flatnonzero(wanted)
    parts = np.cumsum(weights[places]) // most
    for part in np.unique(parts):
        mask = np.zeros(len(wanted), np.bool_)
        mask[places[parts == part]] = True
        yield mask


def _within(marks: Marks, part: NDArray[np.bool_]) -> Keep:
    return lambda keys, _numbers: part[marks.pieces_of(keys)]


def _joined(blocks: Iterable[_Block]) -> list[Chunk]:
    """Join blocks that follow each other in a chunk."""
    joined: list[tuple[Chunk, Chunk]] = []
    for block in blocks:
        rows = block.rows
        if joined and joined[-1][1] == block.home and rows.lo - joined[-1][0].hi < BLOCK_ROWS:
            rows = block.home.part(joined.pop()[0].lo, rows.hi)
        joined.append((rows, block.home))
    return [rows for rows, _ in joined]
