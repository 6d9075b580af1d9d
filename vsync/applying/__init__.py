"""Carrying out a plan: one loop over its steps, checkpointed in the journal (:mod:`vsync.state.journal`).

- ``run``       the steps in order
- ``copy``      the copy loop: chunks in flight, in the chunk protocol
- ``worker``    prepare (read, map, check, probe, encode) and send: what runs in several threads
- ``there``     which rows of a chunk were in the target before its first attempt
- ``settle``    what is in doubt where the server makes the keys
- ``growth``    collections that have grown since they were cut
- ``repair``    rows deleted by key, or written again, where a check found that they differ
- ``balance``   every row read accounted for, and the target's own count beside it
- ``identity``  whether collections are still those that the plan saw
- ``retry``     the one layer of retry, and the limits on rate
- ``settings``  how an apply is to be carried out, and the word to stop
- ``events``    what happened, as frozen data for whoever reports it
"""
