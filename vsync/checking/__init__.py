"""Comparing what the data of a spec says with what the target holds: counts, keys or content. Reads only.

- ``findings``  what is found, as frozen data
- ``sides``     which destinations are compared, each with the sources of its rows
- ``reading``   the rows of both sides, each value as a digest of 64 bits
- ``marks``     the order of keys: where it is cut, and sums of digests between the cuts
- ``exact``     two bodies of rows, compared row by row
- ``keyed``     a destination by its keys: the sums first where it is large, then the rows where they differ
- ``unkeyed``   a destination whose keys the server makes: by the rows' digests
- ``doubles``   keys that are counted more than once, and rows that are counted and never given
- ``scope``     rows that only seem to be missing, because a scope leaves them out
- ``tally``     what was found, added up and told as it comes
- ``check``     the kinds of check, one destination after the other
- ``mending``   from what was found to what is to be mended
"""

from vsync.checking.check import Checks, check_sides
from vsync.checking.mending import mend_of
from vsync.checking.reading import Ways
from vsync.checking.sides import Side, side_of, sides

__all__ = ["Checks", "Side", "Ways", "check_sides", "mend_of", "side_of", "sides"]
