"""Gathering the facts that a plan is built from: all reading of a plan happens here, and nothing is written.

- ``gather``      all the facts of a plan, in the order in which they can be had
- ``sources``     opens the sources of a spec, describes and cuts them, tells a touched file from a changed one
- ``living``      sources that are collections: their partitions, and what of them is not on the target yet
- ``spreading``   rows of a collection into partitions by the value of a field
- ``collisions``  finds keys that the data of a collection holds twice, in bounded memory; ``policy`` settles them
- ``comparing``   what differs at a destination whose rows are to be replaced or deleted
- ``deep``        what ``plan --deep`` asks: every value checked, every key compared
"""

from vsync.observing.gather import gather
from vsync.observing.sources import open_items

__all__ = ["gather", "open_items"]
