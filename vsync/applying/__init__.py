"""Carrying out a plan: one loop over its steps, checkpointed in a local SQLite file.

- ``journal``  what was done and what is in doubt: the only truth about chunks, written by the driver alone
- ``lock``     one apply at a time for one state, freed by the kernel
- ``retry``    the one layer of retry, and the limits on rate
- ``worker``   prepare (read, map, check, probe, encode) and send: what runs in several threads
- ``copy``     the copy loop: chunks in flight, in the chunk protocol
- ``run``      the steps in order
- ``identity`` whether collections are still those that the plan saw
- ``events``   what happened, as frozen data for whoever reports it
"""
