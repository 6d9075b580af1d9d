"""What happened, as frozen data handed to a callable: reporting is somebody else's business."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RunBegan:
    """An apply begins: what there is to copy, and what earlier runs have done of it."""

    chunks: int
    rows: int
    nbytes: int
    done: int
    in_doubt: int


@dataclass(frozen=True, slots=True)
class Grew:
    """A collection that is copied from has grown since the plan: so many more chunks and rows, about."""

    address: str
    chunks: int
    rows: int


@dataclass(frozen=True, slots=True)
class StepBegan:
    """A step begins that is no copy: ``create-collection words``."""

    text: str


@dataclass(frozen=True, slots=True)
class StepProgress:
    """A step that takes long is at this percentage."""

    text: str
    percent: int


@dataclass(frozen=True, slots=True)
class StepEnded:
    """A step is done."""

    text: str


@dataclass(frozen=True, slots=True)
class ChunkAcked:
    """A chunk is done: its rows are written, were there, or are in the rejects."""

    address: str
    n: int
    rows: int
    nbytes: int
    written: int
    there: int
    rejected: int


@dataclass(frozen=True, slots=True)
class ChunkFailed:
    """A chunk cannot be done; the run goes on with others and ends with an error."""

    address: str
    n: int
    error: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """The target did not answer, or asked to be left alone: tried again in so many seconds."""

    reason: str
    attempt: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Stopping:
    """A signal came: what is in flight is finished, nothing is started."""

    in_flight: int


@dataclass(frozen=True, slots=True)
class Settled:
    """The balance of a destination. ``left`` is the target's strong count, ``None`` where it cannot count.

    ``expected`` is ``None`` where what was there before could not be counted. ``lost`` are rows that were read and are
    neither written nor there, rejected or dropped: none, or vsync itself is at fault. Without ``exclusive`` others may
    have written more. ``moved`` are rows that came to a source that lives since it was cut; less than 0: went.
    ``unproved``: its last count was not what it should hold, and it cannot be counted now. ``ids`` is the file that
    says which keys of the collection became which, ``renumbered`` its rows. ``deleted`` are rows that went because the
    data does not have them.
    """

    destination: str
    before: int | None
    read: int
    written: int
    there: int
    rejected: int
    dropped: int
    left: int | None
    expected: int | None
    lost: int = 0
    exclusive: bool = True
    moved: int = 0
    unproved: bool = False
    ids: str | None = None
    renumbered: int = 0
    deleted: int = 0

    @property
    def surplus(self) -> int:
        """How many rows more than it should the target holds; less than 0: fewer."""
        return 0 if self.left is None or self.expected is None else self.left - self.expected

    @property
    def balanced(self) -> bool:
        """Whether every row read is accounted for, and the target holds what was there and what was acknowledged."""
        counted = self.surplus == 0 or (self.surplus > 0 and not self.exclusive)
        return counted and not self.lost and not self.unproved


@dataclass(frozen=True, slots=True)
class RunEnded:
    """Everything was carried out.

    The copy phase lasts from before the first chunk is read until the last is acked; ``copy_cpu_seconds`` is what this
    process used of the processor meanwhile, ``journal_seconds`` what it waited for the journal.
    """

    chunks: int
    rows: int
    seconds: float
    copy_seconds: float
    copy_cpu_seconds: float
    journal_seconds: float


Event = (
    RunBegan
    | Grew
    | StepBegan
    | StepProgress
    | StepEnded
    | ChunkAcked
    | ChunkFailed
    | Waiting
    | Stopping
    | Settled
    | RunEnded
)
Report = Callable[[Event], None]
