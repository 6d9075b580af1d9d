"""The one layer of retry, and the limits on rate that the user sets."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import stamina
from stamina.instrumentation import RetryDetails, set_on_retry_hooks

from vsync.applying.events import Report, Waiting
from vsync.applying.settings import MAX_DOWNTIME, Stop
from vsync.errors import TransientError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

AGAIN = "when it is well again, run the same command: what is done is kept"

RECOUNT_SECONDS = 3.0

_reporting = threading.local()


def _tell(details: RetryDetails) -> None:
    report: Report | None = getattr(_reporting, "report", None)
    if report is not None:
        report(Waiting(str(details.caused_by), details.retry_num, details.wait_for))


set_on_retry_hooks([_tell])


@dataclass(frozen=True, slots=True)
class Retry:
    """Repeats what fails for a moment, with backoff and jitter, for ``max_downtime`` seconds at the most."""

    report: Report
    retries: int | None = None
    max_downtime: float = MAX_DOWNTIME
    stop: Stop = field(default_factory=Stop)

    def call(self, function: Callable[..., T], *args: object, repeat_in_doubt: bool = True) -> T:
        """Call until it succeeds; raises what it last raised, saying for how long it was tried.

        ``repeat_in_doubt=False`` gives up at once where the call may have been carried out all the same.
        """
        _reporting.report = self.report
        began = time.monotonic()

        def again(error: Exception) -> bool:
            if not isinstance(error, TransientError) or self.stop.is_set():
                return False
            return repeat_in_doubt or not error.in_doubt

        attempts = None if self.retries is None else self.retries + 1
        if not self.max_downtime:
            attempts = 1
        try:
            for attempt in stamina.retry_context(
                on=again,
                attempts=attempts,
                timeout=self.max_downtime or None,
                wait_initial=0.2,
                wait_max=5.0,
                wait_jitter=1.0,
            ):
                with attempt:
                    return function(*args)
        except TransientError as e:
            if self.stop.is_set():
                raise
            waited, problem = time.monotonic() - began, e.problems[0]
            raise TransientError(
                f"{problem.what} (tried for {waited:.0f} s)" if waited >= 1 else problem.what,
                where=problem.where,
                hint=f"{problem.hint}; {AGAIN}" if problem.hint else AGAIN,
                in_doubt=e.in_doubt,
            ) from e
        raise AssertionError("stamina ends by returning or raising")  # pragma: no cover

    def settled(
        self, counted: T, count: Callable[[], T], surplus: Callable[[T], int], address: str, seconds: float
    ) -> T:
        """Count again while there are too many rows: for a while a server may count old copies of what was replaced."""
        until, attempt = time.monotonic() + seconds, 0
        while (more := surplus(counted)) > 0 and time.monotonic() < until and not self.stop.is_set():
            attempt += 1
            why = f"{address} counts {more:,} rows more than it should: the server may not have settled yet"
            self.report(Waiting(why, attempt, RECOUNT_SECONDS))
            self.stop.event.wait(RECOUNT_SECONDS)
            counted = count()
        return counted


class Limiter:
    """Holds requests back to so many bytes and so many requests a second; shared by all threads."""

    def __init__(self, bytes_per_second: float | None, requests_per_second: float | None) -> None:
        self._rates = (bytes_per_second, requests_per_second)
        self._free = time.monotonic()
        self._lock = threading.Lock()

    def wait(self, nbytes: int) -> None:
        """Wait until a request of this size may go."""
        cost = sum(amount / rate for amount, rate in zip((nbytes, 1), self._rates, strict=True) if rate)
        if not cost:
            return
        with self._lock:
            now = time.monotonic()
            start = max(now, self._free)
            self._free = start + cost
        time.sleep(max(0.0, start - now))
