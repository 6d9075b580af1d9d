"""From what a check found to what is to be mended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vsync.planning.mend import Mend
from vsync.planning.repair import repaired_destination

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vsync.checking.findings import Compared, Finding
    from vsync.checking.sides import Side
    from vsync.connectors.base import Key


def mend_of(side: Side, compared: Compared, noted: Sequence[Finding]) -> Mend:
    """Say of a destination's findings what is to be mended."""
    to = repaired_destination(
        side.address,
        side.collection.name,
        side.partition,
        side.units,
        side.session,
        write=side.write,
        skips=side.skips,
        exclusive=side.exclusive,
        counted=compared.target + compared.outside,
    )
    mend = Mend(to, side.collection, side.units, side.session, rows=0, taken=compared.taken)
    doubled = {f.key for f in noted if f.address == side.address and f.symbol == "2"}
    again = 0
    for f in (f for f in noted if f.address == side.address):
        known = f.unit >= 0
        if f.taken and f.key is not None:
            mend.examples.append(f.key)
        elif f.symbol == "-" and f.key is not None:
            mend.extra.append(f.key)
        elif f.symbol == "+" and not side.keyed:
            mend.lost += 1
        elif f.symbol == "2" and known:
            mend.anew.setdefault(f.unit, []).append(_row(side, f))
            again += f.copies - 1
        elif f.symbol == "2" and f.key is not None:
            mend.copies += f.copies - 1
        elif f.symbol in "+*" and f.key is not None and f.key not in doubled:
            mend.again.setdefault(f.unit, []).append(_row(side, f))
            if f.symbol == "+":
                mend.missing.add(f.key)
                mend.absent[f.unit] = mend.absent.get(f.unit, 0) + 1
        elif f.key is None:
            mend.untold += f.copies
    added = sum(mend.absent.values()) - again
    mend.rows = _rows_in_the_end(side, compared, added) + compared.outside
    return mend


def _row(side: Side, finding: Finding) -> Key:
    """Say which row of a unit it is: by its number in a file, by its key in a collection."""
    if not side.units[finding.unit].lives:
        return finding.row
    assert finding.key is not None
    return finding.key


def _rows_in_the_end(side: Side, compared: Compared, added: int) -> int:
    """Count what the destination holds when all is mended, and nothing is deleted that its data does not hold.

    Sources that live were counted at one moment and compared at others: there the rows that are ``added`` tell.
    """
    if compared.how == "sample":
        return compared.target + compared.missing
    if side.keyed and any(u.lives for u in side.units):
        return compared.target + added
    return compared.source + compared.beyond if side.keyed else compared.target
