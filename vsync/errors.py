"""Everything a user can be told went wrong, in one tree.

Each error carries *what* happened, *where* (``spec.yaml:line:column``, or the file and its rows) and a *hint*:
what to do next. ``exit_code`` is what the command line ends with (``vsync help exit-codes``).

::

    VsyncError                    1   the root; raised itself for nothing
    ├── UsageError               64   the command line is not understood
    ├── SpecError                 1   the spec has problems: all of them, each with its line and column
    ├── SourceError               1   a source cannot be opened or read
    │   └── SourceChangedError    4   a source is not what the plan saw
    ├── BadRowsError              1   rows that do not fit the collection, by number and value
    ├── TargetError               1   the target refused, for good
    │   ├── TransientError        5   it may work in a moment: what the one layer of retry catches
    │   └── TooLargeError         1   the request is larger than the server takes
    ├── StalePlanError            4   the world moved since the plan was made
    ├── ConflictError            12   what differs cannot be changed in place, or policy refuses
    ├── LockedError              11   another process holds the state, or the Lite folder
    ├── JournalError              1   the state file cannot be used
    ├── LimitError                8   a limit was reached: --max-duration, max_delete
    ├── MismatchError             3   finished, but counts differ or rows were rejected
    └── StoppedError    130 or 143   stopped by a signal; resumable
"""

from __future__ import annotations

from dataclasses import dataclass


def many(count: int, noun: str) -> str:
    """Say a number of things: ``1 row``, ``2,000 rows``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: what, where it was written or found, and what to do about it.

    ``limit``: it is a limit that the user set.
    """

    what: str
    where: str | None = None
    hint: str | None = None
    limit: bool = False

    def __str__(self) -> str:
        """Render as ``where: what; hint``."""
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text}; {self.hint}" if self.hint else text


class VsyncError(Exception):
    """The root of the tree. ``problems`` holds at least one :class:`Problem`."""

    exit_code = 1

    def __init__(self, what: str | list[Problem], *, where: str | None = None, hint: str | None = None) -> None:
        self.problems = what if isinstance(what, list) else [Problem(what, where, hint)]
        super().__init__("\n".join(map(str, self.problems)))


class UsageError(VsyncError):
    """The command line is not understood."""

    exit_code = 64


class SpecError(VsyncError):
    """The spec has problems; all that were found are in ``problems``."""


class SourceError(VsyncError):
    """A source cannot be opened, read or understood."""


class SourceChangedError(SourceError):
    """A source is not what the plan saw."""

    exit_code = 4


class BadRowsError(VsyncError):
    """Rows of a source do not fit the collection; each problem names the row's number and value."""


class TargetError(VsyncError):
    """The target refused, and will refuse again."""


class TransientError(TargetError):
    """The target did not answer, or asked to be left alone for a moment: the same call may work later.

    ``in_doubt`` says that the request may have been carried out all the same.
    """

    exit_code = 5

    def __init__(
        self,
        what: str | list[Problem],
        *,
        where: str | None = None,
        hint: str | None = None,
        in_doubt: bool = True,
    ) -> None:
        super().__init__(what, where=where, hint=hint)
        self.in_doubt = in_doubt


class TooLargeError(TargetError):
    """The request is larger than the server takes; half of it may be taken."""


class StalePlanError(VsyncError):
    """The world moved since the plan was made: the target is not what it saw."""

    exit_code = 4


class ConflictError(VsyncError):
    """What differs cannot be changed in place, or a policy refuses it."""

    exit_code = 12


class LockedError(VsyncError):
    """Another process holds the state, or the Milvus Lite folder."""

    exit_code = 11


class JournalError(VsyncError):
    """The state file cannot be read or written."""


class LimitError(VsyncError):
    """A limit that the user set was reached; what is done is kept."""

    exit_code = 8


class MismatchError(VsyncError):
    """The run finished, but the counts do not add up or rows were rejected."""

    exit_code = 3


class StoppedError(VsyncError):
    """Stopped by a signal. ``exit_code`` is 128 plus the signal's number."""

    def __init__(self, what: str, *, signal: int, hint: str | None = None) -> None:
        super().__init__(what, hint=hint)
        self.exit_code = 128 + signal


def refused(problems: list[Problem]) -> VsyncError:
    """Make the error of a plan that cannot be carried out: a limit's, where nothing else is wrong."""
    return LimitError(problems) if all(p.limit for p in problems) else ConflictError(problems)
