"""Rows that vsync itself keeps: sorted runs of them, later ones over earlier ones, read as one collection.

============  ========================================================================================
``run``       one sorted run: a file, or a part of one; what removes keys is a run too
``reader``    several runs read as what they come to: the ``Reader`` of the contract
``source``    a collection of runs as a source
``target``    a place that collections are kept in: the ``Target`` of the contract, in parts that are sealed
============  ========================================================================================

An export and a backup are written in parts, each whole before it is named, so that nothing that is there is ever
changed. What a key's row is, the last run says that has it.
"""
