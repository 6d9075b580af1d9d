"""Settling what is in doubt where the server makes the keys (auto_id).

An insert whose answer did not come cannot be repeated blindly: its rows would be there twice, under new keys. But every
key that was acknowledged is in the journal, and the destination held no rows that the journal does not know. So what
lies under any other key is what requests in doubt left there: it is removed, and their rows are sent again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vsync.errors import ConflictError

if TYPE_CHECKING:
    from vsync.applying.retry import Retry
    from vsync.connectors.base import Target
    from vsync.state.journal import Journal


def remove_strays(
    target: Target, journal: Journal, key: str, retry: Retry, collection: str, rows_in_doubt: int
) -> None:
    """Remove the rows of a collection under keys that no acknowledgement recorded.

    Raises ConflictError where there are more than the requests in doubt can have left: somebody else writes there.
    """
    ranges = merged(journal.key_ranges(key, collection))
    strays = retry.call(target.count_outside, collection, ranges)
    if strays > rows_in_doubt:
        raise ConflictError(
            f"collection.{collection} holds {strays:,} rows under keys that this state does not know, and only "
            f"{rows_in_doubt:,} rows are in doubt: another program writes there too",
            hint="vsync removes nothing that may be somebody else's; empty the collection and apply again, or declare "
            "a key of the data's own",
        )
    if strays:
        retry.call(target.remove_outside, collection, ranges)


def merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Join ranges (ends included) that touch or overlap; ascending."""
    joined: list[tuple[int, int]] = []
    for lo, hi in sorted(ranges):
        if joined and lo <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], hi))
        else:
            joined.append((lo, hi))
    return joined
